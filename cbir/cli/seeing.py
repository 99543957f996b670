"""Seeing what was found: in the terminal, in the system's viewer, on a sheet, and on a page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import typer
from numpy.typing import NDArray

from cbir.atomic import write_file
from cbir.cli.shell import is_terminal, printable, quoted_path, shown_path, tell
from cbir.color import U8
from cbir.errors import CbirError, OutputError
from cbir.histogram import main_colors
from cbir.montage import SIDE, check_sheet, contact_sheet, shortened
from cbir.output import check_output, check_picture_output, save_pixels
from cbir.page import Card, Section, thumbnail_side, write_page
from cbir.ranking import Hit
from cbir.signature import PICTURE_SUFFIXES
from cbir.thumbnail import thumbnails

PAGE_SUFFIXES = (".html", ".htm")
Progress = Callable[[int, int], object]

# A picture in a terminal: so many characters wide and high, and as many pixels as most terminals draw them with.
_COLUMNS, _ROWS = 30, 10
_CHARACTER = (10, 20)
# Pixels of a picture that a terminal may show; see `preview`.
PREVIEW_SIDE = _COLUMNS * _CHARACTER[0]
# What chafa.py can show pictures by, the best first, and the sequence by which a terminal has it.
_PIXEL_MODES = (
    ("PIXEL_MODE_KITTY", "BEGIN_KITTY_IMMEDIATE_IMAGE_V1"),
    ("PIXEL_MODE_ITERM2", "BEGIN_ITERM2_IMAGE"),
    ("PIXEL_MODE_SIXELS", "BEGIN_SIXELS"),
    ("PIXEL_MODE_SYMBOLS", ""),
)
_COLOR_MODES = (
    ("CANVAS_MODE_TRUECOLOR", "SET_COLOR_FGBG_DIRECT"),
    ("CANVAS_MODE_INDEXED_240", "SET_COLOR_FGBG_256"),
    ("CANVAS_MODE_INDEXED_16", "SET_COLOR_FGBG_16"),
    ("CANVAS_MODE_FGBG", ""),
)
# Characters between pictures.
_GAP = 2
# More windows than this are a mistake.
_MOST_OPENED = 20
# A viewer that has not failed by then has started.
_SECONDS_TO_FAIL = 2.0


# --- in the terminal


def check_preview(stream: TextIO | None) -> None:
    """Refuse pictures for what is no terminal. Raises typer.BadParameter."""
    if not is_terminal(stream):
        raise typer.BadParameter(
            "shows pictures in a terminal only; elsewhere use a page or a sheet", param_hint="--preview"
        )


def preview(pictures: Sequence[tuple[str, U8 | None]], stream: TextIO) -> None:
    """Show pictures (h, w, 3) uint8 side by side in a terminal, each with its caption below.

    In whatever way the terminal has for pictures, if chafa.py is installed; else in half blocks of 24-bit colours.
    Raises typer.BadParameter if the stream is no terminal.
    """
    check_preview(stream)
    from rich.cells import cell_len, set_cell_size

    width = os.get_terminal_size(stream.fileno()).columns
    together = max(1, (width + _GAP) // (_COLUMNS + _GAP))
    draw = _drawing()
    for start in range(0, len(pictures), together):
        row = pictures[start : start + together]
        stream.write(draw(_side_by_side([picture for _, picture in row])) + "\n")
        # Not by the number of characters: some are as wide as two.
        captions = (shortened(printable(caption), _COLUMNS, cell_len, "…") for caption, _ in row)
        stream.write((" " * _GAP).join(set_cell_size(one, _COLUMNS) for one in captions).rstrip() + "\n\n")
    stream.flush()


def _side_by_side(pictures: Sequence[U8 | None]) -> U8:
    """A row of pictures, (height, width, 4) uint8 with alpha: each at the foot of its cell, around them all is clear.

    Where there is none to show, a line marks its place.
    """
    from PIL import Image

    across, down = _CHARACTER
    width, height = _COLUMNS * across, _ROWS * down
    strip = np.zeros((height, len(pictures) * (width + _GAP * across) - _GAP * across, 4), np.uint8)
    for i, picture in enumerate(pictures):
        left = i * (width + _GAP * across)
        if picture is None:
            strip[height - down // 2 :, left : left + width] = (128, 128, 128, 255)
            continue
        image = Image.fromarray(picture)
        image.thumbnail((width, height))
        place = strip[height - image.height :, left : left + image.width]
        place[..., :3], place[..., 3] = np.asarray(image), 255
    return strip


def _drawing() -> Callable[[U8], str]:
    """What turns a row of pictures into what this terminal shows them by."""
    try:
        chafa: Any = import_module("chafa")
    # Also where a library that it needs is not there.
    except (ImportError, OSError):
        return _half_blocks
    # By the environment alone: what asks the terminal itself may wait for ever for its answer.
    terminal = chafa.TermDb().detect()
    config = chafa.CanvasConfig()
    config.cell_width, config.cell_height = _CHARACTER
    config.pixel_mode = _best(terminal, chafa.TermSeq, chafa.PixelMode, _PIXEL_MODES)
    config.canvas_mode = _best(terminal, chafa.TermSeq, chafa.CanvasMode, _COLOR_MODES)

    def draw(strip: U8) -> str:
        height, width = strip.shape[:2]
        config.width, config.height = width // _CHARACTER[0], height // _CHARACTER[1]
        canvas = chafa.Canvas(config)
        pixels = bytearray(strip.tobytes())
        canvas.draw_all_pixels(chafa.PixelType.CHAFA_PIXEL_RGBA8_UNASSOCIATED, pixels, width, height, 4 * width)
        return str(canvas.print(terminal, fallback=True).decode())

    return draw


def _best(terminal: Any, sequences: Any, modes: Any, choices: Sequence[tuple[str, str]]) -> Any:
    """The first of chafa's modes for which a terminal has the sequence; else the last."""
    for mode, sequence in choices[:-1]:
        if terminal.have_seq(sequences[f"CHAFA_TERM_SEQ_{sequence}"]):
            return modes[f"CHAFA_{mode}"]
    return modes[f"CHAFA_{choices[-1][0]}"]


