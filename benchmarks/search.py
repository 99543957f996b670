"""Searching a million made-up photos, beside FAISS's flat index and the limit that memory sets; and few real photos.

Where FAISS is not installed, the tables leave it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.exact import Nearest, nearest_plainly, plain_form, plain_form_of
from benchmarks.flat import Flat, has_faiss, threads
from benchmarks.measure import bandwidth, cores, milliseconds, near_and_far, photo_sets, seconds, table
from benchmarks.mixtures import made_index, mixtures, real
from cbir.axes_file import load_axes
from cbir.color import F64, U8
from cbir.index import Index
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.search import Found, Stage

_PHOTOS = 1_000_000
_LIMIT = 10
_METRICS = (DEFAULT, QBIC)
# Queries of each kind that FAISS is timed with, one by one: each takes it as long as any other.
_TIMED = 40
_FAISS = "FAISS flat"
# Threads: what is one query's may be faster on one.
_JOBS = (1, cores())


class _Searches(NamedTuple):
    """Searches one by one: what they found, how long each took, (q,) milliseconds, and what each did meanwhile."""

    nearest: Nearest
    times: F64
    stages: list[list[Stage]]


class _Together(NamedTuple):
    """Many queries at once: what was found, and how many seconds it took by the number of threads."""

    nearest: Nearest
    seconds: dict[int, float]


class _FlatSearches(NamedTuple):
    """What FAISS took one by one, in milliseconds, by the kind of the queries and the number of threads."""

    times: dict[tuple[str, int], F64]
    together: _Together


@dataclass(frozen=True)
class _Measured:
    """All that was measured by one metric.

    `leading` are the bytes that the first filter has of all `photos`. `groups` are the rows of the queries by their
    kind. `same` tells of all that was found whether it is what should be found.
    """

    metric: Metric
    photos: int
    leading: int
    groups: dict[str, np.ndarray]
    alone: _Searches
    together: _Together
    flat: _FlatSearches | None
    same: list[tuple[str, ...]]


def run(work: Path, photos: int = _PHOTOS) -> None:
    """Print the tables."""
    if not has_faiss():
        print("\nFAISS is not installed, so the tables leave it out: pip install 'cbir[bench]'")
    made = real(work)
    index = Index.open(made_index(work / "made", made, photos))
    codes = np.concatenate(list(mixtures(made.sources, made.descriptor, photos)))
    measured = [_measure(index, codes, made.queries, metric) for metric in _METRICS]
    _print_times(measured)
    _print_same(measured)
    _print_limit(measured)
    _print_stages(measured)
    _print_few(work)


def _measure(index: Index, codes: U8, queries: U8, metric: Metric) -> _Measured:
    space, leading = index.space(metric), _prepared(index, metric)
    # First, so that what follows is warm.
    together = _together(index, queries, metric)
    alone = _searches(index, queries, metric)
    truth = nearest_plainly(space, codes, queries, _LIMIT)
    groups = {"all": np.arange(len(queries)), **near_and_far(truth.distances[:, -1])}
    flat = _flat_searches(Flat(space, codes), queries, groups) if has_faiss() else None
    found = {"cbir, one by one": alone.nearest, "cbir, at once": together.nearest}
    if flat:
        found[f"{_FAISS}, at once"] = flat.together.nearest
    exact = {name: plain_form_of(space, codes, queries, nearest.rows) for name, nearest in found.items()}
    same = [(str(metric), name, *_same(found[name], exact[name], truth)) for name in found]
    return _Measured(metric, len(codes), leading, groups, alone, together, flat, same)


def _prepared(index: Index, metric: Metric) -> int:
    """Make the axes of a metric; how many bytes the first filter has of all photos is returned."""
    before = set(index.folder.iterdir())
    index.prepare(metric)
    made = set(index.folder.iterdir()) - before
    dimensions = index.space(metric).dimensions
    return sum(load_axes(index.folder, path.name, dimensions).axes.leading.nbytes for path in made)


def _together(index: Index, queries: U8, metric: Metric) -> _Together:
    took = {
        jobs: seconds(lambda jobs=jobs: index.nearest_many(queries, _LIMIT, metric, jobs=jobs), 3) for jobs in _JOBS
    }
    return _Together(_nearest(index.nearest_many(queries, _LIMIT, metric)), took)


def _searches(index: Index, queries: U8, metric: Metric) -> _Searches:
    found: list[Found] = []
    stages: list[list[Stage]] = []

    def search(query: U8) -> None:
        stages.append([])
        found.append(index.nearest(query, _LIMIT, metric, stages=stages[-1]))

    times = milliseconds(search, queries)
    return _Searches(_nearest(found), times, stages)


def _nearest(found: Iterable[Found]) -> Nearest:
    rows, distances = zip(*found, strict=True)
    return Nearest(np.stack(rows), np.stack(distances))


def _flat_searches(flat: Flat, queries: U8, groups: dict[str, np.ndarray]) -> _FlatSearches:
    vectors = flat.vectors(queries)
    times: dict[tuple[str, int], F64] = {}
    together: dict[int, float] = {}
    for number in _JOBS:
        with threads(number):
            flat.search(vectors[:1], _LIMIT)
            for name, rows in groups.items():
                some = vectors[rows[:: max(1, len(rows) // _TIMED)], None]
                times[name, number] = milliseconds(lambda vector: flat.search(vector, _LIMIT), some)
            together[number] = seconds(lambda: flat.search(vectors, _LIMIT), 3)
    return _FlatSearches(times, _Together(flat.search(vectors, _LIMIT), together))


def _same(found: Nearest, exact: F64, truth: Nearest) -> tuple[str, ...]:
    """Whether hits are the true ones; `exact` (q, limit) are their distances by the plain form.

    Others that are as far are as good. How much too far they are tells such near-ties from errors.
    """
    common = np.array([len(np.intersect1d(*rows)) for rows in zip(found.rows, truth.rows, strict=True)])
    return (
        f"{np.count_nonzero(common == truth.rows.shape[1]):,} of {len(common):,}",
        f"{np.count_nonzero((found.rows == truth.rows).all(axis=1)):,}",
        f"{common.sum() / truth.rows.size:.5f}",
        _difference(np.sort(exact, axis=1) - truth.distances),
        _difference(np.abs(found.distances - exact)),
    )


def _difference(values: F64) -> str:
    largest = float(values.max())
    return f"{largest:.1e}" if largest > 0 else "0"


def _print_times(measured: list[_Measured]) -> None:
    ways = [f"{_FAISS}, {number} thread{'s' * (number > 1)}" for number in _JOBS] if has_faiss() else []
    beside = [word for way in ways for word in (f"{way}, median", "90 %", "times ours")]
    table(
        f"Searching {measured[0].photos:,} mixtures of real photos (warm, top {_LIMIT}, one query at a time; near: the "
        "third of the queries whose tenth hits are nearest)",
        ("metric", "queries", "cbir, median", "90 %", *beside),
        [row for one in measured for row in _alone_rows(one)],
    )
    table(
        f"{len(measured[0].alone.times):,} queries at once (warm, top {_LIMIT}; median of 3)",
        ("metric", "threads", "cbir", "a query", *([_FAISS, "a query", "times ours"] if has_faiss() else [])),
        [_together_row(one, number) for one in measured for number in _JOBS],
    )


def _alone_rows(measured: _Measured) -> Iterator[list[str]]:
    for name, rows in measured.groups.items():
        own = measured.alone.times[rows]
        row = [str(measured.metric), f"{name} {len(rows):,}", *_times(own)]
        for number in _JOBS if measured.flat else ():
            times = measured.flat.times[name, number]
            row += [*_times(times), f"{np.median(times) / np.median(own):.1f}"]
        yield row


def _times(times: F64) -> list[str]:
    return [f"{value:.1f} ms" for value in np.percentile(times, [50, 90])]


def _together_row(measured: _Measured, number: int) -> list[str]:
    queries, took = len(measured.alone.times), measured.together.seconds[number]
    row = [str(measured.metric), str(number), f"{took:.2f} s", f"{took / queries * 1000:.2f} ms"]
    if measured.flat:
        theirs = measured.flat.together.seconds[number]
        row += [f"{theirs:.2f} s", f"{theirs / queries * 1000:.2f} ms", f"{theirs / took:.1f}"]
    return row


def _print_same(measured: list[_Measured]) -> None:
    table(
        f"The same {_LIMIT} hits as the plain form's in double precision over all photos?",
        ("metric", "search", "the same", "in its order", "recall", "hits too far, at most", "distances off, at most"),
        [row for one in measured for row in one.same],
    )


def _print_limit(measured: list[_Measured]) -> None:
    speed = bandwidth()
    table(
        f"The limit that memory sets: it gives one thread {speed / 1e9:.1f} GB/s, and the first filter has to be read",
        ("metric", "of a photo", "of all", "read in", "of it looked at", "first filter takes", "a search"),
        [_limit_row(one, speed) for one in measured],
    )


def _limit_row(measured: _Measured, speed: float) -> list[str]:
    looked_at, _, took = sum(values for name, values in _stages(measured) if name.endswith(" axes"))
    return [
        str(measured.metric),
        f"{measured.leading / measured.photos:.0f} bytes",
        f"{measured.leading / 1e6:.1f} MB",
        f"{measured.leading / speed * 1000:.1f} ms",
        f"{looked_at / measured.photos:.0%}",
        f"{took:.1f} ms",
        f"{measured.alone.times.mean():.1f} ms",
    ]


def _print_stages(measured: list[_Measured]) -> None:
    table(
        "Where the time of a search goes (means over all queries)",
        ("metric", "stage", "looked at", "left", "time"),
        [
            [str(one.metric), name, f"{looked_at:,.0f}", f"{left:,.0f}", f"{took:.2f} ms"]
            for one in measured
            for name, (looked_at, left, took) in _stages(one)
        ],
    )


def _stages(measured: _Measured) -> Iterator[tuple[str, F64]]:
    """The stages by their names, with means over the searches: looked at, left, and milliseconds."""
    searches = measured.alone.stages
    for name in dict.fromkeys(stage.name for stages in searches for stage in stages):
        own = [stage for stages in searches for stage in stages if stage.name == name]
        yield name, np.sum([(one.looked_at, one.left, one.seconds * 1000) for one in own], axis=0) / len(searches)


def _print_few(work: Path) -> None:
    indexes = {name: Index.create(work / name[:3], [folder]) for name, folder in photo_sets(work).items()}
    table(
        f"Searching few photos (warm, top {_LIMIT}, one query; the same distances as the plain form's)",
        ("photos", "metric", "cbir", "plain form over all", "times ours", *([f"{_FAISS}, 1 thread"] * has_faiss())),
        [_few_row(name, index, metric) for name, index in indexes.items() for metric in _METRICS],
    )


def _few_row(name: str, index: Index, metric: Metric) -> list[str]:
    space = index.space(metric)
    codes = np.stack([index.codes(row) for row in range(len(index))])
    query = codes[len(codes) // 2]
    if index.nearest(query, _LIMIT, metric).distances.tolist() != sorted(plain_form(space, codes, query))[:_LIMIT]:
        raise AssertionError("the search is not exact")
    took = seconds(lambda: index.nearest(query, _LIMIT, metric), 21)
    plainly = seconds(lambda: plain_form(space, codes, query), 21)
    row = [name, str(metric), f"{took * 1000:.2f} ms", f"{plainly * 1000:.2f} ms", f"{plainly / took:.1f}"]
    if has_faiss():
        flat = Flat(space, codes)
        vector = flat.vectors(query[None])
        with threads(1):
            row.append(f"{seconds(lambda: flat.search(vector, _LIMIT), 21) * 1000:.2f} ms")
    return row
