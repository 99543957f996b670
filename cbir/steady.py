"""Labels that rest where the film rests: noise is averaged away, and a label changes only for a reason.

Three parts, each fed one frame after the other. `Stillness` tells where the source moved, `SteadyPicture` averages
what did not, and `SteadyLabels` keeps a pixel's label until another one is nearer by a margin. `Flicker` measures what
is left: the share of pixels that change their label where the source did not move.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, U8, lab_of_levels
from cbir.errors import PaletteError
from cbir.palette import Palette, nearest_index

# A table has 5 + 6 + 5 bits for red, green and blue, so that it stays in the processor's cache.
_CELL_WIDTH = np.array([8, 4, 8])
_CELLS = 1 << 16
# Cells whose distances to all colours are worked out at once, which bounds the memory.
_CELLS_AT_ONCE = 1 << 12
# Distances are kept in eighths of L*a*b*, in a byte, whose largest value says nothing.
PARTS, _FARTHEST = 8, 254
# A table has one byte for a label.
MAX_COLORS = 256
# How much nearer (Euclidean in L*a*b*) another colour must be before a resting pixel takes it, which is about as much
# as is only just seen; and how much more for each level of noise.
MARGIN, MARGIN_OF_NOISE = 4.0, 0.9
# How many deviations of the noise a pixel must move by; of a million resting ones less than ten do.
_DEVIATIONS = 4.5
# A mean of 3 x 3 independent pixels has a third of their noise, of those of a compressed film more.
_SMOOTHED_NOISE = 0.45
# Levels by which a picture moves for certain, whatever its noise; and those that no film is too clean for.
_LEAST_MOVE, _LARGEST_MOVE = 3.0, 16.0
# The share of a frame that is taken to rest, and its quantile of a normal distribution's absolute value.
_RESTING, _QUANTILE = 0.25, 0.3186
_SPARSE = 3
# The weight of a new frame in the average of those before; noise falls to a fourth, and a fade is followed.
_NEW_SHARE = 0.125
# How certain, 0 to 255, a line must be to begin where the film rests, and to go on.
_BEGINS, _GOES_ON = 190, 64
# The noise of a film does not change from one frame to the next.
_NOISE_SHARE = 0.1


class Stillness:
    """Where one frame differs from the one before by more than its noise.

    Levels are 8-bit sRGB. `sigma` is the deviation, in levels, of the difference between two frames where nothing
    moves: measured on the quarter of each frame that differs least, averaged over the frames.
    """

    def __init__(self) -> None:
        self.sigma = 0.0
        self._before: U8 | None = None
        self._smoothed: U8 | None = None

    @property
    def threshold(self) -> float:
        """The difference of smoothed levels from which on a pixel has moved."""
        return float(np.clip(_DEVIATIONS * _SMOOTHED_NOISE * self.sigma, _LEAST_MOVE, _LARGEST_MOVE))

    def next(self, pixels: U8) -> U8:
        """Where `pixels` (height, width, 3) uint8 moved against the frame before: (height, width) uint8, 255 or 0.

        Of the first frame everything did.
        """
        smoothed = smooth(pixels)
        if self._before is None or self._smoothed is None:
            moved = np.full(pixels.shape[:2], 255, np.uint8)
        else:
            sigma = noise(self._before, pixels)
            self.sigma = sigma if not self.sigma else self.sigma + _NOISE_SHARE * (sigma - self.sigma)
            moved = differing(self._smoothed, smoothed, self.threshold)
        self._before, self._smoothed = pixels, smoothed
        return moved


def smooth(pixels: U8) -> U8:
    """The mean of each pixel and its eight neighbours, of the same shape."""
    import cv2

    return np.asarray(cv2.blur(pixels, (3, 3)), np.uint8)


def differing(a: U8, b: U8, threshold: float) -> U8:
    """255 where any channel of two pictures (height, width, 3) differs by more than so many levels, else 0."""
    import cv2

    difference = cv2.split(cv2.absdiff(a, b))
    largest = cv2.max(cv2.max(difference[0], difference[1]), difference[2])
    return np.asarray(cv2.threshold(largest, int(threshold), 255, cv2.THRESH_BINARY)[1], np.uint8)


def noise(a: U8, b: U8) -> float:
    """The deviation, in levels, of the difference of two frames (height, width, 3) uint8 where they show the same.

    That is taken to be at least a quarter of them. Of whole levels, where 0 stands for all from 0 to 1/2.
    """
    sparse = slice(None, None, _SPARSE)
    difference = np.abs(a[sparse, sparse, 1].astype(np.int16) - b[sparse, sparse, 1])
    counts = np.bincount(difference.reshape(-1), minlength=256)
    shares = np.concatenate([[0.0], np.cumsum(counts) / difference.size])
    edges = np.concatenate([[0.0], np.arange(256) + 0.5])
    level = int(np.searchsorted(shares, _RESTING))
    part = (_RESTING - shares[level - 1]) / (shares[level] - shares[level - 1])
    return float(edges[level - 1] + part * (edges[level] - edges[level - 1])) / _QUANTILE


class SteadyPicture:
    """The running average of a film where it rests, and the film itself where it moves."""

    def __init__(self) -> None:
        self._mean: F32 | None = None
        self._frames = 0

    def next(self, pixels: U8, source_moved: U8, threshold: float) -> tuple[U8, U8]:
        """One more frame (height, width, 3) uint8: its steady pixels, and where it moved (height, width), 255 or 0.

        `source_moved` and `threshold` are those of `Stillness`. Where a frame differs, lightly smoothed, from the
        average by more than `threshold` levels, its own pixels are taken; but it has only moved there if its source
        has, or if it differs by twice as much.
        """
        import cv2

        if self._mean is None:
            self._mean, self._frames = pixels.astype(np.float32), 1
            return pixels, np.full(pixels.shape[:2], 255, np.uint8)
        self._frames += 1
        before, now = smooth(np.asarray(cv2.convertScaleAbs(self._mean), np.uint8)), smooth(pixels)
        # What is beside moving pixels has moved by less, which the average would draw after them.
        changed = cv2.dilate(differing(before, now, threshold), np.ones((3, 3), np.uint8))
        moved = cv2.bitwise_and(changed, cv2.bitwise_or(source_moved, differing(before, now, 2 * threshold)))
        cv2.accumulateWeighted(pixels, self._mean, max(_NEW_SHARE, 1 / self._frames), cv2.bitwise_not(changed))
        cv2.accumulateWeighted(pixels, self._mean, 1, changed)
        return np.asarray(cv2.convertScaleAbs(self._mean), np.uint8), np.asarray(moved, np.uint8)


class LabelTable:
    """The nearest colour of a palette for each of 65,536 cells of the colours from `low` to `high`.

    `palette` has at most 256 colours; `low` and `high` (3,) are the levels that the cells reach to, so that those of a
    dark film are fine; what lies outside counts as the nearest level inside.
    """

    def __init__(self, palette: Palette, low: U8 | None = None, high: U8 | None = None) -> None:
        if len(palette) > MAX_COLORS:
            raise PaletteError(f"a film is redrawn in 1 to {MAX_COLORS} colours, not {len(palette)}")
        self.palette = palette
        self._low = np.zeros(3) if low is None else low.astype(np.float64)
        high_level = np.full(3, 255.0) if high is None else high.astype(np.float64)
        self._scale = 255 / np.maximum(high_level - self._low, 1)
        self._is_whole = bool((self._low == 0).all() and (high_level == 255).all())

    @cached_property
    def _cell_lab(self) -> F32:
        """The L*a*b* colour in the middle of each cell, (65536, 3)."""
        code = np.arange(_CELLS)
        cells = np.stack([code >> 11, code >> 5 & 63, code & 31], axis=-1)
        return lab_of_levels(np.minimum(self._low + (cells + 0.5) * _CELL_WIDTH / self._scale, 255))

    @cached_property
    def _label(self) -> U8:
        return nearest_index(self._cell_lab, self.palette.lab).astype(np.uint8)

    @cached_property
    def _stretch(self) -> U8:
        levels = (np.arange(256)[:, None] - self._low) * self._scale
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8)[None]

    def stretched(self, pixels: U8) -> U8:
        """Levels from `low` to `high` made 0 to 255, which is what `cells` takes; (height, width, 3) uint8."""
        import cv2

        if self._is_whole:
            return pixels
        return np.asarray(cv2.LUT(pixels, self._stretch), np.uint8)

    def cells(self, stretched: U8) -> NDArray[np.uint16]:
        """The number of each pixel's cell, (height, width) uint16."""
        import cv2

        code = cv2.cvtColor(stretched, cv2.COLOR_RGB2BGR565)
        return np.asarray(code).view(np.uint16).reshape(stretched.shape[:2])

    def labels(self, cells: NDArray[np.uint16]) -> U8:
        """The index of the palette's nearest colour to the middle of each cell, (height, width) uint8."""
        return _looked_up(cells, self._label)

    def excess(self, cells: NDArray[np.uint16], labels: U8) -> U8:
        """By how much some labels' colours lie farther from their cells than the nearest does, both (n,).

        In `1 / PARTS` of L*a*b*, where 255 stands for all that is as far or farther.
        """
        at = cells.astype(np.int32)
        at *= len(self.palette)
        at += labels
        return self._excess.take(at, mode="wrap")

    @cached_property
    def _excess(self) -> U8:
        """`excess` of each cell and label, (65536 * labels,)."""
        table = np.empty((_CELLS, len(self.palette)), np.uint8)
        for start in range(0, _CELLS, _CELLS_AT_ONCE):
            part = slice(start, start + _CELLS_AT_ONCE)
            distance = np.linalg.norm(self._cell_lab[part, None] - self.palette.lab, axis=2)
            table[part] = np.minimum(np.rint((distance - distance.min(axis=1, keepdims=True)) * PARTS), 255)
        return table.reshape(-1)


