"""Redrawing in a style: what is smoothed, where ink runs, which specks go, and how many colours are left."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pictures import photo_pixels
from sklearn.datasets import load_sample_images

from cbir.color import lab_of_bytes
from cbir.errors import PaletteError
from cbir.eye import learn_palette
from cbir.palette import Palette
from cbir.pixels import Picture
from cbir.styles import INK, STYLES, Drawn, Style, lines, prepared, redraw, smoothed, stepped, tidied, without_specks

FLAT, DARKLY, POSTER, INKED = (STYLES[name] for name in ("flat", "darkly", "poster", "ink"))
CHINA = np.ascontiguousarray(load_sample_images().images[0])
BLACK_AND_WHITE = Palette.of_bytes(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))


def drawn_in(style: Style, pixels: NDArray[np.uint8], k: int) -> Drawn:
    palette = style.own_palette(k) or learn_palette(Picture(prepared(pixels, style)), style.palette_size(k))
    return redraw(pixels, palette, style)


def colors_of(pixels: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return {tuple(color) for color in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


def step_edge(dark: int, light: int, height: int = 720, width: int = 960) -> NDArray[np.uint8]:
    """A picture dark on its left half and light on its right."""
    pixels = np.full((height, width, 3), dark, np.uint8)
    pixels[:, width // 2 :] = light
    return pixels


def noisy(pixels: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, sigma, pixels.shape)
    return np.rint(np.clip(pixels + noise, 0, 255)).astype(np.uint8)


# --- how many colours


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
def test_a_photo_in_a_style_has_as_many_colours_as_that_style_has(style: Style) -> None:
    drawn = drawn_in(style, CHINA, style.colors)
    assert len(colors_of(drawn.pixels)) == len(drawn.colors) == style.colors


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
@pytest.mark.parametrize("k", [2, 3, 24])
def test_a_photo_never_has_more_colours_than_asked_and_all_that_are_told_are_used(style: Style, k: int) -> None:
    drawn = drawn_in(style, CHINA[:200, :300], k)
    assert len(colors_of(drawn.pixels)) == len(drawn.colors) <= k


def test_lines_take_one_of_the_colours() -> None:
    assert [DARKLY.palette_size(16), POSTER.palette_size(16), FLAT.palette_size(16)] == [15, 16, 16]
    assert replace(DARKLY, line=0.0).palette_size(16) == 16


def test_lines_need_a_colour_to_be_drawn_on() -> None:
    with pytest.raises(PaletteError, match="2 at least, not 1"):
        DARKLY.palette_size(1)


def test_ink_that_the_palette_has_too_is_one_colour() -> None:
    palette = Palette.of_bytes(np.array([INK, [90, 90, 90], [220, 220, 220]], np.uint8))
    drawn = redraw(step_edge(90, 220), palette, DARKLY)
    assert colors_of(drawn.pixels) == {(18, 16, 20), (90, 90, 90), (220, 220, 220)}
    assert len(drawn.colors) == 3


def test_lines_can_be_drawn_in_another_ink() -> None:
    palette = Palette.of_bytes(np.array([[90, 90, 90], [220, 220, 220]], np.uint8))
    drawn = redraw(step_edge(90, 220), palette, DARKLY, ink=np.array([0, 0, 200], np.uint8))
    assert colors_of(drawn.pixels) == {(0, 0, 200), (90, 90, 90), (220, 220, 220)}


# --- drawing again


@given(arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3))), st.integers(1, 20))
@settings(max_examples=40)
def test_a_flat_picture_redrawn_flat_is_itself(pixels: NDArray[np.uint8], k: int) -> None:
    once = drawn_in(FLAT, pixels, k).pixels
    assert np.array_equal(drawn_in(FLAT, once, k).pixels, once)


@pytest.mark.parametrize("style", [DARKLY, POSTER, INKED], ids=lambda style: style.name)
def test_a_picture_in_any_style_redrawn_flat_is_itself(style: Style) -> None:
    once = drawn_in(style, CHINA, style.colors).pixels
    assert np.array_equal(drawn_in(FLAT, once, style.colors).pixels, once)


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
def test_a_picture_of_one_colour_is_the_same_in_each_style(style: Style) -> None:
    even = np.full((90, 120, 3), 200, np.uint8)
    once = redraw(even, Palette.of_bytes(prepared(even, style)), style).pixels
    assert len(colors_of(once)) == 1
    assert style is INKED or np.abs(once.astype(int) - 200).max() <= 255 / 12


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
def test_a_photo_is_always_drawn_alike(style: Style) -> None:
    first, second = (drawn_in(style, CHINA[:150, :200], 6) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels)


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (5, 4), (2, 3000)])
def test_pictures_of_any_shape_keep_it(style: Style, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert drawn_in(style, pixels, 4).pixels.shape == pixels.shape


# --- flat


def test_flat_gives_each_pixel_the_nearest_colour() -> None:
    pixels = photo_pixels(1)
    palette = learn_palette(Picture(pixels), 5)
    distance = np.linalg.norm(lab_of_bytes(pixels)[..., None, :] - lab_of_bytes(palette.srgb), axis=-1)
    assert np.array_equal(redraw(pixels, palette, FLAT).pixels, palette.srgb[distance.argmin(axis=-1)])


# --- smoothing


def test_no_strength_leaves_a_picture_as_it_is() -> None:
    assert np.array_equal(smoothed(CHINA, replace(DARKLY, strength=0.0)), CHINA)


def test_noise_is_smoothed_away_and_an_edge_stays_where_and_as_sharp_as_it_was() -> None:
    smooth = smoothed(noisy(step_edge(60, 180), 6), DARKLY).astype(float)
    assert smooth[50:-50, 50:430].std() < 1.5
    assert smooth[50:-50, :478].max() < 90
    assert smooth[50:-50, 482:].min() > 150


def test_the_stronger_the_smoother() -> None:
    roughness = [
        np.abs(np.diff(smoothed(CHINA, replace(DARKLY, strength=s)).astype(int), axis=1)).mean()
        for s in (0.0, 0.2, 0.5, 1.0)
    ]
    assert roughness == sorted(roughness, reverse=True)


def test_steps_draw_levels_together_and_keep_their_order() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    after = stepped(ramp, replace(DARKLY, levels=5))[0, :, 0].astype(int)
    assert (np.diff(after) >= 0).all()
    assert after[[0, 51, 102, 153, 204, 255]].tolist() == [0, 51, 102, 153, 204, 255]
    from_steps = np.abs(after - np.rint(np.arange(256) / 51) * 51).mean()
    assert from_steps < 0.75 * np.abs(np.arange(256) - np.rint(np.arange(256) / 51) * 51).mean()


def test_without_levels_lightness_has_no_steps() -> None:
    assert np.array_equal(stepped(CHINA, replace(DARKLY, levels=0)), CHINA)


# --- lines


def test_a_line_runs_along_the_dark_side_of_an_edge() -> None:
    inked = lines(step_edge(60, 180), DARKLY)
    columns = np.flatnonzero(inked.any(axis=0))
    assert inked[:, columns].all()
    assert 3 <= len(columns) <= 5
    assert columns[0] >= 475
    assert columns[-1] < 481


def test_a_heavier_line_is_wider() -> None:
    widths = [lines(step_edge(60, 180), replace(DARKLY, line=weight)).sum() / 720 for weight in (1, 2, 4)]
    assert widths[0] * 1.5 < widths[1] < widths[2] / 1.5


def test_a_line_is_as_wide_in_proportion_in_a_larger_picture() -> None:
    small, large = (lines(step_edge(60, 180, 720 * n, 960 * n), DARKLY).mean() for n in (1, 2))
    assert large == pytest.approx(small, rel=0.2)


def test_no_weight_draws_no_lines() -> None:
    assert not lines(step_edge(0, 255), replace(DARKLY, line=0.0)).any()


@pytest.mark.parametrize("level", [30, 128, 220])
def test_noise_on_an_even_picture_gets_no_lines(level: int) -> None:
    assert not lines(noisy(np.full((720, 960, 3), level, np.uint8), 6), DARKLY).any()


def test_a_dark_point_gets_no_line_and_a_dark_hair_does() -> None:
    pixels = np.full((720, 960, 3), 200, np.uint8)
    pixels[100:103, 100:103] = 40
    pixels[300:303, 200:700] = 40
    inked = lines(pixels, DARKLY)
    assert not inked[80:120].any()
    assert inked[301, 210:690].all()


# --- ink


def test_ink_is_black_on_white() -> None:
    assert colors_of(drawn_in(INKED, CHINA, 2).pixels) == {(0, 0, 0), (255, 255, 255)}


def test_inks_greys_are_even_steps_from_black_to_white() -> None:
    palette = INKED.own_palette(5)
    assert palette is not None
    assert palette.lab[:, 0] == pytest.approx([0, 25, 50, 75, 100], abs=0.5)


def test_an_edge_between_two_lights_is_a_line_on_white_paper() -> None:
    drawn = redraw(step_edge(140, 220), BLACK_AND_WHITE, INKED).pixels[..., 0]
    columns = np.flatnonzero((drawn == 0).any(axis=0))
    assert 1 <= len(columns) <= 6
    assert abs(columns.mean() - 479) < 4


def test_what_is_lit_at_night_is_paper_though_it_would_be_ink_by_day() -> None:
    pixels = np.full((720, 960, 3), 20, np.uint8)
    pixels[320:400, 420:540] = 60
    drawn = redraw(pixels, BLACK_AND_WHITE, INKED).pixels[..., 0]
    assert (drawn[330:390, 430:530] == 255).all()
    assert (drawn[:300] == 0).all()
    assert (drawn[:, :400] == 0).all()


def test_what_is_as_dark_as_that_in_daylight_is_ink() -> None:
    pixels = np.full((720, 960, 3), 200, np.uint8)
    pixels[300:420, 400:560] = 60
    drawn = redraw(pixels, BLACK_AND_WHITE, INKED).pixels[..., 0]
    assert (drawn[305:415, 405:555] == 0).all()


# --- specks


def test_a_speck_goes_to_the_neighbour_with_the_longest_border() -> None:
    labels = np.array(
        [
            [1, 1, 1, 2, 2],
            [1, 1, 7, 2, 2],
            [1, 1, 7, 2, 2],
            [1, 1, 1, 2, 2],
        ],
        np.uint16,
    )
    # The 7s touch four 1s: two on the left, one above, one below; and two 2s.
    assert without_specks(labels, 3).tolist() == np.where(labels == 7, 1, labels).tolist()


def test_areas_that_are_as_large_as_the_smallest_stay() -> None:
    labels = np.array([[1, 1, 1, 7, 7, 2, 2, 2]], np.uint16)
    assert without_specks(labels, 2).tolist() == labels.tolist()
    assert without_specks(labels, 2.5).tolist() == [[1, 1, 1, 1, 1, 2, 2, 2]]


def test_areas_that_touch_at_a_corner_only_are_two() -> None:
    labels = np.array([[5, 1, 1], [1, 5, 1], [1, 1, 1]], np.uint16)
    assert without_specks(labels, 2).tolist() == [[1, 1, 1]] * 3


def test_specks_of_specks_end_in_one_area() -> None:
    labels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert len(np.unique(without_specks(labels, 100))) == 1


LABELS = arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3))


@given(LABELS, st.integers(0, 12))
@settings(max_examples=150)
def test_specks_are_merged_as_the_plain_way_does(labels: NDArray[np.uint16], smallest: int) -> None:
    assert without_specks(labels, smallest).tolist() == plainly_without_specks(labels.tolist(), smallest)


@given(LABELS, st.integers(0, 12))
@settings(max_examples=50)
def test_no_speck_is_left_and_doing_it_again_changes_nothing(labels: NDArray[np.uint16], smallest: int) -> None:
    once = without_specks(labels, smallest)
    sizes = [len(area) for area in plain_areas(once.tolist())]
    assert len(sizes) == 1 or min(sizes) >= smallest
    assert np.array_equal(without_specks(once, smallest), once)


def plain_areas(labels: list[list[int]]) -> list[list[tuple[int, int]]]:
    """The pixels (row, column) of each connected area, in the order of their first ones."""
    seen: set[tuple[int, int]] = set()
    areas = []
    for pixel in ((row, column) for row in range(len(labels)) for column in range(len(labels[0]))):
        if pixel in seen:
            continue
        area, ahead = [], [pixel]
        seen.add(pixel)
        while ahead:
            here = ahead.pop()
            area.append(here)
            for there in plain_neighbours(here, labels):
                if there not in seen and labels[there[0]][there[1]] == labels[here[0]][here[1]]:
                    seen.add(there)
                    ahead.append(there)
        areas.append(area)
    return areas


def plain_neighbours(pixel: tuple[int, int], labels: list[list[int]]) -> list[tuple[int, int]]:
    row, column = pixel
    around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    return [(r, c) for r, c in around if 0 <= r < len(labels) and 0 <= c < len(labels[0])]


def plainly_without_specks(labels: list[list[int]], smallest: int) -> list[list[int]]:
    while True:
        areas = plain_areas(labels)
        if len(areas) == 1 or min(len(area) for area in areas) >= smallest:
            return labels
        number = {pixel: n for n, area in enumerate(areas) for pixel in area}
        target = {}
        for n, area in enumerate(areas):
            touching = [number[there] for pixel in area for there in plain_neighbours(pixel, labels)]
            larger = [m for m in touching if (len(areas[m]), m) > (len(area), n)]
            if len(area) < smallest and larger:
                target[n] = min(set(larger), key=lambda m, larger=larger: (-larger.count(m), m))
        labels = [list(row) for row in labels]
        before = [labels[area[0][0]][area[0][1]] for area in areas]
        for n, area in enumerate(areas):
            end = n
            while end in target:
                end = target[end]
            for row, column in area:
                labels[row][column] = before[end]


def test_a_style_without_specks_tidies_nothing() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (30, 40)).astype(np.uint16)
    assert np.array_equal(tidied(labels, FLAT), labels)


def test_specks_of_a_style_are_in_proportion_to_the_picture() -> None:
    style = replace(POSTER, speck=100)
    for side, kept in ((720, False), (360, True)):
        labels = np.zeros((side, side), np.uint16)
        labels[100:109, 100:109] = 3
        assert (tidied(labels, style) == 3).any() == kept


# --- settings that are refused


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"strength": 1.5}, "strength is 0 to 1, not 1.5"),
        ({"strength": float("nan")}, "strength is 0 to 1, not nan"),
        ({"line": -1}, "line weight is 0 to 4, not -1"),
        ({"speck": 1e9}, "speck size is 0 to 10,000, not 1e"),
        ({"levels": 33}, "lightness levels is 0 to 32, not 33"),
    ],
)
def test_settings_out_of_range_are_refused_in_a_line(setting: dict[str, float], message: str) -> None:
    with pytest.raises(PaletteError, match=message):
        replace(DARKLY, **setting)
