"""Small pictures of what is in a gallery: of a video, of the moment in its middle."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from aurora_vl.data.images import open_picture
from aurora_vl.data.records import MediaKind, Window
from aurora_vl.data.video import read_frames

SIDE = 256
"""Pixels of the longer side, at most."""
ALIKE = 8.0
"""Root mean square difference, of 255 levels, up to which two small pictures look the same."""
_GRID = 16


def thumbnail(path: str, kind: MediaKind, window: Window | None) -> bytes:
    """A JPEG file that shows a medium small.

    Raises:
        MediaError: the file is absent or damaged.
    """
    if kind == "image":
        picture = open_picture(path, least_side=SIDE)
    else:
        (picture,) = read_frames(path, 1, window=window)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def look(jpeg: bytes) -> np.ndarray:
    """What a small picture looks like from afar: (768,) levels of 16 x 16 RGB pixels, float32."""
    tiny = open_picture(jpeg).resize((_GRID, _GRID), Image.Resampling.BOX)
    return np.asarray(tiny, np.float32).ravel()
