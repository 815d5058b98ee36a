"""The demo as a newcomer runs it, at its true size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run_process


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    outcome = run_process("demo", "--out", "demo", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "Mean of the six recalls" in outcome.out
    out = tmp_path / "demo"
    before, after = (json.loads((out / f"{n}.json").read_text()) for n in ("zero_shot", "metrics"))
    assert after["metrics"]["r_mean"] - before["metrics"]["r_mean"] > 25
    numbers, total = after["parameters"], after["total_parameters"]
    assert numbers["factors"] + numbers["gates"] < 0.01 * total
    assert after["trainable_parameters"] < 0.03 * total
    assert sum(file.stat().st_size for file in (out / "adapter").iterdir()) < 1_000_000
    page = (out / "report.html").read_text()
    assert page.count("<article>") == 8
    scored = run_process(
        *("evaluate", "demo/recipe.yaml", "--adapter", "demo/adapter", "--json"), folder=tmp_path
    )
    assert scored.json["metrics"] == after["metrics"]
