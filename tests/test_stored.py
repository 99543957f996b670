"""Searching a store: the hits of the index in its folder, and whether that is proven, is told truly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_indexes import photos, placed, put, segment_of, told
from memory_store import MemoryStore

from cbir import store
from cbir.index import Index
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.push import push_index
from cbir.scope import Scope
from cbir.store import Seen, StoreError
from cbir.store_header import Header
from cbir.stored import StoredIndex


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(store, "_OPENERS", dict(store._OPENERS))
    store.register("memory", MemoryStore)
    MemoryStore.clear()
    yield
    MemoryStore.clear()


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return put(tmp_path / "index", [placed(150, 1), placed(50, 2)])


SCOPES = {
    "everything": Scope(),
    "below": Scope(below=("/photos/2",)),
    "one photo": Scope(below=("/photos/2/0003.jpg", "/photos/1/0004.jpg")),
    "excluded": Scope(excluded=("/photos/2", "/photos/1/0007.jpg")),
    "both": Scope(below=("/photos",), excluded=("/photos/1",)),
    "offset": Scope(offset=7),
    "within": Scope(within=1.0),
    "nowhere": Scope(within=0.0, itself=False),
    "not itself": Scope(itself=False),
    "since": Scope(since=20_000_000_000),
    "until": Scope(until=20_000_000_000),
    "between": Scope(since=20_000_000_000, until=40_000_000_000, below=("/photos/1",)),
}


@pytest.mark.parametrize("metric", [DEFAULT, QBIC], ids=str)
@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_hits_are_those_of_the_folder_to_the_last_bit(index: Index, metric: Metric, scope: Scope) -> None:
    push_index(index, "memory:here", metric)
    with StoredIndex.open("memory:here") as stored:
        for row in (0, 3, 49, 160, 199):
            for limit in (1, 10, 1000):
                answer = stored.search(index.path(row), limit, scope=scope, exact=True)
                wanted = index.search(index.path(row), limit, metric, scope=scope)
                assert told(answer.hits) == told(wanted)
                assert [hit.rank for hit in answer.hits] == [hit.rank for hit in wanted]
                np.testing.assert_array_equal([hit.amounts for hit in answer.hits], [hit.amounts for hit in wanted])
                assert answer.is_proven


def test_no_photo_that_was_not_told_is_nearer_than_the_bound(index: Index) -> None:
    push_index(index, "memory:here")
    with StoredIndex.open("memory:here") as stored:
        for row in range(0, 200, 9):
            answer = stored.search(index.codes(row), 3, exact=True)
            everything = index.search(index.path(row), 200)
            beyond = [hit.distance for hit in everything[answer.looked_at :]]
            assert 0 < answer.bound <= min(beyond)


def test_an_engine_that_misses_photos_proves_nothing_and_is_right_when_it_compares_all(index: Index) -> None:
    push_index(index, "memory:here")
    MemoryStore.misses = 4
    with StoredIndex.open("memory:here") as stored:
        guess = stored.search(index.path(3), 10)
        assert (guess.is_proven, guess.bound) == (False, 0)
        assert told(guess.hits) != told(index.search(index.path(3), 10))
        proven = stored.search(index.path(3), 10, exact=True)
        assert proven.is_proven
        assert told(proven.hits) == told(index.search(index.path(3), 10))


def test_it_looks_further_until_it_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = np.repeat(photos(1, 5), 90, axis=0)
    index = put(tmp_path / "index", [("/copies", segment_of(copies)), placed(30, 2)])
    push_index(index, "memory:here")
    asked: list[int] = []
    search = MemoryStore.search

    def spy(self: MemoryStore, vector: object, limit: int, *others: object) -> Seen:
        asked.append(limit)
        return search(self, vector, limit, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryStore, "search", spy)
    with StoredIndex.open("memory:here") as stored:
        # All copies are as near as the last hit, and their paths decide.
        answer = stored.search(index.path(60), 5, exact=True)
        assert told(answer.hits) == told(index.search(index.path(60), 5))
        assert asked == [21, 84, 336]
        MemoryStore.most = 50
        with pytest.raises(StoreError, match="not proven exact by the 50 photos"):
            stored.search(index.path(60), 5, exact=True)
        with pytest.raises(StoreError, match="tells 50 photos at most"):
            stored.search(index.path(60), 51)


def test_a_photo_need_not_exist_any_more_and_an_unknown_one_is_refused(index: Index) -> None:
    push_index(index, "memory:here")
    with StoredIndex.open("memory:here") as stored:
        assert stored.search("/photos/1/0003.jpg", 1).hits[0].path == "/photos/1/0003.jpg"
        with pytest.raises(FileNotFoundError, match=r"^/photos/1/none.jpg: no such file, nor a photo in memory:here$"):
            stored.search("/photos/1/none.jpg")
        with pytest.raises(ValueError, match="a descriptor is 42 bytes"):
            stored.search(np.zeros(41, np.uint8))


def test_another_metric_than_the_stores_is_refused_by_name(index: Index) -> None:
    push_index(index, "memory:here")
    with StoredIndex.open("memory:here") as stored:
        with pytest.raises(StoreError, match=r"^memory:here: is of the metric cbir, not qbic; push"):
            stored.search(index.path(1), metric=QBIC)
        assert stored.search(index.path(1), metric=DEFAULT).hits
        with pytest.raises(ValueError, match="limit is a number above 0, not 0"):
            stored.search(index.path(1), 0)
        with pytest.raises(StoreError, match="distinct"):
            stored.search(index.path(1), scope=Scope(distinct=0.3))


def test_a_store_with_nothing_in_it_is_told() -> None:
    with pytest.raises(StoreError, match="memory:none: there is no index in it; put one there with: cbir push"):
        StoredIndex.open("memory:none")


def test_descriptors_of_another_length_are_refused(index: Index) -> None:
    push_index(index, "memory:here")
    for key, (photo, mark, vector) in list(MemoryStore.held[next(iter(MemoryStore.held))].items()):
        short = photo._replace(codes=photo.codes[:-1])
        MemoryStore.held[next(iter(MemoryStore.held))][key] = short, mark, vector
    with (
        StoredIndex.open("memory:here") as stored,
        pytest.raises(StoreError, match="has not 42 bytes"),
    ):
        stored.search(index.codes(3))


def test_a_store_has_the_length_and_the_palette_of_its_index(index: Index) -> None:
    push_index(index, "memory:here")
    with StoredIndex.open("memory:here") as stored:
        assert len(stored) == 200
        np.testing.assert_array_equal(stored.palette.lab, index.palette.lab)
        assert stored.search(index.codes(0), 500).bound == 0
        assert stored.search(index.codes(0), 500, exact=True).bound == math.inf


def test_vectors_that_are_not_the_metrics_are_told_and_never_called_proven(index: Index) -> None:
    push_index(index, "memory:here")
    (photos,) = MemoryStore.held.values()
    for key, (photo, mark, vector) in list(photos.items()):
        turned = vector.copy()
        turned[::2] *= -1
        photos[key] = photo, mark, turned
    with StoredIndex.open("memory:here") as stored, pytest.raises(StoreError, match="not those that this machine"):
        stored.search(index.codes(3), exact=True)


def test_what_a_push_has_written_since_is_taken_in_before_anything_is_called_proven(index: Index) -> None:
    push_index(index, "memory:here")
    with StoredIndex.open("memory:here") as stored:
        before = stored.search(index.codes(3), 3, exact=True)
        (address,) = MemoryStore.headers
        doubtful = replace(Header.of_bytes(MemoryStore.headers[address], ""), doubt=0.01)
        MemoryStore.headers[address] = doubtful.to_bytes()
        after = stored.search(index.codes(3), 3, exact=True)
        assert after.bound == pytest.approx(before.bound - 0.02, abs=1e-4)
        other = replace(doubtful, metric=QBIC)
        MemoryStore.headers[address] = other.to_bytes()
        with pytest.raises(StoreError, match="is of the metric"):
            stored.search(index.codes(3), 3, exact=True)


def test_many_hits_are_compared_by_parts_to_the_last_bit(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    push_index(index, "memory:here")
    monkeypatch.setattr("cbir.stored._PART", 7)
    with StoredIndex.open("memory:here") as stored:
        assert told(stored.search(index.path(5), 60, exact=True).hits) == told(index.search(index.path(5), 60))
