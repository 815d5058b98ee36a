"""Settings of the command line: `section.key=value` changes one key of a recipe."""

from __future__ import annotations

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import yaml

from aurora_vl.errors import UserError
from aurora_vl.recipes.sections import Section
from aurora_vl.recipes.yaml_loader import TOO_LONG, RecipeLoader, RepeatedKeyError


def apply_setting(recipe: type[Section], raw: dict[str, Any], setting: str) -> None:
    """Set one dotted key of a recipe that is not checked yet.

    Args:
        recipe: the class, which knows what a key holds.
        raw: the recipe's nested mapping; it is changed.
        setting: `key=value`.

    Raises:
        UserError: it is no setting, or the value is no YAML where it should be.
    """
    key, separator, value = setting.partition("=")
    if not separator or not key:
        raise UserError(f"{setting!r} is no setting; write key=value, such as training.epochs=3.")
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise UserError(f"{key!r} cannot be set: {parent!r} is a value, not a section.")
    kinds = _kinds(recipe, [*parents, last])
    if kinds and all(_is_text(kind) for kind in kinds):
        raw[last] = None if NoneType in kinds and value in ("", "null") else value
        return
    try:
        raw[last] = yaml.load(value, RecipeLoader)
    except RepeatedKeyError as error:
        raise UserError(f"the value of {setting!r} has {error}: keep one of the two.") from None
    except yaml.YAMLError:
        raise UserError(f"the value of {setting!r} is no valid YAML.") from None
    except ValueError:
        raise UserError(f"the value of {key} is {TOO_LONG}.") from None


def _kinds(section: Any, keys: list[str]) -> tuple[Any, ...]:
    """The types a key may have; none where there is no such key."""
    for key in keys:
        field = getattr(section, "model_fields", {}).get(key)
        if field is None:
            return ()
        section = field.annotation
    return get_args(section) if get_origin(section) is UnionType else (section,)


def _is_text(kind: Any) -> bool:
    """Whether a value of this type is written as it is: a text, a path, a word, or nothing."""
    if get_origin(kind) is Literal:
        return all(isinstance(word, str) for word in get_args(kind))
    return kind in (str, Path, NoneType)
