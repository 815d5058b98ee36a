"""How sure a difference between two methods is: a paired bootstrap over test media.

Media are drawn again with replacement, each with all that is asked about it (itself among the
texts, its captions among the media, its questions), because answers about one picture are not
independent. The gallery stays as it is, and both methods answer the same draw, so the difficulty of
a query cancels. Seeds are pooled: a query keeps the mean of its values over the seeds, because its
answers from several seeds are not independent evidence either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_COUNTS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured mean with the lower and upper end of its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    *,
    media: Sequence[ArrayLike] | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The mean of `a - b` and its 95 % percentile interval.

    Args:
        a: one array for each group of queries, (seeds, queries) or (queries,): the metric of every
            query. The groups' means count equally. For `r_mean` the groups are the two directions
            and the values `evaluation.recall.query_recall(ranks)`; for question answering there is
            one group, the score of each question.
        b: the same groups and queries for the other method; its number of seeds may differ.
        media: for each group the number (from 0) of the medium that each query is about,
            (queries,); numbers mean the same in all groups. None: every query is on its own.
        samples: how many times the media are drawn again.
        seed: of the draws.

    Returns:
        The difference in the metric's own unit. `mean` is the measured one, not the resampled.

    Raises:
        ValueError: no groups, a group without queries, or groups that do not match.

    Example:
        >>> paired_bootstrap([[60.0, 70.0, 80.0]], [[50.0, 60.0, 70.0]])
        Interval(mean=10.0, low=10.0, high=10.0)
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if len(a) != len(b) or not a:
        raise ValueError(f"the methods must have the same groups: {len(a)} against {len(b)}")
    differences = [_difference(ours, theirs) for ours, theirs in zip(a, b, strict=True)]
    drawn = _resample(differences, _checked(media, differences), samples, seed)
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    mean = np.mean([each.mean() for each in differences])
    return Interval(float(mean), float(low), float(high))


def _difference(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Per query, the mean over a's seeds less the mean over b's: (queries,)."""
    means = []
    for values in (a, b):
        array = np.atleast_2d(np.asarray(values, dtype=np.float64))  # (seeds, queries)
        if array.ndim != 2 or array.size == 0:
            raise ValueError(f"a group must be (seeds, queries), not of shape {array.shape}")
        means.append(array.mean(axis=0))
    if means[0].shape != means[1].shape:
        raise ValueError(
            f"a paired test needs the same queries: {means[0].size} against {means[1].size}"
        )
    return means[0] - means[1]


def _checked(
    media: Sequence[ArrayLike] | None, differences: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.int64]]:
    """The medium of each query, by group."""
    sizes = [each.size for each in differences]
    if media is None:
        ends = np.cumsum(sizes)
        return [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    found = [np.asarray(each, dtype=np.int64) for each in media]
    if [each.shape for each in found] != [(size,) for size in sizes]:
        told = [each.shape for each in found]
        raise ValueError(
            f"media must name one for each of {sizes} queries, not be of shapes {told}"
        )
    return found


def _resample(
    differences: Sequence[NDArray[np.float64]],
    media: Sequence[NDArray[np.int64]],
    samples: int,
    seed: int,
) -> NDArray[np.float64]:
    """The groups' mean in `samples` draws of as many media: (samples,).

    A draw in which a group has no query, as few media may give, is NaN.
    """
    count = 1 + max(int(each.max()) for each in media)
    sums = np.stack(
        [np.bincount(m, d, count) for m, d in zip(media, differences, strict=True)], axis=1
    )  # (media, groups)
    sizes = np.stack([np.bincount(m, minlength=count) for m in media], axis=1)
    generator = np.random.default_rng(seed)
    step = max(1, _COUNTS_AT_ONCE // count)
    drawn = np.empty(samples)
    for start in range(0, samples, step):
        part = drawn[start : start + step]
        times = generator.multinomial(count, np.full(count, 1 / count), size=part.size)
        queries = (times @ sizes).astype(np.float64)
        queries[queries == 0] = np.nan
        part[:] = ((times.astype(np.float64) @ sums) / queries).mean(axis=1)
    return drawn
