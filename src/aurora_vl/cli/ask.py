"""`aurora ask`: a question about a picture or a video, answered."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from aurora_vl.cli.options import AsJson, Quiet, Verbose
from aurora_vl.reporting.terminal import show_json

log = logging.getLogger(__name__)


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
            "--answers",
            metavar="FILE",
            help="A JSON list to choose from; else as the adapter was scored.",
        ),
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Answer a question about a picture or a video."""
    from aurora_vl.data.readers.vqav2_blip import read_answer_list
    from aurora_vl.inference.answerer import Answerer, require_words

    require_words(question)
    listed = None if answers is None else read_answer_list(answers, "check --answers")
    answerer = Answerer.load(backbone, adapter)
    if answerer.cut(question):
        log.warning("the question is longer than what the model reads; its end is cut off")
    found = answerer.answer(media, question, answers=listed)
    if json:
        show_json(
            {
                "media": str(media),
                "question": question,
                "answer": str(found),
                "log_likelihood": found.log_likelihood,
            }
        )
    else:
        print(found)
