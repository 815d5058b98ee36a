"""Whether a recipe's data and backbone go together: what check-data warns of beside damaged files.

Some published checkpoints were already fine-tuned on a benchmark. Scored on it again they show what
that fine-tuning reached, whatever is trained now.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from aurora_vl.data.records import Splits
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks import kind_of


@dataclass(frozen=True, slots=True)
class _Tuned:
    """Published checkpoints that were fine-tuned on a benchmark.

    Attributes:
        names: parts of their file names or hub ids; one of them is enough.
        kinds: the values of `data.kind` that are concerned.
        trained_on: what they have seen, in words.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    trained_on: str


_TUNED = (
    _Tuned(
        ("model_vqa", "model_base_vqa", "blip-vqa-"),
        ("vqav2",),
        "VQAv2's training and validation questions and Visual Genome's",
    ),
    _Tuned(
        ("retrieval_coco", "blip-itm-base-coco", "blip-itm-large-coco"),
        ("coco",),
        "COCO's training captions",
    ),
    _Tuned(
        ("retrieval_flickr", "blip-itm-base-flickr", "blip-itm-large-flickr"),
        ("flickr30k",),
        "Flickr30k's training captions",
    ),
)


def data_warnings(recipe: Recipe, splits: Splits[Any]) -> list[str]:
    """Sentences about what makes a score on this data mean something else than it seems to.

    Args:
        recipe: resolved.
        splits: its data.
    """
    return [*_trained_already(recipe, splits), *kind_of(recipe).warnings(recipe, splits)]


def _trained_already(recipe: Recipe, splits: Splits[Any]) -> list[str]:
    # of a path only the last parts: a folder above may be called anything
    name = "/".join(PurePath(recipe.backbone).parts[-2:]).lower()
    return [
        f"the backbone {recipe.backbone} was already fine-tuned on {tuned.trained_on}; a score on "
        f"{recipe.data.kind}'s {splits.scored} split is no measure of this recipe's tuning alone"
        for tuned in _TUNED
        if recipe.data.kind in tuned.kinds and any(part in name for part in tuned.names)
    ]
