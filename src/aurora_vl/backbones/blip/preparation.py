"""BLIP's preprocessing: square pictures, its mean and deviation, cleaned texts."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BlipConfig

from aurora_vl.backbones.base import (
    MediaInputs,
    PreparationSettings,
    Preprocessor,
    Role,
    TextInputs,
)
from aurora_vl.backbones.blip.text import cleaned
from aurora_vl.data.augment import Augment
from aurora_vl.data.transforms import ImageTransform, to_model_input

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_ANSWER_TOKENS = 20
"""Answers are cut to so many tokens, [DEC] and [SEP] among them."""
_TOKENIZING = threading.Lock()  # fast tokenizers keep padding as a state, so one thread at a time


class BlipPreprocessor(Preprocessor):
    """Prepares media and texts for a BLIP.

    Args:
        tokenizer: the backbone's; [CLS] first, [SEP] last.
        config: the model's, at the size it was loaded with.
        settings: how media and texts are cut.
    """

    def __init__(self, tokenizer: Any, config: BlipConfig, settings: PreparationSettings) -> None:
        self.tokenizer = tokenizer
        self.frames = settings.frames
        self.max_words = settings.max_words
        positions = config.text_config.max_position_embeddings
        self.max_tokens = min(settings.max_tokens or positions, positions)
        self.start: int = config.text_config.bos_token_id
        self._transform = ImageTransform(
            config.vision_config.image_size, settings.crop_scale, settings.frames
        )

    def image(self, picture: Image.Image, rng: np.random.Generator | None = None) -> Tensor:
        """uint8 (3, S, S)."""
        return self._transform.image(picture, rng)

    def video(
        self, frames: Iterable[Image.Image], rng: np.random.Generator | None = None
    ) -> Tensor:
        """uint8 (T, 3, S, S)."""
        return self._transform.video(frames, rng)

    def collate(self, items: Sequence[Tensor]) -> dict[str, Tensor]:
        """`pixel_values` uint8 (B, 3, S, S), of videos (B, T, 3, S, S)."""
        return {"pixel_values": torch.stack(list(items))}

    def finish(
        self,
        media: MediaInputs,
        device: torch.device,
        dtype: torch.dtype,
        augment: Augment | None = None,
        seeds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`pixel_values`, normalised."""
        pixels = media["pixel_values"].to(device)
        if pixels.is_floating_point():  # normalised already: `blank`
            return {"pixel_values": pixels.to(dtype)}
        return {
            "pixel_values": to_model_input(
                pixels, IMAGE_MEAN, IMAGE_STD, augment=augment, seeds=seeds, dtype=dtype
            )
        }

    def blank(self) -> dict[str, Tensor]:
        """Zeros in floating point: normalised, the average colour is zero."""
        side = self._transform.size
        return {"pixel_values": torch.zeros(1, 3, side, side)}

    def texts(self, texts: Sequence[str], role: Role) -> TextInputs:
        """Ids and mask; an answer begins with [DEC] in place of [CLS]."""
        most = MAX_ANSWER_TOKENS if role == "answer" else self.max_tokens
        with _TOKENIZING:
            encoded = self.tokenizer(
                [cleaned(text, role, self.max_words) for text in texts],
                padding=True,
                truncation=True,
                max_length=most,
                return_tensors="pt",
            )
        ids = encoded["input_ids"]
        if role == "answer":
            first = torch.full_like(ids[:, :1], self.start)
            ids = torch.cat([first, ids[:, 1:]], dim=1)
        return TextInputs(input_ids=ids, attention_mask=encoded["attention_mask"])

    def cut(self, text: str, role: Role) -> bool:
        """Whether words or tokens of the text are cut off."""
        most = MAX_ANSWER_TOKENS if role == "answer" else self.max_tokens
        whole = cleaned(text, role, None)
        if cleaned(text, role, self.max_words) != whole:
            return True
        with _TOKENIZING:
            tokens = self.tokenizer(whole, truncation=False, verbose=False)["input_ids"]
        return len(tokens) > most
