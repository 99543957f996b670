"""The palette of one picture that looks most like it: k-medians in CIEDE2000, over the cells of a grid.

What is told about a redrawn picture is the mean difference of its pixels as the eye sees them. K-means in L*a*b*
minimizes something else: the squares, in a space where saturated colours lie too far apart.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from cbir.threads import short_turns

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
# The fewer colours, the more the start decides: the best of up to eight starts counts.
_MOST_STARTS, _COLORS_STARTED = 8, 96
_CANDIDATES = 3
# In a pass colours move by so many times what would take them to their means, which saves passes; in the last by once.
_PASSES, _FURTHER = 9, 1.5
# Added to squared differences, so that a cell that lies on a palette colour does not hold it for ever.
_SOFT = 0.3
# An accent covers so much of the picture, and every other palette colour differs from it by so much in CIEDE2000.
# The share is below half a percent because the edge of a small thing is a mixture with what is around it.
_ACCENT_SHARE, _ACCENT_DIFFERENCE = 0.004, 12.0
_MOST_ACCENTS = 4
_ACCENT_CANDIDATES = 256
# So many scores, and colours of a picture, are worked out at a time: they stay in the processor's cache, and numpy is
# not called for too few.
_FEW_SCORES, _FEW_COLORS = 1 << 18, 1 << 11
# Pixels that are labelled at a time.
_BLOCK = 1 << 16
# Of the colours of one picture. The pictures of a folder have a process for each core anyway.
_THREADS = 2
# The near form of CIEDE2000 (squared) cannot tell which of two colours is nearer if the one's is so many times the
# other's; the further away the other is, the more times. Few colours lie far from the pixels.
_CLOSE_FACTOR, _CLOSE_FACTOR_MOST = 1.25, 8.0
_CLOSE_FURTHER, _CLOSE_FURTHER_OF_FEW, _FEW_OF_PALETTE = 0.0075, 0.02, 8
# And if both are so little.
_CLOSE = 0.5


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
    Of a palette that was `learnt` from these pixels, which lie near its colours, most are told from one another by a
    near form of CIEDE2000, several times as fast: of 17 photos in 4, 8 and 16 colours it chose another colour for 1
    pixel in 12,000, which made the mean difference larger by 0.0001, and by 0.006 where it did most.
    """
    with one_thread():
        nearest = _by_eye(lab_of_bytes(palette.srgb), learnt)
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
        return _Points(at, weights.astype(np.float32), self.left(at), self)


