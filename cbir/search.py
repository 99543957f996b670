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

from cbir.axes import LEAF, Axes, Coarse, Target, box_sides, turn
from cbir.color import F32, F64, U8
from cbir.quadratic import one_thread
from cbir.space import Point, Space
from cbir.threads import short_turns

Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]
# Unit roundoff of float32.
_U = 2.0**-24
# Photos that are mapped, compared by bytes, or compared in full at a time; what is in between stays near the processor.
_MAPPED, _CLOSER, _FULL = 512, 2048, 128
# Leaves that are looked at for a first guess of how far the hits are, beside those that the hits themselves fill.
_PROBED = 16
# Of so few photos as are allowed, looking at each beats the axes.
_FEW = 2048
# Queries that are answered together, and leaves that they look at together: some megabytes of scores.
_GROUP, _LEAVES = 32, 128
# What any photo's score is above; that of what fills up the last leaf is minus infinity.
_LOWEST = np.finfo(np.float32).min
# To call for a product takes as long as so many numbers of each photo of a leaf.
_GAP = 48
_LEAF_BITS = LEAF.bit_length() - 1
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
            found = _scan_together(part.axes, [(one.views[i], one.boxes[i], one.bound) for one in searches])
            for search, (leaves, places, scores) in zip(searches, found, strict=True):
                search.refine(part, search.views[i], leaves, places, scores)
        return [search.found() for search in searches]

    with one_thread(), short_turns(), ThreadPoolExecutor(jobs) as pool:
        return [one for some in pool.map(answer, range(0, len(queries), size)) for one in some]


def _scan_together(axes: Axes, asked: Sequence[tuple[_View, F32, float]]) -> list[tuple[Rows, Rows, F32]]:
    """What `_View.scan` finds for several views of the same axes, with the leaves that were read for each."""
    wanted = np.array([boxes <= view.squared(bound) for view, boxes, bound in asked])
    least = [max(np.float32(view.least_score(bound)), _LOWEST) for view, _, bound in asked]
    weights = np.array([view.weights for view, _, _ in asked])
    found: list[tuple[list[Rows], list[F32]]] = [([], []) for _ in asked]
    scores = np.empty((len(asked), _LEAVES, LEAF), np.float32)
    for start in range(0, len(axes.leading), _LEAVES):
        leading = axes.leading[start : start + _LEAVES]
        active = np.flatnonzero(wanted[:, start : start + _LEAVES].any(axis=1))
        np.matmul(weights[active], leading, out=scores[: len(active), : len(leading)].transpose(1, 0, 2))
        for row, i in zip(scores, active.tolist(), strict=False):
            flat = row[: len(leading)].reshape(-1)
            near = np.flatnonzero(flat >= least[i])
            found[i][0].append(near + start * LEAF)
            found[i][1].append(flat.take(near))
    nothing = [np.empty(0, np.intp)], [np.empty(0, np.float32)]
    return [
        (np.flatnonzero(leaves), np.concatenate(places or nothing[0]), np.concatenate(values or nothing[1]))
        for leaves, (places, values) in zip(wanted, found, strict=True)
    ]


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
        self.views: list[_View] = []
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
        self.views = [_View(part.axes, turn(part.axes, self.vector), self.doubt) for part in self.parts]
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
        own = self.doubt + 2 * _U * float(np.linalg.norm(self.vector))
        for start in range(0, len(rows), _MAPPED):
            some = self.collection.descriptors.take(rows[start : start + _MAPPED])
            vectors, errors = self.space.embed_fast(some)
            difference = vectors - target
            distances = np.sqrt(np.einsum("ij,ij->i", difference, difference))
            # Differences, a sum of that many squares, and its root.
            doubt = errors + own + (vectors.shape[1] + 4) * _U * distances
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

    def refine(self, part: Part, view: _View, leaves: Rows, places: Rows, scores: F32) -> None:
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


