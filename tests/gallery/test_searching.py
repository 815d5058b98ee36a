from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aurora_vl.errors import UserError
from aurora_vl.gallery.gallery import Gallery
from aurora_vl.gallery.items import Filter
from aurora_vl.gallery.searching import Hit, Query
from aurora_vl.inference.retriever import Retriever


@pytest.fixture(scope="module")
def gallery(
    tmp_path_factory: pytest.TempPathFactory, world: Path, retriever: Retriever
) -> Iterator[Gallery]:
    """The world, and a smaller copy of one of its pictures."""
    folder = tmp_path_factory.mktemp("searched")
    photos = Path(shutil.copytree(world, folder / "photos"))
    os.utime(photos / "p0001.jpg", ns=(0, 1_000))
    copy = Image.open(photos / "p0004.jpg").resize((48, 48))
    copy.save(photos / "small.jpg", quality=70)
    with Gallery.open(folder / "gallery.aurora") as opened:
        opened.add_folder(photos, retriever)
        yield opened


def names(hits: list[Hit]) -> list[str]:
    return [Path(hit.item.path).name for hit in hits]


def picture_of(gallery: Gallery, name: str) -> Path:
    return next(Path(i.path) for i in gallery.items() if i.path.endswith(name))


def test_words_find_what_they_are_nearest_to(gallery: Gallery, retriever: Retriever) -> None:
    pictures = [Path(item.path) for item in gallery.items() if item.kind == "image"]
    (words,) = retriever.encode_texts(["two red stars"])
    scores = retriever.encode_images(pictures) @ words
    hits = gallery.search("two red stars", retriever, top=5, where=Filter(kind="image"))
    assert names(hits) == [pictures[place].name for place in np.argsort(-scores)[:5]]
    np.testing.assert_allclose([h.score for h in hits], np.sort(scores)[::-1][:5], atol=2e-3)


@pytest.mark.parametrize("form", [Path, Image.open, Path.read_bytes])
def test_a_picture_in_any_form_finds_itself(
    gallery: Gallery, retriever: Retriever, form: object
) -> None:
    assert callable(form)
    query = form(picture_of(gallery, "p0007.jpg"))
    assert names(gallery.search(query, retriever, top=1)) == ["p0007.jpg"]


def test_a_changed_copy_finds_the_picture(gallery: Gallery, retriever: Retriever) -> None:
    buffer = io.BytesIO()
    Image.open(picture_of(gallery, "p0009.jpg")).resize((90, 80)).save(buffer, "JPEG", quality=60)
    assert names(gallery.search(buffer.getvalue(), retriever, top=1)) == ["p0009.jpg"]


def test_a_video_finds_itself(gallery: Gallery, retriever: Retriever) -> None:
    hits = gallery.search(picture_of(gallery, "v0001.mp4"), retriever, top=1)
    assert names(hits) == ["v0001.mp4"]


def test_words_and_a_picture_are_weighed(gallery: Gallery, retriever: Retriever) -> None:
    picture = picture_of(gallery, "p0007.jpg")
    for weight, alone in ((0.0, Query("a cup")), (1.0, Query(picture=picture))):
        both = gallery.search(Query("a cup", picture, weight), retriever, top=5)
        only = gallery.search(alone, retriever, top=5)
        assert names(both) == names(only)
    vector = Query("a cup", picture, 0.25).vector(retriever, None)
    mixed = 0.75 * retriever.encode_texts(["a cup"]) + 0.25 * retriever.encode_images([picture])
    np.testing.assert_allclose(vector, (mixed / np.linalg.norm(mixed))[0], atol=1e-6)


def test_what_is_not_wanted_comes_later(gallery: Gallery, retriever: Retriever) -> None:
    query = "a picture of a star with snow in the background"
    plain = gallery.search(query, retriever, top=15)
    unwanted = retriever.encode_texts(["a picture with snow in the background"])[0]
    without = gallery.search(
        Query(query, without="a picture with snow in the background"), retriever, top=15
    )

    def nearness(hits: list[Hit]) -> float:
        """To what is not wanted, of the better half."""
        pictures = [hit.item.path for hit in hits if hit.item.kind == "image"][:6]
        return float((retriever.encode_images(pictures) @ unwanted).mean())

    assert names(plain) != names(without)
    assert nearness(without) < nearness(plain)


