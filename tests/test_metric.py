"""Metrics by name: what is written is what is meant, and what is no metric is refused in one line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbir.color import lab_of_bytes
from cbir.descriptor import DESCRIPTORS, GLOBAL, SPATIAL
from cbir.errors import CbirError, MetricError
from cbir.metric import DEFAULT, DEFAULT_WEIGHTS, MAX_WEIGHT, QBIC, Metric
from cbir.similarity import color_distances
from cbir.space import Space

LAB = lab_of_bytes(np.random.default_rng(5).integers(0, 256, (12, 3)).astype(np.uint8))
PARTS = ("whole", *SPATIAL.blocks)
WHOLE = (("whole", 1.0),)
deterministic = settings(derandomize=True, deadline=None, max_examples=300)


def classic(similarity: str, reach: float | None = None, power: float = 1.0) -> Metric:
    """A form over whole photos' amounts, or over their powers, with nothing else done to them."""
    return Metric(similarity, reach, power, spread=0.0, centred=False, weights=WHOLE)


def space_of(metric: Metric, lab=LAB) -> Space:
    return Space(metric, lab, GLOBAL, np.zeros((0, len(lab)), np.uint8))


@st.composite
def metrics(draw) -> Metric:
    """Any metric that there can be."""
    reach = st.floats(0, 1000, exclude_min=True)
    spread = st.one_of(st.just(0.0), st.just(5.0), st.floats(0, 1000))
    centred = st.booleans()
    if draw(st.integers(0, 4)) == 0:
        weights = (("whole", draw(st.floats(0, MAX_WEIGHT, exclude_min=True))),)
        return Metric("linear", draw(st.one_of(st.none(), reach)), 1.0, draw(spread), draw(centred), weights)
    some = st.dictionaries(st.sampled_from(PARTS), st.floats(0, MAX_WEIGHT), min_size=1).filter(
        lambda w: any(w.values())
    )
    weights = draw(st.one_of(st.none(), st.just(DEFAULT_WEIGHTS["spatial"]), some.map(lambda w: tuple(w.items()))))
    return Metric(
        draw(st.sampled_from(["gaussian", "laplacian"])),
        draw(st.one_of(st.none(), st.just(3.0), reach)),
        draw(st.one_of(st.sampled_from([0.25, 0.5, 1.0]), st.floats(0.05, 1))),
        draw(spread),
        draw(centred),
        weights,
    )


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("cbir", Metric()),
        ("qbic", QBIC),
        ("QBIC", QBIC),
        ("laplacian", classic("laplacian", 10.0)),
        ("sqrt-laplacian", classic("laplacian", 10.0, 0.5)),
        ("gaussian:2.5", classic("gaussian", 2.5)),
        ("sqrt-gaussian:1e1", classic("gaussian", 10.0, 0.5)),
        ("linear", classic("linear")),
        ("linear:300", classic("linear", 300.0)),
        ("qbic:300", classic("linear", 300.0)),
        ("  Sqrt-Laplacian:10 ", classic("laplacian", 10.0, 0.5)),
        ("cbir:5", Metric(reach=5.0)),
        ("cbir,power=0.5,spread=0,centred=0", Metric(power=0.5, spread=0.0, centred=False)),
        ("cbir:8,similarity=gaussian", Metric("gaussian", 8.0)),
        (" CBIR:5 , Power=1 ", Metric(reach=5.0, power=1.0)),
        ("laplacian:20,spread=5", Metric("laplacian", 20.0, 1.0, 5.0, False, WHOLE)),
        ("laplacian,top=0.5", Metric("laplacian", 10.0, 1.0, 0.0, False, (("whole", 1.0), ("top", 0.5)))),
        ("qbic,centred=1", Metric("linear", None, 1.0, 0.0, True, WHOLE)),
    ],
)
def test_a_metric_is_read_by_its_name_and_settings(text, metric):
    assert Metric.parse(text) == metric


def test_a_weight_that_is_set_leaves_the_others_as_they_are():
    weights = dict(Metric.parse("cbir,centre=2,top=0").weights)
    assert weights == {"smooth": 1, "mixed": 1, "busy": 1, "middle": 0.4, "bottom": 0.4, "centre": 2}


