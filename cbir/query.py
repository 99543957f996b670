"""A query: everything that one can ask for at once, and what each part of it means."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cbir.asked import Asked
from cbir.color_name import NamedColor, Wanted, parse_wanted
from cbir.errors import CbirError
from cbir.tone import DEFINITIONS

# Delta E (1994) from which on a colour does not stand for the one asked for, unless told.
TOLERANCE = 12.0
# More of a colour than this, which is not to be there, is seen.
_TRACE = 0.01
# A query of many parts is still answered in seconds.
_MOST_PARTS = 256
# Sums of amounts are written in decimals.
_ROUNDING = 1e-9
KINDS = ("like", "color", "accent", "paint")
_NUMBER = r"\s*(\d+)\s*"
_REGION = re.compile(",".join([_NUMBER] * 4))


class QueryError(CbirError):
    """A query that asks for what cannot be."""


class Like(NamedTuple):
    """A picture, by its path or its name in the index, and how much it counts beside the others."""

    picture: str
    weight: float = 1.0


class Region(NamedTuple):
    """A part of a picture, in pixels of it as it is shown: from the left, from the top, width and height."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read `x,y,width,height`. Raises QueryError."""
        found = _REGION.fullmatch(text)
        if found is None or not (region := cls(*(int(number[:9]) for number in found.groups()))).area:
            raise QueryError(f"{text[:40]!r} is no region; write x,y,width,height in pixels, such as 0,0,640,480")
        return region

    @property
    def area(self) -> int:
        """In pixels."""
        return self.width * self.height


