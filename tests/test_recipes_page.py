"""docs/recipes.md names every key with its default; of a switch it says what its help says."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from aurora_vl.objectives.presets import Switches
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.recipes.sections import Section

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
SWITCHES = {switch.name for switch in fields(Switches)}
SWITCHED = ("adapter.", "objective.", "evaluation.")
"""Sections that hold them; `data.max_tokens` is another one than `evaluation.max_tokens`."""


def keys(section: type[Section], prefix: str = "") -> dict[str, str]:
    """Every key below a section and how the page writes its default."""
    found = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found |= keys(kind, f"{prefix}{name}.")
        elif name in SWITCHES and prefix in SWITCHED:
            found[prefix + name] = "by variant"
        elif field.is_required():
            found[prefix + name] = "none"
        else:
            default = json.dumps(field.default)
            found[prefix + name] = f"`{default.strip(chr(34))}`"
    return found


def test_the_page_has_every_key_with_its_default() -> None:
    assert {key: default for key, (default, _) in table().items()} == keys(Recipe)


def test_the_page_says_of_a_switch_what_its_help_says() -> None:
    told = {
        key.partition(".")[2]: meaning
        for key, (_, meaning) in table().items()
        if key.startswith(SWITCHED)
    }
    helps = {switch.name: switch.metadata["help"] for switch in fields(Switches)}
    assert {name: told[name] for name in helps} == helps


def table() -> dict[str, tuple[str, str]]:
    """Default and meaning of every key on the page."""
    told, section = {}, ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            named = re.match(r"## `(\w+)`", line)
            section = f"{named[1]}." if named else ""
        row = re.match(r"\| `([\w.]+)` \| (.+?) \| (.+) \|$", line)
        if row:
            told[section + row[1]] = row[2], row[3]
    return told
