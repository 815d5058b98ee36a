"""Two commands that would write into one folder: the second is refused in a sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Aurora, OwnData

HOLD = """
import sys
from pathlib import Path
from aurora_vl.utils.claims import claimed
with claimed(Path(sys.argv[1]), ""):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A folder in which another process is at work."""
    folder = tmp_path / "held"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield folder
        process.kill()


def test_the_second_command_is_refused(aurora: Aurora, own_data: OwnData, held: Path) -> None:
    """Before the recipe's data or backbone is looked at."""
    recipe, nothing = own_data.recipe, f"backbone={held / 'nowhere'}"
    commands: dict[str, tuple[object, ...]] = {
        "set training.output to another folder": ("train", recipe, f"training.output={held}"),
        "give another --out": ("evaluate", recipe, "--out", held),
        "or give another --out": ("compare", recipe, "--methods", "none", "--out", held),
    }
    for way_out, words in commands.items():
        outcome = aurora(*words, nothing)
        assert outcome.status == 2
        assert outcome.err.startswith(f"aurora: another process is at work in {held}; wait until")
        assert way_out in outcome.err
    assert [path.name for path in held.iterdir()] == [".lock"]
    outcome = aurora("demo", "--out", held)
    assert outcome.status == 2
