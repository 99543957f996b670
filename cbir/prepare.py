"""What a search needs of an index beside its descriptors: axes for a metric, made once and kept beside the index.

A file of axes tells of some segments. Where segments have come, it does not tell of their photos; where some have gone,
it tells of photos that are no more. Both are right for a search, only slower, until enough of either has gathered that
axes are made anew: of what is new, together with files that tell of no more than twice as much, large ones left
out, so that making axes costs little however often photos are added, and few files tell of nearly all photos.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cbir.atomic import TEMPORARY
from cbir.axes import Axes, make_axes
from cbir.axes_file import VERSION, AxesFile, load_axes, save_axes, tells_of
from cbir.errors import IndexFolderError
from cbir.manifest import Manifest, SegmentEntry
from cbir.search import Collection, Descriptors, Part
from cbir.segment import Segment, is_axes_file
from cbir.space import Space

# Called with what is being done, how much of it is done, and how much there is.
StageProgress = Callable[[str, int, int], None]

# Fewer photos than this are searched in a few milliseconds without axes.
FEWEST = 512
# Photos whose axes are made together: a million need some 700 MB for a moment.
MOST = 1 << 20
# A file is made anew when more of its photos than this part are gone.
_GONE = 0.25
# Files on their way that are older than this were left by a crash.
_LEFT_SECONDS = 3600.0


def key_of(metric: str, lab: bytes, descriptor: str, reference: bytes) -> str:
    """What the names of the files of a metric's axes have in common."""
    digest = hashlib.sha256()
    for part in (str(VERSION).encode(), metric.encode(), lab, descriptor.encode(), reference):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Claimed:
    """A file of axes, with the place in the manifest of each of its segments, None for those that are gone."""

    file: AxesFile
    places: tuple[int | None, ...]

    @property
    def photos(self) -> int:
        """How many of its photos are still there."""
        pairs = zip(self.file.segments, self.places, strict=True)
        return sum(photos for (_, photos), place in pairs if place is not None)

    @property
    def is_outdated(self) -> bool:
        return self.photos < (1 - _GONE) * len(self.file.axes)

    def is_led_by(self, leading: int | None) -> bool:
        """Whether as many axes lead as are wanted, or all that there are."""
        axes = self.file.axes
        return leading is None or axes.axes == min(leading, axes.basis.shape[1])


