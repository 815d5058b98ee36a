"""Frames of videos: the right ones, upright, from any container, of files that are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from videos import (
    nothing_inside,
    number_of,
    numbered,
    patch_matrix,
    write_frames,
    write_late,
    write_numbered,
    write_sound,
)

from aurora_vl.data import video, video_file
from aurora_vl.data.video import duration, iter_frames, read_frames, sample_moments
from aurora_vl.errors import UserError

CONTAINERS: dict[str, dict[str, Any]] = {
    "mp4": {},
    "mkv": {},
    "mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "webm": {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"},
    "avi": {"codec": "mpeg4"},
    "gif": {"codec": "gif", "pixels": "rgb8"},
}


def numbers(path: Path, frames: int = 8, **settings: Any) -> list[int]:
    return [number_of(picture) for picture in read_frames(path, frames, **settings)]


@pytest.mark.parametrize("ending", CONTAINERS)
def test_the_middles_of_equal_parts(tmp_path: Path, ending: str) -> None:
    """Of 100 frames, over many key frames (one alone in GIF): 100 / 8 * (i + 1/2)."""
    path = write_numbered(tmp_path / f"a.{ending}", 100, **CONTAINERS[ending])
    assert numbers(path) == [6, 18, 31, 43, 56, 68, 81, 93]
    assert numbers(path) == numbers(path)
    assert numbers(path, 1) == [50]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_every_frame_can_be_asked_for(tmp_path: Path, ending: str) -> None:
    """Searching by decoding times and B-frames displaces nothing."""
    path = write_numbered(tmp_path / f"a.{ending}", 60, bf="3", **{"x264-params": "scenecut=0"})
    assert numbers(path, 60) == list(range(60))
    for wanted in (0, 11, 12, 13, 35, 36, 59):
        assert numbers(path, 1, window=(wanted / 10, wanted / 10 + 0.1)) == [wanted]


def test_a_window(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 100)
    assert numbers(path, 4, window=(5.0, 7.0)) == [52, 57, 62, 67]
    assert numbers(path, 2, window=(8.0, 60.0)) == [85, 95]  # as far as the video goes
    with pytest.raises(UserError, match=r"a\.mp4 ends at 10\.0 s, before its window of 12 to 15 s"):
        read_frames(path, window=(12.0, 15.0))
    with pytest.raises(UserError, match=r"the window 5 to 5 s is none"):
        read_frames(path, window=(5.0, 5.0))


def test_random_moments_stay_in_their_parts(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 80)
    drawn = [numbers(path, 4, rng=np.random.default_rng(seed)) for seed in range(12)]
    assert drawn[0] == numbers(path, 4, rng=np.random.default_rng(0))
    for part in range(4):
        found = {numbers[part] for numbers in drawn}
        assert len(found) > 4
        assert min(found) >= 20 * part
        assert max(found) < 20 * (part + 1)


def test_moments_by_hand() -> None:
    assert sample_moments(2.0, 6.0, 4) == [2.5, 3.5, 4.5, 5.5]
    drawn = sample_moments(0.0, 1.0, 1000, np.random.default_rng(0))
    offsets = np.array(drawn) * 1000 - np.arange(1000)
    assert 0 <= offsets.min() < 0.01
    assert 0.99 < offsets.max() < 1
    assert abs(offsets.mean() - 0.5) < 0.03


@pytest.mark.parametrize("ending", ["mp4", "gif", "webm"])
def test_few_frames_are_repeated(tmp_path: Path, ending: str) -> None:
    three = write_numbered(tmp_path / f"three.{ending}", 3, **CONTAINERS[ending])
    assert numbers(three) == [0, 0, 0, 1, 1, 2, 2, 2]
    one = write_numbered(tmp_path / f"one.{ending}", 1, **CONTAINERS[ending])
    assert numbers(one) == [0] * 8


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_variable_frame_rate_is_followed_by_the_clock(tmp_path: Path, ending: str) -> None:
    """Nine frames in the first second, one in the other three."""
    stamps = [*(i / 9 for i in range(9)), 1.0, 4.0]
    path = write_numbered(tmp_path / f"a.{ending}", 11, stamps=stamps)
    assert numbers(path, 4, window=(0.0, 4.0)) == [4, 9, 9, 9]
    assert numbers(path, 9, window=(0.0, 1.0)) == list(range(9))


CORNERS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "white": (255,) * 3}


def corners(picture: Image.Image) -> list[str]:
    """Nearest colours of the corners: upper left, upper right, lower left, lower right."""
    w, h = picture.size
    spots = [(8, 8), (w - 9, 8), (8, h - 9), (w - 9, h - 9)]
    named = {name: np.array(rgb) for name, rgb in CORNERS.items()}
    return [
        min(named, key=lambda name: np.abs(named[name] - picture.getpixel(spot)).sum())
        for spot in spots
    ]


@pytest.mark.parametrize(
    ("matrix", "size", "expected"),
    [
        ((1, 0, 0, 1), (64, 48), ["red", "green", "blue", "white"]),
        ((0, 1, -1, 0), (48, 64), ["blue", "red", "white", "green"]),  # a phone held upright
        ((-1, 0, 0, -1), (64, 48), ["white", "blue", "green", "red"]),
        ((0, -1, 1, 0), (48, 64), ["green", "white", "red", "blue"]),
        ((-1, 0, 0, 1), (64, 48), ["green", "red", "white", "blue"]),  # mirrored
        ((1, 0, 0, -1), (64, 48), ["blue", "white", "red", "green"]),
        ((0, 1, 1, 0), (48, 64), ["red", "blue", "green", "white"]),
        ((0, -1, -1, 0), (48, 64), ["white", "green", "blue", "red"]),
    ],
)
def test_rotation_and_mirroring(
    tmp_path: Path, matrix: tuple[int, int, int, int], size: tuple[int, int], expected: list[str]
) -> None:
    rows = np.array(list(CORNERS.values()), np.uint8).reshape(2, 2, 3)
    picture = rows.repeat(24, 0).repeat(32, 1)
    path = patch_matrix(write_frames(tmp_path / "a.mp4", [picture] * 3), *matrix)
    (frame,) = read_frames(path, 1)
    assert frame.size == size
    assert corners(frame) == expected


@pytest.mark.parametrize(
    ("ending", "codec", "pixels"),
    [
        ("mp4", "libx264", "yuv444p"),
        ("mp4", "libx264", "yuv420p10le"),
        ("mkv", "ffv1", "bgr0"),
        ("mkv", "ffv1", "yuv422p16le"),
        ("mkv", "ffv1", "gray16le"),
        ("avi", "mjpeg", "yuvj422p"),
        ("mov", "qtrle", "rgb24"),
    ],
)
def test_pixel_formats_become_the_same_rgb(
    tmp_path: Path, ending: str, codec: str, pixels: str
) -> None:
    path = write_numbered(tmp_path / f"a.{ending}", 20, codec=codec, pixels=pixels)
    assert numbers(path, 4) == [2, 7, 12, 17]
    assert read_frames(path, 1)[0].mode == "RGB"


def test_odd_sizes(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mkv", 20, (65, 47), codec="ffv1", pixels="yuv420p")
    assert numbers(path, 4) == [2, 7, 12, 17]
    assert read_frames(path, 1)[0].size == (65, 47)


def test_transparent_parts_lie_on_white(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    moving = [Image.new("RGBA", (32, 24), (200, 0, 0, 255)) for _ in range(2)]
    for index, frame in enumerate(moving):
        frame.paste((0, 0, 0, 0), (8 * index, 0, 8 * index + 8, 24))
    moving[0].save(path, save_all=True, append_images=moving[1:], duration=100, disposal=2)
    first, second = read_frames(path, 2)
    assert [first.getpixel((x, 5)) for x in (4, 12)] == [(255, 255, 255), (200, 0, 0)]
    assert [second.getpixel((x, 5)) for x in (4, 12)] == [(200, 0, 0), (255, 255, 255)]


def test_repeated_frames_are_converted_once_and_others_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    convert = video._to_rgb
    monkeypatch.setattr(
        video, "_to_rgb", lambda frame, by: (seen.append(frame), convert(frame, by))[1]
    )
    pictures = list(iter_frames(write_numbered(tmp_path / "a.mp4", 200), 8))
    assert len(seen) == len(pictures) == 8
    seen.clear()
    pictures = list(iter_frames(write_numbered(tmp_path / "b.mp4", 2), 8))
    assert len(seen) == 2
    assert len({id(picture) for picture in pictures}) == 2


def decoded_count(path: Path, monkeypatch: pytest.MonkeyPatch, frames: int) -> int:
    """How many frames are decoded to read some."""
    seen: list[float] = []
    time = video_file.VideoFile._time

    def counting(*given: Any) -> float:
        seen.append(time(*given))
        return seen[-1]

    monkeypatch.setattr(video_file.VideoFile, "_time", counting)
    read_frames(path, frames)
    return len(seen)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm", "avi"])
def test_only_what_lies_behind_key_frames_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = write_numbered(tmp_path / f"a.{ending}", 240, key_every=10, **CONTAINERS[ending])
    assert decoded_count(path, monkeypatch, 4) <= 4 * 11


def test_no_frame_is_decoded_twice_behind_one_key_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60, key_every=1000)
    assert decoded_count(path, monkeypatch, 8) <= 60


def test_a_stream_without_a_duration(tmp_path: Path) -> None:
    """As browsers record: WebM that is never finished."""
    path = tmp_path / "live.webm"
    with path.open("wb") as file:
        stream_only = type("Pipe", (), {"write": file.write, "name": "live.webm"})()
        with av.open(stream_only, "w", format="webm") as container:
            stream = container.add_stream("libvpx", rate=10, options={"deadline": "realtime"})
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuv420p"
            for index in range(40):
                frame = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert container.duration is None
    assert numbers(path, 4) == [5, 15, 25, 35]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_a_title_in_another_encoding_harms_nothing(tmp_path: Path, ending: str) -> None:
    path = write_numbered(tmp_path / f"a.{ending}", 20, **CONTAINERS[ending], title="caf+ noir")
    content = path.read_bytes()
    assert b"caf+" in content
    path.write_bytes(content.replace(b"caf+", "café".encode("latin-1")))
    assert numbers(path, 4) == [2, 7, 12, 17]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm", "ts", "mpg"])
def test_pictures_that_start_long_after_the_sound(tmp_path: Path, ending: str) -> None:
    """The video's seconds are counted from its first picture."""
    path = write_late(tmp_path / f"a.{ending}", count=100, late=9.0)
    assert numbers(path, 4) == [12, 37, 62, 87]
    assert numbers(path, 2, window=(5.0, 9.1)) == [60, 80]


