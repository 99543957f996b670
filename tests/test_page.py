"""The page: well-formed, of one file, safe whatever names and texts hold, and telling all that was found."""

import base64
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cbir.errors import CbirError
from cbir.histogram import Swatch
from cbir.page import MOST_CARDS, Card, Section, file_url, html_page, thumbnail_side, write_page

RED, GREY = np.array([200, 30, 40], np.uint8), np.array([128, 128, 128], np.uint8)
SWATCHES = (Swatch(RED, 0.6), Swatch(GREY, 0.25))
PICTURE = np.full((30, 40, 3), RED, np.uint8)
HOSTILE = [
    "<script>alert(1)</script>.jpg",
    '"><img src=x onerror=alert(1)>.jpg',
    "' onmouseover='alert(1).jpg",
    "</title></style><script>alert(1)</script>",
    "a\nb\x1b[31m\0.jpg",
    "\udcff\udc80.jpg",
    "\u202egpj.exe",
    "&lt;b&gt; &amp;",
    "javascript:alert(1)",
]
VOID = {"meta", "img", "br", "link", "input", "hr"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    children: list["Element"] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> Iterator["Element"]:
        for child in self.children:
            if child.name == name:
                yield child
            yield from child.all(name)

    def all_text(self) -> str:
        return self.text + "".join(child.all_text() for child in self.children)


class Strict(HTMLParser):
    """Reads a page into a tree; what is not nested as it should be fails."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} is there twice"
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().name == tag

    def handle_data(self, data):
        self.open[-1].text += data


def tree_of(page: bytes) -> Element:
    parser = Strict()
    parser.feed(page.decode("utf-8"))
    parser.close()
    assert parser.open == [parser.root], "an element is not closed"
    return parser.root


def card(name: str = "a.jpg", **changes: object) -> Card:
    values = {"path": f"/photos/{name}", "title": name, "lines": ("distance 0.5",), "swatches": SWATCHES}
    return Card(**(values | {"thumbnail": PICTURE} | changes))


def page_of(*cards: Card, **changes: object) -> Element:
    values = {"heading": "Like b.jpg", "lead": (), "swatches": (), "picture": None, "cards": cards}
    return tree_of(html_page("Hits", [Section(**(values | changes))]))


def classed(page: Element, name: str, which: str) -> list[Element]:
    return [element for element in page.all(name) if element.attributes.get("class") == which]


# --- what it shows


def test_hits_are_a_list_in_order_with_titles_and_lines():
    page = page_of(card("one.jpg"), card("two.jpg", lines=("distance 0.7", "holiday")))
    (cards,) = page.all("ol")
    assert [[p.text for p in one.all("p")] for one in cards.children] == [
        ["one.jpg", "distance 0.5"],
        ["two.jpg", "distance 0.7", "holiday"],
    ]


def test_a_thumbnail_is_within_the_page_and_opens_the_photo():
    (link,) = page_of(card("a.jpg")).all("a")
    (image,) = link.children
    assert link.attributes["href"] == "file:///photos/a.jpg"
    assert "a.jpg" in image.attributes["alt"]
    assert (image.attributes["width"], image.attributes["height"]) == ("40", "30")
    kind, data = image.attributes["src"].split(",")
    assert kind == "data:image/jpeg;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert pixels.shape == PICTURE.shape and np.abs(pixels.astype(int) - PICTURE).max() < 6


def test_thin_colourful_things_keep_their_colour():
    picture = np.full((40, 40, 3), 90, np.uint8)
    picture[:, 21:23] = RED
    (image,) = page_of(card(thumbnail=picture)).all("img")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.attributes["src"].split(",")[1])))).astype(int)
    # Its red is 170 above its green; where JPEG halves colours it would be 90 or so.
    assert (pixels[:, 21:23, 0] - pixels[:, 21:23, 1]).min() > 140


def test_what_cannot_be_read_has_no_link_and_says_so():
    page = page_of(card(thumbnail=None))
    assert not list(page.all("a")) and not list(page.all("img"))
    assert [element.text for element in classed(page, "div", "photo")] == ["not readable"]


def test_colours_are_bars_as_wide_as_their_shares_with_hex_and_share_as_title():
    (bar,) = classed(page_of(card(swatches=(*SWATCHES, Swatch(RED, 0.001)))), "div", "bar")
    assert [part.attributes["title"] for part in bar.children] == ["#c81e28 60%", "#808080 25%"]
    assert [part.attributes["style"] for part in bar.children] == [
        "background:#c81e28;flex:60.00",
        "background:#808080;flex:25.00",
    ]
    assert bar.attributes["role"] == "img" and bar.attributes["aria-label"] == "Colours: #c81e28 60%, #808080 25%"


def test_an_explanation_is_behind_why_as_it_is_and_is_not_there_without_one():
    with_one, without = page_of(card(extra_html='<svg><rect width="3"></rect></svg>'), card()).all("li")
    (details,) = with_one.all("details")
    assert [child.name for child in details.children] == ["summary", "svg"]
    assert next(details.all("rect")).attributes == {"width": "3"}
    assert not list(without.all("details"))


def test_a_query_is_above_its_hits_with_its_picture_and_colours():
    page = page_of(card(), lead=("13 of 100",), swatches=SWATCHES, picture=PICTURE)
    (asked,) = classed(page, "div", "asked")
    assert len(list(asked.all("img"))) == 1 and len(classed(asked, "div", "bar")) == 1
    assert [p.text for p in asked.all("p")] == ["13 of 100"]
    (section,) = page.all("section")
    assert [child.name for child in section.children] == ["h2", "div", "ol"]


def test_each_section_is_named_by_its_heading():
    sections = [Section(f"Query {i}", (), (), None, [card()]) for i in range(3)]
    page = tree_of(html_page("Hits", sections))
    headings = {heading.attributes["id"]: heading.text for heading in page.all("h2")}
    assert [headings[s.attributes["aria-labelledby"]] for s in page.all("section")] == ["Query 0", "Query 1", "Query 2"]


def test_a_search_that_found_nothing_says_so():
    page = page_of()
    assert [p.text for p in page.all("p")] == ["Nothing was found."]
    assert not list(page.all("ol"))


# --- what it never does


def test_it_needs_nothing_else_and_forbids_what_is_not_its_own():
    content = html_page("Hits", [Section("Like", (), SWATCHES, PICTURE, [card(name) for name in HOSTILE])])
    assert not re.search(rb"https?:|//[a-z]", content.replace(b"file:///", b""))
    page = tree_of(content)
    used = {element.name for element in everything(page)}
    assert not used & {"script", "link", "iframe", "object", "embed", "form", "base"}
    (policy,) = (
        meta.attributes["content"]
        for meta in page.all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:" and rules["style-src"] == "'unsafe-inline'"
    assert all(rule == "'none'" for name, rule in rules.items() if name not in ("img-src", "style-src"))
    # A policy holds for what comes after it.
    head = next(page.all("head"))
    assert [child.name for child in head.children].index("style") > 1


def everything(element: Element) -> Iterator[Element]:
    for child in element.children:
        yield child
        yield from everything(child)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_texts_are_shown_and_do_nothing(text):
    hostile = card("a.jpg", path=f"/photos/{text}", title=text, lines=(text,))
    section = Section(text, (text,), SWATCHES, PICTURE, [hostile])
    content = html_page(text, [section])
    plain = Section("x", ("x",), SWATCHES, PICTURE, [card("x", lines=("x",))])
    shape = [(one.name, sorted(one.attributes)) for one in everything(tree_of(content))]
    assert shape == [(one.name, sorted(one.attributes)) for one in everything(tree_of(html_page("x", [plain])))]
    assert not any(c < 32 and c != 10 for c in content)
    page = tree_of(content)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    assert next(page.all("h2")).text == next(page.all("title")).text == shown
    assert classed(page, "p", "title")[0].text == shown


@given(st.text(st.characters(exclude_categories=()), max_size=40))
@settings(max_examples=60)
def test_whatever_the_texts_they_change_nothing_of_the_page_but_themselves(text):
    page = tree_of(html_page(text, [Section(text, (text,), (), None, [card(title=text, thumbnail=None)])]))
    assert [child.name for child in next(page.all("section")).children] == ["h2", "div", "ol"]


@pytest.mark.skipif(os.sep != "/", reason="paths of Unix")
@given(st.binary(min_size=1, max_size=40).filter(lambda name: not {0, ord("/")} & set(name)))
def test_links_lead_to_the_very_bytes_of_any_name(name):
    if name in (b".", b".."):
        return
    path = "/photos/" + os.fsdecode(name)
    url = urlsplit(file_url(path))
    assert (url.scheme, url.netloc, url.query, url.fragment) == ("file", "", "", "")
    assert unquote_to_bytes(url.path) == os.fsencode(path)
    assert file_url(path).isascii() and not set(file_url(path)) & set("<>\"'& \n\\")


# --- for everybody


def test_it_is_english_in_utf_8_and_fits_a_phone():
    page = page_of(card())
    assert next(page.all("html")).attributes["lang"] == "en"
    metas = [meta.attributes for meta in page.all("meta")]
    assert {"charset": "utf-8"} in metas
    assert any(meta.get("name") == "viewport" and "width=device-width" in meta["content"] for meta in metas)
    assert html_page("Hits", []).startswith(b"<!doctype html>")


def test_every_image_has_a_text():
    page = page_of(card(), card("b.jpg"), picture=PICTURE)
    assert all(image.attributes["alt"] for image in page.all("img"))


@pytest.mark.parametrize("appearance", ["light", "dark"])
@pytest.mark.parametrize(("ink", "on"), [("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card"),
                                         ("soft", "well"), ("mark", "card")])  # fmt: skip
def test_texts_have_the_contrast_that_low_vision_needs(appearance, ink, on):
    style = next(page_of(card()).all("style")).text
    light, dark = style.split("prefers-color-scheme: dark", 1)
    colors = dict(re.findall(r"--(\w+): (#\w+);", light if appearance == "light" else dark.split("}", 1)[0]))
    # WCAG 2.2, 1.4.3: 4.5 to 1.
    assert contrast(colors[ink], colors[on]) >= 4.5


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours."""
    from PIL import ImageColor

    from cbir.color import linear_of_bytes

    lights = sorted(
        float(linear_of_bytes(np.array(ImageColor.getrgb(color), np.uint8)) @ [0.2126, 0.7152, 0.0722])
        for color in (one, other)
    )
    return (lights[1] + 0.05) / (lights[0] + 0.05)


# --- as it is written


def test_cards_are_made_one_after_the_other_as_the_page_is_written():
    file, sizes = io.BytesIO(), []

    def made() -> Iterator[Card]:
        for i in range(5):
            sizes.append(file.tell())
            yield card(f"{i}.jpg")

    write_page(file, "Hits", [Section("Like", (), (), None, made())])
    assert len(set(sizes)) == 5
    assert file.getvalue() == html_page("Hits", [Section("Like", (), (), None, [card(f"{i}.jpg") for i in range(5)])])


def test_many_cards_have_smaller_thumbnails_and_too_many_are_refused():
    assert thumbnail_side(1) == 2 * thumbnail_side(MOST_CARDS)
    with pytest.raises(CbirError, match="take 10,000 at most"):
        thumbnail_side(MOST_CARDS + 1)
