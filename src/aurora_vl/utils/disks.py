"""Full and read-only disks, in a sentence."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from aurora_vl.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TORCH_WRITER = re.compile("PytorchStreamWriter|inline_container|unexpected pos")


@contextmanager
def explained_disk_faults(folder: Path, way_out: str) -> Iterator[None]:
    """Turn what a full or read-only disk raises in the block into a sentence.

    Args:
        folder: what is written into; it is named where the fault names no file.
        way_out: the end of the sentence.

    Raises:
        UserError: the sentence. Other faults stay as they are.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        place = getattr(error, "filename", None) or folder
        raise UserError(f"{place} cannot be written to ({reason}); {way_out}.") from error


def _reason(error: Exception) -> str | None:
    """What is the matter with the disk; None if it is something else."""
    if isinstance(error, RuntimeError):  # torch names no cause
        return "is the disk full?" if _TORCH_WRITER.search(str(error)) else None
    if isinstance(error, OSError):
        number = error.errno
    else:
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else None
    if number in _FULL:
        return f"the disk is full: {os.strerror(number)}"
    return os.strerror(number) if number == errno.EROFS else None