def test_a_name_that_looks_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_numbered(tmp_path / "a.mp4", 4).rename(tmp_path / "http:b%20 c.mp4")
    assert numbers(Path("http:b%20 c.mp4"), 2) == [1, 3]


FILES = Path(__file__).parent / "files"
GAPS = [*(i / 100 for i in range(4)), *(0.5 + i / 100 for i in range(4))]
GAPS += [*(2.0 + i / 100 for i in range(4)), *(5.0 + i / 50 for i in range(10))]
"""Bursts of frames and long gaps, as of a screen on which little moves."""


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm", "ts", "flv"])
def test_bursts_and_gaps_with_frames_decoded_in_another_order(tmp_path: Path, ending: str) -> None:
    """Of 5.2 s: the moments 0.3, 1.0, 1.6, 2.3, 2.9, 3.6, 4.2 and 4.9."""
    codec = "libvpx" if ending == "webm" else "libx264"
    path = write_numbered(tmp_path / f"a.{ending}", len(GAPS), stamps=GAPS, codec=codec, bf="3")
    assert duration(path) == pytest.approx(5.2, abs=0.1)
    assert numbers(path) == [3, 7, 7, 11, 11, 11, 11, 11]


def test_a_long_gap_among_the_last_frames(tmp_path: Path) -> None:
    """The frame before the gap is decoded after frames behind it."""
    stamps = [*(i / 10 for i in range(10)), 4.0, 4.1, 4.2, 4.3, 4.4]
    path = write_numbered(tmp_path / "a.mp4", len(stamps), stamps=stamps, bf="3")
    assert duration(path) == pytest.approx(4.5)
    assert numbers(path) == [2, 8, 9, 9, 9, 9, 9, 12]


