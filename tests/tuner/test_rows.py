"""Another adapter for every row: safe from many threads, nested, and refused where it cannot be."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from adapter_checks import assert_close
from peft import LoraConfig, PeftModel, VeraConfig, get_peft_model
from torch import Tensor, nn

from aurora_vl import AuroraConfig
from aurora_vl.tuner.rows import adapter_rows

THREADS = 16
NAMES = ["default", "second", "__base__"]


def with_two_adapters(family: Any, heads: list[str]) -> PeftModel:
    adapted = family.changed(modules_to_save=heads)
    adapted.add_adapter(
        "second", family.config(r=3, core="tucker", init_weights=False, modules_to_save=heads)
    )
    for name, parameter in adapted.named_parameters():
        if "modules_to_save.second" in name:
            parameter.data += 0.2
    return adapted.eval()


def lora(family: Any, heads: list[str]) -> PeftModel:
    def config(r: int) -> LoraConfig:
        targets = family.targets or ["query", "value", "qkv", "q_proj"]
        return LoraConfig(r=r, target_modules=targets, modules_to_save=heads)

    torch.manual_seed(2)
    adapted = get_peft_model(family.build(), config(4))
    adapted.add_adapter("second", config(2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save.second" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return adapted.eval()


def in_threads(work: Callable[[int], Tensor]) -> list[Tensor]:
    """What `THREADS` threads give that start their rounds together."""
    start = Barrier(THREADS)

    def run(number: int) -> list[Tensor]:
        start.wait()
        return [work(number) for _ in range(5)]

    with ThreadPoolExecutor(THREADS) as pool:
        rounds = list(pool.map(run, range(THREADS)))
    assert all(torch.equal(one, many[0]) for many in rounds for one in many)
    return [many[0] for many in rounds]


@pytest.mark.parametrize("make", [with_two_adapters, lora])
@pytest.mark.parametrize("name", ["mlp", "blip", "vit"])
def test_many_threads_give_what_one_gives(
    name: str, make: Callable[[Any, list[str]], PeftModel], families: dict[str, Any]
) -> None:
    family = families[name]
    adapted = make(family, family.heads)
    choices = [[one] * 3 for one in NAMES] + [NAMES, NAMES[::-1], ["second", "second", "default"]]

    def work(number: int) -> Tensor:
        if number % 4 == 3:  # and some name nothing
            return family.call(adapted)
        with torch.no_grad(), adapter_rows(adapted, choices[number % len(choices)]):
            return family.call(adapted)

    found = in_threads(work)  # first, so that the layers are prepared by several threads at once
    for number, output in enumerate(found):
        assert torch.equal(output, work(number))
    assert adapted.active_adapters == ["default"]


def test_one_adapter_for_all_rows_is_the_active_path(family: Any) -> None:
    adapted = with_two_adapters(family, family.heads)
    outputs = {}
    for name in ("default", "second"):
        with adapter_rows(adapted, [name]):
            outputs[name] = family.call(adapted)
    for name in ("second", "default"):
        adapted.set_adapter(name)
        assert torch.equal(family.call(adapted), outputs[name])
    with adapter_rows(adapted, ["__base__"]):
        assert torch.equal(family.call(adapted), family.call(family.build()))


def test_blocks_nest_and_end_with_an_error(families: dict[str, Any]) -> None:
    family = families["mlp"]
    adapted, other = with_two_adapters(family, ["head"]), with_two_adapters(family, ["head"])
    default, frozen = family.call(adapted), family.call(family.build())
    with adapter_rows(adapted, ["second"]):
        second = family.call(adapted)
        with adapter_rows(adapted, ["__base__"]):
            assert torch.equal(family.call(adapted), frozen)
        assert torch.equal(family.call(adapted), second)
        with pytest.raises(KeyError, match="on purpose"), adapter_rows(adapted, ["__base__"]):
            raise KeyError("on purpose")
        assert torch.equal(family.call(adapted), second)
        assert torch.equal(family.call(other), default)  # another model is not concerned
        with adapter_rows(other, ["__base__"]):
            assert torch.equal(family.call(other), frozen)
            assert torch.equal(family.call(adapted), second)
    assert torch.equal(family.call(adapted), default)


@pytest.mark.parametrize("make", [with_two_adapters, lora])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_name_rows_of_their_own(
    make: Callable[[Any, list[str]], PeftModel], copied: Any, families: dict[str, Any]
) -> None:
    family = families["mlp"]
    adapted = make(family, ["head"])
    with adapter_rows(adapted, NAMES):
        rows = family.call(adapted)
    twin = copied(adapted)
    default = family.call(adapted)
    with adapter_rows(twin, NAMES):
        assert torch.equal(family.call(twin), rows)
        assert torch.equal(family.call(adapted), default)


@pytest.mark.parametrize("kind", [AuroraConfig, LoraConfig])
@pytest.mark.parametrize("active", ["plain", "headed"])
def test_adapters_that_differ_in_their_heads(
    kind: Any, active: str, families: dict[str, Any]
) -> None:
    """Rows whose adapter does not train the head go through the frozen one."""
    family = families["mlp"]

    def config(**changes: Any) -> Any:
        return kind(r=2, target_modules=["lin0"], **changes)

    adapted = get_peft_model(family.build(), config(), adapter_name="plain")
    adapted.add_adapter("headed", config(modules_to_save=["head"]))
    adapted.eval()
    for name, parameter in adapted.named_parameters():
        if "modules_to_save" in name or "lora_B" in name or "aurora_V" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    whole = {}
    for name in ("plain", "headed"):
        adapted.set_adapter(name)
        whole[name] = family.call(adapted)
    adapted.set_adapter(active)
    names = ["headed", "plain", "headed"]
    with adapter_rows(adapted, names):
        rows = family.call(adapted)
    for row, name in enumerate(names):
        assert_close(rows[row], whole[name][row])
        with adapter_rows(adapted, [name]):
            assert_close(family.call(adapted), whole[name])


def test_a_head_that_is_no_linear_map(families: dict[str, Any]) -> None:
    """One adapter for all rows works with any head; PEFT mixes linear maps and their kin only."""

    def build() -> nn.Module:
        model = families["mlp"].build()
        model.head = nn.Sequential(model.head)
        return model

    family = families["mlp"]
    adapted = family.changed(build(), modules_to_save=["head"])
    adapted.add_adapter("second", family.config(init_weights=False, modules_to_save=["head"]))
    adapted.eval().set_adapter("second")
    second = family.call(adapted)
    adapted.set_adapter("default")
    with adapter_rows(adapted, ["second"] * 3):
        assert torch.equal(family.call(adapted), second)
    with (
        adapter_rows(adapted, NAMES),
        pytest.raises(TypeError, match="Mixed batching is only supported"),
    ):
        family.call(adapted)


def test_what_cannot_be_chosen_by_row_is_refused(families: dict[str, Any]) -> None:
    family = families["mlp"]
    adapted = with_two_adapters(family, ["head"])
    for names, reason in (([], "is empty"), (["typo"], "non-existing adapter\\(s\\): typo")):
        with pytest.raises(ValueError, match=reason), adapter_rows(adapted, names):
            pass
    with (
        adapter_rows(adapted, ["default", "second"]),
        pytest.raises(ValueError, match="names 2 rows, but a layer met 3"),
    ):
        family.call(adapted)
    compiled = torch.compile(adapted, backend="eager")
    with pytest.raises(ValueError, match="compiled"), adapter_rows(compiled, NAMES):
        pass
    vera = get_peft_model(family.build(), VeraConfig(r=2, target_modules=["lin1"])).eval()
    with (
        pytest.raises(ValueError, match="Only adapters of Aurora and LoRA"),
        adapter_rows(vera, ["default"]),
    ):
        pass


@pytest.mark.parametrize("names", [["default"], ["default", "second"]])
def test_a_plain_forward_wants_a_name_for_every_row(
    names: list[str], families: dict[str, Any]
) -> None:
    for family, inputs in (
        (families["mlp"], {"x": torch.randn(4, 10).double()}),
        (families["bert"], {"input_ids": torch.arange(6).repeat(4, 1)}),
    ):
        adapted = with_two_adapters(family, family.heads)
        with pytest.raises(ValueError, match=f"names {len(names)} rows, but the input has 4"):
            adapted(**inputs, adapter_names=names)
        adapted(**inputs, adapter_names=names * (4 // len(names)))


def test_beams_use_the_adapter_of_their_row(families: dict[str, Any]) -> None:
    adapted = with_two_adapters(families["llama"], [])
    ids = torch.tensor([[4, 7, 9], [4, 8, 11]])
    settings = {"num_beams": 3, "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    rows = adapted.generate(input_ids=ids, adapter_names=["second", "default"], **settings)
    for row, name in enumerate(("second", "default")):
        adapted.set_adapter(name)
        assert adapted.generate(input_ids=ids, **settings)[row].tolist() == rows[row].tolist()
