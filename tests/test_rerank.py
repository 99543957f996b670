"""The second pass: relevance spreads over mutual neighbours, and one setting serves small classes and large."""

import warnings

import numpy as np
import pytest

from cbir.rerank import joints, relevance, second_pass


def clusters(sizes, spread=0.05, seed=3, dimensions=6) -> tuple[np.ndarray, np.ndarray]:
    """Points around one centre for each size, and which centre each is around."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return random.normal(0, 1, (len(sizes), dimensions))[labels] + random.normal(
        0, spread, (len(labels), dimensions)
    ), labels


def plain_joints(vectors: np.ndarray) -> np.ndarray:
    """The definition, pair by pair."""
    n = len(vectors)
    distance = np.array([[np.linalg.norm(a - b) for b in vectors] for a in vectors])
    near = [[j for j in np.argsort(distance[i], kind="stable") if j != i][:30] for i in range(n)]
    third = [distance[i, near[i][min(3, n - 1) - 1]] for i in range(n)]
    scale = np.sqrt(np.maximum(np.square(third), 0.5 * np.median(np.square(third))))
    weight = np.zeros((n, n))
    for i in range(n):
        for j in near[i]:
            if i in near[j]:
                weight[i, j] = np.exp(-((distance[i, j] ** 2 / (scale[i] * scale[j])) ** 4))
    strength = weight.sum(axis=1)
    return weight / np.sqrt(np.outer(strength, strength) + (weight == 0))


@pytest.mark.parametrize("sizes", [(5, 4), (60, 40), (2, 2, 2), (33,)])
def test_joints_are_those_of_the_definition_worked_out_pair_by_pair(sizes):
    vectors, _ = clusters(sizes)
    np.testing.assert_allclose(joints(vectors).toarray(), plain_joints(vectors), atol=1e-9)


def test_relevance_solves_its_equation():
    vectors, _ = clusters((30, 20))
    joined = joints(vectors)
    f = relevance(joined, 7)
    start = np.eye(len(vectors))[7]
    expected = np.linalg.solve(np.eye(len(vectors)) - 0.95 * joined.toarray(), start)
    np.testing.assert_allclose(f, np.where(expected > 1e-10, expected, 0), atol=1e-8)


def test_joints_are_symmetric_and_pass_on_no_more_than_there_is():
    joined = joints(clusters((40, 25, 8))[0]).toarray()
    np.testing.assert_allclose(joined, joined.T, atol=1e-12)
    assert np.abs(np.linalg.eigvalsh(joined)).max() <= 1 + 1e-9


def chain_beside_a_stranger() -> tuple[np.ndarray, np.ndarray, int]:
    """A query at the end of a long chain of hits, and one stranger nearer to it than the chain's far end is."""
    chain = np.column_stack([np.arange(1, 21) * 0.1, np.zeros(20)])
    stranger = np.array([[0.0, 1.2]])
    beside = np.array([[0.0, 1.2 + 0.1 * i] for i in range(1, 6)])
    hits = np.vstack([chain, stranger, beside])
    order = np.argsort(np.linalg.norm(hits, axis=1), kind="stable")
    return np.zeros(2), hits[order], int(np.flatnonzero(order == 20)[0])


def test_what_hangs_together_with_the_query_comes_before_a_nearer_stranger():
    query, hits, stranger = chain_beside_a_stranger()
    order = second_pass(query, hits)
    far_end = int(np.flatnonzero(np.isclose(hits[:, 0], 2.0))[0])
    assert far_end > stranger
    assert list(order).index(far_end) < list(order).index(stranger)


def test_hits_that_nothing_leads_to_stay_in_their_order_at_the_end():
    query, hits, _ = chain_beside_a_stranger()
    order = second_pass(query, hits).tolist()
    strangers = [i for i in range(len(hits)) if hits[i, 1] > 0]
    assert order[-len(strangers) :] == strangers


@pytest.mark.parametrize("size", [4, 100])
def test_one_setting_raises_the_precision_in_classes_of_four_and_of_a_hundred(size):
    vectors, labels = clusters((size,) * (400 // size), spread=0.45, dimensions=8)
    before, after = [], []
    for query in range(0, 400, 7):
        others = np.delete(np.arange(400), query)
        hits = others[np.argsort(np.linalg.norm(vectors[others] - vectors[query], axis=1), kind="stable")]
        again = hits[second_pass(vectors[query], vectors[hits])]
        before.append((labels[hits[: size - 1]] == labels[query]).mean())
        after.append((labels[again[: size - 1]] == labels[query]).mean())
    assert np.mean(after) > np.mean(before) + 0.02


def test_it_is_a_new_order_of_the_same_hits_and_the_same_each_time():
    vectors, _ = clusters((50, 50))
    order = second_pass(vectors[0], vectors[1:])
    assert sorted(order.tolist()) == list(range(99))
    np.testing.assert_array_equal(order, second_pass(vectors[0], vectors[1:]))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_few_hits_are_ranked_too(n):
    hits = np.arange(n, dtype=np.float64)[:, None] + 1
    order = second_pass(np.zeros(1), hits)
    assert sorted(order.tolist()) == list(range(n))


@pytest.mark.parametrize("seed", range(20))
def test_copies_and_bursts_keep_their_place_beside_the_query(seed):
    random = np.random.default_rng(seed)
    vectors = random.normal(0, 1, (120, 40))
    query, other = vectors[0], vectors[0] + random.normal(0, 0.1, 40)
    burst = [other + random.normal(0, spread, 40) for spread in (0, 0, 0, 0, 1e-3, 1e-3, 1e-3)]
    hits = np.vstack([vectors[1:], other, *burst])
    hits = hits[np.argsort(np.linalg.norm(hits - query, axis=1), kind="stable")]
    assert set(second_pass(query, hits)[:8].tolist()) == set(range(8))


def test_copies_of_the_query_come_first_and_nothing_is_divided_by_zero():
    hits = np.vstack([np.zeros((6, 2)), np.random.default_rng(0).normal(3, 1, (20, 2))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        order = second_pass(np.zeros(2), hits)
    assert set(order[:6].tolist()) == set(range(6))
