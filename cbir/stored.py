"""Searching a store: its engine proposes photos, the plain form decides, and whether that is proven is told."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cbir.color import F64, U8
from cbir.decode import DEFAULT_LIMITS, Limits
from cbir.describe import describe_file
from cbir.find import absolute
from cbir.metric import Metric
from cbir.palette import Palette
from cbir.ranking import Hit
from cbir.scope import EVERYTHING, Scope
from cbir.space import Point, Space
from cbir.store import Seen, Store, Stored, StoreError, Where, key_of, open_store
from cbir.store_header import Header

# Photos that are asked for beyond those that are wanted: engines round, and the plain form may order otherwise.
_MORE, _FEWEST = 2, 16
# Photos that are compared by the plain form at a time.
_PART = 2048
# How much further to look each time that what was seen proves nothing.
_FURTHER = 4
# Unit roundoff of float32, in which stores keep vectors and engines compute.
_U = 2.0**-24


@dataclass(frozen=True)
class Answer:
    """The hits of a search of a store, nearest first, at their exact distances.

    `is_proven` tells that no photo of the store that may be found is missed: the engine compared with all, and the
    nearest that any photo beyond those that it told can be is `bound`, which is further than the last hit. `looked_at`
    photos were compared by the plain form, of `photos` that the last push has left in the store.
    """

    hits: list[Hit]
    is_proven: bool
    bound: float
    looked_at: int
    photos: int


class StoredIndex:
    """An index that is in a store.

        index = StoredIndex.open("postgresql://archive.example/photos")
        answer = index.search("query.jpg", limit=10)
        for hit in answer.hits:
            print(hit.path, hit.distance)

    One thread may use it at a time.
    """

    def __init__(self, store: Store, data: bytes) -> None:
        self.store, self.header = store, Header.of_bytes(data, store.shown)
        self._data = data

    @classmethod
    def open(cls, target: str) -> StoredIndex:
        """Open a store by its address. Raises StoreError if there is none, MissingExtraError."""
        store = open_store(target)
        try:
            data = store.header()
            if data is None:
                raise StoreError(f"{store.shown}: there is no index in it; put one there with: cbir push INDEX URL")
            return cls(store, data)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Give back the connection."""
        self.store.close()

    def __enter__(self) -> StoredIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def palette(self) -> Palette:
        """The palette that its photos are described by."""
        return self.header.palette

    def __len__(self) -> int:
        return self.store.count()

    def check_known(self, query: str) -> None:
        """Raise FileNotFoundError unless a path is that of a photo in the store."""
        if self.store.fetch(key_of(absolute(query))) is None:
            raise self._unknown(query)

    def _unknown(self, query: str) -> FileNotFoundError:
        return FileNotFoundError(f"{query}: no such file, nor a photo in {self.store.shown}")

    def search(
        self,
        query: str | os.PathLike[str] | U8,
        limit: int = 10,
        metric: Metric | None = None,
        *,
        scope: Scope = EVERYTHING,
        effort: int | None = None,
        exact: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Answer:
        """The `limit` photos nearest to `query`, ranked by their exact quadratic-form distances as `Index.search` does.

        `query` is a picture file, a photo of the store by its path, which need not exist any more, or a descriptor,
        (width,) uint8. A `metric` other than the store's is refused. `effort` is how many photos of a graph, or cells,
        the engine looks at. What an engine does not look at it cannot find: `exact` has it compare with all, and goes
        on until the hits are proven. Raises StoreError, also if they cannot be proven although asked, and what
        `Index.search` raises.
        """
        if scope.distinct is not None:
            raise StoreError("photos of a store are not put together; leave distinct out")
        if metric is not None and metric != self.header.metric:
            raise StoreError(
                f"{self.store.shown}: is of the metric {self.header.metric}, not {metric}; push the index with that "
                f"metric to another name, such as {self.store.shown.partition('#')[0]}#another"
            )
        if limit < 1:
            raise ValueError(f"limit is a number above 0, not {limit}")
        asked = self._asked(query, limits)
        wanted = scope.offset + limit + (0 if scope.itself or asked.own is None else 1)
        if wanted > self.store.most:
            raise StoreError(f"{self.store.shown}: tells {self.store.most:,} photos at most; ask for fewer")
        where = Where(tuple(map(absolute, scope.below)), tuple(map(absolute, scope.excluded)), scope.since, scope.until)
        vector = asked.point.vector.astype(np.float32)
        ask = min(max(_MORE * wanted, wanted + _FEWEST), self.store.most)
        while True:
            seen = self.store.search(vector, ask, where, effort, exact)
            if seen.is_scan:
                self._renew_header()
            ranked = self._ranked(asked, seen)
            bound = self._bound(asked.point, seen, ask)
            last = ranked[wanted - 1].distance if len(ranked) >= wanted else math.inf
            # Where all were told, nothing is missed, however few they are.
            is_proven = bound == math.inf or bound > min(last, scope.within)
            if is_proven or not exact:
                break
            if ask >= self.store.most:
                raise StoreError(
                    f"{self.store.shown}: not proven exact by the {ask:,} photos that it tells at most; more of them "
                    "are as near as the last hit"
                )
            ask = min(_FURTHER * ask, self.store.most)
        return Answer(self._hits(ranked, scope, limit, asked), is_proven, bound, len(ranked), self.header.photos)

    def _asked(self, query: str | os.PathLike[str] | U8, limits: Limits) -> _Asked:
        space = self.header.space
        if not isinstance(query, (str, os.PathLike)):
            codes = np.asarray(query)
            if codes.dtype != np.uint8 or codes.shape != (self.header.width,):
                raise ValueError(f"a descriptor is {self.header.width} bytes, uint8, not {codes.dtype} {codes.shape}")
            return _Asked(space.point(codes), None, None)
        path = absolute(query)
        stored = self.store.fetch(key_of(path))
        try:
            status = os.stat(path)
        except OSError as error:
            if stored is None and not isinstance(error, FileNotFoundError):
                # There, but not to be read.
                raise
            if stored is None:
                raise self._unknown(os.fspath(query)) from None
            return _Asked(space.point(self._checked(stored)), path, path)
        own = path if stored is not None else None
        if stored is not None and (stored.size, stored.mtime) == (status.st_size, status.st_mtime_ns):
            return _Asked(space.point(self._checked(stored)), own, path)
        codes = describe_file(os.fspath(query), self.header.palette, self.header.descriptor, limits)
        return _Asked(space.point(codes), own, None)

    def _checked(self, stored: Stored) -> U8:
        if stored.codes.shape != (self.header.width,):
            raise StoreError(f"{self.store.shown}: the descriptor of {stored.path} has not {self.header.width} bytes")
        return stored.codes

    def _ranked(self, asked: _Asked, seen: Seen) -> list[_Ranked]:
        """Photos by the plain form, ordered as `cbir.ranking` does."""
        if not seen.photos:
            return []
        space = self.header.space
        codes = np.stack([self._checked(photo) for photo in seen.photos])
        # By parts, each photo as if it were alone, so that many take little memory.
        parts = (codes[start : start + _PART] for start in range(0, len(codes), _PART))
        distances = np.concatenate(
            [space.prepared_distances(space.prepare(part), asked.point.prepared) for part in parts]
        )
        self._check_vectors(asked.point, seen.distances, distances)

        def key(one: _Ranked) -> tuple[float, bool, bytes]:
            return one.distance, one.photo.path != asked.itself, os.fsencode(one.photo.path)

        return sorted(map(_Ranked, distances.tolist(), seen.photos), key=key)

    def _renew_header(self) -> None:
        """Take in what a push has written since: its photos may be in more doubt. Raises StoreError."""
        data = self.store.header()
        if data != self._data and data is not None:
            header = Header.of_bytes(data, self.store.shown)
            self.header.check_same(header, self.store.shown)
            self.header, self._data = header, data

    def _check_vectors(self, point: Point, told: F64, plain: F64) -> None:
        """Raise StoreError unless the engine's distances are those of the metric, but for rounding.

        A vector is made by an eigendecomposition, whose signs another machine's LAPACK may choose otherwise.
        """
        space = self.header.space
        squares, error, doubt = told * told, square_error(space), self._doubt(point, space)
        above = np.sqrt(squares + error) + doubt
        below = np.sqrt(np.maximum(squares - error, 0.0)) - doubt
        if ((plain > above) | (plain < below)).any():
            raise StoreError(
                f"{self.store.shown}: its vectors are not those that this machine computes; push the index from here, "
                f"to another name, such as {self.store.shown.partition('#')[0]}#another"
            )

    def _bound(self, point: Point, seen: Seen, ask: int) -> float:
        """How near a photo may be, by the plain form, that the engine has not told."""
        if not seen.is_scan:
            return 0.0
        if len(seen.photos) < ask:
            return math.inf
        space = self.header.space
        last = float(seen.distances[-1])
        return max(0.0, math.sqrt(max(0.0, last * last - square_error(space))) - self._doubt(point, space))

    def _doubt(self, point: Point, space: Space) -> float:
        """How far the distance of a query's and any photo's vectors in a store can be from the plain form's."""
        return 2 * (self.header.doubt + point.doubt + 2 * _U * space.longest)

    def _hits(self, ranked: Sequence[_Ranked], scope: Scope, limit: int, asked: _Asked) -> list[Hit]:
        told = [one for one in ranked if one.distance <= scope.within]
        if not scope.itself:
            told = [one for one in told if one.photo.path != asked.own]
        told = told[scope.offset : scope.offset + limit]
        whole = self.header.descriptor.whole
        return [
            Hit(rank, one.photo.path, one.distance, whole(one.photo.codes))
            for rank, one in enumerate(told, start=scope.offset + 1)
        ]


class _Asked(NamedTuple):
    """Where a query is, the path by which it is in the store, if it is, and the same if it has not changed."""

    point: Point
    own: str | None
    itself: str | None


class _Ranked(NamedTuple):
    distance: float
    photo: Stored


def square_error(space: Space) -> float:
    """How far off an engine may compute the square of a distance between vectors in single precision.

    A sum of m products is off by at most (m + 2) u times the sum of their sizes (Higham 2002, section 3.1), in
    whatever order they are added; |x|^2 + |y|^2 - 2 x.y, as some engines compute it, has sizes of (|x| + |y|)^2 in all.
    """
    return (space.dimensions + 8) * _U * (2 * space.longest) ** 2
