"""Amounts: a histogram is the share of each label, and is summed up in main colours."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbir.color import lab_of_bytes
from cbir.histogram import count_labels, main_colors

RNG = np.random.default_rng(3)
deterministic = settings(derandomize=True, deadline=None, max_examples=150)


@pytest.fixture(autouse=True)
def same_random_numbers_alone_or_after_others():
    RNG.bit_generator.state = np.random.default_rng(3).bit_generator.state


def shares_of(amounts) -> np.ndarray:
    amounts = np.asarray(amounts, np.float64)
    return amounts / amounts.sum()


def random_amounts(k: int, seed: int, power: float) -> np.ndarray:
    """From even (power 0) to a few giants among dust (power 40)."""
    return np.random.default_rng(seed).uniform(1e-3, 1, k) ** power


amounts = st.one_of(
    st.builds(random_amounts, st.integers(1, 300), st.integers(0, 1000), st.sampled_from([0, 1, 5, 40])),
    st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40).filter(lambda x: sum(x) > 1e-3),
    st.lists(st.integers(0, 5), min_size=1, max_size=300).filter(any),
)


# --- counting


@pytest.mark.parametrize("with_alpha", [False, True], ids=["opaque", "alpha"])
def test_the_histogram_is_what_counting_pixel_by_pixel_gives(with_alpha):
    labels = RNG.integers(0, 10, (17, 23)).astype(np.uint16)
    alpha = RNG.choice([0, 1, 100, 255], (17, 23)).astype(np.uint8)
    amount = [0.0] * 12
    for row in range(17):
        for column in range(23):
            amount[labels[row, column]] += alpha[row, column] / 255 if with_alpha else 1
    histogram = count_labels(labels, 12, alpha if with_alpha else None)
    assert histogram.shape == (12,) and histogram.dtype == np.float64
    np.testing.assert_allclose(histogram, shares_of(amount), rtol=1e-12)


def test_labels_that_no_pixel_has_get_zero():
    assert count_labels(np.array([[2, 2], [4, 2]], np.uint16), 6).tolist() == [0, 0, 0.75, 0, 0.25, 0]


@pytest.mark.parametrize("alpha", [1, 128, 255])
def test_one_transparency_all_over_changes_nothing(alpha):
    labels = RNG.integers(0, 5, (9, 9)).astype(np.uint16)
    np.testing.assert_allclose(count_labels(labels, 5, np.full((9, 9), alpha, np.uint8)), count_labels(labels, 5))


def test_a_view_counts_as_its_copy():
    labels = RNG.integers(0, 5, (20, 20)).astype(np.uint16)[::2, ::-1]
    alpha = RNG.integers(0, 256, (20, 20)).astype(np.uint8)[1::2]
    np.testing.assert_array_equal(count_labels(labels, 5, alpha), count_labels(labels.copy(), 5, alpha.copy()))


def test_a_wholly_transparent_picture_has_no_histogram():
    with pytest.raises(ValueError, match="transparent"):
        count_labels(np.zeros((3, 3), np.uint16), 4, np.zeros((3, 3), np.uint8))


# --- main colours

RED, BLUE = [200, 30, 30], [20, 40, 200]


def lab(*colors) -> np.ndarray:
    return lab_of_bytes(np.array(colors, np.uint8))


def test_a_picture_of_two_colours_has_these_two():
    swatches = main_colors(np.array([0.0, 0.3, 0.7, 0.0]), lab([0, 0, 0], RED, BLUE, [255, 255, 255]))
    assert [(swatch.srgb.tolist(), round(swatch.share, 12)) for swatch in swatches] == [(BLUE, 0.7), (RED, 0.3)]


def test_shades_of_one_colour_are_merged_into_one_swatch():
    reds = [[200, 30, 30], [205, 35, 32], [195, 28, 30]]
    swatches = main_colors(np.array([0.2, 0.2, 0.15, 0.45]), lab(*reds, BLUE))
    assert [round(swatch.share, 12) for swatch in swatches] == [0.55, 0.45]
    red, blue = (swatch.srgb for swatch in swatches)
    assert (np.abs(red - np.array(RED, int)) <= 5).all()
    assert blue.tolist() == BLUE


def test_a_swatch_is_the_mean_of_its_shades_weighted_by_amount():
    greys = lab([100, 100, 100], [120, 120, 120])
    mostly_dark = main_colors(np.array([0.9, 0.1]), greys)[0].srgb
    assert mostly_dark.tolist() == [102, 102, 102]


def test_colours_that_differ_clearly_are_kept_apart():
    white_to_black = lab(*[[level] * 3 for level in (0, 64, 128, 192, 255)])
    assert [swatch.share for swatch in main_colors(np.full(5, 0.2), white_to_black)] == [0.2] * 5


def test_no_more_swatches_are_given_than_asked_and_their_shares_are_of_the_whole():
    colors = lab(RED, BLUE, [30, 200, 30], [250, 250, 30])
    swatches = main_colors(np.array([4, 3, 2, 1]), colors, n=2)
    assert [swatch.srgb.tolist() for swatch in swatches] == [RED, BLUE]
    assert [swatch.share for swatch in swatches] == [0.4, 0.3]


@deterministic
@given(amounts, st.integers(0, 100), st.integers(1, 8))
def test_swatches_descend_and_sum_to_at_most_one(amounts, seed, n):
    colors = lab_of_bytes(np.random.default_rng(seed).integers(0, 256, (len(amounts), 3)).astype(np.uint8))
    swatches = main_colors(np.array(amounts), colors, n)
    shares = [swatch.share for swatch in swatches]
    assert 1 <= len(swatches) <= n
    assert shares == sorted(shares, reverse=True) and shares[-1] > 0
    assert math.fsum(shares) <= 1 + 1e-12
    # The largest bin is never left out, and takes in at least itself.
    assert shares[0] >= shares_of(amounts).max() - 1e-12


def test_amounts_in_any_unit_have_the_main_colours_of_the_shares():
    pixels, colors = np.array([500, 250, 250]), lab(RED, BLUE, [30, 200, 30])
    for of_pixels, of_shares in zip(main_colors(pixels, colors), main_colors(pixels / 1000, colors), strict=True):
        assert of_pixels.srgb.tolist() == of_shares.srgb.tolist()
        assert of_pixels.share == of_shares.share
