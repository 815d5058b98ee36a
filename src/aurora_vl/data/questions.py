"""Questions for torch's DataLoader: the training set and its batches.

As for captions, every random number of an item comes from (seed, epoch, item).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

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


class QuestionItem(TypedDict):
    """A question about a medium with its answers.

    Keys: pixel_values uint8 (3, S, S), or (T, 3, S, S) of a video; question, cleaned; answers,
    cleaned and different, with the weight of each; augment_seed >= 0.
    """

    pixel_values: Tensor
    question: str
    answers: list[str]
    weights: list[float]
    augment_seed: int


class QuestionTrainSet(TrainSet[QuestionItem]):
    """One item per question that has an answer.

    Args:
        records: the training split.
        transform: crop, size and number of frames.
        seed: of the run.
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
        max_words: int = QUESTION_WORDS,
        answer_weight: float = 1.0,
        genome_weight: float = 0.2,
        on_error: OnError = "stop",
    ) -> None:
        self.records = [record for record in records if shares_of_votes(record)]
        self.transform = transform
        self.max_words = max_words
        self.answer_weight = answer_weight
        self.genome_weight = genome_weight
        if not self.records:
            raise UserError(
                "the training split has no answered question: check data.annotations and data.media"
            )
        super().__init__(len(self.records), seed=seed, on_error=on_error)

    def path_of(self, index: int) -> Path:
        """The picture or video of question `index`."""
        return self.records[index].path

    def load_item(self, index: int, rng: np.random.Generator) -> QuestionItem:
        """Load question `index` (see `QuestionItem`)."""
        # Drawn before the crop, which takes a varying number of draws.
        augment_seed = int(rng.integers(2**63 - 1))
        record = self.records[index]
        weight = self.genome_weight if record.source == GENOME else self.answer_weight
        shares = shares_of_votes(record)
        return QuestionItem(
            pixel_values=load_media(record, self.transform, rng),
            question=clean_question(record.question, self.max_words),
            answers=list(shares),
            weights=[weight * share for share in shares.values()],
            augment_seed=augment_seed,
        )


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
        """Return one batch of B questions with S answers in all.

        Returns:
            pixel_values uint8 (B, 3, S, S) or (B, T, 3, S, S); question_ids and question_mask
            int64 (B, L); answer_ids and answer_mask int64 (S, A), those of the first question, of
            the second and so on; answer_counts int64 (B,); answer_weights float32 (S,);
            augment_seed int64 (B,).
        """
        questions = self.tokenizer(
            [item["question"] for item in items],
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        answers = [answer for item in items for answer in item["answers"]]
        answer_ids, answer_mask = encode_answers(self.tokenizer, answers, self.start)
        weights = [weight for item in items for weight in item["weights"]]
        return {
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "question_ids": questions["input_ids"],
            "question_mask": questions["attention_mask"],
            "answer_ids": answer_ids,
            "answer_mask": answer_mask,
            "answer_counts": torch.tensor([len(item["answers"]) for item in items]),
            "answer_weights": torch.tensor(weights),
            "augment_seed": torch.tensor([item["augment_seed"] for item in items]),
        }
