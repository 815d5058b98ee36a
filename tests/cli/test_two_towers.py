"""CLIP and SigLIP through the command line: train, evaluate, params, export; what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import Aurora, OwnData, write_own_data
from tiny_models import TWO_TOWERS, write_two_tower
from transformers import CLIPTextConfig, CLIPTextModel


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder by model type."""
    root = tmp_path_factory.mktemp("two-towers")
    return {kind: write_two_tower(kind, root / kind) for kind in TWO_TOWERS}


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_a_run_from_training_to_merged_weights(
    kind: str, aurora: Aurora, folders: dict[str, Path], tmp_path: Path
) -> None:
    data = write_own_data(tmp_path / "own", folders[kind])
    counted = aurora("params", data.recipe, "--json").json
    assert aurora("train", data.recipe).status == 0
    run = json.loads((data.output / "metrics.json").read_text())
    assert run["trainable_parameters"] == counted["trainable_parameters"]
    log = json.loads((data.output / "history.json").read_text())
    assert any("loss_itc" in entry for entry in log)
    assert not any("loss_itm" in entry for entry in log)
    adapter = data.output / "adapter"
    scored = aurora("evaluate", data.recipe, "--adapter", adapter, "--json").json
    assert scored["metrics"] == run["metrics"]
    assert aurora("export", adapter, tmp_path / "lora", "--to", "lora").status == 0
    assert aurora("export", adapter, tmp_path / "merged", "--to", "merged").status == 0
    merged = aurora(
        *("evaluate", data.recipe, f"backbone={tmp_path / 'merged'}", "--json"),
        *("--out", tmp_path / "scores"),
    ).json
    assert merged["metrics"] == run["metrics"]


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_texts_cut_by_the_models_own_positions_are_counted(
    kind: str, aurora: Aurora, folders: dict[str, Path], tmp_path: Path
) -> None:
    data = write_own_data(tmp_path / "own", folders[kind])
    captions = ["red " * 500, "a red box", "red " * 9]
    data.write("train", [{"image": "train0.png", "caption": captions}])

    def cut(*settings: str) -> int:
        report = aurora("check-data", data.recipe, "--json", *settings).json
        assert report["warnings"] == []
        found: int = report["splits"]["train"]["long_texts"]
        return found

    assert cut() == 1
    assert cut("data.max_tokens=8") == 2


def test_full_tuning_saves_what_prepares_pictures(
    aurora: Aurora, folders: dict[str, Path], tmp_path: Path
) -> None:
    data = write_own_data(tmp_path / "own", folders["siglip"])
    settings = ("adapter.method=full", "objective.train_temperature=true")
    assert aurora("train", data.recipe, *settings).status == 0
    run = json.loads((data.output / "metrics.json").read_text())
    assert run["trainable_parameters"] == run["total_parameters"]  # scale and bias too
    adapter = data.output / "adapter"
    outcome = aurora("evaluate", data.recipe, "--adapter", adapter, "--json")
    assert outcome.json["metrics"] == run["metrics"]


def test_videos_of_a_generated_world(
    aurora: Aurora, folders: dict[str, Path], tmp_path: Path
) -> None:
    outcome = aurora(
        *("train", "msrvtt", "--smoke", f"backbone={folders['clip']}"),
        *(f"training.output={tmp_path / 'run'}", f"data.annotations={tmp_path / 'world'}"),
        *("adapter.rank=4", "data.augmentation=none"),
    )
    assert outcome.status == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert "v2t_r1" in metrics


def refused(aurora: Aurora, data: OwnData, *settings: str) -> str:
    outcome = aurora("evaluate", data.recipe, *settings)
    assert outcome.status == 2
    assert len(outcome.err.strip().splitlines()) == 1
    return outcome.err


def test_questions_are_refused(aurora: Aurora, folders: dict[str, Path], tmp_path: Path) -> None:
    data = write_own_data(tmp_path / "own", folders["clip"])
    outcome = aurora("params", data.recipe, "task=vqa")
    assert outcome.status == 2
    assert "answers no questions" in outcome.err
    outcome = aurora("ask", data.folder / "test0.png", "what?", "--backbone", folders["siglip"])
    assert outcome.status == 2
    assert "answers no questions" in outcome.err


def test_another_picture_size_is_refused(
    aurora: Aurora, folders: dict[str, Path], tmp_path: Path
) -> None:
    data = write_own_data(tmp_path / "own", folders["clip"])
    assert "pictures of 32 pixels" in refused(aurora, data, "image_size=64")


def test_a_class_that_no_family_knows(aurora: Aurora, tmp_path: Path) -> None:
    config = CLIPTextConfig(
        vocab_size=10, hidden_size=8, intermediate_size=8, num_attention_heads=2, eos_token_id=3
    )
    CLIPTextModel(config).save_pretrained(tmp_path / "text")
    data = write_own_data(tmp_path / "own", tmp_path / "text")
    assert "'clip_text_model'; give one of type" in refused(aurora, data)


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("processor_config.json", "no preprocessor_config.json"),
        ("tokenizer.json", "the tokenizer and the preprocessing of"),
        ("model.safetensors", "the weights of"),
    ],
)
def test_a_file_that_is_missing(
    aurora: Aurora, folders: dict[str, Path], tmp_path: Path, file: str, told: str
) -> None:
    shutil.copytree(folders["clip"], tmp_path / "clip")
    (tmp_path / "clip" / file).unlink()
    data = write_own_data(tmp_path / "own", tmp_path / "clip")
    assert told in refused(aurora, data)


def test_weights_of_another_model(aurora: Aurora, folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["clip"], tmp_path / "clip")
    shutil.copy(folders["siglip"] / "model.safetensors", tmp_path / "clip")
    data = write_own_data(tmp_path / "own", tmp_path / "clip")
    assert "the weights of" in refused(aurora, data)
