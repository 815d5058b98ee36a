"""The default store: one SQLite file, and the vectors that are searched in memory.

The file has a write-ahead log, so that readers and a writer do not wait for each other, and a
process that is killed leaves whole transactions. Vectors are numbered as they are written; a reader
fetches those after the last it has, and all of them anew where some were replaced or removed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from typing_extensions import override

from aurora_vl.errors import UserError
from aurora_vl.gallery.items import Collection, Entry, Filter, Item, Settings
from aurora_vl.gallery.store import Match, Store
from aurora_vl.gallery.vectors import VectorTable

_APPLICATION = 0x41755661  # "AuVa": tells a gallery from other SQLite files
_VERSION = 1
_SCHEMA = (
    "CREATE TABLE settings (frames INTEGER, segment REAL)",
    # How often vectors were replaced or removed.
    "CREATE TABLE changes (count INTEGER NOT NULL)",
    "INSERT INTO changes VALUES (0)",
    """CREATE TABLE items (
        id INTEGER PRIMARY KEY, path BLOB NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL,
        modified INTEGER NOT NULL, digest BLOB NOT NULL, start REAL, "end" REAL)""",
    "CREATE INDEX items_by_path ON items (path, start)",
    """CREATE TABLE thumbnails (
        item INTEGER PRIMARY KEY REFERENCES items ON DELETE CASCADE, jpeg BLOB NOT NULL)""",
    """CREATE TABLE collections (
        id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, backbone TEXT NOT NULL,
        adapter TEXT, width INTEGER NOT NULL)""",
    """CREATE TABLE vectors (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        item INTEGER NOT NULL REFERENCES items ON DELETE CASCADE,
        collection INTEGER NOT NULL REFERENCES collections, vector BLOB NOT NULL,
        UNIQUE (item, collection))""",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_ITEM = 'id, path, kind, size, modified, digest, start, "end"'
_GIVEN_IDS = "IN (SELECT value FROM json_each(?))"
_SECONDS = 5.0  # that a second writer waits
_FETCHED = 4096  # vectors at a time


@dataclass(slots=True)
class _Loaded:
    """A collection's vectors in memory, and the state of the file they are of."""

    table: VectorTable
    number: int
    changes: int


