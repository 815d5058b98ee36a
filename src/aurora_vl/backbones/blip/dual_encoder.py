"""BLIP behind the seam as a retrieval model: its features, and its fusion layers as a matcher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aurora_vl.backbones.base import (
    DualEncoder,
    Matcher,
    MediaEncoding,
    MediaInputs,
    TextEncoding,
    TextInputs,
    base_model,
)
from aurora_vl.backbones.blip.frame_attention import frame_key_scale
from aurora_vl.backbones.blip.modeling import BlipForRetrieval, CrossKeys, TextRun

TEXTS_AT_ONCE = 64
SCALED_BYTES = {"cpu": 2**28, "cuda": 2**31}
"""Of one video's keys, multiplied for several texts."""


def retrieval_backbone(model: nn.Module) -> BlipForRetrieval:
    """The backbone itself, or the one inside a PEFT model.

    Raises:
        TypeError: it is another kind of model.
    """
    inner = base_model(model)
    if not isinstance(inner, BlipForRetrieval):
        raise TypeError(f"{type(inner).__name__} is no retrieval backbone")
    return inner


class BlipDualEncoder(DualEncoder):
    """A BLIP that retrieves.

    Args:
        model: a `BlipForRetrieval`, or a PEFT model around one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.backbone = retrieval_backbone(model)
        self.width: int = self.backbone.config.image_text_hidden_size
        self.matcher = BlipMatcher(self.backbone)

    def encode_media(self, media: MediaInputs, *, features_only: bool = False) -> MediaEncoding:
        """As in `DualEncoder`; states are the vision encoder's."""
        states, features = self.backbone.encode_image(
            media["pixel_values"], features_only=features_only
        )
        return MediaEncoding(features, None if features_only else states)

    def encode_texts(self, texts: TextInputs) -> TextEncoding:
        """As in `DualEncoder`; states are those of [CLS]."""
        cls, features = self.backbone.encode_text(texts["input_ids"], texts["attention_mask"])
        return TextEncoding(features, cls)

    def encode_pairs(
        self,
        media: MediaInputs,
        texts: TextInputs,
        *,
        features_only: bool = False,
        call: Callable[..., Any] | None = None,
    ) -> tuple[MediaEncoding, TextEncoding]:
        """As in `DualEncoder`."""
        found = (call or self.model)(
            pixel_values=media["pixel_values"],
            input_ids=texts["input_ids"],
            attention_mask=texts["attention_mask"],
            features_only=features_only,
        )
        return (
            MediaEncoding(found.image_features, found.image_states, found.frame_features),
            TextEncoding(found.text_features, found.text_cls),
        )

    def frame_features(self, states: Tensor, frames: int) -> Tensor:
        """As in `DualEncoder`."""
        return self.backbone.frame_features(states, frames)

    def logit_scale(self) -> tuple[Tensor, ...]:
        """The temperature."""
        return (self.backbone.temperature.weight,)

    def logits(self, queries: Tensor, candidates: Tensor, scale: Sequence[Tensor]) -> Tensor:
        """Cosines divided by the temperature."""
        (temperature,) = scale
        return queries @ candidates.T / temperature


class BlipMatcher(Matcher):
    """The text encoder's cross-attention and the matching head.

    Args:
        backbone: the model.
    """

    def __init__(self, backbone: BlipForRetrieval) -> None:
        self.backbone = backbone

    def keys(self, states: Tensor) -> CrossKeys:
        """Keys and values of every layer."""
        return self.backbone.cross_keys(states)

    def fuse(self, texts: TextInputs, runs: Sequence[tuple[int, CrossKeys]]) -> Tensor:
        """As in `Matcher`."""
        given = [TextRun(count, keys) for count, keys in runs]
        return self.backbone.fuse(texts["input_ids"], texts["attention_mask"], given)

    def classify(self, fused: Tensor) -> Tensor:
        """As in `Matcher`."""
        return self.backbone.itm_head(fused)

    def scaled(self, keys: CrossKeys, similarity: Tensor) -> CrossKeys:
        """Frame-aware attention, see `frame_attention`."""
        tokens = keys.keys[0].shape[2]
        return keys.scaled(frame_key_scale(similarity, tokens))

    def match(
        self,
        states: Tensor,
        texts: TextInputs,
        lengths: Tensor,
        similarity: Tensor | None = None,
    ) -> Tensor:
        """As in `Matcher`.

        Texts of like length are scored together and padded only to the longest among them. A
        video's keys are kept unscaled and multiplied for as many texts as `SCALED_BYTES` allows.
        """
        ids, mask, cross = texts["input_ids"], texts["attention_mask"], self.keys(states)
        scale, at_once = None, TEXTS_AT_ONCE
        if similarity is not None:
            scale = frame_key_scale(similarity, states.shape[1])
            room = SCALED_BYTES.get(ids.device.type, SCALED_BYTES["cpu"])
            at_once = max(1, min(at_once, room // sum(key.nbytes for key in cross.keys)))
        order = lengths.argsort(stable=True)
        found = []
        for part in order.split(at_once):
            rows, longest = part.to(ids.device), int(lengths[part].max())
            keys = cross if scale is None else cross.scaled(scale[rows])
            logits = self.backbone.match(ids[rows, :longest], mask[rows, :longest], keys)
            found.append(logits[:, 1].double())
        scores = torch.empty(len(ids), dtype=torch.float64)
        scores[order] = torch.cat(found).cpu()
        return scores
