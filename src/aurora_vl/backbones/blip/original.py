"""The checkpoints that BLIP's authors published: ``.pth`` files under names of their own.

Names and shapes follow from the published architecture (Li et al., 2022, arXiv:2201.12086, and
the parameter names of its code, salesforce/BLIP): a timm vision transformer, ``visual_encoder``,
beside BERT. There are three layouts: retrieval (encoders and heads), question answering (encoders
and answer decoder) and pre-training (all of these). What a file is follows from its tensors alone,
whatever its name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BlipConfig

from aurora_vl.backbones.blip.checkpoint import POSITIONS, only_tensors, read_file
from aurora_vl.backbones.blip.config_check import is_temperature
from aurora_vl.errors import UserError

_NAMES = (  # theirs, ours
    ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
    ("visual_encoder.pos_embed", POSITIONS),
    ("visual_encoder.patch_embed.proj.", "vision_model.embeddings.patch_embedding."),
    ("visual_encoder.norm.", "vision_model.post_layernorm."),
    ("visual_encoder.blocks.", "vision_model.encoder.layers."),
    (".attn.qkv.", ".self_attn.qkv."),
    (".attn.proj.", ".self_attn.projection."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
)
_LEFT_OUT = {  # what only their training needs
    "momentum copies": re.compile(r"(visual_encoder|text_encoder|vision_proj|text_proj)_m\."),
    "queues": re.compile(r"(image_queue|text_queue|idx_queue|queue_ptr|ptr_queue)$"),
    "position numbers": re.compile(r"text_(en|de)coder\.(bert\.)?embeddings\.position_ids$"),
}
_TEMPERATURE = "temp"
_DECODER = "text_decoder."
_WORDS = "text_decoder.bert.embeddings.word_embeddings.weight"
_BIAS = "text_decoder.cls.predictions.bias"
_OUTPUT = "text_decoder.cls.predictions.decoder."
_DECODER_KEY = "text_decoder.bert.encoder.layer.0.crossattention.self.key.weight"
_HEAD_WIDTH = 64
_WAY_OUT = (
    "give one of BLIP's retrieval, question answering or pre-training checkpoints, or fetch it "
    "again"
)


@dataclass(frozen=True, slots=True)
class Original:
    """What an original checkpoint holds, under transformers' names.

    Attributes:
        config: as the shapes have it.
        state: the tensors in use, and under their own names those that nobody knows.
        notes: what was left out or changed, in sentences.
    """

    config: BlipConfig
    state: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)


def original_name(name: str) -> str:
    """The name under which an original file has a tensor of ours."""
    for theirs, ours in _NAMES:
        name = name.replace(ours, theirs)
    return name


def read_original(path: Path) -> Original:
    """Read an original checkpoint without executing pickled code.

    Momentum copies and queues are left out; the learned temperature goes into the configuration.
    Whether all tensors of a model are there is for the caller to check.

    Raises:
        UserError: if the file cannot be read, its shapes are not those of a BLIP, or it is the
            weights file of a transformers folder.
    """
    content = read_file(path)
    inner = content.get("model", content)
    if not isinstance(inner, Mapping):
        raise UserError(f"{path} has no tensors by name under 'model'; {_WAY_OUT}")
    _refuse_theirs(inner, path)
    state, notes = _without_training_state(only_tensors(inner, path, _WAY_OUT))
    state = {_our_name(name): tensor for name, tensor in state.items()}
    temperature = state.pop(_TEMPERATURE, None)
    config = _Shapes(path, state).config()
    if temperature is not None:
        config.contrastive_temperature = _one_temperature(temperature, path)
    notes += _without_caption_decoder(state, config) + _untie(state)
    return Original(config, state, notes)


def _refuse_theirs(names: Iterable[Any], path: Path) -> None:
    """Refuse names of transformers: its config.json alone tells heads, words and temperature."""
    starts = {str(name).partition(".")[0] for name in names}
    if "vision_model" in starts and "visual_encoder" not in starts:
        raise UserError(
            f"{path} is the weights file of a folder, which says nothing of the configuration; "
            f"give the folder {path.parent}, with config.json in it"
        )


def _one_temperature(tensor: Tensor, path: Path) -> float:
    if tensor.numel() != 1 or tensor.is_complex():
        raise UserError(f"{path}: {_TEMPERATURE} is not one number; {_WAY_OUT}")
    value = round(float(tensor.item()), 7)
    if not is_temperature(value):
        raise UserError(f"{path}: {_TEMPERATURE} is {value}, not a positive number; {_WAY_OUT}")
    return value


def _our_name(name: str) -> str:
    for theirs, ours in _NAMES:
        name = name.replace(theirs, ours)
    return name


def _without_training_state(
    content: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], list[str]]:
    state: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()
    for name, tensor in content.items():
        kind = next((kind for kind, form in _LEFT_OUT.items() if form.match(name)), None)
        if kind is None:
            state[name] = tensor
        else:
            counts[kind] += 1
    dropped = ", ".join(f"{count} of {kind}" for kind, count in counts.most_common())
    return state, [f"left out tensors: {dropped}"] if dropped else []


def _untie(state: dict[str, Tensor]) -> list[str]:
    """Keep one of the tensors that the decoder uses twice: the later one, that of the output.

    Their pre-training unties words and output again when it shares the decoder's layers with the
    encoder's; their own code, loading such a file, ends with the output's in both places.
    """
    notes = []
    for kept, name in ((_WORDS, f"{_OUTPUT}weight"), (_BIAS, f"{_OUTPUT}bias")):
        output = state.pop(name, None)
        if output is None:
            continue
        if kept in state and not output.equal(state[kept]):
            notes.append(f"{kept} differs from {name}, which is taken for both, as in BLIP")
        state[kept] = output
    return notes


def _without_caption_decoder(state: dict[str, Tensor], config: BlipConfig) -> list[str]:
    """Leave out a decoder that reads pictures wider than texts: it cannot read questions.

    So it is in the large pre-training checkpoint; their code starts the maps that do not fit
    from random numbers.
    """
    key, width = state.get(_DECODER_KEY), config.text_config.hidden_size
    if key is None or key.ndim != 2 or "itm_head.weight" not in state:
        return []
    if key.shape[1] == width or key.shape[1] != config.vision_config.hidden_size:
        return []
    dropped = [name for name in state if name.startswith(_DECODER)]
    for name in dropped:
        del state[name]
    return [
        f"left out the decoder, {len(dropped)} tensors: it reads image states of width "
        f"{key.shape[1]}, not question states of width {width}"
    ]


def heads_of(width: int) -> int:
    """Attention heads of a width: one per 64, as published; fewer where they do not divide it."""
    wanted = max(1, width // _HEAD_WIDTH)
    return next(heads for heads in range(wanted, 0, -1) if width % heads == 0)


@dataclass(frozen=True, slots=True)
class _Shapes:
    """The configuration that a file's shapes imply, and the sentences when they imply none."""

    path: Path
    state: Mapping[str, Tensor]

    def config(self) -> BlipConfig:
        vision, text = self._vision(), self._text()
        projection = "vision_proj.weight"
        width = self._shape(projection, 2)[0] if projection in self.state else 256
        return BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=width)

    def _vision(self) -> dict[str, Any]:
        width = self._shape("vision_model.embeddings.class_embedding", 3)[2]
        patch = self._shape("vision_model.embeddings.patch_embedding.weight", 4)[3]
        patches = self._shape(POSITIONS, 3)[1] - 1
        side = round(max(patches, 0) ** 0.5)
        if side == 0 or side * side != patches:
            raise UserError(
                f"{self.path}: {original_name(POSITIONS)} is for {patches} patches, which do not "
                f"form a square; {_WAY_OUT}"
            )
        return {
            "hidden_size": width,
            "intermediate_size": self._shape("vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
            "num_hidden_layers": self._layers("vision_model.encoder.layers."),
            "num_attention_heads": heads_of(width),
            "image_size": side * patch,
            "patch_size": patch,
            "layer_norm_eps": 1e-6,
        }

    def _text(self) -> dict[str, Any]:
        words, width = self._shape("text_encoder.embeddings.word_embeddings.weight", 2)
        middle = self._shape("text_encoder.encoder.layer.0.intermediate.dense.weight", 2)[0]
        return {
            "vocab_size": words,
            "hidden_size": width,
            "intermediate_size": middle,
            "num_hidden_layers": self._layers("text_encoder.encoder.layer."),
            "num_attention_heads": heads_of(width),
            "max_position_embeddings": self._shape(
                "text_encoder.embeddings.position_embeddings.weight", 2
            )[0],
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "bos_token_id": words - 2,  # [DEC] and [ENC] are their last two words
            "enc_token_id": words - 1,
            "sep_token_id": 102,
            "eos_token_id": 102,
            "pad_token_id": 0,
        }

    def _shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        tensor = self.state.get(name)
        if tensor is None:
            raise UserError(f"{self.path} has no {original_name(name)}; {_WAY_OUT}")
        if tensor.ndim != dimensions:
            raise UserError(
                f"{self.path}: {original_name(name)} has {tensor.ndim} dimensions instead of "
                f"{dimensions}; {_WAY_OUT}"
            )
        if not tensor.numel():
            raise UserError(f"{self.path}: {original_name(name)} is empty; {_WAY_OUT}")
        return tuple(tensor.shape)

    def _layers(self, prefix: str) -> int:
        """How many layers there are, numbered without a gap."""
        numbers = {
            name.removeprefix(prefix).split(".")[0]
            for name in self.state
            if name.startswith(prefix)
        }
        return next(n for n in range(len(numbers) + 1) if str(n) not in numbers)
