"""A LoRA written from an adapter's folder alone equals the adapter; what cannot be is refused.

PEFT warns of keys that a file lacks, and warnings are errors here: a LoRA that loads is complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aurora_vl import AuroraConfig
from aurora_vl.errors import UserError
from aurora_vl.tuner.lora_export import LoraSummary, read_adapter, write_lora

WEIGHTS = "adapter_model.safetensors"


def export(model: PeftModel, folder: Path) -> LoraSummary:
    """Save the adapter in `aurora` and its LoRA in `lora`."""
    model.save_pretrained(str(folder / "aurora"), save_embedding_layers=False)
    (folder / "lora").mkdir()
    return write_lora(read_adapter(folder / "aurora"), folder / "lora")


def loaded(model: nn.Module, folder: Path) -> PeftModel:
    return PeftModel.from_pretrained(model, str(folder)).eval()


assert_close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))


@torch.no_grad()
def test_outputs_are_equal(family: Any, core: str, tmp_path: Path) -> None:
    adapted = family.changed(
        gqt="off", core=core, scaling=0.5, rank_stabilised=True, modules_to_save=family.heads
    )
    for head in family.heads:
        trained = adapted.get_base_model().get_submodule(head).modules_to_save["default"]
        trained.weight.add_(0.5)
    frozen, expected = family.call(family.build()), family.call(adapted)
    assert (expected - frozen).abs().max() > 1e-3
    summary = export(adapted, tmp_path)
    assert (summary.maps, summary.ranks) == (len(family.maps), (4,))
    lora = loaded(family.build(), tmp_path / "lora")
    assert_close(family.call(lora), expected)
    names = [key for key in lora.state_dict() if "aurora" in key]
    assert not names
    assert_close(family.call(lora.merge_and_unload()), expected)


@torch.no_grad()
def test_nothing_is_rounded_when_the_adapter_is_in_float32(
    families: dict[str, Any], tmp_path: Path
) -> None:
    """As training writes it; the products of its numbers do not fit into float32."""
    family = families["bert"]
    export(get_peft_model(family.build().float(), family.config(init_weights=False)), tmp_path)
    assert load_file(tmp_path / "aurora" / WEIGHTS)["base_model.aurora_core"].dtype == torch.float32
    expected = family.call(loaded(family.build(), tmp_path / "aurora"))
    assert_close(family.call(loaded(family.build(), tmp_path / "lora")), expected)


@torch.no_grad()
def test_ranks_follow_the_blocks(families: dict[str, Any], core: str, tmp_path: Path) -> None:
    """Queries are cut into 2 by 2 blocks and need twice the rank; keys and values are not."""
    family = families["llama"]
    adapted = family.changed(core=core, listed_widths=[8])
    expected = family.call(adapted)
    assert export(adapted, tmp_path).ranks == (4, 8)
    config = config_of(tmp_path / "lora")
    assert config["r"] == config["lora_alpha"] == 4
    assert len(config["rank_pattern"]) == 2
    assert config["alpha_pattern"] == config["rank_pattern"]
    lora = loaded(family.build(), tmp_path / "lora")
    attention = lora.get_base_model().model.layers[1].self_attn
    assert attention.q_proj.scaling == attention.k_proj.scaling == {"default": 1.0}
    assert (attention.q_proj.r, attention.k_proj.r) == ({"default": 8}, {"default": 4})
    assert_close(family.call(lora), expected)


class _Nested(nn.Module):
    """Two maps of one name, one inside another module, with different block counts."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)
        self.inner = nn.Sequential()
        self.inner.add_module("fc", nn.Linear(16, 8))
        self.inner.add_module("other", nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.fc(x))


@torch.no_grad()
def test_a_rank_is_for_one_name_and_not_for_names_that_end_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = _Nested().double()
    state = base.state_dict()
    config = AuroraConfig(r=2, target_modules=["fc", "other"], listed_widths=[8])
    config.init_weights = False
    adapted = get_peft_model(base, config)
    x = torch.randn(3, 16, dtype=torch.float64)
    expected = adapted(x)
    assert export(adapted, tmp_path).ranks == (2, 4)
    again = _Nested().double()
    again.load_state_dict(state)
    assert_close(loaded(again, tmp_path / "lora")(x), expected)


@torch.no_grad()
def test_the_released_mixing_of_the_mlp(families: dict[str, Any], tmp_path: Path) -> None:
    family = families["blip"]
    adapted = family.changed(gqt="off", core="tucker", mlp_core="interleaved")
    expected = family.call(adapted)
    export(adapted, tmp_path)
    assert_close(family.call(loaded(family.build(), tmp_path / "lora")), expected)


