"""The picture of an explanation: SVG that stands in a page by itself, drawn to scale."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cbir.explain import Explanation, Pair
from cbir.flow import flow_svg

SVG = "{http://www.w3.org/2000/svg}"
RED, GREEN, WHITE, BLACK = ([200, 0, 0], [0, 150, 0], [255, 255, 255], [0, 0, 0])


def pair(query, photo, share, added, delta_e=10.0):
    return Pair(np.array(query, np.uint8), np.array(photo, np.uint8), share, delta_e, added)


SOME = Explanation(
    0.5, (pair(RED, GREEN, 0.3, 0.4), pair(RED, RED, 0.1, 0.2, 0.0), pair(WHITE, BLACK, 0.6, -0.1, 100.0)), 0.0
)


def drawn(explanation=SOME, width=320):
    return ElementTree.fromstring(flow_svg(explanation, width))


def titles(root, kind):
    return {one.find(f"{SVG}title").text: one for one in root.iter(f"{SVG}{kind}")}


def test_it_is_one_element_of_the_width_that_was_asked_for_told_in_words():
    root = drawn(width=500)
    assert root.tag == f"{SVG}svg" and root.get("width") == "500" and root.get("viewBox").startswith("0 0 500 ")
    assert root.get("role") == "img"
    label = root.get("aria-label")
    assert "0.5000" in label and "#c80000 to #009600, 30.0% of the picture" in label


def test_it_runs_nothing_and_refers_to_nothing_outside():
    text = flow_svg(SOME)
    assert {one.tag.removeprefix(SVG) for one in drawn().iter()} == {
        *("svg", "linearGradient", "stop", "path", "rect", "title")
    }
    assert "href" not in text and "style" not in text and not re.search(r"\son\w+=", text)
    assert text.count("http") == 1
    assert all(one.startswith("url(#flow-") for one in re.findall(r"url\([^)]*\)", text))


def test_every_name_that_is_used_is_there_once():
    text = flow_svg(SOME)
    named = re.findall(r'id="([^"]+)"', text)
    assert len(set(named)) == len(named) == 3
    assert set(re.findall(r"url\(#([^)]+)\)", text)) == set(named)


def test_two_pictures_in_one_page_use_different_names():
    other = Explanation(0.5, SOME.pairs[:2], 0.0)
    one, two = (set(re.findall(r'id="([^"]+)"', flow_svg(e))) for e in (SOME, other))
    assert not one & two


def test_blocks_are_as_tall_as_their_shares_and_the_palest_is_on_top():
    root = drawn()
    blocks = titles(root, "rect")
    tall = {title: float(block.get("height")) for title, block in blocks.items()}
    assert tall["#ffffff, 60.0% of the query"] == pytest.approx(1.5 * tall["#c80000, 40.0% of the query"], rel=0.01)
    assert tall["#000000, 60.0% of the photo"] == pytest.approx(2 * tall["#009600, 30.0% of the photo"], rel=0.01)
    tops = {title: float(block.get("y")) for title, block in blocks.items()}
    assert tops["#ffffff, 60.0% of the query"] == 0 < tops["#c80000, 40.0% of the query"]
    assert sorted((t for t in tops if "photo" in t), key=lambda title: tops[title]) == [
        *("#009600, 30.0% of the photo", "#c80000, 10.0% of the photo", "#000000, 60.0% of the photo")
    ]
    assert len({block.get("x") for block in blocks.values()}) == 2
    bottom = max(float(block.get("y")) + float(block.get("height")) for block in blocks.values())
    assert bottom == pytest.approx(float(root.get("height")), abs=0.1)


def test_the_more_a_ribbon_added_the_more_opaque_it_is_and_its_title_says_how_much():
    ribbons = titles(drawn(), "path")
    opacity = {title: float(ribbon.get("opacity")) for title, ribbon in ribbons.items()}
    assert sorted(opacity, key=lambda title: -opacity[title]) == [
        "#c80000 to #009600, 30.0% of the picture, Delta E 10.0: adds 0.4000",
        "#c80000 to #c80000, 10.0% of the picture, Delta E 0.0: adds 0.2000",
        "#ffffff to #000000, 60.0% of the picture, Delta E 100.0: takes off 0.1000",
    ]
    assert len(set(opacity.values())) == 3 and min(opacity.values()) > 0


@pytest.mark.parametrize(
    "explanation",
    [
        Explanation(0.0, (), 0.0),
        Explanation(0.0, (pair(RED, RED, 1.0, 0.0, 0.0),), 0.0),
        Explanation(0.1, (pair(RED, GREEN, 0.0, 0.1),), 0.0),
        Explanation(0.1, tuple(pair([i, 0, 0], [0, i, 0], 1 / 200, 0.0005) for i in range(200)), 0.0),
    ],
    ids=["nothing", "the photo itself", "no share", "very many"],
)
def test_whatever_there_is_is_drawn_within_the_frame(explanation):
    root = drawn(explanation, 100)
    for block in root.iter(f"{SVG}rect"):
        assert float(block.get("height")) > 0
        assert -0.1 <= float(block.get("y")) <= float(root.get("height")) + 0.1
    assert len(list(root.iter(f"{SVG}path"))) == len(explanation.pairs)
