"""PEFT's classes that find the base model by the adapter's own record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModel, AutoPeftModelForCausalLM, TaskType

from aurora_vl.tuner.lora_export import read_adapter, write_lora


def saved(family: Any, folder: Path, **changes: Any) -> Any:
    """An adapter over a model that lies in a folder, as one of the hub would."""
    model = family.build().float()
    model.save_pretrained(folder / "base")
    loaded = type(model).from_pretrained(folder / "base")
    adapted = family.changed(loaded, **changes)
    adapted.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
    return adapted


@pytest.mark.parametrize("name", ["blip", "vit", "bert", "clip"])
def test_by_the_recorded_class(families: dict[str, Any], tmp_path: Path, name: str) -> None:
    family = families[name]
    adapted = saved(family, tmp_path)
    # PEFT imports classes of transformers only, unless it is told of others.
    ours = {"import_allowlist": ["aurora_vl"]} if name == "blip" else {}
    again = AutoPeftModel.from_pretrained(str(tmp_path / "adapter"), **ours).eval()
    assert torch.equal(family.call(again), family.call(adapted))
    assert not torch.allclose(family.call(again), family.call(family.build().float()))


def test_by_the_task(families: dict[str, Any], tmp_path: Path) -> None:
    family = families["llama"]
    adapted = saved(family, tmp_path, task_type=TaskType.CAUSAL_LM)
    again = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter")).eval()
    assert torch.equal(family.call(again), family.call(adapted))


def test_an_exported_lora_too(families: dict[str, Any], tmp_path: Path) -> None:
    family = families["vit"]
    adapted = saved(family, tmp_path)
    (tmp_path / "lora").mkdir()
    write_lora(read_adapter(tmp_path / "adapter"), tmp_path / "lora")
    again = AutoPeftModel.from_pretrained(str(tmp_path / "lora")).eval()
    torch.testing.assert_close(family.call(again), family.call(adapted), rtol=1e-4, atol=1e-4)
