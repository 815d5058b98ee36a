"""Files that several tests of the data layer write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

WriteLines = Callable[[str, list[Any]], Path]


@pytest.fixture
def write_lines(tmp_path: Path) -> WriteLines:
    """Write entries, one JSON value (or a raw string) a line."""

    def write(name: str, entries: list[Any]) -> Path:
        lines = [e if isinstance(e, str) else json.dumps(e) for e in entries]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[[str, Any], Path]:
    def write(name: str, value: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_pictures(tmp_path: Path) -> Callable[..., list[str]]:
    """Write small noisy PNG files and return their names."""

    def write(count: int, width: int = 24, height: int = 16) -> list[str]:
        rng = np.random.default_rng(0)
        names = [f"{index}.png" for index in range(count)]
        for name in names:
            values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / name)
        return names

    return write
