"""Contact sheets: every picture whole and in its place, every caption within its cell, and never too large."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbir.errors import CbirError
from cbir.montage import MOST_PIXELS, check_sheet, contact_sheet, fitted_text

COLORS = [(200, 30, 40), (30, 60, 200), (20, 150, 60), (240, 200, 20), (120, 40, 140), (250, 250, 250), (0, 90, 90)]


def plain(color, width=60, height=40):
    return np.full((height, width, 3), color, np.uint8)


def box_of(sheet, color):
    """Left, top, right and bottom of what has a colour, the last two excluded."""
    rows, columns = np.nonzero((sheet == color).all(axis=-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_pictures_stand_whole_in_rows_from_the_upper_left():
    sheet = contact_sheet([plain(color) for color in COLORS], columns=3, side=80)
    boxes = [box_of(sheet, color) for color in COLORS]
    assert all((right - left, bottom - top) == (60, 40) for left, top, right, bottom in boxes)
    lefts, tops = [box[0] for box in boxes], [box[1] for box in boxes]
    assert lefts[:3] == lefts[3:6] == sorted(set(lefts)) and lefts[6] == lefts[0]
    assert [tops.index(top) for top in tops] == [0, 0, 0, 3, 3, 3, 6]


def test_a_larger_picture_is_made_to_fit_and_keeps_its_shape():
    left, top, right, bottom = box_of(contact_sheet([plain(COLORS[0], 900, 300)], side=90), COLORS[0])
    assert (right - left, bottom - top) == (90, 30)


def test_pictures_of_a_row_stand_on_one_line_and_in_the_middle_of_their_cells():
    sheet = contact_sheet([plain(COLORS[0], 80, 20), plain(COLORS[1], 20, 80)], columns=2, side=80)
    wide, high = box_of(sheet, COLORS[0]), box_of(sheet, COLORS[1])
    assert wide[3] == high[3]
    # The cells' middles are a side and a space apart.
    assert (high[0] + high[2]) / 2 - (wide[0] + wide[2]) / 2 == 100


def test_rows_of_landscapes_leave_no_empty_bands():
    low = contact_sheet([plain(COLORS[0], 80, 30)] * 4, columns=2, side=80)
    high = contact_sheet([plain(COLORS[0], 80, 80)] * 4, columns=2, side=80)
    assert high.shape[0] - low.shape[0] == 2 * (80 - 30)


def test_a_sheet_is_a_little_wider_than_high_unless_columns_are_told():
    pictures = [plain(COLORS[0], 60, 60)] * 20
    height, width, _ = contact_sheet(pictures, side=60).shape
    assert 1 < width / height < 2
    assert contact_sheet(pictures, side=60, columns=20).shape[1] > 20 * 60
    # No more columns than pictures.
    assert contact_sheet(pictures[:2], side=60, columns=99).shape == contact_sheet(pictures[:2], side=60).shape


def test_what_cannot_be_read_is_an_empty_frame_that_says_so_in_its_place():
    pictures = [plain(COLORS[0]), None, plain(COLORS[1])]
    sheet = contact_sheet(pictures, columns=3, side=120)
    paper = sheet[0, 0]
    between = sheet[:, box_of(sheet, COLORS[0])[2] + 40 : box_of(sheet, COLORS[1])[0] - 40]
    assert (between != paper).any()
    # Frame and letters are grey, like the paper.
    assert (between.max(axis=-1) == between.min(axis=-1)).all()


def test_a_caption_is_written_below_its_picture_and_within_its_cell():
    picture = plain(COLORS[0], 100, 60)
    with_text = contact_sheet([picture, picture], ["", "x" * 500], columns=2, side=100)
    left, _, right, bottom = box_of(contact_sheet([picture], columns=1, side=100), COLORS[0])
    rows, columns = np.nonzero((with_text != contact_sheet([picture] * 2, ["", ""], columns=2, side=100)).any(axis=-1))
    assert rows.min() >= bottom
    # Smoothed letters may touch the pixel beside; the next cell is 20 away.
    assert columns.min() >= left + 119 and columns.max() <= right + 120


@pytest.mark.parametrize(
    "caption",
    ["Gänse im Müritzsee.jpg", "写真.jpg", "\n\t\x1b[31m\0", "\udcff\udc80.jpg", "👩‍🚀", "\u202egpj.exe"],
    ids=ascii,
)
def test_any_caption_can_be_written(caption):
    blank = contact_sheet([plain(COLORS[0])], [""], side=240)
    assert (contact_sheet([plain(COLORS[0])], [caption], side=240) != blank).any()


def test_captions_that_fit_stay_and_others_lose_their_middle():
    assert fitted_text("1  0.0000  a.jpg", 240) == "1  0.0000  a.jpg"
    short = fitted_text("1  0.0000  " + "very" * 40 + "0071.jpg", 240)
    assert short.startswith("1  0.0000  very") and short.endswith("0071.jpg") and "..." in short


@given(text=st.text(max_size=80), width=st.integers(0, 300))
def test_no_caption_is_wider_than_its_cell(text, width):
    from PIL import ImageFont

    assert ImageFont.load_default(14).getlength(fitted_text(text, width)) <= width


def test_a_sheet_too_large_is_refused_in_a_line_that_says_what_to_do():
    with pytest.raises(CbirError, match=r"10,000 pictures .*; take fewer pictures, or smaller ones$"):
        check_sheet(10_000)
    with pytest.raises(CbirError, match="take fewer"):
        contact_sheet([plain(COLORS[0])], side=20_000)
    assert check_sheet(1000) > 30


@given(st.integers(1, 4000), st.none() | st.integers(1, 100), st.integers(1, 400))
def test_no_sheet_that_is_accepted_has_too_many_pixels(number, columns, side):
    try:
        across = check_sheet(number, columns, side)
    except CbirError:
        return
    assert number * side * side <= MOST_PIXELS
    assert 1 <= across <= number


def test_a_sheet_of_nothing_is_refused():
    with pytest.raises(CbirError, match="no picture"):
        contact_sheet([])


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"side": 0}, {"columns": -3}], ids=str)
def test_sheets_without_columns_or_pixels_are_refused(wrong):
    with pytest.raises(ValueError, match="at least"):
        contact_sheet([plain(COLORS[0])], **wrong)
