"""What a `Retriever` works with and gives: tokenised texts, features on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aurora_vl.backbones.base import TextInputs
from aurora_vl.errors import UserError

BATCH_SIZE = 64
"""Pictures, frames of videos, or texts encoded at once."""


@dataclass(frozen=True)
class TextSet:
    """Tokenised texts on the model's device.

    Attributes:
        inputs: ids and mask, padded to the longest.
        lengths: (N,) tokens of each text, on the host.
    """

    inputs: TextInputs
    lengths: Tensor

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.lengths)

    def select(self, rows: Tensor, longest: int | None = None) -> TextInputs:
        """Some of the texts, cut to a length."""
        ids, mask = self.inputs["input_ids"], self.inputs["attention_mask"]
        return TextInputs(input_ids=ids[rows, :longest], attention_mask=mask[rows, :longest])


@dataclass(frozen=True)
class Encoded:
    """What became of one item of a stream.

    Attributes:
        index: its place in the stream.
        vectors: its features (D,) by adapter, float32; empty if it could not be decoded.
        error: why not.
    """

    index: int
    vectors: Mapping[str | None, NDArray[np.float32]]
    error: UserError | None = None


def host_features(features: Tensor) -> NDArray[np.float32]:
    """Features on the host in float32; of a narrower type, brought to unit length again."""
    if features.dtype not in (torch.float32, torch.float64):
        features = torch.nn.functional.normalize(features.float(), dim=-1)
    found: NDArray[np.float32] = features.float().cpu().numpy()
    return found
