"""Bottleneck adapters and UniAdapter against their formulas, written out."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from peft import get_peft_model
from tiny_blip import HEADS, batch, tiny_config
from torch import Tensor, nn

from aurora_vl.backbones.blip.modeling import BlipForRetrieval
from aurora_vl.methods.bottleneck import BottleneckConfig


def backbone() -> BlipForRetrieval:
    torch.manual_seed(0)
    config = tiny_config()
    config.vision_config.hidden_size = config.text_config.encoder_hidden_size = 16
    return BlipForRetrieval(config).double().eval()


def adapted(*, shared: bool) -> nn.Module:
    """Every number of the adapters random, so that no branch is silent."""
    config = BottleneckConfig(r=3, shared=shared, scaling=0.5, modules_to_save=HEADS)
    model = get_peft_model(backbone(), config).double().eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bottleneck_" in name:
                parameter.normal_()
    return model


def unit(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(f"base_model.model.{path}.bottleneck_units.default")


@pytest.mark.parametrize("shared", [False, True])
def test_a_vision_layer(shared: bool) -> None:
    model, plain = adapted(shared=shared), backbone()
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    layer, base = (m.vision_model.encoder.layers[0] for m in (model.get_base_model(), plain))
    own = unit(model, "vision_model.encoder.layers.0.mlp")
    middle = x + base.self_attn(base.layer_norm1(x))
    read = own.down.norm(middle) if shared else middle
    update = own.up(own.down.map(read).relu())
    torch.testing.assert_close(layer(x), base(x) + 0.5 * update)


def states(model: BlipForRetrieval, fused: bool) -> dict[str, Tensor]:
    """s, c and the output of the first text layer of a plain model."""
    given = batch([0, 1])
    kept: dict[str, Tensor] = {}
    layer = model.text_encoder.encoder.layer[0]
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: kept.__setitem__(name, out))
        for name, module in (("s", layer.attention), ("c", layer.crossattention), ("f", layer))
    ]
    vision = model.vision_model(given["pixel_values"])
    cross = model.text_encoder.cross_keys(vision) if fused else None
    model.text_encoder(given["input_ids"], given["attention_mask"], cross)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@torch.no_grad()
def test_a_text_layer(shared: bool, fused: bool) -> None:
    model = adapted(shared=shared)
    plain = states(backbone(), fused)
    base = copy.deepcopy(model.get_base_model())
    for layer in base.vision_model.encoder.layers:  # so that the layer sees what the plain one sees
        layer.mlp = layer.mlp.base_layer
    found = states(base, fused)["f"]
    own = unit(model, "text_encoder.encoder.layer.0.output")
    if not shared:
        read, down, up = (
            (plain["c"], own.cross_down, own.cross_up) if fused else (plain["s"], own.down, own.up)
        )
        update = up(down.map(read).relu())
    else:
        partner = unit(model, "vision_model.encoder.layers.0.mlp").down

        def hidden(x: Tensor) -> Tensor:
            return partner.map(partner.norm(x)).relu()

        update = own.up(hidden(plain["s"]))
        if fused:
            both = own.cross_up(hidden(plain["c"])) + own.up(hidden(plain["c"]))
            update = update + own.cross_norm(both)
    torch.testing.assert_close(found, plain["f"] + 0.5 * update)


def test_disabled_adapters_change_nothing() -> None:
    model, plain, given = adapted(shared=True), backbone(), batch([0, 1])
    inputs = (given["pixel_values"], given["input_ids"], given["attention_mask"])
    with torch.no_grad(), model.disable_adapter():
        found = model(*inputs)
    with torch.no_grad():
        torch.testing.assert_close(found.image_states, plain(*inputs).image_states)


def test_a_bottleneck_without_width() -> None:
    with pytest.raises(ValueError, match="`r` must be a positive whole number, but is 0"):
        BottleneckConfig(r=0)


def test_importing_the_package_registers_every_type_of_adapter() -> None:
    """In a process of its own, which imports nothing else of the package."""
    code = (
        "import aurora_vl, peft; "
        "print(peft.PEFT_TYPE_TO_CONFIG_MAPPING['BOTTLENECK'].__name__, "
        "peft.PEFT_TYPE_TO_CONFIG_MAPPING['AURORA'].__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["BottleneckConfig", "AuroraConfig"]
