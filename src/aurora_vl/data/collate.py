"""From items to a batch: captions become token ids, padded to the batch's longest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aurora_vl.data.datasets import RetrievalItem

MAX_TOKENS = 35


class Tokenizer(Protocol):
    """What is asked of a tokenizer; any of transformers' fast ones will do."""

    def __call__(
        self,
        text: list[str],
        /,
        *,
        padding: bool,
        truncation: bool,
        max_length: int,
        return_tensors: str,
    ) -> Mapping[str, Tensor]:
        """Return at least `input_ids` and `attention_mask`, int64 (B, L)."""
        ...


class RetrievalCollator:
    """Collate items of `RetrievalTrainSet`.

    Args:
        tokenizer: turns captions into ids.
        max_tokens: captions are cut to so many tokens; shorter batches are not padded to it.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int = MAX_TOKENS) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    def __call__(self, items: Sequence[RetrievalItem]) -> dict[str, Tensor]:
        """Return one batch of b media with k captions each, B = b * k pairs.

        Returns:
            pixel_values uint8 (b, 3, S, S), of videos (b, T, 3, S, S); input_ids and
            attention_mask int64 (B, L), those of the first medium, of the second and so on, L the
            longest caption's length; media_index int64 (B,); uniforms float32 (B, 2); augment_seed
            int64 (b,).
        """
        tokens = self.tokenizer(
            [caption for item in items for caption in item["captions"]],
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return {
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "media_index": torch.tensor(
                [item["media_index"] for item in items for _ in item["captions"]]
            ),
            "uniforms": torch.from_numpy(np.concatenate([item["uniforms"] for item in items])),
            "augment_seed": torch.tensor([item["augment_seed"] for item in items]),
        }
