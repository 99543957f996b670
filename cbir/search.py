"""Searching: filter by fast approximate distances, refine by the plain form. Nothing is dismissed falsely."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64
from cbir.histogram import UNITS
from cbir.metric import Metric
from cbir.quadratic import QuadraticForm, one_thread

_Amounts = NDArray[np.uint16]
# Photos that are mapped at a time: 8 MB of float32 amounts, which stays near the processor and keeps memory flat.
_BLOCK = 8192


def nearest_rows(
    form: QuadraticForm, metric: Metric, parts: Sequence[_Amounts], query: _Amounts, limit: int
) -> list[tuple[int, float]]:
    """The rows at most as far as the `limit`-th nearest, in no order, each with its exact distance.

    `parts` are amounts (n, k) uint16, rows counted through all of them; `query` (k,) uint16. All that tie with the
    last are returned, so there may be more than `limit`. The distance is the plain form's in float64, computed for
    each row alone, so that equal amounts get equal distances to the last bit, and the query's own amounts exactly 0.
    """
    with one_thread() if sum(map(len, parts)) <= _BLOCK else nullcontext():
        scanned = [_approximate(form, metric, part, query) for part in parts]
    approximate = np.concatenate([np.empty(0, np.float32), *scanned])
    if not len(approximate):
        return []
    last = np.partition(approximate, min(limit, len(approximate)) - 1)[min(limit, len(approximate)) - 1]
    candidates = np.flatnonzero(approximate <= last + 2 * _error_bound(form))
    with one_thread():
        refined = _refine(form, metric, parts, query, candidates)
    order = np.argsort(refined, kind="stable")
    threshold = refined[order[min(limit, len(order)) - 1]]
    return [(int(candidates[i]), float(refined[i])) for i in order if refined[i] <= threshold]


def _approximate(form: QuadraticForm, metric: Metric, part: _Amounts, query: _Amounts) -> NDArray[np.float32]:
    """Distances in float32 by the embedding, as the length of the mapped difference."""
    embedding = form.embedding.astype(np.float32)
    target = metric.prepare(query / UNITS).astype(np.float32)
    distances = np.empty(len(part), np.float32)
    for start in range(0, len(part), _BLOCK):
        block = metric.prepare(part[start : start + _BLOCK].astype(np.float32) / np.float32(UNITS))
        mapped = (block - target) @ embedding
        distances[start : start + _BLOCK] = np.sqrt(np.einsum("ij,ij->i", mapped, mapped))
    return distances


def _error_bound(form: QuadraticForm) -> float:
    """How far an approximate distance can be from the exact one.

    Rounding in a sum of k products is at most (k + 8) u |x| |L|, with u = 2^-24 and a few for preparing and the root
    (Higham 2002, section 3.1); |x| is at most sqrt(2), for amounts that sum to one and for their square roots.
    """
    L = form.embedding
    return float((len(L) + 8) * 2.0**-24 * np.sqrt(2) * np.linalg.norm(L))


def _refine(
    form: QuadraticForm, metric: Metric, parts: Sequence[_Amounts], query: _Amounts, rows: NDArray[np.intp]
) -> F64:
    target = metric.prepare(query / UNITS)
    starts = np.cumsum([0, *map(len, parts)])
    distances = np.empty(len(rows))
    for i, row in enumerate(rows):
        part = int(np.searchsorted(starts, row, side="right")) - 1
        distances[i] = form.distance(metric.prepare(parts[part][row - starts[part]] / UNITS), target)
    return distances
