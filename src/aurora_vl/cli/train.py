"""`aurora train`: tune by a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from aurora_vl.cli.options import Quiet, RecipeName, Settings, Smoke, Verbose
from aurora_vl.reporting.terminal import show_metrics


def train(
    recipe: RecipeName,
    settings: Settings = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in training.output, or start if there is none."
        ),
    ] = False,
    smoke: Smoke = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Tune a model by a recipe and score it.

    Writes adapter/, metrics.json, recipe.yaml, logs and checkpoints to training.output.
    """
    from aurora_vl.recipes.recipe import load_recipe
    from aurora_vl.training.run import train as tune

    resolved = load_recipe(recipe, settings or (), smoke=smoke)
    content = tune(resolved, resume=resume)
    show_metrics(content, f"tuned: {resolved.output}")
