"""States of a gallery, kept in a file and mapped one medium at a time.

What is held in memory does not grow with the gallery: rows are written as they are encoded, and
each is mapped by itself when it is read. The file has no name, so that however the process ends
nothing is left of it.
"""

from __future__ import annotations

import errno
import shutil
import tempfile

import numpy as np
import torch
from torch import Tensor

from aurora_vl.errors import UserError


class StoredStates:
    """States (N, d) of media, appended in order, in a file of the system's temporary folder.

    The room is given back at the end of its context.

    Args:
        media: how many there will be.
        half: store them in float16; scores are then not exactly those of the plain loop.
    """

    def __init__(self, media: int, *, half: bool = False) -> None:
        self.media = media
        self.half = half
        self.count = 0
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.float16)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed at the exit)

    def __enter__(self) -> StoredStates:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, states: Tensor) -> None:
        """Store the next media's states (B, N, d), of the same N and d every time.

        Raises:
            UserError: the disk has no room for all media.
        """
        if states.dtype == torch.bfloat16:
            states = states.float()  # numpy has no bfloat16
        rows = (states.half() if self.half else states).cpu().numpy()
        if not self.count:
            self._shape, self._dtype = rows.shape[1:], rows.dtype
            self._require_room(self.media * rows[0].nbytes)
        try:
            self._file.write(rows.tobytes())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._require_room(2**62)
        self.count += len(rows)

    def finish(self) -> None:
        """Write what is still in memory, before anything is read."""
        self._file.flush()

    def read(self, row: int) -> Tensor:
        """One medium's states (1, N, d), on the host, as they were stored.

        Raises:
            IndexError: no such row was stored.
        """
        if not 0 <= row < self.count:
            raise IndexError(f"row {row} of {self.count}")
        size = int(np.prod(self._shape)) * self._dtype.itemsize
        mapped = np.memmap(self._file, self._dtype, "r", offset=row * size, shape=(1, *self._shape))
        return torch.from_numpy(np.array(mapped))

    def _require_room(self, size: int) -> None:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if free < size:
            needed = "more" if size == 2**62 else f"{size / 1e9:.1f} GB"
            raise UserError(
                f"{folder} has {free / 1e9:.1f} GB free, but the gallery's states need "
                f"{needed}; set the environment variable TMPDIR to a folder with room, or "
                "evaluation.half_states to true."
            )
