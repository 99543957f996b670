"""Searching: the rows that comparing the query with each of them by the plain form would find, no other, none less."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_codes import one_color, random_codes, random_palette
from threadpoolctl import threadpool_limits

from cbir.descriptor import GLOBAL, SPATIAL, Descriptor
from cbir.metric import DEFAULT, Metric
from cbir.search import nearest_rows
from cbir.space import Space

deterministic = settings(derandomize=True, deadline=None, max_examples=20)
CASES = [
    pytest.param(descriptor, Metric.parse(text), id=f"{descriptor.name}-{text}")
    for descriptor, texts in {
        SPATIAL: ["cbir", "qbic", "sqrt-laplacian:10", "gaussian:3", "cbir:5,whole=3,centre=2,power=0.05"],
        # With the range 200 nearly all colours are alike: hardest to tell apart in float32.
        GLOBAL: ["cbir", "linear:900", "laplacian:40", "sqrt-gaussian:200", "gaussian:200,centred=1"],
    }.items()
    for text in texts
]
each_case = pytest.mark.parametrize(("descriptor", "metric"), CASES)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On a busy machine, two threads wait for each other a hundred times longer than these small products take."""
    with threadpool_limits(1):
        yield


def space_over(k: int, descriptor: Descriptor, metric: Metric, rng: np.random.Generator) -> Space:
    return Space(metric, random_palette(k, rng), descriptor, random_codes(8, k, descriptor, rng))


def in_parts(codes: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(codes, sorted(min(cut, len(codes)) for cut in cuts))


def compared_with_each(space: Space, codes: np.ndarray, query: np.ndarray) -> list[float]:
    return [space.distance(row, query) for row in codes]


def expected_rows(distances: list[float], limit: int) -> dict[int, float]:
    """Every row that is no farther than the limit-th nearest."""
    last = sorted(distances)[min(limit, len(distances)) - 1]
    return {row: distance for row, distance in enumerate(distances) if distance <= last}


@each_case
@deterministic
@given(
    seed=st.integers(0, 1 << 32),
    k=st.integers(1, 12),
    n=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 45), max_size=5),
    limit=st.integers(1, 60),
    own=st.booleans(),
)
def test_the_rows_found_are_those_of_comparing_with_each(descriptor, metric, seed, k, n, cuts, limit, own):
    rng = np.random.default_rng(seed)
    codes = random_codes(n, k, descriptor, rng)
    query = codes[rng.integers(n)] if own else random_codes(1, k, descriptor, rng)[0]
    space = space_over(k, descriptor, metric, rng)
    found = nearest_rows(space, in_parts(codes, cuts), query, limit)
    assert len({row for row, _ in found}) == len(found) >= min(limit, n)
    # Equal to the last bit, not nearly: the distance is the plain form's.
    assert dict(found) == expected_rows(compared_with_each(space, codes, query), limit)


@each_case
def test_so_they_are_over_thousands_of_rows_each_there_many_times(descriptor, metric):
    rng = np.random.default_rng(64)
    pool = random_codes(300, 64, descriptor, rng)
    rows = rng.integers(0, 300, 7000)
    space, query = space_over(64, descriptor, metric, rng), pool[0]
    distances = np.array(compared_with_each(space, pool, query))[rows].tolist()
    for limit in (1, 10, 500):
        found = nearest_rows(space, in_parts(pool[rows], [10, 10, 6500]), query, limit)
        assert dict(found) == expected_rows(distances, limit)


def fast_distances(space: Space, codes: np.ndarray, query: np.ndarray) -> np.ndarray:
    return np.linalg.norm(space.embed_fast(codes).vectors - space.embed_fast(query[None]).vectors, axis=1)


@each_case
def test_rows_that_float32_cannot_put_in_order_are_not_dismissed(descriptor, metric):
    rng, limit, n = np.random.default_rng(300), 300, 800
    # Eight colours in four shades each that are all but the same. The photos have the same amounts of the colours, and
    # only the shades change places, so all lie at one distance from the query but for some 1e-6 of it.
    shades = np.repeat(random_palette(8, rng), 4, axis=0) + rng.normal(0, 1e-4, (32, 3)).astype(np.float32)
    query, photo = rng.integers(10, 90, (2, len(descriptor.blocks) * 32)).astype(np.uint8)
    places = rng.permuted(np.tile(np.arange(4), (n, 1, 8, 1)), axis=3)
    codes = np.take_along_axis(np.tile(photo.reshape(1, -1, 8, 4), (n, 1, 1, 1)), places, axis=3).reshape(n, -1)
    space = Space(metric, shades, descriptor, random_codes(8, 32, descriptor, rng))
    exact = compared_with_each(space, codes, query)
    fast = fast_distances(space, codes, query)
    assert set(np.argsort(fast, kind="stable")[:limit]) != set(np.argsort(exact, kind="stable")[:limit])
    assert dict(nearest_rows(space, [codes], query, limit)) == expected_rows(exact, limit)


