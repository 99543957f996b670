"""The store in files that FAISS searches: what it keeps, what it finds, and what it refuses."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import numpy as np
import pytest

pytest.importorskip("faiss")

from hypothesis import given, settings
from hypothesis import strategies as st
from made_indexes import placed, put
from store_checks import (
    DIMENSIONS,
    check_found,
    made,
    marks_of,
    numbered,
    order_of,
    part_of,
    refused,
)

from cbir import stores
from cbir.errors import MissingExtraError
from cbir.lock import LOCK_NAME
from cbir.push import push_index
from cbir.store import Rows, Where, key_of, open_store
from cbir.stores import faiss as module
from cbir.stores import faiss_index
from cbir.stores.faiss import FaissStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "kept" / "cbir"


@pytest.fixture
def store(folder: Path) -> Iterator[FaissStore]:
    """An empty store."""
    opened = opened_at(folder)
    opened.create(DIMENSIONS)
    yield opened
    opened.close()


def opened_at(folder: Path) -> FaissStore:
    opened = open_store(f"faiss:{folder.parent}#{folder.name}")
    assert isinstance(opened, FaissStore)
    return opened


def test_opening_writes_nothing(folder: Path) -> None:
    assert opened_at(folder).header() is None
    assert not folder.parent.exists()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_index_finds_and_claims_no_scan(store: FaissStore, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", 0)
    rows = made(numbered(2000))
    store.upsert(rows)
    store.settle(kind)
    check_found(store, rows, 30)
    vector = rows.vectors[7] + np.float32(0.2)
    wanted = order_of(rows, vector)[:10]
    seen = store.search(vector, 10, Where(), None, False)
    assert seen.is_scan == (kind == "flat")
    wide = store.search(vector, 10, Where(), 2000, False)
    assert [photo.path for photo in wide.photos] == wanted
    assert (np.diff(wide.distances) >= 0).all()
    half = store.search(vector, 10, Where(excluded=tuple(f"/photos/{n}" for n in range(5))), 2000, False)
    assert [photo.path for photo in half.photos] == [path for path in order_of(rows, vector) if path[8] >= "5"][:10]
    assert half.is_scan == (kind == "flat")
    # So few that a scan of them is sooner done.
    few = store.search(vector, 10, Where(below=("/photos/3/13.jpg", "/photos/3/23.jpg")), None, False)
    assert len(few.photos) == 2 and few.is_scan


def test_a_few_photos_are_put_into_cells_without_a_word(store: FaissStore, capfd: pytest.CaptureFixture[str]) -> None:
    store.upsert(made(numbered(5)))
    store.settle("ivf")
    assert store.count() == 5 and capfd.readouterr() == ("", "")


def test_another_kind_takes_the_place_of_the_one_there(store: FaissStore, folder: Path) -> None:
    store.upsert(made(numbered(100)))
    for kind in ("hnsw", "ivf", "flat", "hnsw"):
        store.settle(kind)
        assert (folder / "index.faiss").exists() == (kind != "flat")
    before = (folder / "index.faiss").stat().st_mtime_ns, os.listdir(folder)
    store.settle("hnsw")
    assert ((folder / "index.faiss").stat().st_mtime_ns, os.listdir(folder)) == before


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_an_index_that_does_not_fit_is_not_read(
    store: FaissStore, folder: Path, damage: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FEW", 0)
    rows = made(numbered(200))
    store.upsert(rows)
    store.settle("hnsw")
    whole = (folder / "index.faiss").read_bytes()
    (folder / "index.faiss").write_bytes(whole[:-1] + b"?" if damage is None else damage)
    store.close()
    with monkeypatch.context() as patched:
        patched.setattr(faiss_index.faiss, "read_index", lambda _: pytest.fail("it was read"))
        seen = store.search(rows.vectors[0], 5, Where(), None, False)
    assert seen.is_scan and [photo.path for photo in seen.photos] == order_of(rows, rows.vectors[0])[:5]
    store.settle("hnsw")
    assert not store.search(rows.vectors[0], 5, Where(), None, False).is_scan


def test_an_index_of_other_photos_is_not_used(store: FaissStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", 0)
    store.upsert(made(numbered(200)))
    store.settle("hnsw")
    later = made(numbered(200), seed=3)
    store.upsert(later)
    # As if the push had been interrupted: what has come in is found all the same.
    seen = opened_at(folder).search(later.vectors[4], 3, Where(), None, False)
    assert seen.is_scan and seen.photos[0].path == later.paths[4] and seen.distances[0] == 0


def files_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All files but the lock, each with its number, the time of its last change, and its content."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != LOCK_NAME:
            status = path.stat()
            found[str(path.relative_to(folder))] = status.st_ino, status.st_mtime_ns, path.read_bytes()
    return found


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_a_push_that_changes_nothing_leaves_all_files_untouched(folder: Path, tmp_path: Path, kind: str) -> None:
    index = put(tmp_path / "index", [placed(150, 1), placed(50, 2)])
    address = f"faiss:{folder.parent}#{folder.name}"
    assert push_index(index, address, kind=kind).sent == 200
    before = files_of(folder)
    assert len(before) == (6 if kind == "flat" else 8)
    assert push_index(index, address).sent == 0
    assert push_index(index, address, kind=kind).sent == 0
    assert files_of(folder) == before


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_of_little_that_has_changed_only_that_is_written(
    store: FaissStore, folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FEW", 100)
    rows = made(numbered(2000))
    store.upsert(rows)
    store.settle(kind)
    before = files_of(folder)
    changed, new = made(rows.paths[:20], seed=5), made(numbered(30, "/new"), seed=6)
    store.upsert(changed)
    store.upsert(new)
    store.delete([*rows.keys[20:30], new.keys[0]])
    store.settle(kind)
    after = files_of(folder)
    assert {name: after[name] for name in before} == before
    assert sum(len(after[name][2]) for name in after.keys() - before.keys()) < 20_000
    assert {name.partition("-")[0] for name in after.keys() - before.keys()} == {"rows", "gone"}
    kept = part_of(rows, slice(30, None))
    there = Rows(**{
        name: np.concatenate([getattr(part, name) for part in (changed, part_of(new, slice(1, None)), kept)])
        if isinstance(column, np.ndarray)
        else [*getattr(changed, name), *getattr(new, name)[1:], *getattr(kept, name)]
        for name, column in vars(rows).items()
    })  # fmt: skip
    assert store.count() == 2019 and marks_of(store) == dict(zip(there.keys, there.marks.tolist(), strict=True))
    assert store.fetch(rows.keys[25]) is None and store.fetch(new.keys[0]) is None
    check_found(store, there, 30)
    # What has come since is found beside what the index finds, and what has gone is not.
    for vector in (changed.vectors[3], new.vectors[7], rows.vectors[25], rows.vectors[3]):
        seen = opened_at(folder).search(vector, 10, Where(), 2000, False)
        assert [photo.path for photo in seen.photos] == order_of(there, vector)[:10]
        assert seen.is_scan == (kind == "flat")
    # Beyond a tenth all becomes one again.
    store.upsert(made(rows.paths[100:280], seed=7))
    store.settle(kind)
    assert sum(name.startswith(("base", "rows", "gone")) for name in os.listdir(folder)) == 1
    assert store.count() == 2019


def test_parts_do_not_gather_however_often_little_changes(store: FaissStore, folder: Path) -> None:
    store.upsert(made(numbered(1000)))
    bases = set()
    for seed in range(40):
        store.upsert(made(numbered(2), seed=seed))
        store.settle("flat")
        names = [name for name in os.listdir(folder) if name.startswith(("base", "rows"))]
        bases |= {name for name in names if name.startswith("base")}
        assert len(names) <= 16
    assert 2 <= len(bases) <= 4


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True)),
        st.tuples(st.just("settle"), st.sampled_from(["flat", "hnsw", "ivf"])),
    ),
    max_size=12,
)


@settings(max_examples=20)
@given(STEPS)
def test_whatever_is_done_the_store_has_what_a_table_would_have(steps: list[tuple[str, Any]]) -> None:
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(module, "_CHANGED", 0.3)
        patch.setattr(module, "_SHARE", 0.0)
        patch.setattr(module, "_FEW", 4)
        store = open_store(f"faiss:{name}#s")
        store.create(DIMENSIONS)
        table: dict[UUID, tuple[int, np.ndarray]] = {}
        paths = numbered(41)
        for seed, (step, what) in enumerate(steps):
            if step == "upsert":
                rows = made([paths[number] for number in what], seed=seed)
                store.upsert(rows)
                table |= {key: (int(rows.marks[i]), rows.vectors[i]) for i, key in enumerate(rows.keys)}
            elif step == "delete":
                gone = [key_of(paths[number]) for number in what]
                store.delete(gone)
                table = {key: row for key, row in table.items() if key not in gone}
            else:
                store.settle(what)
            assert marks_of(store) == {key: mark for key, (mark, _) in table.items()}
            vector = np.ones(DIMENSIONS, np.float32)
            wanted = sorted(table, key=lambda key: float(np.linalg.norm(table[key][1] - vector)))[:5]
            for scan in (True, False):
                seen = store.search(vector, 5, Where(), 1000, scan)
                assert [key_of(photo.path) for photo in seen.photos] == wanted
        store.close()


def test_an_interrupted_part_counts_for_nothing(
    store: FaissStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = made(numbered(50))
    store.upsert(rows)
    real = module.files.write_file
    calls = []

    def stops(place: Path, name: str, write: object) -> str:
        calls.append(name)
        if name == "codes.npy":
            raise KeyboardInterrupt
        return str(real(place, name, write))

    with monkeypatch.context() as patched:
        patched.setattr(module.files, "write_file", stops)
        with pytest.raises(KeyboardInterrupt):
            store.upsert(made(numbered(60), seed=1))
        with pytest.raises(KeyboardInterrupt):
            store.settle("flat")
    assert calls == ["rows.npy", "paths.npy", "codes.npy"] * 2
    assert not any(name.startswith(".writing") for name in os.listdir(folder))
    again = opened_at(folder)
    assert marks_of(again) == dict(zip(rows.keys, rows.marks.tolist(), strict=True))
    again.settle("flat")
    assert [name for name in os.listdir(folder) if "0000" in name] == ["base-0000000002"]


def test_what_a_killed_push_has_left_over_goes_with_the_next(store: FaissStore, folder: Path) -> None:
    store.upsert(made(numbered(5)))
    (folder / ".writing-part").mkdir()
    (folder / ".writing-part" / "rows.npy").write_bytes(b"half")
    (folder / ".writing-index").write_bytes(b"half")
    assert store.count() == 5
    store.settle("hnsw")
    assert sorted(os.listdir(folder)) == ["base-0000000002", "index.faiss", "index.json", "store.json"]
    assert store.count() == 5


def test_a_reader_sees_what_another_has_written(store: FaissStore, folder: Path) -> None:
    reader = opened_at(folder)
    assert reader.count() == 0
    rows = made(numbered(20))
    store.upsert(rows)
    assert reader.count() == 20
    marks = reader.marks()
    store.delete(rows.keys[:5])
    store.settle("flat")
    assert reader.count() == 15
    assert sum(len(keys) for keys, _ in marks) in (15, 20)


def test_two_pushes_at_once_are_one_too_many(store: FaissStore, folder: Path) -> None:
    with store.writing():
        said = refused(lambda: opened_at(folder).writing().__enter__())
        assert "is writing it; wait until it is done" in said
    with opened_at(folder).writing():
        pass


def test_what_is_not_ours_stays_as_it_is(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "letter.txt").write_text("mine")
    assert "was not made by cbir (it has letter.txt)" in refused(lambda: opened_at(folder))
    (folder / "letter.txt").rename(folder / "store.json")
    assert "was not made by cbir" in refused(lambda: opened_at(folder))
    (folder / "store.json").write_text(json.dumps({"made by": "cbir push", "layout": 9, "dimensions": 3}))
    assert "of another version of cbir (9, not 1)" in refused(lambda: opened_at(folder))
    assert os.listdir(folder) == ["store.json"]
    file = folder.parent / "file"
    file.write_text("mine")
    assert "Not a directory" in refused(lambda: open_store(f"faiss:{file}"))
    assert "has no folder" in refused(lambda: open_store("faiss:"))
    assert "has a host" in refused(lambda: open_store("faiss://there/x"))


class Mischief:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("mischief",)


@pytest.mark.parametrize("column", ["rows", "paths", "codes", "vectors"])
def test_hostile_files_are_refused_in_one_line(
    store: FaissStore, folder: Path, column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store.upsert(made(numbered(30)))
    store.settle("flat")
    file = folder / "base-0000000002" / f"{column}.npy"
    whole = file.read_bytes()
    objects = np.array([Mischief()], object)
    for bad in (
        b"",
        whole[:40],
        whole[:-1],
        pickle.dumps(Mischief()),
        _saved(objects, tmp_path),
        _saved(np.zeros((3, 3)), tmp_path),
    ):
        file.write_bytes(bad)
        store.close()
        assert "is damaged; remove the folder" in refused(store.count)
        assert not (tmp_path / "mischief").exists()
    # Paths that end beyond their end, or go back.
    if column == "rows":
        for value in (2**62, -1):
            rows = np.frombuffer(whole[-30 * 48 :], module.files.ROW).copy()
            rows["end"][20] = value
            file.write_bytes(whole[: -30 * 48] + rows.tobytes())
            store.close()
            assert "is damaged" in refused(store.count)


def _saved(array: np.ndarray, folder: Path) -> bytes:
    np.save(folder / "saved.npy", array, allow_pickle=True)
    return (folder / "saved.npy").read_bytes()


def test_a_full_disk_is_one_line(store: FaissStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device", os.fspath(folder))

    monkeypatch.setattr(module.files, "write_file", full)
    assert "No space left on device" in refused(lambda: store.upsert(made(numbered(3))))


def test_vectors_of_other_dimensions_or_none_are_refused(store: FaissStore) -> None:
    assert "holds vectors of 8 dimensions" in refused(lambda: store.upsert(made(numbered(3), dimensions=9)))
    rows = made(numbered(3))
    rows.vectors[1, 2] = np.nan
    assert "must be finite" in refused(lambda: store.upsert(rows))


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    for name in ("cbir.stores.faiss", "cbir.stores.faiss_index"):
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(stores, name.rpartition(".")[2])
    with pytest.raises(MissingExtraError, match=r"faiss is not installed; run: pip install 'cbir\[faiss\]'"):
        open_store(f"faiss:{tmp_path}")
