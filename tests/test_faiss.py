"""The store in files that FAISS searches: what it keeps, what it finds, and what it refuses."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faiss")

from store_checks import (
    DIMENSIONS,
    check_found,
    check_header,
    check_photos,
    check_where,
    made,
    marks_of,
    numbered,
    order_of,
    refused,
)

from cbir import stores
from cbir.errors import MissingExtraError
from cbir.store import Where, open_store
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


def test_headers_are_kept(folder: Path) -> None:
    check_header(lambda: opened_at(folder))


def test_opening_writes_nothing(folder: Path) -> None:
    assert opened_at(folder).header() is None
    assert not folder.parent.exists()


def test_photos_are_kept_to_the_byte(store: FaissStore) -> None:
    check_photos(store)


def test_folders_and_dates_choose_in_parts_and_in_a_base(store: FaissStore) -> None:
    check_where(store, "", "hnsw")


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
