"""The nearest photos by the plain quadratic form over a whole collection, in double precision: what is to be found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64, U8
from cbir.space import Space

# Photos that are compared at a time, which bounds the memory: 64 MB for a thousand queries.
_BLOCK = 8192
# How far from the plain form a matrix product can be, in squared distances of photos at most 2 apart: generous.
_ROUNDING = 1e-9


class Nearest(NamedTuple):
    """The hits of some queries, nearest first: their rows, and their distances, both (q, limit)."""

    rows: NDArray[np.intp]
    distances: F64


def plain_form(space: Space, codes: U8, query: U8) -> F64:
    """The definition, for all photos, (n, width) uint8, to one, (width,): (n,)."""
    prepared = space.prepare(query)
    blocks = (codes[start : start + _BLOCK] for start in range(0, len(codes), _BLOCK))
    return np.concatenate([space.prepared_distances(space.prepare(block), prepared) for block in blocks])


def plain_form_of(space: Space, codes: U8, queries: U8, rows: NDArray[np.intp]) -> F64:
    """The definition, for some rows of a collection, (q, r), to the query of each: (q, r)."""
    return np.stack([plain_form(space, codes[some], query) for some, query in zip(rows, queries, strict=True)])


def nearest_plainly(space: Space, codes: U8, queries: U8, limit: int) -> Nearest:
    """The nearest rows of a collection (n, width) uint8 to each query (q, width), those at one distance by their rows.

    For a thousand queries among a million photos the definition would take an hour. So all are compared by a matrix
    product of their vectors in double precision, which is the plain form but for rounding, and twice as many as are
    wanted are kept and compared by the plain form. Raises AssertionError where rounding may have left out a hit.
    """
    squares, rows = _nearest_by_product(space, codes, queries, min(2 * limit, len(codes)))
    distances = plain_form_of(space, codes, queries, rows)
    order = np.lexsort((rows, distances))[:, :limit]
    nearest = Nearest(np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1))
    left_out = squares.max(axis=1) - _ROUNDING
    if rows.shape[1] < len(codes) and not (nearest.distances[:, -1] ** 2 < left_out).all():
        raise AssertionError("more photos are at one distance than were kept")
    return nearest


def _nearest_by_product(space: Space, codes: U8, queries: U8, number: int) -> tuple[F64, NDArray[np.intp]]:
    """The squared distances and the rows, both (q, number), of the nearest photos, in no order."""
    targets = space.embed(queries)
    own = (targets**2).sum(axis=1, keepdims=True)
    squares, rows = np.full((len(queries), number), np.inf), np.zeros((len(queries), number), np.intp)
    for start in range(0, len(codes), _BLOCK):
        vectors = space.embed(codes[start : start + _BLOCK])
        products = targets @ (-2 * vectors.T)
        products += own
        products += (vectors**2).sum(axis=1)
        squares = np.hstack([squares, products])
        kept = np.argpartition(squares, number - 1, axis=1)[:, :number]
        before = np.take_along_axis(rows, np.minimum(kept, number - 1), axis=1)
        rows = np.where(kept < number, before, start + kept - number)
        squares = np.take_along_axis(squares, kept, axis=1)
    return squares, rows
