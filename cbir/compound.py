"""Compound questions: likeness by the quadratic form together with costs of other kinds, ranked exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cbir.color import F64
from cbir.feedback import Aim
from cbir.search import Collection, Found, Mask, Stage, nearest_rows, plain_nearest_rows
from cbir.space import Space
from cbir.view import Rows

# Photos that are looked at to begin with, for each that is wanted: after that, none is further than these tell.
_SEEDS = 4
# Photos that are compared at a time.
_BLOCK = 512
# By so much bounds are widened, for rounding in the few sums that they are made of.
_WIDER = 1 + 1e-9
# So many times how far off the query may be: that, the photo, and the products of their difference.
_DOUBTS = 8


@dataclass(frozen=True, eq=False)
class Compound:
    """A question of one or more parts.

    A photo's distance is `sqrt((weight d^2 + costs) / total)`, where d is its distance by `aim`, if there is one, and
    `costs` (n,) are the weighted squared costs of all other parts, if there are any. `total` is the sum of the weights
    of all parts. `allowed` (n,) tells which photos a filter lets pass, all if there is none.
    """

    aim: Aim | None
    weight: float
    costs: F64 | None
    total: float
    allowed: Mask | None = None

    def find(
        self,
        space: Space,
        collection: Collection,
        limit: int,
        *,
        within: float,
        allowed: Mask | None,
        stages: list[Stage] | None = None,
    ) -> Found:
        """What `nearest_rows` finds for a photo, for this question.

        Likeness alone is searched by axes. Costs alone are looked through. Of both together, photos near by either
        tell how far the hits may be; then only those are compared whose costs are below that, within the radius that
        the least of these costs leaves for likeness. So nothing is dismissed falsely.
        """
        may = self._may(allowed)
        if self.aim is None:
            return self._by_costs(limit, within, may)
        if self.costs is None and not len(self.aim.factors):
            return nearest_rows(space, collection, self.aim.point, limit, within=within, allowed=may, stages=stages)
        bound = min(within, self._first_bound(space, collection, self.aim, limit, may))
        radius, may = self._radius(self.aim, bound, may)
        found = nearest_rows(
            space, collection, self.aim.point, len(collection.descriptors), within=radius, allowed=may, stages=stages
        )
        return _nearest(found.rows, self._distances(space, collection, self.aim, found), limit, within)

    def find_plainly(
        self,
        space: Space,
        collection: Collection,
        limit: int,
        *,
        within: float,
        allowed: Mask | None,
        progress: Callable[[int], object] | None = None,
    ) -> Found:
        """The same by comparing with every photo: what `find` has to equal."""
        may = self._may(allowed)
        if self.aim is None:
            return self._by_costs(limit, within, may)
        everything = len(collection.descriptors)
        found = plain_nearest_rows(
            space, collection.descriptors, self.aim.point, everything, allowed=may, progress=progress
        )
        return _nearest(found.rows, self._distances(space, collection, self.aim, found), limit, within)

    def _may(self, allowed: Mask | None) -> Mask | None:
        if allowed is None or self.allowed is None:
            return self.allowed if allowed is None else allowed
        return allowed & self.allowed

    def _by_costs(self, limit: int, within: float, allowed: Mask | None) -> Found:
        assert self.costs is not None
        rows = np.arange(len(self.costs)) if allowed is None else np.flatnonzero(allowed)
        return _nearest(rows, np.sqrt(self.costs[rows] / self.total), limit, within)

    def _first_bound(self, space: Space, collection: Collection, aim: Aim, limit: int, allowed: Mask | None) -> float:
        """A distance that the `limit`-th nearest photo does not exceed: that of the `limit`-th of some."""
        wanted = _SEEDS * limit
        found = [nearest_rows(space, collection, aim.point, wanted, allowed=allowed)]
        if self.costs is not None:
            # The cheapest, whatever else they are, and the nearest of some more.
            for number in (limit, _SEEDS * wanted):
                cheap = self._cheapest(number, allowed)
                found.append(nearest_rows(space, collection, aim.point, wanted, allowed=cheap))
        rows, first = np.unique(np.concatenate([one.rows for one in found]), return_index=True)
        seeds = Found(rows, np.concatenate([one.distances for one in found])[first])
        distances = np.sort(self._distances(space, collection, aim, seeds))
        return float(distances[limit - 1]) if len(distances) >= limit else math.inf

    def _cheapest(self, number: int, allowed: Mask | None) -> Mask:
        assert self.costs is not None
        costs = self.costs if allowed is None else np.where(allowed, self.costs, math.inf)
        cheap = np.zeros(len(costs), bool)
        cheap[np.argpartition(costs, number - 1)[:number] if number < len(costs) else slice(None)] = True
        return cheap if allowed is None else cheap & allowed

    def _radius(self, aim: Aim, bound: float, allowed: Mask | None) -> tuple[float, Mask | None]:
        """How far, by the form alone, a photo within `bound` may be, and which photos' costs allow them to be."""
        least = 0.0
        square = self.total * bound**2 * _WIDER
        if self.costs is not None:
            cheap = self.costs <= square
            allowed = cheap if allowed is None else cheap & allowed
            least = float(self.costs.min(where=allowed, initial=math.inf))
        left = max(square - least, 0.0) / self.weight if math.isfinite(least) else 0.0
        # Where colours are next to the same, distances are mostly rounding, and the form that feedback makes too.
        return (math.sqrt(left) * _WIDER + _DOUBTS * aim.point.doubt) / aim.shrinks, allowed

    def _distances(self, space: Space, collection: Collection, aim: Aim, found: Found) -> F64:
        distances = np.empty(len(found.rows))
        for start in range(0, len(found.rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = found.rows[block]
            squares = found.distances[block] ** 2
            if len(aim.factors):
                squares = aim.squares(space.prepare(collection.descriptors.take(rows)), found.distances[block])
            if self.costs is None:
                distances[block] = np.sqrt(squares)
            else:
                distances[block] = np.sqrt((self.weight * squares + self.costs[rows]) / self.total)
        return distances


def _nearest(rows: Rows, distances: F64, limit: int, within: float) -> Found:
    """The `limit` nearest of some rows, with all that tie with the last, and none beyond `within`."""
    order = np.argsort(distances, kind="stable")
    if len(order) > limit:
        order = order[: np.searchsorted(distances[order], distances[order[limit - 1]], side="right")]
    order = order[distances[order] <= within]
    return Found(rows[order], distances[order])
