"""Drawing a scene: three styles that show the same objects and look nothing alike.

`flat` is the foundation's own style (bright fills with a dark rim on a light background), `sketch`
leaves coloured contours on paper, `night` is dark, dim and noisy. A frame of a video is a scene at
a moment between 0 and 1; motion leaves a fading trail, so that one frame already tells a direction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aurora_vl.data.synthetic.pictograms import silhouette
from aurora_vl.data.synthetic.scenes import Group, Scene

STYLES: tuple[str, ...] = ("flat", "sketch", "night")
_RGB: dict[str, tuple[int, int, int]] = {
    "red": (215, 25, 30),
    "orange": (250, 135, 10),
    "yellow": (250, 225, 30),
    "green": (25, 150, 50),
    "cyan": (40, 210, 220),
    "blue": (40, 60, 215),
    "purple": (125, 35, 165),
    "pink": (255, 130, 190),
}
_GROUND: dict[str, tuple[int, int, int]] = {
    "sky": (190, 222, 250),
    "grass": (186, 226, 160),
    "sand": (240, 222, 178),
    "snow": (246, 248, 250),
    "bricks": (222, 190, 180),
    "water": (160, 205, 225),
}
_Window = tuple[slice, slice]
_SIDE = {"small": 14 / 64, "big": 21 / 64}  # of the picture's width
_CELL = (11 / 64, 32 / 64, 53 / 64)


@dataclass(frozen=True, slots=True)
class _Sprite:
    """One object on the canvas: centre and side as shares of the width, opacity 0..1."""

    kind: str
    color: str
    x: float
    y: float
    side: float
    opacity: float = 1.0
    angle: int = 0


def draw(scene: Scene, style: str = "flat", *, size: int = 64, moment: float = 0.5) -> np.ndarray:
    """A picture of a scene as uint8 of shape (size, size, 3).

    Args:
        scene: what to draw; the same scene always gives the same picture.
        style: one of `STYLES`.
        size: width and height in pixels.
        moment: for moving scenes, the time in the video between 0 and 1.
    """
    rng = np.random.default_rng([scene.texture, STYLES.index(style)])
    canvas = _background(scene.background, style, size, rng)
    for _, sprites in _placed(scene, moment):
        for sprite in sprites:
            _paint(canvas, sprite, style)
    return _finish(canvas, style, rng)


def object_coverage(
    scene: Scene, *, size: int = 64, moment: float = 0.5
) -> list[tuple[Group, np.ndarray]]:
    """Where every object stands: its group and its coverage, float32 0..1 (size, size).

    What an annotator's segmentation is to a photograph; trails are left out.
    """
    found = []
    for group, sprites in _placed(scene, moment):
        canvas = np.zeros((size, size), np.float32)
        body = max(sprites, key=lambda sprite: sprite.opacity)
        box = _box(body, size)
        if box is not None:
            region, window, side = box
            canvas[region] = silhouette(body.kind, side, body.angle)[window]
        found.append((group, canvas))
    return found


def _placed(scene: Scene, moment: float) -> Iterator[tuple[Group, list[_Sprite]]]:
    """Every object of a scene with its sprites, in drawing order."""
    jitter = np.random.default_rng(scene.texture)
    for group in scene.groups:
        for column, row in group.cells:
            dx, dy = jitter.uniform(-1.5 / 64, 1.5 / 64, size=2)
            yield group, _sprites(group, _CELL[column] + dx, _CELL[row] + dy, moment)


def _sprites(group: Group, x: float, y: float, moment: float) -> list[_Sprite]:
    """The object at this moment, behind it the trail that its motion leaves."""
    side = _SIDE[group.size]
    kind, color = group.kind, group.color
    step = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}
    if group.motion in step:
        sx, sy = step[group.motion]
        trail = []
        for lag, opacity in ((0.24, 0.2), (0.12, 0.4), (0.0, 1.0)):
            way = 0.5 * (moment - lag - 0.5)
            trail.append(_Sprite(kind, color, x + sx * way, y + sy * way, side, opacity))
        return trail
    if group.motion in ("grows", "shrinks"):
        progress = moment if group.motion == "grows" else 1 - moment
        now = side * (0.6 + 0.9 * progress)
        before = now * (0.55 if group.motion == "grows" else 1.5)
        ghost = _Sprite(kind, color, x, y, before, 0.3)
        body = _Sprite(kind, color, x, y, now)
        return [body, ghost] if group.motion == "grows" else [ghost, body]
    if group.motion == "turns":
        return [_Sprite(kind, color, x, y, side, angle=int(20 + 320 * moment))]
    if group.motion == "blinks":
        return [_Sprite(kind, color, x, y, side, 1.0 if math.sin(14 * moment) > 0 else 0.15)]
    if group.motion in ("appears", "disappears"):
        shown = moment if group.motion == "appears" else 1 - moment
        return [_Sprite(kind, color, x, y, side, float(np.clip(2 * shown - 0.3, 0.0, 1.0)))]
    return [_Sprite(kind, color, x, y, side)]


def _background(name: str, style: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 canvas (size, size, 3) with the ground's colour and its pattern."""
    unit = size / 64
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / unit
    if name == "sky":
        pattern = (y - 32) / 32 * 0.5
    elif name == "grass":
        pattern = 0.9 * (np.sin(1.9 * x + 3 * np.sin(0.5 * y)) > 0.75)
    elif name == "sand":
        pattern = np.where(rng.random((size, size)) > 0.9, 0.9, 0.0)
    elif name == "bricks":
        offset = np.where((y // 8) % 2 > 0, 8, 0)
        pattern = 1.0 * ((y % 8 < 1.2) | ((x + offset) % 16 < 1.2))
    elif name == "water":
        pattern = 0.9 * (np.abs((y + 2 * np.sin(x / 4)) % 9 - 4) < 0.8)
    else:
        pattern = np.zeros_like(x)
    ground = np.array(_GROUND[name], dtype=np.float32)
    if style == "sketch":
        base, depth = np.full(3, 250.0, np.float32), 45.0
    elif style == "night":
        base, depth = ground * 0.16 + 6, -26.0
    else:
        base, depth = ground, 34.0
    return (base[None, None] - depth * pattern[..., None]).astype(np.float32)


def _paint(canvas: np.ndarray, sprite: _Sprite, style: str) -> None:
    """Blend one object onto the canvas, in place; what leaves the canvas is cut off."""
    box = _box(sprite, canvas.shape[0])
    if box is None:
        return
    place, window, side = box
    mask = silhouette(sprite.kind, side, sprite.angle)
    inner = _eroded(mask)
    color = np.array(_RGB[sprite.color], dtype=np.float32)
    if style == "sketch":
        layers = [(mask * (1 - 0.9 * inner), color * 0.85)]
    elif style == "night":
        layers = [(mask, color * 0.5 + 12)]
    else:
        layers = [(mask, color * 0.55), (inner, color)]
    region = canvas[place]
    for coverage, paint in layers:
        alpha = (coverage[window] * sprite.opacity)[..., None]
        region[...] = region * (1 - alpha) + paint * alpha


def _box(sprite: _Sprite, size: int) -> tuple[_Window, _Window, int] | None:
    """The sprite's window on the canvas, the same window of its silhouette, and its side."""
    side = max(3, round(sprite.side * size))
    left, top = round(sprite.x * size - side / 2), round(sprite.y * size - side / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, size), min(top + side, size)
    if x0 >= x1 or y0 >= y1:
        return None
    window = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    return (slice(y0, y1), slice(x0, x1)), window, side


def _eroded(mask: np.ndarray) -> np.ndarray:
    """The silhouette without its rim of about one pixel."""
    padded = np.pad(mask, 1)
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.minimum(mask, np.minimum.reduce(neighbours))


def _finish(canvas: np.ndarray, style: str, rng: np.random.Generator) -> np.ndarray:
    """Noise and a random brightness, then bytes."""
    noise, spread = {"flat": (3.0, 0.06), "sketch": (6.0, 0.04), "night": (11.0, 0.15)}[style]
    gain = rng.uniform(1 - spread, 1 + spread)
    noisy = canvas * gain + rng.normal(0.0, noise, size=canvas.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