def test_the_last_of_two_settings_of_one_thing_counts():
    assert Metric.parse("cbir,power=1,top=1,power=0.5,top=2") == Metric.parse("cbir,power=0.5,top=2")


def test_qbic_is_plain_linear():
    assert Metric.parse("qbic") == QBIC == Metric.parse("linear")
    assert str(QBIC) == str(Metric.parse("linear")) == "qbic"
    photos = np.array([[255] + 11 * [0], [180, 180] + 10 * [0]], np.uint8)
    np.testing.assert_allclose(space_of(QBIC).prepare(photos), GLOBAL.shares(photos))
    distance = color_distances(LAB)
    np.testing.assert_allclose(space_of(QBIC).form.matrix, 1 - distance / distance.max())


def test_the_default_is_called_cbir_and_is_a_laplacian_of_range_three():
    assert str(DEFAULT) == str(Metric()) == "cbir"
    np.testing.assert_allclose(space_of(DEFAULT).form.matrix, np.exp(-color_distances(LAB) / 3))


@pytest.mark.parametrize("descriptor", DESCRIPTORS.values(), ids=DESCRIPTORS)
def test_by_default_all_that_a_descriptor_tells_has_a_weight(descriptor):
    assert tuple(name for name, weight in DEFAULT_WEIGHTS[descriptor.name] if weight) == descriptor.blocks


# --- written out and read back


@deterministic
@given(metrics())
def test_a_metric_written_out_is_read_back_as_the_same(metric):
    assert Metric.parse(str(metric)) == metric
    assert str(Metric.parse(str(metric))) == str(metric)


@pytest.mark.parametrize(
    "text",
    [
        *("cbir", "qbic", "cbir:5", "linear:300", "laplacian:10", "sqrt-laplacian:10", "sqrt-gaussian:2.5"),
        *("cbir:5,power=0.5", "cbir,spread=0,centred=0", "sqrt-gaussian:3,centred=1", "linear,spread=2.5"),
        "cbir,smooth=1,mixed=1,busy=1,top=0,middle=0.4,bottom=0.4,centre=2",
        "laplacian:10,whole=1,top=0.5",
    ],
)
def test_what_is_written_out_is_what_one_would_type(text):
    assert str(Metric.parse(text)) == text


@pytest.mark.parametrize("similarity", ["linear", "gaussian", "laplacian"])
@pytest.mark.parametrize("reach", [None, 250.0, 1000.0, 312.5])
def test_it_compares_the_same_amounts_in_the_same_way(similarity, reach):
    metric = classic(similarity, reach)
    again = Metric.parse(str(metric))
    np.testing.assert_array_equal(space_of(metric).form.matrix, space_of(again).form.matrix)


def test_metrics_that_are_alike_are_equal_and_one_key():
    assert {Metric.parse("qbic"): 1}[QBIC] == 1
    one = Metric(weights=(("top", 1.0), ("smooth", 2.0), ("busy", 0.0)))
    other = Metric(weights=(("smooth", 2), ("top", 1)))
    assert one == other and hash(one) == hash(other)
    assert one != Metric(weights=(("smooth", 2), ("top", 2)))


def test_the_metric_of_the_whole_weighs_the_whole_alone_and_changes_nothing_else():
    assert QBIC.of_whole() == QBIC
    whole = Metric.parse("cbir:5,power=0.5,centre=2").of_whole()
    assert whole == Metric(reach=5.0, power=0.5, weights=WHOLE)


# --- what is refused


@pytest.mark.parametrize(
    "text",
    [
        *("", "euclid", "sqrt-", "sqrt-qbic", "sqrt-cbir", "sqrt-sqrt-laplacian", "lap lacian", ":10", "10"),
        *(",", "cbir,", "cbir,,power=1", "cbir,power", "cbir,=1", "cbir,power=", "cbir,power=high", "power=1"),
        *("cbir,power=0", "cbir,power=0.04", "cbir,power=1.5", "cbir,power=nan", "cbir,spread=-1", "cbir,spread=inf"),
        *("cbir,centred=yes", "cbir,centred=2", "cbir,centred=", "cbir,similarity=euclid", "cbir,similarity="),
        *("cbir,top=-1", "cbir,top=nan", "cbir,top=2e6", "cbir,top=much", "laplacian,whole=0"),
        "cbir,smooth=0,mixed=0,busy=0,top=0,middle=0,bottom=0,centre=0",
    ],
)
def test_what_is_no_metric_is_refused_in_one_line(text):
    with pytest.raises(MetricError) as error:
        Metric.parse(text)
    assert isinstance(error.value, CbirError) and isinstance(error.value, ValueError)
    assert str(error.value).isprintable()


