"""A store in files of this machine, searched in this process by FAISS.

Address: `faiss:FOLDER#name`. All is kept in FOLDER/name: what is sent, in parts that are written once; what tells of
the collection; and the index that FAISS has made of it. Nothing that is read can run code, but read only stores that
you have made: see `cbir.stores.faiss_index.read`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cbir.atomic import TEMPORARY, write_file
from cbir.color import F32, F64
from cbir.errors import IndexFolderError
from cbir.lock import LOCK_NAME, locked
from cbir.store import I64, Address, Rows, Seen, Stored, Where
from cbir.stores import faiss_index as engine
from cbir.stores import faiss_parts as files
from cbir.stores.faiss_parts import Name, Part

_STORE, _HEADER = "store.json", "header"
_MADE_BY, _LAYOUT = "cbir push", 1
_MAX_HEADER = 64 * 2**20
_MAX_STORE = 10_000
_MARKS_AT_ONCE = 10_000
# Where so few may be found, comparing with all of them is sooner done than going along a graph past the others.
_FEW, _SHARE = 20_000, 0.05
# What comes after a base stays in parts of its own until these are so many, or so much of it or as much as is a few.
_MOST_PARTS, _CHANGED = 16, 0.1
_ATTEMPTS = 3


class _State(NamedTuple):
    """What is there: the names of all parts, and those with photos, with the rows of each that count, ascending."""

    names: list[Name]
    parts: list[tuple[Part, NDArray[np.intp]]]

    @property
    def base(self) -> str | None:
        """The name of the first part, if it is a base; what has come after it counts before it."""
        return self.names[0].text if self.names and self.names[0].kind == "base" else None

    @property
    def is_settled(self) -> bool:
        """Whether there is a base, and little has come since: few parts, and few rows that a search compares with."""
        if self.base is None or len(self.names) > _MOST_PARTS:
            return False
        (base, kept), *later = self.parts
        changed = len(base.rows) - len(kept) + sum(len(part.rows) for part, _ in later)
        return changed <= min(_FEW, _CHANGED * len(base.rows))


class FaissStore:
    """See `cbir.store.Store`. One thread at a time may use it; threads that search at once open one each."""

    most = 16_384

    def __init__(self, address: Address) -> None:
        self.shown, self._address = address.shown, address
        place = address.url.partition(":")[2]
        if place.startswith("//"):
            # A URL's authority would be a machine, and this is a folder of this one.
            if not place.startswith("///"):
                raise self._address.error("has a host; a folder of this machine is faiss:FOLDER")
            place = place[2:]
        if not place:
            raise self._address.error("has no folder; say faiss:FOLDER")
        self._folder = Path(place).absolute() / address.name
        self._kept: _State | None = None
        self._index: tuple[str, Any] | None = None
        with self._in_one_line():
            self._check_ours()

    def header(self) -> bytes | None:
        """See `Store.header`."""
        with self._in_one_line():
            if not self._check_ours():
                return None
            try:
                with open(self._folder / _HEADER, "rb") as file:
                    header = file.read(_MAX_HEADER + 1)
            except FileNotFoundError:
                return None
            if len(header) > _MAX_HEADER:
                raise self._address.error("what it keeps of the collection is too large; push to another #NAME")
            return header

    def create(self, dimensions: int, kind: str = "flat") -> None:
        """See `Store.create`."""
        with self._in_one_line():
            if self._check_ours():
                if (here := self._dimensions()) != dimensions:
                    raise self._address.error(
                        f"it holds vectors of {here} dimensions, not {dimensions}; push to another #NAME"
                    )
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            told = {"made by": _MADE_BY, "layout": _LAYOUT, "dimensions": dimensions}
            write_file(self._folder, _STORE, lambda file: file.write(json.dumps(told).encode()))

    def write_header(self, header: bytes) -> None:
        """See `Store.write_header`."""
        if len(header) > _MAX_HEADER:
            raise self._address.error(f"what tells of the collection is too large ({len(header)} bytes)")
        with self._in_one_line():
            write_file(self._folder, _HEADER, lambda file: file.write(header))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See `Store.writing`: the folder is locked, until the process ends at the latest."""
        with self._in_one_line():
            self._check_ours()
            self._folder.mkdir(parents=True, exist_ok=True)
        with self._in_one_line():
            lock = locked(self._folder)
            lock.__enter__()
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def marks(self, below: tuple[str, ...] = ()) -> Iterator[tuple[list[UUID], I64]]:
        """See `Store.marks`: as they were when asked for, whatever is written meanwhile."""
        for part, counting in self._state().parts:
            rows = _chosen(part, counting, Where(below))
            for start in range(0, len(rows), _MARKS_AT_ONCE):
                some = part.rows[rows[start : start + _MARKS_AT_ONCE]]
                yield files.uuids_of(some), some["mark"].astype(np.int64)

    def upsert(self, rows: Rows) -> None:
        """See `Store.upsert`: one more part."""
        if len(rows):
            with self._in_one_line():
                if rows.vectors.shape[1] != self._dimensions():
                    raise self._address.error(
                        f"it holds vectors of {self._dimensions()} dimensions; push to another #NAME"
                    )
                if not np.isfinite(rows.vectors).all():
                    raise self._address.error("vectors must be finite")
                files.write_part(self._folder, self._next("rows"), files.part_of(rows))

    def delete(self, keys: Sequence[UUID]) -> None:
        """See `Store.delete`: one more part, of their keys."""
        if keys:
            with self._in_one_line():
                files.write_gone(self._folder, self._next("gone"), files.keys_of(keys))

    def settle(self, kind: str) -> None:
        """See `Store.settle`: all parts become one, unless little has come after it. The new one is there before the
        old ones go."""
        with self._in_one_line():
            state = self._state()
            if not state.is_settled:
                name = self._next("base")
                files.write_base(self._folder, name, state.parts, self._dimensions())
                state = self._state()
            files.remove_before(self._folder, state.names[0])
            base, vectors = str(state.base), state.parts[0][0].vectors
            # No photos are found without an index.
            wanted = kind if len(vectors) else "flat"
            if engine.kind_of(self._folder, base) != wanted or (wanted != "flat" and self._indexed(state) is None):
                self._index = None
                engine.build(self._folder, base, vectors, wanted)

    def fetch(self, key: UUID) -> Stored | None:
        """See `Store.fetch`."""
        wanted = files.keys_of([key])[0]
        for part, rows in self._state().parts:
            same = (part.rows["high"] == wanted["high"]) & (part.rows["low"] == wanted["low"])
            for row in np.flatnonzero(same):
                if row in rows:
                    return part.stored(int(row))
        return None

    def search(self, vector: F32, limit: int, where: Where, effort: int | None, scan: bool) -> Seen:
        """See `Store.search`. What has come after the base that has an index is compared, and so is everything where
        little may be found, and if the index finds too few or does not fit."""
        limit, state = min(limit, self.most), self._state()
        vector = np.ascontiguousarray(vector, np.float32)
        allowed = [_allowed(part, rows, where) for part, rows in state.parts]
        near = None if scan or state.base is None else self._near(state, vector, limit, allowed[0], effort)
        best: Any = near or (np.empty(0, np.intp), np.empty(0))
        best = np.zeros(len(best[0]), np.intp), *best
        for place, ((part, _), chosen) in enumerate(zip(state.parts, allowed, strict=True)):
            if place or near is None:
                rows, distances = engine.nearest(part.vectors, vector, limit, chosen)
                best = engine.merged(best, (np.full(len(rows), place), rows, distances), limit)
        places, rows, distances = best
        photos = [state.parts[place][0].stored(row) for place, row in zip(places.tolist(), rows.tolist(), strict=True)]
        return Seen(photos, distances, near is None)

    def _near(
        self, state: _State, vector: F32, limit: int, chosen: NDArray[np.intp] | None, effort: int | None
    ) -> tuple[NDArray[np.intp], F64] | None:
        """What the index of the base finds, rows (k,) and distances (k,), if it is of use."""
        index = self._indexed(state)
        if index is None:
            return None
        n = len(state.parts[0][0].rows)
        count = n if chosen is None else len(chosen)
        if count <= max(_FEW, _SHARE * n):
            return None
        mask = None
        if chosen is not None:
            mask = np.zeros(n, np.bool_)
            mask[chosen] = True
        rows, distances = engine.near(index, vector, limit, mask, effort)
        return (rows, distances) if len(rows) >= min(limit, count) else None

    def count(self) -> int:
        """See `Store.count`."""
        return sum(len(rows) for _, rows in self._state().parts)

    def close(self) -> None:
        """See `Store.close`."""
        self._kept = self._index = None

    def _check_ours(self) -> bool:
        """Whether a store is there. Raises StoreError for what was not made by cbir, which stays as it is."""
        try:
            names = set(os.listdir(self._folder))
        except FileNotFoundError:
            return False
        if _STORE in names:
            self._dimensions()
            return True
        others = sorted(name for name in names if name != LOCK_NAME and not name.startswith(TEMPORARY))
        if others:
            raise self._address.error(
                f"the folder {self._folder} was not made by cbir (it has {', '.join(others[:3])}); use another #NAME"
            )
        return False

    def _dimensions(self) -> int:
        with open(self._folder / _STORE, "rb") as file:
            data = file.read(_MAX_STORE)
        try:
            told = json.loads(data)
            made_by, layout, dimensions = told["made by"], told["layout"], told["dimensions"]
        except (ValueError, KeyError, TypeError):
            made_by, layout, dimensions = None, None, None
        if made_by != _MADE_BY or not isinstance(dimensions, int):
            raise self._address.error(f"{self._folder / _STORE} was not made by cbir; use another #NAME")
        if layout != _LAYOUT:
            raise self._address.error(
                f"its files are of another version of cbir ({layout}, not {_LAYOUT}); use that one"
            )
        return dimensions

    def _next(self, kind: str) -> Name:
        names = files.names(self._folder)
        return Name(names[-1].number + 1 if names else 1, kind)

    def _state(self) -> _State:
        """What is there now."""
        with self._in_one_line():
            for attempt in range(_ATTEMPTS):
                names = files.names(self._folder) if self._folder.is_dir() else []
                if self._kept is not None and self._kept.names == names:
                    return self._kept
                try:
                    self._kept = _State(names, self._read(names))
                    return self._kept
                except FileNotFoundError:
                    # A push has ended meanwhile, and put one part in the place of all.
                    if attempt == _ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable")

    def _read(self, names: list[Name]) -> list[tuple[Part, NDArray[np.intp]]]:
        dimensions = self._dimensions() if names else 0
        # Later parts first: what they have, or tell to be gone, counts no more in earlier ones.
        known: set[tuple[int, int]] = set()
        found = []
        for name in reversed(names):
            if name.kind == "gone":
                known.update(files.read_gone(self._folder, name).tolist())
                continue
            part = files.read_part(self._folder, name, dimensions)
            found.append((part, files.rows_without(part, known)))
            if name != names[0]:
                known.update(part.keys.tolist())
        return found[::-1]

    def _indexed(self, state: _State) -> Any | None:
        """FAISS's index of all photos, if there is one that fits."""
        if state.base is None:
            return None
        if self._index is None or self._index[0] != state.base or self._index[1] is None:
            n, m = state.parts[0][0].vectors.shape
            self._index = state.base, engine.read(self._folder, state.base, (n, m))
        return self._index[1]

    def _in_one_line(self) -> AbstractContextManager[None]:
        return self._address.in_one_line((files.DamagedError, IndexFolderError, OSError), self._told)

    def _told(self, error: Exception) -> str:
        if isinstance(error, files.DamagedError):
            return f"{error}; remove the folder {self._folder} and push again"
        if isinstance(error, OSError):
            where = f": {error.filename}" if error.filename else ""
            return f"{error.strerror or error}{where}; afterwards run the same command again"
        return " ".join(str(error).split())


