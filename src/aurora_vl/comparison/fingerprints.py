"""What a run computes, told without where anything lies, so that every machine tells it alike.

A recipe's folders are replaced by digests of what is read from them: the backbone's files, the
records of the data. A generated world is told by its settings. What is told is kept with a finished
run and completed with today's keys when it is read back: a key that came later stands at its
default, and a default that has changed since makes it another run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aurora_vl.backbones.folders import MINI, find_backbone
from aurora_vl.errors import UserError
from aurora_vl.recipes.recipe import Recipe, resolve
from aurora_vl.recipes.sections import ComparisonSection
from aurora_vl.training.recipe_data import read_splits
from aurora_vl.training.tasks.answering import listed_answers
from aurora_vl.tuner.config import AuroraSwitches

_OF_GENERATION = ("beams", "max_tokens", "attend_padding")
_DIGESTED = "digested"  # stands where a path was
_WEIGHTS = (".json", ".safetensors", ".bin", ".pth")
_SHORT = 12
Told = dict[str, Any]


def tell(recipe: Recipe) -> Told:
    """What a resolved recipe computes: its keys without places, and digests of what it reads.

    Raises:
        UserError: the data or the list of answers cannot be read.
    """
    digests = {}
    backbone = Path(recipe.backbone).expanduser()
    if recipe.backbone == MINI:
        digests["backbone"] = _files_digest(find_backbone(MINI))
    elif backbone.exists():
        digests["backbone"] = _files_digest(backbone)
        recipe = recipe.model_copy(update={"backbone": _DIGESTED})
    if recipe.data.kind != "world":
        data = recipe.data.model_copy(update={"limit": None})
        only = Recipe(task=recipe.task, data=data)
        digests["data"] = _records_digest(only.model_dump_json())
    if recipe.evaluation.answer_list is not None:
        listed_answers(recipe)  # a wrong list is said here
        digests["answer_list"] = _files_digest(recipe.evaluation.answer_list)
    return {"recipe": _without_places(recipe), "digests": digests}


def name_of(told: Told) -> str:
    """A short name that equal runs share."""
    return short_digest(told)


def completed(told: Mapping[str, Any]) -> Told | None:
    """What was told earlier, with today's keys; None if today's recipes cannot say it."""
    try:
        recipe = resolve(Recipe.model_validate(told["recipe"]), "kept")
        return {"recipe": _without_places(recipe), "digests": told["digests"]}
    except (KeyError, TypeError, ValidationError, UserError):
        return None


def short_digest(content: object) -> str:
    """A few characters for plain values."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT]


def _without_places(recipe: Recipe) -> Told:
    recipe = recipe.model_copy(update={"comparison": ComparisonSection()})
    told: Told = recipe.model_dump(mode="json")
    del told["comparison"], told["training"]["output"]
    if recipe.adapter.method != "aurora":
        for switch in fields(AuroraSwitches):
            del told["adapter"][switch.name]  # no other method reads them
    if recipe.evaluation.inference != "generate":
        for key in _OF_GENERATION:
            del told["evaluation"][key]
    data = told["data"]
    for key in ("annotations", "media", "visual_genome"):
        data[key] = None if data[key] is None or data["kind"] == "world" else _DIGESTED
    del data["workers"]  # what is read does not depend on them
    if told["evaluation"]["answer_list"] is not None:
        told["evaluation"]["answer_list"] = _DIGESTED
    return told


@lru_cache
def _files_digest(path: Path) -> str:
    """Of a file, or of a folder's own weights, settings and tokenizer."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _WEIGHTS)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:_SHORT]


@lru_cache
def _records_digest(recipe: str) -> str:
    """Of everything that is read, of media their size; `recipe` as JSON."""
    splits = read_splits(Recipe.model_validate_json(recipe))
    digest = hashlib.sha256(repr((splits.scored, splits.answer_list)).encode())
    if splits.chosen_on_scored:
        digest.update(b"every seed's")  # earlier runs were scored on what their seed drew
    for name, records in splits.named().items():
        digest.update(name.encode())
        for record in records:
            said = [getattr(record, field.name) for field in fields(record) if field.name != "path"]
            digest.update(repr((said, _size(record.path))).encode())
    return digest.hexdigest()[:_SHORT]


def _size(path: Path) -> int | None:
    """Of a file in bytes; None if it is absent, which is another one's to say."""
    try:
        return path.stat().st_size
    except OSError:
        return None
