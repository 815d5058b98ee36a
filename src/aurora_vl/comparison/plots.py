"""The charts of a comparison: score against size, time, memory and data, and validation curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, cycle, pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

from aurora_vl.comparison.records import ResultRow, Results, SeedRun
from aurora_vl.reporting.charts import STYLES, Colours, Drawing, calm
from aurora_vl.reporting.labels import LabelledPoint, in_lines, place_labels
from aurora_vl.reporting.metrics import metric_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = (8.0, 5.6)
"""Of a picture, in inches."""
_GAP = 10.0  # points; methods below a smaller one are drawn in any case


def score_by_size(results: Results) -> Drawing:
    """Score against own parameters on a logarithmic axis, with error bars and the Pareto front.

    Methods without parameters of their own (zero-shot, heads only) are level lines; methods far
    below the others stand in the legend alone.
    """
    rows = results.all_media
    drawn, below = _apart([row for row in rows if row.parameters.own])

    def draw(axes: Axes, colours: Colours) -> None:
        axes.set_xscale("log")
        sizes = [row.parameters.own for row in drawn]
        _points(axes, drawn, sizes, colours)
        front = sorted((r.parameters.own, r.score.mean) for r in drawn if r.front)
        if front:
            axes.step(
                *zip(*front, strict=True), "-", where="post", color=colours.series[1], linewidth=1.2
            )
            axes.plot([], [], color=colours.series[1], label="Pareto front")
        level = [row for row in rows if not row.parameters.own]
        _levels(axes, [*level, *below], colours)
        heads = max((row.parameters.heads for row in rows), default=0)
        without = f", without the {heads:,} of the heads" if heads else ""
        _finish(axes, results, colours, f"trainable parameters{without}")
        _labels(axes, drawn, sizes, colours)

    return draw


def score_by_time(results: Results) -> Drawing:
    """Score against the seconds of a run."""
    return _score_by(results, lambda row: row.seconds, "seconds of a whole run")


def score_by_memory(results: Results) -> Drawing:
    """Score against the peak memory of a run's process."""

    def megabytes(row: ResultRow) -> float | None:
        return row.peak_memory and row.peak_memory / 2**20

    return _score_by(results, megabytes, "peak memory of a whole run, MB")


def _score_by(
    results: Results, measure: Callable[[ResultRow], float | None], label: str
) -> Drawing:
    rows = results.all_media
    found = [(row, value) for row in rows if row.method != "none" and (value := measure(row))]
    drawn, below = _apart([row for row, _ in found])

    def draw(axes: Axes, colours: Colours) -> None:
        places = [value for row, value in found if row in drawn]
        _points(axes, drawn, places, colours)
        level = [row for row in rows if row.method == "none"]
        _levels(axes, [*level, *below], colours)
        _finish(axes, results, colours, label)
        _labels(axes, drawn, places, colours)

    return draw


def score_by_media(results: Results) -> Drawing:
    """Score against the number of training media on a logarithmic axis, a line a series."""

    def draw(axes: Axes, colours: Colours) -> None:
        axes.set_xscale("log")
        for number, (label, rows) in enumerate(results.few_shot_series.items()):
            axes.errorbar(
                [row.training_media for row in rows],
                [row.score.mean for row in rows],
                yerr=[row.score.sd or 0.0 for row in rows],
                marker="o",
                capsize=2.5,
                label=in_lines(label),
                **_line(number, rows[0].method, colours),
            )
        drawn = chain(*results.few_shot_series.values())
        media = sorted({row.training_media for row in drawn})
        axes.set_xticks(media, [f"{count:,}" for count in media])
        axes.set_xticks([], minor=True)
        _finish(axes, results, colours, "training media")

    return draw


