"""A generated world of pictures and videos, and the mini foundation to embed it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from galleries import write_world

from aurora_vl.gallery.gallery import Gallery
from aurora_vl.inference.retriever import Retriever


@pytest.fixture(scope="session")
def retriever() -> Retriever:
    return Retriever.load("mini")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures and two videos; not to be changed."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, pictures=12, videos=2)
    return folder


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "gallery.aurora") as opened:
        yield opened
