"""Questions for torch's DataLoader: the training set and its batches.

As for captions, every random number of an item comes from (seed, epoch, item).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from aurora_vl.data.answers import encode_answers, shares_of_votes
from aurora_vl.data.collate import MAX_TOKENS, Tokenizer
from aurora_vl.data.datasets import OnError, TrainSet
from aurora_vl.data.media import load_media
from aurora_vl.data.readers.visual_genome import SOURCE as GENOME
from aurora_vl.data.records import QuestionRecord
from aurora_vl.data.text import QUESTION_WORDS, clean_question
from aurora_vl.data.transforms import ImageTransform
from aurora_vl.errors import UserError


class AnsweredQuestion(NamedTuple):
    """A question, cleaned, and its answers, cleaned and different, with the weight of each."""

    question: str
    answers: list[str]
    weights: list[float]


class QuestionItem(TypedDict):
    """A medium with questions about it.

    Keys: pixel_values uint8 (3, S, S), or (T, 3, S, S) of a video; asked; augment_seed >= 0.
    """

    pixel_values: Tensor
    asked: list[AnsweredQuestion]
    augment_seed: int


class QuestionTrainSet(TrainSet[QuestionItem]):
    """Items of a medium with questions that have an answer.

    Args:
        records: the training split.
        transform: crop, size and number of frames.
        seed: of the run.
        questions_per_item: at most so many questions about one medium share an item, in the order
            of the records; 1 gives an item for each question, as BLIP trains on VQAv2.
        max_words: questions are cut to so many words.
        answer_weight: an answer weighs this times its share of the votes.
        genome_weight: the same for Visual Genome's questions.
        on_error: as in `TrainSet`.

    Raises:
        UserError: no question has an answer.
    """

    def __init__(
        self,
        records: Sequence[QuestionRecord],
        transform: ImageTransform,
        *,
        seed: int,
        questions_per_item: int = 1,
        max_words: int = QUESTION_WORDS,
        answer_weight: float = 1.0,
        genome_weight: float = 0.2,
        on_error: OnError = "stop",
    ) -> None:
        answered = [record for record in records if shares_of_votes(record)]
        self.items = _grouped(answered, questions_per_item)
        self.transform = transform
        self.max_words = max_words
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
            pixel_values=load_media(records[0], self.transform, rng),
            asked=[self._answered(record) for record in records],
            augment_seed=augment_seed,
        )

    def _answered(self, record: QuestionRecord) -> AnsweredQuestion:
        weight = self.genome_weight if record.source == GENOME else self.answer_weight
        shares = shares_of_votes(record)
        return AnsweredQuestion(
            clean_question(record.question, self.max_words),
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


class QuestionCollator:
    """Collate items of `QuestionTrainSet`.

    Args:
        tokenizer: turns questions and answers into ids.
        start: the id that answers begin with, [DEC].
        max_tokens: questions are cut to so many tokens.
    """

    def __init__(self, tokenizer: Tokenizer, start: int, max_tokens: int = MAX_TOKENS) -> None:
        self.tokenizer = tokenizer
        self.start = start
        self.max_tokens = max_tokens

    def __call__(self, items: Sequence[QuestionItem]) -> dict[str, Tensor]:
        """Return one batch of b media with B questions and S answers in all.

        Returns:
            pixel_values uint8 (b, 3, S, S) or (b, T, 3, S, S); question_ids and question_mask
            int64 (B, L), those about the first medium, about the second and so on;
            question_counts int64 (b,); answer_ids and answer_mask int64 (S, A), likewise of the
            questions; answer_counts int64 (B,); answer_weights float32 (S,); augment_seed int64
            (b,).
        """
        asked = [each for item in items for each in item["asked"]]
        questions = self.tokenizer(
            [each.question for each in asked],
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        answers = [answer for each in asked for answer in each.answers]
        answer_ids, answer_mask = encode_answers(self.tokenizer, answers, self.start)
        weights = [weight for each in asked for weight in each.weights]
        return {
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "question_ids": questions["input_ids"],
            "question_mask": questions["attention_mask"],
            "question_counts": torch.tensor([len(item["asked"]) for item in items]),
            "answer_ids": answer_ids,
            "answer_mask": answer_mask,
            "answer_counts": torch.tensor([len(each.answers) for each in asked]),
            "answer_weights": torch.tensor(weights),
            "augment_seed": torch.tensor([item["augment_seed"] for item in items]),
        }
