"""From a query to what is searched: its pictures described, its colours counted in every photo."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from cbir.asked import StandsOut, Unmet, share_of
from cbir.color import F64, U8, bytes_of_lab
from cbir.compound import Compound
from cbir.decode import read_picture, read_working_picture
from cbir.describe import describe_picture
from cbir.descriptor import Descriptor
from cbir.errors import PictureError
from cbir.explain import Explanation, Pair, explain, largest_first
from cbir.feedback import Aim, aim, aim_at
from cbir.find import absolute
from cbir.metric import Metric
from cbir.painting import Painting
from cbir.palette import Palette
from cbir.part import region_of, without_background
from cbir.pixels import Picture, working_picture
from cbir.quadratic import one_thread
from cbir.query import TOLERANCE, Like, Query, QueryError
from cbir.ranking import Question
from cbir.search import Mask, Stage
from cbir.space import Point, Space
from cbir.tone import has_tone

# Photos whose shares are looked at together.
_BLOCK = 512
# What is missing of a share by less is rounding.
_ROUNDING = 1e-12


class Block(NamedTuple):
    """Some photos: their descriptors, (n, blocks * k) uint8, and the shares that these tell, (n, blocks, k) float64, of
    all areas or of the first only; and their whole histograms, (n, k)."""

    codes: U8
    shares: F64
    whole: F64


class Part(NamedTuple):
    """A part of a question that is not likeness by axes: its weight, and the cost of each of some photos.

    `pairs` tell what the cost of a photo, alone in its block, is made of, if it can be told by pairs of colours.
    """

    name: str
    weight: float
    costs: Callable[[Block], F64]
    pairs: Callable[[Block], tuple[Pair, ...]] | None = None


@dataclass(frozen=True, eq=False)
class _Plan:
    """A query on its way: the space of its likeness, the pictures that are liked, described, and all its parts."""

    space: Space
    metric: Metric
    likes: list[tuple[U8, int | None]]
    aim: Aim | None
    weight: float
    parts: list[Part]

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return (self.weight + sum(part.weight for part in self.parts)) or 1.0


class NamedPhotos(Protocol):
    """What is known, by their rows, of the photos that are searched; see `cbir.photos.Photos`."""

    def __len__(self) -> int: ...

    def path(self, row: int) -> str:
        """The absolute path of a photo."""

    def row_of(self, path: str) -> int | None:
        """The row of the photo of an absolute path."""

    def codes_between(self, start: int, stop: int) -> U8:
        """The descriptors of the photos from one row to before another."""


@dataclass(frozen=True, eq=False)
class Asker:
    """Makes questions of queries, for the photos of an index, or for those of a store that are named.

    `described` gives the descriptor of a picture by its path or name, and its row if it is a photo of the index.
    """

    palette: Palette
    descriptor: Descriptor
    photos: NamedPhotos
    space: Callable[[Metric], Space]
    described: Callable[[str], tuple[U8, int | None]]
    mean: Callable[[], F64]

    def question(self, query: Query, metric: Metric, stages: list[Stage] | None = None) -> Question:
        """What is searched for a query; what was done for that is told to `stages`.

        Raises QueryError, PictureError, FileNotFoundError, MetricError.
        """
        plan = self._planned(query, metric)
        start = time.perf_counter()
        with one_thread():
            costs, allowed = self._looked_through(query, plan.parts)
        if stages is not None and (plan.parts or allowed is not None):
            left = len(self.photos) if allowed is None else int(np.count_nonzero(allowed))
            stages.append(Stage("looked through", len(self.photos), left, time.perf_counter() - start))
        own_costs = costs if plan.aim is None or plan.parts else None
        rows = tuple(row for _, row in plan.likes if row is not None)
        # By its path it is the query's own, also if it has changed, or a part of it is asked for.
        own = {*rows, *(row for row in map(self._row_of, query.liked) if row is not None)}
        is_one = len(query.like) == 1 and not plan.parts and not query.unlike
        return Question(
            codes=plan.likes[0][0] if plan.likes else np.empty(0, np.uint8),
            metric=plan.metric,
            itself=rows[0] if is_one and rows else None,
            own=tuple(sorted(own)),
            compound=Compound(plan.aim, plan.weight, own_costs, plan.total, allowed),
            asked=(*query.asked, *query.accent_colors, *query.unwanted),
        )

    def _row_of(self, like: Like) -> int | None:
        row = self.photos.row_of(absolute(like.picture))
        return row if row is not None or os.path.exists(like.picture) else self.described(like.picture)[1]

    def explain(self, query: Query, metric: Metric, rows: Sequence[int], most: int) -> list[Explanation]:
        """Why each of some photos is as far from a query as a search says: see `Explanation`.

        The parts of a question add by their squares. Likeness is told by pairs of colours, and so are colours that
        leave something free, and the painting; accents, and what feedback changes in the form, are told as a whole.
        """
        plan = self._planned(query, metric)
        areas = None if query.paint is not None else 1
        return [self._explained(query, plan, self._block(slice(row, row + 1), areas), most) for row in rows]

    def _planned(self, query: Query, metric: Metric) -> _Plan:
        if query.is_whole_picture and not query.like:
            metric = metric.of_whole()
        space = self.space(metric)
        with one_thread():
            likes = [self._described(one, query) for one in query.liked]
            unlikes = [self.described(one.picture) for one in query.unliked]
            _refuse_both(query, likes, unlikes)
            target = self._aim(query, space, likes, unlikes)
            parts = list(self._parts(query, metric))
        weight = query.weight("like" if query.like else "color") if target else 0.0
        return _Plan(space, metric, likes, target, weight, parts)

    def _explained(self, query: Query, plan: _Plan, block: Block, most: int) -> Explanation:
        squares: list[tuple[str, float, tuple[Pair, ...]]] = []
        if plan.aim is not None:
            squares += self._likeness(query, plan, plan.aim, block)
        squares += [
            (part.name, part.weight * float(part.costs(block)[0]) ** 2, part.pairs(block) if part.pairs else ())
            for part in plan.parts
        ]
        distance = math.sqrt(sum(square for _, square, _ in squares) / plan.total)
        pairs: list[Pair] = []
        parts: list[tuple[str, float]] = []
        for name, square, own in squares:
            # What the part adds to the distance: its part of the square, over the distance.
            added = square / plan.total / distance if distance else 0.0
            scale = sum(pair.added for pair in own)
            if own and (scale or not added):
                pairs += [pair._replace(added=pair.added * added / (scale or 1.0)) for pair in own]
            else:
                parts.append((name, added))
        told = largest_first(pairs)[:most]
        rest = distance - sum(pair.added for pair in told) - sum(added for _, added in parts)
        return Explanation(distance, told, rest, tuple(parts))

    def _likeness(
        self, query: Query, plan: _Plan, target: Aim, block: Block
    ) -> list[tuple[str, float, tuple[Pair, ...]]]:
        """The weighted squares of likeness: of the form itself, by pairs, and of what feedback changes in it."""
        prepared = plan.space.prepare(block.codes)
        distances = plan.space.prepared_distances(prepared, target.point.prepared)
        amounts = self._amounts(query, plan)
        own = explain(plan.space, self.palette.lab, target.point.prepared, amounts, block.codes[0], len(amounts) ** 2)
        square = plan.weight * float(distances[0]) ** 2
        told = [("pictures", square, own.pairs)]
        if len(target.factors):
            told.append(("feedback", plan.weight * float(target.squares(prepared, distances)[0]) - square, ()))
        return told

    def _amounts(self, query: Query, plan: _Plan) -> F64:
        """The colours that a query's likeness is about: the mean of the liked pictures, or what would be painted."""
        if not plan.likes:
            return self._painted_amounts(query)
        weights = np.array([one.weight for one in query.liked])
        whole = np.array([self.descriptor.whole(codes) for codes, _ in plan.likes])
        return np.asarray(weights @ whole / weights.sum())

    def _described(self, one: Like, query: Query) -> tuple[U8, int | None]:
        if query.region is None and not query.ignore_background:
            return self.described(one.picture)
        path = one.picture
        if not os.path.exists(path):
            _, row = self.described(path)
            path = path if row is None else self.photos.path(row)
        picture = read_picture(path)
        try:
            if query.region is not None:
                picture = region_of(picture, *query.region)
            picture = working_picture(picture)
            if query.ignore_background:
                picture = without_background(picture) or picture
            return describe_picture(picture, self.palette, self.descriptor), None
        except ValueError as error:
            raise PictureError(path, str(error)) from error

    def _aim(
        self,
        query: Query,
        space: Space,
        likes: Sequence[tuple[U8, int | None]],
        unlikes: Sequence[tuple[U8, int | None]],
    ) -> Aim | None:
        if likes:
            return aim(space, _weighed(space, likes, query.liked), _weighed(space, unlikes, query.unliked))
        return aim_at(self._painted_point(query, space)) if query.is_whole_picture else None

    def _painted_point(self, query: Query, space: Space) -> Point:
        return space.point(self.descriptor.of_whole(self._painted_amounts(query)))

    def _painted_amounts(self, query: Query) -> F64:
        """The histogram of a picture painted in the colours asked for."""
        labels = self.palette.labels(bytes_of_lab([one.lab for one in query.asked]))
        shares = [one.share for one in query.asked]
        return np.bincount(labels, shares, minlength=len(self.palette)).astype(np.float64)

    def _parts(self, query: Query, metric: Metric) -> Iterator[Part]:
        lab = self.palette.lab
        if query.is_whole_picture and query.like:
            yield self._whole_picture(query, self.space(metric.of_whole()))
        elif query.colors and not query.is_whole_picture:
            unmet = Unmet(lab, query.asked)
            yield Part(
                "colours",
                query.weight("color"),
                lambda block: unmet.of(block.whole),
                lambda block: tuple(_unmet_pairs(unmet, self.palette, block.whole[0])),
            )
        for name, one in zip(query.accent_names, query.accent_colors, strict=True):
            mean = self.mean() if len(self.photos) else np.zeros(len(lab))
            stands_out = StandsOut(lab, one, mean)
            costs = partial(_does_not_stand_out, stands_out)
            yield Part(f"accent {name}", query.weight("accent"), costs)
        if query.paint is not None:
            painting = self._painting(query.paint)
            yield Part(
                "painting",
                query.weight("paint"),
                lambda block: painting.of(block.shares),
                lambda block: _painting_pairs(painting, self.palette, block.shares),
            )

    def _whole_picture(self, query: Query, space: Space) -> Part:
        """Colours that make a whole picture, beside pictures that are liked: the distance from one painted so."""
        target, amounts = self._painted_point(query, space).prepared, self._painted_amounts(query)

        def pairs(block: Block) -> tuple[Pair, ...]:
            return explain(space, self.palette.lab, target, amounts, block.codes[0], len(amounts) ** 2).pairs

        def costs(block: Block) -> F64:
            return space.prepared_distances(space.prepare(block.codes), target)

        return Part("colours", query.weight("color"), costs, pairs)

    def _painting(self, path: str) -> Painting:
        picture: Picture = read_working_picture(path)
        try:
            return Painting(picture, self.palette, self.descriptor, TOLERANCE)
        except ValueError as error:
            raise PictureError(path, str(error)) from error

    def _looked_through(self, query: Query, parts: Sequence[Part]) -> tuple[F64, Mask | None]:
        """The weighted sum of all parts' squared costs of each photo, and which photos no filter takes out."""
        costs, allowed = np.zeros(len(self.photos)), np.ones(len(self.photos), bool)
        filters = [*self._filters(query)]
        if not parts and not filters:
            return costs, None

        def look(rows: slice) -> None:
            block = self._block(rows, 1 if query.paint is None else None)
            for part in parts:
                costs[rows] += part.weight * part.costs(block) ** 2
            for lets_pass in filters:
                allowed[rows] &= lets_pass(block.whole)

        starts = range(0, len(self.photos), _BLOCK)
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(look, (slice(start, min(start + _BLOCK, len(self.photos))) for start in starts)):
                pass
        return costs, allowed if filters else None

    def _block(self, rows: slice, areas: int | None) -> Block:
        codes = self.photos.codes_between(rows.start, rows.stop)
        shares = np.asarray(self.descriptor.shares(codes, areas=areas), np.float64)
        return Block(codes, shares, np.asarray(shares[:, : len(self.descriptor.areas[0])].sum(axis=1)))

    def _filters(self, query: Query) -> Iterator[Callable[[F64], Mask]]:
        lab = self.palette.lab
        for tone in query.tones:
            yield lambda whole, name=tone: has_tone(name, whole, lab)  # type: ignore[misc]
        for one in query.unwanted:
            yield lambda whole, it=one: share_of(whole, lab, it) <= it.share  # type: ignore[misc]


