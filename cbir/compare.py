"""Two photos or collections side by side: how far apart their colours are, and which one has and the other lacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cbir.arrange import evenly
from cbir.color import F64, U8, lab_of_bytes
from cbir.describe import Described, describe_files
from cbir.descriptor import SPATIAL, Descriptor
from cbir.errors import CbirError, NoPicturesError, PictureError
from cbir.find import Found, Skipped, absolute, find_pictures
from cbir.histogram import Swatch, main_colors
from cbir.index import Index
from cbir.learn import learn_from_files
from cbir.metric import DEFAULT, Metric
from cbir.palette import Palette
from cbir.parallel import cores
from cbir.space import Space

Progress = Callable[[int, int], object]
_Float = NDArray[np.floating]
_T = TypeVar("_T")

# Colours of a palette that is learnt from the two alone: as many as an index has unless told.
_COLORS = 64
# Photos of a collection that are decoded, evenly drawn: their mean colours then differ little from those of all.
MOST_DECODED = 256
# Colours that are told of the two together, and that are looked at of each.
_TOLD, _LOOKED_AT = 8, 12
# Closer than this in L*a*b* colours are shades of one, as where a photo's main colours are told.
_SAME_SHADE = 20.0
# A colour of which the one has so much is lacking in the other if that has less than this part of it.
_NOTABLE, _LACKING = 0.02, 0.1
# Descriptors that are read at a time.
_BLOCK = 4096


@dataclass(frozen=True)
class Source:
    """What is compared: a photo, the pictures of a folder, or an index, by the name that it was given by.

    Of an index, `files` are only those of its photos that are decoded if it is not compared by itself.
    """

    name: str
    files: tuple[Found, ...]
    is_photo: bool
    index: Index | None = None


class Shade(NamedTuple):
    """A colour, (3,) uint8 sRGB, with its share 0..1 of the first and of the second."""

    srgb: U8
    first: float
    second: float


class Difference(NamedTuple):
    """Which colours two histograms have: the main ones of both, and those of each that the other lacks."""

    shades: list[Shade]
    only_first: list[Swatch]
    only_second: list[Swatch]


@dataclass(frozen=True)
class Comparison:
    """Two sources compared: their distance by `metric`, their colours, and of how many photos each.

    `decoded_of` tells for each how many of its photos that were not in the index were decoded, and of how many.
    `palette` is that of the index `by`, or, if that is None, was learnt from the two. `skipped` could not be read.
    """

    distance: float
    metric: Metric
    by: Index | None
    palette: Palette
    photos: tuple[int, int]
    decoded_of: tuple[tuple[int, int], tuple[int, int]]
    amounts: tuple[F64, F64]
    difference: Difference
    skipped: list[Skipped]


def source_of(name: str, index: Index | None = None) -> Source:
    """A photo or folder by its path, or a photo of an index by the end of its path.

    Raises FileNotFoundError for what is nowhere, NoPicturesError for a folder without pictures.
    """
    if os.path.isdir(name):
        found, _ = find_pictures([name])
        files = tuple(one for one in found if one.named)
        if not files:
            raise NoPicturesError(f"{name}: has no pictures")
        return Source(name, files, False)
    if os.path.exists(name) or index is None:
        status = os.stat(name)
        return Source(name, (Found(absolute(name), status.st_size, status.st_mtime_ns, True),), True)
    row = index.find(name)
    return Source(name, (Found(index.path(row), *index.photos.size_and_mtime(row), True),), True)


def source_of_index(name: str, index: Index) -> Source:
    """All photos of an index. Raises CbirError if it has none."""
    if not len(index):
        raise CbirError(f"{name}: has no photos; bring it up to date with: cbir index PHOTOS")
    drawn = evenly(len(index), MOST_DECODED).tolist()
    files = (Found(index.path(row), *index.photos.size_and_mtime(row), True) for row in drawn)
    return Source(name, tuple(files), False, index)


def compare(
    first: Source,
    second: Source,
    by: Index | None = None,
    metric: Metric = DEFAULT,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two sources over the palette, and with the reference photos, of the index `by`.

    Without one, a palette is learnt from the two, and the metric is not centred, for they have no photos but their own
    to be centred by. Photos that the index does not have are described by it; of a collection at most 256, evenly
    drawn. Two photos are compared as a search does; else the mean colours of the collections, as wholes. Raises
    CbirError if nothing of the one or the other can be read.
    """
    sources = first, second
    if by is None:
        space, palette, described = _learnt(sources, metric, jobs, progress)
    else:
        palette, space = by.palette, by.space(metric if _are_photos(sources) else metric.of_whole())
        described = [_described_by(by, source, jobs, progress) for source in sources]
    for source, one in zip(sources, described, strict=True):
        if not one.photos:
            raise CbirError(_unreadable(source, one.skipped))
    first_amounts, second_amounts = (one.total / one.photos for one in described)
    if _are_photos(sources):
        distance = space.distance(described[0].last, described[1].last)
    else:
        distance = space.distance(*(space.descriptor.of_whole(one) for one in (first_amounts, second_amounts)))
    return Comparison(
        distance,
        space.metric,
        by,
        palette,
        (described[0].photos, described[1].photos),
        (described[0].decoded_of, described[1].decoded_of),
        (first_amounts, second_amounts),
        difference(first_amounts, second_amounts, palette.lab),
        [*described[0].skipped, *described[1].skipped],
    )


