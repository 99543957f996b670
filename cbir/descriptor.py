"""The descriptor: how much of a photo has each colour, in how busy a place, and where; one row of bytes for a photo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64, U8

U16 = NDArray[np.uint16]

# A share s of an area is kept as 255 sqrt(s), rounded: one byte, and finest where shares are small, which is where
# distances that take roots look closest. The smallest share that is not lost is 4 millionths.
_FULL = 255
_SHARE_OF_CODE: F64 = (np.arange(_FULL + 1) / _FULL) ** 2
# How busy a place is: how many of the pixels in a square of this side around a pixel are border pixels. The two bounds,
# a quarter and three fifths of its 81, were measured beside others; the next best did as well within a per cent.
_SURROUNDINGS = 9
_MIXED_FROM, _BUSY_FROM = 21, 49
# Stands for all pixels that do not show at all, whatever colours they hide.
_HIDDEN = np.iinfo(np.uint16).max
# (height, width) labels, k, and their alpha to the weighted counts of each block, whole numbers, (blocks, k).
_Counter = Callable[[U16, int, U8 | None], F64]


@dataclass(frozen=True)
class Descriptor:
    """A kind of descriptor: which histograms ("blocks") are counted of each photo.

    `areas` groups the blocks: those of one group share out one area of the photo, so their shares sum to one together
    (to zero, where the area is wholly transparent). The first group's area is the whole photo.
    """

    name: str
    areas: tuple[tuple[str, ...], ...]
    count: _Counter

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The names of the histograms, in the order in which they are kept."""
        return tuple(block for area in self.areas for block in area)

    def describe(self, labels: U16, k: int, alpha: U8 | None = None) -> U8:
        """The descriptor of a picture, (blocks * k,) uint8; what its bytes mean is told by `shares`.

        `labels` (height, width) of values below k; `alpha` (height, width) uint8: transparent pixels count by their
        share. Raises ValueError if nothing of the picture is visible.
        """
        if alpha is not None and not alpha.any():
            raise ValueError("the picture is wholly transparent")
        counts = self.count(labels, k, alpha)
        totals = np.bincount(self._area_of_block, counts.sum(axis=1))[self._area_of_block]
        return codes_of_shares(counts / np.maximum(totals, 1)[:, None]).reshape(-1)

    def painted(self, labels: U16, k: int, alpha: U8) -> F64:
        """How much of each area, transparent parts included, has each colour: (areas, k); rows sum to what shows."""
        counts, area = self.count(labels, k, alpha), self._area_of_block
        totals = np.bincount(area, self.count(labels, k, np.full_like(alpha, 255)).sum(axis=1))
        starts = np.flatnonzero(np.diff(area, prepend=-1))
        return np.asarray(np.add.reduceat(counts, starts, axis=0) / np.maximum(totals, 1)[:, None])

    @cached_property
    def _area_of_block(self) -> NDArray[np.intp]:
        return np.repeat(np.arange(len(self.areas)), [len(area) for area in self.areas])

    def shares(
        self, codes: U8, dtype: type[np.floating] = np.float64, areas: int | None = None
    ) -> NDArray[np.floating]:
        """What descriptors tell: (..., blocks * k) uint8 to (..., blocks, k) shares 0..1 of the blocks' areas.

        Of the first so many `areas` only, if told.
        Rounding moves a share s by less than (sqrt(s) + 0.001) / 255: 0.4 % of the area at most, 0.04 % where s is one
        per cent. Scaling the sum back to one then changes all of the area's shares by one factor, usually by 0.2 %.
        """
        told, k = self.areas[:areas], codes.shape[-1] // len(self.blocks)
        blocks = sum(map(len, told))
        values = _SHARE_OF_CODE.astype(dtype).take(codes[..., : blocks * k]).reshape(*codes.shape[:-1], blocks, k)
        start = 0
        for area in told:
            part = values[..., start : start + len(area), :]
            # Rounding has moved the sum a little off one, which the linear similarity needs.
            total = part.sum(axis=(-1, -2), keepdims=True)
            np.divide(part, total, out=part, where=total > 0)
            start += len(area)
        return values

    def whole(self, codes: U8) -> F64:
        """The histogram of the whole photo: (..., blocks * k) uint8 to (..., k) float64 shares that sum to one."""
        return np.asarray(self.shares(codes, areas=1).sum(axis=-2))

    def of_whole(self, shares: F64) -> U8:
        """A descriptor of which only the whole is known, (k,) float64 shares, as if it lay all in the first block."""
        areas = np.zeros((len(self.blocks), len(shares)))
        areas[0] = shares / shares.sum()
        return codes_of_shares(areas).reshape(-1)


def codes_of_shares(shares: F64) -> U8:
    """The bytes that stand for shares 0..1, any shape."""
    return np.asarray(np.rint(np.sqrt(shares) * _FULL), np.uint8)


def _count_whole(labels: U16, k: int, alpha: U8 | None) -> F64:
    return _count(labels, k, alpha)[None]


def _count_places(labels: U16, k: int, alpha: U8 | None) -> F64:
    height, width = labels.shape
    thirds = (6 * np.arange(height) + 3) // (2 * height)
    busyness = _busyness(labels if alpha is None else np.where(alpha > 0, labels, _HIDDEN))
    # Counted once for both: every third has smooth, mixed and busy places. At 1,024 colours that is 9,216 numbers.
    cells = (thirds * (3 * k)).astype(np.uint16)[:, None] + busyness * np.uint16(k) + labels
    both = _count(cells, 9 * k, alpha).reshape(3, 3, k)
    middle = _middle(height), _middle(width)
    centre = _count(labels[middle], k, None if alpha is None else alpha[middle])
    return np.concatenate([both.sum(axis=0), both.sum(axis=1), centre[None]])


def _count(cells: U16, n: int, alpha: U8 | None) -> F64:
    """How often each number below n occurs, by the opacity of its pixels: (n,) float64.

    Opacity counts in whole numbers, so that sums do not depend on the order of the pixels.
    """
    weights = None if alpha is None else alpha.reshape(-1)
    return np.bincount(cells.reshape(-1), weights, minlength=n).astype(np.float64)


def _middle(side: int) -> slice:
    """The middle half of a side; at least a pixel."""
    return slice(side // 4, side - side // 4)


def _busyness(labels: U16) -> U8:
    """Whether the surroundings of each pixel are smooth, mixed or busy: (height, width) of 0, 1 and 2."""
    import cv2

    borders = _borders(labels).view(np.uint8)
    square = (_SURROUNDINGS, _SURROUNDINGS)
    number = cv2.boxFilter(borders, cv2.CV_8U, square, normalize=False, borderType=cv2.BORDER_REFLECT)
    return (number >= _MIXED_FROM).view(np.uint8) + (number >= _BUSY_FROM).view(np.uint8)


def _borders(labels: U16) -> NDArray[np.bool_]:
    """Which pixels have another label than one of their 4 neighbours (Stehling et al. 2002)."""
    borders = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    borders[:, 1:] |= across
    borders[:, :-1] |= across
    borders[1:] |= down
    borders[:-1] |= down
    return borders


SPATIAL = Descriptor(
    "spatial", (("smooth", "mixed", "busy"), ("top",), ("middle",), ("bottom",), ("centre",)), _count_places
)
GLOBAL = Descriptor("global", (("whole",),), _count_whole)
DESCRIPTORS = {descriptor.name: descriptor for descriptor in (SPATIAL, GLOBAL)}
