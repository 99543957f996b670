"""Explanations: a distance is taken apart into pairs of colours, and nothing is lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_codes import one_color, random_codes, random_palette
from scipy.optimize import linprog
from threadpoolctl import threadpool_limits

from cbir.color import hex_of_bytes, lab_of_bytes
from cbir.descriptor import DESCRIPTORS, GLOBAL, SPATIAL
from cbir.explain import contributions, explain, flow
from cbir.metric import Metric
from cbir.similarity import color_distances
from cbir.space import Space

deterministic = settings(derandomize=True, deadline=None, max_examples=25)
CASES = [
    pytest.param(descriptor, Metric.parse(text), id=f"{descriptor.name}-{text}")
    for descriptor in DESCRIPTORS.values()
    for text in ("cbir", "qbic", "sqrt-laplacian:10")
]
each_case = pytest.mark.parametrize(("descriptor", "metric"), CASES)
RED, DARK_RED, GREEN, BLUE, WHITE = [255, 0, 0], [235, 10, 5], [0, 160, 0], [0, 0, 255], [255, 255, 255]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


def drawn(seed: int, k: int, descriptor, metric, n: int = 2):
    rng = np.random.default_rng(seed)
    lab, reference = random_palette(k, rng), random_codes(9, k, descriptor, rng)
    return Space(metric, lab, descriptor, reference), lab, random_codes(n, k, descriptor, rng)


def explained(space, lab, query, photo, most=12):
    return explain(space, lab, space.prepare(query), space.descriptor.whole(query), photo, most)


def told(explanation):
    """The pairs by their colours, with share and addition."""
    return {(hex_of_bytes(p.query), hex_of_bytes(p.photo)): (p.share, p.added) for p in explanation.pairs}


def space_of(colors, metric="qbic", descriptor=GLOBAL):
    lab = lab_of_bytes(np.array(colors, np.uint8))
    return Space(
        Metric.parse(metric), lab, descriptor, np.zeros((0, len(descriptor.blocks) * len(colors)), np.uint8)
    ), lab


# --- the sum


@each_case
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(1, 40), most=st.integers(0, 80))
def test_pairs_and_rest_sum_to_the_distance(descriptor, metric, seed, k, most):
    space, lab, (query, photo) = drawn(seed, k, descriptor, metric)
    explanation = explained(space, lab, query, photo, most)
    assert explanation.distance == space.distance(query, photo)
    total = sum(pair.added for pair in explanation.pairs) + explanation.rest
    assert total == pytest.approx(explanation.distance, rel=1e-9, abs=1e-12)
    assert len(explanation.pairs) <= most


@each_case
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(1, 40))
def test_all_pairs_leave_no_rest_and_move_the_whole_picture(descriptor, metric, seed, k):
    space, lab, (query, photo) = drawn(seed, k, descriptor, metric)
    explanation = explained(space, lab, query, photo, 64)
    # A distance of next to nothing is a root of what rounding left.
    assert abs(explanation.rest) <= max(1e-9 * explanation.distance, 1e-7 if explanation.distance < 1e-6 else 0)
    assert sum(pair.share for pair in explanation.pairs) == pytest.approx(1, abs=1e-9)


def plain_additions(space, lab, x, amounts, photo, moved) -> np.ndarray:
    """What each pair adds by the rule as it is told, colour by colour; `moved` is the flow."""
    k, shares, A = len(lab), space.descriptor.whole(photo), space.form.matrix
    z = x - space.prepare(photo)
    d = space.prepared_distance(x, space.prepare(photo))
    there = [i for i in range(k) if amounts[i] + shares[i] > 0]
    added = np.zeros((k, k))
    of_colors = dict.fromkeys(there, 0.0)
    for i in range(k):
        home = i if i in of_colors else min(there, key=lambda j: np.linalg.norm(lab[i] - lab[j]))
        of_colors[home] += sum(w * one[i] * (A[i] @ one) for w, one in zip(space.weights, z, strict=True)) / d
    for i, addition in of_colors.items():
        pairs = {(i, j) for j in range(k)} | {(j, i) for j in range(k)}
        if len(space.weights) == 1:
            pairs -= {(i, i)}
        total = sum(moved[pair] for pair in pairs)
        if sum(moved[pair] for pair in pairs - {(i, i)}) == 0:
            added[i, i] += addition
            continue
        for pair in pairs:
            added[pair] += addition * moved[pair] / total
    return added


@each_case
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(2, 20))
def test_each_colour_is_dealt_out_to_its_pairs_by_what_went(descriptor, metric, seed, k):
    rng = np.random.default_rng(seed)
    lab = rng.uniform(0, 100, (k, 3))
    query, photo, *reference = random_codes(11, k, descriptor, rng)
    space = Space(metric, lab, descriptor, np.array(reference))
    if space.distance(query, photo) < 1e-6:
        return
    asked = space, lab, space.prepare(query), descriptor.whole(query), photo
    moved, added = contributions(*asked)
    np.testing.assert_allclose(added, plain_additions(*asked, moved), rtol=0, atol=1e-9)


@each_case
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(2, 30))
def test_the_order_of_the_palette_does_not_matter(descriptor, metric, seed, k):
    space, lab, photos = drawn(seed, k, descriptor, metric, 11)
    query, photo, reference = photos[0], photos[1], photos[2:]
    space = Space(metric, lab, descriptor, reference)
    order = np.random.default_rng(seed).permutation(k)

    def turned(codes):
        return codes.reshape(*codes.shape[:-1], -1, k)[..., order].reshape(codes.shape)

    other = Space(metric, lab[order], descriptor, turned(reference))
    one, same = (
        told(explained(space, lab, query, photo, 64)),
        told(explained(other, lab[order], turned(query), turned(photo), 64)),
    )
    if space.distance(query, photo) < 1e-6:
        return
    for pair in one.keys() | same.keys():
        assert one.get(pair, (0, 0)) == pytest.approx(same.get(pair, (0, 0)), abs=1e-7)


# --- what it says


@each_case
@deterministic
@given(seed=st.integers(0, 1 << 32), k=st.integers(1, 40))
def test_of_the_photo_itself_everything_stays_and_adds_nothing(descriptor, metric, seed, k):
    space, lab, (query, _) = drawn(seed, k, descriptor, metric)
    explanation = explained(space, lab, query, query)
    assert explanation.distance == 0 and explanation.rest == 0
    for pair in explanation.pairs:
        assert pair.query.tolist() == pair.photo.tolist()
        assert pair.delta_e == 0 and pair.added == 0
    assert sum(pair.share for pair in explanation.pairs) == pytest.approx(1)


def test_red_that_became_green_is_the_one_pair_that_adds_while_blue_stays():
    space, lab = space_of([RED, GREEN, BLUE])
    query, photo = space.descriptor.of_whole(np.array([1, 0, 1.0])), space.descriptor.of_whole(np.array([0, 1, 1.0]))
    pairs = explained(space, lab, query, photo).pairs
    first, second = pairs
    assert (first.query.tolist(), first.photo.tolist()) == (RED, GREEN)
    assert first.share == pytest.approx(0.5) and first.added == pytest.approx(space.distance(query, photo))
    assert first.delta_e == pytest.approx(np.linalg.norm(lab[0] - lab[1]))
    assert (second.query.tolist(), second.photo.tolist()) == (BLUE, BLUE) and second.added == 0


def test_shades_are_told_as_one_colour_the_mean_by_their_shares():
    space, lab = space_of([RED, DARK_RED, BLUE])
    query, photo = space.descriptor.of_whole(np.array([1, 1, 0.0])), space.descriptor.of_whole(np.array([0, 0, 1.0]))
    (pair,) = explained(space, lab, query, photo).pairs
    np.testing.assert_allclose(lab_of_bytes(pair.query), lab[:2].mean(axis=0), atol=1)
    assert pair.photo.tolist() == BLUE and pair.share == pytest.approx(1)


def test_what_stayed_but_elsewhere_in_the_picture_adds_all():
    space, lab = space_of([WHITE, RED], "cbir", SPATIAL)
    labels = np.repeat([0, 1], 12)[:, None] * np.ones(24, int)
    query, photo = (SPATIAL.describe(one.astype(np.uint16), 2) for one in (labels, labels[::-1]))
    explanation = explained(space, lab, query, photo)
    assert explanation.distance > 0.1
    assert {(hex_of_bytes(p.query), hex_of_bytes(p.photo)) for p in explanation.pairs} == {
        ("#ffffff", "#ffffff"),
        ("#ff0000", "#ff0000"),
    }
    assert sum(pair.added for pair in explanation.pairs) == pytest.approx(explanation.distance)


def test_a_colour_that_there_is_little_of_but_that_adds_much_is_told_as_itself():
    greys = [[v, v, v] for v in range(0, 256, 17)]
    yellow = [255, 220, 0]
    space, lab = space_of([*greys, yellow], "laplacian:3,power=0.05")
    amounts = np.ones(len(greys) + 1)
    amounts[-1] = 0
    query = GLOBAL.of_whole(amounts)
    amounts[-1] = 0.02
    explanation = explained(space, lab, query, GLOBAL.of_whole(amounts))
    of_yellow = [pair for pair in explanation.pairs if pair.photo.tolist() == yellow]
    assert sum(pair.share for pair in of_yellow) < 0.005
    assert sum(pair.added for pair in of_yellow) > explanation.distance / 2


def test_the_pairs_that_add_most_come_first_and_colours_are_few():
    space, lab, (query, photo) = drawn(5, 60, SPATIAL, Metric())
    pairs = explained(space, lab, query, photo, 1000).pairs
    sizes = [abs(pair.added) for pair in pairs]
    assert sizes == sorted(sizes, reverse=True)
    assert len({hex_of_bytes(p.query) for p in pairs}) <= 8 and len({hex_of_bytes(p.photo) for p in pairs}) <= 8


def test_a_query_that_is_no_photo_is_explained_by_its_own_amounts():
    space, lab = space_of([RED, GREEN, BLUE])
    moved = np.array([0, 0.25, 0.75])
    explanation = explain(space, lab, moved[None], moved, one_color(0, 3, GLOBAL))
    assert told(explanation).keys() == {("#00a000", "#ff0000"), ("#0000ff", "#ff0000")}
    assert sorted(pair.share for pair in explanation.pairs) == pytest.approx([0.25, 0.75])


# --- the flow


def plain_cost(q, h, distances) -> float:
    """The least cost by the linear programme as it stands in books."""
    k = len(q)
    rows, columns = np.kron(np.eye(k), np.ones(k)), np.kron(np.ones(k), np.eye(k))
    # In large numbers, for the solver knows none below a ten millionth.
    solution = linprog(distances.reshape(-1), A_eq=rows, b_eq=1e4 * q, A_ub=columns, b_ub=1e4 * h + 1e-6)
    return solution.fun / 1e4


def drawn_amounts(seed: int, k: int, part: float):
    rng = np.random.default_rng(seed)
    q, h = (rng.dirichlet(np.full(k, rng.choice([0.1, 1.0]))) for _ in range(2))
    return part * q, h, color_distances(random_palette(k, rng))


amounts = st.builds(
    drawn_amounts, st.integers(0, 1 << 32), st.integers(1, 12), st.sampled_from([1.0, 0.999, 0.5, 1e-3])
)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(amounts)
def test_the_flow_moves_all_of_q_into_what_there_is_of_h(drawn):
    q, h, distances = drawn
    moved = flow(q, h, distances)
    assert moved.min() >= 0
    np.testing.assert_allclose(moved.sum(axis=1), q, rtol=0, atol=1e-11)
    assert (moved.sum(axis=0) <= h + 1e-11).all()


@settings(derandomize=True, deadline=None, max_examples=80)
@given(amounts)
def test_the_flow_costs_what_the_plain_linear_programme_costs(drawn):
    q, h, distances = drawn
    assert (flow(q, h, distances) * distances).sum() == pytest.approx(plain_cost(q, h, distances), rel=1e-6, abs=1e-5)


def test_what_both_have_stays():
    q, h = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
    moved = flow(q, h, color_distances(np.array([[0, 0, 0], [5, 0, 0], [10, 0, 0]])))
    np.testing.assert_allclose(moved, [[0.1, 0, 0.4], [0, 0.3, 0], [0, 0, 0.2]], atol=1e-12)


def test_a_question_that_leaves_some_of_the_picture_free_takes_the_nearest():
    lab = np.array([[0, 0, 0], [10, 0, 0], [50, 0, 0]])
    moved = flow(np.array([0.3, 0, 0]), np.array([0, 0.2, 0.8]), color_distances(lab))
    np.testing.assert_allclose(moved, [[0, 0.2, 0.1], [0, 0, 0], [0, 0, 0]], atol=1e-12)


def test_nothing_asked_moves_nothing():
    assert not flow(np.zeros(3), np.full(3, 1 / 3), color_distances(np.eye(3))).any()


def test_with_more_colours_than_are_solved_for_marginals_stay_exact_and_the_cost_nearly_least():
    rng = np.random.default_rng(4)
    # As photos are: a few giants among dust.
    q, h = (amounts / amounts.sum() for amounts in rng.uniform(0, 1, (2, 150)) ** 12)
    distances = color_distances(rng.uniform(0, 100, (150, 3)))
    assert min((q > h).sum(), (h > q).sum()) > 48
    moved = flow(q, h, distances)
    np.testing.assert_allclose(moved.sum(axis=1), q, rtol=0, atol=1e-11)
    np.testing.assert_allclose(moved.sum(axis=0), h, rtol=0, atol=1e-11)
    assert (moved * distances).sum() == pytest.approx(plain_cost(q, h, distances), rel=0.01)
