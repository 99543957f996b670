"""A painted question: colours in places, where it is opaque; the rest does not matter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cbir.asked import Asked, Unmet
from cbir.color import F64
from cbir.descriptor import Descriptor
from cbir.palette import Palette
from cbir.pixels import Picture

# Rounding of what has all, or nothing.
_DECIMALS = 12
# Of parts of an area that take up less, nothing is asked: they are what a brush's soft edge spills.
_LEAST = 0.002


class Painting:
    """How much of what is painted photos lack, area by area.

    Of each area of the descriptor the painting has shares of palette colours, which sum to its opaque part; `Unmet`
    tells what a photo lacks of them there. Each area counts by its opaque part, so that with all painted alike the
    result is that of the whole. `tolerance` is in Delta E (1994). Raises ValueError if nothing is painted.
    """

    def __init__(self, picture: Picture, palette: Palette, descriptor: Descriptor, tolerance: float) -> None:
        alpha = np.full(picture.pixels.shape[:2], 255, np.uint8) if picture.alpha is None else picture.alpha
        if not alpha.any():
            raise ValueError("nothing is painted: it is wholly transparent")
        k = len(palette)
        painted = descriptor.painted(palette.labels(picture.pixels), k, alpha)
        self._opaque: F64 = painted.sum(axis=1)
        self._unmet = [self._asked(row, palette, tolerance) for row in painted]
        self._descriptor = descriptor
        if not any(self._unmet):
            raise ValueError("next to nothing is painted")

    def _asked(self, painted: F64, palette: Palette, tolerance: float) -> Unmet | None:
        """What is asked of an area, if anything. By area alone: where colours blend there are a little of many."""
        colors = np.flatnonzero(painted > _LEAST).tolist()
        asked = [Asked(_lab(palette, i), float(painted[i]), tolerance) for i in colors]
        return Unmet(palette.lab, asked, power=1) if asked else None

    def of(self, shares: NDArray[np.floating]) -> F64:
        """Photos' shares, (n, blocks, k), to what they lack of the painting, (n,): 0 to 1."""
        lacking = sum(weight * unmet.of(own) for unmet, own, weight in self.areas(shares))
        return np.asarray(np.round(lacking, _DECIMALS))

    def areas(self, shares: NDArray[np.floating]) -> Iterator[tuple[Unmet, F64, float]]:
        """For each area that is painted: what is asked there, the photos' shares of it, (n, k), and its weight."""
        asked = sum(opaque for opaque, unmet in zip(self._opaque, self._unmet, strict=True) if unmet is not None)
        start = 0
        for area, unmet, opaque in zip(self._descriptor.areas, self._unmet, self._opaque, strict=True):
            if unmet is not None:
                own = np.asarray(shares[:, start : start + len(area)].sum(axis=1), np.float64)
                yield unmet, own, float(opaque / asked)
            start += len(area)


def _lab(palette: Palette, i: int) -> tuple[float, float, float]:
    lightness, a, b = palette.lab[i].tolist()
    return lightness, a, b
