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
from cbir.find import absolute, is_below
from cbir.index import Index
from cbir.metric import DEFAULT, Metric
from cbir.store import DEFAULT_KIND, KINDS, Rows, Store, StoreError, key_of, mark_of, open_store
from cbir.store_header import Header

# Photos that are looked at, and sent, at a time: some megabytes, below what one message to any engine may have.
_BLOCK = 2048
# Folders that a store is asked for at a time.
_FOLDERS = 100
_WAYS = "with --below FOLDER photos are put beside what is there, with --replace in place of it"
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

    What the store has, and the index has not, is taken out. With `below`, all of it is about what lies below these
    folders, and other photos stay, so that several indexes of one palette and reference fill one store. What is of
    folders that the index was not made of, or of an index of another name, is not taken out, but the push refused,
    unless `replace_all`. `kind` says how the engine finds near photos, one of `cbir.store.KINDS`; a new store has
    "hnsw" unless told, one that is there keeps its own. A photo that is in the store as it is in the index is not sent
    again, so after an interruption the same call goes on. Of an index that is unfinished itself nothing is taken out.
    `progress` is told of stages. Raises StoreError, MissingExtraError, MetricError.
    """
    started = time.perf_counter()
    if kind is not None and kind not in KINDS:
        raise StoreError(f"there is no kind {kind!r}; use one of {', '.join(KINDS)}")
    roots, folders = _outermost(index.roots), _outermost(map(absolute, below))
    places = folders if replace_all else _shared(folders, roots)
    if folders and not places:
        raise StoreError(f"{index.folder}: was made of {', '.join(roots)}, so it tells nothing of {', '.join(folders)}")
    own = _Known.of_index(index, places, progress)
    with _opened(target) as store:
        header, old = _header_for(index, store, metric, kind)
        if old is None and not len(own.keys):
            raise StoreError(f"{index.folder}: has no photos below {', '.join(places)}; see: cbir info")
        # A metric that cannot be used is refused here, before anything is made.
        dimensions = header.space.dimensions
        if old is not None and old.index != index.name and not (folders or replace_all):
            raise StoreError(f"{store.shown}: is of the index {old.index}, not {index.name}; {_WAYS}")
        with store.writing():
            store.create(dimensions, header.kind)
            known = _Known.of(store, places, progress)
            # Photos that an interrupted run has not come to yet are not gone.
            gone = [] if index.is_unfinished else known.keys_not_in(own)
            if gone and not folders and not replace_all:
                _check_own(store, gone, roots, index.name)
            changed = own.changed_since(known)
            if old is None or old.kind != header.kind or gone or len(changed):
                # From now on until the end of a push, whoever searches is told that photos may be missing.
                header = _keep(store, _there(store, header).begun(places or roots))
            for start in range(0, len(gone), _BLOCK):
                store.delete(gone[start : start + _BLOCK])
            header = _send(index, store, header, changed, progress)
            if progress:
                progress("settling", 0, 1)
            store.settle(header.kind)
            photos = store.count()
            header = _there(store, header)
            if index.is_unfinished:
                header = header.begun(places or roots)
            elif folders:
                header = header.ended(places)
            else:
                header = replace(header, index=index.name, decoder=index.decoder, pending=())
            _keep(store, replace(header, photos=photos))
        decoder = old.decoder if old is not None and folders and old.decoder != index.decoder else None
        return PushReport(store.shown, photos, len(changed), len(gone), time.perf_counter() - started, decoder)


def _check_own(store: Store, gone: list[UUID], roots: list[str], name: str) -> None:
    """Raise StoreError unless all photos that are to be taken out lie in the folders that the index was made of."""
    inside = _Known.of(store, roots, None).keys
    others = int((~np.isin(_packed_keys(gone), inside)).sum())
    if others:
        raise StoreError(f"{store.shown}: has {others:,} photos of folders that {name} was not made of; {_WAYS}")


def _outermost(folders: Iterable[str]) -> list[str]:
    """Those of some absolute folders that lie in none of the others, in order."""
    found: list[str] = []
    # With a / at the end, so that what lies in a folder comes right after it.
    for folder in sorted(set(folders), key=lambda one: os.fsencode(one.rstrip(os.sep) + os.sep)):
        if not found or not is_below(folder, found[-1]):
            found.append(folder)
    return found


def _shared(folders: list[str], roots: list[str]) -> list[str]:
    """What lies both in one of the folders and in one of the roots, as folders."""
    inner = [folder for folder in folders if any(is_below(folder, root) for root in roots)]
    return _outermost([*inner, *(root for root in roots if any(is_below(root, folder) for folder in folders))])


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
    def of(cls, store: Store, below: list[str], progress: Progress | None) -> _Known:
        """What is in a store, in some folders none of which lies in another, or if none is named, everywhere."""
        keys, marks = [np.empty(0, _KEY)], [np.empty(0, np.int64)]
        done, total = 0, store.count()
        places = [tuple(below[start : start + _FOLDERS]) for start in range(0, len(below), _FOLDERS)] or [()]
        for some, theirs in chain.from_iterable(map(store.marks, places)):
            keys.append(_packed_keys(some))
            marks.append(np.asarray(theirs, np.int64))
            done += len(some)
            if progress:
                progress("known", done, max(done, total))
        return cls(np.concatenate(keys), np.concatenate(marks), np.arange(sum(map(len, keys))))

    @classmethod
    def of_index(cls, index: Index, below: list[str], progress: Progress | None) -> _Known:
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
