"""Each transform does to a picture what its name and strength say, the same for the same seed, however small it is."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from pictures import photo_pixels

from cbir.color import lab_of_bytes, linear_of_bytes
from cbir.evaluation.transforms import TRANSFORMS, Transform, transformed

BY_NAME = {transform.name: transform for transform in TRANSFORMS}
EVERY = [
    pytest.param(transform, strength, id=f"{transform.name} {transform.label(strength)}".strip())
    for transform in TRANSFORMS
    for strength in transform.strengths
]
CHANCY = {"crop", "rotation", "border", "caption", "cover", "grain"}

PHOTO = photo_pixels((90, 140, 110), (120, 80))
# Every pixel is another colour: red says the column, green the row.
COORDINATES = np.stack([*np.meshgrid(np.arange(240), np.arange(160)), np.full((160, 240), 77)], axis=-1).astype(
    np.uint8
)


def flat(color, size=(120, 80)) -> np.ndarray:
    return np.full((size[1], size[0], 3), color, np.uint8)


def change(name: str, strength: float, pixels: np.ndarray = PHOTO, seed: int = 1) -> np.ndarray:
    return transformed(pixels, BY_NAME[name], strength, seed)


def each(name: str) -> pytest.MarkDecorator:
    """The strengths of one transform, as the test's argument `strength`."""
    return pytest.mark.parametrize("strength", BY_NAME[name].strengths)


def share_changed(before: np.ndarray, after: np.ndarray) -> float:
    return float((before != after).any(axis=-1).mean())


# --- all of them


@pytest.mark.parametrize(("transform", "strength"), EVERY)
def test_the_same_seed_gives_the_same_picture_and_leaves_the_given_one_alone(transform: Transform, strength):
    given = PHOTO.copy()
    first = transformed(given, transform, strength, 5)
    again = transformed(given, transform, strength, 5)
    np.testing.assert_array_equal(first, again)
    first[:] = 0
    np.testing.assert_array_equal(given, PHOTO)


@pytest.mark.parametrize(("transform", "strength"), EVERY)
def test_other_seeds_give_other_pictures_just_where_there_is_chance(transform: Transform, strength):
    pictures = {transformed(PHOTO, transform, strength, seed).tobytes() for seed in range(12)}
    assert (len(pictures) > 1) == (transform.name in CHANCY)


def test_any_whole_number_is_a_seed():
    assert len({change("grain", 5, seed=seed).tobytes() for seed in (-1, 0, 1, 2**64, 2**200)}) == 5


def test_strengths_of_one_photo_are_not_all_placed_alike():
    # Red and green of a crop's first pixel are its place in the picture; a share of the room there is.
    corners = [change("crop", strength, COORDINATES)[0, 0, :2] for strength in (90, 75, 60)]
    room = [np.array([240, 160]) * (1 - (strength / 100) ** 0.5) for strength in (90, 75, 60)]
    places = np.array(corners) / np.array(room)
    assert np.ptp(places, axis=0).max() > 0.1


def test_transforms_of_one_photo_at_one_strength_do_not_share_their_chance():
    # Both draw black or white: the border for its frame, the caption for its paper.
    pairs = {tuple(int(change(name, 10, seed=seed)[-1, 0, 0]) for name in ("border", "caption")) for seed in range(16)}
    assert len(pairs) == 4


PROGRAM = """
import hashlib, sys
import numpy as np
from cbir.evaluation.transforms import TRANSFORMS, transformed
pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(80, 120, 3)
for t in reversed(TRANSFORMS):
    for s in reversed(t.strengths):
        print(hashlib.sha256(transformed(pixels, t, s, 5).tobytes()).hexdigest())
"""


def test_another_process_makes_the_same_pictures_in_any_order():
    output = subprocess.run([sys.executable, "-c", PROGRAM], input=PHOTO.tobytes(), capture_output=True, check=True)
    here = [transformed(PHOTO, t, s, 5) for t in TRANSFORMS for s in t.strengths]
    assert output.stdout.decode().split() == [hashlib.sha256(p.tobytes()).hexdigest() for p in reversed(here)]


SMALL = [(1, 1), (1, 2), (2, 1), (3, 2), (1, 50), (50, 1), (7, 300)]


@pytest.mark.parametrize("size", SMALL, ids=[f"{width}x{height}" for width, height in SMALL])
@pytest.mark.parametrize(("transform", "strength"), EVERY)
def test_every_picture_of_a_pixel_or_more_can_be_transformed(transform: Transform, strength, size):
    changed = transformed(photo_pixels(3, size), transform, strength, 2)
    assert changed.dtype == np.uint8 and changed.ndim == 3 and changed.shape[2] == 3
    assert changed.shape[0] >= 1 and changed.shape[1] >= 1


