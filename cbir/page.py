"""One page of HTML that shows what searches found: it needs no other file, no network and no script.

The photos themselves stay where they are: their thumbnails link to them by their places on this computer.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cbir.color import U8, hex_of_bytes
from cbir.errors import OutputError
from cbir.histogram import Swatch

# Thumbnails of so many pixels are sharp on dense screens as well, where a card is about half as wide; each takes about
# 70 kB of the page, so that of many cards they are half as large, which takes a quarter.
_LARGE, _SMALL, _MANY = 480, 240, 500
# Browsers open a page of some 200 MB, but not of much more.
MOST_CARDS = 10_000
# Colour in full size, which JPEG usually halves: a small red flower shall stay red.
_JPEG = {"quality": 80, "subsampling": 0}
# Less of a photo than this cannot be seen in a bar.
_SHOWN_SHARE = 0.005
# Nothing is loaded, run, sent or framed, whatever a name or a photo tries.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
:root { color-scheme: light dark; --paper: #efefef; --card: #fff; --well: #e3e3e3; --ink: #1c1c1c; --soft: #565656;
  --edge: #cfcfcf; --mark: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --paper: #161616; --card: #222; --well: #2c2c2c; --ink: #ececec;
  --soft: #b4b4b4; --edge: #3c3c3c; --mark: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 100rem; padding: 1.25rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 1.25rem; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
h1, h2, p { overflow-wrap: anywhere; }
p { margin: 0; }
section + section { margin-top: 2.5rem; }
.asked { display: flex; flex-wrap: wrap; gap: 1rem; align-items: center; margin-bottom: 1.25rem; }
.asked img { max-width: 100%; max-height: 15rem; width: auto; height: auto; border: 3px solid var(--mark);
  border-radius: 6px; }
.asked div.about { flex: 1 1 16rem; max-width: 32rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 1rem; margin: 0;
  padding: 0; list-style: none; }
.cards > li { display: flex; flex-direction: column; min-width: 0; background: var(--card);
  border: 1px solid var(--edge); border-radius: 6px; overflow: hidden; content-visibility: auto;
  contain-intrinsic-size: auto 18rem; }
.photo { display: flex; align-items: center; justify-content: center; height: 13rem; background: var(--well);
  color: var(--soft); }
.photo img { display: block; max-width: 100%; max-height: 100%; width: auto; height: auto; object-fit: contain; }
a.photo:focus-visible, summary:focus-visible { outline: 3px solid var(--mark); outline-offset: -3px; }
.about { padding: .6rem .75rem .75rem; }
.about .title { font-weight: 600; font-size: .92rem; }
.about p { font-size: .85rem; color: var(--soft); }
.about p.title { color: var(--ink); }
.asked .about { padding: 0; }
.asked .about p { font-size: .95rem; }
.bar { display: flex; height: .9rem; margin: 0 0 .5rem; border-radius: 3px; overflow: hidden;
  outline: 1px solid var(--edge); outline-offset: -1px; background: var(--well); }
.asked .bar { height: 1.5rem; margin: .5rem 0 0; }
.cards .bar { height: 1rem; margin: 0; border-radius: 0; }
.bar span { display: block; min-width: 2px; forced-color-adjust: none; print-color-adjust: exact; }
details { margin-top: .4rem; font-size: .85rem; overflow-x: auto; }
summary { cursor: pointer; color: var(--mark); padding: .15rem 0; }
details svg, details img { max-width: 100%; height: auto; }
@media (max-width: 36rem) { body { padding: .75rem; } .cards { grid-template-columns: repeat(auto-fill,
  minmax(min(100%, 9.5rem), 1fr)); gap: .6rem; } .photo { height: 9rem; } .about { padding: .45rem .5rem .6rem; } }
@media print { .cards > li { break-inside: avoid; content-visibility: visible; } }
"""


@dataclass(frozen=True)
class Card:
    """A found photo: its path, what it is called, lines about it, its main colours, and its thumbnail if there is one.

    `thumbnail` (h, w, 3) uint8 sRGB. `extra_html` is markup of our own that goes into the page as it is, behind "Why".
    """

    path: str
    title: str
    lines: tuple[str, ...]
    swatches: tuple[Swatch, ...]
    thumbnail: U8 | None
    extra_html: str = ""


