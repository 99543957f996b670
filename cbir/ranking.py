"""Ranking the photos of an index for a query: what a search finds, in the order and as far as it is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import numpy as np

from cbir.asked import Asked
from cbir.color import F64, U8
from cbir.compound import Compound
from cbir.metric import Metric
from cbir.parallel import cores
from cbir.photos import Photos
from cbir.quadratic import one_thread
from cbir.rerank import POOL, second_pass
from cbir.scope import EVERYTHING, Scope
from cbir.search import Collection, Found, Mask, Stage, nearest_rows, nearest_rows_of_many, plain_nearest_rows
from cbir.space import Space


@dataclass(frozen=True, eq=False)
class Hit:
    """One found photo: its rank from 1, its absolute path, its distance, and its histogram, (k,) float64 shares.

    `alike` are the paths of the photos that it stands for, if a search puts such together that are nearly the same.
    `asked` are its shares of the colours that were asked for, if any were: those of the colours, of the accents, and of
    the colours that were not to be there, in the order in which `Query` has them.
    """

    rank: int
    path: str
    distance: float
    amounts: F64
    alike: tuple[str, ...] = ()
    asked: tuple[float, ...] = ()


class Verified(NamedTuple):
    """How many hits are as the plain form finds them, of how many that it finds."""

    same: int
    of: int


class Question(NamedTuple):
    """A query: its descriptor, by which metric it is compared, which photo of the index it is, if it is one that has
    not changed, and which photos have the paths of its pictures.

    A query of more than one picture is a `compound`, and has no descriptor if it has no picture. `asked` are its
    colours.
    """

    codes: U8
    metric: Metric
    itself: int | None = None
    own: tuple[int, ...] = ()
    compound: Compound | None = None
    asked: tuple[Asked, ...] = ()


class Told(NamedTuple):
    """A row with its distance, and the rows that it stands for."""

    row: int
    distance: float
    others: tuple[int, ...] = ()


# Finds the rows at most as far as that of some rank from 1, nearest first.
_Find = Callable[[int], Found]
# Makes a ranking of so many photos, or of all that there are.
_Rank = Callable[[int], list[Told]]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranks the photos of an index, as a scope asks for, by the metric that `space` and `collection` are of.

    `allowed` (n,) bool tells which rows may be found, all unless given: of the scope's places it knows nothing else.
    """

    photos: Photos
    space: Space
    collection: Collection
    scope: Scope = EVERYTHING
    allowed: Mask | None = None

    def told(
        self, question: Question, limit: int, *, rerank: bool = False, stages: list[Stage] | None = None
    ) -> list[Told]:
        """The `limit` photos that are told for a question, after those that the scope leaves out.

        Nearest first, or if asked to `rerank`, by how they hang together. Raises ValueError for a limit below 1.
        """
        search = partial(nearest_rows, self.space, self.collection, question.codes)
        if question.compound is not None:
            search = partial(question.compound.find, self.space, self.collection)
        find = partial(search, within=self.scope.within, allowed=self.allowed, stages=stages)
        return self._told(limit, partial(self._ranked_again if rerank else self._nearest, question, find))

    def told_of_many(self, questions: Sequence[Question], limit: int, jobs: int) -> list[list[Told]]:
        """The same of many questions, on `jobs` threads; nothing is put together, whatever the scope says of it."""
        last = last_rank(limit, self.scope, len(self.photos))
        found = nearest_rows_of_many(
            self.space,
            self.collection,
            np.array([one.codes for one in questions]),
            max((self._needed(last, one) for one in questions), default=last),
            within=self.scope.within,
            allowed=self.allowed,
            jobs=jobs,
        )
        ranked = [self._in_order(one, rows) for one, rows in zip(questions, found, strict=True)]
        return [one[self.scope.offset : last] for one in ranked]

    def told_plainly(
        self, question: Question, limit: int, progress: Callable[[int], object] | None = None
    ) -> list[Told]:
        """What `told` has to equal, by comparing with every photo; `progress` is told how many are done."""

        # Photos that are put together are looked at further and further down the ranking, but compared once.
        @cache
        def everything() -> Found:
            search = partial(plain_nearest_rows, self.space, self.collection.descriptors, question.codes)
            if question.compound is not None:
                search = partial(question.compound.find_plainly, self.space, self.collection)
            return search(len(self.photos), within=self.scope.within, allowed=self.allowed, progress=progress)

        return self._told(limit, partial(self._nearest, question, lambda rank: _up_to(everything(), rank)))

    def _told(self, limit: int, rank: _Rank) -> list[Told]:
        last, first = last_rank(limit, self.scope, len(self.photos)), self.scope.offset
        if first >= last:
            return []
        if self.scope.distinct is None:
            return rank(last)[first:]
        return self._distinct(rank, last, self.scope.distinct)[first:]

    def _nearest(self, question: Question, find: _Find, limit: int) -> list[Told]:
        return self._in_order(question, find(self._needed(limit, question)))[:limit]

    def _needed(self, limit: int, question: Question) -> int:
        """How many have to be found, for the query's own photos may be among them."""
        return limit + (0 if self.scope.itself else len(question.own))

    def _in_order(self, question: Question, found: Found) -> list[Told]:
        """Nearest first; those at one distance by path, but the query itself before its copies, or not at all."""

        def key(one: Told) -> tuple[float, bool, bytes]:
            return one.distance, one.row != question.itself, os.fsencode(self.photos.path(one.row))

        ranked = sorted(map(Told, found.rows.tolist(), found.distances.tolist()), key=key)
        return ranked if self.scope.itself else [one for one in ranked if one.row not in question.own]

    def _ranked_again(self, question: Question, find: _Find, limit: int) -> list[Told]:
        if question.compound is not None and question.compound.costs is not None:
            raise ValueError("the second pass goes by likeness to pictures alone")
        # The query itself is no hit of the second pass's.
        first = self._nearest(question, find, max(limit, POOL + (question.itself is not None)))
        own = [one for one in first if one.row == question.itself]
        others = [one for one in first if one.row != question.itself]
        return [*own, *self._second_pass(question, others)][:limit]

    def _second_pass(self, question: Question, ranked: list[Told]) -> list[Told]:
        pool = ranked[:POOL]
        if not pool:
            return ranked
        with one_thread():
            vectors = self.space.embed(np.stack([self.photos.codes(one.row) for one in pool]))
            order = second_pass(_vector(self.space, question), vectors)
        return [*(pool[i] for i in order), *ranked[POOL:]]

    def _distinct(self, rank: _Rank, most: int, reach: float) -> list[Told]:
        """The first `most` groups of a ranking, of which as much is made as they need."""
        looked_at = 2 * most
        while True:
            ranked = rank(looked_at)
            groups, is_whole = self._grouped(ranked, most, reach)
            if is_whole or len(ranked) < looked_at:
                return groups
            looked_at *= 4

    def _grouped(self, ranked: list[Told], most: int, reach: float) -> tuple[list[Told], bool]:
        """The first `most` groups of a ranking: what is within `reach` of the first of an earlier group joins it.

        Whether the ranking goes on to the first of a further group is told too: up to there the groups are whole.
        """
        if not ranked:
            return [], False
        firsts: list[Told] = []
        others: list[list[int]] = []
        is_whole = False
        prepared = np.empty((min(most, len(ranked)), *self.space.prepare(self.photos.codes(ranked[0].row)).shape))
        for one in ranked:
            own = self.space.prepare(self.photos.codes(one.row)[None])[0]
            near = np.flatnonzero(self.space.prepared_distances(prepared[: len(firsts)], own) <= reach)
            if len(near):
                others[near[0]].append(one.row)
            elif len(firsts) == most:
                is_whole = True
                break
            else:
                prepared[len(firsts)] = own
                firsts.append(one)
                others.append([])
        told = [Told(one.row, one.distance, tuple(rows)) for one, rows in zip(firsts, others, strict=True)]
        return told, is_whole


