"""The space of a metric: one block-diagonal quadratic form between descriptors, and vectors that are as far apart."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_codes import one_color, random_codes, random_palette, random_photo
from scipy.linalg import block_diag
from threadpoolctl import threadpool_limits

from cbir.descriptor import DESCRIPTORS, GLOBAL, SPATIAL, Descriptor
from cbir.errors import CbirError, MetricError
from cbir.metric import DEFAULT, DEFAULT_WEIGHTS, QBIC, Metric
from cbir.similarity import SIMILARITIES, color_distances
from cbir.space import Space

deterministic = settings(derandomize=True, deadline=None, max_examples=20)
CASES = [
    pytest.param(descriptor, Metric.parse(text), id=f"{descriptor.name}-{text}")
    for descriptor, texts in {
        SPATIAL: [
            *("cbir", "qbic", "sqrt-laplacian:10", "gaussian", "cbir:5,centre=2,top=0", "cbir,whole=3,busy=0"),
            *("laplacian:10,power=0.05,spread=1,whole=0.5,smooth=3", "gaussian:200,centred=1,whole=0,centre=1"),
        ],
        GLOBAL: ["cbir", "qbic", "qbic,centred=1,spread=20", "sqrt-laplacian:10", "gaussian", "gaussian:40,power=0.5"],
    }.items()
    for text in texts
]
each_case = pytest.mark.parametrize(("descriptor", "metric"), CASES)
each_descriptor = pytest.mark.parametrize("descriptor", DESCRIPTORS.values(), ids=DESCRIPTORS)
EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On a busy machine, two threads wait for each other a hundred times longer than these small products take."""
    with threadpool_limits(1):
        yield


# --- the distance, written out


class Plain:
    """The quadratic form over all histograms of two photos, laid end to end, by its definition."""

    def __init__(self, metric: Metric, lab, descriptor: Descriptor, reference) -> None:
        self.metric, self.descriptor, self.k = metric, descriptor, len(lab)
        self.weights = dict(DEFAULT_WEIGHTS[descriptor.name] if metric.weights is None else metric.weights)
        apart = color_distances(lab)
        A = SIMILARITIES[metric.similarity](apart, metric.reach)
        total = sum(self.weights.values())
        self.B = block_diag(*[weight / total * A for weight in self.weights.values()])
        near = np.eye(self.k)
        if metric.spread:
            near = np.where(apart <= 11 * metric.spread, np.exp(-((apart / metric.spread) ** 2) / 2), 0)
        self.S = near / near.sum(axis=1, keepdims=True)
        self.mean = 0.0
        if metric.centred and len({codes.tobytes() for codes in reference}) >= 8:
            self.mean = np.mean([self.powers(codes) for codes in reference], axis=0)

    def powers(self, codes) -> np.ndarray:
        """The histograms that have a weight, end to end, each spread over near colours and raised to the power."""
        shares = {
            name: (part / 255) ** 2
            for name, part in zip(self.descriptor.blocks, codes.astype(np.float64).reshape(-1, self.k), strict=True)
        }
        for area in self.descriptor.areas:
            total = sum(shares[name].sum() for name in area)
            for name in area:
                shares[name] = shares[name] / (total or 1)
        shares["whole"] = np.sum([shares[name] for name in self.descriptor.areas[0]], axis=0)
        return np.concatenate([(shares[name] @ self.S) ** self.metric.power for name in self.weights])

    def prepared(self, codes) -> np.ndarray:
        x = self.powers(codes)
        if not self.metric.centred:
            return x
        length = math.sqrt((x - self.mean) @ self.B @ (x - self.mean))
        return (x - self.mean) / length if length else x - self.mean

    def distance(self, h, g) -> float:
        difference = self.prepared(h) - self.prepared(g)
        return math.sqrt(max(difference @ self.B @ difference, 0.0))

    def doubt(self, h, g) -> float:
        """The root of what rounding makes of a squared distance that is zero, or of a length.

        A squared distance is a sum of products of up to |B| |x|^2, rounded to float64 each, so it is off by some
        n |B| eps |x|^2, n being the length of x; where it is zero its root is off by the root of that.
        """
        size = np.linalg.norm(self.prepared(h)) + np.linalg.norm(self.prepared(g))
        return math.sqrt(8 * len(self.B) * np.linalg.norm(self.B) * EPS) * size


