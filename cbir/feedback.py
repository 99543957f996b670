"""Relevance feedback: what several liked and unliked photos make of a query, and of the form it is compared by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cbir.color import F64
from cbir.space import Point, Space

# How far a query moves on from unliked photos, as a part of the way from these to the liked ones (Rocchio 1971).
_AWAY = 0.25
# Along the way from unliked to liked photos squared differences count by so much more; along those directions in which
# liked photos differ from one another, so much less: less than 1, so that the form stays positive semi-definite.
_TELLING, _INDIFFERENT = 1.0, 0.5
# Directions whose squared length is below this part of the longest, or this, are rounding.
_NO_LENGTH, _NONE_AT_ALL = 1e-6, 1e-18


@dataclass(frozen=True, eq=False)
class Aim:
    """What photos are compared with, and how: `d^2 + sum factor (z (x - x_q))^2` is their squared distance.

    d is the distance from `point`; `directions` (r, histograms, k) are the z, of length one by the form; `factors` (r,)
    are above -1, and of those below 0 the directions are at right angles, so that no distance becomes less than
    `shrinks` times d.
    """

    point: Point
    directions: F64
    factors: F64

    @property
    def shrinks(self) -> float:
        """How short, at least, a distance is beside d."""
        return float(np.sqrt(1 + min(0.0, float(self.factors.min(initial=0.0)))))

    def squares(self, prepared: F64, distances: F64) -> F64:
        """The squared distances of photos, (n, histograms, k) as `Space.prepare` makes them, whose d are known, (n,).

        Each photo is computed as if it were alone, so that equal ones are equally far to the last bit.
        """
        squares = distances**2
        off = (prepared - self.point.prepared).reshape(len(prepared), -1)
        for direction, factor in zip(self.directions, self.factors, strict=True):
            squares = squares + factor * (off * direction.reshape(-1)).sum(axis=1) ** 2
        return np.asarray(np.maximum(squares, 0.0))


def aim_at(point: Point) -> Aim:
    """Compare with one photo, as a search by example does."""
    return Aim(point, np.empty((0, *point.prepared.shape)), np.empty(0))


def aim(space: Space, liked: Sequence[tuple[Point, float]], unliked: Sequence[tuple[Point, float]] = ()) -> Aim:
    """Compare with several photos, each with its weight above 0, and unlike others.

    The query is the weighted mean of the liked, moved on a quarter of the way from the mean of the unliked to there
    (Rocchio 1971). The form changes with it, by terms that keep it positive semi-definite: along that way differences
    count twice; along the directions in which the liked differ among themselves, which evidently do not matter, half
    (after Ishikawa et al. 1998, MindReader).
    """
    if len(liked) == 1 and not unliked:
        return aim_at(liked[0][0])
    middle = _mean(space, liked)
    directions = _orthonormal(space, np.array([point.prepared for point, _ in liked]) - middle.prepared)
    factors = np.full(len(directions), -_INDIFFERENT)
    if not unliked:
        return Aim(middle, directions, factors)
    other = _mean(space, unliked)
    point = space.point_between([middle, other], [1 + _AWAY, -_AWAY])
    away = _orthonormal(space, (middle.prepared - other.prepared)[None])
    return Aim(point, np.concatenate([away, directions]), np.append(np.full(len(away), _TELLING), factors))


def _mean(space: Space, points: Sequence[tuple[Point, float]]) -> Point:
    if len(points) == 1:
        return points[0][0]
    total = sum(weight for _, weight in points)
    return space.point_between([point for point, _ in points], [weight / total for _, weight in points])


def _orthonormal(space: Space, differences: F64) -> F64:
    """Directions at right angles, of length one by the form, that span some differences, (n, histograms, k).

    They are the z, (r, histograms, k), whose product with a difference is its coordinate along them.
    """
    forms = space.form_of(differences)
    flat, products = differences.reshape(len(differences), -1), forms.reshape(len(differences), -1)
    gram = flat @ products.T
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    kept = values > max(float(values[-1]) * _NO_LENGTH, _NONE_AT_ALL)
    combined = (vectors[:, kept] / np.sqrt(values[kept])).T @ products
    return np.asarray(combined.reshape(-1, *differences.shape[1:]))