def _allowed(part: Part, rows: NDArray[np.intp], where: Where) -> NDArray[np.intp] | None:
    """Which rows of a part, of those that count, may be found, ascending; None for all of the part."""
    return None if where == Where() and len(rows) == len(part.rows) else _chosen(part, rows, where)


def _chosen(part: Part, rows: NDArray[np.intp], where: Where) -> NDArray[np.intp]:
    """Which rows of a part, of those that count, may be found, ascending."""
    allowed = np.zeros(len(part.rows), np.bool_)
    allowed[rows] = True
    if where.below:
        allowed &= _lies_in(part, where.below)
    if where.excluded:
        allowed &= ~_lies_in(part, where.excluded)
    if where.since is not None:
        allowed &= part.rows["mtime"] >= where.since
    if where.until is not None:
        allowed &= part.rows["mtime"] < where.until
    return np.flatnonzero(allowed)


def _lies_in(part: Part, places: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which rows are one of the places, or below one: photos are in the order of their paths."""
    lies = np.zeros(len(part.rows), np.bool_)
    for place in places:
        path = os.fsencode(place)
        first = part.first_from(path)
        if first < len(part.rows) and part.path(first) == path:
            lies[first] = True
        top = path.rstrip(b"/")
        # From `folder/` to before `folder0`, 0 being what follows on /.
        lies[part.first_from(top + b"/") : part.first_from(top + b"0")] = True
    return lies