def difference(first: F64, second: F64, lab: _Float) -> Difference:
    """Which colours two histograms (k,) over the palette (k, 3) have, and which the one has and the other lacks.

    A colour is lacking in the other where at most a tenth as much of it, or of shades of it, is there.
    """
    swatches = main_colors((first + second) / 2, lab, _TOLD)
    to_each = np.linalg.norm(lab[:, None] - _lab_of(swatches)[None], axis=-1)
    own = np.where(to_each.min(axis=1) < _SAME_SHADE, to_each.argmin(axis=1), len(swatches))
    of_first, of_second = (np.bincount(own, shares, minlength=len(swatches) + 1) for shares in (first, second))
    shades = [Shade(swatch.srgb, float(of_first[i]), float(of_second[i])) for i, swatch in enumerate(swatches)]
    return Difference(shades, _lacking(first, second, lab), _lacking(second, first, lab))


def _lacking(has: F64, lacks: F64, lab: _Float) -> list[Swatch]:
    """The main colours of one histogram of which the other has next to nothing."""
    swatches = [swatch for swatch in main_colors(has, lab, _LOOKED_AT) if swatch.share >= _NOTABLE]
    near = np.linalg.norm(lab[:, None] - _lab_of(swatches)[None], axis=-1) < _SAME_SHADE
    others = lacks @ near
    return [swatch for swatch, other in zip(swatches, others, strict=True) if other < _LACKING * swatch.share]


def _lab_of(swatches: Sequence[Swatch]) -> _Float:
    return lab_of_bytes(np.array([swatch.srgb for swatch in swatches], np.uint8).reshape(-1, 3))


def _unreadable(source: Source, skipped: Sequence[Skipped]) -> str:
    which = "" if source.is_photo else f"none of its {len(skipped):,} pictures can be read; {skipped[0].path}: "
    return f"{source.name}: {which}{skipped[0].reason}"


class _Summed(NamedTuple):
    """The sum of the histograms of so many photos, (k,), and the descriptor of the last; see `Comparison`."""

    total: F64
    last: U8
    photos: int
    decoded_of: tuple[int, int]
    skipped: list[Skipped]


def _are_photos(sources: Sequence[Source]) -> bool:
    return all(source.is_photo for source in sources)


def _summed(descriptor: Descriptor, some: Iterable[U8]) -> tuple[F64, U8, int]:
    """The sum of the histograms that descriptors tell, the last of these, and how many there are."""
    total: F64 = np.zeros(0)
    last, number = np.zeros(0, np.uint8), 0
    waiting = iter(some)
    while block := list(islice(waiting, _BLOCK)):
        shares = descriptor.whole(np.stack(block)).sum(axis=0)
        total = shares if not number else total + shares
        last, number = block[-1], number + len(block)
    return total, last, number


def _described_by(index: Index, source: Source, jobs: int | None, progress: Progress | None) -> _Summed:
    """Of those photos that the index has, as they are now, and of others that are decoded for it."""
    if source.index is index:
        return _Summed(index.mean_amounts() * len(index), index.codes(0), len(index), (0, 0), [])
    known: list[int] = []
    others: list[str] = []
    for file in source.files:
        row = index.photos.row_of(file.path)
        if row is not None and index.photos.size_and_mtime(row) == (file.size, file.mtime_ns):
            known.append(row)
        else:
            others.append(file.path)
    drawn = _drawn(others)
    with closing(describe_files(drawn, index.palette, index.descriptor, jobs or cores())) as described:
        results = dict(_counted(described, len(drawn), progress))
    decoded, skipped = _sorted_out([results[i] for i in range(len(drawn))])
    summed = _summed(index.descriptor, chain(map(index.codes, known), decoded))
    return _Summed(*summed, (len(drawn), _number(source, others)), skipped)


def _learnt(
    sources: Sequence[Source], metric: Metric, jobs: int | None, progress: Progress | None
) -> tuple[Space, Palette, list[_Summed]]:
    """A space over a palette that is learnt from the sources alone, and what they are in it."""
    files = [_drawn(source.files) for source in sources]
    both = [*files[0], *files[1]]
    learnt = learn_from_files(
        both, _COLORS, "minibatch", SPATIAL, jobs or cores(), lambda stream: _counted(stream, len(both), progress)
    )
    described = []
    for source, own, start in zip(sources, files, (0, len(files[0])), strict=True):
        decoded, skipped = _sorted_out([learnt.results[start + i] for i in range(len(own))])
        described.append(_Summed(*_summed(SPATIAL, decoded), (len(own), _number(source, source.files)), skipped))
    chosen = replace(metric if _are_photos(sources) else metric.of_whole(), centred=False)
    return Space(chosen, learnt.palette.lab, SPATIAL, learnt.reference), learnt.palette, described


def _sorted_out(results: Sequence[Described | PictureError]) -> tuple[list[U8], list[Skipped]]:
    """The descriptors, and what has none."""
    codes = [one.codes for one in results if isinstance(one, Described)]
    return codes, [Skipped(one.path, one.reason) for one in results if isinstance(one, PictureError)]


def _number(source: Source, files: Sequence[object]) -> int:
    """Of how many photos some were drawn."""
    return len(files) if source.index is None else len(source.index)


def _drawn(things: Sequence[_T]) -> list[_T]:
    return [things[i] for i in evenly(len(things), MOST_DECODED)]


def _counted(stream: Iterator[_T], total: int, progress: Progress | None) -> Iterator[_T]:
    for done, one in enumerate(stream, 1):
        if progress:
            progress(done, total)
        yield one
