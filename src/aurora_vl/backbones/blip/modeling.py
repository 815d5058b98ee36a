"""BLIP in one file: vision encoder, text encoder, answer decoder and the two task models.

Written from BLIP's published architecture (Li et al., 2022, arXiv:2201.12086) under
transformers' parameter names and configuration classes, so its folders load unchanged and
adapters made for its BLIP fit. Unlike that one it honours every cross-attention mask, uses
fused attention, lets the keys and values of a picture be computed once for many texts
(``CrossKeys``) and holds a ``QuerySlot`` in each layer for the tuner.

Shapes: B rows, L tokens, N patches (or question tokens), H heads, e = d / H, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BlipConfig,
    BlipTextConfig,
    BlipVisionConfig,
    DynamicCache,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from aurora_vl.tuner.query_slot import QuerySlot

DEFAULT_ENC_TOKEN_ID = 30523  # [ENC] in BLIP's vocabulary: bert-base-uncased, [DEC], [ENC]
DEFAULT_TEMPERATURE = 0.07
HEADS = ("vision_proj", "text_proj", "itm_head")  # of BlipForRetrieval, over its encoders

# --------------------------------------------------------------------------- shared pieces


@dataclass(frozen=True, slots=True)
class CrossKeys:
    """What cross-attention needs of the states it looks at, computed once.

    A text model takes keys of ``b`` rows for ``b * g`` texts: each run of ``g`` consecutive
    texts looks at one row, without copying it.

    Attributes:
        keys: one tensor (b, H, N, e) per layer.
        values: likewise.
        mask: (b, N), true or 1 where a state may be attended to; None where all may.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor | None = None

    @property
    def rows(self) -> int:
        """How many rows (pictures, or questions) the keys were computed for."""
        return self.keys[0].shape[0]

    def _map(self, change: Callable[[Tensor], Tensor]) -> CrossKeys:
        return CrossKeys(
            tuple(change(key) for key in self.keys),
            tuple(change(value) for value in self.values),
            None if self.mask is None else change(self.mask),
        )

    def select(self, rows: Tensor) -> CrossKeys:
        """The given rows, (R,) indices, in that order; a row may come several times."""
        return self._map(lambda tensor: tensor.index_select(0, rows))

    def expand(self, count: int) -> CrossKeys:
        """One row seen as ``count`` rows, without copying.

        Raises:
            ValueError: if there is more than one row.
        """
        if self.rows != 1:
            raise ValueError(f"only one row can be expanded, these keys have {self.rows}")
        return self._map(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    def scaled(self, key_scale: Tensor) -> CrossKeys:
        """Keys (bias included) times ``key_scale`` (B, N); the values stay as they are.

        The frame-aware attention of docs/method.md. One row of keys may be scaled by
        many rows of ``key_scale``.
        """
        rows = key_scale.shape[0]
        if self.rows != rows:
            return self.expand(rows).scaled(key_scale)
        scale = key_scale[:, None, :, None].to(self.keys[0].dtype)
        return CrossKeys(tuple(key * scale for key in self.keys), self.values, self.mask)


class TextRun(NamedTuple):
    """The next ``texts`` texts of a batch and what they look at, as in ``CrossKeys``."""

    texts: int
    cross: CrossKeys


class _Source(NamedTuple):
    """What a run of texts looks at in one layer: keys and values (b, H, N, e), and a mask."""

    texts: int
    key: Tensor
    value: Tensor
    mask: Tensor | None


def _split_heads(states: Tensor, rows: int, heads: int) -> Tensor:
    """(B, L, d) to (rows, H, B * L / rows, e): texts of one picture stand behind each other."""
    return states.reshape(rows, -1, heads, states.shape[-1] // heads).transpose(1, 2)


def _heads(config: BlipTextConfig | BlipVisionConfig) -> int:
    """The number of heads, after a check that they divide the width."""
    heads: int = config.num_attention_heads
    if config.hidden_size % heads:
        raise ValueError(f"hidden_size {config.hidden_size} is not a multiple of {heads} heads")
    return heads


def _token_mask(mask: Tensor | None) -> Tensor | None:
    """A (B, N) mask of any type as the boolean (B, 1, 1, N) that attention takes."""
    return None if mask is None else mask.bool()[:, None, None, :]


# --------------------------------------------------------------------------- vision encoder


class BlipVisionEmbeddings(nn.Module):
    """Patches and a class token, with learned positions."""

    def __init__(self, config: BlipVisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        positions = (config.image_size // patch) ** 2 + 1
        self.image_size: int = config.image_size
        self.class_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.position_embedding = nn.Parameter(torch.empty(1, positions, width))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to states (B, N, d), the class token first."""
        if pixel_values.shape[-2:] != (self.image_size, self.image_size):
            height, width = pixel_values.shape[-2:]
            raise ValueError(
                f"pictures of {height} x {width} pixels were given to a model for "
                f"{self.image_size} x {self.image_size}; load it with image_size=..."
            )
        patches = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        patches = patches.flatten(2).transpose(1, 2)  # (B, N - 1, d)
        first = self.class_embedding.expand(len(patches), -1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding


class BlipVisionAttention(nn.Module):
    """Self-attention with one fused map for queries, keys and values."""

    def __init__(self, config: BlipVisionConfig) -> None:
        super().__init__()
        self.heads = _heads(config)
        self.dropout: float = config.attention_dropout
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.projection = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, states: Tensor, first_only: bool = False) -> Tensor:
        """States (B, N, d) to attended states of the same shape, or of the first token alone."""
        rows, tokens, width = states.shape
        qkv = self.qkv(states).view(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, N, e) each
        if first_only:
            query = query[:, :, :1]
        dropout = self.dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.projection(context.transpose(1, 2).reshape(rows, -1, width))


class BlipVisionMLP(nn.Module):
    """Two linear maps with an activation between them."""

    def __init__(self, config: BlipVisionConfig) -> None:
        super().__init__()
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, states: Tensor) -> Tensor:
        """States (..., d) to states (..., d)."""
        return self.fc2(self.activation_fn(self.fc1(states)))


class BlipVisionLayer(GradientCheckpointingLayer):
    """A pre-norm transformer layer."""

    def __init__(self, config: BlipVisionConfig) -> None:
        super().__init__()
        self.self_attn = BlipVisionAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = BlipVisionMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor, first_only: bool = False) -> Tensor:
        """States (B, N, d) to states (B, N, d), or (B, 1, d) of the first token alone."""
        attended = self.self_attn(self.layer_norm1(states), first_only)
        states = (states[:, :1] if first_only else states) + attended
        return states + self.mlp(self.layer_norm2(states))


class BlipVisionEncoder(nn.Module):
    """The stack of vision layers."""

    def __init__(self, config: BlipVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            BlipVisionLayer(config) for _ in range(config.num_hidden_layers)
        )

    def forward(self, states: Tensor, first_only: bool = False) -> Tensor:
        """States (B, N, d) to states (B, N, d), or (B, 1, d) of the first token alone."""
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            states = layer(states, first_only and index == last)
        return states


class BlipVisionModel(nn.Module):
    """The vision transformer."""

    def __init__(self, config: BlipVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = BlipVisionEmbeddings(config)
        self.encoder = BlipVisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixel_values: Tensor, first_only: bool = False) -> Tensor:
        """Encode pictures or videos.

        Args:
            pixel_values: normalised pixels (B, 3, S, S), S the configuration's image_size, or
                (B, T, 3, S, S), videos of T frames, each encoded as a picture.
            first_only: the class tokens' states are all that is wanted, so the last layer leaves
                out the patches.

        Returns:
            The last layer's states after ``post_layernorm``, (B, N, d), class token first; of a
            video (B, T * N, d), its frames behind each other. N is 1 with ``first_only``.

        Raises:
            ValueError: if the pictures have another size.
        """
        if pixel_values.ndim == 5:
            states = self(pixel_values.flatten(0, 1), first_only)  # (B * T, N, d)
            return states.view(len(pixel_values), -1, states.shape[-1])
        return self.post_layernorm(self.encoder(self.embeddings(pixel_values), first_only))


# ----------------------------------------------------------------------- text encoder, decoder


class AnswerCache(DynamicCache):
    """Keys and values of the tokens decoded so far, and what the query slots were given.

    A slot may look back over the earlier tokens (the gated form does), so decoding with a
    cache must show it the same states as decoding without.
    """

    def __init__(self) -> None:
        super().__init__()
        self._slots: dict[int, Tensor] = {}

    def update_slot(self, layer: int, states: Tensor) -> Tensor:
        """Append (3, B, L, d), the slot's f, s and c, and return those of all tokens."""
        if layer in self._slots:
            states = torch.cat([self._slots[layer], states], dim=2)
        self._slots[layer] = states
        return states

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows that the beam search keeps."""
        super().reorder_cache(beam_idx)
        for layer, states in self._slots.items():
            self._slots[layer] = states.index_select(1, beam_idx.to(states.device))


class BlipTextEmbeddings(nn.Module):
    """Words and learned positions."""

    def __init__(self, config: BlipTextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(
            config.vocab_size, width, padding_idx=config.pad_token_id
        )
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, past: int = 0) -> Tensor:
        """Ids (B, L), of which the first stands at position ``past``, to states (B, L, d)."""
        positions = torch.arange(past, past + input_ids.shape[1], device=input_ids.device)
        words = self.word_embeddings(input_ids)
        return self.dropout(self.LayerNorm(words + self.position_embeddings(positions)))


class BlipTextProjections(nn.Module):
    """The query, key and value maps of one attention, and the attention itself."""

    def __init__(self, config: BlipTextConfig, key_width: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = _heads(config)
        self.dropout: float = config.attention_probs_dropout_prob
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(key_width, width)
        self.value = nn.Linear(key_width, width)

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, (B, H, N, e) each, of states (B, N, key_width)."""
        rows = len(states)
        return (
            _split_heads(self.key(states), rows, self.heads),
            _split_heads(self.value(states), rows, self.heads),
        )

    def forward(self, states: Tensor, sources: Sequence[_Source], causal: bool = False) -> Tensor:
        """Attend from states (B, L, d), run by run, to the sources; gives (B, L, d)."""
        queries = self.query(states).split([source.texts for source in sources])
        contexts = [self._attend(q, source, causal) for q, source in zip(queries, sources)]
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts)

    def _attend(self, query: Tensor, source: _Source, causal: bool) -> Tensor:
        """One run's attention from (B, L, d) to keys of b rows, b a divisor of B."""
        context = F.scaled_dot_product_attention(
            _split_heads(query, len(source.key), self.heads),
            source.key,
            source.value,
            attn_mask=source.mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return context.transpose(1, 2).reshape(query.shape)


class BlipTextResidual(nn.Module):
    """A linear map, dropout, the residual and LayerNorm: the end of each post-norm block."""

    def __init__(self, config: BlipTextConfig, in_width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        """States (B, L, in_width) and what they are added to, (B, L, d), to (B, L, d)."""
        return self.LayerNorm(self.dropout(self.dense(states)) + residual)


class BlipTextAttention(nn.Module):
    """Attention with its output map, residual and LayerNorm."""

    def __init__(self, config: BlipTextConfig, key_width: int) -> None:
        super().__init__()
        self.self = BlipTextProjections(config, key_width)
        self.output = BlipTextResidual(config, config.hidden_size)

    def forward(self, states: Tensor, sources: Sequence[_Source], causal: bool = False) -> Tensor:
        """Attend from states (B, L, d) to the sources; gives (B, L, d)."""
        return self.output(self.self(states, sources, causal), states)


class BlipTextIntermediate(nn.Module):
    """The widening half of the feed-forward block."""

    def __init__(self, config: BlipTextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]

    def forward(self, states: Tensor) -> Tensor:
        """States (B, L, d) to (B, L, intermediate_size)."""
        return self.intermediate_act_fn(self.dense(states))


@dataclass(frozen=True, slots=True)
class _SelfMasks:
    """Which earlier tokens a token sees: ``attention`` as a mask, or ``plain_causal``."""

    attention: Tensor | None  # (B, 1, 1 or L, past + L), true where visible
    plain_causal: bool  # no mask needed beyond the triangle
    tokens: Tensor | None  # (B, past + L), for the query slot
    causal: bool


class BlipTextLayer(GradientCheckpointingLayer):
    """A post-norm layer: self-attention, cross-attention if keys are given, feed-forward."""

    def __init__(self, config: BlipTextConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.attention = BlipTextAttention(config, config.hidden_size)
        self.crossattention = BlipTextAttention(config, config.encoder_hidden_size)
        self.intermediate = BlipTextIntermediate(config)
        self.output = BlipTextResidual(config, config.intermediate_size)
        self.query_slot = QuerySlot(config.hidden_size)

    def forward(
        self,
        states: Tensor,
        masks: _SelfMasks,
        first_only: bool = False,
        runs: Sequence[tuple[int, Tensor | None]] = (),
        *keys_values: Tensor,
        past_key_values: AnswerCache | None = None,
    ) -> Tensor:
        """One layer.

        Args:
            states: (B, L, d).
            masks: of self-attention.
            first_only: give the first token's state alone, (B, 1, d).
            runs: number of texts and cross-attention mask of each run.
            keys_values: key and value of each run, themselves and not in a list, because
                re-entrant checkpointing follows gradients of direct arguments only.
            past_key_values: cache.
        """
        key, value = self.attention.self.keys_values(states)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.index)
        if first_only:
            states = states[:, :1].contiguous()  # what linear maps take without a fold
        own = _Source(len(states), key, value, masks.attention)
        s = self.attention(states, (own,), masks.plain_causal)
        if not runs:
            return self.output(self.intermediate(s), s)
        pairs = zip(runs, keys_values[::2], keys_values[1::2])
        sources = [_Source(texts, key, value, mask) for (texts, mask), key, value in pairs]
        c = self.crossattention(s, sources)
        f = self.output(self.intermediate(c), c)
        if past_key_values is None:
            return self.query_slot(f, s, c, masks.tokens, masks.causal)
        seen = past_key_values.update_slot(self.index, torch.stack([f, s, c]))
        out = self.query_slot(*seen.unbind(0), masks.tokens, masks.causal)
        return out[:, -states.shape[1] :]


class BlipTextEncoder(nn.Module):
    """The stack of text layers."""

    def __init__(self, config: BlipTextConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            BlipTextLayer(config, index) for index in range(config.num_hidden_layers)
        )

    def forward(
        self,
        states: Tensor,
        masks: _SelfMasks,
        runs: Sequence[TextRun],
        first_only: bool,
        past_key_values: AnswerCache | None,
    ) -> Tensor:
        """States (B, L, d) to states (B, L, d), or (B, 1, d) of the first token alone."""
        texts_masks = [(run.texts, _token_mask(run.cross.mask)) for run in runs]
        last = len(self.layer) - 1
        for index, layer in enumerate(self.layer):
            by_token = getattr(layer.query_slot, "by_token", False)
            only = first_only and index == last and by_token
            pairs = [(run.cross.keys[index], run.cross.values[index]) for run in runs]
            flat = [tensor for pair in pairs for tensor in pair]
            states = layer(states, masks, only, texts_masks, *flat, past_key_values=past_key_values)
        return states[:, :1] if first_only else states


class BlipTextModel(nn.Module):
    """BERT with optional cross-attention, as an encoder or (``causal``) a decoder.

    Args:
        config: its ``encoder_hidden_size`` is the width of the states attended to.
    """

    def __init__(self, config: BlipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = BlipTextEmbeddings(config)
        self.encoder = BlipTextEncoder(config)

    def cross_keys(self, states: Tensor, mask: Tensor | None = None) -> CrossKeys:
        """The keys and values of all layers for states to attend to.

        Args:
            states: (B, N, encoder_hidden_size); several frames stand behind each other.
            mask: (B, N), true or 1 where a state may be attended to; None where all may.
        """
        layers = cast("Iterable[BlipTextLayer]", self.encoder.layer)
        pairs = [layer.crossattention.self.keys_values(states) for layer in layers]
        return CrossKeys(tuple(key for key, _ in pairs), tuple(value for _, value in pairs), mask)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cross: CrossKeys | Sequence[TextRun] | None = None,
        causal: bool = False,
        past_key_values: AnswerCache | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """Encode texts.

        Args:
            input_ids: (B, L); with a cache only the tokens that are not in it.
            attention_mask: (B, L), with a cache (B, past + L): true or 1 where not padding.
            cross: what to attend to: B rows, or a divisor of B (see ``CrossKeys``); or several
                such for the runs of texts that the batch is made of. None runs self-attention
                alone and no query slot.
            causal: whether a token sees only itself and earlier ones.
            past_key_values: cache of the earlier tokens, extended in place; causal only.
            first_only: the first token's state is all that is wanted, so the last layer leaves
                out the others; not with ``causal``.

        Returns:
            The last layer's states (B, L, d), or (B, 1, d) with ``first_only``.

        Raises:
            ValueError: if the rows of ``cross`` do not divide B, or its runs are not B texts.
        """
        runs = (TextRun(len(input_ids), cross),) if isinstance(cross, CrossKeys) else cross or ()
        _check_runs(runs, len(input_ids))
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        masks = _self_masks(input_ids, attention_mask, causal, past)
        states = self.embeddings(input_ids, past)
        return self.encoder(states, masks, runs, first_only, past_key_values)


def _check_runs(runs: Sequence[TextRun], texts: int) -> None:
    """Refuse runs that are not the batch, or whose texts cannot share their keys."""
    if runs and sum(run.texts for run in runs) != texts:
        raise ValueError(f"runs of {[run.texts for run in runs]} texts are no batch of {texts}")
    for count, cross in runs:
        if count % cross.rows:
            raise ValueError(f"{count} texts cannot share {cross.rows} rows of keys")


def _self_masks(
    input_ids: Tensor, attention_mask: Tensor | None, causal: bool, past: int
) -> _SelfMasks:
    """Padding mask and, if causal, the triangle over ``past`` + L tokens."""
    length = input_ids.shape[1]
    visible = _token_mask(attention_mask)
    if not causal or length == 1:  # one new token sees all that is not padding
        return _SelfMasks(visible, False, attention_mask, causal)
    if visible is None and past == 0:
        return _SelfMasks(None, True, None, True)
    triangle = torch.ones(length, past + length, dtype=torch.bool, device=input_ids.device)
    triangle = triangle.tril(past)
    attention = triangle if visible is None else triangle & visible
    return _SelfMasks(attention, False, attention_mask, True)


class BlipTextTransform(nn.Module):
    """The map before the vocabulary."""

    def __init__(self, config: BlipTextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_act_fn = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, L, d) to (B, L, d)."""
        return self.LayerNorm(self.transform_act_fn(self.dense(states)))


class BlipTextPredictions(nn.Module):
    """States to logits; ``decoder`` shares its weight with the word embeddings."""

    def __init__(self, config: BlipTextConfig) -> None:
        super().__init__()
        self.transform = BlipTextTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))  # tied to decoder.bias

    def forward(self, states: Tensor) -> Tensor:
        """States (B, L, d) to logits (B, L, V)."""
        return self.decoder(self.transform(states))


class BlipTextHead(nn.Module):
    """Holds the predictions under transformers' name."""

    def __init__(self, config: BlipTextConfig) -> None:
        super().__init__()
        self.predictions = BlipTextPredictions(config)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, L, d) to logits (B, L, V)."""
        return self.predictions(states)


# --------------------------------------------------------------------------- whole models


class Temperature(nn.Module):
    """The temperature of contrastive similarities: one number, ``weight`` of shape ()."""

    def __init__(self, value: float = DEFAULT_TEMPERATURE) -> None:
        super().__init__()
        self.value = value
        self.weight = nn.Parameter(torch.tensor(float(value)))  # of 1, a whole number too

    def forward(self, similarity: Tensor) -> Tensor:
        """Similarities divided by the temperature."""
        return similarity / self.weight


class BlipPreTrainedModel(PreTrainedModel):
    """Saving, loading, starting values and gradient checkpointing, from transformers."""

    config_class = BlipConfig
    base_model_prefix = "blip"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("BlipVisionLayer", "BlipTextLayer")
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = (r"\.position_ids$",)  # a buffer in older folders

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, BlipVisionEmbeddings):
            std = self.config.initializer_range
            init.trunc_normal_(module.position_embedding, std=std)
            init.trunc_normal_(module.class_embedding, std=std)
        elif isinstance(module, BlipTextPredictions):
            init.zeros_(module.bias)
        elif isinstance(module, Temperature):
            init.constant_(module.weight, module.value)


class BlipTextDecoder(BlipPreTrainedModel, GenerationMixin):
    """The answer decoder: a causal text model with a head over the vocabulary.

    Args:
        config: its ``encoder_hidden_size`` is the width of the question states.
    """

    config_class = BlipTextConfig
    base_model_prefix = "bert"
    main_input_name = "input_ids"
    _tied_weights_keys = {  # noqa: RUF012 (transformers' form)
        "cls.predictions.decoder.bias": "cls.predictions.bias",
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    }

    def __init__(self, config: BlipTextConfig) -> None:
        super().__init__(config)
        self.bert = BlipTextModel(config)
        self.cls = BlipTextHead(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings."""
        return self.bert.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embeddings."""
        self.bert.embeddings.word_embeddings = value

    def get_output_embeddings(self) -> nn.Module:
        """The map to the vocabulary."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the map to the vocabulary."""
        self.cls.predictions.decoder = value
        self.cls.predictions.bias = value.bias

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cross: CrossKeys | None = None,
        past_key_values: AnswerCache | None = None,
        return_dict: bool = True,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token at every position.

        Args:
            input_ids: (B, A), starting with [DEC]; with a cache only what is not in it.
            attention_mask: (B, A), with a cache (B, past + A): true or 1 where not padding.
            cross: keys of the question states, as in ``BlipTextModel.forward``.
            past_key_values: cache of the earlier tokens, extended in place.
            return_dict: as ``generate`` passes it; the output is one in any case.

        Returns:
            ``logits`` (B, A, V), and the cache if one was given.
        """
        states = self.bert(input_ids, attention_mask, cross, True, past_key_values)
        return CausalLMOutputWithPast(logits=self.cls(states), past_key_values=past_key_values)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: AnswerCache | None = None,
        attention_mask: Tensor | None = None,
        cross: CrossKeys | None = None,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The arguments of ``forward`` for the next step of ``generate``.

        ``cross`` need not be repeated for beams: those of one question stand together.
        """
        if not use_cache:
            past_key_values = None
        elif not isinstance(past_key_values, AnswerCache):
            past_key_values = AnswerCache()
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        return {
            "input_ids": input_ids[:, past:],
            "attention_mask": attention_mask,
            "cross": cross,
            "past_key_values": past_key_values,
        }


def _with_first(input_ids: Tensor, first: int) -> Tensor:
    """The ids with another first one; the given tensor is left as it is."""
    return torch.cat([torch.full_like(input_ids[:, :1], first), input_ids[:, 1:]], dim=1)


def _frames(pixel_values: Tensor) -> int:
    """T of videos (B, T, 3, S, S), 1 of pictures."""
    return pixel_values.shape[1] if pixel_values.ndim == 5 else 1


def _frame_cls(states: Tensor, frames: int) -> Tensor:
    """The class token of every frame (B, T, d), of states (B, T * N, d)."""
    return states.unflatten(1, (frames, -1))[:, :, 0]


class RetrievalOutput(NamedTuple):
    """What the contrastive half of retrieval computes.

    Attributes:
        image_states: (B, N, d) of the vision encoder.
        image_features: (B, D), of length 1.
        text_cls: (B, d), the text encoder's first state.
        text_features: (B, D), of length 1.
        frame_features: (B, T, D) of a video's T frames, of length 1; None for pictures.
    """

    image_states: Tensor
    image_features: Tensor
    text_cls: Tensor
    text_features: Tensor
    frame_features: Tensor | None = None


class BlipForRetrieval(BlipPreTrainedModel):
    """Features of pictures and texts, and their matching.

    The keys are those of transformers' ``BlipForImageTextRetrieval``; ``temperature`` is
    saved as the configuration's ``contrastive_temperature`` instead of a tensor, and starts
    from there (from 0.07 if it has none).
    """

    _keys_to_ignore_on_save = ("temperature.weight",)
    _keys_to_ignore_on_load_missing = (r"^temperature\.weight$",)

    def __init__(self, config: BlipConfig) -> None:
        super().__init__(config)
        text_width = config.text_config.hidden_size
        self.vision_model = BlipVisionModel(config.vision_config)
        self.text_encoder = BlipTextModel(config.text_config)
        self.vision_proj = nn.Linear(
            config.vision_config.hidden_size, config.image_text_hidden_size
        )
        self.text_proj = nn.Linear(text_width, config.image_text_hidden_size)
        self.itm_head = nn.Linear(text_width, 2)
        self.temperature = Temperature(
            getattr(config, "contrastive_temperature", DEFAULT_TEMPERATURE)
        )
        self.post_init()

    @property
    def enc_token_id(self) -> int:
        """The id of [ENC], which starts a text that is fused with a picture."""
        return getattr(self.config.text_config, "enc_token_id", DEFAULT_ENC_TOKEN_ID)

    def get_input_embeddings(self) -> nn.Module:
        """The text encoder's word embeddings."""
        return self.text_encoder.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the text encoder's word embeddings."""
        self.text_encoder.embeddings.word_embeddings = value

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As transformers', the temperature in the configuration."""
        self.config.contrastive_temperature = self.temperature.weight.item()
        super().save_pretrained(*args, **kwargs)

    def encode_image(
        self, pixel_values: Tensor, features_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, S, S) to states (B, N, d) and features (B, D) of length 1.

        Videos (B, T, 3, S, S) give the states of all frames (B, T * N, d) and the features of
        their mean class token. With ``features_only`` the states are the class tokens' alone,
        N = 1, which saves most of the last layer.
        """
        states = self.vision_model(pixel_values, features_only)
        first = _frame_cls(states, _frames(pixel_values)).mean(1)
        return states, F.normalize(self.vision_proj(first), dim=-1)

    def frame_features(self, states: Tensor, frames: int) -> Tensor:
        """States (B, T * N, d) of videos of T frames to each frame's features (B, T, D)."""
        return F.normalize(self.vision_proj(_frame_cls(states, frames)), dim=-1)

    def encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Texts (B, L), [CLS] first, to their first state (B, d) and features (B, D)."""
        cls = self.text_encoder(input_ids, attention_mask, first_only=True)[:, 0]
        return cls, F.normalize(self.text_proj(cls), dim=-1)

    def cross_keys(self, states: Tensor, mask: Tensor | None = None) -> CrossKeys:
        """Keys and values of image states (B, N, d), for ``fuse`` and ``match``."""
        return self.text_encoder.cross_keys(states, mask)

    def fuse(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        cross: CrossKeys | Sequence[TextRun],
    ) -> Tensor:
        """Texts (B, L) read with their pictures: the first state (B, d).

        The first id is replaced by [ENC]; ``cross`` is as in ``BlipTextModel.forward``.
        """
        ids = _with_first(input_ids, self.enc_token_id)
        return self.text_encoder(ids, attention_mask, cross, first_only=True)[:, 0]

    def match(self, input_ids: Tensor, attention_mask: Tensor | None, cross: CrossKeys) -> Tensor:
        """Matching logits (B, 2) of texts with their pictures; index 1 means a match."""
        return self.itm_head(self.fuse(input_ids, attention_mask, cross))

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        features_only: bool = False,
    ) -> RetrievalOutput:
        """Encode pictures (B, 3, S, S) or videos (B, T, 3, S, S), and texts (B, L).

        ``features_only`` as in ``encode_image``.
        """
        states, image_features = self.encode_image(pixel_values, features_only)
        text_cls, text_features = self.encode_text(input_ids, attention_mask)
        frames = (
            self.frame_features(states, _frames(pixel_values)) if pixel_values.ndim == 5 else None
        )
        return RetrievalOutput(states, image_features, text_cls, text_features, frames)


class BlipForQuestionAnswering(BlipPreTrainedModel):
    """Questions about pictures, answered in words.

    The keys are those of transformers' class of the same name.
    """

    _tied_weights_keys = {  # noqa: RUF012 (transformers' form)
        f"text_decoder.{tied}": f"text_decoder.{source}"
        for tied, source in BlipTextDecoder._tied_weights_keys.items()
    }

    def __init__(self, config: BlipConfig) -> None:
        super().__init__(config)
        decoder_config = copy.deepcopy(config.text_config)
        decoder_config.encoder_hidden_size = decoder_config.hidden_size  # reads the question
        self.vision_model = BlipVisionModel(config.vision_config)
        self.text_encoder = BlipTextModel(config.text_config)
        self.text_decoder = BlipTextDecoder(decoder_config)
        self.post_init()

    @property
    def enc_token_id(self) -> int:
        """The id of [ENC], which starts a question that is fused with a picture."""
        return getattr(self.config.text_config, "enc_token_id", DEFAULT_ENC_TOKEN_ID)

    def get_input_embeddings(self) -> nn.Module:
        """The decoder's word embeddings: those that the output map shares its weight with."""
        return self.text_decoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the decoder's word embeddings."""
        self.text_decoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The decoder's map to the vocabulary, which PEFT's "all-linear" leaves out."""
        return self.text_decoder.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the decoder's map to the vocabulary."""
        self.text_decoder.set_output_embeddings(value)

    def encode_question(
        self,
        image: Tensor,
        question_ids: Tensor,
        question_mask: Tensor | None = None,
        image_mask: Tensor | None = None,
        image_rows: Tensor | None = None,
    ) -> Tensor:
        """Questions read with their pictures.

        Args:
            image: pixels (b, 3, S, S), videos (b, T, 3, S, S) or states (b, N, d); b is B or a
                divisor of B: each run of B / b consecutive questions is about one picture.
            question_ids: (B, L); the first id is replaced by [ENC].
            question_mask: (B, L), true or 1 where not padding.
            image_mask: (b, N), true or 1 where a state may be attended to.
            image_rows: (B,), the row of ``image`` that each question is about, where not each has
                equally many.

        Returns:
            Question states (B, L, d).
        """
        states = image if image.ndim == 3 else self.vision_model(image)
        cross = self.text_encoder.cross_keys(states, image_mask)
        if image_rows is not None:
            cross = cross.select(image_rows)
        ids = _with_first(question_ids, self.enc_token_id)
        return self.text_encoder(ids, question_mask, cross)

    def question_keys(self, states: Tensor, question_mask: Tensor | None = None) -> CrossKeys:
        """The decoder's keys and values of question states (B, L, d)."""
        return self.text_decoder.bert.cross_keys(states, question_mask)

    def answer_logits(
        self, answer_ids: Tensor, answer_mask: Tensor | None, question_cross: CrossKeys
    ) -> Tensor:
        """Logits (B, A, V) of the token after each of ``answer_ids`` (B, A), [DEC] first.

        The rows of ``question_cross`` are B or a divisor of B: each run of consecutive
        answers belongs to one question.
        """
        return self.text_decoder(answer_ids, answer_mask, question_cross).logits

    def forward(
        self,
        pixel_values: Tensor,
        question_ids: Tensor,
        question_mask: Tensor | None,
        answer_ids: Tensor,
        answer_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, A, V) of answers (B, A) to questions (B, L) on pictures (B, 3, S, S)."""
        states = self.encode_question(pixel_values, question_ids, question_mask)
        return self.answer_logits(
            answer_ids, answer_mask, self.question_keys(states, question_mask)
        )

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Tensor,
        question_ids: Tensor,
        question_mask: Tensor | None = None,
        max_new_tokens: int = 10,
        num_beams: int = 1,
        attend_padding: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Answer questions, greedily or with beams.

        Args:
            pixel_values: pixels or states, as in ``encode_question``.
            question_ids: (B, L).
            question_mask: (B, L), true or 1 where not padding.
            max_new_tokens: at most so many tokens after [DEC].
            num_beams: 1 is greedy.
            attend_padding: whether the decoder looks at the question's padding too, as the
                released code does.
            kwargs: further arguments of transformers' ``generate``, such as ``use_cache``.

        Returns:
            Ids (B, at most 1 + max_new_tokens): [DEC], the answer, [SEP], padding.
        """
        states = self.encode_question(pixel_values, question_ids, question_mask)
        keys = self.question_keys(states, None if attend_padding else question_mask)
        return self.write_answers(keys, max_new_tokens, num_beams, **kwargs)

    @torch.no_grad()
    def write_answers(
        self, question_cross: CrossKeys, max_new_tokens: int = 10, num_beams: int = 1, **kwargs: Any
    ) -> Tensor:
        """Generate one answer to each of B questions, given as keys from ``question_keys``.

        The other arguments and what is returned are those of ``generate``.
        """
        text_config = self.config.text_config
        rows, device = question_cross.rows, question_cross.keys[0].device
        start = torch.full((rows, 1), text_config.bos_token_id, device=device)
        defaults = {
            "attention_mask": torch.ones_like(start),
            "eos_token_id": text_config.sep_token_id,
            "pad_token_id": text_config.pad_token_id,
            "do_sample": False,
        }
        return self.text_decoder.generate(
            input_ids=start,
            cross=question_cross,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            **(defaults | kwargs),
        )
