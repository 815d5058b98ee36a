"""What each task of a recipe means; the one place where a task's name is looked up."""

from __future__ import annotations

from typing import Any

from aurora_vl.training.kinds.answering import AnsweringKind
from aurora_vl.training.kinds.base import Outcome, TaskKind
from aurora_vl.training.kinds.retrieval import RetrievalKind
from aurora_vl.training.recipe import Recipe

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
