"""The contract of the stores, over SQLite and Milvus alike."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aurora_vl.data.records import Window
from aurora_vl.errors import UserError
from aurora_vl.gallery.items import Collection, Entry, Filter, Item, Settings
from aurora_vl.gallery.opening import open_store
from aurora_vl.gallery.store import Store

PLAIN = Collection("f" * 32, "mini", None, 4)
TUNED = Collection("e" * 32, "mini", "night", 6)
SERVER = os.environ.get("AURORA_MILVUS_URI")

Open = Callable[..., Store]


def item(
    path: str, *, kind: str = "image", modified: int = 1_000, window: Window | None = None
) -> Item:
    return Item(path, kind, 10, modified, "ab" * 16, window)


def entry(it: Item, *vector: float) -> Entry:
    """An item with a vector of the plain collection, if one is given."""
    vectors = {PLAIN.fingerprint: np.array(vector, np.float32)} if vector else {}
    return Entry(it, f"thumbnail of {it.path!a}".encode(), vectors)


def search(store: Store, *query: float, top: int = 10, where: Filter | None = None) -> list[str]:
    found = store.search(PLAIN.fingerprint, np.array(query, np.float32), top, where or Filter())
    return [it.path for it in store.find([number for number, _ in found])]


class Contract:
    """What every store does; a subclass says how one is opened."""

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Open]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, reopen: Open) -> Store:
        store = reopen()
        store.add_collection(PLAIN)
        return store

    def test_a_new_store_is_empty(self, store: Store) -> None:
        assert list(store.items()) == []
        assert store.collections() == [PLAIN]
        assert store.indexed(PLAIN.fingerprint) == set()
        assert search(store, 1, 0, 0, 0) == []

    def test_what_is_put_comes_back(self, store: Store) -> None:
        one, two = item("/m/a.jpg"), item("/m/b.mp4", kind="video", window=(10.0, 20.5))
        store.put([entry(two, 0, 1, 0, 0), entry(one, 0.1, 0, 0, 0)])
        assert list(store.items()) == [one, two]
        assert store.find([two.id, one.id, 7]) == [two, one]
        assert store.thumbnail(one.id) == b"thumbnail of '/m/a.jpg'"
        assert store.thumbnail(7) is None
        assert store.indexed(PLAIN.fingerprint) == {one.id, two.id}
        (vector,) = store.vectors(PLAIN.fingerprint, [one.id, 7]).values()
        assert vector.dtype == np.float16
        assert vector.tolist() == np.array([0.1, 0, 0, 0], np.float16).tolist()

    def test_it_is_there_when_opened_again(self, store: Store, reopen: Open) -> None:
        store.put([entry(item("/m/a.jpg"), 1, 0, 0, 0)])
        store.close()
        again = reopen()
        assert again.collections() == [PLAIN]
        assert search(again, 1, 0, 0, 0) == ["/m/a.jpg"]

    def test_parts_of_a_video_stand_in_order(self, store: Store) -> None:
        parts = [item("/m/v.mp4", kind="video", window=(t, t + 10.0)) for t in (100.0, 0.0, 20.0)]
        store.put([entry(part, 1, 0, 0, 0) for part in parts])
        assert [it.window for it in store.items()] == [(0.0, 10.0), (20.0, 30.0), (100.0, 110.0)]

    def test_the_nearest_come_first_with_their_scores(self, store: Store) -> None:
        rng = np.random.default_rng(0)
        vectors = rng.standard_normal((300, 4)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        items = [item(f"/m/{number:03}.jpg") for number in range(300)]
        store.put([entry(it, *vector) for it, vector in zip(items, vectors)])
        scores = vectors.astype(np.float16).astype(np.float32) @ vectors[7]
        expected = np.argsort(-scores)[:20]
        found = store.search(PLAIN.fingerprint, vectors[7], 20, Filter())
        assert [number for number, _ in found] == [items[place].id for place in expected]
        np.testing.assert_allclose([score for _, score in found], scores[expected], atol=2e-3)

    def test_filters(self, store: Store) -> None:
        store.put(
            [
                entry(item("/m/a/1.jpg", modified=100), 1, 0, 0, 0),
                entry(item("/m/a/2.mp4", kind="video", modified=200), 0.9, 0, 0, 0),
                entry(item("/m/ab/3.jpg", modified=300), 0.8, 0, 0, 0),
                entry(item("/m/a%_b/4.jpg", modified=400), 0.7, 0, 0, 0),
            ]
        )

        def names(where: Filter) -> str:
            return "".join(Path(path).stem for path in search(store, 1, 0, 0, 0, where=where))

        assert names(Filter(folder="/m/a")) == "12"
        assert names(Filter(folder="/m/a/")) == "12"
        assert names(Filter(folder="/m/a%_b")) == "4"
        assert names(Filter(folder="/")) == "1234"
        assert names(Filter(kind="video")) == "2"
        assert names(Filter(since=200)) == "234"
        assert names(Filter(since=200, before=400)) == "23"
        assert names(Filter(folder="/m/a", kind="image", before=101)) == "1"
        assert names(Filter(folder="/elsewhere")) == ""

    def test_names_in_any_encoding(self, store: Store) -> None:
        names = [
            os.fsdecode(b"/m/caf\xe9.jpg"),
            "/m/caf\u00e9.jpg",
            "/m/\u82b1/\U0001f339 'x\" \\.png",
        ]
        store.put([entry(item(name), 1, 0, 0, 0) for name in names])
        assert {it.path for it in store.items()} == set(names)
        where = Filter(folder="/m/\u82b1")
        assert search(store, 1, 0, 0, 0, where=where) == names[2:]

    def test_an_item_is_replaced(self, store: Store) -> None:
        one, two = item("/m/a.jpg"), item("/m/b.jpg")
        store.put([entry(one, 1, 0, 0, 0), entry(two, 0.5, 0, 0, 0)])
        assert search(store, 1, 0, 0, 0) == ["/m/a.jpg", "/m/b.jpg"]
        changed = replace(one, size=11, digest="cd" * 16)
        store.put([Entry(changed, b"new", {PLAIN.fingerprint: np.zeros(4, np.float32)})])
        assert list(store.items()) == [changed, two]
        assert store.thumbnail(one.id) == b"new"
        assert search(store, 1, 0, 0, 0) == ["/m/b.jpg", "/m/a.jpg"]

    def test_an_item_keeps_vectors_that_are_not_given(self, store: Store) -> None:
        one = item("/m/a.jpg")
        store.put([entry(one, 1, 0, 0, 0)])
        store.put([entry(replace(one, modified=2_000))])
        assert next(store.items()).modified == 2_000
        assert search(store, 1, 0, 0, 0, where=Filter(since=2_000)) == ["/m/a.jpg"]

    def test_items_are_removed_with_all_they_have(self, store: Store) -> None:
        one, two = item("/m/a.jpg"), item("/m/b.jpg")
        store.put([entry(one, 1, 0, 0, 0), entry(two, 1, 0, 0, 0)])
        assert len(search(store, 1, 0, 0, 0)) == 2
        store.remove([one.id])
        assert list(store.items()) == [two]
        assert store.thumbnail(one.id) is None
        assert store.indexed(PLAIN.fingerprint) == {two.id}
        assert search(store, 1, 0, 0, 0) == ["/m/b.jpg"]
        store.remove([])

    def test_collections_are_kept_apart(self, store: Store) -> None:
        store.add_collection(TUNED)
        store.add_collection(PLAIN)
        assert store.collections() == [PLAIN, TUNED]
        one, two = item("/m/a.jpg"), item("/m/b.jpg")
        tuned = {TUNED.fingerprint: np.eye(6, dtype=np.float32)[5]}
        store.put([entry(one, 1, 0, 0, 0), Entry(two, b"", tuned)])
        assert search(store, 1, 0, 0, 0) == ["/m/a.jpg"]
        query = np.eye(6, dtype=np.float32)[5]
        assert store.search(TUNED.fingerprint, query, 5, Filter()) == [(two.id, 1.0)]
        assert store.indexed(TUNED.fingerprint) == {two.id}

    def test_more_than_there_is_may_be_asked_for(self, store: Store) -> None:
        store.put([entry(item("/m/a.jpg"), 1, 0, 0, 0)])
        assert len(search(store, 1, 0, 0, 0, top=50)) == 1

    def test_settings_stay_as_the_gallery_was_made(self, reopen: Open) -> None:
        settings = Settings(frames=4, segment=10.0)
        reopen(settings=settings).close()
        assert reopen().settings == settings
        with pytest.raises(UserError, match=r"made with --frames 4 and --segment 10s"):
            reopen(settings=Settings(frames=8, segment=10.0))

    def test_a_gallery_that_is_not_there(self, reopen: Open) -> None:
        with pytest.raises(UserError, match=r"does not exist; aurora index"):
            reopen(create=False)


class TestSqlite(Contract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Open]:
        opened: list[Store] = []

        def opening(create: bool = True, settings: Settings | None = None) -> Store:
            uri = str(tmp_path / "gallery.aurora")
            opened.append(open_store(uri, create=create, settings=settings))
            return opened[-1]

        yield opening
        for store in opened:
            store.close()


class TestMilvusLite(Contract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Open]:
        pytest.importorskip("milvus_lite", reason="the extra milvus is not installed")
        opened: list[Store] = []

        def opening(create: bool = True, settings: Settings | None = None) -> Store:
            uri = f"milvus:{tmp_path / 'gallery.db'}"
            opened.append(open_store(uri, create=create, settings=settings))
            return opened[-1]

        yield opening
        for store in opened:
            store.close()


@pytest.mark.skipif(SERVER is None, reason="AURORA_MILVUS_URI names no Milvus server")
class TestMilvusServer(Contract):
    @pytest.fixture
    def reopen(self) -> Iterator[Open]:
        from pymilvus import MilvusClient

        opened: list[Store] = []
        gallery = f"test_{uuid.uuid4().hex[:12]}"

        def opening(create: bool = True, settings: Settings | None = None) -> Store:
            uri = f"{SERVER}/{gallery}"
            opened.append(open_store(uri, create=create, settings=settings))
            return opened[-1]

        yield opening
        for store in opened:
            store.close()
        client = MilvusClient(SERVER)
        for name in client.list_collections():
            if name.startswith(gallery):
                client.drop_collection(name)
        client.close()
