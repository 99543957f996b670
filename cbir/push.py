"""Copying an index into a store, and bringing it up to date there: only what has changed is sent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cbir.color import U8
from cbir.find import absolute, is_below
from cbir.index import Index
from cbir.metric import DEFAULT, Metric
from cbir.store import DEFAULT_KIND, KINDS, Rows, Store, StoreError, key_of, mark_of, open_store
from cbir.store_header import Header

# Photos that are looked at, and sent, at a time: some megabytes, below what one message to any engine may have.
_BLOCK = 2048
Progress = Callable[[str, int, int], object]
_KEY = np.dtype([("high", "u8"), ("low", "u8")])


@dataclass(frozen=True)
class PushReport:
    """What one push did to a store: `photos` are in it now; of these `sent` are new or have changed. `deleted` were
    taken out. `decoder` is what decoded other photos there, if not what decoded those of the index."""

    store: str
    photos: int
    sent: int
    deleted: int
    seconds: float
    decoder: str | None = None


def push_index(
    index: Index,
    target: str,
    metric: Metric = DEFAULT,
    *,
    below: Iterable[str | os.PathLike[str]] = (),
    replace_all: bool = False,
    kind: str | None = None,
    progress: Progress | None = None,
) -> PushReport:
    """Make a store at the address `target` hold the photos of an index, as vectors of a metric.

    What the store has, and the index has not, is taken out; so a store of another index, or of several, is refused
    unless `replace_all`. With `below`, all of it is about what lies below these folders, and other photos stay, so
    that several indexes of one palette and reference fill one store. `kind` says how the engine finds near photos, one
    of `cbir.store.KINDS`; a new store has "hnsw" unless told, one that is there keeps its own. A photo that is in the
    store as it is in the index is not sent again, so after an interruption the same call goes on. Of an index that is
    unfinished itself nothing is taken out. `progress` is told of stages.
    Raises StoreError, MissingExtraError, MetricError.
    """
    started = time.perf_counter()
    if kind is not None and kind not in KINDS:
        raise StoreError(f"there is no kind {kind!r}; use one of {', '.join(KINDS)}")
    folders = tuple(absolute(folder) for folder in below)
    if folders and replace_all:
        raise StoreError("a push is of some folders (below), or in place of all that is there (replace_all)")
    with _opened(target) as store:
        with store.writing():
            header, old = _header_for(index, store, metric, kind)
            if old is not None and not folders and not replace_all:
                old.check_whole(index.name, store.shown)
            # A metric that cannot be used is refused here, before anything is made.
            dimensions = header.space.dimensions
            own = _Known.of_index(index, folders, progress)
            if old is None and not len(own.keys):
                raise StoreError(f"{index.folder}: has no photos below {', '.join(folders)}; see: cbir info")
            store.create(dimensions, header.kind)
            known = _Known.of(store, folders, progress)
            if not len(known.keys) and not len(own.keys):
                raise StoreError(f"no photos are below {', '.join(folders)}, neither in the index nor in {store.shown}")
            # Photos that an interrupted run has not come to yet are not gone.
            gone = [] if index.is_unfinished else known.keys_not_in(own)
            changed = own.changed_since(known)
            if old is None or old.kind != header.kind or gone or len(changed):
                # From now on until the end of a push, whoever searches is told that photos may be missing.
                header = _keep(store, header.begun(folders))
            for start in range(0, len(gone), _BLOCK):
                store.delete(gone[start : start + _BLOCK])
            header = _send(index, store, header, changed, progress)
            if progress:
                progress("settling", 0, 1)
            store.settle(header.kind)
            photos = store.count()
            header = _there(store, header)
            header = header.begun(folders) if index.is_unfinished else header.ended(folders, index.name, index.decoder)
            _keep(store, replace(header, photos=photos))
        decoder = old.decoder if old is not None and folders and old.decoder != index.decoder else None
        return PushReport(store.shown, photos, len(changed), len(gone), time.perf_counter() - started, decoder)


def _there(store: Store, header: Header) -> Header:
    """The header with what the store tells of pushes: where an engine knows no locks, another may have written it."""
    data = store.header()
    if data is None:
        return header
    there = Header.of_bytes(data, store.shown)
    return replace(there, kind=header.kind, doubt=max(header.doubt, there.doubt))


def _keep(store: Store, header: Header) -> Header:
    """Have a store keep a header, unless it does."""
    data = header.to_bytes()
    if data != store.header():
        store.write_header(data)
    return header


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
    data = store.header()
    old = None if data is None else Header.of_bytes(data, store.shown)
    if old is not None:
        old.check_same(own, store.shown)
        own = replace(old, kind=kind or old.kind)
    return own, old


def header_of(index: Index, metric: Metric, kind: str) -> Header:
    """What a store is told of an index."""
    info = index.name, metric, index.descriptor, index.palette.lab, index.reference, index.decoder
    return Header(*info, kind)


class _Known:
    """Photos by `keys` (n,) of 128 bits, in ascending order, with `marks` (n,) int64 and the `rows` that they came
    in: 32 bytes a photo, and three times as much while two are compared."""

    def __init__(self, keys: NDArray[np.void], marks: NDArray[np.int64], rows: NDArray[np.intp]) -> None:
        order = np.lexsort((keys["low"], keys["high"]))
        self.keys, self.marks, self.rows = keys[order], marks[order], rows[order]

    @classmethod
    def of(cls, store: Store, below: tuple[str, ...], progress: Progress | None) -> _Known:
        """What is in a store, in some folders, or if none is named, everywhere."""
        keys, marks = [np.empty(0, _KEY)], [np.empty(0, np.int64)]
        done, total = 0, store.count()
        for some, theirs in store.marks(below):
            keys.append(_packed_keys(some))
            marks.append(np.asarray(theirs, np.int64))
            done += len(some)
            if progress:
                progress("known", done, max(done, total))
        return cls(np.concatenate(keys), np.concatenate(marks), np.arange(sum(map(len, keys))))

    @classmethod
    def of_index(cls, index: Index, below: tuple[str, ...], progress: Progress | None) -> _Known:
        """What is in an index, in some folders, or if none is named, everywhere."""
        keys, marks = np.empty(len(index), _KEY), np.empty(len(index), np.int64)
        lies = np.ones(len(index), np.bool_)
        for start in range(0, len(index), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(index)))
            paths = [index.path(row) for row in rows]
            if below:
                lies[start : rows.stop] = [any(is_below(path, folder) for folder in below) for path in paths]
            keys[start : rows.stop] = _packed_keys([key_of(path) for path in paths])
            marks[start : rows.stop] = _marks(index, rows)
            if progress:
                progress("compared", rows.stop, len(index))
        chosen = np.flatnonzero(lies)
        return cls(keys[chosen], marks[chosen], chosen)

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
            header = _keep(store, replace(_there(store, header), doubt=doubt))
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
