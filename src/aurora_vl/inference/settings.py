"""What a run's recipe, which train leaves beside the adapter, says of how it was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aurora_vl.errors import UserError


@dataclass(frozen=True, slots=True)
class TrainedAt:
    """What media and texts were made of in training, each None where no recipe tells it.

    Attributes:
        image_size: pixels along a side.
        frames: taken of a video.
        max_words: of a text that are kept.
        seed: of the run.
        questions: whether it was the training questions or the validation questions, too
            (`data.train_on`).
        data: the layout, and where its lists lay.
    """

    image_size: int | None = None
    frames: int | None = None
    max_words: int | None = None
    seed: int | None = None
    questions: str | None = None
    data: tuple[str | None, str | None] = (None, None)


def trained_at(adapter: Path) -> TrainedAt:
    """What the recipe beside an adapter's folder says, if it is there.

    Raises:
        UserError: the recipe cannot be read.
    """
    recipe = stored_recipe(adapter.resolve().parent)
    return TrainedAt(
        image_size=_number(recipe, "image_size"),
        frames=_number(recipe, "data", "frames"),
        max_words=_number(recipe, "data", "max_words"),
        seed=_number(recipe, "training", "seed"),
        questions=_text(recipe, "data", "train_on"),
        data=(_text(recipe, "data", "kind"), _text(recipe, "data", "annotations")),
    )


def stored_recipe(run: Path) -> dict[str, Any]:
    """What recipe.yaml in a run's folder holds, as plain values; nothing where there is none.

    Raises:
        UserError: it cannot be read.
    """
    path = run / "recipe.yaml"
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
    else:
        if isinstance(recipe, dict):
            return recipe
        reason = "it holds no keys and values"
    raise UserError(f"{path}, a run's recipe, cannot be read ({reason}); mend or remove it.")


def _number(recipe: Any, *keys: str) -> int | None:
    value = _value(recipe, *keys)
    return value if isinstance(value, int) else None


def _text(recipe: Any, *keys: str) -> str | None:
    value = _value(recipe, *keys)
    return value if isinstance(value, str) else None


def _value(recipe: Any, *keys: str) -> Any:
    value = recipe
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
