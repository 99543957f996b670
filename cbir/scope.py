"""Which photos a search may find, and which of those found are told."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scope:
    """Bounds of a search; none of them makes it less exact.

    `within` is the largest distance of a hit, `offset` how many of the first hits to leave out. `below` are folders or
    photos, by path: only what lies in one of them is found, everything if there are none; `excluded` are such of which
    nothing is found; and without `itself` the query is not, if it is a photo of the index by its path. `distinct`
    puts photos together that are within this distance of one another: going down the ranking, a photo that is so near
    to one told before is not told itself. Raises ValueError.
    """

    within: float = math.inf
    offset: int = 0
    below: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    itself: bool = True
    distinct: float | None = None
    since: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        if not self.within >= 0:
            raise ValueError(f"within is a distance of 0 or more, not {self.within}")
        if isinstance(self.below, str) or isinstance(self.excluded, str):
            raise ValueError("below and excluded are tuples of paths")
        if self.offset < 0:
            raise ValueError(f"offset is a number of 0 or more, not {self.offset}")
        if self.distinct is not None and not 0 <= self.distinct < math.inf:
            raise ValueError(f"distinct is a distance of 0 or more, not {self.distinct}")


EVERYTHING = Scope()