def _half_blocks(strip: U8) -> str:
    """Pictures in characters, two pixels in each: the upper is the colour of a half block, the lower that behind it."""
    from PIL import Image

    size = strip.shape[1] // _CHARACTER[0], 2 * strip.shape[0] // _CHARACTER[1]
    pixels = np.asarray(Image.fromarray(strip).resize(size, Image.Resampling.BOX))
    return "\n".join(
        "".join(map(_half_block, upper, lower)) for upper, lower in zip(pixels[::2], pixels[1::2], strict=True)
    )


def _half_block(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> str:
    over, under = upper[3] >= 128, lower[3] >= 128
    if not over and not under:
        return " "
    if over and under:
        return f"\x1b[{_sgr(38, upper)};{_sgr(48, lower)}m▀\x1b[0m"
    return f"\x1b[{_sgr(38, upper)}m▀\x1b[0m" if over else f"\x1b[{_sgr(38, lower)}m▄\x1b[0m"


def _sgr(which: int, pixel: NDArray[np.uint8]) -> str:
    return f"{which};2;{pixel[0]};{pixel[1]};{pixel[2]}"


# --- in the system's viewer


def open_hits(paths: Sequence[str]) -> None:
    """Open photos in the system's viewer.

    Files that are gone, or are not called pictures, are told and left out: what the system does with a file goes by its
    name, and a program may begin as a picture does. Raises CbirError for too many, if there is no viewer or if it
    fails.
    """
    if len(paths) > _MOST_OPENED:
        raise CbirError(f"{len(paths):,} photos are too many to open at once; ask for {_MOST_OPENED} at most")
    there = [os.path.abspath(path) for path in paths if _can_be_opened(path)]
    if not there:
        return
    if sys.platform == "win32":
        for path in there:
            os.startfile(path)
        return
    program = "open" if sys.platform == "darwin" else "xdg-open"
    viewer = shutil.which(program)
    if viewer is None:
        raise CbirError(f"there is no viewer to open photos with ({program} is not installed)")
    # That of macOS shows many in one window; the other takes one at a time.
    for some in [there] if program == "open" else [[path] for path in there]:
        _start([viewer, *some])


def _can_be_opened(path: str) -> bool:
    reason = None
    if not os.path.isfile(path):
        reason = "no such file"
    elif os.path.splitext(path)[1].lower() not in PICTURE_SUFFIXES:
        reason = "not opened, for its name is not that of a picture"
    if reason:
        tell(f"skipped {quoted_path(path)}: {reason}")
    return reason is None


def _start(command: Sequence[str]) -> None:
    """Start a viewer, which may stay open for longer than we run. Raises CbirError if it soon fails."""
    nothing = subprocess.DEVNULL
    try:
        viewer = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
        code = viewer.wait(_SECONDS_TO_FAIL)
    except subprocess.TimeoutExpired:
        return
    except OSError as error:
        raise CbirError(f"{command[0]}: cannot be started ({(error.strerror or str(error)).lower()})") from error
    if code:
        raise CbirError(f"no viewer could open {quoted_path(command[1])} ({os.path.basename(command[0])} failed)")


# --- on a sheet


def check_sheet_output(target: Path, number: int, force: bool, columns: int | None = None, side: int = SIDE) -> None:
    """Refuse, before any search, a sheet of up to so many pictures that cannot be written. Raises OutputError."""
    check_picture_output(target, force)
    check_sheet(number, columns, side)


def save_sheet(
    target: Path,
    hits: Sequence[Hit],
    force: bool = False,
    *,
    columns: int | None = None,
    side: int = SIDE,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the hits' thumbnails as a contact sheet, a picture of the format of the target's ending, in one step.

    Raises OutputError, before any thumbnail is made if the target exists or the sheet would be too large.
    """
    check_sheet_output(target, len(hits), force, columns, side)
    pictures = list(thumbnails([hit.path for hit in hits], side, jobs, progress))
    sheet = contact_sheet(pictures, [hit_caption(hit) for hit in hits], columns=columns, side=side)
    save_pixels(target, sheet, force=force)


def hit_caption(hit: Hit) -> str:
    """A hit in a line below its picture: rank, distance and file name."""
    return f"{hit.rank}  {hit.distance:.4f}  {os.path.basename(hit.path)}"


# --- on a page


def check_page_output(target: Path, force: bool, cards: int = 0) -> None:
    """Refuse, before any search, a page of up to so many cards that cannot be written. Raises OutputError."""
    if target.suffix.lower() not in PAGE_SUFFIXES:
        raise OutputError(f"{target}: pages are written as {', '.join(PAGE_SUFFIXES)}; name the output so")
    check_output(target, force)
    thumbnail_side(cards)


def save_page(target: Path, title: str, sections: Iterable[Section], force: bool = False) -> None:
    """Write a page in one step, as its sections and their cards are made. Raises OutputError."""
    check_page_output(target, force)
    try:
        write_file(target.parent, target.name, lambda file: write_page(file, title, sections))
    except OSError as error:
        if isinstance(error, CbirError):
            raise
        raise OutputError(f"{target}: cannot be written ({(error.strerror or str(error)).lower()})") from error


def hit_cards(
    hits: Sequence[Hit],
    lab: NDArray[np.floating],
    why: Callable[[Hit], str] | None = None,
    *,
    side: int | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Card]:
    """The cards of hits over a palette (k, 3), made one after the other, as the page is written.

    `why` gives the markup that explains a hit. `side` is that of the thumbnails; unless told, what is best if there are
    no other cards on the page. Raises OutputError for more hits than a page may have.
    """
    side = side or thumbnail_side(len(hits))
    made: Generator[U8 | None]
    with closing(thumbnails([hit.path for hit in hits], side, jobs, progress)) as made:
        for hit, small in zip(hits, made, strict=True):
            lines = [f"{hit.rank}.  distance {hit.distance:.4f}", os.path.dirname(shown_path(hit.path)) or "."]
            if hit.alike:
                lines.append(f"+{len(hit.alike):,} alike")
            colors = tuple(main_colors(hit.amounts, lab))
            yield Card(hit.path, os.path.basename(hit.path), tuple(lines), colors, small, why(hit) if why else "")