def _looked_up(codes: NDArray[np.uint16], table: U8) -> U8:
    """`table[codes]`; OpenCV does it five times faster since its version 5."""
    import cv2

    if int(cv2.__version__.partition(".")[0]) >= 5:
        return np.asarray(cv2.LUT(codes, table[None]), np.uint8)
    return table.take(codes, mode="wrap")


class SteadyLabels:
    """The labels of a film, frame by frame: each pixel's nearest colour, unless its last one is about as near."""

    def __init__(self, table: LabelTable) -> None:
        self._table = table
        self._before: U8 | None = None

    def next(self, stretched: U8, moved: U8, margin: float = MARGIN) -> U8:
        """The labels (height, width) uint8 of a frame whose levels `LabelTable.stretched` has made.

        Where `moved` (height, width) is 0, a pixel keeps its last label unless the new one is nearer by the margin,
        Euclidean in L*a*b*.
        """
        import cv2

        cells = self._table.cells(stretched)
        labels = self._table.labels(cells)
        if self._before is not None:
            at = np.flatnonzero(_new_at_rest(self._before, labels, moved))
            old = self._before.take(at)
            keeps = self._table.excess(cells.take(at), old) <= min(margin * PARTS, _FARTHEST)
            kept = np.zeros_like(labels)
            kept.put(at, keeps)
            cv2.copyTo(self._before, kept, labels)
        self._before = labels
        return labels


