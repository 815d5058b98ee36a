"""The minimal example runs as its first lines say and learns."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "train_minimal.py"


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return capsys.readouterr().out


def recalls(out: str, when: str) -> list[float]:
    line = re.search(rf"^{when}: (.*)$", out, re.MULTILINE)
    assert line, out
    return [float(number) for number in re.findall(r"R@\d+ ([\d.]+)", line[1])]


def test_it_fits_on_a_screen() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) < 150


def test_a_few_steps_already_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run(capsys, monkeypatch, "--steps", "10")
    assert sum(recalls(out, "after")) > 2 * sum(recalls(out, "before"))


@pytest.mark.slow
def test_it_reaches_what_the_documentation_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run(capsys, monkeypatch)
    before, after = recalls(out, "before"), recalls(out, "after")
    assert before[0] < 5
    assert after[0] > 80
