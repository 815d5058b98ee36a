"""What a run leaves in its folder: metrics.json, predictions and the adapter."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from aurora_vl._version import __version__
from aurora_vl.data.records import Splits
from aurora_vl.errors import UserError
from aurora_vl.inference.loading import TunedModel
from aurora_vl.inference.settings import save_tuned
from aurora_vl.methods.parameter_count import ParameterCount
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks import Outcome
from aurora_vl.utils.atomic import whole_folder, write_text


class RunMetrics(BaseModel):
    """The contents of metrics.json.

    Attributes:
        metrics: of the scored split; in percent, ranks aside.
        by_answer_type, by_question_type: of questions, the accuracy of each type.
        baselines: of questions, the accuracies of answering without looking.
        config: the resolved recipe and what the data turned out to be.
        trainable_parameters, total_parameters: of the model in use.
        parameters: the same by part, see `ParameterCount`.
        seconds: from reading the data to the scores.
        seed: `training.seed`.
        versions: of what the metrics depend on.
        skipped_media: damaged training media, where `data.on_error` is skip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: dict[str, float]
    by_answer_type: dict[str, float] = {}
    by_question_type: dict[str, float] = {}
    baselines: dict[str, float] = {}
    config: dict[str, Any]
    trainable_parameters: int
    parameters: dict[str, int]
    total_parameters: int
    seconds: float
    seed: int
    versions: dict[str, str]
    skipped_media: list[str] = []

    def contents(self) -> dict[str, Any]:
        """Plain values, those keys that the run's task and settings have."""
        return self.model_dump(exclude_unset=True)


def run_metrics(
    recipe: Recipe, count: ParameterCount, outcome: Outcome, splits: Splits[Any], seconds: float
) -> RunMetrics:
    """The metrics of a run that was scored.

    Args:
        recipe: resolved.
        count: of the model's parameters.
        outcome: of scoring.
        splits: the data.
        seconds: that the run took.
    """
    return RunMetrics(
        metrics={name: round(value, 4) for name, value in outcome.metrics.items()},
        **outcome.details,
        config={
            **json.loads(recipe.model_dump_json()),
            "scored_split": splits.scored,
            "chosen_on_scored": splits.chosen_on_scored,
            "training_media": len({record.media_id for record in splits.train}),
            "data_notes": list(splits.notes),
        },
        trainable_parameters=count.trainable,
        parameters=asdict(count),
        total_parameters=count.total,
        seconds=round(seconds, 2),
        seed=recipe.training.seed,
        versions=versions(),
    )


def read_metrics(path: Path) -> RunMetrics:
    """A finished run's metrics.json.

    Raises:
        UserError: the file is not what a run writes.
    """
    try:
        return RunMetrics.model_validate_json(path.read_bytes())
    except ValidationError:
        raise UserError(
            f"{path} is damaged; delete it, and the same command with --resume scores the run "
            "again."
        ) from None


def write_results(folder: Path, metrics: RunMetrics, outcome: Outcome) -> None:
    """Write the predictions, then metrics.json, which says that the run is finished."""
    for name, content in outcome.files().items():
        write_json(folder / name, content)
    write_json(folder / "metrics.json", metrics.contents())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_adapter(tuned: TunedModel, folder: Path) -> None:
    """Write the adapter's folder in the place of an earlier one; its card waits for the scores."""
    with whole_folder(folder, replace=True) as staging:
        save_tuned(tuned.model, staging, tuned.settings[None], tuned.tokenizer)
        (staging / "README.md").unlink(missing_ok=True)  # PEFT's form to be filled in


def versions() -> dict[str, str]:
    """Versions of what a metric depends on."""
    names = ("torch", "transformers", "peft", "accelerate", "pillow", "numpy")
    return {
        "aurora-vl": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
