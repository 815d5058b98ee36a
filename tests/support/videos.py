"""Small videos whose frames can be told apart, made with PyAV."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

SIZE = (64, 48)


def numbered(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture that tells a number below 256: sixteens by the left half's grey, ones by the
    right's."""
    picture = np.empty((size[1], size[0], 3), np.uint8)
    picture[:, : size[0] // 2] = 16 * (index // 16) + 8
    picture[:, size[0] // 2 :] = 16 * (index % 16) + 8
    return picture


def number_of(picture: Image.Image) -> int:
    """The number that a `numbered` picture tells."""
    grey = np.asarray(picture.convert("L"), float)
    columns = grey[4:-4].mean(0)
    half = len(columns) // 2
    left, right = columns[4 : half - 4].mean(), columns[half + 4 : -4].mean()
    return 16 * round((left - 8) / 16) + round((right - 8) / 16)


def write_frames(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 10,
    key_every: int = 12,
    stamps: Sequence[float] | None = None,
    title: str | None = None,
    **options: str,
) -> Path:
    """Encode pictures (H, W, 3); the container follows the name's ending.

    Args:
        stamps: seconds at which the pictures are shown; evenly at `rate` if left out.
        title: written into the file beside the pictures.
        options: the encoder's.
    """
    options = {"g": str(key_every), **options}
    if codec == "libx264":
        options.setdefault("preset", "veryfast")
    front = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=front) as container:
        if title is not None:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = round(1000 * stamps[index]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_numbered(
    path: Path, count: int, size: tuple[int, int] = SIZE, **settings: object
) -> Path:
    """A video whose frame i tells the number i."""
    return write_frames(path, (numbered(i, size) for i in range(count)), **settings)  # type: ignore[arg-type]


def patch_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Set the display matrix of an MP4 file's only track."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times, layers and volume
    matrix = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(bytes(data))
    return path


def write_sound(path: Path) -> Path:
    """A file with a stream of sound and none of pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), "s16", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


_LATE = {".webm": ("libvpx", "libopus"), ".mpg": ("mpeg2video", "mp2")}


def write_late(path: Path, *, count: int, late: float) -> Path:
    """A video of ten numbered frames a second, of which the first is shown after seconds of sound.

    Args:
        count: of the frames.
        late: seconds of sound before.
    """
    pictures, sound = _LATE.get(path.suffix, ("libx264", "aac"))
    rate = 25 if pictures == "mpeg2video" else 10  # the least that MPEG-2 has
    with av.open(str(path), "w") as container:
        stream = container.add_stream(pictures, rate=rate, options={"g": "12"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        stream.codec_context.time_base = Fraction(1, rate)
        voice = container.add_stream(sound, rate=48000)
        for start in range(0, int((late + count / 10) * 48000), 1024):
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
            quiet.sample_rate, quiet.pts, quiet.time_base = 48000, start, Fraction(1, 48000)
            container.mux(voice.encode(quiet))
        container.mux(voice.encode())
        for index in range(count * rate // 10):
            frame = av.VideoFrame.from_ndarray(numbered(index * 10 // rate), format="rgb24")
            frame.pts, frame.time_base = round(late * rate) + index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def nothing_inside(path: Path) -> Path:
    """An MP4 file without any stream."""

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + kind + content

    header = struct.pack(">IIIII", 0, 0, 0, 1000, 1000) + bytes(80)
    path.write_bytes(box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", box(b"mvhd", header)))
    return path
