"""The pictures of an evaluation: curves that show the figures where they are, and sheets that tell right from wrong."""

import math
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import make_photo
from PIL import Image

from cbir.errors import MissingExtraError, OutputError
from cbir.evaluation.pictures import (
    RECALL_LEVELS,
    Curve,
    SheetRow,
    check_curves_output,
    save_contact_sheet,
    save_curves,
)

GREEN, RED = (0, 150, 70), (214, 40, 40)
WHITE, GREY = (255, 255, 255), (200, 200, 200)
# Flat colours, each found on a sheet by itself.
BLUE, YELLOW, PURPLE = (0, 0, 250), (250, 240, 0), (120, 0, 120)
ODD_NAMES = [
    "",
    "two\nlines",
    "bell \x07 and nothing \x00",
    "\U0001f600 日本 é",
    "caf\udce9",
    "\ud800",
    "$x_{$",
    "long " * 99,
]

odd_names = pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[1:20])


def made_curves(n: int) -> list[Curve]:
    ranks = np.arange(1, 31)
    return [Curve(f"ranking {i}", 0.9 - RECALL_LEVELS**2 / (i + 2), 1 - np.exp(-ranks / (i + 5))) for i in range(n)]


def image_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# --- curves


def drawn_lines(path: Path) -> list[list[tuple[float, NDArray[np.float64]]]]:
    """Of each panel of an SVG the lines in the order drawn: their thickness and their points, (0, 0) to (1, 1)."""
    panels = []
    for axes in ElementTree.parse(path).iterfind(".//{*}g"):
        if not axes.get("id", "").startswith("axes_"):
            continue
        paths = [(p.get("style", ""), points(p.get("d", ""))) for p in axes.iterfind(".//{*}path")]
        low, high = paths[0][1].min(axis=0), paths[0][1].max(axis=0)
        # Those of ticks and of the grid have two points.
        lines = [(style, (line - low) / (high - low)) for style, line in paths[1:] if "fill: none" in style]
        panels.append([(thickness(s), line * [1, -1] + [0, 1]) for s, line in lines if len(line) > 2])
    return panels


def points(path: str) -> NDArray[np.float64]:
    return np.array(re.findall(r"[ML] (\S+) (\S+)", path), float).reshape(-1, 2)


def thickness(style: str) -> float:
    found = re.search(r"stroke-width: ([\d.]+)", style)
    return float(found.group(1)) if found else 1.0


def test_curves_are_drawn_at_their_precisions_recalls_and_ranks(tmp_path: Path) -> None:
    curve = Curve("ours", np.array([1, 0.5, 0]), np.array([0.25, 0.5, 0.9, 1]))
    save_curves(tmp_path / "out.svg", [curve], "by hand", levels=np.array([0, 0.25, 1]))
    [[(_, precision)], [(_, recall)]] = drawn_lines(tmp_path / "out.svg")
    np.testing.assert_allclose(precision, [(0, 1), (0.25, 0.5), (1, 0)], atol=1e-5)
    # Of ranks 1 to 4 on a logarithmic axis, 2 is in the middle.
    np.testing.assert_allclose(recall, [(0, 0.25), (0.5, 0.5), (math.log(3, 4), 0.9), (1, 1)], atol=1e-5)


def test_rankings_of_unlike_length_share_the_axis_of_the_longest(tmp_path: Path) -> None:
    short, long = (Curve(str(n), 1 - RECALL_LEVELS**2, np.linspace(0.2, 1, n) ** 2) for n in (10, 100))
    save_curves(tmp_path / "out.svg", [short, long], "")
    # Ours is drawn last.
    [_, [(_, of_long), (_, of_short)]] = drawn_lines(tmp_path / "out.svg")
    assert of_long[-1] == pytest.approx([1, 1], abs=1e-5)
    assert of_short[-1] == pytest.approx([0.5, 1], abs=1e-5)


