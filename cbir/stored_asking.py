"""What a store is asked: a question as a place among its vectors, and why its photos are as far from there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cbir.asked import Asked
from cbir.color import F64, U8
from cbir.describe import describe_file
from cbir.feedback import Aim, aim_at
from cbir.find import absolute
from cbir.metric import Metric
from cbir.query import Query
from cbir.ranking import Question
from cbir.store import Stored, StoreError
from cbir.store_header import Header

if TYPE_CHECKING:
    from cbir.asking import Asker
    from cbir.explain import Explanation

# A picture file or a photo of the store by its path, a descriptor, (width,) uint8, or a query of several parts.
Asking = str | os.PathLike[str] | U8 | Query


class FetchedPhotos:
    """Photos of a store as far as they have been asked for, by rows that count them from 0.

    `fetch` gives a photo by its absolute path, or None; threads may share the photos, and it is called by one of them
    at a time, once for a path.
    """

    def __init__(self, fetch: Callable[[str], Stored | None]) -> None:
        self._fetch, self._lock = fetch, Lock()
        self._photos: list[Stored] = []
        self._rows: dict[str, int | None] = {}

    def __len__(self) -> int:
        return len(self._photos)

    def row_of(self, path: str) -> int | None:
        """The row of the photo of an absolute path; None if it is not in the store."""
        with self._lock:
            if path not in self._rows:
                photo = self._fetch(path)
                self._rows[path] = None if photo is None else len(self._photos)
                self._photos += [] if photo is None else [photo]
            return self._rows[path]

    def path(self, row: int) -> str:
        """The absolute path of a photo."""
        return self._photos[row].path

    def codes_between(self, start: int, stop: int) -> U8:
        """The descriptors of some photos, (stop - start, width) uint8."""
        return np.stack([photo.codes for photo in self._photos[start:stop]])

    def size_and_mtime(self, row: int) -> tuple[int, int]:
        """How large its file was, in bytes, and when it was changed, in nanoseconds, as it was described."""
        return self._photos[row].size, self._photos[row].mtime


class Place(NamedTuple):
    """What photos are compared with, and how; the paths by which the query's pictures are in the store; that of the
    photo which the query is, if it is one that has not changed; and the colours of which hits tell their shares."""

    aim: Aim
    own: frozenset[str]
    itself: str | None
    colors: tuple[Asked, ...]


class StoreAsker:
    """Finds the places of queries among the vectors of a store, by its header; `photos` are those that these name."""

    def __init__(self, header: Header, shown: str, photos: FetchedPhotos) -> None:
        self._header, self._shown, self._photos = header, shown, photos

    def place(self, query: Asking) -> Place:
        """Where a query is. Raises StoreError for one that has no place, and what `Index.search` raises."""
        question = self._question(query)
        compound = question.compound
        aim = aim_at(self._header.space.point(question.codes)) if compound is None else compound.aim
        assert aim is not None, "what is not in the vectors is refused"
        itself = None if question.itself is None else self._photos.path(question.itself)
        return Place(aim, frozenset(map(self._photos.path, question.own)), itself, question.asked)

    def explain(self, query: Asking, paths: Sequence[str], most: int) -> list[Explanation]:
        """Why each of some photos of the store, by absolute path, is as far from a query; see `Index.explain`."""
        rows = list(map(self.row, paths))
        if isinstance(query, Query):
            self._check(query)
            return self._asker().explain(query, self._header.metric, rows, most)
        from cbir.explain import explain

        question, space = self._question(query), self._header.space
        prepared, amounts = space.prepare(question.codes), self._header.descriptor.whole(question.codes)
        return [explain(space, self._header.lab, prepared, amounts, self._codes(row), most) for row in rows]

    def row(self, name: str) -> int:
        """The row of a photo by its path. Raises FileNotFoundError if it is not in the store."""
        row = self._photos.row_of(absolute(name))
        if row is None:
            raise FileNotFoundError(f"{name}: no such file, nor a photo in {self._shown}")
        return row

    def check_metric(self, metric: Metric) -> None:
        """Raise StoreError unless it is the metric of the store."""
        if metric != self._header.metric:
            raise StoreError(
                f"{self._shown}: is of the metric {self._header.metric}, not {metric}; push the index with that "
                f"metric to another name, such as {self._shown.partition('#')[0]}#another"
            )

    def _check(self, query: Query) -> None:
        if parts := not_in_vectors(query):
            raise StoreError(f"{self._shown}: no store is asked for {', '.join(parts)}; ask the index itself")
        if not query.like:
            # Colours that make a whole picture tell nothing of its parts.
            self.check_metric(self._header.metric.of_whole())

    def _question(self, query: Asking) -> Question:
        metric = self._header.metric
        if isinstance(query, Query):
            self._check(query)
            return self._asker().question(query, metric)
        if isinstance(query, (str, os.PathLike)):
            codes, itself = self._described(os.fspath(query))
            own = self._photos.row_of(absolute(query))
            return Question(codes, metric, itself, () if own is None else (own,))
        codes, width = np.asarray(query), self._header.width
        if codes.dtype != np.uint8 or codes.shape != (width,):
            raise ValueError(f"a descriptor is {width} bytes, uint8, not {codes.dtype} {codes.shape}")
        return Question(codes, metric)

    def _asker(self) -> Asker:
        from cbir.asking import Asker

        def mean() -> F64:
            raise StoreError(f"{self._shown}: does not tell the colours of the collection; ask the index itself")

        header = self._header
        return Asker(header.palette, header.descriptor, self._photos, lambda _: header.space, self._described, mean)

    def _described(self, query: str) -> tuple[U8, int | None]:
        """The descriptor of a picture by its path, and its row if it is a photo of the store that has not changed."""
        path = absolute(query)
        row = self._photos.row_of(path)
        try:
            status = os.stat(path)
        except OSError as error:
            if row is None and not isinstance(error, FileNotFoundError):
                # There, but not to be read.
                raise
            row = self.row(query)
            return self._codes(row), row
        if row is not None and self._photos.size_and_mtime(row) == (status.st_size, status.st_mtime_ns):
            return self._codes(row), row
        return describe_file(query, self._header.palette, self._header.descriptor), None

    def _codes(self, row: int) -> U8:
        return np.asarray(self._photos.codes_between(row, row + 1)[0])


def not_in_vectors(query: Query) -> tuple[str, ...]:
    """Which parts of a query no store can answer: those by which near photos are not near in its vectors.

    Pictures, their regions and feedback have a place there, and so have colours alone that make a whole picture.
    """
    parts = {name: getattr(query, name) for name in ("accents", "without", "tones", "paint")}
    colors = {"colors": query.colors and (query.like or not query.is_whole_picture)}
    return tuple(name for name, asked in (colors | parts).items() if asked)
