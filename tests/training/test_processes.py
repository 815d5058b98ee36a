"""A whole run under two processes comes to what one process comes to."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aurora_vl.training.recipe import Recipe, save_recipe
from aurora_vl.training.run import train
from aurora_vl.training.trainer import STATE_FILE

MakeRecipe = Callable[..., Recipe]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run_two(recipe: Path) -> None:
    """As torchrun starts it."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "aurora_vl", "train", str(recipe)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=500)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)


def test_two_processes_come_to_the_same(
    make_recipe: MakeRecipe, backbone: Path, data: Path, tmp_path: Path
) -> None:
    """Half the batch each: the same losses, checkpoints and metrics, written once."""
    still, twelve = tmp_path / "still", tmp_path / "twelve"
    shutil.copytree(backbone, still)
    config = (still / "config.json").read_text()
    (still / "config.json").write_text(config.replace("0.1", "0.0"))  # no dropout
    shutil.copytree(data, twelve)
    lines = (twelve / "train.jsonl").read_text().splitlines()
    (twelve / "train.jsonl").write_text("\n".join(lines[:-1]))  # no uneven batch
    settings = (
        f"backbone={still}",
        f"data.annotations={twelve}",
        "adapter.dropout=0",
        "data.augmentation=none",
        "training.learning_rate=0.001",
    )
    one = make_recipe(*settings, output="one")
    two = make_recipe(*settings, "training.batch_size=2", output="two")
    train(one)
    save_recipe(two, tmp_path / "two.yaml")
    run_two(tmp_path / "two.yaml")

    results = [json.loads((r.output / "metrics.json").read_text()) for r in (one, two)]
    assert results[0]["metrics"] == results[1]["metrics"]
    histories = [json.loads((r.output / "history.json").read_text()) for r in (one, two)]
    for alone, together in zip(*histories, strict=True):
        assert alone["step"] == together["step"]
        for name in ("loss", "loss_itc", "loss_itm"):
            assert alone.get(name, 0.0) == pytest.approx(together.get(name, 0.0), abs=2e-4)
    states = [load_file(r.output / "checkpoints" / "checkpoint-9" / STATE_FILE) for r in (one, two)]
    torch.testing.assert_close(states[0], states[1], rtol=1e-3, atol=1e-5)
    assert sorted(p.name for p in one.output.iterdir()) == sorted(
        p.name for p in two.output.iterdir()
    )