def test_the_first_curve_lies_above_the_others_and_is_twice_as_thick(tmp_path: Path) -> None:
    save_curves(tmp_path / "out.svg", made_curves(4), "four rankings")
    for panel in drawn_lines(tmp_path / "out.svg"):
        *rivals, ours = [thickness for thickness, _ in panel]
        assert len(rivals) == 3 and len(set(rivals)) == 1
        assert ours >= 2 * rivals[0]


def test_a_line_along_the_upper_edge_has_its_full_thickness(tmp_path: Path) -> None:
    orange = []
    for level in (0.5, 1):
        flat = np.full(21, level)
        save_curves(tmp_path / f"{level}.png", [Curve("flat", flat, flat)], "")
        red, _, blue = np.moveaxis(image_of(tmp_path / f"{level}.png").astype(int), -1, 0)
        orange.append(np.count_nonzero(red - blue > 100))
    assert orange[1] == pytest.approx(orange[0], rel=0.01)


def test_every_ranking_looks_different(tmp_path: Path) -> None:
    save_curves(tmp_path / "out.svg", made_curves(20), "twenty rankings")
    styles = [p.get("style", "") for p in ElementTree.parse(tmp_path / "out.svg").iterfind(".//{*}path")]
    looks = {style for style in styles if "fill: none" in style and re.search(r"#(?!000000|b0b0b0)\w{6}", style)}
    black = {style for style in styles if "stroke-dasharray" in style and "#000000" in style}
    assert len(looks) + len(black) == 20


def test_all_names_and_the_title_can_be_read(tmp_path: Path) -> None:
    save_curves(tmp_path / "out.svg", made_curves(5), "flowers: 17 classes")
    # The letters are outlines, each text with a comment that says what it is.
    texts = re.findall("<!-- (.*) -->", (tmp_path / "out.svg").read_text())
    assert texts.count("flowers: 17 classes") == 1
    for expected in [f"ranking {i}" for i in range(5)]:
        assert texts.count(expected) == 1
    assert {"precision", "recall", "rank"} <= set(texts)
    # There are 30 ranks.
    assert {"1", "2", "5", "10", "20"} <= set(texts)


@pytest.mark.parametrize("ending", ["png", "PNG"])
def test_curves_are_a_png_of_1320_by_600_pixels(tmp_path: Path, ending: str) -> None:
    save_curves(tmp_path / f"out.{ending}", made_curves(3), "three rankings")
    with Image.open(tmp_path / f"out.{ending}") as image:
        assert (image.format, image.size) == ("PNG", (1320, 600))
        # White around, and lines and letters within.
        assert image.convert("RGB").getpixel((0, 0)) == WHITE
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100


def test_curves_drawn_again_are_the_same_bytes_whatever_the_users_settings(tmp_path: Path) -> None:
    save_curves(tmp_path / "one.svg", made_curves(3), "twice")
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.facecolor": "black", "font.size": 30, "svg.hashsalt": "x"}):
        save_curves(tmp_path / "two.svg", made_curves(3), "twice")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "date" not in (tmp_path / "one.svg").read_text()


