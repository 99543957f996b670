"""What an evaluation comes to: means with their confidence intervals, as plain values that any format can print."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from cbir.color import F64
from cbir.evaluation.altered import CASES, AlteredEvaluation
from cbir.evaluation.figures import Figures
from cbir.evaluation.labelled import Evaluation
from cbir.evaluation.measures import bootstrap_interval

LEVEL = 0.95
# Originals among the first so many count as found.
FOUND_WITHIN = 10


class Mean(NamedTuple):
    """A mean over queries and its 95 % confidence interval, by bootstrap over the queries; None where it was not
    asked for, or where one query alone tells nothing of it."""

    mean: float
    low: float | None = None
    high: float | None = None


class RankingSummary(NamedTuple):
    """One ranking: each measure by name, and what its mean average precision is above that of the first ranking, over
    the same queries (None for the first)."""

    name: str
    measures: dict[str, Mean]
    above_first: Mean | None


class ClassSummary(NamedTuple):
    """One class under the first ranking."""

    name: str
    photos: int
    searches: int
    measures: dict[str, float]


class WorstQuery(NamedTuple):
    """A query, its class, its average precision, and its first hits, each with whether it is of the class."""

    path: str
    label: str
    average_precision: float
    hits: list[tuple[str, bool]]


class CaseSummary(NamedTuple):
    """One transform at one strength under the first ranking; `first` and `within` are shares of the photos."""

    transform: str
    strength: str
    first: float
    within: float
    median_rank: float
    mean_rank: float
    worst_rank: int


def mean_of(values: F64, seed: int) -> Mean:
    """The mean of one value a query, with its interval."""
    mean = float(values.mean())
    if len(values) < 2:
        return Mean(mean)
    return Mean(mean, *bootstrap_interval(values, LEVEL, seed=seed))


def rankings(evaluation: Evaluation, seed: int, intervals_of: Collection[str] | None = None) -> list[RankingSummary]:
    """All rankings, in their order; with intervals of all measures, or of some, since they take their time."""
    first = evaluation.figures[0]
    return [
        _ranking(figures, None if figures is first else first, seed, intervals_of) for figures in evaluation.figures
    ]


def _ranking(
    figures: Figures, first: Figures | None, seed: int, intervals_of: Collection[str] | None
) -> RankingSummary:
    measures = {
        name: mean_of(values, seed) if intervals_of is None or name in intervals_of else Mean(float(values.mean()))
        for name, values in figures.values().items()
    }
    above = None if first is None else mean_of(figures.average_precision - first.average_precision, seed)
    return RankingSummary(figures.name, measures, above)


def classes(evaluation: Evaluation) -> list[ClassSummary]:
    """Every class, in the order of their names."""
    values = evaluation.figures[0].values()
    of_queries = evaluation.labels[evaluation.queries]
    sizes = np.bincount(evaluation.labels)
    rows = []
    for number, name in enumerate(evaluation.classes):
        mine = of_queries == number
        if mine.any():
            means = {measure: float(v[mine].mean()) for measure, v in values.items()}
            rows.append(ClassSummary(name, int(sizes[number]), int(mine.sum()), means))
    return rows


def worst(evaluation: Evaluation, count: int) -> list[WorstQuery]:
    """The queries with the lowest average precision under the first ranking, the worst first."""
    figures, labels, photos = evaluation.figures[0], evaluation.labels, evaluation.photos
    found = []
    for i in np.argsort(figures.average_precision, kind="stable")[:count]:
        row = evaluation.queries[i]
        hits = [(photos[hit], bool(labels[hit] == labels[row])) for hit in figures.first_hits[i]]
        precision = float(figures.average_precision[i])
        found.append(WorstQuery(photos[row], evaluation.classes[labels[row]], precision, hits))
    return found


def cases(evaluation: AlteredEvaluation) -> list[CaseSummary]:
    """Every transform at every strength, under the first ranking."""
    ranks = next(iter(evaluation.ranks.values()))
    return [
        CaseSummary(
            transform.name,
            transform.label(strength),
            float((ranks[:, i] == 1).mean()),
            float((ranks[:, i] <= FOUND_WITHIN).mean()),
            float(np.median(ranks[:, i])),
            float(ranks[:, i].mean()),
            int(ranks[:, i].max()),
        )
        for i, (transform, strength) in enumerate(CASES)
    ]


def first_places(evaluation: AlteredEvaluation, seed: int) -> dict[str, tuple[Mean, dict[str, float]]]:
    """For each ranking how often the original is first: over all copies, the interval by bootstrap over the photos, and
    for each transform."""
    names = np.array([transform.name for transform, _ in CASES])
    summary = {}
    for ranking, ranks in evaluation.ranks.items():
        first = ranks == 1
        by_transform = {name: float(first[:, names == name].mean()) for name in dict.fromkeys(names.tolist())}
        summary[ranking] = mean_of(first.mean(axis=1), seed), by_transform
    return summary
