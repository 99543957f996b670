"""Searching a store: the hits of the index in its folder, and whether that is proven, is told truly."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from made_indexes import photos, placed, put, segment_of, told
from memory_store import MemoryStore, memory  # noqa: F401
from pictures import make_photo

from cbir.cli.explaining import explanation_record
from cbir.color import F32
from cbir.errors import PictureError
from cbir.find import Skipped
from cbir.index import Index
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.push import push_index
from cbir.query import Like, Query
from cbir.scope import Scope
from cbir.store import Seen, Stored, StoreError, key_of
from cbir.store_header import Header
from cbir.stored import StoredIndex


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


A, B, C, D = "/photos/1/0007.jpg", "/photos/2/0011.jpg", "/photos/2/0003.jpg", "/photos/1/0020.jpg"
QUERIES = {
    "one": Query(like=[A]),
    "several": Query(like=[A, Like(B, 2), C], weights={"like": 3}),
    "unlike": Query(like=[A, Like(B, 0.5)], unlike=[C, Like(D, 3)]),
    "one unlike": Query(like=[D], unlike=[A]),
}
each_query = pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)


@pytest.mark.parametrize("metric", [DEFAULT, QBIC], ids=str)
@each_query
def test_several_pictures_liked_and_unliked_find_what_they_do_in_the_folder(
    index: Index, query: Query, metric: Metric
) -> None:
    push_index(index, "memory:here", metric)
    with StoredIndex.open("memory:here") as stored:
        for scope in (Scope(), Scope(itself=False, offset=2), Scope(within=0.8, below=("/photos/2",))):
            for limit in (1, 10, 1000):
                answer = stored.search(query, limit, scope=scope, exact=True)
                assert answer.is_proven
                assert told(answer.hits) == told(index.search(query, limit, metric, scope=scope))


@each_query
def test_no_photo_that_was_not_told_is_nearer_than_the_bound_by_what_feedback_makes_of_it(
    index: Index, query: Query
) -> None:
    push_index(index, "memory:here")
    with StoredIndex.open("memory:here") as stored:
        for limit in (1, 3, 20, 60):
            answer = stored.search(query, limit, exact=True)
            everything = index.search(query, 200)
            looked_at = {hit.path for hit in stored.search(query, answer.looked_at, exact=True).hits}
            beyond = [hit.distance for hit in everything if hit.path not in looked_at]
            assert 0 < answer.bound <= min(beyond, default=math.inf)
            assert answer.hits[-1].distance < answer.bound


@pytest.mark.parametrize("metric", [DEFAULT, QBIC], ids=str)
def test_what_an_engine_rounds_far_from_all_photos_is_still_proven(
    index: Index, metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unliked pictures push the place that is asked for beyond all photos; the engine sums up large squares there."""
    push_index(index, "memory:here", metric)
    real = MemoryStore.search

    def by_products(self: MemoryStore, vector: F32, limit: int, *others: Any) -> Seen:
        seen = real(self, vector, 1000, *others)
        own = np.array([self._photos[key_of(photo.path)][2] for photo in seen.photos])
        squares = (own * own).sum(axis=1) + np.float32(vector @ vector) - 2 * (own @ vector)
        assert squares.dtype == np.float32
        distances = np.sqrt(np.maximum(squares.astype(np.float64), 0))
        order = np.argsort(distances, kind="stable")[:limit]
        return Seen([seen.photos[place] for place in order], distances[order], seen.is_scan)

    monkeypatch.setattr(MemoryStore, "search", by_products)
    with StoredIndex.open("memory:here") as stored:
        for row in range(0, 200, 20):
            query = Query(like=[index.path(row)], unlike=[index.path((row + 90) % 200)])
            answer = stored.search(query, 10, exact=True)
            assert told(answer.hits) == told(index.search(query, 10, metric))


