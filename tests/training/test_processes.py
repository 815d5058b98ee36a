"""A whole run under two processes comes to what one process comes to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aurora_vl.errors import UserError
from aurora_vl.recipes.recipe import Recipe, save_recipe
from aurora_vl.training.checkpoints import STATE_FILE
from aurora_vl.training.run import evaluate, train

MakeRecipe = Callable[..., Recipe]


def under_torchrun(*arguments: object) -> str:
    """`torchrun --nproc-per-node 2 -m aurora_vl ARGUMENTS...`; its standard output."""
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "aurora_vl", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_come_to_the_same(
    make_recipe: MakeRecipe, backbone: Path, tmp_path: Path
) -> None:
    """Half the batch each: the same losses, checkpoints and metrics, written once.

    Thirteen pairs make three batches of four and one more pair, which one process has.
    """
    still = tmp_path / "still"
    shutil.copytree(backbone, still)
    config = (still / "config.json").read_text()
    (still / "config.json").write_text(config.replace("0.1", "0.0"))  # no dropout
    settings = (
        f"backbone={still}",
        "adapter.dropout=0",
        "data.augmentation=none",
        "training.learning_rate=0.001",
    )
    one = make_recipe(*settings, output="one")
    two = make_recipe(*settings, "training.batch_size=2", output="two")
    train(one)
    save_recipe(two, tmp_path / "two.yaml")
    under_torchrun("train", tmp_path / "two.yaml", "-q")

    results = [json.loads((r.output / "metrics.json").read_text()) for r in (one, two)]
    assert results[0]["metrics"] == results[1]["metrics"]
    histories = [json.loads((r.output / "history.json").read_text()) for r in (one, two)]
    for alone, together in zip(*histories, strict=True):
        assert alone["step"] == together["step"]
        for name in ("loss", "loss_itc", "loss_itm"):
            assert alone.get(name, 0.0) == pytest.approx(together.get(name, 0.0), abs=2e-4)
    last = Path("checkpoints", "checkpoint-12", STATE_FILE)
    states = [load_file(r.output / last) for r in (one, two)]
    torch.testing.assert_close(states[0], states[1], rtol=1e-3, atol=1e-5)
    assert sorted(p.name for p in one.output.iterdir()) == sorted(
        p.name for p in two.output.iterdir()
    )
    (two.output / "metrics.json").unlink()
    with pytest.raises(UserError, match="was begun with 2 processes and this is a run of 1; "):
        train(two, resume=True)


def test_two_processes_score_the_same(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """`aurora evaluate` with an adapter: one result, printed and written once."""
    recipe = make_recipe()
    train(recipe)
    alone = evaluate(recipe, adapter=recipe.output / "adapter", out=tmp_path / "alone")
    save_recipe(recipe, tmp_path / "again.yaml")
    printed = under_torchrun(
        *("evaluate", tmp_path / "again.yaml", "--adapter", recipe.output / "adapter"),
        *("--out", tmp_path / "together", "--json", "-q"),
    )
    assert json.loads(printed)["metrics"] == alone["metrics"]
    first, second = (tmp_path / name / "predictions.json" for name in ("alone", "together"))
    assert first.read_text() == second.read_text()