def test_a_screen_recording() -> None:
    """24 frames in bursts at 0, 0.5, 2 and 5 s, of growing brightness."""
    path = FILES / "vfr.mp4"
    with av.open(str(path)) as container:
        shown = [(float(f.pts * f.time_base), f.to_image()) for f in container.decode(video=0)]
    assert duration(path) == pytest.approx(5.2, abs=0.01)
    for part, picture in enumerate(read_frames(path)):
        moment = (part + 0.5) / 8 * duration(path)
        expected = [image for time, image in shown if time <= moment][-1]
        assert np.abs(np.asarray(picture, int) - np.asarray(expected)).max() <= 2


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3"}])
def test_avi_without_stamps(tmp_path: Path, options: dict[str, str]) -> None:
    """AVI tells no times; FFmpeg's are by the order of decoding, and begin late."""
    path = write_numbered(tmp_path / "a.avi", 40, **options)
    assert numbers(path, 4) == [5, 15, 25, 35]
    assert numbers(path, 40) == list(range(40))


@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts"])
def test_open_groups_of_pictures_are_sound(tmp_path: Path, ending: str) -> None:
    """Frames before a key frame that need what lies before it are no sign of damage."""
    options = {"x264-params": "open-gop=1:scenecut=0", "bf": "3"}
    path = write_numbered(tmp_path / f"a.{ending}", 60, **options)
    assert numbers(path, 60) == list(range(60))
    assert numbers(path, 4) == [7, 22, 37, 52]


# ------------------------------------------------------------------------------- hostile files


