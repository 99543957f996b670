"""A metric: how two photos are compared. Chosen when one asks, never stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cbir.errors import MetricError
from cbir.similarity import DEFAULT_REACH, SIMILARITIES

# No two sRGB colours are further apart than 260; with far longer ranges all colours are alike but for rounding.
MAX_REACH = 1000
# Smaller powers tell next to nothing but whether a colour is there at all; amounts are not raised above their share.
_MIN_POWER = 0.05
# The bound keeps sums of squares far from overflowing.
MAX_WEIGHT = 1e6
WHOLE = "whole"
_ROOTS = "sqrt-"
_EXAMPLE = "for instance cbir, qbic, sqrt-laplacian:10 or cbir:5,centre=2"
Weights = tuple[tuple[str, float], ...]

# How much each part of a photo counts, by the index's descriptor. Measured on eight labelled sets, see
# benchmarks/README.md.
DEFAULT_WEIGHTS: dict[str, Weights] = {
    "spatial": (
        *(("smooth", 1.0), ("mixed", 1.0), ("busy", 1.0)),
        *(("top", 0.4), ("middle", 0.4), ("bottom", 0.4), ("centre", 1.5)),
    ),
    "global": ((WHOLE, 1.0),),
}
_PARTS = (WHOLE, *dict(DEFAULT_WEIGHTS["spatial"]))


@dataclass(frozen=True)
class Metric:
    """A quadratic-form distance between descriptors.

    The shares h of each histogram become `x = (S h)^power`. S spreads every colour's share over the colours near it, as
    a Gaussian of standard deviation `spread` in Delta E, cut off at 11 of these, so that it matters less on which side
    of a border between two palette colours a shade falls; a small power damps big dull areas. If `centred`, x is taken
    from its mean over the index's reference photos and divided by its length. The squared distance of two photos is
    then the sum over the histograms of `weight (x - y)^T A (x - y)`: one quadratic form, whose matrix has a block
    `weight A` for each histogram. A is the `similarity` (linear, gaussian or laplacian) of palette colours, with its
    range `reach` in Delta E (None: 10, or for linear the palette's largest colour distance).

    `weights` are pairs of a histogram's name and its weight; "whole" is the histogram of the whole photo, which every
    descriptor has; those that are not named weigh nothing. None: those of `DEFAULT_WEIGHTS`. Raises MetricError.
    """

    similarity: str = "laplacian"
    reach: float | None = 3.0
    power: float = 0.25
    spread: float = 5.0
    centred: bool = True
    weights: Weights | None = None

    def __post_init__(self) -> None:
        if self.similarity not in SIMILARITIES:
            raise MetricError(
                f"there is no similarity {self.similarity[:40]!r}; use cbir, qbic, or one of {', '.join(SIMILARITIES)}"
            )
        if self.reach is None and self.similarity != "linear":
            object.__setattr__(self, "reach", DEFAULT_REACH)
        if self.reach is not None and not 0 < self.reach <= MAX_REACH:
            raise MetricError(f"{self.similarity}: the range is a number above 0 up to {MAX_REACH}, not {self.reach}")
        if not _MIN_POWER <= self.power <= 1:
            raise MetricError(f"the power is a number from {_MIN_POWER} to 1, not {self.power}")
        if not 0 <= self.spread <= MAX_REACH:
            raise MetricError(f"the spread is a number from 0 to {MAX_REACH}, not {self.spread}")
        if self.weights is not None:
            # In one order, and without known parts that weigh nothing, so that metrics that are alike are equal.
            named = dict.fromkeys(_PARTS, 0.0) | dict(self.weights)
            kept = tuple((name, float(weight)) for name, weight in named.items() if weight or name not in _PARTS)
            object.__setattr__(self, "weights", kept)
        for name, weight in self.weights or ():
            if not 0 <= weight <= MAX_WEIGHT:
                raise MetricError(f"the weight of {name!r} is a number from 0 to {MAX_WEIGHT:g}, not {weight}")
        if self.weights is not None and not any(weight for _, weight in self.weights):
            raise MetricError("all weights are 0, so all photos would be alike; give one part of the photo more")
        if self.similarity == "linear" and (self.power != 1 or dict(self.weights or ()).keys() != {WHOLE}):
            raise MetricError(
                "linear is a metric only of whole photos' amounts, which sum to one, and not of their powers, nor of "
                "parts of photos; use qbic, or sqrt-laplacian"
            )

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Read `NAME[:RANGE][,SETTING=VALUE]...`, such as `cbir`, `qbic`, `sqrt-laplacian:10` or `cbir:5,centre=2`.

        NAME is cbir, the default; qbic, the form as QBIC published it; or a similarity, which compares photos as a
        whole: by their amounts, or with `sqrt-` before it by the roots of these. A SETTING is similarity, power,
        spread, centred (0 or 1), or the name of a part of the photo, whose weight it sets. Raises MetricError.
        """
        head, *settings = (part.strip() for part in text.lower().split(","))
        name, colon, reach = head.partition(":")
        if name == "cbir":
            base: dict[str, Any] = {}
        elif name == "qbic":
            base = _classic("linear", 1.0)
        else:
            base = _classic(name.removeprefix(_ROOTS), 0.5 if name.startswith(_ROOTS) else 1.0)
        if colon:
            base["reach"] = _number(text, reach)
        weights: dict[str, float] = {}
        for setting in settings:
            key, equals, value = (part.strip() for part in setting.partition("="))
            if not key or not equals:
                raise MetricError(f"{text!r} is no metric: {setting!r} is not SETTING=VALUE; write {_EXAMPLE}")
            if key == "similarity":
                base[key] = value
            elif key in ("power", "spread"):
                base[key] = _number(text, value)
            elif key == "centred":
                base[key] = _switch(text, value)
            else:
                weights[key] = _number(text, value)
        if weights:
            base["weights"] = tuple((dict(base.get("weights") or DEFAULT_WEIGHTS["spatial"]) | weights).items())
        return cls(**base)

    def __str__(self) -> str:
        """The text that `parse` reads this metric from."""
        if self == QBIC:
            return "qbic"
        if self.weights is None or WHOLE not in dict(self.weights):
            name, usual = "cbir", DEFAULT
        else:
            name = (_ROOTS if self.power == 0.5 else "") + self.similarity
            usual = Metric(**_classic(self.similarity, 0.5 if self.power == 0.5 else 1.0))
        known = self.reach is None or (name == "cbir" and self.reach == usual.reach)
        parts = [name if known else f"{name}:{_short(self.reach)}"]
        if self.similarity != usual.similarity:
            parts.append(f"similarity={self.similarity}")
        parts += [
            f"{key}={_short(getattr(self, key))}" for key in _SETTINGS if getattr(self, key) != getattr(usual, key)
        ]
        if self.weights != usual.weights:
            named = dict.fromkeys(dict(usual.weights or DEFAULT_WEIGHTS["spatial"]), 0.0) | dict(self.weights or ())
            parts += [f"{part}={_short(weight)}" for part, weight in named.items()]
        return ",".join(parts)

    def of_whole(self) -> Metric:
        """The same metric of the photos as a whole, for a question that does not tell of their parts."""
        return replace(self, weights=((WHOLE, 1.0),))


_SETTINGS = ("power", "spread", "centred")


def _classic(similarity: str, power: float) -> dict[str, Any]:
    return {
        "similarity": similarity,
        "reach": None,
        "power": power,
        "spread": 0.0,
        "centred": False,
        "weights": ((WHOLE, 1.0),),
    }


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise MetricError(f"{text!r} is no metric: {value!r} is not a number; write {_EXAMPLE}") from None


def _switch(text: str, value: str) -> bool:
    if value not in ("0", "1"):
        raise MetricError(f"{text!r} is no metric: centred is 0 or 1, not {value!r}; write {_EXAMPLE}")
    return value == "1"


def _short(number: float | None) -> str:
    return repr(float(number or 0)).removesuffix(".0")


DEFAULT = Metric()
QBIC = Metric(**_classic("linear", 1.0))
