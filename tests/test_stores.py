"""Every registered store gives the hits of the index in its folder. A new one is covered by registering it, and by
saying in `ADDRESSES` where it is to be found in a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from made_indexes import placed, put, told
from store_checks import DIMENSIONS, check_header, check_photos, check_where

from cbir import store
from cbir.cli.explaining import explanation_record
from cbir.index import Index
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.push import push_index
from cbir.query import Like, Query
from cbir.scope import Scope
from cbir.store import KINDS, Store, StoreError, open_store, parse_address
from cbir.stored import StoredIndex

# Where a store of each scheme is found in a test; what it asks for is skipped with its reason.
ADDRESSES: dict[str, Callable[[pytest.FixtureRequest, Path], str]] = {
    "postgresql": lambda request, _: request.getfixturevalue("postgres"),
    "milvus": lambda _, folder: f"milvus:{needing('pymilvus', 'milvus_lite') and folder / 'lite.db'}",
    "faiss": lambda _, folder: f"faiss:{needing('faiss') and folder / 'faiss'}",
}
NUMBERS = count()
SCOPES = [
    Scope(),
    Scope(offset=3, itself=False),
    Scope(below=("/photos/2",)),
    Scope(excluded=("/photos/1", "/photos/2/0003.jpg")),
    Scope(within=1.0),
    Scope(since=20_000_000_000, until=60_000_000_000),
]


def needing(*modules: str) -> bool:
    for module in modules:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return True


@pytest.fixture(scope="module", params=store.registered())
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def address(scheme: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a store without a collection's name; each test has one of its own."""
    return ADDRESSES[scheme](request, tmp_path_factory.mktemp("stores"))


@pytest.fixture
def target(scheme: str, address: str, request: pytest.FixtureRequest) -> str:
    # That of a server which others use too is taken away afterwards.
    return str(request.getfixturevalue("postgres_address")) if scheme == "postgresql" else f"{address}#t{next(NUMBERS)}"


@pytest.fixture
def opened(target: str) -> Iterator[Store]:
    """An empty store."""
    store = open_store(target)
    store.create(DIMENSIONS)
    yield store
    store.close()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return put(tmp_path_factory.mktemp("stores") / "index", [placed(150, 1), placed(50, 2)])


def test_headers_are_kept(target: str) -> None:
    check_header(lambda: open_store(target))


def test_photos_are_kept_to_the_byte(opened: Store) -> None:
    check_photos(opened)


def test_folders_and_dates_choose_before_and_after_settling(opened: Store) -> None:
    check_where(opened, "", "hnsw")


