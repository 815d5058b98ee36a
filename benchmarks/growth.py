"""How a training step's time and peak memory grow with batch, frames and rank.

Each point is a process of its own; its first step does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aurora_vl.reporting.charts import Colours, Drawing, calm, save_pictures
from benchmarks import train_step
from benchmarks.measuring import Row, rows_of
from benchmarks.memory import peaks_of
from benchmarks.setup import BASE, Setup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

JOB = "growth"
BATCHES = (1, 2, 4, 8, 16)
FRAMES = (1, 2, 4, 8, 16)
RANKS = (8, 16, 32, 64, 128)
_VIDEO_BATCH = 2  # videos of a step, enough for negatives
_LABELS = {"batch": "pairs in a batch", "frames": "frames of a video, batch of 2", "rank": "rank"}
_SIZE = (5.6, 3.4)


def along(
    axis: str,
    values: Sequence[int],
    setup: Setup,
    repeats: int,
    *,
    memory: bool = True,
) -> list[Row]:
    """One row a value of one size, the others as `setup` has them.

    Args:
        axis: batch, frames or rank.
        values: its.
        setup: the other sizes; videos come in batches of two.
        repeats: timed steps a point.
        memory: peaks cost nothing here and are measured in any case.
    """
    rows: list[Row] = []
    for value in values:
        sizes: Any = {axis: value} | ({"batch": _VIDEO_BATCH} if axis == "frames" else {})
        point = replace(setup, **sizes)
        peaks, seconds = peaks_of(train_step.JOB, [train_step.OURS], point, runs=repeats + 1)
        name = str(value)
        gflop = None
        if setup.backbone == BASE:
            gflop = {name: train_step.counted_operations(train_step.OURS, point)}
        rows += rows_of(
            axis,
            {name: seconds[train_step.OURS][1:]},
            items={name: point.batch * max(1, point.frames)},
            peak_mb={name: peaks[train_step.OURS]},
            gflop=gflop,
        )
    return rows


PARTS: dict[str, Callable[..., list[Row]]] = {
    axis: partial(along, axis, values)
    for axis, values in (("batch", BATCHES), ("frames", FRAMES), ("rank", RANKS))
}


def draw_growth(rows: Sequence[Mapping[str, Any]], stem: Path) -> list[Path]:
    """Draw each measured axis as PNG and SVG: STEM-batch, STEM-frames, STEM-rank.

    Args:
        rows: as in the JSON file.
        stem: path without a suffix.

    Returns:
        the pictures' paths without their suffixes.

    Raises:
        UserError: matplotlib is not installed.
    """
    paths = []
    for axis in PARTS:
        points = [row for row in rows if row["name"].startswith(f"{axis}: ")]
        if points:
            paths.append(stem.with_name(f"{stem.name}-{axis}"))
            save_pictures(_curves(axis, points), _SIZE, paths[-1])
    return paths


def _curves(axis: str, rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """Seconds a step on the left, peak memory on the right, dashed."""
    values = [int(row["name"].split(": ")[1]) for row in rows]

    def draw(axes: Axes, colours: Colours) -> None:
        right = axes.twinx()
        sides: Any = (
            (axes, "seconds a step", [row["median_s"] for row in rows], "-"),
            (right, "peak memory, GB", [row["peak_mb"] / 1000 for row in rows], "--"),
        )
        calm(axes, colours)
        for (side, label, heights, style), colour in zip(sides, colours.series):
            side.plot(values, heights, style, marker="o", color=colour)
            side.set_ylabel(label, color=colour)
            side.set_ylim(bottom=0)
        right.tick_params(colors=colours.ink, length=0)
        for spine in right.spines.values():
            spine.set_visible(False)
        axes.set_xscale("log", base=2)
        axes.set_xticks(values, [str(value) for value in values])
        axes.set_xlabel(_LABELS[axis], color=colours.ink)

    return draw
