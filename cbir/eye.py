"""The palette of one picture that looks most like it: k-medians in CIEDE2000, over the cells of a grid.

What is told about a redrawn picture is the mean difference of its pixels as the eye sees them. K-means in L*a*b*
minimizes something else: the squares, in a space where saturated colours lie too far apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cbir.ciede2000 import ciede2000, left, right
from cbir.color import F32, F64, U8, U32, bytes_of_codes, bytes_of_lab, codes, distinct, lab_of_bytes, lab_of_levels
from cbir.errors import PaletteError
from cbir.palette import U16, Palette, nearest_index
from cbir.pixels import Picture
from cbir.quadratic import one_thread

Space = Literal["eye", "rgb"]

MAX_COLORS = 256
_HALF_OPAQUE = 128
# Of a larger picture so many pixels are counted: a thousand for each of 256 colours.
_SAMPLE = 1 << 18
_SEED = 0
# So many pixels for each colour tell mostly that a picture has more colours.
_LOOK = 64
# The coarsest grid with so many occupied cells for each colour counts: a finer one takes longer and finds no better
# colours. With 8 bits a channel every colour is a cell.
_CELLS_PER_COLOR = 64
_BITS = (5, 6, 7, 8)
# The fewer colours, the more the start decides: the best of up to six starts counts.
_MOST_STARTS, _COLORS_STARTED = 6, 96
_CANDIDATES = 3
_PASSES = 10
# Added to squared differences, so that a cell that lies on a palette colour does not hold it for ever.
_SOFT = 0.3
# An accent covers so much of the picture, and every other palette colour differs from it by so much in CIEDE2000.
# The share is below half a percent because the edge of a small thing is a mixture with what is around it.
_ACCENT_SHARE, _ACCENT_DIFFERENCE = 0.004, 12.0
_MOST_ACCENTS = 4
_ACCENT_CANDIDATES = 256
# Labelled at a time, so that the scores stay in the processor's cache.
_FEW_SCORES = 1 << 17
# Where the near form of CIEDE2000 (squared) cannot tell which of two colours is nearer.
_CLOSE_FACTOR, _CLOSE = 1.5, 0.5
# So few colours lie far from the pixels, where that form is off by more; and by the formula they are soon told.
_FEW_COLORS = 8


def learn_palette(picture: Picture, k: int, *, space: Space = "eye", keep_accents: bool = False) -> Palette:
    """The palette of at most k (1 to 256) colours, exact in 8 bits, in which a picture differs least from itself.

    In `space` "eye" it is the mean CIEDE2000 that is low, if each pixel gets its label by `labels_by_eye`; in "rgb" the
    mean squared error of the sRGB levels, with `labels_by_rgb`. `keep_accents` gives an entry to what covers half a
    percent of the picture and looks unlike all other entries. A picture of no more than k colours keeps just these.
    Pixels less than half opaque do not count. The same picture gives the same palette.
    Raises PaletteError for another k or space, and for a picture of which nothing is visible.
    """
    if not 1 <= k <= MAX_COLORS:
        raise PaletteError(f"a picture is redrawn in 1 to {MAX_COLORS} colours, not {k}")
    if space not in _SPACES:
        raise PaletteError(f"there is no space {space!r}; use one of {', '.join(_SPACES)}")
    code = _sampled_codes(picture, k)
    if not _more_than(k, code):
        return Palette.of_bytes(bytes_of_codes(distinct(code)))
    points = _SPACES[space].points(*_cells(code, k))
    with one_thread():
        learn = _with_accents if keep_accents else _best_colors
        srgb = points.measure.bytes_of(learn(points, k))
    return Palette.of_bytes(_filled(srgb, code, k))


def labels_by_eye(pixels: U8, palette: Palette, *, learnt: bool = False) -> U16:
    """The index of the palette colour that differs least in CIEDE2000 from each pixel; ties to the lower index.

    `pixels` (..., 3) uint8 sRGB; the result is (...) uint16. The colours as they are written, in 8 bits, are compared,
    those that `cbir.ciede2000.left` cannot rule out by the formula itself.
    Of a palette that was `learnt` from these pixels, which lie near its colours if it has more than eight, most are
    told from one another by a near form of CIEDE2000, several times as fast; of two million pixels of a photo some
    hundred labels then differ, which changed the mean by less than a ten-thousandth.
    """
    with one_thread():
        near = learnt and len(palette) > _FEW_COLORS
        nearest = _by_eye(lab_of_bytes(palette.srgb), _CLOSE_FACTOR if near else np.inf)
        return _labels(pixels, len(palette), lambda srgb: nearest(lab_of_bytes(srgb)))


def labels_by_rgb(pixels: U8, palette: Palette) -> U16:
    """Like `labels_by_eye`, nearest in the sRGB levels."""
    levels = palette.srgb.astype(np.float32)
    with one_thread():
        return _labels(pixels, len(palette), lambda srgb: nearest_index(srgb.astype(np.float32), levels))


# --- what is measured, and where means are taken


@dataclass(frozen=True)
class _Measure:
    """Squared differences of colours x, y as `left(x) @ right(y).T`; to some power their weighted sum is minimized.

    `robust`: the differences themselves, so that colours become medians; else their squares, and they become means.
    """

    left: Callable[[F32], F32]
    right: Callable[[F32], F32]
    of_levels: Callable[[F64], F32]
    bytes_of: Callable[[F32], U8]
    robust: bool

    def points(self, levels: F64, weights: F64) -> _Points:
        at = self.of_levels(levels)
        return _Points(at, weights, self.left(at), self)


@dataclass(frozen=True)
class _Points:
    """Colours `at` (n, 3) float32, their `weights` (n,) float64, which sum to one, and their left sides."""

    at: F32
    weights: F64
    sides: F32
    measure: _Measure

    def squared(self, colors: F32) -> F32:
        """Squared differences of all points from some colours, (n, len(colors))."""
        return np.asarray(np.maximum(self.sides @ self.measure.right(colors).T, 0), np.float32)

    def cost(self, squared: F32) -> F32:
        """What is summed, of squared differences."""
        return np.sqrt(squared) if self.measure.robust else squared

    def only(self, which: NDArray[np.bool_]) -> _Points:
        return _Points(self.at[which], self.weights[which], self.sides[which], self.measure)


def _rgb_left(levels: F32) -> F32:
    return np.column_stack([(levels * levels).sum(axis=1), -2 * levels, np.ones(len(levels), np.float32)])


def _rgb_right(levels: F32) -> F32:
    return np.column_stack([np.ones(len(levels), np.float32), levels, (levels * levels).sum(axis=1)])


_SPACES: dict[str, _Measure] = {
    "eye": _Measure(left, right, lab_of_levels, bytes_of_lab, robust=True),
    "rgb": _Measure(
        _rgb_left,
        _rgb_right,
        lambda levels: levels.astype(np.float32),
        lambda levels: np.rint(levels).clip(0, 255).astype(np.uint8),
        robust=False,
    ),
}
assert set(_SPACES) == set(get_args(Space))


# --- the colours of a picture


def _sampled_codes(picture: Picture, k: int) -> U32:
    """The codes of a picture's visible pixels: of many a sample, unless that has no more than k colours."""
    pixels = picture.pixels.reshape(-1, 3)
    if picture.alpha is not None:
        pixels = pixels[picture.alpha.reshape(-1) >= _HALF_OPAQUE]
    if not len(pixels):
        raise PaletteError("the picture is wholly transparent")
    if len(pixels) > _SAMPLE:
        # One from each stretch of the picture, but not at a step that a pattern might have too.
        stretch = np.arange(_SAMPLE) + np.random.default_rng(_SEED).random(_SAMPLE)
        code = codes(pixels[(stretch * (len(pixels) / _SAMPLE)).astype(np.intp)])
        if _more_than(k, code):
            return code
    return codes(pixels)


