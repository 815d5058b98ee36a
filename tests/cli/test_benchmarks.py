"""Each benchmark through the command line: files of its layout, check, scores, tuning, scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import Aurora, Outcome

from aurora_vl.data.synthetic.writing import WorldFiles, WorldSpec, ensure_world

ANSWERING = {"accuracy"}
BASELINES = {"majority_answer", "majority_answer_to_the_question", "blind"}


def recalls(medium: str) -> set[str]:
    """The metrics that are published of retrieval, in both directions."""
    ways = (f"{medium}2t", f"t2{medium}")
    return {"r_mean", *(f"{w}_{m}" for w in ways for m in ("r1", "r5", "r10", "mdr", "mnr"))}


@dataclass(frozen=True)
class Benchmark:
    """A bundled recipe with what a run of it must give.

    Attributes:
        recipe: its name, which is `data.kind` and the layout's name.
        metrics: names in metrics.json.
        media: of train, val and the scored split, for eight, three and four written.
        note: part of a note about the split.
        settings: of the command line.
    """

    recipe: str
    metrics: set[str]
    media: tuple[int, int, int] = (8, 3, 4)
    note: str = ""
    settings: tuple[str, ...] = ()


BENCHMARKS = (
    Benchmark("coco", recalls("i")),
    Benchmark("flickr30k", recalls("i")),
    Benchmark("msrvtt", recalls("v"), (7, 1, 4), "MSRVTT 9k training list (8 videos), 1k-A test"),
    Benchmark("didemo", recalls("v")),
    # scored at home: val2014, which shows the world's test scenes
    Benchmark("vqav2", ANSWERING, (7, 1, 4), "so the validation file", ("data.train_on=train",)),
    Benchmark("msrvtt-qa", ANSWERING),
)


class Run:
    """Commands on a recipe, made to take seconds, over files that lie as a user's do."""

    def __init__(self, aurora: Aurora, recipe: str, folder: Path) -> None:
        self.aurora, self.recipe, self.output = aurora, recipe, folder / "run"
        spec = WorldSpec(layout=recipe, train=8, val=3, test=4)
        self.world: WorldFiles = ensure_world(folder / "files", spec)
        self.settings = (
            f"data.kind={recipe}",
            f"data.annotations={self.world.annotations}",
            f"data.media={self.world.media}",
            f"training.output={self.output}",
        )

    def __call__(self, command: str, *more: object) -> Outcome:
        outcome = self.aurora(command, self.recipe, "--smoke", *self.settings, *more)
        assert outcome.status == 0, outcome.err
        return outcome

    def read(self, name: str) -> Any:
        """A file that the run wrote."""
        return json.loads((self.output / name).read_text())


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.recipe)
def test_from_files_to_the_published_metric(
    aurora: Aurora, tmp_path: Path, benchmark: Benchmark
) -> None:
    run = Run(aurora, benchmark.recipe, tmp_path)
    report = run("check-data", "--full", "--json", *benchmark.settings).json
    assert report["ok"]
    assert report["decoded"] == sum(benchmark.media)
    assert tuple(split["media"] for split in report["splits"].values()) == benchmark.media
    assert set(report["overlap"].values()) == {0}
    before = run("evaluate", "--json", *benchmark.settings).json
    assert set(before["metrics"]) == benchmark.metrics
    assert before["trainable_parameters"] == 0
    run("train", *benchmark.settings)
    trained = run.read("metrics.json")
    assert set(trained["metrics"]) == benchmark.metrics
    assert trained["trainable_parameters"] > 0
    assert any(benchmark.note in note for note in ["", *trained["config"]["data_notes"]])
    adapter = run.output / "adapter"
    after = run("evaluate", "--adapter", adapter, "--json", *benchmark.settings).json
    assert after["metrics"] == trained["metrics"]
    if benchmark.metrics is ANSWERING:
        assert set(before["baselines"]) == set(after["baselines"]) == BASELINES
        assert len(after["by_question_type"]) > 3
        types = {"yes/no", "number", "other"} if benchmark.recipe == "vqav2" else set()
        assert set(after["by_answer_type"]) == types
        written = [row["question_id"] for row in run.read("results.json")]
        assert written == [row["question_id"] for row in run.read("predictions.json")]
        assert len(written) == len(set(written)) == report["splits"]["test"]["texts"]
    else:
        assert len(run.read("predictions.json")["text_to_media"]) == 4