READ_ONLY = PHOTO.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "view", [PHOTO[::-1, ::2], PHOTO[..., ::-1], PHOTO.transpose(1, 0, 2), READ_ONLY], ids=["flip", "bgr", "turn", "ro"]
)
@pytest.mark.parametrize(("transform", "strength"), EVERY)
def test_a_view_of_a_picture_is_transformed_like_its_copy(transform: Transform, strength, view):
    of_view, of_copy = (transformed(picture, transform, strength, 1) for picture in (view, view.copy()))
    np.testing.assert_array_equal(of_view, of_copy)


@pytest.mark.parametrize("name", ["JPEG", "exposure", "white balance", "caption", "cover", "grain"])
def test_pixels_that_stay_in_place_change_more_from_strength_to_strength(name):
    changes = [np.abs(change(name, strength) - PHOTO.astype(int)).mean() for strength in BY_NAME[name].strengths]
    assert changes[0] > 0 and (np.diff(changes) > 0).all()


@pytest.mark.parametrize("name", ["crop", "rotation", "rescaling"])
def test_less_is_left_from_strength_to_strength(name):
    areas = [PHOTO.size, *(change(name, strength).size for strength in BY_NAME[name].strengths)]
    assert (np.diff(areas) < 0).all()


def test_labels_say_the_strengths_with_their_units():
    labels = {transform.name: [transform.label(s) for s in transform.strengths] for transform in TRANSFORMS}
    assert labels == {
        "crop": ["90 %", "75 %", "60 %"],
        "mirror": [""],
        "rotation": ["2°", "5°", "10°"],
        "rescaling": ["1/2", "1/4"],
        "JPEG": ["quality 60", "quality 40", "quality 20"],
        "exposure": ["-0.35 EV", "+0.35 EV", "-0.7 EV", "+0.7 EV"],
        "white balance": ["7200 K", "5700 K", "8000 K", "5000 K"],
        "border": ["5 %", "10 %"],
        "caption": ["10 %", "20 %"],
        "cover": ["10 %", "20 %", "30 %"],
        "grain": ["5 levels", "10 levels", "20 levels"],
    }


# --- crop


@each("crop")
def test_a_crop_is_a_part_of_the_picture_with_this_share_of_its_area_and_its_aspect_ratio(strength):
    crop = change("crop", strength, COORDINATES)
    height, width = crop.shape[:2]
    left, top = crop[0, 0, :2]
    np.testing.assert_array_equal(crop, COORDINATES[top : top + height, left : left + width])
    assert 100 * width * height / (240 * 160) == pytest.approx(strength, abs=0.5)
    assert width / height == pytest.approx(1.5, abs=0.01)


def test_crops_come_from_everywhere_in_the_picture():
    # 60 % of 10 x 10 pixels is 8 x 8, of which there are three places along each side.
    corners = {tuple(change("crop", 60, COORDINATES[:10, :10], seed)[0, 0, :2].tolist()) for seed in range(99)}
    assert corners == {(left, top) for left in range(3) for top in range(3)}


# --- mirror


def test_the_mirror_swaps_left_and_right_and_twice_gives_the_picture():
    mirrored = change("mirror", 1, COORDINATES)
    assert mirrored[5, 0].tolist() == [239, 5, 77]
    np.testing.assert_array_equal(change("mirror", 1, mirrored), COORDINATES)


# --- rotation


def test_two_degrees_of_240_by_160_pixels_leave_228_by_152():
    # The height binds: 160 / (240 sin 2° + 160 cos 2°) = 160 / 168.28 = 0.9508 of each side.
    assert change("rotation", 2, COORDINATES).shape == (152, 228, 3)


@each("rotation")
@pytest.mark.parametrize("seed", range(4))
def test_a_rotation_shows_the_picture_turned_about_its_centre_and_nothing_from_outside(strength, seed):
    turned = change("rotation", strength, COORDINATES, seed).astype(float)
    height, width = turned.shape[:2]
    across, down = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    # Which way it went is seen at the upper edge: does the row rise or fall along it?
    angle = np.radians(strength) * np.sign(turned[0, -1, 1] - turned[0, 0, 1])
    column = 119.5 + across * np.cos(angle) - down * np.sin(angle)
    row = 79.5 + across * np.sin(angle) + down * np.cos(angle)
    # Beyond the outermost pixels' centres there is still half a pixel.
    assert column.min() > -0.5 and column.max() < 239.5 and row.min() > -0.5 and row.max() < 159.5
    np.testing.assert_allclose(turned[..., 0], column.clip(0, 239), atol=1)
    np.testing.assert_allclose(turned[..., 1], row.clip(0, 159), atol=1)
    assert (turned[..., 2] == 77).all()


