"""The report page: complete, self-contained, escaped, and right about what is right."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from aurora_vl.demo.report import (
    THUMBNAIL_PIXELS,
    DemoReport,
    Hit,
    QueryExample,
    TrainedPart,
    demo_report,
)
from aurora_vl.errors import UserError
from aurora_vl.reporting.charts import Curve

VOID = {"meta", "img", "link", "br", "hr", "input"}
COLOURS = ("red", "lime", "blue", "white", "black")


class Page(HTMLParser):
    """Collects what the tests ask about, and fails on elements that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{colour}.png" for colour in COLOURS]
    for colour, path in zip(COLOURS, paths, strict=True):
        Image.new("RGB", (400, 200), colour).save(path)
    return paths


@pytest.fixture(scope="module")
def content(pictures: list[Path]) -> DemoReport:
    def hits(right: int | None) -> list[Hit]:
        return [Hit(path, place == right) for place, path in enumerate(pictures)]

    return DemoReport(
        title="A <b>frozen</b> model",
        summary="Tuned on five pictures & nothing else.",
        before={"t2i_r1": 2.0, "r_mean": 9.44, "t2i_mdr": 60.5},
        after={"t2i_r1": 64.0, "r_mean": 71.25, "t2i_mdr": 1.0},
        parts=[TrainedPart("factors", 8_000), TrainedPart("heads", 32_000)],
        total_parameters=2_000_000,
        examples=[
            QueryExample("two <script>alert(1)</script> cats", hits(None), hits(0)),
            QueryExample("a dog", hits(3), hits(0)),
        ],
        command="aurora demo --out 'my demo'",
        seconds=133.4,
        seed=42,
        versions={"torch": "2.13.0", "peft": "0.21.2"},
        loss=[Curve("ITC", [1, 2], [5.0, 2.5])],
        recall=[Curve("mean recall", [0, 10], [9.0, 70.0])],
    )


@pytest.fixture(scope="module")
def page(content: DemoReport) -> Page:
    return Page(demo_report(content))


def test_nothing_is_loaded_from_elsewhere(content: DemoReport) -> None:
    text = demo_report(content)
    page = Page(text)
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#"))
    assert not page.all("script")
    assert not page.all("link")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import", style[1])


def test_texts_are_escaped(page: Page) -> None:
    assert "A <b>frozen</b> model" in page.text
    assert "two <script>alert(1)</script> cats" in page.text
    assert "aurora demo --out 'my demo'" in page.text


def test_scores_changes_and_shares_are_shown(page: Page) -> None:
    assert "Text → image, R@1 2.0 64.0 +62.0" in page.text
    assert "Mean of the six recalls 9.4 71.2 +61.8" in page.text
    assert "Text → image, median rank 60.5 1.0 \N{MINUS SIGN}59.5" in page.text
    assert "40,000 of 2,000,000 parameters" in page.text
    assert "factors 8,000 0.4 %" in page.text
    assert "Trained in all 40,000 2 %" in page.text
    assert "2 min 13 s" in page.text
    assert "torch 2.13.0 · peft 0.21.2" in page.text


def test_the_right_pictures_are_marked_and_described(page: Page) -> None:
    marks = [item.get("class") == "right" for item in page.all("li")[3:]]
    assert [place for place, right in enumerate(marks) if right] == [5, 10 + 3, 15]
    alternatives = [image["alt"] for image in page.all("img")]
    assert alternatives[0] == "Before, place 1: another picture"
    assert alternatives[5] == "After, place 1: the right picture"
    assert [alt is not None and "the right" in alt for alt in alternatives] == marks
    for words in ("right picture: not among them", "in place 4", "found first"):
        assert words in page.text


def test_thumbnails_are_small_jpegs_of_the_pictures_in_their_order(page: Page) -> None:
    sources = [image["src"] or "" for image in page.all("img")]
    assert len(sources) == 20
    for source, colour in zip(sources, COLOURS * 4, strict=True):
        data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            assert image.size == (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS // 2)
            expected = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
            assert image.getpixel((40, 40)) == pytest.approx(expected, abs=4)


def test_charts_are_drawn_and_told(page: Page) -> None:
    assert len(page.all("svg")) == 2
    assert "ITC: from 5 at 1 to 2.5 at 2" in page.text
    assert "mean recall: from 9 at 0 to 70 at 10" in page.text


def test_what_is_absent_leaves_no_empty_section(content: DemoReport) -> None:
    bare = Page(demo_report(dataclasses.replace(content, loss=(), recall=(), examples=())))
    assert not bare.all("svg")
    assert not bare.all("img")
    assert "What a sentence finds" not in bare.text
    assert "The course of the tuning" not in bare.text


def test_frames_need_no_file(content: DemoReport) -> None:
    frame = Image.new("RGBA", (32, 32), "lime")
    example = QueryExample("a frame", [Hit(frame, True)], [Hit(frame, True)])
    page = Page(demo_report(dataclasses.replace(content, examples=[example])))
    assert len(page.all("img")) == 2
    assert frame.mode == "RGBA"
    assert frame.size == (32, 32)


def test_the_bar_of_a_loss_is_not_hidden_behind_the_bar_before(content: DemoReport) -> None:
    text = demo_report(dataclasses.replace(content, after={"r_mean": 4.0}))
    assert re.findall(r'class="fill ?(\w*)" style="width:([\d.]+)%', text) == [
        ("from", "9.4"),
        ("", "4.0"),
    ]


def test_a_picture_that_is_gone_is_named(content: DemoReport, tmp_path: Path) -> None:
    hits = [Hit(tmp_path / "gone.jpg", False)]
    broken = dataclasses.replace(content, examples=[QueryExample("x", hits, hits)])
    with pytest.raises(UserError, match=r"gone\.jpg"):
        demo_report(broken)


@pytest.mark.parametrize(
    ("seconds", "words"), [(9.6, "10 s"), (60, "1 min 0 s"), (3 * 3600 + 125, "3 h 2 min")]
)
def test_durations(content: DemoReport, seconds: float, words: str) -> None:
    bare = dataclasses.replace(content, seconds=seconds, examples=(), loss=(), recall=())
    assert f"Tuning took {words}" in Page(demo_report(bare)).text
