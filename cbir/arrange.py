"""Orders and grids: photos side by side that are alike, in one row or on a sheet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64
from cbir.space import squared_distances

Rows = NDArray[np.intp]
# Of so many photos, any two are compared as neighbours, from a table of all distances: 32 MB.
ALL_PAIRS = 2_000
# Of more, up to this many, each is compared with its nearest, over the leading axes, which tell most of the distance.
MOST = 20_000
_NEIGHBOURS, _AXES = 12, 32
# A photo is looked at again when one beside it has moved; so often at most, on average.
_LOOKS = 60
# What a change has to gain, as part of the longest step: less is rounding.
_GAIN = 1e-9
# Photos that are moved together.
_SEGMENTS = (1, 2, 3)
# Photos that t-SNE places; the others go between those of them that are nearest. It takes 4 seconds.
_LANDMARKS, _BETWEEN = 1_500, 3
_PERPLEXITY = 30
# Of fewer photos two axes tell enough.
_FEWEST_PLACED = 8
# Photos that are assigned to cells at once, which takes the cube of their number: a tenth of a second.
_TILE = 1_024
# Distances that are in memory at a time.
_BLOCK = 1 << 22
# How wide a sheet is, of a height of one: as screens and photos are.
_WIDTH = 4 / 3
_SEED = 0

# Delta E (1976) up to which a colour is taken for an asked one, and from which on it has nothing to do with it: that
# of a grey, and how much more for each unit of chroma, for strong colours have wider shades. Pure red reaches to 61,
# which takes in the dark side of a red car, and no grey or brown.
_SAME_COLOR, _OTHER_COLOR, _OTHER_BY_CHROMA = 20.0, 30.0, 0.3

Progress = Callable[[int, int], object]


# --- one row


def shades(lab: NDArray[np.floating], color: Sequence[float]) -> F64:
    """How far each of some colours, (k, 3) L*a*b*, is a shade of one, (3,): (k,) float64, 1 near it, less further off.

    Falling in a straight line from a distance of 20 to one of 30, and 0.3 for each unit of the asked colour's chroma.
    """
    asked = np.asarray(color, np.float64)
    other = _OTHER_COLOR + _OTHER_BY_CHROMA * float(np.hypot(asked[1], asked[2]))
    distances = np.linalg.norm(lab - asked, axis=1)
    return np.asarray(np.clip((other - distances) / (other - _SAME_COLOR), 0, 1), np.float64)


def path_length(vectors: F64, order: Rows) -> float:
    """How long a path through points (n, m) is: the sum of its steps."""
    steps = np.diff(vectors[order], axis=0)
    return float(np.sqrt((steps * steps).sum(axis=1)).sum())


def short_path(vectors: F64, start: int, progress: Progress | None = None) -> Rows:
    """A short path through all points (n, m) from the one of number `start`: their order, (n,).

    First from each to the nearest that is left; then improved by 2-opt (Croes 1958), which turns a part round, and
    Or-opt (Or 1976), which moves up to three to another place, until neither makes it shorter, by queue (Bentley 1992).
    Up to `ALL_PAIRS` points all places are tried, so no single such change makes it shorter; of more, those beside a
    point's 12 nearest, over 32 principal axes. It ends after 60 looks for each point if not before. The same points
    give the same path. Raises ValueError for more than `MOST` points, and for a start that is none of them.
    """
    n = len(vectors)
    if not 0 <= start < n:
        raise ValueError(f"the start is one of {n:,} points, not {start}")
    if n > MOST:
        raise ValueError(f"at most {MOST:,} points are put in a row, not {n:,}")
    if n <= 2:
        return np.array([start, *(i for i in range(n) if i != start)], np.intp)
    distances = _Distances(vectors if n <= ALL_PAIRS else _leading(vectors, _AXES))
    return _Path(distances, distances.greedy_path(start)).improve(progress)


class _Distances:
    """Distances between n points, and to an end that is at no distance from any: a path may end where it likes."""

    def __init__(self, vectors: F64) -> None:
        self.n = len(vectors)
        self.vectors = np.concatenate([vectors, np.zeros((1, vectors.shape[1]))])
        self.table: F64 | None = None
        self.near: Rows | None = None
        if self.n <= ALL_PAIRS:
            self.table = np.zeros((self.n + 1, self.n + 1))
            self.table[:-1, :-1] = np.sqrt(squared_distances(vectors, vectors))
            self.longest = float(self.table.max())
            self._everything = np.arange(self.n)
        else:
            self.near = _nearest(vectors, vectors, _NEIGHBOURS + 1)
            self.longest = float(np.linalg.norm(vectors.max(axis=0) - vectors.min(axis=0)))

    def candidates(self, a: int) -> Rows:
        """Which points may be put beside one; it may be among them."""
        return self._everything if self.near is None else self.near[a]

    def of(self, a: int | Rows, b: Rows) -> F64:
        """Distances from one point, or many, to as many, (c,)."""
        if self.table is not None:
            return np.asarray(self.table[a, b])
        steps = self.vectors[a] - self.vectors[b]
        found = np.sqrt(np.einsum("ij,ij->i", steps, steps))
        return np.asarray(np.where((np.asarray(a) == self.n) | (b == self.n), 0.0, found))

    def between(self, a: int, b: int) -> float:
        """The distance of two points."""
        return float(self.of(a, np.array([b]))[0])

    def greedy_path(self, start: int) -> Rows:
        """From each point to the nearest that is left, the first of those at one distance."""
        left = np.arange(self.n)
        left = left[left != start]
        order = [start]
        while len(left):
            nearest = int(self.of(order[-1], left).argmin())
            order.append(int(left[nearest]))
            left = np.delete(left, nearest)
        return np.array(order, np.intp)


class _Path:
    """A path that is made shorter. The first point stays, and after the last comes the end that is at no distance."""

    def __init__(self, distances: _Distances, order: Rows) -> None:
        self.distances = distances
        self.order: Rows = np.append(order, distances.n)
        self.place: Rows = np.empty_like(self.order)
        self._note(0, len(self.order))
        self._least = -_GAIN * distances.longest

    def improve(self, progress: Progress | None) -> Rows:
        """Change it as long as that makes it shorter."""
        n = self.distances.n
        waiting = deque(self.order[:-1].tolist())
        is_waiting = np.ones(n + 1, bool)
        is_waiting[n], has_changed = False, False
        for looks in range(_LOOKS * n):
            if not waiting:
                # Where a part was turned round, changes have become possible also where nothing else changed. By lists
                # of neighbours it would take four times as long to find them, for a path shorter by a thousandth.
                if not has_changed or self.distances.table is None:
                    break
                waiting.extend(self.order[:-1].tolist())
                is_waiting[:n], has_changed = True, False
            if progress and looks % 100 == 0:
                progress(n - len(waiting), n)
            a = waiting.popleft()
            is_waiting[a] = False
            for point in self._shorten(a):
                has_changed = True
                if point != n and not is_waiting[point]:
                    is_waiting[point] = True
                    waiting.append(point)
        return self.order[:-1].copy()

    def _shorten(self, a: int) -> list[int]:
        """Make the best change at one point, if there is one; the points that have others beside them now."""
        near = self.distances.candidates(a)
        near = near[near != a]
        to_near = self.distances.of(a, near)
        turn = min(self._turn(a, near, to_near, 1), self._turn(a, near, to_near, -1))
        moves = [
            self._move(a, near, to_near, length, direction, side)
            for length in _SEGMENTS
            for direction in ((1, -1) if length > 1 else (1,))
            for side in (1, -1)
        ]
        gain, first, last, goal, is_turned = min([turn, *moves])
        if gain >= self._least:
            return []
        return self._apply(first, last, goal, is_turned)

    def _turn(self, a: int, near: Rows, to_near: F64, side: int) -> _Change:
        """The best 2-opt change that puts `a` beside another: the points after (before) both get beside one another."""
        i, j = int(self.place[a]), self.place[near]
        if side < 0:
            # The first point has none before it.
            if i == 0:
                return _NOTHING
            keep = j > 0
            near, to_near, j = near[keep], to_near[keep], j[keep]
        if not len(near):
            return _NOTHING
        beside, besides = int(self.order[i + side]), self.order[j + side]
        changes = to_near + self.distances.of(beside, besides)
        changes -= self.distances.between(a, beside) + self.distances.of(near, besides)
        best = int(changes.argmin())
        low, high = sorted((i, int(j[best])))
        first, last = (low + 1, high) if side > 0 else (low, high - 1)
        return _Change(float(changes[best]), first, last, first, True)

    def _move(self, a: int, near: Rows, to_near: F64, length: int, direction: int, side: int) -> _Change:
        """The best Or-opt change of the part that begins at `a` and goes on in a direction: its point `a` gets beside
        another, its end beside the one after (before) that."""
        i = int(self.place[a])
        first, last = sorted((i, i + direction * (length - 1)))
        if first < 1 or last >= self.distances.n:
            return _NOTHING
        j = self.place[near]
        goal = np.minimum(j, j + side)
        # Between `goal` and the next, which is to be a step of the path that the part is no part of.
        keep = (goal >= 0) & ((goal > last) | (goal < first - 1))
        if not keep.any():
            return _NOTHING
        near, to_near, j, goal = near[keep], to_near[keep], j[keep], goal[keep]
        end = int(self.order[i + direction * (length - 1)])
        before, after = int(self.order[first - 1]), int(self.order[last + 1])
        of = self.distances.between
        freed = of(before, int(self.order[first])) + of(int(self.order[last]), after) - of(before, after)
        others = self.order[j + side]
        changes = to_near + self.distances.of(end, others) - self.distances.of(near, others) - freed
        best = int(changes.argmin())
        # Beside the one that comes before in the path lies `a` if side is 1, so that the part goes on in its direction.
        return _Change(float(changes[best]), first, last, int(goal[best]), side != direction and length > 1)

    def _apply(self, first: int, last: int, goal: int, is_turned: bool) -> list[int]:
        """Put the part from a place to another behind the place `goal`; where that is `first`, it stays there."""
        part = self.order[first : last + 1]
        part = part[::-1].copy() if is_turned else part.copy()
        if goal > last:
            rest, start, stop = self.order[last + 1 : goal + 1].copy(), first, goal + 1
            changed = np.concatenate([rest, part])
        elif goal < first:
            rest, start, stop = self.order[goal + 1 : first].copy(), goal + 1, last + 1
            changed = np.concatenate([part, rest])
        else:
            changed, start, stop = part, first, last + 1
        self.order[start:stop] = changed
        self._note(start, stop)
        borders = {start - 1, start, stop - 1, stop, start + len(part) - 1, start + len(part)}
        borders |= {stop - len(part) - 1, stop - len(part)}
        return [int(self.order[border]) for border in sorted(borders) if 0 <= border < len(self.order)]

    def _note(self, start: int, stop: int) -> None:
        self.place[self.order[start:stop]] = np.arange(start, stop)


class _Change(NamedTuple):
    """By how much longer a change makes a path; which places it takes out, and where it puts what was there."""

    gain: float
    first: int
    last: int
    goal: int
    is_turned: bool


_NOTHING = _Change(0.0, 0, 0, 0, False)


# --- a sheet


class Grid(NamedTuple):
    """Points in the cells of a sheet: `cells` (rows, columns) holds their numbers, or -1 where none is."""

    cells: Rows

    @property
    def rows(self) -> int:
        """How many cells it is high."""
        return int(self.cells.shape[0])

    @property
    def columns(self) -> int:
        """How many cells it is wide."""
        return int(self.cells.shape[1])


def plane(vectors: F64) -> F64:
    """Points (n, m) in the plane, (n, 2), so that those that are near one another stay so.

    By t-SNE (van der Maaten and Hinton 2008) of up to 1,500 of them, drawn evenly, from their first two principal axes;
    each of the others lies between its three nearest of these, by the inverse of their distances. Fewer than 8 points,
    or such as hardly differ, are placed by the two axes alone. The same points give the same places.
    """
    axes = _leading(vectors, _AXES)
    if len(np.unique(axes, axis=0)) < _FEWEST_PLACED:
        return _two(axes)
    landmarks = evenly(len(axes), _LANDMARKS)
    places = _tsne(axes[landmarks])
    if len(landmarks) == len(axes):
        return places
    near = _nearest(axes, axes[landmarks], _BETWEEN)
    steps = axes[:, None] - axes[landmarks][near]
    distances = np.sqrt((steps * steps).sum(axis=-1))
    # A landmark stays where it is.
    weights = 1 / np.maximum(distances, 1e-9 * max(float(distances.max()), 1.0))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray((places[near] * weights[..., None]).sum(axis=1))


def grid(places: F64, progress: Progress | None = None) -> Grid:
    """Points of the plane (n, 2) in a grid about four wide and three high, each in a cell of its own near its place.

    Up to 1,024 points so that the sum of the squared ways is the least (Jonker and Volgenant 1987, by scipy); more are
    halved, along the longer side of the grid and by their order along it, until so few are left.
    """
    n = len(places)
    columns = max(1, int(np.ceil(np.sqrt(n * _WIDTH))))
    rows = max(1, -(-n // columns))
    cells = np.full((rows, columns), -1, np.intp)
    done = 0
    waiting = [(np.arange(n), cells)]
    while waiting:
        points, part = waiting.pop()
        if len(points) <= _TILE:
            _assign(places, points, part)
            done += len(points)
            if progress:
                progress(done, n)
        else:
            waiting += _halves(places, points, part)
    return Grid(cells)


def evenly(n: int, most: int) -> Rows:
    """Of n numbered things the numbers of at most so many, evenly drawn, in their order."""
    return np.arange(n) if n <= most else (np.arange(most) * n) // most


def _halves(places: F64, points: Rows, cells: Rows) -> list[tuple[Rows, Rows]]:
    axis = int(cells.shape[1] < cells.shape[0])
    side = cells.shape[1 - axis]
    parts = (cells[:, : side // 2], cells[:, side // 2 :]) if axis == 0 else (cells[: side // 2], cells[side // 2 :])
    share = round(len(points) * parts[0].size / cells.size)
    # Neither half gets more than it has cells for.
    share = min(max(share, len(points) - parts[1].size), parts[0].size)
    ordered = points[np.argsort(places[points, axis], kind="stable")]
    return [(ordered[:share], parts[0]), (ordered[share:], parts[1])]


def _assign(places: F64, points: Rows, cells: Rows) -> None:
    from scipy.optimize import linear_sum_assignment

    if not len(points):
        return
    rows, columns = cells.shape
    own = places[points]
    low, spread = own.min(axis=0), np.ptp(own, axis=0)
    own = np.where(spread > 0, (own - low) / np.where(spread > 0, spread, 1), 0.5) * [columns - 1, rows - 1]
    down, across = np.divmod(np.arange(cells.size), columns)
    costs = (own[:, :1] - across) ** 2 + (own[:, 1:] - down) ** 2
    chosen, cell = linear_sum_assignment(costs)
    cells[down[cell], across[cell]] = points[chosen]


def _tsne(axes: F64) -> F64:
    # Before the limit, which holds only for libraries that are loaded when it is set.
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    first = _two(axes)
    # As scikit-learn would scale them.
    first = first / first[:, 0].std() * 1e-4
    perplexity = min(_PERPLEXITY, (len(axes) - 1) / 3)
    # On one thread, for sums of several are added in an order that changes the last bits, then all.
    with threadpool_limits(1):
        placed = TSNE(2, perplexity=perplexity, init=first, random_state=_SEED, n_jobs=1).fit_transform(axes)
    return np.asarray(placed, np.float64)


def _leading(vectors: F64, most: int) -> F64:
    """Points on their principal axes, at most so many, each turned so that it does not depend on chance."""
    centred = np.asarray(vectors, np.float64) - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :most]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.asarray(centred @ (axes * np.where(largest < 0, -1, 1)))


def _two(axes: F64) -> F64:
    """The first two axes, with zeros where there are fewer."""
    return np.pad(axes[:, :2], ((0, 0), (0, max(0, 2 - axes.shape[1]))))


def _nearest(points: F64, others: F64, number: int) -> Rows:
    """For each of some points (n, m) the `number` nearest of others (o, m), nearest first: (n, number)."""
    number = min(number, len(others))
    near = np.empty((len(points), number), np.intp)
    block = max(1, _BLOCK // len(others))
    for start in range(0, len(points), block):
        squared = squared_distances(points[start : start + block], others)
        rows = np.arange(len(squared))[:, None]
        some = np.sort(np.argpartition(squared, number - 1, axis=1)[:, :number], axis=1)
        near[start : start + block] = some[rows, squared[rows, some].argsort(axis=1, kind="stable")]
    return near
