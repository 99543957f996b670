"""Searching: filter by bounds, refine by the plain form. Nothing is dismissed falsely (Faloutsos et al. 1994)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.axes import LEAF, Axes, turn
from cbir.color import F32, F64, U8
from cbir.quadratic import one_thread
from cbir.space import Point, Space
from cbir.threads import short_turns
from cbir.view import UNIT, Rows, View, scan_together

Mask = NDArray[np.bool_]
# Photos that are mapped, or compared in full, at a time; what is in between stays near the processor.
_MAPPED, _FULL = 512, 128
# Leaves that are looked at for a first guess of how far the hits are, beside those that the hits themselves fill.
_PROBED = 16
# Of so few photos as are allowed, looking at each beats the axes.
_FEW = 2048
# Queries that are answered together.
_GROUP = 32
# No two photos are so far apart; the square of a larger bound might overflow.
_UNBOUNDED = 1e15


class Descriptors:
    """The descriptors of a collection, (n_i, width) uint8 one after the other, rows counted through all of them."""

    def __init__(self, parts: Sequence[U8]) -> None:
        self.parts = parts
        self.starts: Rows = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: Rows) -> U8:
        """Those of some rows, (r,) to (r, width)."""
        if len(self.parts) == 1:
            return np.asarray(self.parts[0].take(rows, axis=0))
        part = np.searchsorted(self.starts, rows, side="right") - 1
        places = rows - self.starts[part]
        found = np.empty((len(rows), self.parts[0].shape[1]), np.uint8)
        if len(rows) <= _FULL:
            for i, (own, place) in enumerate(zip(part.tolist(), places.tolist(), strict=True)):
                found[i] = self.parts[own][place]
            return found
        for number in set(part.tolist()):
            own = part == number
            found[own] = self.parts[number].take(places[own], axis=0)
        return found


@dataclass(frozen=True, eq=False)
class Part:
    """Photos that have axes: the row of the photo that `axes` calls i lies in [starts[j], starts[j + 1]), and is
    `rows[j] + i - starts[j]`, or is no photo of the collection any more where `rows[j]` is negative."""

    axes: Axes
    starts: Rows
    rows: Rows

    @cached_property
    def has_gaps(self) -> bool:
        """Whether some of its photos are gone."""
        return bool((self.rows < 0).any())

    @cached_property
    def _shift(self) -> int | None:
        """How much later each photo comes in the collection, if it is the same for all."""
        shifts = self.rows - self.starts[:-1]
        return int(shifts[0]) if not self.has_gaps and (shifts == shifts[0]).all() else None

    def rows_at(self, places: Rows) -> Rows:
        """The rows of the photos at some places, -1 for those that are gone."""
        own: Rows = self.axes.order.take(places).astype(np.intp)
        if self._shift is not None:
            own += self._shift
            return own
        segment = np.searchsorted(self.starts, own, side="right") - 1
        first = self.rows[segment]
        return np.asarray(np.where(first < 0, -1, first + own - self.starts[segment]))


@dataclass(frozen=True)
class Collection:
    """What is searched: the descriptors of all photos, the axes of most, and the `loose` rows that no axes tell of."""

    descriptors: Descriptors
    parts: Sequence[Part]
    loose: Rows


class Stage(NamedTuple):
    """What one stage of a search did: how many photos (or leaves) it looked at, how many it left, and how long."""

    name: str
    looked_at: int
    left: int
    seconds: float


class Found(NamedTuple):
    """Rows with their distances, nearest first."""

    rows: Rows
    distances: F64


def nearest_rows(
    space: Space,
    collection: Collection,
    query: U8 | Point,
    limit: int,
    *,
    within: float = math.inf,
    allowed: Mask | None = None,
    stages: list[Stage] | None = None,
) -> Found:
    """The rows at most as far as the `limit`-th nearest, and at most `within`, each with its exact distance.

    `query` is a descriptor, (blocks * k,) uint8, or a point of the space. `allowed` (n,) bool tells which rows may be
    found, all unless given. All that tie with the last are returned, so there may be more than `limit`. The distance is
    the plain form's in float64, computed for each row alone, so that equal descriptors get equal distances to the last
    bit, and the query's own exactly 0. What was done is told to `stages`.
    """
    with one_thread():
        return _Search(space, collection, query, limit, within, allowed, stages).run()


def nearest_rows_of_many(
    space: Space,
    collection: Collection,
    queries: U8,
    limit: int,
    *,
    within: float = math.inf,
    allowed: Mask | None = None,
    jobs: int = 1,
) -> list[Found]:
    """The same for many queries, (q, blocks * k), on `jobs` threads.

    The axes are read once for a group of queries, as one matrix product.
    """

    size = max(1, min(_GROUP, -(-len(queries) // jobs)))

    def answer(start: int) -> list[Found]:
        group = queries[start : start + size]
        searches = [_Search(space, collection, query, limit, within, allowed, None) for query in group]
        for search in searches:
            search.begin()
        for i, part in enumerate(searches[0].parts):
            found = scan_together(part.axes, [(one.views[i], one.boxes[i], one.bound) for one in searches])
            for search, (leaves, places, scores) in zip(searches, found, strict=True):
                search.refine(part, search.views[i], leaves, places, scores)
        return [search.found() for search in searches]

    with one_thread(), short_turns(), ThreadPoolExecutor(jobs) as pool:
        return [one for some in pool.map(answer, range(0, len(queries), size)) for one in some]


def plain_nearest_rows(
    space: Space,
    descriptors: Descriptors,
    query: U8 | Point,
    limit: int,
    *,
    within: float = math.inf,
    allowed: Mask | None = None,
    progress: Callable[[int], object] | None = None,
) -> Found:
    """The same by the plain form over every row, without any bound: what `nearest_rows` has to equal.

    `progress` is told how many rows are done.
    """
    prepared = query.prepared if isinstance(query, Point) else space.prepare(query[None])[0]
    distances = np.empty(len(descriptors))

    def compare(start: int) -> int:
        rows = np.arange(start, min(start + _FULL, len(descriptors)))
        distances[rows] = space.prepared_distances(space.prepare(descriptors.take(rows)), prepared)
        return int(rows[-1]) + 1

    with one_thread(), ThreadPoolExecutor() as pool:
        for done in pool.map(compare, range(0, len(descriptors), _FULL)):
            if progress:
                progress(done)
    if allowed is not None:
        distances[~allowed] = math.inf
    order = np.argsort(distances, kind="stable")
    order = order[: np.count_nonzero(np.isfinite(distances))]
    last = distances[order[min(limit, len(order)) - 1]] if len(order) else 0.0
    order = order[distances[order] <= min(last, within)]
    return Found(order, distances[order])


class _Search:
    """One search on its way: `bound` is a distance that no hit exceeds, as far as is known."""

    def __init__(
        self,
        space: Space,
        collection: Collection,
        query: U8 | Point,
        limit: int,
        within: float,
        allowed: Mask | None,
        stages: list[Stage] | None,
    ) -> None:
        self.space, self.collection = space, collection
        self.limit, self.allowed, self.stages = limit, allowed, stages
        self.bound = within if within < _UNBOUNDED else math.inf
        self.prepared, self.vector, self.doubt = query if isinstance(query, Point) else space.point(query)
        self.rows: Rows = np.empty(0, np.intp)
        self.distances: F64 = np.empty(0)
        self.clock = time.perf_counter()

        self.parts: Sequence[Part] = collection.parts
        self.views: list[View] = []
        self.boxes: list[F32] = []

    def run(self) -> Found:
        self.begin()
        for part, view, boxes in zip(self.parts, self.views, self.boxes, strict=True):
            leaves = np.flatnonzero(boxes <= view.squared(self.bound))
            self._note("leaves", len(boxes), len(leaves))
            self.refine(part, view, leaves, *view.scan(leaves, view.least_score(self.bound)))
        return self.found()

    def begin(self) -> None:
        """All that goes before reading the leading axes: rows without axes, and a first bound."""
        loose = self.collection.loose
        if self.allowed is not None:
            loose = loose[self.allowed[loose]]
            if np.count_nonzero(self.allowed) <= _FEW:
                loose, self.parts = np.flatnonzero(self.allowed), []
        if len(loose):
            self._add(self._near(loose))
        self.views = [View(part.axes, turn(part.axes, self.vector), self.doubt) for part in self.parts]
        if self.parts:
            self._note("turned to the axes", len(self.views), len(self.views))
            self.boxes = [view.boxes() for view in self.views]
            self._probe()

    def found(self) -> Found:
        order = np.argsort(self.distances, kind="stable")
        return Found(self.rows[order], self.distances[order])

    def _note(self, name: str, looked_at: int, left: int) -> None:
        if self.stages is not None:
            now = time.perf_counter()
            self.stages.append(Stage(name, looked_at, left, now - self.clock))
            self.clock = now

    def _full(self, rows: Rows) -> F64:
        """The plain form."""
        distances = np.empty(len(rows))
        for start in range(0, len(rows), _FULL):
            some = self.space.prepare(self.collection.descriptors.take(rows[start : start + _FULL]))
            distances[start : start + _FULL] = self.space.prepared_distances(some, self.prepared)
        return distances

    def _tighten(self, distances: F64) -> None:
        """No hit is further than the `limit`-th of any photos that may be found, each told once."""
        if len(distances) >= self.limit:
            self.bound = min(self.bound, float(np.partition(distances, self.limit - 1)[self.limit - 1]))

    def _add(self, rows: Rows) -> None:
        """Compare in full, and keep what may be a hit."""
        distances = np.concatenate([self.distances, self._full(rows)])
        self._tighten(distances)
        kept = distances <= self.bound
        self.rows, self.distances = np.concatenate([self.rows, rows])[kept], distances[kept]
        self._note("compared in full", len(rows), len(self.rows))

    def _near(self, rows: Rows) -> Rows:
        """Those of some rows that may be hits, by mapping them in single precision."""
        least, most = (np.concatenate(bounds) for bounds in zip(*self._between(rows), strict=True))
        self._tighten(most.astype(np.float64))
        near = rows[least <= self.bound]
        self._note("mapped, without axes", len(rows), len(near))
        return near

    def _between(self, rows: Rows) -> Iterator[tuple[F32, F32]]:
        """Between which distances each row lies for certain, a block of rows at a time."""
        target = self.vector.astype(np.float32)
        # Rounded to single precision, each of its numbers is off by that much of it.
        own = self.doubt + 2 * UNIT * float(np.linalg.norm(self.vector))
        for start in range(0, len(rows), _MAPPED):
            some = self.collection.descriptors.take(rows[start : start + _MAPPED])
            vectors, errors = self.space.embed_fast(some)
            difference = vectors - target
            distances = np.sqrt(np.einsum("ij,ij->i", difference, difference))
            # Differences, a sum of that many squares, and its root.
            doubt = errors + own + (vectors.shape[1] + 4) * UNIT * distances
            yield distances - doubt, distances + doubt

    def _alive(self, part: Part, places: Rows, scores: F32) -> tuple[Rows, F32]:
        """Those of some places, with their scores, that are of photos that may be found."""
        if self.allowed is None and not part.has_gaps:
            return places, scores
        rows = part.rows_at(places)
        alive = rows >= 0
        if self.allowed is not None:
            alive[alive] = self.allowed[rows[alive]]
        return places[alive], scores[alive]

    def _probe(self) -> None:
        """A first bound, from the photos in the nearest leaves."""
        owner = np.repeat(np.arange(len(self.boxes)), [len(boxes) for boxes in self.boxes])
        leaf = np.concatenate([np.arange(len(boxes)) for boxes in self.boxes])
        near = np.concatenate(self.boxes)
        if 2 * self.limit >= LEAF * len(near):
            # Most photos are compared in full anyway.
            return
        number = min(len(near), _PROBED + 2 * self.limit // LEAF)
        while True:
            chosen = np.argpartition(near, number - 1)[:number]
            rows, distances = self._guess(owner[chosen], leaf[chosen])
            if len(rows) >= self.limit or number == len(near):
                break
            number = min(len(near), 4 * number)
        best = rows[_smallest(distances, self.limit)]
        self._tighten(self._full(best))
        self._note("probed", len(rows), len(best))

    def _guess(self, owner: Rows, leaf: Rows) -> tuple[Rows, F32]:
        """The rows in some leaves of some parts, with their distances as far as the axes tell them."""
        found: list[tuple[Rows, F32]] = []
        for i in sorted(set(owner.tolist())):
            part, view = self.parts[i], self.views[i]
            places, scores = self._alive(part, *view.scan(np.sort(leaf[owner == i]), -math.inf))
            found.append((part.rows_at(places), view.closer(places, scores)))
        rows, distances = (np.concatenate(one) for one in zip(*found, strict=True))
        return rows, distances

    def refine(self, part: Part, view: View, leaves: Rows, places: Rows, scores: F32) -> None:
        """Keep those of some places of a part that may be hits; `leaves` have been read."""
        looked_at = int(np.minimum(LEAF, len(view.axes) - LEAF * leaves).sum())
        places, scores = self._alive(part, places, scores)
        squares = view.squares(scores)
        self._note(f"{view.axes.axes} axes", looked_at, len(places))
        for stage in view.coarse:
            looked_at = len(places)
            squares, errors = stage.squares(places, squares)
            if stage is not view.coarse[-1] and looked_at > 2 * self.limit:
                self._tighten(self._full(part.rows_at(places[_smallest(squares, self.limit)])))
            near = view.within(self.bound, squares, errors)
            places, squares, errors = places[near], squares[near], errors[near]
            self._note(f"{len(stage.weights)} more axes in bytes", looked_at, len(places))
        if view.coarse and len(places) > 2 * self.limit:
            # The likeliest hits first: the others are then fewer.
            order = np.argsort(squares)
            first, others = order[: self.limit], order[self.limit :]
            self._add(part.rows_at(places[first]))
            places = places[others[view.within(self.bound, squares[others], errors[others])]]
        self._add(part.rows_at(places))


def _smallest(values: F32, number: int) -> Rows:
    """Where about the smallest so many values are, in no order: of very many, one at most of each stride."""
    if number >= len(values):
        return np.arange(len(values))
    width = 8 * number
    if len(values) < 16 * width:
        return np.argpartition(values, number - 1)[:number]
    least = values[: len(values) // width * width].reshape(-1, width).argmin(axis=0) * width + np.arange(width)
    return np.asarray(least[np.argpartition(values[least], number - 1)[:number]])
