"""The jobs of `aurora bench` by name, each in parts that can be run by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aurora_vl.errors import UserError
from benchmarks import changes, data, growth, inference, rerank, train_step
from benchmarks.goals import judge
from benchmarks.measuring import Row, default_device, machine
from benchmarks.setup import BASE, Setup

Part = Callable[..., list[Row]]
JOBS: dict[str, dict[str, Part]] = {
    train_step.JOB: {"steps": train_step.compare},
    rerank.JOB: {
        "pictures": rerank.pictures,
        "videos": rerank.videos,
        "galleries": rerank.galleries,
    },
    inference.JOB: {"scoring": inference.compare},
    data.JOB: {"pictures": data.pictures, "folder": data.encoding, "videos": data.videos},
    growth.JOB: dict(growth.PARTS),
    changes.JOB: dict(changes.PARTS),
}


def run_jobs(
    names: Sequence[str],
    backbone: str,
    repeats: int,
    *,
    memory: bool = True,
    part: str | None = None,
) -> dict[str, Any]:
    """Run jobs and give `{"machine": {...}, "rows": [{...}], "goals": [{...}]}`.

    Rows are as `Row` says, goals, of BLIP-base alone, as `judge` gives them.

    Args:
        names: keys of `JOBS`.
        backbone: "base", "mini" or a folder.
        repeats: of each contender.
        memory: measure peak memory too, each contender in a process of its own.
        part: of the jobs, the only one to be run; None for all.

    Raises:
        UserError: no job has such a part, or the backbone cannot be loaded.
    """
    parts = [p for name in names for key, p in JOBS[name].items() if part in (None, key)]
    if not parts:
        known = ", ".join(key for name in names for key in JOBS[name])
        raise UserError(f"there is no part {part!r}; choose one of {known}.")
    setup = Setup(backbone=backbone, device=str(default_device()))
    setup.config()  # a wrong name is told before anything is measured
    where = machine(setup.torch_device)
    rates = where["gflop_per_second"]
    rows = [
        row if row.gflop is None else replace(row, floor_s=row.gflop / rates[row.precision])
        for run in parts
        for row in run(setup, repeats, memory=memory)
    ]
    goals = judge(rows) if backbone == BASE else []
    return {"machine": where, "rows": [row.to_dict() for row in rows], "goals": goals}
