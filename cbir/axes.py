"""Principal axes: the vectors of a metric's space turned so that a few coordinates tell most of a distance.

Turned to the axes of their largest variance (Karhunen-Loeve; Hafner et al. 1995 for histograms), vectors are as far
apart as before, and the distance over some of the axes is never more than over all: a lower bound. What the other axes
hold is kept as one length, which makes the bound tighter. The first axes are kept in single precision, the next in
bytes with the error that this makes, and of the rest only the length. So a search reads some dozens of bytes of most
photos.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, F64, U8
from cbir.quadratic import one_thread
from cbir.space import Space

U32 = NDArray[np.uint32]
# Photos that lie together in a box, whose sides bound their distances before they are looked at one by one.
LEAF = 128
# With more axes than these a box bounds hardly better.
BOX_AXES = 8
# Leaves are made by halving the collection along so many of the first axes.
_HALVED_AXES = 4
# Of fewer photos the tree, and the library that makes it, cost more than they save.
_FEWEST_HALVED = 4096
# Axes that are kept at all. On a million mixtures of real photos 192 of 448 left 60 photos to be compared in full.
_MOST_AXES = 192
# How many axes may lead, in single precision.
LEADING = (4, 8, 12, 16, 24, 32)
# Further axes are looked at in one go, if they are no more than this, else first so many times the leading axes.
_ONE_GO = 64
_SECOND = 3
# Photos that the axes are learnt from, evenly drawn, and those of them that the number of leading axes is tried with.
_SAMPLE = 16_384
_TRIED = 48
# To read a leading axis of a photo takes so much of what it takes to look at one photo closer; measured.
_READING = 0.1 / 60
# Photos that are mapped at a time, of vectors of the usual length; of longer ones, and for the sample, fewer.
_BLOCK = 2048
_USUAL = 448
# Above so many dimensions the principal axes are found in the span of the sample, if it has fewer photos.
_MANY_DIMENSIONS = 1024
# Of these axes, those whose variance is below this part of the largest are left out: they may not be at right angles.
_SMALLEST_VARIANCE = 1e-6
# A photo near the mean, whose vector of length one may be further off than this in single precision, is mapped in
# double.
_LARGE_ERROR = 0.01
# Relative error of coordinates that are computed in double precision and rounded to single, with all sums: generous.
_ROUNDED = 1e-6
# Unit roundoff of float32.
_U = 2.0**-24
_LEVELS = 255
# Bytes need not tell more finely than single precision, which overflows by far smaller steps, where all are alike.
_FINEST = _U


@dataclass(frozen=True, eq=False)
class Coarse:
    """Some further axes in bytes: coordinate = `low` + `step` code.

    `codes` (n, w) uint8; `numbers` (n, 4) float32 are for each photo the length of its vector over these and all later
    axes; that over the later axes alone; `step^2` times the squares of its codes, less the square of the first length,
    and the square of the second, of which squared distances are made; and how far off the bytes are, of these axes and
    the earlier ones together.
    """

    codes: U8
    numbers: F32
    low: float
    step: float

    @classmethod
    def empty(cls, n: int, sample: F64) -> Coarse:
        """Room for n photos whose coordinates are about those of a sample; what lies outside only gets large errors."""
        low, high = float(sample.min()), float(sample.max())
        step = max((high - low) / _LEVELS, _FINEST)
        return cls(np.empty((n, sample.shape[1]), np.uint8), np.empty((n, 4), np.float32), low, step)

    def fill(self, rows: NDArray[np.intp], turned: F64, lengths: tuple[F64, F64], doubt: F64) -> F64:
        """Put in some photos: their coordinates (r, w), their lengths over these and later axes, and over the later.

        `doubt` (r,) are the squared errors of earlier axes; with those of these axes they are returned.
        """
        codes = np.rint((turned - self.low) / self.step).clip(0, _LEVELS)
        difference = turned - (self.low + self.step * codes)
        doubt = doubt + np.einsum("ij,ij->i", difference, difference)
        self.codes[rows] = codes
        before, behind = lengths
        own = self.step**2 * np.einsum("ij,ij->i", codes, codes) - before**2 + behind**2
        self.numbers[rows] = np.column_stack([before, behind, own, np.sqrt(doubt)])
        return doubt

    def take(self, order: U32) -> Coarse:
        """The photos in another order."""
        return Coarse(self.codes[order], self.numbers[order], self.low, self.step)


@dataclass(frozen=True, eq=False)
class Axes:
    """The photos of a part of a collection by their principal axes, neighbours together in leaves of LEAF.

    `mean` (d,) and `basis` (d, axes) float64, orthonormal columns, turn a vector: `(v - mean) @ basis`.
    `order` (n,) uint32: the photo that lies at each place. `leading` (leaves, m + 2, LEAF) float32: m coordinates of
    each, the length of what the other axes hold, and half the sum of the squares of all these, which is infinite where
    the last leaf has no more photos. `lowest` and `highest` (sides, leaves) float32: between what the first BOX_AXES
    coordinates and the length lie in each leaf. `coarse`: further axes. `error`: how far the point that the coordinates
    and the length stand for may be from the truth; `reach`: the longest of these points.
    """

    mean: F64
    basis: F64
    order: U32
    leading: F32
    lowest: F32
    highest: F32
    coarse: tuple[Coarse, ...]
    error: float
    reach: float

    def __len__(self) -> int:
        return len(self.order)

    @property
    def axes(self) -> int:
        """How many axes lead."""
        return int(self.leading.shape[1]) - 2


class Target(NamedTuple):
    """A query seen from some axes: its coordinates (axes,), and the lengths of what lies behind the leading axes, and
    behind those of each coarse stage."""

    turned: F64
    rests: tuple[float, ...]


def turn(axes: Axes, vector: F64) -> Target:
    """A vector of the space, (d,), as seen from these axes."""
    centred = vector - axes.mean
    turned = centred @ axes.basis
    left = float(centred @ centred)
    ends = np.cumsum([axes.axes, *(stage.codes.shape[1] for stage in axes.coarse)])
    # What is left is behind the axes; where all are kept, it is nothing but rounding.
    rests = tuple(max(left - float(turned[:end] @ turned[:end]), 0.0) ** 0.5 for end in ends)
    return Target(turned, rests)


def make_axes(
    space: Space,
    codes: Callable[[NDArray[np.intp]], U8],
    n: int,
    leading: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Axes:
    """The axes of n photos; `codes` gives the descriptors of some rows, (r,) to (r, blocks * k) uint8.

    `leading` is how many axes lead, if there are so many; unless told, the number at which a search would cost least on
    the sample. The same photos make the same axes. `progress` is told how many photos are mapped.
    """
    block = max(1, _BLOCK * _USUAL // max(_USUAL, space.dimensions))
    sample = _sampled(space, codes, n, block)
    mean, basis = _principal(sample)
    with one_thread():
        turned = (sample - mean) @ basis
    kept = min(basis.shape[1], _MOST_AXES)
    m = _best_leading(turned) if leading is None else min(leading, kept)
    ends = [m, kept] if kept - m <= _ONE_GO else [m, min(_SECOND * m, kept), kept]
    stages = [(a, b) for a, b in pairwise(ends) if a < b]
    coarse = [Coarse.empty(n, turned[:, a:b]) for a, b in stages]
    basis = np.ascontiguousarray(basis[:, :kept])
    del sample, turned
    points = np.empty((n, m + 2), np.float32)

    def fill(start: int) -> float:
        rows = np.arange(start, min(start + block, n))
        turned, behind, error = _turned(space, codes(rows), mean, basis)
        points[rows] = _points(turned[:, :m], behind(m))
        doubt = np.zeros(len(rows))
        for stage, (a, b) in zip(coarse, stages, strict=True):
            doubt = stage.fill(rows, turned[:, a:b], (behind(a), behind(b)), doubt)
        return error

    error = 0.0
    with one_thread(), ThreadPoolExecutor() as pool:
        for done, own in enumerate(pool.map(fill, range(0, n, block)), start=1):
            error = max(error, own)
            if progress:
                progress(min(done * block, n))
    reach = float(np.sqrt(2 * points[:, -1].max()))
    order = _leaves(points[:, :m])
    leaves = _by_leaf(points[order])
    sides = leaves[:, box_sides(m)]
    lowest, highest = sides.min(axis=2), sides.max(axis=2)
    return Axes(
        mean,
        basis,
        order,
        leaves,
        np.ascontiguousarray(lowest.T),
        np.ascontiguousarray(highest.T),
        tuple(stage.take(order) for stage in coarse),
        error + _ROUNDED * reach,
        reach,
    )


def box_sides(m: int) -> NDArray[np.intp]:
    """Which of m coordinates and the length behind them boxes are made of."""
    return np.array([*range(min(m, BOX_AXES)), m])


def _by_leaf(points: F32) -> F32:
    """Points (n, m + 2) in leaves: (leaves, m + 2, LEAF), filled up with copies of the last that are infinitely far."""
    missing = -len(points) % LEAF
    filled = np.concatenate([points, np.repeat(points[-1:], missing, axis=0)])
    filled[len(points) :, -1] = np.inf
    return np.ascontiguousarray(filled.reshape(-1, LEAF, points.shape[1]).transpose(0, 2, 1))


def _principal(vectors: F64) -> tuple[F64, F64]:
    """The mean and the principal axes, (d,) and (d, axes), those of the largest variance first."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    with one_thread():
        if max(len(vectors), _MANY_DIMENSIONS) < vectors.shape[1]:
            return mean, _axes_in_span(centred)
        _, axes = np.linalg.eigh(centred.T @ centred)
    return mean, np.ascontiguousarray(axes[:, ::-1])