@pytest.mark.parametrize("metric", [DEFAULT, QBIC], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_hits_and_distances_are_those_of_the_folder(target: str, index: Index, kind: str, metric: Metric) -> None:
    push_index(index, target, metric, kind=kind)
    with StoredIndex.open(target) as stored:
        assert len(stored) == len(index)
        assert stored.header.is_complete
        for scope in SCOPES:
            for row in (3, 160):
                answer = stored.search(index.path(row), 10, scope=scope, exact=True)
                wanted = index.search(index.path(row), 10, metric, scope=scope)
                assert told(answer.hits) == told(wanted), scope
                assert answer.is_proven


def test_without_exact_distances_are_exact_and_what_is_called_proven_is(target: str, index: Index) -> None:
    push_index(index, target)
    with StoredIndex.open(target) as stored:
        for row in range(0, 200, 40):
            answer = stored.search(index.path(row), 10)
            distances = {hit.path: hit.distance for hit in index.search(index.path(row), 200)}
            assert answer.hits
            assert [distances[hit.path] for hit in answer.hits] == [hit.distance for hit in answer.hits]
            if answer.is_proven:
                assert told(answer.hits) == told(index.search(index.path(row), 10))


def test_engines_tell_distances_and_not_their_squares(target: str, index: Index) -> None:
    push_index(index, target, kind="flat")
    vector = index.space().embed(index.codes(7))
    with StoredIndex.open(target) as stored:
        seen = stored.store.search(vector.astype(np.float32), 20, store.Where(), None, True)
    wanted = [np.linalg.norm(index.space().embed(photo.codes) - vector) for photo in seen.photos]
    np.testing.assert_allclose(seen.distances, wanted, atol=2e-3)
    assert (np.diff(seen.distances) >= 0).all()
    assert max(wanted) > 0.5


def test_a_second_push_sends_what_has_changed_alone(target: str, index: Index, tmp_path: Path) -> None:
    assert push_index(index, target).sent == 200
    assert push_index(index, target).sent == 0
    later = put(tmp_path / "later", [placed(150, 1), placed(30, 3)])
    report = push_index(later, target, replace_all=True)
    assert (report.photos, report.sent, report.deleted) == (180, 30, 50)
    with StoredIndex.open(target) as stored:
        assert len(stored) == 180
        for row in (3, 160):
            answer = stored.search(later.path(row), 10, exact=True)
            assert told(answer.hits) == told(later.search(later.path(row), 10))


def test_parts_of_one_palette_fill_one_store_and_are_found_as_one_index(
    target: str, index: Index, tmp_path: Path
) -> None:
    # One lies in a folder whose name begins as that of another does.
    parts = [placed(60, 1, "/photos/2024"), placed(50, 2, "/photos/2024-12"), placed(40, 3, "/photos/2025")]
    whole = put(tmp_path / "whole", parts)
    for number, part in enumerate(parts):
        assert push_index(put(tmp_path / str(number), [part]), target, below=[part[0]]).deleted == 0
    with StoredIndex.open(target) as stored:
        assert len(stored) == 150 and stored.header.is_complete
        for row in (3, 70, 149):
            answer = stored.search(whole.path(row), 10, exact=True)
            assert answer.is_proven and told(answer.hits) == told(whole.search(whole.path(row), 10))
    fewer = put(tmp_path / "0", [placed(45, 1, "/photos/2024")])
    report = push_index(fewer, target, below=["/photos/2024"])
    assert (report.photos, report.deleted) == (135, 15)


def test_other_palettes_and_metrics_are_refused(target: str, index: Index, tmp_path: Path) -> None:
    push_index(index, target)
    with pytest.raises(StoreError, match="is of the palette of another index"):
        push_index(put(tmp_path / "other", [placed(20, 1)], palette_seed=5), target)
    with pytest.raises(StoreError, match="is of the metric cbir, not qbic"):
        push_index(index, target, QBIC)
    assert push_index(index, target).sent == 0


def test_nothing_is_there_before_the_first_push(target: str) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match="there is no index in it"):
            StoredIndex.open(target)
        store = open_store(target)
        assert store.header() is None
        assert store.shown == parse_address(target).shown
        store.close()


def test_what_is_liked_and_unliked_finds_and_is_explained_as_in_the_folder(target: str, index: Index) -> None:
    push_index(index, target)
    query = Query(like=[index.path(3), Like(index.path(160), 2)], unlike=[index.path(20)])
    with StoredIndex.open(target) as stored:
        answer, wanted = stored.search(query, 10, exact=True), index.search(query, 10)
        assert answer.is_proven and told(answer.hits) == told(wanted)
        paths = [hit.path for hit in wanted]
        explained = zip(stored.explain(query, paths), index.explain(query, paths), strict=True)
        assert all(explanation_record(one) == explanation_record(other) for one, other in explained)


def test_the_command_finds_the_same(target: str, run: Run, photos: Path, in_process: None) -> None:
    run("index", photos)
    pushed = run("push", "photos", target)
    assert pushed.exit_code == 0, pushed.stderr
    words = ["search", "photos/things/brick.jpg", "-n", "5", "--format", "csv"]
    found = run(*words, "--store", target, "--exact")
    assert found.exit_code == 0, found.stderr
    assert found.stdout == run(*words).stdout
    assert "exact, proven" in found.stderr


def test_every_registered_store_is_tested() -> None:
    assert set(store.registered()) == set(ADDRESSES)
