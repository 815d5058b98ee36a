"""From a recipe to a model, and back from a folder: what is trained, counted, saved, refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_blip import batch, save_backbone, tiny_config, tiny_tokenizer
from torch import nn

from aurora_vl.backbones.base import PreparationSettings, base_model
from aurora_vl.backbones.blip.dual_encoder import retrieval_backbone
from aurora_vl.backbones.blip.modeling import HEADS, BlipForQuestionAnswering
from aurora_vl.backbones.blip.preparation import BlipPreprocessor
from aurora_vl.data.augment import Augment
from aurora_vl.errors import UserError
from aurora_vl.inference.settings import AdapterSettings, save_tuned
from aurora_vl.methods.parameter_count import count_parameters
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.building import build_augment, build_model, load_trained

MakeRecipe = Callable[..., Recipe]
SETTINGS = AdapterSettings(backbone="tiny")


def save(model: nn.Module, folder: Path) -> None:
    save_tuned(model, folder, SETTINGS, tiny_tokenizer())


def load(recipe: Recipe, folder: Path | None) -> nn.Module:
    return load_trained(recipe, folder, SETTINGS, torch.device("cpu")).model


def trained(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def features(model: nn.Module) -> list[torch.Tensor]:
    given = batch([0, 1, 2])
    with torch.no_grad():
        out = model.eval()(
            given["pixel_values"].float(), given["input_ids"], given["attention_mask"]
        )
        backbone = retrieval_backbone(model)
        cross = backbone.cross_keys(out.image_states)
        logits = backbone.match(given["input_ids"], given["attention_mask"], cross)
    return [out.image_features, out.text_features, logits]


def test_nothing_is_trained_by_none(make_recipe: MakeRecipe) -> None:
    model = build_model(make_recipe("adapter.method=none"))
    assert trained(model) == set()
    assert count_parameters(model).trainable == 0


@pytest.mark.parametrize("temperature", [False, True])
def test_everything_is_trained_by_full(make_recipe: MakeRecipe, temperature: bool) -> None:
    recipe = make_recipe("adapter.method=full", f"objective.train_temperature={temperature}")
    model = build_model(recipe)
    names = {name for name, _ in model.named_parameters()}
    assert trained(model) == (names if temperature else names - {"temperature.weight"})
    count = count_parameters(model)
    assert count.total == sum(p.numel() for p in model.parameters())
    assert count.trainable == count.total - (not temperature)
    heads = sum(p.numel() for name in HEADS for p in model.get_submodule(name).parameters())
    assert count.heads == heads + temperature


@pytest.mark.parametrize("temperature", [False, True])
def test_adapter_and_heads_are_trained_by_aurora(
    make_recipe: MakeRecipe, temperature: bool
) -> None:
    plain = build_model(make_recipe("adapter.method=none"))
    model = build_model(make_recipe(f"objective.train_temperature={temperature}"))
    for name in trained(model):
        assert "aurora_" in name or "modules_to_save" in name
    count = count_parameters(model)
    heads = sum(p.numel() for name in HEADS for p in plain.get_submodule(name).parameters())
    assert count.heads == heads + temperature
    assert count.backbone == 0
    # U of widths 24 and 16 and the vision MLP's 40; lambda; see tests/tuner for the formula.
    assert count.factors > 0
    assert count.gates == 2 * 4 * 16  # two layers, two scales and two shifts
    backbone = sum(p.numel() for p in plain.parameters())
    assert count.total == backbone + count.factors + count.gates


def test_a_fresh_adapter_changes_nothing(make_recipe: MakeRecipe) -> None:
    plain = build_model(make_recipe("adapter.method=none"))
    model = build_model(make_recipe("adapter.dropout=0"))
    torch.testing.assert_close(features(model), features(plain))


def test_the_start_comes_from_the_seed(make_recipe: MakeRecipe) -> None:
    one, two = (build_model(make_recipe()).state_dict() for _ in range(2))
    other = build_model(make_recipe(), seed=7).state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("method", ["aurora", "full"])
@pytest.mark.parametrize("temperature", [False, True])
def test_saving_and_loading(
    make_recipe: MakeRecipe, tmp_path: Path, method: str, temperature: bool
) -> None:
    recipe = make_recipe(f"adapter.method={method}", f"objective.train_temperature={temperature}")
    model = build_model(recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    save(model, tmp_path / "adapter")
    again = load(recipe, tmp_path / "adapter")
    assert not again.training
    torch.testing.assert_close(features(again), features(model), rtol=0, atol=0)
    found, saved = (retrieval_backbone(m).temperature.weight for m in (again, model))
    assert found.item() == saved.item()
    assert (found.item() == pytest.approx(0.07)) is not temperature


def test_the_backbone_alone(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    plain = build_model(make_recipe("adapter.method=none"))
    torch.testing.assert_close(features(load(recipe, None)), features(plain))


def test_folders_that_are_no_adapter(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe()
    with pytest.raises(UserError) as caught:
        load(recipe, tmp_path / "absent")
    assert str(caught.value) == (
        f"the adapter folder {tmp_path / 'absent'} does not exist; give the folder that train "
        "wrote."
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no adapter_config\.json; give the folder"):
        load(recipe, tmp_path / "empty")


@pytest.mark.parametrize("damage", ["weights", "truncated", "config", "kind", "shape", "lost"])
def test_a_damaged_adapter_is_named(make_recipe: MakeRecipe, tmp_path: Path, damage: str) -> None:
    recipe = make_recipe()
    folder = tmp_path / "adapter"
    save(build_model(recipe), folder)
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if damage == "weights":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "config":
        config.write_text("{")
    elif damage == "kind":
        config.write_text(json.dumps({**json.loads(config.read_text()), "peft_type": "OTHER"}))
    else:
        state = load_file(weights)
        name = next(name for name in state if "aurora_" in name and state[name].dim() > 0)
        value = state.pop(name)
        if damage == "shape":
            state[name] = torch.cat([value, value])
        save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        load(recipe, folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_backbone(
    make_recipe: MakeRecipe, tmp_path: Path, backbone: Path
) -> None:
    recipe = make_recipe()
    folder = tmp_path / "adapter"
    save(build_model(recipe), folder)
    other = tmp_path / "other"
    shutil.copytree(backbone, other)
    config = json.loads((other / "config.json").read_text())
    config["image_text_hidden_size"] = 4
    (other / "config.json").write_text(json.dumps(config))
    state = load_file(other / "model.safetensors")
    for name in ("vision_proj", "text_proj"):
        for part in ("weight", "bias"):
            state[f"{name}.{part}"] = state[f"{name}.{part}"][:4].contiguous()
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="does not fit the backbone"):
        load(make_recipe(f"backbone={other}"), folder)


def test_augmentation_by_name(make_recipe: MakeRecipe) -> None:
    prepare = BlipPreprocessor(tiny_tokenizer(), tiny_config(), PreparationSettings())
    assert build_augment(make_recipe("data.augmentation=none"), prepare) is None
    assert isinstance(build_augment(make_recipe("data.augmentation=full"), prepare), Augment)


def test_another_image_size(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    save_backbone(tmp_path / "b")
    model = build_model(make_recipe("image_size=32", f"backbone={tmp_path / 'b'}"))
    assert retrieval_backbone(model).config.vision_config.image_size == 32


def test_the_released_variant_is_built(make_recipe: MakeRecipe) -> None:
    """Its core, its start, its heads: the text projection stays frozen."""
    model = build_model(make_recipe("variant=released"))
    assert isinstance(model, PeftModel)
    config = model.peft_config["default"]
    assert (config.core, config.mlp_core, config.init) == ("tucker", "interleaved", "released")
    heads = {name.split(".")[2] for name in trained(model) if "modules_to_save" in name}
    assert heads == {"vision_proj", "itm_head"}


def test_a_model_for_questions_has_no_heads(make_recipe: MakeRecipe) -> None:
    model = build_model(make_recipe("task=vqa", "backbone=mini"))
    count = count_parameters(model)
    assert isinstance(base_model(model), BlipForQuestionAnswering)
    assert (count.heads, count.backbone) == (0, 0)
    assert any("text_decoder" in name for name in trained(model))