def _more_than(k: int, code: U32) -> bool:
    """Whether there are more than k different codes, which the first few nearly always tell."""
    return len(distinct(code[: _LOOK * k])) > k or len(distinct(code)) > k


def _cells(code: U32, k: int) -> tuple[F64, F64]:
    """The mean levels (n, 3) of the occupied cells of a grid, fine enough for k colours, and the cells' shares."""
    for bits in _BITS:
        cell = _cell_of_code(code, bits)
        counts = np.bincount(cell)
        occupied = np.flatnonzero(counts)
        if len(occupied) >= _CELLS_PER_COLOR * k:
            break
    # Numbered anew, for the sums to stay in the processor's cache.
    number = np.zeros(len(counts), np.intp)
    number[occupied] = np.arange(len(occupied))
    numbered = number[cell]
    sums = [np.bincount(numbered, weights=code >> shift & 255) for shift in (0, 8, 16)]
    return np.stack(sums, axis=1) / counts[occupied, None], counts[occupied] / len(code)


def _cell_of_code(code: U32, bits: int) -> NDArray[np.intp]:
    """The upper bits of the three channels, put together."""
    drop, mask = 8 - bits, (1 << bits) - 1
    cell = (code >> drop & mask) | (code >> 2 * drop & mask << bits) | (code >> 3 * drop & mask << 2 * bits)
    return np.asarray(cell, np.uint32)


# --- clustering


