"""What PEFT and accelerate expect of a tuner: tasks, names, status, offloading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from adapter_checks import assert_close
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)

from aurora_vl import AuroraConfig

SMALL = BertConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
)
TASKS = {
    "TOKEN_CLS": (BertForTokenClassification, "classifier"),
    "QUESTION_ANS": (BertForQuestionAnswering, "qa_outputs"),
    "SEQ_CLS": (BertForSequenceClassification, "classifier"),
}


@pytest.mark.parametrize("task", TASKS)
def test_heads_of_peft_tasks_are_trained_and_saved(task: str, tmp_path: Path) -> None:
    build, head = TASKS[task]
    config = AuroraConfig(task_type=task)
    models = [get_peft_model(build(SMALL), config) for _ in range(2)]  # one config for both
    for number, model in enumerate(models):
        assert head in model.peft_config["default"].modules_to_save
        assert any(head in n and p.requires_grad for n, p in model.named_parameters())
        folder = tmp_path / str(number)
        model.save_pretrained(str(folder))
        written = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        assert head in written["modules_to_save"]
    models[0].add_adapter("other", AuroraConfig(task_type=task))
    assert head in models[0].peft_config["other"].modules_to_save


@pytest.mark.parametrize("name", ["v1.2", "", "__base__", "keys", "forward"])
@pytest.mark.filterwarnings("ignore:Adapter name '' should not be contained")
def test_names_that_torch_does_not_take(name: str, families: dict[str, Any]) -> None:
    family = families["mlp"]
    with pytest.raises(ValueError, match=f"An adapter cannot be called '{name}'"):
        get_peft_model(family.build(), family.config(), adapter_name=name)
    adapted = family.changed()
    with pytest.raises(ValueError, match=f"An adapter cannot be called '{name}'"):
        adapted.add_adapter(name, family.config())
    assert list(adapted.peft_config) == ["default"]
    family.call(adapted)


def test_layers_report_the_adapters_they_have(families: dict[str, Any]) -> None:
    family = families["mlp"]
    adapted = family.changed()
    adapted.add_adapter("b", family.config(target_modules=["lin0"]))
    adapted.set_adapter("b")
    status = {layer.name.rpartition(".")[2]: layer for layer in adapted.get_layer_status()}
    assert status["lin0"].requires_grad == {"default": False, "b": True}
    for found in (status["lin1"].requires_grad, status["lin1"].devices):
        assert set(found) == {"default"}
    shared = adapted.base_model.aurora_core
    assert (shared["default"].requires_grad, shared["b"].requires_grad) == (False, True)


def offload_folder(model: nn.Module, folder: Path) -> nn.Module:
    return accelerate.disk_offload(model, str(folder), execution_device="cpu")


def cpu_offload(model: nn.Module, folder: Path) -> nn.Module:
    return accelerate.cpu_offload(model, execution_device="cpu")


@pytest.mark.parametrize("offload", [cpu_offload, offload_folder])
def test_offloaded_after_adapting(family: Any, offload: Any, tmp_path: Path) -> None:
    adapted = family.changed(modules_to_save=family.heads)
    expected = family.call(adapted)
    moved = offload(adapted, tmp_path)
    assert all(parameter.is_meta for parameter in moved.parameters())
    if family.name.startswith("blip"):
        pytest.skip("our BLIP is called by its parts, for which accelerate has no hook")
    assert torch.equal(family.call(moved), expected)


def test_adapting_a_model_with_parts_on_the_disk(families: dict[str, Any], tmp_path: Path) -> None:
    family = families["llama"]
    base = family.build()
    base.save_pretrained(str(tmp_path / "base"))
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    places |= {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}
    offloaded = AutoModelForCausalLM.from_pretrained(
        str(tmp_path / "base"),
        device_map=places,
        offload_folder=str(tmp_path / "disk"),
        dtype=torch.float64,
    )
    assert any(parameter.is_meta for parameter in offloaded.parameters())
    adapted = family.changed(offloaded)
    own = {n: p for n, p in adapted.named_parameters() if "aurora" in n}
    assert {parameter.device.type for parameter in own.values()} == {"cpu"}
    assert_close(family.call(adapted), family.call(family.changed(base)))


def test_layers_to_transform_with_all_linear_names_the_way_out() -> None:
    with pytest.raises(ValueError, match="list the maps' names in place of 'all-linear'"):
        AuroraConfig(target_modules="all-linear", layers_to_transform=[0])


def test_one_model_may_hold_lora_and_aurora_by_turns(families: dict[str, Any]) -> None:
    """What was resolved for one tuner does not show in the other's configuration."""
    family = families["bert"]
    lora = LoraConfig(r=2, target_modules=["query"])
    get_peft_model(get_peft_model(family.build(), lora).unload(), family.config())
    assert lora.target_modules == {"query"}
