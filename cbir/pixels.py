"""From a decoded image, of whatever kind of pixels, to upright sRGB pixels, in full or few enough to count colours."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cbir.color import U8
from cbir.errors import RefusedError
from cbir.icc import to_srgb

if TYPE_CHECKING:
    from PIL import Image, ImageFile

# A photo's colours are counted in so many pixels. Fewer cost less, and grain and JPEG's errors average out; from
# 32,768 down to 8,192 labelled photos ranked alike, and altered copies were found better.
WORKING_PIXELS = 1 << 13
# So many rows of 16 bits are scaled at once, for the table look-up takes 8 bytes a pixel.
_ROWS = 256
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0


@dataclass(frozen=True)
class Picture:
    """Upright sRGB pixels, (height, width, 3) uint8, and their alpha (height, width) uint8, None if all are opaque.

    `converted` tells whether an embedded colour profile changed the colours.
    """

    pixels: U8
    alpha: U8 | None = None
    converted: bool = False


def on_white(picture: Picture) -> U8:
    """A picture's pixels, (height, width, 3) uint8, as they look on white paper where it is transparent."""
    if picture.alpha is None:
        return picture.pixels
    share = picture.alpha[..., None] / 255.0
    return np.asarray(np.rint(picture.pixels * share + 255 * (1 - share)), np.uint8)


def reduced(pixels: U8) -> U8:
    """Pixels (height, width, 3) uint8 made as small as `read_working_picture` makes a decoded picture."""
    return _reduced_pixels(_image(pixels, "RGB"))


def working_picture(picture: Picture) -> Picture:
    """A decoded picture, or a part of one, made as small as `read_working_picture` makes a file's."""
    if picture.alpha is None:
        return Picture(reduced(picture.pixels), None, picture.converted)
    small = np.asarray(_reduced(_image(np.dstack([picture.pixels, picture.alpha]), "RGBA")))
    return Picture(np.ascontiguousarray(small[..., :3]), np.ascontiguousarray(small[..., 3]), picture.converted)


def picture_of(image: Image.Image, orientation: int, profile: bytes | None, most: int | None) -> Picture:
    """A decoded image as a picture, by its Exif orientation and ICC profile; of so many pixels at `most`, if told.

    Raises RefusedError for samples that have no known range.
    """
    color, alpha = _color_and_alpha(_of_8_bits(image))
    # Best before anything else is done to the pixels; but alpha is joined to them later, and LAB cannot be averaged.
    at_once = alpha is None and color.mode != "LAB"
    if most and at_once:
        small = _reduced_pixels(color, most)
        if profile is None and color.mode == "RGB":
            return Picture(_upright(small, orientation))
        color = _image(small, color.mode)
    color, converted = to_srgb(color, profile)
    if alpha is not None:
        color.putalpha(alpha)
    if most and not at_once:
        color = _reduced(color, most)
    pixels = _upright(np.asarray(color), orientation)
    if alpha is None:
        return Picture(pixels, None, converted)
    return Picture(np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3]), converted)


def _color_and_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture in mode RGB, L, CMYK or LAB, and its alpha if it has any."""
    alpha = None
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        if image.mode not in ("RGBA", "LA"):
            image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema()[0] == 255:
            alpha = None
    mode = {"LA": "L", "1": "L", "CMYK": "CMYK", "L": "L", "LAB": "LAB"}.get(image.mode, "RGB")
    return (image if image.mode == mode else image.convert(mode)), alpha


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Grey of more bits scaled, not cut, to 8; of colours of 16 bits Pillow takes the upper 8, which is as good."""
    kind = getattr(image, "format", None)
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):
        bits, inverted = 16, False
        if kind == "TIFF":
            bits = tiff_tag(image, _TIFF_BITS, (16,))[0]
            inverted = tiff_tag(image, _TIFF_PHOTOMETRIC, None) == _WHITE_IS_ZERO
        return _of_16_bits(image, (1 << bits) - 1, inverted)
    if image.mode in ("I", "F"):
        raise RefusedError(f"samples of 32 bits ({image.mode}) have no known range")
    return image


def _of_16_bits(image: Image.Image, largest: int, inverted: bool) -> Image.Image:
    """Grey of levels up to `largest` in 8 bits; the one level that a PNG may call transparent becomes alpha."""
    from PIL import Image

    table = np.rint(np.minimum(np.arange(1 << 16) / (largest / 255), 255)).astype(np.uint8)
    levels = np.asarray(image)
    scaled = np.empty(levels.shape, np.uint8)
    for row in range(0, len(levels), _ROWS):
        scaled[row : row + _ROWS] = table[levels[row : row + _ROWS]]
    grey = Image.fromarray(255 - scaled if inverted else scaled)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return grey


def scale_transparent_color(image: ImageFile.ImageFile) -> None:
    """The one colour that a PNG may call transparent, made of 8 bits as its pixels will be."""
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and any(tile.args == "RGB;16B" for tile in image.tile):
        image.info["transparency"] = tuple(level >> 8 for level in transparent)


def _reduced(image: Image.Image, most: int = WORKING_PIXELS) -> Image.Image:
    """`_reduced_pixels` as an image; also of RGBA, whose colours then count by their alpha."""
    if image.mode != "RGBA":
        return _image(_reduced_pixels(image, most), image.mode)
    from PIL.Image import Resampling

    width, height, block = _reduced_size(image, most)
    return image.reduce(block).resize((width, height), Resampling.BILINEAR)


def _reduced_pixels(image: Image.Image, most: int = WORKING_PIXELS) -> U8:
    """The pixels of a picture (RGB, L or CMYK) made at most so many, in the same aspect ratio.

    Means of whole blocks of pixels, and for the rest, which is less than a half, between the nearest four.
    """
    import cv2

    width, height, block = _reduced_size(image, most)
    pixels = np.asarray(image if block == 1 else image.reduce(block))
    if pixels.shape[:2] == (height, width):
        return pixels
    # Many times faster than Pillow's, which averages more than two neighbours where it must.
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _reduced_size(image: Image.Image, most: int) -> tuple[int, int, int]:
    """The width and height of a picture made small, and the side of the blocks that are averaged on the way to it."""
    factor = sqrt(most / (image.width * image.height))
    if factor >= 1:
        return image.width, image.height, 1
    width, height = max(1, int(image.width * factor)), max(1, int(image.height * factor))
    # Of a picture that is a line one side stays a pixel.
    width = max(1, min(width, most // height))
    return width, min(height, most // width), int(1 / factor)


def _image(pixels: U8, mode: str) -> Image.Image:
    from PIL import Image

    height, width = pixels.shape[:2]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(pixels), "raw", mode, 0, 1)


def tiff_tag(image: Image.Image, tag: int, default: Any) -> Any:
    """The value of a tag of the first directory."""
    return cast("Any", image).tag_v2.get(tag, default)


def _upright(pixels: U8, orientation: int) -> U8:
    """Pixels (height, width, ...) turned as Exif's orientation 1 to 8 says; any other number says nothing."""
    if not 2 <= orientation <= 8:
        return pixels
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
