"""How much of a text is kept, and how many of a recipe's texts are longer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from aurora_vl.backbones.families import family_by_name
from aurora_vl.data.check import Cut, count_cut
from aurora_vl.data.text import count_words
from aurora_vl.errors import UserError
from aurora_vl.inference.settings import AdapterSettings
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks import kind_of
from aurora_vl.training.tasks.base import common_settings

log = logging.getLogger(__name__)


class TextLimit(NamedTuple):
    """What tells whether a text is cut.

    Attributes:
        cut: see there.
        warning: a sentence where it does not see every cut; else None.
    """

    cut: Cut
    warning: str | None


def text_limit(recipe: Recipe) -> TextLimit:
    """What a recipe's backbone cuts off; of the backbone the weights are not read.

    Without its configuration and tokenizer, which may lie on another machine, words are counted.

    Args:
        recipe: resolved.
    """
    try:
        return TextLimit(_cut(recipe), None)
    except UserError as error:
        reason = str(error).rstrip(".")
    warning = f"texts that are cut are counted by their words, not by their tokens: {reason}"
    return TextLimit(lambda text, _: count_words(text) > recipe.max_words, warning)


def _cut(recipe: Recipe) -> Cut:
    name, family = recipe.backbone, family_by_name(recipe.backbone)
    config = family.load_config(name, recipe.image_size)
    tokenizer = family.tokenizer(name)
    with torch.device("meta"):
        model = family.empty_model(kind_of(recipe).model, config)
    settings = AdapterSettings(**common_settings(recipe)).preparation()
    return family.preprocessor(model, tokenizer, settings).cut


def warn_of_cut_texts(recipe: Recipe, records: Sequence[Any], cut: Cut) -> None:
    """Say how many training texts something is cut off of, where there are such.

    Args:
        recipe: resolved.
        records: of training.
        cut: the preprocessor's.
    """
    count = count_cut(records, cut)
    if count:
        data = recipe.data
        log.warning(
            f"{count:,} training {kind_of(recipe).texts} are longer than what is kept of them "
            f"({_kept(data.max_words, 'max_words')}, {_kept(data.max_tokens, 'max_tokens')})"
        )


def _kept(most: int | None, key: str) -> str:
    return f"data.{key}: {'as many as the model takes' if most is None else most}"
