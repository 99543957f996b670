"""The measures of ranked retrieval: hand-worked figures, plain loops, and scikit-learn's and theory's for the same."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cbir.evaluation.measures import (
    average_precision,
    bootstrap_interval,
    nmrr,
    ns_score,
    precision_at,
    precision_at_recall,
    recall_at,
)

deterministic = settings(derandomize=True, deadline=None, max_examples=100)
TENTHS = np.arange(11) / 10


def rankings(*rows) -> np.ndarray:
    return np.array(rows, bool)


def relevant_at(*ranks: int, n: int) -> np.ndarray:
    """One query with n hits, those at these ranks relevant."""
    return np.isin(np.arange(1, n + 1), ranks)[None]


def random_rankings(q: int, n: int, share: float, seed: int) -> np.ndarray:
    """About a share of the hits relevant, at least one in each row."""
    rng = np.random.default_rng(seed)
    relevant = rng.random((q, n)) < share
    relevant[np.arange(q), rng.integers(n, size=q)] = True
    return relevant


blocks = st.builds(
    random_rankings, st.integers(1, 6), st.integers(1, 60), st.sampled_from([0, 0.05, 0.3, 1]), st.integers(0, 1000)
)

# NIST's example in "Common evaluation measures" of the TREC proceedings: 4 relevant among 20.
TREC = relevant_at(1, 2, 4, 15, n=20)
PERFECT = relevant_at(1, 2, 3, n=12)
INVERTED = relevant_at(10, 11, 12, n=12)


# --- the best and the worst ranking


def test_a_perfect_ranking_has_the_best_figure_of_every_measure():
    assert precision_at(PERFECT, 3) == 1
    assert average_precision(PERFECT) == 1
    assert nmrr(PERFECT, 3) == 0
    assert ns_score(PERFECT) == 4
    assert precision_at_recall(PERFECT, TENTHS).tolist() == [[1.0] * 11]
    assert recall_at(PERFECT)[0, 2] == 1


def test_an_inverted_ranking_has_the_worst():
    assert precision_at(INVERTED, 9) == 0
    # Precisions 1/10, 2/11 and 3/12 at the relevant hits.
    assert average_precision(INVERTED) == pytest.approx((1 / 10 + 2 / 11 + 3 / 12) / 3)
    # K = min(12, 6) = 6, and no relevant hit is within.
    assert nmrr(INVERTED, 3) == 1
    assert ns_score(INVERTED) == 1
    assert precision_at_recall(INVERTED, TENTHS).tolist() == [[3 / 12] * 11]
    assert recall_at(INVERTED)[0, 8] == 0


@deterministic
@given(blocks)
def test_no_ranking_is_better_than_the_perfect_or_worse_than_the_inverted_one(relevant):
    inverted, perfect = np.sort(relevant, axis=1), np.sort(relevant, axis=1)[:, ::-1]
    largest = int(relevant.sum(axis=1).max())
    for measure in (average_precision, ns_score, lambda r: precision_at(r, 5), lambda r: -nmrr(r, largest)):
        worst, actual, best = measure(inverted), measure(relevant), measure(perfect)
        assert (worst <= actual + 1e-12).all() and (actual <= best + 1e-12).all()
    np.testing.assert_allclose(average_precision(perfect), 1)
    np.testing.assert_allclose(nmrr(perfect, largest), 0, atol=1e-12)


@deterministic
@given(blocks)
def test_each_query_of_a_block_is_measured_as_if_alone(relevant):
    measures = (
        average_precision,
        ns_score,
        recall_at,
        lambda r: precision_at(r, 7),
        lambda r: nmrr(r, 60),
        lambda r: precision_at_recall(r, TENTHS),
    )
    for measure in measures:
        np.testing.assert_array_equal(measure(relevant), np.concatenate([measure(row[None]) for row in relevant]))


def test_figures_are_float64():
    for figures in (precision_at(TREC, 5), average_precision(TREC), nmrr(TREC, 4), ns_score(TREC)):
        assert figures.shape == (1,) and figures.dtype == np.float64
    assert recall_at(TREC).shape == (1, 20) and recall_at(TREC).dtype == np.float64
    assert precision_at_recall(TREC, [0, 0.5]).shape == (1, 2)


@pytest.mark.parametrize(
    "measure",
    [
        average_precision,
        ns_score,
        recall_at,
        lambda relevant: precision_at(relevant, 2),
        lambda relevant: nmrr(relevant, 2),
        lambda relevant: precision_at_recall(relevant, [0.5]),
    ],
    ids=["AP", "NS", "recall", "P@n", "NMRR", "interpolated"],
)
def test_a_query_without_a_relevant_hit_is_refused_by_its_number(measure):
    with pytest.raises(ValueError, match="query 1 of the block has no relevant hit"):
        measure(rankings([1, 0, 1], [0, 0, 0], [0, 1, 0]))


# --- precision and average precision


def test_precision_is_the_share_of_the_first_hits_that_are_relevant():
    relevant = rankings([1, 0, 1, 0, 0], [0, 0, 0, 1, 1])
    assert precision_at(relevant, 1).tolist() == [1, 0]
    assert precision_at(relevant, 4).tolist() == [2 / 4, 1 / 4]


def test_hits_missing_from_a_small_collection_count_as_not_relevant():
    # Two relevant among all the three hits there are: 2/10, as trec_eval has it, not 2/3.
    assert precision_at(rankings([1, 0, 1]), 10).tolist() == [0.2]


def test_average_precision_is_the_mean_of_the_precisions_at_the_relevant_hits():
    relevant = rankings([1, 0, 1, 0, 0], [0, 1, 0, 0, 1])
    # Precisions 1/1 and 2/3 at ranks 1 and 3; 1/2 and 2/5 at ranks 2 and 5.
    assert average_precision(relevant) == pytest.approx([(1 + 2 / 3) / 2, (1 / 2 + 2 / 5) / 2])
    assert average_precision(TREC) == pytest.approx((1 / 1 + 2 / 2 + 3 / 4 + 4 / 15) / 4)


@deterministic
@given(blocks)
def test_average_precision_is_that_of_scikit_learn(relevant):
    scores = -np.arange(relevant.shape[1])
    expected = [average_precision_score(row, scores) for row in relevant]
    np.testing.assert_allclose(average_precision(relevant), expected, rtol=1e-12)


# --- MPEG-7's rank


def test_nmrr_counts_ranks_up_to_k_and_more_than_k_for_what_is_beyond():
    # NG = 2, GTM = 5: K = min(4 * 2, 2 * 5) = 8. Ranks 3 and 9; the second is beyond K and counts 1.25 * 8 = 10.
    # AVR = (3 + 10) / 2 = 6.5; MRR = 6.5 - 0.5 - 2/2 = 5; NMRR = 5 / (10 - 0.5 * 3) = 5 / 8.5.
    assert nmrr(relevant_at(3, 9, n=20), 5) == pytest.approx(5 / 8.5)
    # At rank 8 it is just within: AVR = 5.5; MRR = 4.
    assert nmrr(relevant_at(3, 8, n=20), 5) == pytest.approx(4 / 8.5)


def test_the_largest_class_bounds_how_far_hits_of_a_large_class_are_looked_for():
    # NG = 3 = GTM: K = min(12, 6) = 6. Ranks 1, 6 and 7, the last counting 7.5: AVR = 14.5/3; MRR = 14.5/3 - 2 = 8.5/3;
    # NMRR = (8.5/3) / (7.5 - 2).
    assert nmrr(relevant_at(1, 6, 7, n=20), 3) == pytest.approx(8.5 / 3 / 5.5)
    # With GTM = 6, K = 12 and all are within: AVR = 14/3; MRR = 8/3; NMRR = (8/3) / (15 - 2).
    assert nmrr(relevant_at(1, 6, 7, n=20), 6) == pytest.approx(8 / 3 / 13)


def test_how_far_beyond_k_a_hit_is_makes_no_difference():
    assert nmrr(relevant_at(3, 9, n=1000), 5) == nmrr(relevant_at(3, 1000, n=1000), 5)


def plain_nmrr(row, largest_class) -> float:
    ranks = [i + 1 for i in range(len(row)) if row[i]]
    NG = len(ranks)
    K = min(4 * NG, 2 * largest_class)
    AVR = sum(rank if rank <= K else 1.25 * K for rank in ranks) / NG
    return (AVR - 0.5 - NG / 2) / (1.25 * K - 0.5 * (1 + NG))


@deterministic
@given(blocks, st.integers(0, 40))
def test_nmrr_is_that_of_a_plain_loop(relevant, more):
    largest = int(relevant.sum(axis=1).max()) + more
    figures = nmrr(relevant, largest)
    np.testing.assert_allclose(figures, [plain_nmrr(row, largest) for row in relevant], rtol=1e-12, atol=1e-12)
    assert (figures > -1e-12).all() and (figures < 1 + 1e-12).all()


def test_a_largest_class_that_is_not_the_largest_is_refused():
    with pytest.raises(ValueError, match="3 relevant hits, more than the largest class, 2"):
        nmrr(PERFECT, 2)


# --- UKBench's score, and the first rank


def test_the_ns_score_counts_the_query_and_its_likes_among_the_next_three():
    relevant = rankings([1, 1, 1, 0, 0], [1, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1])
    assert ns_score(relevant).tolist() == [4, 3, 2, 1]


# --- recall and interpolated precision


def test_recall_rises_by_an_equal_step_at_each_relevant_hit_to_one():
    relevant = rankings([1, 0, 1, 0], [0, 0, 0, 1])
    assert recall_at(relevant).tolist() == [[0.5, 0.5, 1, 1], [0, 0, 0, 1]]


def test_interpolated_precision_of_the_trec_example():
    # Recall 1/4, 2/4, 3/4, 4/4 at precision 1, 1, 3/4, 4/15.
    expected = [1] * 6 + [3 / 4] * 2 + [4 / 15] * 3
    assert precision_at_recall(TREC, TENTHS)[0] == pytest.approx(expected)


def test_a_higher_precision_beyond_the_level_is_taken():
    # Precision 1/2, 2/4 and 3/5 at recall 1/3, 2/3 and 1: the last is the highest, and so 3/5 at every level.
    assert precision_at_recall(rankings([0, 1, 0, 1, 1]), [0, 1 / 3, 0.5, 1]).tolist() == [[3 / 5] * 4]


@pytest.mark.parametrize("levels", [TENTHS, np.linspace(0, 1, 11), np.arange(0, 1.01, 0.1)], ids=["n/10", "lin", "add"])
@pytest.mark.parametrize("relevant_hits", [10, 20, 30])
def test_a_level_that_is_reached_exactly_is_reached_however_it_was_rounded(levels, relevant_hits):
    # After each relevant hit follow as many others as came before, so that precision only falls from hit to hit.
    ranks = np.cumsum(np.arange(1, relevant_hits + 1))
    precisions = np.arange(1, relevant_hits + 1) / ranks
    steps = relevant_hits // 10
    expected = [1.0, *precisions[steps - 1 :: steps]]
    assert precision_at_recall(relevant_at(*ranks, n=500), levels)[0] == pytest.approx(expected)


def plain_interpolated(row, numerator, denominator) -> float:
    """The highest precision at a recall of numerator/denominator or beyond, with recalls compared as whole numbers."""
    best, found = 0.0, 0
    for rank, is_relevant in enumerate(row, start=1):
        found += int(is_relevant)
        if found * denominator >= numerator * int(row.sum()):
            best = max(best, found / rank)
    return best


@deterministic
@given(blocks, st.integers(1, 20))
def test_interpolated_precision_is_that_of_a_plain_loop(relevant, steps):
    figures = precision_at_recall(relevant, np.linspace(0, 1, steps + 1))
    expected = [[plain_interpolated(row, i, steps) for i in range(steps + 1)] for row in relevant]
    np.testing.assert_allclose(figures, expected, rtol=1e-12)


# --- how sure a mean is


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_the_interval_of_constant_values_is_that_value(value):
    assert bootstrap_interval(np.full(50, value)) == (value, value)


def test_the_same_seed_gives_the_same_figures_and_another_gives_others():
    values = np.random.default_rng(1).random(80)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_for_many_values_the_interval_is_that_of_the_normal_distribution():
    values = np.random.default_rng(2).random(1000)
    error = values.std() / math.sqrt(1000)
    # The quantiles of 95 % and of half, each side; off by little more than the resampling.
    for level, quantile in ((0.95, 1.960), (0.5, 0.674)):
        low, high = bootstrap_interval(values, level)
        assert (low - values.mean()) / error == pytest.approx(-quantile, abs=0.15)
        assert (high - values.mean()) / error == pytest.approx(quantile, abs=0.15)


@pytest.mark.parametrize(("level", "least", "most"), [(0.95, 0.90, 0.98), (0.5, 0.42, 0.58)])
def test_the_interval_covers_the_true_mean_as_often_as_its_level_says(level, least, most):
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(300):
        low, high = bootstrap_interval(rng.normal(0.6, 0.2, 100), level, resamples=500, seed=seed)
        covered += low <= 0.6 <= high
    assert least < covered / 300 < most


def test_ten_thousand_queries_are_resampled_in_a_few_megabytes():
    values = np.random.default_rng(6).random(10_000)
    bootstrap_interval(values[:2], resamples=2)  # imports what it needs
    tracemalloc.start()
    bootstrap_interval(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("values", [[], [0.5]])
def test_fewer_than_two_values_have_no_interval(values):
    with pytest.raises(ValueError):
        bootstrap_interval(np.array(values))
