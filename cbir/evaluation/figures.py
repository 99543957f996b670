"""How well a ranking does on a labelled collection: every measure of every query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64
from cbir.evaluation import measures
from cbir.evaluation.rankings import Described, Ranking

PRECISION_AT = (1, 10, 20, 100)
RECALL_LEVELS: F64 = np.linspace(0, 1, 21)
# Members of a class in UKBench, whose N-S score has no meaning for others.
_NS_CLASS = 4
# Queries at a time: their rankings of 10,000 photos take 20 MB.
_BLOCK = 256
# First hits that are kept of each query, to be shown.
SHOWN_HITS = 10


@dataclass(frozen=True)
class Figures:
    """The measures of one ranking, each (q,) float64, one value a query; see `cbir.evaluation.measures`.

    `precision` are P@n by n; `ns` is None unless every class has four members. `precision_at_recall` (21,) and `recall`
    (n - 1,) are means over the queries; `first_hits` (q, 10 or fewer) are rows of the collection.
    """

    name: str
    precision: dict[int, F64]
    average_precision: F64
    nmrr: F64
    ns: F64 | None
    precision_at_recall: F64
    recall: F64
    first_hits: NDArray[np.intp]

    def values(self) -> dict[str, F64]:
        """All measures by the names that they are printed under."""
        named = {f"P@{n}": values for n, values in self.precision.items()}
        named |= {"mAP": self.average_precision, "ANMRR": self.nmrr}
        return named if self.ns is None else named | {"N-S": self.ns}


def measure(
    ranking: Ranking,
    photos: Described,
    labels: NDArray[np.intp],
    queries: NDArray[np.intp],
    progress: Callable[[int], object],
) -> Figures:
    """Search with each of `queries`, (q,) rows, among photos that have `labels`, (n,) numbers of classes.

    Each class has two members or more. `progress` is called with the number of queries that were done since.
    """
    vectors = ranking.vectors(photos)
    sizes = np.bincount(labels)
    kept: dict[str, list[NDArray[np.floating]]] = {}
    hits: list[NDArray[np.intp]] = []
    curve, recall = np.zeros(len(RECALL_LEVELS)), np.zeros(len(labels) - 1)
    for start in range(0, len(queries), _BLOCK):
        rows = queries[start : start + _BLOCK]
        orders = ranking.orders(vectors, rows)
        relevant = labels[orders] == labels[rows][:, None]
        for n in PRECISION_AT:
            kept.setdefault(f"P@{n}", []).append(measures.precision_at(relevant, n))
        kept.setdefault("AP", []).append(measures.average_precision(relevant))
        kept.setdefault("NMRR", []).append(measures.nmrr(relevant, int(sizes.max()) - 1))
        kept.setdefault("N-S", []).append(measures.ns_score(relevant))
        curve += measures.precision_at_recall(relevant, RECALL_LEVELS).sum(axis=0)
        recall += measures.recall_at(relevant).sum(axis=0)
        hits.append(orders[:, :SHOWN_HITS])
        progress(len(rows))
    all_of = {name: np.concatenate(parts) for name, parts in kept.items()}
    return Figures(
        name=ranking.name,
        precision={n: all_of[f"P@{n}"] for n in PRECISION_AT},
        average_precision=all_of["AP"],
        nmrr=all_of["NMRR"],
        ns=all_of["N-S"] if set(sizes[sizes > 0]) == {_NS_CLASS} else None,
        precision_at_recall=curve / len(queries),
        recall=recall / len(queries),
        first_hits=np.concatenate(hits),
    )
