"""What is compared: a method, or a method with some keys of the recipe set otherwise.

    aurora            the recipe's own settings, or the method's usual ones
    lora+rank=1       the same with adapter.rank set
    aurora+gqt=off+objective.ice=released

A `+` begins each setting. A key without its section is looked for in adapter, objective, evaluation
and training, in that order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aurora_vl.errors import UserError
from aurora_vl.training.methods import METHODS
from aurora_vl.training.recipe import Recipe

_SETTING = re.compile(r"\+(?=[A-Za-z_][\w.]*=)")
_SECTIONS = ("adapter", "objective", "evaluation", "training")
_DECIDED = {
    "adapter.method": "is the method's name before the +",
    "training.seed": "is one of --seeds",
    "training.output": "is a folder of the comparison's own",
    "evaluation.split": "is val while learning rates are chosen and test at the end",
    "data.world.seed": "is chosen so that nothing was tuned on it; see comparison.final_world",
    "data.annotations": "is the same for all methods",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison.

    Attributes:
        name: as typed; unique.
        method: a key of `METHODS`.
        settings: full `key=value` texts.
    """

    name: str
    method: str
    settings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For tables and pictures."""
        short = [
            setting.rpartition(".")[2] if "." in setting.partition("=")[0] else setting
            for setting in self.settings
        ]
        told = METHODS[self.method].label
        return f"{told} ({', '.join(short)})" if short else told

    def sets(self, key: str) -> bool:
        """Whether the row itself sets a key."""
        return any(setting.partition("=")[0] == key for setting in self.settings)

    def without(self, *keys: str) -> Row:
        """The row as it is without some settings."""
        kept = [setting for setting in self.settings if setting.partition("=")[0] not in keys]
        return Row("+".join([self.method, *kept]), self.method, tuple(kept))


def parse_rows(text: str) -> list[Row]:
    """The rows of `--methods`, separated by commas outside of brackets.

    Raises:
        UserError: an unknown method or key, a key that the comparison decides, a row given twice.
    """
    rows = [_row(name.strip()) for name in _split(text) if name.strip()]
    if not rows:
        raise UserError(f"--methods names no method; choose among {', '.join(METHODS)}.")
    for row in rows:
        if [other.name for other in rows].count(row.name) > 1:
            raise UserError(f"--methods names {row.name} twice; name it once.")
    return rows


def _split(text: str) -> list[str]:
    """At commas outside of brackets, so that values may be lists."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _row(name: str) -> Row:
    method, *settings = _SETTING.split(name)
    if method not in METHODS:
        raise UserError(
            f"--methods: {method!r} is no method; choose among {', '.join(METHODS)}, "
            "with settings as in aurora+gqt=off."
        )
    return Row(name, method, tuple(_full(setting, name) for setting in settings))


def _full(setting: str, name: str) -> str:
    """The setting with its section named."""
    key, _, value = setting.partition("=")
    section = _section_of(key, name)
    full = f"{section}.{key}" if section else key
    if full in _DECIDED or full.startswith("comparison."):
        reason = _DECIDED.get(full, "is the same for all methods")
        raise UserError(f"--methods: {name!r} cannot set {full}: it {reason}.")
    return f"{full}={value}"


def _section_of(key: str, name: str) -> str:
    """Where a key without a section belongs; empty if it is complete."""
    fields = Recipe.model_fields
    if "." in key or key in fields:
        return ""
    for section in _SECTIONS:
        kind = fields[section].annotation
        if kind is not None and key in kind.model_fields:
            return section
    raise UserError(
        f"--methods: {name!r} sets {key!r}, which is no key of {', '.join(_SECTIONS)}; "
        "write it with its section, such as data.crop=1."
    )
