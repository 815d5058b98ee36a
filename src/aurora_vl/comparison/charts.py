"""Line charts as SVG text to be put into a page, drawn by matplotlib's object interface.

Colours are CSS variables of the page, so that one drawing serves the light and the dark scheme, and
text stays text in the page's own font. Nothing here touches pyplot or any state shared by figures.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aurora_vl.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib wants colours, the page variables: these are drawn and then replaced in the text.
_INK, _RULE = "#0a0b01", "#0a0b02"
_SERIES = ("#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
_VARIABLES = {_INK: "var(--muted)", _RULE: "var(--rule)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, start=1)
}
_STYLES = ("-", "--", "-.", ":")  # colour is not the only thing that tells lines apart


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line.

    Attributes:
        name: for the legend and the description.
        x: for instance steps; increasing.
        y: as many values; a NaN leaves a gap.

    Raises:
        ValueError: the lengths differ.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def __post_init__(self) -> None:
        """Check the lengths."""
        if len(self.x) != len(self.y):
            raise ValueError(f"curve {self.name!r}: {len(self.x)} x against {len(self.y)} y")

    def describe(self) -> str:
        """The course of the line in words, for those who cannot see it."""
        points = [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(y)]
        if not points:
            return f"{self.name}: no values"
        (first, start), (last, end) = points[0], points[-1]
        if len(points) == 1:
            return f"{self.name}: {start:.4g} at {first:g}"
        return f"{self.name}: from {start:.4g} at {first:g} to {end:.4g} at {last:g}"


def line_chart(curves: Sequence[Curve], *, x_label: str = "", y_label: str = "") -> str:
    """An `<svg>` element to be written into an HTML page.

    Args:
        curves: one to four lines.
        x_label: what x counts, for instance `step`.
        y_label: what y measures, with its unit.

    Returns:
        SVG that scales with its container. It uses the CSS variables `--muted`, `--rule` and
        `--series-1` to `--series-4`, and is hidden from screen readers: the page says what
        `Curve.describe` says.

    Raises:
        ValueError: no curves, or more than four.
        UserError: matplotlib is not installed.
    """
    if not 1 <= len(curves) <= len(_SERIES):
        raise ValueError(f"a chart has one to {len(_SERIES)} curves, not {len(curves)}")
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "Charts need matplotlib, which is not installed: pip install 'aurora-vl[report]'."
        ) from error
    # Text as text, and the same names inside the file for the same drawing.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "aurora"}):
        figure = Figure(figsize=(5.4, 3.1), layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, curves)
        axes.set_xlabel(_plain(x_label), color=_INK)
        axes.set_ylabel(_plain(y_label), color=_INK)
        target = io.StringIO()
        FigureCanvasSVG(figure).print_svg(target, metadata={"Date": None})
    return _for_page(target.getvalue())


def _draw(axes: Axes, curves: Sequence[Curve]) -> None:
    for curve, colour, style in zip(curves, _SERIES, _STYLES, strict=False):
        few = len(curve.x) <= 12
        axes.plot(
            curve.x,
            curve.y,
            color=colour,
            linestyle=style,
            linewidth=2,
            marker="o" if few else None,
            markersize=4.5,
            label=_plain(curve.name),
        )
    axes.set_facecolor("none")
    axes.figure.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0, labelsize=10)
    axes.margins(x=0.02)
    if not any(y < 0 for curve in curves for y in curve.y):
        axes.set_ylim(bottom=0)  # a gain looks as large as it is
    if len(curves) > 1:
        axes.legend(frameon=False, labelcolor=_INK, fontsize=10)


def _plain(text: str) -> str:
    """Without matplotlib's reading of `$` as mathematics, and of a leading `_` as "no legend"."""
    text = text.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def _for_page(svg: str) -> str:
    """The bare element, of free size, with CSS variables and without ids that nothing refers to."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg.strip()
