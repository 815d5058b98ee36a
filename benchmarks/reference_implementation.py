"""The reference implementation: Aurora on BLIP as it was published, written for clarity alone.

Nothing is shared between rows or passes: every projection computes its own update, every (text,
picture) pair its own keys and values in every layer, attention is a softmax of all scores, captions
come padded to 35 tokens, and the momentum copy is a second whole model of which every number moves
at every step. Written from BLIP (Li et al., 2022, arXiv:2201.12086) and the adapter's formulas
(docs/method.md: cp core, released query gate, no dropout). Our modules only hold the parameters, so
that both forms compute the same losses; the arithmetic of their layers is not called.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aurora_vl.backbones.base import MediaInputs, TextInputs
from aurora_vl.backbones.blip.dual_encoder import retrieval_backbone
from aurora_vl.backbones.blip.modeling import (
    BlipForRetrieval,
    BlipTextAttention,
    BlipTextLayer,
    BlipVisionLayer,
)
from aurora_vl.tuner.gqt import AuroraQueryGate
from aurora_vl.tuner.layer import AuroraLinear

CAPTION_TOKENS = 35
_MASKED = -10_000.0


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """A frozen map plus its adapter's update x U^T diag(core * p) V^T, block by block."""
    if not isinstance(layer, AuroraLinear):
        return layer(x)
    u, v, core, modes = layer.factors(layer.active_adapters[0])
    slices = x.chunk(modes.shape[1], dim=-1)
    z = [F.linear(part, u) for part in slices]  # (..., R) of each input slice
    updates = []
    for row in modes:
        t = z[0] * (core * row[0])
        for part, p in zip(z[1:], row[1:]):
            t = t + part * (core * p)
        updates.append(F.linear(t, v))
    return layer.base_layer(x) + torch.cat(updates, dim=-1)


