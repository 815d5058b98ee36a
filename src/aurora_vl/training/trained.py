"""What a run's recipe, which train leaves beside the adapter, says of how it was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aurora_vl.errors import UserError


@dataclass(frozen=True, slots=True)
class TrainedAt:
    """The sizes an adapter was trained at, each None where no recipe tells it.

    Attributes:
        image_size: pixels along a side.
        frames: taken of a video.
    """

    image_size: int | None = None
    frames: int | None = None


def trained_at(adapter: Path) -> TrainedAt:
    """The sizes in the recipe beside an adapter's folder, if it is there.

    Raises:
        UserError: the recipe cannot be read.
    """
    path = adapter.resolve().parent / "recipe.yaml"
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return TrainedAt()
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}, the recipe beside the adapter, cannot be read ({reason}); mend or remove it."
        ) from None
    return TrainedAt(_number(recipe, "image_size"), _number(recipe, "data", "frames"))


def _number(recipe: Any, *keys: str) -> int | None:
    value = recipe
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) else None
