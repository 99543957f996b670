"""The similarity matrix A: how alike any two colours of a palette are, 1 for a colour and itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64
from cbir.errors import MetricError


def color_distances(lab: NDArray[np.floating]) -> F64:
    """The Euclidean distance in L*a*b* between any two of k colours: (k, 3) to (k, k) float64."""
    colors = np.asarray(lab, np.float64)
    return np.asarray(np.linalg.norm(colors[:, None] - colors[None], axis=-1))


def linear(distance: F64, reach: float | None = None) -> F64:
    """`1 - d/reach`, as QBIC published it (Hafner et al. 1995); `reach` is the largest distance unless given.

    Not positive semi-definite for every metric, but on differences of histograms with one sum it is for Euclidean
    distances: these are of negative type. A smaller reach than the largest distance would need cutting off at zero,
    which loses that.
    """
    largest = float(distance.max(initial=0.0))
    if reach is not None and reach < largest:
        raise MetricError(
            f"linear: the range {reach:g} is below the palette's largest colour distance {largest:.4g}; "
            "leave it out to use that"
        )
    return 1 - distance / (reach or largest or 1.0)


def gaussian(distance: F64, reach: float | None = None) -> F64:
    """`exp(-(d/reach)^2 / 2)`; positive definite for Euclidean distances. `reach` is 10 unless given."""
    # With a range of next to nothing only equal colours are alike.
    with np.errstate(over="ignore"):
        return np.exp(-0.5 * (distance / (reach or DEFAULT_REACH)) ** 2)


def laplacian(distance: F64, reach: float | None = None) -> F64:
    """`exp(-d/reach)`; positive definite for Euclidean distances. `reach` is 10 unless given."""
    with np.errstate(over="ignore"):
        return np.exp(-distance / (reach or DEFAULT_REACH))


# About the distance at which two colours stop being called by one name.
DEFAULT_REACH = 10.0

SIMILARITIES: dict[str, Callable[[F64, float | None], F64]] = {
    "linear": linear,
    "gaussian": gaussian,
    "laplacian": laplacian,
}
