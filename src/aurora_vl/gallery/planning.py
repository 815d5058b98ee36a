"""What a run has to do: each file found, compared with what the gallery knows of it."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aurora_vl.data.records import MediaKind, Window
from aurora_vl.data.video import duration
from aurora_vl.errors import MediaError
from aurora_vl.gallery.items import Entry, Item
from aurora_vl.gallery.scanning import Found


@dataclass(frozen=True, slots=True)
class Job:
    """A file that something has to be done about.

    Attributes:
        found: the file.
        size, modified: as it is now.
        known: the gallery's items of this path.
        same: whether size and time are those the gallery knows, so that the content is.
    """

    found: Found
    size: int
    modified: int
    known: Sequence[Item]
    same: bool

    def item(self, digest: str, window: Window | None) -> Item:
        """An item of the file as it is now."""
        found = self.found
        return Item(found.path, found.kind, self.size, self.modified, digest, window)


@dataclass(slots=True)
class Plan:
    """What is to be done, and what is not.

    Attributes:
        jobs: in the order of the paths.
        lacking: the collections that have no vector of something there is to do.
        unchanged: files of which the gallery has everything.
        faults: sentences about files that are not there.
    """

    jobs: list[Job] = field(default_factory=list)
    lacking: set[str] = field(default_factory=set)
    unchanged: int = 0
    faults: list[str] = field(default_factory=list)


class Known:
    """The gallery's items, by path and by content.

    Args:
        items: of the gallery.
        indexed: ids of the items that have a vector, for each collection that is wanted.
        segment: seconds of the stretches of videos; None for whole videos.
    """

    def __init__(
        self, items: Sequence[Item], indexed: Mapping[str, set[int]], segment: float | None
    ) -> None:
        self._segment = segment
        self._indexed = indexed
        self.by_path: dict[str, list[Item]] = defaultdict(list)
        self._by_digest: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            self.by_path[item.path].append(item)
            self._by_digest[item.digest].append(item)

    def plan(self, files: Sequence[Found]) -> Plan:
        """Compare files with what is known, by size and time."""
        plan = Plan()
        for found in files:
            try:
                facts = os.stat(found.path)
            except OSError as error:
                plan.faults.append(f"{found.path}: {error.strerror}; correct the list")
                continue
            known = tuple(self.by_path.get(found.path, ()))
            same = bool(known) and all(
                (item.size, item.modified) == (facts.st_size, facts.st_mtime_ns) for item in known
            )
            job = Job(found, facts.st_size, facts.st_mtime_ns, known, same)
            lacking = self._lacking(job)
            plan.lacking |= lacking
            if lacking:
                plan.jobs.append(job)
            else:
                plan.unchanged += 1
        return plan

    def lacking(self, item: Item) -> set[str]:
        """The collections that have no vector of an item."""
        return {name for name, ids in self._indexed.items() if item.id not in ids}

    def learn(self, entries: Sequence[Entry]) -> None:
        """Take note of entries that were written."""
        for entry in entries:
            self.by_path[entry.item.path].append(entry.item)
            self._by_digest[entry.item.digest].append(entry.item)
            for name in self._indexed.keys() & entry.vectors.keys():
                self._indexed[name].add(entry.item.id)

    def forget(self, items: Sequence[Item]) -> None:
        """Take note of items that were removed."""
        for item in items:
            self.by_path[item.path].remove(item)
            self._by_digest[item.digest].remove(item)

    def copies(self, digest: str, windows: Sequence[Window | None], kind: MediaKind) -> list[Item]:
        """Items of some one file with this content, for each of the windows; else none."""
        by_path: dict[str, dict[Window | None, Item]] = defaultdict(dict)
        for item in self._by_digest.get(digest, []):
            if item.kind == kind:
                by_path[item.path][item.window] = item
        for items in by_path.values():
            if all(window in items for window in windows):
                return [items[window] for window in windows]
        return []

    def windows(self, found: Found) -> Sequence[Window | None]:
        """The parts of a file that become items.

        Raises:
            MediaError: it is a video that cannot be read.
        """
        if found.windows:
            return found.windows
        if found.kind == "image" or self._segment is None:
            return [None]
        return stretches(duration(found.path), self._segment)

    def _lacking(self, job: Job) -> set[str]:
        """The collections that a file has something to do for, as far as can be told unopened."""
        found = job.found
        known = {item.window for item in job.known}
        wanted: Sequence[Window | None] = found.windows or [None]
        if not found.windows and found.kind == "video" and self._segment is not None:
            # Its duration is where its last stretch ends: no need to open it.
            ends = [window[1] for window in known if window is not None]
            wanted = stretches(max(ends), self._segment) if ends else wanted
        if not job.same or not known.issuperset(wanted):
            return set(self._indexed)
        return set().union(*map(self.lacking, job.known))


def stretches(seconds: float, length: float) -> list[Window]:
    """Cut a duration into stretches; a rest shorter than half of one belongs to the last.

    Example:
        >>> stretches(23.0, 10.0)
        [(0.0, 10.0), (10.0, 23.0)]
    """
    count = max(1, int(seconds / length + 0.5))
    starts = [number * length for number in range(count)]
    return list(zip(starts, [*starts[1:], seconds], strict=True))


def digest_of(job: Job) -> str | MediaError:
    """A hash of the file's content; the known one where the file has not changed."""
    if job.same:
        return job.known[0].digest
    try:
        with open(job.found.path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        return MediaError(f"{job.found.path} cannot be read ({error.strerror}): replace it")


def moved_to(item: Item, job: Job) -> Item:
    """An item as it is where the same content lies now."""
    return replace(item, path=job.found.path, size=job.size, modified=job.modified)
