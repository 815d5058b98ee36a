"""README.md: its Python runs, its commands and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import typer
from peft import get_peft_model
from PIL import Image

import aurora_vl
from aurora_vl.cli.main import app
from aurora_vl.data.synthetic.drawing import draw
from aurora_vl.data.synthetic.scenes import sample_scene

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def demo_folder(tmp_path: Path) -> Path:
    """The files of `make demo` that README reads: an adapter, though untrained, and pictures."""
    model = get_peft_model(aurora_vl.load("mini"), aurora_vl.AuroraConfig(r=2))
    model.save_pretrained(str(tmp_path / "demo" / "adapter"), save_embedding_layers=False)
    pictures = tmp_path / "demo" / "world" / "images" / "test"
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(draw(sample_scene(rng, "test"))).save(pictures / f"{number:06d}.jpg")
    return tmp_path


def test_the_python_lines_run(
    demo_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (lines,) = blocks("python")
    monkeypatch.chdir(demo_folder)
    exec(compile(lines, "README.md", "exec"), {})
    *scores, answer = capsys.readouterr().out.splitlines()
    assert len(re.findall(r"-?\d+\.\d+", " ".join(scores))) == 10
    assert answer in ("red", "blue")


def test_the_commands_exist() -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^aurora ([a-z-]+)", "\n".join(blocks("console")), re.MULTILINE))
    assert named
    assert named <= known
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)  ", README)) <= targets


def test_the_links_lead_to_files() -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README)]
    here = [link for link in links if not link.startswith("https://")]
    assert len(here) > 10
    assert not [link for link in here if not (ROOT / link).exists()]
