"""Query gates as tuner layers on a backbone's slots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import Tensor, nn

from aurora_vl import AuroraConfig
from aurora_vl.tuner import AuroraQueryGate, QuerySlot, functional
from aurora_vl.tuner.gqt import GATE_NAMES


def gates_of(model: nn.Module) -> list[AuroraQueryGate]:
    return [module for module in model.modules() if isinstance(module, AuroraQueryGate)]


def states(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    f, s, c = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    return f, s, c


@pytest.fixture
def blip(families: dict[str, Any]) -> Any:
    return families["blip"]


def test_every_slot_gets_a_gate_unless_off(family: Any) -> None:
    for gqt, expected in (("released", len(family.slots)), ("off", 0)):
        adapted = get_peft_model(family.build(), family.config(gqt=gqt))
        assert len(gates_of(adapted)) == expected


def test_a_slot_is_never_a_target_by_name(blip: Any) -> None:
    off = get_peft_model(
        blip.build(), blip.config(target_modules=r".*(query|query_slot)", gqt="off")
    )
    assert not gates_of(off)
    on = get_peft_model(blip.build(), blip.config(target_modules=["qkv"]))
    assert len(gates_of(on)) == 2
    without = get_peft_model(
        blip.build(), blip.config(exclude_modules=["text_encoder.encoder.layer.0.query_slot"])
    )
    assert len(gates_of(without)) == 1


_ALL = ["qkv", "projection", "fc1", "fc2", "query", "key", "value"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"target_modules": ["qkvv"]}, "qkvv"),
        ({"target_modules": r".*\.qkvv"}, r".*\.qkvv"),
        ({"exclude_modules": _ALL}, "all of them excluded"),
        ({"exclude_modules": ".*(?<!query_slot)", "target_modules": "all-linear"}, "all-linear"),
    ],
)
def test_gates_alone_are_no_answer_to_targets_that_are_not_there(
    blip: Any, changes: dict[str, Any], named: str
) -> None:
    model = blip.build()
    names = list(model.state_dict())
    with pytest.raises(ValueError, match="not found in the base model") as caught:
        get_peft_model(model, AuroraConfig(r=4, **changes))
    assert named in str(caught.value)
    assert list(model.state_dict()) == names
    assert not gates_of(model)
    adapted = blip.changed(model)
    expected = blip.call(adapted)
    with pytest.raises(ValueError, match="not found in the base model"):
        adapted.add_adapter("second", AuroraConfig(r=4, modules_to_save=["itm_head"], **changes))
    assert list(adapted.peft_config) == ["default"]
    assert torch.equal(blip.call(adapted), expected)


def test_no_targets_are_an_adapter_of_gates_alone(blip: Any, tmp_path: Path) -> None:
    adapted = blip.changed(target_modules=[])
    expected = blip.call(adapted)
    assert {n.split(".")[-2] for n, p in adapted.named_parameters() if p.requires_grad} == set(
        GATE_NAMES["released"]
    )
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    assert torch.equal(blip.call(PeftModel.from_pretrained(blip.build(), str(tmp_path))), expected)


def test_pefts_own_sign_for_no_targets_adds_nothing(blip: Any) -> None:
    adapted = get_peft_model(blip.build(), blip.config(target_modules=DUMMY_TARGET_MODULES))
    assert not gates_of(adapted)
    assert torch.equal(blip.call(adapted), blip.call(blip.build()))


def test_unloading_puts_the_slots_back(blip: Any) -> None:
    model = blip.build()
    plain = blip.changed(model).unload()
    assert sum(isinstance(module, QuerySlot) for module in plain.modules()) == 2
    assert not gates_of(plain)
    assert torch.equal(blip.call(plain), blip.call(blip.build()))


@pytest.mark.parametrize("gqt", ["released", "gated"])
def test_the_gate_computes_its_formula(blip: Any, gqt: str) -> None:
    gate = gates_of(blip.changed(gqt=gqt))[0]
    vectors = {name: getattr(gate, name) for name in gate.own_names}
    used = [entry["default"] for entry in vectors.values() if "default" in entry]
    f, s, c = states(2, 5, 16)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    for causal in (False, True):
        if gqt == "released":
            expected = functional.query_shift(f, s, c, *used)
        else:
            expected = functional.query_gate(f, s, *used, mask, causal)
        assert torch.equal(gate(f, s, c, mask, causal), expected)


def test_starts(blip: Any) -> None:
    def vectors(**changes: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        adapted = get_peft_model(blip.build(), blip.config(**changes))
        gate = gates_of(adapted)[0]
        return {
            name.removeprefix("aurora_gate_"): getattr(gate, name)["default"].detach()
            for name in gate.own_names
            if "default" in getattr(gate, name)
        }

    assert all((vector == 0).all() for vector in vectors().values())
    normal = torch.cat(list(vectors(gqt_start="normal").values()))
    assert 1e-4 < normal.std() < 3e-4
    gated = vectors(gqt="gated", gqt_start="normal")
    assert set(gated) == {"self_scale", "self_shift"}
    assert (gated["self_scale"] == 1).all()
    assert (gated["self_shift"] == 0).all()


def test_gated_is_not_the_identity_at_its_start(blip: Any) -> None:
    model = blip.build()
    frozen = blip.call(model)
    assert not torch.allclose(blip.call(get_peft_model(model, blip.config(gqt="gated"))), frozen)


def test_later_tokens_change_nothing_in_the_decoder(families: dict[str, Any]) -> None:
    family = families["blip-vqa"]
    model = family.changed(gqt="gated").get_base_model()
    ids = torch.tensor([[4, 7, 3]])
    pixels = torch.randn(1, 3, 16, 16).double()
    answers = torch.tensor([[48, 5, 6, 7]])
    other = torch.tensor([[48, 5, 9, 2]])
    one, two = (model(pixels, ids, None, answer)[:, :2] for answer in (answers, other))
    torch.testing.assert_close(one, two)


def test_padding_changes_nothing(blip: Any) -> None:
    for gqt in ("released", "gated"):
        model = blip.changed(gqt=gqt).get_base_model()
        states_, _ = model.encode_image(torch.randn(1, 3, 16, 16).double())
        cross = model.cross_keys(states_)
        short = model.match(torch.tensor([[4, 7, 3]]), torch.ones(1, 3).long(), cross)
        ids, mask = torch.tensor([[4, 7, 3, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]])
        torch.testing.assert_close(model.match(ids, mask, cross), short)


def test_merging_away_gates_is_refused(blip: Any) -> None:
    adapted = blip.changed()
    expected = blip.call(adapted)
    with pytest.raises(ValueError, match=r"default has query gates.*merge_adapter.*gqt='off'"):
        adapted.merge_and_unload()
    assert torch.equal(blip.call(adapted), expected)
    adapted.add_adapter("plain", blip.config(gqt="off", init_weights=False))
    adapted.eval().set_adapter("plain")
    plain = blip.call(adapted)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(blip.call(merged), plain)
    assert not gates_of(merged)


def test_merged_adapters_keep_their_own_gates(blip: Any) -> None:
    adapted = blip.changed()
    adapted.add_adapter("second", blip.config(init_weights=False))
    adapted.eval().set_adapter("second")
    second = blip.call(adapted)
    adapted.set_adapter("default")
    adapted.merge_adapter(["second"])
    torch.testing.assert_close(blip.call(adapted), second)
    with pytest.raises(ValueError, match="second has query gates"):
        adapted.merge_and_unload()


def test_gates_of_what_is_not_merged_are_out_of_force(blip: Any) -> None:
    adapted = blip.changed()
    default = blip.call(adapted)
    adapted.add_adapter("plain", blip.config(gqt="off", init_weights=False))
    adapted.eval().set_adapter("plain")
    plain = blip.call(adapted)
    adapted.set_adapter("default")
    adapted.merge_adapter(["plain"])
    torch.testing.assert_close(blip.call(adapted), plain)
    assert adapted.get_model_status().merged_adapters == ["plain"]
    adapted.unmerge_adapter()
    torch.testing.assert_close(blip.call(adapted), default)


def test_released_and_gated_side_by_side(blip: Any) -> None:
    adapted = blip.changed(gqt="gated")
    gated = blip.call(adapted)
    adapted.add_adapter("shift", blip.config(gqt="released", init_weights=False))
    adapted.eval().set_adapter("shift")
    shifted = blip.call(adapted)
    with adapted.adapter_rows(["default", "shift", "default"]):
        rows = blip.call(adapted)
    for row, expected in enumerate((gated, shifted, gated)):
        torch.testing.assert_close(rows[row], expected[row])


def test_video_rows_serve_all_their_frames(blip: Any) -> None:
    adapted = blip.changed()
    adapted.add_adapter("second", blip.config(init_weights=False))
    adapted.eval()
    videos = torch.randn(2, 3, 3, 16, 16).double()
    model = adapted.get_base_model()
    with adapted.adapter_rows(["default", "second"]):
        _, rows = model.encode_image(videos)
    for row, name in enumerate(("default", "second")):
        adapted.set_adapter(name)
        torch.testing.assert_close(rows[row], model.encode_image(videos)[1][row])


def test_gates_cannot_become_a_lora(blip: Any) -> None:
    assert not blip.changed().base_model.supports_lora_conversion()
    assert blip.changed(gqt="off").base_model.supports_lora_conversion()


def test_row_adapters_in_beam_search(families: dict[str, Any]) -> None:
    family = families["blip-vqa"]
    adapted = family.changed(gqt="released")
    adapted.add_adapter("second", family.config(init_weights=False))
    adapted.eval()
    pixels, ids = torch.randn(2, 3, 16, 16).double(), torch.tensor([[4, 7, 3], [4, 9, 3]])

    def answers() -> list[list[int]]:
        found = adapted.generate(
            pixel_values=pixels, question_ids=ids, num_beams=2, max_new_tokens=4
        )
        return [[token for token in row if token] for row in found.tolist()]

    with adapted.base_model.adapter_rows(["default", "second"]):
        rows = answers()
    for row, name in enumerate(("default", "second")):
        adapted.set_adapter(name)
        assert answers()[row] == rows[row]
