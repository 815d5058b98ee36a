"""`aurora bench`: speed and memory of ours and its opponents, side by side in one run."""

from __future__ import annotations

import json as encoder
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from aurora_vl.cli.options import Quiet, Verbose
from aurora_vl.cli.show import show_table
from aurora_vl.errors import UserError
from aurora_vl.progress import console

_JOBS = ("train-step", "rerank", "inference", "data")


def bench(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]", show_default=False, help=f"{', '.join(_JOBS)}; all if none."
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(help="base (BLIP-base's shapes, random weights), mini or a folder."),
    ] = "base",
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each contender.")] = 5,
    memory: Annotated[
        bool, typer.Option(help="Measure peak memory, each contender in a process of its own.")
    ] = True,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="Write the rows here.")
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Measure speed and memory against the plain form, LoRA, full fine-tuning and others.

    Contenders run in turn, on a GPU if there is one. The four jobs on BLIP-base shapes take long on
    a CPU; --backbone mini gives a quick look.
    """
    if job is not None and job not in _JOBS:
        raise UserError(f"there is no job {job!r}; choose one of {', '.join(_JOBS)}.")
    if json is not None and not json.parent.is_dir():
        raise UserError(f"--json {json}: the folder {json.parent} does not exist; make it first.")
    from aurora_vl.benchmarking.jobs import run_jobs

    result = run_jobs([job] if job else _JOBS, backbone, repeats, memory=memory)
    if json is not None:
        json.write_text(encoder.dumps(result, indent=1) + "\n", encoding="utf-8")
    where = result["machine"]
    console.print(f"{where['device']}, {where['threads']} threads, torch {where['torch']}")
    for title, rows in groupby(result["rows"], lambda row: row["name"].split(": ")[0]):
        _show(title, list(rows))
    if where["busy"]:
        console.print(
            f"The machine was busy before (load {where['load_before']:.1f}): trust no seconds."
        )


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    """A job's table; what no row has is left out."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        title: lambda row: row["name"].split(": ")[1],
        "seconds": lambda row: _spread(row["median_s"], row["min_s"], row["max_s"]),
        "ratio": lambda row: _spread(row["ratio"], row["ratio_low"], row["ratio_high"]),
        "peak MB": lambda row: f"{row['peak_mb']:.0f}",
        "GFLOP": lambda row: f"{row['gflop']:.0f}",
        "a second": lambda row: f"{row['per_second']:.1f}",
    }
    keys = {"ratio": "ratio", "peak MB": "peak_mb", "GFLOP": "gflop", "a second": "per_second"}
    used = [name for name in columns if name not in keys or any(row[keys[name]] for row in rows)]
    cells = [
        ["" if row.get(keys.get(name, "name")) is None else columns[name](row) for name in used]
        for row in rows
    ]
    show_table("", used, cells)


def _spread(middle: float, low: float, high: float) -> str:
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"
