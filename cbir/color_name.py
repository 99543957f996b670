"""Colours as people write them: names, hex, and the notations of CSS become L*a*b*."""

from __future__ import annotations

import colorsys
import difflib
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cbir.color import F64, U8, bytes_of_lab, lab_of_bytes
from cbir.errors import CbirError


class ColorError(CbirError, ValueError):
    """A text is no colour, or no amount of one."""


class NamedColor(NamedTuple):
    """A colour as it was written, and its CIE L*a*b* (D65), which may lie outside what sRGB can show."""

    name: str
    lab: tuple[float, float, float]

    @property
    def srgb(self) -> U8:
        """The nearest 8-bit sRGB colour, (3,) uint8."""
        return bytes_of_lab(self.lab)


class Wanted(NamedTuple):
    """A colour, how much of it (a share above 0, up to 1) and within how many Delta E; None where it was not said."""

    color: NamedColor
    amount: float | None
    tolerance: float | None


# No colour takes as much; a longer text is a mistake, and looking for names like it would take long.
_LONGEST = 100
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?"


def parse_color(text: str) -> NamedColor:
    """The colour that a text names.

    Understood are what `css_color` understands, hex without its `#` (`1b3a5c`), names of CSS in several words
    (`dark slate gray`), and, if matplotlib is installed, the 949 names of the xkcd survey (Munroe 2010), whose words
    are joined by spaces, hyphens or underscores. Where both know a name, CSS's colour is meant.
    Raises ColorError, which suggests names that are spelt like it.
    """
    name = _cleaned(text)
    words = re.sub("(?<=[a-z])[ _-]+(?=[a-z])", " ", name.lower())
    for form in (name.lower(), words.replace(" ", ""), f"#{words}" if re.fullmatch("[0-9a-f]{6}", words) else ""):
        lab = _lab_of_css(form)
        if lab is not None:
            return _named(name, lab)
    surveyed = _surveyed_names()
    if words not in surveyed:
        raise ColorError(_unknown(name, words, surveyed))
    return _named(name, _lab_of_css(surveyed[words]))


def css_color(text: str) -> NamedColor:
    """The opaque colour that a text means in CSS.

    These are the 148 names, `#rgb`, `#rrggbb`, and `rgb()`, `hsl()`, `lab()`, `lch()`, `oklab()` and `oklch()` of CSS
    Color 4, with commas or spaces between three numbers or percentages, hues in degrees. CSS's `lab()` and `lch()` are
    relative to the white D50; they are adapted to D65 by Bradford's method, as CSS prescribes. `rgb()` and `hsl()` are
    rounded to 8 bits, as screens show them. Raises ColorError, also for alpha, and for numbers out of range.
    """
    name = _cleaned(text)
    return _named(name, _lab_of_css(name.lower()))


def parse_wanted(text: str) -> Wanted:
    """A colour with its amount in per cent after `:` and its tolerance in Delta E after `~`: `teal:30~15`.

    Both may be left out, and stand in either order; both are above 0 and at most 100. Raises ColorError.
    """
    _cleaned(text)
    color, *rest = re.split("([:~])", text)
    parsed, found = parse_color(color), dict[str, float]()
    for mark, value in zip(rest[::2], rest[1::2], strict=True):
        if mark in found:
            raise ColorError(f"{_shown(text)}: {_PARTS[mark].what} is given twice")
        found[mark] = _part(mark, value, text)
    return Wanted(parsed, found.get(":"), found.get("~"))


class _Part(NamedTuple):
    """A number after a colour: what it is called, in which unit, and what is 1."""

    what: str
    unit: str
    sign: str
    one: float


_PARTS = {":": _Part("an amount", " per cent", "%?", 100), "~": _Part("a tolerance", "", "", 1)}


def _part(mark: str, value: str, text: str) -> float:
    what, unit, sign, one = _PARTS[mark]
    match = re.fullmatch(f"({_NUMBER}) ?{sign}", value.strip().lower())
    if not match:
        raise ColorError(f"{_shown(text)}: {what} is a number, such as {mark}30, not {_quoted(value)}")
    if float(match[1]) > 100:
        raise ColorError(f"{_shown(text)}: {what} is at most 100{unit}")
    part = float(match[1]) / one
    if not part > 0:
        raise ColorError(f"{_shown(text)}: {what} is above 0{unit}")
    return part


