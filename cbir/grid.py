"""Counting colours in a grid over the sRGB cube, which is what palettes are learnt from.

A photo has tens of thousands of different colours, and a collection has millions; k-means over the few thousand
occupied cells of a grid, weighted, finds as good a palette many times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, F64, U8, U32, codes, lab_of_levels

# Bits per channel: 64 x 64 x 64 cells, 4 levels wide. With 5 bits a 256-colour palette is 1 to 2 % worse.
_BITS = 6
_CELLS = 1 << 3 * _BITS


def _cells(code: U32) -> NDArray[np.intp]:
    """The cell of each colour code: the upper bits of its three channels, put together."""
    drop, mask = 8 - _BITS, (1 << _BITS) - 1
    cell = code >> drop & mask
    for channel in (1, 2):
        cell |= code >> (channel * 8 + drop - channel * _BITS) & mask << channel * _BITS
    return cell.astype(np.intp)


@dataclass(frozen=True)
class CellCounts:
    """The occupied cells of one or more pictures, all pictures weighing the same.

    `cells` (n,) int64 ascending, `weights` (n,) float64 > 0, `levels` (n, 3) float64: the weighted sums of the red,
    green and blue levels 0..255 in each cell.
    """

    cells: NDArray[np.int64]
    weights: F64
    levels: F64

    @classmethod
    def of_pixels(cls, pixels: U8, alpha: U8 | None = None) -> Self:
        """Count one picture, (height, width, 3) uint8 sRGB; its weights sum to one, or are none if all is transparent.

        `alpha`, (height, width) uint8, lets transparent pixels count by their share.
        """
        rgb = np.ascontiguousarray(pixels.reshape(-1, 3).T)
        share = None if alpha is None else alpha.reshape(-1) / 255.0
        cell = _cells(codes(pixels).reshape(-1))
        counts = np.bincount(cell, weights=share, minlength=_CELLS)
        occupied = np.flatnonzero(counts > 0)
        # Numbering the occupied cells anew keeps the three sums below in the processor's cache. The cells of wholly
        # transparent pixels are not occupied and count as the first, with no weight.
        number = np.zeros(_CELLS, np.intp)
        number[occupied] = np.arange(len(occupied))
        cell = number[cell]
        visible = rgb if share is None else rgb * share
        levels = np.stack([np.bincount(cell, weights=level, minlength=len(occupied)) for level in visible], axis=-1)
        total = counts.sum() or 1.0
        return cls(occupied, counts[occupied] / total, levels[: len(occupied)] / total)

    @classmethod
    def of_pictures(cls, pictures: Sequence[tuple[U8, U8 | None]]) -> Self:
        """The sum of `of_pixels` over several small pictures, which is many times faster counted at once."""
        code = np.concatenate([codes(pixels).reshape(-1) for pixels, _ in pictures])
        weights = np.concatenate([_weights(pixels, alpha) for pixels, alpha in pictures])
        cell = _cells(code)
        total: F64 = np.bincount(cell, weights, _CELLS).astype(np.float64)
        occupied = np.flatnonzero(total > 0)
        levels = [np.bincount(cell, weights * (code >> shift & 255), _CELLS)[occupied] for shift in (0, 8, 16)]
        return cls(occupied, total[occupied], np.stack(levels, axis=-1))

    def colors(self) -> tuple[F32, F64]:
        """The L*a*b* colour of each cell's mean levels, (n, 3) float32, and the cells' weights, (n,) float64."""
        return lab_of_levels(self.levels / self.weights[:, None]), self.weights


def _weights(pixels: U8, alpha: U8 | None) -> F64:
    """What each pixel of a picture weighs, (height * width,): together one, or nothing if all is transparent."""
    if alpha is None:
        number = pixels.size // 3
        return np.full(number, 1 / number)
    share = alpha.reshape(-1).astype(np.float64)
    return np.asarray(share / (share.sum() or 1.0))


class ColorGrid:
    """A grid that sums the cell counts of many pictures."""

    def __init__(self) -> None:
        self._weights = np.zeros(_CELLS)
        self._levels = np.zeros((_CELLS, 3))

    def add(self, counts: CellCounts) -> None:
        """Add one picture. The sums depend on the order of the pictures only in their last bits: keep one order."""
        self._weights[counts.cells] += counts.weights
        self._levels[counts.cells] += counts.levels

    def total(self) -> CellCounts:
        """What was added so far."""
        occupied = np.flatnonzero(self._weights > 0)
        return CellCounts(occupied, self._weights[occupied], self._levels[occupied])
