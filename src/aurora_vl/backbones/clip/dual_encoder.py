"""Two-tower models of transformers behind the seam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from aurora_vl.backbones.base import (
    DualEncoder,
    MediaEncoding,
    MediaInputs,
    TextEncoding,
    TextInputs,
    base_model,
)

SIGMOID_TYPES = frozenset({"siglip", "siglip2"})
"""Model types that were trained by the sigmoid loss; their texts are padded to one length."""


class ClipDualEncoder(DualEncoder):
    """A CLIP, MetaCLIP 2, SigLIP or SigLIP 2 that retrieves.

    A video's features are the mean of its frames' features.

    Args:
        model: one of transformers' models, or a PEFT model around one.
    """

    matcher = None

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        inner: Any = base_model(model)
        self.backbone, config = inner, inner.config
        sigmoid = config.model_type in SIGMOID_TYPES
        self.contrastive: Literal["softmax", "sigmoid"] = "sigmoid" if sigmoid else "softmax"
        self.width = int(config.vision_config.hidden_size if sigmoid else config.projection_dim)
        # (B, patches, values) where pictures have any aspect ratio, else (B, 3, S, S)
        self._picture_dimensions = 3 if config.model_type == "siglip2" else 4

    def encode_media(self, media: MediaInputs, *, features_only: bool = False) -> MediaEncoding:
        """As in `DualEncoder`; there are no states."""
        given, frames = self._flat(media)
        return _media_encoding(self.backbone.get_image_features(**given).pooler_output, frames)

    def encode_texts(self, texts: TextInputs) -> TextEncoding:
        """As in `DualEncoder`."""
        found = self.backbone.get_text_features(**self._text_arguments(texts))
        return TextEncoding(F.normalize(found.pooler_output, dim=-1))

    def encode_pairs(
        self,
        media: MediaInputs,
        texts: TextInputs,
        *,
        features_only: bool = False,
        call: Callable[..., Any] | None = None,
    ) -> tuple[MediaEncoding, TextEncoding]:
        """As in `DualEncoder`."""
        given, frames = self._flat(media)
        found = (call or self.model)(**given, **self._text_arguments(texts))
        return _media_encoding(found.image_embeds, frames), TextEncoding(found.text_embeds)

    def frame_features(self, states: Tensor, frames: int) -> Tensor:
        """Refused: there are no states, since no matcher reads them."""
        raise TypeError(f"{type(self.backbone).__name__} has no matcher and gives no states")

    def logit_scale(self) -> tuple[Tensor, ...]:
        """The logarithm of the scale and, for the sigmoid loss, the bias."""
        found: tuple[Tensor, ...] = self.backbone.temperature()
        return found

    def logits(self, queries: Tensor, candidates: Tensor, scale: Sequence[Tensor]) -> Tensor:
        """Cosines times the scale, plus the bias where there is one."""
        logarithm, *bias = scale
        return sum(bias, queries @ candidates.T * logarithm.exp())

    def _flat(self, media: MediaInputs) -> tuple[dict[str, Tensor], int | None]:
        """Frames of videos as so many pictures, and how many a video has; None for pictures."""
        pixels = media["pixel_values"]
        if pixels.dim() == self._picture_dimensions:
            return dict(media), None
        return {name: value.flatten(0, 1) for name, value in media.items()}, pixels.shape[1]

    def _text_arguments(self, texts: TextInputs) -> dict[str, Tensor]:
        """SigLIP attends to its padding, so it is given no mask."""
        if self.contrastive == "sigmoid":
            return {"input_ids": texts["input_ids"]}
        return {"input_ids": texts["input_ids"], "attention_mask": texts["attention_mask"]}


def _media_encoding(embedded: Tensor, frames: int | None) -> MediaEncoding:
    each = F.normalize(embedded, dim=-1)
    if frames is None:
        return MediaEncoding(each)
    by_video = each.unflatten(0, (-1, frames))
    return MediaEncoding(F.normalize(by_video.mean(1), dim=-1), frame_features=by_video)
