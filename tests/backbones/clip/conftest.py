"""Tiny models of every class in folders, and pictures of several sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import TWO_TOWERS, write_two_tower

TEXTS = ["a red cat", "two small blue dogs on a green ground", "a", "Large Red CAT, unheardof"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder by model type."""
    root = tmp_path_factory.mktemp("two-towers")
    return {kind: write_two_tower(kind, root / kind) for kind in TWO_TOWERS}


@pytest.fixture(params=TWO_TOWERS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    """Each of the folders; its name is the model type."""
    return folders[request.param]


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Five pictures, wide and tall."""
    rng = np.random.default_rng(0)
    sizes = [(40, 70), (70, 40), (33, 33), (20, 90), (64, 64)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Texts of several lengths, in capitals, and with a word that no tokenizer knows."""
    return TEXTS
