"""Queries: what can be asked for at once, what each part means, and what is refused in one line."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from cbir.color_name import ColorError, Wanted, parse_color
from cbir.errors import CbirError
from cbir.query import Like, Query, QueryError, Region, painted
from cbir.tone import DEFINITIONS


def shares(*colors: str) -> dict[str, float]:
    query = Query(colors=colors)
    names = [one.color.name for one in query.colors if isinstance(one, Wanted)]
    return dict(zip(names, (one.share for one in query.asked), strict=True))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nothing is asked for"),
        ({"weights": {"like": 2}}, "nothing is asked for"),
        ({"unlike": ["a.jpg"]}, "nothing is asked for"),
        ({"unlike": ["a.jpg"], "colors": ["teal"]}, "a picture that is liked"),
        ({"region": Region(0, 0, 1, 1), "colors": ["teal"]}, "a picture that is liked"),
        ({"ignore_background": True, "tones": ["dark"]}, "a picture that is liked"),
        ({"like": ["a.jpg", "b.jpg"], "unlike": ["b.jpg"]}, "b.jpg: liked and unliked at once"),
        ({"like": [Like("b.jpg", 2)], "unlike": ["b.jpg"]}, "b.jpg: liked and unliked at once"),
        ({"tones": ["gloomy"]}, "there is no tone 'gloomy'; there are dark, light"),
        ({"like": ["a.jpg"], "weights": {"tone": 1}}, "no kind 'tone' of part to weigh; there are like, color"),
        ({"like": ["a.jpg"], "weights": {"like": 0}}, "the weight of like is a number above 0 up to 1000, not 0"),
        ({"like": ["a.jpg"], "weights": {"like": -1}}, "the weight of like"),
        ({"like": ["a.jpg"], "weights": {"paint": 1001}}, "the weight of paint"),
        ({"like": ["a.jpg"], "weights": {"color": math.nan}}, "the weight of color"),
        ({"like": [Like("a.jpg", 0)]}, "a.jpg: a weight is a number above 0"),
        ({"like": [Like("a.jpg", math.nan)]}, "a.jpg: a weight is a number above 0"),
        ({"like": ["b.jpg"], "unlike": [Like("a.jpg", math.inf)]}, "a.jpg: a weight is a number above 0"),
        ({"colors": ["teal:60", "sand:40.5"]}, "make 100.5 % of a photo; at most 100"),
        ({"colors": ["teal:60", "navy:40", "red"]}, "nothing is left for those without amount"),
        ({"like": ["a.jpg"] * 257}, "more than 256 like"),
        ({"colors": ["teal"] * 257}, "more than 256 colors"),
        ({"like": ["a.jpg"], "without": ["teal"] * 257}, "more than 256 without"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(asked: dict[str, Any], message: str):
    with pytest.raises(QueryError, match=message) as refused:
        Query(**asked)
    assert isinstance(refused.value, CbirError) and "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("part", ["like", "unlike", "colors", "accents", "without", "tones"])
def test_a_text_in_place_of_a_list_is_refused(part: str):
    # It would be taken for a list of letters.
    with pytest.raises(ValueError, match=f"{part} is a list of texts"):
        Query(**{part: "teal"})


@pytest.mark.parametrize("part", ["colors", "accents", "without"])
@pytest.mark.parametrize("text", ["teel", "teal:0", "teal:101", "teal~0", "teal:30:40", "teal:x", ""])
def test_a_colour_that_nobody_knows_is_refused(part: str, text: str):
    with pytest.raises(ColorError):
        Query(**{part: ["navy", text]})


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("0,0,640,480", (0, 0, 640, 480)),
        ("1,2,3,4", (1, 2, 3, 4)),
        (" 1 , 2, 3 ,4 ", (1, 2, 3, 4)),
        ("07,0,1,1", (7, 0, 1, 1)),
    ],
)
def test_a_region_is_read_as_four_numbers(text: str, region: tuple[int, ...]):
    assert Region.parse(text) == region


def test_the_area_of_a_region_is_in_pixels():
    assert Region(5, 6, 7, 8).area == 56


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3", "1,2,3,4,5", "-1,0,2,2", "0,0,0,5", "0,0,5,0", "1.5,0,2,2", "a,b,c,d", "0 0 1 1", "0,0,1,1\n0"],
)
def test_what_is_no_region_is_refused_in_a_line(text: str):
    with pytest.raises(QueryError, match="write x,y,width,height in pixels") as refused:
        Region.parse(text)
    assert "\n" not in str(refused.value)


def test_colours_without_an_amount_share_out_what_the_others_leave():
    assert shares("teal:30", "sand:20") == {"teal": 0.3, "sand": 0.2}
    assert shares("teal") == {"teal": 1}
    assert shares("teal", "sand") == {"teal": 0.5, "sand": 0.5}
    assert shares("teal:40", "sand", "navy") == pytest.approx({"teal": 0.4, "sand": 0.3, "navy": 0.3})
    assert shares("teal:60", "navy:40") == {"teal": 0.6, "navy": 0.4}


def test_a_colour_has_the_tolerance_told_or_twelve():
    tolerances = {one.lab: one.tolerance for one in Query(colors=["teal:30~15", "sand:20"]).asked}
    assert tolerances == {parse_color("teal").lab: 15, parse_color("sand").lab: 12}


def test_of_an_unwanted_colour_a_photo_may_have_a_trace_or_what_is_told():
    assert [one.share for one in Query(without=["red:5", "blue~20"]).unwanted] == pytest.approx([0.01, 0.05])


@pytest.mark.parametrize(
    ("colors", "is_whole"),
    [
        (["teal:60", "navy:40"], True),
        (["teal:100"], True),
        (["teal:33.4", "navy:33.3", "red:33.3"], True),
        (["teal:60", "navy:39"], False),
        (["teal:60", "navy:40~12"], False),
        (["teal:60", "navy"], False),
        (["teal"], False),
        ([], False),
    ],
)
def test_amounts_that_make_a_hundred_without_tolerances_are_those_of_a_whole_picture(colors: list[str], is_whole: bool):
    assert Query(like=["a.jpg"], colors=colors).is_whole_picture == is_whole


def test_many_amounts_that_make_a_hundred_but_for_rounding_are_not_too_many():
    assert Query(colors=["teal:10"] * 10).is_whole_picture
    assert Query(colors=[f"rgb({i},0,0):{100 / 7!r}" for i in range(7)]).is_whole_picture


def test_the_order_of_the_parts_does_not_matter():
    parts: dict[str, list[Any]] = {
        "like": ["a.jpg", Like("b.jpg", 2), "c.jpg"],
        "unlike": ["d.jpg", Like("e.jpg", 0.5), "f.jpg"],
        "colors": ["teal:10", "sand:20~5", "navy"],
        "accents": ["red", "gold", "orange~20"],
        "without": ["lime", "pink:5", "black"],
        "tones": ["dark", "warm", "vivid"],
    }
    queries = [
        Query(**{name: [some[i] for i in order] for name, some in parts.items()}, weights=dict(weights))
        for order in itertools.permutations(range(3))
        for weights in (
            [("like", 1), ("paint", 2)],
            [("paint", 2), ("like", 1)],
        )
    ]
    assert len({repr(query) for query in queries}) == 1
    assert all(query == queries[0] for query in queries)
    assert queries[0].asked == queries[-1].asked and queries[0].liked == queries[-1].liked


def test_a_tone_that_is_told_twice_is_told_once():
    assert Query(tones=["warm", "dark", "warm"]).tones == ("dark", "warm")
    assert set(Query(tones=list(DEFINITIONS)).tones) == set(DEFINITIONS)


def test_a_weight_that_is_not_told_is_one():
    query = Query(like=["a.jpg"], weights={"like": 3, "paint": 0.5})
    assert [query.weight(kind) for kind in ("like", "color", "accent", "paint")] == [3, 1, 1, 0.5]


def test_pictures_have_their_weights_or_one():
    query = Query(like=["b.jpg", Like("a.jpg", 2.5)], unlike=["c.jpg"])
    assert query.liked == (Like("a.jpg", 2.5), Like("b.jpg", 1)) and query.unliked == (Like("c.jpg", 1),)


def test_names_of_colours_come_in_the_order_of_their_shares_in_a_hit():
    query = Query(colors=["teal:30", "sand:20"], accents=["red"], without=["lime"])
    asked = (*query.asked, *query.accent_colors, *query.unwanted)
    assert [parse_color(name).lab for name in query.color_names] == [one.lab for one in asked]
    assert query.accent_names == ("red",)


def test_colours_of_a_palette_file_are_a_picture_of_equal_amounts():
    colors = [parse_color(name) for name in ("teal", "sand", "navy")]
    query = Query(colors=painted(colors))
    assert query.is_whole_picture and {one.share for one in query.asked} == {1 / 3}
    assert {one.lab for one in query.asked} == {one.lab for one in colors}


def test_the_same_colour_twice_is_refused_but_for_the_colours_of_a_whole_picture():
    with pytest.raises(QueryError, match="red: the same colour is asked for twice"):
        Query(colors=["red:30", "red:20"])
    with pytest.raises(QueryError, match="twice"):
        Query(colors=["red", "#f00"])
    assert Query(colors=["red:30", "red:20~5"]).asked
    assert Query(colors=["red:60", "red:40"]).is_whole_picture
