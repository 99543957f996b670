"""The rankings that an evaluation compares: ours in its variants, and those of others, over the same photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, F64, U8
from cbir.decode import read_picture
from cbir.errors import PictureError
from cbir.evaluation.rivals import RIVALS, city_block
from cbir.index import Index
from cbir.metric import QBIC, Metric
from cbir.parallel import in_order
from cbir.pixels import on_white
from cbir.rerank import POOL, joints, relevance, second_pass
from cbir.space import squared_distances

_Rows = NDArray[np.intp]


class Described(NamedTuple):
    """All that the rankings know of some photos: their descriptors, (n, blocks * k) uint8, and what each of `RIVALS`
    makes of them, (n, d) float32 each, or nothing."""

    codes: U8
    by_rivals: tuple[F32, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """A way to rank photos: `vectors` of what is known of n of them, (n, d), and `distances` from (q, d) and (n, d) to
    (q, n), the smaller the earlier. `again`: the second pass follows, for which the vectors are a metric's space."""

    name: str
    vectors: Callable[[Described], NDArray[Any]]
    distances: Callable[[Any, Any], NDArray[np.floating]]
    again: bool = False

    def orders(self, vectors: NDArray[Any], rows: _Rows) -> _Rows:
        """The other photos for each of some of n photos, nearest first: (n, d) and (q,) rows to (q, n - 1) rows."""
        distances = np.array(self.distances(vectors[rows], vectors), np.float64)
        # Each photo comes before its copies in its own ranking, and is left out of it.
        distances[np.arange(len(rows)), rows] = -1
        orders = np.argsort(distances, axis=1, kind="stable")[:, 1:]
        return _ranked_again(vectors, rows, orders) if self.again else orders

    def ranks(self, queries: NDArray[Any], vectors: NDArray[Any], target: int) -> _Rows:
        """At what rank, from 1, each of some foreign photos, (q, d), finds one of n photos, (n, d); (q,)."""
        distances = np.asarray(self.distances(queries, vectors), np.float64)
        own = distances[:, [target]]
        return np.asarray(1 + (distances < own).sum(axis=1) + (distances == own)[:, :target].sum(axis=1))


def by_metric(name: str, index: Index, metric: Metric) -> Ranking:
    """By one of our distances over an index's palette."""
    space = index.space(metric)
    return Ranking(name, lambda photos: space.embed(photos.codes), squared_distances)


def our_rankings(index: Index, metric: Metric) -> Iterator[Ranking]:
    """The metric that is evaluated, and what is left of it without the parts of photos, and without its own ways."""
    yield by_metric("cbir" if str(metric) == "cbir" else f"cbir: {metric}", index, metric)
    if metric.weights is None and len(index.descriptor.blocks) > 1:
        yield by_metric("cbir, photos as a whole", index, metric.of_whole())
    yield by_metric("square roots, exp(-d/10)", index, Metric.parse("sqrt-laplacian:10"))


def with_second_pass(ranking: Ranking) -> Ranking:
    """One of our rankings, followed by the second pass."""
    return replace(ranking, name=f"{ranking.name}, second pass", again=True)


def others_on_our_histogram(index: Index) -> Iterator[Ranking]:
    """What others do with a histogram like ours: QBIC's published form, and the plain sum of differences."""
    yield by_metric(f"QBIC as published, {len(index.palette)} colours", index, QBIC)
    whole = index.descriptor.whole
    yield Ranking("our histogram, L1", lambda photos: whole(photos.codes).astype(np.float32), city_block)


def rivals() -> Iterator[Ranking]:
    """The rankings of `RIVALS`."""
    for i, rival in enumerate(RIVALS):
        yield Ranking(rival.name, _by_rival(i), rival.distances)


def _by_rival(i: int) -> Callable[[Described], F32]:
    return lambda photos: photos.by_rivals[i]


def describe_by_rivals(paths: Sequence[str], jobs: int) -> Iterator[list[F32] | PictureError]:
    """What each of `RIVALS` makes of photo files, in full size as their authors do, in the order of the paths."""
    return in_order(_describe, paths, jobs, lost=PictureError)


def _describe(path: str) -> list[F32] | PictureError:
    try:
        pixels = on_white(read_picture(path))
    except PictureError as error:
        return error
    return [rival.describe(pixels) for rival in RIVALS]


def _ranked_again(vectors: F64, rows: _Rows, orders: _Rows) -> _Rows:
    if orders.shape[1] > POOL:
        return np.stack([_pool_again(vectors, row, order) for row, order in zip(rows, orders, strict=True)])
    # All photos are first hits, whichever the query is, so all queries share their joints.
    joined = joints(vectors)
    found = np.stack([relevance(joined, int(row)) for row in rows])
    better = np.argsort(-np.take_along_axis(found, orders, axis=1), axis=1, kind="stable")
    return np.take_along_axis(orders, better, axis=1)


def _pool_again(vectors: F64, row: np.intp, order: _Rows) -> _Rows:
    pool = order[:POOL]
    return np.concatenate([pool[second_pass(vectors[row], vectors[pool])], order[POOL:]])
