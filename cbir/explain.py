"""Why two photos are as far apart as they are: their distance taken apart into what went from colour to colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64, U8, bytes_of_lab, lab_of_bytes
from cbir.similarity import color_distances
from cbir.space import Space

# Into so many main colours each of the two is summed up: more than a table shows, for dust adds to distances as well.
_MAIN = 8
# What is closer than this in L*a*b* passes for a shade of the same, as in a picture's swatches.
_SAME_SHADE = 20.0
# So many colours that lose, and so many that gain, are moved exactly, in some 10 ms; smaller ones go with the nearest
# of these. Photos in 64 colours have fewer.
_MOVED = 48
# Shares that differ by less have been rounded apart.
_ROUNDED = 1e-12
# The solver takes whole numbers for equal that are closer than 1e-7; shares are told a thousandth of a millionth apart.
_SCALE = 1e4


class Pair(NamedTuple):
    """What went from a colour of the query's to one of the photo's, (3,) uint8 sRGB each.

    `share` 0..1 of the picture, `delta_e` between the two colours in L*a*b*, and the part of the distance that it
    `added`; less than 0, if it made the photos more alike. What is asked for and missing went to no colour.
    """

    query: U8
    photo: U8 | None
    share: float
    delta_e: float
    added: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """A distance and the pairs that add most to it, first; with the `parts` and the `rest`, they sum to the distance.

    `parts` are what parts of a question add that no pairs tell of, such as an accent, by name.
    """

    distance: float
    pairs: tuple[Pair, ...]
    rest: float
    parts: tuple[tuple[str, float], ...] = ()


class Contributions(NamedTuple):
    """All pairs of k palette colours, query by photo, (k, k) each: the `flow` of shares, and what each pair `added`."""

    flow: F64
    added: F64


def explain(
    space: Space, lab: NDArray[np.floating], prepared: F64, amounts: F64, photo: U8, most: int = 12
) -> Explanation:
    """The distance from a query to a photo by pairs of their main colours, `most` of them.

    `lab` (k, 3) is the palette, `prepared` (histograms, k) what `space.prepare` made of the query, `amounts` (k,) its
    histogram, and `photo` (blocks * k,) the photo's descriptor. The order of the palette's colours does not matter.
    """
    distance = space.prepared_distance(prepared, space.prepare(photo))
    all_pairs = contributions(space, lab, prepared, amounts, photo)
    pairs = _summed_up(*_used(all_pairs, np.asarray(lab, np.float64)))
    told = largest_first(pairs)[:most]
    return Explanation(distance, told, distance - sum(pair.added for pair in told))


def largest_first(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Pairs by the size of what they added, then by their share."""

    def key(pair: Pair) -> tuple[float, float, list[int], list[int]]:
        return -abs(pair.added), -pair.share, pair.query.tolist(), [] if pair.photo is None else pair.photo.tolist()

    return tuple(sorted(pairs, key=key))


def contributions(space: Space, lab: NDArray[np.floating], prepared: F64, amounts: F64, photo: U8) -> Contributions:
    """The same by all pairs of palette colours; what they added sums to the distance.

    Colour i adds `sum over histograms of weight z_i (A z)_i` to the squared distance, z being the difference. That is
    shared out among the pairs that the colour takes part in, by what went. Where the metric sees parts of the picture,
    so it is with what stayed the same colour, for that may lie elsewhere; where it sees the whole alone, what stayed
    adds nothing. Colours that neither has, but that differ because colours near them do, count with the nearest that
    one of them has.
    """
    shares = space.descriptor.whole(photo)
    colors: F64 = np.asarray(lab, np.float64)
    of_colors = _of_colors(space, prepared - space.prepare(photo))
    there = np.flatnonzero(amounts + shares)
    # In an order of their own, so that what the solver leaves open does not depend on the palette's.
    there = there[np.lexsort([of_colors[there], shares[there], amounts[there], *colors[there].T])]
    distances = color_distances(colors[there])
    moved = flow(amounts[there], shares[there], distances)
    added = _dealt_out(moved, _taken_over(of_colors, there, colors), in_parts=len(prepared) > 1)
    whole = Contributions(*np.zeros((2, len(colors), len(colors))))
    whole.flow[np.ix_(there, there)], whole.added[np.ix_(there, there)] = moved, added
    return whole


