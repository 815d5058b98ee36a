"""What is in a generated picture or video, before anything is drawn.

A scene is a background and one to three groups of objects on a 3 x 3 grid; a moving scene adds one
motion to each object. The objects of a scene decide which split it may appear in, so scenes of
training, validation and test are disjoint whatever the seeds are.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aurora_vl.data.synthetic.pictograms import KINDS

COLORS: tuple[str, ...] = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES: tuple[str, ...] = ("small", "big")
BACKGROUNDS: tuple[str, ...] = ("sky", "grass", "sand", "snow", "bricks", "water")
MOTIONS: tuple[str, ...] = (
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "grows",
    "shrinks",
    "turns",
    "blinks",
    "appears",
    "disappears",
)
Split = Literal["train", "val", "test"]
Cell = tuple[int, int]  # (column, row), 0..2 each
_GROUP_COUNTS = {
    1: ((1,), (2,), (3,), (4,)),
    2: ((1, 1), (1, 1), (1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (3, 1)),
    3: ((1, 1, 1), (1, 1, 1), (1, 1, 2)),
}


@dataclass(frozen=True, slots=True)
class Group:
    """`count` equal objects, one in each of `cells`."""

    kind: str
    color: str
    size: str
    cells: tuple[Cell, ...]
    motion: str = ""

    @property
    def count(self) -> int:
        """How many objects the group has."""
        return len(self.cells)


@dataclass(frozen=True, slots=True)
class Scene:
    """A background and its groups; `texture` seeds jitter, noise and brightness in drawing."""

    background: str
    groups: tuple[Group, ...]
    texture: int

    @property
    def signature(self) -> tuple[tuple[str, str, str, int, str], ...]:
        """What the objects are, wherever they stand: equal signatures never cross splits."""
        return tuple(sorted((g.kind, g.color, g.size, g.count, g.motion) for g in self.groups))

    @property
    def split(self) -> Split:
        """The split that scenes with these objects belong to: 8 train, 1 val, 1 test in ten."""
        bucket = zlib.crc32(repr(self.signature).encode()) % 10
        return "train" if bucket < 8 else ("val" if bucket == 8 else "test")


def sample_scene(rng: np.random.Generator, split: Split | None = None) -> Scene:
    """A random picture's scene, of one split if asked."""
    while True:
        counts_by_groups = _GROUP_COUNTS[int(rng.choice([1, 2, 3], p=[0.25, 0.45, 0.3]))]
        counts = counts_by_groups[int(rng.integers(len(counts_by_groups)))]
        scene = _fill(rng, counts, ("",) * len(counts))
        if split is None or scene.split == split:
            return scene


def sample_moving_scene(rng: np.random.Generator, split: Split | None = None) -> Scene:
    """A random video's scene: one or two single objects, each with a motion of its own."""
    while True:
        actors = int(rng.choice([1, 2], p=[0.4, 0.6]))
        motions = tuple(str(m) for m in rng.choice(MOTIONS, size=actors, replace=False))
        scene = _fill(rng, (1,) * actors, motions)
        if split is None or scene.split == split:
            return scene


def _fill(rng: np.random.Generator, counts: tuple[int, ...], motions: tuple[str, ...]) -> Scene:
    kinds = rng.choice(KINDS, size=len(counts), replace=False)
    cells = [(int(c) % 3, int(c) // 3) for c in rng.permutation(9)[: sum(counts)]]
    groups = []
    for kind, count, motion in zip(kinds, counts, motions, strict=True):
        own, cells = cells[:count], cells[count:]
        color, size = str(rng.choice(COLORS)), str(rng.choice(SIZES))
        groups.append(Group(str(kind), color, size, tuple(own), motion))
    background = str(rng.choice(BACKGROUNDS))
    return Scene(background, tuple(groups), int(rng.integers(2**31)))


def place(cell: Cell) -> str:
    """The name of a cell: "top left", "top", ..., "middle", ..., "bottom right"."""
    column, row = cell
    words = [w for w in (("top", "", "bottom")[row], ("left", "", "right")[column]) if w]
    return " ".join(words) or "middle"


def relations(a: Cell, b: Cell) -> tuple[str, ...]:
    """Every true word for where `a` lies from `b`: of "left of", "right of", "above", "below"."""
    horizontal = {-1: "left of", 1: "right of"}.get(int(np.sign(a[0] - b[0])))
    vertical = {-1: "above", 1: "below"}.get(int(np.sign(a[1] - b[1])))
    return tuple(word for word in (horizontal, vertical) if word)
