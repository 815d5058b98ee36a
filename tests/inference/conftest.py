"""Small pictures, videos and adapters over the mini foundation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_adapters import save_adapter
from videos import write_frames


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters for retrieval."""
    folder = tmp_path_factory.mktemp("adapters")
    return {name: save_adapter(folder / name, "retrieval", n) for n, name in enumerate("ab")}


@pytest.fixture(scope="session")
def asking(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters for questions."""
    folder = tmp_path_factory.mktemp("asking")
    return {name: save_adapter(folder / name, "vqa", n) for n, name in enumerate("ab")}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Nine different pictures of several sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = [folder / f"{n}.png" for n in range(9)]
    for n, path in enumerate(paths):
        blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8).repeat(16 + n, 0).repeat(16, 1)
        Image.fromarray(blocks).save(path)
    return paths


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three videos of twelve frames that change."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(1)
    return [
        write_frames(
            folder / f"{n}.mp4",
            list(rng.integers(0, 256, (12, 2, 2, 3), dtype=np.uint8).repeat(32, 1).repeat(32, 2)),
        )
        for n in range(3)
    ]
