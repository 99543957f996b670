"""Searching a store: its engine proposes photos, the plain form decides, and whether that is proven is told."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cbir.asked import share_of
from cbir.color import F64, U8
from cbir.errors import PictureError
from cbir.feedback import Aim
from cbir.find import Skipped, absolute
from cbir.metric import Metric
from cbir.palette import Palette
from cbir.parallel import cores
from cbir.quadratic import one_thread
from cbir.ranking import Hit
from cbir.rerank import POOL, second_pass
from cbir.scope import EVERYTHING, Scope
from cbir.space import Point, Space
from cbir.store import Seen, Store, Stored, StoreError, Where, key_of, open_store
from cbir.store_header import Header
from cbir.stored_asking import Asking, FetchedPhotos, Place, StoreAsker

if TYPE_CHECKING:
    from cbir.explain import Explanation

# Photos that are asked for beyond those that are wanted: engines round, and the plain form may order otherwise.
_MORE, _FEWEST = 2, 16
# Photos that are compared by the plain form at a time.
_PART = 2048
# How much further to look each time that what was seen proves nothing.
_FURTHER = 4
# What feedback makes of a distance is rounded by no more than this part of it, and so many times the query's doubt.
_WIDER, _DOUBTS = 1 + 1e-9, 8
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
        self._asker().row(query)

    def search(
        self,
        query: Asking,
        limit: int = 10,
        metric: Metric | None = None,
        *,
        scope: Scope = EVERYTHING,
        rerank: bool = False,
        effort: int | None = None,
        exact: bool = False,
    ) -> Answer:
        """The `limit` photos nearest to `query`, ranked by their exact quadratic-form distances as `Index.search` does.

        `query` is a picture file, a photo of the store by its path, which need not exist any more, a descriptor,
        (width,) uint8, or a `Query` of pictures liked and unliked, or, where the metric is of whole photos, of colours
        that make a whole picture. A `metric` other than the store's is refused. `rerank`
        orders the first 1,000 anew, as `Index.search` does. `effort` is how many photos of a graph,
        or cells, the engine looks at. What an engine does not look at it cannot find: `exact` has it compare with all,
        and goes on until the hits are proven. Raises StoreError, also if they cannot be proven although asked, and what
        `Index.search` raises.
        """
        self._check(limit, metric, scope)
        return self._answer(self._asker().place(query), limit, scope, rerank, effort, exact)

    def search_many(
        self,
        queries: Sequence[Asking],
        limit: int = 10,
        metric: Metric | None = None,
        *,
        scope: Scope = EVERYTHING,
        rerank: bool = False,
        effort: int | None = None,
        exact: bool = False,
        jobs: int | None = None,
        skipped: list[Skipped] | None = None,
    ) -> Iterator[Answer | None]:
        """The answers of many queries, as `search` finds them.

        All are described at once, on `jobs` threads, one per core by default; each is searched as its answer is taken.
        A query file that cannot be read raises, or is told to `skipped`, if that is given, and has no answer.
        """
        self._check(limit, metric, scope)
        asker = self._asker()
        with one_thread(), ThreadPoolExecutor(jobs or cores()) as pool:
            places = list(pool.map(lambda query: _place_or_error(asker, query), queries))
        for one in places:
            if isinstance(one, PictureError):
                if skipped is None:
                    raise one
                skipped.append(Skipped(one.path, one.reason))
        return (
            None if isinstance(one, PictureError) else self._answer(one, limit, scope, rerank, effort, exact)
            for one in places
        )

    def explain(
        self,
        query: Asking,
        paths: Sequence[str],
        metric: Metric | None = None,
        *,
        most: int = 12,
    ) -> list[Explanation]:
        """Why each of some photos of the store, by absolute path, is as far from the query as a search says.

        Of each the `most` pairs of colours that add most are told, as by `Index.explain`. Raises as `search` does, and
        FileNotFoundError for a path that is no photo of the store.
        """
        self._check(1, metric, EVERYTHING)
        return self._asker().explain(query, paths, most)

    def _check(self, limit: int, metric: Metric | None, scope: Scope) -> None:
        if scope.distinct is not None:
            raise StoreError("photos of a store are not put together; leave distinct out")
        if metric is not None:
            self._asker().check_metric(metric)
        if limit < 1:
            raise ValueError(f"limit is a number above 0, not {limit}")

    def _asker(self) -> StoreAsker:
        return StoreAsker(self.header, self.store.shown, FetchedPhotos(self._fetched))

    def _fetched(self, path: str) -> Stored | None:
        stored = self.store.fetch(key_of(path))
        if stored is not None:
            self._checked(stored)
        return stored

    def _answer(self, place: Place, limit: int, scope: Scope, rerank: bool, effort: int | None, exact: bool) -> Answer:
        needed = scope.offset + limit
        if rerank:
            # The query itself is no hit of the second pass's.
            needed = max(needed, POOL + (place.itself is not None))
        wanted = needed + (0 if scope.itself else len(place.own))
        if wanted > self.store.most:
            raise StoreError(f"{self.store.shown}: tells {self.store.most:,} photos at most; ask for fewer")
        where = Where(tuple(map(absolute, scope.below)), tuple(map(absolute, scope.excluded)), scope.since, scope.until)
        vector = place.aim.point.vector.astype(np.float32)
        ask = min(max(_MORE * wanted, wanted + _FEWEST), self.store.most)
        while True:
            seen = self.store.search(vector, ask, where, effort, exact)
            if seen.is_scan:
                self._renew_header()
            ranked = self._ranked(place, seen)
            bound = self._bound(place.aim, seen, ask)
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
        told = [
            one for one in ranked if one.distance <= scope.within and (scope.itself or one.photo.path not in place.own)
        ]
        told = told[:needed]
        if rerank:
            told = self._ranked_again(told, place)
        hits = self._hits(told[scope.offset : scope.offset + limit], scope.offset + 1, place)
        return Answer(hits, is_proven, bound, len(ranked), self.header.photos)

    def _checked(self, stored: Stored) -> U8:
        if stored.codes.shape != (self.header.width,):
            raise StoreError(f"{self.store.shown}: the descriptor of {stored.path} has not {self.header.width} bytes")
        return stored.codes

    def _ranked(self, place: Place, seen: Seen) -> list[_Ranked]:
        """Photos by the plain form, ordered as `cbir.ranking` does."""
        if not seen.photos:
            return []
        space = self.header.space
        codes = np.stack([self._checked(photo) for photo in seen.photos])
        # By parts, each photo as if it were alone, so that many take little memory.
        parts = (codes[start : start + _PART] for start in range(0, len(codes), _PART))
        both = [_distances(place.aim, space, part) for part in parts]
        self._check_vectors(place.aim.point, seen.distances, np.concatenate([plain for plain, _ in both]))
        distances = np.concatenate([told for _, told in both])

        def key(one: _Ranked) -> tuple[float, bool, bytes]:
            return one.distance, one.photo.path != place.itself, os.fsencode(one.photo.path)

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
        squares, error, doubt = told * told, square_error(space, point), self._doubt(point, space)
        above = np.sqrt(squares + error) + doubt
        below = np.sqrt(np.maximum(squares - error, 0.0)) - doubt
        if ((plain > above) | (plain < below)).any():
            raise StoreError(
                f"{self.store.shown}: its vectors are not those that this machine computes; push the index from here, "
                f"to another name, such as {self.store.shown.partition('#')[0]}#another"
            )

    def _bound(self, aim: Aim, seen: Seen, ask: int) -> float:
        """How near a photo may be that the engine has not told."""
        if not seen.is_scan:
            return 0.0
        if len(seen.photos) < ask:
            return math.inf
        space = self.header.space
        last = float(seen.distances[-1])
        plain = max(
            0.0, math.sqrt(max(0.0, last * last - square_error(space, aim.point))) - self._doubt(aim.point, space)
        )
        return _least(aim, plain)

    def _doubt(self, point: Point, space: Space) -> float:
        """How far the distance of a query's and any photo's vectors in a store can be from the plain form's."""
        return 2 * (self.header.doubt + point.doubt + _U * _lengths(space, point))

    def _ranked_again(self, ranked: list[_Ranked], place: Place) -> list[_Ranked]:
        """Photos by how they hang together, as `cbir.ranking` orders them anew."""
        own = [one for one in ranked if one.photo.path == place.itself]
        others = [one for one in ranked if one.photo.path != place.itself]
        pool = others[:POOL]
        if not pool:
            return ranked
        with one_thread():
            vectors = self.header.space.embed(np.stack([one.photo.codes for one in pool]))
            order = second_pass(place.aim.point.vector, vectors)
        return [*own, *(pool[i] for i in order), *others[POOL:]]

    def _hits(self, ranked: Sequence[_Ranked], first: int, place: Place) -> list[Hit]:
        hits = []
        for rank, one in enumerate(ranked, start=first):
            amounts = self.header.descriptor.whole(one.photo.codes)
            shares = (float(share_of(amounts[None], self.header.lab, color)[0]) for color in place.colors)
            hits.append(Hit(rank, one.photo.path, one.distance, amounts, asked=tuple(shares)))
        return hits


