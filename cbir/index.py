"""The index: a collection of described photos, opened by mapping, searched by example."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard, cast

import numpy as np
from numpy.typing import ArrayLike

from cbir import manifest
from cbir.axes import LEADING
from cbir.color import F64, U8
from cbir.decode import DEFAULT_LIMITS, Limits
from cbir.describe import describe_file
from cbir.descriptor import DESCRIPTORS, Descriptor
from cbir.errors import REPAIR, CbirError, IndexFolderError, PictureError
from cbir.find import Skipped, absolute
from cbir.manifest import Manifest
from cbir.metric import DEFAULT, Metric
from cbir.palette import Algorithm, Palette
from cbir.parallel import cores
from cbir.photos import Photos
from cbir.prepare import Prepared, StageProgress, key_of
from cbir.quadratic import one_thread
from cbir.ranking import Hit as Hit
from cbir.ranking import Question, Ranking, Told, as_found, compared, last_rank, told_for_all
from cbir.ranking import Verified as Verified
from cbir.scope import EVERYTHING, Scope
from cbir.search import Found, Mask, Stage
from cbir.segment import Segment
from cbir.space import Space

if TYPE_CHECKING:
    from cbir.asking import Asker
    from cbir.explain import Explanation
    from cbir.indexing import Progress
    from cbir.query import Query

# Photos whose descriptors are read at a time.
_BLOCK = 4096


@dataclass(frozen=True)
class IndexInfo:
    """What is in an index.

    `unread` files could not be read as a picture, `converted` photos had a colour profile by which their colours were
    converted to sRGB, `unfinished` tells that a run was interrupted, `palette_of` is the folder of the index that its
    palette was learnt in, if not here, `roots` are the folders it was made of, and `bytes` is its size on disk.
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
    palette_of: str | None
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
        self.photos = Photos(committed.segments, segments)
        self._prepared: dict[Metric, Prepared] = {}

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
        palette_of: str | os.PathLike[str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        jobs: int | None = None,
        rebuild: bool = False,
        progress: Progress | None = None,
    ) -> Index:
        """Make an index of the photos below `paths`, or bring it up to date, and open it; see `build_index`."""
        from cbir.indexing import build_index

        build_index(
            folder,
            paths,
            colors=colors,
            algorithm=algorithm,
            descriptor=descriptor,
            palette_of=palette_of,
            limits=limits,
            jobs=jobs,
            rebuild=rebuild,
            progress=progress,
        )
        return cls.open(folder)

    def __len__(self) -> int:
        return len(self.photos)

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self):,} photos, {len(self.palette)} colours)"

    def path(self, row: int) -> str:
        """The absolute path of a photo by its row, 0 to len - 1."""
        return self.photos.path(row)

    def find(self, query: str) -> int:
        """The row of a photo by its path or the end of it.

        Raises FileNotFoundError if there is none, CbirError if there are several.
        """
        row = self.photos.row_of(absolute(query))
        rows = self.photos.rows_ending_in(query) if row is None else [row]
        if not rows:
            raise FileNotFoundError(f"{query}: no such file, nor a photo in {self.folder}")
        if len(rows) > 1:
            raise CbirError(
                f"{query}: {len(rows)} photos in {self.folder} are called so; give more of the path, such as "
                f"{self.path(rows[0])}"
            )
        return rows[0]

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.folder.absolute().name

    @property
    def reference(self) -> U8:
        """The descriptors of the photos that a centred metric measures from, (r, blocks * k) uint8."""
        return self._reference

    @property
    def decoder(self) -> str:
        """What decoded the photos."""
        return self._manifest.decoder

    @property
    def descriptor(self) -> Descriptor:
        """What is kept of each photo."""
        return DESCRIPTORS[self._manifest.descriptor]

    @property
    def is_unfinished(self) -> bool:
        """Whether making it, or bringing it up to date, was interrupted, so that photos may be missing."""
        return any(entry.unfinished for entry in self._manifest.segments)

    @property
    def roots(self) -> list[str]:
        """The folders, absolute, that it was made of; of a photo that was named itself, its own."""
        return sorted({entry.root for entry in self._manifest.segments})

    def codes(self, row: int) -> U8:
        """The descriptor of a photo by its row, (blocks * k,) uint8."""
        return self.photos.codes(row)

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

    def prepare(
        self, metric: Metric = DEFAULT, *, leading: int | None = None, progress: StageProgress | None = None
    ) -> None:
        """Make what a search by this metric is fast with, if it is not there: axes, kept beside the index.

        `leading` makes them anew with so many leading axes, 1 to 32, unless they have as many; by default the software
        chooses. A search does this by itself where the index can be written; it finds the same photos without.
        """
        if leading is not None and not 1 <= leading <= max(LEADING):
            raise ValueError(f"leading is a number of axes from 1 to {max(LEADING)}, not {leading}")
        prepared = self._prepared_for(metric)
        if prepared.is_due(leading):
            prepared.make(leading, progress)

    def search(
        self,
        query: str | os.PathLike[str] | ArrayLike | Query,
        limit: int = 10,
        metric: Metric = DEFAULT,
        *,
        scope: Scope = EVERYTHING,
        rerank: bool = False,
        stages: list[Stage] | None = None,
    ) -> list[Hit]:
        """The `limit` photos nearest to `query`, nearest first, at their exact quadratic-form distances.

        `query` is a picture file; or a photo of the index, by its path or the end of it, which need not exist any more;
        or amounts, (k,) non-negative, of which only the whole is known, so photos are compared as a whole; or a
        `Query`, which asks for several pictures, for colours, and more. Photos at one distance are ordered by their
        paths, but a photo that is itself the query, at distance exactly 0, comes before its copies. `scope` says which
        photos may be found, and which of them are told. `rerank` orders the first 1,000 anew by how they hang together
        (see `cbir.rerank`), so their distances need not rise from hit to hit. What was done is told to `stages`.
        Raises PictureError for a file that cannot be read, FileNotFoundError for one that is nowhere, MetricError for a
        metric that asks for what the index's descriptor does not tell, ValueError for a scope out of range.
        """
        question = self._question(query, metric, stages)
        ranking = self._ranking(question.metric, scope, self._allowed(scope))
        return self._hits(ranking.told(question, limit, rerank=rerank, stages=stages), scope, question)

    def search_many(
        self,
        queries: Sequence[str | os.PathLike[str] | ArrayLike | Query],
        limit: int = 10,
        metric: Metric = DEFAULT,
        *,
        scope: Scope = EVERYTHING,
        rerank: bool = False,
        jobs: int | None = None,
        skipped: list[Skipped] | None = None,
    ) -> list[list[Hit]]:
        """The hits of each of many queries, as `search` finds them.

        On `jobs` threads, one per core by default; the search reads the index once for many of them together.

        A query file that cannot be read raises, or is told to `skipped`, if that is given, and has no hits.
        """
        last_rank(limit, scope, len(self))
        allowed = self._allowed(scope)
        with one_thread(), ThreadPoolExecutor(jobs or cores()) as pool:
            asked = list(pool.map(lambda query: self._question_or_error(query, metric), queries))
        for one in asked:
            if isinstance(one, PictureError):
                if skipped is None:
                    raise one
                skipped.append(Skipped(one.path, one.reason))
        questions = [one for one in asked if not isinstance(one, PictureError)]
        rankings = {metric: self._ranking(metric, scope, allowed) for metric in {one.metric for one in questions}}
        found = iter(told_for_all(questions, rankings, limit, rerank, jobs))
        return [[] if isinstance(one, PictureError) else self._hits(next(found), scope, one) for one in asked]

    def nearest(
        self, codes: U8, limit: int = 10, metric: Metric = DEFAULT, *, stages: list[Stage] | None = None
    ) -> Found:
        """The `limit` rows nearest to a descriptor, (blocks * k,) uint8, with distances, as `search` ranks them."""
        question = Question(self._descriptors(codes, 1), metric)
        return as_found(self._ranking(metric).told(question, limit, stages=stages))

    def nearest_many(
        self, codes: U8, limit: int = 10, metric: Metric = DEFAULT, *, jobs: int | None = None
    ) -> list[Found]:
        """The same of many descriptors, (q, blocks * k), on `jobs` threads, one per core by default."""
        questions = [Question(one, metric) for one in self._descriptors(codes, 2)]
        return list(map(as_found, self._ranking(metric).told_of_many(questions, limit, jobs or cores())))

    def verify(
        self,
        query: str | os.PathLike[str] | ArrayLike | Query,
        hits: Sequence[Hit],
        limit: int = 10,
        metric: Metric = DEFAULT,
        *,
        scope: Scope = EVERYTHING,
        progress: StageProgress | None = None,
    ) -> Verified:
        """Compare the query with every photo by the plain form, and the hits of a search, which was not to rank them
        anew, with what that finds: the same photos in the same order, at the same distances to the last bit."""
        question = self._question(query, metric)
        tell = None if progress is None else lambda done: progress("verified", done, len(self))
        # Axes have no say in it, so none are made for it.
        collection = self._prepared_for(question.metric).collection
        ranking = Ranking(self.photos, self.space(question.metric), collection, scope, self._allowed(scope))
        wanted = ranking.told_plainly(question, limit, tell)
        return compared(hits, self._hits(wanted, scope, question))

    def explain(
        self,
        query: str | os.PathLike[str] | ArrayLike | Query,
        paths: Sequence[str],
        metric: Metric = DEFAULT,
        *,
        most: int = 12,
    ) -> list[Explanation]:
        """Why each of some photos of the index, by absolute path, is as far from the query as a search says.

        Of each the `most` pairs of colours that add most are told. Raises as `search` does, and FileNotFoundError for
        a path that is no photo of the index.
        """
        from cbir.explain import explain

        rows = [self.find(path) for path in paths]
        if _is_query(query):
            return self._asker().explain(query, metric, rows, most)
        question = self._question(query, metric)
        space, amounts = self.space(question.metric), self.descriptor.whole(question.codes)
        prepared = space.prepare(question.codes)
        return [explain(space, self.palette.lab, prepared, amounts, self.codes(row), most) for row in rows]

    def _hits(self, told: Sequence[Told], scope: Scope, question: Question) -> list[Hit]:
        from cbir.asked import share_of

        hits = []
        for rank, one in enumerate(told, start=scope.offset + 1):
            amounts = self.amounts(one.row)
            shares = (float(share_of(amounts[None], self.palette.lab, asked)[0]) for asked in question.asked)
            alike = tuple(map(self.path, one.others))
            hits.append(Hit(rank, self.path(one.row), one.distance, amounts, alike, tuple(shares)))
        return hits

    def _question(
        self,
        query: str | os.PathLike[str] | ArrayLike | Query,
        metric: Metric,
        stages: list[Stage] | None = None,
    ) -> Question:
        if _is_query(query):
            return self._asker().question(query, metric, stages)
        if isinstance(query, (str, os.PathLike)):
            # A metric that cannot be used is said before a picture is read.
            self.space(metric)
            codes, itself = self._codes_of_query(os.fspath(query))
            own = self.photos.row_of(absolute(query)) if itself is None else itself
            return Question(codes, metric, itself, () if own is None else (own,))
        return Question(self.descriptor.of_whole(self._checked(cast("ArrayLike", query))), metric.of_whole())

    def _asker(self) -> Asker:
        from cbir.asking import Asker

        return Asker(self.palette, self.descriptor, self.photos, self.space, self._codes_of_query, self.mean_amounts)

    def _question_or_error(
        self, query: str | os.PathLike[str] | ArrayLike | Query, metric: Metric
    ) -> Question | PictureError:
        try:
            return self._question(query, metric)
        except PictureError as error:
            return error

    def _ranking(self, metric: Metric, scope: Scope = EVERYTHING, allowed: Mask | None = None) -> Ranking:
        """Ranks by a metric, with axes, if they can be kept."""
        prepared = self._prepared_for(metric)
        if prepared.is_due() and os.access(self.folder, os.W_OK):
            prepared.make()
        return Ranking(self.photos, prepared.space, prepared.collection, scope, allowed)

    def _allowed(self, scope: Scope) -> Mask | None:
        """Which photos may be found, (n,) bool, or None for all. Raises CbirError for a place without photos."""
        for place in (*scope.below, *scope.excluded):
            if not self.photos.has(place):
                raise CbirError(f"{place}: no photo of {self.folder} is, or lies below it")
        allowed = self.photos.mask(scope.below or None, scope.excluded)
        if scope.since is None and scope.until is None:
            return allowed
        changed = self.photos.changed(scope.since, scope.until)
        return changed if allowed is None else allowed & changed

    def unread(self) -> list[Skipped]:
        """The pictures that could not be read, and why."""
        return [
            Skipped(entry.root.rstrip(os.sep) + os.sep + os.fsdecode(name), reason)
            for entry, segment in zip(self._manifest.segments, self._segments, strict=True)
            for name, reason in zip(segment.unread.names, segment.reasons, strict=True)
        ]

    def info(self) -> IndexInfo:
        """What is in the index."""
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
            palette_of=self._manifest.palette_of,
            algorithm=self._manifest.algorithm,
            metric=str(DEFAULT),
            bytes=sum(map(_size, self.folder.iterdir())),
            committed=datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds"),
            format_version=self._manifest.version,
            decoder=self._manifest.decoder,
            roots=self.roots,
        )

    def _prepared_for(self, metric: Metric) -> Prepared:
        if metric not in self._prepared:
            lab, reference = self.palette.lab.tobytes(), self._reference.tobytes()
            key = key_of(str(metric), lab, self.descriptor.name, reference)
            entries = self._manifest.segments
            made = Prepared(self.folder, key, self.space(metric), entries, self._segments)
            # Of two threads that come here at once the first makes what both use.
            self._prepared.setdefault(metric, made)
        return self._prepared[metric]

    def _codes_of_query(self, query: str) -> tuple[U8, int | None]:
        """The descriptor of a query by name, and its row if it is a photo of this index that has not changed."""
        path = absolute(query)
        row = self.photos.row_of(path)
        try:
            status = os.stat(path)
        except OSError:
            return self._codes_of_stored(query, row)
        if row is not None and self.photos.size_and_mtime(row) == (status.st_size, status.st_mtime_ns):
            return self.codes(row), row
        return describe_file(query, self.palette, self.descriptor), None

    def _codes_of_stored(self, query: str, row: int | None) -> tuple[U8, int]:
        row = self.find(query) if row is None else row
        return self.codes(row), row

    def _descriptors(self, codes: U8, dimensions: int) -> U8:
        """Descriptors that are of this index's kind. Raises ValueError."""
        codes, width = np.asarray(codes), self._reference.shape[1]
        if codes.dtype != np.uint8 or codes.ndim != dimensions or codes.shape[-1] != width:
            raise ValueError(f"a descriptor is {width} bytes, uint8, not {codes.dtype} of the shape {codes.shape}")
        return codes

    def _checked(self, amounts: ArrayLike) -> F64:
        values = np.asarray(amounts, np.float64)
        if values.shape != (len(self.palette),):
            raise ValueError(f"amounts are {len(self.palette)} numbers, one for each colour, not {values.shape}")
        if not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
            raise ValueError("amounts are finite, non-negative, and not all zero")
        return values


def _is_query(query: object) -> TypeGuard[Query]:
    """Whether it is a query of several parts, whose modules a search by example does without."""
    if isinstance(query, (str, os.PathLike, np.ndarray)):
        return False
    from cbir.query import Query

    return isinstance(query, Query)


def _size(path: Path) -> int:
    """In bytes; a file that another search or run has just replaced has none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@lru_cache(maxsize=8)
def _space(metric: Metric, lab: bytes, descriptor: str, reference: bytes) -> Space:
    """Making the space of a metric factors a matrix, which takes milliseconds, so searches share it."""
    colors = np.frombuffer(lab, np.float32).reshape(-1, 3)
    kind = DESCRIPTORS[descriptor]
    codes = np.frombuffer(reference, np.uint8).reshape(-1, len(kind.blocks) * len(colors))
    return Space(metric, colors, kind, codes)
