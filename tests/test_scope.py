"""Bounds of a search: each tells of exactly the hits, of all that there are, that lie within it."""

from __future__ import annotations

import itertools
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from made_indexes import K, compared_with_each, in_small, photos, placed, put, segment_of, told
from pictures import make_photo

from cbir.errors import CbirError
from cbir.index import Hit, Index
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.scope import EVERYTHING, Scope


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with in_small():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """150 photos in two folders that have axes, and 20 in a third that have none, some of them copies of others."""
    folder = tmp_path_factory.mktemp("made") / "index"
    put(folder, [placed(100, 1), placed(50, 2)]).prepare()
    index = put(folder, [placed(100, 1), ("/photos/2", segment_of(photos(50, 2))), ("/more", placed(20, 1)[1])])
    collection = index._prepared_for(DEFAULT).collection
    assert len(collection.parts) == 1 and len(collection.loose) == 20
    return index


QUERY = "/photos/1/0007.jpg"


def everything(index: Index, metric: Metric = DEFAULT) -> list[tuple[str, float]]:
    return told(index.search(QUERY, len(index), metric))


def test_without_bounds_all_is_found(made: Index) -> None:
    row = made.photos.row_of(QUERY)
    assert row is not None
    # The query itself comes before its copies.
    wanted = sorted(compared_with_each(made, made.codes(row)), key=lambda one: (one[1], one[0] != QUERY))
    assert everything(made) == wanted
    assert told(made.search(QUERY, 500, scope=Scope())) == told(made.search(QUERY, 500, scope=EVERYTHING)) == wanted


def test_within_a_distance_means_at_most_that(made: Index) -> None:
    hits = everything(made)
    for _, distance in hits[::9]:
        for within in (distance, float(np.nextafter(distance, 9)), float(np.nextafter(distance, -1))):
            if within >= 0:
                found = told(made.search(QUERY, 500, scope=Scope(within=within)))
                assert found == [hit for hit in hits if hit[1] <= within]
                assert told(made.search(QUERY, 4, scope=Scope(within=within))) == found[:4]
    assert told(made.search(QUERY, 500, scope=Scope(within=math.inf))) == hits
    copies = [hit for hit in hits if hit[1] == 0]
    assert told(made.search(QUERY, 500, scope=Scope(within=0))) == copies and len(copies) > 1
    far = np.eye(K)[0]
    nearest = made.search(far, 1)[0].distance
    assert made.search(far, scope=Scope(within=nearest / 2)) == [], "nothing is so near"


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_pages_put_together_are_the_whole_with_its_ranks(made: Index, size: int) -> None:
    pages: list[Hit] = []
    for offset in itertools.count(0, size):
        page = made.search(QUERY, size, scope=Scope(offset=offset))
        assert len(page) == min(size, max(len(made) - offset, 0))
        pages += page
        if not page:
            break
    assert told(pages) == everything(made)
    assert [hit.rank for hit in pages] == list(range(1, len(made) + 1))


def test_below_and_excluded_are_folders_or_photos(made: Index) -> None:
    hits = everything(made)

    def found(**bounds: tuple[str, ...]) -> list[tuple[str, float]]:
        return told(made.search(QUERY, 500, scope=Scope(**bounds)))  # type: ignore[arg-type]

    def of(keeps: Callable[[str], bool]) -> list[tuple[str, float]]:
        return [hit for hit in hits if keeps(hit[0])]

    assert found(below=("/photos/2",)) == of(lambda path: path.startswith("/photos/2/")) != []
    assert found(below=("/photos/2", "/more")) == of(lambda path: not path.startswith("/photos/1/"))
    assert found(below=("/",)) == found(below=("/photos", "/more")) == found(below=("/more", "/photos/1", "/photos/2"))
    assert found(below=("/",)) == hits
    assert found(below=("/more/0003.jpg", QUERY)) == of(lambda path: path in ("/more/0003.jpg", QUERY))
    assert found(excluded=("/photos/1",)) == of(lambda path: not path.startswith("/photos/1/"))
    assert found(excluded=("/more", QUERY)) == of(lambda path: not path.startswith("/more/") and path != QUERY)
    assert found(below=("/photos",), excluded=("/photos/1",)) == found(below=("/photos/2",))
    assert found(below=("/photos/1",), excluded=("/photos",)) == found(excluded=("/",)) == []


@pytest.mark.parametrize("place", ["/photos/3", "/photo", "/photos/1/0007", "/photos/1/0007.jpg/x", "", "relative"])
def test_a_place_without_photos_is_refused(made: Index, place: str) -> None:
    for scope in (Scope(below=("/more", place)), Scope(excluded=(place,))):
        for ask in (
            lambda scope=scope: made.search(QUERY, scope=scope),
            lambda scope=scope: made.search_many([QUERY, QUERY], scope=scope),
            lambda scope=scope: made.verify(QUERY, [], scope=scope),
        ):
            with pytest.raises(CbirError, match=f"^{place}: no photo of .*index is, or lies below it$"):
                ask()


