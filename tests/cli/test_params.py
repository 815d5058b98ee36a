from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Aurora, OwnData
from tiny_blip import tiny_config

SLICES = 216  # BLIP-base: vision 12 * (3 + 1 + 4 + 4), text 12 * 6
GATES = 4 * 12 * 768
HEADS = 2 * (768 * 256 + 256) + 2 * 768 + 2


@pytest.mark.parametrize("rank", [32, 64])
@pytest.mark.parametrize("core", ["cp", "tucker"])
def test_blip_base_equals_the_formula(aurora: Aurora, rank: int, core: str) -> None:
    outcome = aurora(
        "params", "demo-retrieval", "--json", "backbone=blip-base",
        f"adapter.rank={rank}", f"adapter.core={core}",
    )  # fmt: skip
    assert outcome.status == 0
    factors = rank * (768 + 768 + SLICES) + (rank if core == "cp" else rank**3)
    counted = outcome.json
    assert counted["parameters"]["factors"] == factors
    assert counted["parameters"]["gates"] == GATES
    assert counted["parameters"]["heads"] == HEADS
    assert counted["adapter_parameters"] == factors + GATES
    assert counted["trainable_parameters"] == factors + GATES + HEADS
    assert counted["total_parameters"] == 223_744_259 + factors + GATES
    assert sum(module["numbers"] for module in counted["modules"]) == factors + GATES + HEADS


@pytest.mark.parametrize(("rank", "published"), [(32, 125_696), (64, 411_136)])
def test_the_released_layout_has_the_released_counts(
    aurora: Aurora, rank: int, published: int
) -> None:
    outcome = aurora("params", "coco", f"adapter.rank={rank}", "--json")
    assert outcome.json["adapter_parameters"] == published


def test_the_paper_core_without_gates(aurora: Aurora) -> None:
    settings = ("adapter.core=cp", "adapter.rank=64", "adapter.gqt=off")
    outcome = aurora("params", "coco", "--json", *settings)
    assert outcome.json["adapter_parameters"] == 112_192


def test_blip_large_shares_factors_by_width(aurora: Aurora) -> None:
    outcome = aurora("params", "coco", "backbone=Salesforce/blip-itm-large-coco", "--json")
    names = {module["module"] for module in outcome.json["modules"]}
    assert {"aurora_U_1024", "aurora_V_1024", "aurora_U_768", "aurora_V_768"} <= names
    # 24 vision layers of 12 slices and 12 text layers of 6, keys and values 1024 to 768
    assert outcome.json["parameters"]["factors"] == 32 * (2 * 1024 + 2 * 768 + 288 + 72) + 32**3


def test_full_and_none(aurora: Aurora) -> None:
    full = aurora("params", "coco", "adapter.method=full", "--json").json
    assert full["trainable_parameters"] == full["total_parameters"] - 1  # the temperature
    none = aurora("params", "coco", "adapter.method=none", "--json").json
    assert (none["trainable_parameters"], none["modules"]) == (0, [])


def test_a_folder_needs_no_weights(aurora: Aurora, tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    outcome = aurora("params", "coco", f"backbone={tmp_path}", "image_size=16", "--json")
    assert outcome.status == 0
    assert outcome.json["total_parameters"] < 100_000


def test_the_table_shows_the_sums(aurora: Aurora) -> None:
    outcome = aurora("params", "coco")
    assert outcome.status == 0
    for number in ("24,576", "125,696", "395,266", "520,962", "223,869,955"):
        assert number in outcome.out


def test_an_architecture_has_no_weights(aurora: Aurora, own_data: OwnData) -> None:
    outcome = aurora("evaluate", own_data.recipe, "backbone=blip-base")
    assert outcome.status == 2
    assert "no weights" in outcome.err
