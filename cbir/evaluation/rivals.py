"""The rankings that others use, to be measured beside ours: pixels in, vectors out, and the distances between these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, U8

# Where each channel begins and ends in 8 bits, as `cv2.calcHist` wants them; OpenCV's hue is half of the degrees.
_HSV_RANGES = (0, 180, 0, 256, 0, 256)
_RGB_RANGES = (0, 256, 0, 256, 0, 256)
_TUTORIAL_BINS = (8, 12, 3)
# The ellipse's width and height as a part of the picture's.
_ELLIPSE = 0.75


@dataclass(frozen=True)
class Rival:
    """A ranking: photos in the order of `distances` between what `describe` makes of their pixels.

    `describe` takes (height, width, 3) uint8 sRGB, at least one pixel, and gives (d,) float32, none negative.
    `distances` takes (q, d) and (n, d) float32, q and n at least 1, and gives (q, n), in memory for q n + (q + n) d
    numbers. They are symmetric, and exactly 0 between equal descriptors. None knows transparency.
    """

    name: str
    describe: Callable[[U8], F32]
    distances: Callable[[F32, F32], NDArray[np.floating]]


def five_regions(height: int, width: int) -> Iterator[U8]:
    """Masks (height, width) uint8, 255 within and 0 without: the corners from the top left clockwise, then the ellipse.

    As published (see `tutorial_regions`): `cv2.rectangle` draws its last point too, so the corners share the middle row
    and column. Of a picture one or two pixels across, some are empty.
    """
    import cv2

    y, x = height // 2, width // 2
    ellipse = np.zeros((height, width), np.uint8)
    axes = (int(width * _ELLIPSE) // 2, int(height * _ELLIPSE) // 2)
    cv2.ellipse(ellipse, (x, y), axes, angle=0, startAngle=0, endAngle=360, color=255, thickness=cv2.FILLED)
    for left, right, top, bottom in ((0, x, 0, y), (x, width, 0, y), (x, width, y, height), (0, x, y, height)):
        corner = np.zeros((height, width), np.uint8)
        cv2.rectangle(corner, (left, top), (right, bottom), color=255, thickness=cv2.FILLED)
        yield np.asarray(cv2.subtract(corner, ellipse), np.uint8)
    yield ellipse


def tutorial_regions(pixels: U8) -> F32:
    """A histogram for each of the five regions, 8 hues x 12 saturations x 3 values, each of length 1: (1440,).

    Rosebrock (2014), "The complete guide to building an image search engine with Python and OpenCV", PyImageSearch.
    The length is Euclidean, `cv2.normalize`'s default. An empty region's histogram is all zeros.
    """
    hsv = _hsv(pixels)
    masks = five_regions(*hsv.shape[:2])
    return np.concatenate([_of_length_one(_counts(hsv, _TUTORIAL_BINS, _HSV_RANGES, mask)) for mask in masks])


def tutorial_whole(pixels: U8) -> F32:
    """The histogram of `tutorial_regions`, of the whole picture: (288,) of Euclidean length 1."""
    return _of_length_one(_counts(_hsv(pixels), _TUTORIAL_BINS, _HSV_RANGES))


def hsv_shares(pixels: U8) -> F32:
    """The share of each of 20 hues x 10 saturations x 5 values: (1000,) that sums to one.

    The bins of Zheng et al. (2014), "Packing and padding".
    """
    return _shares(_counts(_hsv(pixels), (20, 10, 5), _HSV_RANGES))


def rgb_shares(pixels: U8) -> F32:
    """The share of each of 8 reds x 8 greens x 8 blues: (512,) that sums to one.

    After Swain & Ballard (1991), "Color indexing", whose own axes are opponent colours, 16 x 16 x 8.
    """
    return _shares(_counts(pixels, (8, 8, 8), _RGB_RANGES))


def chi_squared(a: F32, b: F32) -> F32:
    """`1/2 sum (a - b)^2 / (a + b)`, where 0/0 is 0: (q, d) and (n, d), none negative, to (q, n) float32.

    Rosebrock (2014) adds 1e-10 to each divisor against 0/0, which takes less than 1e-10 off each term: for 1440 of them
    not 1e-7 in all.
    """
    from sklearn.metrics.pairwise import additive_chi2_kernel

    # Its compiled loop refuses arrays that are read-only, such as those mapped from a file; only these are copied.
    a, b = (np.require(amounts, np.float32, "W") for amounts in (a, b))
    return np.asarray(-0.5 * additive_chi2_kernel(a, b), np.float32)


def hellinger(a: F32, b: F32) -> NDArray[np.float64]:
    """`sqrt(1/2 sum (sqrt a - sqrt b)^2)` (Hellinger 1909): (q, d) and (n, d) shares to (q, n), 0..1."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(np.sqrt(a), np.sqrt(b), "euclidean") / np.sqrt(2))


def city_block(a: F32, b: F32) -> NDArray[np.float64]:
    """`sum |a - b|`: (q, d) and (n, d) shares to (q, n), 0..2.

    It ranks as Swain & Ballard's (1991) histogram intersection does, which is 1 less half of it for shares.
    """
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(a, b, "cityblock"))


def _hsv(pixels: U8) -> U8:
    import cv2

    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), np.uint8)


def _counts(image: U8, bins: tuple[int, ...], ranges: tuple[int, ...], mask: U8 | None = None) -> F32:
    import cv2

    return np.asarray(cv2.calcHist([image], [0, 1, 2], mask, bins, ranges), np.float32).reshape(-1)


def _of_length_one(counts: F32) -> F32:
    import cv2

    return np.asarray(cv2.normalize(counts, counts), np.float32).reshape(-1)


def _shares(counts: F32) -> F32:
    return np.asarray(counts / counts.sum(dtype=np.float64), np.float32)


RIVALS: tuple[Rival, ...] = (
    Rival("HSV 8x12x3, chi-squared, 5 regions", tutorial_regions, chi_squared),
    Rival("HSV 8x12x3, chi-squared", tutorial_whole, chi_squared),
    Rival("HSV 1000 bins, Hellinger", hsv_shares, hellinger),
    Rival("RGB 8x8x8, L1", rgb_shares, city_block),
)
