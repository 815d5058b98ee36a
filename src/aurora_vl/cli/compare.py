"""`aurora compare`: the same data and budget for every method."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_vl.cli.options import Quiet, RecipeName, Settings, Verbose, home_path
from aurora_vl.reporting.terminal import show_table

if TYPE_CHECKING:
    from aurora_vl.comparison.records import Results


def compare(
    recipe: RecipeName,
    settings: Settings = None,
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            metavar="METHOD,...",
            show_default=False,
            help="What to compare: values of adapter.method, each with settings of its own if "
            "wanted and a label before a colon: aurora,lora+rank=1,ungated:aurora+gqt=off,full",
        ),
    ] = "",
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Runs of every method for the result.")
    ] = 3,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=home_path,
            metavar="DIR",
            show_default=False,
            help="For results.json, tables, charts and report.html; runs/compare-RECIPE if left "
            "out.",
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods: rates chosen on validation data, every seed scored once on test data.

    Interrupted, the same command goes on; finished runs are not repeated. comparison.trials (4) is
    how many learning rates are tried for each method, comparison.parallel (1) how many runs go side
    by side. A failed run is named, the others' results are kept, and the exit status is 1.
    """
    from aurora_vl.comparison.method_rows import parse_rows
    from aurora_vl.comparison.publishing import publish
    from aurora_vl.comparison.results import gather_results
    from aurora_vl.comparison.study import conduct, make_study
    from aurora_vl.utils.claims import claimed
    from aurora_vl.utils.disks import explained_disk_faults

    rows = parse_rows(methods)
    folder = out or Path("runs") / f"compare-{Path(recipe).stem}"
    goes_on = "mend this, and the same command goes on"
    with claimed(folder, "give another --out"), explained_disk_faults(folder, goes_on):
        study = make_study(recipe, rows, seeds=seeds, out=folder, settings=settings or ())
        findings = conduct(study)
        words = ["aurora", "compare", recipe, "--methods", methods, "--seeds", str(seeds)]
        command = shlex.join([*words, "--out", str(folder), *study.settings])
        results = gather_results(findings, command)
        if results.rows:
            publish(results, folder)
    if results.rows:
        _show(results)
        print(f"results, tables, charts and report.html: {folder}")
    for failure in results.failures:
        print(f"aurora: {failure.run} failed: {failure.reason}", file=sys.stderr)
    if results.failures:
        raise typer.Exit(1)


def _show(results: Results) -> None:
    """The table by score, the columns that fit a terminal."""
    from aurora_vl.comparison.result_tables import by_score, difference, notes, reference_label
    from aurora_vl.reporting.metrics import metric_label

    names = ("method", "own parameters", "learning rate", metric_label(results.primary))
    rows = [
        [
            row.label,
            f"{row.parameters.own:,}",
            "" if row.learning_rate is None else f"{row.learning_rate:g}",
            f"{row.score.mean:.1f}" + ("" if row.score.sd is None else f" ± {row.score.sd:.1f}"),
            difference(row),
        ]
        for row in by_score(results)
    ]
    title = f"{results.recipe}, by score"
    show_table(title, (*names, f"minus {reference_label(results)} [95 %]"), rows)
    for note in notes(results):
        print(note)
