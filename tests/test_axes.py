"""Principal axes: photos turned, most of them told in a few bytes, and bounds that never exceed a distance."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_codes import Codes, one_color, random_codes, random_palette, random_photo
from threadpoolctl import threadpool_limits

from cbir import axes as axes_module
from cbir.axes import BOX_AXES, LEADING, LEAF, Axes, box_sides, make_axes, turn
from cbir.descriptor import GLOBAL, SPATIAL, Descriptor, codes_of_shares
from cbir.errors import NotPositiveSemidefiniteError
from cbir.metric import DEFAULT, Metric
from cbir.space import Space
from cbir.view import View

# Making axes, and looking at photos by them, may not make numpy warn. But BLAS may call values invalid that it read
# and made no use of; where one is used, results differ.
pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in (dot|matmul):RuntimeWarning"),
]
each_case = pytest.mark.parametrize(
    ("descriptor", "metric"),
    [
        pytest.param(descriptor, Metric.parse(text), id=f"{descriptor.name}-{text}")
        for descriptor, text in [
            (SPATIAL, "cbir"),
            (SPATIAL, "cbir:5,whole=3,centre=2,power=0.05"),
            (SPATIAL, "qbic"),
            (GLOBAL, "cbir"),
            (GLOBAL, "linear:900"),
            # Nearly all colours are alike: hardest to tell apart.
            (GLOBAL, "sqrt-gaussian:200"),
            (GLOBAL, "gaussian:200,centred=1"),
        ]
    ],
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine, two threads wait for each other a hundred times longer than these small products take."""
    with threadpool_limits(1):
        yield