class SqliteStore(Store):
    """See `Store`."""

    def __init__(self, uri: str, *, create: bool, settings: Settings) -> None:
        self.uri = uri
        self._path = Path(uri)
        if not create and not self._path.exists():
            raise UserError(
                f"{uri} does not exist; aurora index MEDIA_DIR --gallery {uri} makes it"
            )
        if create:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._loaded: dict[str, _Loaded] = {}
        try:
            self._db = sqlite3.connect(
                self._path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._prepare(settings)
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{uri} cannot be opened as a gallery ({error}); give another path"
            ) from None

    def _prepare(self, settings: Settings) -> None:
        """Lay out a new file, or see that it is a gallery."""
        self._db.execute("PRAGMA foreign_keys = ON")
        if not self._is_gallery():
            self._db.execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                if not self._is_gallery():  # another process may have been faster
                    for statement in _SCHEMA:
                        self._db.execute(statement)
                    self._db.execute(
                        "INSERT INTO settings VALUES (?, ?)", (settings.frames, settings.segment)
                    )
        self._db.execute("PRAGMA synchronous = NORMAL")  # whole after a crash, by the log

    def _is_gallery(self) -> bool:
        application = self._value("PRAGMA application_id")
        version = self._value("PRAGMA user_version")
        if application == _APPLICATION and version == _VERSION:
            return True
        if application == _APPLICATION:
            raise UserError(
                f"{self.uri} has the layout {version} of another version of Aurora, this one "
                f"reads {_VERSION}; index into another file"
            )
        if self._value("SELECT count(*) FROM sqlite_master"):
            raise UserError(f"{self.uri} is an SQLite file but no gallery; give another path")
        return False

    @property
    @override
    def settings(self) -> Settings:
        with self._lock:
            return Settings(*self._db.execute("SELECT frames, segment FROM settings").fetchone())

    @override
    @contextmanager
    def writing(self) -> Iterator[None]:
        lock = FileLock(f"{self._path}.lock", timeout=_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"{self.uri} is being written to by another process; wait until it has ended"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @override
    def collections(self) -> list[Collection]:
        with self._lock:
            rows = self._db.execute(
                "SELECT fingerprint, backbone, adapter, width FROM collections ORDER BY id"
            )
            return [Collection(*row) for row in rows]

    @override
    def add_collection(self, collection: Collection) -> None:
        with self._lock:
            self._db.execute(
                "INSERT OR IGNORE INTO collections (fingerprint, backbone, adapter, width) "
                "VALUES (?, ?, ?, ?)",
                (collection.fingerprint, collection.backbone, collection.adapter, collection.width),
            )

    @override
    def items(self) -> Iterator[Item]:
        with self._lock:
            rows = self._db.execute(f"SELECT {_ITEM} FROM items ORDER BY path, start").fetchall()
        return map(_item, rows)

    @override
    def find(self, ids: Sequence[int]) -> list[Item]:
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_ITEM} FROM items WHERE id {_GIVEN_IDS}", (json.dumps(list(ids)),)
            ).fetchall()
        found = {row[0]: _item(row) for row in rows}
        return [found[item] for item in ids if item in found]

    @override
    def thumbnail(self, item: int) -> bytes | None:
        with self._lock:
            return self._value("SELECT jpeg FROM thumbnails WHERE item = ?", item)

    @override
    def indexed(self, fingerprint: str) -> set[int]:
        with self._lock:
            rows = self._db.execute(
                "SELECT item FROM vectors WHERE collection = ?", (self._number(fingerprint),)
            )
            return {item for (item,) in rows}

    @override
    def vectors(self, fingerprint: str, ids: Sequence[int]) -> dict[int, np.ndarray]:
        with self._lock:
            rows = self._db.execute(
                f"SELECT item, vector FROM vectors WHERE collection = ? AND item {_GIVEN_IDS}",
                (self._number(fingerprint), json.dumps(list(ids))),
            )
            return {item: np.frombuffer(vector, np.float16) for item, vector in rows}

    @override
    def put(self, entries: Sequence[Entry]) -> None:
        items = [
            (
                *(e.item.id, os.fsencode(e.item.path), e.item.kind, e.item.size, e.item.modified),
                *(bytes.fromhex(e.item.digest), *(e.item.window or (None, None))),
            )
            for e in entries
        ]
        with self._lock, self._transaction():
            vectors = [
                (entry.item.id, self._number(fingerprint), vector.astype(np.float16).tobytes())
                for entry in entries
                for fingerprint, vector in entry.vectors.items()
            ]
            self._db.executemany(
                f"INSERT INTO items ({_ITEM}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET "
                "size = excluded.size, modified = excluded.modified, digest = excluded.digest",
                items,
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO thumbnails VALUES (?, ?)",
                [(entry.item.id, entry.thumbnail) for entry in entries],
            )
            replaced = self._db.executemany(
                "DELETE FROM vectors WHERE item = ? AND collection = ?", [v[:2] for v in vectors]
            ).rowcount
            self._db.executemany(
                "INSERT INTO vectors (item, collection, vector) VALUES (?, ?, ?)", vectors
            )
            if replaced > 0:
                self._count_change()

    @override
    def remove(self, ids: Sequence[int]) -> None:
        with self._lock, self._transaction():
            self._db.execute(f"DELETE FROM items WHERE id {_GIVEN_IDS}", (json.dumps(list(ids)),))
            self._count_change()

    @override
    def search(self, fingerprint: str, query: np.ndarray, top: int, where: Filter) -> list[Match]:
        with self._lock:
            allowed = None if where == Filter() else self._allowed(where)
            return self._current(fingerprint).search(query, top, allowed)

    @override
    def close(self) -> None:
        with self._lock:
            self._db.close()
            self._loaded.clear()

    def _allowed(self, where: Filter) -> set[int]:
        lower, upper = where.path_range or (None, None)
        rows = self._db.execute(
            "SELECT id FROM items WHERE (?1 IS NULL OR path >= ?1 AND path < ?2) "
            "AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR modified >= ?4) "
            "AND (?5 IS NULL OR modified < ?5)",
            (lower, upper, where.kind, where.since, where.before),
        )
        return {item for (item,) in rows}

    def _current(self, fingerprint: str) -> VectorTable:
        """The collection's vectors as the file has them now."""
        with self._snapshot():
            collection = self._number(fingerprint)
            changes = self._value("SELECT count FROM changes")
            newest = self._value("SELECT coalesce(max(number), 0) FROM vectors")
            loaded = self._loaded.get(fingerprint)
            if loaded is None or loaded.changes != changes:
                width = self._value("SELECT width FROM collections WHERE id = ?", collection)
                count = self._value("SELECT count(*) FROM vectors WHERE collection = ?", collection)
                loaded = self._loaded[fingerprint] = _Loaded(VectorTable(width, count), 0, changes)
            rows = self._db.execute(
                "SELECT item, vector FROM vectors WHERE number > ? AND collection = ?",
                (loaded.number, collection),
            )
            while part := rows.fetchmany(_FETCHED):
                ids, vectors = zip(*part, strict=True)
                packed = np.frombuffer(b"".join(vectors), np.float16)
                loaded.table.append(
                    np.array(ids, np.int64), packed.reshape(len(ids), loaded.table.width)
                )
            loaded.number = newest
        return loaded.table

    def _number(self, fingerprint: str) -> int | None:
        return self._value("SELECT id FROM collections WHERE fingerprint = ?", fingerprint)

    def _count_change(self) -> None:
        self._db.execute("UPDATE changes SET count = count + 1")

    def _value(self, statement: str, *given: object) -> Any:
        """The first column of the first row; None if there is no row."""
        row = self._db.execute(statement, given).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._db.execute(f"BEGIN {kind}")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _snapshot(self) -> AbstractContextManager[None]:
        """A transaction that only reads: the file stands still while it lasts."""
        return self._transaction("DEFERRED")


def _item(row: tuple[Any, ...]) -> Item:
    _, path, kind, size, modified, digest, start, end = row
    window = None if start is None else (start, end)
    return Item(os.fsdecode(path), kind, size, modified, digest.hex(), window)
