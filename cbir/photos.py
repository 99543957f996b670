"""The photos of an index by row, by path, and by folder."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterable, Sequence

import numpy as np

from cbir.color import U8
from cbir.find import absolute, is_below
from cbir.manifest import SegmentEntry
from cbir.search import Mask
from cbir.segment import Segment


class Photos:
    """The photos of some segments, their rows counted through all of these from 0."""

    def __init__(self, entries: Sequence[SegmentEntry], segments: Sequence[Segment]) -> None:
        self.entries, self.segments = entries, segments
        self._starts = np.cumsum([0, *(len(segment.photos) for segment in segments)]).tolist()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def path(self, row: int) -> str:
        """The absolute path of a photo."""
        number, place = self._locate(row)
        return _below(self.entries[number].root, self.segments[number].photos.names[place])

    def codes(self, row: int) -> U8:
        """The descriptor of a photo, (blocks * k,) uint8."""
        number, place = self._locate(row)
        return np.asarray(self.segments[number].codes[place])

    def codes_between(self, start: int, stop: int) -> U8:
        """The descriptors of the photos from one row to before another, (stop - start, blocks * k) uint8."""
        parts = [
            segment.codes[max(start - first, 0) : max(stop - first, 0)]
            for first, segment in zip(self._starts, self.segments, strict=False)
            if first < stop and start < first + len(segment.codes)
        ]
        return np.asarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)

    def size_and_mtime(self, row: int) -> tuple[int, int]:
        """How large its file was, in bytes, and when it was changed, in nanoseconds, as it was described."""
        number, place = self._locate(row)
        _, size, mtime = self.segments[number].photos.entry(place)
        return size, mtime

    def row_of(self, path: str) -> int | None:
        """The row of the photo of an absolute path."""
        for start, entry, segment in zip(self._starts, self.entries, self.segments, strict=False):
            if path != entry.root and is_below(path, entry.root):
                place = segment.photos.names.find(_within(path, entry.root))
                if place is not None:
                    return int(start) + place
        return None

    def rows_ending_in(self, name: str) -> list[int]:
        """The rows of the photos whose paths end in some parts."""
        ending = os.sep + os.path.normpath(name).lstrip(os.sep)
        tail = os.fsencode(ending[1:])
        names = (name for segment in self.segments for name in segment.photos.names)
        likely = (row for row, name in enumerate(names) if name.endswith(tail) or tail.endswith(name))
        return [row for row in likely if self.path(row).endswith(ending)]

    def mask(self, below: Iterable[str] | None, excluded: Iterable[str]) -> Mask | None:
        """Which photos lie in one of some places, all unless told, and in none of others: (n,) bool, or None for all.

        A place is a folder, or a photo, by its path.
        """
        excluded = list(excluded)
        if below is None and not excluded:
            return None
        allowed = np.full(len(self), below is None)
        for places, value in ((below or (), True), (excluded, False)):
            for place in places:
                for start, end in self._ranges(absolute(place)):
                    allowed[start:end] = value
        return allowed

    def changed(self, since: int | None, until: int | None) -> Mask:
        """Which photos' files were changed at `since` or later, and before `until`, in nanoseconds: (n,) bool."""
        times = np.concatenate([np.empty(0, np.int64), *(segment.photos.mtimes for segment in self.segments)])
        allowed = np.ones(len(times), np.bool_)
        if since is not None:
            allowed &= times >= since
        if until is not None:
            allowed &= times < until
        return allowed

    def has(self, place: str) -> bool:
        """Whether a path is of a photo, or of a folder that photos lie below."""
        return any(start < end for start, end in self._ranges(absolute(place)))

    def _ranges(self, place: str) -> list[tuple[int, int]]:
        """From where to where the rows lie of a photo, or of the photos below a folder: names ascend in a segment."""
        ranges = []
        for start, entry, segment in zip(self._starts, self.entries, self.segments, strict=False):
            names = segment.photos.names
            if is_below(entry.root, place):
                first, last = 0, len(names)
            elif is_below(place, entry.root):
                name = _within(place, entry.root)
                first = bisect.bisect_left(names, name + os.sep.encode())
                # The next character after the separator: what lies between begins with the folder.
                last = bisect.bisect_left(names, name + bytes([ord(os.sep) + 1]))
                if (single := names.find(name)) is not None:
                    ranges.append((start + single, start + single + 1))
            else:
                continue
            ranges.append((start + first, start + last))
        return ranges

    def _locate(self, row: int) -> tuple[int, int]:
        if not 0 <= row < len(self):
            raise IndexError(row)
        number = bisect.bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]


def _within(path: str, root: str) -> bytes:
    return os.fsencode(path[len(root.rstrip(os.sep)) + 1 :])


def _below(root: str, name: bytes) -> str:
    return root.rstrip(os.sep) + os.sep + os.fsdecode(name)
