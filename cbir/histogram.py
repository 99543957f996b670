"""Amounts: how much of a picture has each colour of a palette."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64, U8, bytes_of_lab

U16 = NDArray[np.uint16]


def count_labels(labels: U16, k: int, alpha: U8 | None = None) -> F64:
    """The histogram of a picture: the share 0..1 of its area under each of k labels, (k,) float64 that sums to one.

    `labels` (height, width) of values below k; `alpha` (height, width) uint8: transparent pixels count by their share.
    Raises ValueError if nothing of the picture is visible.
    """
    weights = None if alpha is None else alpha.reshape(-1).astype(np.float64)
    counts = np.bincount(labels.reshape(-1), weights=weights, minlength=k).astype(np.float64)
    total = counts.sum()
    if total == 0:
        raise ValueError("the picture is wholly transparent")
    return np.asarray(counts / total)


class Swatch(NamedTuple):
    """One colour, (3,) uint8 sRGB, with its share 0..1 of a picture or collection."""

    srgb: U8
    share: float


# Colours closer than this in L*a*b* look like shades of one when a picture is summed up in a few swatches.
_SAME_SHADE = 20.0


def main_colors(shares: F64, lab: NDArray[np.floating], n: int = 5) -> list[Swatch]:
    """The n main colours of a histogram, largest first: the largest bin takes in its shades, then the next, and so on.

    `shares` (k,) any non-negative amounts, not all zero; `lab` (k, 3) the palette. What is left after n colours belongs
    to none, so the swatches' shares, which are of the whole, may sum to less than one.
    """
    left = np.asarray(shares, np.float64) / np.sum(shares)
    swatches = []
    for _ in range(n):
        if left.max() <= 0:
            break
        near = (np.linalg.norm(lab - lab[left.argmax()], axis=1) < _SAME_SHADE) & (left > 0)
        share = left[near].sum()
        swatches.append(Swatch(bytes_of_lab((left[near] @ lab[near]) / share), float(share)))
        left[near] = 0
    return sorted(swatches, key=lambda swatch: -swatch.share)
