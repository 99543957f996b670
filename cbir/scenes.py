"""Scenes: where a film is cut, and the palette of what lies between two cuts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cbir.color import F64, U8
from cbir.palette import Palette

# Frames are looked at in about so many pixels.
SMALL_PIXELS = 1 << 13
# Bits of a level that count for a histogram: 8 x 8 x 8 bins.
_BITS = 3
# The share of a frame's pixels that must change their bin for a cut, at least, and against the film's usual share.
# Fast motion stays below the first, most cuts are above it; a fire or a fight has a high usual share.
_CUT, _ABOVE_USUAL = 0.4, 3.0
_USUAL_SHARE = 0.1
# A shorter scene is a flash of light, or the rest of a cut that takes several frames.
MIN_FRAMES = 6
# So many frames of a scene, spread throughout it, are kept to learn its palette from.
_MOST_SAMPLES = 48
# How far, in levels, a film may go beyond what its small frames show.
_REACH = 8

Learn = Callable[[list[U8]], Palette]


def histogram(pixels: U8) -> F64:
    """The shares of 512 bins of colour, (512,), of a frame (height, width, 3) uint8.

    Levels are spread over a bin's width by a fixed noise, without which a slow change of light would move whole areas
    from one bin into the next at once.
    """
    import cv2

    bins = 1 << _BITS
    # So that the noise does not lead beyond 255.
    squeezed = cv2.convertScaleAbs(pixels, alpha=1 - 1 / bins)
    counts = cv2.calcHist([cv2.add(squeezed, _spread(pixels.shape))], [0, 1, 2], None, [bins] * 3, [0, 256] * 3)
    return np.asarray(counts.reshape(-1) / max(counts.sum(), 1), np.float64)


@lru_cache(maxsize=2)
def _spread(shape: tuple[int, ...]) -> U8:
    return np.random.default_rng(0).integers(0, 256 >> _BITS, shape).astype(np.uint8)


def distance(a: F64, b: F64) -> float:
    """The share of pixels that two histograms do not share, 0 to 1."""
    return float(np.abs(a - b).sum() / 2)


class Cuts:
    """Tells, frame by frame, where a new scene begins."""

    def __init__(self) -> None:
        self._before: F64 | None = None
        self._usual = 0.0
        self._frames = 0

    def add(self, pixels: U8) -> bool:
        """Whether this small frame (height, width, 3) uint8 is the first of a scene, as the first of all is."""
        now = histogram(pixels)
        before, self._before = self._before, now
        if before is None:
            self._frames = 1
            return True
        change = distance(before, now)
        is_cut = change > max(_CUT, _ABOVE_USUAL * self._usual) and self._frames >= MIN_FRAMES
        if is_cut:
            self._frames, self._usual = 1, 0.0
            return True
        self._frames += 1
        self._usual += _USUAL_SHARE * (change - self._usual)
        return False


@dataclass(frozen=True, eq=False)
class Scene:
    """From frame time `start` (in whatever unit the frames' times were given in) on, a film has this palette.

    `low` and `high` (3,) uint8 are the levels that its frames reach to.
    """

    start: int
    palette: Palette
    low: U8
    high: U8


class Samples:
    """Frames spread throughout a scene, never more than a few dozen, however long it is."""

    def __init__(self) -> None:
        self.frames: list[U8] = []
        self._every, self._seen = 1, 0

    def add(self, pixels: U8) -> None:
        """See one more frame, and keep it if its turn has come."""
        if self._seen % self._every == 0:
            self.frames.append(pixels)
            if len(self.frames) > _MOST_SAMPLES:
                self.frames = self.frames[::2]
                self._every *= 2
        self._seen += 1


class SceneFinder:
    """Finds the scenes of a film by its small frames, and learns the palette of each with `learn(frames)`.

    With `one` there is but one scene.
    """

    def __init__(self, learn: Learn, one: bool = False) -> None:
        self._learn, self._cuts = learn, None if one else Cuts()
        self._samples = Samples()
        self._start: int | None = None
        self._scenes: list[Scene] = []

    def add(self, time: int, pixels: U8) -> None:
        """See the next frame, (height, width, 3) uint8, the first of which begins a scene."""
        is_first = self._cuts.add(pixels) if self._cuts else self._start is None
        if is_first:
            self._close()
            self._start, self._samples = time, Samples()
        self._samples.add(pixels)

    def scenes(self) -> list[Scene]:
        """The scenes of all frames that were seen, in order; after this none may be added."""
        self._close()
        self._start = None
        return self._scenes

    def _close(self) -> None:
        if self._start is None:
            return
        frames = self._samples.frames
        low = np.min([frame.min(axis=(0, 1)) for frame in frames], axis=0).astype(np.int64) - _REACH
        high = np.max([frame.max(axis=(0, 1)) for frame in frames], axis=0).astype(np.int64) + _REACH
        low, high = (np.clip(levels, 0, 255).astype(np.uint8) for levels in (low, high))
        self._scenes.append(Scene(self._start, self._learn(frames), low, high))