def test_filters(gallery: Gallery, retriever: Retriever) -> None:
    videos = gallery.search("a star", retriever, top=20, where=Filter(kind="video"))
    assert sorted(names(videos)) == ["v0000.mp4", "v0001.mp4"]
    old = gallery.search("a star", retriever, top=20, where=Filter(before=2_000))
    assert names(old) == ["p0001.jpg"]
    folder = str(picture_of(gallery, "p0001.jpg").parent)
    assert len(gallery.search("a star", retriever, top=20, where=Filter(folder=folder))) == 15
    assert gallery.search("a star", retriever, where=Filter(folder="/nowhere")) == []


def test_the_matching_head_puts_the_first_in_order(gallery: Gallery, retriever: Retriever) -> None:
    first = gallery.search("two red stars", retriever, top=8)
    hits = gallery.search("two red stars", retriever, top=3, rerank=8)
    (scores,) = retriever.match(["two red stars"], [hit.item.path for hit in first])
    order = np.argsort(-scores, kind="stable")[:3]
    assert names(hits) == [names(first)[place] for place in order]
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=1e-4)


def test_pictures_that_look_the_same_are_folded(gallery: Gallery, retriever: Retriever) -> None:
    query = picture_of(gallery, "p0004.jpg")
    assert names(gallery.search(query, retriever, top=2)) == ["p0004.jpg", "small.jpg"]
    folded = gallery.search(query, retriever, top=15, fold=True)
    assert "small.jpg" not in names(folded)
    assert len(folded) == 14
    assert [Path(item.path).name for item in folded[0].duplicates] == ["small.jpg"]
    assert len(gallery.search(query, retriever, top=2, fold=True)) == 2


def test_a_hit_in_json(gallery: Gallery, retriever: Retriever) -> None:
    (hit,) = gallery.search(picture_of(gallery, "p0001.jpg"), retriever, top=1)
    content = hit.to_json()
    assert content == {
        "path": str(picture_of(gallery, "p0001.jpg")),
        "score": pytest.approx(1.0, abs=1e-3),
        "kind": "image",
        "id": content["id"],
        "size": picture_of(gallery, "p0001.jpg").stat().st_size,
        "modified": "1970-01-01T00:00:00+00:00",
    }
    assert gallery.item(content["id"]) == hit.item
    assert gallery.item("0" * 16) is None
    assert gallery.item("../../etc/passwd") is None


def test_files_that_are_gone_are_not_matched(
    tmp_path: Path, world: Path, retriever: Retriever
) -> None:
    photos = Path(shutil.copytree(world, tmp_path / "photos"))
    with Gallery.open(tmp_path / "g.aurora") as opened:
        opened.add_folder(photos, retriever)
        (photos / "p0002.jpg").unlink()
        assert "p0002.jpg" in names(opened.search("a star", retriever, top=20))
        assert "p0002.jpg" not in names(opened.search("a star", retriever, top=20, rerank=20))


@pytest.mark.parametrize(
    ("query", "options", "sentence"),
    [
        (" ", {}, "has no words"),
        (Query(), {}, "nothing is searched for"),
        (Query("a", b"", 2.0), {}, "weight 2 of the picture is not between 0 and 1"),
        ("a star", {"top": 0}, "must be positive"),
        (b"no picture", {}, "is not a picture that can be read"),
    ],
)
def test_wrong_queries(
    gallery: Gallery,
    retriever: Retriever,
    query: str | bytes | Query,
    options: dict[str, int],
    sentence: str,
) -> None:
    with pytest.raises(UserError, match=sentence):
        gallery.search(query, retriever, **options)  # type: ignore[arg-type]


def test_the_matching_head_needs_words(gallery: Gallery, retriever: Retriever) -> None:
    with pytest.raises(UserError, match="compares with words"):
        gallery.search(picture_of(gallery, "p0001.jpg"), retriever, rerank=5)


def test_a_backbone_the_gallery_was_not_indexed_with(gallery: Gallery) -> None:
    with pytest.raises(UserError, match=r"was not indexed with this backbone.*it was with: mini"):
        gallery.search("a star", Retriever.load("mini", image_size=96))
