"""From an RGB picture to the tensor a model reads.

A data set's worker cuts and resizes with Pillow and keeps bytes (a quarter of the traffic to the
device); scaling, augmentation (`augment.py`) and normalisation happen once per batch, there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aurora_vl.data.augment import Augment
from aurora_vl.errors import UserError

__all__ = [
    "Augment",
    "Box",
    "ImageTransform",
    "draw_crop",
    "to_model_input",
]

Box = tuple[int, int, int, int]
"""Left, upper, right, lower, in pixels."""

_ASPECT = (3 / 4, 4 / 3)  # of the random crop, as everywhere in the field
_TRIES = 10


class ImageTransform:
    """Crop (in training), resize by bicubic interpolation to a square, and give bytes.

    Args:
        size: side of the square, in pixels.
        crop_scale: smallest and largest share of the picture's area that a random crop keeps, as
            (0.5, 1.0); None takes the whole picture, as evaluation does.
        frames: how many frames are taken of a video.

    Raises:
        UserError: a size or a number of frames below 1 or a scale that is not 0 < low <= high <= 1.
    """

    def __init__(
        self, size: int, crop_scale: tuple[float, float] | None = None, frames: int = 8
    ) -> None:
        if size < 1:
            raise UserError(f"image size {size} is not positive: give the side in pixels, as 384")
        if crop_scale is not None and not 0.0 < crop_scale[0] <= crop_scale[1] <= 1.0:
            raise UserError(
                f"crop scale {crop_scale} must be two shares of the area, 0 < low <= high <= 1"
            )
        if frames < 1:
            raise UserError(f"{frames} frames of a video are none: give a number such as 8")
        self.size = size
        self.frames = frames
        self.crop_scale = crop_scale

    def draw(self, width: int, height: int, rng: np.random.Generator | None) -> Box | None:
        """Draw the box to cut; None for the whole picture.

        Frames of one video share one draw. Without a generator nothing is cut at random.
        """
        if self.crop_scale is None or rng is None:
            return None
        return draw_crop(width, height, self.crop_scale, rng)

    def apply(self, image: Image.Image, box: Box | None) -> Tensor:
        """Cut `box` out of an RGB picture and resize it: uint8 (3, S, S)."""
        cut = image if box is None else image.crop(box)
        small = cut.resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(small, dtype=np.uint8))  # (S, S, 3)
        return pixels.permute(2, 0, 1).contiguous()

    def image(self, picture: Image.Image, rng: np.random.Generator | None = None) -> Tensor:
        """Transform one RGB picture: uint8 (3, S, S)."""
        return self.apply(picture, self.draw(picture.width, picture.height, rng))

    def video(
        self, frames: Iterable[Image.Image], rng: np.random.Generator | None = None
    ) -> Tensor:
        """Transform a video's RGB frames, which share one crop: uint8 (T, 3, S, S).

        A frame that comes several times behind itself is transformed once.
        """
        done: list[Tensor] = []
        last = box = None
        for picture in frames:
            if last is None:
                box = self.draw(picture.width, picture.height, rng)
            done.append(done[-1] if picture is last else self.apply(picture, box))
            last = picture
        return torch.stack(done)


def draw_crop(width: int, height: int, scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """Draw a box of random area and aspect (3/4 to 4/3) inside a picture.

    Ten draws are tried; if none fits (a very long picture), the largest centred box with an
    allowed aspect is taken.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        scale: smallest and largest share of the area.
        rng: the item's own generator.
    """
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(0, width - w + 1))
            upper = int(rng.integers(0, height - h + 1))
            return left, upper, left + w, upper + h
    w = max(1, min(width, round(height * _ASPECT[1])))
    h = max(1, min(height, round(width / _ASPECT[0])))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def to_model_input(
    pixels: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    augment: Augment | None = None,
    seeds: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Turn a batch of bytes into the model's input, on the device the bytes are on.

    Args:
        pixels: uint8 (B, 3, S, S), or (B, T, 3, S, S) for videos.
        mean, std: of the three channels, as the model was trained with.
        augment: applied between scaling to [0, 1] and normalisation; training only.
        seeds: int64 (B,), one per item; needed with `augment`.
        dtype: of the result; the arithmetic before is float32.

    Returns:
        (x / 255 - mean) / std by channel, in the shape given.

    Raises:
        ValueError: `augment` without `seeds`.
    """
    unit = pixels.float() / 255.0
    if augment is not None:
        if seeds is None:
            raise ValueError("augment needs the items' seeds")
        unit = augment(unit, seeds)
    # Without waiting for a GPU to finish what it was given before.
    centre, scale = (
        torch.tensor(values).view(3, 1, 1).to(unit.device, non_blocking=True)
        for values in (mean, std)
    )
    return ((unit - centre) / scale).to(dtype)
