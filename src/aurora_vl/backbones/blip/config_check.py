"""A configuration's values, before a model is built of them: what no BLIP can have is named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import BlipConfig
from transformers.activations import ACT2FN

from aurora_vl.errors import UserError

WAY_OUT = "give the configuration that belongs to the weights"
_COUNTS = {  # vision first: the text's encoder_hidden_size is taken from there
    "vision_config": (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("image_size", "patch_size"),
    ),
    "text_config": (
        *("vocab_size", "hidden_size", "encoder_hidden_size", "intermediate_size"),
        *("num_hidden_layers", "num_attention_heads", "max_position_embeddings"),
    ),
}


def check_config(config: BlipConfig, path: Path) -> None:
    """Refuse sizes, activations and temperatures that no model can be built of.

    Raises:
        UserError: names the file, the key and the value.
    """
    _check_count(path, "image_text_hidden_size", config.image_text_hidden_size)
    for part, names in _COUNTS.items():
        section = getattr(config, part)
        for name in names:
            _check_count(path, f"{part}.{name}", getattr(section, name))
        width, heads = section.hidden_size, section.num_attention_heads
        if width % heads:
            raise UserError(
                f"{path}: {part}.hidden_size {width} is not a multiple of num_attention_heads "
                f"{heads}; {WAY_OUT}"
            )
        if section.hidden_act not in ACT2FN:
            raise _refusal(path, f"{part}.hidden_act", "a known activation", section.hidden_act)
    temperature = getattr(config, "contrastive_temperature", 1.0)
    if not is_temperature(temperature):
        raise _refusal(path, "contrastive_temperature", "a positive number", temperature)


def is_temperature(value: Any) -> bool:
    """Tell whether a value can divide similarities: a number, finite and above zero."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _check_count(path: Path, key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _refusal(path, key, "a positive whole number", value)


def _refusal(path: Path, key: str, wanted: str, value: Any) -> UserError:
    return UserError(f"{path}: {key} must be {wanted}, but is {value!r}; {WAY_OUT}")
