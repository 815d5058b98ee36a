"""The command `aurora`: its subcommands, its version and what `-h` shows.

Commands import torch and the rest only when they run, so that help and wrong usage answer fast.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from aurora_vl._version import __version__
from aurora_vl.cli.ask import ask
from aurora_vl.cli.bench import bench
from aurora_vl.cli.check_data import check_data
from aurora_vl.cli.compare import compare
from aurora_vl.cli.convert import convert
from aurora_vl.cli.demo import demo
from aurora_vl.cli.evaluate import evaluate
from aurora_vl.cli.export import export
from aurora_vl.cli.guard import guarded
from aurora_vl.cli.index import index
from aurora_vl.cli.options import Quiet, Verbose, start_logging
from aurora_vl.cli.params import params
from aurora_vl.cli.recipes import recipes
from aurora_vl.cli.search import search
from aurora_vl.cli.serve import serve
from aurora_vl.cli.train import train

# Without markup typer's own errors are plain lines, which no terminal's width cuts.
app = typer.Typer(
    name="aurora",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "params": params,
    "recipes": recipes,
    "check-data": check_data,
    "convert": convert,
    "export": export,
    "index": index,
    "search": search,
    "ask": ask,
    "serve": serve,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(guarded(_command))
# The benchmarks have a command line of their own, which gets everything after the name.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command("bench", context_settings=_PASSED_ON, add_help_option=False)(guarded(bench))


def _show_version(asked: bool) -> None:
    if asked:
        print(f"aurora {__version__}")
        raise typer.Exit()


@app.callback()
def _aurora(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Tune vision-language models by training a small share of their parameters."""


def run() -> None:
    """Entry point of the installed command and of `python -m aurora_vl`."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    start_logging()
    app(prog_name="aurora")
