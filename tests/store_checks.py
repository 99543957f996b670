"""What every store must do, put to one at the level of its protocol, with vectors at random and the plain reference."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cbir.find import is_below
from cbir.store import Rows, Store, StoreError, Where, key_of, mark_of

DIMENSIONS = 8
# Paths that mean something to SQL, to expressions, to patterns, or to nobody.
ODD = [
    "/a/ü 'x'; --\"%_\\.jpg",
    os.fsdecode(b"/a/\xff\xfe/\xe4.jpg"),
    os.fsdecode(b"/a_b/\xff.jpg"),
    "/a/file:/x",
    "/日本/😀.png",
    "/a%b/1.jpg",
    "/a_b/1.jpg",
    "/axb/1.jpg",
    "/a/b/1.jpg",
    "/a/b0/1.jpg",
    "/a/b.jpg",
    "/a/b\n\t\r\x01c/1.jpg",
    '/a/" or path != "/1.jpg',
    "/a/\\/1.jpg",
    "/a/\\\\n/1.jpg",
    "/" + "é" * 1000 + "/1.jpg",
]
FOLDERS = [
    "/a", "/a/b", "/a/b0", "/a%b", "/a_b", "/日本", "/", "/b", '/a/" or path != "', "/a/\\", "/a/b\n\t\r\x01c",
    os.fsdecode(b"/a/\xff\xfe"), "/a/b/1.jpg", "/" + "é" * 1000, "/a/\\\\n", "/%", "/a/%",
]  # fmt: skip


def made(paths: list[str], seed: int = 0, dimensions: int = DIMENSIONS, age: int = 0) -> Rows:
    """Photos with vectors at random; the n-th was changed n seconds after the billionth second of time, or `age`."""
    rng = np.random.default_rng(seed)
    n = len(paths)
    codes = rng.integers(0, 256, (n, 13), dtype=np.uint8)
    sizes = rng.integers(1, 10**7, n)
    mtimes = np.arange(n) * 10**9 + 10**18 + 1 + age
    marks = [mark_of(int(size), int(mtime), row) for size, mtime, row in zip(sizes, mtimes, codes, strict=True)]
    return Rows(
        keys=[key_of(path) for path in paths],
        paths=paths,
        sizes=sizes,
        mtimes=mtimes,
        marks=np.array(marks, np.int64),
        codes=codes,
        vectors=rng.standard_normal((n, dimensions), dtype=np.float32),
    )


def part_of(rows: Rows, some: slice) -> Rows:
    return Rows(**{name: column[some] for name, column in vars(rows).items()})


def numbered(n: int, folder: str = "/photos") -> list[str]:
    return [f"{folder}/{number % 10}/{number}.jpg" for number in range(n)]


def order_of(rows: Rows, vector: np.ndarray, chosen: Callable[[int], bool] = lambda _: True) -> list[str]:
    """The paths of the photos that are chosen by their rows, nearest first: the plain reference."""
    distances = np.linalg.norm(rows.vectors.astype(float) - vector, axis=1)
    return [rows.paths[row] for row in np.argsort(distances, kind="stable") if chosen(int(row))]


def marks_of(store: Store) -> dict[Any, int]:
    told = [pair for keys, marks in store.marks() for pair in zip(keys, marks.tolist(), strict=True)]
    assert len(dict(told)) == len(told)
    return dict(told)


def refused(action: Callable[[], object], *secrets: str) -> str:
    """What is said, in one line, without a secret."""
    with pytest.raises(StoreError) as caught:
        action()
    said = str(caught.value)
    assert "\n" not in said and not any(secret in said for secret in secrets)
    assert caught.value.__cause__ is None and (caught.value.__suppress_context__ or caught.value.__context__ is None)
    return said


def check_header(opened: Callable[[], Store]) -> None:
    """Nothing is there until it is made; making it twice keeps what is there; headers replace one another."""
    store = opened()
    assert store.header() is None
    with store.writing():
        store.create(DIMENSIONS)
        assert store.header() is None and store.count() == 0 and list(store.marks()) == []
        store.write_header(b"first " * 40_000)
        assert store.header() == b"first " * 40_000
        header = np.random.default_rng(0).bytes(3 * 2**20)
        store.write_header(header)
        store.upsert(made(numbered(3)))
        store.create(DIMENSIONS)
    store.close()
    store = opened()
    assert store.header() == header and store.count() == 3
    assert "holds vectors of 8 dimensions, not 9" in refused(lambda: store.create(9))
    store.write_header(b"")
    assert store.header() == b""
    store.close()


def check_photos(store: Store) -> None:
    """Photos are kept to the byte, replaced by their keys, and taken out."""
    rows = made(ODD)
    rows.mtimes[:4] = [0, -1, 2**63 - 1, 1_700_000_000_123_456_789]
    rows.sizes[0] = 2**40
    rows.marks[:2] = [-(2**63), 2**63 - 1]
    store.upsert(rows)
    for place, key in enumerate(rows.keys):
        photo = store.fetch(key)
        assert photo is not None
        assert (photo.path, photo.size, photo.mtime) == (ODD[place], rows.sizes[place], rows.mtimes[place])
        assert photo.codes.dtype == np.uint8 and np.array_equal(photo.codes, rows.codes[place])
    assert marks_of(store) == dict(zip(rows.keys, rows.marks.tolist(), strict=True))
    later = made(ODD, seed=1)
    store.upsert(later)
    assert store.count() == len(ODD)
    assert marks_of(store) == dict(zip(later.keys, later.marks.tolist(), strict=True))
    found = store.search(later.vectors[1], 1, Where(), None, True)
    assert found.photos[0].path == ODD[1] and found.distances[0] == 0
    store.delete([*later.keys[3:], key_of("/never/there")])
    store.delete([])
    for kind in ("flat", "hnsw", "ivf"):
        store.settle(kind)
        assert store.count() == 3 and store.fetch(later.keys[3]) is None
        assert set(marks_of(store)) == set(later.keys[:3])
        assert store.search(later.vectors[1], 9, Where(), None, False).photos[0].path == ODD[1]
    store.delete(later.keys)
    store.settle("hnsw")
    assert store.count() == 0 and store.search(later.vectors[1], 9, Where(), None, False).photos == []


def check_where(store: Store, *kinds: str) -> None:
    """Folders, in any spelling, and dates choose what the plain reference does, by each kind; "" is before settling."""
    rows = made(ODD + numbered(100))
    store.upsert(made([*rows.paths[20:50], "/gone.jpg"], seed=1))
    store.delete([key_of("/gone.jpg"), rows.keys[30]])
    for start in range(0, len(rows), 40):
        store.upsert(part_of(rows, slice(start, start + 40)))
    middle = int(rows.mtimes[60])
    wheres = [Where(below=(folder,)) for folder in FOLDERS]
    wheres += [Where(excluded=(folder,)) for folder in FOLDERS]
    wheres += [Where(("/photos/3", "/a"), ("/a/b", "/photos/3/13.jpg"), middle - 50 * 10**9, middle)]
    wheres += [Where(since=middle), Where(until=middle), Where(since=-(10**30), until=10**30), Where(since=10**30)]
    vector = rows.vectors[5] + np.float32(0.1)
    for kind in kinds:
        if kind:
            store.settle(kind)
        for where in wheres:
            seen = store.search(vector, 200, where, None, True)
            wanted = order_of(rows, vector, lambda row, where=where: may_be_found(rows, row, where))  # type: ignore[misc]
            assert [photo.path for photo in seen.photos] == wanted, (kind, where)
            assert seen.is_scan


def may_be_found(rows: Rows, row: int, where: Where) -> bool:
    path, mtime = rows.paths[row], int(rows.mtimes[row])
    return (
        (not where.below or any(is_below(path, top) for top in where.below))
        and not any(is_below(path, top) for top in where.excluded)
        and (where.since is None or mtime >= where.since)
        and (where.until is None or mtime < where.until)
    )


def check_found(store: Store, rows: Rows, limit: int) -> None:
    """What `rows`, which the store has, are found by: a scan finds all, at distances that are no squares."""
    for seed in range(3):
        vector = np.random.default_rng(seed).standard_normal(rows.vectors.shape[1], dtype=np.float32)
        seen = store.search(vector, limit, Where(), None, True)
        assert seen.is_scan and seen.distances.dtype == np.float64
        assert [photo.path for photo in seen.photos] == order_of(rows, vector)[:limit]
        wanted = np.sort(np.linalg.norm(rows.vectors.astype(float) - vector, axis=1))[:limit]
        np.testing.assert_allclose(seen.distances, wanted, rtol=1e-5)
