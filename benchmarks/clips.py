"""A test video, and the simple way to read frames of it: decode them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aurora_vl.data.video import pyav

RATE = 25  # frames a second
_WIDTH, _HEIGHT, _GRAIN = 320, 240, 8


def write_clip(path: Path, seconds: int, key_every: int) -> None:
    """Write an MP4 of a patterned ground that drifts, with a little noise.

    Args:
        path: of the file.
        seconds: its length.
        key_every: frames from one key frame to the next.
    """
    rng = np.random.default_rng(0)
    frames = seconds * RATE
    ground = rng.integers(0, 256, (_HEIGHT // _GRAIN, (_WIDTH + frames) // _GRAIN + 1, 3))
    ground = np.kron(ground, np.ones((_GRAIN, _GRAIN, 1))).astype(np.int16)
    av: Any = pyav()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": str(key_every)})
        stream.width, stream.height = _WIDTH, _HEIGHT
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = ground[:, index : index + _WIDTH]
            picture = picture + rng.integers(-6, 7, picture.shape)
            pixels = np.clip(picture, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def decode_everything(path: Path, frames: int) -> list[np.ndarray]:
    """Decode every frame on one thread and turn the wanted, evenly spread ones into RGB."""
    av: Any = pyav()
    converter = av.video.reformatter.VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        wanted = {int((i + 0.5) / frames * stream.frames) for i in range(frames)}
        return [
            converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            for index, frame in enumerate(container.decode(video=0))
            if index in wanted
        ]
