"""Dithering: points of a few colours that look like the colours between them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pictures import photo_pixels
from sklearn.datasets import load_sample_images

from cbir.color import bytes_of_linear, lab_of_bytes, lab_of_linear, linear_of_bytes
from cbir.dither import Dither, bayer, dithered
from cbir.errors import PaletteError
from cbir.eye import learn_palette
from cbir.palette import Palette
from cbir.pixels import Picture

BLACK_AND_WHITE = Palette.of_bytes(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
METHODS: list[Dither] = ["none", "ordered", "error"]


def even(color: tuple[int, int, int], side: int = 64) -> NDArray[np.uint8]:
    return np.full((side, side, 3), color, np.uint8)


def drawn(pixels: NDArray[np.uint8], palette: Palette, dither: Dither) -> NDArray[np.uint8]:
    return palette.srgb[dithered(pixels, palette, dither)]


@pytest.mark.parametrize("method", METHODS)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.just(3))),
    arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 8)),
)
@settings(max_examples=40)
def test_a_picture_in_the_palettes_colours_is_not_changed(
    method: Dither, colors: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    pixels = colors[labels % len(colors)]
    assert np.array_equal(drawn(pixels, Palette.of_bytes(colors), method), pixels)


@pytest.mark.parametrize("method", METHODS)
def test_dithering_twice_changes_nothing(method: Dither) -> None:
    photo = photo_pixels(1)
    palette = Palette.of_bytes(learn_palette(Picture(photo), 6).srgb)
    once = drawn(photo, palette, method)
    assert np.array_equal(drawn(once, palette, method), once)


def test_without_dithering_each_pixel_gets_the_nearest_colour() -> None:
    photo = photo_pixels(1)
    palette = learn_palette(Picture(photo), 5)
    assert np.array_equal(dithered(photo, palette, "none"), palette.labels(photo))


@pytest.mark.parametrize("level", [20, 64, 128, 188, 240])
def test_ordered_points_of_black_and_white_give_as_much_light_as_the_grey(level: int) -> None:
    light = linear_of_bytes(drawn(even((level, level, level)), BLACK_AND_WHITE, "ordered")).mean()
    # Eight by eight thresholds can tell a 64th.
    assert light == pytest.approx(linear_of_bytes(np.array(level, np.uint8)), abs=1 / 64)


@pytest.mark.parametrize("level", [20, 64, 128, 188, 240])
def test_spread_errors_of_black_and_white_give_as_much_light_as_the_grey(level: int) -> None:
    light = linear_of_bytes(drawn(even((level, level, level), 128), BLACK_AND_WHITE, "error")).mean()
    # What the last pixels of each row and column would hand on is lost.
    assert light == pytest.approx(linear_of_bytes(np.array(level, np.uint8)), abs=0.005)


def diffused_pixel_by_pixel(pixels: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Floyd and Steinberg's (1976), row by row: in light, and with the nearest colour in L*a*b*."""
    light, own = linear_of_bytes(pixels), linear_of_bytes(colors)
    lab = lab_of_bytes(colors).astype(float)
    lowest, highest = own.min(axis=0), own.max(axis=0)
    for lower, upper in pairwise(np.sort(own, axis=0)):
        lowest = np.minimum(lowest, lower - np.float32(0.82) * (upper - lower))
        highest = np.maximum(highest, upper + np.float32(0.5) * (upper - lower))
    height, width = pixels.shape[:2]
    errors = np.zeros((height + 1, width + 2, 3), np.float32)
    labels = np.zeros((height, width), np.intp)
    for y in range(height):
        for x in range(width):
            # With a row of none above, and a column of none on both sides.
            left, right_above, above, left_above = (errors[y + 1, x], errors[y, x + 2], errors[y, x + 1], errors[y, x])
            wanted = light[y, x] + np.float32(7 / 16) * left
            for weight, error in ((3, right_above), (5, above), (1, left_above)):
                wanted = wanted + np.float32(weight / 16) * error
            wanted = wanted.clip(lowest, highest)
            place = lab_of_linear(wanted.clip(min=0)[:, None])[0]
            labels[y, x] = ((lab - place) ** 2).sum(axis=1).argmin()
            errors[y + 1, x + 1] = wanted - own[labels[y, x]]
    return labels


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (1, 50), (50, 1), (30, 2), (30, 3), (2, 2)])
@pytest.mark.parametrize("k", [2, 5, 16])
def test_spreading_errors_in_waves_is_spreading_them_pixel_by_pixel(k: int, shape: tuple[int, int]) -> None:
    photo = load_sample_images().images[0]
    part = np.ascontiguousarray(photo[150 : 150 + shape[0], 100 : 100 + shape[1]])
    palette = Palette.of_bytes(learn_palette(Picture(photo[::8, ::8]), k).srgb)
    assert np.array_equal(dithered(part, palette, "error"), diffused_pixel_by_pixel(part, palette.srgb))


def test_errors_that_cannot_be_made_good_do_not_run_away() -> None:
    # White is more than any mixture of these can give.
    greys = Palette.of_bytes(np.array([[0] * 3, [60] * 3, [100] * 3], np.uint8))
    pixels = np.zeros((64, 256, 3), np.uint8)
    pixels[:, :128] = 255
    light = drawn(pixels, greys, "error")
    assert (light[:, :126] == 100).all()
    assert not light[:, 132:].any()


