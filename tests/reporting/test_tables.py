"""Markdown and LaTeX tables."""

from __future__ import annotations

import pytest

from aurora_vl.reporting.tables import latex_table, markdown_table


def test_markdown_table_reads_well_as_source() -> None:
    table = markdown_table(
        ["method", "parameters", "r_mean"],
        [["aurora | cp", 56096, 71.25], ["full", 223_000_000, 7.0]],
    )
    assert table == "\n".join(
        [
            "| method       |   parameters |   r_mean |",
            "|:-------------|-------------:|---------:|",
            "| aurora \\| cp |       56,096 |     71.2 |",
            "| full         |  223,000,000 |      7.0 |",
        ]
    )


def test_a_column_with_a_text_among_its_numbers_is_set_left() -> None:
    assert "|:----|----:|" in markdown_table(["a", "b"], [[1.0, 2], ["-\nx", 3]])
    assert "- x" in markdown_table(["a"], [["-\nx"]])


def test_an_empty_table_is_its_header() -> None:
    assert markdown_table(["name", "b"], []) == "| name   | b   |\n|--------|-----|"


def test_latex_takes_every_character_of_a_label() -> None:
    table = latex_table(["a_b", "n"], [["[q] 5 % & {x} ~ ^ \\ # $ →", 1]])
    _, _, header, _, row, *_ = (" ".join(line.split()) for line in table.splitlines())
    assert header == r"a\_b & n \\"
    assert row == (
        r"{[}q] 5 \% \& \{x\} \textasciitilde{} \^{} \textbackslash{} \# \$ $\to$ & 1 \\"
    )


def test_a_ragged_row_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under a header of 2"):
        markdown_table(["a", "b"], [["x"]])
