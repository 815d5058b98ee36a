"""What tells a generated world: the same spec gives the same bytes on one machine."""

from __future__ import annotations

from dataclasses import dataclass

from aurora_vl.data.synthetic.drawing import STYLES
from aurora_vl.data.synthetic.grammar import PHRASINGS
from aurora_vl.errors import UserError


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """What to generate.

    Attributes:
        seed: every picture depends on it.
        style: one of `drawing.STYLES`.
        phrasing: one of `grammar.PHRASINGS`.
        train, val, test: pictures or videos of each split; their scenes are disjoint. A layout
            without a validation file writes none.
        captions: captions of a training medium, where the layout has several; those of the other
            splits have one each, and no two of a split are equal.
        questions: questions about each medium, at most, in layouts of questions.
        size: pixels of width and height.
        layout: a key of `layouts.LAYOUTS`.
    """

    seed: int = 0
    style: str = "night"
    phrasing: str = "terse"
    train: int = 1500
    val: int = 200
    test: int = 400
    captions: int = 2
    questions: int = 4
    size: int = 64
    layout: str = "coco"

    def __post_init__(self) -> None:
        for key, value, known in (
            ("style", self.style, STYLES),
            ("phrasing", self.phrasing, PHRASINGS),
        ):
            if value not in known:
                raise UserError(
                    f"world {key} {value!r} is unknown; choose one of {', '.join(known)}."
                )

    def count(self, split: str) -> int:
        """How many pictures or videos a split has."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]
