"""Arguments and options that several commands have, and what `-v` and `-q` do.

Both work before and after the subcommand's name: each occurrence sets the level of the log when it
is read.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from aurora_vl.utils.processes import is_main_process
from aurora_vl.utils.progress import console

LOGGER = "aurora_vl"
_WARNINGS = "py.warnings"  # where captured warnings go


class _ConsoleHandler(logging.Handler):
    """Writes to the console that progress bars are drawn on, so that neither spoils the other.

    One line a message: rich's own handler folds lines at the console's width, within paths too.
    """

    def emit(self, record: logging.LogRecord) -> None:
        console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


def start_logging() -> None:
    """Send the package's log from INFO upwards to standard error; of several processes, one's.

    Other packages' Python warnings are for developers and are shown under `-v` only.
    """
    logger = logging.getLogger(LOGGER)
    logger.addHandler(_ConsoleHandler())
    logging.captureWarnings(True)
    logger.setLevel(logging.INFO if is_main_process() else logging.ERROR)


def _be_verbose(asked: bool) -> None:
    if asked:
        logging.getLogger(LOGGER).setLevel(logging.DEBUG)
        logging.getLogger(_WARNINGS).addHandler(_ConsoleHandler())


def _be_quiet(asked: bool) -> None:
    if asked:
        logging.getLogger(LOGGER).setLevel(logging.ERROR)


Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=_be_verbose,
        expose_value=False,
        help="Log more, and show where an unexpected error happened.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_be_quiet,
        expose_value=False,
        help="No log and no progress, only results and errors.",
    ),
]


def home_path(text: str) -> Path:
    """A path of the command line; shells leave the ~ of `--out=~/x` to us."""
    return Path(os.path.expanduser(text))


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        show_default=False,
        help="A YAML file, or a bundled recipe's name (aurora recipes lists them).",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        show_default=False,
        help="Recipe keys to set, such as training.epochs=3.",
    ),
]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke",
        help="Try the recipe in seconds: the mini foundation and a few generated files in its "
        "layout, under runs/.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
GalleryUri = Annotated[
    str,
    typer.Option(
        "--gallery",
        metavar="URI",
        show_default=False,
        help="A file, milvus:FILE.db, or http(s)://host:port[/collection] of a Milvus server.",
    ),
]


def seconds(text: str) -> float:
    """A duration such as 10s or 2.5."""
    try:
        found = float(text.removesuffix("s"))
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise typer.BadParameter(f"{text} is no duration; write seconds, such as 10s")
    return found