class _View:
    """A query as seen from the axes of a part: squared distances to its photos, and how far off these may be.

    `doubt` is how far off the query itself may be.
    """

    def __init__(self, axes: Axes, target: Target, doubt: float) -> None:
        self.axes = axes
        m = axes.axes
        self.point = np.append(target.turned[:m], target.rests[0]).astype(np.float32)
        self.square = float(np.dot(self.point, self.point.astype(np.float64)))
        # A score is the product with this: half of |q|^2 - d^2, over the leading axes and the length behind them.
        self.weights = np.append(self.point, np.float32(-1))
        length = math.sqrt(self.square)
        self.error = axes.error + doubt + 1e-6 * length
        # A sum of m + 2 products in single precision, doubled as the score is (Higham 2002, section 3.1).
        self.rounding = 2 * (m + 12) * _U * (length + axes.reach) ** 2
        self.coarse: list[_CoarseView] = []
        for stage, before, behind in zip(axes.coarse, target.rests, target.rests[1:], strict=False):
            end = m + stage.codes.shape[1]
            self.coarse.append(_CoarseView(stage, target.turned[m:end], before, behind))
            self.rounding += self.coarse[-1].rounding
            m = end

    def boxes(self) -> F32:
        """The least squared distance of anything in each leaf, (leaves,), by the sides of the boxes."""
        point = self.point[box_sides(self.axes.axes), None]
        outside = np.maximum(self.axes.lowest - point, point - self.axes.highest)
        np.maximum(outside, 0, out=outside)
        return np.asarray(np.einsum("ij,ij->j", outside, outside))

    def squared(self, bound: float) -> float:
        """How large a squared distance, as computed here, may be of a photo no further than `bound`."""
        return (bound + self.error) ** 2 * (1 + 1e-5) + self.rounding

    def within(self, bound: float, squares: F32, errors: F32) -> Rows:
        """Where squared distances that are off by so much may be of photos no further than `bound`."""
        largest = errors + np.float32((bound + self.error) * (1 + 1e-5))
        largest *= largest
        near: Rows = np.flatnonzero(squares <= largest + np.float32(self.rounding))
        return near

    def least_score(self, bound: float) -> float:
        """The score that a photo no further than `bound` has at least."""
        return (self.square - self.squared(bound)) / 2

    def scan(self, leaves: Rows, least: float) -> tuple[Rows, F32]:
        """The places in some leaves, in ascending order, whose scores are at least so large, and their scores.

        Leaves that lie between some, if few, are read too, which is faster than not to.
        """
        if not len(leaves):
            return np.empty(0, np.intp), np.empty(0, np.float32)
        after = np.flatnonzero(np.diff(leaves) > 1 + _GAP // len(self.weights))
        firsts, lasts = leaves[np.append(0, after + 1)], leaves[np.append(after, -1)] + 1
        ends = np.cumsum(lasts - firsts)
        scores = np.empty((int(ends[-1]), LEAF), np.float32)
        for first, last, end in zip(firsts.tolist(), lasts.tolist(), ends.tolist(), strict=True):
            np.matmul(self.weights, self.axes.leading[first:last], out=scores[end - last + first : end])
        flat = scores.reshape(-1)
        found = np.flatnonzero(flat >= max(np.float32(least), _LOWEST))
        # From where a photo is in what was read to where it is.
        moved = np.repeat(lasts - ends, lasts - firsts)
        return ((moved.take(found >> _LEAF_BITS) << _LEAF_BITS) + found), flat.take(found)

    def squares(self, scores: F32) -> F32:
        """The squared distances, over the leading axes and the length behind them, that scores stand for."""
        return np.float32(self.square) - 2 * scores

    def closer(self, places: Rows, scores: F32) -> F32:
        """The same over the next axes too."""
        squares = self.squares(scores)
        return self.coarse[0].squares(places, squares)[0] if self.coarse else squares


class _CoarseView:
    """A query as seen from some axes in bytes; `before` and `behind` are its lengths from them on, and behind them."""

    def __init__(self, stage: Coarse, turned: F64, before: float, behind: float) -> None:
        self.stage = stage
        levels, w = (turned - stage.low) / stage.step, len(turned)
        self.weights = (-2 * stage.step**2 * levels).astype(np.float32)
        # Of a photo's numbers: what they add to the squared distance beside its codes, but for a constant.
        self.number_weights = np.array([2 * before, -2 * behind, 1, 0], np.float32)
        own = stage.step**2 * float(levels @ levels)
        self.constant = np.float32(own + behind**2 - before**2)
        # As above, of w + 4 products and their sum; codes are up to 255 in w axes.
        longest = stage.step * 255 * math.sqrt(w)
        self.rounding = (w + 16) * _U * ((longest + math.sqrt(own)) ** 2 + 4 * before**2)

    def squares(self, places: Rows, squares: F32) -> tuple[F32, F32]:
        """Squared distances over earlier axes and the length behind these become those over these axes too; with how
        far off they may be."""
        found, errors = np.empty(len(places), np.float32), np.empty(len(places), np.float32)
        for start in range(0, len(places), _CLOSER):
            block = slice(start, start + _CLOSER)
            numbers = self.stage.numbers.take(places[block], axis=0)
            np.dot(self.stage.codes.take(places[block], axis=0).astype(np.float32), self.weights, out=found[block])
            found[block] += np.dot(numbers, self.number_weights)
            errors[block] = numbers[:, 3]
        found += squares
        found += self.constant
        return found, errors


def _smallest(values: F32, number: int) -> Rows:
    """Where about the smallest so many values are, in no order: of very many, one at most of each stride."""
    if number >= len(values):
        return np.arange(len(values))
    width = 8 * number
    if len(values) < 16 * width:
        return np.argpartition(values, number - 1)[:number]
    least = values[: len(values) // width * width].reshape(-1, width).argmin(axis=0) * width + np.arange(width)
    return np.asarray(least[np.argpartition(values[least], number - 1)[:number]])
