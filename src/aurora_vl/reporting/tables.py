"""Tables as text: Markdown for pages, LaTeX for papers."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

Cell = str | int | float


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], *, decimals: int = 1
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
    return _table("pipe", header, rows, decimals)


def latex_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], *, decimals: int = 1) -> str:
    """A LaTeX tabular with the rules of the booktabs package.

    Args:
        header: names of the columns.
        rows: cells, as for `markdown_table`; LaTeX's special characters are escaped.
        decimals: digits after the point.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    table = _table("latex_booktabs", header, rows, decimals)
    # An arrow is no letter of a usual font; a bracket that begins a row would be an option of the
    # line break before it.
    return table.replace("→", r"$\to$").replace("[", "{[}")


def _table(
    layout: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    decimals: int,
) -> str:
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {row}")
    flush = [
        "left" if any(isinstance(row[column], str) for row in rows) else "right"
        for column in range(len(header))
    ]
    cells = [[_text(value, decimals) for value in row] for row in (header, *rows)]
    if layout == "pipe":
        cells = [[text.replace("|", r"\|") for text in row] for row in cells]
    return tabulate(
        cells[1:],
        cells[0],
        layout,
        disable_numparse=True,
        colalign=flush if rows else None,
    )


def _text(value: Cell, decimals: int) -> str:
    if isinstance(value, str):
        return " ".join(value.splitlines())
    return f"{value:,}" if isinstance(value, int) else f"{value:.{decimals}f}"