@pytest.mark.parametrize(
    "bounds",
    [
        *({"within": within} for within in (-1.0, -math.inf, math.nan, -5e-324)),
        *({"offset": offset} for offset in (-1, -100)),
        *({"distinct": distinct} for distinct in (-1.0, math.inf, math.nan, -math.inf)),
    ],
    ids=str,
)
def test_bounds_out_of_range_are_refused(bounds: dict[str, float]) -> None:
    (name,) = bounds
    with pytest.raises(ValueError, match=f"^{name} is a (distance|number) of 0 or more, not "):
        Scope(**bounds)  # type: ignore[arg-type]


def test_bounds_at_the_end_of_their_range_are_not() -> None:
    Scope(within=0, offset=0, distinct=0)
    Scope(within=math.inf, offset=10**30, distinct=1e300)


def names(hits: list[Hit]) -> list[str]:
    return [os.path.basename(hit.path) for hit in hits]


@pytest.fixture
def real(tmp_path: Path) -> Index:
    """Photos of which b.png is there three times."""
    for seed, name in enumerate("abcdef"):
        make_photo(tmp_path / "photos" / f"{name}.png", seed)
    for copy in ("b2.png", "b0.png"):
        shutil.copy(tmp_path / "photos" / "b.png", tmp_path / "photos" / copy)
    return Index.create(tmp_path / "index", [tmp_path / "photos"], colors=8)


WITHOUT = Scope(itself=False)


def test_without_itself_a_photo_of_the_index_is_not_found_but_its_copies_are(real: Index, tmp_path: Path) -> None:
    query = tmp_path / "photos" / "b.png"
    hits = real.search(query, 8)
    assert names(hits)[:3] == ["b.png", "b0.png", "b2.png"]
    others = real.search(query, 8, scope=WITHOUT)
    assert told(others) == told(hits)[1:] and [hit.rank for hit in others] == list(range(1, 8))
    for limit in (1, 2, 7):
        assert told(real.search(query, limit, scope=WITHOUT)) == told(others)[:limit]
        assert told(real.search(query, limit, scope=Scope(itself=False, offset=2))) == told(others)[2 : 2 + limit]
    query.unlink()
    assert told(real.search("b.png", 3, scope=WITHOUT)) == told(others)[:3], "it need not be there any more"


def test_without_itself_a_changed_photo_is_not_found_as_it_was_either(real: Index, tmp_path: Path) -> None:
    query = tmp_path / "photos" / "a.png"
    shutil.copy(tmp_path / "photos" / "b.png", query)
    hits = real.search(query, 8)
    assert names(hits)[:3] == ["b.png", "b0.png", "b2.png"] and "a.png" in names(hits)[3:]
    for limit in range(1, 9):
        wanted = [hit for hit in told(hits) if not hit[0].endswith("/a.png")][:limit]
        assert told(real.search(query, limit, scope=WITHOUT)) == wanted
        assert told(real.search_many([query], limit, scope=WITHOUT)[0]) == wanted


def test_without_itself_all_is_found_for_what_is_no_photo_of_the_index(real: Index, tmp_path: Path) -> None:
    elsewhere = shutil.copy(tmp_path / "photos" / "b.png", tmp_path / "b.png")
    for query in (elsewhere, make_photo(tmp_path / "new.png", 9), np.eye(len(real.palette))[0]):
        for limit in (1, 8, 20):
            assert told(real.search(query, limit, scope=WITHOUT)) == told(real.search(query, limit))
            assert told(real.search_many([query], limit, scope=WITHOUT)[0]) == told(real.search(query, limit))


def grouped(index: Index, ranking: list[tuple[str, float]], reach: float, metric: Metric) -> list[list[str]]:
    """Going down a ranking, each photo joins the first group whose first photo is within reach, or begins one."""
    space = index.space(metric)
    groups: list[list[str]] = []
    prepared = {index.path(row): space.prepare(index.codes(row)) for row in range(len(index))}
    for path, _ in ranking:
        for group in groups:
            if space.prepared_distance(prepared[group[0]], prepared[path]) <= reach:
                group.append(path)
                break
        else:
            groups.append([path])
    return groups


