"""Searching: the rows that comparing the query with each of them by the plain form would find, no other, none less."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from cbir.color import lab_of_bytes
from cbir.histogram import UNITS, to_units
from cbir.metric import Metric
from cbir.search import _approximate, _error_bound, nearest_rows
from cbir.similarity import color_distances

deterministic = settings(derandomize=True, deadline=None, max_examples=40)
METRICS = [
    Metric(),
    Metric("laplacian", 40.0, roots=False),
    Metric("gaussian", 3.0),
    Metric("gaussian", 200.0),  # nearly all colours are alike: hardest to tell apart in float32
    Metric("gaussian", None, roots=False),
    Metric("linear", None, roots=False),
    Metric("linear", 900.0, roots=False),
]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=str)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On a busy machine, two threads wait for each other a hundred times longer than these small products take."""
    with threadpool_limits(1):
        yield


def random_palette(k: int, rng: np.random.Generator) -> np.ndarray:
    lab = lab_of_bytes(rng.integers(0, 256, (k, 3)).astype(np.uint8))
    if k > 2:
        lab[rng.integers(k)] = lab[rng.integers(k)]  # the same colour twice, or nearly so
        lab[rng.integers(k)] = lab[rng.integers(k)] + np.float32(1e-3)
    return lab


def random_amounts(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Photos of many, few or single colours, exact duplicates, and such that differ by one unit only."""
    rows = [to_units(rng.dirichlet(np.full(k, rng.choice([0.05, 1.0])))) for _ in range(n)]
    for i in range(n):
        kind = rng.integers(6)
        if kind == 0:
            rows[i] = to_units(np.eye(k)[rng.integers(k)])
        elif kind in (1, 2):
            rows[i] = rows[rng.integers(n)].copy()
        elif kind == 3:
            rows[i] = rows[rng.integers(n)].copy()
            rows[i][rows[i].argmax()] -= 1
            rows[i][rng.integers(k)] += 1
    amounts = np.array(rows, np.uint16).reshape(n, k)
    assert (amounts.sum(axis=1, dtype=int) == UNITS).all()
    return amounts


def in_parts(amounts: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(amounts, sorted(min(cut, len(amounts)) for cut in cuts))


def compared_with_each(form, metric: Metric, amounts: np.ndarray, query: np.ndarray) -> list[float]:
    target = metric.prepare(query / UNITS)
    return [form.distance(metric.prepare(row / UNITS), target) for row in amounts]


def expected_rows(distances: list[float], limit: int) -> dict[int, float]:
    """Every row that is no farther than the limit-th nearest."""
    last = sorted(distances)[min(limit, len(distances)) - 1]
    return {row: distance for row, distance in enumerate(distances) if distance <= last}


@each_metric
@deterministic
@given(
    seed=st.integers(0, 1 << 32),
    k=st.integers(1, 12),
    n=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 45), max_size=5),
    limit=st.integers(1, 60),
    own=st.booleans(),
)
def test_the_rows_found_are_those_of_comparing_with_each(metric, seed, k, n, cuts, limit, own):
    rng = np.random.default_rng(seed)
    amounts = random_amounts(n, k, rng)
    query = amounts[rng.integers(n)] if own else random_amounts(1, k, rng)[0]
    form = metric.form(random_palette(k, rng))
    found = nearest_rows(form, metric, in_parts(amounts, cuts), query, limit)
    assert len({row for row, _ in found}) == len(found) >= min(limit, n)
    # Equal to the last bit, not nearly: the distance is the plain form's.
    assert dict(found) == expected_rows(compared_with_each(form, metric, amounts, query), limit)


@each_metric
@pytest.mark.parametrize("k", [64, 256])
def test_so_they_are_over_more_rows_than_one_block(metric, k):
    rng = np.random.default_rng(k)
    pool = random_amounts(300, k, rng)
    amounts = pool[rng.integers(0, 300, 9000)]  # each about 30 times
    form, query = metric.form(random_palette(k, rng)), pool[0]
    of_pool = compared_with_each(form, metric, pool, query)
    for limit in (1, 10, 500):
        found = nearest_rows(form, metric, in_parts(amounts, [10, 10, 8500]), query, limit)
        row_of = {row.tobytes(): distance for row, distance in zip(pool, of_pool, strict=True)}
        distances = [row_of[row.tobytes()] for row in amounts]
        assert dict(found) == expected_rows(distances, limit)


@each_metric
@pytest.mark.parametrize("limit", [300])
def test_rows_that_float32_cannot_put_in_order_are_not_dismissed(metric, limit):
    rng = np.random.default_rng(limit)
    # Eight colours in eight shades each that are all but the same. The photos have the same amounts of the colours, and
    # only the shades change places, so all lie at one distance from the query but for some 1e-6 of it.
    shades = np.repeat(random_palette(8, rng), 8, axis=0) + rng.normal(0, 1e-4, (64, 3)).astype(np.float32)
    query, photo = (to_units(rng.dirichlet(np.ones(64))) for _ in range(2))
    amounts = rng.permuted(np.tile(photo, (1000, 1)).reshape(8000, 8), axis=1).reshape(1000, 64)
    form = metric.form(shades)
    exact = compared_with_each(form, metric, amounts, query)
    approximate = _approximate(form, metric, amounts, query)
    assert set(np.argsort(approximate, kind="stable")[:limit]) != set(np.argsort(exact, kind="stable")[:limit])
    assert dict(nearest_rows(form, metric, [amounts], query, limit)) == expected_rows(exact, limit)


@each_metric
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("k", [33, 256])
def test_equal_amounts_are_at_equal_distances_wherever_they_lie(metric, k, threads):
    rng = np.random.default_rng(7)
    amounts = random_amounts(6, k, rng)
    form = metric.form(random_palette(k, rng))
    parts = [np.concatenate([amounts[: i + 1], amounts])[::-1] for i in range(6)]
    parts += [np.asfortranarray(amounts), np.dstack([amounts, amounts])[..., 1]]
    everything = np.concatenate(parts)
    with threadpool_limits(threads):
        found = nearest_rows(form, metric, parts, random_amounts(1, k, rng)[0], len(everything))
    assert len(found) == len(everything)
    distances_of: dict[bytes, set[float]] = {}
    for row, distance in found:
        distances_of.setdefault(everything[row].tobytes(), set()).add(distance)
    assert all(len(distances) == 1 for distances in distances_of.values())


@each_metric
@pytest.mark.parametrize("k", [1, 2, 64, 256])
def test_the_querys_own_amounts_are_at_exactly_zero(metric, k):
    rng = np.random.default_rng(k)
    amounts = random_amounts(50, k, rng)
    form = metric.form(random_palette(k, rng))
    for row in (0, 17, 49):
        found = dict(nearest_rows(form, metric, [amounts[:20], amounts[20:]], amounts[row], 1))
        assert found[row] == 0.0
        assert set(found.values()) == {0.0}


@pytest.mark.parametrize("limit", [1, 10])
@pytest.mark.parametrize("parts", [[], [0], [0, 0]], ids=["no parts", "an empty part", "empty parts"])
def test_an_empty_collection_has_no_rows(parts, limit):
    form = Metric().form(random_palette(4, np.random.default_rng(0)))
    empty = [np.zeros((n, 4), np.uint16) for n in parts]
    assert nearest_rows(form, Metric(), empty, to_units(np.ones(4)), limit) == []


def test_all_that_tie_with_the_last_are_found():
    form = Metric().form(random_palette(3, np.random.default_rng(0)))
    red, mixed = to_units(np.array([1.0, 0, 0])), to_units(np.array([0.5, 0.5, 0]))
    parts = [np.array([mixed, red, mixed]), np.array([mixed, mixed])]
    assert {row for row, _ in nearest_rows(form, Metric(), parts, red, 1)} == {1}
    assert {row for row, _ in nearest_rows(form, Metric(), parts, red, 2)} == {0, 1, 2, 3, 4}


def test_a_limit_beyond_the_collection_finds_all_of_it():
    rng = np.random.default_rng(8)
    amounts = random_amounts(9, 5, rng)
    found = nearest_rows(Metric().form(random_palette(5, rng)), Metric(), [amounts], amounts[0], 1000)
    assert sorted(row for row, _ in found) == list(range(9))


def test_amounts_that_must_not_be_written_to_are_searched_and_stay(tmp_path):
    rng = np.random.default_rng(9)
    amounts = random_amounts(30, 8, rng)
    np.save(tmp_path / "amounts.npy", amounts)
    mapped = np.load(tmp_path / "amounts.npy", mmap_mode="r")
    form = Metric().form(random_palette(8, rng))
    assert nearest_rows(form, Metric(), [mapped], amounts[3], 5) == nearest_rows(
        form, Metric(), [amounts], amounts[3], 5
    )
    np.testing.assert_array_equal(mapped, amounts)


# --- no false dismissal rests on this


def worst_error(form, metric: Metric, amounts: np.ndarray, query: np.ndarray) -> float:
    exact = compared_with_each(form, metric, amounts, query)
    return float(np.abs(_approximate(form, metric, amounts, query).astype(np.float64) - exact).max())


@each_metric
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(1, 40))
def test_an_approximate_distance_is_never_off_by_more_than_the_bound(metric, seed, k):
    rng = np.random.default_rng(seed)
    form = metric.form(random_palette(k, rng))
    assert worst_error(form, metric, random_amounts(20, k, rng), random_amounts(1, k, rng)[0]) <= _error_bound(form)


@each_metric
@pytest.mark.parametrize("k", [64, 256, 1024])
def test_nor_is_it_at_the_sizes_that_are_used(metric, k):
    rng = np.random.default_rng(k)
    form = metric.form(random_palette(k, rng))
    amounts = random_amounts(300, k, rng)
    assert worst_error(form, metric, amounts, amounts[0]) <= _error_bound(form)


@each_metric
def test_nor_where_photos_are_wholly_different_or_the_same(metric):
    lab = random_palette(64, np.random.default_rng(3))
    form = metric.form(lab)
    single = np.eye(64, dtype=np.uint16) * np.uint16(UNITS)
    farthest = single[np.unravel_index(color_distances(lab).argmax(), (64, 64))[0]]
    assert worst_error(form, metric, single, farthest) <= _error_bound(form)


@each_metric
@pytest.mark.parametrize("k", [64, 256])
def test_the_bound_is_small_enough_to_filter_by(metric, k):
    # The farthest two photos can lie apart is the scale of a collection's distances.
    form = metric.form(random_palette(k, np.random.default_rng(k)))
    farthest = max(form.distance(h, g) for h in np.eye(k)[:20] for g in np.eye(k)[20:40])
    assert math.isfinite(_error_bound(form))
    assert _error_bound(form) < farthest / 1000
