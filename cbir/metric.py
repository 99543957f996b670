"""A metric: which similarity, with which range, on plain or square-root amounts. Chosen when one asks, never stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cbir.errors import MetricError
from cbir.quadratic import QuadraticForm
from cbir.similarity import DEFAULT_REACH, SIMILARITIES, color_distances

_ROOTS = "sqrt-"
# No two sRGB colours are further apart than 260; with far longer ranges all colours are alike but for rounding.
MAX_REACH = 1000


@dataclass(frozen=True)
class Metric:
    """A quadratic-form distance between histograms.

    `similarity` is linear, gaussian or laplacian; `reach` its range in L*a*b* units (None: 10, or for linear the
    palette's largest colour distance); `roots` takes square roots of the amounts first, which damps big dull areas.
    """

    similarity: str = "laplacian"
    reach: float | None = None
    roots: bool = True

    def __post_init__(self) -> None:
        if self.similarity not in SIMILARITIES:
            raise MetricError(f"there is no similarity {self.similarity!r}; use one of {', '.join(SIMILARITIES)}")
        if self.reach is not None and not 0 < self.reach <= MAX_REACH:
            raise MetricError(f"{self.similarity}: the range is a number above 0 up to {MAX_REACH}, not {self.reach}")
        if self.roots and self.similarity == "linear":
            raise MetricError(
                "sqrt-linear is no metric: linear needs amounts that sum to one, and their square roots do not; "
                "use linear, or sqrt-laplacian"
            )

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Read `[sqrt-]NAME[:RANGE]`, such as `sqrt-laplacian:10`, or `qbic`, which is QBIC's published `linear`."""
        name, colon, reach = text.strip().lower().partition(":")
        if name == "qbic":
            name = "linear"
        try:
            number = float(reach) if colon else None
        except ValueError:
            raise MetricError(
                f"{text!r} is no metric: {reach!r} is not a number; write for instance {DEFAULT}"
            ) from None
        return cls(name.removeprefix(_ROOTS), number, name.startswith(_ROOTS))

    def __str__(self) -> str:
        reach = DEFAULT_REACH if self.reach is None and self.similarity != "linear" else self.reach
        name = (_ROOTS if self.roots else "") + self.similarity
        return name if reach is None else f"{name}:{repr(float(reach)).removesuffix('.0')}"

    def form(self, lab: NDArray[np.floating]) -> QuadraticForm:
        """The quadratic form over a palette's colours, (k, 3) L*a*b*, for amounts that `prepare` has been over."""
        A = SIMILARITIES[self.similarity](color_distances(lab), self.reach)
        return QuadraticForm(A, one_sum=not self.roots)

    def prepare(self, shares: NDArray[np.floating]) -> NDArray[np.floating]:
        """What the form is taken of: shares 0..1 of a picture, (..., k), or their square roots; the dtype stays."""
        return np.sqrt(shares) if self.roots else shares


DEFAULT = Metric()
QBIC = Metric("linear", None, roots=False)
