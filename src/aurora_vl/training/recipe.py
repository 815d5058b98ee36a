"""The recipe: one YAML file says everything about a run.

Unknown keys are errors. `load_recipe` reads a file or a bundled recipe by name, applies dotted
`key=value` settings from the command line and resolves what was left out, so that the recipe
written beside a run is complete.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aurora_vl.errors import UserError

MINI = "mini"
# Tuned on the generated world for the mini foundation; the paper's for full-size backbones.
_LEARNING_RATES = {
    (True, "aurora"): 1.0e-2,
    (True, "full"): 1.0e-3,
    (False, "aurora"): 1.0e-4,
    (False, "full"): 1.0e-5,
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AdapterSection(_Section):
    """What is trained.

    `method` is aurora, full (everything) or none (zero-shot); the other keys are Aurora's.
    """

    method: Literal["aurora", "full", "none"] = "aurora"
    rank: int = Field(32, ge=1)
    core: Literal["cp", "tucker"] = "cp"
    dropout: float = Field(0.1, ge=0, lt=1)
    gqt: Literal["released", "gated", "off"] = "released"


class ObjectiveSection(_Section):
    """Constants of the training losses.

    `queue` counts features kept of earlier batches, at most as many as there are training pairs;
    `momentum` is the decay of the moving average (null: none), reached after a warm-up; `alpha` the
    share of soft targets, `ice` the informative context enhancement.
    """

    queue: int = Field(57_600, ge=0)
    momentum: float | None = Field(0.995, ge=0, lt=1)
    alpha: float = Field(0.4, ge=0, le=1)
    ice: Literal["off", "released", "symmetric", "adaptive"] = "off"
    train_temperature: bool = False


class WorldSection(_Section):
    """The generated world of `data.kind: world`; see `aurora_vl.data.world.writing.WorldSpec`."""

    seed: int = Field(0, ge=0)
    style: str = "night"
    phrasing: str = "terse"
    train: int = Field(1500, ge=1)
    val: int = Field(200, ge=1)
    test: int = Field(400, ge=1)
    captions: int = Field(2, ge=1)


class DataSection(_Section):
    """Where the data lies and how it is read.

    `annotations` and `media` are folders; for `kind: world` both are made under `annotations`.
    `augmentation` is none, safe (nothing that makes a caption false) or full (flip and
    RandAugment); `crop` is the smallest share of the area a random crop keeps, 1 for no crop.
    """

    kind: Literal["coco", "flickr30k", "jsonl", "world"]
    annotations: Path | None = None
    media: Path | None = None
    augmentation: Literal["none", "safe", "full"] = "safe"
    crop: float = Field(0.5, gt=0, le=1)
    max_words: int = Field(30, ge=1)
    workers: int = Field(0, ge=0)
    world: WorldSection = WorldSection()

    @model_validator(mode="after")
    def _folders_are_named(self) -> DataSection:
        if self.kind != "world" and (self.annotations is None or self.media is None):
            raise ValueError("needs `annotations` and `media`, both folders")
        return self


class TrainingSection(_Section):
    """The optimisation.

    `learning_rate` left out takes the method's tuned default; `head_learning_rate`, of the heads
    beside an adapter, left out is that of full fine-tuning for the mini backbone, else
    `learning_rate`. `warmup` is a share of all steps;
    `validations` counts how often a run is validated and checkpointed, the last step included;
    without `checkpoints` the last state is kept instead of the best one.
    """

    epochs: int = Field(6, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    head_learning_rate: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(0.0, ge=0, lt=1)
    seed: int = Field(42, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    validations: int = Field(10, ge=1)
    checkpoints: bool = True
    output: Path | None = None


class EvaluationSection(_Section):
    """`rerank` candidates go from the first stage (features) to the second (matching).

    `score` is what orders them there: itm, the matching logit alone, or itm+itc, plus the cosine.
    """

    rerank: int = Field(128, ge=0)
    score: Literal["itm", "itm+itc"] = "itm+itc"
    batch_size: int = Field(64, ge=1)


class Recipe(_Section):
    """A whole run; see the sections for their keys."""

    task: Literal["retrieval"] = "retrieval"
    backbone: str = MINI
    image_size: int | None = Field(None, ge=16)
    adapter: AdapterSection = AdapterSection()
    objective: ObjectiveSection = ObjectiveSection()
    data: DataSection
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

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


def load_recipe(source: str, settings: Sequence[str] = ()) -> Recipe:
    """Read, override, check and resolve a recipe.

    Args:
        source: a YAML file's path or a bundled recipe's name.
        settings: dotted `key=value` texts; values are read as YAML.

    Raises:
        UserError: no such recipe, no YAML, or a key or value that does not fit.
    """
    name, text = _read(source)
    try:
        raw = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{source} is no valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{source} must hold keys and values, such as `task: retrieval`.")
    for setting in settings:
        _apply(raw, setting)
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise UserError(_sentence(source, error)) from None
    return _resolved(recipe, name)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe, whole or not at all."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(source: str) -> tuple[str, str]:
    """The recipe's name and text."""
    if source in bundled_recipes():
        return source, (files("aurora_vl") / "assets" / "recipes" / f"{source}.yaml").read_text()
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        known = ", ".join(bundled_recipes())
        raise UserError(
            f"there is no bundled recipe {source!r}; choose one of {known}, or give a YAML file."
        )
    try:
        return path.stem, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the recipe {source} cannot be read: {error}.") from None


def _apply(raw: dict[str, Any], setting: str) -> None:
    """Set one dotted key of the nested mapping."""
    key, separator, value = setting.partition("=")
    if not separator or not key:
        raise UserError(f"{setting!r} is no setting; write key=value, such as training.epochs=3.")
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise UserError(f"{key!r} cannot be set: {parent!r} is a value, not a section.")
    try:
        raw[last] = yaml.load(value, _Loader)
    except yaml.YAMLError:
        raise UserError(f"the value of {setting!r} is no valid YAML.") from None


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: `off` and 2026-01-31 are words, 1e-3 is a number."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's form)
        first: [pair for pair in resolvers if pair[0].endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9]\d*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\d*\.\d+|\d+\.|\d+(?=[eE]))([eE][-+]?\d+)?|[-+]?\.(inf|nan)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})$"), list(_first)
    )


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


def _resolved(recipe: Recipe, name: str) -> Recipe:
    training = recipe.training
    method = recipe.adapter.method
    rate = training.learning_rate
    if rate is None and method != "none":
        rate = _LEARNING_RATES[recipe.backbone == MINI, method]
    head_rate = training.head_learning_rate
    if head_rate is None:
        tuned = recipe.backbone == MINI and method == "aurora"
        head_rate = _LEARNING_RATES[True, "full"] if tuned else rate
    training = training.model_copy(
        update={
            "learning_rate": rate,
            "head_learning_rate": head_rate,
            "output": training.output or Path("runs") / name,
        }
    )
    data = recipe.data
    if data.kind == "world" and data.annotations is None:
        world = data.world
        folder = (
            Path("runs") / "worlds" / f"{world.style}-{world.phrasing}-{world.seed}-{world.train}"
        )
        data = data.model_copy(update={"annotations": folder})
    return recipe.model_copy(update={"training": training, "data": data})
