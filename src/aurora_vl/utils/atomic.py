"""Files and folders written whole or not at all: beside their place, then moved there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aurora_vl.errors import UserError

UNFINISHED = ".unfinished-"
"""What the names begin with that are not whole yet."""


def require_free(out: Path) -> None:
    """Refuse a place that holds something, before work is spent on what is to be written there.

    Raises:
        UserError: it is a file, or a folder that is not empty.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder; give a new folder")


@contextmanager
def whole_folder(out: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes `out` when the block ends well, and else vanishes.

    Args:
        out: what lies above it is made if need be.
        replace: put it in the place of a folder of that name, whatever it holds.

    Raises:
        UserError: without `replace`, `out` is neither new nor an empty folder.
    """
    if not replace:
        require_free(out)
    out = out.resolve()  # "." has no name, and a link stays one
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{UNFINISHED}{out.name}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=out.parent) as temporary:
        staging = Path(temporary) / out.name  # its own folder: mkdtemp's is closed to others
        staging.mkdir()
        yield staging
        if replace and out.is_dir():
            os.replace(out, Path(temporary) / "before")
        with suppress(FileNotFoundError):
            out.rmdir()  # not everywhere is a folder put in the place of an empty one
        os.replace(staging, out)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f"{UNFINISHED}{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder that nobody else writes into."""
    for path in folder.glob(f"{UNFINISHED}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def require_writable(folder: Path, way_out: str) -> None:
    """Make a folder and try it, before time is spent on what is to be written there.

    Args:
        folder: it and those above it are made where they lack.
        way_out: the end of the sentence.

    Raises:
        UserError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}); {way_out}.") from None
