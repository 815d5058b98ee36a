"""What a chat model reads: pictures by its own processor, texts by its chat template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from aurora_vl.backbones.base import (
    MediaInputs,
    PreparationSettings,
    Preprocessor,
    Role,
    TextInputs,
)
from aurora_vl.backbones.chat.prompt import Prompt, prompt_of
from aurora_vl.data.augment import Augment
from aurora_vl.data.transforms import draw_crop
from aurora_vl.errors import UserError

MAX_ANSWER_TOKENS = 64
"""Answers are cut to so many tokens, the end among them."""
_BLANK_SIDE = 224
# Frames are many and small: one view of each, where a picture is cut into tiles.
_FRAME_OPTIONS = {
    "smolvlm": {"do_image_splitting": False},
    "internvl": {"crop_to_patches": False},
}


class ChatPreprocessor(Preprocessor):
    """Prepares media and texts for a chat model.

    A medium's item is the beginning of the prompt with its pictures, as the processor makes it; a
    question is the rest of the prompt. The last token of that rest begins each answer, as [DEC]
    does in BLIP, so that all answers share a first token that is given.

    Args:
        processor: the model's.
        config: the model's.
        settings: how media and texts are cut.
    """

    augments = False

    def __init__(self, processor: Any, config: Any, settings: PreparationSettings) -> None:
        self.processor = processor
        self.frames = settings.frames
        self.max_words = settings.max_words
        self.max_tokens = settings.max_tokens
        self.crop_scale = settings.crop_scale
        self.context: int = config.text_config.max_position_embeddings
        self.pad = padding_id(processor)
        self._frame_options = _FRAME_OPTIONS.get(config.model_type, {})
        self._prompts = cache(lambda pictures: prompt_of(processor, pictures))

    def __getstate__(self) -> dict[str, Any]:
        """Without the rendered prompts, for decoding processes."""
        return {name: value for name, value in vars(self).items() if name != "_prompts"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prompts = cache(lambda pictures: prompt_of(self.processor, pictures))

    def image(
        self, picture: Image.Image, rng: np.random.Generator | None = None
    ) -> dict[str, Tensor]:
        """The model's inputs of one picture, each with a first dimension of its own."""
        return self._item([picture], rng, {})

    def video(
        self, frames: Iterable[Image.Image], rng: np.random.Generator | None = None
    ) -> dict[str, Tensor]:
        """The model's inputs of T pictures one after the other."""
        return self._item(list(frames), rng, self._frame_options)

    def collate(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Inputs behind each other, padded at the end: ids and mask (B, P), pixels as they come."""
        return {
            name: _joined([item[name] for item in items], self.pad if name == "input_ids" else 0)
            for name in items[0]
        }

    def finish(
        self,
        media: MediaInputs,
        device: torch.device,
        dtype: torch.dtype,
        augment: Augment | None = None,
        seeds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The same inputs on the device; the processor has normalised the pixels."""
        return {
            name: tensor.to(device, dtype if tensor.is_floating_point() else None)
            for name, tensor in media.items()
        }

    def blank(self) -> dict[str, Tensor]:
        """A picture of the average colour."""
        mean = self.processor.image_processor.image_mean
        colour = tuple(round(255 * value) for value in mean)
        return self.image(Image.new("RGB", (_BLANK_SIDE, _BLANK_SIDE), colour))

    def texts(self, texts: Sequence[str], role: Role) -> TextInputs:
        """Questions: the prompt behind the pictures. Answers: its last token, words, the end."""
        prompt = self._prompts(1)
        if role == "answer":
            start = self._question(prompt, "")[-1:]
            room = MAX_ANSWER_TOKENS - 2
            rows = [
                [*start, *self._ids(prompt.before_answer + text)[:room], prompt.end]
                for text in texts
            ]
        else:
            rows = [self._question(prompt, self._cut(text)) for text in texts]
        ids = [torch.tensor(row) for row in rows]
        return TextInputs(
            input_ids=pad_sequence(ids, batch_first=True, padding_value=self.pad),
            attention_mask=pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        )

    def cut(self, text: str, role: Role) -> bool:
        """Whether words or tokens of the text are cut off."""
        if role == "answer":
            return len(self._ids(text)) > MAX_ANSWER_TOKENS - 2
        return self._cut(text) != squeezed(text, None)

    def _cut(self, text: str) -> str:
        """A question's first words and tokens."""
        kept = squeezed(text, self.max_words)
        if self.max_tokens is None:
            return kept
        spans = self.processor.tokenizer(
            kept, add_special_tokens=False, return_offsets_mapping=True
        )["offset_mapping"][: self.max_tokens]
        return kept[: spans[-1][1]] if spans else kept

    def _question(self, prompt: Prompt, question: str) -> list[int]:
        return self._ids(prompt.before_question + question + prompt.after_question)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _item(
        self,
        pictures: list[Image.Image],
        rng: np.random.Generator | None,
        options: dict[str, Any],
    ) -> dict[str, Tensor]:
        if self.crop_scale is not None and rng is not None:  # frames share one crop
            box = draw_crop(*pictures[0].size, self.crop_scale, rng)
            pictures = [picture.crop(box) for picture in pictures]
        text = self._prompts(len(pictures)).media
        bos = self.processor.tokenizer.bos_token
        try:
            inputs = self.processor(
                text=[text],
                images=[pictures],
                return_tensors="pt",
                add_special_tokens=not (bos and text.startswith(bos)),
                **options,
            )
        except ValueError as error:  # such as a picture two hundred times as long as high
            raise UserError(f"the model's processor does not take the picture: {error}") from None
        tokens = inputs["input_ids"].shape[1]
        if tokens >= self.context:
            raise UserError(
                f"{len(pictures)} pictures of a medium take {tokens} tokens and the model reads "
                f"{self.context}; take fewer frames (data.frames), or set a smaller size in its "
                "preprocessor_config.json"
            )
        return dict(inputs)


def padding_id(processor: Any) -> int:
    """The id that fills rows up; which one does not matter, for it is masked."""
    tokenizer = processor.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def squeezed(text: str, most: int | None) -> str:
    """A text's first words with single blanks."""
    return " ".join(text.split()[:most])


def _joined(tensors: Sequence[Tensor], fill: int) -> Tensor:
    """Tensors behind each other in the first dimension, padded to the largest in the others."""
    largest = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    padded = []
    for tensor in tensors:
        missing = [most - size for most, size in zip(largest, tensor.shape[1:], strict=True)]
        ends = [count for amount in reversed(missing) for count in (0, amount)]
        padded.append(F.pad(tensor, ends, value=fill))
    return torch.cat(padded)
