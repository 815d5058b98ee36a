"""Augmentation of whole batches on their device, one reproducible draw per item.

kornia's own RandAugment draws from torch's global generator, so an item's picture would depend on
the batch it falls into. Here every item's operations and strengths come from its seed alone, and
kornia's functions apply them to all items that drew the same operation at once.

Level "safe" does nothing that makes a caption false: it moves and shears a little and changes
brightness, contrast and sharpness a little, but never mirrors, turns, or changes a colour. Level
"full" is BLIP's training augmentation: a flip and two of RandAugment's operations at magnitude 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from aurora_vl.errors import UserError

Level = Literal["none", "safe", "full"]

_KEEP_PROBABILITY = 0.5  # each drawn operation is applied with this probability, as in BLIP
_OPERATIONS_PER_ITEM = 2
_GREY = 128 / 255  # fills what a warp leaves empty


@dataclass(frozen=True)
class _Operation:
    """An operation and the range of its strength, whose sign is drawn too if `signed`."""

    name: str
    low: float
    high: float
    signed: bool = False


# Strengths: factors (1 changes nothing) for brightness, contrast and sharpness; shares of the
# picture's side for translations; tangents for shears; degrees for rotations.
_SAFE = (
    _Operation("translate_x", 0.0, 0.06, signed=True),
    _Operation("translate_y", 0.0, 0.06, signed=True),
    _Operation("shear_x", 0.0, 0.08, signed=True),
    _Operation("shear_y", 0.0, 0.08, signed=True),
    _Operation("brightness", 0.85, 1.15),
    _Operation("contrast", 0.85, 1.15),
    _Operation("sharpness", 0.5, 1.5),
)
# BLIP's ten at magnitude 5 of 10. Its factor 0.1 + 1.8 * 5 / 10 is exactly 1, so brightness and
# sharpness change nothing there; they are kept for their share of the draws.
_FULL = (
    _Operation("identity", 0.0, 0.0),
    _Operation("autocontrast", 0.0, 0.0),
    _Operation("brightness", 1.0, 1.0),
    _Operation("sharpness", 1.0, 1.0),
    _Operation("equalize", 0.0, 0.0),
    _Operation("shear_x", 0.15, 0.15, signed=True),
    _Operation("shear_y", 0.15, 0.15, signed=True),
    _Operation("translate_x", 5 / 384, 5 / 384, signed=True),
    _Operation("translate_y", 5 / 384, 5 / 384, signed=True),
    _Operation("rotate", 15.0, 15.0, signed=True),
)
_TABLES: dict[str, tuple[_Operation, ...]] = {"none": (), "safe": _SAFE, "full": _FULL}


class Augment:
    """Augment float batches in [0, 1]; a video's frames all get the same change.

    Args:
        level: "none", "safe" (no caption becomes false) or "full" (BLIP's: may mirror, equalise
            and rotate, so only for captions that name no side, direction or drawn colour).

    Raises:
        UserError: an unknown level, or kornia (the extra `train`) is not installed.
    """

    def __init__(self, level: Level = "safe") -> None:
        if level not in _TABLES:
            raise UserError(
                f"augmentation {level!r} is unknown: choose one of {', '.join(get_args(Level))}"
            )
        self.level = level
        self._table = _TABLES[level]
        if self._table:
            _kornia()

    def __call__(self, pixels: Tensor, seeds: Tensor) -> Tensor:
        """Augment a batch.

        Args:
            pixels: float (B, 3, H, W) or, for videos, (B, T, 3, H, W), in [0, 1].
            seeds: int64 (B,): the only source of randomness, one per item. They are read on the
                host, before anything is computed.

        Returns:
            A tensor of the same shape in [0, 1]; row b depends on pixels[b] and seeds[b] alone.
        """
        if not self._table:
            return pixels
        video = pixels if pixels.dim() == 5 else pixels.unsqueeze(1)  # (B, T, 3, H, W)
        mirror, chosen, strength = self._draw(seeds)
        if self.level == "full":
            video = torch.where(_column(mirror, video), video.flip(-1), video)
        for slot in range(_OPERATIONS_PER_ITEM):
            video = self._apply(video, chosen[:, slot], strength[:, slot])
        return video if pixels.dim() == 5 else video.squeeze(1)

    def _draw(self, seeds: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return per item: whether to mirror (B,), operations (B, 2; -1 none), strengths (B, 2)."""
        mirror = np.zeros(len(seeds), dtype=bool)
        chosen = np.full((len(seeds), _OPERATIONS_PER_ITEM), -1)
        strength = np.zeros((len(seeds), _OPERATIONS_PER_ITEM))
        for row, seed in enumerate(seeds.tolist()):
            rng = np.random.Generator(np.random.Philox(key=seed))
            mirror[row] = rng.random() < 0.5
            for slot in range(_OPERATIONS_PER_ITEM):
                index = int(rng.integers(len(self._table)))
                keep, share, sign = rng.random(3)
                operation = self._table[index]
                value = operation.low + share * (operation.high - operation.low)
                strength[row, slot] = -value if operation.signed and sign < 0.5 else value
                chosen[row, slot] = index if keep < _KEEP_PROBABILITY else -1
        return mirror, chosen, strength

    def _apply(self, video: Tensor, chosen: np.ndarray, strength: np.ndarray) -> Tensor:
        """Apply one operation to each item of (B, T, 3, H, W), all items of a kind at once."""
        result = video.clone()
        for index, operation in enumerate(self._table):
            rows = np.flatnonzero(chosen == index)
            if operation.name == "identity" or not len(rows):
                continue
            at = torch.from_numpy(rows).to(video.device, non_blocking=True)
            amount = torch.from_numpy(strength[rows]).to(video.dtype)
            amount = amount.to(video.device, non_blocking=True)
            result[at] = _OPERATIONS[operation.name](video[at], amount).clamp(0.0, 1.0)
        return result