class Prepared:
    """The axes of a metric that there are for the segments of an index as it was opened."""

    def __init__(
        self, folder: Path, key: str, space: Space, entries: Sequence[SegmentEntry], segments: Sequence[Segment]
    ) -> None:
        self.folder, self.key, self.space, self.entries, self.segments = folder, key, space, entries, segments
        self.files = _claim(_load(folder, key, space.dimensions), entries)
        # What is searched. Never changed in place: others may be searching it.
        self.collection = self._collection()
        self._making = threading.Lock()

    def _collection(self) -> Collection:
        starts = np.cumsum([0, *(entry.photos for entry in self.entries)])
        loose = [np.arange(starts[i], starts[i + 1]) for i in self._loose()]
        rows = np.concatenate(loose) if loose else np.empty(0, np.intp)
        descriptors = Descriptors([segment.codes for segment in self.segments])
        return Collection(descriptors, [_part(one, starts) for one in self.files], rows)

    @property
    def loose_photos(self) -> int:
        """How many photos no axes tell of."""
        return sum(self.entries[i].photos for i in self._loose())

    def _loose(self) -> list[int]:
        told = {place for one in self.files for place in one.places}
        return [i for i, entry in enumerate(self.entries) if i not in told and entry.photos]

    def is_due(self, leading: int | None = None) -> bool:
        """Whether axes should be made, or made anew with another number of leading ones."""
        if not all(one.is_led_by(leading) for one in self.files):
            return True
        return self.loose_photos >= FEWEST or any(one.is_outdated for one in self.files)

    def make(self, leading: int | None = None, progress: StageProgress | None = None) -> None:
        """Make the axes that should be made, and keep them; those that they replace are removed.

        On a folder that cannot be written they are kept in memory alone.
        """
        with self._making:
            self._make(leading, progress)

    def _make(self, leading: int | None, progress: StageProgress | None) -> None:
        kept = [one for one in self.files if not one.is_outdated and one.is_led_by(leading)]
        self.files = sorted(kept, key=lambda one: one.photos)
        while self.files and self.files[0].photos <= min(2 * self.loose_photos, MOST // 2):
            # Small ones first, since what they told of is loose then.
            self.files = self.files[1:]
        groups = list(_groups(self._loose(), self.entries))
        done, total = 0, self.loose_photos
        for group in groups:
            tell = None if progress is None else partial(_tell, progress, done, total)
            self.files = [*self.files, self._made(group, leading, tell)]
            done += self.files[-1].photos
        self.collection = self._collection()
        with suppress(OSError, IndexFolderError):
            self._sweep()

    def _made(self, group: list[int], leading: int | None, progress: Callable[[int], object] | None) -> _Claimed:
        codes = Descriptors([self.segments[i].codes for i in group])
        axes = make_axes(self.space, codes.take, len(codes), leading, progress)
        for i in group:
            self.segments[i].release()
        segments = tuple((self.entries[i].file, self.entries[i].photos) for i in group)
        return _Claimed(self._kept(segments, axes), tuple(group))

    def _kept(self, segments: tuple[tuple[str, int], ...], axes: Axes) -> AxesFile:
        # Mapped, they need no memory of their own; but the folder may be none to write to, and somebody who makes
        # others just now may remove them.
        with suppress(OSError, IndexFolderError):
            name = save_axes(self.folder, self.key, segments, axes)
            return load_axes(self.folder, name, self.space.dimensions)
        return AxesFile("", segments, axes)

    def _sweep(self) -> None:
        """Remove this metric's files that are not used any more, others that tell of no segment that there is, and what
        a crash has left."""
        entries = Manifest.load(self.folder).segments
        listed = {entry.file for entry in entries}
        used = {one.file.name for one in self.files}
        # If somebody has brought the index up to date meanwhile, its newest axes are not ours to judge.
        own = f"axes-{self.key}-" if entries == tuple(self.entries) else TEMPORARY
        for path in self.folder.iterdir():
            # Others may be removing files, too.
            with suppress(OSError):
                if path.name.startswith(TEMPORARY):
                    is_left = path.stat().st_mtime < time.time() - _LEFT_SECONDS
                elif is_axes_file(path.name) and path.name not in used:
                    is_left = path.name.startswith(own) or not tells_of(path, listed)
                else:
                    is_left = False
                if is_left:
                    path.unlink()


def _tell(progress: StageProgress, before: int, total: int, done: int) -> None:
    progress("axes", before + done, total)


def _load(folder: Path, key: str, dimensions: int) -> Iterator[AxesFile]:
    for path in sorted(folder.glob(f"axes-{key}-*.joblib")):
        # One that is damaged, or just now replaced, is of no use, and the search is right without.
        with suppress(IndexFolderError, OSError):
            yield load_axes(folder, path.name, dimensions)


def _claim(files: Iterator[AxesFile], entries: Sequence[SegmentEntry]) -> list[_Claimed]:
    """Which files tell of which segments: the largest first, and each segment by one file."""
    free: dict[tuple[str, int], list[int]] = {}
    for i, entry in enumerate(entries):
        free.setdefault((entry.file, entry.photos), []).append(i)
    claimed: list[_Claimed] = []
    for file in sorted(files, key=lambda file: -len(file.axes)):
        left = {segment: list(places) for segment, places in free.items()}
        places = tuple(left[segment].pop(0) if left.get(segment) else None for segment in file.segments)
        one = _Claimed(file, places)
        # Half of its photos gone, it is more in the way than of use.
        if 2 * one.photos > len(file.axes):
            claimed, free = [*claimed, one], left
    return claimed


def _part(one: _Claimed, starts: np.ndarray) -> Part:
    own = np.cumsum([0, *(photos for _, photos in one.file.segments)])
    return Part(one.file.axes, own, np.array([-1 if place is None else starts[place] for place in one.places], np.intp))


def _groups(loose: Sequence[int], entries: Sequence[SegmentEntry]) -> Iterator[list[int]]:
    """Segments of about MOST photos together, all groups about alike."""
    total = sum(entries[i].photos for i in loose)
    share = total / max(1, round(total / MOST))
    group: list[int] = []
    for i in loose:
        group.append(i)
        if sum(entries[j].photos for j in group) >= share - 1:
            yield group
            group = []
    if group:
        yield group