@torch.no_grad()
def test_trained_biases_travel(families: dict[str, Any], tmp_path: Path) -> None:
    family = families["mlp"]
    adapted = family.changed(bias="aurora_only")
    for name, parameter in adapted.named_parameters():
        if name.endswith("base_layer.bias"):
            parameter.add_(0.3)
    expected = family.call(adapted)
    export(adapted, tmp_path)
    assert config_of(tmp_path / "lora")["bias"] == "lora_only"
    assert_close(family.call(loaded(family.build(), tmp_path / "lora")), expected)


def test_what_the_config_keeps_and_drops(families: dict[str, Any], tmp_path: Path) -> None:
    adapted = families["vit"].changed(modules_to_save=["classifier"])
    adapted.peft_config["default"].base_model_name_or_path = "x/y"
    export(adapted, tmp_path)
    config, before = config_of(tmp_path / "lora"), config_of(tmp_path / "aurora")
    assert config["peft_type"] == "LORA"
    assert config["base_model_name_or_path"] == before["base_model_name_or_path"] == "x/y"
    assert config["modules_to_save"] == ["classifier"]
    assert config["target_modules"] == list(before["target_blocks"])
    assert config["auto_mapping"] == before["auto_mapping"]
    assert config["auto_mapping"]["base_model_class"] == "ViTForImageClassification"
    assert 'base_model: "x/y"' in (tmp_path / "lora" / "README.md").read_text(encoding="utf-8")


def test_our_own_classes_are_not_asked_for(families: dict[str, Any], tmp_path: Path) -> None:
    export(families["blip"].changed(gqt="off"), tmp_path)
    assert "aurora_vl" in (tmp_path / "aurora" / "adapter_config.json").read_text()
    assert "aurora_vl" not in (tmp_path / "lora" / "adapter_config.json").read_text()


def _change(**entries: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = {**config_of(folder), **entries}
        (folder / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")

    return damage


def _without_a_record(folder: Path) -> None:
    blocks = config_of(folder)["target_blocks"]
    del blocks["encoder.layer.1.attention.self.query"]
    _change(target_blocks=blocks)(folder)


def _without_core(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["base_model.aurora_core"]
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_change(peft_type="LORA"), "is of type LORA; only Aurora adapters"),
        (
            _change(bias="weird"),
            r"adapter_config\.json: `bias` must be one of none, all, aurora_only",
        ),
        (_change(scaling="x"), r"adapter_config\.json: `scaling` must be a finite number"),
        (_change(auto_mapping="x"), r"auto_mapping must be an object, but is 'x'"),
        (_change(base_model_name_or_path=3), r"base_model_name_or_path must be a text, but is 3"),
        (_change(target_blocks=[]), r"target_blocks must be an object, but is \[\]"),
        (_change(target_blocks=None), r"does not record the adapted maps \(target_blocks\)"),
        (_change(target_blocks={"a": {"in": 1}}), r"does not record the adapted maps"),
        (
            _without_a_record,
            r"does not record encoder\.layer\.1\.attention\.self\.query \(target_blocks\)",
        ),
        (_without_core, r"lacks base_model\.aurora_core"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"12345678{}"), "cannot be read"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"it lacks {WEIGHTS}"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "lacks adapter_config.json"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "holds no settings"),
    ],
)
def test_what_is_no_whole_adapter_is_refused(
    families: dict[str, Any], tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    adapter = tmp_path / "adapter"
    families["bert"].changed().save_pretrained(str(adapter), save_embedding_layers=False)
    damage(adapter)
    with pytest.raises(UserError, match=sentence):
        write_lora(read_adapter(adapter), tmp_path)


@pytest.mark.parametrize("gqt", ["released", "gated"])
def test_query_gates_are_refused(families: dict[str, Any], tmp_path: Path, gqt: str) -> None:
    adapter = tmp_path / "adapter"
    families["blip"].changed(gqt=gqt).save_pretrained(str(adapter), save_embedding_layers=False)
    with pytest.raises(UserError, match=rf"query gates \(gqt: {gqt}\).*adapter\.gqt=off"):
        write_lora(read_adapter(adapter), tmp_path)


def test_gates_that_are_on_but_have_no_slot_do_no_harm(
    families: dict[str, Any], tmp_path: Path
) -> None:
    adapted = families["bert"].changed()  # "released" by default, but BERT offers no slot
    assert adapted.peft_config["default"].gqt == "released"
    assert export(adapted, tmp_path).maps == 6
