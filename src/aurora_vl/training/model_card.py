"""The model card beside a trained adapter: what it is, how to load it, how it was made, its scores.

PEFT writes a README.md of its own when it saves an adapter; this one replaces it whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from aurora_vl.backbones.base import Task
from aurora_vl.methods import METHODS
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.reporting.tables import markdown_table
from aurora_vl.utils.atomic import write_text

_SETTINGS = ("task", "backbone", "image_size", "data", "evaluation", "scored_split")
_PARTS = {"factors": "adapter parameters", "gates": "query gates", "heads": "heads"}
_AURORA_PARTS = {**_PARTS, "factors": "shared factors, core and modes"}


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What is known of a training beside its recipe and its metrics.json.

    Attributes:
        steps: optimisation steps that were made.
        kept: the step whose state was kept, the best on validation data; None for the last.
        items: of the training set.
        processes: that trained together.
    """

    steps: int
    kept: int | None
    items: int
    processes: int = 1


def write_card(
    folder: Path, recipe: Recipe, model: Task, content: Mapping[str, Any], facts: TrainingFacts
) -> None:
    """Write README.md into an adapter's folder.

    Args:
        folder: the adapter's.
        recipe: resolved.
        model: the backbone's model, as `aurora_vl.load` names it.
        content: of metrics.json.
        facts: of the training.
    """
    before = zero_shot_metrics(recipe.output, content["config"])
    text = model_card(recipe, model, content, facts, before)
    write_text(folder / "README.md", text)


def zero_shot_metrics(output: Path, config: Mapping[str, Any]) -> dict[str, float] | None:
    """What the backbone scored without tuning, if that was measured in the run's folder.

    Args:
        output: the run's folder.
        config: `config` of the run's metrics.json; an evaluation of other data or settings is not
            compared with it.
    """
    path = output / "evaluation-zero-shot" / "metrics.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = all(found["config"].get(name) == config.get(name) for name in _SETTINGS)
        metrics: dict[str, float] = found["metrics"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return metrics if same else None


def model_card(
    recipe: Recipe,
    model: Task,
    content: Mapping[str, Any],
    facts: TrainingFacts,
    before: Mapping[str, float] | None,
) -> str:
    """The card's text; arguments as of `write_card`, and the scores before tuning if known."""
    parts = [
        _front_matter(recipe),
        _summary(recipe, content),
        _usage(recipe, model),
        _scores(content, before),
        _training(recipe, content, facts),
    ]
    return "\n".join(parts)


def _front_matter(recipe: Recipe) -> str:
    """As PEFT writes it, so that hubs file the adapter under its base model."""
    data = ModelCardData(
        base_model=recipe.backbone,
        library_name="peft",
        tags=[f"base_model:adapter:{recipe.backbone}", recipe.adapter.method, recipe.task],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _summary(recipe: Recipe, content: Mapping[str, Any]) -> str:
    trained, total = content["trainable_parameters"], content["total_parameters"]
    parts = _AURORA_PARTS if recipe.adapter.method == "aurora" else _PARTS
    counts = [
        f"{content['parameters'][part]:,} {name}"
        for part, name in parts.items()
        if content["parameters"].get(part)
    ]
    return (
        f"# {recipe.adapter.method.capitalize()} adapter for {recipe.task} over "
        f"{recipe.backbone}\n\n"
        f"{trained:,} parameters were trained ({', '.join(counts)}), "
        f"{100 * trained / total:.2f} % of the {total:,} in use; all others are those of "
        f"`{recipe.backbone}`.\n"
    )


def _usage(recipe: Recipe, model: Task) -> str:
    given = [json.dumps(recipe.backbone, ensure_ascii=False), f'task="{model}"']
    if recipe.image_size is not None:
        given.append(f"image_size={recipe.image_size}")
    needed = ""
    kind = METHODS[recipe.adapter.method].registered
    if kind:
        needed = (
            "`import aurora_vl` (package `aurora-vl`) must come before the adapter is loaded: it "
            f"registers the\nmethod with PEFT, which otherwise ends with `KeyError: '{kind}'`.\n\n"
        )
    return (
        f"## Use\n\n{needed}"
        "```python\nimport aurora_vl\n"
        "from peft import PeftModel\n\n"
        f"backbone = aurora_vl.load({', '.join(given)})\n"
        'model = PeftModel.from_pretrained(backbone, "adapter").eval()  # this folder\n'
        "```\n\n"
        "To score it again, with the recipe below as recipe.yaml:\n\n"
        "```console\n$ aurora evaluate recipe.yaml --adapter adapter\n```\n"
    )


def _scores(content: Mapping[str, Any], before: Mapping[str, float] | None) -> str:
    split = content["config"]["scored_split"]
    metrics = content["metrics"].items()
    if before is None:
        table = markdown_table(["metric", "tuned"], [[f"`{n}`", v] for n, v in metrics], decimals=2)
        note = "\n\nThe backbone's zero-shot scores on it were not measured beside this run."
    else:
        rows = [[f"`{name}`", before.get(name, ""), value] for name, value in metrics]
        table, note = markdown_table(["metric", "zero-shot", "tuned"], rows, decimals=2), ""
    return f"## Scores\n\nOn the split `{split}`; in percent, ranks aside.\n\n{table}{note}\n"


def _training(recipe: Recipe, content: Mapping[str, Any], facts: TrainingFacts) -> str:
    settings, data = recipe.training, recipe.data
    batch = f"{settings.batch_size} items"
    if facts.processes > 1:
        batch += f" on each of {facts.processes} processes"
    kept = "the last" if facts.kept is None else f"step {facts.kept}, the best on validation data"
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    source = f"the generated world in {data.annotations}"
    if data.kind != "world":
        source = f"{data.kind}: annotations in {data.annotations}, media in {data.media}"
    epochs = f"{settings.epochs} epoch{'s' if settings.epochs > 1 else ''}"
    rate = f"{settings.learning_rate}"
    if content["parameters"].get("heads"):
        rate += f", of the heads {settings.head_learning_rate}"
    rows = {
        "data": f"{source}; {facts.items:,} training items",
        "steps": f"{facts.steps:,} ({epochs}, {batch} a step)",
        "state kept": kept,
        "learning rate": rate,
        "seed": str(content["seed"]),
        "time": f"{content['seconds']:.0f} s, scoring included",
        "versions": versions,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return (
        "## Training\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        "The command, with the resolved recipe as recipe.yaml:\n\n"
        "```console\n$ aurora train recipe.yaml\n```\n\n"
        f"```yaml\n{text}```\n"
    )
