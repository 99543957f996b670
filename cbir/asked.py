"""Asked colours: how much of what is asked for a photo lacks, how much a colour stands out in it, and how much it has.

How far a colour is from an asked one is told by CIE 1994's Delta E with the weights for textiles, in which lightness
counts half, and a strong colour has wider shades than a grey has: a red car is red in the shade too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64

_Float = NDArray[np.floating]
_DECIMALS = 12
# Of a colour that takes up so much of a photo half of all is seen that is to be seen of it.
_SEEN = 0.001
# A colour is rare that takes up less than about so much of the collection.
_RARE = 0.01
# Colours that are this far apart are taken to be as different as any.
_CONTRAST = 30.0


class Asked(NamedTuple):
    """A colour that is asked for, (3,) L*a*b*; its share 0..1 of a photo; and its tolerance in Delta E (1994)."""

    lab: tuple[float, float, float]
    share: float
    tolerance: float


def differences(reference: _Float, points: _Float, others: _Float) -> F64:
    """Delta E of CIE 1994 (CIE 116-1995) between points (n, 3) and others (m, 3), to (n, m).

    It has the weights for textiles; chroma and hue are weighted as around `reference`, (3,), the asked colour.
    """
    chroma = float(np.hypot(reference[1], reference[2]))
    p, o = np.asarray(points, np.float64)[:, None], np.asarray(others, np.float64)[None]
    lightness = p[..., 0] - o[..., 0]
    chromas = np.hypot(p[..., 1], p[..., 2]) - np.hypot(o[..., 1], o[..., 2])
    hues = np.maximum((p[..., 1] - o[..., 1]) ** 2 + (p[..., 2] - o[..., 2]) ** 2 - chromas**2, 0)
    return np.asarray(
        np.sqrt((lightness / 2) ** 2 + (chromas / (1 + 0.048 * chroma)) ** 2 + hues / (1 + 0.014 * chroma) ** 2)
    )


def is_shade(lab: _Float, asked: Asked) -> NDArray[np.bool_]:
    """Which of some colours (k, 3) are within the tolerance of an asked one, (k,)."""
    reference = np.array(asked.lab)
    return np.asarray(differences(reference, lab, reference[None])[:, 0] <= asked.tolerance)


def share_of(shares: F64, lab: _Float, asked: Asked) -> F64:
    """How much of photos is within the tolerance of an asked colour: shares (n, k) to (n,)."""
    # Not a matrix product: each photo as if it were alone.
    return np.asarray((shares * is_shade(lab, asked)).sum(axis=1))


class Unmet:
    """How much of what is asked for photos lack.

    Each palette colour counts for that asked colour that it is nearest to, in tolerances, as `1 - (d / tolerance)^2`
    at the difference d: wholly if it is the very colour, not at all from the tolerance on. An asked colour's share is
    made up of the nearest that a photo has, as far as these go; what is missing of it counts 1. So what a photo has
    more of, and what is far from all that is asked, is free: it costs nothing. The part of each colour that is missing
    counts by the root of its share, or another `power` of it, so that a splash of orange has a say beside much teal.
    `lab` (k, 3) are the palette's colours; the shares asked are above 0.
    """

    def __init__(self, lab: _Float, asked: Sequence[Asked], power: float = 0.5) -> None:
        self.asked = tuple(asked)
        shares = np.array([one.share for one in asked])
        # What a share that is missing of each asked colour adds, (asked,).
        self.weights: F64 = shares ** (power - 1) / (shares**power).sum()
        far = np.array(
            [differences(c, lab, c[None])[:, 0] / one.tolerance for c, one in zip(_labs(asked), asked, strict=True)]
        )
        # What a share of each palette colour costs where it stands for the asked one that it is nearest to, (k,).
        self.costs: F64 = np.minimum(far, 1.0).min(axis=0) ** 2
        owner = np.where(self.costs < 1, far.argmin(axis=0), -1)
        # The palette colours of each asked one, the nearest first.
        self._shades = [_nearest_first(np.flatnonzero(owner == i), self.costs) for i in range(len(asked))]

    def of(self, shares: F64) -> F64:
        """Photos' shares of the palette's colours, (n, k), to what they lack, (n,): 0, nothing, to 1, all.

        Each photo is computed as if it were alone, so that equal ones lack the same to the last bit.
        """
        lacking = np.zeros(len(shares))
        for one, shades, weight in zip(self.asked, self._shades, self.weights, strict=True):
            taken = _taken(shares.take(shades, axis=1), one.share)
            lacking += weight * (one.share - (taken * (1 - self.costs[shades])).sum(axis=1))
        # So that of a photo that has all, or nothing, rounding leaves exactly 0, or 1.
        return np.asarray(np.maximum(np.round(lacking, _DECIMALS), 0.0))

    def taken(self, shares: F64) -> F64:
        """How much of each of a photo's colours, (k,), makes up each asked colour: (asked, k)."""
        taken = np.zeros((len(self.asked), len(shares)))
        for row, one, shades in zip(taken, self.asked, self._shades, strict=True):
            row[shades] = _taken(shares[None, shades], one.share)[0]
        return taken


def _labs(asked: Sequence[Asked]) -> F64:
    return np.array([one.lab for one in asked])


def _nearest_first(shades: NDArray[np.intp], costs: F64) -> NDArray[np.intp]:
    return shades[np.argsort(costs[shades], kind="stable")]


def _taken(shares: F64, most: float) -> F64:
    """What is taken of shares, (n, m), one after the other, until it is as much as is asked."""
    upto = np.minimum(np.cumsum(shares, axis=1), most)
    return np.asarray(np.diff(upto, axis=1, prepend=0.0))


class StandsOut:
    """How much a colour stands out in photos: it is seen, however small, it is rare elsewhere, and the rest differs.

    Of a photo with the shares h it is `s / (s + 0.1 %)` times the mean contrast, `sum h min(Delta E / 30, 1)`. Here s
    is the sum of h over the colour's shades, each by `1 - (d / tolerance)^2`, and by how rare it is, which is
    `1 % / (1 % + m)` where it and its shades take up the share m of the collection. So a photo that is all of this
    colour shows no contrast, and a few petals on a meadow much. `mean` (k,) is the histogram of the collection.
    """

    def __init__(self, lab: _Float, asked: Asked, mean: F64) -> None:
        reference = np.array(asked.lab)
        far = differences(reference, lab, reference[None])[:, 0]
        near = 1 - np.minimum(far / asked.tolerance, 1.0) ** 2
        around = differences(reference, lab, lab) <= asked.tolerance
        self._seen = near * _RARE / (_RARE + around @ mean)
        self._contrast = np.minimum(far / _CONTRAST, 1.0)

    def of(self, shares: F64) -> F64:
        """Photos' shares, (n, k), to 0 (not at all) to 1, (n,); each photo as if it were alone."""
        seen = (shares * self._seen).sum(axis=1)
        return np.asarray(seen / (seen + _SEEN) * (shares * self._contrast).sum(axis=1))
