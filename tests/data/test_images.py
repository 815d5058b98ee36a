"""Every kind of picture is written with Pillow, read back and compared with what a person sees."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aurora_vl.data.images import MAX_PIXELS, open_picture
from aurora_vl.errors import UserError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(mode: str = "RGB") -> Image.Image:
    """A picture 40 wide and 20 high: red, green above; blue, white below."""
    image = Image.new("RGB", (40, 20), WHITE)
    image.paste(RED, (0, 0, 20, 10))
    image.paste(GREEN, (20, 0, 40, 10))
    image.paste(BLUE, (0, 10, 20, 20))
    return image.convert(mode)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours in the middle of the four quadrants: upper left, upper right, lower left, right."""
    w, h = image.size
    pixels = np.asarray(image)
    at = [(h // 4, w // 4), (h // 4, 3 * w // 4), (3 * h // 4, w // 4), (3 * h // 4, 3 * w // 4)]
    return [tuple(int(v) for v in pixels[y, x]) for y, x in at]


def assert_quadrants(image: Image.Image, tolerance: int = 0) -> None:
    assert image.mode == "RGB"
    assert image.size == (40, 20)
    difference = np.array(corners(image)) - np.array([RED, GREEN, BLUE, WHITE])
    assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tiff", "webp", "ppm", "jp2", "ico"])
def test_lossless_formats_keep_their_colours(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    if suffix == "ico":
        options = {"sizes": [(40, 20)]}
    quadrants().save(path, **options)
    assert_quadrants(open_picture(path))


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
def test_lossy_formats_keep_their_colours_nearly(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif":
        from PIL import features

        if not features.check("avif"):
            pytest.skip("this Pillow was built without AVIF")
    path = tmp_path / f"a.{suffix}"
    quadrants().save(path, quality=95)
    assert_quadrants(open_picture(path), tolerance=8)


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    quadrants().save(path, format="PNG")
    assert_quadrants(open_picture(path))
    bare = tmp_path / "no_suffix"
    quadrants().save(bare, format="PNG")
    assert_quadrants(open_picture(str(bare)))


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 128))
    image.save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert opened.mode == "RGB"
    assert opened.getpixel((0, 0)) == WHITE
    red, green, blue = opened.getpixel((1, 0))  # half of it over white
    assert (red, green, blue) == pytest.approx((227, 127, 127), abs=1)


def test_grey_with_alpha_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1), (0, 0))
    image.putpixel((1, 0), (77, 255))
    image.save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert opened.getpixel((0, 0)) == WHITE
    assert opened.getpixel((1, 0)) == (77, 77, 77)


def test_palette_and_palette_with_transparency(tmp_path: Path) -> None:
    palette = quadrants().quantize(4)
    palette.save(tmp_path / "opaque.png")
    assert_quadrants(open_picture(tmp_path / "opaque.png"))
    green = palette.getpixel((30, 5))
    palette.save(tmp_path / "clear.png", transparency=green)
    assert corners(open_picture(tmp_path / "clear.png")) == [RED, WHITE, BLUE, WHITE]
    palette.save(tmp_path / "clear.gif", transparency=green)
    assert corners(open_picture(tmp_path / "clear.gif")) == [RED, WHITE, BLUE, WHITE]
    # one alpha value per palette entry, as bytes
    alphas = bytes(0 if index == green else 255 for index in range(4))
    palette.save(tmp_path / "bytes.png", transparency=alphas)
    assert corners(open_picture(tmp_path / "bytes.png")) == [RED, WHITE, BLUE, WHITE]


