"""Films: decoded, redrawn in flat colours without flicker, and encoded again, with their sound as it was.

A first pass over small frames finds the scenes and learns their palettes (`cbir.film_scenes`), a second one reads
(`cbir.film_reading`), draws (`cbir.film_drawing`) and writes (`cbir.film_writing`) every frame. Each of these has a
thread, with short queues between them, so that memory stays flat. PyAV, the extra `cbir[video]`, decodes and encodes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cbir.ahead import ahead
from cbir.atomic import write_file
from cbir.color import U8
from cbir.errors import CbirError, OutputError, PaletteError, RefusedError
from cbir.film_drawing import Drawing, Drawn
from cbir.film_process import keep_freed_memory, one_thread_each
from cbir.film_reading import Copied, FilmError, Frame, Part, opened
from cbir.film_scenes import Progress, find_scenes
from cbir.film_writing import Writer, check_film_output
from cbir.hdr import Transfer
from cbir.output import check_output
from cbir.palette import Palette
from cbir.pyav import pyav, reason
from cbir.scenes import Scene
from cbir.styles import STYLES, Style, StyleName

MAX_COLORS = 256
PREVIEW_SECONDS = 3.0
# A sheet of stills, two of them side by side, is so many pixels wide at the most.
_SHEET_WIDTH = 1600


@dataclass(frozen=True)
class FilmReport:
    """What was written: `frames` in `scenes`, in `seconds` of work, which is `fps` a second.

    `flicker` is the share (0 to 1) of pixels that change their colour from one frame to the next where the source did
    not move. `lost` frames could not be decoded. `left_out` are the codecs of subtitles that the container does not
    take, "" for none. `hdr` is the kind of high dynamic range, "PQ" or "HLG", that was made standard, None for none.
    """

    frames: int
    seconds: float
    scenes: int
    flicker: float
    lost: int
    fps: float
    left_out: str = ""
    hdr: Transfer | None = None


class FilmInterruptedError(KeyboardInterrupt):
    """Ctrl-C while a film was written: what was done by then is in a whole file, and `report` tells what that is."""

    def __init__(self, report: FilmReport) -> None:
        super().__init__(f"interrupted after {report.frames:,} frames")
        self.report = report


def quantize_film(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    k: int = 16,
    *,
    style: StyleName | Style = "darkly",
    palette: Palette | None = None,
    one_palette: bool = False,
    codec: str | None = None,
    start: float | None = None,
    end: float | None = None,
    every: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> FilmReport:
    """Redraw a film in at most k (2 to 256) colours for each scene, ink lines among them, and write it.

    `style` is a name or a `cbir.styles.Style`. The colours are those of `palette` if it is given, of the whole film
    with `one_palette`, else of each scene. `codec` (one of `CODECS`) is by the ending of `target` unless told. `start`
    and `end` are seconds; of `every` so many frames one is kept. Sound, timestamps, rotation, aspect ratio and colour
    range stay; so do metadata, chapters and subtitles of text, as far as the container takes them. HDR (PQ, HLG) is
    made standard, with a white of 203 cd/m^2. Raises FilmError, PaletteError, OutputError or MissingExtraError; then
    nothing is written. On Ctrl-C what was done is written and FilmInterruptedError raised.
    """
    begun = time.perf_counter()
    check_film_output(Path(target), codec, force)
    part = Part(start or 0.0, end, every)
    drawn_in = _style(style)
    _check_colors(k, palette, drawn_in)
    keep_freed_memory()
    with one_thread_each():
        scenes, count = find_scenes(source, part, k, drawn_in, palette, one_palette, progress)
        report, interrupted = _redraw(Path(source), Path(target), codec, force, part, drawn_in, scenes, count, progress)
    seconds = time.perf_counter() - begun
    report = replace(report, seconds=seconds, fps=report.frames / seconds)
    if interrupted:
        raise FilmInterruptedError(report)
    return report


def _check_colors(k: int, palette: Palette | None, style: Style) -> None:
    colors = k if palette is None else len(palette) + style.is_inked
    if not 2 <= colors <= MAX_COLORS:
        raise PaletteError(f"a film is redrawn in 2 to {MAX_COLORS} colours, ink among them, not {colors}")


def _style(style: StyleName | Style) -> Style:
    if isinstance(style, Style):
        return style
    if style not in STYLES:
        raise PaletteError(f"there is no style {style!r}; use one of {', '.join(STYLES)}")
    return STYLES[style]


def _redraw(
    source: Path,
    target: Path,
    codec: str | None,
    force: bool,
    part: Part,
    style: Style,
    scenes: Sequence[Scene],
    count: int | None,
    progress: Progress | None,
) -> tuple[FilmReport, bool]:
    """Draw and write a film; whether Ctrl-C ended it early is told too."""
    with opened(source) as film:
        total = count if count is not None else film.expected
        drawing = Drawing(film, style, scenes)
        written, interrupted, left_out = 0, False, ""

        def write(file: BinaryIO) -> None:
            nonlocal written, interrupted, left_out
            with closing(Writer(file, target, codec, film, part)) as writer:
                decoded = ahead(film.items(part, writer.copied))
                with closing(ahead(drawing.items(decoded))) as items:
                    try:
                        for item in items:
                            writer.add(item)
                            if progress and isinstance(item, Drawn):
                                progress("frames", writer.frames, total)
                    except KeyboardInterrupt:
                        if not writer.frames:
                            raise
                        interrupted = True
                written, left_out = writer.frames, writer.left_out
                if not written:
                    raise FilmError(f"{source}: has no frames that can be decoded")

        try:
            check_output(target, force)
            write_file(target.parent, target.name, write)
        except (CbirError, KeyboardInterrupt):
            raise
        except RefusedError as why:
            raise OutputError(f"{target}: {why.reason}") from why
        except (pyav().FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{target}: cannot be written ({reason(error)})") from error
        lost = film.lost
        if not interrupted and part == Part() and film.video.frames:
            lost = max(lost, int(film.video.frames) - written)
        flicker = drawing.flicker.share
        return FilmReport(written, 0.0, drawing.scenes, flicker, lost, 0.0, left_out, film.hdr), interrupted


def stills(
    source: str | os.PathLike[str],
    k: int = 16,
    *,
    style: StyleName | Style = "darkly",
    palette: Palette | None = None,
    start: float | None = None,
    end: float | None = None,
    number: int = 4,
) -> U8:
    """A sheet of stills spread throughout a film, (height, width, 3) uint8: each as it is, and redrawn at its right.

    Each has the palette of its own second. Raises FilmError, PaletteError or MissingExtraError.
    """
    drawn_in = _style(style)
    _check_colors(k, palette, drawn_in)
    with opened(source) as film:
        last = end if end is not None else float((film.expected or 0) / film.rate)
    first = start or 0.0
    rows = []
    for i in range(number):
        at = first + max(0.0, last - first) * (i + 0.5) / number
        # A header may claim more than there is.
        with suppress(FilmError):
            rows.append(_still(source, Part(at, at + 1), k, drawn_in, palette))
    return np.concatenate(rows or [_still(source, Part(first, first + 1), k, drawn_in, palette)])


def _still(source: str | os.PathLike[str], part: Part, k: int, style: Style, palette: Palette | None) -> U8:
    """The last frame of a part of a film, beside itself redrawn, upright."""
    scenes, _ = find_scenes(source, part, k, style, palette, True, None)
    frame: Frame | Copied | None = None
    with opened(source) as film:
        drawing = Drawing(film, style, scenes)
        with closing(film.items(part)) as items:
            for frame in items:
                assert isinstance(frame, Frame)
                drawn = drawing.draw(frame)
        if not isinstance(frame, Frame):
            raise FilmError(f"{os.fspath(source)}: has no frames that can be decoded")
        before = film.pixels(frame, (film.width, film.height))
        turns = round(film.turned / 90) % 4
        return _narrowed(np.concatenate([np.rot90(before, turns), np.rot90(drawn.colors[drawn.labels], turns)], axis=1))


def _narrowed(pixels: U8) -> U8:
    """A picture at most as wide as a sheet."""
    import cv2

    height, width = pixels.shape[:2]
    if width <= _SHEET_WIDTH:
        return pixels
    size = _SHEET_WIDTH, max(1, round(height * _SHEET_WIDTH / width))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
