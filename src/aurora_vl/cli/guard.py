"""How a command ends: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted.

Where the reader of standard output has seen enough (`aurora recipes | head -1`) that is 0, too.
Whatever goes wrong is one sentence on standard error; a traceback is for unexpected errors under
`-v` only.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, ParamSpec

import typer

from aurora_vl.cli.options import LOGGER
from aurora_vl.errors import UserError
from aurora_vl.utils.progress import console

P = ParamSpec("P")
_FAILED, _WRONG_INPUT, _INTERRUPTED = 1, 2, 130
# What a path on the command line or in a recipe can cause anywhere; other OSErrors are failures.
_PATH_ERRORS = (
    *(FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError),
    PermissionError,
)
_PATH_NUMBERS = (errno.ENAMETOOLONG, errno.EROFS)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the exits above, in place of exceptions."""

    @functools.wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except UserError as error:
            _leave(_WRONG_INPUT, _own_words(error))
        except KeyboardInterrupt:
            hint = "the same command with --resume goes on" if command.__name__ == "train" else ""
            _leave(_INTERRUPTED, f"interrupted; {hint or 'nothing half-written is left'}")
        except BrokenPipeError as error:
            if not _nobody_reads_on():
                _fail(error)
        except OSError as error:
            wrong = isinstance(error, _PATH_ERRORS) or error.errno in _PATH_NUMBERS
            if error.filename is None or not wrong:
                _fail(error)
            _leave(_WRONG_INPUT, f"{error.filename}: {error.strerror}; give another path")
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            _fail(error)

    return inner


def _nobody_reads_on() -> bool:
    """Whether it is standard output that broke; then what is left of it goes nowhere, quietly."""
    if sys.platform == "win32":  # there it is another error
        return False
    try:
        output = sys.stdout.fileno()
    except OSError:  # there is no file behind it
        return False
    pipe = select.poll()
    pipe.register(output, 0)
    broken = bool(pipe.poll(0))
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return broken


def _own_words(error: UserError) -> str:
    """The sentence; torch puts a traceback before it where a data loader's worker raised it."""
    return str(error).rpartition(f"{UserError.__module__}.{UserError.__qualname__}: ")[2]


def _fail(error: Exception) -> NoReturn:
    if logging.getLogger(LOGGER).isEnabledFor(logging.DEBUG):
        console.print(traceback.format_exc(), markup=False, highlight=False, soft_wrap=True)
        hint = ""
    else:
        hint = " (-v shows where)"
    _leave(_FAILED, f"{type(error).__name__}: {error}{hint}")


def _leave(status: int, sentence: str) -> NoReturn:
    text = f"aurora: {' '.join(sentence.split())}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(status)
