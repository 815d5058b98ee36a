"""What can be said of a media file before anybody looks inside."""

from __future__ import annotations

import stat
from pathlib import Path

from aurora_vl.errors import UserError

VIDEO_ENDINGS = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ogg", ".ogv", ".ts", ".webm", ".wmv"),
)
"""Of the names of files that are taken for videos; animated pictures (GIF) are."""


def require_file(path: Path, what: str) -> None:
    """Refuse a path that is no regular file with something in it.

    Pipes and devices are refused too: reading one could wait for ever.

    Args:
        path: of a picture or video.
        what: the word for it in messages, "picture" or "video".

    Raises:
        UserError: names the path and what it is.
    """
    try:
        found = path.stat()
    except PermissionError:
        raise UserError(
            f"{path} may not be looked at: change the permissions of its folders"
        ) from None
    except (OSError, ValueError):  # ValueError: a NUL character in the name
        raise UserError(
            f"{path} does not exist: check data.media and the paths in the annotations"
        ) from None
    if stat.S_ISDIR(found.st_mode):
        raise UserError(f"{path} is a folder where a {what} was expected")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is a pipe or a device where a {what} was expected")
    if found.st_size == 0:
        raise UserError(f"{path} is empty (0 bytes): replace the file or take it out")