@dataclass(frozen=True)
class Query:
    """What is asked for: pictures, colours, places of colours, and moods, all of them at once.

        Query(like=["sea.jpg"], colors=["teal:30", "sand:20~15"], without=["red:2"], tones=["light"])

    `like` and `unlike` are pictures, by paths or names in the index, or `Like`s, which have weights. `colors` are
    texts such as "teal:30~15": a colour, how much of the photo it takes up in per cent, and the tolerance in Delta E
    (1994), 12 unless told. Colours without an amount share out equally what the others leave of the photo. What all
    leave over is free: it may be anything. Amounts that make 100 leave nothing free, so they are the amounts of a whole
    picture, and photos are compared with one painted so. What is missing of a colour counts by the root of its amount
    (see `cbir.asked.Unmet`). `accents` are colours that stand out, however small.
    `without` are colours of which a photo has at most the amount told, 1 % unless told; others fall out. `tones` are
    names in `cbir.tone.DEFINITIONS`; photos that are not so fall out. `paint` is a picture whose opaque parts are
    colours in places. `region` takes only this part of the liked pictures, and `ignore_background` leaves out a plain
    colour along their border.

    A photo's distance is the root of the mean of its squared distances by each kind of part (pictures, colours, each
    accent, the painting), with `weights` by kind: like, color, accent and paint, 1 unless told. The order of parts does
    not matter. Raises QueryError, or ColorError for a colour that nobody knows.
    """

    like: Sequence[str | os.PathLike[str] | Like] = ()
    unlike: Sequence[str | os.PathLike[str] | Like] = ()
    colors: Sequence[str | Wanted] = ()
    accents: Sequence[str | Wanted] = ()
    without: Sequence[str | Wanted] = ()
    tones: Sequence[str] = ()
    paint: str | None = None
    region: Region | None = None
    ignore_background: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("like", "unlike", "colors", "accents", "without", "tones"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is a list of texts")
            if len(getattr(self, name)) > _MOST_PARTS:
                raise QueryError(f"more than {_MOST_PARTS} {name} at once; ask for fewer")
        # Sorted, so that sums do not depend on the order in which the parts were told.
        for name in ("like", "unlike"):
            self._set(name, tuple(sorted(map(_like, getattr(self, name)))))
        for name in ("colors", "accents", "without"):
            self._set(name, tuple(sorted(map(_wanted, getattr(self, name)), key=repr)))
        self._set("tones", tuple(sorted(set(self.tones))))
        self._set("weights", dict(sorted(self.weights.items())))
        self._check()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        if not (self.like or self.colors or self.accents or self.without or self.tones or self.paint):
            raise QueryError("nothing is asked for; give a picture, or a colour such as --color teal:30")
        if (self.unlike or self.region or self.ignore_background) and not self.like:
            raise QueryError("unlike, region and ignore-background go with a picture that is liked; give one")
        if both := {one.picture for one in self.liked} & {one.picture for one in self.unliked}:
            raise QueryError(f"{min(both)}: liked and unliked at once; choose one")
        for tone in self.tones:
            if tone not in DEFINITIONS:
                raise QueryError(f"there is no tone {tone[:40]!r}; there are {', '.join(DEFINITIONS)}")
        for kind, weight in self.weights.items():
            if kind not in KINDS:
                raise QueryError(f"there is no kind {kind[:40]!r} of part to weigh; there are {', '.join(KINDS)}")
            if not 0 < weight <= 1000:
                raise QueryError(f"the weight of {kind} is a number above 0 up to 1000, not {weight}")
        places = [(one.color.lab, one.tolerance) for one in _all(self.colors)]
        twice = [one.color.name for one in _all(self.colors) if places.count((one.color.lab, one.tolerance)) > 1]
        if twice and not self.is_whole_picture:
            raise QueryError(f"{twice[0]}: the same colour is asked for twice; ask once, with both amounts")
        total = sum(one.amount or 0.0 for one in _all(self.colors))
        if total > 1 + _ROUNDING:
            raise QueryError(f"the colours asked for make {100 * total:.4g} % of a photo; at most 100 can be")
        if total > 1 - _ROUNDING and any(one.amount is None for one in _all(self.colors)):
            raise QueryError("the colours asked for make 100 % of a photo, so nothing is left for those without amount")

    def weight(self, kind: str) -> float:
        """How much a kind of part counts."""
        return float(self.weights.get(kind, 1.0))

    @property
    def liked(self) -> tuple[Like, ...]:
        """The pictures that are liked."""
        return tuple(map(_like, self.like))

    @property
    def unliked(self) -> tuple[Like, ...]:
        """The pictures that are not."""
        return tuple(map(_like, self.unlike))

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The colours with their shares and tolerances."""
        colors = _all(self.colors)
        left = max(1.0 - sum(one.amount or 0.0 for one in colors), 0.0)
        each = left / max(1, sum(one.amount is None for one in colors))
        return tuple(_asked(one, each) for one in colors)

    @property
    def is_whole_picture(self) -> bool:
        """Whether the colours are those of a whole picture: all have amounts, no tolerances, and these make 100 %."""
        colors = _all(self.colors)
        exact = all(one.amount is not None and one.tolerance is None for one in colors)
        return exact and abs(sum(one.amount or 0.0 for one in colors) - 1) <= _ROUNDING

    @property
    def accent_colors(self) -> tuple[Asked, ...]:
        """The accents, of no share."""
        return tuple(_asked(one, 0.0) for one in _all(self.accents))

    @property
    def color_names(self) -> tuple[str, ...]:
        """What all colours are called of which hits tell their shares: those asked for, accents, and unwanted ones."""
        return tuple(one.color.name for one in (*_all(self.colors), *_all(self.accents), *_all(self.without)))

    @property
    def accent_names(self) -> tuple[str, ...]:
        """What the accents are called."""
        return tuple(one.color.name for one in _all(self.accents))

    @property
    def unwanted(self) -> tuple[Asked, ...]:
        """The colours that are not to be there, with the shares that a photo may have of them."""
        return tuple(_asked(one, _TRACE) for one in _all(self.without))


def _all(colors: Sequence[str | Wanted]) -> list[Wanted]:
    return [one for one in colors if isinstance(one, Wanted)]


def _wanted(one: str | Wanted) -> Wanted:
    wanted = parse_wanted(one) if isinstance(one, str) else one
    if not (wanted.amount is None or 0 < wanted.amount <= 1) or not (wanted.tolerance is None or wanted.tolerance > 0):
        raise QueryError(f"{wanted.color.name}: an amount is a share above 0 up to 1, a tolerance above 0")
    return wanted


def _asked(one: Wanted, share: float) -> Asked:
    tolerance = TOLERANCE if one.tolerance is None else one.tolerance
    return Asked(one.color.lab, share if one.amount is None else one.amount, tolerance)


def _like(one: str | os.PathLike[str] | Like) -> Like:
    like = one if isinstance(one, Like) else Like(os.fspath(one))
    if not 0 < like.weight <= 1000:
        raise QueryError(f"{like.picture}: a weight is a number above 0 up to 1000, not {like.weight:g}")
    return like


def painted(colors: Sequence[NamedColor]) -> tuple[Wanted, ...]:
    """Some colours, such as those of a palette file, in equal amounts that make 100 %."""
    return tuple(Wanted(color, 1 / len(colors), None) for color in colors)
