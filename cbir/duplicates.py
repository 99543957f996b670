"""Duplicates: photos of an index that are copies of one another, told by their colours and then by small pictures.

The index finds pairs that have like colours, exactly and without a look at any file. Only photos that have such a
partner are decoded, each once, and only such pairs are compared.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, U8, lab_of_bytes
from cbir.find import Skipped
from cbir.index import Index
from cbir.metric import DEFAULT, Metric
from cbir.prepare import StageProgress
from cbir.quiet import NO_WARNINGS
from cbir.scope import Scope
from cbir.signature import HEAD_BYTES, picture_format
from cbir.thumbnail import thumbnails

# Of 150 photos all copies were within this distance that had been saved at half the size, or as JPEG of quality 40 or
# 15, mirrored, cut by 6 %, or made a tenth brighter; of the 2.6 million pairs of different photos, or their copies, 58.
WITHIN = 0.5
# So many of the nearest of each photo are looked at, which bounds the work where all photos are alike.
MOST_NEAR = 100
# Photos that ask the index together.
_TOGETHER = 256
# Small pictures are compared at this size, whatever the photo's shape, and made from ones of twice the size.
_SIDE, _DECODED_SIDE = 32, 64
# How alike the small pictures of copies are: of the copies above, but for those that were cut, the correlation was
# 0.95 or more for 19 of 20, and their mean difference 10 Delta E at most. The most alike different photos, which were
# of one garment on one background, had a correlation of 0.88.
_LEAST_CORRELATION, _MOST_DIFFERENT = 0.93, 12.0
# Plain surfaces have nothing that could correlate; those that differ by no more than this look the same.
_INDISTINCT = 1.0
_ORIENTATIONS = ("", "turned left", "upside down", "turned right")

_Pairs = NDArray[np.intp]


@dataclass(frozen=True)
class Copy:
    """A photo of a group: its path, bytes, and width and height in pixels, None if its header cannot be read.

    `distance` in colours and mean `difference` of the small pictures in Delta E are to the group's first photo, of
    which both are 0. `way` says how it is turned as compared with that: "" if not at all, else for instance "mirrored",
    or "turned left and mirrored", in this order.
    """

    path: str
    bytes: int
    pixels: tuple[int, int] | None
    distance: float
    difference: float
    way: str


@dataclass(frozen=True)
class Duplicates:
    """What was found: groups of two photos or more, the one of the most pixels (then bytes) first, the others by path.

    `photos` were looked through; `links` are those that led to a file that another path of a group's photos leads to as
    well, which are no copies. `pairs` had like colours, `compared` of them were compared by their pictures, and
    `rejected` of these were not the same photo; the others were settled by an earlier one. Of `crowded` photos only
    the 100 nearest were looked at. `skipped` had a partner, but cannot be read now.
    """

    groups: list[list[Copy]]
    photos: int
    pairs: int
    compared: int
    rejected: int
    crowded: int
    links: int
    skipped: list[Skipped]


class Alike(NamedTuple):
    """How alike two small pictures are: their mean difference in Delta E 1976, their correlation, how the second is
    turned."""

    difference: float
    correlation: float
    way: str

    @property
    def is_copy(self) -> bool:
        """Whether they are taken to be of one photo."""
        alike = self.correlation >= _LEAST_CORRELATION and self.difference <= _MOST_DIFFERENT
        return alike or self.difference <= _INDISTINCT


class _Photo(NamedTuple):
    row: int
    path: str
    bytes: int
    pixels: tuple[int, int] | None
    lab: F32


def find_duplicates(
    index: Index,
    within: float = WITHIN,
    metric: Metric = DEFAULT,
    *,
    jobs: int | None = None,
    progress: StageProgress | None = None,
) -> Duplicates:
    """The photos of an index that are copies of others, at a distance of `within` at most.

    Each group's first photo is compared with all others of the group, so that a chain of photos that are alike two by
    two, such as the frames of a film, does not become one group. Nothing is changed, moved or deleted. Raises
    ValueError for a distance below 0.
    """
    pairs, distances, crowded = _near_pairs(index, within, metric, progress)
    tell = None if progress is None else lambda done, total: progress("small pictures", done, total)
    groups: list[list[Copy]] = []
    skipped: list[Skipped] = []
    compared = rejected = links = 0
    lots = _lots(pairs)
    paths = [index.path(row) for lot in lots for row in lot]
    with closing(thumbnails(paths, _DECODED_SIDE, jobs, tell)) as small:
        for lot in lots:
            photos = [photo for row in lot if (photo := _photo(index, row, next(small), skipped)) is not None]
            files = _files(photos)
            links += len(photos) - len(files)
            found, looked_at, copies = _grouped(files, distances)
            groups += found
            compared += looked_at
            rejected += looked_at - copies
    groups.sort(key=lambda group: os.fsencode(group[0].path))
    return Duplicates(groups, len(index), len(pairs), compared, rejected, crowded, links, skipped)


def small_lab(pixels: U8) -> F32:
    """A picture (h, w, 3) uint8 as it is compared: (32, 32, 3) float32 L*a*b*, whatever its shape was."""
    import cv2

    return lab_of_bytes(np.asarray(cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8))


def alike(first: F32, other: F32) -> Alike:
    """How alike two small pictures of `small_lab` are, with the second turned and mirrored as it is most alike."""
    centred = first - first.mean(axis=(0, 1))
    best = None
    for quarters, turned in enumerate(_ORIENTATIONS):
        for mirrored in (False, True):
            view = np.rot90(other[:, ::-1] if mirrored else other, -quarters)
            one = view - view.mean(axis=(0, 1))
            sizes = float((centred * centred).sum()) * float((one * one).sum())
            correlation = float((centred * one).sum()) / np.sqrt(sizes) if sizes > 0 else 0.0
            # Of ways that are as good, the first: as it is.
            if best is None or correlation > best[0] + 1e-6:
                best = correlation, view, _way(turned, mirrored)
    assert best is not None
    correlation, view, way = best
    return Alike(float(np.sqrt(((first - view) ** 2).sum(axis=-1)).mean()), correlation, way)


def _way(turned: str, mirrored: bool) -> str:
    return " and ".join(word for word in (turned, "mirrored" if mirrored else "") if word)


def _near_pairs(
    index: Index, within: float, metric: Metric, progress: StageProgress | None
) -> tuple[_Pairs, dict[tuple[int, int], float], int]:
    """Pairs of rows at most so far from one another, (p, 2), the lower first; their distances; how many photos had
    more neighbours than were looked at."""
    scope = Scope(within)
    distances: dict[tuple[int, int], float] = {}
    crowded = 0
    for start in range(0, len(index), _TOGETHER):
        rows = range(start, min(start + _TOGETHER, len(index)))
        if progress:
            progress("photos", start, len(index))
        # The one above itself tells whether there are more.
        found = index.search_many([index.path(row) for row in rows], MOST_NEAR + 1, metric, scope=scope, skipped=[])
        for row, hits in zip(rows, found, strict=True):
            crowded += len(hits) > MOST_NEAR
            for hit in hits[:MOST_NEAR]:
                other = index.photos.row_of(hit.path)
                if other is not None and other != row:
                    distances[min(row, other), max(row, other)] = hit.distance
    return np.array(sorted(distances), np.intp).reshape(-1, 2), distances, crowded


def _lots(pairs: _Pairs) -> list[list[int]]:
    """The rows in pairs, those together that hang together, so that only these need be in memory at once."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return []
    rows, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(-1, 2)
    links = coo_array((np.ones(len(pairs), np.int8), (places[:, 0], places[:, 1])), shape=(len(rows), len(rows)))
    _, lot = connected_components(links, directed=False)
    order = np.argsort(lot, kind="stable")
    ends = np.flatnonzero(np.diff(lot[order])) + 1
    return [part.tolist() for part in np.split(rows[order], ends)]


