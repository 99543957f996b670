"""The quadratic-form distance: a metric, in two forms that agree, over matrices that allow it."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab
from threadpoolctl import threadpool_info, threadpool_limits

from cbir.color import lab_of_bytes
from cbir.errors import MetricError, NotPositiveSemidefiniteError
from cbir.quadratic import QuadraticForm, one_thread
from cbir.similarity import SIMILARITIES, color_distances, gaussian, laplacian, linear

deterministic = settings(derandomize=True, deadline=None, max_examples=40)
# A similarity, and whether it is of the amounts' square roots.
KINDS = [("linear", False), ("gaussian", False), ("gaussian", True), ("laplacian", False), ("laplacian", True)]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=[("sqrt-" if roots else "") + name for name, roots in KINDS])
EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module", autouse=True)
def on_one_thread():
    """On a busy machine, two threads wait for each other a hundred times longer than these small products take."""
    with threadpool_limits(1):
        yield


def form_over(kind, lab, reach: float = 0) -> QuadraticForm:
    """`reach` is in L*a*b* units, or for linear a multiple of the largest distance; 0 stands for none."""
    similarity, roots = kind
    distances = color_distances(lab)
    if similarity == "linear":
        reach *= float(distances.max())
    return QuadraticForm(SIMILARITIES[similarity](distances, reach or None), one_sum=not roots)


def prepared(kind, amounts: np.ndarray) -> np.ndarray:
    return np.sqrt(amounts) if kind[1] else amounts


@st.composite
def palettes(draw):
    """1 to 20 colours in the range of sRGB's L*a*b*, some of them twice or more."""
    channel = [st.floats(low, high, width=32) for low, high in ((0, 100), (-86, 98), (-108, 95))]
    colors = draw(st.lists(st.tuples(*channel), min_size=1, max_size=15))
    return np.array(colors + draw(st.lists(st.sampled_from(colors), max_size=5)), np.float32)


@st.composite
def histograms(draw, k: int):
    """Amounts that sum to one: a single colour, a few, or all."""
    one_hot = st.integers(0, k - 1).map(lambda i: np.eye(k)[i])
    several = st.lists(st.integers(0, 1000), min_size=k, max_size=k).filter(any).map(lambda x: np.array(x) / sum(x))
    return draw(st.one_of(one_hot, several))


@st.composite
def cases(draw, kind):
    """A form over a random palette, and three prepared histograms, of which some may be equal."""
    lab = draw(palettes())
    form = form_over(kind, lab, draw(st.sampled_from([0, 1, 3, 10, 40, 200])))
    first, second = draw(histograms(len(lab))), draw(histograms(len(lab)))
    third = draw(st.one_of(histograms(len(lab)), st.sampled_from([first, second])))
    return form, [prepared(kind, amounts) for amounts in (first, second, third)]


def smallest_distance_told_from_zero(form: QuadraticForm) -> float:
    """The root of what rounding makes of a squared distance that is zero.

    A squared distance is a sum of k^2 products of up to |A| |x|^2, |x|^2 <= 2, rounded to float64 each, so it is off
    by some k |A| eps; where it is zero (two palette colours are the same, say) its root is off by the root of that.
    """
    k = len(form.matrix)
    return math.sqrt(8 * k * np.linalg.norm(form.matrix) * EPS)


@each_kind
@deterministic
@given(data=st.data())
def test_the_embedded_vectors_are_as_far_apart_as_the_plain_form_says(kind, data):
    form, (h, g, _) = data.draw(cases(kind))
    embedded = float(np.linalg.norm(form.embed(h) - form.embed(g)))
    assert embedded == pytest.approx(form.distance(h, g), rel=1e-5, abs=smallest_distance_told_from_zero(form))


