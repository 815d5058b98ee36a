"""Looking a data set over before a processor's time is paid for: the logic of `aurora check-data`.

Nothing is printed here; the command line shows the report.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, combinations
from typing import Any, Literal

import numpy as np

from aurora_vl.data.media import missing_media, probe_media
from aurora_vl.data.records import CaptionedMedia, R, Record, Splits, Window
from aurora_vl.data.threads import mapped
from aurora_vl.errors import MediaError

Part = tuple[str, Window | None]
"""A file's path and the window of it that is looked at."""
Cut = Callable[[str, Literal["caption", "question"]], bool]
"""Whether something of a caption or a question is cut off before a model reads it."""
LISTED = 10
"""How many examples of each fault a report names."""


@dataclass(frozen=True)
class SplitReport:
    """Counts of one split; the file-related ones count media, each once.

    Attributes:
        media: distinct pictures or videos.
        texts: captions or questions.
        missing: media whose file is absent.
        undecodable: media whose file was tried and cannot be decoded.
        long_texts: texts of which something is cut off.
        without_texts: media without a caption (or questions without an answer).
    """

    media: int
    texts: int
    missing: int
    undecodable: int
    long_texts: int
    without_texts: int


@dataclass(frozen=True)
class DataReport:
    """What was found.

    Attributes:
        splits: the counts by split; "test" is the split that is scored.
        scored: the name of the file the scored split comes from.
        notes: the reader's sentences about held-out splits.
        missing: absent files over all splits, each counted once.
        missing_first: the first ten of them.
        decoded: how many files were decoded to see whether they can be.
        undecodable: how many of those cannot.
        undecodable_first: for the first ten, a sentence naming the file and the fault.
        overlap: distinct media in both of two splits, by "train/val", "train/test", "val/test".
        overlap_first: the first ten such media by the same names, where there are any.
    """

    splits: dict[str, SplitReport]
    scored: str
    notes: tuple[str, ...]
    missing: int
    missing_first: list[str]
    decoded: int
    undecodable: int
    undecodable_first: list[str]
    overlap: dict[str, int]
    overlap_first: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every file is there and every one tried can be decoded; overlap only warns."""
        return self.missing == 0 and self.undecodable == 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON, with `ok`."""
        return {"ok": self.ok, **asdict(self)}


def check_splits(
    splits: Splits[R],
    *,
    sample: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    cut: Cut | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Look a data set over.

    Args:
        splits: from a reader.
        sample: how many files to decode, drawn at random from those present; None for all. Of a
            video that is listed in parts each part is tried.
        seed: of that draw.
        threads: that decode at once; by default one per processor.
        cut: whether something of a text is cut off; None where nothing is.
        progress: called with (media decoded, media to decode) after each.
    """
    groups = splits.named()
    present, missing = _look_for_files(list(chain.from_iterable(groups.values())))
    drawn = _draw(present, sample, seed)
    tried = list(chain.from_iterable(drawn))
    damaged: dict[Part, str] = {}
    faults = mapped(_fault, tried, threads or os.cpu_count() or 1)
    for done, (record, fault) in enumerate(zip(tried, faults, strict=True), start=1):
        if fault is not None:
            damaged[_part(record)] = fault
        if progress is not None:
            progress(done, len(tried))
    by_file: dict[str, str] = {}
    for (path, _), fault in damaged.items():
        by_file.setdefault(path, fault)
    overlap = _overlap(groups)
    return DataReport(
        splits={
            name: _count(records, set(missing), set(damaged), cut)
            for name, records in groups.items()
        },
        scored=splits.scored,
        notes=splits.notes,
        missing=len(missing),
        missing_first=missing[:LISTED],
        decoded=len(drawn),
        undecodable=len(by_file),
        undecodable_first=list(by_file.values())[:LISTED],
        overlap={pair: len(shared) for pair, shared in overlap.items()},
        overlap_first={pair: shared[:LISTED] for pair, shared in overlap.items() if shared},
    )


def _look_for_files(records: Sequence[Record]) -> tuple[list[list[Record]], list[str]]:
    """Return a record for each part of each present file, and the absent paths."""
    missing = missing_media(records)
    absent = set(missing)
    files: dict[str, dict[Window | None, Record]] = {}
    for record in records:
        path, window = _part(record)
        files.setdefault(path, {})[window] = record
    return [list(parts.values()) for path, parts in files.items() if path not in absent], missing


def _part(record: Record) -> Part:
    window = record.window if isinstance(record, CaptionedMedia) else None
    return str(record.path), window


def _draw(files: list[list[Record]], sample: int | None, seed: int) -> list[list[Record]]:
    if sample is None or sample >= len(files):
        return files
    chosen = np.random.default_rng(seed).permutation(len(files))[:sample]
    return [files[index] for index in sorted(chosen)]


def _fault(record: Record) -> str | None:
    try:
        probe_media(record)
    except MediaError as error:
        return str(error)
    return None


def _overlap(groups: dict[str, list[R]]) -> dict[str, list[str]]:
    overlap: dict[str, list[str]] = {}
    for (one, left), (two, right) in combinations(groups.items(), 2):
        # One list in two roles was held out by us and said so in the notes.
        others = set() if left is right else {os.path.normpath(r.path) for r in right}
        shared = dict.fromkeys(os.path.normpath(record.path) for record in left)
        overlap[f"{one}/{two}"] = [path for path in shared if path in others]
    return overlap


def _count(
    records: Sequence[Record], missing: set[str], damaged: set[Part], cut: Cut | None
) -> SplitReport:
    paths = {str(record.path) for record in records}
    return SplitReport(
        media=len(paths),
        texts=sum(len(_texts(record)) for record in records),
        missing=len(paths & missing),
        undecodable=len({str(r.path) for r in records if _part(r) in damaged}),
        long_texts=0 if cut is None else count_cut(records, cut),
        without_texts=sum(not _needed(record) for record in records),
    )


def count_cut(records: Sequence[Record], cut: Cut) -> int:
    """How many captions or questions something is cut off of."""
    return sum(
        cut(text, "caption" if isinstance(record, CaptionedMedia) else "question")
        for record in records
        for text in _texts(record)
    )


def _texts(record: Record) -> tuple[str, ...]:
    return record.captions if isinstance(record, CaptionedMedia) else (record.question,)


def _needed(record: Record) -> tuple[str, ...]:
    return record.captions if isinstance(record, CaptionedMedia) else record.answers