def test_what_feedback_draws_nearer_is_looked_for_further_away(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Along what liked photos differ in distances shrink, so what lies further by the vectors may yet be nearer."""
    push_index(index, "memory:here")
    with StoredIndex.open("memory:here") as stored:
        query = Query(like=[index.path(row) for row in range(0, 60, 3)])
        monkeypatch.setattr("cbir.stored._FEWEST", 1)
        monkeypatch.setattr("cbir.stored._MORE", 1)
        proven = stored.search(query, 12, exact=True)
        guess = stored.search(query, 12)
        assert told(proven.hits) == told(index.search(query, 12)) != told(guess.hits)
        assert (proven.is_proven, guess.is_proven) == (True, False)


@pytest.mark.parametrize("pool", [30, 1000])
@pytest.mark.parametrize("query", [A, *QUERIES.values()], ids=["path", *QUERIES])
def test_the_second_pass_orders_as_in_the_folder(
    index: Index, query: str | Query, pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cbir.ranking", "cbir.stored"):
        monkeypatch.setattr(f"{module}.POOL", pool)
    push_index(index, "memory:here")
    with StoredIndex.open("memory:here") as stored:
        for scope in (Scope(), Scope(itself=False, offset=2), Scope(within=1.0, below=("/photos/2",))):
            for limit in (1, 10, 60):
                answer = stored.search(query, limit, scope=scope, rerank=True, exact=True)
                wanted = index.search(query, limit, scope=scope, rerank=True)
                assert answer.is_proven and told(answer.hits) == told(wanted)
                (many,) = stored.search_many([query], limit, scope=scope, rerank=True, exact=True)
                assert many is not None and told(many.hits) == told(wanted)
        assert told(stored.search(query, 60, rerank=True).hits) != told(stored.search(query, 60).hits)


@pytest.mark.parametrize("metric", [DEFAULT, QBIC], ids=str)
@pytest.mark.parametrize("query", [A, *QUERIES.values()], ids=["path", *QUERIES])
def test_distances_are_explained_as_those_of_the_folder(index: Index, query: str | Query, metric: Metric) -> None:
    push_index(index, "memory:here", metric)
    paths = [index.path(row) for row in (7, 3, 160)]
    with StoredIndex.open("memory:here") as stored:
        for most in (3, 12):
            for one, wanted in zip(
                stored.explain(query, paths, most=most), index.explain(query, paths, metric, most=most), strict=True
            ):
                assert explanation_record(one) == explanation_record(wanted)
        with pytest.raises(FileNotFoundError, match=r"none.jpg: no such file, nor a photo in memory:here"):
            stored.explain(query, ["/photos/1/none.jpg"])
        with pytest.raises(StoreError, match="is of the metric"):
            stored.explain(query, paths, Metric.parse("sqrt-laplacian:10"))


def test_whole_pictures_in_colours_are_asked_of_a_metric_of_wholes_alone(index: Index) -> None:
    query = Query(colors=["#102030:60", "#ddccbb:40"])
    push_index(index, "memory:here", QBIC)
    with StoredIndex.open("memory:here") as stored:
        answer, wanted = stored.search(query, 10, exact=True), index.search(query, 10, QBIC)
        assert told(answer.hits) == told(wanted)
        assert [hit.asked for hit in answer.hits] == [hit.asked for hit in wanted]
    push_index(index, "memory:here#parts")
    with StoredIndex.open("memory:here#parts") as stored, pytest.raises(StoreError, match="is of the metric cbir, not"):
        stored.search(query)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query(like=[A], colors=["red:20"]), "colors"),
        (Query(like=[A], colors=["red:20", "blue:80"]), "colors"),
        (Query(colors=["red"], accents=["blue"]), "colors, accents"),
        (Query(like=[A], without=["red"], tones=["dark"], paint="a.png"), "without, tones, paint"),
    ],
)
def test_parts_that_have_no_place_among_the_vectors_are_refused(index: Index, query: Query, said: str) -> None:
    push_index(index, "memory:here")
    with StoredIndex.open("memory:here") as stored:
        for action in (
            stored.search,
            lambda query: stored.explain(query, [A]),
            lambda query: stored.search_many([query]),
        ):
            with pytest.raises(StoreError, match=f"^memory:here: no store is asked for {said}; ask the index itself$"):
                action(query)


def test_many_are_answered_as_each_and_those_that_cannot_be_read_are_told(index: Index, tmp_path: Path) -> None:
    push_index(index, "memory:here")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    picture = make_photo(tmp_path / "picture.png", 5)
    queries = [A, broken, index.codes(9), picture, QUERIES["unlike"]]
    with StoredIndex.open("memory:here") as stored:
        with pytest.raises(PictureError, match=r"broken.jpg: not a picture"):
            stored.search_many(queries)
        skipped: list[Skipped] = []
        answers = list(stored.search_many(queries, 7, scope=Scope(offset=1), exact=True, jobs=3, skipped=skipped))
        assert [one.path for one in skipped] == [str(broken)] and answers[1] is None
        for query, answer in zip(queries, answers, strict=True):
            if answer is not None:
                alone = stored.search(query, 7, scope=Scope(offset=1), exact=True)
                assert (told(answer.hits), answer.bound) == (told(alone.hits), alone.bound)
        assert list(stored.search_many([])) == []
        with pytest.raises(ValueError, match="limit is a number above 0, not 0"):
            stored.search_many([A], 0)


def test_a_photo_that_many_ask_with_is_fetched_once_by_one_thread_at_a_time(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_index(index, "memory:here")
    real, fetched, busy = MemoryStore.fetch, [], Lock()

    def spy(self: MemoryStore, key: UUID) -> Stored | None:
        assert busy.acquire(blocking=False), "one thread at a time may use a store"
        photo = real(self, key)
        fetched.append(photo.path if photo else None)
        busy.release()
        return photo

    monkeypatch.setattr(MemoryStore, "fetch", spy)
    with StoredIndex.open("memory:here") as stored:
        queries = [Query(like=[A, index.path(row)]) for row in range(40)]
        found = list(stored.search_many(queries, 3, jobs=8))
        assert len(found) == 40 and sorted(fetched) == sorted(index.path(row) for row in range(40))
