"""The command line, in this process or its own, and a small data set, for the tests of the CLI."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from typer.testing import CliRunner

from aurora_vl.cli.main import app

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220)}


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out)


Aurora = Callable[..., Outcome]


def run_in_process(*arguments: object) -> Outcome:
    """`aurora ARGUMENTS...` without a process of its own."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def start_process(*arguments: object, folder: Path) -> subprocess.Popen[str]:
    """`python -m aurora_vl ARGUMENTS...` in a folder, on one thread, its outputs piped."""
    return subprocess.Popen(
        [sys.executable, "-m", "aurora_vl", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_listen_to_interrupts,
    )


def _listen_to_interrupts() -> None:
    """What a shell starts in the background ignores them, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_process(*arguments: object, folder: Path) -> Outcome:
    """As `start_process`, to the end."""
    process = start_process(*arguments, folder=folder)
    out, err = process.communicate()
    return Outcome(process.returncode, out, err)


@dataclass(frozen=True)
class OwnData:
    """A recipe over `train.jsonl`, `val.jsonl` and `test.jsonl`, with its pictures."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """The recipe's file."""
        return self.folder / "recipe.yaml"

    @property
    def output(self) -> Path:
        """The run's folder."""
        return self.folder / "run"

    def write(self, split: str, entries: list[Any]) -> None:
        """Replace a split's annotations; texts are written as they are."""
        lines = [e if isinstance(e, str) else json.dumps(e) for e in entries]
        (self.folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def write_own_data(folder: Path, backbone: Path | str) -> OwnData:
    """Six pictures a split in three colours; one epoch of two steps."""
    folder.mkdir()
    data = OwnData(folder)
    for split in ("train", "val", "test"):
        entries = []
        for number, (name, colour) in enumerate([*COLOURS.items()] * 2):
            picture = f"{split}{number}.png"
            Image.new("RGB", (20 + number, 16), colour).save(folder / picture)
            entries.append({"image": picture, "caption": f"a {name} box under {number} trees"})
        data.write(split, entries)
    recipe = {
        "backbone": str(backbone),
        "adapter": {"rank": 4},
        "objective": {"queue": 8},
        "data": {
            "kind": "jsonl",
            "annotations": str(folder),
            "media": str(folder),
            "augmentation": "none",
        },
        "training": {
            "epochs": 1,
            "batch_size": 3,
            "validations": 1,
            "output": str(data.output),
        },
        "evaluation": {"rerank": 4},
    }
    data.recipe.write_text(json.dumps(recipe))  # JSON is YAML
    return data
