"""Weighted sums of adapters."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aurora_vl.tuner import AuroraLinear, AuroraQueryGate, combine


def test_the_sum_is_exact(family: Any, core: str) -> None:
    adapted = family.changed(core=core, scaling=0.5, modules_to_save=family.heads)
    adapted.add_adapter(
        "second",
        family.config(
            core=core, r=3, init_weights=False, rank_stabilised=True, modules_to_save=family.heads
        ),
    )
    adapted.eval()
    before = family.call(adapted)
    adapted.base_model.add_weighted_adapter(["default", "second"], [0.7, -0.2], "both")
    assert torch.equal(family.call(adapted), before)
    assert not any(p.requires_grad for n, p in adapted.named_parameters() if n.endswith(".both"))
    assert adapted.peft_config["both"].r == 7
    for layer in adapted.modules():
        if isinstance(layer, AuroraLinear):
            one, other, both = (
                layer.get_delta_weight(name) for name in ("default", "second", "both")
            )
            torch.testing.assert_close(both, 0.7 * one - 0.2 * other)
        elif isinstance(layer, AuroraQueryGate):
            vectors = layer.aurora_gate_cross_scale
            expected = 0.7 * vectors["default"] - 0.2 * vectors["second"]
            torch.testing.assert_close(vectors["both"].data, expected.data)
    adapted.set_adapter("both")
    assert not torch.allclose(family.call(adapted), before)


def test_different_targets_and_heads(families: dict[str, Any]) -> None:
    family = families["mlp"]
    heads = {"modules_to_save": ["head"]}
    adapted = family.changed(target_modules=["lin0"], listed_widths=[20], **heads)
    config = family.config(target_modules=["lin1"], listed_widths=[20], init_weights=False, **heads)
    adapted.add_adapter("second", config)
    saved = adapted.get_base_model().head.modules_to_save
    saved["second"].weight.data += 1.0
    adapted.base_model.add_weighted_adapter(["default", "second"], [3.0, 1.0], "both")
    torch.testing.assert_close(saved["both"].weight, saved["default"].weight + 0.25)
    model = adapted.get_base_model()
    for layer, name, weight in ((model.lin0, "default", 3.0), (model.lin1, "second", 1.0)):
        delta = weight * layer.get_delta_weight(name)
        torch.testing.assert_close(layer.get_delta_weight("both"), delta)


@pytest.mark.parametrize(
    ("changes", "weights", "message"),
    [
        ({"core": "tucker"}, [1.0, 1.0], "whose `core` differ: 'cp' and 'tucker'"),
        ({"sharing": "layer"}, [1.0, 1.0], "whose `sharing` differ"),
        ({"listed_widths": [8]}, [1.0, 1.0], "whose `listed_widths` differ"),
        ({"modules_to_save": ["pooler"]}, [1.0, 1.0], "whose `modules_to_save` differ"),
        ({"gqt": "gated"}, [1.0, 1.0], "gates do not add up"),
        ({}, [1.0], "2 adapters are given with 1 weights"),
    ],
)
def test_refusals(
    changes: dict[str, Any], weights: list[float], message: str, families: dict[str, Any]
) -> None:
    family = families["bert"]
    adapted = family.changed()
    adapted.add_adapter("second", family.config(**changes))
    with pytest.raises(ValueError, match=message):
        adapted.base_model.add_weighted_adapter(["default", "second"], weights, "both")
    with pytest.raises(ValueError, match="must name existing adapters once each"):
        adapted.base_model.add_weighted_adapter(["default", "typo"], [1.0, 1.0], "both")
    assert list(adapted.peft_config) == ["default", "second"]


@pytest.mark.parametrize("weights", [[1.0, -1.0, 0.0], [0.1, 0.2, -0.3]])
def test_heads_have_no_mean_by_weights_that_cancel(
    families: dict[str, Any], weights: list[float]
) -> None:
    adapted = families["mlp"].changed(modules_to_save=["head"])
    for name in ("second", "third"):
        adapted.add_adapter(name, families["mlp"].config(modules_to_save=["head"]))
    with pytest.raises(ValueError, match="weights sum to 0"):
        adapted.base_model.add_weighted_adapter(list(adapted.peft_config), weights, "all")


def test_the_order_of_heads_does_not_matter(families: dict[str, Any]) -> None:
    family = families["blip"]
    adapted = family.changed(modules_to_save=["itm_head", "text_proj"])
    adapted.add_adapter("second", family.config(modules_to_save=["text_proj", "itm_head"]))
    adapted.base_model.add_weighted_adapter(["default", "second"], [0.5, 0.5], "both")
    assert "both" in adapted.get_base_model().text_proj.modules_to_save


def test_gates_are_summed_where_an_adapter_has_one(families: dict[str, Any]) -> None:
    family = families["blip"]
    without_first = {"exclude_modules": r".*layer\.0\.query_slot"}
    adapted = family.changed(**without_first)
    adapted.add_adapter("second", family.config(init_weights=False, **without_first))
    adapted.base_model.add_weighted_adapter(["default", "second"], [0.5, 0.5], "both")
    layers = adapted.get_base_model().text_encoder.encoder.layer
    assert not isinstance(layers[0].query_slot, AuroraQueryGate)
    vectors = layers[1].query_slot.aurora_gate_self_scale
    expected = 0.5 * vectors["default"] + 0.5 * vectors["second"]
    torch.testing.assert_close(vectors["both"].data, expected.data)
    before = family.call(adapted)
    adapted.set_adapter("both")
    assert not torch.allclose(family.call(adapted), before)


def test_a_gate_of_one_adapter_alone(families: dict[str, Any]) -> None:
    family = families["blip"]
    adapted = family.changed(exclude_modules=r".*layer\.0\.query_slot")
    adapted.add_adapter("second", family.config(init_weights=False))
    adapted.base_model.add_weighted_adapter(["default", "second"], [0.5, 0.5], "both")
    vectors = adapted.get_base_model().text_encoder.encoder.layer[0].query_slot
    shift = vectors.aurora_gate_self_shift
    torch.testing.assert_close(shift["both"].data, 0.5 * shift["second"].data)


def test_a_failure_leaves_no_adapter(
    families: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = families["blip"]
    adapted = family.changed()
    adapted.add_adapter("second", family.config())
    names = {name for name, _ in adapted.named_parameters()}

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(combine, "fill", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        adapted.base_model.add_weighted_adapter(["default", "second"], [0.5, 0.5], "both")
    assert list(adapted.peft_config) == ["default", "second"]
    assert {name for name, _ in adapted.named_parameters()} == names
    assert adapted.active_adapters == ["default"]
