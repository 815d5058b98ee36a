from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_blip import save_backbone

from aurora_vl.data.records import CaptionedMedia, QuestionRecord
from aurora_vl.demo.demonstration import curves, demonstrate
from aurora_vl.demo.shown_results import answer_examples, query_examples
from aurora_vl.errors import UserError


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    backbone = save_backbone(tmp_path_factory.mktemp("backbone") / "tiny")
    return [
        f"backbone={backbone}",
        *("data.world.train=16", "data.world.val=4", "data.world.test=9"),
        *("adapter.rank=4", "training.epochs=1", "training.batch_size=8", "evaluation.rerank=4"),
    ]


def test_a_demo_and_another_in_the_same_folder(tmp_path: Path, settings: list[str]) -> None:
    out = tmp_path / "my demo"
    first = demonstrate(out, seed=3, settings=settings)
    zero_shot = json.loads((out / "zero_shot.json").read_text())
    metrics = json.loads((out / "metrics.json").read_text())
    assert (zero_shot, metrics) == (first.before, first.after)
    assert set(zero_shot) == set(metrics)
    assert set(zero_shot["metrics"]) == set(metrics["metrics"])
    assert (zero_shot["trainable_parameters"], metrics["seed"]) == (0, 3)
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert (out / "world" / "annotations" / "coco_karpathy_test.json").is_file()
    page = first.report.read_text()
    assert f"{metrics['total_parameters']:,}" in page
    assert page.count("<article>") == 8
    assert page.count("<svg") == 2
    assert "--seed 3" in page
    assert str(tmp_path) not in page.replace(f"--out {out}", "")

    (out / "report.html").unlink()  # as if it had been killed before the end
    second = demonstrate(out, seed=4, settings=settings)
    assert (second.after["seed"], second.report.is_file()) == (4, True)
    assert second.after["config"]["data"]["world"]["seed"] == 4


def test_a_demo_of_videos(tmp_path: Path, settings: list[str]) -> None:
    smaller = ["data.frames=2", "data.world.train=8", "image_size=16"]
    found = demonstrate(tmp_path / "d", task="video-retrieval", settings=[*settings, *smaller])
    assert "t2v_r1" in found.after["metrics"]
    assert (tmp_path / "d/world/annotations/MSRVTT_data.json").is_file()
    page = found.report.read_text()
    assert "A frozen model learns a new kind of video" in page
    assert "right video: " in page
    assert page.count("<article>") == 8
    assert "pictures" not in page


@pytest.mark.parametrize("name", ["thesis.tex", "metrics.json"])
def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("years of work")
    with pytest.raises(UserError, match=f"holds {name}, which no demo made"):
        demonstrate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_demos_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".aurora-demo").touch()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="thesis"):
        demonstrate(tmp_path)
    assert (tmp_path / "adapter").is_dir()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(UserError, match="is a file"):
        demonstrate(tmp_path / "demo")


def test_queries_are_evenly_spaced_and_show_what_was_found() -> None:
    records = [
        CaptionedMedia(f"{n}.jpg", Path(f"/media/{n}.jpg"), "image", (f"first {n}", f"second {n}"))
        for n in range(16)
    ]
    names = [record.media_id for record in records]
    before = [names[:10]] * 32
    after = [[names[row // 2], *names[:9]] for row in range(32)]
    examples = query_examples(records, before, after)
    assert [example.text for example in examples] == [f"first {n}" for n in range(0, 16, 2)]
    assert [len(example.before) for example in examples] == [5] * 8
    assert [[hit.correct for hit in example.before].index(True) for example in examples[:3]] == [
        0,
        2,
        4,
    ]
    assert not any(hit.correct for hit in examples[3].before)
    assert all(example.after[0].correct for example in examples)
    assert examples[1].after[0].picture == Path("/media/2.jpg")


def test_few_captions_are_all_shown() -> None:
    record = CaptionedMedia("a.jpg", Path("a.jpg"), "image", ("one", "two"))
    examples = query_examples([record], [["a.jpg"]] * 2, [["a.jpg"]] * 2)
    assert [example.text for example in examples] == ["one", "two"]


def test_answers_are_shown_with_what_was_right() -> None:
    records = [
        QuestionRecord(n, "a.jpg", Path("a.jpg"), "image", f"question {n}", ("red", "red", "blue"))
        for n in range(16)
    ]
    found = answer_examples(records, ["green"] * 16, ["red", "Blue"] * 8)
    assert [example.question for example in found] == [f"question {n}" for n in range(0, 16, 2)]
    assert all((e.right, e.before.correct, e.after.correct) == ("red", False, True) for e in found)
    assert answer_examples(records[:2], ["", ""], ["x", "Blue"])[1].after.correct


def test_curves_of_a_log() -> None:
    history = [
        {"step": 1, "loss": 3.0, "learning_rate": 0.1},
        {"step": 1, "eval_r_mean": 40.0},
        {"step": 2, "loss": 2.0},
    ]
    lines = curves(history, {"loss": "Loss", "eval_r_mean": "Recall", "absent": "Nothing"})
    assert [(line.name, tuple(line.x), tuple(line.y)) for line in lines] == [
        ("Loss", (1, 2), (3.0, 2.0)),
        ("Recall", (1,), (40.0,)),
    ]


@pytest.mark.parametrize(("task", "thing"), [("vqa", "picture"), ("video-qa", "video")])
def test_a_demo_of_questions(tmp_path: Path, task: str, thing: str) -> None:
    world = ["data.world.train=8", "data.world.val=2", "data.world.test=3", "data.frames=2"]
    training = ["training.epochs=1", "training.batch_size=16", "training.validations=1"]
    found = demonstrate(tmp_path / "out", task=task, settings=[*world, *training])
    assert set(found.after["metrics"]) == set(found.before["metrics"]) == {"accuracy"}
    assert set(found.after["baselines"]) == {
        "majority_answer",
        "majority_answer_to_the_question",
        "blind",
    }
    page = found.report.read_text()
    assert page.count('<article class="asked">') == 8
    assert f"generated {thing}s" in page
    assert "Accuracy on validation data" in page
    assert "Recalls (R@K)" not in page
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["question_id"] for row in results] == [r["question_id"] for r in predictions]
    assert demonstrate(tmp_path / "out", task=task, settings=[*world, *training]).report.is_file()
