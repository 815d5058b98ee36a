"""Searching: what is asked becomes one vector, and what it finds is narrowed and put in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aurora_vl.data.media import kind_of_file
from aurora_vl.errors import UserError
from aurora_vl.gallery.items import Filter, Item
from aurora_vl.gallery.store import Match, Store
from aurora_vl.gallery.thumbnails import ALIKE, look
from aurora_vl.inference.media import MediaItem
from aurora_vl.inference.retriever import Retriever

Picture = Path | bytes | Image.Image
_AVOIDING = 0.5  # the weight of what is not wanted


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for.

    Attributes:
        text: in words; None for a picture alone.
        picture: one like it, or the path of a video; None for words alone.
        weight: of the picture where there are both, from 0 to 1; the words have the rest.
        without: in words, what is not wanted.
    """

    text: str | None = None
    picture: Picture | None = None
    weight: float = 0.5
    without: str | None = None

    def vector(self, retriever: Retriever, adapter: str | None) -> np.ndarray:
        """A float32 vector (D,) of unit length.

        Raises:
            UserError: nothing is asked, the weight is not a share, or the picture is damaged.
        """
        if not 0 <= self.weight <= 1:
            raise UserError(f"the weight {self.weight:g} of the picture is not between 0 and 1")
        words = None if self.text is None else self._words(self.text, retriever, adapter)
        if self.picture is not None:
            (seen,) = _encoder_of(self.picture, retriever)([self.picture], adapter=adapter)
            words = seen if words is None else (1 - self.weight) * words + self.weight * seen
        if words is None:
            raise UserError("nothing is searched for; give words, a picture, or both")
        if self.without is not None:
            words = words - _AVOIDING * self._words(self.without, retriever, adapter)
        return words / np.linalg.norm(words)

    @staticmethod
    def _words(text: str, retriever: Retriever, adapter: str | None) -> np.ndarray:
        if not text.strip():
            raise UserError(f"the query {text!r} has no words; describe what is to be found")
        return retriever.encode_texts([text], adapter=adapter)[0]


def _encoder_of(picture: Picture, retriever: Retriever) -> Callable[..., np.ndarray]:
    """Paths may be videos, too."""
    if isinstance(picture, Path) and kind_of_file(picture) == "video":
        return retriever.encode_videos
    return retriever.encode_images


@dataclass(frozen=True, slots=True)
class Hit:
    """An item that was found.

    Attributes:
        item: it.
        score: the cosine with the query; the matching head's score where it was re-ranked by it.
        duplicates: items that look the same and are not listed.
    """

    item: Item
    score: float
    duplicates: Sequence[Item] = field(default=())

    @property
    def name(self) -> str:
        """The path, and of a stretch its time, for people."""
        window = self.item.window
        return self.item.path + ("" if window is None else f" {window[0]:g}-{window[1]:g} s")

    def to_json(self) -> dict[str, Any]:
        """As the command line and the server write it."""
        item = self.item
        changed = datetime.fromtimestamp(item.modified / 1e9, UTC)
        content: dict[str, Any] = {
            "path": item.path,
            "score": self.score,
            "kind": item.kind,
            "id": item.key,
            "size": item.size,
            "modified": changed.isoformat(timespec="seconds"),
        }
        if item.window is not None:
            content |= {"from": item.window[0], "to": item.window[1]}
        if self.duplicates:
            content["duplicates"] = [duplicate.path for duplicate in self.duplicates]
        return content


class Searcher:
    """Searches one collection of a gallery.

    Args:
        store: the gallery's.
        retriever: embeds what is asked.
        adapter: of the retriever, by name; as for it.

    Raises:
        UserError: the gallery has no vectors by this backbone with this adapter.
    """

    def __init__(self, store: Store, retriever: Retriever, adapter: str | None) -> None:
        self._store, self._retriever, self._adapter = store, retriever, adapter
        self._fingerprint = retriever.fingerprint(adapter)
        collections = store.collections()
        if self._fingerprint not in {collection.fingerprint for collection in collections}:
            present = "; ".join(map(str, collections)) or "nothing yet"
            raise UserError(
                f"{store.uri} was not indexed with this backbone and adapter; it was with: "
                f"{present}. Search with one of these, or run aurora index with this one"
            )

    def search(
        self, query: Query, *, top: int, rerank: int, fold: bool, where: Filter
    ) -> list[Hit]:
        """The best hits, best first.

        Args:
            query: what is looked for.
            top: how many at most.
            rerank: how many of the first are put in order by the matching head; 0 for none.
            fold: whether to leave out what looks the same as a better hit.
            where: which items may be found.

        Raises:
            UserError: `top` is not positive; to re-rank there are no words or no matching head.
        """
        if top < 1 or rerank < 0:
            raise UserError(f"top {top} and rerank {rerank} must be positive")
        if rerank and not self._retriever.has_matcher:
            raise UserError(
                f"{self._retriever.backbone} has no matching head; search without re-ranking"
            )
        vector = query.vector(self._retriever, self._adapter)
        hits = self._hits(vector, max(top, rerank), fold, where)
        if rerank:
            if query.text is None:
                raise UserError("the matching head compares with words; re-rank a query that has")
            hits = self._reranked(query.text, hits)
        return hits[:top]

    def _hits(self, vector: np.ndarray, count: int, fold: bool, where: Filter) -> list[Hit]:
        asked = count
        while True:
            found = self._store.search(self._fingerprint, vector, asked, where)
            kept = self._folded(found) if fold else {number: [] for number, _ in found}
            if len(kept) >= count or len(found) < asked:
                break
            asked *= 4
        scores = dict(found)
        ids = [number for number in kept for number in (number, *kept[number])]
        items = {item.id: item for item in self._store.find(ids)}  # a writer may have removed some
        return [
            Hit(
                items[number],
                scores[number],
                tuple(items[folded] for folded in kept[number] if folded in items),
            )
            for number in list(kept)[:count]
            if number in items
        ]

    def _folded(self, found: Sequence[Match]) -> dict[int, list[int]]:
        """Ids of the matches that no better one looks like, each with those that look like it."""
        kept: dict[int, list[int]] = {}
        looks: list[np.ndarray] = []
        for number, _ in found:
            jpeg = self._store.thumbnail(number)
            if jpeg is None:  # removed since
                continue
            seen = look(jpeg)
            far = [float(np.sqrt(np.mean((seen - other) ** 2))) for other in looks]
            if far and min(far) <= ALIKE:
                kept[list(kept)[int(np.argmin(far))]].append(number)
            else:
                looks.append(seen)
                kept[number] = []
        return kept

    def _reranked(self, text: str, hits: Sequence[Hit]) -> list[Hit]:
        """Hits whose files are still there, in the order of the matching head."""
        present = [hit for hit in hits if os.path.exists(hit.item.path)]
        media = [MediaItem(hit.item.path, hit.item.kind, hit.item.window) for hit in present]
        (scores,) = self._retriever.match([text], media, adapter=self._adapter)
        order = np.argsort(-scores, kind="stable")
        return [
            Hit(present[place].item, float(scores[place]), present[place].duplicates)
            for place in order
        ]
