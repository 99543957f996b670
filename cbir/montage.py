"""Contact sheets: many small pictures on one, as photographers lay them out, each with a line below."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from math import ceil, sqrt
from typing import TYPE_CHECKING, cast

import numpy as np

from cbir.color import U8
from cbir.errors import OutputError

if TYPE_CHECKING:
    from PIL import Image, ImageFont

# Side of a picture on a sheet in pixels, unless told.
SIDE = 240
# What a sheet may have at most, 300 MB of memory; viewers take long to open more.
MOST_PIXELS = 100_000_000
# Pixels between pictures and around them all, and of a line below, the gap above it included.
_SPACE, _MARGIN, _LINE, _TEXT = 20, 28, 28, 14
# A sheet of as many rows as columns is too high for a screen, as a line is added to each picture.
_WIDER = 4 / 3
# Neutral, so that it changes no colour's look, and light enough to set off dark pictures and, less so, white ones.
_PAPER, _INK, _FRAME = (226, 226, 226), (40, 40, 40), (150, 150, 150)
_UNREADABLE = "not readable"
# All that Pillow's font draws, but for a few signs.
_DRAWN = frozenset(map(chr, range(ord(" "), ord("~") + 1)))


def contact_sheet(
    pictures: Sequence[U8 | None],
    captions: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    side: int = SIDE,
) -> U8:
    """Pictures in rows on neutral grey, (height, width, 3) uint8, each in a cell of `side` pixels and with its caption.

    `pictures` (h, w, 3) uint8 sRGB; larger ones are made to fit, smaller ones stay as they are, and for None there is
    an empty frame. A caption is one line, shortened in the middle where it is too long. Without `columns` the sheet is
    somewhat wider than high. Raises OutputError as `check_sheet` does.
    """
    columns = check_sheet(len(pictures), columns, side)
    from PIL import Image

    cells = [_cell(picture, side) for picture in pictures]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    # A row is as high as its highest picture, so that landscapes leave no empty bands between them.
    heights = [max(cell.height for cell in row) for row in rows]
    line = 0 if captions is None else _LINE
    width, height = _sheet_size(columns, side, [height + line for height in heights])
    sheet = Image.new("RGB", (width, height), _PAPER)
    top = _MARGIN
    for number, (row, below) in enumerate(zip(rows, heights, strict=True)):
        for i, cell in enumerate(row):
            left = _MARGIN + i * (side + _SPACE)
            # All stand on their captions' line, whatever their heights.
            sheet.paste(cell, (left + (side - cell.width) // 2, top + below - cell.height))
            if captions is not None:
                _write(sheet, captions[number * columns + i], left + side / 2, top + below, side)
        top += below + line + _SPACE
    return np.asarray(sheet)


def check_sheet(number: int, columns: int | None = None, side: int = SIDE) -> int:
    """Refuse, before any picture is read, a sheet of none or of more than `MOST_PIXELS`; its columns are returned.

    Raises OutputError, and ValueError for columns or a side below 1.
    """
    if side < 1 or (columns is not None and columns < 1):
        raise ValueError(f"a sheet needs a column and a pixel at least, not {columns} columns of {side} pixels")
    if number == 0:
        raise OutputError("there is no picture to put on a sheet")
    columns = min(columns or ceil(sqrt(_WIDER * number)), number)
    width, height = _sheet_size(columns, side, [side + _LINE] * ceil(number / columns))
    if width * height > MOST_PIXELS:
        raise OutputError(
            f"a sheet of {number:,} pictures of {side:,} pixels would have {width * height / 1e6:,.0f} million pixels, "
            f"more than {MOST_PIXELS // 1_000_000}; take fewer pictures, or smaller ones"
        )
    return columns


def _sheet_size(columns: int, side: int, heights: Sequence[int]) -> tuple[int, int]:
    """The width and height of a sheet whose rows are so high."""
    width, height = columns * side + (columns - 1) * _SPACE, sum(heights) + (len(heights) - 1) * _SPACE
    return width + 2 * _MARGIN, height + 2 * _MARGIN


def _cell(picture: U8 | None, side: int) -> Image.Image:
    from PIL import Image

    if picture is None:
        return _empty_frame(side)
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _empty_frame(side: int) -> Image.Image:
    """Stands where a picture cannot: of the shape that most photos have."""
    from PIL import Image, ImageDraw

    frame = Image.new("RGB", (side, max(1, round(side / 1.5))), _PAPER)
    draw = ImageDraw.Draw(frame)
    draw.rectangle((0, 0, frame.width - 1, frame.height - 1), outline=_FRAME)
    draw.text((frame.width / 2, frame.height / 2), fitted_text(_UNREADABLE, side), _INK, _font(), anchor="mm")
    return frame


def _write(sheet: Image.Image, text: str, middle: float, top: int, width: int) -> None:
    from PIL import ImageDraw

    place = (middle, top + (_LINE + _TEXT) / 2)
    ImageDraw.Draw(sheet).text(place, fitted_text(text, width), _INK, _font(), anchor="ms")


def fitted_text(text: str, width: float) -> str:
    """A text as Pillow's font can draw it, on a line of so many pixels: what lacks room is left out in the middle.

    Names differ at their ends, and captions begin with what matters. Characters that the font lacks are escaped.
    """
    shown = "".join(c if c in _DRAWN else ascii(c)[1:-1] for c in text)
    return shortened(shown, width, _font().getlength, "...")


def shortened(text: str, width: float, length: Callable[[str], float], mark: str) -> str:
    """A text no longer than `width`: what is left out of its middle is replaced by `mark`, if that has room itself."""
    if length(text) <= width:
        return text

    def keeping(kept: int) -> str:
        return text[: kept // 2] + mark + text[len(text) - (kept - kept // 2) :]

    most = bisect_right(range(len(text)), width, key=lambda kept: length(keeping(kept))) - 1
    return keeping(most) if most >= 0 else ""


@cache
def _font() -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(_TEXT))
