"""Which maps are adapted by default, at true sizes where it is cheap, and what is recorded."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import convert_to_lora
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPTextConfig,
    CLIPTextModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

from aurora_vl import AuroraConfig
from aurora_vl.backbones.blip.modeling import BlipForRetrieval
from aurora_vl.tuner import AuroraLinear, AuroraQueryGate
from aurora_vl.tuner.targets import DEFAULT_TARGETS

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def adapted_names(model: nn.Module, **changes: Any) -> set[str]:
    adapted = get_peft_model(model, AuroraConfig(r=2, **changes))
    adapted.unload()
    return set(adapted.peft_config["default"].target_blocks)


def meta(build: Any) -> nn.Module:
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize(
    ("core", "r", "gqt", "expected"),
    [
        ("cp", 64, "off", 112_192),
        ("cp", 32, "released", 92_960),
        ("tucker", 32, "released", 125_696),
        ("tucker", 64, "released", 411_136),
    ],
)
def test_blip_base_at_true_size(core: str, r: int, gqt: str, expected: int) -> None:
    config = BlipConfig(text_config={"num_attention_heads": 12})
    model = meta(lambda: BlipForRetrieval(config))
    adapted = get_peft_model(model, AuroraConfig(r=r, core=core, gqt=gqt))
    assert adapted.get_nb_trainable_parameters()[0] == expected
    blocks = adapted.peft_config["default"].target_blocks.values()
    assert len(blocks) == 120
    assert sum(entry["in_blocks"] * entry["out_blocks"] for entry in blocks) == 216


def test_transformers_blip_has_the_same_targets() -> None:
    config = BlipConfig(text_config=SMALL, vision_config=SMALL)
    theirs = adapted_names(meta(lambda: BlipForImageTextRetrieval(config)))
    assert theirs == adapted_names(meta(lambda: BlipForRetrieval(config)))
    assert len(theirs) == 4 + 6


def test_packed_attention_is_passed_over() -> None:
    model = meta(lambda: SiglipModel(SiglipConfig(text_config=SMALL, vision_config=SMALL)))
    names = adapted_names(model)
    assert "vision_model.head.mlp.fc1" in names
    assert not any("head.attention" in name for name in names)
    assert len(names) == 6 + 2 + 3
    with pytest.raises(ValueError, match=r"head\.attention' is a MultiheadAttention"):
        adapted_names(model, target_modules=["attention"])


def test_blip_2() -> None:
    text = {"model_type": "opt", "hidden_size": 16, "ffn_dim": 64, "word_embed_proj_dim": 16}
    config = Blip2Config(
        vision_config=SMALL,
        qformer_config=SMALL,
        text_config={**text, "num_hidden_layers": 1, "num_attention_heads": 2},
    )
    names = adapted_names(meta(lambda: Blip2ForConditionalGeneration(config)))
    by_part = {part: sum(name.startswith(part) for name in names) for part in ("v", "q", "l")}
    assert by_part == {"v": 4, "q": 6, "l": 3}


def test_single_towers_and_language_models() -> None:
    clip = meta(lambda: CLIPTextModel(CLIPTextConfig(**SMALL)))
    assert {name.rpartition(".")[2] for name in adapted_names(clip)} == {
        "q_proj",
        "k_proj",
        "v_proj",
    }
    qwen = meta(lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL, num_key_value_heads=1)))
    assert len(adapted_names(qwen)) == 3
    vit = meta(lambda: ViTModel(ViTConfig(**SMALL, image_size=16, patch_size=8)))
    names = adapted_names(vit)
    assert len(names) == 6
    assert not any("pooler" in name for name in names)


def test_unknown_model_type_names_the_way_out(families: dict[str, Any]) -> None:
    model = families["mlp"].build()
    with pytest.raises(ValueError, match=r"no default targets for model type 'custom'.*all-l"):
        get_peft_model(model, AuroraConfig())
    assert adapted_names(model, target_modules="all-linear") == {"lin0", "lin1", "head"}


def test_layers_can_be_chosen(families: dict[str, Any]) -> None:
    names = adapted_names(
        families["bert"].build(), target_modules=["query", "value"], layers_to_transform=[1]
    )
    assert names == {f"encoder.layer.1.attention.self.{part}" for part in ("query", "value")}


def test_file_records_widths_and_blocks(families: dict[str, Any], tmp_path: Path) -> None:
    families["clip"].changed().save_pretrained(str(tmp_path), save_embedding_layers=False)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["listed_widths"] == [48, 32]
    assert config["target_blocks"]["vision_model.encoder.layers.0.mlp.fc1"] == {
        "in_width": 48,
        "out_width": 48,
        "in_blocks": 1,
        "out_blocks": 4,
        "interleaved": False,
    }


def test_the_record_decides_when_loading(families: dict[str, Any], tmp_path: Path) -> None:
    family = families["vit"]
    adapted = family.changed(listed_widths=[8])
    expected = family.call(adapted)
    assert adapted.base_model.aurora_U_8["default"].shape == (4, 8)
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["listed_widths"] = [16]
    path.write_text(json.dumps(config), encoding="utf-8")
    assert torch.equal(
        family.call(PeftModel.from_pretrained(family.build(), str(tmp_path))), expected
    )


def linear(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width))


def test_a_config_serves_any_number_of_models(tmp_path: Path) -> None:
    """Each model holds the object it was given, as in PEFT, until another one is given it."""
    config = AuroraConfig(r=4, target_modules=["0"], init_weights=False)
    wide = get_peft_model(linear(32), config)
    assert wide.peft_config["default"] is config
    narrow = get_peft_model(linear(8), config)
    assert narrow.peft_config["default"] is config
    wide.add_adapter("second", config)
    assert wide.peft_config["second"] is config
    narrower = get_peft_model(linear(4), config)
    for model, width in ((wide, 32), (narrow, 8), (narrower, 4)):
        for own in model.peft_config.values():
            assert own.listed_widths == [width]
            blocks = own.target_blocks["0"]
            assert (blocks["in_width"], blocks["in_blocks"]) == (width, 1)
        model.save_pretrained(str(tmp_path / str(width)))
        again = PeftModel.from_pretrained(linear(width), str(tmp_path / str(width)))
        assert again.peft_config["default"].listed_widths == [width]
    assert wide.peft_config["default"].target_modules == {"0"}


def test_what_is_changed_between_two_models_holds_for_the_second(tmp_path: Path) -> None:
    config = AuroraConfig(r=4, target_modules="all-linear")
    first = get_peft_model(linear(32), config)
    config.r, config.listed_widths = 2, [8]
    second = get_peft_model(nn.ModuleDict({"other": nn.Linear(32, 32)}), config)
    assert second.base_model.aurora_U_8["default"].shape == (2, 8)
    assert second.peft_config["default"].target_modules == {"other"}
    first.save_pretrained(str(tmp_path))
    written = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (written["r"], written["listed_widths"]) == (4, [32])
    assert first.peft_config["default"].target_modules == {"0"}


def test_a_failed_adapter_leaves_its_configuration_as_given(families: dict[str, Any]) -> None:
    config = AuroraConfig(r=4, target_modules=["conv", "lin0"])
    with pytest.raises(ValueError, match="is a Conv1d"):
        get_peft_model(families["mlp"].build(), config)
    assert config == AuroraConfig(r=4, target_modules=["conv", "lin0"])
    adapted = families["mlp"].changed()
    used = adapted.peft_config["default"]
    before = used.to_dict()
    with pytest.raises(ValueError, match="cannot be called"):
        adapted.add_adapter("v1.2", used)
    assert adapted.peft_config["default"].to_dict() == before


def test_a_copied_model_has_configurations_of_its_own() -> None:
    config = AuroraConfig(r=4, target_modules=["0"])
    wide = get_peft_model(linear(32), config)
    twin = copy.deepcopy(wide)
    get_peft_model(linear(8), twin.peft_config["default"])
    get_peft_model(linear(4), copy.copy(config))
    for model in (wide, twin):
        assert model.peft_config["default"].listed_widths == [32]


@pytest.mark.parametrize(
    "changes", [{"sharing": "layer"}, {"listed_widths": [8]}, {"mlp_core": "interleaved"}]
)
@pytest.mark.parametrize("source", ["the adapter's", "its file's", "changed in place"])
def test_changed_settings_are_not_overruled_by_the_record(
    changes: dict[str, Any], source: str, families: dict[str, Any], tmp_path: Path
) -> None:
    family = families["blip"]
    adapted = family.changed(core="tucker")
    config = adapted.peft_config["default"]
    if source == "its file's":
        adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
        config = PeftConfig.from_pretrained(str(tmp_path))
    if source == "changed in place":
        config = copy.copy(config)
        for name, value in changes.items():
            setattr(config, name, value)
    else:
        config = dataclasses.replace(config, **changes)
    adapted.add_adapter("derived", config)
    adapted.add_adapter("fresh", family.config(core="tucker", **changes))
    blocks = {name: adapted.peft_config[name].target_blocks for name in adapted.peft_config}
    assert blocks["derived"] == blocks["fresh"] != blocks["default"]


def test_interleaving_touches_the_mlp_alone(families: dict[str, Any]) -> None:
    adapted = families["blip"].changed(core="tucker", mlp_core="interleaved")
    mixed = {
        key
        for key, entry in adapted.peft_config["default"].target_blocks.items()
        if entry["interleaved"]
    }
    assert {key.rpartition(".")[2] for key in mixed} == {"fc1", "fc2"}
    assert len(mixed) == 4
    straight = families["blip"].changed(core="tucker")
    key = "vision_model.encoder.layers.0.{}"
    for name, same in (("mlp.fc1", False), ("mlp.fc2", False), ("self_attn.qkv", True)):
        one, other = (
            model.get_base_model().get_submodule(key.format(name)).get_delta_weight("default")
            for model in (adapted, straight)
        )
        assert torch.equal(one, other) == same


def test_different_widths_in_one_layer(families: dict[str, Any]) -> None:
    family = families["vit"]
    adapted = family.changed()
    first = family.call(adapted)
    adapted.add_adapter("fine", family.config(listed_widths=[8], init_weights=False))
    assert torch.equal(family.call(adapted.eval()), first)
    adapted.set_adapter("fine")
    second = family.call(adapted)
    adapted.delete_adapter("default")
    assert torch.equal(family.call(adapted), second)


def test_released_dropout_tells_vision_from_text(families: dict[str, Any]) -> None:
    adapted = families["blip"].changed(dropout=0.1, dropout_at="released")
    for name, layer in adapted.named_modules():
        if isinstance(layer, AuroraLinear):
            settings = layer.aurora_settings["default"]
            assert settings.dropout == 0.1
            assert settings.dropout_after_core == ("vision_model" in name)


def test_scaling(families: dict[str, Any]) -> None:
    family = families["bert"]
    one, two = (family.changed(scaling=scale) for scale in (1.0, 2.5))
    key = "base_model.model.encoder.layer.0.attention.self.query"
    a, b = (model.get_submodule(key) for model in (one, two))
    torch.testing.assert_close(2.5 * a.get_delta_weight("default"), b.get_delta_weight("default"))
    expected = family.call(two)
    two.merge_adapter()
    torch.testing.assert_close(family.call(two), expected)


def test_trains_biases_when_asked(families: dict[str, Any]) -> None:
    adapted = get_peft_model(families["mlp"].build(), families["mlp"].config(bias="aurora_only"))
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad and "bias" in name}
    assert trained == {f"base_model.model.lin{i}.base_layer.bias" for i in (0, 1)}


def test_start_variances() -> None:
    model = nn.Sequential(nn.Linear(400, 400), nn.Linear(400, 400))
    for core, init, wanted in (
        ("cp", "ours", {"U": 1 / 400, "P": 1.0}),
        ("tucker", "ours", {"U": 1 / 400, "P": 1 / 64, "core": 1 / 64**2}),
        ("tucker", "released", {"U": 1 / 1200, "P": 2 / 65, "core": 1 / 64**2}),
    ):
        config = AuroraConfig(r=64, core=core, init=init, target_modules=["0", "1"])
        adapted = get_peft_model(model, config)
        rows = torch.cat([layer.aurora_P["default"] for layer in adapted.base_model.model])
        found = {
            "U": adapted.base_model.aurora_U_400["default"],
            "P": rows,
            "core": adapted.base_model.aurora_core["default"],
        }
        for part, variance in wanted.items():
            assert found[part].var().item() == pytest.approx(variance, rel=0.35), (core, init, part)
        assert (adapted.base_model.aurora_V_400["default"] == 0).all()
        if core == "cp":
            assert (found["core"] == 1).all()
        model = adapted.unload()


def test_peft_converts_it_to_a_lora(families: dict[str, Any]) -> None:
    family = families["bert"]
    adapted = family.changed()
    expected = family.call(adapted)
    config, state = convert_to_lora(adapted, rank=4)
    assert isinstance(config, LoraConfig)
    lora = get_peft_model(family.build(), config)
    set_peft_model_state_dict(lora, state)
    torch.testing.assert_close(family.call(lora), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", ["encoder.layer", "vit.encoder.layer", "layers"])
@pytest.mark.parametrize("number", [0, 10])
def test_both_layouts_of_the_vision_transformer(layers: str, number: int) -> None:
    """By their names alone: transformers no longer builds the older one."""
    pattern = DEFAULT_TARGETS["vit"]
    assert isinstance(pattern, str)
    for name in (
        "attention.attention.query",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
        "attention.q_proj",
        "mlp.fc1",
    ):
        assert re.fullmatch(pattern, f"{layers}.{number}.{name}"), name
    for name in ("pooler.dense", "classifier", f"{layers}.{number}.layernorm_before"):
        assert not re.fullmatch(pattern, name), name


def test_gates_follow_the_chosen_layers(families: dict[str, Any]) -> None:
    model = get_peft_model(
        families["blip"].build(),
        AuroraConfig(r=2, target_modules=["query", "fc1"], layers_to_transform=[1]),
    )
    slots = {name for name, m in model.named_modules() if isinstance(m, AuroraQueryGate)}
    assert slots == {"base_model.model.text_encoder.encoder.layer.1.query_slot"}


def test_gates_follow_the_chosen_layers_of_a_named_list(families: dict[str, Any]) -> None:
    """Only in that list: the vision maps stand in `layers`, the text's in `layer`."""
    model = get_peft_model(
        families["blip"].build(),
        AuroraConfig(
            r=2, target_modules=["query", "fc1"], layers_to_transform=0, layers_pattern="layer"
        ),
    )
    slots = {name for name, m in model.named_modules() if isinstance(m, AuroraQueryGate)}
    assert slots == {"base_model.model.text_encoder.encoder.layer.0.query_slot"}


@pytest.mark.parametrize("kind", [AuroraConfig, LoraConfig])
def test_all_linear_leaves_the_output_map_alone(kind: Any, families: dict[str, Any]) -> None:
    """It shares its weight with the word embeddings, which merging would change with it."""
    family = families["blip-vqa"]
    off = {"gqt": "off", "init_weights": False} if kind is AuroraConfig else {}
    adapted = get_peft_model(family.build(), kind(r=2, target_modules="all-linear", **off)).eval()
    names = adapted.base_model.targeted_module_names
    assert "text_decoder.cls.predictions.transform.dense" in names
    assert "text_decoder.cls.predictions.decoder" not in names
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1
    frozen = family.call(family.build())
    words = adapted.get_base_model().text_decoder.get_input_embeddings().weight.clone()
    expected = family.call(adapted)
    assert not torch.allclose(expected, frozen)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(family.call(merged), expected)
    assert merged.text_decoder.get_input_embeddings().weight.equal(words)
    assert merged.config.tie_word_embeddings is True
