"""The picture of how searching grows: time above, space below, a column for each descriptor, all scales logarithmic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.growth import Size

# Inches, at so many pixels an inch: 1320 x 1020 pixels.
_FIGURE, _RESOLUTION = (11, 8.5), 120
# Okabe and Ito (2008), "Color universal design": told apart with any colour vision.
_OURS, _BLUE, _GREEN, _PINK, _GREY = "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#777777"
_TITLES = {"spatial": "The spatial descriptor, the default", "global": "The global descriptor"}
# Names of curves are at least so many decades apart.
_APART = {"time": 0.36, "space": 0.27}
# Between the end of a curve and its name, and what the names need at the right: factors.
_GAP, _NAMES = 1.25, 120
_TIMES = {1e-3: "1 ms", 1e-2: "10 ms", 0.1: "100 ms", 1: "1 s", 10: "10 s", 100: "100 s"}
_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
_SIZES = {100 * _KIB: "100 KiB", _MIB: "1 MiB", 10 * _MIB: "10 MiB", 100 * _MIB: "100 MiB", _GIB: "1 GiB"}


class _Curve(NamedTuple):
    """A curve's name, what it shows of a size, its colour, and its width in points."""

    name: str
    value: Callable[[Size], float]
    color: str
    width: float = 1.6


_TIME = (
    _Curve("making axes, once", lambda size: size.build if size.axes_bytes else np.nan, _BLUE),
    _Curve("cbir search, all of it", lambda size: size.command, "black"),
    _Curve("its imports alone", lambda size: size.imports, _GREY, 1),
    _Curve("first search", lambda size: size.first, _GREEN),
    _Curve("opening", lambda size: size.open, _PINK),
    _Curve("search, near", lambda size: size.near, _OURS, 1),
    _Curve("search, far", lambda size: size.far, _OURS, 3),
)
_SPACE = (
    _Curve("index on disk", lambda size: size.index_bytes, "black"),
    _Curve("axes on disk", lambda size: size.axes_bytes or np.nan, _BLUE),
    _Curve("memory to make axes", lambda size: size.build_memory if size.axes_bytes else np.nan, _GREEN),
    _Curve("memory to search", lambda size: size.memory, _OURS, 3),
)


def draw(sizes: Mapping[str, Sequence[Size]], path: Path) -> None:
    """Draw what was measured with each descriptor, by the name of the descriptor, into a PNG or SVG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(_FIGURE, dpi=_RESOLUTION, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(sizes), sharex=True, sharey="row", squeeze=False)
    for (descriptor, some), (time, space) in zip(sizes.items(), panels.T, strict=True):
        time.set_title(_TITLES[descriptor], fontsize=12, loc="left", fontweight="bold")
        _draw_panel(time, some, _TIME, _TIMES, _APART["time"])
        time.fill_between(*_column(some, lambda size: size.near), [size.far for size in some], color=_OURS, alpha=0.15)
        _draw_panel(space, some, _SPACE, _SIZES, _APART["space"])
        space.set_xlabel("photos", loc="left")
    _scale(panels[0, 0], [size.photos for some in sizes.values() for size in some])
    figure.savefig(path)


def _column(sizes: Sequence[Size], value: Callable[[Size], float]) -> tuple[list[int], list[float]]:
    return [size.photos for size in sizes], [value(size) for size in sizes]


def _draw_panel(
    panel: Axes, sizes: Sequence[Size], curves: Sequence[_Curve], ticks: Mapping[float, str], apart: float
) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    for curve in curves:
        panel.plot(
            *_column(sizes, curve.value),
            color=curve.color,
            linewidth=curve.width,
            marker="o",
            markersize=curve.width + 2,
            solid_capstyle="round",
        )
    ends = [curve.value(sizes[-1]) for curve in curves]
    for curve, height in zip(curves, _moved_apart(ends, apart), strict=True):
        panel.text(sizes[-1].photos * _GAP, height, curve.name, color=curve.color, va="center", fontsize=10)
    panel.set_yticks([*ticks], [*ticks.values()])
    panel.minorticks_off()
    panel.tick_params(length=0, labelsize=10, labelleft=True)
    panel.grid(color="#e6e6e6", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[:].set_visible(False)


def _moved_apart(values: Sequence[float], decades: float) -> list[float]:
    """Heights near some values, at least so many decades apart, in their order."""
    logs = np.log10(values)
    order = np.argsort(logs)
    steps = decades * np.arange(len(logs))
    # Isotonic regression: as near to the values as the distances allow.
    from sklearn.isotonic import isotonic_regression

    heights = np.empty(len(logs))
    heights[order] = isotonic_regression(logs[order] - steps) + steps
    return (10**heights).tolist()


def _scale(panel: Axes, photos: Sequence[int]) -> None:
    """Ticks at the sizes that were measured, and room for the names at the right."""
    names = {1_000: "1,000", 10_000: "10,000", 100_000: "100,000", 1_000_000: "1 million", 10_000_000: "10 million"}
    ticks = sorted({*photos} & {*names})
    panel.set_xticks(ticks, [names[tick] for tick in ticks])
    panel.set_xlim(min(photos) / _GAP, max(photos) * _NAMES)
