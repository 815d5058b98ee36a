"""Two processes with 8 pairs each compute what one computes with 16, through DDP over gloo.

So do two that share a gallery and its captions, or questions about pictures.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "support" / "two_processes.py"
CASES = [
    "plain",
    "symmetric, Aurora",
    "adaptive, Aurora, no averages",
    "released, no queue",
    "released, Aurora, videos",
    "released, Aurora, videos with two captions each",
    "softmax loss of CLIP",
    "sigmoid loss of SigLIP",
]
QUEUE = ("image_queue", "text_queue", "index_queue", "pointer", "steps")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """What one process computed, and the two."""
    folder = tmp_path_factory.mktemp("processes")
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT), str(folder)],
            env={**os.environ, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
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
    alone, first, second = (torch.load(folder / f"{name}.pt") for name in ("alone", "0", "1"))
    return alone, first, second


assert_close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", range(len(CASES)), ids=CASES)
def test_losses_and_gradients(results: Any, case: int) -> None:
    alone, first, second = (result["training"][case]["steps"] for result in results)
    for (losses, gradients), one, two in zip(alone, first, second, strict=True):
        for name, value in losses.items():
            assert_close((one[0][name] + two[0][name]) / 2, value)
        assert one[0]["loss"] != two[0]["loss"]  # each has its own pairs
        assert_close(one[1], gradients)
        assert_close(two[1], gradients)


@pytest.mark.parametrize("case", range(len(CASES)), ids=CASES)
def test_queue_averages_and_weights_afterwards(results: Any, case: int) -> None:
    alone, first, second = (result["training"][case]["state"] for result in results)
    assert set(QUEUE) <= set(alone)
    assert_close(dict(first), dict(alone))
    assert_close(dict(second), dict(alone))


def test_scores_of_a_shared_gallery(results: Any) -> None:
    alone, first, second = (result["evaluation"] for result in results)
    for together in (first, second):
        assert_close(together["scores"], alone["scores"])
        assert together["metrics"] == alone["metrics"]


@pytest.mark.parametrize("case", range(3), ids=["even", "filled up", "of fillers alone"])
def test_a_step_of_unequally_many_questions(results: Any, case: int) -> None:
    alone, first, second = (result["question steps"][case] for result in results)
    assert_close((first["loss"] + second["loss"]) / 2, alone["loss"])
    for together in (first, second):
        assert_close(together["gradients"], alone["gradients"])


def test_answers_to_shared_questions(results: Any) -> None:
    alone, first, second = (result["answers"] for result in results)
    assert len({answer for answer, _ in alone}) > 1
    for together in (first, second):
        assert [answer for answer, _ in together] == [answer for answer, _ in alone]
        assert [score for _, score in together] == pytest.approx([score for _, score in alone])
