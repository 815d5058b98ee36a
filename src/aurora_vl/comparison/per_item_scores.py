"""What each test item contributes to the score, small enough to be kept of every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aurora_vl.evaluation.recall import query_recall

_RANKED = ("media_to_text", "text_to_media")
_SCORED = "scores"


def items_of(predictions: Any) -> dict[str, list[float]]:
    """The rank of each query by direction, or the score of each answer.

    Args:
        predictions: contents of predictions.json, of retrieval or of question answering.
    """
    if isinstance(predictions, dict):
        return {side: [query["rank"] for query in predictions[side]] for side in _RANKED}
    return {_SCORED: [answer["score"] for answer in predictions]}


def queries_of(predictions: Any) -> list[Any]:
    """What was asked, in the order of `items_of`: runs are paired by it."""
    if isinstance(predictions, dict):
        sides = zip(_RANKED, ("media", "text"), strict=True)
        return [[query[what] for query in predictions[side]] for side, what in sides]
    return [[answer["question_id"], answer["media"]] for answer in predictions]


def media_of(predictions: Any) -> dict[str, list[int]]:
    """The number of the medium that each query of `items_of` is about, alike in all directions."""
    numbers: dict[str, int] = {}

    def number(medium: str) -> int:
        return numbers.setdefault(medium, len(numbers))

    if isinstance(predictions, dict):
        sides = zip(_RANKED, ("media", "of"), strict=True)
        return {side: [number(query[what]) for query in predictions[side]] for side, what in sides}
    return {_SCORED: [number(answer["media"]) for answer in predictions]}


def item_scores(items: Mapping[str, Sequence[float]]) -> list[NDArray[np.float64]]:
    """The score of each item in percent, by groups whose means count equally.

    Args:
        items: of `items_of`.
    """
    if _SCORED in items:
        return [100.0 * np.array(items[_SCORED], dtype=np.float64)]
    return [np.asarray(query_recall(np.array(items[side]))) for side in _RANKED]
