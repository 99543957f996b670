"""Milliseconds for a search, beside the plain quadratic form over the whole collection."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.measure import photo_sets, seconds, table
from cbir.histogram import UNITS, to_units
from cbir.index import Index
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.quadratic import QuadraticForm
from cbir.search import nearest_rows

_MADE = 100_000
_SEED = 0


def run(work: Path) -> None:
    """Print the table."""
    rows = []
    for name, folder in photo_sets(work).items():
        index = Index.create(work / name[:3], [folder])
        own = np.stack([index.amounts(row) for row in range(len(index))])
        rows += [_row(name, index, own, metric, 9) for metric in (DEFAULT, QBIC)]
    made = _mixtures(own)
    rows += [_row(f"{_MADE:,} mixtures of these", index, made, metric, 3) for metric in (DEFAULT, QBIC)]
    table(
        "Searching (warm, top 10, one query; the same ten in both)",
        ("photos", "metric", "search", "plain form over all", "times faster"),
        rows,
    )


def _row(name: str, index: Index, amounts: np.ndarray, metric: Metric, runs: int) -> tuple[str, ...]:
    form = metric.form(index.palette.lab)
    query = amounts[len(amounts) // 2]
    fast = nearest_rows(form, metric, [amounts], query, 10)
    exact = _plain(form, metric, amounts, query)
    if {row for row, _ in fast} != set(np.argsort(exact, kind="stable")[: len(fast)].tolist()):
        raise AssertionError("the search is not exact")
    took = seconds(lambda: nearest_rows(form, metric, [amounts], query, 10), runs)
    plainly = seconds(lambda: _plain(form, metric, amounts, query), 3)
    return name, str(metric), f"{took * 1000:.1f} ms", f"{plainly * 1000:.1f} ms", f"{plainly / took:.1f}"


def _plain(form: QuadraticForm, metric: Metric, amounts: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The definition, in float64, for all photos at once."""
    difference = metric.prepare(amounts / UNITS) - metric.prepare(query / UNITS)
    return np.sqrt(np.einsum("ij,ij->i", difference @ form.matrix, difference).clip(0))


def _mixtures(own: np.ndarray) -> np.ndarray:
    """Made-up photos: each a mixture of three real histograms."""
    random = np.random.default_rng(_SEED)
    made = np.empty((_MADE, own.shape[1]), np.uint16)
    for i in range(_MADE):
        made[i] = to_units(random.dirichlet(np.ones(3)) @ own[random.integers(len(own), size=3)])
    return made
