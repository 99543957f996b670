"""The quadratic-form distance, plainly and as a Euclidean distance after one linear map."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from cbir.color import F64
from cbir.errors import MetricError, NotPositiveSemidefiniteError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

# Eigenvalues this small beside the largest are zero but for rounding.
_ROUNDING = 1e-10


@cache
def _libraries() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_lock = Lock()
_within: list[Any] = []


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep linear algebra to one thread within: for matrices this small more gain nothing, and wait for one another
    many times as long as they work when the other cores are busy.

    It holds for the process, from the first of its threads that comes in to the last that leaves.
    """
    with _lock:
        # The first notes what there was; the others but count.
        _within.append(None if _within else _libraries().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            if len(_within) > 1:
                _within.pop()
            else:
                _within.pop().restore_original_limits()


class QuadraticForm:
    """`d(h, g)^2 = (h - g)^T A (h - g)` (Faloutsos et al. 1994) for a symmetric matrix A, (k, k).

    `one_sum` says that all h and g have the same sum. Then only what A does to differences that sum to zero matters,
    and QBIC's linear matrix is allowed: `J A J` with `J = I - 11^T/k` has to be positive semi-definite, not A.

    A matrix that would make a squared distance negative raises `NotPositiveSemidefiniteError`; with `repair` the
    nearest one that does not (negative eigenvalues set to zero, Higham 1988) is taken in its place, and `repaired`
    tells by how much: the largest negative eigenvalue's size over the largest eigenvalue, 0 if nothing was done.
    """

    def __init__(self, matrix: ArrayLike, *, one_sum: bool = False, repair: bool = False) -> None:
        A = np.array(matrix, np.float64)
        if A.ndim != 2 or A.shape[0] != A.shape[1] or not len(A):
            raise MetricError(f"a similarity matrix is square, not {'x'.join(map(str, A.shape))}")
        if not np.isfinite(A).all() or not np.allclose(A, A.T, rtol=0, atol=1e-12 * np.abs(A).max()):
            raise MetricError("a similarity matrix is symmetric, of finite numbers")
        self.one_sum = one_sum
        effective = A - A.mean(axis=0) - A.mean(axis=1)[:, None] + A.mean() if one_sum else A
        with one_thread():
            values, vectors = np.linalg.eigh((effective + effective.T) / 2)
        largest, smallest = max(float(values[-1]), 0.0), float(values[0])
        self.repaired = 0.0
        if smallest < -_ROUNDING * len(A) * max(largest, _ROUNDING * float(np.abs(A).max())):
            if not repair:
                raise NotPositiveSemidefiniteError(smallest, largest)
            self.repaired = -smallest / (largest or 1.0)
            A = (vectors * np.maximum(values, 0)) @ vectors.T
        self.matrix: F64 = A
        self._values, self._vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]

    @cached_property
    def embedding(self) -> F64:
        """L, (k, m) with m <= k and `A = L L^T`: `d(h, g) = |L^T h - L^T g|` (Skopal et al. 2011).

        From the eigenvectors, so the columns come in order of falling influence; those without any are left out.
        """
        kept = self._values > _ROUNDING**2 * max(float(self._values[0]), 1e-300)
        return np.ascontiguousarray(self._vectors[:, kept] * np.sqrt(self._values[kept]))

    def embed(self, amounts: ArrayLike) -> F64:
        """Map amounts (..., k) to vectors (..., m) float64 whose Euclidean distance is this distance."""
        return np.asarray(amounts, np.float64) @ self.embedding

    def distance(self, h: ArrayLike, g: ArrayLike) -> float:
        """The plain form between two vectors of amounts, (k,) each. Of equal vectors it is exactly 0."""
        difference = np.asarray(h, np.float64) - np.asarray(g, np.float64)
        return math.sqrt(max(float(difference @ (self.matrix @ difference)), 0.0))
