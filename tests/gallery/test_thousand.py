"""A gallery of 1,000 pictures and 20 videos finds what is asked for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from galleries import SPEC, write_world
from PIL import Image

from aurora_vl.data.synthetic.contents import scenes
from aurora_vl.data.synthetic.files import write_picture
from aurora_vl.data.synthetic.grammar import caption
from aurora_vl.data.synthetic.scenes import Scene
from aurora_vl.gallery.gallery import Gallery
from aurora_vl.inference.retriever import Retriever

pytestmark = pytest.mark.slow
PICTURES, QUERIES = 1_000, 100


def distinct_scenes() -> Iterator[tuple[str, Scene, str]]:
    """File names, scenes of which no two have the same objects and background, and captions."""
    seen = set()
    for scene, rng in scenes(SPEC, "test"):
        what = scene.signature, scene.background
        if what not in seen:
            yield f"p{len(seen):04}.jpg", scene, caption(scene, rng)
            seen.add(what)


@pytest.fixture(scope="module")
def captions() -> dict[str, str]:
    """Of every tenth picture."""
    told = islice(distinct_scenes(), 0, PICTURES, PICTURES // QUERIES)
    return {name: text for name, _, text in told}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thousand")
    for name, scene, _ in islice(distinct_scenes(), PICTURES):
        write_picture(folder / name, scene, SPEC)
    write_world(folder, pictures=0, videos=20)
    return folder


@pytest.fixture(scope="module")
def gallery(
    tmp_path_factory: pytest.TempPathFactory, photos: Path, retriever: Retriever
) -> Iterator[Gallery]:
    with Gallery.open(tmp_path_factory.mktemp("gallery") / "g.aurora") as opened:
        assert opened.add_folder(photos, retriever).items == PICTURES + 20
        assert opened.add_folder(photos, retriever).items == 0
        yield opened


def test_words_find_the_right_picture_first(
    gallery: Gallery, captions: dict[str, str], retriever: Retriever
) -> None:
    right = 0
    for name, text in captions.items():
        (hit,) = gallery.search(text, retriever, top=1, rerank=20)
        right += Path(hit.item.path).name == name
    assert right >= 90


def test_a_changed_copy_finds_its_picture_first(
    gallery: Gallery, captions: dict[str, str], photos: Path, retriever: Retriever
) -> None:
    right = 0
    for name in captions:
        copy = io.BytesIO()
        Image.open(photos / name).resize((80, 80)).save(copy, "JPEG", quality=70)
        (hit,) = gallery.search(copy.getvalue(), retriever, top=1)
        right += Path(hit.item.path).name == name
    assert right >= 95