def drawn(seed: int, k: int, descriptor: Descriptor, metric: Metric, n: int = 4):
    """A space over a random palette, the plain form over it, and n random photos that are not its reference."""
    rng = np.random.default_rng(seed)
    lab, reference = random_palette(k, rng), random_codes(9, k, descriptor, rng)
    # Never all alike, so that the mean is none of them.
    reference = np.concatenate([reference, [one_color(i, k, descriptor) for i in range(min(k, 2))]])
    photos = random_codes(n, k, descriptor, rng)
    return Space(metric, lab, descriptor, reference), Plain(metric, lab, descriptor, reference), photos


def pairs(photos):
    return [(h, g) for i, h in enumerate(photos) for g in photos[:i]]


@each_case
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(2, 9))
def test_the_distance_is_the_full_quadratic_form_over_all_histograms(descriptor, metric, seed, k):
    space, plain, photos = drawn(seed, k, descriptor, metric)
    for h, g in pairs(photos):
        assert space.distance(h, g) == pytest.approx(plain.distance(h, g), rel=1e-6, abs=plain.doubt(h, g))


@each_case
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(2, 9))
def test_the_embedded_vectors_are_as_far_apart(descriptor, metric, seed, k):
    space, plain, photos = drawn(seed, k, descriptor, metric)
    vectors = space.embed(photos)
    for i, j in zip(*np.triu_indices(len(photos), 1), strict=True):
        assert np.linalg.norm(vectors[i] - vectors[j]) == pytest.approx(
            space.distance(photos[i], photos[j]), rel=1e-6, abs=plain.doubt(photos[i], photos[j])
        )


@each_case
def test_so_they_are_at_the_size_that_is_used(descriptor, metric):
    space, plain, photos = drawn(0, 64, descriptor, metric, n=12)
    vectors = space.embed(photos)
    for i, j in zip(*np.triu_indices(len(photos), 1), strict=True):
        expected = pytest.approx(plain.distance(photos[i], photos[j]), rel=1e-6, abs=plain.doubt(photos[i], photos[j]))
        assert space.distance(photos[i], photos[j]) == expected
        assert np.linalg.norm(vectors[i] - vectors[j]) == expected


@each_case
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(2, 9))
def test_the_distance_is_a_metric(descriptor, metric, seed, k):
    space, plain, (h, g, f) = drawn(seed, k, descriptor, metric, n=3)
    h_g, g_f, h_f = space.distance(h, g), space.distance(g, f), space.distance(h, f)
    assert all(math.isfinite(d) and d >= 0 for d in (h_g, g_f, h_f))
    assert space.distance(g, h) == h_g
    assert [space.distance(x, x.copy()) for x in (h, g, f)] == [0, 0, 0]
    assert h_f <= h_g + g_f + 3 * max(plain.doubt(x, y) for x, y in pairs((h, g, f)))


@each_case
def test_photos_of_different_colours_are_apart(descriptor, metric):
    black_and_white = Space(metric, np.array([[0, 0, 0], [100, 0, 0]], np.float32), descriptor, no_photos(descriptor))
    assert black_and_white.distance(one_color(0, 2, descriptor), one_color(1, 2, descriptor)) > 0.1


def no_photos(descriptor: Descriptor, k: int = 2) -> np.ndarray:
    """A reference without photos."""
    return np.zeros((0, len(descriptor.blocks) * k), np.uint8)


