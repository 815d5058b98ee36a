"""How a command ends, whatever happens in it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aurora_vl.cli.guard import guarded
from aurora_vl.cli.options import Verbose
from aurora_vl.errors import UserError


def run(command: Callable[[], None], *arguments: str) -> tuple[int, str]:
    """Exit status and standard error of a one-command program that ends like `command`."""

    def train(verbose: Verbose = False) -> None:
        command()

    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(guarded(train))
    result = CliRunner().invoke(app, list(arguments))
    assert result.stdout == ""
    return result.exit_code, result.stderr


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def test_done_is_0() -> None:
    assert run(lambda: None) == (0, "")


def test_a_users_error_is_one_sentence_and_2() -> None:
    status, err = run(raising(UserError("data.media is x,\nwhich does not exist: mend it")))
    assert (status, err) == (2, "aurora: data.media is x, which does not exist: mend it\n")


def test_a_long_sentence_is_not_wrapped() -> None:
    path = "/a" * 200
    assert run(raising(UserError(f"{path} is [bold] and absent")))[1].count("\n") == 1


def test_an_unexpected_error_is_one_sentence_and_1() -> None:
    status, err = run(raising(ValueError("no such luck")))
    assert status == 1
    assert err == "aurora: ValueError: no such luck (-v shows where)\n"


def test_verbose_shows_where() -> None:
    status, err = run(raising(ValueError("no such luck")), "-v")
    assert status == 1
    assert "Traceback" in err
    assert err.endswith("aurora: ValueError: no such luck\n")


def test_an_interrupted_training_says_how_to_go_on() -> None:
    status, err = run(raising(KeyboardInterrupt()))
    assert status == 130
    assert "--resume" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [FileExistsError, NotADirectoryError, PermissionError])
def test_a_path_that_cannot_be_used_is_wrong_input(error: type[OSError], tmp_path: Path) -> None:
    status, err = run(raising(error(1, "It cannot be", str(tmp_path))))
    assert status == 2
    assert err == f"aurora: {tmp_path}: It cannot be; give another path\n"


def test_a_name_that_is_too_long_is_wrong_input() -> None:
    status, err = run(lambda: Path("y" * 300).touch())
    assert (status, err.count("\n")) == (2, 1)
    assert err.endswith(": File name too long; give another path\n")
    assert run(raising(OSError(28, "No space left on device", "a")))[0] == 1


def test_a_read_only_place_is_wrong_input() -> None:
    status, err = run(raising(OSError(errno.EROFS, "Read-only file system", "a/b")))
    assert (status, err) == (2, "aurora: a/b: Read-only file system; give another path\n")


def test_an_exit_of_the_command_is_kept() -> None:
    assert run(raising(typer.Exit(1))) == (1, "")


@pytest.mark.parametrize("words", [("recipes",), ("params", "demo-retrieval", "--json")])
def test_a_reader_that_has_seen_enough(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "aurora_vl", *words],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_another_broken_pipe_is_a_failure() -> None:
    status, err = run(raising(BrokenPipeError(32, "a worker is gone")))
    assert status == 1
    assert "BrokenPipeError: [Errno 32] a worker is gone" in err
