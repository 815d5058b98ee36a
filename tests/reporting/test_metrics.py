"""Names of metrics, and rows of before and after."""

from __future__ import annotations

import pytest

from aurora_vl.reporting.metrics import metric_label, metric_rows


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