def _new_at_rest(before: U8, labels: U8, moved: U8) -> NDArray[np.bool_]:
    """Where labels differ from those before, and nothing `moved`; all (height, width)."""
    return np.asarray((labels != before) & (moved == 0), np.bool_)


class SteadyLines:
    """Ink lines that do not blink: how certain each is, averaged where the film rests."""

    def __init__(self) -> None:
        self._mean: F32 | None = None
        self._before: U8 | None = None

    def averaged(self, strength: U8, moved: U8) -> U8:
        """The certainty of lines (height, width) uint8 of one more frame, averaged with those before.

        Where `moved` (height, width) is not 0, it is the frame's own.
        """
        import cv2

        if self._mean is None:
            self._mean = strength.astype(np.float32)
            return strength
        cv2.accumulateWeighted(strength, self._mean, _NEW_SHARE, cv2.bitwise_not(moved))
        cv2.accumulateWeighted(strength, self._mean, 1, moved)
        return np.asarray(cv2.convertScaleAbs(self._mean), np.uint8)

    def next(self, averaged: U8, moved: U8) -> U8:
        """Where there are lines, 255, else 0, by their certainty (height, width) uint8 as averaged.

        A line begins at more certainty than that at which it ends, but where `moved` is not 0.
        """
        import cv2

        begins, goes_on = (cv2.threshold(averaged, at, 255, cv2.THRESH_BINARY)[1] for at in (_BEGINS, _GOES_ON))
        lines = cv2.threshold(averaged, 127, 255, cv2.THRESH_BINARY)[1]
        if self._before is not None:
            rest = cv2.bitwise_or(begins, cv2.bitwise_and(goes_on, self._before))
            cv2.copyTo(rest, cv2.bitwise_not(moved), lines)
        self._before = np.asarray(lines, np.uint8)
        return self._before


class Flicker:
    """The share of pixels that change their label from one frame to the next where the source did not move."""

    def __init__(self) -> None:
        self.resting, self.changed = 0, 0
        self._before: U8 | None = None

    @property
    def share(self) -> float:
        """So far, 0 to 1; 0 if nothing rested."""
        return self.changed / self.resting if self.resting else 0.0

    def add(self, labels: U8, moved: U8) -> None:
        """Count a frame: its labels, and where its source moved, both (height, width)."""
        if self._before is not None:
            self.resting += moved.size - int(np.count_nonzero(moved))
            self.changed += int(np.count_nonzero(_new_at_rest(self._before, labels, moved)))
        self._before = labels

    def cut(self) -> None:
        """What comes next is another scene, and not compared with what was."""
        self._before = None
