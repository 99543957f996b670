"""Metrics by name: what is written is what is meant, and what is no metric is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbir.color import lab_of_bytes
from cbir.errors import CbirError, MetricError
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.similarity import color_distances

LAB = lab_of_bytes(np.random.default_rng(5).integers(0, 256, (12, 3)).astype(np.uint8))
KINDS = [("linear", False), ("gaussian", False), ("gaussian", True), ("laplacian", False), ("laplacian", True)]
deterministic = settings(derandomize=True, deadline=None, max_examples=100)


def assert_same_distance(one: Metric, other: Metric) -> None:
    """The same amounts are compared in the same way, whether or not the default range is spelt out."""
    assert (one.similarity, one.roots) == (other.similarity, other.roots)
    np.testing.assert_array_equal(one.form(LAB).matrix, other.form(LAB).matrix)


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("laplacian", Metric("laplacian", None, roots=False)),
        ("sqrt-laplacian", Metric("laplacian", None, roots=True)),
        ("gaussian:2.5", Metric("gaussian", 2.5, roots=False)),
        ("sqrt-gaussian:1e1", Metric("gaussian", 10.0, roots=True)),
        ("linear", Metric("linear", None, roots=False)),
        ("linear:300", Metric("linear", 300.0, roots=False)),
        ("qbic", Metric("linear", None, roots=False)),
        ("QBIC", Metric("linear", None, roots=False)),
        ("  Sqrt-Laplacian:10 ", Metric("laplacian", 10.0, roots=True)),
    ],
)
def test_a_metric_is_read_by_its_name(text, metric):
    assert Metric.parse(text) == metric


def test_qbic_is_plain_linear():
    assert Metric.parse("qbic") == QBIC == Metric.parse("linear")
    assert str(QBIC) == "linear"
    amounts = np.array([0.25, 0.75])
    np.testing.assert_array_equal(QBIC.prepare(amounts), amounts)
    distance = color_distances(LAB)
    np.testing.assert_allclose(QBIC.form(LAB).matrix, 1 - distance / distance.max())


def test_the_default_is_square_roots_with_a_laplacian_of_range_ten():
    assert str(DEFAULT) == "sqrt-laplacian:10"
    assert_same_distance(DEFAULT, Metric.parse("sqrt-laplacian"))
    np.testing.assert_allclose(DEFAULT.form(LAB).matrix, np.exp(-color_distances(LAB) / 10))


@pytest.mark.parametrize(("similarity", "roots"), KINDS)
@pytest.mark.parametrize("reach", [None, 250.0, 1000.0, 312.5])
def test_a_metric_written_out_is_read_back_as_the_same(similarity, roots, reach):
    metric = Metric(similarity, reach, roots)
    assert_same_distance(Metric.parse(str(metric)), metric)
    assert str(Metric.parse(str(metric))) == str(metric)


@deterministic
@given(st.sampled_from(KINDS), st.floats(1e-3, 1000))
def test_a_range_of_any_number_of_digits_is_written_out_and_read_back(kind, reach):
    similarity, roots = kind
    assert Metric.parse(str(Metric(similarity, reach, roots))) == Metric(similarity, reach, roots)


@pytest.mark.parametrize("text", ["sqrt-linear", "sqrt-linear:300"])
def test_square_roots_with_linear_are_refused_with_what_to_use(text):
    with pytest.raises(MetricError, match="use linear, or sqrt-laplacian"):
        Metric.parse(text)


def test_square_roots_are_the_default_so_linear_must_say_that_it_has_none():
    with pytest.raises(MetricError, match="sqrt-linear"):
        Metric("linear")


@pytest.mark.parametrize("text", ["", "euclid", "sqrt-", "sqrt-qbic", "sqrt-sqrt-laplacian", "lap lacian", ":10", "10"])
def test_a_name_that_is_no_metric_is_refused(text):
    with pytest.raises(MetricError):
        Metric.parse(text)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(MetricError, match="linear, gaussian, laplacian"):
        Metric.parse("euclid")


RANGES = ["0", "-0", "-1", "nan", "inf", "-inf", "1e999", "ten", "", "10:5", "1,5", "0x10"]


@pytest.mark.parametrize("name", ["laplacian", "sqrt-gaussian", "linear", "qbic"])
@pytest.mark.parametrize("reach", RANGES)
def test_a_range_that_is_no_number_above_zero_is_refused(name, reach):
    with pytest.raises(MetricError):
        Metric.parse(f"{name}:{reach}")


@pytest.mark.parametrize("reach", [0, -1.0, float("nan"), float("inf")])
def test_so_it_is_when_given_as_a_number(reach):
    with pytest.raises(MetricError, match="above 0"):
        Metric("gaussian", reach)


def test_an_error_is_the_users_and_one_line():
    with pytest.raises(CbirError) as error:
        Metric.parse("laplacian:ten")
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value) and "ten" in str(error.value)


def test_a_linear_range_below_the_palettes_largest_distance_is_refused_when_the_palette_is_known():
    largest = color_distances(LAB).max()
    with pytest.raises(MetricError, match="largest"):
        Metric("linear", largest * 0.9, roots=False).form(LAB)
    assert Metric("linear", largest * 1.1, roots=False).form(LAB).matrix.min() > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (0, 4)])
def test_prepared_amounts_are_square_roots_or_as_they_were_in_their_own_dtype(dtype, shape):
    shares = np.random.default_rng(0).uniform(0, 1, shape).astype(dtype)
    for metric, power in ((DEFAULT, 0.5), (QBIC, 1)):
        prepared = metric.prepare(shares)
        assert prepared.dtype == dtype and prepared.shape == shape
        np.testing.assert_allclose(prepared, shares**power, rtol=1e-6)


def test_only_plain_amounts_are_known_to_have_one_sum():
    assert Metric("laplacian", roots=False).form(LAB).one_sum
    assert not Metric("laplacian", roots=True).form(LAB).one_sum


def test_equal_metrics_are_one_key():
    assert {Metric.parse("qbic"): 1}[QBIC] == 1
