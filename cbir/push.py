"""Copying an index into a store, and bringing it up to date there: only what has changed is sent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cbir.color import U8
from cbir.find import is_below
from cbir.index import Index
from cbir.metric import DEFAULT, Metric
from cbir.store import DEFAULT_KIND, KINDS, Rows, Store, StoreError, key_of, mark_of, open_store
from cbir.store_header import Header

# Photos that are looked at, and sent, at a time: some megabytes, below what one message to any engine may have.
_BLOCK = 2048
# Folders that a store is asked for at a time.
_ROOTS = 100
Progress = Callable[[str, int, int], object]
_KEY = np.dtype([("high", "u8"), ("low", "u8")])


@dataclass(frozen=True)
class PushReport:
    """What one push did to a store: `photos` are in it now; of these `sent` are new or have changed, and `others` are
    of folders that the index was not made of. `deleted` were taken out."""

    store: str
    photos: int
    sent: int
    deleted: int
    others: int
    seconds: float


def push_index(
    index: Index,
    target: str,
    metric: Metric = DEFAULT,
    *,
    kind: str | None = None,
    prune: bool = False,
    progress: Progress | None = None,
) -> PushReport:
    """Make a store at the address `target` hold the photos of an index, as vectors of a metric.

    What the store has below the folders that the index was made of, and the index has not, is taken out; photos of
    other folders stay, so that several indexes of one palette and reference fill one store. `prune` takes them out too.
    `kind` says how the engine finds near photos, one of `cbir.store.KINDS`; a new store has "hnsw" unless told, one
    that is there keeps its own. A photo that is in the store as it is in the index is not sent again, so after an
    interruption the same call goes on. Of an index that is unfinished itself nothing is taken out. `progress` is told
    of stages. Raises StoreError, MissingExtraError, MetricError.
    """
    started = time.perf_counter()
    if kind is not None and kind not in KINDS:
        raise StoreError(f"there is no kind {kind!r}; use one of {', '.join(KINDS)}")
    with _opened(target) as store:
        with store.writing():
            roots = _outermost(index.roots)
            header, old = _header_for(index, store, metric, kind)
            header = header.begun(roots)
            known = _Known.of(store, [()] if prune else _batches(roots, _ROOTS), progress)
            own = _Known.of_index(index, progress)
            # Photos that an interrupted run has not come to yet are not gone.
            missing = known.keys_not_in(own)
            gone = [] if index.is_unfinished else missing
            changed = own.changed_since(known)
            if old is None or old.kind != header.kind or gone or len(changed):
                # From now on until the end of a push, whoever searches is told that photos may be missing.
                store.write_header(header.to_bytes())
            for start in range(0, len(gone), _BLOCK):
                store.delete(gone[start : start + _BLOCK])
            header = _send(index, store, header, changed, progress)
            if progress:
                progress("settling", 0, 1)
            store.settle(header.kind)
            # Where an engine knows no locks, another push may have written its own.
            data = store.header() or b""
            there = Header.of_bytes(data, store.shown)
            photos, pending = store.count(), {*there.pending, *header.pending}
            last = replace(header, doubt=max(header.doubt, there.doubt), photos=photos, pending=tuple(sorted(pending)))
            if not index.is_unfinished:
                last = replace(last, pending=()) if prune else last.ended(roots)
            if last.to_bytes() != data:
                store.write_header(last.to_bytes())
        others = max(0, photos - len(index) - (len(missing) - len(gone)))
        return PushReport(store.shown, photos, len(changed), len(gone), others, time.perf_counter() - started)


def _batches(folders: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(folders[start : start + size]) for start in range(0, len(folders), size)]


def _outermost(folders: Iterable[str]) -> list[str]:
    """Those of some absolute folders that lie in none of the others, in order."""
    found: list[str] = []
    # With a / at the end, so that what lies in a folder comes right after it.
    for folder in sorted(set(folders), key=lambda one: os.fsencode(one.rstrip(os.sep) + os.sep)):
        if not found or not is_below(folder, found[-1]):
            found.append(folder)
    return found


@contextmanager
def _opened(target: str) -> Iterator[Store]:
    store = open_store(target)
    try:
        yield store
    finally:
        store.close()


def _header_for(index: Index, store: Store, metric: Metric, kind: str | None) -> tuple[Header, Header | None]:
    """The header of what is to be in the store, as yet incomplete, and the one that is there."""
    own = header_of(index, metric, kind or DEFAULT_KIND)
    # Before anything is made: a metric that cannot be used is refused here, and more dimensions than an engine takes.
    dimensions = own.space.dimensions
    data = store.header()
    old = None if data is None else Header.of_bytes(data, store.shown)
    if old is not None:
        old.check_same(own, store.shown)
        own = replace(own, kind=kind or old.kind, doubt=old.doubt, photos=old.photos, pending=old.pending)
    store.create(dimensions, own.kind)
    return own, old


def header_of(index: Index, metric: Metric, kind: str) -> Header:
    """What a store is told of an index."""
    info = index.name, metric, index.descriptor, index.palette.lab, index.reference, index.decoder
    return Header(*info, kind)


class _Known:
    """Photos by `keys` (n,) of 128 bits, in ascending order, with `marks` (n,) int64 and the `rows` that they came
    in: 32 bytes a photo, and three times as much while two are compared."""

    def __init__(self, keys: NDArray[np.void], marks: NDArray[np.int64]) -> None:
        self.rows = np.lexsort((keys["low"], keys["high"]))
        self.keys, self.marks = keys[self.rows], marks[self.rows]

    @classmethod
    def of(cls, store: Store, places: Iterable[tuple[str, ...]], progress: Progress | None) -> _Known:
        """What is in a store, in some folders at a time, no one of which lies in another; () is everywhere."""
        keys, marks = [np.empty(0, _KEY)], [np.empty(0, np.int64)]
        done, total = 0, store.count()
        for some, theirs in chain.from_iterable(map(store.marks, places)):
            keys.append(_packed_keys(some))
            marks.append(np.asarray(theirs, np.int64))
            done += len(some)
            if progress:
                progress("known", done, max(done, total))
        return cls(np.concatenate(keys), np.concatenate(marks))

    @classmethod
    def of_index(cls, index: Index, progress: Progress | None) -> _Known:
        """What is in an index."""
        keys, marks = np.empty(len(index), _KEY), np.empty(len(index), np.int64)
        for start in range(0, len(index), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(index)))
            keys[start : rows.stop] = _packed_keys([key_of(index.path(row)) for row in rows])
            marks[start : rows.stop] = _marks(index, rows)
            if progress:
                progress("compared", rows.stop, len(index))
        return cls(keys, marks)

    def _places_in(self, other: _Known) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Where each key is in another, and whether it is there at all."""
        if not len(other.keys):
            return np.zeros(len(self.keys), np.intp), np.zeros(len(self.keys), np.bool_)
        place = np.searchsorted(other.keys["high"], self.keys["high"])
        place = np.minimum(place, len(other.keys) - 1)
        # Two keys of one upper half are as good as impossible; of such the first alone is found, which costs a
        # photo's being sent again, and nothing else, since what is taken out goes first.
        return place, other.keys[place] == self.keys

    def keys_not_in(self, other: _Known) -> list[UUID]:
        """The keys that another does not have."""
        _, there = self._places_in(other)
        return [UUID(int=(int(high) << 64) | int(low)) for high, low in self.keys[~there].tolist()]

    def changed_since(self, other: _Known) -> NDArray[np.intp]:
        """The rows, ascending, of what another does not have, or has otherwise."""
        place, there = self._places_in(other)
        if len(other.marks):
            there = there & (other.marks[place] == self.marks)
        return np.sort(self.rows[~there])