@each("rotation")
def test_a_rotation_keeps_the_aspect_ratio_and_cuts_off_no_more_than_it_must(strength):
    turned = change("rotation", strength, COORDINATES)
    height, width = turned.shape[:2]
    assert width / height == pytest.approx(1.5, abs=0.015)
    assert turned[..., 1].min() <= 1 and turned[..., 1].max() >= 158


def test_a_rotation_goes_either_way():
    edges = [change("rotation", 5, COORDINATES, seed)[0, :, 1].astype(int) for seed in range(12)]
    assert {np.sign(edge[-1] - edge[0]) for edge in edges} == {-1, 1}


# --- rescaling


@pytest.mark.parametrize(
    ("size", "halves", "quarters"),
    [((240, 160), (120, 80), (60, 40)), ((7, 5), (4, 2), (2, 1)), ((1, 50), (1, 25), (1, 12))],
)
def test_rescaling_divides_each_side(size, halves, quarters):
    pixels = photo_pixels(1, size)
    assert change("rescaling", 2, pixels).shape == (halves[1], halves[0], 3)
    assert change("rescaling", 4, pixels).shape == (quarters[1], quarters[0], 3)


def test_rescaling_averages_areas():
    checks = flat(0, (8, 8))
    checks[::2, ::2] = checks[1::2, 1::2] = 200
    assert (change("rescaling", 2, checks) == 100).all()
    np.testing.assert_array_equal(change("rescaling", 4, checks), flat(100, (2, 2)))


# --- JPEG


@each("JPEG")
def test_jpeg_is_the_picture_still_at_its_size_with_small_errors(strength):
    compressed = change("JPEG", strength)
    assert compressed.shape == PHOTO.shape
    assert 1 < np.abs(compressed - PHOTO.astype(int)).mean() < 8


def test_jpeg_of_one_colour_is_that_colour_within_rounding():
    assert np.abs(change("JPEG", 60, flat([90, 140, 110])).astype(int) - [90, 140, 110]).max() <= 3


# --- exposure


@pytest.mark.parametrize(
    ("stops", "level"),
    # Level 128 is 0.2159 of white's light; times 2^EV that is 0.1329, 0.1694, 0.2752 and 0.3507.
    [(-0.7, 102), (-0.35, 114), (0.35, 143), (0.7, 160)],
)
def test_mid_grey_goes_to_the_level_of_its_light_times_two_to_the_stops(stops, level):
    assert (change("exposure", stops, flat(128)) == level).all()


@each("exposure")
def test_black_stays_black_and_only_brighter_exposures_clip(strength):
    assert not change("exposure", strength, flat(0)).any()
    white = change("exposure", strength, flat(255))
    assert (white == 255).all() if strength > 0 else (white < 255).all()


def test_stops_are_of_light_in_every_channel_alone():
    brighter = change("exposure", 0.7, flat([30, 128, 250]))
    ratio = linear_of_bytes(brighter[0, 0]) / linear_of_bytes(np.array([30, 128, 250], np.uint8))
    assert ratio[:2] == pytest.approx(2**0.7, rel=0.03)
    assert brighter[0, 0, 2] == 255


# --- white balance


