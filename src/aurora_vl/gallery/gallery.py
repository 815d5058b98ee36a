"""A gallery in use: opened, brought up to date with files, and searched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aurora_vl.errors import UserError
from aurora_vl.gallery.indexing import Indexer, IndexReport
from aurora_vl.gallery.items import Collection, Filter, Item, Settings
from aurora_vl.gallery.opening import open_store
from aurora_vl.gallery.scanning import scan
from aurora_vl.gallery.searching import Hit, Picture, Query, Searcher
from aurora_vl.gallery.store import Store
from aurora_vl.inference.retriever import Retriever


class Gallery:
    """Pictures and videos that are found by what they show; `Gallery.open` makes one.

    A gallery may be used by many threads at once, and read by many processes while one writes.

    Args:
        store: where it is kept.

    Example:
        >>> gallery = Gallery.open("photos.aurora")  # doctest: +SKIP
        >>> gallery.add_folder("photos", retriever)  # doctest: +SKIP
        >>> gallery.search("a red rose", retriever, top=10)  # doctest: +SKIP
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def open(
        cls,
        uri: str | os.PathLike[str],
        *,
        create: bool = True,
        frames: int | None = None,
        segment: float | None = None,
    ) -> Self:
        """Open a gallery.

        Args:
            uri: a path for a local file, `milvus:FILE.db`, or `http(s)://host:port[/collection]`.
            create: whether to make it if it is not there.
            frames: taken of a video, or of each stretch of it; None for what the adapter or the
                backbone says. It is set when the gallery is made.
            segment: seconds of the stretches that videos are cut into, each an item with its time;
                None for whole videos. It is set when the gallery is made.

        Raises:
            UserError: there is no such gallery, it is something else, or it was made with other
                `frames` or `segment`.
        """
        if (frames is not None and frames < 1) or (segment is not None and not segment > 0):
            raise UserError(f"frames {frames} and segment {segment} must be positive")
        given = None if frames is None and segment is None else Settings(frames, segment)
        return cls(open_store(os.fspath(uri), create=create, settings=given))

    @property
    def uri(self) -> str:
        """Where it is kept."""
        return self._store.uri

    @property
    def collections(self) -> list[Collection]:
        """Which backbones and adapters it can be searched with, in the order they were added."""
        return self._store.collections()

    def items(self) -> Iterator[Item]:
        """All items, in the order of their paths."""
        return self._store.items()

    def item(self, key: str) -> Item | None:
        """The item of a key; None if there is none."""
        number = Item.id_of(key)
        return next(iter(self._store.find([number])), None) if number is not None else None

    def thumbnail(self, item: Item) -> bytes | None:
        """A small picture of an item, as a JPEG file; of a video from its middle."""
        return self._store.thumbnail(item.id)

    def add_folder(
        self,
        folder: str | Path,
        retriever: Retriever,
        *,
        adapters: Sequence[str] | None = None,
        prune: bool = False,
        workers: int = 0,
    ) -> IndexReport:
        """Bring the gallery up to date with a tree of folders, or with a list.

        What has not changed is left as it is. Files that cannot be read are told in the report.

        Args:
            folder: it and the folders below it; or a .jsonl file with an object a line, such as
                `{"image": "a.jpg"}` or `{"video": "b.mp4", "window": [2.5, 7]}`.
            retriever: embeds.
            adapters: which of its adapters, by name; None for all, or the backbone alone where it
                has none.
            prune: whether to take out files that are gone.
            workers: processes that decode; 0 for threads.

        Raises:
            UserError: the folder does not exist, the list is wrong, or another process writes.
        """
        found = scan(folder)
        if not found.files and not prune:
            raise UserError(f"{folder} holds no pictures or videos; give another folder")
        names = adapters or retriever.adapters or (None,)
        with self._store.writing():
            return Indexer(self._store, retriever, names).run(found, prune=prune, workers=workers)

    def search(
        self,
        query: str | Picture | Query,
        retriever: Retriever,
        *,
        top: int = 10,
        adapter: str | None = None,
        rerank: int = 0,
        fold: bool = False,
        where: Filter | None = None,
    ) -> list[Hit]:
        """Find items.

        Args:
            query: words; a picture as a `Path`, the bytes of a file or a Pillow image; or a
                `Query` that puts words and a picture together.
            retriever: embeds the query; the gallery was indexed with its backbone and adapter.
            top: how many at most.
            adapter: of the retriever, by name; as for it.
            rerank: how many of the first are put in order by the backbone's matching head.
            fold: whether to leave out what looks the same as a better hit.
            where: which items may be found; None for all.

        Returns:
            the hits, best first.

        Raises:
            UserError: the gallery was not indexed with this backbone and adapter, the query is
                empty or damaged, or there is no matching head to re-rank by.
        """
        if isinstance(query, str):
            query = Query(text=query)
        elif not isinstance(query, Query):
            query = Query(picture=query)
        return Searcher(self._store, retriever, adapter).search(
            query, top=top, rerank=rerank, fold=fold, where=where or Filter()
        )

    def close(self) -> None:
        """Let go of files and connections."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
