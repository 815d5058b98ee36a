"""Names beside the points of a chart.

Own code, because adjustText (1.3.0) did worse on these charts: it put names over error bars, drew
lines through the names they lead to, and took seconds a chart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from aurora_vl.reporting.charts import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE, _LETTER = 11.0, 5.4  # of a label, in points: a line's height and the width of a letter
_LETTERS = 32  # in a line of a label
# Diagonals first: error bars and the steps of a front go straight.
_SIDES = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_DISTANCES = (7, 16, 27, 40)  # of a label from its point, in points; far ones get a line
_STEPS = 40  # along such a line
_MARKER = 4.0  # half of a point's width, in points
Box = tuple[float, float, float, float]
"""Left, low, right and high end."""


@dataclass(frozen=True, slots=True)
class LabelledPoint:
    """A point with its name.

    Attributes:
        text: the name, in the lines of `in_lines`.
        x, y: in the units of the axes.
        spread: half the length of its error bar.
        colour: of the name.
    """

    text: str
    x: float
    y: float
    spread: float
    colour: str


def in_lines(label: str) -> str:
    """A label in lines that leave room beside them; words longer than a line are cut apart."""
    return plain("\n".join(wrap(label, _LETTERS)))


def place_labels(axes: Axes, points: Sequence[LabelledPoint]) -> None:
    """Write names beside their points, each in the first place free of names, points and bars.

    To be called last, when the axes have their final place. A place that reaches beyond them is
    worse than one that is taken; one without a line that is nearer to another point is as bad, and
    so is one whose line runs through something.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()
    scale = 72.0 / figure.dpi
    frame = axes.get_window_extent()
    left, right = frame.x0 * scale, frame.x1 * scale
    places = _drawn(axes, [(p.x, p.y) for p in points], scale)
    ends = _drawn(axes, [(p.x, p.y - p.spread) for p in points], scale)
    taken: list[Box] = []
    for (x, y), (_, low) in zip(places, ends, strict=True):
        reach = max(_MARKER, y - low)
        taken.append((x - _MARKER, y - reach, x + _MARKER, y + reach))
    legend = axes.get_legend()
    if legend is not None:
        x0, y0, x1, y1 = (edge * scale for edge in legend.get_window_extent().extents)
        taken.append((x0, y0, x1, y1))
    offsets = [(dx * d, dy * d) for d in _DISTANCES for dx, dy in _SIDES]
    for point, own in zip(points, places, strict=True):
        boxes = [_box(own, offset, point.text) for offset in offsets]
        faults = [
            sum(_meet(box, other) for other in taken)
            + 2 * (box[0] < left or box[2] > right)
            + (_nearer(box, own, places) if number < len(_SIDES) else _crossed(box, own, taken))
            for number, box in enumerate(boxes)
        ]
        best = faults.index(min(faults))
        taken.append(boxes[best])
        _write(axes, point, offsets[best])


def _drawn(
    axes: Axes, points: Sequence[tuple[float, float]], scale: float
) -> list[tuple[float, float]]:
    """Where points lie in the figure, in points of type."""
    found: Any = axes.transData.transform(list(points)) if points else []
    return [(float(x) * scale, float(y) * scale) for x, y in found]


def _write(axes: Axes, point: LabelledPoint, offset: tuple[float, float]) -> None:
    dx, dy = offset
    line = {"arrowstyle": "-", "color": point.colour, "linewidth": 0.5}
    far = max(abs(dx), abs(dy)) > _DISTANCES[0]
    name = axes.annotate(
        point.text,
        (point.x, point.y),
        xytext=offset,
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[_sign(dx)],
        va={1: "bottom", 0: "center", -1: "top"}[_sign(dy)],
        fontsize=9,
        color=point.colour,
        arrowprops=line if far else None,
    )
    name.set_in_layout(False)  # the axes stay where they are


def _box(point: tuple[float, float], offset: tuple[float, float], text: str) -> Box:
    """The place of a label."""
    lines = text.split("\n")
    width, height = _LETTER * max(map(len, lines)), _LINE * len(lines)
    left = point[0] + offset[0] - {1: 0.0, 0: width / 2, -1: width}[_sign(offset[0])]
    low = point[1] + offset[1] - {1: 0.0, 0: height / 2, -1: height}[_sign(offset[1])]
    return left, low, left + width, low + height


def _nearer(box: Box, own: tuple[float, float], points: Sequence[tuple[float, float]]) -> bool:
    """Whether a box is nearer to another point than to its own."""

    def far(point: tuple[float, float]) -> float:
        x, y = point
        return math.hypot(max(box[0] - x, x - box[2], 0.0), max(box[1] - y, y - box[3], 0.0))

    return any(far(point) < far(own) for point in points)


def _crossed(box: Box, own: tuple[float, float], taken: Sequence[Box]) -> int:
    """How many boxes, its point's own aside, the line from a point to its name runs through."""
    (x, y), middle = own, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    shares = [step / _STEPS for step in range(_STEPS + 1)]
    line = [(x + (middle[0] - x) * share, y + (middle[1] - y) * share) for share in shares]
    others = [other for other in taken if not _holds(other, own)]
    return sum(any(_holds(other, at) for at in line) for other in others)


def _holds(box: Box, at: tuple[float, float]) -> bool:
    return box[0] <= at[0] <= box[2] and box[1] <= at[1] <= box[3]


def _meet(a: Box, b: Box) -> bool:
    """Whether two boxes overlap."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)