@dataclass(frozen=True)
class _Points:
    """Colours `at` (n, 3) float32, their `weights` (n,) float32, which sum to one, and their left sides."""

    at: F32
    weights: F32
    sides: F32
    measure: _Measure

    def squared(self, colors: F32) -> F32:
        """Squared differences of some colours from all points, (len(colors), n)."""
        return self.squared_of_sides(self.measure.right(colors))

    def squared_of_sides(self, rights: F32) -> F32:
        """The same of colours' right sides."""
        squared = rights @ self.sides.T
        return np.asarray(np.maximum(squared, 0, out=squared), np.float32)

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
        code = codes(pixels.take((stretch * (len(pixels) / _SAMPLE)).astype(np.intp), axis=0))
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
    colors = _settled(points, _starts(points, k, max(1, min(_MOST_STARTS, _COLORS_STARTED // k))))
    cost = [points.weights @ points.cost(points.squared(one).min(axis=0)) for one in colors]
    return np.asarray(colors[int(np.argmin(cost))], np.float32)


def _starts(points: _Points, k: int, starts: int) -> F32:
    """Some times k of the points, far from each other, (starts, k, 3): greedy k-means++ (Arthur, Vassilvitskii 2007).

    All starts together, since a step of one takes less time than numpy takes to be called.
    """
    draws = np.random.default_rng(_SEED).random((starts, k, _CANDIDATES))
    rights = points.measure.right(points.at)
    chance = np.tile(points.weights, (starts, 1))
    nearest = np.full((starts, 1, len(points.at)), np.inf, np.float32)
    chosen = np.empty((starts, k), np.intp)
    every = np.arange(starts)
    for i in range(k):
        steps = np.cumsum(chance, axis=1, dtype=np.float64)
        candidates = np.stack(
            [np.searchsorted(own, draw * own[-1]) for own, draw in zip(steps, draws[:, i], strict=True)]
        )
        candidates = candidates.clip(max=len(points.at) - 1)
        squared = points.squared_of_sides(rights[candidates.reshape(-1)]).reshape(starts, _CANDIDATES, -1)
        cost = points.cost(np.minimum(squared, nearest, out=squared))
        best = (cost @ points.weights).argmin(axis=1)
        chosen[:, i], nearest = candidates[every, best], squared[every, best][:, None]
        chance = points.weights * cost[every, best]
    return points.at[chosen]


def _settled(points: _Points, colors: F32) -> F32:
    """Sets of colours (starts, k, 3), moved to the means of their clusters, then to the medians, if so measured."""
    for median in [False] * _PASSES + [points.measure.robust] * (_PASSES - 1):
        colors = colors + np.float32(_FURTHER) * (_moved(points, colors, median) - colors)
    return _moved(points, colors, points.measure.robust)


def _moved(points: _Points, colors: F32, median: bool) -> F32:
    """Sets of colours (starts, k, 3), each moved to the mean of what is nearest to it, or towards the median.

    That is a mean whose weights are divided by the distances (Weiszfeld, 1937).
    """
    starts, k, _ = colors.shape
    rights = points.measure.right(colors.reshape(-1, 3))
    # Weights, and what they weigh.
    weighted = points.weights[:, None] * np.column_stack([np.ones_like(points.weights), points.at])
    sums = np.zeros((starts, k, 4), np.float64)
    few = max(1, _FEW_SCORES // len(rights))
    for start in range(0, len(weighted), few):
        part = slice(start, start + few)
        squared = (rights @ points.sides[part].T).reshape(starts, k, -1)
        least = squared.min(axis=1, keepdims=True)
        pulled = weighted[part]
        if median:
            pulled = pulled / np.sqrt(np.maximum(least, 0) + np.float32(_SOFT)).transpose(0, 2, 1)
        # Of two that are equally near, both get the point.
        sums += (squared == least).astype(np.float32) @ pulled
    total = sums[..., :1]
    # A colour that nothing is nearest to stays where it is.
    return np.where(total > 0, sums[..., 1:] / np.where(total > 0, total, 1), colors).astype(np.float32)


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
    squared = points.squared(colors).min(axis=0)
    far = squared > limit
    # Not the heaviest alone, which are parts of large things where the colours are few.
    error = np.where(far, points.weights * squared, 0)
    candidates = np.argsort(-error, kind="stable")[:_ACCENT_CANDIDATES]
    alike = (points.squared(points.at[candidates]) <= limit) & far
    large = alike @ points.weights >= _ACCENT_SHARE
    if not large.any():
        return None
    return np.asarray(alike[np.where(large, squared[candidates], 0).argmax()], bool)


# --- labels


def _labels(pixels: U8, k: int, nearest_of: Callable[[U8], NDArray[np.int32]]) -> U16:
    """The label of each pixel, found once for each different colour."""
    code = codes(pixels)
    own = distinct(code)
    table = np.zeros(1 << 24, np.uint8 if k <= 256 else np.uint16)
    few = max(_FEW_COLORS, _FEW_SCORES // k)

    def find(start: int) -> None:
        part = own[start : start + few]
        table[part] = nearest_of(bytes_of_codes(part))

    with short_turns(), ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(find, range(0, len(own), few)))
    labels = np.empty(code.shape, np.uint16)
    flat, flat_labels = code.reshape(-1), labels.reshape(-1)
    # Block by block, so that the indices, which numpy wants in 64 bits, stay in the processor's cache.
    for start in range(0, len(flat), _BLOCK):
        block = slice(start, start + _BLOCK)
        # "wrap" is numpy's way to take without a look at each number first; all are below 2^24.
        flat_labels[block] = table.take(flat[block], mode="wrap")
    return labels


def _by_eye(colors: F32, near: bool) -> Callable[[F32], NDArray[np.int32]]:
    """What finds the nearest colour: if `near` by the near form of CIEDE2000, and where that cannot tell, by itself."""
    sides = right(colors)
    numbers_and_ones = np.stack([np.arange(len(colors)), np.ones(len(colors))]).astype(np.float32)

    def nearest(points: F32) -> NDArray[np.int32]:
        squared = sides @ left(points).T
        close = squared <= (_reach(squared) if near else np.float32(np.inf))
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


def _reach(squared: F32) -> F32:
    """Up to which squared difference by the near form, of all those (k, n), a colour may be the nearest, (n,)."""
    least = np.maximum(squared.min(axis=0), 0)
    further = np.float32(_CLOSE_FURTHER if len(squared) > _FEW_OF_PALETTE else _CLOSE_FURTHER_OF_FEW)
    factor = np.minimum(np.float32(_CLOSE_FACTOR) + further * least, np.float32(_CLOSE_FACTOR_MOST))
    return np.asarray(least * factor + np.float32(_CLOSE), np.float32)