@each_kind
@pytest.mark.parametrize("k", [64, 256])
def test_so_they_are_at_the_sizes_that_are_used(kind, k):
    rng = np.random.default_rng(k)
    lab = lab_of_bytes(rng.integers(0, 256, (k, 3)).astype(np.uint8))
    form = form_over(kind, lab)
    amounts = prepared(kind, np.concatenate([rng.dirichlet(np.full(k, 0.1), 60), np.eye(k)[:10]]))
    mapped = form.embed(amounts)
    for i, j in rng.integers(0, len(amounts), (300, 2)):
        assert np.linalg.norm(mapped[i] - mapped[j]) == pytest.approx(
            form.distance(amounts[i], amounts[j]), rel=1e-5, abs=smallest_distance_told_from_zero(form)
        )


@each_kind
@deterministic
@given(data=st.data())
def test_the_distance_is_the_sum_over_all_pairs_of_colours(kind, data):
    form, (h, g, _) = data.draw(cases(kind))
    x, k = h - g, len(h)
    squared = math.fsum(float(form.matrix[i, j] * x[i] * x[j]) for i in range(k) for j in range(k))
    assert form.distance(h, g) == pytest.approx(
        math.sqrt(max(squared, 0)), rel=1e-9, abs=smallest_distance_told_from_zero(form)
    )


@each_kind
@deterministic
@given(data=st.data())
def test_the_distance_is_a_metric(kind, data):
    form, (h, g, f) = data.draw(cases(kind))
    h_g, g_f, h_f = form.distance(h, g), form.distance(g, f), form.distance(h, f)
    assert all(math.isfinite(d) and d >= 0 for d in (h_g, g_f, h_f))
    assert form.distance(g, h) == h_g
    assert [form.distance(x, x.copy()) for x in (h, g, f)] == [0, 0, 0]
    assert h_f <= h_g + g_f + 3 * smallest_distance_told_from_zero(form)


@each_kind
@deterministic
@given(data=st.data())
def test_histograms_of_different_colours_are_apart(kind, data):
    lab = data.draw(palettes())
    distance = color_distances(lab)
    far = np.argwhere(distance > 1)
    assume(len(far))
    i, j = far[data.draw(st.integers(0, len(far) - 1))]
    form = form_over(kind, lab)
    h, g = np.eye(len(lab))[[i, j]]
    assert form.distance(h, g) ** 2 == pytest.approx(2 * (1 - form.matrix[i, j]), rel=1e-9)
    assert form.distance(h, g) > 0


def test_three_colours_by_hand():
    # Half of the picture moves from colour 0 to colour 1, alike by 0.6: d^2 = 0.25 + 0.25 - 2 * 0.25 * 0.6 = 0.2.
    form = QuadraticForm([[1, 0.6, 0], [0.6, 1, 0.2], [0, 0.2, 1]])
    assert form.distance([1, 0, 0], [0.5, 0.5, 0]) == pytest.approx(math.sqrt(0.2))
    assert np.linalg.norm(form.embed([1, 0, 0]) - form.embed([0.5, 0.5, 0])) == pytest.approx(math.sqrt(0.2))


@pytest.mark.parametrize("one_sum", [False, True])
def test_with_the_identity_matrix_it_is_the_euclidean_distance(one_sum):
    h, g = np.random.default_rng(0).dirichlet(np.ones(9), 2)
    form = QuadraticForm(np.eye(9), one_sum=one_sum)
    assert form.distance(h, g) == pytest.approx(np.linalg.norm(h - g))
    assert np.linalg.norm(form.embed(h) - form.embed(g)) == pytest.approx(np.linalg.norm(h - g))


# --- the embedding


@each_kind
@deterministic
@given(data=st.data())
def test_the_embedding_has_no_more_columns_than_colours_in_order_of_falling_influence(kind, data):
    form, _ = data.draw(cases(kind))
    L = form.embedding
    assert L.dtype == np.float64 and L.shape[0] == len(form.matrix) and L.shape[1] <= len(form.matrix)
    influence = (L**2).sum(axis=0)
    assert (influence > 0).all()
    assert (np.diff(influence) <= 1e-12 * influence.max(initial=0)).all()


