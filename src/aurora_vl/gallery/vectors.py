"""Vectors held in memory in half precision, searched by an exact product.

Everything is first scored in half precision, which touches each vector once and needs no copy of
them; whatever that rounding could have put among the best is scored again in float32. How this
compares with other ways is in docs/search.md.
"""

from __future__ import annotations

from collections.abc import Collection as Group

import numpy as np
import torch
from torch import Tensor

_ROWS = 8192  # of a block, at least
_GROWTH = 8  # a block that is added has this part of the rows there are, or more
# Half precision rounds to 2^-11 of a value: once the query, once the score, for either of the two
# vectors that are compared.
_ROUNDING = 4 * 2.0**-11


class VectorTable:
    """Ids with their vectors, to be searched and added to.

    They lie in few blocks, since each is a parallel step that waits for the slowest thread.

    Args:
        width: numbers in a vector.
        room: vectors that the first block has room for, at least.
    """

    def __init__(self, width: int, room: int = 0) -> None:
        self.width = width
        self._room = room
        self._blocks: list[Tensor] = []  # (rows, D) float16; the last one is filled in part
        self._starts: list[int] = []  # of the blocks
        self._ids: list[np.ndarray] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add int64 (N,) ids with float16 (N, D) vectors, no longer than 1."""
        self._ids.append(ids)
        while len(vectors):
            if not self._blocks or self._count == self._starts[-1] + len(self._blocks[-1]):
                rows = max(_ROWS, self._count // _GROWTH if self._blocks else self._room)
                self._blocks.append(torch.empty(rows, self.width, dtype=torch.float16))
                self._starts.append(self._count)
            free = self._blocks[-1].numpy()[self._count - self._starts[-1] :]
            taken = vectors[: len(free)]
            free[: len(taken)] = taken
            self._count += len(taken)
            vectors = vectors[len(taken) :]

    def _filled(self) -> list[Tensor]:
        """The blocks, without the last one's free rows."""
        return [*self._blocks[:-1], self._blocks[-1][: self._count - self._starts[-1]]]

    @torch.inference_mode()
    def search(
        self, query: np.ndarray, top: int, allowed: Group[int] | None = None
    ) -> list[tuple[int, float]]:
        """Ids and scores of the `top` largest inner products, best first; ties by id.

        Args:
            query: float32 (D,), no longer than 1.
            top: how many at most.
            allowed: the ids that may be found; None for all.
        """
        if not self._count:
            return []
        self._ids = [np.concatenate(self._ids)]
        (ids,) = self._ids
        keep = np.arange(len(ids)) if allowed is None else np.flatnonzero(_among(ids, allowed))
        rough = self._rough(query)[keep]
        if len(rough) > top:
            worst = np.partition(rough, -top)[-top]
            keep = keep[rough >= worst - _ROUNDING]
        scores = self._exact(query, keep)
        best = np.lexsort((ids[keep], -scores))[:top]
        return [(int(ids[keep[place]]), float(scores[place])) for place in best]

    def _rough(self, query: np.ndarray) -> np.ndarray:
        """float32 (N,) inner products, rounded to half precision."""
        half = torch.from_numpy(query).half()
        return torch.cat([torch.mv(block, half) for block in self._filled()]).float().numpy()

    def _exact(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 inner products of some rows, in their order, which is ascending."""
        parts = np.split(rows, np.searchsorted(rows, self._starts[1:]))
        scores = [
            block.numpy()[part - start].astype(np.float32) @ query
            for block, start, part in zip(self._blocks, self._starts, parts, strict=True)
        ]
        return np.concatenate(scores)


def _among(ids: np.ndarray, allowed: Group[int]) -> np.ndarray:
    return np.isin(ids, np.fromiter(allowed, np.int64, len(allowed)))
