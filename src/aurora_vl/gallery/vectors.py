"""Vectors held in memory in half precision, searched by an exact product.

They lie in blocks that are widened to float32 one at a time, in a scratch that fits the processor's
cache: memory stays near that of the half-precision vectors, and no score is rounded. How this
compares with other layouts is in docs/search.md.
"""

from __future__ import annotations

from collections.abc import Collection as Group

import numpy as np
import torch
from torch import Tensor

_ROWS = 4096  # of a block: 2 MB of 256 wide vectors, and a scratch of 4 MB


class VectorTable:
    """Ids with their vectors, to be searched and added to.

    Args:
        width: numbers in a vector.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._blocks: list[Tensor] = []  # (_ROWS, D) float16; the last one is filled in part
        self._ids: list[np.ndarray] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add int64 (N,) ids with float16 (N, D) vectors."""
        self._ids.append(ids)
        while len(vectors):
            start = self._count % _ROWS
            if not start:
                self._blocks.append(torch.empty(_ROWS, self.width, dtype=torch.float16))
            taken = vectors[: _ROWS - start]
            self._blocks[-1].numpy()[start : start + len(taken)] = taken
            self._count += len(taken)
            vectors = vectors[len(taken) :]

    def search(
        self, query: np.ndarray, top: int, allowed: Group[int] | None = None
    ) -> list[tuple[int, float]]:
        """Ids and scores of the `top` largest inner products, best first; ties by id.

        Args:
            query: float32 (D,).
            top: how many at most.
            allowed: the ids that may be found; None for all.
        """
        if not self._count:
            return []
        self._ids = [np.concatenate(self._ids)]
        ids, scores = self._ids[0], self._scores(torch.from_numpy(query))
        if allowed is not None:
            keep = np.isin(ids, np.fromiter(allowed, np.int64, len(allowed)))
            ids, scores = ids[keep], scores[keep]
        best = torch.topk(torch.from_numpy(scores), min(top, len(scores))).indices.numpy()
        best = best[np.lexsort((ids[best], -scores[best]))]
        return [(int(ids[place]), float(scores[place])) for place in best]

    @torch.inference_mode()
    def _scores(self, query: Tensor) -> np.ndarray:
        """float32 (N,) inner products."""
        scores = torch.empty(len(self._blocks) * _ROWS)
        scratch = torch.empty(_ROWS, self.width)
        for place, block in enumerate(self._blocks):
            torch.mv(scratch.copy_(block), query, out=scores[place * _ROWS : (place + 1) * _ROWS])
        return scores[: self._count].numpy()
