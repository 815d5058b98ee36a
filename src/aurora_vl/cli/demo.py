"""`aurora demo`: see the bundled model get good at a new kind of picture."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aurora_vl.cli.options import Quiet, Verbose, home_path
from aurora_vl.reporting.terminal import show_change


class DemoTask(StrEnum):
    """What can be shown."""

    RETRIEVAL = "retrieval"
    VIDEO_RETRIEVAL = "video-retrieval"
    VQA = "vqa"
    VIDEO_QA = "video-qa"


def demo(
    task: Annotated[DemoTask, typer.Option("--task", help="What to show.")] = DemoTask.RETRIEVAL,
    out: Annotated[
        Path,
        typer.Option("--out", parser=home_path, metavar="DIR", help="Where everything is written."),
    ] = Path("demo"),
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, show_default=False, help="Of pictures and tuning; else the recipe's."
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Generate pictures or videos, score the bundled model on them, tune it, score again.

    Writes zero_shot.json, metrics.json, adapter/ and report.html. A folder that an earlier demo
    made is begun anew.
    """
    from aurora_vl.demo.demonstration import demonstrate

    result = demonstrate(out, task=task.value, seed=seed)
    show_change(result.before, result.after, "scores on the test data")
    trained, total = result.after["trainable_parameters"], result.after["total_parameters"]
    print(f"trained {trained:,} of {total:,} parameters ({100 * trained / total:.2f} %)")
    print(f"adapter: {out / 'adapter'}")
    print(f"report: {result.report}")