def flow(q: F64, h: F64, distances: F64) -> F64:
    """The cheapest way to make histogram h of q (the earth mover's, Rubner et al. 2000): (k, k), from row to column.

    `q` and `h` (k,) are shares, of which q's may have the smaller sum: then all of q is moved, and what is left of h
    is not. `distances` (k, k) are a metric, so that what both have in common stays where it is.
    """
    stays = np.minimum(q, h)
    moved: F64 = np.diag(stays)
    sources, sinks = np.flatnonzero(q - stays > _ROUNDED), np.flatnonzero(h - stays > _ROUNDED)
    if len(sources) and len(sinks):
        between = distances[np.ix_(sources, sinks)]
        moved[np.ix_(sources, sinks)] = _transport(
            (q - stays)[sources],
            (h - stays)[sinks],
            between,
            _nearest_main((q - stays)[sources], distances[np.ix_(sources, sources)]),
            _nearest_main((h - stays)[sinks], distances[np.ix_(sinks, sinks)]),
        )
    return moved


def _transport(supply: F64, demand: F64, distances: F64, row_of: NDArray[np.intp], column_of: NDArray[np.intp]) -> F64:
    """What is moved where, (m, n); rows of the same `row_of` go together, and columns of the same `column_of`."""
    rows, columns = np.unique(row_of), np.unique(column_of)
    given, taken = _sums(row_of, supply, len(supply)), _sums(column_of, demand, len(demand))
    few = _solved(given[rows], taken[columns], distances[np.ix_(rows, columns)])
    apart = few[np.searchsorted(rows, row_of)][:, np.searchsorted(columns, column_of)]
    moved: F64 = apart * (supply / given[row_of])[:, None] * (demand / taken[column_of])
    # What the solver has rounded off goes anywhere that there is room.
    left = np.maximum(supply - moved.sum(axis=1), 0)
    room = np.maximum(demand - moved.sum(axis=0), 0)
    return moved + np.outer(left, room / room.sum()) if room.any() else moved


def _solved(supply: F64, demand: F64, distances: F64) -> F64:
    """The transportation problem (Hitchcock 1941) as a linear programme: what can be moved is, at the least cost."""
    from scipy.optimize import linprog
    from scipy.sparse import identity, kron, vstack

    m, n = distances.shape
    limits = vstack([kron(identity(m), np.ones((1, n))), kron(np.ones((1, m)), identity(n))], format="csc")
    # To move nothing is allowed, so that there is a solution whatever has been rounded; but moving pays.
    gain = 1 + 2 * distances.max()
    bounds = np.concatenate([supply, demand]) * _SCALE
    solution = linprog((distances - gain).reshape(-1), A_ub=limits, b_ub=bounds, method="highs-ds")
    return np.asarray(np.maximum(solution.x.reshape(m, n), 0) / _SCALE)


def _nearest_main(amounts: F64, distances: F64) -> NDArray[np.intp]:
    """For each colour, the nearest of the largest."""
    main = np.sort(np.argsort(-amounts, kind="stable")[:_MOVED])
    nearest = np.asarray(main[distances[:, main].argmin(axis=1)])
    # Of two of the very same colour, each for itself.
    nearest[main] = main
    return nearest


def _taken_over(of_colors: F64, there: NDArray[np.intp], lab: F64) -> F64:
    """What the colours that are there add, with what the others do: (k,) to (len(there),)."""
    others = np.delete(np.arange(len(lab)), there)
    nearest = np.linalg.norm(lab[others, None] - lab[there], axis=-1).argmin(axis=1)
    return of_colors[there] + _sums(nearest, of_colors[others], len(there))


