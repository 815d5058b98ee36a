"""The one place where a record becomes pixels, and where listed files are looked for.

Data sets, checks and galleries all decode through `load_media`, so that a new kind of medium is
taught to all of them here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from aurora_vl.data.images import open_picture
from aurora_vl.data.names import Names
from aurora_vl.data.paths import VIDEO_ENDINGS
from aurora_vl.data.records import (
    CaptionedMedia,
    MediaKind,
    QuestionRecord,
    R,
    Record,
    Splits,
    window_of,
)
from aurora_vl.data.threads import mapped
from aurora_vl.data.video import iter_frames
from aurora_vl.errors import MediaError, UserError

__all__ = [
    "MediaTransform",
    "did_you_mean",
    "kind_of_file",
    "load_media",
    "missing_media",
    "probe_media",
    "require_kind",
    "require_media",
    "without_missing",
]

_STAT_THREADS = 16  # looking for files waits on the disk or the network, not on the processor


class MediaTransform(Protocol):
    """What makes a model's item of decoded pictures, such as `transforms.ImageTransform`."""

    frames: int

    def image(self, picture: Image.Image, rng: np.random.Generator | None = None) -> Any:
        """An item of one RGB picture."""
        ...

    def video(self, frames: Iterable[Image.Image], rng: np.random.Generator | None = None) -> Any:
        """An item of a video's RGB frames."""
        ...


@contextmanager
def _listed() -> Iterator[None]:
    """Add what can be done about a file of a data set, of which its decoder does not know."""
    try:
        yield
    except MediaError as error:
        raise MediaError(f"{error}, or take it out of the annotations") from error


def load_media(
    record: Record, transform: MediaTransform, rng: np.random.Generator | None = None
) -> Any:
    """Decode and transform a record's medium.

    Args:
        record: what to load; its path, kind and window are read.
        transform: makes the item; says how many frames are taken.
        rng: source of the random crop and of the frames' random moments; None for neither.

    Raises:
        MediaError: the file is absent or damaged.
    """
    if record.kind == "image":
        return transform.image(open_picture(record.path), rng)
    return transform.video(_frames(record, transform.frames, rng), rng)


def kind_of_file(path: Path) -> MediaKind:
    """What a file is taken for by its name's ending, see `VIDEO_ENDINGS`."""
    return "video" if path.suffix.lower() in VIDEO_ENDINGS else "image"


@_listed()
def probe_media(record: Record, frames: int = 8) -> None:
    """Decode a record's medium, of a video some frames; errors as for `load_media`."""
    if record.kind == "image":
        open_picture(record.path)
    else:
        for _ in _frames(record, frames, None):
            pass


def missing_media(records: Iterable[CaptionedMedia | QuestionRecord]) -> list[str]:
    """Return the paths of listed files that do not exist, each once, in order of listing."""
    paths = list(dict.fromkeys(str(record.path) for record in records))
    exists = mapped(_is_file, paths, _STAT_THREADS, together=256)
    return [path for path, found in zip(paths, exists, strict=True) if not found]


def require_media(splits: Splits[R]) -> None:
    """Refuse a data set some of whose files are absent, before any time is spent on it.

    Raises:
        UserError: names the first absent file and how many there are.
    """
    missing = missing_media(chain.from_iterable(splits.named().values()))
    if missing:
        listed = len({str(r.path) for group in splits.named().values() for r in group})
        raise UserError(
            f"{len(missing)} of {listed} listed media are absent, the first is "
            f"{missing[0]}{did_you_mean(missing[0])}: check data.media, or take them out of the "
            "annotations (aurora check-data lists them)"
        )


def did_you_mean(path: str) -> str:
    """A question in brackets about similar names beside an absent file; "" if there are none."""
    similar = Names().similar(Path(path))
    return f" (did you mean {' or '.join(similar)}?)" if similar else ""


def without_missing(splits: Splits[R]) -> tuple[Splits[R], list[str]]:
    """The data set without training records whose files are absent, and those files' paths.

    Absent files of the other splits are left in: what is scored is never chosen by what is there.
    """
    missing = missing_media(splits.train)
    absent = set(missing)
    train = [record for record in splits.train if str(record.path) not in absent]
    return replace(splits, train=train), missing


def require_kind(splits: Splits[R], kind: MediaKind) -> None:
    """Refuse a data set that lists other than pictures ("image") or videos ("video").

    Raises:
        UserError: names the first such file.
    """
    for record in chain.from_iterable(splits.named().values()):
        if record.kind != kind:
            listed, read = ("a video", "pictures") if kind == "image" else ("a picture", "videos")
            raise UserError(
                f"{record.path} is listed as {listed} where {read} are read: choose the task for "
                f'its kind, or list {read} under the key "{kind}"'
            )


def _frames(record: Record, frames: int, rng: np.random.Generator | None) -> Iterator[Image.Image]:
    return iter_frames(record.path, frames, rng=rng, window=window_of(record))


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
