"""Which media there are: in a tree of folders, or in a list of JSON lines.

Names that begin with a dot and symbolic links are left out: a link to a file of the tree would be
that file twice, and any other leads out of the tree.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aurora_vl.data.media import kind_of_file
from aurora_vl.data.paths import VIDEO_ENDINGS
from aurora_vl.data.readers.jsonl import read_media
from aurora_vl.data.records import MediaKind, Window
from aurora_vl.errors import UserError

_IMAGE_ENDINGS = (
    *(".avif", ".bmp", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
_ENDINGS = (*_IMAGE_ENDINGS, *VIDEO_ENDINGS)


@dataclass(frozen=True, slots=True)
class Found:
    """A file to be indexed.

    Attributes:
        path: absolute.
        kind: "image" or "video".
        windows: the parts of it that are asked for; empty for the gallery's own choice.
    """

    path: str
    kind: MediaKind
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found.

    Attributes:
        files: in the order of their paths, each once.
        folder: all files below it were looked at; None for a list.
        links: how many symbolic links were left out.
    """

    files: Sequence[Found]
    folder: str | None = None
    links: int = 0

    def covers(self, path: str) -> bool:
        """Whether a file would have been found, had it been there."""
        return self.folder is None or path.startswith(os.path.join(self.folder, ""))


def scan(media: str | Path) -> Scan:
    """Look for media.

    Args:
        media: a folder, or a file that ends in .jsonl, whose lines are as for training but need no
            captions; its paths are relative to the folder it lies in.

    Raises:
        UserError: it is neither, or a line of the list is wrong.
    """
    media = Path(os.path.abspath(media))
    if media.is_dir():
        return _scan_folder(media)
    if media.is_file() and media.suffix.lower() == ".jsonl":
        return _read_list(media)
    what = "is no folder and no .jsonl file" if media.exists() else "does not exist"
    raise UserError(f"{media} {what}; give a folder of pictures and videos, or a list of them")


def _scan_folder(folder: Path) -> Scan:
    links = 0
    files = []
    for entry in _walk(str(folder)):
        if entry.is_symlink():
            links += 1
        elif entry.name.lower().endswith(_ENDINGS):
            files.append(Found(entry.path, kind_of_file(Path(entry.path))))
    files.sort(key=lambda found: os.fsencode(found.path))
    return Scan(files, str(folder), links)


def _walk(folder: str) -> Iterator[os.DirEntry[str]]:
    """All links and regular files below a folder, without those whose names begin with a dot.

    Raises:
        UserError: a folder may not be read.
    """
    waiting = [folder]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError as error:
            raise UserError(
                f"{error.filename} cannot be read ({error.strerror}); change its permissions"
            ) from None
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                yield entry


def _read_list(path: Path) -> Scan:
    windows: dict[tuple[str, MediaKind], set[Window]] = {}
    for name, kind, window in read_media(path):
        absolute = os.path.abspath(path.parent / name)
        wanted = windows.setdefault((absolute, kind), set())
        if window is not None:
            wanted.add(window)
    files = [Found(*key, tuple(sorted(parts))) for key, parts in windows.items()]
    files.sort(key=lambda found: os.fsencode(found.path))
    return Scan(files)
