"""One process at a time in a folder: the others are refused, or wait."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from aurora_vl.errors import UserError
from aurora_vl.utils.atomic import require_writable
from aurora_vl.utils.processes import is_main_process

log = logging.getLogger(__name__)
LOCK_FILE = ".lock"


@contextmanager
def claimed(folder: Path, way_out: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder while the block runs; a process that ends in whatever way lets go of it.

    Of the processes that torchrun started the first one claims it for all. A process may claim a
    folder again that it holds.

    Args:
        folder: made if it is absent; taken away again if nothing was written into it.
        way_out: the end of the sentence, such as "give another --out".
        wait: for another process to let go of it.

    Raises:
        UserError: nothing can be written there, or another process holds it and `wait` is off.
    """
    if not is_main_process():
        yield
        return
    made = not folder.exists()
    require_writable(folder, way_out)
    lock = FileLock(folder / LOCK_FILE, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise UserError(
                f"another process is at work in {folder}; wait until it has ended, or {way_out}."
            ) from None
        log.info("another process is at work in %s; waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        if made and [path.name for path in folder.iterdir()] == [LOCK_FILE]:
            with suppress(OSError):  # not every system lets go of the name of an open file
                (folder / LOCK_FILE).unlink()
                folder.rmdir()
        lock.release()
