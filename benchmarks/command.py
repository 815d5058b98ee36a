"""The command line of the benchmarks: ours and its opponents, side by side in one run."""

from __future__ import annotations

import json as encoder
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from aurora_vl.cli.guard import guarded
from aurora_vl.cli.options import Quiet, Verbose
from aurora_vl.errors import UserError
from aurora_vl.reporting.terminal import show_table
from aurora_vl.utils.progress import console

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_JOBS = ("train-step", "rerank", "inference", "data")
_GROWTH = "growth"
_CHANGES = "changes"


@app.command()
@guarded
def bench(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            show_default=False,
            help=f"{', '.join(_JOBS)}; all four if none. {_GROWTH}: time and memory of a step "
            "by batch, frames and rank, with charts beside the JSON file. "
            f"{_CHANGES}: our step with one gain undone at a time.",
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="Only this part of a job; docs/performance.md lists them.",
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
    """Measure speed and memory, side by side with a reference implementation, LoRA and others.

    Contenders run in turn, on a GPU if there is one. The four jobs on BLIP-base shapes take long on
    a CPU; --backbone mini gives a quick look.
    """
    jobs = (*_JOBS, _GROWTH, _CHANGES)
    if job is not None and job not in jobs:
        raise UserError(f"there is no job {job!r}; choose one of {', '.join(jobs)}.")
    if json is not None:
        _require_writable(json)
    from aurora_vl.utils.atomic import write_text
    from benchmarks.jobs import run_jobs

    result = run_jobs([job] if job else _JOBS, backbone, repeats, memory=memory, part=part)
    if json is not None:
        write_text(json, encoder.dumps(result, indent=1) + "\n")
        if job == _GROWTH:
            from benchmarks.growth import draw_growth

            draw_growth(result["rows"], json.with_suffix(""))
    where = result["machine"]
    rates = ", ".join(f"{rate:.0f} in {name}" for name, rate in where["gflop_per_second"].items())
    console.print(f"{where['device']}, {where['threads']} threads, torch {where['torch']}")
    console.print(f"a large product of matrices, GFLOP a second: {rates}")
    for title, rows in groupby(result["rows"], lambda row: row["name"].split(": ")[0]):
        _show(title, list(rows))
    if result["goals"]:
        _show_goals(result["goals"])
    if not where["bfloat16_pays"]:
        console.print("bfloat16 is left out of training steps: this processor is slow at it.")
    if where["busy"]:
        console.print(
            f"The machine was busy before (load {where['load_before']:.1f}): trust no seconds."
        )


def _require_writable(file: Path) -> None:
    """Refuse a file for the rows that could not be written when they are measured."""
    from aurora_vl.utils.atomic import require_writable

    if file.exists() and not file.is_file():  # renaming would put a file in a device's place too
        raise UserError(f"--json {file} is not a file; give another path.")
    if not file.parent.is_dir():
        raise UserError(f"--json {file}: the folder {file.parent} does not exist; make it first.")
    require_writable(file.parent, "give another --json")


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    """A job's table; what no row has is left out."""
    columns: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
        title: ("name", lambda row: row["name"].split(": ")[1]),
        "seconds": ("median_s", lambda row: _spread(row["median_s"], row["min_s"], row["max_s"])),
        "ratio": ("ratio", lambda row: _spread(row["ratio"], row["ratio_low"], row["ratio_high"])),
        "peak MB": ("peak_mb", lambda row: f"{row['peak_mb']:.0f}"),
        "GFLOP": ("gflop", lambda row: f"{row['gflop']:.3g}"),
        "floor": ("floor_s", lambda r: f"{r['floor_s']:.3g} x {r['median_s'] / r['floor_s']:.2f}"),
        "a second": ("per_second", lambda row: f"{row['per_second']:.3g}"),
        "differs by": ("difference", _difference),
    }
    used = {
        name: (key, cell)
        for name, (key, cell) in columns.items()
        if any(row[key] is not None for row in rows)
    }
    cells = [["" if row[key] is None else cell(row) for key, cell in used.values()] for row in rows]
    show_table("", list(used), cells)


def _difference(row: dict[str, Any]) -> str:
    remark = row["remark"]
    return f"{row['difference']:.1e}" + (f", {remark}" if remark else "")


def _show_goals(goals: list[dict[str, Any]]) -> None:
    cells = [
        [
            goal["name"],
            _spread(goal["value"], goal["low"], goal["high"]),
            f"{goal['must']} {goal['limit']:g}",
            "yes" if goal["met"] else "no",
        ]
        for goal in goals
    ]
    show_table("", ["goal", "value", "limit", "met"], cells)


def _spread(middle: float, low: float, high: float) -> str:
    return f"{middle:.3g}" if low == high else f"{middle:.3g} ({low:.3g}-{high:.3g})"
