"""The rankings of others: each counts and measures as its published formula does, down to pictures of one pixel."""

import math
import tracemalloc

import cv2
import numpy as np
import pytest
from pictures import photo_pixels

from cbir.evaluation.rivals import (
    RIVALS,
    chi_squared,
    city_block,
    five_regions,
    hellinger,
    hsv_shares,
    rgb_shares,
    tutorial_regions,
    tutorial_whole,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
# Heights and widths; the tiny ones leave regions empty.
SIZES = [(1, 1), (1, 2), (2, 1), (1, 9), (9, 1), (2, 2), (3, 4), (17, 23), (40, 24)]

every_rival = pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
every_size = pytest.mark.parametrize("size", SIZES, ids=str)


def random_pixels(height: int, width: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def of_one_color(color, height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def channels_of(pixel) -> tuple[list[int], list[int]]:
    """One pixel's hue, saturation and value, with how many levels each has: OpenCV's hue goes up to 179."""
    return cv2.cvtColor(np.array([[pixel]], np.uint8), cv2.COLOR_RGB2HSV)[0, 0].tolist(), [180, 256, 256]


def counted(pixels, bins, channels=channels_of) -> list[float]:
    """How many of the pixels, one by one, fall in each bin, the last channel's bins fastest."""
    counts = [0.0] * math.prod(bins)
    for pixel in pixels:
        index = 0
        for level, levels, n in zip(*channels(pixel), bins, strict=True):
            index = index * n + level * n // levels
        counts[index] += 1
    return counts


def of_length_one(counts: list[float]) -> list[float]:
    length = math.sqrt(sum(count**2 for count in counts))
    return [count / length if length else 0.0 for count in counts]


def of_sum_one(counts: list[float]) -> list[float]:
    return [count / sum(counts) for count in counts]


def all_pixels(pixels: np.ndarray) -> list[list[int]]:
    return pixels.reshape(-1, 3).tolist()


def descriptors(rival, n: int, seed: int = 0) -> np.ndarray:
    return np.stack([rival.describe(photo_pixels(seed + i, (24, 18))) for i in range(n)])


# --- what they are


def test_the_rivals_are_these_with_descriptors_so_long():
    pixels = random_pixels(12, 16)
    assert {rival.name: rival.describe(pixels).shape for rival in RIVALS} == {
        "HSV 8x12x3, chi-squared, 5 regions": (1440,),
        "HSV 8x12x3, chi-squared": (288,),
        "HSV 1000 bins, Hellinger": (1000,),
        "RGB 8x8x8, L1": (512,),
    }


@every_rival
@every_size
def test_any_picture_has_a_descriptor_without_holes(rival, size):
    vector = rival.describe(random_pixels(*size))
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all() and vector.min() == 0 and vector.max() > 0


@every_rival
def test_a_view_is_described_as_its_copy_and_stays_as_it_is(rival):
    pixels = random_pixels(30, 40)
    view = pixels[::2, ::-1]
    before = view.copy()
    np.testing.assert_array_equal(rival.describe(view), rival.describe(before))
    np.testing.assert_array_equal(view, before)


# --- regions


@every_size
def test_the_five_regions_cover_the_picture_and_only_corners_overlap_in_the_middle_row_and_column(size):
    height, width = size
    masks = np.stack(list(five_regions(height, width)))
    assert masks.shape == (5, height, width) and masks.dtype == np.uint8
    assert set(np.unique(masks)) <= {0, 255}
    down, across = np.mgrid[:height, :width]
    shared = ((down == height // 2) | (across == width // 2)) & (masks[4] == 0)
    np.testing.assert_array_equal((masks == 255).sum(axis=0), np.where(shared, 2, 1))


def test_the_ellipse_is_three_quarters_as_wide_and_high_as_the_picture():
    ellipse = list(five_regions(200, 400))[4] == 255
    # A picture of 400 x 200 has its centre at (200, 100), and an ellipse of half axes 150 and 75.
    assert np.flatnonzero(ellipse[100]).tolist() == list(range(50, 351))
    assert np.flatnonzero(ellipse[:, 200]).tolist() == list(range(25, 176))
    down, across = np.mgrid[:200, :400]
    radius = np.hypot((across - 200) / 150, (down - 100) / 75)
    assert ellipse[radius < 0.98].all() and not ellipse[radius > 1.02].any()


def test_the_corners_come_clockwise_from_the_top_left_and_have_the_middle_row_and_column_in_common():
    # Of 5 x 7 pixels these are row 2 and column 3.
    top_left, top_right, bottom_right, bottom_left, ellipse = (mask == 255 for mask in five_regions(5, 7))
    down, across = np.mgrid[:5, :7]
    np.testing.assert_array_equal(top_left, (down <= 2) & (across <= 3) & ~ellipse)
    np.testing.assert_array_equal(top_right, (down <= 2) & (across >= 3) & ~ellipse)
    np.testing.assert_array_equal(bottom_right, (down >= 2) & (across >= 3) & ~ellipse)
    np.testing.assert_array_equal(bottom_left, (down >= 2) & (across <= 3) & ~ellipse)


# --- descriptors, counted pixel by pixel


@every_size
def test_the_tutorials_regions_are_counted_apart_and_brought_to_length_one(size):
    height, width = size
    pixels = random_pixels(height, width)
    ellipse = np.zeros(size, np.uint8)
    axes = (int(width * 0.75) // 2, int(height * 0.75) // 2)
    cv2.ellipse(ellipse, (int(width * 0.5), int(height * 0.5)), axes, 0, 0, 360, 255, -1)
    regions = [[], [], [], [], []]
    for row in range(height):
        for column in range(width):
            upper, lower = row <= int(height * 0.5), row >= int(height * 0.5)
            left, right = column <= int(width * 0.5), column >= int(width * 0.5)
            corners = [upper and left, upper and right, lower and right, lower and left, False]
            within = [False] * 4 + [True] if ellipse[row, column] else corners
            for region in np.flatnonzero(within):
                regions[region].append(pixels[row, column].tolist())
    expected = [amount for region in regions for amount in of_length_one(counted(region, (8, 12, 3)))]
    np.testing.assert_allclose(tutorial_regions(pixels), expected, rtol=1e-6)


@every_size
def test_the_tutorials_whole_picture_is_counted_and_brought_to_length_one(size):
    pixels = random_pixels(*size)
    expected = of_length_one(counted(all_pixels(pixels), (8, 12, 3)))
    np.testing.assert_allclose(tutorial_whole(pixels), expected, rtol=1e-6)


@every_size
def test_the_thousand_hsv_bins_are_counted_as_shares(size):
    pixels = random_pixels(*size)
    expected = of_sum_one(counted(all_pixels(pixels), (20, 10, 5)))
    np.testing.assert_allclose(hsv_shares(pixels), expected, rtol=1e-6)


@every_size
def test_the_rgb_bins_are_counted_as_shares(size):
    pixels = random_pixels(*size)
    expected = of_sum_one(counted(all_pixels(pixels), (8, 8, 8), lambda pixel: (pixel, [256] * 3)))
    np.testing.assert_allclose(rgb_shares(pixels), expected, rtol=1e-6)


def test_every_level_is_in_its_bin():
    # All greys, and full colours all around the circle: each value and each hue there is, at the bins' edges too.
    greys = [[level] * 3 for level in range(256)]
    circle = cv2.cvtColor(np.array([[[hue, 255, 255] for hue in range(180)]], np.uint8), cv2.COLOR_HSV2RGB)
    colors = np.array([greys + circle[0].tolist()], np.uint8)
    np.testing.assert_allclose(hsv_shares(colors), of_sum_one(counted(all_pixels(colors), (20, 10, 5))), rtol=1e-6)
    np.testing.assert_allclose(
        tutorial_whole(colors), of_length_one(counted(all_pixels(colors), (8, 12, 3))), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("color", "of_288", "of_1000", "of_512"),
    [
        # Hue 0, saturation 255, value 255: bins (0, 11, 2) and (0, 9, 4).
        (RED, 0 * 36 + 11 * 3 + 2, 0 * 50 + 9 * 5 + 4, 7 * 64),
        # Hue 60 of 180: bins (2, 11, 2) and (6, 9, 4).
        (GREEN, 2 * 36 + 11 * 3 + 2, 6 * 50 + 9 * 5 + 4, 7 * 8),
        # Hue 120 of 180: bins (5, 11, 2) and (13, 9, 4).
        (BLUE, 5 * 36 + 11 * 3 + 2, 13 * 50 + 9 * 5 + 4, 7),
        # Grey has hue 0 and saturation 0; 128 of 256 is in the middle: bins (0, 0, 1), (0, 0, 2) and (4, 4, 4).
        ((128, 128, 128), 1, 2, 4 * 64 + 4 * 8 + 4),
    ],
    ids=["red", "green", "blue", "grey"],
)
def test_a_picture_of_one_colour_is_all_in_one_bin(color, of_288, of_1000, of_512):
    pixels = of_one_color(color)
    for vector, bins in [
        (tutorial_regions(pixels), [region * 288 + of_288 for region in range(5)]),
        (tutorial_whole(pixels), [of_288]),
        (hsv_shares(pixels), [of_1000]),
        (rgb_shares(pixels), [of_512]),
    ]:
        assert np.flatnonzero(vector).tolist() == bins
        np.testing.assert_allclose(vector[bins], 1, rtol=1e-6)


def test_three_reds_and_four_blues_are_three_and_four_fifths_of_length_one_but_sevenths_as_shares():
    pixels = np.array([[RED] * 3 + [BLUE] * 4], np.uint8)
    whole, shares = tutorial_whole(pixels), rgb_shares(pixels)
    assert whole[whole > 0].tolist() == pytest.approx([3 / 5, 4 / 5])
    # Blue is the lowest channel of the bins' number, red the highest.
    assert shares[shares > 0].tolist() == pytest.approx([4 / 7, 3 / 7])


def test_the_regions_alone_tell_where_a_colour_is():
    red_left = of_one_color(BLUE, 200, 300)
    red_left[:, :150] = RED
    red_right = red_left[:, ::-1]
    regions, *others = (rival.distances(*[rival.describe(p)[None] for p in (red_left, red_right)]) for rival in RIVALS)
    # Each corner has but the middle column in common with its mirror image, which is about 1; the ellipse has all.
    assert regions == pytest.approx(4, abs=0.1)
    assert np.max(others) < 1e-6


def test_a_region_without_pixels_is_all_zeros():
    # One pixel is all ellipse.
    vector = tutorial_regions(np.array([[RED]], np.uint8))
    assert np.flatnonzero(vector).tolist() == [4 * 288 + 35]


# --- distances, by the written formulas


def tutorial_chi_squared(a, b) -> float:
    return 0.5 * sum((x - y) ** 2 / (x + y + 1e-10) for x, y in zip(a, b, strict=True))


def written_hellinger(a, b) -> float:
    return math.sqrt(0.5 * sum((math.sqrt(x) - math.sqrt(y)) ** 2 for x, y in zip(a, b, strict=True)))


def written_city_block(a, b) -> float:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True))


FORMULAS = [(chi_squared, tutorial_chi_squared), (hellinger, written_hellinger), (city_block, written_city_block)]


@every_rival
def test_distances_are_what_the_formula_gives_pair_by_pair(rival):
    formula = dict(FORMULAS)[rival.distances]
    a, b = descriptors(rival, 4), descriptors(rival, 7, seed=100)
    expected = [[formula(x, y) for y in b.tolist()] for x in a.tolist()]
    np.testing.assert_allclose(rival.distances(a, b), expected, rtol=1e-5, atol=1e-7)


@every_rival
def test_distances_are_symmetric_and_zero_only_between_equals(rival):
    a = descriptors(rival, 6)
    distances = rival.distances(a, a.copy())
    np.testing.assert_array_equal(distances, distances.T)
    np.testing.assert_array_equal(distances == 0, np.eye(6, dtype=bool))
    assert distances.min() == 0


def test_distances_between_pictures_without_a_common_colour():
    apart = np.eye(2, dtype=np.float32)
    # 1/2 (1 + 1), the root of that, and 1 + 1; nothing in common is as far as it gets for shares.
    assert chi_squared(apart[:1], apart).tolist() == [[0, 1]]
    assert hellinger(apart[:1], apart).tolist() == pytest.approx(np.array([[0, 1]]))
    assert city_block(apart[:1], apart).tolist() == [[0, 2]]


def test_distances_worked_by_hand():
    a, b = np.array([[0.25, 0.75, 0]], np.float32), np.array([[0.25, 0.25, 0.5]], np.float32)
    assert chi_squared(a, b) == pytest.approx(0.5 * (0.25 / 1 + 0.25 / 0.5))
    assert hellinger(a, b) == pytest.approx(math.sqrt(0.5 * ((math.sqrt(0.75) - 0.5) ** 2 + 0.5)))
    assert city_block(a, b) == 1


def test_hellinger_is_opencvs_bhattacharyya_distance():
    a, b = hsv_shares(photo_pixels(1)), hsv_shares(photo_pixels(2))
    assert hellinger(a[None], b[None]) == pytest.approx(cv2.compareHist(a, b, cv2.HISTCMP_BHATTACHARYYA), abs=1e-6)


def test_the_city_block_distance_is_twice_what_histogram_intersection_lacks_to_one():
    a, b = rgb_shares(photo_pixels(1)), rgb_shares(photo_pixels(3))
    assert city_block(a[None], b[None]) == pytest.approx(2 * (1 - np.minimum(a, b).sum()), abs=1e-6)


@every_rival
def test_pictures_of_one_pixel_can_be_compared(rival):
    pixels = [np.array([[color]], np.uint8) for color in (RED, BLUE, RED)]
    vectors = np.stack([rival.describe(picture) for picture in pixels])
    from_red = rival.distances(vectors[:1], vectors)[0]
    assert from_red[0] == from_red[2] == 0 and from_red[1] >= 0.999


@every_rival
def test_read_only_descriptors_are_compared_like_others(rival):
    a = descriptors(rival, 3)
    frozen = a.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(rival.distances(frozen, frozen[:2]), rival.distances(a, a[:2]))


@every_rival
def test_distances_are_measured_without_holding_all_the_differences(rival):
    a, b = np.full((40, 1000), 0.001, np.float32), np.full((200, 1000), 0.001, np.float32)
    rival.distances(a[:1], b[:1])
    tracemalloc.start()
    rival.distances(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All the differences would be 32 MB; the two of them in float64, and their roots, are 3 MB.
    assert peak < 8e6
