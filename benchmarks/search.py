"""Milliseconds for a search, beside the plain quadratic form over the whole collection."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.measure import photo_sets, seconds, table
from cbir.index import Index
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.search import nearest_rows
from cbir.space import Space

_MADE = 100_000
_SEED = 0
# Photos that the plain form is taken of at a time, which bounds its memory.
_BLOCK = 8192


def run(work: Path) -> None:
    """Print the table."""
    rows = []
    for name, folder in photo_sets(work).items():
        index = Index.create(work / name[:3], [folder])
        own = np.stack([index.codes(row) for row in range(len(index))])
        rows += [_row(name, index, own, metric, 9) for metric in (DEFAULT, QBIC)]
    made = _mixtures(own)
    rows += [_row(f"{_MADE:,} mixtures of these", index, made, metric, 3) for metric in (DEFAULT, QBIC)]
    table(
        "Searching (warm, top 10, one query; the same ten in both)",
        ("photos", "metric", "search", "plain form over all", "times faster"),
        rows,
    )


def _row(name: str, index: Index, codes: np.ndarray, metric: Metric, runs: int) -> tuple[str, ...]:
    space = index.space(metric)
    query = codes[len(codes) // 2]
    fast = nearest_rows(space, [codes], query, 10)
    exact = _plain(space, codes, query)
    if {row for row, _ in fast} != set(np.argsort(exact, kind="stable")[: len(fast)].tolist()):
        raise AssertionError("the search is not exact")
    took = seconds(lambda: nearest_rows(space, [codes], query, 10), runs)
    plainly = seconds(lambda: _plain(space, codes, query), 3)
    return name, str(metric), f"{took * 1000:.1f} ms", f"{plainly * 1000:.1f} ms", f"{plainly / took:.1f}"


def _plain(space: Space, codes: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The definition, in float64, for all photos."""
    distances = []
    for start in range(0, len(codes), _BLOCK):
        difference = space.prepare(codes[start : start + _BLOCK]) - space.prepare(query)
        squares = ((difference @ space.form.matrix) * difference).sum(axis=-1) @ space.weights
        distances.append(np.sqrt(squares.clip(0)))
    return np.concatenate(distances)


def _mixtures(own: np.ndarray) -> np.ndarray:
    """Made-up photos: each has every byte of its descriptor from one of three real ones."""
    random = np.random.default_rng(_SEED)
    made = np.empty((_MADE, own.shape[1]), np.uint8)
    for i in range(_MADE):
        parents = own[random.integers(len(own), size=3)]
        made[i] = parents[random.integers(3, size=own.shape[1]), np.arange(own.shape[1])]
    return made