@pytest.mark.parametrize("seed", range(3))
@each_descriptor
@pytest.mark.parametrize("k", [1, 2, 64])
def test_the_block_diagonal_matrix_of_the_default_is_positive_semidefinite(descriptor, k, seed):
    rng = np.random.default_rng(seed)
    space = Space(DEFAULT, random_palette(k, rng), descriptor, random_codes(4, k, descriptor, rng))
    blocks = [weight * space.form.matrix for weight in space.weights]
    assert len(blocks) == len(descriptor.blocks)
    assert np.linalg.eigvalsh(block_diag(*blocks)).min() > -1e-12 * k


# --- by hand

TWO_COLORS = np.array([[50, 60, 30], [50, 60, 40]], np.float32)  # 10 apart
ALIKE = math.exp(-1)  # by the Laplacian with the range 10


def halves_in(block: str) -> np.ndarray:
    """A photo all of colour 0, but half of each in one of the parts that overlap the others."""
    codes = one_color(0, 2, SPATIAL).reshape(-1, 2)
    codes[SPATIAL.blocks.index(block)] = [180, 180]
    return codes.reshape(-1)


def test_half_a_photo_of_another_colour():
    # d^2 = 0.25 + 0.25 - 2 * 0.25 * exp(-1).
    space = Space(Metric.parse("laplacian:10"), TWO_COLORS, GLOBAL, no_photos(GLOBAL))
    distance = space.distance(one_color(0, 2, GLOBAL), np.array([180, 180], np.uint8))
    assert distance == pytest.approx(math.sqrt(0.5 * (1 - ALIKE)))


def test_qbic_over_two_colours_is_what_changed_place():
    # The two are wholly unlike by 1 - d / d_max = 0, so d^2 = 0.5^2 + 0.5^2.
    space = Space(QBIC, TWO_COLORS, GLOBAL, no_photos(GLOBAL))
    distance = space.distance(one_color(0, 2, GLOBAL), np.array([180, 180], np.uint8))
    assert distance == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("block", ["top", "middle", "bottom", "centre"])
def test_a_part_counts_by_its_weight(block):
    metric = Metric(
        "laplacian", 10.0, 1.0, 0.0, False, (("whole", 1.0), ("centre", 3.0), ("top", 0.5), ("middle", 2.0))
    )
    weight = {"centre": 3.0, "top": 0.5, "middle": 2.0, "bottom": 0.0}[block]
    space = Space(metric, TWO_COLORS, SPATIAL, no_photos(SPATIAL))
    distance = space.distance(one_color(0, 2, SPATIAL), halves_in(block))
    assert distance == pytest.approx(math.sqrt(weight / 6.5 * 0.5 * (1 - ALIKE)))


def test_where_the_whole_alone_counts_it_does_not_matter_how_busy_a_colour_is():
    space = Space(DEFAULT.of_whole(), TWO_COLORS, SPATIAL, no_photos(SPATIAL))
    smooth, busy = one_color(0, 2, SPATIAL).reshape(-1, 2), one_color(0, 2, SPATIAL).reshape(-1, 2)
    busy[[0, 2]] = busy[[2, 0]]
    assert space.distance(smooth.reshape(-1), busy.reshape(-1)) == 0
    with_parts = Space(DEFAULT, TWO_COLORS, SPATIAL, no_photos(SPATIAL))
    assert with_parts.distance(smooth.reshape(-1), busy.reshape(-1)) > 0.5


def test_the_whole_is_compared_alike_in_both_descriptors():
    rng = np.random.default_rng(0)
    lab, spatial = random_palette(8, rng), random_codes(6, 8, SPATIAL, rng)
    wholes = SPATIAL.whole(spatial)
    for text in ("qbic", "laplacian:10"):
        one = Space(Metric.parse(text), lab, SPATIAL, no_photos(SPATIAL, 8))
        other = Space(Metric.parse(text), lab, GLOBAL, no_photos(GLOBAL, 8))
        np.testing.assert_allclose(one.prepare(spatial)[:, 0], wholes, atol=1e-12)
        np.testing.assert_allclose(other.prepare(np.eye(8, dtype=np.uint8))[:, 0], np.eye(8), atol=1e-12)
        np.testing.assert_allclose(one.form.matrix, other.form.matrix)