names = "cbir qbic sqrt- laplacian linear : , = power centred top whole reach similarity"
words = st.sampled_from(names.split())
numbers = st.sampled_from(["0", "1", "-1", "0.5", "10", "1e9", "nan", "inf", "1_0", "", "two"])


@deterministic
@given(st.lists(st.one_of(words, words, numbers, st.text(max_size=2)), max_size=12).map("".join))
def test_any_text_is_a_metric_or_refused_in_one_line(text):
    try:
        metric = Metric.parse(text)
    except MetricError as error:
        assert str(error).isprintable()
    else:
        assert Metric.parse(str(metric)) == metric


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("euclid", "'euclid'.*linear, gaussian, laplacian"),
        ("laplacian:ten", "'laplacian:ten'.*'ten' is not a number"),
        ("cbir,power", "'power' is not SETTING=VALUE"),
        ("cbir,power=high", "'high' is not a number"),
        ("cbir,power=2", "from 0.05 to 1, not 2"),
        ("cbir,spread=-1", "from 0 to 1000, not -1"),
        ("cbir,centred=yes", "0 or 1, not 'yes'"),
        ("cbir,top=-2", "'top'.*from 0 to 1e[+]06, not -2"),
        ("laplacian,whole=0", "all weights are 0"),
    ],
)
def test_the_line_tells_what_is_wrong_and_what_is_right(text, told):
    with pytest.raises(MetricError, match=told):
        Metric.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("sqrt-linear", "sqrt-linear:300", "linear,power=0.5", "qbic,power=0.25"),
        *("qbic,top=1", "linear,whole=0,top=1", "cbir,similarity=linear"),
    ],
)
def test_linear_of_anything_but_amounts_of_the_whole_is_refused_with_what_to_use(text):
    with pytest.raises(MetricError, match="use qbic, or sqrt-laplacian"):
        Metric.parse(text)


def test_powers_are_the_default_so_linear_must_say_that_it_has_none():
    with pytest.raises(MetricError, match="not of their powers"):
        Metric("linear")


RANGES = ["0", "-0", "-1", "nan", "inf", "-inf", "1e999", "1000.1", "ten", "", "10:5", "1,5", "0x10"]


@pytest.mark.parametrize("name", ["cbir", "laplacian", "sqrt-gaussian", "linear", "qbic"])
@pytest.mark.parametrize("reach", RANGES)
def test_a_range_that_is_no_number_above_zero_is_refused(name, reach):
    with pytest.raises(MetricError):
        Metric.parse(f"{name}:{reach}")


@pytest.mark.parametrize("reach", [0, -1.0, float("nan"), float("inf")])
def test_so_it_is_when_given_as_a_number(reach):
    with pytest.raises(MetricError, match="above 0"):
        Metric("gaussian", reach)


def test_a_linear_range_below_the_palettes_largest_distance_is_refused_when_the_palette_is_known():
    largest = color_distances(LAB).max()
    with pytest.raises(MetricError, match="largest"):
        space_of(classic("linear", largest * 0.9))
    assert space_of(classic("linear", largest * 1.1)).form.matrix.min() > 0


# --- what it makes of amounts


@pytest.mark.parametrize("power", [0.05, 0.25, 0.3, 0.5, 1.0])
def test_prepared_amounts_are_raised_to_the_power(power):
    photos = np.random.default_rng(0).integers(0, 256, (3, 12)).astype(np.uint8)
    prepared = space_of(classic("laplacian", 10.0, power)).prepare(photos)
    np.testing.assert_allclose(prepared, GLOBAL.shares(photos) ** power, rtol=1e-12)


def test_only_plain_amounts_of_the_whole_are_known_to_have_one_sum():
    assert space_of(classic("laplacian")).form.one_sum
    assert not space_of(classic("laplacian", power=0.5)).form.one_sum
    parts = Space(Metric.parse("laplacian,top=1"), LAB, SPATIAL, np.zeros((0, 84), np.uint8))
    assert not parts.form.one_sum
