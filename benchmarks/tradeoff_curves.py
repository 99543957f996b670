"""The picture of the trade-off: four panels, a curve for each photo, the classic recipe dashed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.tradeoff import Classic, Photo, Point

_One = TypeVar("_One", "Point", "Classic")

# Inches, at so many pixels an inch: 1320 x 840 pixels.
_FIGURE, _RESOLUTION = (11, 7), 120
# Okabe and Ito (2008), "Color universal design": told apart with any colour vision.
_HUES = ("#d55e00", "#0072b2", "#009e73")
# The height of a thumbnail.
_THUMBNAIL = 160


def draw(photos: Mapping[str, Photo], path: Path) -> None:
    """Draw what was measured with each photo, by its name, into a PNG or SVG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(_FIGURE, dpi=_RESOLUTION, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(6, 3, width_ratios=(5, 5, 2.2))
    error, time, memory, size = (
        figure.add_subplot(grid[3 * row : 3 * row + 3, column]) for row in (0, 1) for column in (0, 1)
    )
    for i, ((name, photo), hue) in enumerate(zip(photos.items(), _HUES, strict=False)):
        _curve(error, photo.points, lambda one: one.eye, hue)
        _curve(error, photo.classic, lambda one: one.eye, hue, "--")
        _curve(time, photo.points, lambda one: 1000 * one.time, hue)
        _curve(time, photo.classic, lambda one: 1000 * one.time, hue, "--")
        _curve(memory, photo.points, lambda one: one.memory / 2**20, hue)
        _curve(size, photo.points, lambda one: one.file / 1024, hue)
        size.axhline(photo.bytes / 1024, color=hue, linewidth=1, linestyle=":")
        _show(figure.add_subplot(grid[2 * i : 2 * i + 2, 2]), name, photo, hue)
    _finish(error, "Error: mean CIEDE2000", "dashed: the classic recipe")
    _finish(time, "Time, milliseconds", "dashed: the classic recipe")
    time.set_yscale("log")
    time.minorticks_off()
    time.yaxis.set_major_formatter("{x:,.0f}")
    _finish(memory, "Memory, MiB", "beyond the picture, in a fresh process")
    memory.set_ylim(bottom=0)
    _finish(size, "Palette PNG, KiB", "dotted: the original PNG")
    size.set_yscale("log")
    size.minorticks_off()
    size.yaxis.set_major_formatter("{x:,.0f}")
    figure.savefig(path)


def _curve(panel: Axes, points: Sequence[_One], value: Callable[[_One], float], hue: str, dashes: str = "-") -> None:
    width = 2.2 if dashes == "-" else 1.2
    panel.plot(
        [one.k for one in points],
        [value(one) for one in points],
        color=hue,
        linestyle=dashes,
        linewidth=width,
        marker="o",
        markersize=width + 2,
    )


def _finish(panel: Axes, title: str, note: str) -> None:
    panel.set_title(title, fontsize=12, loc="left", fontweight="bold")
    panel.set_title(note, fontsize=9, loc="right", color="#777777")
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:.0f}")
    panel.set_xlabel("colours", loc="left")
    panel.tick_params(length=0, labelsize=10)
    panel.grid(color="#e6e6e6", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[:].set_visible(False)


def _show(panel: Axes, name: str, photo: Photo, hue: str) -> None:
    """A thumbnail, framed in the colour of its curves."""
    height, width = photo.pixels.shape[:2]
    size = round(width * _THUMBNAIL / height), _THUMBNAIL
    panel.imshow(cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA))
    panel.set_title(name, fontsize=10, color=hue, loc="left")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set(color=hue, linewidth=2.5)
