"""`AuroraConfig()` alone does the sensible thing on language models and on those inside others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    Blip2Config,
    Blip2ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
)

from aurora_vl import AuroraConfig
from aurora_vl.tuner.targets import DEFAULT_TARGETS

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GROUPED = {  # two query heads a key head
    **SMALL,
    **{"num_key_value_heads": 2, "head_dim": 4, "vocab_size": 50},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
GROUPED_MODELS = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi"]
# Generation settings that tiny configs leave odd.
pytestmark = pytest.mark.filterwarnings("ignore:.*generation.*:UserWarning")


def on_meta(build: Any) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = build()
    return model


def causal(kind: str, **settings: Any) -> nn.Module:
    return on_meta(lambda: AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**settings)))


def blocks(model: nn.Module) -> dict[str, dict[str, Any]]:
    return get_peft_model(model, AuroraConfig(r=2)).peft_config["default"].target_blocks


@pytest.mark.parametrize("kind", GROUPED_MODELS)
def test_grouped_query_attention(kind: str) -> None:
    """Queries have the model's width, keys and values their own; other maps stay frozen."""
    found = blocks(causal(kind, **GROUPED))
    assert Counter(name.rpartition(".")[2] for name in found) == dict.fromkeys(
        ("q_proj", "k_proj", "v_proj"), 2
    )
    for name, entry in found.items():
        width = 16 if name.endswith("q_proj") else 8
        assert (entry["in_width"], entry["out_width"]) == (16, width)
        assert (entry["in_blocks"], entry["out_blocks"]) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "name", "out_blocks"),
    [("phi3", "qkv_proj", 2), ("gpt_neox", "query_key_value", 3), ("bloom", "query_key_value", 3)],
)
def test_fused_maps_are_cut_into_slices(kind: str, name: str, out_blocks: int) -> None:
    settings = GROUPED if kind == "phi3" else SMALL  # 16 + 8 + 8 outputs, else 3 of 16
    found = blocks(causal(kind, **settings))
    assert {key.rpartition(".")[2] for key in found} == {name}
    assert {(e["out_width"], e["out_blocks"]) for e in found.values()} == {(16, out_blocks)}


@pytest.mark.parametrize(("kind", "parts"), [("gemma3", 6 + 2 + 3), ("gemma4", 3)])
def test_gemma_that_sees(kind: str, parts: int) -> None:
    """From 4B on it is loaded with its vision tower, as a model of another type."""
    text = {**GROUPED, "num_hidden_layers": 1}
    vision = {**SMALL, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
    settings: dict[str, Any] = {"text_config": text, "vision_config": vision}
    if kind == "gemma4":
        settings = {"text_config": text}
    found = blocks(causal(kind, **settings))
    assert len(found) == parts
    language = {name.rpartition(".")[2] for name in found if "language_model" in name}
    assert language == {"q_proj", "k_proj", "v_proj"}


def test_the_language_models_attention_alone() -> None:
    """Every one that is listed with separate maps has them, in attention and nowhere else."""
    listed = [kind for kind, names in DEFAULT_TARGETS.items() if names == DEFAULT_TARGETS["llama"]]
    kinds = [k for k in listed if "_text_model" not in k and k not in GROUPED_MODELS]
    assert len(kinds) > 10
    for kind in kinds:
        settings = GROUPED if kind not in ("opt", "gptj") else {**SMALL, "vocab_size": 50}
        model = causal(kind, **settings)
        linear = {n for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        ends = ("q_proj", "k_proj", "v_proj")
        expected = {n for n in linear if n.endswith(ends) and "attn" in n}
        found = set(blocks(model))
        assert found == expected, kind
        assert len(found) % 3 == 0
        assert found


def test_blip_2_over_t5() -> None:
    """T5 names its maps q, k and v: self-attention twice, cross-attention once."""
    text = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1}
    config = Blip2Config(
        vision_config=SMALL,
        qformer_config=SMALL,
        text_config={**text, "num_heads": 2, "vocab_size": 50, "decoder_start_token_id": 0},
    )
    found = blocks(on_meta(lambda: Blip2ForConditionalGeneration(config)))
    parts = Counter(name.partition(".")[0] for name in found)
    assert parts == {"vision_model": 8, "qformer": 9, "language_model": 9}


def test_gpt_2_is_refused_in_a_sentence() -> None:
    model = on_meta(lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2)))
    with pytest.raises(ValueError, match=r"nn\.Linear only, and a model of type 'gpt2' is made of"):
        get_peft_model(model, AuroraConfig())
    with pytest.raises(ValueError, match=r"attn\.c_attn' is a Conv1D; Aurora adapts nn\.Linear"):
        get_peft_model(model, AuroraConfig(target_modules=["c_attn"]))
    assert not any("aurora" in name for name, _ in model.named_parameters())