def _photo(index: Index, row: int, small: U8 | None, skipped: list[Skipped]) -> _Photo | None:
    path = index.path(row)
    if small is None:
        skipped.append(Skipped(path, "cannot be read now" if os.path.exists(path) else "is gone"))
        return None
    return _Photo(row, path, index.photos.size_and_mtime(row)[0], _size_in_pixels(path), small_lab(small))


def _files(photos: Sequence[_Photo]) -> list[_Photo]:
    """The photos without links to others of them: to delete a link's "copy" would be to delete the photo."""
    kept: dict[object, _Photo] = {}
    for one in sorted(photos, key=lambda one: os.path.islink(one.path)):
        try:
            status = os.stat(one.path)
        except OSError:
            kept[one.path] = one
        else:
            kept.setdefault((status.st_dev, status.st_ino), one)
    return list(kept.values())


def _grouped(photos: Sequence[_Photo], distances: dict[tuple[int, int], float]) -> tuple[list[list[Copy]], int, int]:
    """The groups among photos that hang together; how many pairs were compared, and how many of them are copies."""
    left = sorted(photos, key=lambda one: (-_area(one), -one.bytes, os.fsencode(one.path)))
    groups: list[list[Copy]] = []
    compared = copies = 0
    while left:
        first, *left = left
        members: list[Copy] = []
        others: list[_Photo] = []
        for one in left:
            distance = distances.get((min(first.row, one.row), max(first.row, one.row)))
            if distance is None:
                others.append(one)
                continue
            compared += 1
            likeness = alike(first.lab, one.lab)
            if likeness.is_copy:
                members.append(Copy(one.path, one.bytes, one.pixels, distance, likeness.difference, likeness.way))
            else:
                others.append(one)
        if members:
            copies += len(members)
            members.sort(key=lambda copy: os.fsencode(copy.path))
            groups.append([Copy(first.path, first.bytes, first.pixels, 0.0, 0.0, ""), *members])
        left = others
    return groups, compared, copies


def _area(photo: _Photo) -> int:
    return photo.pixels[0] * photo.pixels[1] if photo.pixels else 0


def _size_in_pixels(path: str) -> tuple[int, int] | None:
    """The width and height that a picture file's header tells, as they are stored; None if it tells none."""
    from PIL import Image

    try:
        with NO_WARNINGS, open(path, "rb") as file:
            kind = picture_format(file.read(HEAD_BYTES))
            if kind is None:
                return None
            file.seek(0)
            with Image.open(file, formats=[kind]) as image:
                return image.size
    # Headers may be damaged in any way; a photo is a copy of another whatever they say.
    except Exception:
        return None
