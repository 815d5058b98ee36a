"""Media given as a path, as a file's content or as a picture of Pillow's are read alike."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import number_of, write_late, write_numbered, write_sound

from aurora_vl.data.images import open_picture
from aurora_vl.data.video import duration, iter_frames, read_frames
from aurora_vl.errors import MediaError

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Red above blue, which a camera stored lying on its side."""
    upright = Image.new("RGB", (20, 40), RED)
    upright.paste(BLUE, (0, 20, 20, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return path


def test_a_picture_from_anywhere(picture: Path) -> None:
    content = picture.read_bytes()
    with Image.open(picture) as opened:
        sources = (picture, str(picture), os.fspath(picture), content, opened)
        for source in sources:
            found = open_picture(source)
            assert (found.mode, found.size) == ("RGB", (20, 40))
            assert (found.getpixel((5, 5)), found.getpixel((5, 35))) == (RED, BLUE)
        assert opened.size == (40, 20)  # the caller's is left as it is
        assert opened.load() is not None


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1", "I;16", "F"])
def test_a_picture_in_memory_becomes_rgb(mode: str) -> None:
    grey = Image.fromarray(np.full((2, 2), 255, np.uint8))
    given = Image.new(mode, (2, 2)) if mode in ("I;16", "F") else grey.convert(mode)
    assert open_picture(given).getpixel((0, 0)) == (
        (0,) * 3 if mode in ("I;16", "F") else (255,) * 3
    )


def test_pictures_without_a_path_are_refused_by_name() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    cut = file.getvalue()[:5000]
    with pytest.raises(MediaError, match=r"^the picture given is damaged and cannot be decoded"):
        open_picture(cut)
    with pytest.raises(MediaError, match=r"^the upload is damaged"):
        open_picture(cut, name="the upload")
    with pytest.raises(MediaError, match=r"^the picture given is damaged"):
        open_picture(Image.open(io.BytesIO(cut)))
    with pytest.raises(MediaError, match=r"^the picture given is empty \(0 bytes\): replace it"):
        open_picture(b"")
    with pytest.raises(MediaError, match=r"^the picture given is not a picture that can be read"):
        open_picture(b"hello")
    with pytest.raises(MediaError, match=r"^x has 4,096 pixels where at most 4,095 are decoded"):
        open_picture(Image.fromarray(noise), name="x", max_pixels=4095)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm", "avi", "gif", "ts"])
def test_frames_of_a_files_content(tmp_path: Path, ending: str) -> None:
    settings: dict[str, dict[str, str]] = {
        "avi": {"codec": "mpeg4"},
        "webm": {"codec": "libvpx"},
        "gif": {"codec": "gif", "pixels": "rgb8"},
    }
    path = write_numbered(tmp_path / f"a.{ending}", 40, **settings.get(ending, {}))
    frames = read_frames(path.read_bytes(), 4)
    assert [number_of(frame) for frame in frames] == [5, 15, 25, 35]
    assert [number_of(frame) for frame in iter_frames(str(path), 4)] == [5, 15, 25, 35]
    assert duration(path) == pytest.approx(4.0)
    assert duration(path.read_bytes()) == pytest.approx(4.0)


def test_the_duration_is_that_of_the_pictures(tmp_path: Path) -> None:
    assert duration(write_late(tmp_path / "a.mkv", count=30, late=4.0)) == pytest.approx(3.0)


def test_videos_without_a_path_are_refused_by_name(tmp_path: Path) -> None:
    whole = write_numbered(tmp_path / "a.mp4", 40).read_bytes()
    with pytest.raises(MediaError, match=r"^the video given is cut off or damaged"):
        read_frames(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"^the upload is no video that can be read"):
        duration(b"hello" * 100, name="the upload")
    with pytest.raises(MediaError, match=r"^the video given is empty"):
        duration(b"")
    with pytest.raises(MediaError, match=r"^the video given holds no moving pictures, sound alone"):
        duration(write_sound(tmp_path / "b.mp4").read_bytes())
    with pytest.raises(MediaError, match=r"^there is no file .*nope\.mp4: correct the path$"):
        duration(tmp_path / "nope.mp4")