@pytest.mark.parametrize("scored", ["test-dev", "test"])
def test_a_complete_file_for_the_vqa_server(aurora: Aurora, tmp_path: Path, scored: str) -> None:
    """As released: trained on train and val, the test questions answered, which have no score."""
    run = Run(aurora, "vqav2", tmp_path)
    outcome = run("evaluate", f"data.scored={scored}")
    assert f"{scored} has no answers" in outcome.out
    written = run.read("evaluation-zero-shot/results.json")
    name = f"v2_OpenEnded_mscoco_{scored}2015_questions.json"
    asked = json.loads((run.world.annotations / name).read_text())["questions"]
    assert [row["question_id"] for row in written] == [row["question_id"] for row in asked]
    assert all(set(row) == {"question_id", "answer"} for row in written)
    assert all(isinstance(row["answer"], str) for row in written)
    assert run.read("evaluation-zero-shot/metrics.json")["metrics"] == {}


def test_blips_layout_with_visual_genome(aurora: Aurora, tmp_path: Path) -> None:
    """As released, from BLIP's files: what the world writes officially, told in their way."""
    run = Run(aurora, "vqav2", tmp_path)
    folder, images = tmp_path / "blip", run.world.media

    def told(split: str, stem: str) -> list[dict[str, Any]]:
        name = f"v2_OpenEnded_mscoco_{stem}_questions.json"
        asked = json.loads((run.world.annotations / name).read_text())["questions"]
        return [
            {**row, "dataset": "vqa", "image": f"{split}/COCO_{split}_{row['image_id']:012d}.jpg"}
            for row in asked
        ]

    folder.mkdir()
    rows = {s: told(s, s) for s in ("train2014", "val2014", "test2015")}
    for name, split in (("train", "train2014"), ("val", "val2014"), ("test", "test2015")):
        answered = [{**row, "answer": ["red", "red", "blue"]} for row in rows[split]]
        content = rows[split] if name == "test" else answered
        (folder / f"vqa_{name}.json").write_text(json.dumps(content))
    genome = [
        {"dataset": "vg", "image": row["image"], "question": "why", "answer": "red"}
        for row in rows["train2014"][:5]
    ]
    (folder / "vg_qa.json").write_text(json.dumps(genome))
    (folder / "answer_list.json").write_text('["red", "blue"]')
    run.settings = (*run.settings, f"data.annotations={folder}", f"data.visual_genome={images}")
    report = run("check-data", "--json").json
    assert report["ok"]
    held_out = report["splits"]["val"]["texts"]
    trained_on = len(rows["train2014"]) + len(rows["val2014"]) - held_out + 5
    assert report["splits"]["train"]["texts"] == trained_on
    run("train")
    written = run.read("results.json")
    assert [row["question_id"] for row in written] == [r["question_id"] for r in rows["test2015"]]
    assert {row["answer"] for row in written} <= {"red", "blue"}
    # What was trained on is not scored afterwards, wherever the lists lie now.
    moved = folder.rename(tmp_path / "elsewhere")
    scored = (*run.settings, f"data.annotations={moved}", "data.train_on=train")
    adapter = run.output / "adapter"
    for more in ((), ("evaluation.split=val",)):
        refused = aurora("evaluate", "vqav2", "--smoke", *scored, *more, "--adapter", adapter)
        assert refused.status == 2
        assert "adapter was trained with data.train_on=train+val, so on questions" in refused.err


def test_scores_of_questions_are_printed_with_types_and_baselines(
    aurora: Aurora, tmp_path: Path
) -> None:
    run = Run(aurora, "vqav2", tmp_path)
    shown = run("evaluate", "data.train_on=train").out
    for words in ("Accuracy", "of yes/no", "of other", "baseline: blind", "majority answer"):
        assert words in shown


@pytest.mark.parametrize("recipe", ["didemo", "demo-video-qa"])
def test_smoke_needs_no_files(
    aurora: Aurora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = aurora("evaluate", recipe, "--smoke", "--json")
    assert (outcome.status, outcome.json["config"]["backbone"]) == (0, "mini")
    (annotations,) = tmp_path.glob("runs/worlds/*/annotations")
    written = {file.name for file in annotations.iterdir()}
    assert ("val_data.json" if recipe == "didemo" else "val_qa.json") in written
    assert (tmp_path / f"runs/{recipe}-smoke/evaluation-zero-shot/metrics.json").is_file()
