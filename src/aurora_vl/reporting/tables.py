"""Metrics as people read them: names, rows of before and after, Markdown and LaTeX tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_DIRECTIONS = {
    "i2t": "Image → text",
    "t2i": "Text → image",
    "v2t": "Video → text",
    "t2v": "Text → video",
}
_MEASURES = {"mdr": "median rank", "mnr": "mean rank"}
_WHOLE = {"r_mean": "Mean of the six recalls", "accuracy": "Accuracy"}
_CUTOFF = re.compile(r"r(\d+)")


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric before and after tuning.

    Attributes:
        name: as in metrics.json.
        label: for people.
        before: score without tuning, in percent, or a rank.
        after: score with tuning.
        is_rank: a rank, where lower is better, and not a percentage.
    """

    name: str
    label: str
    before: float
    after: float
    is_rank: bool

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def better(self) -> bool | None:
        """Whether the change is for the better; None where there is none at one decimal."""
        if f"{abs(self.change):.1f}" == "0.0":
            return None
        return (self.change < 0) == self.is_rank


def metric_label(name: str) -> str:
    """The name of a metric in metrics.json in words; an unknown name is given back unchanged.

    Example:
        >>> metric_label("t2i_r5")
        'Text → image, R@5'
    """
    direction, _, measure = name.partition("_")
    if name in _WHOLE or direction not in _DIRECTIONS:
        return _WHOLE.get(name, name)
    cutoff = _CUTOFF.fullmatch(measure)
    words = f"R@{cutoff[1]}" if cutoff else _MEASURES.get(measure, measure)
    return f"{_DIRECTIONS[direction]}, {words}"


def metric_rows(before: Mapping[str, float], after: Mapping[str, float]) -> list[MetricRow]:
    """The metrics that both sides have, in the order of `after`."""
    return [
        MetricRow(
            name, metric_label(name), before[name], after[name], name.endswith(("_mdr", "_mnr"))
        )
        for name in after
        if name in before
    ]


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str | int | float]], *, decimals: int = 1
) -> str:
    """A Markdown table, padded so that its source can be read as well.

    Args:
        header: names of the columns.
        rows: cells. Whole numbers get thousands separators, other numbers `decimals` digits after
            the point, and columns of numbers only are set flush right. A `|` in a text is escaped
            and a line break becomes a space.
        decimals: digits after the point.

    Returns:
        The lines, without a line break at the end.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {row}")
    cells = [[_cell(value, decimals) for value in line] for line in (header, *rows)]
    widths = [max(3, *(len(line[column]) for line in cells)) for column in range(len(header))]
    right = [_is_numeric(rows, column) for column in range(len(header))]
    rule = ["-" * (width - 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True)]
    padded = [
        [
            text.rjust(width) if r else text.ljust(width)
            for text, width, r in zip(line, widths, right, strict=True)
        ]
        for line in cells
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "→": r"$\to$",
    "[": "{[}",  # at the beginning of a row it would belong to the line break before
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex_table(
    header: Sequence[str], rows: Sequence[Sequence[str | int | float]], *, decimals: int = 1
) -> str:
    """A LaTeX tabular with the rules of the booktabs package.

    Args:
        header: names of the columns.
        rows: cells, as for `markdown_table`; LaTeX's special characters are escaped.
        decimals: digits after the point.
    """
    columns = "".join("r" if _is_numeric(rows, n) else "l" for n in range(len(header)))
    lines = [
        " & ".join(_latex(_text(value, decimals)) for value in line) + r" \\"
        for line in (header, *rows)
    ]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _is_numeric(rows: Sequence[Sequence[str | int | float]], column: int) -> bool:
    return bool(rows) and not any(isinstance(row[column], str) for row in rows)


def _text(value: str | int | float, decimals: int) -> str:
    if isinstance(value, str):
        return " ".join(value.splitlines())
    return f"{value:,}" if isinstance(value, int) else f"{value:.{decimals}f}"


def _cell(value: str | int | float, decimals: int) -> str:
    return _text(value, decimals).replace("|", "\\|")
