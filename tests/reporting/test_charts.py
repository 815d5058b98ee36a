"""Charts: valid SVG that takes its colours from the page and leaves matplotlib's state alone."""

from __future__ import annotations

import math
import re
import sys
from xml.etree import ElementTree

import pytest

from aurora_vl.errors import UserError
from aurora_vl.reporting.charts import Curve, line_chart

LOSS = Curve("loss", range(50), [10.0 / (step + 1) for step in range(50)])
RECALL = Curve("recall", [0, 100, 200], [5.0, math.nan, 80.0])


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if "text" in node.tag]


def test_the_drawing_scales_and_takes_its_colours_from_the_page() -> None:
    svg = line_chart([LOSS], x_label="step", y_label="nats")
    root = ElementTree.fromstring(svg)
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert root.attrib["aria-hidden"] == "true"
    assert "var(--series-1)" in svg
    assert "var(--series-2)" not in svg
    colours = set(re.findall(r"#[0-9a-fA-F]{6}", svg))
    assert colours <= {"#000000"}, "a fixed colour is unreadable in one of the two schemes"
    assert {"step", "nats"} <= set(texts(svg))


def test_nothing_is_left_that_ids_could_clash_over() -> None:
    ids = re.findall(r'\bid="([^"]+)"', line_chart([LOSS, RECALL]))
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][0-9a-f]{9,}", name) for name in ids)


def test_several_curves_have_a_legend_and_one_has_none() -> None:
    assert "loss" not in texts(line_chart([LOSS]))
    assert {"loss", "recall"} <= set(texts(line_chart([LOSS, RECALL])))


def test_names_are_taken_literally() -> None:
    odd = [Curve("a <b> $x$ & c", [0, 1], [0, 1]), Curve("_hidden", [0, 1], [1, 0])]
    shown = [text.strip("\u200b") for text in texts(line_chart(odd, y_label="$\\bad$"))]
    assert {"a <b> $x$ & c", "_hidden", "$\\bad$"} <= set(shown)


def test_axes_start_at_zero_unless_something_is_below() -> None:
    shown = texts(line_chart([Curve("c", [0, 1], [80.0, 90.0])]))
    assert "0" in shown
    assert "20" in shown
    below = texts(line_chart([Curve("c", [0, 1], [-8.0, 9.0])]))
    assert any(text.startswith("\N{MINUS SIGN}") for text in below)


def test_the_same_curves_give_the_same_text() -> None:
    assert line_chart([LOSS, RECALL]) == line_chart([LOSS, RECALL])


def test_settings_of_other_figures_are_left_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    line_chart([LOSS])
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("count", [0, 5])
def test_too_few_or_too_many_curves_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"one to 4 curves, not {count}"):
        line_chart([LOSS] * count)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"aurora-vl\[report\]"):
        line_chart([LOSS])


def test_curves_in_words() -> None:
    assert RECALL.describe() == "recall: from 5 at 0 to 80 at 200"
    assert Curve("loss", [3], [0.123456]).describe() == "loss: 0.1235 at 3"
    assert Curve("loss", [3], [math.nan]).describe() == "loss: no values"
    with pytest.raises(ValueError, match="'loss': 2 x against 1 y"):
        Curve("loss", [1, 2], [1])
