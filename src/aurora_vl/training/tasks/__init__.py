"""What each task of a recipe means; the one place where a task's name is looked up."""

from __future__ import annotations

from typing import Any

from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks.answering import AnsweringKind
from aurora_vl.training.tasks.base import Outcome, TaskKind
from aurora_vl.training.tasks.retrieval import RetrievalKind

__all__ = ["KINDS", "Outcome", "TaskKind", "kind_of"]

KINDS: dict[str, TaskKind[Any]] = {
    "retrieval": RetrievalKind(media="image", world="coco"),
    "video-retrieval": RetrievalKind(media="video", world="msrvtt"),
    "vqa": AnsweringKind(media="image", world="vqav2"),
    "video-qa": AnsweringKind(media="video", world="msrvtt-qa"),
}


def kind_of(recipe: Recipe) -> TaskKind[Any]:
    """The meaning of a recipe's task."""
    return KINDS[recipe.task]
