"""The records every reader returns and everything else consumes.

A record names one medium (a picture or a video) by its path and carries what was written about it.
Records are small and immutable; pixels are decoded only when a data set asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

MediaKind = Literal["image", "video"]
Window = tuple[float, float]
"""A part of a video: from and to, in seconds from its start."""


@dataclass(frozen=True, slots=True)
class CaptionedMedia:
    """One picture or video with its captions.

    Attributes:
        media_id: the path as the annotation file writes it; unique within a split.
        path: where the file lies.
        kind: "image" or "video".
        captions: at least one caption, as written (not cleaned).
        window: the part of a video that the captions are about, in seconds; None for all of it.
    """

    media_id: str
    path: Path
    kind: MediaKind
    captions: tuple[str, ...]
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class QuestionRecord:
    """One question about one picture or video.

    Attributes:
        question_id: unique within a split; what a server file is keyed by.
        media_id: the path as the annotation file writes it.
        path: where the file lies.
        kind: "image" or "video".
        question: the question as written.
        answers: all annotators' answers, repeated as given; empty where the split has none.
        answer_type: the benchmark's own class of the answer, "" if it has none.
        question_type: the benchmark's own class of the question, "" if it has none.
        source: which data set the row comes from where a layout mixes several, else "".
    """

    question_id: int | str
    media_id: str
    path: Path
    kind: MediaKind
    question: str
    answers: tuple[str, ...]
    answer_type: str = ""
    question_type: str = ""
    source: str = ""


Record = CaptionedMedia | QuestionRecord


def window_of(record: Record) -> Window | None:
    """The part of a video that a record is about; None for all of it."""
    return record.window if isinstance(record, CaptionedMedia) else None


R = TypeVar("R", CaptionedMedia, QuestionRecord)


@dataclass(frozen=True)
class Splits(Generic[R]):
    """The three splits of a data set.

    Attributes:
        train: what is trained on.
        val: what the best checkpoint is chosen on.
        test: **the records that are scored**, whichever file they come from.
        scored: the name of the split that `test` was read from: "test", or "val" where the
            test file is absent or has no answers. Belongs in metrics.json.
        notes: sentences for the log about what was held out or stood in.
        answer_list: the answers to choose from, where the layout or the recipe lists them.
        val_seed: the seed that `val` was drawn from the training media by; None where it is the
            same for every seed.
    """

    train: list[R]
    val: list[R]
    test: list[R]
    scored: str = "test"
    notes: tuple[str, ...] = field(default=())
    answer_list: tuple[str, ...] = field(default=())
    val_seed: int | None = None

    @property
    def chosen_on_scored(self) -> bool:
        """Whether what chooses the checkpoint is also what is scored, which flatters the score."""
        return self.test is self.val

    def named(self) -> dict[str, list[R]]:
        """Return the splits by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def changed(self, change: Callable[[list[R]], list[R]]) -> Splits[R]:
        """The same with each list changed; one list in two roles stays one."""
        lists = {id(records): records for records in self.named().values()}
        new = {key: change(records) for key, records in lists.items()}
        train, val, test = (new[id(records)] for records in self.named().values())
        return replace(self, train=train, val=val, test=test)
