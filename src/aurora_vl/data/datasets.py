"""Data sets over records, for torch's DataLoader.

Every random number of a training item comes from (seed, epoch, item), so that workers, processes,
restarts and the order of batches change nothing (DESIGN.md 7.8 and 7.9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from aurora_vl.data.media import load_media
from aurora_vl.data.records import CaptionedMedia, QuestionRecord
from aurora_vl.data.text import CAPTION_WORDS, clean_caption
from aurora_vl.data.transforms import ImageTransform
from aurora_vl.errors import UserError


class RetrievalItem(TypedDict):
    """One (medium, caption) pair.

    Keys: pixel_values uint8 (3, S, S); caption, cleaned; media_index into the records, for telling
    duplicates; uniforms float32 (2,) in [0, 1) for drawing negatives; augment_seed >= 0.
    """

    pixel_values: Tensor
    caption: str
    media_index: int
    uniforms: np.ndarray
    augment_seed: int


class RetrievalTrainSet(Dataset[RetrievalItem]):
    """One item per (medium, caption) pair, as BLIP trains on COCO.

    Args:
        records: the training split; a record without captions gives no item.
        transform: crop and size.
        seed: of the run.
        max_words: captions are cut to so many words.

    Raises:
        UserError: no record has a caption.
    """

    def __init__(
        self,
        records: Sequence[CaptionedMedia],
        transform: ImageTransform,
        *,
        seed: int,
        max_words: int = CAPTION_WORDS,
    ) -> None:
        self.records = records
        self.transform = transform
        self.seed = seed
        self.max_words = max_words
        counts = [len(record.captions) for record in records]
        self._media = np.repeat(np.arange(len(records)), counts)
        self._caption = np.concatenate([np.arange(n) for n in counts] or [np.arange(0)])
        if not len(self._media):
            raise UserError(
                "the training split has no captioned media: check data.annotations and data.media"
            )
        # In shared memory, so that workers which live longer than an epoch see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next items are drawn for (from 0)."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self._media)

    def __getitem__(self, index: int) -> RetrievalItem:
        """Load pair `index` (see `RetrievalItem`)."""
        rng = item_rng(self.seed, int(self._epoch), index)
        # Drawn before the crop, which takes a varying number of draws.
        uniforms = rng.random(2, dtype=np.float32)
        augment_seed = int(rng.integers(2**63 - 1))
        media_index = int(self._media[index])
        record = self.records[media_index]
        return RetrievalItem(
            pixel_values=load_media(record, self.transform, rng),
            caption=clean_caption(record.captions[self._caption[index]], self.max_words),
            media_index=media_index,
            uniforms=uniforms,
            augment_seed=augment_seed,
        )


class MediaSet(Dataset[Tensor]):
    """The media of records without their texts, for evaluation: item i is uint8 (3, S, S).

    Args:
        records: in the order wanted; one item each.
        transform: without a random crop, or the crop is left out.
    """

    def __init__(
        self, records: Sequence[CaptionedMedia | QuestionRecord], transform: ImageTransform
    ) -> None:
        self.records = records
        self.transform = transform

    def __len__(self) -> int:
        """Count the media."""
        return len(self.records)

    def __getitem__(self, index: int) -> Tensor:
        """Load medium `index`."""
        return load_media(self.records[index], self.transform)


def caption_table(
    records: Sequence[CaptionedMedia], max_words: int = CAPTION_WORDS
) -> tuple[list[str], np.ndarray]:
    """List all captions of a split, cleaned, with the medium each belongs to.

    Returns:
        texts, and owners int64 (number of texts,): indices into `records`, ascending.
    """
    texts = [clean_caption(text, max_words) for record in records for text in record.captions]
    counts = [len(record.captions) for record in records]
    return texts, np.repeat(np.arange(len(records), dtype=np.int64), counts)


def item_rng(seed: int, epoch: int, item: int) -> np.random.Generator:
    """Return the generator that belongs to one item in one epoch of one run."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, item))))