def _of_colors(space: Space, difference: F64) -> F64:
    """What each colour adds to the distance, (histograms, k) to (k,); nothing, if the distance is 0."""
    squared: F64 = space.weights @ (difference * (difference @ space.form.matrix))
    total = float(squared.sum())
    return squared / np.sqrt(total) if total > 0 else np.zeros_like(squared)


def _dealt_out(moved: F64, of_colors: F64, in_parts: bool) -> F64:
    """What each pair adds, (k, k), of what each colour adds, (k,)."""
    stays = moved.diagonal()
    shared = moved - np.diag(stays)
    flowing = shared.sum(axis=1) + shared.sum(axis=0)
    total = flowing + stays if in_parts else flowing
    each = np.divide(of_colors, total, out=np.zeros_like(total), where=flowing > 0)
    own = np.where(flowing > 0, each * (total - flowing), of_colors)
    return np.asarray(shared * (each[:, None] + each) + np.diag(own))


def _used(pairs: Contributions, lab: F64) -> tuple[Contributions, F64]:
    """The pairs of those colours alone that take part in any."""
    used = np.flatnonzero(pairs.flow.any(axis=0) | pairs.flow.any(axis=1) | pairs.added.any(axis=0))
    # Of two that are as good for a main colour the first is taken: not by the palette's order.
    used = used[np.lexsort(lab[used].T)]
    return Contributions(*(matrix[np.ix_(used, used)] for matrix in pairs)), lab[used]


def _summed_up(pairs: Contributions, lab: F64) -> list[Pair]:
    """Pairs of main colours: every palette colour counts with the nearest of these."""
    near = color_distances(lab) < _SAME_SHADE
    (query, of_query), (photo, of_photo) = (_main(pairs, lab, near, axis) for axis in (1, 0))
    cells = of_query[:, None] * len(photo) + of_photo
    share, added = (np.bincount(cells.reshape(-1), matrix.reshape(-1), len(query) * len(photo)) for matrix in pairs)
    apart = np.linalg.norm(lab_of_bytes(query)[:, None] - lab_of_bytes(photo), axis=-1).reshape(-1)
    return [
        Pair(query[cell // len(photo)], photo[cell % len(photo)], *map(float, (share[cell], apart[cell], added[cell])))
        for cell in np.flatnonzero((share > 0) | (added != 0))
    ]


def _main(pairs: Contributions, lab: F64, near: NDArray[np.bool_], axis: int) -> tuple[U8, NDArray[np.intp]]:
    """The main colours of the query (axis 1) or the photo (0), (n, 3) sRGB, and which of them each colour is, (k,).

    Those that there is much of or that add much: half a per cent of yellow may be what two photos differ in most.
    """
    shares, added = pairs.flow.sum(axis), np.abs(pairs.added).sum(axis)
    counts = np.where(shares > 0, shares / shares.sum() + added / (added.sum() or 1), 0)
    nearest = np.linalg.norm(lab[:, None] - _centres(counts, lab, near), axis=-1).argmin(axis=1)
    used = np.unique(nearest[shares > 0])
    own = (nearest == used[:, None]) * shares
    colors = bytes_of_lab(own @ lab / own.sum(axis=1, keepdims=True))
    # A main colour of which there is nothing takes part in no pair, whatever its number.
    return colors, np.searchsorted(used, nearest).clip(max=len(used) - 1)


def _centres(counts: F64, lab: F64, near: NDArray[np.bool_]) -> F64:
    """The middles of the main colours, (n, 3): the place with most around it takes in its shades, and so on."""
    left = counts.copy()
    centres: list[F64] = []
    while len(centres) < _MAIN and left.any():
        taken = near[(near @ left).argmax()]
        centres.append(left[taken] @ lab[taken] / left[taken].sum())
        left[taken] = 0
    return np.array(centres)


def _sums(numbers: NDArray[np.intp], values: F64, n: int) -> F64:
    """The sum of the values with each number below n: (n,)."""
    return np.asarray(np.bincount(numbers, values, n), np.float64)
