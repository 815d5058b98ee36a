"""What AuroraConfig accepts and refuses, and what it writes."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import peft
import pytest
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from aurora_vl import AuroraConfig
from aurora_vl.tuner import AuroraModel, register
from aurora_vl.tuner.config import AuroraSwitches


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "`r` must be a positive whole number, but is 0"),
        ({"r": 2.5}, "`r` must be a positive whole number, but is 2.5"),
        ({"core": "cpd"}, "`core` must be one of cp, tucker, but is 'cpd'"),
        ({"mlp_core": "interleaved"}, "needs `core='tucker'`"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and below 1, but is 1.0"),
        ({"dropout": -0.1}, "but is -0.1"),
        ({"dropout_at": "input"}, "`dropout_at` must be one of rank, released"),
        ({"listed_widths": [768, 0]}, "`listed_widths` must hold positive whole numbers"),
        ({"gqt": "on"}, "`gqt` must be one of released, gated, off, but is 'on'"),
        ({"gqt_start": "ones"}, "`gqt_start` must be one of zero, normal"),
        ({"init": "xavier"}, "`init` must be one of ours, released"),
        ({"bias": "lora_only"}, "`bias` must be one of none, all, aurora_only"),
        ({"target_modules": ".*", "layers_to_transform": [0]}, "regular expression '.*'"),
        ({"layers_pattern": "layer"}, "`layers_pattern` is given without"),
        ({"listed_widths": 768}, "`listed_widths` must hold positive whole numbers, but is 768"),
        ({"listed_widths": [True]}, "`listed_widths` must hold positive whole numbers"),
        ({"dropout": "0.1"}, "`dropout` must be at least 0 and below 1, but is '0.1'"),
        ({"dropout": float("nan")}, "`dropout` must be at least 0 and below 1, but is nan"),
        ({"scaling": float("nan")}, "`scaling` must be a finite number, but is nan"),
        ({"scaling": float("inf")}, "`scaling` must be a finite number, but is inf"),
        ({"scaling": "2"}, "`scaling` must be a finite number, but is '2'"),
        ({"mlp_modules": [1]}, "`mlp_modules` must be a list of names, but is [1]"),
        ({"modules_to_save": 3}, "`modules_to_save` must be a list of names, but is 3"),
    ],
)
def test_refusals_name_the_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        AuroraConfig(**changes)


def test_a_bare_name_is_a_list_of_one() -> None:
    config = AuroraConfig(mlp_modules="fc1", modules_to_save="head")
    assert (config.mlp_modules, config.modules_to_save) == (["fc1"], ["head"])


def test_every_own_field_is_explained() -> None:
    inherited = {entry.name for entry in fields(PeftConfig)}
    for entry in fields(AuroraConfig):
        if entry.name not in inherited:
            assert entry.metadata.get("help"), entry.name
            shown_by = AuroraSwitches if entry in fields(AuroraSwitches) else AuroraConfig
            assert f"{entry.name}:" in (shown_by.__doc__ or ""), entry.name


def test_goes_through_its_file(tmp_path: Path) -> None:
    config = AuroraConfig(
        r=8, core="tucker", mlp_core="interleaved", target_modules=["fc1"], listed_widths=[3, 5]
    )
    config.save_pretrained(str(tmp_path))
    written = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert written["peft_type"] == "AURORA"
    assert written["listed_widths"] == [5, 3]
    read = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(read, AuroraConfig)
    assert read.target_modules == {"fc1"}
    assert read.to_dict() == config.to_dict()


def test_registering_again_changes_nothing() -> None:
    before = dict(PEFT_TYPE_TO_CONFIG_MAPPING)
    register()
    assert before == PEFT_TYPE_TO_CONFIG_MAPPING
    assert peft.PEFT_TYPE_TO_TUNER_MAPPING["AURORA"] is AuroraModel


def test_a_taken_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEFT_TYPE_TO_CONFIG_MAPPING, "AURORA", PeftConfig)
    with pytest.raises(RuntimeError, match="already taken"):
        register()
