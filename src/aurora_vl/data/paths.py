"""What can be said of a media file before anybody looks inside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from aurora_vl.errors import MediaError

Source = str | os.PathLike[str] | bytes
"""Where a medium comes from: a file's path, or its content."""


VIDEO_ENDINGS = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ogg", ".ogv", ".ts", ".webm", ".wmv"),
)
"""Of the names of files that are taken for videos; animated pictures (GIF) are."""


def require_source(source: Source, what: str, name: str | None = None) -> str:
    """Refuse what is no regular file with something in it, or no content.

    Pipes and devices are refused too: reading one could wait for ever.

    Args:
        source: a path, or a file's content.
        what: the word for it in messages, "picture" or "video".
        name: what messages call it; by default the path, or "the picture given".

    Returns:
        that name.

    Raises:
        MediaError: names the source and what it is.
    """
    if isinstance(source, bytes):
        name = name or f"the {what} given"
        size = len(source)
    else:
        name = name or os.fspath(source)
        size = _size_of_file(Path(source), what, name)
    if not size:
        raise MediaError(f"{name} is empty (0 bytes): replace it")
    return name


def _size_of_file(path: Path, what: str, name: str) -> int:
    try:
        found = path.stat()
    except PermissionError:
        raise MediaError(
            f"{name} may not be looked at: change the permissions of its folders"
        ) from None
    except (OSError, ValueError):  # ValueError: a NUL character in the name
        raise MediaError(f"there is no file {name}: correct the path") from None
    if stat.S_ISDIR(found.st_mode):
        raise MediaError(f"{name} is a folder where a {what} was expected: give a file")
    if not stat.S_ISREG(found.st_mode):
        raise MediaError(f"{name} is a pipe or a device where a {what} was expected: give a file")
    return found.st_size