def cut(ending: str, share: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        whole = write_numbered(folder / f"whole.{ending}", 100, **CONTAINERS[ending]).read_bytes()
        path = folder / f"bad.{ending}"
        path.write_bytes(whole[: int(share * len(whole))])
        return path

    return make


def holding(content: bytes, name: str = "bad.mp4") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def picture_in_disguise(folder: Path) -> Path:
    Image.fromarray(numbered(3)).save(folder / "a.jpg")
    return (folder / "a.jpg").rename(folder / "bad.mp4")


def sound(folder: Path) -> Path:
    return write_sound(folder / "bad.mp4")


def scrambled(folder: Path) -> Path:
    data = bytearray(write_numbered(folder / "whole.mp4", 100).read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data) // 4, len(data), 300):
        data[place] = int(rng.integers(256))
    (folder / "bad.mp4").write_bytes(bytes(data))
    return folder / "bad.mp4"


def zeroed(ending: str, **settings: str) -> Callable[[Path], Path]:
    """With zeros in the middle fifth, as of a download whose parts came in any order."""

    def make(folder: Path) -> Path:
        path = write_numbered(
            folder / f"bad.{ending}", 200, **CONTAINERS.get(ending, {}) | settings
        )
        content = bytearray(path.read_bytes())
        start, end = int(0.4 * len(content)), int(0.6 * len(content))
        content[start:end] = bytes(end - start)
        path.write_bytes(content)
        return path

    return make


def cut_short(folder: Path) -> Path:
    return Path(shutil.copy(FILES / "cut.mp4", folder / "bad.mp4"))


def too_large(codec: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        picture = np.zeros((2400, 4096, 3), np.uint8)
        return write_frames(folder / "bad.mkv", [picture], codec=codec, pixels="yuv420p")

    return make


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "bad.mp4")
    return folder / "bad.mp4"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (cut("mp4", 0.1), "is no video that can be read, or is damaged"),
        (cut("mp4", 0.5), "is cut off or damaged"),
        (cut("mp4", 0.9), "is cut off or damaged"),
        (cut("mkv", 0.5), r"damaged: of its 10\.0 s, 3\.\d s can be read"),
        (cut("webm", 0.5), r"damaged: of its 10\.0 s, 4\.\d s can be read"),
        (cut("avi", 0.5), r"damaged: of its 10\.0 s, 2\.6 s can be read"),
        (cut("gif", 0.5), "is cut off: its end mark is missing"),
        (scrambled, "damaged"),
        (cut_short, "is damaged, or tells no size of its frames"),
        (zeroed("mp4"), "is damaged and cannot be decoded"),
        (zeroed("mkv"), "is damaged and cannot be decoded"),
        (zeroed("webm"), r"damaged and cannot be decoded \([\d,]+ bytes cannot be read\)"),
        (zeroed("webm", codec="libvpx"), "is damaged and cannot be decoded"),
        (zeroed("ts"), "is damaged and cannot be decoded"),
        (holding(b""), r"is empty \(0 bytes\)"),
        (holding(b"hello " * 1000), "is no video that can be read"),
        (holding(np.random.default_rng(0).bytes(100_000)), "is no video that can be read"),
        (holding(b"#EXTM3U\n#EXTINF:10,\nwhole.mp4\n#EXT-X-ENDLIST\n"), "is no video"),
        (holding(b"ffconcat version 1.0\nfile whole.mp4\n"), "is no video"),
        (picture_in_disguise, "is no video that can be read"),
        (sound, "holds no moving pictures, sound alone"),
        (lambda folder: nothing_inside(folder / "bad.mp4"), "holds no moving pictures: convert"),
        (too_large("libx264"), r"has frames of 4096 x 2400, above 9,437,184 pixels"),
        (too_large("ffv1"), r"above 9,437,184 pixels"),
        (pipe, "is a pipe or a device where a video was expected"),
        (lambda folder: folder / "bad.mp4", "there is no file"),
        (lambda folder: (folder / "bad.d").mkdir() or folder / "bad.d", "is a folder where a vid"),
    ],
)
def test_hostile_files(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    """One sentence that names the file, at once."""
    with pytest.raises(UserError, match=message) as caught:
        read_frames(make(tmp_path))
    assert f"{tmp_path}/bad" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Eight frames of a 4K video, one at a time, in a process that counts what it holds."""
    picture = np.random.default_rng(0).integers(0, 256, (144, 256, 3), dtype=np.uint8)
    large = picture.repeat(16, 0).repeat(16, 1)  # 4096 x 2304
    path = write_frames(tmp_path / "4k.mp4", [large] * 9, preset="ultrafast", key_every=100)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, str(_growth(path)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert 0 < int(os.read(reader, 20)) < 400 * 2**20


def _growth(path: Path) -> int:
    """Bytes by which reading a file raises this process's peak of resident memory."""

    def peak() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    for one, two in pairwise(iter_frames(path)):
        assert one.size == two.size
    return peak() - before


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"videos need PyAV: install aurora-vl\[video\]"):
        read_frames(holding(b"x")(tmp_path))
