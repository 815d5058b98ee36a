"""`aurora recipes`: the bundled recipes, one bare name a line."""

from __future__ import annotations

from aurora_vl.cli.options import Quiet, Verbose


def recipes(verbose: Verbose = False, quiet: Quiet = False) -> None:
    """List the bundled recipes."""
    from aurora_vl.recipes.recipe import bundled_recipes

    for name in bundled_recipes():
        print(name)