def projections(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a fused map, each with an update of its own."""
    base: Any = layer.get_base_layer() if isinstance(layer, AuroraLinear) else layer
    outputs = F.linear(x, base.weight, base.bias).chunk(3, dim=-1)
    if isinstance(layer, AuroraLinear):
        u, v, core, modes = layer.factors(layer.active_adapters[0])
        outputs = tuple(
            y + F.linear(F.linear(x, u) * (core * row[0]), v) for y, row in zip(outputs, modes)
        )
    query, key, value = outputs
    return query, key, value


def attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    """Softmax attention of (B, L, d) over (B, N, d); `mask` is added to the scores."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5  # (B, H, L, N)
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def vision_layer(layer: BlipVisionLayer, x: Tensor) -> Tensor:
    """A pre-norm layer."""
    attended = attention(
        *projections(layer.self_attn.qkv, layer.layer_norm1(x)), layer.self_attn.heads
    )
    x = x + linear(layer.self_attn.projection, attended)
    inner = linear(layer.mlp.fc1, layer.layer_norm2(x))
    return x + linear(layer.mlp.fc2, layer.mlp.activation_fn(inner))


def image_states(model: BlipForRetrieval, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, S, S) to states (B, N, d)."""
    x = model.vision_model.embeddings(pixels)
    for layer in model.vision_model.encoder.layers:
        x = vision_layer(cast("BlipVisionLayer", layer), x)
    return model.vision_model.post_layernorm(x)


def text_attention(
    block: BlipTextAttention,
    x: Tensor,
    source: Tensor,
    mask: Tensor | None,
    key_scale: Tensor | None = None,
) -> Tensor:
    """Attention from x to `source` with its output map, residual and LayerNorm."""
    maps = block.self
    query, key, value = linear(maps.query, x), linear(maps.key, source), linear(maps.value, source)
    if key_scale is not None:
        key = key * key_scale[..., None]
    attended = attention(query, key, value, maps.heads, mask)
    return block.output.LayerNorm(block.output.dense(attended) + x)


def text_layer(
    layer: BlipTextLayer,
    x: Tensor,
    mask: Tensor,
    image: Tensor | None,
    key_scale: Tensor | None = None,
) -> Tensor:
    """A post-norm layer, with cross-attention and query gate where a picture is given."""
    s = c = text_attention(layer.attention, x, x, mask)
    if image is not None:
        c = text_attention(layer.crossattention, s, image, None, key_scale)
    inner = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(c))
    f = layer.output.LayerNorm(layer.output.dense(inner) + c)
    gate = layer.query_slot
    if image is None or not isinstance(gate, AuroraQueryGate):
        return f
    s1, b1, s2, b2 = (getattr(gate, name)[gate.active_adapters[0]] for name in gate.own_names)
    return f + 0.1 * (s1 * s + b1) + 0.1 * (s2 * c + b2)


def text_states(
    model: BlipForRetrieval,
    ids: Tensor,
    mask: Tensor,
    image: Tensor | None = None,
    key_scale: Tensor | None = None,
) -> Tensor:
    """Texts (B, L) to states (B, L, d), read with a picture's states (B, N, d) if given.

    `key_scale` (B, N) multiplies each pair's keys, as for a video's frames.
    """
    if image is not None:
        ids = torch.cat([torch.full_like(ids[:, :1], model.enc_token_id), ids[:, 1:]], dim=1)
    x = model.text_encoder.embeddings(ids)
    added = (1.0 - mask[:, None, None, :].to(x.dtype)) * _MASKED
    for layer in model.text_encoder.encoder.layer:
        x = text_layer(cast("BlipTextLayer", layer), x, added, image, key_scale)
    return x


def pad(ids: Tensor, mask: Tensor, tokens: int = CAPTION_TOKENS) -> tuple[Tensor, Tensor]:
    """Captions padded to the published length."""
    missing = max(0, tokens - ids.shape[1])
    return F.pad(ids, (0, missing)), F.pad(mask, (0, missing))


class ReferenceRetrieval(nn.Module):
    """The reference training step: contrastive and matching losses of a batch of pairs.

    Args:
        model: a backbone with a cp adapter (or without one), of which the trained parameters
            require gradients.
        image_queue, text_queue: (Q, D) features of length 1.
        index_queue: (Q,) their media.
        momentum: decay of the second model's parameters; None for no such model, with the live
            features as their own targets.
        alpha: share of the second model's similarities in the targets.
    """

    def __init__(
        self,
        model: nn.Module,
        image_queue: Tensor,
        text_queue: Tensor,
        index_queue: Tensor,
        *,
        momentum: float | None = 0.995,
        alpha: float = 0.4,
    ) -> None:
        super().__init__()
        self.model = model
        self.momentum = momentum
        self.alpha = alpha
        self.averaged = None if momentum is None else copy.deepcopy(model).requires_grad_(False)
        self.image_queue = image_queue.T.contiguous()  # (D, Q), as published
        self.text_queue = text_queue.T.contiguous()
        self.index_queue = index_queue.clone()
        self.pointer = 0

    def forward(
        self, media: MediaInputs, texts: TextInputs, media_index: Tensor
    ) -> dict[str, Tensor]:
        """The losses; arguments as in `RetrievalTask`, the most similar negatives are taken."""
        model = retrieval_backbone(self.model)
        pixels = media["pixel_values"]
        ids, mask = pad(texts["input_ids"], texts["attention_mask"])
        image = image_states(model, pixels)
        image_feature = F.normalize(model.vision_proj(image[:, 0]), dim=-1)
        text_feature = F.normalize(model.text_proj(text_states(model, ids, mask)[:, 0]), dim=-1)
        targets = self._momentum_features(image_feature, text_feature, pixels, ids, mask)
        contrastive = self._contrastive(image_feature, text_feature, *targets, media_index)
        matching = self._matching(image, image_feature, text_feature, ids, mask, media_index)
        return {"loss": contrastive + matching, "loss_itc": contrastive, "loss_itm": matching}

    @torch.no_grad()
    def _momentum_features(
        self, image: Tensor, text: Tensor, pixels: Tensor, ids: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.averaged is None or self.momentum is None:
            return image.detach(), text.detach()
        for averaged, live in zip(self.averaged.parameters(), self.model.parameters()):
            averaged.data = averaged.data * self.momentum + live.data * (1.0 - self.momentum)
        model = retrieval_backbone(self.averaged)
        image = F.normalize(model.vision_proj(image_states(model, pixels)[:, 0]), dim=-1)
        text = F.normalize(model.text_proj(text_states(model, ids, mask)[:, 0]), dim=-1)
        return image, text

    def _contrastive(
        self, image: Tensor, text: Tensor, image_m: Tensor, text_m: Tensor, index: Tensor
    ) -> Tensor:
        temperature = retrieval_backbone(self.model).temperature.weight
        images = torch.cat([image_m.T, self.image_queue], dim=1)  # (D, B + Q)
        texts = torch.cat([text_m.T, self.text_queue], dim=1)
        same = (index[:, None] == torch.cat([index, self.index_queue])[None]).to(image.dtype)
        hard = (1 - self.alpha) * same / same.sum(1, keepdim=True)
        with torch.no_grad():
            target_i2t = self.alpha * (image_m @ texts / temperature).softmax(1) + hard
            target_t2i = self.alpha * (text_m @ images / temperature).softmax(1) + hard
        i2t = (image @ texts / temperature).log_softmax(1)
        t2i = (text @ images / temperature).log_softmax(1)
        self._enqueue(image_m, text_m, index)
        return -((i2t * target_i2t).sum(1).mean() + (t2i * target_t2i).sum(1).mean()) / 2

    @torch.no_grad()
    def _enqueue(self, image: Tensor, text: Tensor, index: Tensor) -> None:
        size = len(self.index_queue)
        slots = slice(self.pointer, self.pointer + len(index))
        self.image_queue[:, slots] = image.T
        self.text_queue[:, slots] = text.T
        self.index_queue[slots] = index
        self.pointer = (self.pointer + len(index)) % size

    def _matching(
        self,
        image: Tensor,
        image_feature: Tensor,
        text_feature: Tensor,
        ids: Tensor,
        mask: Tensor,
        index: Tensor,
    ) -> Tensor:
        """True pairs in one pass, both kinds of negatives in another, as published."""
        model = retrieval_backbone(self.model)
        with torch.no_grad():
            same = index[:, None] == index[None]
            similarity = (image_feature @ text_feature.T).masked_fill(same, -torch.inf)
            texts = similarity.argmax(1)
            images = similarity.T.argmax(1)
        positive = text_states(model, ids, mask, image)[:, 0]
        negative = text_states(
            model,
            torch.cat([ids, ids[texts]]),
            torch.cat([mask, mask[texts]]),
            torch.cat([image[images], image]),
        )[:, 0]
        logits = model.itm_head(torch.cat([positive, negative]))
        labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        labels[: len(positive)] = 1
        return F.cross_entropy(logits, labels)


@torch.no_grad()
def rerank(
    model: nn.Module,
    states: Tensor,
    ids: Tensor,
    mask: Tensor,
    candidates: Tensor,
    key_scale: Tensor | None = None,
) -> Tensor:
    """The reference second stage: every picture with its candidates, each pair by itself.

    Args:
        model: a backbone, or a PEFT model around one.
        states: (M, N, d) of all pictures.
        ids, mask: (T, L), all captions.
        candidates: (M, K) captions of each picture.
        key_scale: (M, K, N) of videos' frames.

    Returns:
        matching logits (M, K).
    """
    backbone = retrieval_backbone(model)
    ids, mask = pad(ids, mask)
    rows = []
    for number, (state, chosen) in enumerate(zip(states, candidates)):
        pairs = state[None].repeat(len(chosen), 1, 1)  # (K, N, d)
        scale = None if key_scale is None else key_scale[number]
        fused = text_states(backbone, ids[chosen], mask[chosen], pairs, scale)[:, 0]
        rows.append(backbone.itm_head(fused)[:, 1])
    return torch.stack(rows)
