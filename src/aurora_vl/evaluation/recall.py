"""Recall at K, median and mean rank, as pure functions of a score matrix.

The score matrix may hold several right answers per query, in both directions: an image has several
captions, and one caption may describe several images. Ties never help: a wrong candidate with the
same score as the best right one counts as ahead of it, so a model that scores everything alike
gets the worst rank, not the best.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

CUTOFFS = (1, 5, 10)
_CHUNK_ELEMENTS = 4_000_000


def ranks(
    scores: torch.Tensor | NDArray[Any], relevant: Sequence[Collection[int]]
) -> NDArray[np.int64]:
    """Rank of each query's best relevant candidate, 1 being the first place.

    The rank is one more than the number of candidates that are not relevant and score at least as
    high. Further relevant candidates of the same query push nothing down.

    Args:
        scores: (queries, candidates), higher is better; `-inf` marks candidates that come last.
        relevant: for each query the indices of its relevant candidates. A query with none (an
            image without captions) is only a candidate of the other direction and is left out.

    Returns:
        (queries with a relevant candidate,), in the order of the queries.

    Raises:
        ValueError: scores are not a matrix or hold NaN, the lengths differ, or an index is outside
            the candidates.

    Example:
        >>> ranks(np.array([[0.9, 0.2, 0.4], [0.1, 0.7, 0.7]]), [{2}, {1}])
        array([2, 2])
    """
    if scores.ndim != 2:
        raise ValueError(
            f"scores must be (queries, candidates), not of shape {tuple(scores.shape)}"
        )
    queries, candidates = scores.shape
    if len(relevant) != queries:
        raise ValueError(f"{queries} rows of scores, but {len(relevant)} sets of relevant indices")
    step = max(1, _CHUNK_ELEMENTS // max(1, candidates))
    parts = [
        _chunk_ranks(_to_numpy(scores[start : start + step]), relevant[start : start + step], start)
        for start in range(0, queries, step)
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def retrieval_metrics(
    media_ranks: ArrayLike, text_ranks: ArrayLike, prefix: Literal["i2t", "v2t"] = "i2t"
) -> dict[str, float]:
    """Recalls, their mean, and median and mean rank in both directions.

    Args:
        media_ranks: ranks found by image or video queries among the texts.
        text_ranks: ranks found by text queries among the images or videos.
        prefix: name of the direction from media to text; the other one is read backwards.

    Returns:
        For images `i2t_r1 i2t_r5 i2t_r10 t2i_r1 t2i_r5 t2i_r10` in percent, `r_mean`, the mean of
        these six, and the ranks `i2t_mdr t2i_mdr i2t_mnr t2i_mnr` (median, mean); for videos the
        same with `v2t` and `t2v`.

    Raises:
        ValueError: a direction has no query, or a rank is below 1.
    """
    directions = {prefix: _checked(media_ranks), prefix[::-1]: _checked(text_ranks)}
    metrics = {
        f"{name}_r{k}": 100.0 * float(np.mean(found <= k))
        for name, found in directions.items()
        for k in CUTOFFS
    }
    metrics["r_mean"] = sum(metrics.values()) / len(metrics)
    metrics |= {f"{name}_mdr": float(np.median(found)) for name, found in directions.items()}
    metrics |= {f"{name}_mnr": float(np.mean(found)) for name, found in directions.items()}
    return metrics


def query_recall(found: ArrayLike) -> NDArray[np.float64]:
    """Each query's own share of `r_mean`: the mean of its hits at 1, 5 and 10, in percent.

    `r_mean` is the mean over the two directions of the mean over queries of this number, which is
    what makes it fit for resampling queries (comparison/bootstrap.py).

    Args:
        found: ranks of any shape.

    Returns:
        0, 33.3, 66.7 or 100 for each rank, in the same shape.
    """
    found = _checked(found)
    return np.mean([100.0 * (found <= k) for k in CUTOFFS], axis=0)


def _to_numpy(chunk: torch.Tensor | NDArray[Any]) -> NDArray[Any]:
    """The chunk on the host; bfloat16, which numpy does not know, becomes float32."""
    if isinstance(chunk, torch.Tensor):
        chunk = chunk.detach().cpu()
        return (chunk.float() if chunk.dtype == torch.bfloat16 else chunk).numpy()
    return chunk


def _chunk_ranks(
    scores: NDArray[Any], relevant: Sequence[Collection[int]], first: int
) -> NDArray[np.int64]:
    if np.isnan(scores).any():
        row = first + int(np.isnan(scores).any(axis=1).argmax())
        raise ValueError(
            f"scores hold NaN (first in the row of query {row}): no ranking is possible"
        )
    candidates = scores.shape[1]
    is_relevant = np.zeros(scores.shape, dtype=bool)  # (Q, C)
    for row, indices in enumerate(relevant):
        if not all(0 <= index < candidates for index in indices):
            raise ValueError(
                f"query {first + row} has relevant indices {sorted(indices)}, "
                f"but there are only {candidates} candidates"
            )
        is_relevant[row, list(indices)] = True
    asked = is_relevant.any(axis=1)
    scores, is_relevant = scores[asked], is_relevant[asked]
    best = np.max(scores, axis=1, where=is_relevant, initial=-np.inf, keepdims=True)  # (Q, 1)
    return 1 + np.count_nonzero((scores >= best) & ~is_relevant, axis=1).astype(np.int64)


def _checked(found: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(found)
    if array.size == 0:
        raise ValueError("no ranks: a direction without a query has no recall")
    if array.min() < 1:
        raise ValueError(f"ranks start at 1, not at {array.min()}")
    return array