@pytest.mark.parametrize("ending", ["png", "svg"])
@odd_names
def test_odd_names_and_titles_break_no_curves_and_warn_of_nothing(tmp_path: Path, name: str, ending: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_curves(tmp_path / f"out.{ending}", [Curve(name, RECALL_LEVELS, RECALL_LEVELS)], name)
    if ending == "svg":
        ElementTree.parse(tmp_path / "out.svg")


@pytest.mark.parametrize(
    "curves", [[], [Curve("of one rank", RECALL_LEVELS, np.array([1.0]))]], ids=["none", "one rank"]
)
def test_curves_of_next_to_nothing_are_drawn_all_the_same(tmp_path: Path, curves: list[Curve]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_curves(tmp_path / "out.png", curves, "little")
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize("name", ["out.pdf", "out", "out.png.txt"])
def test_curves_of_another_ending_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"curves are written as \.png, \.svg"):
        save_curves(tmp_path / name, made_curves(1), "")
    assert not list(tmp_path.iterdir())


def test_curves_overwrite_nothing_unasked(tmp_path: Path) -> None:
    (tmp_path / "out.svg").write_text("old")
    with pytest.raises(OutputError, match="exists; add --force"):
        save_curves(tmp_path / "out.svg", made_curves(1), "")
    assert (tmp_path / "out.svg").read_text() == "old"
    save_curves(tmp_path / "out.svg", made_curves(1), "", force=True)
    assert (tmp_path / "out.svg").read_text().startswith("<?xml")


def test_without_matplotlib_one_line_says_what_to_install_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (
        lambda: check_curves_output(tmp_path / "out.png", force=False),
        lambda: save_curves(tmp_path / "out.png", made_curves(1), ""),
    ):
        with pytest.raises(MissingExtraError) as raised:
            draw()
        assert str(raised.value) == "matplotlib is not installed; to draw curves: pip install 'cbir[plots]'"
    assert not list(tmp_path.iterdir())


def test_drawing_libraries_are_imported_only_to_draw_and_pyplot_never(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, numpy as np; from cbir.evaluation.pictures import *\n"
        "print(*[name for name in ('matplotlib', 'PIL') if name in sys.modules])\n"
        "save_curves(pathlib.Path('out.png'), [Curve('ours', RECALL_LEVELS, RECALL_LEVELS)], '')\n"
        "print(*[name for name in ('matplotlib', 'matplotlib.pyplot') if name in sys.modules])\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert printed.stdout.splitlines() == ["", "matplotlib"]


# --- contact sheets


def flat_photo(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (160, 120)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def sheet_of(folder: Path, *rows: SheetRow, name: str = "sheet.png") -> NDArray[np.uint8]:
    save_contact_sheet(folder / name, rows, force=True)
    return image_of(folder / name)


def box_of(sheet: NDArray[np.uint8], color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of all that is of a colour."""
    rows, columns = np.nonzero((sheet == color).all(axis=-1))
    return columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1


def ring_around(sheet: NDArray[np.uint8], box: tuple[int, int, int, int], thickness: int = 4) -> NDArray[np.uint8]:
    """The pixels (n, 3) of a frame just outside a box."""
    left, top, width, height = box
    ring = np.zeros(sheet.shape[:2], bool)
    ring[top - thickness : top + height + thickness, left - thickness : left + width + thickness] = True
    ring[top : top + height, left : left + width] = False
    return sheet[ring]


def share(pixels: NDArray[np.uint8], color: tuple[int, int, int]) -> float:
    return float((pixels == color).all(axis=-1).mean())


def test_right_hits_have_a_green_frame_wrong_ones_red_stripes_and_the_query_none(tmp_path: Path) -> None:
    query, right, wrong = (flat_photo(tmp_path / f"{c}.png", c) for c in (BLUE, YELLOW, PURPLE))
    sheet = sheet_of(tmp_path, SheetRow("blue", query, [(right, True), (wrong, False)]))
    boxes = [box_of(sheet, color) for color in (BLUE, YELLOW, PURPLE)]
    assert [box[2:] for box in boxes] == [(120, 90)] * 3
    around_query, around_right, around_wrong = (ring_around(sheet, box) for box in boxes)
    assert share(around_query, WHITE) == 1
    assert share(around_right, GREEN) == 1
    # The stripes can be told from a whole frame without seeing colours.
    assert share(around_wrong, RED) == pytest.approx(0.5, abs=0.05)
    assert share(around_wrong, WHITE) == pytest.approx(0.5, abs=0.05)


def test_a_row_is_the_query_a_gap_and_the_hits_in_their_order(tmp_path: Path) -> None:
    colors = [BLUE, YELLOW, PURPLE, (0, 90, 90)]
    query, *hits = (flat_photo(tmp_path / f"{i}.png", color) for i, color in enumerate(colors))
    sheet = sheet_of(tmp_path, SheetRow("", query, [(hit, True) for hit in hits]))
    lefts, tops = zip(*[box_of(sheet, color)[:2] for color in colors], strict=True)
    assert len(set(tops)) == 1
    to_the_first, *between_hits = np.diff(lefts)
    assert len(set(between_hits)) == 1 and between_hits[0] > 120
    assert to_the_first >= between_hits[0] + 20


def test_rows_come_one_below_the_other_and_may_have_unlike_numbers_of_hits(tmp_path: Path) -> None:
    photo = flat_photo(tmp_path / "photo.png", BLUE)
    rows = [SheetRow("", photo, [(photo, True)] * n) for n in (2, 0, 3)]
    sheets = [sheet_of(tmp_path, *rows[:n]) for n in range(4)]
    heights, widths = zip(*[sheet.shape[:2] for sheet in sheets], strict=True)
    assert len(set(np.diff(heights))) == 1 and heights[1] - heights[0] > 98
    assert widths[1] == widths[2] and widths[3] - widths[2] > 128
    # Three photos in the first row, one in the second, four in the third.
    areas = [np.count_nonzero((band == BLUE).all(axis=-1)) for band in np.array_split(sheets[3], 3)]
    assert areas == [3 * 120 * 90, 120 * 90, 4 * 120 * 90]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((400, 100), (120, 30)),
        ((100, 400), (22, 90)),
        ((4, 3), (120, 90)),
        ((3000, 1), (120, 1)),
    ],
    ids=["wide", "high", "tiny", "a line"],
)
def test_a_picture_keeps_its_aspect_ratio_in_the_middle_of_its_cell(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    odd, whole = flat_photo(tmp_path / "odd.png", BLUE, size), flat_photo(tmp_path / "whole.png", YELLOW)
    sheet = sheet_of(tmp_path, SheetRow("", whole, [(odd, True), (whole, True)]))
    left, top, width, height = box_of(sheet, BLUE)
    assert (width, height) == shown
    frame_left, frame_top, _, frame_height = box_of(sheet, GREEN)
    assert left - frame_left == 4 + (120 - width) // 2
    assert top - frame_top == 4 + (90 - height) // 2
    assert frame_height == 98
    # What is left of the cell is paper.
    cell = sheet[frame_top + 4 : frame_top + 94, frame_left + 4 : frame_left + 124]
    assert share(cell, BLUE) + share(cell, WHITE) == 1


def test_what_is_transparent_is_white_on_a_sheet(tmp_path: Path) -> None:
    pixels = np.full((120, 160, 4), (*BLUE, 255), np.uint8)
    pixels[:, :80, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "half.png")
    sheet = sheet_of(tmp_path, SheetRow("", tmp_path / "half.png", []))
    left, top, width, height = box_of(sheet, BLUE)
    assert (width, height) == pytest.approx((60, 90), abs=3)
    # A few columns on the border are of both.
    assert share(sheet[top : top + 90, left - 60 : left - 3], WHITE) == 1


@pytest.mark.parametrize("content", [None, b"", b"no picture"], ids=["missing", "empty", "no picture"])
def test_a_picture_that_cannot_be_read_is_a_grey_box_with_a_question_mark(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "bad.jpg").write_bytes(content)
    query, good = flat_photo(tmp_path / "query.png", BLUE), flat_photo(tmp_path / "good.png", YELLOW)
    box = box_of(sheet_of(tmp_path, SheetRow("", query, [(good, True)])), YELLOW)
    sheet = sheet_of(tmp_path, SheetRow("", query, [(tmp_path / "bad.jpg", True)]))
    assert share(ring_around(sheet, box), GREEN) == 1
    left, top, width, height = box
    cell = sheet[top : top + height, left : left + width]
    assert share(cell, GREY) > 0.9
    # The mark is in the middle.
    dark = np.argwhere(cell.max(axis=-1) < 60)
    assert len(dark) > 50 and dark.mean(axis=0) == pytest.approx([45, 60], abs=8)


# --- what is written above a row


def test_title_and_path_stand_above_the_row_and_change_nothing_else(tmp_path: Path) -> None:
    photo = flat_photo(tmp_path / "photo.png", BLUE)
    one, two = (sheet_of(tmp_path, SheetRow(title, photo, [(photo, True)])) for title in ("red, AP 0.12", "sky"))
    changed = np.argwhere((one != two).any(axis=-1))
    assert len(changed) > 20
    # The frame is 4 pixels thick.
    assert changed[:, 0].max() < box_of(one, BLUE)[1] - 4


def test_a_long_path_is_cut_at_the_left_and_does_not_reach_the_edge(tmp_path: Path) -> None:
    folders = "folder/" * 60
    sheet, other_start, other_end = (
        sheet_of(tmp_path, SheetRow("red, AP 0.12", path, [("no.jpg", True)] * 3))
        for path in (f"/a/{folders}x.jpg", f"/b/{folders}x.jpg", f"/a/{folders}y.jpg")
    )
    np.testing.assert_array_equal(sheet, other_start)
    assert (sheet != other_end).any()
    assert (sheet[:, -8:] == 255).all()


def test_a_long_title_leaves_room_for_the_paths_end(tmp_path: Path) -> None:
    x, y = (sheet_of(tmp_path, SheetRow("title " * 100, f"/photos/{c}.jpg", [])) for c in "xy")
    assert (x != y).any()


@pytest.mark.parametrize(
    ("odd", "as_shown"),
    [
        ("a\nb", r"a\nb"),
        ("\U0001f600", r"\U0001f600"),
        ("caf\udce9", r"caf\udce9"),
        ("é", r"\xe9"),
    ],
    ids=["newline", "emoji", "undecodable", "accent"],
)
def test_what_the_font_does_not_have_is_escaped(tmp_path: Path, odd: str, as_shown: str) -> None:
    np.testing.assert_array_equal(*[sheet_of(tmp_path, SheetRow(text, text, [])) for text in (odd, as_shown)])


@odd_names
def test_odd_names_break_no_sheet(tmp_path: Path, name: str) -> None:
    plain, odd = (sheet_of(tmp_path, SheetRow(text, text, [(text, False)])) for text in ("name", name))
    assert odd.shape == plain.shape


def test_a_file_whose_name_is_not_unicode_is_shown(tmp_path: Path) -> None:
    photo = flat_photo(tmp_path / "photo.png", BLUE)
    sheet = sheet_of(tmp_path, SheetRow("", photo.rename(tmp_path / os.fsdecode(b"caf\xe9.png")), []))
    assert box_of(sheet, BLUE)[2:] == (120, 90)


# --- files


@pytest.mark.parametrize(("ending", "format"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_a_sheet_is_of_the_format_that_its_name_says(tmp_path: Path, ending: str, format: str) -> None:
    photo = make_photo(tmp_path / "photo.jpg", 1)
    save_contact_sheet(tmp_path / f"out.{ending}", [SheetRow("one", photo, [(photo, True)])])
    with Image.open(tmp_path / f"out.{ending}") as image:
        assert image.format == format


def test_a_sheet_overwrites_nothing_unasked(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_text("old")
    with pytest.raises(OutputError, match="exists; add --force"):
        save_contact_sheet(tmp_path / "out.png", [])
    assert (tmp_path / "out.png").read_text() == "old"
    save_contact_sheet(tmp_path / "out.png", [], force=True)
    assert (image_of(tmp_path / "out.png") == 255).all()


def test_a_sheet_of_another_ending_is_refused_before_any_picture_is_looked_at(tmp_path: Path) -> None:
    class Untouchable(os.PathLike[str]):
        def __fspath__(self) -> str:
            raise AssertionError("it was looked at")

    with pytest.raises(OutputError, match="pictures are written as"):
        save_contact_sheet(tmp_path / "out.svg", [SheetRow("", Untouchable(), [])])


def test_more_rows_than_the_format_has_room_for_are_refused_in_one_line(tmp_path: Path) -> None:
    # WebP ends at 16,383 pixels.
    with pytest.raises(OutputError, match=r"out\.webp: cannot be written"):
        save_contact_sheet(tmp_path / "out.webp", [SheetRow("", "no.jpg", [])] * 140)
    assert not list(tmp_path.iterdir())
