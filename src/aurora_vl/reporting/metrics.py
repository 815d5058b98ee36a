"""Metrics as people read them: their names, and what tuning changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_DIRECTIONS = {
    "i2t": "Image → text",
    "t2i": "Text → image",
    "v2t": "Video → text",
    "t2v": "Text → video",
}
_MEASURES = {"mdr": "median rank", "mnr": "mean rank"}
_WHOLE = {"r_mean": "Mean of the six recalls", "accuracy": "Accuracy"}
_CUTOFF = re.compile(r"r(\d+)")


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric before and after tuning.

    Attributes:
        name: as in metrics.json.
        label: for people.
        before: score without tuning, in percent, or a rank.
        after: score with tuning.
        is_rank: a rank, where lower is better, and not a percentage.
    """

    name: str
    label: str
    before: float
    after: float
    is_rank: bool

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def better(self) -> bool | None:
        """Whether the change is for the better; None where there is none at one decimal."""
        if f"{abs(self.change):.1f}" == "0.0":
            return None
        return (self.change < 0) == self.is_rank


def metric_label(name: str) -> str:
    """The name of a metric in metrics.json in words; an unknown name is given back unchanged.

    Example:
        >>> metric_label("t2i_r5")
        'Text → image, R@5'
    """
    direction, _, measure = name.partition("_")
    if name in _WHOLE or direction not in _DIRECTIONS:
        return _WHOLE.get(name, name)
    cutoff = _CUTOFF.fullmatch(measure)
    words = f"R@{cutoff[1]}" if cutoff else _MEASURES.get(measure, measure)
    return f"{_DIRECTIONS[direction]}, {words}"


def metric_rows(before: Mapping[str, float], after: Mapping[str, float]) -> list[MetricRow]:
    """The metrics that both sides have, in the order of `after`."""
    return [
        MetricRow(
            name, metric_label(name), before[name], after[name], name.endswith(("_mdr", "_mnr"))
        )
        for name in after
        if name in before
    ]