@pytest.mark.parametrize("k", [2, 3, 8, 16, 64])
def test_spread_errors_make_use_of_exactly_the_palettes_colours(k: int) -> None:
    photo = photo_pixels(1)
    palette = Palette.of_bytes(learn_palette(Picture(photo), k).srgb)
    assert len(np.unique(drawn(photo, palette, "error").reshape(-1, 3), axis=0)) == len(palette) == k


def test_half_the_light_of_white_is_a_chequerboard() -> None:
    half = int(bytes_of_linear(0.5))
    points = dithered(even((half, half, half), 8), BLACK_AND_WHITE, "ordered")
    assert np.array_equal(points, (np.add.outer(np.arange(8), np.arange(8)) + points[0, 0]) % 2)


@pytest.mark.parametrize("method", ["ordered", "error"])
def test_an_even_colour_between_two_is_mixed_of_these_and_no_others(method: Dither) -> None:
    colors = np.array([[200, 0, 0], [200, 200, 0], [0, 0, 90], [255, 255, 255]], np.uint8)
    palette = Palette.of_bytes(colors)
    assert {tuple(c) for c in drawn(even((200, 120, 0)), palette, method).reshape(-1, 3).tolist()} == {
        (200, 0, 0),
        (200, 200, 0),
    }


def test_grey_is_mixed_of_the_greys_next_to_it_rather_than_of_black_and_white() -> None:
    palette = Palette.of_bytes(np.array([[0] * 3, [100] * 3, [150] * 3, [255] * 3], np.uint8))
    assert set(np.unique(drawn(even((125, 125, 125)), palette, "ordered"))) == {100, 150}


def test_an_ordered_pixel_depends_on_its_own_colour_and_place_alone() -> None:
    photo = photo_pixels(1)
    palette = Palette.of_bytes(learn_palette(Picture(photo), 6).srgb)
    other = photo.copy()
    other[20:30, 10:50] = (1, 200, 90)
    changed = (dithered(photo, palette, "ordered") != dithered(other, palette, "ordered")).nonzero()
    assert changed[0].min() >= 20
    assert changed[0].max() < 30
    assert changed[1].min() >= 10
    assert changed[1].max() < 50


def error_from_afar(pixels: NDArray[np.uint8], palette: Palette, dither: Dither) -> float:
    """The mean distance in L*a*b* between the mean light of blocks of 8 x 8 pixels, drawn and as they came."""
    height, width = pixels.shape[:2]
    seen = [
        lab_of_bytes(bytes_of_linear(linear_of_bytes(p).reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3))))
        for p in (drawn(pixels, palette, dither), pixels)
    ]
    return float(np.linalg.norm(seen[0] - seen[1], axis=2).mean())


@pytest.mark.parametrize("method", ["ordered", "error"])
def test_a_photo_from_afar_is_nearer_to_itself_dithered(method: Dither) -> None:
    photo = np.ascontiguousarray(load_sample_images().images[0][:320, :480])
    palette = Palette.of_bytes(learn_palette(Picture(photo), 8).srgb)
    assert error_from_afar(photo, palette, method) < error_from_afar(photo, palette, "none")


@pytest.mark.parametrize("method", ["ordered", "error"])
def test_a_gradient_from_afar_is_far_nearer_to_itself_dithered(method: Dither) -> None:
    gradient = np.repeat(np.repeat(np.arange(40, 216, dtype=np.uint8)[None, :, None], 3, axis=2), 64, axis=0)
    palette = Palette.of_bytes(np.array([[40] * 3, [100] * 3, [160] * 3, [220] * 3], np.uint8))
    assert error_from_afar(gradient, palette, method) < error_from_afar(gradient, palette, "none") / 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (9, 17)])
def test_pictures_of_any_shape_keep_it(method: Dither, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    labels = dithered(pixels, BLACK_AND_WHITE, method)
    assert labels.shape == shape
    assert labels.dtype == np.uint16


@pytest.mark.parametrize("method", METHODS)
def test_a_palette_of_one_colour_is_that_colour_everywhere(method: Dither) -> None:
    assert not dithered(photo_pixels(1), Palette.of_bytes(np.array([[9, 9, 9]], np.uint8)), method).any()


@pytest.mark.parametrize("method", ["ordered", "error"])
def test_256_colours_are_made_use_of(method: Dither) -> None:
    greys = Palette.of_bytes(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1))
    pixels = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2), 4, axis=0)
    pixels[3, :, 0] ^= 1
    assert len(np.unique(dithered(pixels, greys, method))) == 256


def test_bayers_matrix_of_two_by_two_is_in_the_one_of_eight_by_eight() -> None:
    quarters = bayer().reshape(4, 2, 4, 2).mean(axis=(0, 2))
    assert np.argsort(quarters.reshape(-1)).tolist() == [0, 3, 1, 2]
    assert np.allclose(np.sort(bayer().reshape(-1)), (np.arange(64) + 0.5) / 64)


@pytest.mark.parametrize("method", ["ordered", "error"])
def test_a_palette_of_a_thousand_colours_is_dithered_in_too(method: Dither) -> None:
    photo = photo_pixels(1)
    many = Palette.of_bytes(np.random.default_rng(0).integers(0, 256, (1000, 3)).astype(np.uint8))
    assert error_from_afar(photo, many, method) < error_from_afar(photo, many, "none")


def test_another_dithering_is_refused() -> None:
    with pytest.raises(PaletteError, match="none, ordered, error"):
        dithered(photo_pixels(1), BLACK_AND_WHITE, "random")  # type: ignore[arg-type]
