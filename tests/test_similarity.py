"""The similarity matrix A over a palette: its shape, its range, and on what it is positive semi-definite."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbir.color import lab_of_bytes
from cbir.errors import MetricError
from cbir.similarity import SIMILARITIES, color_distances, gaussian, laplacian, linear

deterministic = settings(derandomize=True, deadline=None, max_examples=40)
REACHES = [None, 0.5, 3.0, 10.0, 40.0, 200.0]


@st.composite
def palettes(draw):
    """1 to 20 colours in the range of sRGB's L*a*b*, some of them twice or more."""
    channel = [st.floats(low, high, width=32) for low, high in ((0, 100), (-86, 98), (-108, 95))]
    colors = draw(st.lists(st.tuples(*channel), min_size=1, max_size=15))
    return np.array(colors + draw(st.lists(st.sampled_from(colors), max_size=5)), np.float32)


def random_palette(k: int, seed: int = 0) -> np.ndarray:
    return lab_of_bytes(np.random.default_rng(seed).integers(0, 256, (k, 3)).astype(np.uint8))


def eigenvalues_on_zero_sums(A: np.ndarray) -> np.ndarray:
    """Of A restricted to vectors that sum to zero, by an orthonormal basis of these."""
    k = len(A)
    basis = np.linalg.qr(np.column_stack([np.ones(k), np.eye(k)[:, 1:]]))[0][:, 1:]
    return np.linalg.eigvalsh(basis.T @ A @ basis)


@deterministic
@given(palettes())
def test_colour_distances_are_euclidean(lab):
    distances = color_distances(lab)
    assert distances.dtype == np.float64
    for i, a in enumerate(lab.tolist()):
        for j, b in enumerate(lab.tolist()):
            assert distances[i, j] == pytest.approx(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5)


def test_a_3_4_5_triangle():
    assert color_distances(np.array([[50, 0, 0], [50, 3, 4]], np.float32)).tolist() == [[0, 5], [5, 0]]


@pytest.mark.parametrize("similarity", SIMILARITIES)
@deterministic
@given(lab=palettes())
def test_a_colour_is_wholly_like_itself_and_like_others_the_less_the_farther(similarity, lab):
    distance = color_distances(lab)
    A = SIMILARITIES[similarity](distance, None)
    assert A.shape == distance.shape
    np.testing.assert_array_equal(A, A.T)
    assert (np.diag(A) == 1).all() and A.min() >= 0 and A.max() <= 1
    order = np.argsort(distance, axis=None)
    assert (np.diff(A.ravel()[order]) <= 0).all()


def test_linear_is_one_minus_the_distance_over_the_largest():
    A = linear(color_distances(np.array([[0, 0, 0], [25, 0, 0], [100, 0, 0]])))
    np.testing.assert_allclose(A, [[1, 0.75, 0], [0.75, 1, 0.25], [0, 0.25, 1]])


def test_linear_with_a_range_is_one_minus_the_distance_over_it():
    np.testing.assert_allclose(linear(color_distances(np.array([[0, 0, 0], [50, 0, 0]])), 200), [[1, 0.75], [0.75, 1]])


def test_linear_over_a_single_colour_or_equal_ones_is_one():
    assert linear(color_distances(np.zeros((1, 3)))).tolist() == [[1]]
    assert linear(color_distances(np.full((2, 3), 7.0))).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("factor", [0.5, 0.999])
def test_a_linear_range_below_the_largest_distance_is_refused(factor):
    distance = color_distances(random_palette(64))
    with pytest.raises(MetricError, match="largest"):
        linear(distance, factor * distance.max())
    assert linear(distance, distance.max()).min() == 0


def test_gaussian_and_laplacian_are_their_formulas():
    distance = color_distances(np.array([[50, 0, 0], [50, 20, 0]]))
    assert gaussian(distance, 20)[0, 1] == pytest.approx(0.6065306597)  # e^(-1/2)
    assert laplacian(distance, 20)[0, 1] == pytest.approx(0.3678794412)  # e^-1


@pytest.mark.parametrize("similarity", [gaussian, laplacian])
def test_the_range_is_ten_unless_given(similarity):
    distance = color_distances(random_palette(20))
    np.testing.assert_array_equal(similarity(distance), similarity(distance, 10))
    assert (similarity(distance) != similarity(distance, 11)).any()


@pytest.mark.parametrize("similarity", [gaussian, laplacian])
@deterministic
@given(lab=palettes(), reach=st.sampled_from(REACHES))
def test_gaussian_and_laplacian_are_positive_semidefinite_everywhere(similarity, lab, reach):
    A = similarity(color_distances(lab), reach)
    assert np.linalg.eigvalsh(A).min() > -1e-12 * len(A)


@deterministic
@given(palettes(), st.floats(1, 100))
def test_linear_is_positive_semidefinite_on_differences_that_sum_to_zero(lab, factor):
    distance = color_distances(lab)
    A = linear(distance, float(distance.max()) * factor or None)
    assert eigenvalues_on_zero_sums(A).min(initial=0.0) > -1e-12 * len(A)


@pytest.mark.parametrize("k", [64, 256])
def test_linear_is_so_at_the_sizes_that_are_used(k):
    assert eigenvalues_on_zero_sums(linear(color_distances(random_palette(k)))).min() > 0


def test_linear_is_not_positive_semidefinite_everywhere():
    # Five colours at distance 1 from a sixth and 2 from each other: of negative type, yet where x does not sum to zero,
    # x^T A x can be negative. No palette in the three dimensions of L*a*b* is known to get that far.
    distance = np.full((6, 6), 2.0)
    distance[0] = distance[:, 0] = 1
    np.fill_diagonal(distance, 0)
    A = linear(distance)
    x = np.array([-1, 0.45, 0.45, 0.45, 0.45, 0.45])
    assert x @ A @ x < -0.2
    assert eigenvalues_on_zero_sums(A).min() > 0
