"""Which maps of a model the method adapts by default, and which widths its sizes are cut by.

As the method names them: in vision q, k, v, projection and both MLP maps; in text q, k and v of
self- and cross-attention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_VISION_SUFFIXES = r"(qkv|projection|[qkvo]_proj|out_proj|query|key|value|fc1|fc2)"
_QKV = ["q_proj", "k_proj", "v_proj"]
_BLIP = ["qkv", "projection", "fc1", "fc2", "query", "key", "value"]
# Both layouts that transformers gave its ViT; the pooler and the classifier are no part of it.
_VIT = (
    r"(.*\.)?layers?\.\d+\.(.*([qkvo]_proj|query|key|value|fc1|fc2"
    r"|attention\.output\.dense|intermediate\.dense)|output\.dense)"
)
# The pooling head of SigLIP is an nn.MultiheadAttention, which reads the weights of its `out_proj`
# and never calls it, so that an adapter there would get no gradient.
_TWO_TOWERS = (
    rf"(.*\.)?vision_model\.(?!head\.attention\.).*\.{_VISION_SUFFIXES}"
    r"|(.*\.)?text_model\..*\.[qkv]_proj"
)
_BLIP_2 = (
    rf"(.*\.)?vision_model\..*\.{_VISION_SUFFIXES}|(.*\.)?qformer\..*\.(query|key|value)"
    r"|(.*\.)?language_model\..*\.([qkv]_proj|[qkv])"
)
_GEMMA_3 = rf"(.*\.)?vision_tower\..*\.{_VISION_SUFFIXES}|(.*\.)?language_model\..*\.[qkv]_proj"
_CHAT = (  # of vision layers alone: patch embeddings and pooling heads are left out
    r"(.*\.)?(vision_tower|vision_model|visual)\..*(layers?|blocks)\.\d+\..*\."
    r"([qkvo]_proj|qkv|proj|out_proj|projection_layer|fc1|fc2|gate_proj|up_proj|down_proj"
    r"|linear_fc1|linear_fc2)|(.*\.)?(text_model|language_model)\..*\.[qkv]_proj"
)
# Language models whose attention has the three maps apart, with as many key heads as query heads or
# fewer.
_CAUSAL = (
    *("llama", "llama4_text", "mistral", "ministral", "ministral3", "mixtral"),
    *("qwen2", "qwen2_moe", "qwen3", "qwen3_moe"),
    *("gemma", "gemma2", "gemma3_text", "gemma4_text", "phi", "phimoe"),
    *("olmo", "olmo2", "olmo3", "smollm3", "stablelm", "starcoder2", "granite"),
    *("cohere", "cohere2", "glm", "glm4", "exaone4", "nemotron", "gpt_oss", "gptj", "opt"),
)

DEFAULT_TARGETS: dict[str, list[str] | str] = {
    "blip": _BLIP,
    "blip_vision_model": ["qkv", "projection", "fc1", "fc2"],
    "blip_text_model": ["query", "key", "value"],
    "blip-2": _BLIP_2,
    "instructblip": _BLIP_2,
    "blip_2_vision_model": ["qkv", "projection", "fc1", "fc2"],
    "blip_2_qformer": ["query", "key", "value"],
    "gemma3": _GEMMA_3,
    "gemma4": r"(.*\.)?language_model\..*\.[qkv]_proj",
    "clip": _TWO_TOWERS,
    "metaclip_2": _TWO_TOWERS,
    "clip_vision_model": [*_QKV, "out_proj", "fc1", "fc2"],
    "clip_text_model": _QKV,
    "siglip": _TWO_TOWERS,
    "siglip_vision_model": [*_QKV, "out_proj", "fc1", "fc2"],
    "siglip_text_model": _QKV,
    "siglip2": _TWO_TOWERS,
    "siglip2_vision_model": [*_QKV, "out_proj", "fc1", "fc2"],
    "siglip2_text_model": _QKV,
    **dict.fromkeys(("smolvlm", "llava_onevision", "internvl", "qwen2_5_vl", "qwen3_vl"), _CHAT),
    "vit": _VIT,
    "deit": _VIT,
    "bert": ["query", "key", "value"],
    "roberta": ["query", "key", "value"],
    "xlm-roberta": ["query", "key", "value"],
    "electra": ["query", "key", "value"],
    "distilbert": ["q_lin", "k_lin", "v_lin"],
    **dict.fromkeys(_CAUSAL, _QKV),
    "bloom": ["query_key_value"],
    "falcon": ["query_key_value"],
    "gpt_neox": ["query_key_value"],
    "phi3": ["qkv_proj"],
}

# Their maps are transformers' Conv1D, which is no nn.Linear.
CONV1D_MODELS = ("gpt2", "imagegpt", "openai-gpt")

_CROSS_ATTENTION = re.compile(r"cross_?att|encoder_attn|EncDecAttention")
_HIDDEN_SIZE_NAMES = ("hidden_size", "d_model", "n_embd")


def config_widths(config: Any) -> list[int]:
    """Return the hidden sizes named in a model's config and the configs inside it, largest first.

    Args:
        config: a transformers config or its dictionary form.
    """
    entries = config if isinstance(config, dict) else config.to_dict()
    widths = {
        value
        for name in _HIDDEN_SIZE_NAMES
        if isinstance(value := entries.get(name), int) and not isinstance(value, bool) and value > 0
    }
    for value in entries.values():
        if isinstance(value, dict):
            widths.update(config_widths(value))
    return sorted(widths, reverse=True)


def square_widths(maps: Iterable[tuple[int, int]]) -> list[int]:
    """Return the sizes of the square maps, largest first.

    Stands in for a config: what a residual stream is read from and written to has one size. Where
    no map is square, every size is its own width.

    Args:
        maps: (in_features, out_features) of the targeted maps.
    """
    return sorted({size for size, out_size in maps if size == out_size}, reverse=True)


def is_vision(key: str) -> bool:
    """Tell whether a module lies in a part of the model that is named like vision."""
    return re.search(r"vision|visual|image_encoder", key) is not None


def sharing_group(key: str, sharing: str) -> str:
    """Return the group of maps that a map shares its factors U and V with.

    Args:
        key: the map's name in the model.
        sharing: "model", one group; "modality": vision (see `is_vision`), fusion (cross-attention)
            and text (all else), in any model by its modules' names; "layer", every map alone.
    """
    if sharing == "model":
        return ""
    if sharing == "layer":
        return key.replace(".", "__")
    return "vision" if is_vision(key) else "fusion" if _CROSS_ATTENTION.search(key) else "text"


def is_mlp(key: str, mlp_modules: Iterable[str]) -> bool:
    """Tell whether a module's name ends with one of the feed-forward maps' names."""
    return any(key == name or key.endswith(f".{name}") for name in mlp_modules)
