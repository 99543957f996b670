"""The two pictures that an evaluation leaves: curves of all the rankings, and the queries at which ours did worst."""

from __future__ import annotations

import io
import os
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cbir.color import F64
from cbir.decode import read_picture
from cbir.errors import MissingExtraError, OutputError, PictureError
from cbir.evaluation.figures import RECALL_LEVELS
from cbir.output import check_output, check_picture_output, save_file, save_pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image, ImageFont

CURVE_SUFFIXES = (".png", ".svg")

# Inches, at so many pixels an inch: 1320 x 600 pixels.
_FIGURE, _RESOLUTION = (11, 5), 120
# Okabe and Ito (2008), "Color universal design": told apart with any colour vision; without their yellow, which is
# hard to see on white. Dashes tell the rivals apart in print; of another number, so that a colour's next line differs.
_OURS = {"color": "#d55e00", "linewidth": 3, "zorder": 3}
_COLORS = ("#000000", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_DASHES = ("--", "-.", ":", (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)))
_STYLE = {
    # Without it the names of what an SVG defines are random.
    "svg.hashsalt": "cbir",
    # A dollar sign in a folder's name begins no formula.
    "text.parse_math": False,
    # Inches free around everything; the default has the text touch the edge.
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
}

# Pixels on a contact sheet: a cell's width and height, its frame's thickness, and what is left free.
_CELL, _FRAME, _SPACE, _MARGIN = (120, 90), 4, 6, 12
# Between the query and its hits.
_GAP = 24
_TITLE_SIZE, _TITLE_HEIGHT = 14, 22
_STEP = _CELL[0] + 2 * _FRAME + _SPACE
_ROW_HEIGHT = _TITLE_HEIGHT + _CELL[1] + 2 * _FRAME + _MARGIN
# A wrong hit's frame has stripes across, so that it can be told from a right one's without seeing its colour.
_RIGHT, _WRONG, _STRIPE = (0, 150, 70), (214, 40, 40), 8
_PAPER, _INK, _UNREADABLE = "white", "black", (200, 200, 200)


@dataclass(frozen=True)
class Curve:
    """A ranking's means over all queries: `precision` (m,) 0..1 at recall levels, `recall` (n,) 0..1 after each rank.

    See `cbir.evaluation.measures`: `precision_at_recall` and `recall_at`.
    """

    name: str
    precision: F64
    recall: F64


@dataclass(frozen=True)
class SheetRow:
    """A query with its hits, nearest first, each with whether it is right. `title` says what there is to say of it."""

    title: str
    query: str | os.PathLike[str]
    hits: Sequence[tuple[str | os.PathLike[str], bool]]


def check_curves_output(path: Path, force: bool) -> None:
    """Refuse, before any work, curves that cannot be drawn there. Raises OutputError, MissingExtraError."""
    if path.suffix.lower() not in CURVE_SUFFIXES:
        raise OutputError(f"{path}: curves are written as {', '.join(CURVE_SUFFIXES)}; name the output so")
    check_output(path, force)
    try:
        import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib is not installed; to draw curves: pip install 'cbir[plots]'") from error


def save_curves(
    path: Path, curves: Sequence[Curve], title: str, levels: F64 = RECALL_LEVELS, force: bool = False
) -> None:
    """Draw precision against recall, and recall against rank, of all rankings: PNG or SVG by the path's ending.

    The first of `curves`, our own, stands out. `levels` (m,) 0..1 are the recalls at which all the precisions are; the
    recalls are at the ranks from 1, of which each ranking may have another number. The same curves give the same
    bytes, as far as matplotlib of one version does. Raises OutputError, also for an ending that is not in
    `CURVE_SUFFIXES`, and MissingExtraError without matplotlib.
    """
    check_curves_output(path, force)
    from matplotlib import style
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # Characters that the font does not have are drawn as boxes; that is seen without a warning.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=_FIGURE, dpi=_RESOLUTION, layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_precision(left, curves, levels)
        _draw_recall(right, curves)
        figure.suptitle(_on_one_line(title))
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        kind = path.suffix.lower()[1:]
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
    save_file(path, file.getvalue(), force)


def _draw_precision(axes: Axes, curves: Sequence[Curve], levels: F64) -> None:
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    for i, curve in enumerate(curves):
        _draw_line(axes, i, curve.name, levels, curve.precision)


