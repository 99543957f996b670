"""The first pass over a film, in small frames: its scenes, and the palette of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing

import numpy as np

from cbir.ahead import ahead
from cbir.color import U8
from cbir.eye import learn_palette
from cbir.film_reading import FilmError, Frame, Part, opened
from cbir.palette import Palette
from cbir.pixels import Picture
from cbir.scenes import SMALL_PIXELS, Scene, SceneFinder
from cbir.styles import Style, stepped

# Told of what is being done, how many frames of it are, and of how many if that is known.
Progress = Callable[[str, int, int | None], None]


def find_scenes(
    source: str | os.PathLike[str],
    part: Part,
    k: int,
    style: Style,
    palette: Palette | None,
    one: bool,
    progress: Progress | None,
) -> tuple[list[Scene], int | None]:
    """The scenes of a film with their palettes, and how many frames there are if that had to be found out."""
    palette = palette or style.own_palette(k)
    if palette is not None:
        everything = np.zeros(3, np.uint8), np.full(3, 255, np.uint8)
        return [Scene(-(1 << 62), Palette.of_bytes(palette.srgb), *everything)], None
    own = style.palette_size(k)

    def learn(frames: list[U8]) -> Palette:
        seen = np.concatenate([stepped(frame, style) for frame in frames])
        return Palette.of_bytes(learn_palette(Picture(seen), own).srgb)

    finder = SceneFinder(learn, one)
    count = 0
    with opened(source) as film:
        size = _small_size(film.width, film.height)
        with closing(ahead(film.items(part))) as frames:
            for frame in frames:
                assert isinstance(frame, Frame)
                finder.add(frame.pts, film.pixels(frame, size))
                count += 1
                if progress:
                    progress("looking", count, film.expected)
        scenes = finder.scenes()
    if not scenes:
        raise FilmError(f"{os.fspath(source)}: has no frames that can be decoded")
    return scenes, count


def _small_size(width: int, height: int) -> tuple[int, int]:
    factor = min(1.0, (SMALL_PIXELS / (width * height)) ** 0.5)
    return max(1, int(width * factor)), max(1, int(height * factor))
