"""Folders and files are whole or absent, and what was there before stays until then."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_vl.errors import UserError
from aurora_vl.utils.atomic import remove_unfinished, whole_folder, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_put_in_the_place_of_another_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for text in ("one", "two"):
        with whole_folder(out, replace=True) as staging:
            (staging / text).write_text(text)
    assert names(out) == ["two"]
    with pytest.raises(UserError, match="not an empty folder"), whole_folder(out):
        pass
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_failing_block_leaves_everything_as_it_was(tmp_path: Path, replace: bool) -> None:
    out = tmp_path / "out"
    if replace:
        out.mkdir()
        (out / "kept").touch()
    with pytest.raises(FileNotFoundError), whole_folder(out, replace=replace) as staging:
        (staging / "new" / "below").touch()
    assert names(tmp_path) == (["out"] if replace else [])
    assert not replace or names(out) == ["kept"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """Seen from within a block and a write that were going on when the process was killed."""
    write_text(tmp_path / "mine.json", "{}")
    (tmp_path / ".hidden").touch()
    with whole_folder(tmp_path / "out") as staging:
        (staging / "half").touch()
        unfinished = staging.parent
        copy = tmp_path / unfinished.name.replace("out", "other")
        copy.mkdir()
        remove_unfinished(tmp_path)
        assert names(tmp_path) == [".hidden", "mine.json"]
        staging.mkdir(parents=True)
    assert names(tmp_path) == [".hidden", "mine.json", "out"]
