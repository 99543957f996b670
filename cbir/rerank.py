"""The second pass: rank the first hits anew by how they hang together among themselves.

A photo that is near the query only in passing has other neighbours than the query has; one of the same kind shares
them. So each photo is joined to those that are near it and that it is near to, and relevance spreads from the query
over these joints: ranking on manifolds (Zhou et al. 2004), with mutual neighbours and local scales (Zelnik-Manor and
Perona 2004). Only what the index holds is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64
from cbir.space import squared_distances

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Hits that take part; what lies beyond keeps its place. Their distances among themselves are 8 MB.
POOL = 1000
# One setting for classes of 4 and of 300 members, measured on the labelled sets of benchmarks/README.md: each photo is
# joined to at most so many others; the distance to a photo's third neighbour is its scale; joints fade fast beyond the
# scale, so that in a class of 4 the strangers among the 30 have no say; and of its relevance a photo passes on a share.
_NEIGHBORS = 30
_SCALE_NEIGHBOR = 3
_STEEPNESS = 8
_PASSED_ON = 0.95
# No photo's squared scale is less than this part of the median one.
_SMALLEST_SCALE = 0.5
_PRECISION = 1e-10


def joints(vectors: F64) -> csr_array:
    """How strongly photos hang together: (n, m) vectors of a metric's space to a symmetric sparse (n, n) of weights.

    `exp(-(d^2 / (s t))^4)` for mutual neighbours at distance d with scales s and t, divided by the roots of both rows'
    sums.
    """
    from scipy.sparse import csr_array

    squared = squared_distances(vectors, vectors)
    squared = np.maximum(squared, squared.T)
    n = len(vectors)
    np.fill_diagonal(squared, np.inf)
    count = min(_NEIGHBORS, n - 1)
    near = np.argpartition(squared, range(count), axis=1)[:, :count]
    scale = np.take_along_axis(squared, near[:, [min(_SCALE_NEIGHBOR, count) - 1]], axis=1)[:, 0]
    # A photo with three copies, or the others of a burst, is joined to more than these too.
    scale = np.maximum(scale, max(_SMALLEST_SCALE * float(np.median(scale)), np.finfo(np.float64).tiny))
    rows, columns = np.repeat(np.arange(n), count), near.reshape(-1)
    is_near = csr_array((np.ones(len(rows), bool), (rows, columns)), shape=(n, n))
    mutual = is_near.multiply(is_near.T).tocoo()
    rows, columns = mutual.coords
    product = np.sqrt(scale[rows]) * np.sqrt(scale[columns])
    with np.errstate(over="ignore"):
        weights = np.exp(-((squared[rows, columns] / product) ** (_STEEPNESS / 2)))
    strength = np.sqrt(np.maximum(np.bincount(rows, weights, minlength=n), np.finfo(np.float64).tiny))
    return csr_array((weights / (strength[rows] * strength[columns]), (rows, columns)), shape=(n, n))


def relevance(joined: csr_array, query: int) -> F64:
    """How relevant each photo is to one of them: the (n,) f that solves `(I - 0.95 S) f = e`, where S are the joints
    and e is 1 for the query; 0 for photos that no chain of joints leads to."""
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import cg

    start = np.zeros(joined.shape[0])
    start[query] = 1
    f, _ = cg(eye_array(len(start)) - _PASSED_ON * joined, start, rtol=_PRECISION, atol=0)
    return np.asarray(np.where(f > _PRECISION, f, 0.0))


def second_pass(query: F64, hits: F64) -> NDArray[np.intp]:
    """The new order of hits: `query` (m,) and `hits` (n, m), nearest first, are vectors of a metric's space.

    Hits of the same relevance, such as those without any, stay in the order they were in.
    """
    if len(hits) < 2:
        return np.arange(len(hits))
    found = relevance(joints(np.vstack([query, hits])), 0)[1:]
    return np.argsort(-found, kind="stable")
