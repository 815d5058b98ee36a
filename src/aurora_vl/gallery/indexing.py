"""Bringing a gallery up to date with files: only what is new is decoded and embedded.

Hashing, small pictures and decoding run in threads or processes while the model works; entries are
written in groups, each file as a whole, so that a run that is interrupted goes on where it was.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from aurora_vl.data.threads import mapped
from aurora_vl.errors import UserError
from aurora_vl.gallery.items import Collection, Entry, Item
from aurora_vl.gallery.planning import Job, Known, digest_of, moved_to
from aurora_vl.gallery.scanning import Scan
from aurora_vl.gallery.store import Store
from aurora_vl.gallery.thumbnails import thumbnail
from aurora_vl.inference.encodings import Encoded
from aurora_vl.inference.media import MediaItem
from aurora_vl.inference.retriever import Retriever
from aurora_vl.utils.progress import progress_bar

_THREADS = 2  # that hash, and as many that make small pictures
_WRITTEN = 128  # items at a time
_SECONDS = 5.0  # after which fewer are written


@dataclass(slots=True)
class IndexReport:
    """What a run did. Counts are of files, but for `items`.

    Attributes:
        added: files that are new.
        changed: files whose content is another than before.
        renamed: files recognised by their content under another name.
        unchanged: files that the gallery had.
        removed: files that are gone and were taken out.
        vanished: files that are gone and still in the gallery.
        links: symbolic links that were left out.
        items: pictures, videos and stretches of videos that were embedded.
        seconds: of the whole run.
        errors: a sentence for each file that could not be read.
    """

    added: int = 0
    changed: int = 0
    renamed: int = 0
    unchanged: int = 0
    removed: int = 0
    vanished: int = 0
    links: int = 0
    items: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The attributes by name."""
        return asdict(self)


@dataclass(slots=True)
class _File:
    """A file on its way: its items wait for their vectors."""

    job: Job
    items: Sequence[Item]
    thumbnails: Sequence[Future[bytes]]
    entries: list[Entry] = field(default_factory=list)
    done: int = 0
    failed: bool = False


