"""Fixtures of a run of seconds: a tiny backbone's folder, a handful of JPEGs, a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_blip import COLOURS, THINGS, save_backbone

from aurora_vl.recipes.recipe import Recipe, load_recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 backbone with dropout, which training must repeat on resuming."""
    return save_backbone(tmp_path_factory.mktemp("backbone"), dropout=0.1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 training pairs of 9 pictures; 4 pictures each for validation and test."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    splits = {"train": [2, 1, 1, 3, 1, 1, 1, 2, 1], "val": [1] * 4, "test": [1, 2, 1, 1]}
    for split, counts in splits.items():
        lines = []
        for number, count in enumerate(counts):
            name = f"{split}-{number}.jpg"
            pixels = rng.integers(0, 256, (24, 28, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name)
            captions = [
                f"a {rng.choice(COLOURS)} {rng.choice(THINGS)} on a {rng.choice(THINGS)}"
                for _ in range(count)
            ]
            lines.append(json.dumps({"image": name, "caption": captions}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def make_recipe(tmp_path: Path, backbone: Path, data: Path) -> MakeRecipe:
    """A recipe of three epochs of 4 steps, validated and checkpointed after 3, 6, 9 and 12.

    Args are settings as on the command line; the run's folder is `tmp_path / output`.
    """

    def make(*settings: str, output: str = "run") -> Recipe:
        raw = {
            "backbone": str(backbone),
            "adapter": {"method": "aurora"},
            "objective": {"queue": 6, "momentum": 0.9},
            "data": {"kind": "jsonl", "annotations": str(data), "media": str(data)},
            "training": {
                "epochs": 3,
                "batch_size": 4,
                "validations": 4,
                "output": str(tmp_path / output),
            },
            "evaluation": {"rerank": 3},
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(raw))
        # Set on the command line, so that they hold for whichever method is asked for there.
        return load_recipe(str(path), ["adapter.rank=4", "training.learning_rate=0.01", *settings])

    return make
