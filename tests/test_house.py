"""How the package is arranged, beside what the import contracts of `make check` hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "aurora_vl"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
BLIP = re.compile(r"backbones\.blip\b|\bBlip[A-Z]\w*")
MAY_NAME_BLIP = ("backbones/blip/", "backbones/families.py", "methods/bottleneck.py")


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_only_its_family_names_blip() -> None:
    named = [
        place(path)
        for path in FILES
        if not place(path).startswith(MAY_NAME_BLIP) and BLIP.search(path.read_text())
    ]
    assert named == []


def test_files_are_short_but_for_the_backbone() -> None:
    long = {place(path): len(path.read_text().splitlines()) for path in FILES}
    long.pop("backbones/blip/modeling.py")
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}


@pytest.mark.parametrize("words", [r"FIELD\.md", r"PEFT\.md", r"STYLE\.md", r"DESIGN\.md"])
def test_nothing_points_outside_the_repository(words: str) -> None:
    tests = [path for path in Path(__file__).parent.rglob("*.py") if path != Path(__file__)]
    assert [path.name for path in [*FILES, *tests] if re.search(words, path.read_text())] == []


def test_every_package_says_what_it_is_for() -> None:
    for init in PACKAGE.rglob("__init__.py"):
        first = init.read_text().lstrip().splitlines()[0]
        assert first.startswith('"""'), place(init)
        assert not first.rstrip('."').endswith(" of Aurora"), place(init)
