"""Questions for torch's DataLoader: the training set.

As for captions, every random number of an item comes from (seed, epoch, item).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from aurora_vl.data.answers import shares_of_votes
from aurora_vl.data.datasets import OnError, TrainSet
from aurora_vl.data.media import MediaTransform, load_media
from aurora_vl.data.readers.visual_genome import SOURCE as GENOME
from aurora_vl.data.records import QuestionRecord
from aurora_vl.errors import UserError


class AnsweredQuestion(NamedTuple):
    """A question as written, and its different answers, cleaned, with the weight of each."""

    question: str
    answers: list[str]
    weights: list[float]


class QuestionItem(TypedDict):
    """A medium with questions about it.

    Keys: media, what the transform made of it; asked; augment_seed >= 0.
    """

    media: Any
    asked: list[AnsweredQuestion]
    augment_seed: int


class QuestionTrainSet(TrainSet[QuestionItem]):
    """Items of a medium with questions that have an answer.

    Args:
        records: the training split.
        transform: makes an item of a decoded medium.
        seed: of the run.
        questions_per_item: at most so many questions about one medium share an item, in the order
            of the records; 1 gives an item for each question, as BLIP trains on VQAv2.
        answer_weight: an answer weighs this times its share of the votes.
        genome_weight: the same for Visual Genome's questions.
        on_error: as in `TrainSet`.

    Raises:
        UserError: no question has an answer.
    """

    def __init__(
        self,
        records: Sequence[QuestionRecord],
        transform: MediaTransform,
        *,
        seed: int,
        questions_per_item: int = 1,
        answer_weight: float = 1.0,
        genome_weight: float = 0.2,
        on_error: OnError = "stop",
    ) -> None:
        answered = [record for record in records if shares_of_votes(record)]
        self.items = _grouped(answered, questions_per_item)
        self.transform = transform
        self.answer_weight = answer_weight
        self.genome_weight = genome_weight
        if not self.items:
            raise UserError(
                "the training split has no answered question: check data.annotations and data.media"
            )
        super().__init__(len(self.items), seed=seed, on_error=on_error)

    def path_of(self, index: int) -> Path:
        """The picture or video of item `index`."""
        return self.items[index][0].path

    def load_item(self, index: int, rng: np.random.Generator) -> QuestionItem:
        """Load item `index` (see `QuestionItem`)."""
        # Drawn before the crop, which takes a varying number of draws.
        augment_seed = int(rng.integers(2**63 - 1))
        records = self.items[index]
        return QuestionItem(
            media=load_media(records[0], self.transform, rng),
            asked=[self._answered(record) for record in records],
            augment_seed=augment_seed,
        )

    def _answered(self, record: QuestionRecord) -> AnsweredQuestion:
        weight = self.genome_weight if record.source == GENOME else self.answer_weight
        shares = shares_of_votes(record)
        return AnsweredQuestion(
            record.question,
            list(shares),
            [weight * share for share in shares.values()],
        )


def _grouped(records: Sequence[QuestionRecord], together: int) -> list[list[QuestionRecord]]:
    """Records about one medium, so many together at most, in the order of their first."""
    groups: list[list[QuestionRecord]] = []
    growing: dict[Path, list[QuestionRecord]] = {}
    for record in records:
        group = growing.get(record.path)
        if group is None or len(group) == together:
            group = growing[record.path] = []
            groups.append(group)
        group.append(record)
    return groups