def _kornia() -> Any:
    """Import kornia when it is first needed: it belongs to the extra `train`."""
    try:
        import kornia
    except ImportError:
        raise UserError(
            "augmentation needs kornia: install aurora-vl[train], or set the augmentation to none"
        ) from None
    return kornia


def _column(per_item: np.ndarray, video: Tensor) -> Tensor:
    return torch.from_numpy(per_item).to(video.device, non_blocking=True).view(-1, 1, 1, 1, 1)


# Each operation: (n, T, 3, H, W) and a strength per item (n,) -> the same shape.


def _tone(function: Callable[[Any, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Wrap a change of values whose statistics are to be those of the whole video."""

    def apply(video: Tensor, amount: Tensor) -> Tensor:
        n, t, c, h, w = video.shape
        tall = video.transpose(1, 2).reshape(n, c, t * h, w)
        toned = function(_kornia().enhance, tall, amount)
        return toned.reshape(n, c, t, h, w).transpose(1, 2)

    return apply


def _autocontrast(enhance: Any, tall: Tensor, amount: Tensor) -> Tensor:
    spread = tall.amax((-2, -1), keepdim=True) - tall.amin((-2, -1), keepdim=True)
    # A flat channel has nothing to stretch: Pillow leaves it, kornia would make it black.
    return torch.where(spread > 0, enhance.normalize_min_max(tall), tall)


def _sharpness(video: Tensor, amount: Tensor) -> Tensor:
    frames = video.flatten(0, 1)
    if min(frames.shape[-2:]) < 3:  # the blur's kernel does not fit
        return video
    per_frame = amount.repeat_interleave(video.shape[1])
    return _kornia().enhance.sharpness(frames, per_frame).reshape(video.shape)


def _warp(linear_and_shift: Callable[[Tensor, int, int], Tensor]) -> Callable[..., Tensor]:
    """Make an operation of a map about the picture's centre, given as matrices (n, 2, 3)."""

    def apply(video: Tensor, amount: Tensor) -> Tensor:
        h, w = video.shape[-2:]
        matrix = linear_and_shift(amount, h, w)
        centre = torch.tensor([(w - 1) / 2, (h - 1) / 2], dtype=video.dtype)
        centre = centre.to(video.device, non_blocking=True)
        moved = centre - matrix[:, :, :2] @ centre  # keeps the centre where it is
        matrix = torch.cat([matrix[:, :, :2], (matrix[:, :, 2] + moved).unsqueeze(-1)], dim=-1)
        frames = video.flatten(0, 1)
        warped = _kornia().geometry.transform.warp_affine(
            frames,
            matrix.repeat_interleave(video.shape[1], dim=0),
            (h, w),
            padding_mode="fill",
            fill_value=video.new_full((3,), _GREY),
        )
        return warped.reshape(video.shape)

    return apply


def _matrix(amount: Tensor, **entries: Tensor) -> Tensor:
    """Build matrices (n, 2, 3), the identity but for the entries named by their row and column."""
    matrix = torch.eye(2, 3, dtype=amount.dtype, device=amount.device).repeat(len(amount), 1, 1)
    for place, value in entries.items():
        matrix[:, int(place[1]), int(place[2])] = value
    return matrix


def _rotation(amount: Tensor, h: int, w: int) -> Tensor:
    cos, sin = torch.cos(torch.deg2rad(amount)), torch.sin(torch.deg2rad(amount))
    return _matrix(amount, m00=cos, m01=sin, m10=-sin, m11=cos)


_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": _tone(lambda enhance, x, by: enhance.adjust_brightness_accumulative(x, by)),
    "contrast": _tone(lambda enhance, x, by: enhance.adjust_contrast_with_mean_subtraction(x, by)),
    "autocontrast": _tone(_autocontrast),
    "equalize": _tone(lambda enhance, x, by: enhance.equalize(x)),
    "sharpness": _sharpness,
    "translate_x": _warp(lambda amount, h, w: _matrix(amount, m02=amount * w)),
    "translate_y": _warp(lambda amount, h, w: _matrix(amount, m12=amount * h)),
    "shear_x": _warp(lambda amount, h, w: _matrix(amount, m01=amount)),
    "shear_y": _warp(lambda amount, h, w: _matrix(amount, m10=amount)),
    "rotate": _warp(_rotation),
}
