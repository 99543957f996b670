"""Labels that rest where a film rests, and change where it moves."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from cbir.color import lab_of_levels
from cbir.errors import PaletteError
from cbir.palette import Palette, nearest
from cbir.steady import (
    MARGIN,
    MARGIN_OF_NOISE,
    PARTS,
    Flicker,
    LabelTable,
    SteadyLabels,
    SteadyLines,
    SteadyPicture,
    Stillness,
    noise,
)

U8 = NDArray[np.uint8]
RESTS, MOVES = np.zeros((40, 60), np.uint8), np.full((40, 60), 255, np.uint8)
GREYS = Palette.of_bytes(np.array([[0, 0, 0], [80, 80, 80], [160, 160, 160], [240, 240, 240]], np.uint8))


def grey(level: int) -> U8:
    return np.full((40, 60, 3), level, np.uint8)


def noisy(pixels: U8, sigma: float, frames: int) -> list[U8]:
    random = np.random.default_rng(0)
    return [
        np.rint(pixels + random.normal(0, sigma, pixels.shape)).clip(0, 255).astype(np.uint8) for _ in range(frames)
    ]


def random_palette(k: int) -> Palette:
    return Palette.of_bytes(np.random.default_rng(k).integers(0, 256, (k, 3)).astype(np.uint8))


# --- what rests and what moves


def test_of_the_first_frame_everything_moves() -> None:
    assert (Stillness().next(grey(9)) == 255).all()


def test_a_square_that_jumps_moves_where_it_was_and_where_it_is() -> None:
    stillness = Stillness()
    before, after = grey(100), grey(100)
    before[10:20, 10:20] = 200
    after[10:20, 40:50] = 200
    stillness.next(before)
    moved = stillness.next(after)
    assert (moved[11:19, 11:19] == 255).all()
    assert (moved[11:19, 41:49] == 255).all()
    assert (moved[25:] == 0).all()


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_the_noise_of_resting_frames_is_measured(sigma: float) -> None:
    a, b = noisy(np.full((200, 200, 3), 128, np.uint8), sigma, 2)
    assert noise(a, b) == pytest.approx(sigma * 2**0.5, rel=0.15)


def test_what_moves_in_up_to_three_quarters_of_a_frame_is_no_noise() -> None:
    a, b = noisy(np.full((200, 200, 3), 128, np.uint8), 1.0, 2)
    b[:, :100] = 220
    assert noise(a, b) < 4


def test_noise_does_not_move() -> None:
    stillness = Stillness()
    moved = [stillness.next(frame) for frame in noisy(np.full((200, 300, 3), 128, np.uint8), 4.0, 10)]
    assert np.mean([frame > 0 for frame in moved[1:]]) < 1e-4


# --- the average of what rests


def test_noise_is_averaged_away_where_the_film_rests() -> None:
    clean = np.full((100, 100, 3), 128, np.uint8)
    steady, stillness = SteadyPicture(), Stillness()
    for frame in noisy(clean, 4.0, 30):
        still, _ = steady.next(frame, stillness.next(frame), stillness.threshold)
    assert np.std(still.astype(float) - clean) < 1.6


def test_a_frame_that_moves_is_taken_as_it_is() -> None:
    steady = SteadyPicture()
    for _ in range(5):
        steady.next(grey(50), RESTS, 3.0)
    still, moved = steady.next(grey(200), MOVES, 3.0)
    assert (still == 200).all()
    assert (moved == 255).all()


def test_a_slow_fade_is_followed() -> None:
    steady = SteadyPicture()
    for level in range(50, 151):
        still, _ = steady.next(grey(level), RESTS, 3.0)
    assert abs(int(still.mean()) - 150) <= 4


# --- labels


@pytest.mark.parametrize("k", [1, 2, 16, 256])
def test_a_tables_labels_are_the_colours_nearest_to_the_middle_of_each_cell(k: int) -> None:
    table = LabelTable(random_palette(k))
    code = np.arange(1 << 16, dtype=np.uint16)
    cells = np.stack([code >> 11, code >> 5 & 63, code & 31], axis=-1)
    middle = lab_of_levels(np.minimum((cells + 0.5) * [8, 4, 8], 255))
    distance = np.linalg.norm(middle[:, None] - table.palette.lab, axis=2)
    labels = table.labels(code[None])[0]
    assert (distance[code, labels] - distance.min(axis=1)).max() < 1e-3
    other = np.random.default_rng(0).integers(0, k, len(code)).astype(np.uint8)
    excess = np.minimum((distance[code, other] - distance.min(axis=1)) * PARTS, 255)
    assert np.abs(table.excess(code, other) - excess).max() <= 0.51


def test_a_pixel_lies_in_the_cell_of_its_upper_bits() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3)).astype(np.uint8)
    red, green, blue = (pixels[..., i].astype(int) for i in range(3))
    cells = LabelTable(GREYS).cells(pixels)
    assert np.array_equal(cells, (red >> 3) * 2048 + (green >> 2) * 32 + (blue >> 3))


def test_the_cells_of_a_dark_film_tell_every_level_apart() -> None:
    levels = np.arange(4, 30, 2, dtype=np.uint8)
    colors = np.repeat(levels[:, None], 3, axis=1)
    palette = Palette.of_bytes(colors)
    low, high = np.full(3, 0, np.uint8), np.full(3, 31, np.uint8)
    table = LabelTable(palette, low, high)
    labels = table.labels(table.cells(table.stretched(colors[None])))[0]
    assert np.array_equal(palette.srgb[labels], colors)


def test_a_palette_of_more_than_256_colours_is_refused() -> None:
    with pytest.raises(PaletteError, match="256 colours, not 300"):
        LabelTable(Palette(np.random.default_rng(0).uniform(0, 90, (300, 3))))


def test_a_resting_pixel_keeps_its_colour_until_another_is_nearer_by_the_margin() -> None:
    table = LabelTable(GREYS)
    steady = SteadyLabels(table)
    assert (steady.next(grey(100), MOVES) == 1).all()
    # 124 is nearer to 160, by less than 6; 140 by more.
    assert (table.labels(table.cells(grey(124))) == 2).all()
    assert (steady.next(grey(124), RESTS, 6.0) == 1).all()
    assert (steady.next(grey(140), RESTS, 6.0) == 2).all()


def test_a_moving_pixel_gets_the_nearest_colour() -> None:
    steady = SteadyLabels(LabelTable(GREYS))
    steady.next(grey(100), MOVES)
    assert (steady.next(grey(124), MOVES) == 2).all()


@pytest.mark.parametrize("margin", [0.0, 2.0, 10.0])
def test_steady_labels_are_those_of_the_plain_rule(margin: float) -> None:
    palette = random_palette(16)
    table = LabelTable(palette)
    steady = SteadyLabels(table)
    random = np.random.default_rng(1)
    frames = noisy(random.integers(0, 256, (40, 60, 3)).astype(np.uint8), 12, 5)
    before = steady.next(frames[0], MOVES, margin).copy()
    for frame in frames[1:]:
        moved = np.where(random.random((40, 60)) < 0.3, np.uint8(255), np.uint8(0))
        cells = table.cells(frame).astype(int)
        middle = lab_of_levels(
            np.minimum((np.stack([cells >> 11, cells >> 5 & 63, cells & 31], axis=-1) + 0.5) * [8, 4, 8], 255)
        )
        distance = np.linalg.norm(middle[:, :, None] - palette.lab, axis=3)
        labels = nearest(middle.reshape(-1, 3), palette.lab)[1].reshape(40, 60)
        excess = np.take_along_axis(distance, before[..., None].astype(int), 2)[..., 0] - distance.min(axis=2)
        expected = np.where((moved == 0) & (excess <= margin), before, labels)
        got = steady.next(frame, moved, margin).copy()
        # Within the rounding to eighths either will do.
        assert ((got == expected) | (np.abs(excess - margin) <= 1 / PARTS)).all()
        before = got


# --- lines


def test_a_resting_line_does_not_blink() -> None:
    lines = SteadyLines()
    shown = []
    for i in range(20):
        averaged = lines.averaged(np.full((40, 60), 255 if i % 2 == 0 else 0, np.uint8), MOVES if i == 0 else RESTS)
        shown.append(bool(lines.next(averaged, MOVES if i == 0 else RESTS).all()))
    assert shown == [True] * 20


def test_a_moving_line_is_drawn_where_it_is_now() -> None:
    lines = SteadyLines()
    assert lines.next(lines.averaged(MOVES, MOVES), MOVES).all()
    assert not lines.next(lines.averaged(RESTS, MOVES), MOVES).any()


# --- flicker


def test_flicker_is_the_share_of_resting_pixels_that_change() -> None:
    flicker = Flicker()
    labels, moved = np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8)
    flicker.add(labels, moved)
    changed, moved = labels.copy(), moved.copy()
    changed[0, 0] = changed[1, 1] = 1
    moved[1] = 255
    flicker.add(changed, moved)
    assert flicker.share == 1 / 4


def test_a_cut_is_no_flicker() -> None:
    flicker = Flicker()
    flicker.add(np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8))
    flicker.cut()
    flicker.add(np.ones((2, 4), np.uint8), np.zeros((2, 4), np.uint8))
    assert flicker.share == 0


def test_a_still_photo_with_the_noise_of_a_sensor_flickers_a_hundred_times_less_than_its_nearest_colours() -> None:
    photo = load_sample_images().images[0][:240, :320]
    table = LabelTable(random_palette(16))
    stillness, picture, labels = Stillness(), SteadyPicture(), SteadyLabels(table)
    steady, plain = Flicker(), Flicker()
    for frame in noisy(photo, 4, 60):
        moved = stillness.next(frame)
        averaged, changed = picture.next(frame, moved, stillness.threshold)
        margin = MARGIN + MARGIN_OF_NOISE * stillness.sigma
        steady.add(labels.next(averaged, changed, margin), moved)
        plain.add(table.labels(table.cells(frame)), moved)
    assert steady.share < 0.001
    assert steady.share < plain.share / 100