def test_the_embedding_squared_is_the_matrix():
    lab = lab_of_bytes(np.random.default_rng(1).integers(0, 256, (30, 3)).astype(np.uint8))
    form = QuadraticForm(gaussian(color_distances(lab), 30.0))
    np.testing.assert_allclose(form.embedding @ form.embedding.T, form.matrix, atol=1e-12)


def test_columns_without_influence_are_left_out():
    h = np.array([1.0, 2.0])
    direction = QuadraticForm(np.outer(h, h))
    assert direction.embedding.shape == (2, 1)
    np.testing.assert_allclose(np.abs(direction.embedding[:, 0]), h)


def test_fewer_axes_give_a_lower_bound_of_the_distance():
    rng = np.random.default_rng(2)
    lab = lab_of_bytes(rng.integers(0, 256, (40, 3)).astype(np.uint8))
    form = QuadraticForm(laplacian(color_distances(lab)))
    mapped = form.embed(np.sqrt(rng.dirichlet(np.ones(40), 2)))
    bounds = [np.linalg.norm(mapped[0, :m] - mapped[1, :m]) for m in range(mapped.shape[1] + 1)]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5), (0, 5)])
def test_amounts_of_any_shape_are_embedded_row_by_row(shape):
    form = QuadraticForm(np.eye(5) + 0.5)
    amounts = np.random.default_rng(3).uniform(0, 1, shape).astype(np.float32)
    mapped = form.embed(amounts)
    assert mapped.dtype == np.float64 and mapped.shape == (*shape[:-1], 5)
    for row, vector in zip(amounts.reshape(-1, 5), mapped.reshape(-1, 5), strict=True):
        np.testing.assert_allclose(vector, form.embed(row), atol=1e-12)


def test_over_a_single_colour_all_pictures_are_equal():
    form = form_over(("linear", False), np.array([[50, 0, 0]], np.float32))
    assert form.embedding.shape == (1, 0)
    assert form.distance([1.0], [1.0]) == 0


# --- matrices that allow it, and that do not


def ciede2000_similarity(seed: int, k: int = 64) -> np.ndarray:
    """`1 - d/d_max` over CIEDE2000 distances, which are not Euclidean."""
    srgb = np.random.default_rng(seed).integers(0, 256, (k, 3)).astype(np.uint8)
    lab = rgb2lab(srgb[None])[0]
    distance = deltaE_ciede2000(lab[:, None], lab[None])
    distance = (distance + distance.T) / 2
    return 1 - distance / distance.max()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("one_sum", [True, False])
def test_linear_over_ciede2000_is_refused(seed, one_sum):
    with pytest.raises(NotPositiveSemidefiniteError, match="repair=True") as error:
        QuadraticForm(ciede2000_similarity(seed), one_sum=one_sum)
    assert error.value.smallest < 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("one_sum", [True, False])
def test_it_is_refused_for_a_reason_and_repaired_when_asked(seed, one_sum):
    A = ciede2000_similarity(seed)
    form = QuadraticForm(A, one_sum=one_sum, repair=True)
    rng = np.random.default_rng(seed)
    histograms = np.concatenate([np.eye(64)[:8], rng.dirichlet(np.full(64, 0.1), 8)])
    if not one_sum:
        histograms = histograms * rng.uniform(0.1, 1, (16, 1))
    # What was refused: a difference along the worst eigenvector has a negative square.
    J = np.eye(64) - 1 / 64 if one_sum else np.eye(64)
    worst = np.linalg.eigh(J @ A @ J)[1][:, 0]
    assert worst @ A @ worst < -0.01
    assert 0 < form.repaired < 1
    assert worst @ form.matrix @ worst >= -1e-12
    assert np.linalg.eigvalsh(form.matrix).min() >= -1e-12
    mapped = form.embed(histograms)
    for i in range(16):
        for j in range(16):
            x = histograms[i] - histograms[j]
            assert x @ form.matrix @ x >= -1e-14
            assert np.linalg.norm(mapped[i] - mapped[j]) == pytest.approx(
                form.distance(histograms[i], histograms[j]),
                rel=1e-5,
                abs=smallest_distance_told_from_zero(form),
            )