def test_spreading_makes_it_matter_less_on_which_side_of_a_border_a_shade_falls():
    # Two shades that are next to each other, and a colour that is far from both.
    lab = np.array([[50, 0, 0], [54, 0, 0], [50, 80, 0]], np.float32)
    first, second, far = (one_color(i, 3, GLOBAL) for i in range(3))

    def ratio(spread: float) -> float:
        metric = Metric("laplacian", 3.0, 0.25, spread, False)
        space = Space(metric, lab, GLOBAL, no_photos(GLOBAL, 3))
        return space.distance(first, second) / space.distance(first, far)

    assert ratio(5.0) < ratio(2.0) / 2 < ratio(0.0) / 2


# --- the reference


@each_descriptor
def test_a_centred_photo_is_one_long(descriptor):
    space, _, photos = drawn(2, 16, descriptor, DEFAULT)
    np.testing.assert_allclose(np.linalg.norm(space.embed(photos), axis=1), 1, rtol=1e-9)


@pytest.mark.parametrize("different", [1, 2, 7])
@each_descriptor
def test_a_reference_of_fewer_than_eight_photos_that_differ_takes_nothing_off(descriptor, different):
    rng = np.random.default_rng(different)
    lab, photos = random_palette(16, rng), random_codes(different, 16, descriptor, rng)
    space = Space(DEFAULT, lab, descriptor, np.tile(photos, (9, 1)))
    without = Space(DEFAULT, lab, descriptor, no_photos(descriptor, 16))
    np.testing.assert_array_equal(space.embed(photos), without.embed(photos))


@each_descriptor
def test_the_first_photos_of_a_small_index_are_told_from_their_copies_and_from_others(descriptor):
    rng = np.random.default_rng(7)
    lab, photos = random_palette(16, rng), np.array([random_photo(16, descriptor, rng) for _ in range(6)])
    space = Space(DEFAULT, lab, descriptor, photos[:1])
    nearly = photos[0].copy()
    nearly[nearly.argmax()] -= 1
    assert space.distance(photos[0], nearly) < min(space.distance(photos[0], other) for other in photos[1:])


def test_a_photo_that_is_the_mean_is_at_one_from_all_others():
    metric = Metric("laplacian", 10.0, 1.0, 0.0, True)
    # Eight photos, two by two on opposite sides of the one that is half of each colour.
    reference = np.array([[i, j] for i, j in zip(range(255, 251, -1), range(4), strict=True)], np.uint8)
    reference = np.concatenate([reference, reference[:, ::-1]])
    space = Space(metric, TWO_COLORS, GLOBAL, reference)
    mean = np.array([180, 180], np.uint8)
    assert not space.prepare(mean).any()
    assert space.distance(mean, reference[0]) == pytest.approx(1)
    assert space.embed_fast(mean[None]).errors[0] == 2, "rounding may put it anywhere"
    assert space.distance(reference[0], reference[4]) == pytest.approx(2), "they lie on opposite sides of the mean"


@each_descriptor
def test_without_a_reference_the_mean_is_nothing(descriptor):
    rng = np.random.default_rng(3)
    lab, photos = random_palette(8, rng), random_codes(5, 8, descriptor, rng)
    plain = Plain(DEFAULT, lab, descriptor, [])
    space = Space(DEFAULT, lab, descriptor, no_photos(descriptor, 8))
    for h, g in pairs(photos):
        assert space.distance(h, g) == pytest.approx(plain.distance(h, g), rel=1e-6, abs=plain.doubt(h, g))
        vectors = space.embed(np.stack([h, g]))
        assert np.linalg.norm(vectors[0] - vectors[1]) == pytest.approx(
            plain.distance(h, g), rel=1e-6, abs=plain.doubt(h, g)
        )