def _axes_in_span(centred: F64) -> F64:
    """Principal axes of fewer vectors than they have coordinates, by the products of the vectors with one another."""
    variances, weights = np.linalg.eigh(centred @ centred.T)
    large = np.flatnonzero(variances > _SMALLEST_VARIANCE * variances[-1])[::-1][:_MOST_AXES]
    return np.ascontiguousarray(centred.T @ weights[:, large] / np.sqrt(variances[large]))


def _sampled(space: Space, codes: Callable[[NDArray[np.intp]], U8], n: int, block: int) -> F64:
    rows = np.linspace(0, n - 1, min(n, max(1, _SAMPLE * block // _BLOCK))).astype(np.intp)
    with one_thread():
        return np.concatenate([space.embed(codes(part)) for part in np.split(rows, range(block, len(rows), block))])


def _best_leading(turned: F64) -> int:
    """With how many leading axes a search costs least, by looking for the nearest others of some of the sample."""
    tried = turned[:: max(1, len(turned) // _TRIED)]
    own = np.arange(len(tried)), np.arange(0, len(turned), max(1, len(turned) // _TRIED))
    whole = _squares_over(tried, turned, 0, turned.shape[1])
    whole[own] = np.inf
    nearest = whole.min(axis=1, keepdims=True)
    costs = {}
    for m in LEADING:
        rests = np.sqrt((tried[:, m:] ** 2).sum(axis=1))[:, None] - np.sqrt((turned[:, m:] ** 2).sum(axis=1))
        bound = _squares_over(tried, turned, 0, m) + rests**2
        costs[m] = (m + 2) * _READING + float((bound <= nearest).mean())
    return int(min(min(costs, key=costs.__getitem__), turned.shape[1]))


def _squares_over(queries: F64, vectors: F64, a: int, b: int) -> F64:
    q, v = queries[:, a:b], vectors[:, a:b]
    with one_thread():
        return np.asarray((q**2).sum(axis=1)[:, None] + (v**2).sum(axis=1) - 2 * q @ v.T)


def _turned(space: Space, codes: U8, mean: F64, basis: F64) -> tuple[F64, Callable[[int], F64], float]:
    """Descriptors turned, (n, axes); a function that tells their lengths behind some of the axes; and the error."""
    vectors, errors = space.embed_fast(codes)
    exact = vectors.astype(np.float64)
    if space.metric.centred and len(bad := np.flatnonzero(errors > _LARGE_ERROR)):
        exact[bad], errors[bad] = space.embed(codes[bad]), space.doubt(codes[bad])
    centred = exact - mean
    turned = centred @ basis
    squares = np.einsum("ij,ij->i", centred, centred)

    def behind(m: int) -> F64:
        return np.asarray(np.sqrt(np.maximum(squares - np.einsum("ij,ij->i", turned[:, :m], turned[:, :m]), 0)))

    return turned, behind, float(errors.max(initial=0))


def _points(turned: F64, behind: F64) -> F32:
    """Rows of coordinates, the length behind them, and half the sum of the squares of both as they are rounded."""
    rows = np.column_stack([turned, behind]).astype(np.float32)
    halves = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) / 2
    return np.column_stack([rows, halves.astype(np.float32)])


def _leaves(points: F32) -> U32:
    """An order in which each LEAF photos lie together: that of the leaves of a k-d tree."""
    # Where all colours are alike the space has no dimensions.
    if len(points) < _FEWEST_HALVED or not points.shape[1]:
        return np.arange(len(points), dtype=np.uint32)
    from scipy.spatial import cKDTree

    tree = cKDTree(points[:, :_HALVED_AXES], leafsize=LEAF // 4, compact_nodes=False)
    return np.asarray(tree.indices, np.uint32)
