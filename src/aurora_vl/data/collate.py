"""From items to batches: media and texts as a preprocessor gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from aurora_vl.data.datasets import RetrievalItem
from aurora_vl.data.questions import QuestionItem


class BatchPreparation(Protocol):
    """What is asked of a model's preprocessor."""

    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Media of one kind as one batch."""
        ...

    def texts(self, texts: Sequence[str], role: Literal["caption", "question", "answer"]) -> Any:
        """Token ids and mask of texts, by name."""
        ...


class RetrievalCollator:
    """Collate items of `RetrievalTrainSet`.

    Args:
        preparation: the model's preprocessor.
    """

    def __init__(self, preparation: BatchPreparation) -> None:
        self.preparation = preparation

    def __call__(self, items: Sequence[RetrievalItem]) -> dict[str, Any]:
        """Return one batch of b media with k captions each, B = b * k pairs.

        Returns:
            media and texts as the model takes them, the captions of the first medium, of the
            second and so on; media_index int64 (B,); uniforms float32 (B, 2); augment_seed int64
            (b,).
        """
        captions = [caption for item in items for caption in item["captions"]]
        return {
            "media": self.preparation.collate([item["media"] for item in items]),
            "texts": self.preparation.texts(captions, "caption"),
            "media_index": torch.tensor(
                [item["media_index"] for item in items for _ in item["captions"]]
            ),
            "uniforms": torch.from_numpy(np.concatenate([item["uniforms"] for item in items])),
            "augment_seed": torch.tensor([item["augment_seed"] for item in items]),
        }


class QuestionCollator:
    """Collate items of `QuestionTrainSet`.

    Args:
        preparation: the model's preprocessor.
    """

    def __init__(self, preparation: BatchPreparation) -> None:
        self.preparation = preparation

    def __call__(self, items: Sequence[QuestionItem]) -> dict[str, Any]:
        """Return one batch of b media with B questions and S answers in all.

        Returns:
            media; questions, those about the first medium, about the second and so on;
            question_counts int64 (b,); answers, likewise of the questions; answer_counts int64
            (B,); answer_weights float32 (S,); augment_seed int64 (b,).
        """
        asked = [each for item in items for each in item["asked"]]
        answers = [answer for each in asked for answer in each.answers]
        weights = [weight for each in asked for weight in each.weights]
        return {
            "media": self.preparation.collate([item["media"] for item in items]),
            "questions": self.preparation.texts([each.question for each in asked], "question"),
            "question_counts": torch.tensor([len(item["asked"]) for item in items]),
            "answers": self.preparation.texts(answers, "answer"),
            "answer_counts": torch.tensor([len(each.answers) for each in asked]),
            "answer_weights": torch.tensor(weights),
            "augment_seed": torch.tensor([item["augment_seed"] for item in items]),
        }