def test_a_transparent_colour_of_an_rgb_png_lies_on_white(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png", transparency=GREEN)
    assert corners(open_picture(tmp_path / "a.png")) == [RED, WHITE, BLUE, WHITE]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_and_black_and_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("L", (4, 2), 255)
    image.putpixel((0, 0), 0)
    image.convert(mode).save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert opened.mode == "RGB"
    assert opened.getpixel((0, 0)) == (0, 0, 0)
    assert opened.getpixel((3, 1)) == WHITE


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 100, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    opened = np.asarray(open_picture(tmp_path / f"a.{suffix}"))
    assert opened[0, :, 0].tolist() == [0, 0, 128, 255]
    assert (opened[..., 0] == opened[..., 1]).all()
    assert (opened[..., 0] == opened[..., 2]).all()


def png(depth: int, colours: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of two pixels that names a transparent colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, colours, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", transparent) + pixels + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("depth", "colours", "row", "transparent", "other"),
    [
        (1, 0, "40", "0000", WHITE),
        (1, 0, "80", "0001", (0, 0, 0)),
        (2, 0, "40", "0001", (0, 0, 0)),
        (4, 0, "50", "0005", (0, 0, 0)),
        (8, 0, "0075", "0000", (117,) * 3),
        (16, 0, "00007530", "0000", (117,) * 3),
        (8, 2, "ff000000ff00", "00ff00000000", GREEN),
        (16, 2, "ff00000000000000ff000000", "ff0000000000", GREEN),
    ],
)
def test_the_transparent_colour_of_a_png_lies_on_white(
    depth: int, colours: int, row: str, transparent: str, other: tuple[int, ...]
) -> None:
    content = png(depth, colours, bytes.fromhex(row), bytes.fromhex(transparent))
    opened = open_picture(content)
    assert [opened.getpixel((0, 0)), opened.getpixel((1, 0))] == [WHITE, other]


def test_a_dark_sixteen_bit_picture_stays_dark(tmp_path: Path) -> None:
    for suffix in ("png", "pgm"):
        Image.fromarray(np.full((2, 2), 200, dtype=np.uint16)).save(tmp_path / f"a.{suffix}")
        assert np.asarray(open_picture(tmp_path / f"a.{suffix}")).max() == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 255]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0, 32896, 65535]], dtype=np.int32), [0, 128, 255]),
        (np.array([[-5, 1_000_000, 2_000_000]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[np.nan, 51.0, 255.0]], dtype=np.float32), [0, 51, 255]),
        (np.zeros((1, 3), dtype=np.float32), [0, 0, 0]),
        (np.array([[0.0, 0.5, 1.01]], dtype=np.float32), [0, 128, 255]),  # resampling overshoots
        (np.array([[-0.1, 51.0, 255.4]], dtype=np.float32), [0, 51, 255]),
        (np.array([[0, 51, 256]], dtype=np.int32), [0, 51, 255]),
        (np.array([[0.0, 1.0, 2.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0, 2048, 4095]], dtype=np.int32), [0, 128, 255]),  # of a camera with 12 bits
        (np.array([[0.0, 0.01, 0.02]], dtype=np.float32), [0, 3, 5]),
    ],
)
def test_integer_and_float_tiffs_are_scaled(
    tmp_path: Path, values: np.ndarray, expected: list[int]
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert np.asarray(open_picture(tmp_path / "a.tiff"))[0, :, 1].tolist() == expected


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk_becomes_the_same_colours(tmp_path: Path, suffix: str) -> None:
    quadrants("CMYK").save(tmp_path / f"a.{suffix}", quality=95)
    with Image.open(tmp_path / f"a.{suffix}") as written:
        assert written.mode == "CMYK"
    assert_quadrants(open_picture(tmp_path / f"a.{suffix}"), tolerance=8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    # What a camera stores for each tag so that the viewer sees the upright quadrants again.
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = quadrants() if stored is None else quadrants().transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    assert_quadrants(open_picture(tmp_path / f"a.{suffix}"), tolerance=8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's, rightly shown
def test_a_broken_exif_block_does_not_cost_the_picture(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.jpg", quality=95, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert_quadrants(open_picture(tmp_path / "a.jpg"), tolerance=8)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    others = [Image.new("RGB", (40, 20), colour) for colour in (BLUE, GREEN)]
    quadrants().save(
        tmp_path / f"a.{suffix}", save_all=True, append_images=others, duration=50, **options
    )
    assert_quadrants(open_picture(tmp_path / f"a.{suffix}"))


def test_a_phones_stack_of_jpegs_gives_its_first(tmp_path: Path) -> None:
    other = Image.new("RGB", (40, 20), BLUE)
    quadrants().save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[other], quality=95
    )
    assert_quadrants(open_picture(tmp_path / "a.jpg"), tolerance=8)


def test_the_result_needs_its_file_no_longer(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    assert_quadrants(opened)


def bomb(side: int) -> bytes:
    """A PNG whose header promises side x side pixels and which holds one row's worth of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_500, 14_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side))
    with pytest.raises(UserError, match=r"bomb\.png has .* pixels where at most 89,478,485"):
        open_picture(path)


def test_a_bomb_is_refused_also_where_warnings_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(9_500))
    with pytest.raises(UserError, match="scale it down"):
        open_picture(path)


def test_the_bound_can_be_lowered(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png", max_pixels=800).size == (40, 20)
    with pytest.raises(UserError, match="has 800 pixels where at most 799"):
        open_picture(tmp_path / "a.png", max_pixels=799)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff", "bmp"])
def test_a_truncated_picture_is_named(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    content = whole.read_bytes()
    for share in (0.1, 0.6, 0.95):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UserError, match=rf"cut\.{suffix} is (damaged|not a picture)"):
            open_picture(path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UserError, match=r"a\.jpg is empty"):
        open_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "content",
    [b"hello", b"<html><body>404</body></html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(500)],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jpg is not a picture that can be read: give a JPEG"):
        open_picture(tmp_path / "a.jpg")


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for another than root, who enters every folder."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        with pytest.raises(UserError, match=r"a\.jpg may not be looked at: change the permissions"):
            open_picture(tmp_path / "a.jpg")


def test_an_absent_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file .*nowhere\.jpg: correct the path"):
        open_picture(tmp_path / "nowhere.jpg")
    with pytest.raises(UserError, match="there is no file"):
        open_picture(tmp_path / "a\0b.jpg")
    with pytest.raises(UserError, match="is a folder"):
        open_picture(tmp_path)
