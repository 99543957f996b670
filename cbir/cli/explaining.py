"""An explanation of a distance on the terminal, and as a record for programs."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

from cbir.cli.shell import printable
from cbir.cli.show import block
from cbir.color import U8, hex_of_bytes
from cbir.explain import Explanation
from cbir.histogram import Swatch

# Distances are told in steps of a ten-thousandth, as in tables of hits.
_STEPS = 10_000
_INDENT, _SAMPLE = "  ", 3
_HEX = len("#rrggbb")
# How many characters a pair takes before what it added, without samples.
_LABELS = 36


def explanation_lines(explanation: Explanation, color: bool) -> list[str]:
    """Lines for the terminal: each pair, the rest if there is any, and the distance, to which the numbers above sum."""
    parts = [*(pair.added for pair in explanation.pairs), *(added for _, added in explanation.parts), explanation.rest]
    # Rounded so that the column sums to the distance as it is shown: not each number, but each sum so far.
    sums = [0, *(round(total * _STEPS) for total in accumulate(parts))]
    *added, rest = (f"{(b - a) / _STEPS:+.4f}" for a, b in pairwise(sums))
    lines = [
        f"{_INDENT}{_color(pair.query, color)} -> {_color(pair.photo, color)}  {_percent(pair.share)}"
        f"  dE {pair.delta_e:5.1f}  {number:>8}"
        for pair, number in zip(explanation.pairs, added, strict=False)
    ]
    labels = _LABELS + (2 * (_SAMPLE + 1) if color else 0)
    others = zip(explanation.parts, added[len(explanation.pairs) :], strict=True)
    lines += [f"{_INDENT}{printable(name):<{labels}}{number:>8}" for (name, _), number in others]
    if rest.strip("+-0."):
        lines.append(f"{_INDENT}{'the rest':<{labels}}{rest:>8}")
    return [*lines, f"{_INDENT}{'distance':<{labels}}{sums[-1] / _STEPS:8.4f}"]


def explanation_record(explanation: Explanation) -> dict[str, Any]:
    """For JSON; what the pairs and parts added and the rest sum to the distance."""
    pairs = [
        {
            "query": hex_of_bytes(pair.query),
            "photo": None if pair.photo is None else hex_of_bytes(pair.photo),
            "share": pair.share,
            "delta_e": pair.delta_e,
            "added": pair.added,
        }
        for pair in explanation.pairs
    ]
    parts = [{"part": name, "added": added} for name, added in explanation.parts]
    return {"distance": explanation.distance, "pairs": pairs, "parts": parts, "rest": explanation.rest}


def _color(srgb: U8 | None, color: bool) -> str:
    if srgb is None:
        return f"{'missing':<{_HEX + (_SAMPLE + 1 if color else 0)}}"
    return f"{block(Swatch(srgb, 1.0), _SAMPLE)} {hex_of_bytes(srgb)}" if color else hex_of_bytes(srgb)


def _percent(share: float) -> str:
    """Four characters; a little is not nothing."""
    return " <1%" if 0 < share < 0.005 else f"{share:4.0%}"
