"""The index: a collection of described photos, opened by mapping, searched by example."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cbir import manifest
from cbir.color import F64
from cbir.describe import amounts_of_file
from cbir.errors import REBUILD, CbirError, IndexFolderError
from cbir.find import absolute, is_below
from cbir.histogram import UNITS, to_units
from cbir.indexing import Progress, build_index
from cbir.manifest import Manifest, SegmentEntry
from cbir.metric import DEFAULT, Metric
from cbir.palette import Algorithm, Palette
from cbir.quadratic import QuadraticForm
from cbir.search import nearest_rows
from cbir.segment import Segment, load_palette

_Amounts = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Hit:
    """One found photo: its rank from 1, its absolute path, its distance, and its amounts, (k,) float64 shares."""

    rank: int
    path: str
    distance: float
    amounts: F64


@dataclass(frozen=True)
class IndexInfo:
    """What is in an index; `roots` are the folders it was made of, `bytes` its size on disk."""

    folder: str
    photos: int
    unread: int
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

    def __init__(self, folder: Path, committed: Manifest, palette: Palette, segments: list[Segment]) -> None:
        self.folder, self.palette = folder, palette
        self._manifest, self._segments = committed, segments

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Index:
        """Open an index by mapping its files; nothing in them is run, and the amounts are not read yet.

        Raises IndexFolderError, in one line, if it is missing, damaged, not an index, or of a newer format.
        """
        path = Path(folder)
        while True:
            committed = Manifest.load(path)
            try:
                palette = load_palette(path, committed.palette)
                return cls(path, committed, palette, committed.load_segments(path, len(palette)))
            except FileNotFoundError as error:
                # A writer may have committed and cleaned up since the manifest was read; then there is a new one.
                if Manifest.load(path) == committed:
                    raise IndexFolderError(f"{error.filename}: missing; {REBUILD}") from error
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
        jobs: int | None = None,
        rebuild: bool = False,
        progress: Progress | None = None,
    ) -> Index:
        """Make an index of the photos below `paths`, or bring it up to date, and open it; see `build_index`."""
        build_index(folder, paths, colors=colors, algorithm=algorithm, jobs=jobs, rebuild=rebuild, progress=progress)
        return cls.open(folder)

    def __len__(self) -> int:
        return sum(len(segment.photos) for segment in self._segments)

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self):,} photos, {len(self.palette)} colours)"

    def path(self, row: int) -> str:
        """The absolute path of a photo by its row, 0 to len - 1."""
        entry, segment, place = self._locate(row)
        return entry.root.rstrip(os.sep) + os.sep + os.fsdecode(segment.photos.names[place])

    def amounts(self, row: int) -> _Amounts:
        """The histogram of a photo by its row, (k,) uint16 in units of 1/65535."""
        _, segment, place = self._locate(row)
        return np.asarray(segment.amounts[place])

    def mean_amounts(self) -> F64:
        """The histogram of the collection, every photo weighing the same: (k,) float64 that sums to one."""
        total = sum(segment.amounts.sum(axis=0, dtype=np.float64) for segment in self._segments)
        return np.asarray(total / (UNITS * len(self)), np.float64)

    def search(self, query: str | os.PathLike[str] | ArrayLike, limit: int = 10, metric: Metric = DEFAULT) -> list[Hit]:
        """The `limit` photos nearest to `query`, nearest first, at their exact quadratic-form distances.

        `query` is a picture file; or a photo of the index, by its path or the end of it, which need not exist any more;
        or amounts, (k,) non-negative. Photos at one distance are ordered by their paths, but a photo that is itself
        the query, at distance exactly 0, comes before its copies.
        Raises PictureError for a file that cannot be read, FileNotFoundError for one that is nowhere.
        """
        if limit < 1:
            raise ValueError(f"limit is a number above 0, not {limit}")
        if isinstance(query, (str, os.PathLike)):
            amounts, itself = self._amounts_of_query(os.fspath(query))
        else:
            amounts, itself = self._checked(query), None
        form = _form(metric, self.palette.lab.tobytes())
        found = nearest_rows(form, metric, [segment.amounts for segment in self._segments], amounts, limit)
        ranked = sorted((distance, row != itself, os.fsencode(self.path(row)), row) for row, distance in found)
        return [
            Hit(rank, self.path(row), distance, self.amounts(row) / UNITS)
            for rank, (distance, _, _, row) in enumerate(ranked[:limit], start=1)
        ]

    def info(self) -> IndexInfo:
        """What is in the index."""
        sizes = [path.stat() for path in self.folder.iterdir()]
        changed = (self.folder / manifest.FILE_NAME).stat().st_mtime
        return IndexInfo(
            folder=str(self.folder),
            photos=len(self),
            unread=sum(len(segment.unread) for segment in self._segments),
            colors=len(self.palette),
            mean_error=self.palette.mean_error,
            p95_error=self.palette.p95_error,
            learnt_photos=self._manifest.learnt_photos,
            algorithm=self._manifest.algorithm,
            metric=str(DEFAULT),
            bytes=sum(status.st_size for status in sizes),
            committed=datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds"),
            format_version=manifest.VERSION,
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

    def _amounts_of_query(self, query: str) -> tuple[_Amounts, int | None]:
        """The amounts of a query by name, and its row if it is a photo of this index that has not changed."""
        path = absolute(query)
        row = self._row_of(path)
        try:
            status = os.stat(path)
        except OSError:
            return self._amounts_of_stored(query, row)
        if row is not None:
            _, segment, place = self._locate(row)
            known = int(segment.photos.sizes[place]), int(segment.photos.mtimes[place])
            if known == (status.st_size, status.st_mtime_ns):
                return self.amounts(row), row
        return amounts_of_file(query, self.palette), None

    def _amounts_of_stored(self, query: str, row: int | None) -> tuple[_Amounts, int]:
        rows = [row] if row is not None else self._rows_ending_in(query)
        if not rows:
            raise FileNotFoundError(f"{query}: no such file, nor a photo in {self.folder}")
        if len(rows) > 1:
            raise CbirError(
                f"{query}: {len(rows)} photos in {self.folder} are called so; give more of the path, such as "
                f"{self.path(rows[0])}"
            )
        return self.amounts(rows[0]), rows[0]

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

    def _checked(self, amounts: ArrayLike) -> _Amounts:
        values = np.asarray(amounts, np.float64)
        if values.shape != (len(self.palette),):
            raise ValueError(f"amounts are {len(self.palette)} numbers, one for each colour, not {values.shape}")
        if not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
            raise ValueError("amounts are finite, non-negative, and not all zero")
        return to_units(values / values.sum())


@lru_cache(maxsize=8)
def _form(metric: Metric, lab: bytes) -> QuadraticForm:
    """The form of a metric over a palette; factoring it takes tens of milliseconds, so searches share it."""
    return metric.form(np.frombuffer(lab, np.float32).reshape(-1, 3))
