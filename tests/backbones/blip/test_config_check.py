"""A folder's config.json with a value that fits no model: one sentence that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_blip import save_backbone

from aurora_vl.backbones.blip.loading import load, load_config
from aurora_vl.errors import UserError


def change(folder: Path, key: str, value: Any) -> Path:
    """Put a value under a dotted key of config.json."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    *sections, last = key.split(".")
    inner = content
    for section in sections:
        inner = inner[section]
    inner[last] = value
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("text_config.num_attention_heads", 7, "16 is not a multiple of num_attention_heads 7"),
        ("text_config.num_attention_heads", 0, "must be a positive whole number, but is 0"),
        ("text_config.hidden_size", "x", "is not a BLIP configuration"),
        ("text_config.vocab_size", 0, "must be a positive whole number, but is 0"),
        ("text_config.hidden_act", "nope", "must be a known activation, but is 'nope'"),
        ("text_config", [1], "is not a BLIP configuration"),
        ("vision_config.hidden_size", -3, "must be a positive whole number, but is -3"),
        ("vision_config.patch_size", 0, "must be a positive whole number, but is 0"),
        ("vision_config.image_size", [16, 16], r"but is \[16, 16\]"),
        ("vision_config.num_hidden_layers", -1, "must be a positive whole number, but is -1"),
        ("image_text_hidden_size", None, "is not a BLIP configuration"),
        ("contrastive_temperature", "x", "must be a positive number, but is 'x'"),
        ("contrastive_temperature", 0, "must be a positive number, but is 0"),
        ("contrastive_temperature", float("nan"), "must be a positive number, but is nan"),
        ("dtype", "nope", "is not a BLIP configuration"),
    ],
)
@pytest.mark.parametrize("image_size", [None, 32])
def test_bad_values_are_named(
    tmp_path: Path, key: str, value: Any, sentence: str, image_size: int | None
) -> None:
    folder = save_backbone(tmp_path / "tiny")
    path = change(folder, key, value)
    for read in (load, load_config):
        with pytest.raises(UserError, match=sentence) as caught:
            read(folder, image_size=image_size)
        text = str(caught.value)
        assert text.startswith(f"{path}")
        assert key.split(".")[-1] in text or str(value) in text
        assert text.endswith("give the configuration that belongs to the weights")
        assert "\n" not in text


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("text_config.pad_token_id", 22, "Padding_idx must be within num_embeddings"),
        ("text_config.hidden_dropout_prob", 3, "dropout probability has to be between 0 and 1"),
    ],
)
def test_what_no_model_can_be_built_of(tmp_path: Path, key: str, value: Any, sentence: str) -> None:
    folder = save_backbone(tmp_path / "tiny")
    change(folder, key, value)
    with pytest.raises(UserError, match=sentence) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder} has a configuration of which no model")


def test_a_temperature_may_be_a_whole_number(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path / "tiny")
    change(folder, "contrastive_temperature", 1)
    assert load(folder).temperature.weight.item() == 1.0
