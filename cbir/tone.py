"""Tones: moods of photos, defined by the lightness, chroma and hue of their colours in L*a*b*."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64

Mask = NDArray[np.bool_]

_DARK, _LIGHT = 35.0, 65.0
# Mean chroma below which colours look greyed; and from which on one is vivid, and how much of a photo has to be so.
_MUTED, _VIVID, _VIVID_SHARE = 14.0, 50.0, 0.2
# Colours of less chroma have no hue that counts.
_GREY = 8.0
# A photo of one hue: so much of what has a hue lies within so many degrees of the mean hue.
_ONE_HUE, _ONE_HUE_DEGREES = 0.9, 25.0
# From red over orange to yellow, and from green over blue to violet, in degrees of hue in L*a*b*; and how much of what
# has a hue, counted by its chroma, is to be so.
_WARM, _COOL, _MOSTLY = (-20.0, 100.0), (150.0, 310.0), 0.75
# Mean chroma that a photo has at least to be warm or cool at all.
_COLOURED = 5.0

DEFINITIONS = {
    "dark": f"mean L* below {_DARK:g}",
    "light": f"mean L* above {_LIGHT:g}",
    "muted": f"mean chroma below {_MUTED:g}",
    "vivid": f"{_VIVID_SHARE:.0%} of the photo or more has a chroma above {_VIVID:g}",
    "monochrome": f"greys (chroma below {_GREY:g}), and besides {_ONE_HUE:.0%} or more of the rest within "
    f"{_ONE_HUE_DEGREES:g} degrees of one hue",
    "warm": f"{_MOSTLY:.0%} or more of the chroma has a hue from {_WARM[0]:g} to {_WARM[1]:g} degrees",
    "cool": f"{_MOSTLY:.0%} or more of the chroma has a hue from {_COOL[0]:g} to {_COOL[1]:g} degrees",
}


def has_tone(name: str, shares: F64, lab: NDArray[np.floating]) -> Mask:
    """Which photos, by their shares (n, k) of the palette's colours (k, 3), are of a tone of `DEFINITIONS`: (n,)."""
    colors = np.asarray(lab, np.float64)
    return _TONES[name](shares, colors[:, 0], np.hypot(colors[:, 1], colors[:, 2]), _hues(colors))


def _hues(colors: F64) -> F64:
    return np.asarray(np.degrees(np.arctan2(colors[:, 2], colors[:, 1])))


def _mean(shares: F64, values: F64) -> F64:
    # Not a matrix product: each photo as if it were alone, so that copies are on one side of a limit.
    return np.asarray((shares * values).sum(axis=1))


def _is_between(hue: F64, span: tuple[float, float]) -> Mask:
    return np.asarray((hue - span[0]) % 360 <= span[1] - span[0])


def _mostly(shares: F64, chroma: F64, hue: F64, span: tuple[float, float]) -> Mask:
    coloured = _mean(shares, chroma)
    return np.asarray((coloured >= _COLOURED) & (_mean(shares, chroma * _is_between(hue, span)) >= _MOSTLY * coloured))


def _is_monochrome(shares: F64, lightness: F64, chroma: F64, hue: F64) -> Mask:
    coloured = shares * (chroma >= _GREY)
    angle = np.radians(hue)
    x, y = _mean(coloured, chroma * np.cos(angle)), _mean(coloured, chroma * np.sin(angle))
    off = np.abs((hue - np.degrees(np.arctan2(y, x))[:, None] + 180) % 360 - 180)
    return np.asarray((coloured * (off <= _ONE_HUE_DEGREES)).sum(axis=1) >= _ONE_HUE * coloured.sum(axis=1))


_TONES: dict[str, Callable[[F64, F64, F64, F64], Mask]] = {
    "dark": lambda shares, lightness, chroma, hue: _mean(shares, lightness) < _DARK,
    "light": lambda shares, lightness, chroma, hue: _mean(shares, lightness) > _LIGHT,
    "muted": lambda shares, lightness, chroma, hue: _mean(shares, chroma) < _MUTED,
    "vivid": lambda shares, lightness, chroma, hue: _mean(shares, np.where(chroma > _VIVID, 1.0, 0.0)) >= _VIVID_SHARE,
    "monochrome": _is_monochrome,
    "warm": lambda shares, lightness, chroma, hue: _mostly(shares, chroma, hue, _WARM),
    "cool": lambda shares, lightness, chroma, hue: _mostly(shares, chroma, hue, _COOL),
}
assert _TONES.keys() == DEFINITIONS.keys()
