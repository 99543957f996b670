"""Whole queries: pictures, colours, accents, paintings and filters together, over indexes of made-up photos."""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_indexes import K, in_small, photos, placed, put, segment_of, told
from pictures import make_photo, photo_pixels
from PIL import Image

from cbir import asking
from cbir.asked import StandsOut, is_shade
from cbir.color import hex_of_bytes
from cbir.color_name import NamedColor, Wanted, css_color
from cbir.decode import read_working_picture
from cbir.descriptor import DESCRIPTORS
from cbir.errors import MetricError, PictureError
from cbir.feedback import aim
from cbir.find import Skipped
from cbir.index import Index
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.painting import Painting
from cbir.query import Like, Query, QueryError, Region
from cbir.scope import Scope
from cbir.search import Stage
from cbir.tone import DEFINITIONS, has_tone

METRICS = [DEFAULT, QBIC, Metric.parse("sqrt-laplacian:10"), Metric.parse("cbir:5,whole=3,centre=2,power=0.05")]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=str)
A, B, C, D = "/photos/1/0007.jpg", "/photos/2/0011.jpg", "/more/0003.jpg", "/photos/1/0020.jpg"


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with in_small():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """150 photos in two folders that have axes, and 20 in a third that have none, some of them copies of others."""
    folder = tmp_path_factory.mktemp("made") / "index"
    first = put(folder, [placed(100, 1), placed(50, 2)])
    for metric in METRICS:
        first.prepare(metric)
        first.prepare(metric.of_whole())
    return put(folder, [placed(100, 1), ("/photos/2", segment_of(photos(50, 2))), ("/more", placed(20, 1)[1])])