@contextmanager
def learnt_from(photos: int) -> Iterator[None]:
    """Axes are learnt from so few photos, and so many are mapped at a time, that most of a small collection is new."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axes_module, "_SAMPLE", photos)
        patch.setattr(axes_module, "_BLOCK", photos)
        yield


def space_over(k: int, descriptor: Descriptor, metric: Metric, rng: np.random.Generator) -> Space:
    return Space(metric, random_palette(k, rng), descriptor, random_codes(16, k, descriptor, rng))


def axes_of(space: Space, codes: Codes, leading: int | None = None) -> Axes:
    return make_axes(space, lambda rows: codes[rows], len(codes), leading)


def near(photo: Codes, n: int, rng: np.random.Generator) -> Codes:
    """Photos that differ from one by a step of one code at most."""
    codes = np.tile(photo, (n, 1))
    codes[np.arange(n), rng.integers(0, len(photo), n)] ^= rng.integers(0, 2, n).astype(np.uint8)
    return codes


def mixtures(n: int, k: int, descriptor: Descriptor, rng: np.random.Generator) -> Codes:
    """Photos of which some are more alike than others, as real ones are: each a mixture of four of thirty."""
    shares = descriptor.shares(random_codes(30, k, descriptor, rng))
    parts = rng.dirichlet([2, 1, 0.5, 0.25], n)
    mixed = sum(parts[:, i, None, None] * shares[rng.integers(0, 30, n)] for i in range(4))
    return codes_of_shares(mixed).reshape(n, -1)


def assert_bounds_hold(space: Space, axes: Axes, codes: Codes, queries: Sequence[Codes]) -> None:
    """Whatever is looked at of a photo is no more than what a photo at its true distance may have."""
    places = np.arange(len(codes))
    for query in queries:
        view = View(axes, turn(axes, space.embed(query)), float(space.doubt(query)))
        distances = [space.distance(codes[photo], query) for photo in axes.order]
        boxes = view.boxes()
        assert all(boxes[place // LEAF] <= view.squared(distance) for place, distance in enumerate(distances))
        found, scores = view.scan(np.arange(len(boxes)), -math.inf)
        assert found.tolist() == places.tolist()
        assert all(score >= view.least_score(distance) for score, distance in zip(scores, distances, strict=True))
        squares = view.squares(scores)
        for stage in view.coarse:
            squares, errors = stage.squares(places, squares)
            assert np.isfinite(squares).all() and (errors >= 0).all()
            for distance, square, error in zip(distances, squares, errors, strict=True):
                assert len(view.within(distance, square[None], error[None]))


COLLECTIONS = {
    "many kinds": lambda n, k, descriptor, rng: random_codes(n, k, descriptor, rng),
    "all alike": lambda n, k, descriptor, rng: near(random_photo(k, descriptor, rng), 1, rng).repeat(n, axis=0),
    "nearly alike": lambda n, k, descriptor, rng: near(random_photo(k, descriptor, rng), n, rng),
    # What lies outside what the axes were learnt from has its bytes clipped.
    "alike but for some far off": lambda n, k, descriptor, rng: np.concatenate(
        [near(random_photo(k, descriptor, rng), n, rng)[n // 5 :], random_codes(n // 5, k, descriptor, rng)]
    ),
}


@each_case
@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1 << 32),
    k=st.integers(1, 12),
    n=st.integers(1, 60),
    kind=st.sampled_from(list(COLLECTIONS)),
    leading=st.none() | st.integers(1, 32),
    sample=st.integers(1, 60),
)
def test_no_bound_exceeds_a_distance(descriptor, metric, seed, k, n, kind, leading, sample):
    rng = np.random.default_rng(seed)
    space, codes = space_over(k, descriptor, metric, rng), COLLECTIONS[kind](n, k, descriptor, rng)
    with learnt_from(sample):
        axes = axes_of(space, codes, leading)
    queries = [codes[0], near(codes[-1], 1, rng)[0], one_color(0, k, descriptor), random_photo(k, descriptor, rng)]
    assert_bounds_hold(space, axes, codes, queries)


@each_case
@pytest.mark.parametrize("lab", ["far apart", "all but one colour"])
def test_no_bound_exceeds_a_distance_around_the_mean(descriptor, metric, lab):
    # There a centred metric divides by next to nothing, so that rounding becomes as large as what is measured.
    for seed in range(5):
        rng = np.random.default_rng(seed)
        palette, photo = random_palette(6, rng), random_photo(6, descriptor, rng)
        if lab == "all but one colour":
            palette = palette[:1] + rng.normal(0, 1e-2, (6, 3)).astype(np.float32)
        space = Space(metric, palette, descriptor, near(photo, 32, rng))
        for n in (1, 20):
            codes = near(photo, n, rng)
            queries = [photo, codes[0], near(photo, 1, rng)[0], random_photo(6, descriptor, rng)]
            assert_bounds_hold(space, axes_of(space, codes), codes, queries)


@pytest.mark.parametrize("descriptor", [GLOBAL, SPATIAL], ids=["global", "spatial"])
def test_no_bound_exceeds_a_distance_where_rounding_is_most_of_it(descriptor):
    # Colours that all but coincide, by a range at which they are all but alike, measured from amid photos that are too.
    metric, spaces = Metric.parse("gaussian:1000,centred=1"), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        lab = random_palette(1, rng) + rng.normal(0, 3e-4, (4, 3)).astype(np.float32)
        photos = random_photo(4, descriptor, rng).clip(1, 254) + rng.integers(-1, 2, (40, len(descriptor.blocks) * 4))
        photos = photos.astype(np.uint8)
        # Some such metrics are refused, for rounding alone makes squares negative.
        with suppress(NotPositiveSemidefiniteError):
            space = Space(metric, lab, descriptor, photos[:32])
            spaces += 1
            for n in (1, 4):
                codes = photos[-n:]
                axes = axes_of(space, codes)
                assert axes.error >= space.doubt(codes).max() * (1 - 1e-6)
                assert_bounds_hold(space, axes, codes, [photos[0], photos[20], codes[0]])
    assert spaces > 20


@pytest.mark.parametrize("n", [1, LEAF - 1, LEAF, LEAF + 1])
@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("text", ["cbir", "qbic"])
def test_no_bound_exceeds_a_distance_however_full_the_last_leaf_is(text, k, n):
    rng = np.random.default_rng(n)
    space, codes = space_over(k, SPATIAL, Metric.parse(text), rng), random_codes(n, k, SPATIAL, rng)
    axes = axes_of(space, codes)
    assert len(axes) == n
    assert len(axes.leading) == axes.lowest.shape[1] == axes.highest.shape[1] == math.ceil(n / LEAF)
    assert_bounds_hold(space, axes, codes, [codes[-1], random_photo(k, SPATIAL, rng)])


@pytest.mark.parametrize("leading", [1, 4, 32, None])
def test_no_bound_exceeds_a_distance_where_not_all_axes_are_kept(leading):
    rng = np.random.default_rng(1)
    space, codes = space_over(48, SPATIAL, DEFAULT, rng), random_codes(300, 48, SPATIAL, rng)
    axes = axes_of(space, codes, leading)
    assert axes.basis.shape[1] < space.dimensions
    assert_bounds_hold(space, axes, codes, [codes[7], random_photo(48, SPATIAL, rng)])


@pytest.mark.parametrize("kind", list(COLLECTIONS))
def test_no_bound_exceeds_a_distance_where_vectors_are_longer_than_the_photos_are_many(kind):
    rng = np.random.default_rng(2)
    space, codes = space_over(160, SPATIAL, DEFAULT, rng), COLLECTIONS[kind](60, 160, SPATIAL, rng)
    assert space.dimensions > 1024
    with learnt_from(50):
        axes = axes_of(space, codes)
    # As many photos span one dimension less, and those that are there twice none.
    assert axes.basis.shape[1] < 50
    np.testing.assert_allclose(axes.basis.T @ axes.basis, np.eye(axes.basis.shape[1]), atol=1e-9)
    assert_bounds_hold(space, axes, codes, [codes[0], codes[-1], random_photo(160, SPATIAL, rng)])


@each_case
@pytest.mark.parametrize("leading", [1, 4, 8])
def test_together_the_axes_tell_a_distance_but_for_the_error_that_they_tell(descriptor, metric, leading):
    rng = np.random.default_rng(2)
    space, codes = space_over(8, descriptor, metric, rng), random_codes(200, 8, descriptor, rng)
    axes, query = axes_of(space, codes, leading), random_photo(8, descriptor, rng)
    assert axes.basis.shape[1] == space.dimensions, "all are kept"
    view = View(axes, turn(axes, space.embed(query)), float(space.doubt(query)))
    places, scores = view.scan(np.arange(2), -math.inf)
    squares, errors = view.squares(scores), np.zeros(200, np.float32)
    for stage in view.coarse:
        squares, errors = stage.squares(places, squares)
    distances = np.array([space.distance(codes[photo], query) for photo in axes.order])
    told, doubt = np.sqrt(np.maximum(squares, 0)), errors + view.error
    # Not only from below, as a bound, but also from above.
    assert (told >= distances - doubt - math.sqrt(view.rounding)).all()
    assert (told <= distances + doubt + math.sqrt(view.rounding)).all()
    assert np.median(doubt) + math.sqrt(view.rounding) < np.median(distances) / 20


@each_case
def test_what_is_kept_of_a_photo_are_its_coordinates_and_the_lengths_of_what_is_not(descriptor, metric):
    rng = np.random.default_rng(3)
    space, codes = space_over(16, descriptor, metric, rng), random_codes(200, 16, descriptor, rng)
    axes = axes_of(space, codes, 3)
    assert len(axes.coarse) == (1 if space.dimensions <= 3 + 64 else 2)
    vectors = space.embed(codes[axes.order]) - axes.mean
    turned = vectors @ axes.basis
    near_enough = {"rtol": 1e-5, "atol": axes.error + 1e-6}

    def length_behind(end: int) -> np.ndarray:
        return np.linalg.norm(vectors - turned[:, :end] @ axes.basis[:, :end].T, axis=1)

    assert axes.error >= space.embed_fast(codes).errors.min()
    points = axes.leading.transpose(0, 2, 1).reshape(-1, 5)[:200]
    np.testing.assert_allclose(points[:, :3], turned[:, :3], **near_enough)
    np.testing.assert_allclose(points[:, 3], length_behind(3), rtol=1e-5, atol=10 * axes.error)
    np.testing.assert_allclose(points[:, 4], (points[:, :4] ** 2).sum(axis=1) / 2, rtol=1e-6)
    assert axes.reach == pytest.approx(np.linalg.norm(vectors, axis=1).max(), abs=2 * axes.error + 1e-6)
    squares, end = np.zeros(200), 3
    for stage in axes.coarse:
        own = turned[:, end : end + stage.codes.shape[1]]
        decoded = stage.low + stage.step * stage.codes
        np.testing.assert_allclose(decoded, own, atol=stage.step / 2 + axes.error + 1e-6)
        squares += ((decoded - own) ** 2).sum(axis=1)
        before, behind, _, errors = stage.numbers.T
        np.testing.assert_allclose(before, length_behind(end), rtol=1e-5, atol=10 * axes.error)
        end += own.shape[1]
        np.testing.assert_allclose(behind, length_behind(end), rtol=1e-5, atol=10 * axes.error + 1e-6)
        np.testing.assert_allclose(errors, np.sqrt(squares), **near_enough)
    assert end == axes.basis.shape[1]


def test_the_error_of_a_photo_that_is_like_none_of_those_learnt_from_tells_how_far_off_its_bytes_are():
    rng = np.random.default_rng(4)
    space, codes = space_over(8, SPATIAL, DEFAULT, rng), np.tile(one_color(0, 8, SPATIAL), (81, 1))
    codes[40] = one_color(3, 8, SPATIAL)
    # From the first and the last, not from that in the middle.
    with learnt_from(2):
        axes = axes_of(space, codes, 2)
    (stage,), far = axes.coarse, axes.order == 40
    assert set(stage.codes[far].ravel()) >= {0, 255}, "clipped"
    lost = np.linalg.norm((space.embed(codes[40]) - axes.mean) @ axes.basis[:, 2:])
    assert stage.numbers[far, 3] == pytest.approx(lost, rel=1e-4)
    assert lost > 0.1 and (stage.numbers[~far, 3] < 1e-5).all()


@each_case
def test_the_axes_are_those_of_the_largest_variance(descriptor, metric):
    rng = np.random.default_rng(5)
    space, codes = space_over(8, descriptor, metric, rng), mixtures(300, 8, descriptor, rng)
    axes, vectors = axes_of(space, codes), space.embed(codes)
    np.testing.assert_allclose(axes.mean, vectors.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(axes.basis.T @ axes.basis, np.eye(axes.basis.shape[1]), atol=1e-12)
    values = np.linalg.svd(vectors - axes.mean, compute_uv=False) ** 2
    squares = (((vectors - axes.mean) @ axes.basis) ** 2).sum(axis=0)
    np.testing.assert_allclose(squares, values[: len(squares)], atol=1e-9 * values[0])


def test_photos_that_differ_in_three_ways_are_told_by_the_fewest_axes():
    rng = np.random.default_rng(6)
    shares = rng.dirichlet([1, 1, 1], 2000) @ rng.dirichlet(np.ones(16), 3)
    space, codes = space_over(16, GLOBAL, Metric.parse("laplacian:10"), rng), codes_of_shares(shares)
    assert axes_of(space, codes).axes == min(LEADING)


@pytest.mark.parametrize("leading", [1, 4, 5, 32, None])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 40), (130, 3), (300, 40)])
def test_everything_has_the_layout_that_the_search_reads_fast(n, k, leading):
    rng = np.random.default_rng(7)
    space, codes = space_over(k, SPATIAL, DEFAULT, rng), random_codes(n, k, SPATIAL, rng)
    axes = axes_of(space, codes, leading)
    leaves, kept, m = math.ceil(n / LEAF), axes.basis.shape[1], axes.axes
    assert kept == min(space.dimensions, 192)
    assert m in LEADING or m == kept if leading is None else m == min(leading, kept)
    assert box_sides(m).tolist() == [*range(min(m, BOX_AXES)), m]
    sides = len(box_sides(m))
    expected = {
        "mean": (np.float64, (space.dimensions,)),
        "basis": (np.float64, (space.dimensions, kept)),
        "order": (np.uint32, (n,)),
        "leading": (np.float32, (leaves, m + 2, LEAF)),
        "lowest": (np.float32, (sides, leaves)),
        "highest": (np.float32, (sides, leaves)),
    }
    arrays = {name: getattr(axes, name) for name in expected}
    assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == expected
    assert sum(stage.codes.shape[1] for stage in axes.coarse) == kept - m
    for stage in axes.coarse:
        assert (stage.codes.dtype, len(stage.codes)) == (np.uint8, n)
        assert (stage.numbers.dtype, stage.numbers.shape) == (np.float32, (n, 4))
    numbers = [*arrays.values(), *(array for stage in axes.coarse for array in (stage.codes, stage.numbers))]
    assert all(array.flags.c_contiguous for array in numbers)
    # Where the last leaf has no more photos all are infinitely far.
    halves = axes.leading[:, -1].reshape(-1)
    assert np.isfinite(halves[:n]).all() and np.isposinf(halves[n:]).all()
    assert np.isfinite(axes.leading[:, :-1]).all()


@pytest.mark.parametrize("leading", [1, 12])
def test_boxes_hold_their_leaves_and_touch_them_on_all_sides(leading):
    rng = np.random.default_rng(8)
    axes = axes_of(space_over(8, SPATIAL, DEFAULT, rng), random_codes(300, 8, SPATIAL, rng), leading)
    points = axes.leading.transpose(0, 2, 1).reshape(-1, leading + 2)[:300, box_sides(leading)]
    for leaf in range(3):
        own = points[leaf * LEAF : (leaf + 1) * LEAF]
        np.testing.assert_array_equal(axes.lowest[:, leaf], own.min(axis=0))
        np.testing.assert_array_equal(axes.highest[:, leaf], own.max(axis=0))


def widths(axes: Axes) -> np.ndarray:
    """How wide the leaves' boxes are along the first axes, on average."""
    return (axes.highest - axes.lowest)[:4].mean(axis=1)


