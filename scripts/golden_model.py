"""The golden configuration: our models under the reference's parameter names and values.

The reference's numbers were computed from parameters that a rule draws from their names. Here our
own models are built at that size and filled by the same rule (tests/golden/README.md has it); a
reference array that we keep in several parameters, or the other way round, is cut here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import BlipConfig, PreTrainedModel

import aurora_vl.tuner as tuner
from aurora_vl.backbones.blip.answer_model import answering_backbone
from aurora_vl.backbones.blip.dual_encoder import retrieval_backbone
from aurora_vl.backbones.blip.family import BlipFamily
from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering, BlipForRetrieval
from aurora_vl.objectives.presets import Switches, switches

WIDTH, LAYERS, HEADS, RANK = 768, 2, 12, 8
CLS, SEP, DEC, ENC = 101, 102, 198, 199
TEMPERATURE = 0.07
RELEASED = switches("released")

# Pattern of a reference name: (scale, offset) of the standard normal numbers; the first that fits.
_RULES = (
    (r"(LayerNorm|norm1|norm2|visual_encoder(_m)?\.norm)\.weight$", 0.02, 1.0),
    (r"^CP_C$", 0.5, 0.0),
    (r"^CP_[UV]\.weight$", 0.05, 0.0),
    (r"(CP_attention|mlp_CP|[qkv]_CP|CP_(scale|shift)(self|cross))$", 0.5, 0.0),
    (r"", 0.02, 0.0),
)

# Our name (without PEFT's additions) to the reference's; applied in turn.
_RENAMED = (
    (r"^temperature\.weight$", "temp"),
    (r"^aurora_core$", "CP_C"),
    (r"^aurora_([UV])_768$", r"CP_\1.weight"),
    (r"^vision_model\.embeddings\.class_embedding$", "visual_encoder.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding$", "visual_encoder.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual_encoder.patch_embed.proj."),
    (r"^vision_model\.post_layernorm\.", "visual_encoder.norm."),
    (r"^vision_model\.encoder\.layers\.", "visual_encoder.blocks."),
    (r"\.self_attn\.(qkv|projection)\.aurora_P$", ".attn.CP_attention"),
    (r"\.mlp\.fc[12]\.aurora_P$", ".mlp.mlp_CP"),
    (r"\.self_attn\.qkv\.", ".attn.qkv."),
    (r"\.self_attn\.projection\.", ".attn.proj."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.(q)uery\.aurora_P$|\.(k)ey\.aurora_P$|\.(v)alue\.aurora_P$", r".\1\2\3_CP"),
    (r"\.query_slot\.aurora_gate_(self|cross)_(scale|shift)$", r".CP_\2\1"),
)

# Columns of the reference's (R, columns) array that our mode rows (o, i, R) are.
_COLUMNS = {
    "qkv": slice(0, 3),
    "projection": slice(3, 4),
    "fc1": slice(0, 4),
    "fc2": slice(4, 8),
    "query": slice(0, 1),
    "key": slice(0, 1),
    "value": slice(0, 1),
}
_ARRAY_COLUMNS = {"CP_attention": 4, "mlp_CP": 8}


@dataclass(frozen=True)
class Fill:
    """Numbers drawn from names, the same on every machine.

    Attributes:
        prefix: put before every name before it seeds the generator; the rule itself looks at the
            name alone.
    """

    prefix: str = ""

    def normal(self, name: str, *shape: int) -> np.ndarray:
        """Standard normal float32 numbers of the given shape."""
        seed = zlib.crc32((self.prefix + name).encode())
        generator = np.random.Generator(np.random.PCG64(seed))
        return generator.standard_normal(shape, dtype=np.float32)

    def parameter(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A parameter's value in float64 by its reference name."""
        if name == "temp":
            return torch.tensor(TEMPERATURE, dtype=torch.float64)
        scale, offset = next((s, o) for rule, s, o in _RULES if re.search(rule, name))
        return torch.from_numpy(offset + scale * self.normal(name, *shape).astype(np.float64))


