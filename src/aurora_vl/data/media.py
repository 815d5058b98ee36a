"""The one place where a record becomes pixels, and where listed files are looked for.

Data sets, checks and galleries all decode through `load_media`, so that a new kind of medium is
taught to all of them here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from aurora_vl.data.images import open_image
from aurora_vl.data.records import CaptionedMedia, QuestionRecord, R, Record, Splits
from aurora_vl.data.transforms import ImageTransform
from aurora_vl.errors import UserError

__all__ = ["load_media", "missing_media", "probe_media", "require_media"]

_STAT_THREADS = 16  # looking for files waits on the disk or the network, not on the processor


def load_media(
    record: Record, transform: ImageTransform, rng: np.random.Generator | None = None
) -> Tensor:
    """Decode and transform a record's medium.

    Args:
        record: what to load; only its path and kind are read.
        transform: crop and size.
        rng: source of the random crop; None for none.

    Returns:
        uint8 (3, S, S).

    Raises:
        UserError: the file is absent or damaged, or is a video where pictures are read.
    """
    return transform(_decode(record), rng)


def probe_media(record: Record) -> None:
    """Decode a record's medium to see whether it can be; errors as for `load_media`."""
    _decode(record)


def missing_media(records: Iterable[CaptionedMedia | QuestionRecord]) -> list[str]:
    """Return the paths of listed files that do not exist, each once, in order of listing."""
    paths = list(dict.fromkeys(str(record.path) for record in records))
    with ThreadPoolExecutor(_STAT_THREADS) as pool:
        exists = list(pool.map(_is_file, paths, chunksize=256))
    return [path for path, found in zip(paths, exists) if not found]


def require_media(splits: Splits[R]) -> None:
    """Refuse a data set some of whose files are absent, before any time is spent on it.

    Raises:
        UserError: names the first absent file and how many there are.
    """
    groups: Sequence[list[R]] = list(splits.named().values())
    missing = missing_media(chain.from_iterable(groups))
    if missing:
        listed = len({str(record.path) for group in groups for record in group})
        raise UserError(
            f"{len(missing)} of {listed} listed media are absent, the first is {missing[0]}: check "
            "data.media, or take them out of the annotations (aurora check-data lists them)"
        )


def _decode(record: Record) -> Image.Image:
    if record.kind != "image":
        raise UserError(
            f"{record.path} is listed as a video where pictures are read: list pictures under the "
            'key "image"'
        )
    return open_image(record.path)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