def _weighed(
    space: Space, described: Sequence[tuple[U8, int | None]], likes: Sequence[Like]
) -> list[tuple[Point, float]]:
    """Where some pictures are, with their weights; in an order that does not depend on what they are called."""
    pairs = sorted((codes.tobytes(), one.weight) for (codes, _), one in zip(described, likes, strict=True))
    return [(space.point(np.frombuffer(codes, np.uint8)), weight) for codes, weight in pairs]


def _refuse_both(
    query: Query, likes: Sequence[tuple[U8, int | None]], unlikes: Sequence[tuple[U8, int | None]]
) -> None:
    rows = {row for _, row in likes if row is not None}
    for one, (_, row) in zip(query.unliked, unlikes, strict=True):
        if row in rows:
            raise QueryError(f"{one.picture}: liked and unliked at once; choose one")


def _does_not_stand_out(stands_out: StandsOut, block: Block) -> F64:
    return 1 - stands_out.of(block.whole)


def _unmet_pairs(unmet: Unmet, palette: Palette, shares: F64) -> Iterator[Pair]:
    """What of a photo stands for each asked colour, and what is missing of it; together these are what is unmet."""
    for one, taken, weight in zip(unmet.asked, unmet.taken(shares), unmet.weights.tolist(), strict=True):
        asked = bytes_of_lab(one.lab)
        for i in np.flatnonzero(taken).tolist():
            apart = float(np.linalg.norm(palette.lab[i] - np.array(one.lab)))
            yield Pair(asked, palette.srgb[i], float(taken[i]), apart, weight * float(taken[i] * unmet.costs[i]))
        if (missing := one.share - float(taken.sum())) > _ROUNDING:
            yield Pair(asked, None, missing, 0.0, weight * missing)


def _painting_pairs(painting: Painting, palette: Palette, shares: F64) -> tuple[Pair, ...]:
    """The same of all areas of a painting; those of the same two colours are one."""
    summed: dict[tuple[bytes, bytes], Pair] = {}
    for unmet, own, weight in painting.areas(shares):
        for pair in _unmet_pairs(unmet, palette, own[0]):
            key = pair.query.tobytes(), b"" if pair.photo is None else pair.photo.tobytes()
            before = summed.get(key, pair._replace(share=0.0, added=0.0))
            summed[key] = before._replace(
                share=before.share + weight * pair.share, added=before.added + weight * pair.added
            )
    return tuple(summed.values())
