"""docs/datasets.md shows what the commands print, and names the files that the readers look for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import run_in_process

from aurora_vl.recipes.recipe import bundled_recipes, load_recipe

PAGE = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
SHOWN = {
    name: [line.rstrip() for line in lines.splitlines() if line.strip()]
    for name, lines in re.findall(r"\$ aurora check-data (\S+) --smoke\n(.+?)```", PAGE, re.S)
    if "files decoded" in lines
}


def test_every_benchmark_has_its_section() -> None:
    kinds = {load_recipe(name).data.kind for name in bundled_recipes()}
    assert set(SHOWN) == kinds - {"world"}


@pytest.mark.parametrize("name", SHOWN)
def test_the_page_shows_what_check_data_prints(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run_in_process("check-data", name, "--smoke").out
    notes = run_in_process("check-data", name, "--smoke", "--json").json["notes"]
    found = [line.rstrip() for line in printed.splitlines() if line.strip()]
    assert [*notes, *found] == SHOWN[name]
    (annotations,) = tmp_path.glob("runs/worlds/*/annotations")
    assert all(file.name in PAGE for file in annotations.iterdir())
