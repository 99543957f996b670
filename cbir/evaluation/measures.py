"""The measures of ranked retrieval, each of a block of queries at once.

`relevant` is (q, n) bool throughout: row i tells of query i's hits, nearest first and the query itself left out, which
are of its class. It holds the whole ranking, so that a row's number of True is all there is to be found. A row without
any raises ValueError: of a query that nothing answers there is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64

_Relevance = NDArray[np.bool_]
# MPEG-7's: a hit is looked for among the first K = min(4 NG, 2 GTM), and a missed one counts as if at rank 1.25 K.
_WINDOW, _LARGEST_WINDOW, _MISS = 4, 2, 1.25
# UKBench shows each object four times, the query being one of them.
_NS_HITS = 3
# A recall level times a number of hits is meant to be a whole number if it is this close to one.
_ROUNDING = 1e-9
# Values that are drawn at a time when resampling: 2 MB of indices, and as much again of what they point to.
_DRAWN = 1 << 18


def _numbers_relevant(relevant: _Relevance) -> NDArray[np.intp]:
    numbers = np.count_nonzero(relevant, axis=1)
    if not numbers.all():
        raise ValueError(f"query {numbers.argmin()} of the block has no relevant hit")
    return np.asarray(numbers)


def _precisions(relevant: _Relevance) -> F64:
    """The precision after each rank, (q, n)."""
    return np.asarray(relevant.cumsum(axis=1) / np.arange(1, relevant.shape[1] + 1))


def precision_at(relevant: _Relevance, n: int) -> F64:
    """P@n, (q,) float64 0..1: the share of the first n hits, n from 1, that are relevant.

    It is divided by n even if there are fewer hits: those that are missing count as not relevant (trec_eval, Buckley).
    """
    _numbers_relevant(relevant)
    return np.asarray(np.count_nonzero(relevant[:, :n], axis=1) / n)


def average_precision(relevant: _Relevance) -> F64:
    """AP, (q,) float64 0..1: the mean of the precisions at the relevant hits, not interpolated (TREC; Manning et al.
    2008, section 8.4). Its mean over queries is MAP."""
    return np.asarray((_precisions(relevant) * relevant).sum(axis=1) / _numbers_relevant(relevant))


def nmrr(relevant: _Relevance, largest_class: int) -> F64:
    """MPEG-7's normalised modified retrieval rank, (q,) float64: 0 is perfect, 1 is nothing found (Manjunath et al.
    2001). Its mean over queries is ANMRR.

    With NG relevant hits of a query, and GTM = `largest_class` the largest NG of the whole set of queries, which like
    NG leaves the query out: K = min(4 NG, 2 GTM); AVR is the mean rank of the relevant hits, those beyond K counted as
    1.25 K; and NMRR = (AVR - (1 + NG) / 2) / (1.25 K - (1 + NG) / 2). Raises ValueError if an NG is above GTM.
    """
    numbers = _numbers_relevant(relevant)
    if numbers.max() > largest_class:
        raise ValueError(f"a query has {numbers.max()} relevant hits, more than the largest class, {largest_class}")
    window = np.minimum(_WINDOW * numbers, _LARGEST_WINDOW * largest_class)
    ranks = np.arange(1, relevant.shape[1] + 1)
    counted = np.where(ranks <= window[:, None], ranks, _MISS * window[:, None])
    mean_rank = (counted * relevant).sum(axis=1) / numbers
    best = (1 + numbers) / 2
    return np.asarray((mean_rank - best) / (_MISS * window - best))


def ns_score(relevant: _Relevance) -> F64:
    """UKBench's score, (q,) float64 1..4: how many of the first four hits are of the query's class, where the query
    itself is the first (Nister and Stewenius 2006). It is meant for classes of exactly four members."""
    _numbers_relevant(relevant)
    return np.asarray(1.0 + np.count_nonzero(relevant[:, :_NS_HITS], axis=1))


def precision_at_recall(relevant: _Relevance, levels: Sequence[float] | F64) -> F64:
    """Interpolated precision, (q, len(levels)) float64 0..1: the highest precision at a recall of that level, 0..1, or
    beyond (Manning et al. 2008, section 8.4). Means over queries at the levels make the recall-precision curve."""
    numbers = _numbers_relevant(relevant)
    best_from_here_on = np.maximum.accumulate(_precisions(relevant)[:, ::-1], axis=1)[:, ::-1]
    needed = np.ceil(np.outer(numbers, levels) - _ROUNDING).astype(np.intp)
    found = relevant.cumsum(axis=1)
    first = np.array([np.searchsorted(row, counts) for row, counts in zip(found, needed, strict=True)])
    return np.take_along_axis(best_from_here_on, first, axis=1)


def recall_at(relevant: _Relevance) -> F64:
    """Recall after each rank, (q, n) float64 0..1: the share of the relevant hits that have been found by then."""
    return np.asarray(relevant.cumsum(axis=1) / _numbers_relevant(relevant)[:, None])


def bootstrap_interval(values: F64, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """A confidence interval of the mean of (q,) values, one a query: percentile bootstrap over queries (Efron 1979).

    `level` 0..1 is how often it should cover the mean; the same `seed` gives the same figures. Of differences between
    two rankings' values at the same queries it is a paired interval. Raises ValueError for fewer than two values.
    """
    from scipy.stats import bootstrap

    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _DRAWN // max(1, len(values))),
        confidence_level=level,
        method="percentile",
        # Not `rng`, which SciPy has only from 1.15 on.
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
