"""`aurora compare` through its runs, each a process of its own, on a data set of seconds."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from command_line import Aurora, OwnData, run_process, start_process

TINY = ("comparison.trials=1", "--seeds", 1)
BROKEN = "linear+learning_rate=1e+30"


class Page(HTMLParser):
    """What a report would load from elsewhere, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href") and "#" not in (v or "")]

    def handle_data(self, data: str) -> None:
        self.text += data


def results(out: Path) -> Any:
    return json.loads((out / "results.json").read_text())


def test_a_comparison_with_a_run_that_fails(
    aurora: Aurora, own_data: OwnData, tmp_path: Path
) -> None:
    """The failure is one sentence, the others' results are kept and not found again."""
    out = tmp_path / "out"
    words = ("compare", own_data.recipe, "--methods", f"none,linear,{BROKEN}", *TINY, "--out", out)
    outcome = aurora(*words)
    assert outcome.status == 1
    failed = [line for line in outcome.err.splitlines() if line.startswith("aurora: ")]
    assert len(failed) == 1
    assert failed[0].startswith(f"aurora: {BROKEN} with seed 1 failed: ")
    assert "finite" in failed[0]
    assert "Zero-shot" in outcome.out
    found = results(out)
    assert [row["name"] for row in found["rows"]] == ["none", "linear"]
    zero, linear = found["rows"]
    assert zero["parameters"]["own"] == linear["parameters"]["own"] == 0
    assert linear["parameters"]["heads"] > 0
    assert linear["adapter_bytes"] > 4 * linear["parameters"]["heads"]
    assert linear["learning_rate"] == 1e-3
    assert linear["peak_memory"] > 50 * 2**20
    assert [failure["run"] for failure in found["failures"]] == [f"{BROKEN} with seed 1"]
    names = {path.name for path in out.iterdir()} - {".lock"}
    pictures = {
        f"{n}.{e}"
        for n in ("score-by-size", "score-by-time", "score-by-memory", "curves")
        for e in ("svg", "png")
    }
    assert names == {"results.json", "table.md", "table.tex", "report.html", "runs", *pictures}
    page = Page(out / "report.html")
    assert page.loaded == []
    assert all(word in page.text for word in ("Zero-shot", "Heads only", "finite", BROKEN))
    kept = {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*/trial.json")}
    assert len(kept) == 2
    fewer = ("compare", own_data.recipe, "--methods", "linear", *TINY, "--out", out)
    assert aurora(*fewer).status == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert results(out)["rows"][0]["runs"] == linear["runs"]


def test_wrong_words_end_before_anything_runs(
    aurora: Aurora, own_data: OwnData, tmp_path: Path
) -> None:
    for methods, words in (
        ("aurora,lara", "'lara' is no method"),
        ("c3a+options={block_size: 5}", "adapter.method c3a does not fit the backbone"),
        ("uniadapter", "they must be equal"),
        ("", "--methods names no method"),
    ):
        outcome = aurora("compare", own_data.recipe, "--methods", methods, "--out", tmp_path / "o")
        assert outcome.status == 2
        assert words in outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_questions_without_answers_end_before_anything_runs(aurora: Aurora, tmp_path: Path) -> None:
    """As in the benchmark's own recipe, which trains on all answers that are public."""
    small = ("train=4", "val=3", "test=3", "questions=1")
    outcome = aurora(
        *("compare", "demo-vqa", "--methods", "none", *TINY, "--out", tmp_path / "out"),
        *(f"data.world.{setting}" for setting in small),
        "data.train_on=train+val",
    )
    assert outcome.status == 2
    assert outcome.err.strip().endswith(
        "the test-dev questions, which are to be scored, have no answers, so that there is nothing "
        "to compare; data.train_on=train has the validation questions scored."
    )
    assert not list((tmp_path / "out").glob("runs/*/recipe.yaml"))


@pytest.mark.parametrize(
    ("recipe", "methods", "primary", "items"),
    [
        ("demo-video-retrieval", "aurora", "r_mean", {"media_to_text": 3, "text_to_media": 3}),
        ("demo-vqa", "none,aurora", "accuracy", {"scores": 6}),
        ("demo-video-qa", "aurora", "accuracy", {"scores": 6}),
    ],
)
def test_other_tasks(
    aurora: Aurora, tmp_path: Path, recipe: str, methods: str, primary: str, items: dict[str, int]
) -> None:
    """Videos and questions; pictures and captions are in the other tests."""
    small = ("train=4", "val=3", "test=3", "captions=1", "questions=2")
    outcome = aurora(
        *("compare", recipe, "--methods", methods, *TINY, "--out", tmp_path / "out"),
        *(f"data.world.{setting}" for setting in small),
        *("training.epochs=1", "training.batch_size=4", "training.validations=1"),
        *("data.frames=1", "evaluation.rerank=2", "image_size=32"),
    )
    assert outcome.status == 0, outcome.err
    found = results(tmp_path / "out")
    assert found["primary"] == primary
    *others, tuned = found["rows"]
    assert ",".join(row["method"] for row in found["rows"]) == methods
    assert 0 <= tuned["score"]["mean"] <= 100
    assert tuned["training_media"] > 0
    assert found["reference"] == "aurora"
    assert all(row["against"]["row"] == "aurora" for row in others)
    for path in (tmp_path / "out" / "runs").glob("*/trial.json"):
        kept = json.loads(path.read_text())
        assert {side: len(values) for side, values in kept["items"].items()} == items
        media = [[0, 1, 2]] * 2 if primary == "r_mean" else [[0, 0, 1, 1, 2, 2]]
        assert list(kept["media"].values()) == media
        assert kept["chosen_on_scored"] is False
    guessed = {"majority_answer", "majority_answer_to_the_question", "blind"}
    asks = primary == "accuracy"
    assert all(set(row["baselines"]) == (guessed if asks else set()) for row in found["rows"])
    told = (tmp_path / "out" / "table.md").read_text()
    assert ("Baselines without a picture: " in told) == asks
    page = Page(tmp_path / "out" / "report.html")
    assert page.loaded == []


def test_killed_it_goes_on_with_what_is_kept_of_finished_runs(
    own_data: OwnData, tmp_path: Path
) -> None:
    """kill -9, then only trial.json is left of the finished run: it is not repeated."""
    out = tmp_path / "out"
    words = ("compare", own_data.recipe, "--methods", "none,linear", *TINY, "--out", out)
    first = kill_after_one_run(words, out)
    assert str(tmp_path) not in first.read_text()
    for path in first.parent.iterdir():
        if path.name not in (first.name, ".lock"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = first.stat().st_mtime_ns
    ended = run_process(*words, folder=tmp_path)
    assert ended.status == 0, ended.err
    assert "2 runs, kept in" in ended.err
    assert "1 of the runs for the result finished before; 1 left" in ended.err
    assert first.stat().st_mtime_ns == before
    assert {path.name for path in first.parent.iterdir()} == {first.name, ".lock"}
    found = results(out)
    assert [row["name"] for row in found["rows"]] == ["none", "linear"]
    assert found["rows"][1]["against"] is None
    again = run_process(*words, folder=tmp_path)
    assert "2 of the runs for the result finished before; 0 left" in again.err
    assert results(out) == found


def kill_after_one_run(words: Sequence[object], out: Path) -> Path:
    """Start, kill when the first run is finished; what is kept of that run."""
    process = start_process(*words, folder=out.parent)
    deadline = time.monotonic() + 300
    while not (done := list((out / "runs").glob("*/trial.json"))):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return done[0]


@pytest.mark.slow
def test_a_killed_comparison_goes_on(own_data: OwnData, tmp_path: Path) -> None:
    """kill -9 in the middle: what was finished stays as it is, the rest is done, once."""
    out = tmp_path / "out"
    words = ("compare", own_data.recipe, "--methods", "aurora,aurora+gqt=off,full", "--out", out)
    words += ("--seeds", 2, "comparison.trials=2", "comparison.parallel=2")
    kill_after_one_run(words, out)
    done = {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*/trial.json")}
    ended = run_process(*words, folder=tmp_path)
    assert ended.status == 0, ended.err
    assert {path: path.stat().st_mtime_ns for path in done} == done
    found = results(out)
    assert [len(row["runs"]) for row in found["rows"]] == [2, 2, 2]
    rates = {row["name"]: row["learning_rate"] for row in found["rows"]}
    assert rates["aurora"] == rates["aurora+gqt=off"]
    assert all(len(row["rates_tried"]) == 2 for row in found["rows"])
    assert len(list((out / "runs").glob("*/trial.json"))) == 2 * 2 + 3 * 2
    assert not list((out / "runs").glob("*/run/checkpoints"))
    kept = [json.loads(path.read_text()) for path in (out / "runs").glob("*/trial.json")]
    assert sorted(run["scored_split"] for run in kept) == ["test"] * 6 + ["val"] * 4
    against = {row["name"]: row["against"] for row in found["rows"]}
    assert against["aurora"] is None
    assert against["full"]["row"] == "aurora"
    assert against["full"]["low"] <= against["full"]["mean"] <= against["full"]["high"]
