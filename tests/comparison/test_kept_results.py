"""The results in docs/results: every run is found by its fingerprint, and gives what is published.

Two folders are left out, `fidelity-vqa` and `fidelity-video-qa`: their runs were made with an
earlier answer decoder and are not kept.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NoReturn

import pytest

from aurora_vl.comparison import trials
from aurora_vl.comparison.method_rows import parse_rows
from aurora_vl.comparison.records import read_results
from aurora_vl.comparison.result_tables import latex, markdown
from aurora_vl.comparison.results import gather_results
from aurora_vl.comparison.study import conduct, make_study

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(file.parent for file in ROOT.glob("docs/results/*/results.json"))
KEPT = [folder for folder in FOLDERS if folder.name not in ("fidelity-vqa", "fidelity-video-qa")]


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_kept_runs_give_the_published_results(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*command: object, **_: object) -> NoReturn:
        raise AssertionError("a run was not found")

    monkeypatch.chdir(ROOT)  # the command names its folders from there
    monkeypatch.setattr(trials.subprocess, "Popen", refuse)
    results = read_results(folder / "results.json")
    _, _, recipe, _, methods, _, seeds, _, out, *settings = shlex.split(results.command)
    rows = parse_rows(methods)
    study = make_study(recipe, rows, seeds=int(seeds), out=Path(out), settings=settings)
    assert gather_results(conduct(study), results.command) == results


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_and_report_are_those_of_todays_code(folder: Path) -> None:
    results = read_results(folder / "results.json")
    assert (folder / "table.md").read_text(encoding="utf-8") == markdown(results)
    assert (folder / "table.tex").read_text(encoding="utf-8") == latex(results)
