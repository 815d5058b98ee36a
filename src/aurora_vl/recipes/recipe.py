"""The recipe: one YAML file says everything about a run.

Unknown keys are errors. `load_recipe` reads a file or a bundled recipe by name, applies dotted
`key=value` settings from the command line and resolves what was left out, so that the recipe
written beside a run is complete.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from aurora_vl.backbones.folders import MINI
from aurora_vl.backbones.width import is_narrow
from aurora_vl.data.text import CAPTION_WORDS, QUESTION_WORDS, VIDEO_CAPTION_WORDS
from aurora_vl.errors import UserError
from aurora_vl.methods import METHODS
from aurora_vl.methods.adapters import ADAPTERS
from aurora_vl.objectives.presets import Switches, Variant, switches
from aurora_vl.recipes.sections import (
    AdapterSection,
    ComparisonSection,
    DataSection,
    EvaluationSection,
    ObjectiveSection,
    Section,
    TrainingSection,
)
from aurora_vl.recipes.settings import apply_setting
from aurora_vl.recipes.smoke import smoke_settings
from aurora_vl.recipes.yaml_loader import TOO_LONG, RecipeLoader, RepeatedKeyError
from aurora_vl.utils.atomic import write_text

# Of the heads beside an adapter: on narrow backbones, and at most on wide ones.
_HEAD_RATE, _LARGEST_HEAD_RATE = 1.0e-3, 1.0e-4
_QUEUE = 57_600  # of wide backbones
_MAX_WORDS = {
    "retrieval": CAPTION_WORDS,
    "video-retrieval": VIDEO_CAPTION_WORDS,
    "vqa": QUESTION_WORDS,
    "video-qa": QUESTION_WORDS,
}
_ASKING = ("vqa", "video-qa")
_OF_QUESTIONS = ("scored", "train_on", "visual_genome")  # keys of the data
# Keys of one method that mean nothing for another one.
_OF_ONE_METHOD = (
    ("adapter", "rank"),
    ("adapter", "options"),
    ("training", "learning_rate"),
    ("training", "head_learning_rate"),
    ("training", "factor_rate_ratio"),
)
_SWITCHES = {switch.name for switch in fields(Switches)}


class Recipe(Section):
    """A whole run; see `sections` for the keys of each section."""

    task: Literal["retrieval", "video-retrieval", "vqa", "video-qa"] = "retrieval"
    variant: Variant = "default"
    backbone: str = MINI
    image_size: int | None = Field(None, ge=16)
    adapter: AdapterSection = AdapterSection()
    objective: ObjectiveSection = ObjectiveSection()
    data: DataSection
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()
    comparison: ComparisonSection = ComparisonSection()

    @field_validator("backbone")
    @classmethod
    def _backbones_home_is_spelt_out(cls, name: str) -> str:
        return os.path.expanduser(name) if name.startswith("~") else name

    @property
    def switches(self) -> Switches:
        """The variant's switches, with those that a section sets otherwise."""
        given = {
            name: getattr(section, name)
            for section in (self.adapter, self.objective, self.evaluation)
            for name in _SWITCHES & type(section).model_fields.keys()
        }
        return switches(self.variant, **given)

    @property
    def max_words(self) -> int:
        """How many words of a text are kept."""
        return self.data.max_words or _MAX_WORDS[self.task]

    @property
    def output(self) -> Path:
        """The run's folder."""
        if self.training.output is None:
            raise ValueError("the recipe is not resolved")
        return self.training.output


def bundled_recipes() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    folder = files("aurora_vl") / "assets" / "recipes"
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def load_recipe(source: str, settings: Sequence[str] = (), *, smoke: bool = False) -> Recipe:
    """Read, override, check and resolve a recipe.

    Where the settings give another `adapter.method`, the rank, options and learning rates that the
    file has for its own are left out, so that the other has its usual ones.

    Args:
        source: a YAML file's path or a bundled recipe's name.
        settings: dotted `key=value` texts; a value is taken as given where the key is a text or
            path, and read as YAML where it is anything else.
        smoke: make it run in seconds, see `aurora_vl.recipes.smoke`; settings come behind that.

    Raises:
        UserError: no such recipe, no YAML, or a key or value that does not fit.
    """
    name, text = _read(source)
    try:
        raw = yaml.load(text, RecipeLoader)
    except RepeatedKeyError as error:
        raise UserError(f"{source} has {error}: keep one of the two.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{source} is no valid YAML: {' '.join(str(error).split())}.") from None
    except ValueError:
        raise UserError(f"{source} holds {TOO_LONG}.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{source} must hold keys and values, such as `task: retrieval`.")
    if smoke:
        data = raw.get("data")
        kind = data.get("kind") if isinstance(data, dict) else None
        name, settings = f"{name}-smoke", [*smoke_settings(kind), *settings]
    own = _method(raw)
    for setting in settings:
        apply_setting(Recipe, raw, setting)
    if _method(raw) != own:
        _leave_to_its_method(raw, settings)
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise UserError(_sentence(source, error)) from None
    return resolve(recipe, name)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe, whole or not at all."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    write_text(path, text)


