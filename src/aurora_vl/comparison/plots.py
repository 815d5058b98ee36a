"""The pictures of a comparison: score against size, time, memory and data, the course of tuning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from statistics import fmean
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from aurora_vl.reporting.charts import STYLES, Colours, Drawing, calm, plain
from aurora_vl.reporting.tables import metric_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = (8.0, 5.6)
"""Of a picture, in inches."""
_LINE, _LETTER = 11.0, 5.4  # of a label, in points: a line's height and the width of a letter
_LETTERS = 32  # in a line of a label
_GAP = 10.0  # points; methods below a smaller one are drawn in any case
# Diagonals first: error bars and the front's steps go straight.
_SIDES = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_DISTANCES = (7, 16, 27, 40)  # of a label from its point, in points; far ones get a line
_STEPS = 40  # along such a line


def equal_data(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows that were given all training media; where none was, all rows."""
    rows: list[Mapping[str, Any]] = results["rows"]
    return [row for row in rows if not row["few_shot"]] or rows


def series(results: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Few-shot rows and those that differ from them in the number of media alone, fewest first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(results["rows"], key=lambda row: row["training_media"]):
        found.setdefault(row["series"], []).append(row)
    return {label: rows for label, rows in found.items() if any(r["few_shot"] for r in rows)}


def score_by_size(results: Mapping[str, Any]) -> Drawing:
    """Score against own numbers on a logarithmic axis, with error bars and the Pareto front.

    Methods without numbers of their own (zero-shot, heads only) are level lines, and those far
    below the others are only told.
    """
    rows = equal_data(results)
    drawn, below = _apart([row for row in rows if row["parameters"]["own"]])

    def draw(axes: Axes, colours: Colours) -> None:
        axes.set_xscale("log")
        sizes = [row["parameters"]["own"] for row in drawn]
        _points(axes, drawn, sizes, colours)
        front = sorted((r["parameters"]["own"], r["score"]["mean"]) for r in drawn if r["front"])
        if front:
            axes.step(
                *zip(*front, strict=True), "-", where="post", color=colours.series[1], linewidth=1.2
            )
            axes.plot([], [], color=colours.series[1], label="Pareto front")
        level = [row for row in rows if not row["parameters"]["own"]]
        _levels(axes, [*level, *below], colours)
        heads = max((row["parameters"]["heads"] for row in rows), default=0)
        without = f" without the heads' {heads:,}" if heads else ""
        _finish(axes, results, colours, f"trained numbers{without}")
        _labels(axes, drawn, sizes, colours)

    return draw


def score_by_time(results: Mapping[str, Any]) -> Drawing:
    """Score against the seconds of a run."""
    return _score_by(results, "seconds", 1.0, "seconds of a whole run")


def score_by_memory(results: Mapping[str, Any]) -> Drawing:
    """Score against the most memory that a run's process had."""
    return _score_by(results, "peak_memory", 2.0**20, "peak memory of a whole run, MB")


def _score_by(results: Mapping[str, Any], key: str, unit: float, label: str) -> Drawing:
    rows = equal_data(results)
    drawn, below = _apart([row for row in rows if row[key] and row["method"] != "none"])

    def draw(axes: Axes, colours: Colours) -> None:
        places = [row[key] / unit for row in drawn]
        _points(axes, drawn, places, colours)
        level = [row for row in rows if row["method"] == "none"]
        _levels(axes, [*level, *below], colours)
        _finish(axes, results, colours, label)
        _labels(axes, drawn, places, colours)

    return draw


def score_by_media(results: Mapping[str, Any]) -> Drawing:
    """Score against the number of training media on a logarithmic axis, a line a series."""

    def draw(axes: Axes, colours: Colours) -> None:
        axes.set_xscale("log")
        for number, (label, rows) in enumerate(series(results).items()):
            axes.errorbar(
                [row["training_media"] for row in rows],
                [row["score"]["mean"] for row in rows],
                yerr=[row["score"]["sd"] or 0.0 for row in rows],
                marker="o",
                capsize=2.5,
                label=_told(label),
                **_line(number, rows[0]["method"], colours),
            )
        media = sorted({r["training_media"] for rows in series(results).values() for r in rows})
        axes.set_xticks(media, [f"{count:,}" for count in media])
        axes.set_xticks([], minor=True)
        _finish(axes, results, colours, "training media")

    return draw


def validation_curves(results: Mapping[str, Any]) -> Drawing:
    """The validation score over the steps, one line a row: the mean over seeds."""
    drawn = [row for row in equal_data(results) if row["runs"][0]["curve"]["step"]]

    def draw(axes: Axes, colours: Colours) -> None:
        for number, row in enumerate(drawn):
            steps, scores = mean_curve(row)
            axes.plot(
                steps,
                scores,
                marker="o" if len(steps) == 1 else None,
                label=_told(row["label"]),
                **_line(number, row["method"], colours),
            )
        calm(axes, colours)
        axes.set_xlabel("step", color=colours.ink)
        axes.set_ylabel(f"{metric_label(results['primary'])}, validation, %", color=colours.ink)
        if drawn:
            beside: Any = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
            axes.legend(frameon=False, labelcolor=colours.ink, fontsize=9, **beside)

    return draw


def mean_curve(row: Mapping[str, Any]) -> tuple[list[int], list[float]]:
    """Steps and scores of each validation, means over the seeds that had as many as the first.

    A seed that holds out other media may have a few steps more or fewer than another one.
    """
    curves = [run["curve"] for run in row["runs"]]
    alike = [curve for curve in curves if len(curve["step"]) == len(curves[0]["step"])]
    steps = zip(*(curve["step"] for curve in alike), strict=True)
    scores = zip(*(curve["score"] for curve in alike), strict=True)
    return [round(fmean(values)) for values in steps], [fmean(values) for values in scores]


def _apart(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The rows to be drawn, and those, less than half, below a wide gap.

    It is wide if it would take half of the picture and is of ten points or more.
    """
    scores = sorted(row["score"]["mean"] for row in rows)
    lowest = min(scores, default=0.0)
    for low, high in pairwise(scores[: (len(scores) + 1) // 2]):
        if high - low > max(_GAP, (scores[-1] - low) / 2):
            lowest = high
    drawn = [row for row in rows if row["score"]["mean"] >= lowest]
    return drawn, [row for row in rows if row["score"]["mean"] < lowest]


def _line(number: int, method: str, colours: Colours) -> dict[str, Any]:
    """How the number-th line is drawn; Aurora's is thick."""
    count = len(colours.series)
    return {
        "color": colours.series[number % count],
        "linestyle": STYLES[number // count % len(STYLES)],
        "linewidth": 2.6 if method == "aurora" else 1.3,
    }


def _points(
    axes: Axes, rows: Sequence[Mapping[str, Any]], x: Sequence[float], colours: Colours
) -> None:
    """A point a row; Aurora's in the first colour."""
    for row, place in zip(rows, x, strict=True):
        ours = row["method"] == "aurora"
        axes.errorbar(
            place,
            row["score"]["mean"],
            yerr=row["score"]["sd"],
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


def _labels(
    axes: Axes, rows: Sequence[Mapping[str, Any]], x: Sequence[float], colours: Colours
) -> None:
    """Names beside their points, each in the first place that is free of names, points and bars.

    The last to be drawn, when the axes have their final place. A place that reaches beyond them is
    worse than one that is taken; one without a line that is nearer to another point is as bad, and
    so is one whose line runs through something.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()
    scale = 72.0 / figure.dpi
    frame = axes.get_window_extent()
    left, right = frame.x0 * scale, frame.x1 * scale

    def drawn(values: Sequence[float]) -> list[tuple[float, float]]:
        found: Any = axes.transData.transform(list(zip(x, values, strict=True))) if rows else []
        return [(float(px) * scale, float(py) * scale) for px, py in found]

    values = [row["score"]["mean"] for row in rows]
    spreads = [row["score"]["sd"] or 0.0 for row in rows]
    lows = drawn([value - spread for value, spread in zip(values, spreads, strict=True)])
    points = drawn(values)
    reach = [max(4.0, py - low) for (_, py), (_, low) in zip(points, lows, strict=True)]
    taken: list[tuple[float, ...]] = [
        (px - 4, py - far, px + 4, py + far) for (px, py), far in zip(points, reach, strict=True)
    ]
    legend = axes.get_legend()
    if legend is not None:
        taken.append(tuple(edge * scale for edge in legend.get_window_extent().extents))
    for row, value, at, point in zip(rows, values, x, points, strict=True):
        told = _told(row["label"])
        places = [(dx * d, dy * d) for d in _DISTANCES for dx, dy in _SIDES]
        boxes = [_box(point, place, told) for place in places]
        meetings = [
            sum(_meet(box, other) for other in taken)
            + 2 * (box[0] < left or box[2] > right)
            + (_nearer(box, point, points) if number < len(_SIDES) else _crossed(box, point, taken))
            for number, box in enumerate(boxes)
        ]
        best = meetings.index(min(meetings))
        taken.append(boxes[best])
        dx, dy = places[best]
        far = max(abs(dx), abs(dy)) > _DISTANCES[0]
        colour = colours.series[0] if row["method"] == "aurora" else colours.ink
        name = axes.annotate(
            told,
            (at, value),
            xytext=(dx, dy),
            textcoords="offset points",
            ha={1: "left", 0: "center", -1: "right"}[_sign(dx)],
            va={1: "bottom", 0: "center", -1: "top"}[_sign(dy)],
            fontsize=9,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5} if far else None,
        )
        name.set_in_layout(False)  # the axes stay where they are


def _told(label: str) -> str:
    """A label in lines that leave room beside them; words longer than a line are cut apart."""
    return plain("\n".join(wrap(label, _LETTERS)))


def _box(point: tuple[float, float], offset: tuple[float, float], told: str) -> tuple[float, ...]:
    """Left, low, right and high end of a label."""
    lines = told.split("\n")
    width, height = _LETTER * max(map(len, lines)), _LINE * len(lines)
    left = point[0] + offset[0] - {1: 0.0, 0: width / 2, -1: width}[_sign(offset[0])]
    low = point[1] + offset[1] - {1: 0.0, 0: height / 2, -1: height}[_sign(offset[1])]
    return left, low, left + width, low + height


def _nearer(
    box: tuple[float, ...], own: tuple[float, float], points: Sequence[tuple[float, float]]
) -> bool:
    """Whether a box is nearer to another point than to its own."""

    def far(point: tuple[float, float]) -> float:
        x, y = point
        return math.hypot(max(box[0] - x, x - box[2], 0.0), max(box[1] - y, y - box[3], 0.0))

    return any(far(point) < far(own) for point in points)


def _crossed(
    box: tuple[float, ...], own: tuple[float, float], taken: Sequence[tuple[float, ...]]
) -> int:
    """How many boxes, its point's own aside, the line from a point to its name runs through."""
    (x, y), middle = own, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    shares = [step / _STEPS for step in range(_STEPS + 1)]
    line = [(x + (middle[0] - x) * share, y + (middle[1] - y) * share) for share in shares]
    others = [other for other in taken if not _holds(other, own)]
    return sum(any(_holds(other, at) for at in line) for other in others)


def _holds(box: tuple[float, ...], at: tuple[float, float]) -> bool:
    return box[0] <= at[0] <= box[2] and box[1] <= at[1] <= box[3]


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two boxes (left, low, right, high) overlap."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _levels(axes: Axes, rows: Sequence[Mapping[str, Any]], colours: Colours) -> None:
    """Methods without a place on the x axis; those far below the others are only told."""
    low, high = axes.get_ylim()
    for row, style in zip(rows, cycle((":", "--", "-.")), strict=False):
        score = row["score"]["mean"]
        told = _told(f"{row['label']}: {score:.1f}")
        inside = low <= score <= high or low == high
        if inside:
            axes.axhline(score, color=colours.ink, linestyle=style, linewidth=1)
        line = style if inside else "none"
        axes.plot([], [], color=colours.ink, linestyle=line, label=told)


def _finish(axes: Axes, results: Mapping[str, Any], colours: Colours, x_label: str) -> None:
    calm(axes, colours)
    axes.set_xlabel(x_label, color=colours.ink)
    axes.set_ylabel(f"{metric_label(results['primary'])}, %", color=colours.ink)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=colours.ink, fontsize=9, loc="lower right")
