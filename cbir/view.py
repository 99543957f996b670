"""A query as seen from the axes of some photos: scores, squared distances, and how far off these may be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cbir.axes import LEAF, Axes, Coarse, Target, box_sides
from cbir.color import F32, F64

Rows = NDArray[np.intp]
# Unit roundoff of float32.
UNIT = 2.0**-24
# Photos that are compared by bytes at a time, and leaves that several queries look at together: what is in between
# stays near the processor.
_CLOSER, _LEAVES = 2048, 128
# What any photo's score is above; that of what fills up the last leaf is minus infinity.
_LOWEST = np.finfo(np.float32).min
# To call for a product takes as long as so many numbers of each photo of a leaf.
_GAP = 48
_LEAF_BITS = LEAF.bit_length() - 1


class View:
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
        self.rounding = 2 * (m + 12) * UNIT * (length + axes.reach) ** 2
        self.coarse: list[CoarseView] = []
        for stage, before, behind in zip(axes.coarse, target.rests, target.rests[1:], strict=False):
            end = m + stage.codes.shape[1]
            self.coarse.append(CoarseView(stage, target.turned[m:end], before, behind))
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


class CoarseView:
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
        self.rounding = (w + 16) * UNIT * ((longest + math.sqrt(own)) ** 2 + 4 * before**2)

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


def scan_together(axes: Axes, asked: Sequence[tuple[View, F32, float]]) -> list[tuple[Rows, Rows, F32]]:
    """What `View.scan` finds for several views of the same axes, with the leaves that were read for each."""
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