@dataclass(frozen=True)
class Part:
    """Where one of our parameters stands in the reference.

    Attributes:
        reference: name of the reference's array.
        columns: the columns of it that our mode rows are; None where the array is the parameter.
    """

    reference: str
    columns: slice | None

    @classmethod
    def of(cls, name: str) -> Part:
        """By the name in a PEFT model's `named_parameters()`."""
        name = re.sub(r"\.default(?=\.|$)", "", name.removeprefix("base_model."))
        name = re.sub(r"\.(base_layer|modules_to_save)(?=\.)", "", name.removeprefix("model."))
        columns = _COLUMNS[name.split(".")[-2]] if name.endswith(".aurora_P") else None
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        return cls(name, columns)

    def draw(self, fill: Fill, shape: torch.Size, reference: str | None = None) -> Tensor:
        """Our parameter's value, (o, i, R) of mode rows; `reference` names another array's."""
        reference = reference or self.reference
        if self.columns is None:
            return fill.parameter(reference, tuple(shape))
        whole = (shape[-1], _ARRAY_COLUMNS.get(reference.rpartition(".")[2], 1))
        return fill.parameter(reference, whole)[:, self.columns].T.reshape(shape)


def assembled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference's arrays by its names, from tensors by our parameter names."""
    parts: dict[str, list[tuple[slice | None, Tensor]]] = {}
    for name, tensor in tensors.items():
        part = Part.of(name)
        parts.setdefault(part.reference, []).append((part.columns, tensor.detach()))
    return {name: _joined(pieces) for name, pieces in parts.items()}


def _joined(pieces: Iterable[tuple[slice | None, Tensor]]) -> Tensor:
    arrays = []
    for columns, tensor in sorted(pieces, key=lambda piece: piece[0].start if piece[0] else 0):
        arrays.append(tensor if columns is None else tensor.reshape(-1, tensor.shape[-1]).T)
    return arrays[0] if len(arrays) == 1 else torch.cat(arrays, dim=1)


def _config() -> BlipConfig:
    text = {
        "vocab_size": 200,
        "hidden_size": WIDTH,
        "encoder_hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 64,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
        "sep_token_id": SEP,
        "bos_token_id": DEC,
        "enc_token_id": ENC,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": 32,
        "patch_size": 16,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "attention_dropout": 0.0,
    }
    return BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=256)


def retrieval_model(fill: Fill, switches: Switches) -> PeftModel:
    """The adapted retrieval model, filled, in float64."""
    heads = BlipFamily().trained_heads(
        "retrieval",
        text_projection=switches.train_text_proj,
        temperature=switches.train_temperature,
    )
    return _adapted(BlipForRetrieval(_config()), fill, switches, heads)


def answering_model(fill: Fill, switches: Switches) -> PeftModel:
    """The adapted question answering model, filled, in float64."""
    return _adapted(BlipForQuestionAnswering(_config()), fill, switches, None)


def _adapted(
    backbone: PreTrainedModel, fill: Fill, switches: Switches, heads: list[str] | None
) -> PeftModel:
    tuner.register()
    config = tuner.AuroraConfig(r=RANK, dropout=0.0, modules_to_save=heads, **switches.adapter())
    model = get_peft_model(backbone.double(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".original_module." not in name:
                parameter.copy_(Part.of(name).draw(fill, parameter.shape))
    return model


def trained(model: PeftModel) -> dict[str, Tensor]:
    """The trained parameters by our names."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


class Golden:
    """The models and inputs that the groups are computed from.

    Args:
        fill: draws the parameters.
        stored: the file's tensors; only `input/*` are read.

    Attributes:
        used: names of the inputs that were read.
    """

    def __init__(self, fill: Fill, stored: Mapping[str, Tensor]) -> None:
        self.fill = fill
        self.used: set[str] = set()
        self._stored = stored

    def input(self, name: str) -> Tensor:
        """A stored input, floating point ones in float64."""
        key = f"input/{name}"
        self.used.add(key)
        value = self._stored[key]
        return value.double() if value.is_floating_point() else value

    @cached_property
    def retrieval(self) -> PeftModel:
        """The retrieval model; groups leave it as they find it."""
        return retrieval_model(self.fill, RELEASED)

    @cached_property
    def answering(self) -> PeftModel:
        """The question answering model; groups leave it as they find it."""
        return answering_model(self.fill, RELEASED)

    @property
    def backbone(self) -> BlipForRetrieval:
        """The retrieval backbone with the adapter's layers."""
        return retrieval_backbone(self.retrieval)

    @property
    def answers(self) -> BlipForQuestionAnswering:
        """The question answering backbone with the adapter's layers."""
        return answering_backbone(self.answering)

    @property
    def questions(self) -> tuple[Tensor, Tensor]:
        """Ids and mask of the questions."""
        return self.input("vqa_question_ids"), self.input("vqa_question_mask")


@contextmanager
def outputs_of(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """A list that receives what the modules return inside the block, in the order of the calls."""
    found: list[Tensor] = []
    handles = [m.register_forward_hook(lambda _m, _i, out: found.append(out)) for m in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