@pytest.fixture(scope="module")
def painting(made: Index, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The upper half of a picture in two colours of the palette; below there is nothing."""
    pixels = np.zeros((24, 24, 4), np.uint8)
    pixels[:12, :, 3] = 255
    pixels[:12, :16, :3], pixels[:12, 16:, :3] = made.palette.srgb[0], made.palette.srgb[5]
    path = tmp_path_factory.mktemp("painted") / "painting.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def color(index: Index, number: int, rest: str = "") -> str:
    """How to ask for a colour of the palette."""
    return hex_of_bytes(index.palette.srgb[number]) + rest


PARTS = ["one", "several", "unlike", "colors", "whole picture", "accent", "accents", "paint"]
COMBINED = [
    *([one] for one in PARTS),
    ["tones"], ["without"], ["one", "tones"], ["one", "without"], ["several", "without", "tones"],
    ["one", "colors"], ["several", "whole picture"], ["unlike", "colors"], ["one", "accent"], ["colors", "accents"],
    ["whole picture", "accent"], ["colors", "paint"], ["one", "paint"], ["unlike", "accent", "paint"],
    ["whole picture", "paint", "without"], ["unlike", "colors", "accents", "paint", "without", "tones", "weights"],
    ["one", "whole picture", "accent", "paint", "weights"],
]  # fmt: skip
each_query = pytest.mark.parametrize("parts", COMBINED, ids="+".join)
# Every query by the default, and some by every metric.
each_case = pytest.mark.parametrize(
    ("parts", "metric"),
    [
        pytest.param(parts, metric, id="+".join(parts) + f"-{str(metric)[:20]}")
        for metric in METRICS
        for parts in COMBINED
        if metric == DEFAULT or parts in (["unlike"], ["several", "whole picture"], COMBINED[-2], COMBINED[-1])
    ],
)


def asked_of(index: Index, painted: str, parts: list[str]) -> dict[str, Any]:
    """The arguments of a query of such parts."""
    kinds: dict[str, dict[str, Any]] = {
        "one": {"like": [A]},
        "several": {"like": [A, Like(B, 2), C]},
        "unlike": {"like": [A, Like(B, 0.5)], "unlike": [C, Like(D, 3)]},
        "colors": {"colors": [color(index, 0, ":30~30"), color(index, 3), color(index, 5, ":20")]},
        "whole picture": {"colors": [color(index, 1, ":60"), color(index, 4, ":40")]},
        "accent": {"accents": [color(index, 2)]},
        "accents": {"accents": [color(index, 2), color(index, 4, "~30"), color(index, 0)]},
        "paint": {"paint": painted},
        "tones": {"tones": ["dark"]},
        "without": {"without": [color(index, 3, ":30"), color(index, 4, ":20~20")]},
        "weights": {"weights": {"like": 2.0, "color": 0.5, "accent": 3.0, "paint": 1.5}},
    }
    asked: dict[str, Any] = {}
    for part in parts:
        asked |= kinds[part]
    return asked


def asked_for(index: Index, painted: str, parts: list[str]) -> Query:
    return Query(**asked_of(index, painted, parts))


def everything(index: Index, query: Query, metric: Metric = DEFAULT) -> dict[str, float]:
    return dict(told(index.search(query, len(index), metric)))


@each_case
def test_what_a_query_finds_is_what_comparing_with_every_photo_finds(
    made: Index, painting: str, parts: list[str], metric: Metric
):
    query = asked_for(made, painting, parts)
    ranking = made.search(query, len(made), metric)
    assert ranking and [hit.distance for hit in ranking] == sorted(hit.distance for hit in ranking)
    middle = ranking[len(ranking) // 2].distance
    for limit, scope in (
        (1000, Scope()),
        (1, Scope()),
        (9, Scope(itself=False, offset=3)),
        (30, Scope(within=middle)),
        (5, Scope(below=("/photos/1", "/more"), excluded=("/photos/1/0001.jpg",))),
        (6, Scope(distinct=0.5)),
    ):
        hits = made.search(query, limit, metric, scope=scope)
        assert made.verify(query, hits, limit, metric, scope=scope) == (len(hits), len(hits))
    assert told(made.search(query, 9, metric)) == told(ranking[:9])
    assert told(made.search(query, 1000, metric, scope=Scope(within=middle))) == [
        one for one in told(ranking) if one[1] <= middle
    ]


@each_query
def test_many_queries_find_together_what_each_finds(made: Index, painting: str, parts: list[str]):
    query = asked_for(made, painting, parts)
    found = made.search_many([query, A, Query(like=[B]), np.ones(K)], 8)
    assert [told(hits) for hits in found] == [
        told(made.search(one, 8)) for one in (query, A, Query(like=[B]), np.ones(K))
    ]


@each_case
def test_what_is_explained_is_the_distance_and_adds_up_to_it(
    made: Index, painting: str, parts: list[str], metric: Metric
):
    query = asked_for(made, painting, parts)
    hits = made.search(query, 40, metric)[::9]
    for most in (10_000, 3):
        for hit, why in zip(hits, made.explain(query, [hit.path for hit in hits], metric, most=most), strict=True):
            assert why.distance == pytest.approx(hit.distance, abs=1e-9)
            added = sum(pair.added for pair in why.pairs) + sum(part for _, part in why.parts)
            assert added + why.rest == pytest.approx(hit.distance, abs=1e-9)
            assert len(why.pairs) <= most
            if most == 10_000:
                assert why.rest == pytest.approx(0, abs=1e-9), "of all pairs nothing is left"


@each_metric
def test_the_colours_of_a_hit_are_told_by_pairs_that_add_up_to_what_is_unmet(made: Index, metric: Metric):
    query = Query(colors=[color(made, 0, ":30~30"), color(made, 5, ":20")])
    hits = made.search(query, len(made), metric)
    for hit, why in zip(hits, made.explain(query, [hit.path for hit in hits], metric, most=10_000), strict=True):
        assert not why.parts
        assert sum(pair.share for pair in why.pairs) == pytest.approx(0.5)
        assert sum(pair.added for pair in why.pairs) == pytest.approx(hit.distance, abs=1e-9)
        assert all(pair.added >= 0 for pair in why.pairs)


@pytest.mark.parametrize("parts", [one for one in COMBINED if len(one) > 1], ids="+".join)
def test_a_distance_is_the_root_of_the_weighted_mean_of_the_squares_of_those_by_its_parts(
    made: Index, painting: str, parts: list[str]
):
    query = asked_for(made, painting, parts)
    squares: dict[str, float] = dict.fromkeys((made.path(row) for row in range(len(made))), 0.0)
    total = 0.0
    alone = [
        *([("like", Query(like=query.like, unlike=query.unlike))] if query.like else []),
        *([("color", Query(colors=query.colors))] if query.colors else []),
        *(("accent", Query(accents=[one])) for one in query.accents),
        *([("paint", Query(paint=query.paint))] if query.paint else []),
    ]
    for kind, part in alone:
        total += query.weight(kind)
        for path, distance in everything(made, part).items():
            squares[path] += query.weight(kind) * distance**2
    expected = {path: math.sqrt(square / (total or 1)) for path, square in squares.items()}
    found = everything(made, query)
    assert found == pytest.approx({path: expected[path] for path in found}, abs=1e-9)
    assert (len(found) < len(made)) == bool(query.without or query.tones)


def test_pictures_are_aimed_at_by_their_weights(made: Index):
    space = made.space()
    point = {path: space.point(made.codes(made.find(path))) for path in (A, B, C, D)}
    target = aim(space, [(point[A], 1), (point[B], 3)], [(point[C], 2), (point[D], 0.5)])
    prepared = space.prepare(np.array([made.codes(row) for row in range(len(made))]))
    squares = target.squares(prepared, space.prepared_distances(prepared, target.point.prepared))
    query = Query(like=[A, Like(B, 3)], unlike=[Like(D, 0.5), Like(C, 2)])
    found = everything(made, query)
    assert found == pytest.approx({made.path(row): math.sqrt(squares[row]) for row in range(len(made))}, abs=1e-9)


def test_a_photo_in_which_an_accent_stands_out_is_near_and_one_without_it_as_far_as_any(made: Index):
    query = Query(accents=[color(made, 0)])
    (asked,) = query.accent_colors
    stands_out = StandsOut(made.palette.lab, asked, made.mean_amounts())
    expected = {made.path(row): 1 - float(stands_out.of(made.amounts(row)[None])[0]) for row in range(len(made))}
    assert everything(made, query) == pytest.approx(expected, abs=1e-9)
    assert min(expected.values()) < 0.5 and max(expected.values()) == 1


def test_what_is_painted_may_be_met_by_shades_within_the_usual_tolerance(made: Index, painting: str):
    picture = read_working_picture(painting)
    shares = made.descriptor.shares(np.array([made.codes(row) for row in range(len(made))]))
    lacking = Painting(picture, made.palette, made.descriptor, 12.0).of(shares)
    expected = {made.path(row): float(lacking[row]) for row in range(len(made))}
    assert everything(made, Query(paint=painting)) == pytest.approx(expected, abs=1e-9)


def test_what_pictures_are_called_does_not_matter_to_the_last_bit(made: Index):
    # By these names they come in another order.
    query, other = Query(like=[A, Like(B, 3), C]), Query(like=["1/0007.jpg", Like(B, 3), "more/0003.jpg"])
    assert [one.weight for one in query.liked] != [one.weight for one in other.liked]
    assert told(made.search(query, 1000)) == told(made.search(other, 1000))


@each_query
def test_the_order_of_the_parts_does_not_matter_to_the_last_bit(made: Index, painting: str, parts: list[str]):
    asked = asked_of(made, painting, parts)
    first = told(made.search(Query(**asked), 1000))
    for seed in range(3):
        shuffled = dict(asked)
        for name, some in asked.items():
            if isinstance(some, list):
                shuffled[name] = random.Random(seed).sample(some, len(some))
        shuffled["weights"] = dict(reversed(asked.get("weights", {}).items()))
        assert told(made.search(Query(**shuffled), 1000)) == first


@each_metric
@pytest.mark.parametrize("name", [A, "1/0007.jpg", C])
def test_a_query_of_one_picture_is_a_search_for_it(made: Index, metric: Metric, name: str):
    ranking = made.search(name, 1000, metric)
    query = Query(like=[name])
    assert ranking[0].distance == 0 and ranking[0].path.endswith(name)
    for scope in (
        Scope(itself=False),
        Scope(offset=4),
        Scope(within=ranking[20].distance),
        Scope(within=0),
        Scope(distinct=0.9),
        Scope(distinct=0, itself=False, offset=2, excluded=("/photos/2",)),
    ):
        for limit in (1, 6, 1000):
            found, expected = (made.search(one, limit, metric, scope=scope) for one in (query, name))
            assert [(hit.rank, hit.path, hit.distance, hit.alike) for hit in found] == [
                (hit.rank, hit.path, hit.distance, hit.alike) for hit in expected
            ]
    assert told(made.search(query, 9, metric, rerank=True)) == told(made.search(name, 9, metric, rerank=True))
    one, other = made.explain(query, [B], metric)[0], made.explain(name, [B], metric)[0]
    assert one.distance == other.distance
    assert [pair.added for pair in one.pairs] == pytest.approx([pair.added for pair in other.pairs])


def test_a_weight_makes_no_difference_to_a_picture_alone(made: Index):
    plain = told(made.search(A, 1000))
    assert told(made.search(Query(like=[Like(A, 7)], weights={"like": 9}), 1000)) == plain


@each_metric
@settings(derandomize=True, deadline=None, max_examples=10)
@given(seed=st.integers(0, 1 << 32))
def test_amounts_that_make_a_hundred_are_those_of_a_picture_painted_so(made: Index, metric: Metric, seed: int):
    rng = np.random.default_rng(seed)
    chosen = rng.choice(K, int(rng.integers(1, K + 1)), replace=False)
    cuts = np.sort(rng.choice(np.arange(1, 1000), len(chosen) - 1, replace=False))
    per_mille = np.diff([0, *cuts, 1000])
    query = Query(colors=[color(made, i, f":{part / 10}") for i, part in zip(chosen.tolist(), per_mille, strict=True)])
    # One of the palette's colours is there twice: the first counts.
    amounts = np.zeros(K)
    for one in query.asked:
        nearest = np.linalg.norm(made.palette.lab - np.array(one.lab), axis=1).round(3).argmin()
        amounts[nearest] += one.share
    asked, plain = made.search(query, 1000, metric), made.search(amounts, 1000, metric)
    assert told(asked) == told(plain)


@settings(derandomize=True, deadline=None, max_examples=10)
@given(seed=st.integers(0, 1 << 32))
def test_of_an_unwanted_colour_no_hit_has_more_than_told_and_every_other_photo_is_a_hit(made: Index, seed: int):
    rng = np.random.default_rng(seed)
    unwanted = color(made, int(rng.integers(K)), f":{rng.integers(1, 60)}~{rng.integers(3, 40)}")
    query = Query(like=[A], without=[unwanted])
    (asked,) = query.unwanted
    shades = is_shade(made.palette.lab, asked)
    share = {made.path(row): float(made.amounts(row)[shades].sum()) for row in range(len(made))}
    close = {path for path, one in share.items() if abs(one - asked.share) < 1e-12}
    hits = made.search(query, 1000)
    expected = {path for path, one in share.items() if one <= asked.share}
    assert {hit.path for hit in hits} ^ expected <= close
    assert all(hit.asked == pytest.approx((share[hit.path],)) for hit in hits)
    plain = [one for one in told(made.search(A, 1000)) if one[0] in {hit.path for hit in hits}]
    assert told(hits) == plain, "the others are as far as ever"


@pytest.mark.parametrize("tone", list(DEFINITIONS))
def test_photos_of_a_tone_are_found_and_no_others(made: Index, tone: str):
    is_so = {
        made.path(row): bool(has_tone(tone, made.amounts(row)[None], made.palette.lab)[0]) for row in range(len(made))
    }
    hits = made.search(Query(like=[A], tones=[tone]), 1000)
    assert told(hits) == [one for one in told(made.search(A, 1000)) if is_so[one[0]]]
    # Alone it ranks by path, all at no distance.
    alone = told(made.search(Query(tones=[tone]), 1000))
    assert alone == [(path, 0.0) for path in sorted(path for path, so in is_so.items() if so)]


def test_filters_and_places_are_all_to_hold(made: Index):
    query = Query(like=[A], without=[color(made, 1, ":40")], tones=["dark"])
    found = [set(everything(made, replace(query, **change))) for change in ({}, {"without": ()}, {"tones": ()})]
    assert found[0] == found[1] & found[2]
    scope = Scope(below=("/photos/1",), excluded=(D,))
    hits = made.search(query, 1000, scope=scope)
    assert hits and {hit.path for hit in hits} == {
        path for path in found[0] if path.startswith("/photos/1/") and path != D
    }
    assert told(hits) == [
        one for one in told(made.search(query, 1000)) if one[0].startswith("/photos/1/") and one[0] != D
    ]


def test_stages_tell_what_the_filters_left(made: Index):
    query = Query(like=[A], tones=["dark"])
    stages: list[Stage] = []
    left = len(made.search(query, 1000, stages=stages))
    (stage,) = (one for one in stages if one.name == "looked through")
    assert (stage.looked_at, stage.left) == (len(made), left) and 0 < left < len(made)
    stages.clear()
    made.search(Query(like=[A]), stages=stages)
    assert "looked through" not in {one.name for one in stages}


def test_filters_that_nothing_passes_find_nothing(made: Index, painting: str):
    for parts in COMBINED:
        query = Query(**asked_of(made, painting, parts) | {"tones": ["dark", "light"]})
        assert made.search(query) == [] and made.verify(query, []) == (0, 0)


@each_query
def test_photos_are_compared_alike_in_whatever_company(
    made: Index, painting: str, parts: list[str], monkeypatch: pytest.MonkeyPatch
):
    query = asked_for(made, painting, parts)
    before = told(made.search(query, 1000))
    # Of 170 photos the last is then alone.
    monkeypatch.setattr(asking, "_BLOCK", 13)
    assert told(made.search(query, 1000)) == before
    # Copies are at one distance to the last bit.
    distances = dict(before)
    by_codes: dict[bytes, set[float]] = {}
    for row in range(len(made)):
        if made.path(row) in distances:
            by_codes.setdefault(made.codes(row).tobytes(), set()).add(distances[made.path(row)])
    assert all(len(one) == 1 for one in by_codes.values()) and len(by_codes) < len(distances)


def test_hits_tell_how_much_they_have_of_each_colour_that_was_named(made: Index):
    query = Query(colors=[color(made, 0, ":30")], accents=[color(made, 2)], without=[color(made, 5, ":90")])
    for hit in made.search(query, 20):
        expected = [
            hit.amounts[is_shade(made.palette.lab, one)].sum()
            for one in (*query.asked, *query.accent_colors, *query.unwanted)
        ]
        assert hit.asked == pytest.approx(tuple(expected))
    assert made.search(Query(like=[A]), 1)[0].asked == ()


def test_more_of_a_wanted_colour_ranks_no_lower(tmp_path: Path):
    # From none to all of a colour, what else there is being far from it.
    index = put(tmp_path / "index", [("/photos", segment_of(photos(1, 0)))])
    far = np.linalg.norm(index.palette.lab - index.palette.lab[0], axis=1).argmax()
    rows = []
    for part in range(11):
        shares = np.zeros(K)
        shares[0], shares[far] = part / 10, 1 - part / 10
        rows.append(index.descriptor.of_whole(shares))
    index = put(tmp_path / "index", [("/photos", segment_of(np.array(rows)))])
    for wanted in (":50", ":100~12", "~1"):
        found = everything(index, Query(colors=[color(index, 0, wanted)]))
        distances = [found[f"/photos/{part:04}.jpg"] for part in range(11)]
        assert distances == sorted(distances, reverse=True) and distances[0] == 1
        assert distances[-1] == pytest.approx(0, abs=1e-6)


def test_the_second_pass_is_refused_but_for_pictures_alone(made: Index, painting: str):
    with pytest.raises(ValueError, match="likeness to pictures alone"):
        made.search(Query(like=[A], colors=[color(made, 0)]), rerank=True)
    several = Query(like=[A, B], without=[color(made, 0, ":60")])
    assert {hit.path for hit in made.search(several, 1000, rerank=True)} == set(everything(made, several))


def test_what_cannot_be_asked_is_refused(made: Index, tmp_path: Path):
    for like, unlike in (([A], ["1/0007.jpg"]), (["2/0011.jpg", A], [B])):
        with pytest.raises(QueryError, match="liked and unliked at once"):
            made.search(Query(like=like, unlike=unlike))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        made.search(Query(like=[A], unlike=["nowhere.jpg"]))
    for parts in ({"paint": str(tmp_path / "nothing.png")}, {"paint": str(tmp_path)}):
        with pytest.raises(PictureError):
            made.search(Query(**parts))
    Image.new("RGBA", (8, 8)).save(tmp_path / "empty.png")
    with pytest.raises(PictureError, match=r"empty\.png: nothing is painted"):
        made.search(Query(paint=str(tmp_path / "empty.png")))
    with pytest.raises(MetricError):
        made.search(Query(colors=["teal"]), metric=Metric.parse("linear:1"))


def test_of_many_queries_those_whose_pictures_cannot_be_read_are_told(made: Index, painting: str, tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    broken = str(tmp_path / "broken.png")
    queries = [Query(like=[A, broken]), Query(like=[A]), Query(paint=broken), Query(paint=painting)]
    skipped: list[Skipped] = []
    found = made.search_many(queries, 4, skipped=skipped)
    assert [len(hits) for hits in found] == [0, 4, 0, 4] and [one.path for one in skipped] == [broken, broken]
    with pytest.raises(PictureError, match=r"broken\.png"):
        made.search_many(queries)


def test_an_index_without_photos_has_no_hits(tmp_path: Path):
    empty = put(tmp_path / "index", [])
    make_photo(tmp_path / "a.png", 1)
    for query in (
        Query(like=[str(tmp_path / "a.png")]),
        Query(like=[str(tmp_path / "a.png")], colors=["teal"]),
        Query(colors=["teal:30"]),
        Query(colors=["teal:100"]),
        Query(tones=["dark"]),
        Query(without=["teal"]),
        Query(accents=["teal"]),
        Query(paint=str(tmp_path / "a.png")),
    ):
        assert empty.search(query) == [] and empty.verify(query, []) == (0, 0)


# --- real pictures


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_the_picture_that_was_painted_comes_first(photos: Path, tmp_path: Path, in_process: None, name: str):
    index = Index.create(tmp_path / "index", [photos], colors=16, descriptor=name)
    for painted in ("nature/sea.jpg", "things/plum.png"):
        hits = index.search(Query(paint=str(photos / painted)), 10)
        assert hits[0].path.endswith(painted)
        # What bytes have rounded off, and parts too small to be asked for, are all that it lacks.
        assert hits[0].distance < 0.03 < hits[1].distance


def test_what_is_painted_on_top_alone_says_nothing_of_the_rest(tmp_path: Path, in_process: None):
    for below in ("#2f7a35", "#d9c08a", "#5a6068"):
        for above in ("#1f5fa8", "#a83a2c"):
            halves = np.concatenate([photo_pixels(above, (64, 24)), photo_pixels(below, (64, 24))])
            (tmp_path / "photos").mkdir(exist_ok=True)
            Image.fromarray(halves).save(tmp_path / "photos" / f"{above[1:]}-{below[1:]}.png")
    index = Index.create(tmp_path / "index", [tmp_path / "photos"], colors=24)
    sky = np.dstack([photo_pixels("#1f5fa8", (64, 48)), np.full((48, 64), 255, np.uint8)])
    sky[16:, :, 3] = 0
    Image.fromarray(sky).save(tmp_path / "sky.png")
    hits = index.search(Query(paint=str(tmp_path / "sky.png")), 6)
    assert [os.path.basename(hit.path).startswith("1f5fa8") for hit in hits] == [True] * 3 + [False] * 3
    # That the blue is not of the very same shades costs all three the same, but for what their bytes have rounded off.
    assert max(hit.distance for hit in hits[:3]) - hits[0].distance < 0.005
    assert hits[2].distance < 0.5 and hits[3].distance > 0.9


@pytest.fixture
def real(photos: Path, tmp_path: Path, in_process: None) -> Index:
    """The ten photos, a picture whose left half is of a sea's colours and whose right half is red, and a disc."""
    halves = np.concatenate([photo_pixels("#1f5fa8", (40, 48)), photo_pixels("#a83a2c", (40, 48))], axis=1)
    Image.fromarray(halves).save(tmp_path / "photos" / "halves.png")
    disc = np.full((96, 96, 3), 245, np.uint8)
    y, x = np.ogrid[:96, :96]
    disc[(x - 48) ** 2 + (y - 48) ** 2 < 30**2] = (0x6B, 0x2F, 0x6E)
    Image.fromarray(disc).save(tmp_path / "photos" / "disc.png")
    return Index.create(tmp_path / "index", [photos], colors=24)


def test_a_region_of_a_picture_is_searched_for_as_if_it_were_the_picture(real: Index, tmp_path: Path):
    left = Query(like=[str(tmp_path / "photos" / "halves.png")], region=Region(0, 0, 40, 48))
    with Image.open(tmp_path / "photos" / "halves.png") as image:
        image.crop((0, 0, 40, 48)).save(tmp_path / "left.png")
    hits = real.search(left, 12)
    assert told(hits) == told(real.search(tmp_path / "left.png", 12))
    assert os.path.basename(hits[0].path) == "sea.jpg"
    right = replace(left, region=Region(40, 0, 40, 48))
    assert os.path.basename(real.search(right, 1)[0].path) in ("brick.jpg", "tomato.png")
    with pytest.raises(PictureError, match=r"halves\.png: the region 41,0,40,48 is not within its 80 x 48 pixels"):
        real.search(replace(left, region=Region(41, 0, 40, 48)))


def test_without_its_background_a_thing_is_like_what_is_of_its_colour(real: Index, tmp_path: Path):
    disc = str(tmp_path / "photos" / "disc.png")
    plum = str(tmp_path / "photos" / "things" / "plum.png")
    whole = Metric.parse("sqrt-laplacian:10")
    plain, found = (everything(real, Query(like=[disc], ignore_background=ignore), whole) for ignore in (False, True))
    assert plain[disc] == 0 and found[disc] > 0
    assert list(found)[:1] == [plum] and found[plum] < 0.7 * plain[plum]


def test_a_picture_without_a_plain_background_is_searched_for_whole(real: Index, tmp_path: Path):
    halves = str(tmp_path / "photos" / "halves.png")
    query = Query(like=[halves], ignore_background=True)
    assert everything(real, query) == everything(real, Query(like=[halves]))


@pytest.mark.parametrize("part", [{"region": Region(0, 0, 40, 48)}, {"ignore_background": True}])
def test_without_itself_a_picture_of_the_index_is_no_hit_also_if_a_part_of_it_is_asked_for(
    real: Index, tmp_path: Path, part: dict[str, Any]
):
    halves = str(tmp_path / "photos" / "halves.png")
    hits = real.search(Query(like=[halves], **part), 20, scope=Scope(itself=False))
    assert halves not in {hit.path for hit in hits} and len(hits) == len(real) - 1


def test_a_part_of_a_photo_of_the_index_can_be_asked_for_by_the_end_of_its_path(real: Index, tmp_path: Path):
    halves = str(tmp_path / "photos" / "halves.png")
    region = Region(0, 0, 40, 48)
    assert everything(real, Query(like=["halves.png"], region=region)) == everything(
        real, Query(like=[halves], region=region)
    )


def test_a_photo_that_has_changed_since_is_asked_for_as_it_is_now_and_left_out_by_its_path(real: Index, tmp_path: Path):
    plum = tmp_path / "photos" / "things" / "plum.png"
    shutil.copy(tmp_path / "photos" / "nature" / "meadow.png", plum)
    for scope in (Scope(), Scope(itself=False)):
        assert told(real.search(Query(like=[str(plum)]), 20, scope=scope)) == told(real.search(plum, 20, scope=scope))


def test_of_copies_the_query_comes_first(real: Index, tmp_path: Path):
    for name in ("0.png", "z.png"):
        shutil.copy(tmp_path / "photos" / "disc.png", tmp_path / "photos" / name)
    index = Index.create(tmp_path / "index", [tmp_path / "photos"])
    disc = str(tmp_path / "photos" / "disc.png")
    hits = index.search(Query(like=[disc]), 3)
    assert [os.path.basename(hit.path) for hit in hits] == ["disc.png", "0.png", "z.png"]
    assert [hit.distance for hit in hits] == [0, 0, 0]
    hits = index.search(Query(like=[disc], tones=["light"], without=["red"]), 3)
    assert [os.path.basename(hit.path) for hit in hits] == ["disc.png", "0.png", "z.png"]


def test_a_colour_outside_srgb_can_be_asked_for(made: Index):
    vivid = css_color("oklch(0.7 0.4 150)")
    assert isinstance(vivid, NamedColor)
    hits = made.search(Query(colors=[Wanted(vivid, 0.3, 100.0)]), 5)
    assert len(hits) == 5 and 0 <= hits[0].distance <= 1
