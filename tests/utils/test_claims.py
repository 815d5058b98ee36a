"""A folder is one process's at a time, and nobody's once that process is dead."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aurora_vl.errors import UserError
from aurora_vl.utils.claims import LOCK_FILE, claimed

HOLD = """
import sys
from pathlib import Path
from aurora_vl.utils.claims import claimed
with claimed(Path(sys.argv[1]), ""):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a folder until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held_elsewhere(folder) as process:
        with pytest.raises(UserError) as caught, claimed(folder, "give another --out"):
            pass
        assert str(caught.value) == (
            f"another process is at work in {folder}; wait until it has ended, or give another "
            "--out."
        )
        process.kill()
        process.wait()
        with claimed(folder, "give another --out"):
            assert (folder / LOCK_FILE).exists()


def test_waiting_ends_when_the_first_lets_go(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        assert process.stdin is not None
        later = threading.Timer(0.2, process.stdin.close)
        later.start()
        with claimed(tmp_path, "", wait=True):
            assert process.wait() == 0
        later.join()


def test_a_folder_that_is_held_can_be_claimed_again(tmp_path: Path) -> None:
    with claimed(tmp_path / "run", ""), claimed(tmp_path / "run", ""):
        pass
    with claimed(tmp_path / "run", ""):
        (tmp_path / "run" / "recipe.yaml").touch()
    assert (tmp_path / "run" / "recipe.yaml").exists()


def test_an_unused_folder_vanishes_but_not_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        with claimed(tmp_path / name, ""):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_only_the_first_of_torchruns_processes_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    entered = False
    with held_elsewhere(tmp_path / "run"), claimed(tmp_path / "run", ""):
        entered = True
    assert entered


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"file/run cannot be written to \(.*\); give another"),
        claimed(tmp_path / "file" / "run", "give another"),
    ):
        pass
