"""`aurora bench` is a way into the benchmarks of a checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Aurora

from aurora_vl.cli import bench


def test_its_help_is_that_of_the_benchmarks(aurora: Aurora) -> None:
    shown = aurora("bench", "--help")
    assert shown.status == 0
    for words in ("Usage: aurora bench [OPTIONS] [[JOB]]", "--repeats", "train-step"):
        assert words in shown.out


def test_without_a_checkout_it_is_a_sentence(
    aurora: Aurora, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "_CHECKOUT", tmp_path)
    outcome = aurora("bench", "data", "--repeats", "1")
    assert outcome.status == 2
    assert "aurora bench needs the benchmarks" in outcome.err
    assert "clone the repository and run `make bench` there" in outcome.err


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "rest"],
        cwd=Path(bench.__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("aurora: there is no job 'rest'")
