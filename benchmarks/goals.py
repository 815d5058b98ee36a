"""The goals on BLIP-base (docs/performance.md), and whether they are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.measuring import Row, ratio_interval


@dataclass(frozen=True, slots=True)
class Goal:
    """One number and its limit.

    Attributes:
        name: what it is.
        row: the row it is taken from.
        limit: in the number's own unit.
        base: the row it is divided by; None for the number itself.
        of: seconds (ratios are taken within each repeat), peak_mb or difference.
        must: be at most or at least the limit, or have an interval that contains it.
    """

    name: str
    row: str
    limit: float
    base: str | None = None
    of: Literal["seconds", "peak_mb", "difference"] = "seconds"
    must: Literal["at most", "at least", "contain"] = "at most"

    def value(self, row: Row, base: Row | None) -> tuple[float, float, float] | None:
        """The number and its 95 % interval, where it has one; None where it was not measured."""
        if self.of == "seconds":
            return ratio_interval(row.seconds, (1.0,) if base is None else base.seconds)
        number = getattr(row, self.of)
        divisor = 1.0 if base is None else getattr(base, self.of)
        return None if number is None or divisor is None else (number / divisor,) * 3

    def met(self, value: float, low: float, high: float) -> bool:
        """Whether the limit holds."""
        if self.must == "contain":
            return low <= self.limit <= high
        return value <= self.limit if self.must == "at most" else value >= self.limit


_STEP, _REFERENCE_STEP = "train-step: aurora", "train-step: reference"
GOALS = (
    Goal("training step, relative to the reference implementation", _STEP, 0.68, _REFERENCE_STEP),
    Goal(
        "training step without momentum, relative to the reference implementation",
        f"{_STEP} without momentum",
        0.50,
        _REFERENCE_STEP,
    ),
    Goal(
        "training step in bfloat16, relative to the reference implementation",
        f"{_STEP} in bfloat16",
        0.42,
        _REFERENCE_STEP,
    ),
    Goal(
        "peak memory of a step, relative to the reference implementation",
        _STEP,
        0.50,
        _REFERENCE_STEP,
        of="peak_mb",
    ),
    Goal("training step, relative to LoRA", _STEP, 1.05, "train-step: lora"),
    Goal(
        "largest difference of a loss from the reference implementation",
        _STEP,
        1e-5,
        of="difference",
    ),
    *(
        goal
        for size, faster in ((384, 5.0), (224, 3.5))
        for row in [f"rerank at {size} px"]
        for goal in (
            Goal(
                f"pairs a second at {size} px, relative to the reference loop",
                f"{row}: reference",
                faster,
                f"{row}: aurora",
                must="at least",
            ),
            Goal(
                f"largest difference of a score from the reference loop at {size} px",
                f"{row}: aurora",
                1e-4,
                of="difference",
            ),
        )
    ),
    Goal(
        "peak memory with a gallery of 500, relative to 50",
        "gallery of 500: aurora",
        1.10,
        "gallery of 50: aurora",
        of="peak_mb",
    ),
    Goal(
        "merged, relative to frozen", "inference: merged", 1.00, "inference: frozen", must="contain"
    ),
    Goal("unmerged, relative to frozen", "inference: unmerged", 1.10, "inference: frozen"),
    Goal("switch between two adapters, seconds", "inference: switch of adapters", 0.020),
    Goal(
        "decoding a picture, relative to training on it",
        "data: decoding, 2 workers",
        1.0,
        "data: training step",
    ),
    Goal(
        "encoding a folder, relative to the forward pass of its batches",
        "data: encode_images of a folder",
        1.05,
        "data: forward pass alone",
    ),
    Goal(
        "reading a video frame, relative to training on a picture",
        "data: seeking, key frame every 10 s",
        1.0,
        "data: training step",
    ),
)


def judge(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What became of the goals whose rows were measured.

    Returns:
        objects of name, value, low, high, must, limit and met.
    """
    known = {row.name: row for row in rows}
    verdicts = []
    for goal in GOALS:
        if goal.row not in known or (goal.base is not None and goal.base not in known):
            continue
        found = goal.value(known[goal.row], known[goal.base] if goal.base else None)
        if found is not None:
            verdicts.append(
                {
                    "name": goal.name,
                    **dict(zip(("value", "low", "high"), found)),
                    "must": goal.must,
                    "limit": goal.limit,
                    "met": goal.met(*found),
                }
            )
    return verdicts
