"""docs/fidelity.md has a row for every switch, and its commands name rows that can be run."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from aurora_vl.comparison.method_rows import parse_rows
from aurora_vl.comparison.study import make_study
from aurora_vl.objectives.presets import Switches, switches
from aurora_vl.recipes.recipe import Recipe, load_recipe
from aurora_vl.training.parameter_report import parameter_report

PAGE = (Path(__file__).parents[1] / "docs" / "fidelity.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The words of every `aurora compare` in a block of commands."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


def test_every_switch_has_its_row() -> None:
    sections = ("adapter", "objective", "evaluation")
    expected = {
        f"{section}.{switch.name}"
        for switch in fields(Switches)
        for section in sections
        if switch.name in Recipe.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    }
    assert len(expected) == len(fields(Switches))
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \|", PAGE, re.MULTILINE)
    assert expected <= set(rows)
    assert len(rows) == len(set(rows))


def test_a_row_begins_with_the_values_of_both_presets() -> None:
    section = "adapter|objective|evaluation"
    rows = re.findall(
        rf"^\| `(?:{section})\.(\w+)` \| .*? \| (.*?) \| (.*?) \|", PAGE, re.MULTILINE
    )
    told = {name: (released, default) for name, released, default in rows}
    for switch in fields(Switches):
        for preset, cell in zip(("released", "default"), told[switch.name], strict=True):
            value = getattr(switches(preset), switch.name)
            written = value if isinstance(value, str) else json.dumps(value).removesuffix(".0")
            assert re.split("[:;, ]", cell)[0].strip("`") == written, (switch.name, preset)


@pytest.mark.parametrize("words", commands(), ids=lambda words: words[2])
def test_the_commands_name_recipes_that_resolve(words: list[str]) -> None:
    assert words[:2] == ["aurora", "compare"]
    given = dict(zip(words[3::2], words[4::2], strict=False))
    settings = [word for word in words if "=" in word and word != given["--methods"]]
    rows = parse_rows(given["--methods"])
    out = Path(given["--out"])
    study = make_study(words[2], rows, seeds=int(given["--seeds"]), out=out, settings=settings)
    recipes = [study.recipe(row, final=True, seed=1) for row in study.rows]
    assert len({recipe.model_dump_json() for recipe in recipes}) == len(rows)  # all differ
    rates = {recipe.training.learning_rate for recipe in recipes}
    assert rates == {0.01 if words[2] == "demo-video-retrieval" else 0.02}  # as the page says


def test_the_sizes_called_equal() -> None:
    def factors(*settings: str) -> int:
        return parameter_report(
            load_recipe("demo-retrieval", ["adapter.gqt=off", *settings])
        ).adapter

    cp = factors()
    assert cp == 10_528
    tucker = ["adapter.core=tucker"]
    near = {rank: factors(*tucker, f"adapter.rank={rank}") for rank in (16, 17, 18, 32)}
    assert near == {16: 9_344, 17: 10_489, 18: 11_736, 32: 43_264}
    assert min(near, key=lambda rank: abs(near[rank] - cp)) == 17
