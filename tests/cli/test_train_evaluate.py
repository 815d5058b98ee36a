from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Aurora, OwnData

METRICS = {
    *("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10", "r_mean"),
    *("i2t_mdr", "t2i_mdr", "i2t_mnr", "t2i_mnr"),
}


def test_train_writes_the_run_and_prints_a_table(aurora: Aurora, own_data: OwnData) -> None:
    outcome = aurora("train", own_data.recipe)
    assert outcome.status == 0
    assert "Mean of the six recalls" in outcome.out
    written = {path.name for path in own_data.output.iterdir()}
    assert {"adapter", "metrics.json", "recipe.yaml", "checkpoints", "logs"} <= written
    content = json.loads((own_data.output / "metrics.json").read_text())
    assert {"config", "total_parameters", "seconds", "seed", "versions"} <= set(content)
    assert set(content["metrics"]) == METRICS
    files = {path.name for path in (own_data.output / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    size = (own_data.output / "adapter" / "adapter_model.safetensors").stat().st_size
    assert (
        4 * content["trainable_parameters"] <= size < 4 * content["trainable_parameters"] + 20_000
    )


def test_training_says_how_many_texts_are_cut(
    aurora: Aurora, own_data: OwnData, caplog: pytest.LogCaptureFixture
) -> None:
    long = "a red box " * 4  # 12 words, so 14 tokens
    own_data.write("train", [{"image": f"train{n}.png", "caption": long} for n in range(3)])
    cut = aurora("train", own_data.recipe, "data.max_tokens=13")
    assert cut.status == 0
    assert (
        "3 training captions are longer than what is kept of them "
        "(data.max_words: 30, data.max_tokens: 13)"
    ) in caplog.messages
    caplog.clear()
    whole = aurora("train", own_data.recipe, f"training.output={own_data.folder / 'other'}")
    assert whole.status == 0
    assert not any("longer" in text for text in caplog.messages)


def test_an_existing_run_is_refused_then_resumed_without_change(
    aurora: Aurora, own_data: OwnData
) -> None:
    assert aurora("train", own_data.recipe).status == 0
    before = {path: path.stat().st_mtime_ns for path in own_data.output.rglob("*")}
    refused = aurora("train", own_data.recipe)
    assert refused.status == 2
    assert "--resume" in refused.err
    resumed = aurora("train", own_data.recipe, "--resume")
    assert resumed.status == 0
    assert {path: path.stat().st_mtime_ns for path in own_data.output.rglob("*")} == before
    changed = aurora("train", own_data.recipe, "--resume", "adapter.rank=8")
    assert changed.status == 2
    assert "adapter.rank" in changed.err


def test_resume_without_a_run_starts_one(aurora: Aurora, own_data: OwnData) -> None:
    assert aurora("train", own_data.recipe, "--resume").status == 0
    assert (own_data.output / "metrics.json").is_file()


def test_zero_shot_before_training(aurora: Aurora, own_data: OwnData) -> None:
    outcome = aurora("evaluate", own_data.recipe, "--json")
    assert outcome.status == 0
    written = own_data.output / "evaluation-zero-shot" / "metrics.json"
    assert outcome.json == json.loads(written.read_text())
    assert outcome.json["trainable_parameters"] == 0
    assert set(outcome.json["metrics"]) == METRICS
    assert (written.parent / "predictions.json").is_file()
    assert aurora("train", own_data.recipe).status == 0


def test_evaluating_the_adapter_gives_the_runs_metrics(
    aurora: Aurora, own_data: OwnData, tmp_path: Path
) -> None:
    assert aurora("train", own_data.recipe).status == 0
    run = json.loads((own_data.output / "metrics.json").read_text())
    adapter = own_data.output / "adapter"
    outcome = aurora("evaluate", own_data.recipe, "--adapter", adapter, "--json")
    assert outcome.status == 0
    assert outcome.json["metrics"] == run["metrics"]
    assert outcome.json["trainable_parameters"] == run["trainable_parameters"]
    assert outcome.json["total_parameters"] == run["total_parameters"]
    assert (own_data.output / "evaluation-adapter" / "metrics.json").is_file()
    elsewhere = aurora("evaluate", own_data.recipe, "--adapter", adapter, "--out", tmp_path / "e")
    assert elsewhere.status == 0
    assert "Mean of the six recalls" in elsewhere.out
    assert (tmp_path / "e" / "metrics.json").is_file()
    assert json.loads((own_data.output / "metrics.json").read_text()) == run


def test_paths_of_options_in_the_home_folder(
    aurora: Aurora, own_data: OwnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells leave the ~ of --out=~/scores as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    adapter = "--adapter=~/nowhere"
    outcome = aurora("evaluate", own_data.recipe, "--out=~/scores")
    assert outcome.status == 0
    assert (tmp_path / "scores" / "metrics.json").is_file()
    outcome = aurora("evaluate", own_data.recipe, adapter)
    assert f"the adapter folder {tmp_path / 'nowhere'} does not exist" in outcome.err


def test_full_tuning_is_named_by_the_recipe(aurora: Aurora, own_data: OwnData) -> None:
    assert aurora("train", own_data.recipe, "adapter.method=full").status == 0
    run = json.loads((own_data.output / "metrics.json").read_text())
    assert run["trainable_parameters"] == run["total_parameters"] - 1  # the temperature
    adapter = own_data.output / "adapter"
    outcome = aurora("evaluate", own_data.recipe, "--adapter", adapter, "--json")
    assert outcome.json["metrics"] == run["metrics"]
