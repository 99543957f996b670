"""The index: a collection of described photos, opened by mapping, searched by example."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from cbir import manifest
from cbir.color import F64, U8
from cbir.decode import DEFAULT_LIMITS, Limits
from cbir.describe import describe_file
from cbir.descriptor import DESCRIPTORS, Descriptor
from cbir.errors import REPAIR, CbirError, IndexFolderError
from cbir.find import Skipped, absolute, is_below
from cbir.indexing import Progress, build_index
from cbir.manifest import Manifest, SegmentEntry
from cbir.metric import DEFAULT, Metric
from cbir.palette import Algorithm, Palette
from cbir.quadratic import one_thread
from cbir.rerank import POOL, second_pass
from cbir.search import nearest_rows
from cbir.segment import Segment
from cbir.space import Space

# Photos whose descriptors are read at a time.
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Hit:
    """One found photo: its rank from 1, its absolute path, its distance, and its histogram, (k,) float64 shares."""

    rank: int
    path: str
    distance: float
    amounts: F64


@dataclass(frozen=True)
class IndexInfo:
    """What is in an index.

    `unread` files could not be read as a picture, `converted` photos had a colour profile by which their colours were
    converted to sRGB, `unfinished` tells that a run was interrupted, `roots` are the folders it was made of, and
    `bytes` is its size on disk.
    """

    folder: str
    photos: int
    unread: int
    converted: int
    unfinished: bool
    descriptor: str
    colors: int
    mean_error: float
    p95_error: float
    learnt_photos: int
    algorithm: str
    metric: str
    bytes: int
    committed: str
    format_version: int
    decoder: str
    roots: list[str]


class Index:
    """A collection of described photos on disk.

        index = Index.open("indexes/photos")
        for hit in index.search("query.jpg", limit=10):
            print(hit.path, hit.distance)

    What is opened is one commit, and stays it whatever a writer does meanwhile.
    """

    def __init__(
        self, folder: Path, committed: Manifest, palette: Palette, reference: U8, segments: list[Segment]
    ) -> None:
        self.folder, self.palette = folder, palette
        self._manifest, self._reference, self._segments = committed, reference, segments

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Index:
        """Open an index by mapping its files; nothing in them is run, and the amounts are not read yet.

        Raises IndexFolderError, in one line, if it is missing, damaged, not an index, or of a newer format.
        """
        path = Path(folder)
        while True:
            committed = Manifest.load(path)
            try:
                palette, reference = committed.load_palette(path)
                segments = committed.load_segments(path, reference.shape[1])
                return cls(path, committed, palette, reference, segments)
            except FileNotFoundError as error:
                # A writer may have committed and cleaned up since the manifest was read; then there is a new one.
                if Manifest.load(path) == committed:
                    raise IndexFolderError(f"{error.filename}: missing; {REPAIR}") from error
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise IndexFolderError(f"{error.filename or path}: cannot be read ({reason})") from error

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        paths: Iterable[str | os.PathLike[str]],
        *,
        colors: int | None = None,
        algorithm: Algorithm | None = None,
        descriptor: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        jobs: int | None = None,
        rebuild: bool = False,
        progress: Progress | None = None,
    ) -> Index:
        """Make an index of the photos below `paths`, or bring it up to date, and open it; see `build_index`."""
        build_index(
            folder,
            paths,
            colors=colors,
            algorithm=algorithm,
            descriptor=descriptor,
            limits=limits,
            jobs=jobs,
            rebuild=rebuild,
            progress=progress,
        )
        return cls.open(folder)

    def __len__(self) -> int:
        return sum(len(segment.photos) for segment in self._segments)

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self):,} photos, {len(self.palette)} colours)"

    def path(self, row: int) -> str:
        """The absolute path of a photo by its row, 0 to len - 1."""
        entry, segment, place = self._locate(row)
        return entry.root.rstrip(os.sep) + os.sep + os.fsdecode(segment.photos.names[place])

    @property
    def descriptor(self) -> Descriptor:
        """What is kept of each photo."""
        return DESCRIPTORS[self._manifest.descriptor]

    @property
    def is_unfinished(self) -> bool:
        """Whether making it, or bringing it up to date, was interrupted, so that photos may be missing."""
        return any(entry.unfinished for entry in self._manifest.segments)

    def codes(self, row: int) -> U8:
        """The descriptor of a photo by its row, (blocks * k,) uint8."""
        _, segment, place = self._locate(row)
        return np.asarray(segment.codes[place])

    def amounts(self, row: int) -> F64:
        """The histogram of a photo by its row, (k,) float64 shares that sum to one."""
        return self.descriptor.whole(self.codes(row))

    def mean_amounts(self) -> F64:
        """The histogram of the collection, every photo weighing the same: (k,) float64 that sums to one.

        Raises CbirError if there are no photos.
        """
        if not len(self):
            raise CbirError(f"{self.folder}: has no photos; bring it up to date with: cbir index PHOTOS")
        total = np.zeros(len(self.palette))
        for segment in self._segments:
            for start in range(0, len(segment.codes), _BLOCK):
                total += self.descriptor.whole(segment.codes[start : start + _BLOCK]).sum(axis=0)
        return total / len(self)

    def space(self, metric: Metric = DEFAULT) -> Space:
        """What a metric makes of this index's descriptors. Raises MetricError if it asks for what they do not tell."""
        return _space(metric, self.palette.lab.tobytes(), self.descriptor.name, self._reference.tobytes())

    def search(
        self,
        query: str | os.PathLike[str] | ArrayLike,
        limit: int = 10,
        metric: Metric = DEFAULT,
        *,
        rerank: bool = False,
    ) -> list[Hit]:
        """The `limit` photos nearest to `query`, nearest first, at their exact quadratic-form distances.

        `query` is a picture file; or a photo of the index, by its path or the end of it, which need not exist any more;
        or amounts, (k,) non-negative, of which only the whole is known, so photos are compared as a whole. Photos at
        one distance are ordered by their paths, but a photo that is itself the query, at distance exactly 0, comes
        before its copies. `rerank` orders the first 1,000 anew by how they hang together (see `cbir.rerank`), so their
        distances need not rise from hit to hit.
        Raises PictureError for a file that cannot be read, FileNotFoundError for one that is nowhere, MetricError for a
        metric that asks for what the index's descriptor does not tell.
        """
        if limit < 1:
            raise ValueError(f"limit is a number above 0, not {limit}")
        if isinstance(query, (str, os.PathLike)):
            space = self.space(metric)
            codes, itself = self._codes_of_query(os.fspath(query))
        else:
            space = self.space(metric.of_whole())
            codes, itself = self.descriptor.of_whole(self._checked(query)), None
        # The query itself is no hit of the second pass's.
        wanted = max(limit, POOL + (itself is not None)) if rerank else limit
        found = nearest_rows(space, [segment.codes for segment in self._segments], codes, wanted)
        ranked = sorted((distance, row != itself, os.fsencode(self.path(row)), row) for row, distance in found)[:wanted]
        nearest = [(row, distance) for distance, _, _, row in ranked]
        if rerank:
            first = [one for one in nearest if one[0] == itself]
            nearest = first + self._ranked_again(space, codes, [one for one in nearest if one[0] != itself])
        return [
            Hit(rank, self.path(row), distance, self.amounts(row))
            for rank, (row, distance) in enumerate(nearest[:limit], start=1)
        ]

    def _ranked_again(self, space: Space, query: U8, hits: list[tuple[int, float]]) -> list[tuple[int, float]]:
        pool = hits[:POOL]
        if not pool:
            return hits
        with one_thread():
            vectors = space.embed(np.stack([self.codes(row) for row, _ in pool]))
            order = second_pass(space.embed(query), vectors)
        return [*(pool[i] for i in order), *hits[POOL:]]

    def unread(self) -> list[Skipped]:
        """The pictures that could not be read, and why."""
        return [
            Skipped(entry.root.rstrip(os.sep) + os.sep + os.fsdecode(name), reason)
            for entry, segment in zip(self._manifest.segments, self._segments, strict=True)
            for name, reason in zip(segment.unread.names, segment.reasons, strict=True)
        ]

    def info(self) -> IndexInfo:
        """What is in the index."""
        sizes = [path.stat() for path in self.folder.iterdir()]
        changed = (self.folder / manifest.FILE_NAME).stat().st_mtime
        return IndexInfo(
            folder=str(self.folder),
            photos=len(self),
            unread=sum(len(segment.unread) for segment in self._segments),
            converted=sum(int(segment.converted.sum()) for segment in self._segments),
            unfinished=self.is_unfinished,
            descriptor=self.descriptor.name,
            colors=len(self.palette),
            mean_error=self.palette.mean_error,
            p95_error=self.palette.p95_error,
            learnt_photos=self._manifest.learnt_photos,
            algorithm=self._manifest.algorithm,
            metric=str(DEFAULT),
            bytes=sum(status.st_size for status in sizes),
            committed=datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds"),
            format_version=self._manifest.version,
            decoder=self._manifest.decoder,
            roots=sorted({entry.root for entry in self._manifest.segments}),
        )

    def _locate(self, row: int) -> tuple[SegmentEntry, Segment, int]:
        if row < 0:
            raise IndexError(row)
        for entry, segment in zip(self._manifest.segments, self._segments, strict=True):
            if row < len(segment.photos):
                return entry, segment, row
            row -= len(segment.photos)
        raise IndexError(row)

    def _codes_of_query(self, query: str) -> tuple[U8, int | None]:
        """The descriptor of a query by name, and its row if it is a photo of this index that has not changed."""
        path = absolute(query)
        row = self._row_of(path)
        try:
            status = os.stat(path)
        except OSError:
            return self._codes_of_stored(query, row)
        if row is not None:
            _, segment, place = self._locate(row)
            known = int(segment.photos.sizes[place]), int(segment.photos.mtimes[place])
            if known == (status.st_size, status.st_mtime_ns):
                return self.codes(row), row
        return describe_file(query, self.palette, self.descriptor), None

    def _codes_of_stored(self, query: str, row: int | None) -> tuple[U8, int]:
        rows = [row] if row is not None else self._rows_ending_in(query)
        if not rows:
            raise FileNotFoundError(f"{query}: no such file, nor a photo in {self.folder}")
        if len(rows) > 1:
            raise CbirError(
                f"{query}: {len(rows)} photos in {self.folder} are called so; give more of the path, such as "
                f"{self.path(rows[0])}"
            )
        return self.codes(rows[0]), rows[0]

    def _row_of(self, path: str) -> int | None:
        first = 0
        for entry, segment in zip(self._manifest.segments, self._segments, strict=True):
            if path != entry.root and is_below(path, entry.root):
                place = segment.photos.names.find(os.fsencode(path[len(entry.root.rstrip(os.sep)) + 1 :]))
                if place is not None:
                    return first + place
            first += len(segment.photos)
        return None

    def _rows_ending_in(self, name: str) -> list[int]:
        ending = os.sep + os.path.normpath(name).lstrip(os.sep)
        return [row for row in range(len(self)) if self.path(row).endswith(ending)]

    def _checked(self, amounts: ArrayLike) -> F64:
        values = np.asarray(amounts, np.float64)
        if values.shape != (len(self.palette),):
            raise ValueError(f"amounts are {len(self.palette)} numbers, one for each colour, not {values.shape}")
        if not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
            raise ValueError("amounts are finite, non-negative, and not all zero")
        return values


@lru_cache(maxsize=8)
def _space(metric: Metric, lab: bytes, descriptor: str, reference: bytes) -> Space:
    """Making the space of a metric factors a matrix, which takes milliseconds, so searches share it."""
    colors = np.frombuffer(lab, np.float32).reshape(-1, 3)
    kind = DESCRIPTORS[descriptor]
    codes = np.frombuffer(reference, np.uint8).reshape(-1, len(kind.blocks) * len(colors))
    return Space(metric, colors, kind, codes)
