"""From kept runs to results.json, on runs written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aurora_vl.comparison.method_rows import parse_rows
from aurora_vl.comparison.records import ResultRow, Results
from aurora_vl.comparison.results import gather_results
from aurora_vl.comparison.study import Findings, make_study
from aurora_vl.comparison.trials import Runs
from aurora_vl.errors import UserError
from aurora_vl.methods.parameter_count import ParameterCount
from aurora_vl.training.parameter_report import ParameterReport


def count(own: int, heads: int) -> ParameterCount:
    return ParameterCount(factors=own, gates=0, heads=heads, backbone=0, total=2_000_000)


def kept(score: float, *, torch: str = "2.13.0", items: int = 2) -> dict[str, Any]:
    """A run that found `score` % of its captions first, and the same of its pictures."""
    found = round(items * score / 100)
    ranks = [1] * found + [100] * (items - found)
    return {
        "name": "a run",
        "metrics": {"r_mean": score, "accuracy": score},
        "baselines": {},
        "versions": {"aurora-vl": "0.1.0", "torch": torch},
        "scored_split": "test",
        "training_media": 1500,
        "queries": "same",
        "items": {"media_to_text": ranks, "text_to_media": ranks},
        "media": {"media_to_text": [*range(items)], "text_to_media": [*range(items)]},
        "chosen_on_scored": False,
        "curve": {"step": [], "score": []},
        "adapter_bytes": 1000,
        "machine": "x86_64, 2 cores",
        "seconds": 100.0,
        "peak_memory": None,
        "interrupted": False,
        "beside": 0,
    }


def findings(
    folder: Path, recipe: str, rows: dict[str, tuple[int, int]], runs: dict[str, dict[str, Any]]
) -> Findings:
    """Rows with numbers of their own and of heads, one seed each, their runs kept in a folder."""
    study = make_study(recipe, parse_rows(",".join(rows)), seeds=1, out=folder)
    made = Findings(
        study,
        {row.name: ParameterReport(study.base, count(*rows[row.name]), ()) for row in study.rows},
    )
    for row in study.rows:
        trial = study.runs.trial(row.name, study.recipe(row, final=True, seed=1))
        trial.folder.mkdir(parents=True)
        told = {"told": trial.told, **runs[row.name]}
        (trial.folder / "trial.json").write_text(json.dumps(told))
        made.trials[row.name] = [trial]
    return made


def by_name(results: Results) -> dict[str, ResultRow]:
    return {row.name: row for row in results.rows}


def test_the_front_is_what_nothing_as_small_beats(tmp_path: Path) -> None:
    rows = {
        "linear": (0, 16_770),
        "bitfit": (5_000, 16_770),
        "ia3": (9_000, 16_770),
        "aurora": (12_000, 16_770),
        "lora": (50_000, 16_770),
        "aurora+data.limit=9": (12_000, 16_770),
    }
    scores = {"linear": 20, "bitfit": 70, "ia3": 50, "aurora": 70, "lora": 80}
    runs = {name: kept(scores.get(name, 90), items=10) for name in rows}
    results = gather_results(findings(tmp_path, "demo-retrieval", rows, runs), "command")
    front = [row.name for row in results.rows if row.front]
    assert front == ["linear", "bitfit", "aurora", "lora"]  # equal scores beat nobody
    assert results.reference == "aurora"
    assert [row.parameters.own for row in results.rows[:2]] == [0, 5_000]
    assert {row.parameters.heads for row in results.rows} == {16_770}


def test_differences_are_of_the_same_items_only(tmp_path: Path) -> None:
    rows = dict.fromkeys(("aurora", "lora", "ia3"), (10, 5))
    runs = {"aurora": kept(50), "lora": kept(100), "ia3": kept(100, items=4)}
    found = by_name(gather_results(findings(tmp_path, "demo-retrieval", rows, runs), "command"))
    assert found["aurora"].against is None
    assert found["lora"].against is not None
    assert found["lora"].against.mean == pytest.approx(50.0)
    assert found["ia3"].against is None


def test_questions_about_one_picture_are_drawn_together(tmp_path: Path) -> None:
    """The interval knows which medium an item is about."""
    rows = dict.fromkeys(("aurora", "lora"), (10, 0))
    scores = {"aurora": [0.0] * 40, "lora": [1.0] * 20 + [0.0] * 20}
    widths = []
    for name, media in (("one", [0] * 20 + [1] * 20), ("each", [*range(40)])):
        kinds = {"scores": media}
        runs = {n: {**kept(50), "items": {"scores": s}, "media": kinds} for n, s in scores.items()}
        found = gather_results(findings(tmp_path / name, "demo-vqa", rows, runs), "command")
        against = by_name(found)["lora"].against
        assert against is not None
        assert against.mean == pytest.approx(50.0)
        widths.append(against.high - against.low)
    assert widths[0] == pytest.approx(100.0)
    assert widths[1] < 40.0


def test_what_others_are_compared_with_has_all_media_if_any_has(tmp_path: Path) -> None:
    names = ("aurora+data.limit=9", "aurora+gqt=off+rank=4", "lora")
    rows = dict.fromkeys(names, (10, 5))
    runs = dict.fromkeys(names, kept(50))
    results = gather_results(findings(tmp_path, "demo-retrieval", rows, runs), "command")
    assert results.reference == "aurora+gqt=off+rank=4"


def test_a_few_shot_curve_has_one_point_a_size(tmp_path: Path) -> None:
    """Epochs that make up for fewer media are no difference, unless rows differ in them alone."""
    small = {**kept(50), "training_media": 9}
    names = ("lora", "lora+data.limit=9+epochs=90")
    rows = dict.fromkeys(names, (10, 5))
    runs = {names[0]: kept(50), names[1]: small}
    found = gather_results(findings(tmp_path / "a", "demo-retrieval", rows, runs), "command")
    assert [row.series for row in found.rows] == ["LoRA", "LoRA"]
    names = (*names, "lora+data.limit=9+epochs=30")
    rows, runs = dict.fromkeys(names, (10, 5)), {**runs, names[2]: small}
    found = gather_results(findings(tmp_path / "b", "demo-retrieval", rows, runs), "command")
    assert [row.series for row in found.rows] == [
        *("LoRA", "LoRA (epochs=90)", "LoRA (epochs=30)"),
    ]


def test_it_is_told_when_scored_media_chose_the_checkpoint(tmp_path: Path) -> None:
    rows = {"aurora": (10, 5)}
    for chosen in (False, True):
        runs = {"aurora": {**kept(50), "chosen_on_scored": chosen}}
        found = findings(tmp_path / str(chosen), "demo-retrieval", rows, runs)
        assert gather_results(found, "command").chosen_on_scored is chosen


def test_runs_that_were_asked_other_things_are_not_averaged(tmp_path: Path) -> None:
    rows = {"aurora": (10, 5)}
    found = findings(tmp_path, "demo-retrieval", rows, {"aurora": {**kept(50), "queries": "a"}})
    (first,) = found.trials["aurora"]
    other = tmp_path / "runs" / "other"
    other.mkdir()
    found.trials["aurora"].append(replace(first, folder=other))
    for differing in ({**kept(50), "queries": "b"}, kept(50, items=4)):
        (other / "trial.json").write_text(json.dumps({"told": first.told, **differing}))
        found.trials["aurora"][1] = replace(first, folder=other)  # `kept` is read once
        with pytest.raises(UserError, match="were scored on different test items"):
            gather_results(found, "command")


def test_rows_that_were_asked_other_things_are_not_compared(tmp_path: Path) -> None:
    rows = dict.fromkeys(("aurora", "lora"), (10, 5))
    runs = {"aurora": {**kept(50), "queries": "a"}, "lora": {**kept(50), "queries": "b"}}
    found = by_name(gather_results(findings(tmp_path, "demo-retrieval", rows, runs), "command"))
    assert found["lora"].against is None


def test_where_a_task_has_no_heads_what_linear_trains_is_its_own(tmp_path: Path) -> None:
    rows = {"linear": (0, 16_768), "aurora": (15_392, 0), "none": (0, 0)}
    asked = {"items": {"scores": [1.0, 0.0]}, "media": {"scores": [0, 1]}}
    runs = {name: {**kept(50), **asked} for name in rows}
    results = gather_results(findings(tmp_path, "demo-vqa", rows, runs), "command")
    sizes = [(row.parameters.own, row.parameters.heads) for row in results.rows]
    assert sizes == [(16_768, 0), (15_392, 0), (0, 0)]


def test_all_versions_that_runs_used_are_told(tmp_path: Path) -> None:
    rows = dict.fromkeys(("aurora", "lora"), (10, 5))
    runs = {"aurora": kept(50), "lora": kept(50, torch="2.11.0")}
    results = gather_results(findings(tmp_path, "demo-retrieval", rows, runs), "command")
    assert results.versions == {"aurora-vl": ["0.1.0"], "torch": ["2.11.0", "2.13.0"]}


@pytest.mark.parametrize("content", ['{"told": {"recipe"', '{"told": {}, "seconds": "many"}', "[]"])
def test_a_run_whose_file_is_damaged_is_named(tmp_path: Path, content: str) -> None:
    study = make_study("demo-retrieval", parse_rows("aurora"), seeds=1, out=tmp_path)
    (tmp_path / "runs" / "abc").mkdir(parents=True)
    (tmp_path / "runs" / "abc" / "trial.json").write_text(content)
    with pytest.raises(UserError, match=r"abc/trial.json is damaged; delete .*/abc, "):
        Runs(tmp_path / "runs").trial("a", study.recipe(study.rows[0], final=True))
