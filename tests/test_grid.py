"""Counting colours in a grid: every picture weighs the same, transparent pixels count by their share."""

from collections import defaultdict

import numpy as np
import pytest

from cbir.color import lab_of_bytes
from cbir.grid import CellCounts, ColorGrid

RNG = np.random.default_rng(2)
CELL = 4  # levels


@pytest.fixture(autouse=True)
def same_random_numbers_alone_or_after_others():
    RNG.bit_generator.state = np.random.default_rng(2).bit_generator.state


def picture(height: int, width: int) -> np.ndarray:
    """Random colours over a tenth of the cube's side, so that pixels share cells."""
    return RNG.integers(0, 256, 3).astype(np.uint8) // 2 + RNG.integers(0, 25, (height, width, 3)).astype(np.uint8)


def cell_of(rgb) -> tuple[int, ...]:
    return tuple(int(level) // CELL for level in rgb)


def counted_plainly(pictures) -> dict:
    """For each cell its weight and its weighted sums of levels, pixel by pixel."""
    total = defaultdict(lambda: np.zeros(4))
    for pixels, alpha in pictures:
        shares = np.ones(pixels.shape[:2]) if alpha is None else alpha / 255
        if shares.sum() == 0:
            continue
        for rgb, share in zip(pixels.reshape(-1, 3).tolist(), shares.ravel() / shares.sum(), strict=True):
            if share:
                total[cell_of(rgb)] += [share, *(share * np.array(rgb))]
    return total


def by_cell(counts: CellCounts) -> dict:
    # Half a level more keeps a mean such as 7.9999999 in its own cell, which reaches from 8 to 11.
    means = counts.levels / counts.weights[:, None] + 0.5
    return {
        cell_of(mean): np.array([weight, *level])
        for mean, weight, level in zip(means, counts.weights, counts.levels, strict=True)
    }


def assert_counts(counts: CellCounts, reference: dict) -> None:
    found = by_cell(counts)
    assert found.keys() == reference.keys() and len(found) == len(counts.cells)
    for cell, sums in reference.items():
        np.testing.assert_allclose(found[cell], sums, rtol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 23), (300, 400)])
def test_weights_sum_to_one_whatever_the_pictures_size(size):
    counts = CellCounts.of_pixels(picture(*size))
    assert counts.weights.sum() == pytest.approx(1, abs=1e-12)


def test_a_picture_tiled_to_four_times_the_size_counts_the_same():
    small = picture(40, 30)
    alpha = RNG.integers(0, 256, (40, 30)).astype(np.uint8)
    for once, tiled in [
        (CellCounts.of_pixels(small), CellCounts.of_pixels(np.tile(small, (2, 2, 1)))),
        (CellCounts.of_pixels(small, alpha), CellCounts.of_pixels(np.tile(small, (2, 2, 1)), np.tile(alpha, (2, 2)))),
    ]:
        np.testing.assert_array_equal(once.cells, tiled.cells)
        np.testing.assert_allclose(once.weights, tiled.weights, rtol=1e-12)
        np.testing.assert_allclose(once.levels, tiled.levels, rtol=1e-12)


def test_only_occupied_cells_are_kept_in_ascending_order():
    counts = CellCounts.of_pixels(RNG.integers(0, 256, (50, 60, 3)).astype(np.uint8))
    assert (np.diff(counts.cells) > 0).all()
    assert (counts.weights > 0).all()
    assert (counts.cells.dtype, counts.weights.dtype, counts.levels.dtype) == (np.int64, np.float64, np.float64)
    assert counts.levels.shape == (len(counts.cells), 3)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_colours_share_a_cell_of_four_levels_in_each_channel(channel):
    pixels = np.zeros((1, 256, 3), np.uint8)
    pixels[0, :, channel] = np.arange(256)
    counts = CellCounts.of_pixels(pixels)
    assert len(counts.cells) == 64
    np.testing.assert_allclose(counts.weights, 1 / 64)
    np.testing.assert_allclose((counts.levels / counts.weights[:, None])[:, channel], np.arange(64) * CELL + 1.5)


def test_one_picture_counts_as_pixel_by_pixel():
    pixels = picture(30, 40)
    assert_counts(CellCounts.of_pixels(pixels), counted_plainly([(pixels, None)]))


def test_a_view_that_is_not_contiguous_counts_as_its_copy():
    view = picture(60, 80)[::2, ::-3]
    assert_counts(CellCounts.of_pixels(view), counted_plainly([(view, None)]))


