"""Searching a folder finds the picture a caption was written for."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aurora_vl.data.synthetic.drawing import draw
from aurora_vl.data.synthetic.grammar import caption
from aurora_vl.data.synthetic.scenes import sample_scene

SCRIPT = Path(__file__).parents[2] / "examples" / "search_folder.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_the_described_picture_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, "test") for _ in range(12)]
    (tmp_path / "below").mkdir()
    for number, scene in enumerate(scenes):
        Image.fromarray(draw(scene)).save(tmp_path / "below" / f"{number}.png")
    run(monkeypatch, tmp_path, caption(scenes[7], rng), "--top", 3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("7.png")
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)


def test_a_folder_without_pictures_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no pictures"):
        run(monkeypatch, tmp_path, "a red star")