def _read(source: str) -> tuple[str, str]:
    """The recipe's name and text."""
    if source in bundled_recipes():
        return source, (files("aurora_vl") / "assets" / "recipes" / f"{source}.yaml").read_text()
    path = Path(os.path.expanduser(source))
    if path.suffix not in (".yaml", ".yml"):
        known = ", ".join(bundled_recipes())
        raise UserError(
            f"there is no bundled recipe {source!r}; choose one of {known}, or give a YAML file."
        )
    try:
        return path.stem, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the recipe {source} cannot be read: {error}.") from None


def _method(raw: dict[str, Any]) -> object:
    """The method that a recipe names, checked later."""
    adapter = raw.get("adapter")
    named = adapter.get("method") if isinstance(adapter, dict) else None
    return named or AdapterSection.model_fields["method"].default


def _leave_to_its_method(raw: dict[str, Any], settings: Sequence[str]) -> None:
    """Take out what the file says for its own method, other than what the settings give."""
    given = {setting.partition("=")[0] for setting in settings}
    for section, key in _OF_ONE_METHOD:
        values = raw.get(section)
        if isinstance(values, dict) and not {section, f"{section}.{key}"} & given:
            values.pop(key, None)


def _sentence(source: str, error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the recipe"
    if first["type"] == "extra_forbidden":
        known = ", ".join(_keys_beside(first["loc"]))
        return f"{source}: unknown key {key!r}; known there: {known}."
    if first["type"] == "missing":
        return f"{source}: the key {key!r} is missing."
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        message = "input should be a section of keys and values"
    given = first.get("input")
    shown = "" if isinstance(given, dict) else f", not {given!r}"
    return f"{source}: {key!r}: {message[0].lower()}{message[1:]}{shown}."


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    section: Any = Recipe
    for part in location[:-1]:
        section = section.model_fields[str(part)].annotation
    return sorted(section.model_fields)


def resolve(recipe: Recipe, name: str) -> Recipe:
    """The recipe with everything written out that was left out; of a resolved one, itself.

    Args:
        recipe: as read.
        name: for its folder and in errors.

    Raises:
        UserError: two keys contradict each other.
    """
    _require_what_fits_the_task(recipe, name)
    recipe = _with_usual_values(recipe)
    output = recipe.training.output or Path("runs") / name
    training = recipe.training.model_copy(update={"output": output})
    data = recipe.data.model_copy(update={"max_words": recipe.max_words})
    if data.kind == "world" and data.annotations is None:
        world = data.world
        parts = (world.layout or recipe.task, world.style, world.phrasing, world.seed, world.train)
        folder = Path("runs") / "worlds" / "-".join(map(str, parts))
        data = data.model_copy(update={"annotations": folder})
    return _switched(recipe.model_copy(update={"training": training, "data": data}), name)


def _require_what_fits_the_task(recipe: Recipe, name: str) -> None:
    """Refuse keys that this task would not look at, or that leave it nothing to do."""
    data, evaluation = recipe.data, recipe.evaluation
    if recipe.task in _ASKING:
        if evaluation.inference == "rank" and evaluation.rerank == 0:
            raise UserError(
                f"{name}: evaluation.rerank 0 leaves no answers to rank; set it to 1 or more, or "
                "evaluation.inference to generate."
            )
        return
    for key in _OF_QUESTIONS:
        if getattr(data, key) != DataSection.model_fields[key].default:
            raise UserError(
                f"{name}: data.{key} is for questions, and the task {recipe.task} has none; "
                "leave it out."
            )


def _with_usual_values(recipe: Recipe) -> Recipe:
    """The recipe with the usual rank, learning rates and queue where they were left out."""
    adapter, training, narrow = recipe.adapter, recipe.training, is_narrow(recipe.backbone)
    method = METHODS[adapter.method]
    if training.factor_rate_ratio != 1 and method.output_factors is None:
        able = ", ".join(name for name, other in METHODS.items() if other.output_factors)
        raise UserError(
            f"training.factor_rate_ratio needs a method with a factor on either side ({able}), "
            f"which {method.name} is not; leave it at 1."
        )
    rate = training.learning_rate or method.rate(narrow=narrow)
    head_rate = training.head_learning_rate
    if head_rate is None:
        head_rate = rate
        if narrow and method in ADAPTERS:
            head_rate = _HEAD_RATE
        elif rate is not None and method in ADAPTERS and method.name != "aurora":
            head_rate = min(rate, _LARGEST_HEAD_RATE)
    rates = {"learning_rate": rate, "head_learning_rate": head_rate}
    rank = adapter.rank or method.rank(narrow=narrow)
    objective = recipe.objective
    if objective.queue is None:
        objective = objective.model_copy(update={"queue": 0 if narrow else _QUEUE})
    return recipe.model_copy(
        update={
            "objective": objective,
            "adapter": adapter.model_copy(update={"rank": rank}),
            "training": training.model_copy(update=rates),
        }
    )


def _switched(recipe: Recipe, name: str) -> Recipe:
    """The recipe with every switch written out."""
    chosen = recipe.switches
    if chosen.mlp_core == "interleaved" and chosen.core != "tucker":
        raise UserError(
            f"{name}: adapter.mlp_core interleaved needs adapter.core tucker, not {chosen.core}."
        )
    sections = {key: getattr(recipe, key) for key in ("adapter", "objective", "evaluation")}
    return recipe.model_copy(
        update={
            key: section.model_copy(
                update={
                    switch: getattr(chosen, switch)
                    for switch in _SWITCHES & type(section).model_fields.keys()
                }
            )
            for key, section in sections.items()
        }
    )
