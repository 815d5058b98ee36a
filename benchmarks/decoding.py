"""How fast eight evenly spread frames of a minute's video are read, against decoding all of it.

    python benchmarks/decoding.py

A 60 s MP4 of 320 x 240 pixels at 25 frames a second is made of a drifting pattern and a little
noise, once with a key frame every two seconds (as cameras and video sites do) and once every ten
(x264's own default). Prints, for each, wanted frames a second both ways, and their ratio.

Seen on one otherwise idle core, three runs: 181 to 205 frames a second against 43 to 46 (4.0 to 4.5
times as fast) with a key frame every two seconds, 81 to 83 against 62 to 63 (1.3 times) with one
every ten, where most frames lie between a key frame and a wanted one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from aurora_vl.data.video import read_frames

SECONDS, RATE, SIZE, FRAMES = 60, 25, (320, 240), 8


def make_video(path: Path, key_every: int) -> None:
    """Write the test video: a patterned ground that drifts, with a little noise."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (SIZE[1] // 8, (SIZE[0] + SECONDS * RATE) // 8 + 1, 3))
    ground = np.kron(ground, np.ones((8, 8, 1))).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": str(key_every)})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(SECONDS * RATE):
            picture = ground[:, index : index + SIZE[0]] + rng.integers(-6, 7, (*SIZE[::-1], 3))
            pixels = np.clip(picture, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def decode_all(path: Path) -> None:
    """Decode every frame on one thread and turn the eight wanted ones into RGB."""
    wanted = {int((i + 0.5) / FRAMES * SECONDS * RATE) for i in range(FRAMES)}
    converter = av.video.reformatter.VideoReformatter()
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                converter.reformat(frame, format="rgb24", threads=1).to_ndarray()


def seconds_of(work: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of some runs."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        for key_every in (2 * RATE, 10 * RATE):
            path = Path(folder) / f"{key_every}.mp4"
            make_video(path, key_every)
            seeking = seconds_of(lambda: read_frames(path, FRAMES))  # noqa: B023
            everything = seconds_of(lambda: decode_all(path))  # noqa: B023
            print(  # noqa: T201 (a script's result)
                f"key frame every {key_every / RATE:g} s: "
                f"{FRAMES / seeking:.0f} frames/s seeking, {FRAMES / everything:.0f} decoding all; "
                f"{everything / seeking:.1f} times as fast"
            )


if __name__ == "__main__":
    main()
