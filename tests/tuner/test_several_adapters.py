"""Several adapters on one model: active in turn, together, for single rows, and gone again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_checks import assert_close, differs, flags, frozen_but, weights
from peft import PeftModel, get_peft_model

from aurora_vl.tuner import AuroraLayer


def test_two_adapters(family: Any, tmp_path: Path) -> None:
    adapted = family.changed(core="cp")
    frozen = family.call(family.build())
    first = family.call(adapted)
    adapted.add_adapter("second", family.config(r=3, core="tucker", init_weights=False))
    adapted.eval()
    assert torch.equal(family.call(adapted), first)
    assert frozen_but(adapted, "default")
    adapted.set_adapter("second")
    second = family.call(adapted)
    assert frozen_but(adapted, "second")
    assert differs(first, second)
    assert differs(second, frozen)
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(family.build(), str(tmp_path))
    loaded.load_adapter(str(tmp_path / "second"), adapter_name="second")
    assert torch.equal(family.call(loaded), first)
    loaded.set_adapter("second")
    assert torch.equal(family.call(loaded), second)
    loaded.delete_adapter("default")
    assert torch.equal(family.call(loaded), second)
    assert not any("default" in name for name in loaded.state_dict())


def test_adapters_with_gates_and_heads_take_turns(family: Any, tmp_path: Path) -> None:
    heads = {"modules_to_save": family.heads}
    adapted = family.changed(**heads)
    adapted.add_adapter("second", family.config(core="tucker", init_weights=False, **heads))
    adapted.eval()
    for name, parameter in adapted.named_parameters():
        if "modules_to_save.second" in name:
            parameter.data += 0.2
    outputs = {}
    for name in ("default", "second", "default", "second"):
        adapted.set_adapter(name)
        result = family.call(adapted)
        assert torch.equal(outputs.setdefault(name, result), result)
        assert flags(adapted, name) == {True}
        assert flags(adapted, "second" if name == "default" else "default") == {False}
    assert differs(outputs["default"], outputs["second"])

    before = weights(adapted)
    result.square().sum().backward()  # of the second alone
    torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1e-3).step()
    moved = {n for n, p in adapted.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(".second" in name for name in moved)
    assert any("modules_to_save" in name for name in moved) == bool(family.heads)
    assert any("aurora_gate" in name for name in moved) == bool(family.slots)
    outputs["second"] = family.call(adapted)
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(family.build(), str(tmp_path))
    loaded.load_adapter(str(tmp_path / "second"), adapter_name="second")
    for name in ("second", "default"):
        loaded.set_adapter(name)
        assert torch.equal(family.call(loaded), outputs[name])


def test_two_active_adapters_add_up(family: Any) -> None:
    adapted = family.changed()
    adapted.add_adapter("second", family.config(r=3, core="tucker", init_weights=False))
    adapted.base_model.set_adapter(["default", "second"])
    assert frozen_but(adapted, "default", "second")
    both = family.call(adapted.eval())
    if not family.slots:
        layer = next(m for m in adapted.modules() if isinstance(m, AuroraLayer))
        x = torch.randn(2, layer.in_features).double()
        deltas = layer.get_delta_weight("default") + layer.get_delta_weight("second")
        assert_close(layer(x), layer.base_layer(x) + x @ deltas.T)
    adapted.merge_adapter()
    assert_close(family.call(adapted), both)
    adapted.unmerge_adapter()
    assert_close(family.call(adapted), both)


def test_a_refused_merge_leaves_no_adapter_inside_the_layer(families: dict[str, Any]) -> None:
    family = families["mlp"]
    adapted = family.changed()
    adapted.add_adapter("broken", family.config(init_weights=False))
    adapted.base_model.aurora_core["broken"].data[0] = torch.nan
    before = weights(adapted)
    with pytest.raises(ValueError, match="adapter broken seems to be broken"):
        adapted.merge_adapter(["default", "broken"], safe_merge=True)
    assert not any(layer.merged for layer in adapted.modules() if isinstance(layer, AuroraLayer))
    for name, parameter in adapted.named_parameters():
        if "base_layer" in name:
            assert torch.equal(parameter, before[name])


def test_merging_rounds_a_half_precision_weight_once(families: dict[str, Any]) -> None:
    family = families["mlp"]
    adapted = family.changed(family.build().bfloat16())
    adapted.add_adapter("second", family.config(init_weights=False))
    layer = adapted.get_base_model().lin1
    names = ["default", "second"]
    update = sum(layer.get_delta_weight(name) for name in names)
    expected = (layer.weight.float() + update).bfloat16()
    adapted.merge_adapter(names)
    assert torch.equal(layer.weight, expected)


def test_deleting(family: Any) -> None:
    adapted = family.changed()
    default = family.call(adapted)
    adapted.add_adapter("second", family.config(init_weights=False))
    adapted.add_adapter("third", family.config(init_weights=False))
    adapted.delete_adapter("second")
    assert torch.equal(family.call(adapted), default)
    assert not any("second" in name for name in adapted.state_dict())
    with pytest.raises(ValueError, match="second does not exist"):
        adapted.delete_adapter("second")
    adapted.merge_adapter()
    with pytest.raises(ValueError, match="while they are merged"):
        adapted.delete_adapter("default")
    adapted.unmerge_adapter()
    with pytest.warns(UserWarning, match="Setting active adapter to"):
        adapted.delete_adapter("default")
    assert adapted.active_adapters == ["third"]
    assert all(
        layer.active_adapters == ["third"]
        for layer in adapted.modules()
        if isinstance(layer, AuroraLayer)
    )
    assert frozen_but(adapted, "third")
    adapted.delete_adapter("third")
    rest = adapted.base_model.model  # peft's own methods fail without any adapter
    assert_close(family.call(rest), family.call(family.build()))


def test_adapter_trains_as_asked_after_every_transition(family: Any, tmp_path: Path) -> None:
    adapted = get_peft_model(family.build(), family.config())
    assert frozen_but(adapted, "default")
    adapted.add_adapter("second", family.config())
    assert frozen_but(adapted, "default")
    adapted.set_adapter("second")
    assert frozen_but(adapted, "second")
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    # Loading for inference must not freeze the adapter in training, nor its shared factors.
    adapted.load_adapter(str(tmp_path / "second"), adapter_name="third")
    assert frozen_but(adapted, "second")
    adapted.load_adapter(str(tmp_path / "second"), adapter_name="fourth", is_trainable=True)
    assert frozen_but(adapted, "second", "fourth")
    adapted.set_adapter("third", inference_mode=True)
    assert frozen_but(adapted)
    adapted.set_adapter("fourth")
    assert frozen_but(adapted, "fourth")
    with adapted.disable_adapter():
        assert frozen_but(adapted)
    assert frozen_but(adapted, "fourth")
    adapted.merge_adapter()
    adapted.unmerge_adapter()
    assert frozen_but(adapted, "fourth")
    adapted.delete_adapter("third")
    assert frozen_but(adapted, "fourth")
    adapted.set_requires_grad("default", requires_grad=True)
    assert frozen_but(adapted, "fourth", "default")
    adapted.set_requires_grad(["default", "fourth"], requires_grad=False)
    assert frozen_but(adapted)


def test_another_adapter_for_every_row(family: Any) -> None:
    heads = {"modules_to_save": family.heads}
    adapted = family.changed(**heads)
    config = family.config(r=3, core="tucker", init_weights=False, **heads)
    adapted.add_adapter("second", config)
    adapted.eval()
    for name, parameter in adapted.named_parameters():
        if "modules_to_save.second" in name:
            parameter.data += 0.2
    whole = {}
    for name in ("default", "second"):
        adapted.set_adapter(name)
        whole[name] = family.call(adapted)
    with adapted.disable_adapter():
        whole["__base__"] = family.call(adapted)
    names = ["second", "__base__", "default"]
    with adapted.adapter_rows(names):
        rows = family.call(adapted)
    for row, name in enumerate(names):
        assert_close(rows[row], whole[name][row])
    assert_close(family.call(adapted), whole["second"])


def test_row_adapters_are_checked(families: dict[str, Any]) -> None:
    family = families["mlp"]
    adapted = family.changed()
    x = torch.randn(4, 10).double()
    with pytest.raises(ValueError, match="non-existing adapter\\(s\\): typo"):
        adapted(x, adapter_names=["typo"] * 4)
    with pytest.raises(ValueError, match="names 3 rows, but the input has 4"):
        adapted(x, adapter_names=["default"] * 3)
    with pytest.raises(ValueError, match="training mode"):
        adapted.train()(x, adapter_names=["default"] * 4)
    adapted.eval().merge_adapter()
    with pytest.raises(ValueError, match="while adapters are merged"):
        adapted(x, adapter_names=["default"] * 4)
    adapted.unmerge_adapter()


def test_overlapping_and_disjoint_targets(families: dict[str, Any]) -> None:
    family = families["mlp"]
    adapted = family.changed(target_modules=["lin0"])
    frozen = family.call(family.build())
    default = family.call(adapted)
    adapted.add_adapter("second", family.config(target_modules=["lin1"], init_weights=False))
    assert torch.equal(family.call(adapted), default)
    adapted.set_adapter("second")
    second = family.call(adapted)
    assert differs(second, default)
    # lin0 has only the deleted adapter; lin1 must go on with the other one.
    adapted.delete_adapter("default")
    assert torch.equal(family.call(adapted), second)
    adapted.delete_adapter("second")
    assert torch.equal(family.call(adapted.base_model.model), frozen)
