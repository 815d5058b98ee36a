"""The jobs of `aurora bench` by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aurora_vl.benchmarking import data, inference, rerank, train_step
from aurora_vl.benchmarking.measuring import Row, default_device, machine
from aurora_vl.benchmarking.setup import Setup

JOBS: dict[str, Callable[..., list[Row]]] = {
    train_step.JOB: train_step.compare,
    rerank.JOB: rerank.compare,
    inference.JOB: inference.compare,
    data.JOB: data.compare,
}


def run_jobs(
    names: Sequence[str], backbone: str, repeats: int, *, memory: bool = True
) -> dict[str, Any]:
    """Run jobs and give `{"machine": {...}, "rows": [{...}]}`, rows as `Row` says.

    Args:
        names: keys of `JOBS`.
        backbone: "base", "mini" or a folder.
        repeats: of each contender.
        memory: measure peak memory too, each contender in a process of its own.

    Raises:
        UserError: the backbone cannot be loaded.
    """
    setup = Setup(backbone=backbone, device=str(default_device()))
    setup.config()  # a wrong name is told before anything is measured
    where = machine(setup.torch_device)
    rows = [row for name in names for row in JOBS[name](setup, repeats, memory=memory)]
    return {"machine": where, "rows": [row.to_dict() for row in rows]}