def _draw_recall(axes: Axes, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import LogLocator

    ranks = max((len(curve.recall) for curve in curves), default=0)
    # An axis needs two ends, even if there is one rank only.
    axes.set(xlabel="rank", ylabel="recall", xscale="log", xlim=(1, max(2, ranks)), ylim=(0, 1))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    for i, curve in enumerate(curves):
        _draw_line(axes, i, curve.name, range(1, len(curve.recall) + 1), curve.recall)


def _draw_line(axes: Axes, i: int, name: str, x: Sequence[float] | F64, y: F64) -> None:
    rival = {"color": _COLORS[(i - 1) % len(_COLORS)], "linestyle": _DASHES[(i - 1) % len(_DASHES)], "linewidth": 1.3}
    look: dict[str, Any] = rival if i else _OURS
    # Not clipped, so that a line along the edge, where all is right, has its full width.
    axes.plot(x, y, label=_on_one_line(name), clip_on=False, **look)


def save_contact_sheet(path: Path, rows: Sequence[SheetRow], force: bool = False) -> None:
    """Show queries, a row each, and right of each its hits, framed green where right and in red stripes where wrong.

    Above a row is its title, and as much of the end of the query's path as there is room for. A file that cannot be
    read is a grey box with a question mark. The format is the path's ending's. Raises OutputError, also for an ending
    that is not in `cbir.output.OUTPUT_SUFFIXES`, and for more rows than the format has room for.
    """
    check_picture_output(path, force)
    from PIL import Image

    columns = 1 + max((len(row.hits) for row in rows), default=0)
    width, height = 2 * _MARGIN + _GAP + columns * _STEP, 2 * _MARGIN + len(rows) * _ROW_HEIGHT
    sheet = Image.new("RGB", (width, height), _PAPER)
    for i, row in enumerate(rows):
        _draw_row(sheet, _MARGIN + i * _ROW_HEIGHT, row)
    save_pixels(path, np.asarray(sheet), force=force)


def _draw_row(sheet: Image.Image, top: int, row: SheetRow) -> None:
    from PIL import ImageDraw

    text = _row_text(row, sheet.width - 2 * _MARGIN)
    ImageDraw.Draw(sheet).text((_MARGIN, top), text, _INK, _font(_TITLE_SIZE))
    top += _TITLE_HEIGHT
    sheet.paste(_cell(row.query), (_MARGIN + _FRAME, top + _FRAME))
    for i, (hit, right) in enumerate(row.hits):
        left = _MARGIN + _GAP + (1 + i) * _STEP
        sheet.paste(_frame(right), (left, top))
        sheet.paste(_cell(hit), (left + _FRAME, top + _FRAME))


def _frame(right: bool) -> Image.Image:
    """What lies under a cell and shows around it."""
    from PIL import Image

    width, height = (side + 2 * _FRAME for side in _CELL)
    frame = Image.new("RGB", (width, height), _RIGHT if right else _WRONG)
    if not right:
        gaps = np.add.outer(np.arange(height), np.arange(width)) % (2 * _STRIPE) < _STRIPE
        frame.paste(_PAPER, mask=Image.fromarray(gaps))
    return frame


def _cell(path: str | os.PathLike[str]) -> Image.Image:
    """A picture as large as it fits into a cell, on paper."""
    from PIL import Image

    try:
        picture = read_picture(path)
    except PictureError:
        return _unreadable_cell()
    pixels = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    image = Image.fromarray(pixels).convert("RGBA")
    scale = min(_CELL[0] / image.width, _CELL[1] / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)
    thumbnail = image.resize((width, height), Image.Resampling.BICUBIC)
    cell = Image.new("RGB", _CELL, _PAPER)
    cell.paste(thumbnail, ((_CELL[0] - width) // 2, (_CELL[1] - height) // 2), thumbnail)
    return cell


def _unreadable_cell() -> Image.Image:
    from PIL import Image, ImageDraw

    cell = Image.new("RGB", _CELL, _UNREADABLE)
    ImageDraw.Draw(cell).text((_CELL[0] / 2, _CELL[1] / 2), "?", _INK, _font(_CELL[1] / 2), anchor="mm")
    return cell


def _row_text(row: SheetRow, width: int) -> str:
    """A row's title and the end of its query's path; a title leaves half of the width to the path."""
    title = _fitted(f"{row.title}  ", width / 2)
    return title + _fitted(os.fspath(row.query), width - _font(_TITLE_SIZE).getlength(title))


def _fitted(text: str, width: float) -> str:
    """A text in ASCII, which is all that Pillow's font has, cut at the left to so many pixels of width."""
    shown = _on_one_line(text).encode("ascii", "backslashreplace").decode()
    length = _font(_TITLE_SIZE).getlength
    if length(shown) <= width:
        return shown
    start = bisect_left(range(len(shown)), True, key=lambda start: length("..." + shown[start:]) <= width)
    return "..." + shown[start:]


def _on_one_line(text: str) -> str:
    """Text without what cannot be drawn: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))
