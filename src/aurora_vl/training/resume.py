"""Going on with a run that was interrupted, and never mixing two runs in one folder."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aurora_vl.errors import UserError
from aurora_vl.inference.settings import stored_recipe
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.checkpoints import checkpoints_in, newest_checkpoint, processes_of
from aurora_vl.training.outputs import RunMetrics, read_metrics
from aurora_vl.utils.processes import launched_processes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run's folder holds already.

    Attributes:
        metrics: of the finished run, where there is nothing left to do.
        checkpoint: the one to go on from, if there is one.
    """

    metrics: RunMetrics | None = None
    checkpoint: Path | None = None


def begun(recipe: Recipe, *, resume: bool) -> Begun:
    """Look at what the run's folder holds.

    Args:
        recipe: resolved.
        resume: whether a run that it holds may be gone on with.

    Raises:
        UserError: it may not, or the run was begun with another recipe or number of processes, or
            is damaged.
    """
    out = recipe.output
    stored = stored_recipe(out)
    if not (stored or (out / "adapter").is_dir() or checkpoints_in(out / "checkpoints")):
        return Begun()
    if not resume:
        raise UserError(
            f"{out} already holds a run; add --resume to go on with it, "
            "or set training.output to a new folder."
        )
    if stored:
        _require_the_same(recipe, stored)
    metrics = out / "metrics.json"
    if metrics.is_file():
        log.info("%s is finished; nothing to do", out)
        return Begun(metrics=read_metrics(metrics))
    checkpoint = newest_checkpoint(out / "checkpoints")
    if checkpoint is not None:
        _require_as_many_processes(out, checkpoint)
    return Begun(checkpoint=checkpoint)


def _require_the_same(recipe: Recipe, stored: dict[str, Any]) -> None:
    """Refuse to go on with a run of another recipe."""
    before, now = _plain(stored), json.loads(recipe.model_dump_json())
    for told in (before, now):
        told.pop("comparison", None)  # a single run does not look at it
    changed = sorted(_differences(before, now))
    if changed:
        raise UserError(
            f"{recipe.output} was begun with another recipe ({changed[0]} differs); "
            "give the same settings, or set training.output to a new folder."
        )


def _plain(stored: Any) -> Any:
    """A stored recipe with today's keys: those that came later stand at their defaults."""
    try:
        return json.loads(Recipe.model_validate(stored).model_dump_json())
    except ValidationError:
        return stored


def _differences(a: Any, b: Any, key: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            found
            for name in {**a, **b}
            for found in _differences(a.get(name), b.get(name), f"{key}.{name}".lstrip("."))
        ]
    return [] if a == b else [key]


def _require_as_many_processes(out: Path, checkpoint: Path) -> None:
    """Refuse to go on with another number: the steps of an epoch, and so the rest, would differ."""
    before, now = processes_of(checkpoint), launched_processes()
    if before and before != now:
        raise UserError(
            f"{out} was begun with {before} process{'es' * (before > 1)} and this is a run of "
            f"{now}; start as many as then, or set training.output to a new folder."
        )