def validation_curves(results: Results) -> Drawing:
    """The validation score over the steps, one line a row: the mean over seeds."""
    drawn = [row for row in results.all_media if row.runs[0].curve.step]

    def draw(axes: Axes, colours: Colours) -> None:
        for number, row in enumerate(drawn):
            steps, scores = mean_curve(row.runs)
            axes.plot(
                steps,
                scores,
                marker="o" if len(steps) == 1 else None,
                label=in_lines(row.label),
                **_line(number, row.method, colours),
            )
        calm(axes, colours)
        axes.set_xlabel("step", color=colours.ink)
        axes.set_ylabel(f"{metric_label(results.primary)}, validation, %", color=colours.ink)
        if drawn:
            beside: Any = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
            axes.legend(frameon=False, labelcolor=colours.ink, fontsize=9, **beside)

    return draw


def mean_curve(runs: Sequence[SeedRun]) -> tuple[list[int], list[float]]:
    """Steps and scores of each validation, means over the seeds that had as many as the first.

    A seed that holds out other media may have a few steps more or fewer than another one.
    """
    curves = [run.curve for run in runs]
    alike = [curve for curve in curves if len(curve.step) == len(curves[0].step)]
    steps = zip(*(curve.step for curve in alike), strict=True)
    scores = zip(*(curve.score for curve in alike), strict=True)
    return [round(fmean(values)) for values in steps], [fmean(values) for values in scores]


def _apart(
    rows: Sequence[ResultRow],
) -> tuple[list[ResultRow], list[ResultRow]]:
    """The rows to be drawn, and those, less than half, below a wide gap.

    It is wide if it would take half of the picture and is of ten points or more.
    """
    scores = sorted(row.score.mean for row in rows)
    lowest = min(scores, default=0.0)
    for low, high in pairwise(scores[: (len(scores) + 1) // 2]):
        if high - low > max(_GAP, (scores[-1] - low) / 2):
            lowest = high
    drawn = [row for row in rows if row.score.mean >= lowest]
    return drawn, [row for row in rows if row.score.mean < lowest]


def _line(number: int, method: str, colours: Colours) -> dict[str, Any]:
    """How the number-th line is drawn; Aurora's is thick."""
    count = len(colours.series)
    return {
        "color": colours.series[number % count],
        "linestyle": STYLES[number // count % len(STYLES)],
        "linewidth": 2.6 if method == "aurora" else 1.3,
    }


def _points(axes: Axes, rows: Sequence[ResultRow], x: Sequence[float], colours: Colours) -> None:
    """A point a row; Aurora's in the first colour."""
    for row, place in zip(rows, x, strict=True):
        ours = row.method == "aurora"
        axes.errorbar(
            place,
            row.score.mean,
            yerr=row.score.sd,
            color=colours.series[0] if ours else colours.ink,
            marker="D" if ours else "o",
            markersize=6.5 if ours else 5,
            capsize=2.5,
            linewidth=1.2,
            zorder=3 if ours else 2,
        )
    axes.margins(x=0.14, y=0.14)
    axes.set_xlim(axes.get_xlim())  # what is drawn from here on does not move it
    axes.set_ylim(axes.get_ylim())


def _labels(axes: Axes, rows: Sequence[ResultRow], x: Sequence[float], colours: Colours) -> None:
    place_labels(
        axes,
        [
            LabelledPoint(
                in_lines(row.label),
                place,
                row.score.mean,
                row.score.sd or 0.0,
                colours.series[0] if row.method == "aurora" else colours.ink,
            )
            for row, place in zip(rows, x, strict=True)
        ],
    )


def _levels(axes: Axes, rows: Sequence[ResultRow], colours: Colours) -> None:
    """Methods without a place on the x axis; those far below the others are in the legend."""
    low, high = axes.get_ylim()
    for row, style in zip(rows, cycle((":", "--", "-.")), strict=False):
        score = row.score.mean
        name = in_lines(f"{row.label}: {score:.1f}")
        inside = low <= score <= high or low == high
        if inside:
            axes.axhline(score, color=colours.ink, linestyle=style, linewidth=1)
        line = style if inside else "none"
        axes.plot([], [], color=colours.ink, linestyle=line, label=name)


def _finish(axes: Axes, results: Results, colours: Colours, x_label: str) -> None:
    calm(axes, colours)
    axes.set_xlabel(x_label, color=colours.ink)
    axes.set_ylabel(f"{metric_label(results.primary)}, %", color=colours.ink)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=colours.ink, fontsize=9, loc="lower right")
