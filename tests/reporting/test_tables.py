"""Names of metrics, rows of before and after, Markdown tables."""

from __future__ import annotations

import pytest

from aurora_vl.reporting.tables import latex_table, markdown_table, metric_label, metric_rows


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("i2t_r1", "Image → text, R@1"),
        ("t2v_r10", "Text → video, R@10"),
        ("v2t_mdr", "Video → text, median rank"),
        ("t2i_mnr", "Text → image, mean rank"),
        ("r_mean", "Mean of the six recalls"),
        ("accuracy", "Accuracy"),
        ("something_else", "something_else"),
    ],
)
def test_metric_labels(name: str, label: str) -> None:
    assert metric_label(name) == label


def test_rows_know_which_direction_is_better() -> None:
    before = {"i2t_r1": 10.0, "t2i_r1": 20.0, "i2t_mdr": 9.0, "i2t_mnr": 4.0, "r_mean": 3.0, "x": 0}
    after = {"r_mean": 3.04, "i2t_r1": 12.5, "t2i_r1": 15.0, "i2t_mdr": 2.0, "i2t_mnr": 5.0}
    rows = {row.name: row for row in metric_rows(before, after)}
    assert list(rows) == list(after)
    assert rows["i2t_r1"].change == 2.5
    assert {name: row.better for name, row in rows.items()} == {
        "r_mean": None,
        "i2t_r1": True,
        "t2i_r1": False,
        "i2t_mdr": True,
        "i2t_mnr": False,
    }


def test_markdown_table_reads_well_as_source() -> None:
    table = markdown_table(
        ["method", "numbers", "r_mean"], [["aurora | cp", 56096, 71.25], ["full", 223_000_000, 7.0]]
    )
    assert table == "\n".join(
        [
            "| method       |     numbers | r_mean |",
            "| ------------ | ----------: | -----: |",
            "| aurora \\| cp |      56,096 |   71.2 |",
            "| full         | 223,000,000 |    7.0 |",
        ]
    )


def test_a_column_with_a_text_among_its_numbers_is_set_left() -> None:
    assert "| --- | --: |" in markdown_table(["a", "b"], [[1.0, 2], ["-\nx", 3]])
    assert "- x" in markdown_table(["a"], [["-\nx"]])


def test_an_empty_table_is_its_header() -> None:
    assert markdown_table(["name", "b"], []) == "| name | b   |\n| ---- | --- |"


def test_latex_takes_every_character_of_a_label() -> None:
    table = latex_table(["a_b", "n"], [["[q] 5 % & {x} ~ ^ \\ # $", 1]])
    body = table.splitlines()
    assert body[2] == r"a\_b & n \\"
    assert body[4].startswith(r"{[}q] 5 \% \& \{x\} \textasciitilde{} \textasciicircum{} ")
    assert body[4].endswith(r"\textbackslash{} \# \$ & 1 \\")


def test_a_ragged_row_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under a header of 2"):
        markdown_table(["a", "b"], [["x"]])
