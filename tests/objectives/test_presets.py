"""A variant is a set of switches, made in one place and accepted where they act."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from peft import get_peft_model
from tiny_blip import tiny_model

from aurora_vl.backbones.blip.dual_encoder import BlipDualEncoder
from aurora_vl.backbones.blip.family import BlipFamily
from aurora_vl.errors import UserError
from aurora_vl.objectives.presets import Switches, switches
from aurora_vl.objectives.retrieval import RetrievalTask
from aurora_vl.tuner.config import AuroraConfig


def adapted(chosen: Switches) -> Any:
    config = AuroraConfig(r=4, modules_to_save=heads(chosen), **chosen.adapter())
    return get_peft_model(tiny_model(), config).double()


def heads(chosen: Switches) -> list[str]:
    return BlipFamily().trained_heads(
        "retrieval", text_projection=chosen.train_text_proj, temperature=chosen.train_temperature
    )


def test_the_variants_differ_in_every_switch_but_six() -> None:
    default, released = switches("default"), switches("released")
    same = {
        f.name for f in fields(Switches) if getattr(default, f.name) == getattr(released, f.name)
    }
    ablations = {"sharing", "scaling", "rank_stabilised"}
    assert same - ablations == {"gqt", "train_temperature", "frame_aware"}
    assert default == Switches()


def test_only_the_released_momentum_reads_the_factors_live() -> None:
    model = adapted(switches("released"))
    averaged = {}
    for variant in ("default", "released"):
        settings = switches(variant).retrieval(queue=0)
        momentum = RetrievalTask(BlipDualEncoder(model), settings).momentum
        assert momentum is not None
        averaged[variant] = set(momentum.values())
    factors = {name.split(".")[1] for name in averaged["default"] - averaged["released"]}
    widths = (16, 24, 40)  # text, vision, and the vision layers' inner size
    assert factors == {"aurora_core", *(f"aurora_{side}_{w}" for side in "UV" for w in widths)}
    assert any("aurora_P" in name for name in averaged["released"])


@pytest.mark.parametrize(
    ("variant", "names"),
    [
        ("default", {"vision_proj", "itm_head", "text_proj"}),
        ("released", {"vision_proj", "itm_head"}),
    ],
)
def test_the_heads_that_are_trained(variant: str, names: set[str]) -> None:
    model = adapted(switches(variant))
    trained = {n for n, p in model.named_parameters() if p.requires_grad and "aurora_" not in n}
    assert {name.split(".")[2] for name in trained} == names
    assert "temperature" in heads(switches(variant, train_temperature=True))


def test_single_switches_can_be_set_otherwise() -> None:
    chosen = switches("released", ice="off", gqt=None, label_smoothing=0.1)
    assert (chosen.ice, chosen.gqt, chosen.answering().label_smoothing) == ("off", "released", 0.1)
    assert chosen.core == "tucker"
    with_cp = switches("released", core="cp")
    AuroraConfig(**with_cp.adapter())  # whose MLP cannot be interleaved
    assert with_cp.mlp_core == "per_slice"


def test_an_unknown_variant_is_named() -> None:
    with pytest.raises(
        UserError, match="variant 'paper' is unknown; choose one of default, released"
    ):
        switches("paper")
