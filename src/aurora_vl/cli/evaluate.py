"""`aurora evaluate`: score a recipe's data, with an adapter or zero-shot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aurora_vl.cli.options import AsJson, Quiet, RecipeName, Settings, Smoke, Verbose, home_path
from aurora_vl.reporting.terminal import show_json, show_metrics


def evaluate(
    recipe: RecipeName,
    settings: Settings = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            "--adapter",
            parser=home_path,
            metavar="DIR",
            help="What train wrote; without it, zero-shot.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=home_path,
            metavar="DIR",
            help="For metrics.json and predictions.json; by default "
            "<training.output>/evaluation-<adapter's name or zero-shot>.",
        ),
    ] = None,
    smoke: Smoke = False,
    json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Score a recipe's test data, with an adapter or zero-shot."""
    from aurora_vl.recipes.recipe import load_recipe
    from aurora_vl.training.run import evaluate as score

    resolved = load_recipe(recipe, settings or (), smoke=smoke)
    content = score(resolved, adapter=adapter, out=out)
    if json:
        show_json(content)
    else:
        show_metrics(content, "zero-shot" if adapter is None else f"with {adapter}")
