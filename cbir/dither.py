"""Dithering: colours between those of a palette, as a mixture of points of two or more of them."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, U8, U32, bytes_of_codes, codes, distinct, lab_of_linear, linear_of_bytes
from cbir.errors import PaletteError
from cbir.palette import U16, Palette
from cbir.quadratic import one_thread

Dither = Literal["none", "ordered", "error"]

# Sides of Bayer's matrix are powers of two; with 8 there are 64 mixtures of two colours, as many as the eye needs.
_BAYER_DOUBLINGS = 3
# How much a mixture's contrast counts against its error: points of black and white make a worse grey than points of
# two greys. Of 0, 0.02, 0.05 to 0.5 the one with about the least mean error of blurred photos.
_CONTRAST = 0.05
# The five upper bits of each channel, and half of what the others can tell.
_CELL, _MIDDLE_OF_CELL = np.uint32(0xF8F8F8), np.uint32(0x040404)
# Colours that are compared with the palette at a time, which bounds the memory.
_CHUNK_SCORES = 1 << 20
# What of an error goes to the right, and down left, down, and down right (Floyd, Steinberg 1976).
_WEIGHTS = tuple(np.float32(sixteenths / 16) for sixteenths in (7, 3, 5, 1))
# The widest errors, as parts of a step of light from one level to the next: halfway in lightness from black to white
# lies 0.184 of the light, and halfway between others nearer to half of it.
_BELOW, _ABOVE = np.float32(0.82), np.float32(0.5)


def dithered(pixels: U8, palette: Palette, dither: Dither) -> U16:
    """The labels (height, width) of a picture, (height, width, 3) uint8 sRGB, in the colours `palette.srgb`.

    "none" is the nearest colour. "ordered" mixes two colours in Bayer's pattern (1973) so that their light adds up to
    each pixel's; a pixel depends on its own colour and place alone, so nothing crawls in a film. "error" takes the
    nearest colour and hands the error, in amounts of light, on to the next pixels (Floyd, Steinberg 1976), row by row
    from the left; errors that no mixture of the colours makes good are cut off. What has none but the palette's colours
    keeps them with each. Raises PaletteError for another `dither`.
    """
    # The nearest of the colours as they are written, whose labels are those of the palette unless two became one.
    plain = palette.labels(pixels)
    if dither == "none" or not plain.size or np.array_equal(palette.srgb.take(plain, axis=0), pixels):
        return plain
    if dither == "ordered":
        return _ordered(pixels, palette)
    if dither == "error":
        with one_thread():
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
    """Wave by wave: pixels with the same x + 2 y hand nothing on to one another, and are done together."""
    height, width = pixels.shape[:2]
    planes = np.ascontiguousarray(pixels.reshape(-1, 3).T)
    light = np.ascontiguousarray(linear_of_bytes(palette.srgb).T)
    lowest, highest = _bounds(light)
    # With these |c|^2 / 2 - x c is one product, which orders the colours c like their distances to x. Not in float32,
    # whose rounding could tell colours in the wrong order.
    lab = lab_of_linear(light).astype(np.float64)
    sides = np.concatenate([-lab.T, (lab * lab).sum(axis=1)[None] / 2])
    places = np.ones((4, height))
    labels = np.empty(height * width, np.uint16)
    # The errors of the last waves by rows, nought where a row has no pixel in a wave. Before the first row is another.
    errors = [np.zeros((3, height + 1), np.float32) for _ in range(4)]
    written = [slice(0, 0)] * 4
    for wave in range(width + 2 * height - 2):
        first, last = max(0, (wave - width + 2) // 2), min(height - 1, wave // 2)
        if first > last:
            # In a picture of one column every other wave is empty.
            errors, written = _next(errors, written, slice(0, 0))
            continue
        row, above, number = slice(first + 1, last + 2), slice(first, last + 1), last + 1 - first
        # From one row to the next of a wave it is one row down and two pixels back.
        start, step = wave + first * (width - 2), max(1, width - 2)
        part = slice(start, start + (number - 1) * step + 1, step)
        wanted = linear_of_bytes(planes[:, part])
        for source, rows, weight in zip((-1, -1, -2, -3), (row, above, above, above), _WEIGHTS, strict=True):
            wanted += weight * errors[source][:, rows]
        np.clip(wanted, lowest, highest, out=wanted)
        places[:3, :number] = lab_of_linear(np.maximum(wanted, 0)).T
        nearest = (places[:, :number].T @ sides).argmin(axis=1)
        labels[part] = nearest
        errors, written = _next(errors, written, row)
        errors[-1][:, row] = wanted - light.take(nearest, axis=1)
    return labels.reshape(height, width)


def _next(errors: list[F32], written: list[slice], rows: slice) -> tuple[list[F32], list[slice]]:
    """One wave on, which will write these rows: the oldest errors are forgotten."""
    oldest, *others = errors
    oldest[:, written[0]] = 0
    return [*others, oldest], [*written[1:], rows]


def _bounds(light: F32) -> tuple[F32, F32]:
    """Between which amounts of light, (3, 1) each, those of pixels with errors added are kept.

    `light` (3, k) are the palette's. What no mixture of these gives would otherwise add up to errors that run away. Of
    what lies between two levels of a channel that are next to each other all errors have room.
    """
    levels = np.sort(light, axis=1)
    lower, upper = levels[:, :-1], levels[:, 1:]
    lowest = np.concatenate([levels[:, :1], lower - _BELOW * (upper - lower)], axis=1)
    highest = np.concatenate([levels[:, -1:], upper + _ABOVE * (upper - lower)], axis=1)
    return lowest.min(axis=1, keepdims=True), highest.max(axis=1, keepdims=True)
