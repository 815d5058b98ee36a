"""Whatever a user can get wrong is one sentence that names it, and exit status 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Aurora, Outcome, OwnData

from aurora_vl.training import run
from benchmarks import jobs


def assert_sentence(outcome: Outcome, *named: str) -> None:
    assert outcome.status == 2, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("aurora: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    for name in named:
        assert name in outcome.err


@pytest.mark.parametrize("command", ["train", "evaluate", "params", "check-data"])
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("adapter.rnk=4", ("adapter.rnk", "rank")),
        ("no_such_key=1", ("no_such_key", "backbone")),
        ("adapter.rank=many", ("adapter.rank", "many")),
        ("training.epochs=0", ("training.epochs",)),
        ("training.learning_rate=fast", ("training.learning_rate",)),
        ("evaluation.score=itc", ("evaluation.score", "itm+itc")),
        ("adapter.rank", ("adapter.rank", "key=value")),
        ("adapter.rank.x=1", ("adapter.rank.x",)),
        ("task=cooking", ("task", "retrieval")),
    ],
)
def test_wrong_settings(
    aurora: Aurora, own_data: OwnData, command: str, setting: str, named: tuple[str, ...]
) -> None:
    assert_sentence(aurora(command, own_data.recipe, setting), *named)


@pytest.mark.parametrize("command", ["train", "evaluate", "params", "check-data"])
@pytest.mark.parametrize("name", ["no-such-recipe", "no-such-file.yaml"])
def test_unknown_recipe(aurora: Aurora, command: str, name: str) -> None:
    assert_sentence(aurora(command, name), name)


@pytest.mark.parametrize("text", ["a: [", "- a", "", "just words", "\x00"])
def test_a_file_that_is_no_recipe(aurora: Aurora, tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert_sentence(aurora("train", file), "bad.yaml")


def test_a_recipe_without_data(aurora: Aurora, tmp_path: Path) -> None:
    file = tmp_path / "short.yaml"
    file.write_text("task: retrieval\n")
    assert_sentence(aurora("train", file), "data")
    file.write_text("data: {kind: coco}\n")
    assert_sentence(aurora("train", file), "annotations", "media")


def _absent_media(data: OwnData) -> tuple[str, ...]:
    (data.folder / "test2.png").unlink()
    return ("test2.png", "listed media are absent")


def _empty_picture(data: OwnData) -> tuple[str, ...]:
    (data.folder / "test0.png").write_bytes(b"")
    return ("test0.png", "empty")


def _truncated_picture(data: OwnData) -> tuple[str, ...]:
    for split in ("train", "test"):
        file = data.folder / f"{split}1.png"
        file.write_bytes(file.read_bytes()[:50])
    return ("1.png", "damaged")


def _no_picture(data: OwnData) -> tuple[str, ...]:
    (data.folder / "test2.png").write_text("<html>")
    (data.folder / "train2.png").write_text("<html>")
    return ("2.png", "not a picture")


def _empty_captions(data: OwnData) -> tuple[str, ...]:
    data.write("test", [{"image": "test0.png", "caption": []}])
    return ("test.jsonl line 1", "caption")


def _caption_of_wrong_type(data: OwnData) -> tuple[str, ...]:
    data.write("test", [{"image": "test0.png", "caption": 7}])
    return ("test.jsonl line 1", "caption", "number")


def _empty_split(data: OwnData) -> tuple[str, ...]:
    data.write("test", [])
    return ("test", "empty")


def _no_training_file(data: OwnData) -> tuple[str, ...]:
    (data.folder / "train.jsonl").unlink()
    return ("train.jsonl",)


FAULTS: list[Callable[[OwnData], tuple[str, ...]]] = [
    _absent_media,
    _empty_picture,
    _truncated_picture,
    _no_picture,
    _empty_captions,
    _caption_of_wrong_type,
    _empty_split,
    _no_training_file,
]


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_faulty_data(
    aurora: Aurora, own_data: OwnData, command: str, fault: Callable[[OwnData], tuple[str, ...]]
) -> None:
    named = fault(own_data)
    assert_sentence(aurora(command, own_data.recipe), *named)


@pytest.mark.parametrize("key", ["data.annotations", "data.media"])
def test_a_missing_folder(aurora: Aurora, own_data: OwnData, key: str) -> None:
    outcome = aurora("train", own_data.recipe, f"{key}={own_data.folder / 'nowhere'}")
    assert_sentence(outcome, key, "nowhere")


def test_a_missing_backbone(aurora: Aurora, own_data: OwnData) -> None:
    outcome = aurora("train", own_data.recipe, f"backbone={own_data.folder / 'nowhere'}")
    assert_sentence(outcome, "nowhere")


def test_an_output_that_is_a_file(aurora: Aurora, own_data: OwnData) -> None:
    outcome = aurora("train", own_data.recipe, f"training.output={own_data.recipe}")
    assert_sentence(outcome, "recipe.yaml")


def test_an_evaluation_is_not_written_over_a_run(aurora: Aurora, own_data: OwnData) -> None:
    assert aurora("train", own_data.recipe).status == 0
    outcome = aurora("evaluate", own_data.recipe, "--out", own_data.output)
    assert_sentence(outcome, str(own_data.output), "--out")


@pytest.mark.parametrize("blocked", ["metrics", "metrics/deeper"])
def test_an_evaluation_that_cannot_be_written_is_not_begun(
    aurora: Aurora, own_data: OwnData, monkeypatch: pytest.MonkeyPatch, blocked: str
) -> None:
    def score(*args: object) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr(run, "_score", score)
    (own_data.folder / "metrics").write_text("mine")
    out = own_data.folder / blocked
    assert_sentence(aurora("evaluate", own_data.recipe, "--out", out), str(out), "another --out")
    assert (own_data.folder / "metrics").read_text() == "mine"


@pytest.mark.parametrize("file", ["", "nowhere/rows.json", "/proc/rows.json", "/dev/null"])
def test_a_benchmark_that_cannot_be_written_is_not_begun(
    aurora: Aurora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def measure(*args: object, **given: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(jobs, "run_jobs", measure)
    outcome = aurora("bench", "data", "--json", tmp_path / file)
    assert_sentence(outcome, "--json", str((tmp_path / file).parent))
    assert not any(tmp_path.iterdir())


def test_training_nothing(aurora: Aurora, own_data: OwnData) -> None:
    assert_sentence(aurora("train", own_data.recipe, "adapter.method=none"), "adapter.method")


@pytest.mark.parametrize("command", ["train", "evaluate", "check-data", "compare"])
@pytest.mark.parametrize("name", ["nowhere.json", "object.json"])
def test_a_wrong_answer_list_is_noticed_before_anything_is_done(
    aurora: Aurora, own_data: OwnData, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    (own_data.folder / "object.json").write_text('{"answers": ["red"]}')
    for split in ("train", "val", "test"):
        line = {"image": f"{split}0.png", "question": "what color", "answer": "red"}
        own_data.write(split, [line])
    monkeypatch.setattr(run, "build_model", None)
    monkeypatch.setattr(run, "load_trained", None)
    listed = own_data.folder / name
    settings = ["task=vqa", f"evaluation.answer_list={listed}"]
    if command == "compare":
        settings = ["--methods", "aurora", "--out", own_data.folder / "out", *settings]
    outcome = aurora(command, own_data.recipe, *settings)
    assert_sentence(outcome, str(listed), "check evaluation.answer_list")


def test_unknown_adapters(aurora: Aurora, own_data: OwnData, backbone: Path) -> None:
    nowhere = own_data.folder / "nowhere"
    assert_sentence(aurora("evaluate", own_data.recipe, "--adapter", nowhere), "nowhere")
    assert_sentence(
        aurora("evaluate", own_data.recipe, "--adapter", own_data.folder), "adapter_config.json"
    )


def test_a_damaged_adapter(aurora: Aurora, own_data: OwnData) -> None:
    assert aurora("train", own_data.recipe).status == 0
    adapter = own_data.output / "adapter"
    weights = adapter / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    assert_sentence(aurora("evaluate", own_data.recipe, "--adapter", adapter), "adapter")
    weights.write_bytes(whole)
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text()[:-20])
    assert_sentence(aurora("evaluate", own_data.recipe, "--adapter", adapter), "adapter")


def test_an_adapter_for_another_backbone(
    aurora: Aurora, own_data: OwnData, wider_backbone: Path
) -> None:
    assert aurora("train", own_data.recipe).status == 0
    adapter = own_data.output / "adapter"
    outcome = aurora(
        "evaluate", own_data.recipe, "--adapter", adapter, f"backbone={wider_backbone}"
    )
    assert_sentence(outcome, "does not fit", wider_backbone.name)


def test_a_caption_may_be_long_and_strange(aurora: Aurora, own_data: OwnData) -> None:
    caption = "red " * 200 + "".join(map(chr, range(0x1F600, 0x1F640)))
    entries = [{"image": f"test{i}.png", "caption": [caption, f"a {i}"]} for i in range(3)]
    own_data.write("test", entries)
    outcome = aurora("evaluate", own_data.recipe, "--json")
    assert outcome.status == 0
    assert json.dumps(outcome.json)