def lab_of_d50(lab: ArrayLike) -> F64:
    """L*a*b* relative to D65 of L*a*b* relative to D50, as CSS and Photoshop have it, by Bradford; (3,)."""
    return _lab_of_xyz(_D50_TO_D65 @ (_xyz_of_lab(np.asarray(lab, np.float64)) * _D50) / _D65)


def _named(name: str, lab: F64 | None) -> NamedColor:
    if lab is None:
        raise ColorError(f"{_quoted(name)} is no colour of CSS")
    lightness, a, b = lab.tolist()
    return NamedColor(name, (lightness, a, b))


def _cleaned(text: str) -> str:
    if len(text) > _LONGEST:
        raise ColorError(f"{_quoted(text)}: a colour has at most {_LONGEST} characters")
    return " ".join(text.split())


def _shown(text: str) -> str:
    return text if text.isprintable() and len(text) <= _LONGEST else _quoted(text)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _surveyed_names() -> dict[str, str]:
    """Hex values of the names of the xkcd survey; none if matplotlib is not installed."""
    try:
        from matplotlib.colors import XKCD_COLORS
    except ImportError:
        return {}
    return {name.removeprefix("xkcd:"): str(value) for name, value in XKCD_COLORS.items()}


def _unknown(name: str, words: str, surveyed: Collection[str]) -> str:
    from PIL import ImageColor

    like = difflib.get_close_matches(words, sorted({*ImageColor.colormap, *surveyed}), n=3)
    hint = f"did you mean {', '.join(like)}?" if like else "write a name, #rrggbb, rgb(), hsl(), lab() or oklch()"
    more = "" if surveyed else " (more names come with: pip install 'cbir[plots]')"
    return f"there is no colour {_quoted(name)}; {hint}{more}"


def _lab_of_css(text: str) -> F64 | None:
    """L*a*b* of a lower-case colour of CSS; None if it is not even of the form of one. Raises ColorError."""
    from PIL import ImageColor

    function = re.fullmatch(r"([a-z]+) ?\((.*)\)", text)
    if function:
        return _lab_of_function(function[1], function[2], text)
    if text.startswith("#") and not re.fullmatch("#(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})", text):
        raise ColorError(f"{_shown(text)}: a hex colour has 3 or 6 digits, 0 to 9 and a to f")
    if not text.startswith("#") and text not in ImageColor.colormap:
        return None
    levels = ImageColor.getrgb(text)
    if len(levels) != 3:
        raise ColorError(f"{text}: {_NO_ALPHA}")
    return _lab_of_levels(levels)


_NO_ALPHA = "a colour with alpha cannot be asked for; leave the alpha out"


class _Coordinate(NamedTuple):
    """The range of a number in a notation of CSS, and what 100% of it is; a hue has no percentage."""

    low: float
    high: float
    whole: float | None


def _lab_of_function(function: str, inside: str, text: str) -> F64:
    function = {"rgba": "rgb", "hsla": "hsl"}.get(function, function)
    if function not in _NOTATIONS:
        raise ColorError(f"{_shown(text)}: there is no {function[:16]}(); there are: {'(), '.join(_NOTATIONS)}()")
    coordinates, convert = _NOTATIONS[function]
    values = re.split(r"\s*,\s*|\s+", inside.strip())
    if "/" in inside or len(values) == 4:
        raise ColorError(f"{_shown(text)}: {_NO_ALPHA}")
    if len(values) != 3:
        raise ColorError(f"{_shown(text)}: {function}() has three numbers")
    return convert([_number(value, axis, text) for value, axis in zip(values, coordinates, strict=True)])


def _number(value: str, coordinate: _Coordinate, text: str) -> float:
    low, high, whole = coordinate
    if value == "none":
        return 0.0
    match = re.fullmatch(f"({_NUMBER})({'deg' if whole is None else '%'})?", value)
    if not match:
        raise ColorError(f"{_shown(text)}: {_quoted(value)} is not a number here")
    number = float(match[1])
    if whole is not None and match[2]:
        number = number * whole / 100
        least, most = f"{100 * low / whole:g}%", f"{100 * high / whole:g}%"
    else:
        least, most = f"{low:g}", f"{high:g}"
    if not low <= number <= high:
        raise ColorError(f"{_shown(text)}: {_quoted(value)} is not within {least} to {most}")
    return number