@pytest.mark.parametrize("one_sum", [True, False])
def test_repaired_tells_the_negative_eigenvalue_over_the_largest(one_sum):
    # Eigenvalues 3 and -1 on differences that sum to zero, and 0 (or 9) on the sum.
    axes = np.linalg.qr(np.array([[1.0, 1, 1], [1, -1, 0], [1, 0, -1]]).T)[0]
    A = axes @ np.diag([9.0, 3, -1]) @ axes.T
    form = QuadraticForm(A, one_sum=one_sum, repair=True)
    assert form.repaired == pytest.approx(1 / 3 if one_sum else 1 / 9)


def test_the_repaired_matrix_is_the_nearest_without_negative_eigenvalues():
    A = np.diag([2.0, -1.0, 0.5])
    np.testing.assert_allclose(QuadraticForm(A, repair=True).matrix, np.diag([2, 0, 0.5]), atol=1e-15)


@each_kind
@deterministic
@given(data=st.data())
def test_a_metric_over_euclidean_distances_is_never_repaired_or_refused(kind, data):
    form, _ = data.draw(cases(kind))
    assert form.repaired == 0


def test_what_needs_no_repair_stays_as_it_is():
    A = np.array([[1, 0.5], [0.5, 1]])
    form = QuadraticForm(A, repair=True)
    assert form.repaired == 0
    np.testing.assert_array_equal(form.matrix, A)


def test_linear_is_allowed_only_where_all_amounts_have_one_sum():
    # Five colours at distance 1 from a sixth and 2 from each other.
    distance = np.full((6, 6), 2.0)
    distance[0] = distance[:, 0] = 1
    np.fill_diagonal(distance, 0)
    A = linear(distance)
    assert QuadraticForm(A, one_sum=True).repaired == 0
    with pytest.raises(NotPositiveSemidefiniteError):
        QuadraticForm(A, one_sum=False)


@pytest.mark.parametrize("one_sum", [True, False])
def test_a_matrix_with_only_negative_eigenvalues_is_refused(one_sum):
    with pytest.raises(NotPositiveSemidefiniteError):
        QuadraticForm(-np.eye(3), one_sum=one_sum)


@pytest.mark.parametrize("one_sum", [True, False])
@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0.5], [0.4, 1]],
        [[1, 1e-6], [0, 1]],
        np.ones((2, 3)),
        np.ones(4),
        np.ones((2, 2, 2)),
        np.ones((0, 0)),
        1.0,
        [[1, np.nan], [np.nan, 1]],
        [[np.nan, 0], [0, 1]],
        [[np.inf, 0], [0, 1]],
        [[1, -np.inf], [-np.inf, 1]],
    ],
    ids=[
        "asymmetric",
        "slightly so",
        "2x3",
        "1-D",
        "3-D",
        "empty",
        "scalar",
        "nan",
        "nan on the diagonal",
        "inf",
        "-inf",
    ],
)
def test_what_is_no_similarity_matrix_is_refused(matrix, one_sum):
    with pytest.raises(MetricError):
        QuadraticForm(matrix, one_sum=one_sum, repair=True)


def test_the_matrix_given_is_copied():
    A = np.eye(2)
    form = QuadraticForm(A)
    A[:] = 7
    assert form.distance([1, 0], [0, 1]) == pytest.approx(math.sqrt(2))


def blas_threads() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_after_the_last_of_overlapping_threads_linear_algebra_has_the_threads_it_had():
    with threadpool_limits(2, user_api="blas"):
        first, second = one_thread(), one_thread()
        first.__enter__()
        second.__enter__()
        assert blas_threads() == {1}
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == {2}