@each_case
def test_rows_around_the_mean_are_not_dismissed(descriptor, metric):
    # Where a centred metric divides by next to nothing.
    rng = np.random.default_rng(11)
    lab, mean = random_palette(12, rng), random_codes(1, 12, descriptor, rng)
    space = Space(metric, lab, descriptor, np.tile(mean, (5, 1)))
    codes = np.tile(mean, (120, 1))
    codes[np.arange(100), rng.integers(0, mean.shape[1], 100)] ^= 1
    for query in (mean[0], codes[0], random_codes(1, 12, descriptor, rng)[0]):
        exact = compared_with_each(space, codes, query)
        for limit in (1, 30, 110):
            assert dict(nearest_rows(space, [codes], query, limit)) == expected_rows(exact, limit)


@each_case
@pytest.mark.parametrize("threads", [1, 2])
def test_equal_descriptors_are_at_equal_distances_wherever_they_lie(descriptor, metric, threads):
    rng = np.random.default_rng(7)
    codes = random_codes(6, 33, descriptor, rng)
    space = space_over(33, descriptor, metric, rng)
    parts = [np.concatenate([codes[: i + 1], codes])[::-1] for i in range(6)]
    parts += [np.asfortranarray(codes), np.dstack([codes, codes])[..., 1]]
    everything = np.concatenate(parts)
    with threadpool_limits(threads):
        found = nearest_rows(space, parts, random_codes(1, 33, descriptor, rng)[0], len(everything))
    assert len(found) == len(everything)
    distances_of: dict[bytes, set[float]] = {}
    for row, distance in found:
        distances_of.setdefault(everything[row].tobytes(), set()).add(distance)
    assert all(len(distances) == 1 for distances in distances_of.values())


@each_case
@pytest.mark.parametrize("k", [1, 2, 64])
def test_the_querys_own_descriptor_is_at_exactly_zero(descriptor, metric, k):
    rng = np.random.default_rng(k)
    codes = random_codes(50, k, descriptor, rng)
    space = space_over(k, descriptor, metric, rng)
    for row in (0, 17, 49):
        found = dict(nearest_rows(space, [codes[:20], codes[20:]], codes[row], 1))
        assert found[row] == 0.0
        assert set(found.values()) == {0.0}


@each_case
def test_most_rows_are_dismissed_without_the_plain_form(descriptor, metric, monkeypatch):
    rng = np.random.default_rng(12)
    codes = np.array([random_codes(1, 64, descriptor, rng)[0] for _ in range(1500)])
    space, compared = space_over(64, descriptor, metric, rng), []
    plain = space.prepared_distance
    monkeypatch.setattr(space, "prepared_distance", lambda x, y: compared.append(1) or plain(x, y))
    nearest_rows(space, [codes], codes[0], 10)
    assert 10 <= len(compared) < 150


@pytest.mark.parametrize("limit", [1, 10])
@pytest.mark.parametrize("parts", [[], [0], [0, 0]], ids=["no parts", "an empty part", "empty parts"])
def test_an_empty_collection_has_no_rows(parts, limit):
    space = space_over(4, SPATIAL, DEFAULT, np.random.default_rng(0))
    empty = [np.zeros((n, 28), np.uint8) for n in parts]
    assert nearest_rows(space, empty, one_color(0, 4, SPATIAL), limit) == []


def test_all_that_tie_with_the_last_are_found():
    space = space_over(3, SPATIAL, DEFAULT, np.random.default_rng(0))
    red, green = one_color(0, 3, SPATIAL), one_color(1, 3, SPATIAL)
    parts = [np.array([green, red, green]), np.array([green, green])]
    assert {row for row, _ in nearest_rows(space, parts, red, 1)} == {1}
    assert {row for row, _ in nearest_rows(space, parts, red, 2)} == {0, 1, 2, 3, 4}


def test_a_limit_beyond_the_collection_finds_all_of_it():
    rng = np.random.default_rng(8)
    codes = random_codes(9, 5, SPATIAL, rng)
    found = nearest_rows(space_over(5, SPATIAL, DEFAULT, rng), [codes], codes[0], 1000)
    assert sorted(row for row, _ in found) == list(range(9))


def test_descriptors_that_must_not_be_written_to_are_searched_and_stay(tmp_path):
    rng = np.random.default_rng(9)
    codes = random_codes(30, 8, SPATIAL, rng)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    space = space_over(8, SPATIAL, DEFAULT, rng)
    assert nearest_rows(space, [mapped], codes[3], 5) == nearest_rows(space, [codes], codes[3], 5)
    np.testing.assert_array_equal(mapped, codes)
