from __future__ import annotations

import logging

import pytest
from command_line import Aurora

import aurora_vl
from aurora_vl.cli.options import LOGGER


def test_version(aurora: Aurora) -> None:
    outcome = aurora("--version")
    assert (outcome.status, outcome.out) == (0, f"aurora {aurora_vl.__version__}\n")


def test_help_names_the_commands(aurora: Aurora) -> None:
    outcome = aurora("--help")
    assert outcome.status == 0
    for command in ("demo", "train", "evaluate", "params", "recipes", "check-data"):
        assert f"\n  {command} " in outcome.out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("no-such-command",),
        ("train",),
        ("train", "demo-retrieval", "--no-such-option"),
        ("evaluate", "demo-retrieval", "--adapter"),
        ("demo", "--task", "cooking"),
        ("demo", "--seed", "many"),
        ("demo", "--seed", "-1"),
    ],
)
def test_wrong_usage_exits_2(aurora: Aurora, arguments: tuple[str, ...]) -> None:
    outcome = aurora(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert "Usage: " in outcome.err or "Error: " in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        (("-v", "recipes"), logging.DEBUG),
        (("recipes", "-v"), logging.DEBUG),
        (("recipes", "--verbose"), logging.DEBUG),
        (("-q", "recipes"), logging.ERROR),
        (("recipes", "--quiet"), logging.ERROR),
        (("-q", "recipes", "-v"), logging.DEBUG),
    ],
)
def test_level_of_the_log_before_and_after_the_command(
    aurora: Aurora, arguments: tuple[str, ...], level: int
) -> None:
    assert aurora(*arguments).status == 0
    assert logging.getLogger(LOGGER).level == level


@pytest.mark.parametrize(
    "command", ["demo", "train", "evaluate", "params", "recipes", "check-data"]
)
def test_every_command_has_help_and_takes_both_levels(aurora: Aurora, command: str) -> None:
    outcome = aurora(command, "-h")
    assert outcome.status == 0
    assert "-v, --verbose" in outcome.out
    assert "-q, --quiet" in outcome.out