def test_amounts_divided_by_their_length_have_no_one_sum():
    # So linear, of which only differences that sum to zero are known to have no negative square, needs more of A.
    rng = np.random.default_rng(4)
    lab, photos = random_palette(8, rng), random_codes(5, 8, GLOBAL, rng)
    space = Space(Metric.parse("qbic,centred=1"), lab, GLOBAL, no_photos(GLOBAL, 8))
    vectors = space.embed(photos)
    for i, j in zip(*np.triu_indices(5, 1), strict=True):
        assert np.linalg.norm(vectors[i] - vectors[j]) == pytest.approx(
            space.distance(photos[i], photos[j]), rel=1e-6, abs=1e-6
        )


def test_a_metric_that_is_not_centred_asks_nothing_of_the_reference():
    rng = np.random.default_rng(5)
    lab, (h, g), reference = random_palette(8, rng), random_codes(2, 8, GLOBAL, rng), random_codes(9, 8, GLOBAL, rng)
    for metric in (QBIC, Metric(centred=False)):
        with_it, without = Space(metric, lab, GLOBAL, reference), Space(metric, lab, GLOBAL, no_photos(GLOBAL, 8))
        assert with_it.distance(h, g) == without.distance(h, g)


# --- parts that a descriptor does not tell


@pytest.mark.parametrize(
    ("descriptor", "parts", "unknown"),
    [
        (SPATIAL, ("skyline",), "'skyline'"),
        (SPATIAL, ("zenith", "top", "abyss"), "'abyss', 'zenith'"),
        (SPATIAL, ("two\nlines",), "'two\\nlines'"),
        (GLOBAL, ("whole", "centre"), "'centre'"),
        (GLOBAL, ("smooth", "busy"), "'busy', 'smooth'"),
    ],
)
def test_weights_of_unknown_parts_are_refused_in_one_line_with_what_there_is(descriptor, parts, unknown):
    metric = Metric(weights=tuple((part, 1.0) for part in parts))
    with pytest.raises(MetricError) as error:
        Space(metric, random_palette(4, np.random.default_rng(0)), descriptor, no_photos(descriptor, 4))
    message = str(error.value)
    assert isinstance(error.value, CbirError) and "\n" not in message
    assert f"does not tell {unknown};" in message
    assert message.endswith("it tells " + ", ".join([*descriptor.blocks, *["whole"] * (descriptor is SPATIAL)]))


def test_an_unknown_part_is_refused_even_if_it_weighs_nothing():
    with pytest.raises(MetricError, match="skyline"):
        Space(Metric.parse("cbir,skyline=0"), random_palette(4, np.random.default_rng(0)), SPATIAL, no_photos(SPATIAL))


# --- shapes


@each_case
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_many_descriptors_are_mapped_as_each_alone(descriptor, metric, shape):
    space, _, _ = drawn(6, 7, descriptor, metric)
    codes = random_codes(math.prod(shape), 7, descriptor, np.random.default_rng(6)).reshape(*shape, -1)
    prepared, vectors = space.prepare(codes), space.embed(codes)
    assert prepared.dtype == vectors.dtype == np.float64
    assert prepared.shape == (*shape, len(space.weights), 7)
    assert vectors.shape[:-1] == shape
    for place in np.ndindex(*shape):
        np.testing.assert_allclose(prepared[place], space.prepare(codes[place]), atol=1e-9)
        np.testing.assert_allclose(vectors[place], space.embed(codes[place]), atol=1e-9)


@each_descriptor
def test_over_a_single_colour_qbic_finds_all_photos_equal(descriptor):
    space = Space(QBIC, np.array([[50, 0, 0]], np.float32), descriptor, one_color(0, 1, descriptor)[None])
    photo = one_color(0, 1, descriptor)
    assert space.distance(photo, photo) == 0
    assert space.embed(photo[None]).shape == (1, 0)
    assert space.embed_fast(photo[None]).vectors.shape == (1, 0)


