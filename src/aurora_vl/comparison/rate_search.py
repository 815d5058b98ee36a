"""Choosing a learning rate: the same number of trials for every method, on validation data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search found.

    Attributes:
        rate: the best; the smaller of two that are equal.
        scores: validation score of each rate tried; None where the run failed.
    """

    rate: float
    scores: Mapping[float, float | None]

    @property
    def at_edge(self) -> bool:
        """Whether the smallest or the largest is as good as the best: others may be better."""
        edges = (self.scores[min(self.scores)], self.scores[max(self.scores)])
        return len(self.scores) > 1 and self.scores[self.rate] in edges


def candidate_rates(default: float, trials: int, spread: float) -> list[float]:
    """Rates around a default, ascending, each `spread` times the one before, in two digits.

    The default is among them, in two digits as well; an even number has one more below it than
    above.

    Example:
        >>> candidate_rates(0.01, 4, 3.2)
        [0.00098, 0.0031, 0.01, 0.032]
    """
    return [float(f"{default * spread ** (n - trials // 2):.2g}") for n in range(trials)]


def best_rate(scores: Mapping[float, float | None]) -> Choice | None:
    """The rate with the highest score; None if every run failed."""
    found = {rate: score for rate, score in scores.items() if score is not None}
    if not found:
        return None
    return Choice(max(sorted(found), key=lambda rate: found[rate]), dict(scores))
