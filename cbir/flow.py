"""An explanation as a picture: the colours of two photos, and what went between them, as SVG to put in a page."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from cbir.color import hex_of_bytes, lab_of_bytes
from cbir.explain import Explanation, Pair

# Parts of the width: how tall it is, and how wide a block of colour.
_HEIGHT, _BLOCK = 0.6, 0.14
# Of the height, between one block and the next, at most; together never more than a quarter.
_GAP, _MOST_GAPS = 0.02, 0.25
# How opaque a ribbon is: what added nothing, and what added most.
_PALE, _STRONG = 0.12, 0.9
# How a colour that is missing is drawn, and called.
_MISSING = "none"
# In pixels; what is thinner would be lost.
_THINNEST = 0.75
# Around all that is drawn, so that white shows on white and black on black.
_OUTLINE = 'stroke="#808080" stroke-width="0.5"'


class _Block(NamedTuple):
    """A colour, its share, and where it begins."""

    color: str
    share: float
    top: float


def flow_svg(explanation: Explanation, width: int = 320) -> str:
    """The query's colours to the left, the photo's to the right, palest on top, and a ribbon between for each pair.

    Heights are shares of the picture; the more opaque a ribbon is, the more it added to the distance, and the numbers
    show where the pointer rests. It is one `<svg>` element without script or reference to anything outside, `width`
    pixels wide, which shows on any background.
    """
    height, block = width * _HEIGHT, width * _BLOCK
    pairs = explanation.pairs
    left, right = (_blocks(pairs, side, height) for side in (0, 1))
    # Pages hold many of these, and names count for the page.
    prefix = "flow-" + sha256(repr([_named(pair) for pair in pairs]).encode()).hexdigest()[:12]
    shown = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" '
        f'viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{_label(explanation)}">',
        *_ribbons(pairs, left, right, (block, width - block), height, prefix),
        *_drawn(left, 0, block, height, "query"),
        *_drawn(right, width - block, block, height, "photo"),
        "</svg>",
    ]
    return "\n".join(shown)


def _named(pair: Pair) -> tuple[str, str]:
    return hex_of_bytes(pair.query), _MISSING if pair.photo is None else hex_of_bytes(pair.photo)


def _blocks(pairs: Sequence[Pair], side: int, height: float) -> dict[str, _Block]:
    """The colours of the query (side 0) or the photo (1), from pale to dark."""
    shares: dict[str, float] = {}
    lightness: dict[str, float] = {}
    for pair in pairs:
        color = _named(pair)[side]
        shares[color] = shares.get(color, 0.0) + pair.share
        shown = pair.photo if side else pair.query
        # What is missing comes last.
        lightness[color] = -1.0 if shown is None else float(lab_of_bytes(shown)[0])
    gap = _gap(len(shares), height)
    blocks, top = {}, 0.0
    for color in sorted(shares, key=lambda color: (-lightness[color], color)):
        blocks[color] = _Block(color, shares[color], top)
        top += shares[color] * _full(len(shares), height) + gap
    return blocks


def _gap(blocks: int, height: float) -> float:
    return height * min(_GAP, _MOST_GAPS / max(blocks - 1, 1))


def _full(blocks: int, height: float) -> float:
    """How tall the whole picture is, less what is left between blocks."""
    return height - _gap(blocks, height) * (blocks - 1)


def _ribbons(
    pairs: Sequence[Pair],
    left: dict[str, _Block],
    right: dict[str, _Block],
    ends: tuple[float, float],
    height: float,
    prefix: str,
) -> list[str]:
    """Ribbons leave a block in the order in which they arrive at the other side, so that few cross."""
    most = max((pair.added for pair in pairs), default=0.0)
    scales = _full(len(left), height), _full(len(right), height)
    starts, stops = ({color: block.top for color, block in blocks.items()} for blocks in (left, right))
    ordered = sorted(pairs, key=lambda pair: (left[_named(pair)[0]].top, right[_named(pair)[1]].top))
    shown = []
    for number, pair in enumerate(ordered):
        query, photo = _named(pair)
        tops = starts[query], stops[photo]
        starts[query] += pair.share * scales[0]
        stops[photo] += pair.share * scales[1]
        strength = _PALE + (_STRONG - _PALE) * max(pair.added, 0.0) / most if most > 0 else _PALE
        shown += [
            f'<linearGradient id="{prefix}-{number}"><stop stop-color="{query}"/>'
            f'<stop offset="1" stop-color="{_paint(photo)}" stop-opacity="{0 if photo == _MISSING else 1}"/>'
            "</linearGradient>",
            f'<path d="{_outline(ends, tops, (pair.share * scales[0], pair.share * scales[1]))}" '
            f'fill="url(#{prefix}-{number})" opacity="{strength:.2f}" {_OUTLINE}>'
            f"<title>{_told(pair)}</title></path>",
        ]
    return shown


def _outline(ends: tuple[float, float], tops: tuple[float, float], thick: tuple[float, float]) -> str:
    (x0, x1), (y0, y1) = ends, tops
    t0, t1 = (max(one, _THINNEST) for one in thick)
    middle = (x0 + x1) / 2
    return (
        f"M{x0:.1f} {y0:.2f}C{middle:.1f} {y0:.2f} {middle:.1f} {y1:.2f} {x1:.1f} {y1:.2f}"
        f"V{y1 + t1:.2f}C{middle:.1f} {y1 + t1:.2f} {middle:.1f} {y0 + t0:.2f} {x0:.1f} {y0 + t0:.2f}Z"
    )


def _drawn(blocks: dict[str, _Block], x: float, width: float, height: float, whose: str) -> list[str]:
    full = _full(len(blocks), height)
    return [
        f'<rect x="{x:.1f}" y="{block.top:.2f}" width="{width:.1f}" height="{max(block.share * full, _THINNEST):.2f}" '
        f'fill="{block.color}" {_OUTLINE}><title>{_called(block.color)}, {_percent(block.share)} of the {whose}</title>'
        "</rect>"
        for block in blocks.values()
    ]


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _called(color: str) -> str:
    return "missing" if color == _MISSING else color


def _paint(color: str) -> str:
    return "#808080" if color == _MISSING else color


def _told(pair: Pair) -> str:
    query, photo = _named(pair)
    what = f"{query} to {_called(photo)}, {_percent(pair.share)} of the picture, Delta E {pair.delta_e:.1f}"
    return f"{what}: {'adds' if pair.added >= 0 else 'takes off'} {abs(pair.added):.4f}"


def _label(explanation: Explanation) -> str:
    """The picture in words."""
    pairs = "; ".join(map(_told, explanation.pairs))
    return f"What went from the query's colours to the photo's, at a distance of {explanation.distance:.4f}. {pairs}"
