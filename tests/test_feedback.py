"""Relevance feedback: a form that liked and unliked photos have changed is still one, and bounded by the plain form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_codes import Codes, random_codes, random_palette
from threadpoolctl import threadpool_limits

from cbir.descriptor import GLOBAL, SPATIAL, Descriptor
from cbir.feedback import Aim, aim, aim_at
from cbir.metric import Metric
from cbir.space import Space

F64 = NDArray[np.float64]
deterministic = settings(derandomize=True, deadline=None, max_examples=25)
CASES = [
    pytest.param(descriptor, Metric.parse(text), id=f"{descriptor.name}-{text}")
    for descriptor, texts in {
        SPATIAL: ["cbir", "qbic", "sqrt-laplacian:10", "cbir:5,whole=3,centre=2,power=0.05"],
        GLOBAL: ["cbir", "linear:900", "sqrt-gaussian:200", "gaussian:200,centred=1"],
    }.items()
    for text in texts
]
each_case = pytest.mark.parametrize(("descriptor", "metric"), CASES)
seeds = st.integers(0, 1 << 32)
Weighed = list[tuple[Codes, float]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def drawn(descriptor: Descriptor, metric: Metric, seed: int, n: int = 12) -> tuple[Space, Codes, np.random.Generator]:
    rng = np.random.default_rng(seed)
    # Of three colours all may be next to the same, so that a distance is but rounding.
    k = int(rng.choice([1, 2, 6, 9, 12]))
    space = Space(metric, random_palette(k, rng), descriptor, random_codes(16, k, descriptor, rng))
    return space, random_codes(n, k, descriptor, rng), rng


def weighed(codes: Codes, rng: np.random.Generator, most: int, least: int = 1) -> Weighed:
    chosen = rng.integers(0, len(codes), rng.integers(least, most + 1))
    return [(codes[i], float(rng.choice([1.0, 2.0, 0.3, 50.0]))) for i in chosen]


def made(space: Space, liked: Weighed, unliked: Weighed = ()) -> Aim:  # type: ignore[assignment]
    return aim(
        space, [(space.point(one), weight) for one, weight in liked], [(space.point(one), w) for one, w in unliked]
    )


def squares(space: Space, target: Aim, codes: Codes) -> tuple[F64, F64]:
    """The distances from the point, and the squares that the changed form makes of them."""
    prepared = space.prepare(codes)
    distances = space.prepared_distances(prepared, target.point.prepared)
    return distances, target.squares(prepared, distances)


def mean(vectors: F64, weights: Sequence[float]) -> F64:
    return np.asarray(np.average(vectors, axis=0, weights=weights))


def plain_squares(space: Space, liked: Weighed, unliked: Weighed, codes: Codes) -> F64:
    """In the vectors of the space, where the form is the Euclidean distance.

    Half of what lies along the differences of the liked is taken off, and what lies along the way from the unliked to
    them is added once more.
    """
    vectors = np.array([space.embed(one) for one, _ in liked])
    middle = mean(vectors, [weight for _, weight in liked])
    _, lengths, along = np.linalg.svd(vectors - middle, full_matrices=False)
    along = along[lengths > 1e-3 * max(lengths[0], 1e-9)]
    place = middle
    away = np.zeros(len(middle))
    if unliked:
        other = mean(np.array([space.embed(one) for one, _ in unliked]), [weight for _, weight in unliked])
        place = middle + 0.25 * (middle - other)
        if (length := np.linalg.norm(middle - other)) > 1e-9:
            away = (middle - other) / length
    off = space.embed(codes) - place
    return np.asarray((off**2).sum(axis=1) - 0.5 * ((off @ along.T) ** 2).sum(axis=1) + (off @ away) ** 2)


@each_case
@deterministic
@given(seed=seeds)
def test_no_distance_is_shorter_than_is_told(descriptor, metric, seed):
    space, codes, rng = drawn(descriptor, metric, seed)
    target = made(space, weighed(codes, rng, 5), weighed(codes, rng, 3, least=0))
    distances, found = squares(space, target, codes)
    assert (found >= 0).all()
    scale = max(1.0, float(distances.max())) ** 2
    assert (found >= (target.shrinks * distances) ** 2 - 1e-9 * scale).all()
    # At most twice what it was, for along one direction alone differences count twice.
    assert (found <= 2 * distances**2 + 1e-9 * scale).all()


@each_case
@deterministic
@given(seed=seeds)
def test_the_squares_are_those_of_the_changed_form_told_plainly(descriptor, metric, seed):
    space, codes, rng = drawn(descriptor, metric, seed)
    liked, unliked = weighed(codes[:4], rng, 4), weighed(codes[4:8], rng, 3, least=0)
    vectors = np.array([space.embed(one) for one, _ in liked])
    assume(vectors.shape[1])
    lengths = np.linalg.svd(vectors - mean(vectors, [weight for _, weight in liked]), compute_uv=False)
    # What is next to no difference is a direction to one and none to the other.
    assume(lengths[0] == 0 or lengths[0] > 1e-4)
    assume(not ((lengths < 1e-2 * lengths[0]) & (lengths > 1e-6 * lengths[0])).any())
    _, found = squares(space, made(space, liked, unliked), codes)
    np.testing.assert_allclose(found, plain_squares(space, liked, unliked, codes), rtol=1e-6, atol=1e-7)


@each_case
@deterministic
@given(seed=seeds)
def test_one_liked_photo_is_a_search_by_example(descriptor, metric, seed):
    space, codes, _ = drawn(descriptor, metric, seed)
    target = made(space, [(codes[0], 3.0)])
    distances, found = squares(space, target, codes)
    assert distances.tolist() == [space.distance(one, codes[0]) for one in codes]
    assert found.tolist() == (distances**2).tolist() and found[0] == 0
    assert target.shrinks == 1 and not len(target.factors)


@each_case
@deterministic
@given(seed=seeds, copies=st.integers(2, 9))
def test_a_photo_that_is_liked_several_times_is_liked_once(descriptor, metric, seed, copies):
    space, codes, _ = drawn(descriptor, metric, seed)
    target = made(space, [(codes[0], 1.0)] * copies)
    distances, found = squares(space, target, codes)
    assert not len(target.factors), "copies do not differ in any direction"
    assert found.tolist() == (distances**2).tolist() and found[0] < 1e-24
    np.testing.assert_allclose(distances, [space.distance(one, codes[0]) for one in codes], rtol=1e-9, atol=1e-7)


@each_case
@deterministic
@given(seed=seeds)
def test_what_is_liked_and_unliked_alike_moves_nothing(descriptor, metric, seed):
    space, codes, _ = drawn(descriptor, metric, seed)
    target = made(space, [(codes[0], 1.0)], [(codes[0], 1.0)])
    distances, found = squares(space, target, codes)
    np.testing.assert_allclose(found, [space.distance(one, codes[0]) ** 2 for one in codes], rtol=1e-9, atol=1e-9)
    assert not len(target.factors) and np.isfinite(distances).all()


@each_case
@deterministic
@given(seed=seeds)
def test_neither_the_order_nor_the_scale_of_the_weights_matters(descriptor, metric, seed):
    space, codes, rng = drawn(descriptor, metric, seed)
    liked, unliked = weighed(codes, rng, 4), weighed(codes, rng, 3, least=0)
    _, found = squares(space, made(space, liked, unliked), codes)
    order = rng.permutation(len(liked))
    _, turned = squares(space, made(space, [liked[i] for i in order], unliked[::-1]), codes)
    heavier = [(one, 3 * weight) for one, weight in liked], [(one, 0.1 * weight) for one, weight in unliked]
    _, scaled = squares(space, made(space, *heavier), codes)
    np.testing.assert_allclose(turned, found, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(scaled, found, rtol=1e-6, atol=1e-7)


@each_case
@deterministic
@given(seed=seeds)
def test_each_photo_is_computed_as_if_it_were_alone(descriptor, metric, seed):
    space, codes, rng = drawn(descriptor, metric, seed)
    target = made(space, weighed(codes, rng, 4), weighed(codes, rng, 2, least=0))
    _, together = squares(space, target, codes)
    assert [float(squares(space, target, one[None])[1][0]) for one in codes] == together.tolist()


# Four colours, far from one another, so that by the form without spreading all are as different as any.
FAR = np.array([(10, 0, 0), (90, 0, 0), (50, 80, 60), (50, -60, -60)], np.float32)
PLAIN = Metric.parse("laplacian:0.1")


def photo(*shares: float) -> Codes:
    return GLOBAL.of_whole(np.array(shares))


def test_liked_photos_that_differ_in_one_colour_say_that_it_does_not_matter():
    space = Space(PLAIN, FAR, GLOBAL, np.zeros((0, 4), np.uint8))
    # Half is black, and of the rest any part is white or red.
    target = made(space, [(photo(0.5, 0.5, 0, 0), 1), (photo(0.5, 0, 0.5, 0), 1)])
    np.testing.assert_allclose(target.point.prepared[0], [0.5, 0.25, 0.25, 0], atol=0.002)
    along, across = photo(0.5, 0.45, 0.05, 0), photo(0.3, 0.25, 0.25, 0.2)
    distances, found = squares(space, target, np.array([along, across]))
    np.testing.assert_allclose(distances**2, [2 * 0.2**2, 2 * 0.2**2], atol=0.004)
    np.testing.assert_allclose(found, [0.2**2, 2 * 0.2**2], atol=0.004)
    assert target.shrinks == np.sqrt(0.5)


def test_an_unliked_photo_pushes_the_query_a_quarter_of_the_way_on_and_what_leads_to_it_counts_twice():
    space = Space(PLAIN, FAR, GLOBAL, np.zeros((0, 4), np.uint8))
    target = made(space, [(photo(0.5, 0.5, 0, 0), 1)], [(photo(0.5, 0, 0.5, 0), 1)])
    np.testing.assert_allclose(target.point.prepared[0], [0.5, 0.625, -0.125, 0], atol=0.002)
    liked, unliked = np.array([photo(0.5, 0.5, 0, 0)]), np.array([photo(0.5, 0, 0.5, 0)])
    assert squares(space, target, liked)[1] == pytest.approx(2 * 2 * 0.125**2, abs=0.004)
    assert squares(space, target, unliked)[1] == pytest.approx(2 * 2 * 0.625**2, abs=0.01)


def test_an_aim_at_a_point_is_its_plain_distance():
    space = Space(PLAIN, FAR, GLOBAL, np.zeros((0, 4), np.uint8))
    target = aim_at(space.point(photo(1, 0, 0, 0)))
    distances, found = squares(space, target, np.array([photo(1, 0, 0, 0), photo(0, 1, 0, 0)]))
    assert found.tolist() == [0, distances[1] ** 2] and found[1] == pytest.approx(2)
