"""Colours as numbers: L*a*b* agrees with scikit-image's, and nothing is lost on the way to codes or L*a*b* and back."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from cbir.color import (
    bytes_of_codes,
    bytes_of_lab,
    bytes_of_linear,
    codes,
    distinct,
    hex_of_bytes,
    lab_of_bytes,
    lab_of_levels,
    linear_of_bytes,
)

RNG = np.random.default_rng(1)
RANDOM = RNG.integers(0, 256, (20_000, 3), np.uint8)
# L*a*b* is a straight line near black and a cube root above; the knee lies among these.
DARK = np.stack(np.meshgrid(*[np.arange(24, dtype=np.uint8)] * 3), axis=-1).reshape(-1, 3)
GREYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
CORNERS = np.array([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)


@pytest.fixture(autouse=True)
def same_random_numbers_alone_or_after_others():
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


@pytest.mark.parametrize("srgb", [RANDOM, DARK, GREYS, CORNERS], ids=["random", "dark", "grey", "corners"])
def test_lab_agrees_with_scikit_image_within_a_hundredth(srgb):
    # What is left comes from scikit-image's white point, which differs from its matrix's in the fifth digit.
    assert np.abs(lab_of_bytes(srgb) - rgb2lab(srgb[None])[0]).max() < 0.01


def test_half_the_light_of_white_is_level_188():
    # ((188 / 255 + 0.055) / 1.055) ** 2.4 = 0.5029; a level below gives 0.4969.
    assert bytes_of_linear(0.5) == 188
    np.testing.assert_allclose(
        linear_of_bytes(np.array([0, 187, 188, 255], np.uint8)), [0, 0.4969, 0.5029, 1], atol=1e-4
    )


def test_near_black_light_is_in_proportion_to_the_level():
    np.testing.assert_allclose(linear_of_bytes(np.array([1, 10], np.uint8)), np.array([1, 10]) / 255 / 12.92, rtol=1e-6)


def test_every_level_comes_back_from_light():
    light = linear_of_bytes(GREYS)
    assert light.shape == GREYS.shape and light.dtype == np.float32
    np.testing.assert_array_equal(bytes_of_linear(light), GREYS)


def test_light_below_black_and_above_white_is_clipped():
    assert bytes_of_linear([-0.1, 1.7]).tolist() == [0, 255]


def test_white_is_exactly_100_0_0_and_black_0_0_0():
    assert lab_of_bytes(np.array([255, 255, 255], np.uint8)).tolist() == [100, 0, 0]
    assert lab_of_bytes(np.array([0, 0, 0], np.uint8)).tolist() == [0, 0, 0]


def test_greys_have_no_chroma_and_rise_in_lightness():
    lab = lab_of_bytes(GREYS)
    assert np.abs(lab[:, 1:]).max() < 1e-3
    assert (np.diff(lab[:, 0]) > 0).all()


def test_lab_ranges_over_the_whole_cube_are_the_documented_ones():
    # The extremes lie on the cube's corners or edges, so its surface has them all.
    face = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).reshape(-1, 2).astype(np.uint8)
    cube = np.concatenate([np.insert(face, i, level, axis=1) for i in range(3) for level in (0, 255)])
    lab = lab_of_bytes(cube)
    assert lab.dtype == np.float32
    np.testing.assert_allclose(lab.min(axis=0), [0, -86, -108], atol=0.6)
    np.testing.assert_allclose(lab.max(axis=0), [100, 98, 95], atol=0.6)
    inside = lab_of_bytes(RANDOM)
    assert (inside >= lab.min(axis=0)).all() and (inside <= lab.max(axis=0)).all()


@pytest.mark.parametrize("shape", [(3,), (0, 3), (7, 3), (4, 5, 3), (0, 4, 3), (2, 3, 4, 3)])
def test_lab_and_back_keep_the_shape_of_the_picture(shape):
    srgb = RNG.integers(0, 256, shape, np.uint8)
    lab = lab_of_bytes(srgb)
    assert lab.shape == shape
    np.testing.assert_array_equal(bytes_of_lab(lab), srgb)


def test_fifty_thousand_colours_come_back_from_lab_unchanged():
    step = (1 << 24) // 50_000
    srgb = np.concatenate([bytes_of_codes(np.arange(0, 1 << 24, step, dtype=np.uint32)), DARK, CORNERS, GREYS])
    np.testing.assert_array_equal(bytes_of_lab(lab_of_bytes(srgb)), srgb)


def test_real_levels_that_are_whole_have_the_lab_of_the_bytes():
    np.testing.assert_allclose(lab_of_levels(RANDOM.tolist()), lab_of_bytes(RANDOM), atol=1e-4)


def test_lab_of_real_levels_comes_back_as_the_nearest_bytes():
    levels = RNG.integers(0, 255, (5_000, 3)) + RNG.choice([0.0, 0.1, 0.3, 0.49, 0.51, 0.7, 0.9], (5_000, 3))
    np.testing.assert_array_equal(bytes_of_lab(lab_of_levels(levels)), np.rint(levels))


def test_colours_out_of_gamut_are_clipped():
    assert bytes_of_lab([150, 0, 0]).tolist() == [255, 255, 255]
    assert bytes_of_lab([-20, 0, 0]).tolist() == [0, 0, 0]
    red, green, _ = bytes_of_lab([50, 200, 0]).tolist()
    assert (red, green) == (255, 0)


def test_a_code_is_red_plus_256_green_plus_65536_blue():
    assert codes(np.array([[1, 2, 3], [255, 0, 0]], np.uint8)).tolist() == [1 + 256 * 2 + 65536 * 3, 255]
    assert codes(np.array([[255, 255, 255]], np.uint8)).tolist() == [(1 << 24) - 1]


@pytest.mark.parametrize("shape", [(3,), (0, 3), (1, 3), (1000, 3), (31, 17, 3), (0, 5, 3), (5, 0, 3), (2, 3, 4, 3)])
def test_codes_of_any_shape_come_back_as_the_pixels(shape):
    pixels = RNG.integers(0, 256, shape, np.uint8)
    code = codes(pixels)
    assert code.shape == shape[:-1] and code.dtype == np.uint32
    back = bytes_of_codes(code)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, pixels)


PICTURE = RNG.integers(0, 256, (20, 30, 3), np.uint8)
READ_ONLY = PICTURE.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "view",
    [
        PICTURE[::2, 1::3],
        PICTURE[:, ::-1],
        PICTURE[..., ::-1],
        PICTURE.transpose(1, 0, 2),
        np.asfortranarray(PICTURE),
        np.dstack([PICTURE, PICTURE[..., 0]])[..., :3],
        np.broadcast_to(PICTURE[0, 0], (4, 5, 3)),
        READ_ONLY,
    ],
    ids=["strided", "mirrored", "bgr", "transposed", "fortran", "rgb of rgba", "broadcast", "read-only"],
)
def test_codes_of_a_view_are_those_of_its_pixels(view):
    np.testing.assert_array_equal(bytes_of_codes(codes(view)), view)


def test_all_sixteen_million_codes_are_different_colours():
    every = np.arange(1 << 24, dtype=np.uint32)
    np.testing.assert_array_equal(codes(bytes_of_codes(every)), every)


@pytest.mark.parametrize("size", [0, 1, 1000, (1 << 18) - 1, 1 << 18, (1 << 18) + 1])
@pytest.mark.parametrize("ceiling", [50, 1 << 24], ids=["many repeats", "few repeats"])
def test_distinct_codes_are_ascending_and_each_there_once_however_many_are_asked(size, ceiling):
    values = np.random.default_rng(size).integers(0, ceiling, size, np.uint32)
    values[-2:] = [0, (1 << 24) - 1][: len(values[-2:])]
    found = distinct(values)
    assert found.dtype == np.uint32
    assert found.tolist() == sorted(set(values.tolist()))


def test_distinct_of_a_large_picture_is_that_of_its_rows():
    picture = RNG.integers(0, 1 << 24, (700, 500), np.uint32)
    assert picture.size > 1 << 18
    np.testing.assert_array_equal(distinct(picture), distinct(np.concatenate([distinct(row) for row in picture])))


def test_hex_is_rrggbb_in_lower_case():
    assert hex_of_bytes(np.array([255, 128, 0], np.uint8)) == "#ff8000"
    assert hex_of_bytes(np.array([0, 10, 11], np.uint8)) == "#000a0b"