def _vector(space: Space, question: Question) -> F64:
    if question.compound is None or question.compound.aim is None:
        return space.embed(question.codes)
    return question.compound.aim.point.vector


def told_for_all(
    questions: Sequence[Question], rankings: Mapping[Metric, Ranking], limit: int, rerank: bool, jobs: int | None
) -> list[list[Told]]:
    """What is told for each question by the ranking of its metric: by one search for all, or where that cannot
    be, by a search for each; on `jobs` threads, one per core by default."""
    if len(rankings) == 1 and not rerank and all(one.compound is None for one in questions):
        (ranking,) = rankings.values()
        if ranking.scope.distinct is None:
            return ranking.told_of_many(questions, limit, jobs or cores())
    with one_thread(), ThreadPoolExecutor(jobs or cores()) as pool:
        return list(pool.map(lambda one: rankings[one.metric].told(one, limit, rerank=rerank), questions))


def last_rank(limit: int, scope: Scope, photos: int) -> int:
    """Up to which rank photos are told, of so many. Raises ValueError for a limit below 1."""
    if limit < 1:
        raise ValueError(f"limit is a number above 0, not {limit}")
    return min(scope.offset + limit, max(photos, 1))


def as_found(told: Sequence[Told]) -> Found:
    """The rows and distances alone."""
    return Found(np.array([one.row for one in told], np.intp), np.array([one.distance for one in told], np.float64))


def compared(hits: Sequence[Hit], wanted: Sequence[Hit]) -> Verified:
    """How many hits are those that are wanted, at their ranks; if there are more or fewer, never all."""
    pairs = zip(hits, wanted, strict=False)
    same = sum((hit.path, hit.distance, hit.alike) == (one.path, one.distance, one.alike) for hit, one in pairs)
    if len(hits) == len(wanted):
        return Verified(same, len(wanted))
    return Verified(min(same, len(wanted) - 1), len(wanted)) if wanted else Verified(0, len(hits))


def _up_to(found: Found, rank: int) -> Found:
    """Those at most as far as that of a rank from 1."""
    if rank >= len(found.rows):
        return found
    end = np.searchsorted(found.distances, found.distances[rank - 1], side="right")
    return Found(found.rows[:end], found.distances[:end])
