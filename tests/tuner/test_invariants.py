"""What must hold of an adapter on every family of models: PEFT's common tests, for this tuner."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_checks import assert_close, differs, flags, frozen_but, weights
from peft import PeftModel, get_peft_model, inject_adapter_in_model
from safetensors.torch import load_file
from torch import Tensor, nn

from aurora_vl.tuner import AuroraLayer, AuroraQueryGate, count_adapter_parameters
from aurora_vl.tuner.layout import BlockLayout
from aurora_vl.tuner.lora_export import read_adapter, write_lora
from aurora_vl.tuner.targets import sharing_group


def test_starts_as_the_frozen_model(family: Any, core: str) -> None:
    model = family.build()
    expected = family.call(model)
    for start in ("ours", "released"):
        adapted = get_peft_model(model, family.config(core=core, init=start))
        assert torch.equal(family.call(adapted), expected)
        model = adapted.unload()
    assert not any(isinstance(module, AuroraLayer) for module in model.modules())
    assert torch.equal(family.call(model), expected)


def test_count_is_the_formula(family: Any, core: str) -> None:
    model = family.build()
    for gqt in ("released", "gated", "off"):
        adapted = get_peft_model(model, family.config(core=core, gqt=gqt))
        expected = count_adapter_parameters(
            family.maps,
            r=4,
            core=core,
            listed_widths=family.widths,
            gate_widths=family.slots,
            gqt=gqt,
        )
        assert adapted.get_nb_trainable_parameters()[0] == expected.total
        assert adapted.peft_config["default"].listed_widths == family.widths
        assert frozen_but(adapted, "default")
        model = adapted.unload()


@pytest.mark.parametrize("sharing", ["modality", "layer"])
def test_other_groups_share_the_factors(
    family: Any, core: str, sharing: str, tmp_path: Path
) -> None:
    """Count by formula, exact start, learning, merging, saving and export to LoRA."""
    model = family.build()
    frozen = family.call(model)
    adapted = get_peft_model(model, family.config(core=core, sharing=sharing, gqt="off"))
    assert torch.equal(family.call(adapted), frozen)
    config = adapted.peft_config["default"]
    keys = list(config.target_blocks)
    sizes = [BlockLayout.from_record(config.target_blocks[key]).features for key in keys]
    expected = count_adapter_parameters(
        sizes,
        r=4,
        core=core,
        listed_widths=family.widths,
        gqt="off",
        groups=[sharing_group(key, sharing) for key in keys],
    )
    assert adapted.get_nb_trainable_parameters()[0] == expected.total
    drawn = [c["default"] for n, c in adapted.base_model.shared_parameters().items() if "_U_" in n]
    assert all(differs(a, b) for a, b in pairwise(drawn) if a.shape == b.shape)
    adapted = family.changed(core=core, sharing=sharing, gqt="off")
    expected_output = family.call(adapted)
    expected_output.square().sum().backward()
    assert all(p.grad is not None for n, p in adapted.named_parameters() if p.requires_grad)
    adapted.save_pretrained(str(tmp_path / "aurora"), save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(family.build(), str(tmp_path / "aurora"))
    assert torch.equal(family.call(loaded), expected_output)
    loaded.merge_adapter()
    assert_close(family.call(loaded), expected_output)
    loaded.unmerge_adapter()
    loaded.add_adapter("second", family.config(init_weights=False))  # of the whole model
    loaded.delete_adapter("second")
    assert_close(family.call(loaded), expected_output)
    (tmp_path / "lora").mkdir()
    write_lora(read_adapter(tmp_path / "aurora"), tmp_path / "lora")
    lora = PeftModel.from_pretrained(family.build(), str(tmp_path / "lora"))
    assert_close(family.call(lora), expected_output)


def test_only_the_adapter_learns(family: Any, core: str) -> None:
    adapted = get_peft_model(family.build(), family.config(core=core, dropout=0.1)).train()
    before = weights(adapted)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # in the first step only V has a gradient, as it starts at zero
        optimizer.zero_grad()
        outputs = family.call(adapted)
        (outputs * torch.linspace(-1, 2, outputs.numel()).view_as(outputs)).sum().backward()
        optimizer.step()
    for name, parameter in adapted.named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert moved == name.endswith(".default"), name


def test_merge_and_unmerge(family: Any, core: str) -> None:
    adapted = family.changed(core=core)
    before = weights(adapted)
    expected = family.call(adapted)
    adapted.merge_adapter(safe_merge=True)
    assert_close(family.call(adapted), expected)
    with pytest.warns(UserWarning, match="already merged"):
        adapted.merge_adapter()
    assert_close(family.call(adapted), expected)
    adapted.unmerge_adapter()
    assert_close(family.call(adapted), expected)
    for name, parameter in adapted.named_parameters():
        assert_close(parameter, before[name])
    with pytest.warns(UserWarning, match="Already unmerged"):
        adapted.unmerge_adapter()


def test_merge_and_unload_leaves_the_plain_model(family: Any, core: str) -> None:
    adapted = family.changed(core=core, gqt="off")
    expected = family.call(adapted)
    merged = adapted.merge_and_unload()
    assert not any(isinstance(module, AuroraLayer) for module in merged.modules())
    assert set(merged.state_dict()) == set(family.build().state_dict())
    assert_close(family.call(merged), expected)
    assert differs(family.call(family.build()), expected)
    again = family.build()
    again.load_state_dict(merged.state_dict())
    assert torch.equal(family.call(again), family.call(merged))


def test_safe_merge_refuses_a_broken_adapter(family: Any) -> None:
    adapted = family.changed(gqt="off")
    before = {n: p for n, p in weights(adapted).items() if "base_layer" in n}
    adapted.base_model.aurora_core["default"].data[0] = torch.nan
    with pytest.raises(ValueError, match="adapter default seems to be broken"):
        adapted.merge_adapter(safe_merge=True)
    assert all(torch.equal(p, before[n]) for n, p in adapted.named_parameters() if n in before)


@pytest.mark.parametrize(("core", "low_cpu_mem_usage"), [("cp", False), ("tucker", True)])
def test_save_and_load(family: Any, core: str, low_cpu_mem_usage: bool, tmp_path: Path) -> None:
    adapted = family.changed(core=core, modules_to_save=family.heads)
    for name, parameter in adapted.named_parameters():
        if "modules_to_save" in name:
            parameter.data += 0.1
    expected = family.call(adapted)
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == sum(
        p.numel() for p in adapted.parameters() if p.requires_grad
    )
    assert sum("aurora_U" in name for name in stored) == len(
        {layout["in_width"] for layout in adapted.peft_config["default"].target_blocks.values()}
    )
    for name, trainable in (("default", False), ("other", True)):
        loaded = PeftModel.from_pretrained(
            family.build(),
            str(tmp_path),
            adapter_name=name,
            is_trainable=trainable,
            low_cpu_mem_usage=low_cpu_mem_usage,
        )
        assert torch.equal(family.call(loaded), expected)
        assert flags(loaded, name) == {trainable}
        assert not any(parameter.is_meta for parameter in loaded.parameters())


def test_saved_again_it_is_the_same_file(family: Any, tmp_path: Path) -> None:
    family.changed().save_pretrained(str(tmp_path / "a"), save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(family.build(), str(tmp_path / "a"), adapter_name="b")
    loaded.save_pretrained(str(tmp_path / "again"), save_embedding_layers=False)
    name = "adapter_model.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "again" / "b" / name).read_bytes()
    a, b = ((tmp_path / d / "adapter_config.json").read_text() for d in ("a", "again/b"))
    assert a == b


def test_disabled_it_is_the_frozen_model(family: Any) -> None:
    frozen = family.call(family.build())
    adapted = family.changed()
    changed = family.call(adapted)
    with adapted.disable_adapter():
        assert torch.equal(family.call(adapted), frozen)
        assert frozen_but(adapted)
    assert frozen_but(adapted, "default")
    assert torch.equal(family.call(adapted), changed)
    adapted.merge_adapter()
    with adapted.disable_adapter():
        assert_close(family.call(adapted), frozen)


def test_a_failed_first_adapter_leaves_the_model_alone(family: Any) -> None:
    model = family.build()
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    names = list(model.state_dict())
    expected = family.call(model)
    config = family.config(target_modules=[*_some_targets(family), family.unfit])
    with pytest.raises(ValueError, match=rf"{family.unfit}' is a \w+; Aurora adapts nn.Linear"):
        get_peft_model(model, config)
    assert list(model.state_dict()) == names
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert config.listed_widths is None
    assert torch.equal(family.call(model), expected)


def test_a_failed_second_adapter_leaves_the_first_alone(family: Any) -> None:
    adapted = family.changed()
    expected = family.call(adapted)
    names = list(adapted.state_dict())
    targets = [*_some_targets(family), family.unfit]
    with pytest.raises(ValueError, match=r"Aurora adapts nn\.Linear only"):
        adapted.add_adapter("second", family.config(target_modules=targets))
    with pytest.raises(ValueError, match="already exists"):
        adapted.add_adapter("default", family.config())
    with pytest.raises(ValueError, match="not found"):
        adapted.add_adapter("second", family.config(target_modules=["nothing"], gqt="off"))
    assert list(adapted.peft_config) == ["default"]
    assert list(adapted.state_dict()) == names
    assert frozen_but(adapted, "default")
    assert torch.equal(family.call(adapted), expected)
    adapted.add_adapter("second", family.config())
    assert torch.equal(family.call(adapted), expected)


def _some_targets(family: Any) -> list[str]:
    adapted = get_peft_model(family.build(), family.config())
    return sorted({key.rpartition(".")[2] for key in adapted.peft_config["default"].target_blocks})


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("autocast", [True, False])
def test_half_precision(family: Any, autocast: bool, half: torch.dtype, tmp_path: Path) -> None:
    expected = family.call(family.changed(gqt="off"))
    torch.manual_seed(1)
    adapted = get_peft_model(
        family.build().to(half),
        family.config(init_weights=False, gqt="off"),
        autocast_adapter_dtype=autocast,
    ).eval()
    kept = torch.float32 if autocast else half
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {kept}
    result = family.call(adapted)
    assert result.dtype == half
    assert (result - expected).norm() < 0.1 * expected.norm()
    family.call(adapted).float().square().sum().backward()
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(
        family.build().to(half), str(tmp_path), autocast_adapter_dtype=autocast
    )
    assert flags(loaded, "default") == {False}
    assert torch.equal(family.call(loaded), result)


def test_gates_in_bfloat16(families: dict[str, Any]) -> None:
    family = families["blip"]
    for gqt in ("released", "gated"):
        torch.manual_seed(1)
        config = family.config(init_weights=False, gqt=gqt)
        adapted = get_peft_model(family.build().bfloat16(), config).eval()
        result = family.call(adapted)
        assert result.dtype == torch.bfloat16
        assert torch.isfinite(result).all()


def test_autocast_trains(family: Any, core: str) -> None:
    expected = family.call(family.changed(core=core, gqt="off"))
    torch.manual_seed(1)
    config = family.config(core=core, init_weights=False, gqt="off")
    adapted = get_peft_model(family.build().float(), config).eval()
    with torch.autocast("cpu", torch.bfloat16):
        result = family.call(adapted)
    assert (result - expected).norm() < 0.1 * expected.norm()
    result.float().square().sum().backward()
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all()
        for p in adapted.parameters()
        if p.requires_grad
    )


def _pickled(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, _pickled], ids=["deepcopy", "pickle"])
def test_a_copy_keeps_one_set_of_factors(family: Any, duplicate: Callable[..., Any]) -> None:
    adapted = family.changed()
    expected = family.call(adapted)
    twin = duplicate(adapted)
    assert len(list(twin.parameters())) == len(list(adapted.parameters()))
    twin.base_model.aurora_core["default"].data.zero_()
    for name, parameter in twin.named_parameters():
        if ".aurora_gate_" in name:
            parameter.data.zero_()
    assert torch.equal(family.call(adapted), expected)
    with twin.disable_adapter():
        frozen = family.call(twin)
    assert differs(expected, frozen)
    assert torch.equal(family.call(twin), frozen)


@pytest.mark.parametrize(("name", "core"), [("mlp", "tucker"), ("vit", "cp")])
def test_compiled(name: str, core: str, families: dict[str, Any]) -> None:
    family = families[name]
    adapted = family.changed(core=core, dropout=0.1)
    expected = family.call(adapted)
    torch.compiler.reset()
    compiled = torch.compile(family.call, backend="eager")
    assert_close(compiled(adapted), expected)


def test_compiled_with_a_gate(families: dict[str, Any]) -> None:
    gate = next(m for m in families["blip"].changed().modules() if isinstance(m, AuroraQueryGate))
    states = torch.randn(3, 2, 5, 16).double().unbind(0)
    torch.compiler.reset()
    compiled = torch.compile(gate, backend="eager", fullgraph=True)
    assert_close(compiled(*states), gate(*states))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # an adapter's sizes are constants
def test_traced(families: dict[str, Any], core: str) -> None:
    adapted = families["mlp"].changed(core=core)
    x, other = torch.randn(2, 3, 10).double()
    traced = torch.jit.trace(adapted, x)
    assert_close(traced(other), adapted(other))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own, in jvp
def test_function_transforms(families: dict[str, Any], core: str) -> None:
    """Gradients, of single rows too, and directional derivatives are those of autograd."""
    adapted = families["mlp"].changed(core=core)
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    x = torch.randn(3, 10).double()

    def loss(parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
        return torch.func.functional_call(adapted, parameters, (rows,)).square().sum()

    expected = dict(zip(trained, torch.autograd.grad(loss(trained, x), list(trained.values()))))
    given = {name: p.detach() for name, p in trained.items()}
    assert_close(torch.func.grad(loss)(given, x), expected)
    by_row = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(given, x[:, None])
    assert_close({name: each.sum(0) for name, each in by_row.items()}, expected)
    _, change = torch.func.jvp(lambda p: loss(p, x), (given,), (given,))
    assert_close(change, sum((expected[name] * given[name]).sum() for name in given))


def test_peft_reports_its_status(family: Any) -> None:
    adapted = family.changed()
    adapted.add_adapter("second", family.config())
    status = adapted.get_model_status()
    layers = len(family.maps) + len(family.slots)
    assert status.num_adapter_layers == layers
    assert status.enabled is True
    assert status.requires_grad == {"default": True, "second": False}
    assert status.available_adapters == ["default", "second"]
    assert status.trainable_params == adapted.get_nb_trainable_parameters()[0]


def test_injection_without_an_owner_is_refused(families: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="shared state"):
        inject_adapter_in_model(families["mlp"].config(), families["mlp"].build())
