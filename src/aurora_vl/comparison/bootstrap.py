"""How sure a difference between two methods is: a paired bootstrap over test items.

Queries are drawn again with replacement while the gallery stays as it is, and both methods answer
the same draw, so the difficulty of a query cancels. Seeds are pooled: a query keeps the mean of its
values over the seeds, because its answers from several seeds are not independent evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured mean with the lower and upper end of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """As in `+1.2 [-0.3, +2.7]`."""
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def paired_bootstrap(
    a: Sequence[ArrayLike], b: Sequence[ArrayLike], *, samples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of `a - b` and its 95 % percentile interval.

    Args:
        a: one array for each group of queries, (seeds, queries) or (queries,): the metric of every
            query. The groups' means count equally. For `r_mean` the groups are the two directions
            and the values `evaluation.recall.query_recall(ranks)`; for question answering there is
            one group, the score of each question.
        b: the same groups and queries for the other method; its number of seeds may differ.
        samples: how many times the queries are drawn again.
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
    generator = np.random.default_rng(seed)
    drawn = np.mean([_resample(each, samples, generator) for each in differences], axis=0)
    low, high = np.percentile(drawn, (2.5, 97.5))
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


def _resample(
    values: NDArray[np.float64], samples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Means of `samples` draws with replacement: (samples,)."""
    step = max(1, _DRAWS_AT_ONCE // values.size)
    means = np.empty(samples)
    for start in range(0, samples, step):
        part = means[start : start + step]
        part[:] = values[generator.integers(values.size, size=(part.size, values.size))].mean(1)
    return means
