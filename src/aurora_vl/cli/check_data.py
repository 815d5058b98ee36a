"""`aurora check-data`: look a recipe's data over before a processor's time is paid for."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_vl.cli.options import AsJson, Quiet, RecipeName, Settings, Smoke, Verbose
from aurora_vl.reporting.terminal import show_json, show_table
from aurora_vl.utils.progress import progress_bar

if TYPE_CHECKING:
    from aurora_vl.data.check import DataReport

_SAMPLE = 500


def check_data(
    recipe: RecipeName,
    settings: Settings = None,
    full: Annotated[
        bool,
        typer.Option("--full", help=f"Decode every file, not {_SAMPLE} drawn at random."),
    ] = False,
    smoke: Smoke = False,
    json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Count a recipe's data; look for missing and damaged files and for overlap between splits.

    Missing or damaged files: exit 1. Overlap is a warning, and so are right answers that cannot be
    chosen or score in full and a backbone that was trained on the data already.
    """
    from aurora_vl.data.check import check_splits
    from aurora_vl.recipes.recipe import load_recipe
    from aurora_vl.training.data_warnings import data_warnings
    from aurora_vl.training.recipe_data import read_splits
    from aurora_vl.training.text_limits import text_limit

    resolved = load_recipe(recipe, settings or (), smoke=smoke)
    splits = read_splits(resolved)
    limit = text_limit(resolved)
    with progress_bar("decoding") as advance:
        report = check_splits(
            splits,
            sample=None if full else _SAMPLE,
            cut=limit.cut,
            progress=advance,
        )
    warnings = data_warnings(resolved, splits)
    if limit.warning is not None:
        warnings.append(limit.warning)
    if json:
        show_json({**report.to_dict(), "warnings": warnings})
    else:
        _show(report)
        for warning in warnings:
            print(f"warning: {warning}")
    if not report.ok:
        raise typer.Exit(1)


def _show(report: DataReport) -> None:
    from aurora_vl.data.media import did_you_mean

    header = ("split", "media", "texts", "missing", "damaged", "texts cut", "without text")
    rows = [
        [name, *(f"{count:,}" for count in asdict(split).values())]
        for name, split in report.splits.items()
    ]
    show_table(f"{report.decoded:,} files decoded", header, rows)
    for path in report.missing_first:
        print(f"missing: {path}{did_you_mean(path)}")
    _say_rest("missing", report.missing - len(report.missing_first))
    for sentence in report.undecodable_first:
        print(f"damaged: {sentence}")
    _say_rest("damaged", report.undecodable - len(report.undecodable_first))
    for pair, count in report.overlap.items():
        if count:
            first = report.overlap_first[pair][0]
            print(f"warning: {pair} share {count:,} media, such as {first}")
    if report.ok:
        print("every file is there" + (" and can be decoded" if report.decoded else ""))


def _say_rest(what: str, count: int) -> None:
    if count:
        print(f"{what}: and {count:,} more")
