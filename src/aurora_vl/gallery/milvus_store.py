"""A store in Milvus: a server or a cluster for what outgrows one machine, or milvus-lite's file.

A gallery is several collections of Milvus whose names begin with the gallery's: `_items`,
`_about` (its settings, and what its vectors were made by), and one for each backbone and adapter,
which repeats what searches are narrowed by. Items are written after their vectors, so that an
interrupted run finds them missing and writes both again.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

import numpy as np
from typing_extensions import override

from aurora_vl.errors import UserError
from aurora_vl.gallery.items import Collection, Entry, Filter, Item, Settings
from aurora_vl.gallery.store import Match, Store

_SETTINGS = "settings"  # the key of the row beside those of the collections
_TEXT = 65_535  # bytes that Milvus holds of a text at most
_AT_ONCE = 1_000  # rows of a request
_NO_WINDOW = -1.0
_UNUSED = {"unused": [0.0, 0.0]}  # every collection of Milvus must have vectors
_ITEM_FIELDS = ["id", "path", "kind", "size", "modified", "digest", "start", "end"]

Row = dict[str, Any]


class MilvusStore(Store):
    """See `Store`; Milvus itself keeps writers apart, so any number may write."""

    def __init__(self, uri: str, *, create: bool, settings: Settings) -> None:
        self.uri = uri
        address, self._name = _parts(uri)
        file = None if "://" in address else Path(address)
        if file is not None and not create and not file.exists():
            raise self._absent()
        self._client = _connect(uri, address)
        if not self._client.has_collection(self._about):
            if not create:
                raise self._absent()
            self._make(settings)

    def _absent(self) -> UserError:
        return UserError(
            f"{self.uri} does not exist; aurora index MEDIA_DIR --gallery {self.uri} makes it"
        )

    @property
    def _about(self) -> str:
        return f"{self._name}_about"

    @property
    def _items(self) -> str:
        return f"{self._name}_items"

    def _of(self, fingerprint: str) -> str:
        return f"{self._name}_{fingerprint[:16]}"

    @property
    @override
    def settings(self) -> Settings:
        (row,) = self._client.query(
            self._about, filter=f'key == "{_SETTINGS}"', output_fields=["facts"]
        )
        return Settings(**json.loads(row["facts"]))

    @override
    @contextmanager
    def writing(self) -> Iterator[None]:
        yield

    @override
    def collections(self) -> list[Collection]:
        rows = self._client.query(
            self._about,
            filter=f'key != "{_SETTINGS}"',
            output_fields=["number", "facts"],
            limit=_AT_ONCE,
        )
        rows.sort(key=lambda row: row["number"])
        return [Collection(**json.loads(row["facts"])) for row in rows]

    @override
    def add_collection(self, collection: Collection) -> None:
        present = self.collections()
        if collection in present:
            return
        from pymilvus import DataType

        fields: dict[str, Any] = {
            "path": {"datatype": DataType.VARCHAR, "max_length": _TEXT},
            "kind": {"datatype": DataType.VARCHAR, "max_length": 8},
            "modified": {"datatype": DataType.INT64},
            "vector": {"datatype": DataType.FLOAT_VECTOR, "dim": collection.width},
        }
        if not self._client.has_collection(self._of(collection.fingerprint)):
            self._create(self._of(collection.fingerprint), fields, "vector")
        self._tell(collection.fingerprint, len(present) + 1, asdict(collection))

    @override
    def items(self) -> Iterator[Item]:
        found = [_item(row) for row in self._all(self._items, _ITEM_FIELDS)]
        found.sort(key=lambda item: (os.fsencode(item.path), item.window or (_NO_WINDOW,) * 2))
        return iter(found)

    @override
    def find(self, ids: Sequence[int]) -> list[Item]:
        found = {row["id"]: _item(row) for row in self._rows(self._items, ids, _ITEM_FIELDS)}
        return [found[item] for item in ids if item in found]

    @override
    def thumbnail(self, item: int) -> bytes | None:
        rows = self._rows(self._items, [item], ["thumbnail"])
        return base64.b64decode(rows[0]["thumbnail"]) if rows else None

    @override
    def indexed(self, fingerprint: str) -> set[int]:
        return {row["id"] for row in self._all(self._of(fingerprint), ["id"])}

    @override
    def vectors(self, fingerprint: str, ids: Sequence[int]) -> dict[int, np.ndarray]:
        rows = self._rows(self._of(fingerprint), ids, ["id", "vector"])
        return {row["id"]: np.array(row["vector"], np.float16) for row in rows}

    @override
    def put(self, entries: Sequence[Entry]) -> None:
        for collection in self.collections():
            fingerprint = collection.fingerprint
            given = {e.item.id: e.vectors[fingerprint] for e in entries if fingerprint in e.vectors}
            others = [entry.item.id for entry in entries if entry.item.id not in given]
            # Those that keep their vectors are written too: what narrows a search may have changed.
            given |= self.vectors(fingerprint, others)
            rows = [
                {
                    **{key: _row(entry.item)[key] for key in ("id", "path", "kind", "modified")},
                    "vector": given[entry.item.id].astype(np.float16).astype(np.float32).tolist(),
                }
                for entry in entries
                if entry.item.id in given
            ]
            self._upsert(self._of(fingerprint), rows)
        self._upsert(
            self._items,
            [
                _row(e.item) | _UNUSED | {"thumbnail": base64.b64encode(e.thumbnail).decode()}
                for e in entries
            ],
        )

    @override
    def remove(self, ids: Sequence[int]) -> None:
        names = [self._items, *(self._of(c.fingerprint) for c in self.collections())]
        for part in _parted(ids):
            for name in names:
                self._client.delete(name, ids=part)

    @override
    def search(self, fingerprint: str, query: np.ndarray, top: int, where: Filter) -> list[Match]:
        (hits,) = self._client.search(
            self._of(fingerprint),
            data=[query.tolist()],
            anns_field="vector",
            filter=_expression(where),
            limit=top,
            search_params={"metric_type": "IP"},
        )
        return [(hit["id"], float(hit["distance"])) for hit in hits]

    @override
    def close(self) -> None:
        self._client.close()

    def _make(self, settings: Settings) -> None:
        from pymilvus import DataType

        unused = {"unused": {"datatype": DataType.FLOAT_VECTOR, "dim": 2}}
        text = {"datatype": DataType.VARCHAR, "max_length": _TEXT}
        whole, real = {"datatype": DataType.INT64}, {"datatype": DataType.DOUBLE}
        fields: dict[str, Any] = dict.fromkeys(("path", "kind", "digest", "thumbnail"), text)
        fields |= dict.fromkeys(("size", "modified"), whole) | dict.fromkeys(("start", "end"), real)
        self._create(self._items, fields | unused, "unused")
        self._create(self._about, {"number": whole, "facts": text} | unused, "unused", text)
        self._tell(_SETTINGS, 0, asdict(settings))

    def _create(
        self, name: str, fields: dict[str, Any], vector: str, key: Row | None = None
    ) -> None:
        """Make a collection of Milvus that is searched without approximation."""
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        if key is None:
            schema.add_field("id", DataType.INT64, is_primary=True)
        else:
            schema.add_field("key", is_primary=True, **key)
        for field, kind in fields.items():
            schema.add_field(field, **kind)
        index = self._client.prepare_index_params()
        index.add_index(vector, index_type="FLAT", metric_type="IP")
        self._client.create_collection(
            name, schema=schema, index_params=index, consistency_level="Strong"
        )

    def _tell(self, key: str, number: int, facts: Row) -> None:
        row = {"key": key, "number": number, "facts": json.dumps(facts)}
        self._client.upsert(self._about, [row | _UNUSED])

    def _upsert(self, name: str, rows: Sequence[Row]) -> None:
        for part in _parted(rows):
            self._client.upsert(name, part)

    def _rows(self, name: str, ids: Sequence[int], fields: list[str]) -> list[Row]:
        found: list[Row] = []
        for part in _parted(ids):
            found += self._client.query(name, ids=part, output_fields=fields)
        return found

    def _all(self, name: str, fields: list[str]) -> Iterator[Row]:
        pages = self._client.query_iterator(name, batch_size=_AT_ONCE, output_fields=fields)
        while page := pages.next():
            yield from page
        pages.close()


def _parts(uri: str) -> tuple[str, str]:
    """What to connect to, and the gallery's name.

    Raises:
        UserError: there is no file, or the name is one that Milvus does not take.
    """
    if uri.startswith("milvus:"):
        file = uri.removeprefix("milvus:")
        if not file.endswith(".db"):
            raise UserError(f"{uri} must name a file that ends in .db, as in milvus:photos.db")
        return file, "gallery"
    url = urlsplit(uri)
    name = url.path.strip("/") or "aurora"
    if not name.isidentifier() or not name.isascii():
        raise UserError(
            f"{uri} names the gallery {name!r}; Milvus takes letters, digits and _ in names"
        )
    return f"{url.scheme}://{url.netloc}", name


def _connect(uri: str, address: str) -> Any:
    try:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException
    except ImportError:
        raise UserError(f"{uri} needs pymilvus: install aurora-vl[milvus]") from None
    try:
        return MilvusClient(address, token=os.environ.get("MILVUS_TOKEN", ""))
    except MilvusException as error:
        raise UserError(f"{uri} cannot be connected to ({error.message}); is it running?") from None


def _row(item: Item) -> Row:
    start, end = item.window or (_NO_WINDOW, _NO_WINDOW)
    path = quote_from_bytes(os.fsencode(item.path))  # Milvus takes UTF-8 alone
    return {
        **{"id": item.id, "path": path, "kind": item.kind, "size": item.size},
        **{"modified": item.modified, "digest": item.digest, "start": start, "end": end},
    }


def _item(row: Row) -> Item:
    window = None if row["start"] == _NO_WINDOW else (row["start"], row["end"])
    path = os.fsdecode(unquote_to_bytes(row["path"]))
    return Item(path, row["kind"], row["size"], row["modified"], row["digest"], window)


def _expression(where: Filter) -> str:
    """The filter in Milvus' language."""
    terms = []
    if where.path_range is not None:
        lower, upper = map(quote_from_bytes, where.path_range)
        terms.append(f'path >= "{lower}" and path < "{upper}"')
    if where.kind is not None:
        terms.append(f'kind == "{where.kind}"')
    if where.since is not None:
        terms.append(f"modified >= {where.since}")
    if where.before is not None:
        terms.append(f"modified < {where.before}")
    return " and ".join(terms)


def _parted(rows: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(rows), _AT_ONCE):
        yield list(rows[start : start + _AT_ONCE])
