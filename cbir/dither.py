"""Dithering: colours between those of a palette, as a mixture of points of two or more of them."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, U8, U32, bytes_of_codes, codes, distinct, linear_of_bytes
from cbir.errors import PaletteError
from cbir.palette import U16, Palette

Dither = Literal["none", "ordered", "error"]

# A palette image of Pillow's has one byte for each pixel.
MAX_COLORS = 256
# Sides of Bayer's matrix are powers of two; with 8 there are 64 mixtures of two colours, as many as the eye needs.
_BAYER_DOUBLINGS = 3
# How much a mixture's contrast counts against its error: points of black and white make a worse grey than points of
# two greys. Of 0, 0.02, 0.05 to 0.5 the one with about the least mean error of blurred photos.
_CONTRAST = 0.05
# The five upper bits of each channel, and half of what the others can tell.
_CELL, _MIDDLE_OF_CELL = np.uint32(0xF8F8F8), np.uint32(0x040404)
# Colours that are compared with the palette at a time, which bounds the memory.
_CHUNK_SCORES = 1 << 20


def dithered(pixels: U8, palette: Palette, dither: Dither) -> U16:
    """The labels (height, width) of a picture, (height, width, 3) uint8 sRGB, in the colours `palette.srgb`.

    "none" is the nearest colour. "ordered" mixes two colours in Bayer's pattern (1973) so that their light adds up to
    each pixel's; a pixel depends on its own colour and place alone, so nothing crawls in a film. "error" hands each
    pixel's error on to the next ones (Floyd, Steinberg 1976), row by row from the left, as Pillow does. What has none
    but the palette's colours keeps them with each. Raises PaletteError for another `dither`, and with "error" for more
    than 256 colours.
    """
    # The nearest of the colours as they are written, whose labels are those of the palette unless two became one.
    plain = palette.labels(pixels)
    if dither == "none" or not plain.size or np.array_equal(palette.srgb.take(plain, axis=0), pixels):
        return plain
    if dither == "ordered":
        return _ordered(pixels, palette)
    if dither == "error":
        return _diffused(pixels, palette)
    raise PaletteError(f"there is no dithering {dither!r}; use one of none, ordered, error")


def _ordered(pixels: U8, palette: Palette) -> U16:
    code = codes(pixels)
    different = distinct(code)
    first, second, share = _mixtures(different, palette)
    place = np.searchsorted(different, code)
    height, width = code.shape
    threshold = bayer()
    side = len(threshold)
    tiled = np.tile(threshold, (-(-height // side), -(-width // side)))[:height, :width]
    return np.where(share.take(place) > tiled, second.take(place), first.take(place))


def _mixtures(colors: U32, palette: Palette) -> tuple[U16, U16, F32]:
    """For each colour (n,) its nearest palette colour, the other that mixes best with it, and that one's share."""
    first = palette.labels(bytes_of_codes(colors))
    light = linear_of_bytes(palette.srgb)
    # The other one is chosen for all of a small cell of colours alike; only the share is each colour's own.
    cells = (colors & _CELL | _MIDDLE_OF_CELL).astype(np.int64) * len(palette) + first
    different, of_color = np.unique(cells, return_inverse=True)
    middle = linear_of_bytes(bytes_of_codes((different // len(palette)).astype(np.uint32)))
    second = _partners(middle, (different % len(palette)).astype(np.uint16), light)[of_color]
    apart = light[second] - light[first]
    squared, along = _dot(apart, apart), _dot(linear_of_bytes(bytes_of_codes(colors)) - light[first], apart)
    return first, second, _share(along, squared)


def _partners(wanted: F32, first: U16, light: F32) -> U16:
    """The colours of `light` (k, 3) that mix best with their `first` (n,) to give `wanted` (n, 3), amounts of light."""
    best = np.empty_like(first)
    step = max(1, _CHUNK_SCORES // len(light))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        from_first = light[None] - light[first[part], None]
        squared = _dot(from_first, from_first)
        along = _dot((wanted[part] - light[first[part]])[:, None], from_first)
        share = _share(along, squared)
        # The squared error less what is the same for all, and the variance of the points.
        score = share * (share * squared - 2 * along) + _CONTRAST * share * (1 - share) * squared
        best[part] = score.argmin(axis=1)
    return best


def _share(along: F32, squared: F32) -> F32:
    return np.clip(along / np.maximum(squared, np.finfo(np.float32).tiny), 0, 1)


def _dot(a: F32, b: F32) -> F32:
    return np.asarray(np.einsum("...c,...c->...", a, b), np.float32)


@cache
def bayer() -> F32:
    """Bayer's 8 x 8 thresholds, float32 above 0 and below 1, evenly spread."""
    order: NDArray[np.int64] = np.zeros((1, 1), np.int64)
    for _ in range(_BAYER_DOUBLINGS):
        order = np.block([[4 * order, 4 * order + 2], [4 * order + 3, 4 * order + 1]])
    thresholds = ((order + 0.5) / order.size).astype(np.float32)
    thresholds.flags.writeable = False
    return thresholds


def _diffused(pixels: U8, palette: Palette) -> U16:
    """By Pillow: fast, but in sRGB levels, so that mixtures come out too light, from the left in every row (not to
    and fro), and of colours that differ by a few levels it may take the wrong one.
    """
    from PIL import Image

    if len(palette) > MAX_COLORS:
        raise PaletteError(f"errors are spread among at most {MAX_COLORS} colours, not {len(palette):,}")
    colors = Image.new("P", (1, 1))
    colors.putpalette(palette.srgb.tobytes())
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.quantize(palette=colors, dither=Image.Dither.FLOYDSTEINBERG)).astype(np.uint16)
