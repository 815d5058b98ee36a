"""Charts as SVG text to be put into a page, or as files, drawn by matplotlib's object interface.

In a page colours are CSS variables, so that one drawing serves the light and the dark scheme, and
text stays text in the page's own font. Nothing here touches pyplot or any state shared by figures.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aurora_vl.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Colours:
    """What a chart is drawn with.

    Attributes:
        ink: text.
        rule: grid and axis.
        series: four that are told apart.
    """

    ink: str
    rule: str
    series: tuple[str, str, str, str]


PAPER = Colours("#3d4a55", "#dfe4e8", ("#0b7a75", "#6c4fd0", "#b4570a", "#b02a6f"))
"""For files, on white."""
# matplotlib wants colours, the page variables: these are drawn and then replaced in the text.
PAGE = Colours("#0a0b01", "#0a0b02", ("#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06"))
"""For pages."""
_VARIABLES = {PAGE.ink: "var(--muted)", PAGE.rule: "var(--rule)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(PAGE.series, start=1)
}
STYLES = ("-", "--", "-.", ":")
"""Of lines: colour is not the only thing that tells them apart."""
Drawing = Callable[["Axes", Colours], None]
"""Draws on axes with colours."""


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
    if not 1 <= len(curves) <= len(PAGE.series):
        raise ValueError(f"a chart has one to {len(PAGE.series)} curves, not {len(curves)}")

    def draw(axes: Axes, colours: Colours) -> None:
        _draw(axes, curves, colours)
        axes.set_xlabel(plain(x_label), color=colours.ink)
        axes.set_ylabel(plain(y_label), color=colours.ink)

    return page_svg(draw, (5.4, 3.1))


def page_svg(draw: Drawing, size: tuple[float, float]) -> str:
    """A drawing as an `<svg>` element for a page, as `line_chart` gives it.

    Args:
        draw: draws on axes.
        size: width and height in inches; the page scales it.

    Raises:
        UserError: matplotlib is not installed.
    """
    return _for_page(_svg(draw, size, PAGE))


def save_pictures(draw: Drawing, size: tuple[float, float], path: Path) -> None:
    """Write a drawing as `path` with the endings .svg and .png, on white.

    Raises:
        UserError: matplotlib is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".svg").write_text(_svg(draw, size, PAPER), encoding="utf-8")
    _, figure = _figure(draw, size, PAPER)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_facecolor("white")
    FigureCanvasAgg(figure).print_png(str(path.with_suffix(".png")))


def remove_pictures(path: Path) -> None:
    """Remove what `save_pictures` wrote, if it is there."""
    for ending in (".svg", ".png"):
        path.with_suffix(ending).unlink(missing_ok=True)


def _svg(draw: Drawing, size: tuple[float, float], colours: Colours) -> str:
    matplotlib, figure = _figure(draw, size, colours)
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    target = io.StringIO()
    # Text as text, and the same names inside the file for the same drawing.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "aurora"}):
        FigureCanvasSVG(figure).print_svg(target, metadata={"Date": None})
    return target.getvalue()


def _figure(draw: Drawing, size: tuple[float, float], colours: Colours) -> tuple[Any, Any]:
    """matplotlib and a finished figure."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "Charts need matplotlib, which is not installed: pip install 'aurora-vl[report]'."
        ) from error
    figure = Figure(figsize=size, layout="constrained", dpi=160)
    axes = figure.add_subplot()
    draw(axes, colours)
    return matplotlib, figure


def _draw(axes: Axes, curves: Sequence[Curve], colours: Colours) -> None:
    for curve, colour, style in zip(curves, colours.series, STYLES, strict=False):
        few = len(curve.x) <= 12
        axes.plot(
            curve.x,
            curve.y,
            color=colour,
            linestyle=style,
            linewidth=2,
            marker="o" if few else None,
            markersize=4.5,
            label=plain(curve.name),
        )
    calm(axes, colours)
    if not any(y < 0 for curve in curves for y in curve.y):
        axes.set_ylim(bottom=0)  # a gain looks as large as it is
    if len(curves) > 1:
        axes.legend(frameon=False, labelcolor=colours.ink, fontsize=10)


def calm(axes: Axes, colours: Colours) -> None:
    """Leave of frame and grid what helps to read."""
    axes.set_facecolor("none")
    axes.figure.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(colours.rule)
    axes.grid(axis="y", color=colours.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=colours.ink, length=0, labelsize=10)
    axes.margins(x=0.02)


def plain(text: str) -> str:
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
