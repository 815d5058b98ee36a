"""`aurora ask`: a question about a picture or a video, answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aurora_vl.cli.options import AsJson, Quiet, Verbose
from aurora_vl.reporting.terminal import show_json


def ask(
    media: Annotated[
        Path, typer.Argument(metavar="MEDIA", show_default=False, help="A picture or a video.")
    ],
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", show_default=False, help="In words, in quotes.")
    ],
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="X",
            show_default=False,
            help="mini, a hub id, a folder or a .pth file; else the adapter's own, else mini.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", metavar="DIR", help="What train wrote.")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers", metavar="FILE", help="A JSON list to choose from; else words are written."
        ),
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Answer a question about a picture or a video."""
    from aurora_vl.inference.asking import answer_about

    found = answer_about(media, question, backbone=backbone, adapter=adapter, answers=answers)
    if json:
        show_json(found)
    else:
        print(found["answer"])
