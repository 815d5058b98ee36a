"""Pictures of any kind a user has become upright RGB.

Everything a file can do wrong (absent, empty, truncated, no picture, far too large) ends in one
`MediaError` that names it. Colours keep their meaning: what is transparent lies on white, 16-bit
grey is scaled and not clipped, the camera's orientation is applied, an animation gives its first
frame.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from aurora_vl.data.paths import Source, require_source
from aurora_vl.errors import MediaError, UserError

MAX_PIXELS = 89_478_485
"""Largest picture that is decoded: 256 MiB as RGB, the size from which Pillow itself warns."""

# A list and not "whatever Pillow knows": its EPS reader, for one, runs an external program.
# (Phones' MPO files are read as JPEG, of which they are an extension.)
_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_STEP = {"1": 255, "L;2": 85, "L;4": 17}  # to 8 bits, by Pillow's names of a PNG's greys
_OVERSHOOT = 1.25  # times white: what resampling adds to the brightest pixels at most
_WIDE_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


def open_picture(
    source: Source | Image.Image,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    least_side: int | None = None,
) -> Image.Image:
    """Return a picture as an upright 8-bit RGB image.

    Transparency is composited on white; wide grey is scaled to 8 bits; CMYK and palettes are
    converted; EXIF orientation is applied; of an animation or a stack the first frame is taken.

    Args:
        source: a file's path, a file's content, or an image of Pillow's, which is left as it is.
        name: what messages call the picture; by default its path, or "the picture given".
        max_pixels: largest width x height that is decoded; judged by the header, before any pixel
            is decoded.
        least_side: JPEG files may be decoded at a half, a quarter or an eighth of their size, which
            is several times as fast, as long as no side becomes shorter than this.

    Raises:
        MediaError: the file is absent, unreadable, empty, truncated, no picture or too large.
    """
    if isinstance(source, Image.Image):
        name = name or "the picture given"
    else:
        name = require_source(source, "picture", name)
    try:
        with _opened(source) as image:
            if image.width * image.height > max_pixels:
                raise _too_large(name, f"{image.width * image.height:,}", max_pixels)
            _scale_transparent_colour(image)
            if least_side is not None:
                image.draft(None, (least_side, least_side))
            image.load()
            return _to_rgb(_upright(image), image.format)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, "too many", max_pixels) from None
    except UnidentifiedImageError:
        raise MediaError(
            f"{name} is not a picture that can be read: give a JPEG, PNG, WebP, GIF, BMP or TIFF "
            "file"
        ) from None
    except PermissionError:
        raise MediaError(f"{name} may not be read: change its permissions") from None
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, IndexError, ... on
    # damaged files; whichever it is, the file is what the user must mend.
    except Exception as error:
        raise MediaError(
            f"{name} is damaged and cannot be decoded ({error}): replace it"
        ) from error


def _opened(source: Source | Image.Image) -> AbstractContextManager[Image.Image]:
    if isinstance(source, Image.Image):
        return nullcontext(source)  # whoever opened it closes it
    file = BytesIO(source) if isinstance(source, bytes) else Path(source)
    return Image.open(file, formats=_FORMATS)


def _too_large(name: str, pixels: str, max_pixels: int) -> MediaError:
    return MediaError(
        f"{name} has {pixels} pixels where at most {max_pixels:,} are decoded: scale it down"
    )


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation (Pillow's TIFF reader has already done so and dropped the tag)."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # a broken metadata block must not cost a good picture
        return image
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _scale_transparent_colour(image: Image.Image) -> None:
    """Give the transparent colour that a PNG names the depth that its pixels are decoded to.

    The file names it in its own depth: 1, 2 or 4 bits of grey become 8 by a factor, of colours in
    16 bits the upper 8 are kept. (To be called before the pixels are loaded, which forgets it.)
    """
    colour = image.info.get("transparency")
    tiles = getattr(image, "tile", None)  # which images in memory lack
    depth = tiles[0].args if image.format == "PNG" and tiles else None
    if isinstance(colour, int) and depth in _GREY_STEP:
        image.info["transparency"] = colour * _GREY_STEP[depth]
    elif isinstance(colour, tuple) and depth == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _to_rgb(image: Image.Image, file_format: str | None) -> Image.Image:
    if image.mode in _WIDE_GREY:
        # Pillow widens every 16-bit PGM to 0 to 65535 and calls it a 32-bit integer image.
        sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PPM")
        values = np.array(image)
        if "transparency" in image.info:  # of a PNG, whose greys have 16 bits
            values[values == image.info["transparency"]] = 65535
        grey = _scale_grey(values, 65535.0 if sixteen_bit else None)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        return on_white(image)
    return image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """Lay a picture with transparency on white."""
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", layer.size, (255, 255, 255))
    white.paste(layer, mask=layer.getchannel("A"))
    return white


def _scale_grey(values: np.ndarray, white: float | None) -> np.ndarray:
    """Scale wide grey values (H, W) to uint8 (H, W), black at 0 and white at `white`.

    32-bit integers and floats (`white` None) promise no range: the smallest usual one that holds
    the values is taken (1 for floats, 255, 65535), where a few may overshoot it. A range of which
    the values would fill less than a sixteenth is not theirs: then it is their own maximum.
    """
    grey = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if white is None:
        top = float(grey.max(initial=0.0))
        usual = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
        white = next((limit for limit in usual if top <= _OVERSHOOT * limit), top)
        if white > usual[0] and top < white / 16:
            white = top
    return np.rint(np.clip(grey / white, 0.0, 1.0) * 255.0).astype(np.uint8)
