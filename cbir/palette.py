"""The palette: k colours learnt from pictures, and the label (nearest palette colour) of every pixel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cbir.color import F32, F64, U8, U32, bytes_of_codes, bytes_of_lab, codes, distinct, lab_of_bytes
from cbir.errors import PaletteError

U16 = NDArray[np.uint16]
Algorithm = Literal["minibatch", "kmeans"]

# The similarity matrix has k x k entries; 1024 colours are already finer than the eye needs over a collection.
MAX_COLORS = 1024
# Mini-batches find a start and full k-means passes settle it. The fewer colours, the more the start decides: the best
# of three tries counts, of 64 colours the best of two, of more than that one has to do. On four sets of photos and 8 to
# 256 colours the mean colour error was 0.1 % above full k-means' on average, 1.3 % at most.
_SETTLING_PASSES = 10
_MOST_TRIES, _COLORS_TRIED = 3, 128
_SEED = 0
# Colours that are labelled at a time, which bounds the memory.
_CHUNK = 1 << 18
# Scores, of points against colours, that stay in the processor's cache.
_FEW_SCORES = 1 << 16
# Pixels of unknown colours for which it takes longer to find the different ones than to look all of them up.
_FEW_UNKNOWN = 1 << 14
# Above the rounding of a float32 score: 3 terms of up to 130 x 130, each off by 2^-24 of it, and their sums.
_TOO_CLOSE = 0.02


class Palette:
    """k colours in CIE L*a*b*, ordered by lightness, then hue.

    `lab` (k, 3) float32. `mean_error` and `p95_error` tell how far (Euclidean distance in L*a*b*) the colours that it
    was learnt from lie from their nearest palette colour: the mean, and the distance that 95 % stay below; NaN for a
    palette that was not learnt.
    """

    def __init__(self, lab: ArrayLike, mean_error: float = np.nan, p95_error: float = np.nan) -> None:
        colors = np.ascontiguousarray(lab, np.float32)
        if colors.ndim != 2 or colors.shape[1] != 3 or not 1 <= len(colors) <= MAX_COLORS:
            raise PaletteError(
                f"a palette is an array of 1 to {MAX_COLORS} x 3, not {'x'.join(map(str, colors.shape))}"
            )
        if not np.isfinite(colors).all():
            raise PaletteError("a palette's colours must be finite numbers")
        hue = np.arctan2(colors[:, 2], colors[:, 1])
        self.lab: F32 = colors[np.lexsort((hue, colors[:, 0]))]
        self.mean_error, self.p95_error = float(mean_error), float(p95_error)

    @classmethod
    def learn(cls, points: F32, weights: F64, k: int, algorithm: Algorithm = "minibatch") -> Palette:
        """Learn k colours from weighted colours by k-means; the same input gives the same palette.

        `points` (n, 3) float32 L*a*b*, `weights` (n,) float64 > 0; `CellCounts.colors` gives both. `algorithm` is
        "minibatch" (scikit-learn's MiniBatchKMeans, settled by full passes) or "kmeans" (KMeans until it changes no
        more: slower, and about as good). Where there are no more than k different colours, the palette is just these,
        so it may have fewer than k.
        """
        if not 1 <= k <= MAX_COLORS:
            raise PaletteError(f"a palette has 1 to {MAX_COLORS} colours, not {k}")
        if algorithm not in _ALGORITHMS:
            raise PaletteError(f"there is no algorithm {algorithm!r}; use one of {', '.join(_ALGORITHMS)}")
        if not len(points):
            raise PaletteError("there are no colours to learn a palette from")
        if not np.isfinite(points).all() or not np.isfinite(weights).all() or weights.min() <= 0:
            raise PaletteError("colours are finite numbers, and their weights are above zero")
        different = np.unique(points[: 4 * k], axis=0)
        if len(different) <= k < len(points):
            different = np.unique(points, axis=0)
        colors = different if len(different) <= k else _ALGORITHMS[algorithm](points, weights / weights.mean(), k)
        palette = cls(colors)
        palette.measure(points, weights)
        return palette

    def measure(self, points: F32, weights: F64) -> None:
        """Set `mean_error` and `p95_error` to those of other colours than it was learnt from, given as in `learn`."""
        distance, _ = nearest(points, self.lab)
        self.mean_error = float(np.average(distance, weights=weights))
        self.p95_error = _weighted_quantile(distance, weights, 0.95)

    @classmethod
    def of_bytes(cls, srgb: U8) -> Palette:
        """The palette of exactly these 8-bit sRGB colours, (k, 3) uint8, each kept once."""
        return cls(lab_of_bytes(np.unique(srgb.reshape(-1, 3), axis=0)))

    def __len__(self) -> int:
        return len(self.lab)

    def __repr__(self) -> str:
        return f"Palette({len(self)} colours, mean error {self.mean_error:.2f}, 95 % below {self.p95_error:.2f})"

    def __getstate__(self) -> dict[str, Any]:
        # The label table is up to 32 MiB and is filled again where it is needed.
        return {name: value for name, value in self.__dict__.items() if name != "_label_of_code"}

    @cached_property
    def srgb(self) -> U8:
        """The colours as 8-bit sRGB, (k, 3) uint8."""
        return bytes_of_lab(self.lab)

    @cached_property
    def _label_of_code(self) -> NDArray[np.uint8 | np.uint16]:
        """One more than the label of each of the 2^24 sRGB colours, or 0 where no picture has asked for it yet.

        numpy gets these zeros from the system untouched, so the table takes memory only where it is used.
        """
        return np.zeros(1 << 24, np.uint8 if len(self) < 256 else np.uint16)

    def labels(self, pixels: U8) -> U16:
        """The index of the nearest palette colour (Euclidean in L*a*b*, ties to the lower index) of each pixel.

        `pixels` (..., 3) uint8 sRGB; the result is (...) uint16. Each different colour is compared with the palette
        once in the palette's life; after that it is a look-up. The labels are exact for every 8-bit colour.
        """
        code = codes(pixels)
        table = self._label_of_code
        # "wrap" is numpy's way to take without a look at each number first; all are below 2^24.
        found = table.take(code, mode="wrap")
        if not found.all():
            unknown = code[found == 0]
            self._look_up(unknown if unknown.size <= _FEW_UNKNOWN else distinct(unknown))
            found = table.take(code, mode="wrap")
        found -= 1
        return found.astype(np.uint16, copy=False)

    def _look_up(self, unknown: U32) -> None:
        for start in range(0, len(unknown), _CHUNK):
            part = unknown[start : start + _CHUNK]
            self._label_of_code[part] = nearest_index(lab_of_bytes(bytes_of_codes(part)), self.lab) + 1


def nearest(points: F32, colors: F32) -> tuple[F32, NDArray[np.int32]]:
    """The distance to the nearest of `colors` (k, 3) from each of `points` (n, 3), and its index; ties to the lower."""
    import cv2

    squared, index = cv2.batchDistance(points, colors, cv2.CV_32F, normType=cv2.NORM_L2SQR, K=1)
    return np.sqrt(np.asarray(squared[:, 0], np.float32)), np.asarray(index[:, 0], np.int32)


def nearest_index(points: F32, colors: F32) -> NDArray[np.int32]:
    """The same index as `nearest`, two to four times faster.

    `|c|^2 / 2 - x c` orders the colours c like their distances to x and is one matrix product, but rounds by up to
    0.01 for colours in L*a*b*. So where the best two lie closer than that, the distances themselves decide.
    """
    half_square = (colors * colors).sum(axis=1)[:, None] / 2
    numbers_and_ones = np.stack([np.arange(len(colors)), np.ones(len(colors))]).astype(np.float32)
    index = np.empty(len(points), np.int32)
    few = max(1, _FEW_SCORES // len(colors))
    for start in range(0, len(points), few):
        part = points[start : start + few]
        score = half_square - colors @ part.T
        is_best = (score <= score.min(axis=0) + np.float32(_TOO_CLOSE)).astype(np.float32)
        # The sum of the best ones' numbers is that of the best one wherever there is but one.
        number, several = numbers_and_ones @ is_best
        index[start : start + few] = number
        close = np.flatnonzero(several > 1)
        if len(close):
            index[start + close] = nearest(part[close], colors)[1]
    return index


def _weighted_quantile(values: F32, weights: F64, q: float) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, q * share[-1])])


def _minibatch(points: F32, weights: F64, k: int) -> F32:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    def attempt(seed: int) -> KMeans:
        rough = MiniBatchKMeans(k, n_init=1, random_state=seed).fit(points, sample_weight=weights)
        settled = KMeans(k, init=rough.cluster_centers_, n_init=1, max_iter=_SETTLING_PASSES)
        return settled.fit(points, sample_weight=weights)

    tries = max(1, min(_MOST_TRIES, _COLORS_TRIED // k))
    best = min((attempt(_SEED + i) for i in range(tries)), key=lambda fitted: float(fitted.inertia_))
    return np.asarray(best.cluster_centers_, np.float32)


def _kmeans(points: F32, weights: F64, k: int) -> F32:
    from sklearn.cluster import KMeans

    fitted = KMeans(k, n_init=1, random_state=_SEED).fit(points, sample_weight=weights)
    return np.asarray(fitted.cluster_centers_, np.float32)


def _reproducibly(cluster: Callable[[F32, F64, int], F32]) -> Callable[[F32, F64, int], F32]:
    """Cluster on one thread: partial sums of several are added in an order that changes the last bits, then all."""

    def alone(points: F32, weights: F64, k: int) -> F32:
        import warnings

        # Before the limit, which holds only for libraries that are loaded when it is set.
        import sklearn.cluster  # noqa: F401
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1), warnings.catch_warnings():
            # So few passes are meant not to converge.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return cluster(points, weights, k)

    return alone


_ALGORITHMS: dict[str, Callable[[F32, F64, int], F32]] = {
    "minibatch": _reproducibly(_minibatch),
    "kmeans": _reproducibly(_kmeans),
}
assert set(_ALGORITHMS) == set(get_args(Algorithm))
