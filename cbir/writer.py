"""Writing an index while its photos are described: what is done is committed every few seconds, and put in order at
the end."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree

import numpy as np

from cbir.axes_file import tells_of
from cbir.color import U8
from cbir.describe import Described
from cbir.errors import PictureError
from cbir.find import Found, is_below, name_below
from cbir.lock import LOCK_NAME
from cbir.manifest import FILE_NAME, VERSION, Manifest, SegmentEntry
from cbir.palette import Palette
from cbir.plan import Kept, Plan, join
from cbir.segment import (
    SEGMENT_PHOTOS,
    TASKS,
    PhotoRow,
    Segment,
    UnreadRow,
    check_content,
    is_axes_file,
    is_own_file,
    merge,
    save_palette,
)

# How often to commit; less often where that takes long, so that it costs no more than a twentieth of the time.
_COMMIT_SECONDS = 5.0
_COMMIT_SHARE = 20
# Photos that are written anew within a quarter of a second.
_FEW_PHOTOS = SEGMENT_PHOTOS
# Segments of one folder above which small ones are merged.
_MANY_SEGMENTS = 8


# A segment, and its entry if it is on disk as it is.
_Saved = tuple[Segment, SegmentEntry | None]


@dataclass
class _Part:
    """What was described below one folder: rows, or, from when they are on disk, the segments that hold them."""

    photos: list[PhotoRow] = field(default_factory=list)
    unread: list[UnreadRow] = field(default_factory=list)
    saved: list[tuple[SegmentEntry, Segment]] | None = None

    def open(self) -> None:
        """Have its rows in memory again."""
        for _, segment in self.saved or ():
            self.photos += map(segment.photo, range(len(segment.photos)))
            self.unread += map(segment.unread_file, range(len(segment.unread)))
        self.saved = None

    def segments(self, width: int) -> list[Segment]:
        """Its segments, in memory if it is not saved."""
        if self.saved is not None:
            return [segment for _, segment in self.saved]
        rows = sorted(self.photos, key=_name_of), sorted(self.unread, key=_name_of)
        return list(merge([Segment.pack(*rows, width)], width))


def _name_of(row: PhotoRow | UnreadRow) -> bytes:
    return row.name


class Writer:
    """The state of an index in `folder` that is being made, or brought up to date below `tops` as `plan` says.

    `base` is the manifest that it shall have, but for its palette's file and its segments. If it `replaces` an index
    that is there, that stays until `finish`. `tasks` is the folder in it that tasks on other machines write into.
    """

    def __init__(
        self,
        folder: Path,
        base: Manifest,
        palette: Palette,
        reference: U8,
        plan: Plan,
        tops: list[str],
        replaces: bool = False,
        tasks: Path | None = None,
    ) -> None:
        self._folder, self._base, self._plan, self._tops, self._replaces = folder, base, plan, tops, replaces
        self._palette, self._reference = palette, reference
        self._tasks = tasks
        self._width = reference.shape[1]
        # By the folder: parts that are saved, and the last, which rows are added to.
        self._parts: defaultdict[str, list[_Part]] = defaultdict(list)
        # Files of the last commit.
        self._listed = {kept.entry.file for kept in plan.kept}
        # Old segments that were written anew, by their number, and how many rows they had kept then.
        self._cut: dict[int, tuple[int, SegmentEntry]] = {}
        # Files of old segments that hold what was written.
        self._checked: set[str] = set()
        for number in plan.copied:
            check_content(folder, plan.kept[number].entry.file)
        self._next_commit = time.monotonic() + _COMMIT_SECONDS

    def add(self, file: Found, result: Described | PictureError) -> None:
        """Take in what was made of a file. One that cannot be read just now stays described as it was."""
        if isinstance(result, PictureError) and not result.lasting:
            return
        root = root_of(file.path, self._tops)
        name = name_below(file.path, root)
        # Before the new description comes in: Ctrl-C between the two must not leave the photo there twice.
        self._forget_changed(file.path)
        parts = self._parts[root]
        if not parts or parts[-1].saved is not None:
            parts.append(_Part())
        if isinstance(result, Described):
            parts[-1].photos.append(_photo_row(name, file, result))
        else:
            parts[-1].unread.append(UnreadRow(name, file.size, file.mtime_ns, result.reason))

    def adopt(self, entry: SegmentEntry) -> None:
        """Take in a segment that a task has written. Raises IndexFolderError if it is not as it was written."""
        assert self._tasks is not None
        check_content(self._tasks, entry.file)
        segment = Segment.load(self._tasks, entry.file, self._width, VERSION)
        if self._plan.changed:
            for name in (*segment.photos.names, *segment.unread.names):
                self._forget_changed(join(entry.root, name))
        (self._tasks / entry.file).replace(self._folder / entry.file)
        self._parts[entry.root].append(_Part(saved=[(entry, segment)]))

    def _forget_changed(self, path: str) -> None:
        """Let go of the old description of a photo, if there is one."""
        if path in self._plan.changed:
            number, row = self._plan.changed[path]
            self._plan.kept[number].photos[row] = False

    def commit_if_due(self) -> None:
        """Commit what is described so far, if it is time."""
        if (started := time.monotonic()) >= self._next_commit:
            self._merge_unfinished()
            self.commit()
            now = time.monotonic()
            self._next_commit = now + max(_COMMIT_SECONDS, _COMMIT_SHARE * (now - started))

    def commit(self) -> int:
        """Make what is described so far the state of the index, as of an unfinished run; the number of its photos."""
        self._save_parts()
        if self._replaces:
            return 0
        old = [self._cut_entry(number, kept) for number, kept in enumerate(self._plan.kept) if kept.has_rows]
        return self._write_unfinished(old)

    def commit_quickly(self) -> int:
        """Commit, but where many old photos would have to be written anew, without what they lost since the last time.

        What has changed or gone then stays as it was, and is seen to by the next run.
        """
        if self._photos_to_cut() <= _FEW_PHOTOS or any(kept.is_outdated for kept in self._plan.kept):
            return self.commit()
        changed = {os.fsencode(path) for path in self._plan.changed}
        for root, parts in self._parts.items():
            prefix = os.fsencode(root.rstrip(os.sep) + os.sep)
            for part in parts:
                if any(entry.file not in self._listed for entry, _ in part.saved or ()):
                    part.open()
                part.photos = [row for row in part.photos if prefix + row.name not in changed]
                part.unread = [row for row in part.unread if prefix + row.name not in changed]
        self._save_parts()
        old = [self._cut[n][1] if n in self._cut else kept.entry for n, kept in enumerate(self._plan.kept)]
        return self._write_unfinished([entry for entry in old if entry.file in self._listed])

    def _photos_to_cut(self) -> int:
        """How many photos are in old segments that have lost rows since the last commit."""
        return sum(
            len(kept.segment.photos)
            for number, kept in enumerate(self._plan.kept)
            if not kept.is_as_saved and self._cut.get(number, (-1,))[0] != _rows_left(kept)
        )

    def _save_parts(self) -> None:
        for root, parts in self._parts.items():
            for part in parts:
                if part.saved is None:
                    # One step, so that Ctrl-C finds the rows either here or there.
                    part.saved = [self._save_unfinished(root, segment) for segment in part.segments(self._width)]
                    part.photos, part.unread = [], []

    def _write_unfinished(self, old: list[SegmentEntry]) -> int:
        new = [entry for parts in self._parts.values() for part in parts for entry, _ in part.saved or ()]
        self._write([*old, *new])
        return sum(entry.photos for entry in (*old, *new))

    def ordered(self) -> list[SegmentEntry]:
        """Save it all for `finish`, what this run and those before it that were interrupted have added put in order.

        The result does not depend on how often they were interrupted, nor where. Until `finish` nothing is committed,
        and `commit` still can be.
        """
        old: defaultdict[str, list[_Saved]] = defaultdict(list)
        added: defaultdict[str, list[Segment]] = defaultdict(list)
        for kept in self._plan.kept:
            if not kept.has_rows:
                # A commit may have removed its file.
                continue
            if kept.entry.unfinished:
                added[kept.entry.root].append(self._left(kept))
            else:
                saved = (kept.segment, kept.entry) if kept.is_as_saved else (self._left(kept), None)
                old[kept.entry.root].append(saved)
        for root, parts in self._parts.items():
            added[root] += [segment for part in parts for segment in part.segments(self._width)]
        entries = []
        for root in sorted({*old, *added}):
            segments = old[root] + [self._settled(root, segment) for segment in merge(added[root], self._width)]
            # In this order, so that an index that had lost a segment is afterwards what it was before.
            ordered = sorted(_merged(segments, self._width, self._folder), key=_first_name)
            entries += [saved or self._save(root, segment) for segment, saved in ordered]
        return entries

    def finish(self, entries: list[SegmentEntry]) -> None:
        """Make what `ordered` has saved the state of the index."""
        self._write(entries)

    def _settled(self, root: str, segment: Segment) -> _Saved:
        """A segment as it is, or, if it is too large to be merged again, written and mapped to take no memory."""
        if len(segment.photos) < SEGMENT_PHOTOS // 2:
            return segment, None
        entry = self._save(root, segment)
        return Segment.load(self._folder, entry.file, self._width, VERSION), entry

    def _merge_unfinished(self) -> None:
        """Put small segments of this run together: it may go on for hours, and each takes several open files."""
        for root, parts in self._parts.items():
            saved: list[_Saved] = [(segment, entry) for part in parts for entry, segment in part.saved or ()]
            if len(saved) > _MANY_SEGMENTS:
                merged = [
                    (entry, segment) if entry else self._save_unfinished(root, segment)
                    for segment, entry in _merged(saved, self._width, self._folder)
                ]
                self._parts[root] = [_Part(saved=merged), *(part for part in parts if part.saved is None)]

    def _save_unfinished(self, root: str, segment: Segment) -> tuple[SegmentEntry, Segment]:
        """Write a segment and map it, so that it takes no memory."""
        entry = self._save(root, segment, unfinished=True)
        return entry, Segment.load(self._folder, entry.file, self._width, VERSION)

    def _cut_entry(self, number: int, kept: Kept) -> SegmentEntry:
        """An old segment as it is now: itself, or written anew without the rows that it has lost."""
        if kept.is_as_saved:
            return kept.entry
        if self._cut.get(number, (-1,))[0] != _rows_left(kept):
            self._cut[number] = _rows_left(kept), self._save(kept.entry.root, self._left(kept), kept.entry.unfinished)
        return self._cut[number][1]

    def _left(self, kept: Kept) -> Segment:
        """The rows of an old segment that stay, to be written anew, which must not spread damage."""
        if kept.entry.file not in self._checked:
            # Once, since after the next commit the file may be gone; what was mapped of it is not.
            check_content(self._folder, kept.entry.file)
            self._checked.add(kept.entry.file)
        return kept.left()

    def _save(self, root: str, segment: Segment, unfinished: bool = False) -> SegmentEntry:
        numbers = len(segment.photos), len(segment.unread)
        return SegmentEntry(segment.save(self._folder), root, *numbers, unfinished)

    def _write(self, entries: list[SegmentEntry]) -> None:
        palette_file = save_palette(self._palette, self._reference, self._folder)
        replace(self._base, palette=palette_file, segments=tuple(entries)).commit(self._folder)
        self._listed = {entry.file for entry in entries}
        remove_unlisted(self._folder, self._tasks)


def _merged(segments: list[_Saved], width: int, folder: Path) -> list[_Saved]:
    """Put small segments together when there are many, so that years of daily runs leave few files to open.

    Always the smallest half of them, so that a photo is written anew a few times in its life, not each time.
    """
    while len(segments) > _MANY_SEGMENTS:
        by_size = sorted(segments, key=lambda one: len(one[0].photos) + len(one[0].unread))
        small = [one for one in by_size[: _MANY_SEGMENTS // 2] if len(one[0].photos) < SEGMENT_PHOTOS // 2]
        if len(small) < 2:
            break
        for _, entry in small:
            if entry:
                check_content(folder, entry.file)
        merged: list[_Saved] = [(segment, None) for segment in merge([segment for segment, _ in small], width)]
        segments = [one for one in segments if not any(one is part for part in small)] + merged
    return segments


def _first_name(saved: _Saved) -> bytes:
    segment, _ = saved
    return min(files.names[0] for files in (segment.photos, segment.unread) if len(files))


def _rows_left(kept: Kept) -> int:
    return int(np.count_nonzero(kept.photos) + np.count_nonzero(kept.unread))


def _photo_row(name: bytes, file: Found, about: Described) -> PhotoRow:
    return PhotoRow(name, file.size, file.mtime_ns, about.codes, about.fingerprint, about.converted)


def root_of(path: str, tops: list[str]) -> str:
    """The given folder that a file lies below (the widest of several), or its own folder if it was given itself."""
    root = min((top for top in tops if is_below(path, top)), key=len)
    return os.path.dirname(path) if root == path else root


def remove_unlisted(folder: Path, tasks: Path | None = None) -> None:
    """Remove the index's files that its last commit does not name. Readers keep what they mapped.

    What tasks are writing into their folder stays; what a run has left there that ended early does not.
    """
    listed = Manifest.load(folder).files if (folder / FILE_NAME).exists() else set()
    for path in folder.iterdir():
        if is_axes_file(path.name) and tells_of(path, listed):
            # They are removed when others have been made, see `cbir.prepare`.
            continue
        if path.name.startswith(TASKS):
            if tasks is None or path.name != tasks.name:
                rmtree(path, ignore_errors=True)
        elif is_own_file(path.name) and path.name not in listed and path.name != LOCK_NAME:
            # A system that does not remove open files may keep one until the next run.
            with suppress(OSError):
                path.unlink()