def test_neighbours_lie_together_in_leaves(monkeypatch):
    rng = np.random.default_rng(9)
    space, codes = space_over(8, SPATIAL, DEFAULT, rng), mixtures(4096, 8, SPATIAL, rng)
    axes = axes_of(space, codes, 4)
    assert sorted(axes.order) == list(range(4096))
    monkeypatch.setattr(axes_module, "_FEWEST_HALVED", 5000)
    as_they_come = axes_of(space, codes, 4)
    assert as_they_come.order.tolist() == list(range(4096))
    assert (widths(axes) < 0.6 * widths(as_they_come)).all()


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("text", ["cbir", "linear:900", "gaussian:200,centred=1"])
def test_thousands_of_photos_need_no_axes_to_differ_along(text, k):
    rng = np.random.default_rng(10)
    space = space_over(k, GLOBAL, Metric.parse(text), rng)
    codes = np.tile(random_codes(8, k, GLOBAL, rng), (512, 1))
    axes = axes_of(space, codes)
    assert sorted(axes.order) == list(range(4096))
    assert_bounds_hold(space, axes, codes, [codes[0]])


def contents(axes: Axes) -> list[object]:
    """Everything in some axes, to the last bit."""
    parts = [axes, *axes.coarse]
    values = [getattr(part, field.name) for part in parts for field in fields(part) if field.name != "coarse"]
    return [value.tobytes() if isinstance(value, np.ndarray) else value for value in values]


