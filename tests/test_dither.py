"""Dithering: points of a few colours that look like the colours between them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pictures import photo_pixels
from sklearn.datasets import load_sample_images

from cbir.color import bytes_of_linear, lab_of_bytes, linear_of_bytes
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
def test_errors_are_spread_so_that_levels_add_up(level: int) -> None:
    assert drawn(even((level, level, level)), BLACK_AND_WHITE, "error").mean() == pytest.approx(level, abs=3)


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


@pytest.mark.parametrize(("method", "most"), [("ordered", 256), ("error", 150)])
def test_256_colours_are_made_use_of(method: Dither, most: int) -> None:
    # Of greys that differ by one level Pillow tells only some apart.
    greys = Palette.of_bytes(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1))
    pixels = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2), 4, axis=0)
    pixels[3, :, 0] ^= 1
    assert len(np.unique(dithered(pixels, greys, method))) >= most


def test_bayers_matrix_of_two_by_two_is_in_the_one_of_eight_by_eight() -> None:
    quarters = bayer().reshape(4, 2, 4, 2).mean(axis=(0, 2))
    assert np.argsort(quarters.reshape(-1)).tolist() == [0, 3, 1, 2]
    assert np.allclose(np.sort(bayer().reshape(-1)), (np.arange(64) + 0.5) / 64)


def test_errors_cannot_be_spread_among_more_than_256_colours() -> None:
    many = Palette.of_bytes(np.random.default_rng(0).integers(0, 256, (300, 3)).astype(np.uint8))
    with pytest.raises(PaletteError, match="at most 256 colours, not"):
        dithered(photo_pixels(1), many, "error")


def test_another_dithering_is_refused() -> None:
    with pytest.raises(PaletteError, match="none, ordered, error"):
        dithered(photo_pixels(1), BLACK_AND_WHITE, "random")  # type: ignore[arg-type]
