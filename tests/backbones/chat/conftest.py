"""Tiny chat models, a folder of each class."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_chat_models import save_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a kind's tiny model."""
    root = tmp_path_factory.mktemp("chat")
    return cache(lambda kind: save_tiny(kind, root / kind))


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Three pictures of different shapes."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
        for size in ((40, 60), (64, 30), (32, 32))
    ]
