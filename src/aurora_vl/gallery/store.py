"""Where a gallery is kept: the contract of the stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np

from aurora_vl.gallery.items import Collection, Entry, Filter, Item, Settings

Match = tuple[int, float]
"""An item's id and its score."""


class Store(ABC):
    """Items with their thumbnails, and one vector for each item and collection.

    Methods may be called from several threads. Vectors are kept in half precision.
    """

    uri: str

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """As the gallery was made."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[None]:
        """The right to write, which one process has at a time.

        Raises:
            UserError: another process has it.
        """

    @abstractmethod
    def collections(self) -> list[Collection]:
        """In the order they were added."""

    @abstractmethod
    def add_collection(self, collection: Collection) -> None:
        """Make room for vectors; a collection that is there is left as it is."""

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """All items, in the order of their paths and windows."""

    @abstractmethod
    def find(self, ids: Sequence[int]) -> list[Item]:
        """The items of some ids, in the order of the ids; those that are gone are left out."""

    @abstractmethod
    def thumbnail(self, item: int) -> bytes | None:
        """A JPEG file of the item; None if there is no such item."""

    @abstractmethod
    def indexed(self, fingerprint: str) -> set[int]:
        """Ids of the items that have a vector in a collection."""

    @abstractmethod
    def vectors(self, fingerprint: str, ids: Sequence[int]) -> dict[int, np.ndarray]:
        """float16 (D,) of those of the items that have one."""

    @abstractmethod
    def put(self, entries: Sequence[Entry]) -> None:
        """Add items or replace them: all of them, or none if the process ends."""

    @abstractmethod
    def remove(self, ids: Sequence[int]) -> None:
        """Take items out, with their thumbnails and vectors."""

    @abstractmethod
    def search(self, fingerprint: str, query: np.ndarray, top: int, where: Filter) -> list[Match]:
        """The `top` items with the largest inner products, best first.

        Args:
            fingerprint: of the collection.
            query: float32 (D,).
            top: how many at most.
            where: which items may be found.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections."""
