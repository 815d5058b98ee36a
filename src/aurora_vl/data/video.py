"""Frames of videos of any kind a user has, upright and in RGB.

A video is cut into as many equal parts as frames are wanted; of each part the frame shown in its
middle is taken, in training the frame shown at a random moment. Frames are handed on one by one, so
memory does not grow with the video. Everything a file can do wrong ends in one `MediaError` that
names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
from PIL import Image

from aurora_vl.data.images import on_white
from aurora_vl.data.paths import Source, require_source
from aurora_vl.data.records import Window
from aurora_vl.data.video_file import VideoFile, damaged, pyav
from aurora_vl.errors import UserError


def read_frames(
    source: Source,
    frames: int = 8,
    *,
    rng: np.random.Generator | None = None,
    window: Window | None = None,
    name: str | None = None,
) -> list[Image.Image]:
    """Return frames of a video, spread evenly over it.

    Args:
        source: the path or the content of an MP4, MOV, WebM, MKV, AVI, animated GIF, MPEG, FLV,
            WMV or Ogg file.
        frames: how many; where the video has fewer, some are repeated.
        rng: draws one moment in each of `frames` equal parts; None takes their middles.
        window: the part of the video that is looked at, in seconds; None for all of it.
        name: what messages call the video; by default its path, or "the video given".

    Returns:
        Upright RGB pictures of equal size, in the order of time.

    Raises:
        MediaError: the file is absent, empty, no video, damaged, cut off or too large, holds sound
            alone, or ends before the window.
        UserError: PyAV (the extra `video`) is not installed.
    """
    return list(iter_frames(source, frames, rng=rng, window=window, name=name))


def iter_frames(
    source: Source,
    frames: int = 8,
    *,
    rng: np.random.Generator | None = None,
    window: Window | None = None,
    name: str | None = None,
) -> Iterator[Image.Image]:
    """As `read_frames`, one picture at a time; a repeated frame is the same object again."""
    with _opened(source, name) as video:
        moments = sample_moments(*video.span(window), frames, rng)
        yield from _pictures(video.shown_at(moments))


def duration(source: Source, *, name: str | None = None) -> float:
    """Return the seconds from a video's first frame to the end of its last.

    Args:
        source: as for `read_frames`.
        name: as for `read_frames`.

    Raises:
        MediaError: as for `read_frames`.
        UserError: PyAV is not installed.
    """
    with _opened(source, name) as video:
        return video.span(None)[1]


def sample_moments(
    start: float, end: float, count: int, rng: np.random.Generator | None = None
) -> list[float]:
    """One moment in each of `count` equal parts of a span: its middle, or drawn from `rng`."""
    shares = np.full(count, 0.5) if rng is None else rng.random(count)
    return [float(t) for t in start + (np.arange(count) + shares) / count * (end - start)]


@contextmanager
def _opened(source: Source, name: str | None) -> Iterator[VideoFile]:
    """A video file; whatever a decoder raises about it is its fault."""
    name = require_source(source, "video", name)
    try:
        with closing(VideoFile(source, name)) as video:
            yield video
    except UserError:
        raise
    except Exception as error:
        raise damaged(name, getattr(error, "strerror", None) or error) from error


def _pictures(frames: Iterator[Any]) -> Iterator[Image.Image]:
    """Upright RGB pictures, all of the first one's size."""
    converter = (
        pyav().video.reformatter.VideoReformatter()
    )  # setting one up takes longer than its work
    last: Any = None
    image = size = None
    for frame in frames:
        if image is None or frame is not last:
            image = _upright(_to_rgb(frame, converter), frame)
            size = size or image.size
            if image.size != size:  # a stream may change its size on the way
                image = image.resize(size, Image.Resampling.BICUBIC)
            last = frame
        yield image


def _to_rgb(frame: Any, converter: Any) -> Image.Image:
    transparent = any(component.is_alpha for component in frame.format.components)
    mode = "rgba" if transparent else "rgb24"
    pixels = converter.reformat(frame, format=mode, threads=1).to_ndarray()
    image = Image.fromarray(pixels)
    return on_white(image) if transparent else image


# What shows the stored picture as its display matrix (a, b, c, d) says:
# x' = a x + c y, y' = b x + d y.
_TRANSPOSE = {
    (1, 0, 0, 1): None,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


def _upright(image: Image.Image, frame: Any) -> Image.Image:
    """Apply the rotation or mirroring that the file asks players for, in quarter turns."""
    data = next((d for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return image
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5]
    corners = np.array([a, b, c, d], np.float64)
    if not np.abs(corners).max():
        return image
    method = _TRANSPOSE.get(tuple(np.rint(corners / np.abs(corners).max()).astype(int).tolist()))
    return image if method is None else image.transpose(method)
