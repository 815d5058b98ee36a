"""Data sets over records, for torch's DataLoader.

Every random number of a training item comes from (seed, epoch, item), so that workers, processes,
restarts and the order of batches change nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from aurora_vl.data.media import MediaTransform, load_media
from aurora_vl.data.records import CaptionedMedia
from aurora_vl.errors import MediaError, UserError

Item = TypeVar("Item")
OnError = Literal["stop", "skip"]
_ATTEMPTS = 100  # after so many damaged media in a row nothing seems to be right with them


class TrainSet(Dataset[Item], Generic[Item]):
    """A training set that knows its epoch and what to do about media that cannot be decoded.

    Args:
        count: how many items there are.
        seed: of the run.
        on_error: "stop" raises what a damaged file raises; "skip" takes another item in its place,
            drawn from (seed, epoch, item), and remembers the file.
    """

    def __init__(self, count: int, *, seed: int, on_error: OnError = "stop") -> None:
        self.seed = seed
        self.on_error = on_error
        # In shared memory: workers that live longer than an epoch see it change, and the main
        # process sees what they skipped.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.skipped_items = torch.zeros(count, dtype=torch.bool).share_memory_()

    @abstractmethod
    def load_item(self, index: int, rng: np.random.Generator) -> Item:
        """Load item `index`; all its random numbers come from `rng`."""

    @abstractmethod
    def path_of(self, index: int) -> Path:
        """The file that item `index` is decoded from."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next items are drawn for (from 0)."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Count the items."""
        return len(self.skipped_items)

    def __getitem__(self, index: int) -> Item:
        """Load item `index`, or one drawn in its place if it is damaged and may be skipped."""
        chosen = index
        for attempt in range(_ATTEMPTS):
            rng = item_rng(self.seed, int(self._epoch), index, attempt)
            if attempt:
                chosen = int(rng.integers(len(self)))
            try:
                return self.load_item(chosen, rng)
            except MediaError:
                if self.on_error == "stop" or attempt == _ATTEMPTS - 1:
                    raise
                self.skipped_items[chosen] = True
        raise AssertionError("the loop returns or raises")

    def skipped(self) -> list[str]:
        """Paths of the files skipped so far, each once, in the order of the records."""
        rows = self.skipped_items.nonzero()[:, 0].tolist()
        return list(dict.fromkeys(str(self.path_of(row)) for row in rows))


class RetrievalItem(TypedDict):
    """A medium with k captions.

    Keys: media, what the transform made of it; captions as written; media_index into the records,
    for telling duplicates; uniforms float32 (k, 2) in [0, 1) for drawing each pair's negatives;
    augment_seed >= 0.
    """

    media: Any
    captions: list[str]
    media_index: int
    uniforms: np.ndarray
    augment_seed: int


class RetrievalTrainSet(TrainSet[RetrievalItem]):
    """Items of a medium with so many of its captions that each caption comes once.

    Args:
        records: the training split; a record without captions gives no item.
        transform: makes an item of a decoded medium.
        seed: of the run.
        captions_per_item: 1 gives an item for each (medium, caption) pair, as BLIP trains on COCO;
            with more, an item that has too few is filled with the medium's first ones.
        on_error: as in `TrainSet`.

    Raises:
        UserError: no record has a caption.
    """

    def __init__(
        self,
        records: Sequence[CaptionedMedia],
        transform: MediaTransform,
        *,
        seed: int,
        captions_per_item: int = 1,
        on_error: OnError = "stop",
    ) -> None:
        self.records = records
        self.transform = transform
        self.captions_per_item = captions_per_item
        # Each item's medium, and the first of its captions.
        self._items = [
            (media, first)
            for media, record in enumerate(records)
            for first in range(0, len(record.captions), captions_per_item)
        ]
        if not self._items:
            raise UserError(
                "the training split has no captioned media: check data.annotations and data.media"
            )
        super().__init__(len(self._items), seed=seed, on_error=on_error)

    def path_of(self, index: int) -> Path:
        """The picture or video of item `index`."""
        return self.records[self._items[index][0]].path

    def load_item(self, index: int, rng: np.random.Generator) -> RetrievalItem:
        """Load item `index` (see `RetrievalItem`)."""
        # Drawn before the crop, which takes a varying number of draws.
        uniforms = rng.random((self.captions_per_item, 2), dtype=np.float32)
        augment_seed = int(rng.integers(2**63 - 1))
        media_index, first = self._items[index]
        record = self.records[media_index]
        chosen = [(first + n) % len(record.captions) for n in range(self.captions_per_item)]
        return RetrievalItem(
            media=load_media(record, self.transform, rng),
            captions=[record.captions[n] for n in chosen],
            media_index=media_index,
            uniforms=uniforms,
            augment_seed=augment_seed,
        )


def caption_table(records: Sequence[CaptionedMedia]) -> tuple[list[str], np.ndarray]:
    """List all captions of a split with the medium each belongs to.

    Returns:
        texts, and owners int64 (number of texts,): indices into `records`, ascending.
    """
    texts = [text for record in records for text in record.captions]
    counts = [len(record.captions) for record in records]
    return texts, np.repeat(np.arange(len(records), dtype=np.int64), counts)


def shared_captions(
    records: Sequence[CaptionedMedia], clean: Callable[[str], str]
) -> tuple[int, int]:
    """Count the captions of a split whose cleaned text stands with several media, and all."""
    texts, owners = caption_table(records)
    media: dict[str, set[int]] = {}
    cleaned = [clean(text) for text in texts]
    for text, owner in zip(cleaned, owners.tolist()):
        media.setdefault(text, set()).add(owner)
    return sum(len(media[text]) > 1 for text in cleaned), len(texts)


def item_rng(seed: int, epoch: int, item: int, attempt: int = 0) -> np.random.Generator:
    """Return the generator that belongs to one item in one epoch of one run.

    Each further attempt, after the item or what was drawn in its place was damaged, has its own.
    """
    key = (seed, epoch, item, attempt) if attempt else (seed, epoch, item)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