# --- single precision


def assert_within_errors(space: Space, codes) -> None:
    fast, exact = space.embed_fast(codes), space.embed(codes)
    assert fast.vectors.dtype == fast.errors.dtype == np.float32
    assert fast.vectors.shape == exact.shape and fast.errors.shape == (len(codes),)
    assert np.isfinite(fast.errors).all()
    assert (np.linalg.norm(fast.vectors - exact, axis=1) <= fast.errors).all()


@each_case
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(1, 20))
def test_fast_vectors_lie_within_their_own_errors(descriptor, metric, seed, k):
    space, _, photos = drawn(seed, k, descriptor, metric, n=20)
    assert_within_errors(space, photos)


@each_case
@pytest.mark.parametrize("k", [64, 256])
def test_so_they_do_at_the_sizes_that_are_used(descriptor, metric, k):
    space, _, photos = drawn(k, k, descriptor, metric, n=100)
    assert_within_errors(space, photos)


@each_case
def test_so_do_photos_of_one_colour_and_photos_with_almost_nothing(descriptor, metric):
    k, rng = 30, np.random.default_rng(7)
    width = len(descriptor.blocks) * k
    single = np.array([one_color(color, k, descriptor) for color in range(k)])
    # One byte of 1 in the whole and nothing elsewhere; in all areas; and all bytes of 1.
    almost_empty = np.concatenate(
        [
            np.eye(width, dtype=np.uint8)[:k],
            np.tile(np.eye(k, dtype=np.uint8), len(descriptor.blocks)),
            np.ones((1, width)),
        ]
    ).astype(np.uint8)
    dust = single.copy()
    dust[:, :k][single[:, :k] == 0] = 1
    space = Space(metric, random_palette(k, rng), descriptor, np.concatenate([single, almost_empty]))
    for codes in (single, almost_empty, dust):
        assert_within_errors(space, codes)


@each_case
def test_so_do_photos_near_the_mean(descriptor, metric):
    k, rng = 12, np.random.default_rng(8)
    lab, mean = random_palette(k, rng), random_codes(1, k, descriptor, rng)
    for reference in (mean, np.tile(mean, (7, 1))):
        space = Space(metric, lab, descriptor, reference)
        near = np.repeat(mean, 2 * mean.shape[1], axis=0).astype(int)
        cells = np.arange(mean.shape[1])
        near[2 * cells, cells] += 1
        near[2 * cells + 1, cells] -= 1
        near = np.concatenate([mean, near.clip(0, 255).astype(np.uint8)])
        assert_within_errors(space, near)


@pytest.mark.parametrize("power", [0.05, 0.1, 0.25])
@pytest.mark.parametrize("spread", [1.0, 5.0])
@pytest.mark.parametrize("apart", [5, 11, 12, 14, 15, 20, 38, 39])
def test_so_do_colours_that_are_so_little_near_that_single_precision_has_no_number_for_it(power, spread, apart):
    # Of exp(-15^2 / 2), which is 1e-49, the power 0.05 makes 0.004.
    lab = np.array([[50, 0, 0], [50, apart * spread, 0]], np.float32)
    metric = Metric("laplacian", 3.0, power, spread, False)
    space = Space(metric, lab, GLOBAL, no_photos(GLOBAL))
    assert_within_errors(space, np.array([[255, 0], [0, 255], [1, 255], [180, 180]], np.uint8))


@each_case
def test_the_errors_are_small_enough_to_filter_by(descriptor, metric):
    # What photos of single colours are apart is the scale of a collection's distances.
    space, _, _ = drawn(10, 64, descriptor, metric)
    single = np.array([one_color(color, 64, descriptor) for color in range(64)])
    fast = space.embed_fast(single)
    distances = [space.distance(h, g) for h, g in pairs(single[:20])]
    assert np.median(fast.errors) < np.median(distances) / 100