def _packed_keys(keys: list[UUID]) -> NDArray[np.void]:
    whole = np.frombuffer(b"".join(key.bytes for key in keys), ">u8").reshape(-1, 2)
    packed = np.empty(len(keys), _KEY)
    packed["high"], packed["low"] = whole[:, 0], whole[:, 1]
    return packed


def _marks(index: Index, rows: range) -> list[int]:
    codes = index.photos.codes_between(rows.start, rows.stop)
    return [mark_of(*index.photos.size_and_mtime(row), one) for row, one in zip(rows, codes, strict=True)]


def _send(index: Index, store: Store, header: Header, rows: NDArray[np.intp], progress: Progress | None) -> Header:
    """Put photos of an index into a store; the header as it is then."""
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK].tolist()
        codes = np.stack([index.codes(row) for row in some])
        # Kept before the photos are there: a search in the meantime must not prove too much.
        if (doubt := float(header.space.doubt(codes).max())) > header.doubt:
            header = replace(header, doubt=doubt)
            store.write_header(header.to_bytes())
        store.upsert(_rows(index, header, some, codes))
        if progress:
            progress("sent", start + len(some), len(rows))
    return header


def _rows(index: Index, header: Header, rows: list[int], codes: U8) -> Rows:
    paths = [index.path(row) for row in rows]
    files = [index.photos.size_and_mtime(row) for row in rows]
    marks = [mark_of(*file, one) for file, one in zip(files, codes, strict=True)]
    sizes, mtimes = np.array(files, np.int64).T
    vectors = header.space.embed(codes).astype(np.float32)
    return Rows([key_of(path) for path in paths], paths, sizes, mtimes, np.array(marks, np.int64), codes, vectors)