def daylight(kelvin: float) -> np.ndarray:
    """Linear sRGB, of luminance 1, of the CIE's daylight, from its formula in CIE 15:2004 and the matrix of sRGB."""
    if kelvin <= 7000:
        x = -4.6070e9 / kelvin**3 + 2.9678e6 / kelvin**2 + 99.11 / kelvin + 0.244063
    else:
        x = -2.0064e9 / kelvin**3 + 1.9018e6 / kelvin**2 + 247.48 / kelvin + 0.237040
    y = -3 * x**2 + 2.87 * x - 0.275
    to_srgb = [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    return np.array(to_srgb) @ [x / y, 1, (1 - x - y) / y]


@each("white balance")
def test_grey_gets_the_chromaticity_of_the_daylight(strength):
    light = linear_of_bytes(change("white balance", strength, flat(128))[0, 0]) / linear_of_bytes(np.uint8(128))
    assert light == pytest.approx(daylight(strength), abs=0.01)


@pytest.mark.parametrize("kelvin", [5000, 5700])
def test_below_d65_red_rises_and_blue_falls(kelvin):
    red, _, blue = change("white balance", kelvin, flat(128))[0, 0]
    assert red > 128 > blue


@pytest.mark.parametrize("kelvin", [7200, 8000])
def test_above_d65_blue_rises_and_red_falls(kelvin):
    red, _, blue = change("white balance", kelvin, flat(128))[0, 0]
    assert blue > 128 > red


@each("white balance")
@pytest.mark.parametrize("level", [30, 128, 220])
def test_greys_keep_their_lightness(strength, level):
    changed = lab_of_bytes(change("white balance", strength, flat(level))[0, 0])
    assert changed[0] == pytest.approx(lab_of_bytes(np.full(3, level, np.uint8))[0], abs=0.3)


# --- border


@pytest.mark.parametrize(("strength", "width"), [(5, 4), (10, 8)])
def test_a_border_is_added_around_the_picture_as_wide_as_a_share_of_its_shorter_side(strength, width):
    framed = change("border", strength)
    assert framed.shape == (80 + 2 * width, 120 + 2 * width, 3)
    np.testing.assert_array_equal(framed[width:-width, width:-width], PHOTO)


def test_borders_are_white_or_black():
    frames = set()
    for seed in range(12):
        framed = change("border", 10, seed=seed)
        framed[8:-8, 8:-8] = framed[0, 0]
        assert len(np.unique(framed)) == 1
        frames.add(int(framed[0, 0, 0]))
    assert frames == {0, 255}


# --- caption


@each("caption")
def test_a_caption_covers_this_share_at_the_bottom_and_nothing_else(strength):
    captioned = change("caption", strength)
    # What a caption puts there is grey; the photo is green all over.
    assert 100 * share_changed(PHOTO, captioned) == strength
    rows = 80 * strength // 100
    np.testing.assert_array_equal(captioned[:-rows], PHOTO[:-rows])


@each("caption")
def test_a_captions_text_is_in_the_middle_of_its_bar_with_paper_all_around(strength):
    captioned = change("caption", strength, flat([90, 140, 110], (300, 200)))
    bar = captioned[-200 * strength // 100 :].astype(int)
    ink = np.abs(bar - bar[0, 0]).mean(axis=-1) / 255
    assert 0.02 < ink.mean() < 0.3 and ink.max() > 0.9
    for axis in (0, 1):
        marked = np.flatnonzero(ink.any(axis=axis))
        before, after = marked[0], ink.shape[1 - axis] - 1 - marked[-1]
        assert before >= 2 and after >= 2
        assert before == pytest.approx(after, abs=6)


def test_captions_are_black_on_white_or_white_on_black():
    assert {int(change("caption", 20, seed=seed)[-1, 0, 0]) for seed in range(12)} == {0, 255}


# --- cover


@each("cover")
def test_a_cover_is_one_rectangle_of_one_colour_with_this_share_of_the_area(strength):
    covered = change("cover", strength, COORDINATES)
    rows, columns = np.nonzero((covered != COORDINATES).any(axis=-1))
    rectangle = covered[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert len(np.unique(rectangle.reshape(-1, 3), axis=0)) == 1
    assert 100 * share_changed(COORDINATES, covered) == pytest.approx(strength, abs=0.5)
    assert rectangle.size == 3 * len(rows)


def test_covers_differ_in_place_and_colour():
    covers = [change("cover", 10, COORDINATES, seed) for seed in range(8)]
    changed = [(covered != COORDINATES).any(axis=-1) for covered in covers]
    assert len({mask.tobytes() for mask in changed}) == 8
    assert len({tuple(covered[mask][0].tolist()) for covered, mask in zip(covers, changed, strict=True)}) == 8


# --- grain


@each("grain")
def test_grain_on_mid_grey_has_its_sigma_and_no_bias_in_every_channel(strength):
    noise = change("grain", strength, flat(128, (300, 200))).astype(float) - 128
    assert noise.std(axis=(0, 1)) == pytest.approx([strength] * 3, rel=0.02)
    assert np.abs(noise.mean(axis=(0, 1))).max() < strength / 50


def test_grain_is_independent_from_channel_to_channel_and_from_pixel_to_pixel():
    noise = change("grain", 20, flat(128, (300, 200))).astype(float) - 128
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]) < 0.02


def test_grain_on_white_and_black_is_clipped_not_wrapped():
    assert change("grain", 20, flat(255)).min() > 128
    assert change("grain", 20, flat(0)).max() < 128
