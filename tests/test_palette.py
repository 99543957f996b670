"""The palette: what is learnt from weighted colours, and that every pixel gets the label of its nearest colour."""

import pickle
from functools import cache

import numpy as np
import pytest
from skimage.color import rgb2lab
from sklearn.datasets import load_sample_images
from threadpoolctl import threadpool_limits

from cbir.color import bytes_of_codes, bytes_of_lab, lab_of_bytes
from cbir.errors import PaletteError
from cbir.grid import CellCounts, ColorGrid
from cbir.histogram import count_labels
from cbir.palette import MAX_COLORS, Palette, nearest, nearest_index

RNG = np.random.default_rng(4)
ALGORITHMS = ["minibatch", "kmeans"]


@pytest.fixture(autouse=True)
def same_random_numbers_alone_or_after_others():
    RNG.bit_generator.state = np.random.default_rng(4).bit_generator.state


@cache
def photos() -> tuple[np.ndarray, ...]:
    """The two photos that come with scikit-learn, a temple and a flower, 427 x 640 each."""
    return tuple(np.asarray(image) for image in load_sample_images().images)


@cache
def colors_of_photos() -> tuple[np.ndarray, np.ndarray]:
    grid = ColorGrid()
    for photo in photos():
        grid.add(CellCounts.of_pixels(photo))
    return grid.total().colors()


@cache
def learnt(k: int, algorithm: str = "minibatch") -> Palette:
    return Palette.learn(*colors_of_photos(), k, algorithm)


