"""Frames drawn in flat colours, one after the other, each steady against the one before."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from cbir.ahead import ahead
from cbir.color import U8
from cbir.film_reading import Copied, Film, Frame
from cbir.scenes import Scene
from cbir.steady import (
    MARGIN,
    MARGIN_OF_NOISE,
    Flicker,
    LabelTable,
    SteadyLabels,
    SteadyLines,
    SteadyPicture,
    Stillness,
)
from cbir.styles import INK, Style, prepared
from cbir.styles import lines as lines_of

# Frames are smoothed, and their lines found, with a shorter side of so many pixels or up to twice as many.
_WORKING_SIDE = 360
# Frames with a shorter side below this flicker less, and look all but the same, with a median of 3 x 3.
_LARGE_SIDE = 480
# How much nearer (Euclidean in L*a*b*) another of ink's few greys must be before a resting pixel takes it.
_MARGIN_OF_INK = 20.0


@dataclass(frozen=True, eq=False)
class Drawn:
    """A frame in flat colours: `labels` (height, width) uint8 into `colors` (n, 3) uint8."""

    labels: U8
    colors: U8
    pts: int
    duration: int


class Steadied:
    """What is remembered from frame to frame within one scene."""

    def __init__(self, scene: Scene) -> None:
        self.table = LabelTable(scene.palette, scene.low, scene.high)
        self.stillness, self.picture = Stillness(), SteadyPicture()
        self.labels, self.lines = SteadyLabels(self.table), SteadyLines()
        self.colors_and_ink: U8 = np.concatenate([scene.palette.srgb, INK[None]])


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A frame at the working size, smooth, with its levels stretched as the scene's table takes them.

    `lines` tell how certain ink is, None for a style without; `moved` and `source_moved` are as in `SteadyPicture`.
    """

    scene: Steadied
    pixels: U8
    lines: U8 | None
    moved: U8
    source_moved: U8
    margin: float
    pts: int
    duration: int


class Drawing:
    """Draws a film's frames one after the other, and measures how steady they are."""

    def __init__(self, film: Film, style: Style, scenes: Sequence[Scene]) -> None:
        self._style, self._scenes = style, scenes
        self._full = film.width, film.height
        self._size = working_size(*self._full) if style.strength or style.line else self._full
        self._median = median_side(min(self._full))
        self._film = film
        self.flicker, self.scenes = Flicker(), 0
        self._shown: Steadied | None = None

    def items(self, items: Generator[Frame | Copied]) -> Generator[Drawn | Copied]:
        """The same with all frames drawn, on two threads: one for what is done to the small, one to whole frames."""

        def smoothed() -> Generator[Smoothed | Copied]:
            with closing(items):
                for item in items:
                    yield self.smoothed(item) if isinstance(item, Frame) else item

        with closing(ahead(smoothed())) as prepared_items:
            for item in prepared_items:
                yield self.flat(item) if isinstance(item, Smoothed) else item

    def draw(self, frame: Frame) -> Drawn:
        """The next frame in flat colours."""
        return self.flat(self.smoothed(frame))

    def smoothed(self, frame: Frame) -> Smoothed:
        """The next frame at the working size, steady and smooth."""
        while self.scenes < len(self._scenes) and (not self.scenes or self._scenes[self.scenes].start <= frame.pts):
            self._steadied = Steadied(self._scenes[self.scenes])
            self.scenes += 1
        now = self._steadied
        pixels = self._film.pixels(frame, self._size)
        source_moved = now.stillness.next(pixels)
        steady, moved = now.picture.next(pixels, source_moved, now.stillness.threshold)
        lines = None
        if self._style.is_inked:
            lines = now.lines.averaged(_line_strength(steady, self._style), moved)
        smooth, margin = prepared(steady, self._style), MARGIN + MARGIN_OF_NOISE * now.stillness.sigma
        if self._style.name == "ink":
            # What makes lines of differences makes lines of noise, too, many times as strong as it was.
            smooth, margin = now.lines.averaged(smooth, moved), _MARGIN_OF_INK
        smooth = now.table.stretched(smooth)
        return Smoothed(now, smooth, lines, moved, source_moved, margin, frame.pts, frame.duration)

    def flat(self, frame: Smoothed) -> Drawn:
        """A smooth frame in flat colours, in full size."""
        import cv2

        scene, colors, moved = frame.scene, frame.scene.table.palette.srgb, self._whole(frame.moved, smooth=False)
        if scene is not self._shown:
            self._shown = scene
            self.flicker.cut()
        labels = scene.labels.next(self._whole(frame.pixels), moved, frame.margin)
        if self._style.speck:
            # By lightness, as labels are ordered, their median is one of them.
            labels = np.asarray(cv2.medianBlur(labels, self._median), np.uint8)
        if frame.lines is not None:
            labels = _inked(labels, scene.lines.next(self._whole(frame.lines), moved), len(colors))
            colors = scene.colors_and_ink
        self.flicker.add(labels, self._whole(frame.source_moved, smooth=False))
        return Drawn(labels, colors, frame.pts, frame.duration)

    def _whole(self, pixels: Any, smooth: bool = True) -> Any:
        """A working picture made as large as the frame."""
        import cv2

        if pixels.shape[1::-1] == self._full:
            return pixels
        return cv2.resize(pixels, self._full) if smooth else enlarged(pixels, self._full)


def enlarged(mask: U8, size: tuple[int, int]) -> U8:
    """A mask made (width, height) `size`, each pixel of which is that of the nearest."""
    import cv2

    height = len(mask)
    wide = np.asarray(cv2.resize(mask, (size[0], height), interpolation=cv2.INTER_NEAREST), np.uint8)
    # Whole rows are copied, in half the time.
    times = np.bincount(np.arange(size[1]) * height // size[1], minlength=height)
    return np.repeat(wide, times, axis=0)


def working_size(width: int, height: int) -> tuple[int, int]:
    """The size that frames are smoothed at: whole, a half, a third, and so on, with a shorter side from 360 to 720."""
    parts = max(1, min(width, height) // _WORKING_SIDE)
    return -(-width // parts), -(-height // parts)


def median_side(shorter_side: int) -> int:
    """The side of the median that takes specks out of whole frames and rounds outlines: 3 for small frames, else 5."""
    return 3 if shorter_side < _LARGE_SIDE else 5


def _line_strength(pixels: U8, style: Style) -> U8:
    """How certain a line is, (height, width) uint8: soft between what is one and what is none."""
    import cv2

    lines = lines_of(pixels, style).view(np.uint8) * np.uint8(255)
    return np.asarray(cv2.GaussianBlur(lines, (3, 3), 0), np.uint8)


def _inked(labels: U8, lines: U8, ink: int) -> U8:
    """Labels with that of the ink, which is the last of all, where there are lines."""
    import cv2

    return np.asarray(cv2.max(labels, cv2.threshold(lines, 127, ink, cv2.THRESH_BINARY)[1]), np.uint8)
