"""Palettes of one picture by how it looks: which colours, which labels, and the colour difference behind them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pictures import photo_pixels
from sklearn.datasets import load_sample_images

from cbir.ciede2000 import ciede2000, left, right
from cbir.color import lab_of_bytes
from cbir.errors import PaletteError
from cbir.eye import _SPACES, Space, _moved, labels_by_eye, labels_by_rgb, learn_palette
from cbir.grid import CellCounts
from cbir.palette import Palette
from cbir.pixels import Picture

Pixels = NDArray[np.uint8]
PHOTO = Picture(photo_pixels(1, (120, 90)))
# Sharma, Wu and Dalal (2005), "The CIEDE2000 color-difference formula", table 1: L*, a*, b* twice, and the difference.
SHARMA = np.array(
    [
        (50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425),
        (50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615),
        (50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412),
        (50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000),
        (50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000),
        (50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000),
        (50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669),
        (50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669),
        (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792),
        (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792),
        (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195),
        (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195),
        (50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045),
        (50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045),
        (50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461),
        (50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065),
        (50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492),
        (50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977),
        (50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030),
        (50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535),
        (50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000),
        (50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000),
        (50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000),
        (50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000),
        (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
        (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
        (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
        (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
        (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
        (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
        (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
        (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
        (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
        (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
    ]
)


def random_colors(seed: int, number: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (number, 3)).astype(np.uint8)


def difference(a: Pixels, b: Pixels) -> NDArray[np.floating]:
    return ciede2000(lab_of_bytes(a), lab_of_bytes(b))


def colors_of(pixels: Pixels) -> set[tuple[int, ...]]:
    return {tuple(color) for color in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


def redrawn(picture: Picture, k: int, space: Space = "eye") -> Pixels:
    palette = learn_palette(picture, k, space=space)
    return palette.srgb[(labels_by_eye if space == "eye" else labels_by_rgb)(picture.pixels, palette)]


@pytest.fixture(scope="module")
def china() -> Picture:
    """A real photo of 640 x 427 pixels."""
    return Picture(load_sample_images().images[0])


# --- the difference


def test_the_published_pairs_differ_as_published() -> None:
    assert np.abs(ciede2000(SHARMA[:, :3], SHARMA[:, 3:6]) - SHARMA[:, 6]).max() < 1e-4


def test_the_difference_does_not_ask_which_colour_comes_first() -> None:
    assert np.allclose(ciede2000(SHARMA[:, :3], SHARMA[:, 3:6]), ciede2000(SHARMA[:, 3:6], SHARMA[:, :3]))


def test_colours_do_not_differ_from_themselves() -> None:
    colors = random_colors(0, 5000)
    assert not difference(colors, colors).any()


def test_the_matrix_product_is_near_the_square_of_small_differences() -> None:
    colors = random_colors(0, 20_000)
    others = (colors.astype(int) + np.random.default_rng(1).integers(-12, 13, colors.shape)).clip(0, 255)
    x, y = lab_of_bytes(colors), lab_of_bytes(others.astype(np.uint8))
    near = np.sqrt(np.maximum((left(x) * right(y)).sum(axis=1), 0))
    exact = ciede2000(x, y)
    assert np.quantile(np.abs(near - exact) / (exact + 1), 0.99) < 0.05


@pytest.mark.parametrize("reach", [2, 30, 255])
def test_the_difference_is_scikit_images(reach: int) -> None:
    color = pytest.importorskip("skimage.color", reason="scikit-image, which tells CIEDE2000, is not installed")
    colors = random_colors(0, 20_000)
    others = colors + np.random.default_rng(1).integers(-reach, reach + 1, colors.shape)
    x, y = lab_of_bytes(colors), lab_of_bytes(others.clip(0, 255).astype(np.uint8))
    exact = color.deltaE_ciede2000(x.astype(float), y.astype(float))
    off = np.abs(ciede2000(x.astype(float), y.astype(float)) - exact)
    assert np.quantile(off, 0.9) < 1e-9
    # It adds up hues in another order, which tells near half a turn.
    assert off.max() < 1e-3
    assert np.abs(ciede2000(x, y) - ciede2000(x.astype(float), y.astype(float))).max() < 1e-4


# --- labels


@pytest.mark.parametrize("k", [1, 2, 16, 256])
def test_each_pixel_gets_the_colour_that_differs_least(china: Picture, k: int) -> None:
    palette = learn_palette(china, k)
    pixels = china.pixels[::8, ::8].reshape(-1, 3)
    chosen = difference(pixels, palette.srgb[labels_by_eye(pixels, palette)])
    least = difference(pixels[:, None], palette.srgb[None]).min(axis=1)
    assert (chosen - least).max() < 1e-3


@pytest.mark.parametrize("k", [2, 8, 16, 64])
def test_of_a_learnt_palette_next_to_no_pixel_gets_another_colour(china: Picture, k: int) -> None:
    palette = learn_palette(china, k)
    exact, near = (labels_by_eye(china.pixels, palette, learnt=learnt) for learnt in (False, True))
    assert (exact != near).mean() < 1e-3
    errors = [difference(china.pixels, palette.srgb[labels]).mean() for labels in (exact, near)]
    assert errors[1] < errors[0] * 1.0001


def test_in_rgb_each_pixel_gets_the_nearest_levels() -> None:
    palette = Palette.of_bytes(random_colors(1, 40))
    pixels = random_colors(2, 4000)
    squares = ((pixels[:, None].astype(int) - palette.srgb[None].astype(int)) ** 2).sum(axis=2)
    assert np.array_equal(labels_by_rgb(pixels, palette), squares.argmin(axis=1))


@pytest.mark.parametrize("k", [1, 40, 256])
def test_the_colours_of_a_palette_are_their_own_labels(k: int) -> None:
    palette = Palette.of_bytes(random_colors(3, k))
    for labels in (labels_by_eye, labels_by_rgb):
        assert np.array_equal(labels(palette.srgb, palette), np.arange(len(palette)))


# --- palettes


@pytest.mark.parametrize("space", ["eye", "rgb"])
@pytest.mark.parametrize("median", [False, True])
def test_colours_move_to_the_means_of_what_is_nearest_to_them(space: Space, median: bool) -> None:
    rng = np.random.default_rng(0)
    # More than are compared at a time.
    levels, weights = rng.uniform(0, 255, (5000, 3)), rng.random(5000)
    points = _SPACES[space].points(levels, weights / weights.sum())
    colors = np.stack([points.at[start : start + 40] for start in (0, 40, 80)])
    moved = _moved(points, colors, median)
    for before, after in zip(colors, moved, strict=True):
        squared = points.squared(before).astype(float)
        label, least = squared.argmin(axis=0), squared.min(axis=0)
        pull = points.weights / np.sqrt(least + 0.3) if median else points.weights
        for color in range(40):
            mean = np.average(points.at[label == color], axis=0, weights=pull[label == color])
            assert after[color] == pytest.approx(mean, abs=1e-2)


def test_a_colour_that_nothing_is_nearest_to_stays() -> None:
    points = _SPACES["rgb"].points(np.array([[10.0, 10, 10], [20, 20, 20]]), np.array([0.5, 0.5]))
    colors = np.array([[[12, 12, 12], [255, 255, 255]]], np.float32)
    assert _moved(points, colors, False).tolist() == [[[15, 15, 15], [255, 255, 255]]]


@pytest.mark.parametrize("k", [4, 16, 64])
def test_a_photo_looks_more_like_itself_than_by_k_means_in_lab(china: Picture, k: int) -> None:
    ours = difference(china.pixels, redrawn(china, k)).mean()
    k_means = Palette.learn(*CellCounts.of_pixels(china.pixels).colors(), k, "kmeans")
    assert ours < 0.98 * difference(china.pixels, k_means.srgb[k_means.labels(china.pixels)]).mean()


@pytest.mark.parametrize("k", [4, 64])
def test_space_rgb_has_the_lower_error_of_levels(china: Picture, k: int) -> None:
    errors = [np.mean((china.pixels.astype(float) - redrawn(china, k, space)) ** 2) for space in ("rgb", "eye")]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("space", ["eye", "rgb"])
@pytest.mark.parametrize("k", [1, 2, 8, 100, 256])
def test_a_photo_gets_exactly_k_colours(k: int, space: Space) -> None:
    assert len(learn_palette(PHOTO, k, space=space)) == k


@pytest.mark.parametrize("k", [8, 64, 256])
def test_a_dull_photo_gets_k_colours_too(k: int) -> None:
    pixels = 100 + np.random.default_rng(0).normal(0, 1.5, (80, 80, 3))
    assert len(learn_palette(Picture(np.rint(pixels).astype(np.uint8)), k)) == k


@given(arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3))), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_no_picture_gets_more_than_k_colours(pixels: Pixels, k: int) -> None:
    assert len(colors_of(redrawn(Picture(pixels), k))) <= min(k, len(colors_of(pixels)))


@pytest.mark.parametrize("space", ["eye", "rgb"])
@pytest.mark.parametrize("k", [5, 8, 256])
def test_a_picture_of_no_more_than_k_colours_keeps_them_to_the_bit(k: int, space: Space) -> None:
    pixels = random_colors(4, 5)[np.random.default_rng(0).integers(0, 5, (20, 30))]
    assert np.array_equal(redrawn(Picture(pixels), k, space), pixels)


@pytest.mark.parametrize("space", ["eye", "rgb"])
@pytest.mark.parametrize("k", [1, 16, 100])
def test_quantizing_twice_changes_nothing(k: int, space: Space) -> None:
    once = redrawn(PHOTO, k, space)
    assert np.array_equal(redrawn(Picture(once), k, space), once)


def test_the_same_picture_gets_the_same_palette(china: Picture) -> None:
    assert learn_palette(china, 32).srgb.tobytes() == learn_palette(china, 32).srgb.tobytes()


def test_of_a_large_picture_all_colours_are_kept_however_rare() -> None:
    pixels = np.zeros((1000, 1000, 3), np.uint8)
    pixels[123, 456] = 200, 10, 10
    assert colors_of(learn_palette(Picture(pixels), 2).srgb) == {(0, 0, 0), (200, 10, 10)}


def test_transparent_pixels_do_not_count() -> None:
    pixels = np.concatenate([PHOTO.pixels, np.full_like(PHOTO.pixels, (255, 0, 255))])
    alpha = np.repeat(np.array([255, 127], np.uint8), len(PHOTO.pixels))[:, None].repeat(PHOTO.pixels.shape[1], axis=1)
    assert np.array_equal(learn_palette(Picture(pixels, alpha), 8).srgb, learn_palette(PHOTO, 8).srgb)


# --- accents


def sea_with_buoy() -> tuple[Picture, NDArray[np.bool_]]:
    """Waves from dark to light blue-grey, and a red buoy that covers half a percent."""
    rng = np.random.default_rng(0)
    waves = rng.normal(0, 6, (200, 300, 3)) + 70 * np.sin(np.arange(200) / 14)[:, None, None]
    pixels = np.rint(waves + np.array([90, 110, 130])).clip(0, 255).astype(np.uint8)
    buoy = np.zeros((200, 300), bool)
    buoy[100:115, 50:70] = True
    pixels[buoy] = np.rint(rng.normal((200, 40, 30), 8, (300, 3))).clip(0, 255)
    return Picture(pixels), buoy


@pytest.mark.parametrize("k", [2, 3, 8])
def test_a_red_buoy_on_the_sea_stays_red_if_accents_are_kept(k: int) -> None:
    picture, buoy = sea_with_buoy()
    kept = learn_palette(picture, k, keep_accents=True)
    drawn = kept.srgb[labels_by_eye(picture.pixels, kept)]
    assert len(kept) == k
    assert difference(drawn[buoy], np.array([200, 40, 30], np.uint8)).max() < 3


def test_of_three_colours_none_is_the_buoys_without() -> None:
    picture, buoy = sea_with_buoy()
    assert difference(redrawn(picture, 3)[buoy], np.array([200, 40, 30], np.uint8)).min() > 12


def test_where_nothing_stands_out_keeping_accents_changes_nothing() -> None:
    picture, buoy = sea_with_buoy()
    calm = Picture(np.where(buoy[..., None], np.uint8(110), picture.pixels))
    assert np.array_equal(learn_palette(calm, 8, keep_accents=True).srgb, learn_palette(calm, 8).srgb)


# --- what is refused


@pytest.mark.parametrize("k", [0, 257, -1])
def test_other_numbers_of_colours_are_refused(k: int) -> None:
    with pytest.raises(PaletteError, match="1 to 256 colours"):
        learn_palette(PHOTO, k)


def test_an_unknown_space_is_refused() -> None:
    with pytest.raises(PaletteError, match="no space 'hsv'"):
        learn_palette(PHOTO, 8, space="hsv")  # type: ignore[arg-type]


def test_a_wholly_transparent_picture_is_refused() -> None:
    with pytest.raises(PaletteError, match="wholly transparent"):
        learn_palette(Picture(PHOTO.pixels, np.zeros(PHOTO.pixels.shape[:2], np.uint8)), 8)
