"""The mini foundation with adapters over a small generated gallery, behind a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from random_adapters import save_adapter
from served import ServedClient, serving

from aurora_vl.gallery.gallery import Gallery
from aurora_vl.inference.retriever import Retriever
from aurora_vl.serving.engine import Engine, load_engine
from aurora_vl.serving.sample import sample_gallery


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the gallery, its media and adapters."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def engine(folder: Path) -> Iterator[Engine]:
    """Two adapters to find with, two to ask, and a gallery of 40 pictures and 3 videos."""
    adapters = {name: save_adapter(folder / name, "retrieval", n) for n, name in enumerate("ab")}
    adapters |= {
        f"asks-{name}": save_adapter(folder / f"asks-{name}", "vqa", n)
        for n, name in enumerate("ab")
    }
    engine = load_engine("mini", adapters)
    assert engine.retriever is not None
    engine.gallery = sample_gallery(folder, engine.retriever, pictures=40, videos=3)
    yield engine
    engine.gallery.close()


@pytest.fixture(scope="session")
def client(engine: Engine) -> Iterator[ServedClient]:
    """A server with the usual limits that lets everybody in."""
    with serving(engine) as found:
        yield found


@pytest.fixture(scope="session")
def retriever(engine: Engine) -> Retriever:
    """The same that is served."""
    assert engine.retriever is not None
    return engine.retriever


@pytest.fixture(scope="session")
def gallery(engine: Engine) -> Gallery:
    """The same that is served."""
    assert engine.gallery is not None
    return engine.gallery


@pytest.fixture(scope="session")
def pictures(folder: Path) -> list[Path]:
    """Of the gallery."""
    return sorted(folder.glob("media-*/*.jpg"))


@pytest.fixture(scope="session")
def videos(folder: Path) -> list[Path]:
    """Of the gallery."""
    return sorted(folder.glob("media-*/*.mp4"))