class Indexer:
    """One run over what a scan found.

    Args:
        store: it is held for writing by the caller.
        retriever: embeds.
        adapters: which of its adapters, by name; "base" or None as for the retriever.
    """

    def __init__(self, store: Store, retriever: Retriever, adapters: Sequence[str | None]) -> None:
        self._store = store
        self._retriever = retriever
        self._names = {retriever.fingerprint(name): name for name in adapters}
        for fingerprint, name in self._names.items():
            store.add_collection(_collection(retriever, fingerprint, name))
        self._known = Known(
            list(store.items()),
            {fingerprint: store.indexed(fingerprint) for fingerprint in self._names},
            store.settings.segment,
        )
        self._report = IndexReport()
        self._waiting: deque[_File] = deque()  # files whose items the retriever has
        self._finished: list[_File] = []  # to be written
        self._written = time.monotonic()
        self._begun = 0  # jobs

    def run(self, scan: Scan, *, prune: bool, workers: int) -> IndexReport:
        """Index what was found.

        Args:
            scan: the files.
            prune: whether to take out files that are gone.
            workers: processes that decode; 0 for threads.
        """
        started = time.monotonic()
        plan = self._known.plan(scan.files)
        self._report.links, self._report.unchanged = scan.links, plan.unchanged
        self._report.errors += plan.faults
        with progress_bar("indexing") as advance, ThreadPoolExecutor(_THREADS) as pool:
            self._names = {key: self._names[key] for key in self._names if key in plan.lacking}
            stream = self._retriever.encode_stream(
                self._media(plan.jobs, pool),
                adapters=list(self._names.values()),
                frames=self._store.settings.frames,
                workers=workers,
                on_error="yield",
            )
            for encoded in stream:
                self._take(encoded)
                advance(self._begun - len(self._waiting), len(plan.jobs))
            self._write()
        self._look_for_vanished(scan, prune)
        self._report.seconds = time.monotonic() - started
        return self._report

    def _media(self, jobs: Sequence[Job], pool: ThreadPoolExecutor) -> Iterator[MediaItem]:
        """The media to be embedded; what the gallery has already under another name is copied."""
        for job, digest in zip(jobs, mapped(digest_of, jobs, _THREADS), strict=True):
            self._begun += 1
            try:
                if isinstance(digest, UserError):
                    raise digest
                items = [job.item(digest, window) for window in self._known.windows(job.found)]
            except UserError as error:
                self._fail(job, error)
                continue
            if job.known and job.known[0].digest == digest:
                items = self._refresh(job, items)
            elif self._copy(job, items):
                continue
            if items:
                kind = job.found.kind
                pictures = [pool.submit(thumbnail, it.path, kind, it.window) for it in items]
                self._waiting.append(_File(job, items, pictures))
                for item in items:
                    yield MediaItem(item.path, kind, item.window)

    def _refresh(self, job: Job, items: Sequence[Item]) -> list[Item]:
        """Write the file's new time where its content is the same; return what has no vectors."""
        if not job.same:
            self._store.put(
                [
                    Entry(moved_to(item, job), self._store.thumbnail(item.id) or b"")
                    for item in job.known
                ]
            )
        lacking = [item for item in items if self._known.lacking(item)]
        self._report.unchanged += not lacking
        return lacking

    def _copy(self, job: Job, items: Sequence[Item]) -> bool:
        """Take over what the gallery has of the same content; False if it has not all of it."""
        copies = self._known.copies(
            items[0].digest, [item.window for item in items], job.found.kind
        )
        if not copies or any(map(self._known.lacking, copies)):
            return False
        ids = [item.id for item in copies]
        vectors = {
            collection.fingerprint: self._store.vectors(collection.fingerprint, ids)
            for collection in self._store.collections()
        }
        entries = [
            Entry(
                moved_to(item, job),
                self._store.thumbnail(item.id) or b"",
                {name: found[item.id] for name, found in vectors.items() if item.id in found},
            )
            for item in copies
        ]
        self._forget(job.known)
        self._store.put(entries)
        self._known.learn(entries)
        if os.path.lexists(copies[0].path):
            self._count(job, known=False)
        else:
            self._forget(list(self._known.by_path[copies[0].path]))
            self._report.renamed += 1
        return True

    def _take(self, encoded: Encoded) -> None:
        """Put one item's vectors with its file, which is written once all are there."""
        file = self._waiting[0]
        item, picture = file.items[file.done], file.thumbnails[file.done]
        file.done += 1
        fault = encoded.error or picture.exception()
        if fault is None:
            vectors = {key: encoded.vectors[name] for key, name in self._names.items()}
            file.entries.append(Entry(item, picture.result(), vectors))
        elif not isinstance(fault, UserError):
            raise fault
        elif not file.failed:
            file.failed = True
            self._fail(file.job, fault)
        if file.done < len(file.items):
            return
        self._waiting.popleft()
        if not file.failed:
            self._finished.append(file)
        waited = time.monotonic() - self._written > _SECONDS
        if waited or sum(len(file.entries) for file in self._finished) >= _WRITTEN:
            self._write()

    def _write(self) -> None:
        for file in self._finished:
            known = file.items[0].digest in {item.digest for item in file.job.known}
            if not known:
                self._forget(file.job.known)
            self._count(file.job, known)
        entries = [entry for file in self._finished for entry in file.entries]
        self._store.put(entries)
        self._report.items += len(entries)
        self._finished = []
        self._written = time.monotonic()

    def _fail(self, job: Job, error: UserError) -> None:
        """Note that a file cannot be read; what was known of it is no longer true."""
        self._report.errors.append(str(error))
        self._forget(job.known)

    def _forget(self, items: Sequence[Item]) -> None:
        if items:
            self._store.remove([item.id for item in items])
            self._known.forget(items)

    def _count(self, job: Job, known: bool) -> None:
        """Count a file that was written; `known` is whether its content was under this name."""
        if known:
            self._report.unchanged += 1
        elif job.known:
            self._report.changed += 1
        else:
            self._report.added += 1

    def _look_for_vanished(self, scan: Scan, prune: bool) -> None:
        found = {file.path for file in scan.files}
        gone = [
            path
            for path, items in self._known.by_path.items()
            if items and path not in found and scan.covers(path) and not os.path.lexists(path)
        ]
        if prune:
            self._forget([item for path in gone for item in self._known.by_path[path]])
            self._report.removed = len(gone)
        else:
            self._report.vanished = len(gone)


def _collection(retriever: Retriever, fingerprint: str, name: str | None) -> Collection:
    """What the vectors by an adapter are told by; folders by their whole paths."""
    folders = retriever.tuned.folders
    folder = folders.get(name or next(iter(folders), ""))
    backbone = retriever.backbone
    if os.sep in backbone and os.path.exists(backbone):
        backbone = os.path.abspath(backbone)
    adapter = None if folder is None else os.path.abspath(folder)
    return Collection(fingerprint, backbone, adapter, retriever.width)
