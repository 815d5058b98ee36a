"""Pictures by a model's own image processor, texts by its own tokenizer.

A decoding worker lets transformers' processor cut and resize and keeps bytes; scaling,
augmentation and normalisation happen once a batch on the device, to the same result.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aurora_vl.backbones.base import (
    MediaInputs,
    PreparationSettings,
    Preprocessor,
    Role,
    TextInputs,
)
from aurora_vl.backbones.clip.dual_encoder import SIGMOID_TYPES
from aurora_vl.backbones.clip.loading import side
from aurora_vl.data.augment import Augment
from aurora_vl.data.transforms import draw_crop, to_model_input

Item = dict[str, Tensor]
_TOKENIZING = threading.Lock()  # fast tokenizers keep padding as a state, so one thread at a time


class ClipPreprocessor(Preprocessor):
    """Prepares media and texts for a two-tower model of transformers.

    Args:
        processor: the backbone's, with `tokenizer` and `image_processor`.
        config: the model's.
        settings: how media and texts are cut; words are never counted.
    """

    def __init__(self, processor: Any, config: Any, settings: PreparationSettings) -> None:
        self.tokenizer, self.image_processor = processor.tokenizer, processor.image_processor
        self.frames, self.crop_scale = settings.frames, settings.crop_scale
        self.positions: int = config.text_config.max_position_embeddings
        self.max_tokens = min(settings.max_tokens or self.positions, self.positions)
        self.fixed_length = config.model_type in SIGMOID_TYPES
        self.side = side(config)
        normal = self.image_processor.do_normalize
        self.mean = tuple(self.image_processor.image_mean) if normal else (0.0, 0.0, 0.0)
        self.std = tuple(self.image_processor.image_std) if normal else (1.0, 1.0, 1.0)

    def image(self, picture: Image.Image, rng: np.random.Generator | None = None) -> Item:
        """`pixel_values` uint8 (3, S, S)."""
        return self._apply(picture, self._draw(picture, rng))

    def video(self, frames: Iterable[Image.Image], rng: np.random.Generator | None = None) -> Item:
        """As of pictures, with a first dimension of T; a repeated frame is prepared once."""
        done: list[Item] = []
        last = box = None
        for picture in frames:
            if last is None:
                box = self._draw(picture, rng)
            done.append(done[-1] if picture is last else self._apply(picture, box))
            last = picture
        return self.collate(done)

    def collate(self, items: Sequence[Item]) -> Item:
        """Every entry of the items, stacked."""
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def finish(
        self,
        media: MediaInputs,
        device: torch.device,
        dtype: torch.dtype,
        augment: Augment | None = None,
        seeds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`pixel_values`, normalised, and what else the model takes."""
        found = {name: value.to(device) for name, value in media.items()}
        pixels = found["pixel_values"]
        if pixels.is_floating_point():  # normalised already: `blank`
            return {**found, "pixel_values": pixels.to(dtype)}
        return {**found, "pixel_values": self._normalised(found, dtype, augment, seeds)}

    def blank(self) -> dict[str, Tensor]:
        """Zeros in floating point: normalised, the average colour is zero."""
        return {"pixel_values": torch.zeros(1, 3, self.side, self.side)}

    def texts(self, texts: Sequence[str], role: Role) -> TextInputs:
        """Ids and mask of texts as they are.

        For a model that was trained on texts of one length, they are padded to it and the mask
        counts the padding, since the model attends to it.
        """
        with _TOKENIZING:
            encoded = self.tokenizer(
                list(texts),
                padding="max_length" if self.fixed_length else True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            )
        ids = encoded["input_ids"]
        mask = torch.ones_like(ids) if self.fixed_length else encoded["attention_mask"]
        return TextInputs(input_ids=ids, attention_mask=mask)

    def cut(self, text: str, role: Role) -> bool:
        """Whether tokens of the text are cut off."""
        with _TOKENIZING:
            return (
                len(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])
                > self.max_tokens
            )

    def _draw(
        self, picture: Image.Image, rng: np.random.Generator | None
    ) -> tuple[int, int, int, int] | None:
        if self.crop_scale is None or rng is None:
            return None
        return draw_crop(picture.width, picture.height, self.crop_scale, rng)

    def _apply(self, picture: Image.Image, box: tuple[int, int, int, int] | None) -> Item:
        """A picture, cut by a box, as the image processor leaves it before it scales."""
        cut = picture if box is None else picture.crop(box)
        found = self.image_processor(cut, do_rescale=False, do_normalize=False, return_tensors="pt")
        return {name: value[0] for name, value in found.items()}

    def _normalised(
        self, media: Item, dtype: torch.dtype, augment: Augment | None, seeds: Tensor | None
    ) -> Tensor:
        return to_model_input(
            media["pixel_values"], self.mean, self.std, augment=augment, seeds=seeds, dtype=dtype
        )


class PatchPreprocessor(ClipPreprocessor):
    """For SigLIP 2 at any aspect ratio: a picture is a list of patches with their mask.

    Items have `pixel_values` uint8 (N, 3 * patch * patch), `pixel_attention_mask` (N,) and
    `spatial_shapes` (2,), rows and columns of patches.
    """

    def __init__(self, processor: Any, config: Any, settings: PreparationSettings) -> None:
        super().__init__(processor, config, settings)
        self.patch: int = self.image_processor.patch_size
        self.patches: int = self.image_processor.max_num_patches

    def blank(self) -> dict[str, Tensor]:
        """A square of zeros in floating point."""
        rows = int(self.patches**0.5)
        mask = (torch.arange(self.patches) < rows * rows).to(torch.int32)
        return {
            "pixel_values": torch.zeros(1, self.patches, 3 * self.patch**2),
            "pixel_attention_mask": mask[None],
            "spatial_shapes": torch.tensor([[rows, rows]]),
        }

    def _normalised(
        self, media: Item, dtype: torch.dtype, augment: Augment | None, seeds: Tensor | None
    ) -> Tensor:
        pixels, shapes = media["pixel_values"], media["spatial_shapes"]
        unit = pixels.float() / 255.0
        if augment is not None:
            if seeds is None:
                raise ValueError("augment needs the items' seeds")
            for row, shape in enumerate(shapes.reshape(len(shapes), -1, 2)[:, 0].tolist()):
                known = shape[0] * shape[1]
                picture = self._picture(unit[row, ..., :known, :], *shape)
                changed = augment(picture[None], seeds[row : row + 1])[0]
                unit[row, ..., :known, :] = self._patches(changed)
        mean, std = (torch.tensor(v, device=unit.device) for v in (self.mean, self.std))
        by_channel = (unit.unflatten(-1, (-1, 3)) - mean) / std
        mask = media["pixel_attention_mask"][..., None]  # padding is zero after normalisation
        return (by_channel.flatten(-2) * mask).to(dtype)

    def _picture(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """Patches (..., rows * columns, patch * patch * 3) as pictures (..., 3, H, W)."""
        split = patches.unflatten(-1, (self.patch, self.patch, 3)).unflatten(-4, (rows, columns))
        return split.movedim(-1, -5).transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)

    def _patches(self, picture: Tensor) -> Tensor:
        """The reverse of `_picture`."""
        split = picture.unflatten(-1, (-1, self.patch)).unflatten(-3, (-1, self.patch))
        return split.transpose(-3, -2).movedim(-5, -1).flatten(-5, -4).flatten(-3, -1)