def _best_colors(points: _Points, k: int) -> F32:
    """The best k colours of several starts, (k, 3)."""
    starts = max(1, min(_MOST_STARTS, _COLORS_STARTED // k))
    rng = np.random.default_rng(_SEED)
    tried = [_settled(points, _start(points, k, rng)) for _ in range(starts)]
    return min(tried, key=lambda colors: float(points.weights @ points.cost(points.squared(colors).min(axis=1))))


def _start(points: _Points, k: int, rng: np.random.Generator) -> F32:
    """k of the points, far from each other: greedy k-means++ (Arthur and Vassilvitskii, 2007)."""
    chance = points.weights
    nearest = np.full(len(points.at), np.inf, np.float32)
    chosen = np.empty(k, np.intp)
    for i in range(k):
        steps = np.cumsum(chance)
        candidates = np.searchsorted(steps, rng.random(_CANDIDATES) * steps[-1]).clip(max=len(steps) - 1)
        squared = np.minimum(points.squared(points.at[candidates]), nearest[:, None])
        best = int((points.weights @ points.cost(squared)).argmin())
        chosen[i], nearest = candidates[best], squared[:, best]
        chance = points.weights * points.cost(nearest)
    return points.at[chosen]


def _settled(points: _Points, colors: F32) -> F32:
    """Colours moved to the means of their clusters, then, if so measured, to the medians (Weiszfeld, 1937)."""
    for median in [False] * _PASSES + [points.measure.robust] * _PASSES:
        squared = points.squared(colors)
        label = squared.argmin(axis=1)
        pull = points.weights
        if median:
            pull = pull / np.sqrt(squared[np.arange(len(label)), label] + _SOFT)
        total = np.bincount(label, pull, len(colors))
        sums = [np.bincount(label, pull * axis, len(colors)) for axis in points.at.T]
        # A colour that nothing is nearest to stays where it is.
        means = np.stack(sums, axis=1) / np.where(total > 0, total, 1)[:, None]
        colors = np.where(total[:, None] > 0, means, colors).astype(np.float32)
    return colors


def _filled(srgb: U8, code: U32, k: int) -> U8:
    """Colours (k, 3), where rounding made two alike replaced by the most frequent others of the picture."""
    kept = distinct(codes(srgb))
    if len(kept) == k:
        return srgb
    own, counts = np.unique(code, return_counts=True)
    others = own[np.argsort(-counts, kind="stable")]
    others = others[~np.isin(others, kept)][: k - len(kept)]
    return bytes_of_codes(np.concatenate([kept, others]))


# --- accents


def _with_accents(points: _Points, k: int) -> F32:
    """The best k colours among which accents have entries of their own."""
    accents = np.empty((0, 3), np.float32)
    rest = points
    colors = _best_colors(points, k)
    for _ in range(min(_MOST_ACCENTS, k // 2)):
        accent = _accent(rest, np.concatenate([colors, accents]))
        if accent is None:
            break
        accents = np.concatenate([accents, np.average(rest.at[accent], axis=0, weights=rest.weights[accent])[None]])
        rest = rest.only(~accent)
        colors = _best_colors(rest, k - len(accents))
    return np.concatenate([colors, accents]).astype(np.float32)


def _accent(points: _Points, colors: F32) -> NDArray[np.bool_] | None:
    """Which points make up the accent that stands out most, if there is one: alike, and far from all colours."""
    limit = _ACCENT_DIFFERENCE**2
    squared = points.squared(colors).min(axis=1)
    far = squared > limit
    # Not the heaviest alone, which are parts of large things where the colours are few.
    error = np.where(far, points.weights * squared, 0)
    candidates = np.argsort(-error, kind="stable")[:_ACCENT_CANDIDATES]
    alike = (points.squared(points.at[candidates]) <= limit) & far[:, None]
    large = points.weights @ alike >= _ACCENT_SHARE
    if not large.any():
        return None
    return np.asarray(alike[:, np.where(large, squared[candidates], 0).argmax()], bool)


# --- labels


def _labels(pixels: U8, k: int, nearest_of: Callable[[U8], NDArray[np.int32]]) -> U16:
    """The label of each pixel, found once for each different colour."""
    code = codes(pixels)
    own = distinct(code)
    table = np.zeros(1 << 24, np.uint8 if k <= 256 else np.uint16)
    few = max(1, _FEW_SCORES // k)
    for start in range(0, len(own), few):
        part = own[start : start + few]
        table[part] = nearest_of(bytes_of_codes(part))
    # "wrap" is numpy's way to take without a look at each number first; all are below 2^24.
    return table.take(code, mode="wrap").astype(np.uint16, copy=False)


def _by_eye(colors: F32, factor: float) -> Callable[[F32], NDArray[np.int32]]:
    """What finds the nearest colour: by the near form of CIEDE2000, and where that cannot tell, by itself."""
    sides = right(colors)
    numbers_and_ones = np.stack([np.arange(len(colors)), np.ones(len(colors))]).astype(np.float32)

    def nearest(points: F32) -> NDArray[np.int32]:
        squared = sides @ left(points).T
        close = squared <= np.maximum(squared.min(axis=0), np.float32(_CLOSE)) * np.float32(factor) + np.float32(_CLOSE)
        # The sum of the close ones' numbers is that of the nearest one wherever there is but one.
        number, several = numbers_and_ones @ close.astype(np.float32)
        index: NDArray[np.int32] = np.asarray(number, np.int32)
        doubtful = np.flatnonzero(several > 1)
        color, point = np.nonzero(close[:, doubtful])
        exact = np.full((len(colors), len(doubtful)), np.inf, np.float32)
        exact[color, point] = ciede2000(points[doubtful[point]], colors[color])
        index[doubtful] = exact.argmin(axis=0)
        return index

    return nearest