class _Ranked(NamedTuple):
    distance: float
    photo: Stored


def _place_or_error(asker: StoreAsker, query: Asking) -> Place | PictureError:
    try:
        return asker.place(query)
    except PictureError as error:
        return error


def _distances(aim: Aim, space: Space, codes: U8) -> tuple[F64, F64]:
    """How far photos are from an aim's point by the plain form, and how far by the aim, (n,) each."""
    prepared = space.prepare(codes)
    plain = space.prepared_distances(prepared, aim.point.prepared)
    return plain, np.sqrt(aim.squares(prepared, plain)) if len(aim.factors) else plain


def _least(aim: Aim, plain: float) -> float:
    """How near by an aim a photo can be that is so far from its point by the plain form, or further."""
    if not len(aim.factors):
        return plain
    return max(0.0, aim.shrinks * plain / _WIDER - _DOUBTS * aim.point.doubt)


def square_error(space: Space, point: Point) -> float:
    """How far off an engine may compute the square of a point's distance from a photo in single precision.

    A sum of m products is off by at most (m + 2) u times the sum of their sizes (Higham 2002, section 3.1), in
    whatever order they are added; |x|^2 + |y|^2 - 2 x.y, as some engines compute it, has sizes of (|x| + |y|)^2 in all.
    """
    return (space.dimensions + 8) * _U * _lengths(space, point) ** 2


def _lengths(space: Space, point: Point) -> float:
    """How long the vectors of a point and of any photo can be together: what is unliked may push a point far out."""
    return space.longest + max(space.longest, float(np.linalg.norm(point.vector)))
