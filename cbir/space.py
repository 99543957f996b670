"""The space of a metric: descriptors become vectors whose Euclidean distance is the quadratic-form distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, F64, U8
from cbir.descriptor import Descriptor
from cbir.errors import MetricError
from cbir.metric import DEFAULT_WEIGHTS, WHOLE, Metric
from cbir.quadratic import QuadraticForm
from cbir.similarity import SIMILARITIES, color_distances, gaussian

_Float = NDArray[np.floating]
# Unit roundoff of float32.
_U = 2.0**-24
# The same of float64.
_U64 = 2.0**-53
# A photo that lies no further from the mean than this part of the longest reference photo's own length is taken to be
# the mean: what is left of it is rounding.
_NO_LENGTH = 1e-6
# Standard deviations at which spreading ends: what goes further would vanish in single precision, yet not in double,
# of which small powers make much.
_CUT_OFF = 11.0
# Of fewer photos that differ the mean tells more of these than of what all photos have in common.
_FEWEST_REFERENCES = 8
# Squared distances are told in steps of this part of the largest square.
_DISTANCE_STEP = 1e-12
# Between two vectors of length one at most.
_FURTHEST = 2.0


class Mapped(NamedTuple):
    """Descriptors as vectors, (n, m) float32, and how far rounding may have moved each, (n,) float32."""

    vectors: F32
    errors: F32


class Point(NamedTuple):
    """A place in a space that photos are compared with: that of a photo, or one between several.

    `prepared` (histograms, k) float64 is what the form is taken of, `vector` (m,) float64 the same as a vector, and
    `doubt` how far off this may be.
    """

    prepared: F64
    vector: F64
    doubt: float


class Space:
    """What a metric makes of descriptors over one palette.

    `lab` (k, 3) are the palette's colours. `reference` (r, blocks * k) uint8 are descriptors of photos whose mean a
    centred metric measures from; they belong to an index as its palette does, so that photos that come later change no
    distance. Unless eight of them differ, the mean is 0. Raises MetricError for a weight of a part that the descriptor
    does not have.
    """

    def __init__(self, metric: Metric, lab: _Float, descriptor: Descriptor, reference: U8) -> None:
        self.metric, self.descriptor = metric, descriptor
        weights = dict(DEFAULT_WEIGHTS[descriptor.name] if metric.weights is None else metric.weights)
        self._select = _selection(weights, descriptor)
        # A metric of the whole alone needs the first area alone.
        self._areas = 1 if weights.keys() == {WHOLE} else len(descriptor.areas)
        if self._areas == 1 and self._select is not None:
            self._select = self._select[:, : len(descriptor.areas[0])]
        # Only their proportions matter; with a sum of one, distances are of one size whatever was written.
        largest = max(weights.values())
        self.weights: F64 = np.array([weight / largest for weight in weights.values()])
        self.weights /= self.weights.sum()
        distances = color_distances(lab)
        # Amounts have one sum, also less a mean; their powers, parts of photos, and what is divided by a length do not.
        centred = metric.centred and len({one.tobytes() for one in reference}) >= _FEWEST_REFERENCES
        one_sum = metric.power == 1 and weights.keys() == {WHOLE} and metric.centred == centred
        self.form = QuadraticForm(SIMILARITIES[metric.similarity](distances, metric.reach), one_sum=one_sum)
        self._spread: F64 | None = None
        if metric.spread:
            near = gaussian(distances, metric.spread)
            near[distances > _CUT_OFF * metric.spread] = 0.0
            self._spread = near / near.sum(axis=1, keepdims=True)
        self._mean = np.zeros((len(weights), len(lab)))
        self._shortest = 0.0
        if centred:
            powers = self._powers(self.descriptor.shares(reference, areas=self._areas))
            self._mean = powers.mean(axis=0)
            lengths = np.linalg.norm(self._map(powers, self.form.embedding), axis=-1)
            self._shortest = _NO_LENGTH * float(lengths.max())

    @property
    def dimensions(self) -> int:
        """How long the vectors are."""
        return len(self.weights) * int(self.form.embedding.shape[1])

    @property
    def longest(self) -> float:
        """How long a vector can be."""
        return 1.0 if self.metric.centred else self._longest() * float(np.linalg.norm(self.form.embedding, 2))

    def prepare(self, codes: U8) -> F64:
        """What the form is taken of: descriptors (..., blocks * k) to (..., histograms, k) float64."""
        x = self._powers(self.descriptor.shares(codes, areas=self._areas)) - self._mean
        if not self.metric.centred:
            return x
        length = np.sqrt(self._squares(x))[..., None, None]
        return np.divide(x, length, out=np.zeros_like(x), where=length > self._shortest)

    def distance(self, h: U8, g: U8) -> float:
        """The plain form between two descriptors, (blocks * k,) each. Of equal descriptors it is exactly 0."""
        return self.prepared_distance(self.prepare(h), self.prepare(g))

    def prepared_distance(self, x: F64, y: F64) -> float:
        """The same of descriptors that `prepare` has been over, (histograms, k) each."""
        return math.sqrt(float(self._squares(x - y)))

    def prepared_distances(self, x: F64, y: F64) -> F64:
        """The same of many, (n, histograms, k), to one: (n,), each as if it were alone, to the last bit."""
        return np.sqrt(self._squares(x - y))

    def embed(self, codes: U8) -> F64:
        """Map descriptors (..., blocks * k) to vectors (..., m) float64 whose Euclidean distance is this distance."""
        return np.asarray(self._map(self.prepare(codes), self.form.embedding), np.float64)

    def doubt(self, codes: U8) -> F64:
        """How far off vectors of `embed`, and distances in the plain form, can be: (..., blocks * k) to (...) float64.

        Next to nothing, but for photos so near the mean that a centred metric divides by next to nothing.
        """
        x = self._powers(self.descriptor.shares(codes, areas=self._areas)) - self._mean
        error = np.full(x.shape[:-2], self._rounding_of_plain())
        if not self.metric.centred:
            return error
        length = np.sqrt(self._squares(x))
        return np.asarray(np.divide(2 * error, length, out=np.zeros_like(error), where=length > self._shortest))

    def point(self, codes: U8) -> Point:
        """Where a photo is, by its descriptor, (blocks * k,)."""
        return Point(self.prepare(codes[None])[0], self.embed(codes), float(self.doubt(codes)))

    def point_between(self, points: Sequence[Point], weights: Sequence[float]) -> Point:
        """The weighted sum of some points. Weights below 0 lead away from a point."""
        pairs = list(zip(weights, points, strict=True))
        prepared = sum((weight * point.prepared for weight, point in pairs), np.zeros_like(points[0].prepared))
        vector = sum((weight * point.vector for weight, point in pairs), np.zeros_like(points[0].vector))
        # Rounding grows with what is added up, and each is rounded as a photo's vector is.
        doubt = sum(abs(weight) * (point.doubt + self._rounding_of_plain()) for weight, point in pairs)
        return Point(prepared, vector, doubt)

    def embed_fast(self, codes: U8) -> Mapped:
        """The vectors of `embed` in single precision, of (n, blocks * k)."""
        x = self._powers(self.descriptor.shares(codes, np.float32, self._areas)) - self._mean.astype(np.float32)
        vectors = self._map(x, self.form.embedding.astype(np.float32))
        error = self._rounding()
        if not self.metric.centred:
            return Mapped(vectors, np.full(len(codes), error, np.float32))
        length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        np.divide(vectors, length[:, None], out=vectors, where=length[:, None] > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = np.where(length > error, 2 * error / (length - error) + 8 * _U, _FURTHEST)
        return Mapped(vectors, np.minimum(errors, _FURTHEST).astype(np.float32))

    def form_of(self, x: F64) -> F64:
        """`weight A x` of each histogram, (..., histograms, k): its product with another x is that of the form."""
        return np.asarray((x @ self.form.matrix) * self.weights[:, None])

    def _squares(self, x: F64) -> F64:
        """`sum over histograms of weight x^T A x`: (..., histograms, k) to (...)."""
        squares = (((x @ self.form.matrix) * x).sum(axis=-1) * self.weights).sum(axis=-1)
        return np.asarray(np.maximum(squares, 0.0))

    def _powers(self, shares: _Float) -> _Float:
        """`(S h)^power` of each histogram: (..., blocks, k) to (..., histograms, k), the dtype stays."""
        if self._select is not None:
            shares = self._select.astype(shares.dtype) @ shares
        if self._spread is not None:
            shares = shares @ self._spread.astype(shares.dtype)
        if self.metric.power == 0.25:
            return np.sqrt(np.sqrt(shares))
        return np.sqrt(shares) if self.metric.power == 0.5 else shares**self.metric.power

    def _map(self, x: _Float, embedding: _Float) -> NDArray[np.floating]:
        roots = np.sqrt(self.weights).astype(x.dtype)[:, None]
        mapped = (x * roots).reshape(-1, x.shape[-1]) @ embedding
        return mapped.reshape(*x.shape[:-2], -1)

    def _rounding(self) -> float:
        """How far from exact a vector in single precision can be, before its length is divided by.

        A sum of n products is off by at most (n + 2) u times the sum of their sizes (Higham 2002, section 3.1). Shares
        take sums of up to 3 k terms, spreading one of k and mapping one of k, which with powers and differences makes
        5 k + 16.
        """
        terms = 5 * len(self.form.matrix) + 16
        mapping = terms * _U * self._longest() * float(np.linalg.norm(self.form.embedding))
        return mapping + self._rounding_of_plain()

    def _rounding_of_plain(self) -> float:
        """How far off the plain form and the vectors can be in double precision, before lengths are divided by.

        It is the square that is rounded, a sum of k sums of k products, so this is no less for short distances.
        """
        k = len(self.form.matrix)
        return self._longest() * math.sqrt((2 * k + 16) * _U64 * float(np.linalg.norm(self.form.matrix)))

    def _longest(self) -> float:
        """x is at most k^(1/2 - power) long, or 1; the mean, which is taken off, is no longer."""
        k = len(self.form.matrix)
        return 2 * math.sqrt(float(self.weights.sum())) * float(k ** max(0.0, 0.5 - self.metric.power))


def squared_distances(queries: F64, vectors: F64) -> F64:
    """Squared Euclidean distances between vectors of a space, (q, m) and (n, m) to (q, n) float64.

    By one matrix product, whose rounding is taken off again, so that they are exactly 0 between equal vectors.
    """
    squares = (vectors * vectors).sum(axis=1)
    squared = (queries * queries).sum(axis=1)[:, None] + squares - 2 * queries @ vectors.T
    step = _DISTANCE_STEP * float(squares.max(initial=0.0)) or 1.0
    return np.asarray(np.maximum(np.rint(squared / step) * step, 0))


def _selection(weights: dict[str, float], descriptor: Descriptor) -> F64 | None:
    """Which blocks make up each histogram that has a weight, (histograms, blocks) of 0 and 1; None: just the blocks."""
    parts = {block: (block,) for block in descriptor.blocks} | {WHOLE: descriptor.areas[0]}
    if unknown := weights.keys() - parts.keys():
        raise MetricError(
            f"this index is of the {descriptor.name} descriptor, which does not tell "
            f"{', '.join(map(repr, sorted(unknown)))}; it tells {', '.join(parts)}"
        )
    chosen = [parts[name] for name in weights]
    if chosen == [(block,) for block in descriptor.blocks]:
        return None
    return np.array([[block in one for block in descriptor.blocks] for one in chosen], np.float64)
