from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import number_of, write_numbered

from aurora_vl.data.images import open_picture
from aurora_vl.data.records import Window
from aurora_vl.errors import MediaError
from aurora_vl.gallery.thumbnails import ALIKE, SIDE, look, thumbnail


def picture(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right, with some noise."""
    pixels = np.random.default_rng(0).integers(0, 30, (height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2, 0] += 200
    pixels[:, width // 2 :, 2] += 200
    return Image.fromarray(pixels)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_large_picture_is_shown_small(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    picture(1200, 800).save(path)
    small = Image.open(io.BytesIO(thumbnail(str(path), "image", None)))
    assert (small.format, small.size) == ("JPEG", (SIDE, 171))
    assert np.asarray(small)[:, :100, 0].mean() > 180
    assert np.asarray(small)[:, -100:, 2].mean() > 180


def test_a_small_picture_keeps_its_size(tmp_path: Path) -> None:
    picture(60, 40).save(tmp_path / "a.png")
    small = Image.open(io.BytesIO(thumbnail(str(tmp_path / "a.png"), "image", None)))
    assert small.size == (60, 40)


def test_a_picture_is_shown_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1200, 800).save(tmp_path / "a.jpg", exif=exif)
    small = Image.open(io.BytesIO(thumbnail(str(tmp_path / "a.jpg"), "image", None)))
    assert small.size == (171, SIDE)


def test_jpeg_files_are_decoded_no_smaller_than_asked(tmp_path: Path) -> None:
    picture(1200, 800).save(tmp_path / "a.jpg")
    assert open_picture(tmp_path / "a.jpg").size == (1200, 800)
    assert open_picture(tmp_path / "a.jpg", least_side=256).size == (600, 400)
    assert open_picture(tmp_path / "a.jpg", least_side=900).size == (1200, 800)


@pytest.mark.parametrize(("window", "frame"), [(None, 20), ((0.0, 1.0), 5)])
def test_a_video_is_shown_by_its_middle(tmp_path: Path, window: Window | None, frame: int) -> None:
    path = write_numbered(tmp_path / "a.mp4", 40)  # ten frames a second
    small = Image.open(io.BytesIO(thumbnail(str(path), "video", window)))
    assert abs(number_of(small) - frame) <= 1


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(MediaError, match="is not a picture"):
        thumbnail(str(tmp_path / "a.jpg"), "image", None)


def test_copies_look_alike_and_others_do_not(tmp_path: Path) -> None:
    def of(image: Image.Image, name: str, **options: int) -> np.ndarray:
        image.save(tmp_path / name, **options)
        return look(thumbnail(str(tmp_path / name), "image", None))

    original = of(picture(600, 400), "a.png")
    copy = of(picture(600, 400).resize((90, 60)), "b.jpg", quality=60)
    mirrored = of(picture(600, 400).transpose(Image.Transpose.FLIP_LEFT_RIGHT), "c.png")
    assert np.sqrt(np.mean((original - copy) ** 2)) < ALIKE
    assert np.sqrt(np.mean((original - mirrored) ** 2)) > 10 * ALIKE