@pytest.mark.parametrize("reach", [0.0, 0.3, 0.9, 1.2, 3.0])
@pytest.mark.parametrize("metric", [DEFAULT, QBIC], ids=str)
def test_distinct_hits_are_the_firsts_of_a_plain_greedy_grouping(made: Index, metric: Metric, reach: float) -> None:
    ranking = everything(made, metric)
    distances = dict(ranking)
    groups = grouped(made, ranking, reach, metric)
    hits = made.search(QUERY, len(made), metric, scope=Scope(distinct=reach))
    assert [[hit.path, *hit.alike] for hit in hits] == groups
    assert [hit.distance for hit in hits] == [distances[hit.path] for hit in hits]
    assert sorted(path for group in groups for path in group) == sorted(path for path, _ in ranking)
    for limit, offset in ((1, 0), (3, 0), (10, 5), (4, 1000)):
        page = made.search(QUERY, limit, metric, scope=Scope(distinct=reach, offset=offset))
        assert [hit.path for hit in page] == [group[0] for group in groups[offset : offset + limit]]
        assert [hit.rank for hit in page] == list(range(offset + 1, offset + 1 + len(page)))


@pytest.mark.parametrize("reach", [0.0, 0.9, 1.2])
def test_a_distinct_hit_stands_for_all_that_come_before_another_hit_would(made: Index, reach: float) -> None:
    ranking = everything(made)
    paths = [path for path, _ in ranking]
    groups = grouped(made, ranking, reach, DEFAULT)
    for limit in (1, 2, 5, 40):
        end = paths.index(groups[limit][0]) if limit < len(groups) else len(paths)
        wanted = [[path for path in group if path in paths[:end]] for group in groups[:limit]]
        hits = made.search(QUERY, limit, scope=Scope(distinct=reach))
        assert [[hit.path, *hit.alike] for hit in hits] == wanted


def test_of_copies_one_is_told_and_stands_for_the_others(real: Index, tmp_path: Path) -> None:
    hits = real.search(tmp_path / "photos" / "b2.png", 10, scope=Scope(distinct=0))
    assert len(hits) == 6
    assert names(hits)[0] == "b2.png"
    assert hits[0].alike == (str(tmp_path / "photos" / "b.png"), str(tmp_path / "photos" / "b0.png"))
    assert all(hit.alike == () for hit in hits[1:])
    hits = real.search(tmp_path / "photos" / "b2.png", 10, scope=Scope(distinct=0, itself=False))
    assert names(hits)[0] == "b.png" and hits[0].alike == (str(tmp_path / "photos" / "b0.png"),)


def test_all_bounds_together_are_each_after_the_other(made: Index) -> None:
    ranking = everything(made)
    for within, excluded, itself, distinct in itertools.product(
        (ranking[40][1], math.inf), ((), ("/photos/2",)), (True, False), (None, 0.9)
    ):
        left = [hit for hit in ranking if hit[1] <= within and (itself or hit[0] != QUERY)]
        left = [hit for hit in left if not (excluded and hit[0].startswith("/photos/2/"))]
        if distinct is not None:
            firsts = {group[0] for group in grouped(made, left, distinct, DEFAULT)}
            left = [hit for hit in left if hit[0] in firsts]
        for offset, limit in ((0, 6), (3, 1), (3, 1000)):
            scope = Scope(within, offset, ("/photos", "/more"), excluded, itself, distinct)
            hits = made.search(QUERY, limit, scope=scope)
            assert told(hits) == left[offset : offset + limit]
            assert told(made.search_many([QUERY], limit, scope=scope)[0]) == told(hits)
            assert made.verify(QUERY, hits, limit, scope=scope) == (len(hits), len(hits))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(made: Index, limit: int) -> None:
    for scope in (EVERYTHING, Scope(distinct=0.5), WITHOUT):
        for ask in (
            lambda scope=scope: made.search(QUERY, limit, scope=scope),
            lambda scope=scope: made.search_many([QUERY], limit, scope=scope),
            lambda scope=scope: made.verify(QUERY, [], limit, scope=scope),
        ):
            with pytest.raises(ValueError, match="limit is a number above 0"):
                ask()


def test_in_an_index_without_photos_nothing_is_found(tmp_path: Path) -> None:
    empty, query = put(tmp_path / "index", []), np.ones(K)
    for scope in (EVERYTHING, WITHOUT, Scope(within=1, offset=3), Scope(distinct=0.5)):
        for limit in (1, 10):
            assert empty.search(query, limit, scope=scope) == []
            assert empty.search_many([query, query], limit, scope=scope) == [[], []]
            assert empty.verify(query, [], limit, scope=scope) == (0, 0)


def test_a_place_that_is_not_in_a_tuple_is_refused() -> None:
    # It would be taken for places of one letter each.
    for wrong in ({"below": "photos"}, {"excluded": "photos"}):
        with pytest.raises(ValueError, match="tuples"):
            Scope(**wrong)  # type: ignore[arg-type]