def _lab_of_levels(levels: Sequence[float]) -> F64:
    """Of sRGB levels 0..255, which are rounded as Pillow and browsers do, half upwards."""
    srgb = np.array([math.floor(level + 0.5) for level in levels], np.uint8)
    return lab_of_bytes(srgb).astype(np.float64)


def _lab_of_hsl(hsl: list[float]) -> F64:
    rgb = colorsys.hls_to_rgb(hsl[0] % 360 / 360, hsl[2] / 100, hsl[1] / 100)
    return _lab_of_levels([min(max(255 * level, 0), 255) for level in rgb])


def _of_polar(polar: list[float]) -> list[float]:
    lightness, chroma, hue = polar
    angle = math.radians(hue % 360)
    return [lightness, chroma * math.cos(angle), chroma * math.sin(angle)]


def _lab_of_oklab(oklab: list[float]) -> F64:
    return _lab_of_xyz(_CONES_TO_XYZ @ (_OKLAB_TO_CONES @ np.array(oklab)) ** 3 / _D65)


# CIE 15:2004, with XYZ divided by that of the white.
_KNEE = 6 / 29


def _xyz_of_lab(lab: F64) -> F64:
    y = (lab[0] + 16) / 116
    f = np.array([y + lab[1] / 500, y, y - lab[2] / 200])
    return np.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))


def _lab_of_xyz(xyz: F64) -> F64:
    x, y, z = np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# The whites of CSS Color 4 by their chromaticities.
_D50 = np.array([0.3457, 0.3585, 1 - 0.3457 - 0.3585]) / 0.3585
_D65 = np.array([0.3127, 0.3290, 1 - 0.3127 - 0.3290]) / 0.3290
# XYZ to the responses of cones (Lam 1985, "Bradford"), in which one white is scaled to the other.
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50_TO_D65 = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D65) / (_BRADFORD @ _D50)) @ _BRADFORD
# OKLab (Ottosson 2020) with the digits of CSS Color 4: XYZ to cones, and their cube roots to OKLab.
_CONES_TO_XYZ = np.linalg.inv(
    [
        [0.8190224379967030, 0.3619062600528904, -0.1288737815209879],
        [0.0329836539323885, 0.9292868615863434, 0.0361446663506424],
        [0.0481771893596242, 0.2642395317527308, 0.6335478284694309],
    ]
)
_OKLAB_TO_CONES = np.linalg.inv(
    [
        [0.2104542683093140, 0.7936177747023054, -0.0040720430116193],
        [1.9779985324311684, -2.4285922420485799, 0.4505937096174110],
        [0.0259040424655478, 0.7827717124575296, -0.8086757549230774],
    ]
)

_LEVEL, _PER_CENT = _Coordinate(0, 255, 255), _Coordinate(0, 100, 100)
# Ten turns either way, though one is enough.
_HUE = _Coordinate(-3600, 3600, None)
# What CSS Color 4 takes as 100%; the bounds are those that it says real colours do not exceed.
_LAB_AXIS, _LCH_CHROMA = _Coordinate(-160, 160, 125), _Coordinate(0, 230, 150)
_OK_LIGHTNESS, _OK_AXIS, _OK_CHROMA = _Coordinate(0, 1, 1), _Coordinate(-0.5, 0.5, 0.4), _Coordinate(0, 0.5, 0.4)
_NOTATIONS: dict[str, tuple[tuple[_Coordinate, _Coordinate, _Coordinate], Callable[[list[float]], F64]]] = {
    "rgb": ((_LEVEL, _LEVEL, _LEVEL), _lab_of_levels),
    "hsl": ((_HUE, _PER_CENT, _PER_CENT), _lab_of_hsl),
    "lab": ((_PER_CENT, _LAB_AXIS, _LAB_AXIS), lab_of_d50),
    "lch": ((_PER_CENT, _LCH_CHROMA, _HUE), lambda lch: lab_of_d50(_of_polar(lch))),
    "oklab": ((_OK_LIGHTNESS, _OK_AXIS, _OK_AXIS), _lab_of_oklab),
    "oklch": ((_OK_LIGHTNESS, _OK_CHROMA, _HUE), lambda lch: _lab_of_oklab(_of_polar(lch))),
}
