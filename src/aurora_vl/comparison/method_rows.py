"""What is compared: a method, or a method with some keys of the recipe set otherwise.

    aurora            the recipe's own settings, or the method's usual ones
    lora+rank=1       the same with adapter.rank set
    aurora+gqt=off+objective.ice=released
    no gate: aurora+gqt=off    the same, called so in tables and pictures

A `+` begins each setting. A key without its section is looked for in adapter, objective, evaluation
and training; one that two of them have needs its section.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from aurora_vl.errors import UserError
from aurora_vl.methods import METHODS
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.recipes.sections import Section
from aurora_vl.tuner.config import AuroraSwitches

_SETTING = re.compile(r"\+(?=[A-Za-z_][\w.]*=)")
_AURORA_SWITCHES = {switch.name for switch in fields(AuroraSwitches)}
_SECTIONS = ("adapter", "objective", "evaluation", "training")
_SAME_FOR_ALL = "is the same for all methods"
_DECIDED = {  # by the comparison, or because a difference is told scored item by scored item
    "task": _SAME_FOR_ALL,
    "adapter.method": "is the method's name before the +",
    "training.seed": "is one of --seeds",
    "training.output": "is a folder of the comparison's own",
    "evaluation.split": "is val while learning rates are chosen and test at the end",
    "data.world.seed": "is chosen so that nothing was tuned on it; see comparison.final_world",
    "data.kind": _SAME_FOR_ALL,
    "data.annotations": _SAME_FOR_ALL,
    "data.media": _SAME_FOR_ALL,
    "data.scored": _SAME_FOR_ALL,
    "evaluation.metric": _SAME_FOR_ALL,
}
_OF_TRAINING = (  # data.limit is not: it may change the answers to choose from
    "data.augmentation",
    "data.crop",
    "data.captions_per_item",
    "data.questions_per_item",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison.

    Attributes:
        name: as typed, without its label; unique.
        method: a key of `METHODS`.
        settings: full `key=value` texts.
        called: the label that was given to it, if any.
    """

    name: str
    method: str
    settings: tuple[str, ...] = ()
    called: str = ""

    @property
    def label(self) -> str:
        """For tables and pictures: the one given, or the method's with its settings; unique."""
        if self.called:
            return self.called
        parts = [setting.partition("=") for setting in self.settings]
        short = [f"{key.rpartition('.')[2]}={value}" for key, _, value in parts]
        told = METHODS[self.method].label
        return f"{told} ({', '.join(short)})" if short else told

    def sets(self, key: str) -> bool:
        """Whether the row itself sets a key."""
        return any(setting.partition("=")[0] == key for setting in self.settings)

    def without(self, *keys: str) -> Row:
        """The row as it is without some settings, and without the label it was given."""
        kept = [setting for setting in self.settings if setting.partition("=")[0] not in keys]
        return Row("+".join([self.method, *kept]), self.method, tuple(kept))


def parse_rows(text: str) -> list[Row]:
    """The rows of `--methods`, separated by commas outside of brackets.

    Raises:
        UserError: an unknown method or key, a key that the comparison decides or the method does
            not read, a row or a label given twice.
    """
    rows = [_row(name.strip()) for name in _split(text) if name.strip()]
    if not rows:
        raise UserError(f"--methods names no method; choose among {', '.join(METHODS)}.")
    for row in rows:
        if [other.name for other in rows].count(row.name) > 1:
            raise UserError(f"--methods names {row.name} twice; name it once.")
        if [other.label for other in rows].count(row.label) > 1:
            raise UserError(
                f"--methods calls two rows {row.label}; call each by a label of its own, "
                "as in label:aurora+gqt=off."
            )
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


def _row(text: str) -> Row:
    label, colon, method = _SETTING.split(text)[0].rpartition(":")
    if colon and not label.strip():
        raise UserError(
            f"--methods: {text!r} has no label before the colon; write label:{method.strip()}."
        )
    name = text[len(label + colon) :].strip()
    method, *settings = _SETTING.split(name)
    if method not in METHODS:
        raise UserError(
            f"--methods: {method!r} is no method; choose among {', '.join(METHODS)}, "
            "with settings as in aurora+gqt=off; commas separate the rows."
        )
    row = Row(name, method, tuple(_full(setting, name) for setting in settings), label.strip())
    for setting in row.settings:
        _check_read(setting.partition("=")[0], row)
    return row


def _full(setting: str, name: str) -> str:
    """The setting with its section named."""
    key, _, value = setting.partition("=")
    section = _section_of(key, name)
    full = f"{section}.{key}" if section else key
    whole = full.startswith(("comparison.", "data.world"))  # `data.world={seed: 3}` as well
    reason = _DECIDED.get(full, _SAME_FOR_ALL if whole else None)
    if reason is not None:
        raise UserError(f"--methods: {name!r} cannot set {full}: it {reason}.")
    return f"{full}={value}"


def _section_of(key: str, name: str) -> str:
    """Where a key without a section belongs; empty if it is complete."""
    if "." in key:
        return ""
    sections = _sections()
    if key in sections:
        raise UserError(
            f"--methods: {name!r} sets the whole section {key}; set its keys one by one, "
            f"as in {key}.{next(iter(sections[key].model_fields))}=..."
        )
    if key in Recipe.model_fields:
        return ""
    found = [section for section in _SECTIONS if key in sections[section].model_fields]
    if len(found) > 1:
        raise UserError(
            f"--methods: {name!r} sets {key!r}, which is a key of {' and '.join(found)}; "
            f"write it with its section, such as {found[-1]}.{key}."
        )
    if not found:
        raise UserError(
            f"--methods: {name!r} sets {key!r}, which is no key of {', '.join(_SECTIONS)}; "
            "write it with its section, such as data.crop=1."
        )
    return found[0]


def _sections() -> dict[str, type[Section]]:
    """The sections of a recipe by name."""
    kinds = {name: field.annotation for name, field in Recipe.model_fields.items()}
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, Section)
    }


def _check_read(key: str, row: Row) -> None:
    """Refuse a setting that would change nothing but the row's label."""
    method = METHODS[row.method]
    section, _, last = key.partition(".")
    unread = (
        (section == "adapter" and last in _AURORA_SWITCHES and row.method != "aurora")
        or (key == "adapter.rank" and method.ranks is None)
        or (key == "adapter.dropout" and not method.dropout)
        or (section == "adapter" and method.config is None)
        or ((section in ("training", "objective") or key in _OF_TRAINING) and method.rates is None)
    )
    if unread:
        raise UserError(
            f"--methods: {row.name!r} sets {key}, which {row.method} does not read; "
            "leave it out of this row."
        )
