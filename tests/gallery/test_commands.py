"""`aurora index` and `aurora search` as a user meets them."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Aurora, run_in_process, run_process
from PIL import Image

from aurora_vl.cli.options import LOGGER


@pytest.fixture
def aurora() -> Iterator[Aurora]:
    yield run_in_process
    logging.getLogger(LOGGER).setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Path:
    """A gallery of the world, beside a copy of it in `photos`."""
    folder = tmp_path_factory.mktemp("commands")
    shutil.copytree(world, folder / "photos")
    gallery = folder / "photos.aurora"
    outcome = run_in_process("index", folder / "photos", "--gallery", gallery)
    assert outcome.status == 0
    assert re.fullmatch(
        rf"{gallery}: 14 added\n14 items embedded in [\d.]+ s, [\d,]+ a second\n", outcome.out
    )
    return gallery


def test_a_second_run_has_nothing_to_embed(aurora: Aurora, indexed: Path) -> None:
    outcome = aurora("index", indexed.parent / "photos", "--gallery", indexed, "--json")
    assert (outcome.status, outcome.json["unchanged"], outcome.json["items"]) == (0, 14, 0)


def test_a_search_prints_a_table_or_json(aurora: Aurora, indexed: Path) -> None:
    picture = indexed.parent / "photos" / "p0003.jpg"
    outcome = aurora("search", picture, "--gallery", indexed, "--top", 3, "--json")
    assert outcome.status == 0
    assert [*outcome.json] == ["results"]
    first, *others = outcome.json["results"]
    assert (first["path"], first["kind"]) == (str(picture), "image")
    assert len(others) == 2
    assert first["score"] > others[0]["score"] >= others[1]["score"]
    table = aurora("search", "a red star", "--gallery", indexed, "--top", 3, "--rerank", 6)
    assert table.status == 0
    assert re.search(r"path +kind +score", table.out)


def test_options_narrow_a_search(aurora: Aurora, indexed: Path) -> None:
    def found(*options: object) -> list[str]:
        outcome = aurora("search", "a star", "--gallery", indexed, "--json", *options)
        assert outcome.status == 0, outcome.err
        return [Path(hit["path"]).name for hit in outcome.json["results"]]

    photos = indexed.parent / "photos"
    assert sorted(found("--kind", "video")) == ["v0000.mp4", "v0001.mp4"]
    assert found("--before", "1999-12-31") == []
    assert len(found("--since", "1999-12-31", "--folder", photos, "--top", 50)) == 14
    assert found("--like", photos / "p0005.jpg", "--weight", 1)[0] == "p0005.jpg"
    assert found("--not", "a picture with snow in the background") != found()


def test_a_page_with_small_pictures(aurora: Aurora, indexed: Path, tmp_path: Path) -> None:
    page = tmp_path / "found.html"
    query = "<a> red star"
    assert aurora("search", query, "--gallery", indexed, "--top", 4, "--html", page).status == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,/9j/") == 4
    assert "<h1>&lt;a&gt; red star</h1>" in text
    assert text.count('<a href="file:///') == 4


def test_names_that_are_not_utf8(aurora: Aurora, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    name = os.fsencode(photos) + b"/caf\xe9.png"
    Image.new("RGB", (40, 40), "red").save(os.fsdecode(name))
    gallery, page = tmp_path / "g.aurora", tmp_path / "found.html"
    assert aurora("index", photos, "--gallery", gallery).status == 0
    # Only a process of its own writes bytes.
    arguments = ("search", "red", "--gallery", gallery, "--json", "--html", page)
    outcome = run_process(*arguments, folder=tmp_path)
    assert outcome.status == 0, outcome.err
    (hit,) = json.loads(outcome.out)["results"]
    assert os.fsencode(hit["path"]) == name
    assert "caf\N{REPLACEMENT CHARACTER}.png" in page.read_text(encoding="utf-8")


def test_damaged_files_end_in_status_1(aurora: Aurora, indexed: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(indexed.parent / "photos", tmp_path / "photos"))
    (photos / "p0003.jpg").write_bytes(b"no picture")
    outcome = aurora("index", photos, "--gallery", tmp_path / "g.aurora")
    assert outcome.status == 1
    assert outcome.err.startswith(f"aurora: {photos / 'p0003.jpg'} is not a picture")
    assert "13 added; 1 damaged" in outcome.out


def test_a_video_is_cut_and_its_stretches_are_found(
    aurora: Aurora, indexed: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "g.aurora"
    photos = indexed.parent / "photos"
    options = ("--segment", "0.5s", "--frames", 2)
    assert aurora("index", photos, "--gallery", gallery, *options).status == 0
    outcome = aurora("search", "a star", "--gallery", gallery, "--kind", "video", "--json")
    assert {(hit["from"], hit["to"]) for hit in outcome.json["results"]} >= {(0.5, 1.0)}
    other = aurora("index", photos, "--gallery", gallery, "--segment", "2")
    assert other.status == 2
    assert "was made with --frames 2 and --segment 0.5s" in other.err
    assert aurora("index", photos, "--gallery", gallery).status == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["index", "absent", "--gallery", "g.aurora"], "absent does not exist; give a folder"),
        (["index", ".", "--gallery", "g.aurora"], "holds no pictures or videos"),
        (["index", ".", "--gallery", "g.aurora", "--segment", "long"], "long is no duration"),
        (["index", ".", "--gallery", "milvus:g.aurora"], "must name a file that ends in .db"),
        (["search", "a", "--gallery", "absent.aurora"], "absent.aurora does not exist; aurora"),
        (["search", "a", "--gallery", "text.aurora"], "cannot be opened as a gallery"),
        (["search", "a", "--gallery", "milvus:absent.db"], "absent.db does not exist; aurora"),
    ],
)
def test_wrong_input_is_a_sentence(
    aurora: Aurora,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.aurora").write_text("no gallery " * 100)
    outcome = aurora(*arguments)
    assert outcome.status == 2
    assert sentence in outcome.err
    assert not (tmp_path / "absent.aurora").exists()


def test_a_gallery_in_milvus(aurora: Aurora, indexed: Path, tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite", reason="the extra milvus is not installed")
    uri = f"milvus:{tmp_path / 'photos.db'}"
    photos = indexed.parent / "photos"
    assert aurora("index", photos, "--gallery", uri).status == 0
    assert aurora("index", photos, "--gallery", uri, "--json").json["unchanged"] == 14
    for query in (photos / "p0003.jpg", "a red star"):
        one, other = (
            aurora("search", query, "--gallery", gallery, "--json").json["results"]
            for gallery in (uri, indexed)
        )
        assert [hit["path"] for hit in one] == [hit["path"] for hit in other]
        assert one[0]["score"] == pytest.approx(other[0]["score"], abs=1e-3)
