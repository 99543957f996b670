"""Searching: filter by fast approximate distances, refine by the plain form. Nothing is dismissed falsely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, F64, U8
from cbir.quadratic import one_thread
from cbir.space import Space

# Photos that are mapped at a time: some megabytes, which stay near the processor and keep memory flat.
_BLOCK = 2048
# Unit roundoff of float32.
_U = 2.0**-24


def nearest_rows(space: Space, parts: Sequence[U8], query: U8, limit: int) -> list[tuple[int, float]]:
    """The rows at most as far as the `limit`-th nearest, in no order, each with its exact distance.

    `parts` are descriptors (n, blocks * k) uint8, rows counted through all of them; `query` is one, (blocks * k,). All
    that tie with the last are returned, so there may be more than `limit`. The distance is the plain form's in float64,
    computed for each row alone, so that equal descriptors get equal distances to the last bit, and the query's own
    exactly 0.
    """
    if not any(map(len, parts)):
        return []
    with one_thread():
        least, most = (np.concatenate(bounds) for bounds in zip(*_bounds(space, parts, query), strict=True))
    last = np.partition(most, min(limit, len(most)) - 1)[min(limit, len(most)) - 1]
    candidates = np.flatnonzero(least <= last)
    with one_thread():
        refined = _refine(space, parts, query, candidates)
    order = np.argsort(refined, kind="stable")
    threshold = refined[order[min(limit, len(order)) - 1]]
    return [(int(candidates[i]), float(refined[i])) for i in order if refined[i] <= threshold]


def _bounds(space: Space, parts: Sequence[U8], query: U8) -> Iterator[tuple[F32, F32]]:
    """Between which distances each row lies for certain, a block of rows at a time."""
    target = space.embed_fast(query[None])
    for part in parts:
        for start in range(0, len(part), _BLOCK):
            vectors, errors = space.embed_fast(np.asarray(part[start : start + _BLOCK]))
            difference = vectors - target.vectors
            distances = np.sqrt(np.einsum("ij,ij->i", difference, difference))
            # Differences, a sum of that many squares, and its root.
            doubt = errors + target.errors + (vectors.shape[1] + 4) * _U * distances
            yield distances - doubt, distances + doubt


def _refine(space: Space, parts: Sequence[U8], query: U8, rows: NDArray[np.intp]) -> F64:
    target = space.prepare(query)
    starts = np.cumsum([0, *map(len, parts)])
    distances = np.empty(len(rows))
    for i, row in enumerate(rows):
        part = int(np.searchsorted(starts, row, side="right")) - 1
        distances[i] = space.prepared_distance(space.prepare(parts[part][row - starts[part]]), target)
    return distances
