"""The objects of the generated world: silhouettes made of polygons and ellipses.

Each pictogram is a list of strokes in the unit square (x to the right, y down); a stroke either
adds to the silhouette or cuts a hole into it. `silhouette` rasterises one at a size in pixels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]


class Stroke(NamedTuple):
    """One filled shape: a polygon's corners, or an ellipse's two bounding corners."""

    shape: Literal["polygon", "ellipse"]
    points: tuple[Point, ...]
    cut: bool = False


def _poly(*points: Point, cut: bool = False) -> Stroke:
    return Stroke("polygon", points, cut)


def _oval(x0: float, y0: float, x1: float, y1: float, cut: bool = False) -> Stroke:
    return Stroke("ellipse", ((x0, y0), (x1, y1)), cut)


def _rect(x0: float, y0: float, x1: float, y1: float, cut: bool = False) -> Stroke:
    return _poly((x0, y0), (x1, y0), (x1, y1), (x0, y1), cut=cut)


def _spokes(count: int, inner: float, outer: float, start: float = -math.pi / 2) -> Stroke:
    """A star-shaped polygon with `count` tips around the middle of the unit square."""
    points = []
    for i in range(2 * count):
        radius = outer if i % 2 == 0 else inner
        angle = start + math.pi * i / count
        points.append((0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle)))
    return _poly(*points)


def _petals(count: int, distance: float, radius: float) -> list[Stroke]:
    strokes = []
    for i in range(count):
        x = 0.5 + distance * math.cos(2 * math.pi * i / count - math.pi / 2)
        y = 0.5 + distance * math.sin(2 * math.pi * i / count - math.pi / 2)
        strokes.append(_oval(x - radius, y - radius, x + radius, y + radius))
    return strokes


PICTOGRAMS: dict[str, tuple[Stroke, ...]] = {
    "arrow": (_poly((0.5, 0), (1, 0.5), (0.68, 0.5), (0.68, 1), (0.32, 1), (0.32, 0.5), (0, 0.5)),),
    "ball": (_oval(0, 0, 1, 1),),
    "bell": (
        _oval(0.2, 0.05, 0.8, 0.75),
        _poly((0.2, 0.4), (0.8, 0.4), (1, 0.82), (0, 0.82)),
        _oval(0.38, 0.76, 0.62, 1),
    ),
    "boat": (
        _poly((0, 0.68), (1, 0.68), (0.8, 1), (0.2, 1)),
        _poly((0.46, 0), (0.46, 0.6), (0, 0.6)),
        _poly((0.54, 0.15), (0.54, 0.6), (0.95, 0.6)),
    ),
    "bottle": (_rect(0.4, 0, 0.6, 0.4), _oval(0.25, 0.25, 0.75, 0.65), _rect(0.25, 0.45, 0.75, 1)),
    "box": (_rect(0.04, 0.04, 0.96, 0.96),),
    "car": (
        _rect(0, 0.45, 1, 0.78),
        _poly((0.2, 0.48), (0.32, 0.15), (0.7, 0.15), (0.82, 0.48)),
        _oval(0.1, 0.64, 0.4, 0.94),
        _oval(0.6, 0.64, 0.9, 0.94),
        _rect(0.38, 0.24, 0.62, 0.44, cut=True),
    ),
    "cat": (
        _oval(0.05, 0.2, 0.95, 1),
        _poly((0.08, 0), (0.1, 0.6), (0.5, 0.3)),
        _poly((0.92, 0), (0.9, 0.6), (0.5, 0.3)),
        _oval(0.24, 0.45, 0.42, 0.63, cut=True),
        _oval(0.58, 0.45, 0.76, 0.63, cut=True),
    ),
    "cross": (_rect(0.33, 0, 0.67, 1), _rect(0, 0.33, 1, 0.67)),
    "crown": (
        _poly(
            (0, 0.15), (0.25, 0.5), (0.5, 0.05), (0.75, 0.5), (1, 0.15), (0.95, 0.95), (0.05, 0.95)
        ),
    ),
    "cup": (
        _rect(0, 0.1, 0.7, 0.95),
        _oval(0.5, 0.2, 1, 0.75),
        _oval(0.64, 0.34, 0.86, 0.61, cut=True),
    ),
    "drop": (_oval(0.12, 0.3, 0.88, 1), _poly((0.5, 0), (0.85, 0.55), (0.15, 0.55))),
    "fish": (
        _oval(0.22, 0.18, 1, 0.82),
        _poly((0, 0.12), (0.4, 0.5), (0, 0.88)),
        _oval(0.74, 0.34, 0.88, 0.48, cut=True),
    ),
    "flag": (_rect(0.1, 0, 0.24, 1), _poly((0.24, 0.02), (1, 0.3), (0.24, 0.6))),
    "flower": (*_petals(5, 0.3, 0.22), _oval(0.36, 0.36, 0.64, 0.64, cut=True)),
    "hat": (_rect(0.22, 0.08, 0.78, 0.75), _rect(0, 0.7, 1, 0.92)),
    "heart": (
        _oval(0, 0.05, 0.54, 0.58),
        _oval(0.46, 0.05, 1, 0.58),
        _poly((0.03, 0.42), (0.97, 0.42), (0.5, 1)),
    ),
    "house": (
        _rect(0.12, 0.42, 0.88, 1),
        _poly((0, 0.48), (0.5, 0), (1, 0.48)),
        _rect(0.4, 0.62, 0.6, 1, cut=True),
    ),
    "hourglass": (_poly((0.08, 0), (0.92, 0), (0.55, 0.5), (0.92, 1), (0.08, 1), (0.45, 0.5)),),
    "key": (
        _oval(0, 0.25, 0.5, 0.75),
        _oval(0.14, 0.39, 0.36, 0.61, cut=True),
        _rect(0.45, 0.42, 1, 0.58),
        _rect(0.64, 0.55, 0.74, 0.78),
        _rect(0.86, 0.55, 0.98, 0.84),
    ),
    "ladder": (
        _rect(0.12, 0, 0.28, 1),
        _rect(0.72, 0, 0.88, 1),
        *(_rect(0.2, y, 0.8, y + 0.12) for y in (0.1, 0.38, 0.66)),
    ),
    "moon": (_oval(0.05, 0, 1, 1), _oval(0.38, -0.08, 1.2, 0.86, cut=True)),
    "mushroom": (
        _oval(0, 0.02, 1, 0.98),
        _rect(0, 0.52, 1, 1, cut=True),
        _rect(0.36, 0.48, 0.64, 1),
    ),
    "ring": (_oval(0, 0, 1, 1), _oval(0.27, 0.27, 0.73, 0.73, cut=True)),
    "star": (_spokes(5, 0.21, 0.52),),
    "sun": (
        _spokes(10, 0.33, 0.52),
        _oval(0.3, 0.3, 0.7, 0.7, cut=True),
        _oval(0.37, 0.37, 0.63, 0.63),
    ),
    "tree": (
        _poly((0.5, 0), (0.88, 0.45), (0.12, 0.45)),
        _poly((0.5, 0.2), (1, 0.8), (0, 0.8)),
        _rect(0.4, 0.78, 0.6, 1),
    ),
    "umbrella": (
        _oval(0, 0.04, 1, 0.96),
        _rect(0, 0.5, 1, 1, cut=True),
        _rect(0.45, 0.45, 0.57, 0.95),
        _rect(0.28, 0.84, 0.57, 0.96),
    ),
}

KINDS: tuple[str, ...] = tuple(PICTOGRAMS)
_IRREGULAR_PLURALS = {
    "box": "boxes",
    "cross": "crosses",
    "fish": "fish",
    "hourglass": "hourglasses",
}
_OVERSAMPLING = 6


def plural(kind: str) -> str:
    """The plural of an object's name."""
    return _IRREGULAR_PLURALS.get(kind, kind + "s")


@lru_cache(maxsize=20_000)
def silhouette(kind: str, size: int, angle: int = 0) -> np.ndarray:
    """An object's coverage, float32 in 0..1, of shape (size, size).

    Args:
        kind: one of `KINDS`.
        size: side of the square in pixels.
        angle: turn to the left in degrees; a turned object keeps its square and loses what
            leaves it.
    """
    side = size * _OVERSAMPLING
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    for stroke in PICTOGRAMS[kind]:
        points = [(x * (side - 1), y * (side - 1)) for x, y in stroke.points]
        fill = 0 if stroke.cut else 255
        if stroke.shape == "polygon":
            draw.polygon(points, fill=fill)
        else:
            draw.ellipse([points[0], points[1]], fill=fill)
    if angle:
        mask = mask.rotate(angle, resample=Image.Resampling.BILINEAR)
    small = mask.resize((size, size), Image.Resampling.BOX)
    coverage = np.asarray(small, dtype=np.float32) / 255.0
    coverage.setflags(write=False)
    return coverage
