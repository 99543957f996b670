"""What is to be done to bring an index up to date: what stays, what has moved, what is to be decoded."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cbir.color import U8
from cbir.decode import decoder_version
from cbir.describe import Described
from cbir.errors import REPAIR, IndexFolderError
from cbir.find import Found, Skipped, is_below
from cbir.fingerprint import UNKNOWN, fingerprint
from cbir.manifest import VERSION, Manifest, SegmentEntry
from cbir.palette import Palette
from cbir.segment import Segment

_Mask = NDArray[np.bool_]
# A row of an old segment: the segment's number, and the row in it.
Place = tuple[int, int]


@dataclass(frozen=True)
class Old:
    """An index as it was before this run."""

    manifest: Manifest
    palette: Palette
    reference: U8
    segments: list[Segment]

    @property
    def palette_of(self) -> str | None:
        """The absolute folder of the index that its palette was learnt in, if not here."""
        return self.manifest.palette_of

    @classmethod
    def load(cls, folder: Path) -> Old:
        """Open an index to bring it up to date. Raises IndexFolderError."""
        manifest = Manifest.load(folder)
        try:
            palette, reference = manifest.load_palette(folder)
            return cls(manifest, palette, reference, manifest.load_segments(folder, reference.shape[1]))
        except FileNotFoundError as error:
            raise IndexFolderError(f"{error.filename}: missing; {REPAIR}") from error


@dataclass
class Kept:
    """An old segment, and which of its rows stay: `photos` (n,) bool, `unread` (m,) bool.

    `is_outdated` tells that its file is of an older format.
    """

    entry: SegmentEntry
    segment: Segment
    photos: _Mask
    unread: _Mask
    is_outdated: bool

    @property
    def is_as_saved(self) -> bool:
        """Whether its file can stay as it is."""
        return not self.is_outdated and bool(self.photos.all() and self.unread.all())

    @property
    def has_rows(self) -> bool:
        """Whether any row stays."""
        return bool(self.photos.any() or self.unread.any())

    def left(self) -> Segment:
        """The rows that stay."""
        return self.segment.take(np.flatnonzero(self.photos), np.flatnonzero(self.unread))

    def path(self, row: int) -> str:
        """The absolute path of a photo."""
        return join(self.entry.root, self.segment.photos.names[row])


@dataclass
class Plan:
    """What is to be done: files to decode, and descriptions that a file under a new name takes over.

    `changed` files are to be decoded, and are described as they were until then. Of the old photos, `gone` are no
    longer below the given paths and `moved` are there, or elsewhere, under another name. `forgotten` unread files are
    gone, or tried again. `copied` are the numbers of the segments that descriptions were taken over from.
    """

    kept: list[Kept] = field(default_factory=list)
    todo: list[Found] = field(default_factory=list)
    described: list[tuple[Found, Described]] = field(default_factory=list)
    changed: dict[str, Place] = field(default_factory=dict)
    gone: int = 0
    moved: int = 0
    forgotten: int = 0
    copied: set[int] = field(default_factory=set)

    @property
    def has_work(self) -> bool:
        """Whether the index must be written."""
        return bool(
            self.todo
            or self.described
            or self.gone
            or self.forgotten
            or any(kept.entry.unfinished for kept in self.kept)
        )


def join(root: str, name: bytes) -> str:
    """The absolute path of a file by its name below a folder."""
    return root.rstrip(os.sep) + os.sep + os.fsdecode(name)


def make_plan(old: Old | None, tops: list[str], found: list[Found], skipped: list[Skipped]) -> Plan:
    """Compare an old index with what is below `tops` now. Only what may have moved is opened."""
    if old is None:
        return Plan(todo=found)
    plan = Plan()
    files = {file.path: file for file in found}
    known: set[str] = set()
    unsearched = {one.path for one in skipped}
    same_decoder = old.manifest.decoder == decoder_version()
    for number, (entry, segment) in enumerate(zip(old.manifest.segments, old.segments, strict=True)):
        photos = np.ones(len(segment.photos), bool)
        unread = np.full(len(segment.unread), same_decoder)
        plan.kept.append(Kept(entry, segment, photos, unread, old.manifest.version != VERSION))
        for row, path, size, mtime in _rows_below(entry.root, segment.photos.rows(), tops):
            file = files.get(path)
            if file is None:
                photos[row] = _may_be_there(path, unsearched)
            elif (file.size, file.mtime_ns) == (size, mtime):
                known.add(path)
            else:
                plan.changed[path] = number, row
        plan.gone += int(np.count_nonzero(~photos))
        # What this version of the decoder could not read it cannot read now; another may.
        for row, path, size, mtime in _rows_below(entry.root, segment.unread.rows(), tops):
            file = files.get(path)
            is_same = file is not None and (file.size, file.mtime_ns) == (size, mtime)
            unread[row] &= is_same or (file is None and _may_be_there(path, unsearched))
            if file is not None and unread[row]:
                known.add(path)
        plan.forgotten += int(np.count_nonzero(~unread))
    plan.todo = [file for file in found if file.path not in known]
    _forget_moved_unread(plan)
    _find_moved(plan)
    return plan


def _rows_below(
    root: str, rows: Iterable[tuple[bytes, int, int]], tops: list[str]
) -> Iterator[tuple[int, str, int, int]]:
    """Of files below `root`, those that are below one of `tops` too: row, absolute path, size and time of change."""
    prefix = root.rstrip(os.sep) + os.sep
    is_inside = any(is_below(root, top) for top in tops)
    if not is_inside and not any(is_below(top, root) for top in tops):
        return
    for row, (name, size, mtime) in enumerate(rows):
        path = prefix + os.fsdecode(name)
        if is_inside or any(is_below(path, top) for top in tops):
            yield row, path, size, mtime


def _may_be_there(path: str, unsearched: set[str]) -> bool:
    """Whether a file that was not found lies below a folder that cannot be looked into just now."""
    while unsearched:
        if path in unsearched:
            return True
        above = os.path.dirname(path)
        if above == path:
            break
        path = above
    return False


def _find_moved(plan: Plan) -> None:
    """Recognise files that have the size, time of change and content of old photos that are no longer where they were.

    A copy of one that still is there is decoded: a picture without compression may look like another of its name where
    it is looked at.
    """
    gone = _Gone(plan)
    if not gone.looks:
        return
    todo = []
    for file in plan.todo:
        place = gone.place_of(file)
        if place is None:
            todo.append(file)
            continue
        kept, row = plan.kept[place[0]], place[1]
        photo = kept.segment.photo(row)
        plan.copied.add(place[0])
        plan.described.append((file, Described(photo.codes, photo.converted, photo.fingerprint)))
        plan.gone -= not kept.photos[row]
        plan.changed.pop(kept.path(row), None)
        kept.photos[row] = False
        plan.moved += 1
        if file.path in plan.changed:
            # It was moved over another photo.
            number, row = plan.changed.pop(file.path)
            plan.kept[number].photos[row] = False
            plan.gone += 1
    plan.todo = todo


class _Gone:
    """Old photos that are no longer where they were, each to be found once by its look and content."""

    def __init__(self, plan: Plan) -> None:
        times = np.array([file.mtime_ns for file in plan.todo])
        self.looks: set[tuple[int, int]] = set()
        self._by_name: defaultdict[tuple[int, int, str], list[Place]] = defaultdict(list)
        self._by_content: defaultdict[tuple[int, int], list[Place]] = defaultdict(list)
        self._taken: set[Place] = set()
        for number, kept in enumerate(plan.kept):
            photos, marks = kept.segment.photos, kept.segment.fingerprints
            for row in np.flatnonzero(np.isin(photos.mtimes, times) & (marks != UNKNOWN)).tolist():
                path = kept.path(row)
                if not kept.photos[row] or path in plan.changed or not os.path.lexists(path):
                    mark, time = int(marks[row]), int(photos.mtimes[row])
                    self.looks.add((int(photos.sizes[row]), time))
                    self._by_name[mark, time, os.path.basename(path)].append((number, row))
                    self._by_content[mark, time].append((number, row))

    def place_of(self, file: Found) -> Place | None:
        """The place of one with this file's content, best one of its name, if there is one that nobody has taken."""
        if (file.size, file.mtime_ns) not in self.looks:
            return None
        try:
            mark = fingerprint(file.path)
        except OSError:
            return None
        named, other = (mark, file.mtime_ns, os.path.basename(file.path)), (mark, file.mtime_ns)
        for places in (self._by_name[named], self._by_content[other]):
            while places:
                place = places.pop()
                if place not in self._taken:
                    self._taken.add(place)
                    return place
        return None


def _forget_moved_unread(plan: Plan) -> None:
    """Forget where unread files were that have moved; under their new names they are tried again."""
    looks = {(file.size, file.mtime_ns) for file in plan.todo}
    for kept in plan.kept:
        for row in np.flatnonzero(kept.unread).tolist() if looks else ():
            name, size, mtime = kept.segment.unread.entry(row)
            if (size, mtime) in looks and not os.path.lexists(join(kept.entry.root, name)):
                kept.unread[row] = False
                plan.forgotten += 1