def test_the_grid_of_several_pictures_is_the_sum_of_all_pixel_by_pixel():
    pictures = [(picture(h, w), None) for h, w in [(1, 1), (20, 30), (5, 50)]]
    pictures += [(picture(20, 20), RNG.integers(0, 256, (20, 20)).astype(np.uint8))]
    pictures += [(pictures[1][0], None)]  # one twice
    grid = ColorGrid()
    for pixels, alpha in pictures:
        grid.add(CellCounts.of_pixels(pixels, alpha))
    total = grid.total()
    assert total.weights.sum() == pytest.approx(len(pictures))
    assert (np.diff(total.cells) > 0).all()
    assert_counts(total, counted_plainly(pictures))


def test_an_empty_grid_has_no_cells():
    total = ColorGrid().total()
    assert (len(total.cells), len(total.weights), total.levels.shape) == (0, 0, (0, 3))


def test_total_tells_what_was_added_so_far_and_stays_as_it_was():
    grid = ColorGrid()
    grid.add(CellCounts.of_pixels(np.full((2, 2, 3), 10, np.uint8)))
    before = grid.total()
    grid.add(CellCounts.of_pixels(np.full((2, 2, 3), 10, np.uint8)))
    assert (before.weights.tolist(), grid.total().weights.tolist()) == ([1.0], [2.0])


def test_fully_transparent_pixels_count_nothing():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    counts = CellCounts.of_pixels(pixels, np.array([[255, 0, 255]], np.uint8))
    assert set(by_cell(counts)) == {cell_of([255, 0, 0]), cell_of([0, 0, 255])}
    assert counts.weights.tolist() == [0.5, 0.5]


def test_half_transparent_pixels_count_by_their_share():
    pixels = np.array([[[200, 0, 0], [202, 0, 0], [0, 200, 0]]], np.uint8)
    found = by_cell(CellCounts.of_pixels(pixels, np.array([[100, 50, 200]], np.uint8)))
    np.testing.assert_allclose(found[cell_of([200, 0, 0])], [150 / 350, (200 * 100 + 202 * 50) / 350, 0, 0])
    np.testing.assert_allclose(found[cell_of([0, 200, 0])], [200 / 350, 0, 200 * 200 / 350, 0])


@pytest.mark.parametrize("alpha", [1, 7, 254, 255])
def test_a_picture_at_one_transparency_counts_as_if_it_were_opaque(alpha):
    pixels = picture(20, 20)
    assert_counts(CellCounts.of_pixels(pixels, np.full((20, 20), alpha, np.uint8)), counted_plainly([(pixels, None)]))


def test_a_wholly_transparent_picture_has_no_cells_and_adds_nothing_to_a_grid():
    counts = CellCounts.of_pixels(picture(4, 4), np.zeros((4, 4), np.uint8))
    assert (len(counts.cells), len(counts.weights), counts.levels.shape) == (0, 0, (0, 3))
    grid = ColorGrid()
    grid.add(counts)
    assert len(grid.total().cells) == 0


def test_the_mean_colour_of_a_cell_lies_inside_the_cell():
    counts = CellCounts.of_pixels(RNG.integers(0, 256, (100, 100, 3)).astype(np.uint8))
    means = counts.levels / counts.weights[:, None]
    offset = (means + 1e-9) % CELL
    assert offset.max() <= CELL - 1 + 1e-6
    assert len({cell_of(mean + 0.5) for mean in means}) == len(counts.cells)


def test_the_colour_of_a_cell_of_one_colour_is_that_colour():
    srgb = np.array([[10, 20, 30], [200, 100, 50], [255, 255, 255]], np.uint8)
    lab, weights = CellCounts.of_pixels(srgb[[0, 1, 1, 2]][None]).colors()
    assert lab.dtype == np.float32
    order = np.argsort(lab[:, 0])
    np.testing.assert_allclose(lab[order], lab_of_bytes(srgb), atol=1e-3)
    assert weights[order].tolist() == [0.25, 0.5, 0.25]


def test_the_colour_of_a_cell_is_the_weighted_mean_of_its_colours():
    shades = np.array([[100, 40, 40]] * 3 + [[103, 43, 43]], np.uint8)[None]
    lab, _ = CellCounts.of_pixels(shades).colors()
    # Over 3 levels L*a*b* is all but a straight line.
    np.testing.assert_allclose(lab, lab_of_bytes(shades[0]).mean(axis=0, keepdims=True), atol=0.05)