@each_case
def test_the_same_photos_make_the_same_axes(descriptor, metric):
    rng = np.random.default_rng(11)
    space, codes = space_over(8, descriptor, metric, rng), np.tile(random_codes(410, 8, descriptor, rng), (10, 1))
    first = contents(axes_of(space, codes))
    assert contents(axes_of(space, codes)) == first
    # However many threads there are, and however the photos lie in memory.
    with threadpool_limits(2):
        assert contents(axes_of(space, np.asfortranarray(codes))) == first


def test_photos_that_must_not_be_written_to_stay_as_they_are(tmp_path):
    rng = np.random.default_rng(12)
    space, codes = space_over(8, SPATIAL, DEFAULT, rng), random_codes(300, 8, SPATIAL, rng)
    np.save(tmp_path / "codes.npy", codes)
    axes = axes_of(space, np.load(tmp_path / "codes.npy", mmap_mode="r"))
    assert contents(axes) == contents(axes_of(space, codes))
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), codes)


def test_a_vector_is_seen_by_its_coordinates_and_the_lengths_of_what_lies_behind():
    rng = np.random.default_rng(13)
    space, codes = space_over(48, SPATIAL, DEFAULT, rng), random_codes(300, 48, SPATIAL, rng)
    axes = axes_of(space, codes, 4)
    assert [stage.codes.shape[1] for stage in axes.coarse] == [8, 180], "4 axes, three times as many, all that are kept"
    # 3 along the second axis, 4 along the twelfth, 12 along one behind the first twelve.
    vector = axes.mean + 3 * axes.basis[:, 1] + 4 * axes.basis[:, 11] + 12 * axes.basis[:, 100]
    target = turn(axes, vector)
    assert target.turned.shape == (192,)
    np.testing.assert_allclose(target.turned[[1, 11, 100]], [3, 4, 12])
    np.testing.assert_allclose(target.rests, [math.hypot(4, 12), 12, 0], atol=1e-6)
    assert turn(axes, axes.mean).rests == (0, 0, 0)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_axes_in_the_span_of_a_sample_are_at_right_angles_and_bound_distances_too(n, monkeypatch):
    monkeypatch.setattr(axes_module, "_MANY_DIMENSIONS", 0)
    rng = np.random.default_rng(n)
    space, codes = space_over(12, SPATIAL, DEFAULT, rng), random_codes(n, 12, SPATIAL, rng)
    axes = axes_of(space, codes)
    assert axes.basis.shape[1] < n < space.dimensions
    np.testing.assert_allclose(axes.basis.T @ axes.basis, np.eye(axes.basis.shape[1]), atol=1e-9)
    for query in random_codes(20, 12, SPATIAL, rng):
        view = View(axes, turn(axes, space.embed(query)), float(space.doubt(query)))
        places, scores = view.scan(np.arange(len(axes.leading)), -math.inf)
        for row, score in zip(axes.order[places], scores, strict=True):
            assert score >= view.least_score(space.distance(codes[row], query))