def random_points(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lab = lab_of_bytes(rng.integers(0, 256, (n, 3)).astype(np.uint8))
    return lab, rng.uniform(0.1, 5, n)


def random_palette(k: int, seed: int = 0) -> Palette:
    """Colours that are no pixel's own, as learnt ones are."""
    rng = np.random.default_rng(seed)
    return Palette(lab_of_bytes(rng.integers(0, 256, (k, 3)).astype(np.uint8)) + rng.normal(0, 0.3, (k, 3)))


def squared_distances(points: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """(n, k) float64. Its rounding, about 1e-10, is far below that of float32."""
    points, colors = points.astype(np.float64), colors.astype(np.float64)
    return (points**2).sum(axis=1)[:, None] - 2 * points @ colors.T + (colors**2).sum(axis=1)


def nearest_in_float64(srgb: np.ndarray, palette: Palette) -> np.ndarray:
    """The nearest palette colour of every pixel, each compared with all of them; by scikit-image's L*a*b*."""
    points = rgb2lab(srgb.reshape(1, -1, 3))[0]
    chunks = [points[start : start + 20_000] for start in range(0, len(points), 20_000)]
    return np.concatenate([squared_distances(chunk, palette.lab).argmin(axis=1) for chunk in chunks])


# --- the order of the colours


def test_colours_are_ordered_by_lightness():
    palette = random_palette(100)
    assert (np.diff(palette.lab[:, 0]) >= 0).all()


def test_colours_of_one_lightness_are_ordered_by_hue():
    around = np.deg2rad([150, -170, 10, -20, 80])
    colors = np.stack([np.full(5, 50), 30 * np.cos(around), 30 * np.sin(around)], axis=1)
    palette = Palette([[60, -30, 0], *colors, [40, 0, 30]])
    hues = np.rad2deg(np.arctan2(palette.lab[:, 2], palette.lab[:, 1]))
    assert palette.lab[[0, -1], 0].tolist() == [40, 60]
    np.testing.assert_allclose(hues[1:-1], [-170, -20, 10, 80, 150], atol=1e-3)


def test_a_palette_is_the_same_in_whichever_order_its_colours_are_given():
    colors = np.concatenate([random_palette(50).lab, [[50, 10, 10], [50, -10, 10], [50, -10, -10]]])
    for _ in range(5):
        assert Palette(RNG.permutation(colors)).lab.tobytes() == Palette(colors).lab.tobytes()


def test_a_palette_holds_what_it_was_given_as_float32():
    palette = Palette([[50, 1, 2], [20, 3, 4]])
    assert palette.lab.dtype == np.float32
    assert palette.lab.tolist() == [[20, 3, 4], [50, 1, 2]]
    assert len(palette) == 2


def test_a_palette_does_not_change_with_the_array_it_was_made_of():
    colors = np.array([[20, 3, 4], [50, 1, 2]], np.float32)
    palette = Palette(colors)
    colors[:] = 0
    assert palette.lab.tolist() == [[20, 3, 4], [50, 1, 2]]


def test_the_srgb_colours_are_those_of_the_lab_colours():
    srgb = np.unique(RNG.integers(0, 256, (30, 3)).astype(np.uint8), axis=0)
    palette = Palette.of_bytes(srgb)
    assert palette.srgb.dtype == np.uint8
    np.testing.assert_array_equal(np.unique(palette.srgb, axis=0), srgb)
    np.testing.assert_array_equal(palette.srgb, bytes_of_lab(palette.lab))


def test_a_palette_of_bytes_keeps_each_colour_once():
    palette = Palette.of_bytes(np.array([[9, 9, 9], [255, 0, 0], [9, 9, 9], [0, 0, 0]], np.uint8))
    assert palette.srgb.tolist() == [[0, 0, 0], [9, 9, 9], [255, 0, 0]]


def test_a_palette_that_was_not_learnt_has_no_error():
    palette = random_palette(4)
    assert np.isnan([palette.mean_error, palette.p95_error]).all()


@pytest.mark.parametrize(
    "colors",
    [
        np.zeros((0, 3)),
        np.zeros((MAX_COLORS + 1, 3)),
        np.zeros((4, 4)),
        np.zeros(3),
        np.zeros((2, 2, 3)),
        5,
        [[np.nan, 0, 0]],
        [[50, np.inf, 0]],
        [[50, 0, 0], [50, 0, -np.inf]],
    ],
    ids=["none", "too many", "four columns", "1-D", "3-D", "scalar", "nan", "inf", "-inf"],
)
def test_what_is_no_palette_is_refused(colors):
    with pytest.raises(PaletteError):
        Palette(colors)


def test_the_largest_palette_is_allowed():
    assert len(random_palette(MAX_COLORS)) == 1024


# --- learning


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_input_gives_the_same_bytes_on_any_number_of_threads(algorithm):
    points, weights = random_points(3000)
    palettes = []
    for threads in (1, 2, 2):
        with threadpool_limits(threads):
            palettes.append(Palette.learn(points.copy(), weights.copy(), 32, algorithm))
    first = palettes[0]
    for other in palettes[1:]:
        assert other.lab.tobytes() == first.lab.tobytes()
        assert (other.mean_error, other.p95_error) == (first.mean_error, first.p95_error)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("k", [1, 2, 37])
def test_as_many_colours_are_learnt_as_asked(algorithm, k):
    assert len(Palette.learn(*random_points(2000), k, algorithm)) == k


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_palette_of_one_colour_is_the_weighted_mean(algorithm):
    points, weights = random_points(500)
    palette = Palette.learn(points, weights, 1, algorithm)
    np.testing.assert_allclose(palette.lab[0], np.average(points, axis=0, weights=weights), atol=1e-3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_clusters_that_lie_apart_are_found_with_their_weighted_means(algorithm):
    centers = np.array([[20, 0, 0], [50, 60, 40], [50, -60, 40], [80, 0, -60]], np.float32)
    points = (centers[:, None] + RNG.normal(0, 1, (4, 200, 3))).astype(np.float32)
    weights = RNG.uniform(0.5, 2, (4, 200))
    palette = Palette.learn(points.reshape(-1, 3), weights.ravel(), 4, algorithm)
    means = Palette([np.average(p, axis=0, weights=w) for p, w in zip(points, weights, strict=True)])
    np.testing.assert_allclose(palette.lab, means.lab, atol=0.01)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_scale_of_the_weights_does_not_matter(algorithm):
    points, weights = random_points(1000)
    one, other = (Palette.learn(points, weights * factor, 16, algorithm) for factor in (1.0, 2.0**-30))
    np.testing.assert_array_equal(one.lab, other.lab)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n", [1, 15, 16], ids=["one", "one fewer than asked", "just as many"])
def test_where_there_are_no_more_colours_than_asked_the_palette_is_just_these(algorithm, n):
    colors = random_points(n)[0]
    points = RNG.permutation(np.concatenate([colors, colors[: n // 2]]))
    palette = Palette.learn(points, np.ones(len(points)), 16, algorithm)
    np.testing.assert_array_equal(palette.lab, Palette(colors).lab)
    assert (palette.mean_error, palette.p95_error) == (0, 0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_colours_that_come_after_many_equal_ones_are_learnt_too(algorithm):
    black, others = np.zeros((1000, 3), np.float32), random_points(10)[0]
    points = np.concatenate([black, others])
    assert len(Palette.learn(points, np.ones(1010), 16, algorithm)) == 11
    assert len(Palette.learn(points, np.ones(1010), 8, algorithm)) == 8


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_few_colours_that_come_thousands_of_times_are_still_the_whole_palette():
    colors = random_points(3)[0]
    palette = Palette.learn(np.tile(colors, (2000, 1)), np.ones(6000), 16)
    np.testing.assert_array_equal(palette.lab, Palette(colors).lab)


def test_the_errors_are_zero_only_where_the_palette_has_every_colour():
    points, weights = random_points(17)
    assert Palette.learn(points, weights, 17).mean_error == 0
    assert Palette.learn(points, weights, 16).mean_error > 0


@pytest.mark.parametrize("k", [1, 16, 200])
def test_the_mean_error_is_the_weighted_mean_distance_to_the_nearest_colour(k):
    points, weights = random_points(3000)
    palette = Palette.learn(points, weights, k)
    distance = np.sqrt(np.maximum(squared_distances(points, palette.lab).min(axis=1), 0))
    assert palette.mean_error == pytest.approx((distance * weights).sum() / weights.sum(), rel=1e-5)


@pytest.mark.parametrize("k", [1, 16, 200])
def test_95_percent_of_the_weight_lies_within_the_p95_error(k):
    points, weights = random_points(3000)
    palette = Palette.learn(points, weights, k)
    distance = np.sqrt(np.maximum(squared_distances(points, palette.lab).min(axis=1), 0))
    share = weights / weights.sum()
    # float32 distances, so the one that is the quantile may be off in its last bits.
    assert share[distance <= palette.p95_error * (1 + 1e-5)].sum() >= 0.95
    assert share[distance < palette.p95_error * (1 - 1e-5)].sum() <= 0.95


@pytest.mark.parametrize("k", [16, 64])
def test_minibatch_has_a_mean_error_within_two_percent_of_kmeans_on_photos(k):
    assert learnt(k).mean_error <= 1.02 * learnt(k, "kmeans").mean_error


def test_a_palette_can_be_measured_on_other_colours_than_it_was_learnt_from():
    palette = Palette([[20, 0, 0], [80, 0, 0]])
    points = np.array([[20, 3, 4], [80, 0, 0], [90, 0, 0]], np.float32)
    palette.measure(points, np.array([1.0, 2.0, 1.0]))
    assert (palette.mean_error, palette.p95_error) == ((5 + 2 * 0 + 10) / 4, 10)


def test_more_colours_have_a_smaller_error_on_photos():
    errors = [learnt(k).mean_error for k in (16, 64, 256)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("k", [0, -1, MAX_COLORS + 1])
def test_a_number_of_colours_out_of_range_is_refused(k):
    with pytest.raises(PaletteError, match=str(MAX_COLORS)):
        Palette.learn(*random_points(2000), k)


def test_learning_from_no_colours_is_refused():
    with pytest.raises(PaletteError):
        Palette.learn(np.zeros((0, 3), np.float32), np.zeros(0), 8)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n", [5, 500], ids=["few", "many"])
def test_learning_from_colours_that_are_no_numbers_is_refused(algorithm, n):
    points, weights = random_points(n)
    points[3, 1] = np.nan
    with pytest.raises(PaletteError):
        Palette.learn(points, weights, 8, algorithm)


@pytest.mark.parametrize("weight", [0, -1, np.nan, np.inf])
@pytest.mark.parametrize("n", [5, 500], ids=["few", "many"])
def test_a_weight_that_is_no_finite_number_above_zero_is_refused(n, weight):
    points, weights = random_points(n)
    weights[3] = weight
    with pytest.raises(PaletteError):
        Palette.learn(points, weights, 8)


# --- the nearest colour


def lattice(n: int) -> np.ndarray:
    """Whole numbers, on which all arithmetic is exact and distances often tie."""
    return RNG.integers(0, 4, (n, 3)).astype(np.float32)


def test_the_nearest_colour_is_found_and_ties_go_to_the_lower_index():
    points, colors = lattice(2000), lattice(60)
    squared = ((points[:, None] - colors[None]) ** 2).sum(axis=-1)
    assert ((squared == squared.min(axis=1, keepdims=True)).sum(axis=1) > 1).mean() > 0.3
    distance, index = nearest(points, colors)
    np.testing.assert_array_equal(index, squared.argmin(axis=1))
    np.testing.assert_allclose(distance, np.sqrt(squared.min(axis=1)), rtol=1e-6)


def between(colors: np.ndarray, n: int) -> np.ndarray:
    """Points that are all but equally near to two of the colours."""
    pairs = colors[RNG.integers(0, len(colors), (2, n))]
    return (pairs.mean(axis=0) + RNG.normal(0, 1e-4, (n, 3))).astype(np.float32)


SHADES = (random_palette(1).lab + RNG.normal(0, 0.01, (100, 3))).astype(np.float32)


@pytest.mark.parametrize(
    ("points", "colors"),
    [
        (random_points(5000)[0], random_palette(1).lab),
        (random_points(5000)[0], random_palette(256).lab),
        (random_points(5000)[0], np.repeat(random_palette(20).lab, 3, axis=0)),
        (random_points(5000)[0], SHADES),
        (lattice(5000), lattice(60)),
        (between(random_palette(12).lab, 5000), random_palette(12).lab),
        (random_palette(300).lab, random_palette(300).lab),
    ],
    ids=["one colour", "256 colours", "each thrice", "shades", "lattice", "half-way", "the colours"],
)
def test_the_fast_search_for_the_nearest_colour_finds_the_same_index(points, colors):
    np.testing.assert_array_equal(nearest_index(points, colors), nearest(points, colors)[1])


def test_a_colour_that_a_palette_has_twice_gets_the_lower_label():
    colors = lab_of_bytes(np.array([[10, 10, 10], [200, 0, 0], [200, 0, 0], [200, 0, 0]], np.uint8))
    palette = Palette(colors)
    first = int(np.flatnonzero((palette.lab == colors[1]).all(axis=1))[0])
    assert palette.labels(np.array([[200, 0, 0], [210, 5, 5]], np.uint8)).tolist() == [first, first]


@pytest.mark.parametrize("k", [1, 2, 64, 1024])
def test_labels_are_the_nearest_colours_of_a_random_picture(k):
    picture = RNG.integers(0, 256, (100, 120, 3)).astype(np.uint8)
    palette = random_palette(k)
    labels = palette.labels(picture)
    assert labels.dtype == np.uint16 and labels.shape == (100, 120)
    squared = squared_distances(rgb2lab(picture).reshape(-1, 3), palette.lab)
    chosen = np.sqrt(squared[np.arange(len(squared)), labels.ravel()])
    # scikit-image's L*a*b* lies up to 0.005 away, which can move either distance by as much; all others are exact.
    assert (chosen - np.sqrt(squared.min(axis=1))).max() < 0.01
    assert (labels.ravel() != squared.argmin(axis=1)).mean() < 0.002


def test_labels_are_exact_for_colours_of_the_whole_cube():
    step = 127  # odd, so that all levels of all channels come
    srgb = bytes_of_codes(np.arange(0, 1 << 24, step, dtype=np.uint32))
    palette = learnt(64)
    squared = squared_distances(lab_of_bytes(srgb), palette.lab)
    chosen = squared[np.arange(len(squared)), palette.labels(srgb)]
    # Measured in the same L*a*b*, what is left is the rounding of float32 sums of squares.
    assert (chosen <= squared.min(axis=1) * (1 + 1e-5) + 1e-6).all()


@pytest.mark.parametrize("k", [64, 256])
@pytest.mark.parametrize("number", [0, 1], ids=["temple", "flower"])
def test_a_photos_histogram_is_that_of_its_nearest_colours_pixel_by_pixel(number, k):
    photo, palette = photos()[number], learnt(k)
    labels, reference = palette.labels(photo).ravel(), nearest_in_float64(photo, palette)
    np.testing.assert_array_equal(count_labels(labels, k), np.bincount(labels, minlength=k) / len(labels))
    # Where they choose differently, both are all but equally near: the two L*a*b* formulas are up to 0.005 apart.
    other = np.flatnonzero(labels != reference)
    points = rgb2lab(photo.reshape(1, -1, 3))[0][other]
    ours, theirs = (np.linalg.norm(points - palette.lab[one[other]], axis=1) for one in (labels, reference))
    assert (ours <= theirs + 0.01).all()
    # Measured: 10 to 215 pixels of 273,280, by the palette that a processor's rounding leads to.
    assert len(other) <= 0.001 * len(labels)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (50, 3), (5, 6, 3), (0, 6, 3), (2, 3, 4, 3)])
def test_labels_have_the_shape_of_the_pixels(shape):
    palette = random_palette(8)
    pixels = RNG.integers(0, 256, shape).astype(np.uint8)
    labels = palette.labels(pixels)
    assert labels.shape == shape[:-1] and labels.dtype == np.uint16
    each = [int(palette.labels(pixel[None])[0]) for pixel in pixels.reshape(-1, 3)]
    assert labels.ravel().tolist() == each


def test_labels_of_a_view_are_those_of_its_pixels():
    palette = random_palette(32)
    picture = RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    for view in (picture[::2, ::-1], picture.transpose(1, 0, 2), picture[..., ::-1]):
        np.testing.assert_array_equal(palette.labels(view), random_palette(32).labels(view.copy()))


def test_the_pixels_stay_as_they_were():
    picture = RNG.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    before = picture.copy()
    random_palette(8).labels(picture)
    np.testing.assert_array_equal(picture, before)


def test_asking_again_gives_the_same_labels_also_after_the_first_answer_was_overwritten():
    palette, photo = random_palette(64), photos()[1]
    first = palette.labels(photo)
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(palette.labels(photo), kept)


def test_labels_do_not_depend_on_what_was_asked_before():
    temple, flower = photos()
    fresh, used, piecewise = (Palette(learnt(64).lab) for _ in range(3))
    used.labels(temple)
    used.labels(RNG.integers(0, 256, (600, 600, 3)).astype(np.uint8))
    expected = fresh.labels(flower)
    np.testing.assert_array_equal(used.labels(flower), expected)
    np.testing.assert_array_equal(np.concatenate([piecewise.labels(row[None]) for row in flower]), expected)


def test_more_new_colours_at_once_than_one_chunk_holds_get_the_same_labels():
    srgb = bytes_of_codes(RNG.permutation(1 << 24)[: 3 * (1 << 18) + 5].astype(np.uint32))
    at_once, by_parts = random_palette(16), random_palette(16)
    parts = np.concatenate([by_parts.labels(part) for part in np.array_split(srgb, 10)])
    np.testing.assert_array_equal(at_once.labels(srgb), parts)


# --- pickling


def test_a_pickled_palette_leaves_its_table_behind_and_labels_the_same():
    palette, picture = learnt(64), photos()[0]
    labels = palette.labels(picture)
    data = pickle.dumps(palette)
    assert len(data) < 10_000  # the table alone has 32 MiB
    back = pickle.loads(data)
    assert back.lab.tobytes() == palette.lab.tobytes()
    assert (back.mean_error, back.p95_error) == (palette.mean_error, palette.p95_error)
    np.testing.assert_array_equal(back.labels(picture), labels)
    np.testing.assert_array_equal(palette.labels(picture), labels)


def test_the_repr_tells_size_and_errors():
    assert (
        repr(Palette([[50, 0, 0], [60, 0, 0]], 1.234, 5.678)) == "Palette(2 colours, mean error 1.23, 95 % below 5.68)"
    )