@dataclass(frozen=True)
class Section:
    """A query above its hits: lines about it, the colours that were asked for, its own picture (h, w, 3) if any.

    `cards` may be made while the page is written, so that no more than one thumbnail is in memory.
    """

    heading: str
    lead: tuple[str, ...]
    swatches: tuple[Swatch, ...]
    picture: U8 | None
    cards: Iterable[Card]


def thumbnail_side(cards: int) -> int:
    """How large thumbnails best are on a page of so many cards altogether: their longer side in pixels.

    Raises OutputError for more than `MOST_CARDS`.
    """
    if cards > MOST_CARDS:
        raise OutputError(f"a page of {cards:,} photos is more than browsers open; take {MOST_CARDS:,} at most")
    return _LARGE if cards <= _MANY else _SMALL


def html_page(title: str, sections: Iterable[Section]) -> bytes:
    """The page as `write_page` writes it."""
    file = io.BytesIO()
    write_page(file, title, sections)
    return file.getvalue()


def write_page(file: BinaryIO, title: str, sections: Iterable[Section]) -> None:
    """Write a page in UTF-8, a card at a time. Texts may hold anything, markup and control characters included."""
    shown = _escaped(title)
    _put(
        file,
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{shown}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{shown}</h1>\n<main>\n",
    )
    for number, section in enumerate(sections, 1):
        _write_section(file, number, section)
    _put(file, "</main>\n</body>\n</html>\n")


def _write_section(file: BinaryIO, number: int, section: Section) -> None:
    _put(file, f'<section aria-labelledby="s{number}">\n<h2 id="s{number}">{_escaped(section.heading)}</h2>\n')
    picture = "" if section.picture is None else _image(section.picture, "The photo that was asked with")
    about = _paragraphs(section.lead) + _bar(section.swatches)
    if picture or about:
        _put(file, f'<div class="asked">{picture}<div class="about">{about}</div></div>\n')
    started = False
    for card in section.cards:
        # A list needs an item, and how many there are is known at the end only.
        _put(file, _card(card) if started else f'<ol class="cards">\n{_card(card)}')
        started = True
    _put(file, "</ol>\n</section>\n" if started else "<p>Nothing was found.</p>\n</section>\n")


def _card(card: Card) -> str:
    if card.thumbnail is None:
        photo = '<div class="photo">not readable</div>'
    else:
        image = _image(card.thumbnail, f"Open the photo {card.title}")
        photo = f'<a class="photo" href="{html.escape(file_url(card.path))}">{image}</a>'
    title = f'<p class="title">{_escaped(card.title)}</p>'
    why = f"<details><summary>Why</summary>{card.extra_html}</details>" if card.extra_html else ""
    about = f'<div class="about">{title}{_paragraphs(card.lines)}{why}</div>'
    return f"<li>{photo}{_bar(card.swatches)}{about}</li>\n"


def _paragraphs(lines: Iterable[str]) -> str:
    return "".join(f"<p>{_escaped(line)}</p>" for line in lines)


def _bar(swatches: Iterable[Swatch]) -> str:
    """Colours side by side, each as wide as its share, with hex value and share as its title and in the bar's label."""
    shown = [(hex_of_bytes(one.srgb), one.share) for one in swatches if one.share >= _SHOWN_SHARE]
    if not shown:
        return ""
    texts = [f"{color} {share:.0%}" for color, share in shown]
    parts = (
        f'<span style="background:{color};flex:{100 * share:.2f}" title="{text}"></span>'
        for (color, share), text in zip(shown, texts, strict=True)
    )
    return f'<div class="bar" role="img" aria-label="Colours: {", ".join(texts)}">{"".join(parts)}</div>'


def _image(pixels: U8, alt: str) -> str:
    """A picture within the page, as JPEG."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", **_JPEG)
    data = base64.b64encode(content.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    size = f'width="{width}" height="{height}"'
    return f'<img src="data:image/jpeg;base64,{data}" {size} alt="{_escaped(alt)}" decoding="async">'


def file_url(path: str) -> str:
    """Where a browser on this computer finds a file: `file://` and its absolute path, its bytes percent-encoded."""
    return Path(os.path.abspath(path)).as_uri()


def _escaped(text: str) -> str:
    """Text for a page; control characters, undecodable bytes and what turns the writing's direction are spelled out."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)
    return html.escape(shown)


def _put(file: BinaryIO, text: str) -> None:
    file.write(text.encode())
