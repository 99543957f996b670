"""A store in this process's memory: the plain reference of the protocol, and what push and search are tested with.

It can tell wrong things on purpose: leave photos out as an approximate engine does, or end in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import numpy as np
import pytest

from cbir import store
from cbir.color import F32
from cbir.find import is_below
from cbir.store import Address, Rows, Seen, Store, Stored, StoreError, Where


class MemoryStore:
    """All collections of one process, by their addresses."""

    held: dict[Address, dict[UUID, tuple[Stored, int, F32]]] = {}  # noqa: RUF012 - shared on purpose
    headers: dict[Address, bytes] = {}  # noqa: RUF012
    upserted: list[int] = []  # noqa: RUF012
    fails_after: int | None = None
    misses: int = 0
    most = 10_000

    def __init__(self, address: Address) -> None:
        self._address, self.shown = address, address.shown
        self._is_open = True

    @classmethod
    def clear(cls) -> None:
        cls.held, cls.headers, cls.upserted, cls.fails_after, cls.misses, cls.most = {}, {}, [], None, 0, 10_000

    @property
    def _photos(self) -> dict[UUID, tuple[Stored, int, F32]]:
        return self.held.setdefault(self._address, {})

    def header(self) -> bytes | None:
        return self.headers.get(self._address)

    def create(self, dimensions: int, kind: str = "flat") -> None:
        self._dimensions = dimensions

    def write_header(self, header: bytes) -> None:
        self.headers[self._address] = header

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield

    def marks(self, below: tuple[str, ...] = ()) -> Iterator[tuple[list[UUID], np.ndarray]]:
        photos = [one for one in self._photos.items() if _is_in(one[1][0], Where(below))]
        for start in range(0, len(photos), 7):
            some = photos[start : start + 7]
            yield [key for key, _ in some], np.array([mark for _, (_, mark, _) in some], np.int64)

    def upsert(self, rows: Rows) -> None:
        if MemoryStore.fails_after is not None and len(self.upserted) >= MemoryStore.fails_after:
            raise StoreError(f"{self.shown}: has vanished; run the same command again")
        self.upserted.append(len(rows))
        for i, key in enumerate(rows.keys):
            stored = Stored(rows.paths[i], int(rows.sizes[i]), int(rows.mtimes[i]), rows.codes[i].copy())
            self._photos[key] = stored, int(rows.marks[i]), rows.vectors[i].copy()

    def delete(self, keys: Sequence[UUID]) -> None:
        for key in keys:
            self._photos.pop(key, None)

    def settle(self, kind: str) -> None:
        self.kind = kind

    def fetch(self, key: UUID) -> Stored | None:
        return self._photos[key][0] if key in self._photos else None

    def search(self, vector: F32, limit: int, where: Where, effort: int | None, scan: bool) -> Seen:
        photos = [(stored, float(np.linalg.norm(own - vector))) for stored, _, own in self._photos.values()]
        photos = sorted(((one, d) for one, d in photos if _is_in(one, where)), key=lambda pair: pair[1])
        # An approximate engine misses the nearest.
        photos = photos[0 if scan else self.misses :][:limit]
        return Seen([one for one, _ in photos], np.array([d for _, d in photos]), scan)

    def count(self) -> int:
        return len(self._photos)

    def close(self) -> None:
        self._is_open = False


def _is_in(photo: Stored, where: Where) -> bool:
    def lies(places: tuple[str, ...]) -> bool:
        return any(photo.path == place or is_below(photo.path, place) for place in places)

    if (where.below and not lies(where.below)) or lies(where.excluded):
        return False
    return (where.since is None or photo.mtime >= where.since) and (where.until is None or photo.mtime < where.until)


def as_store(store: MemoryStore) -> Store:
    """The protocol's type checker sees that it is one."""
    return store


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores at addresses that begin with `memory:`, all empty; for every test of a module that imports this."""
    monkeypatch.setattr(store, "_OPENERS", dict(store._OPENERS))
    store.register("memory", MemoryStore)
    monkeypatch.delenv("CBIR_STORE", raising=False)
    MemoryStore.clear()
    yield
    MemoryStore.clear()
