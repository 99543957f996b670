"""Asked colours: what a photo lacks of them, how much they stand out in it, and how much of them it has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_codes import random_palette

from cbir.asked import Asked, StandsOut, Unmet, differences, is_shade, share_of

F64 = NDArray[np.float64]
deterministic = settings(derandomize=True, deadline=None, max_examples=60)
seeds = st.integers(0, 1 << 32)
powers = st.sampled_from([0.5, 1.0])

# A grey and two reds, one of which is 10 lighter: Delta E 5, for lightness counts half.
GREY, RED, LIGHT_RED = (50.0, 0.0, 0.0), (50.0, 60.0, 0.0), (60.0, 60.0, 0.0)
LAB = np.array([GREY, RED, LIGHT_RED])


def plain_difference(reference: Sequence[float], one: Sequence[float], other: Sequence[float]) -> float:
    """CIE 116-1995 with the weights for textiles, a pair at a time."""
    chroma = math.hypot(reference[1], reference[2])
    lightness, a, b = (x - y for x, y in zip(one, other, strict=True))
    chromas = math.hypot(one[1], one[2]) - math.hypot(other[1], other[2])
    hue = math.sqrt(max(a * a + b * b - chromas * chromas, 0))
    return math.hypot(lightness / 2, chromas / (1 + 0.048 * chroma), hue / (1 + 0.014 * chroma))


def plain_unmet(lab: F64, asked: Sequence[Asked], shares: F64, power: float) -> float:
    """What one photo lacks, colour after colour: what is missing weighs by share^(power - 1), and 1 is all of it."""
    shades: list[list[tuple[float, float]]] = [[] for _ in asked]
    for color, share in zip(lab.tolist(), shares.tolist(), strict=True):
        far = [plain_difference(one.lab, color, one.lab) / one.tolerance for one in asked]
        if min(far) < 1:
            shades[far.index(min(far))].append((min(far), share))
    lacking = 0.0
    for one, own in zip(asked, shades, strict=True):
        left = one.share
        met = 0.0
        for far, share in sorted(own):
            met += min(share, left) * (1 - far**2)
            left -= min(share, left)
        lacking += one.share ** (power - 1) * (one.share - met)
    return lacking / sum(one.share**power for one in asked)


def random_asked(lab: F64, rng: np.random.Generator) -> list[Asked]:
    """Up to four colours: of the palette, near to one of it, or anywhere."""
    number = int(rng.integers(1, 5))
    shares = rng.dirichlet(np.ones(number)) * rng.choice([0.3, 1.0])
    middles = [lab[rng.integers(len(lab))] + rng.choice([0.0, 6.0]) * rng.normal(size=3) for _ in range(number)]
    tolerances = rng.choice([3.0, 12.0, 40.0], number)
    return [
        Asked((float(m[0]), float(m[1]), float(m[2])), float(share), float(tolerance))
        for m, share, tolerance in zip(middles, np.maximum(shares, 0.01), tolerances, strict=True)
    ]


def drawn(seed: int, k: int, n: int) -> tuple[F64, list[Asked], F64, np.random.Generator]:
    rng = np.random.default_rng(seed)
    lab = random_palette(k, rng).astype(np.float64)
    return lab, random_asked(lab, rng), rng.dirichlet(np.full(k, rng.choice([0.1, 1.0])), n), rng


@pytest.mark.parametrize(
    ("reference", "one", "other", "delta_e"),
    [
        pytest.param(GREY, (60, 0, 0), GREY, 5, id="lightness counts half"),
        pytest.param((50, 50, 0), (50, 84, 0), (50, 50, 0), 10, id="34 of chroma, by 1 + 0.048 x 50"),
        pytest.param((50, 50, 0), (50, 0, 50), (50, 50, 0), math.sqrt(5000) / 1.7, id="hue, by 1 + 0.014 x 50"),
        pytest.param(GREY, (50, 3, 4), GREY, 5, id="around grey chroma counts in full"),
        pytest.param((50, 50, 0), (50, 3, 4), GREY, 5 / 3.4, id="around red it does not, also between two others"),
    ],
)
def test_the_difference_is_that_of_cie_1994_for_textiles(reference, one, other, delta_e):
    found = differences(np.array(reference, float), np.array([one], float), np.array([other], float))
    assert found.shape == (1, 1) and found[0, 0] == pytest.approx(delta_e, abs=1e-12)


@deterministic
@given(seed=seeds)
def test_differences_of_many_are_those_of_pairs(seed):
    lab = np.random.default_rng(seed).uniform([0, -90, -90], [100, 90, 90], (7, 3))
    found = differences(lab[0], lab[1:4], lab[4:])
    expected = [[plain_difference(lab[0], one, other) for other in lab[4:]] for one in lab[1:4]]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)


def test_a_shade_is_what_is_within_the_tolerance_and_a_photo_has_what_its_shades_take_up():
    shares = np.array([[0.5, 0.2, 0.3]])
    for tolerance, shades, share in ((4.9, [False, True, False], 0.2), (5.0, [False, True, True], 0.5)):
        asked = Asked(RED, 0.4, tolerance)
        assert is_shade(LAB, asked).tolist() == shades
        assert share_of(shares, LAB, asked).tolist() == pytest.approx([share])


def test_what_is_unmet_of_one_colour_is_what_a_photo_lacks_of_it_and_how_far_its_shades_are():
    # With the tolerance 10 the light red, at 5, counts 1 - 0.25; of 40 % asked.
    unmet = Unmet(LAB, [Asked(RED, 0.4, 10)])
    photos = {
        (0.0, 1.0, 0.0): 0.0,
        (0.6, 0.4, 0.0): 0.0,
        (1.0, 0.0, 0.0): 1.0,
        (0.9, 0.1, 0.0): 0.75,
        (0.0, 0.0, 1.0): 0.25,
        # 10 % red, and 30 % of the 90 % light red.
        (0.0, 0.1, 0.9): 0.75 * 0.25,
        (0.7, 0.1, 0.2): (0.4 - 0.1 - 0.2 * 0.75) / 0.4,
    }
    assert unmet.of(np.array(list(photos))).tolist() == pytest.approx(list(photos.values()))
    np.testing.assert_allclose(unmet.taken(np.array([0.0, 0.1, 0.9])), [[0, 0.1, 0.3]])
    np.testing.assert_allclose(unmet.costs, [1, 0, 0.25])


def test_what_is_missing_of_a_small_colour_weighs_by_the_root_of_its_share():
    asked = [Asked(GREY, 0.64, 3), Asked(RED, 0.04, 3)]
    photos = np.array([[0.0, 0.04, 0.96], [0.64, 0.0, 0.36], [0.32, 0.04, 0.64]])
    assert Unmet(LAB, asked).of(photos).tolist() == pytest.approx([0.8, 0.2, 0.4])
    assert Unmet(LAB, asked, power=1).of(photos).tolist() == pytest.approx([64 / 68, 4 / 68, 32 / 68])


def test_a_colour_between_two_that_are_asked_counts_for_the_nearer_in_tolerances_alone():
    between = np.array([(50.0, 0.0, 0.0), (56.0, 0.0, 0.0), (70.0, 0.0, 0.0)])
    asked = [Asked((50, 0, 0), 0.5, 5), Asked((70, 0, 0), 0.5, 20)]
    # The middle one is 3 of 5 from the first and 7 of 20 from the last.
    np.testing.assert_allclose(Unmet(between, asked).taken(np.array([0.2, 0.6, 0.2])), [[0.2, 0, 0], [0, 0.3, 0.2]])


@pytest.mark.parametrize("power", [0.5, 1.0])
@deterministic
@given(seed=seeds, k=st.integers(1, 40))
def test_what_is_unmet_of_many_is_that_of_each_told_plainly(seed, k, power):
    lab, asked, shares, _ = drawn(seed, k, 5)
    # Two shades that are as near are taken in any order: that makes no difference to what is unmet.
    expected = [plain_unmet(lab, asked, one, power) for one in shares]
    np.testing.assert_allclose(Unmet(lab, asked, power).of(shares), expected, rtol=0, atol=1e-7)


@deterministic
@given(seed=seeds, k=st.integers(2, 40), power=powers)
def test_more_of_a_wanted_colour_never_leaves_more_unmet(seed, k, power):
    lab, asked, shares, rng = drawn(seed, k, 8)
    unmet = Unmet(lab, asked, power)
    counts, free = np.flatnonzero(unmet.costs < 1), np.flatnonzero(unmet.costs == 1)
    assume(len(counts) and len(free))
    more = shares.copy()
    for row in more:
        start, end = rng.choice(free), rng.choice(counts)
        moved = row[start] * rng.choice([0.01, 0.5, 1.0])
        row[start] -= moved
        row[end] += moved
    assert (unmet.of(more) <= unmet.of(shares) + 1e-12).all()


@deterministic
@given(seed=seeds, k=st.integers(2, 40), power=powers)
def test_what_is_far_from_all_that_is_asked_is_free(seed, k, power):
    lab, asked, shares, rng = drawn(seed, k, 8)
    unmet = Unmet(lab, asked, power)
    free = np.flatnonzero(unmet.costs == 1)
    far = [
        all(plain_difference(one.lab, color, one.lab) > one.tolerance * (1 - 1e-9) for one in asked) for color in lab
    ]
    assert set(free) <= set(np.flatnonzero(far))
    other = shares.copy()
    other[:, free] = shares[:, rng.permutation(free)] * rng.random()
    assert unmet.of(other).tolist() == unmet.of(shares).tolist()


@deterministic
@given(seed=seeds, k=st.integers(1, 40), power=powers)
def test_what_is_unmet_is_between_nothing_and_all(seed, k, power):
    lab, asked, shares, _ = drawn(seed, k, 8)
    unmet = Unmet(lab, asked, power)
    found = unmet.of(shares)
    assert (found >= 0).all() and (found <= 1 + 1e-12).all()
    assert unmet.of(np.zeros((1, k))).tolist() == pytest.approx([1])


@deterministic
@given(seed=seeds, k=st.integers(1, 40), power=powers)
def test_what_is_taken_is_what_there_is_up_to_what_is_asked_and_tells_what_is_unmet(seed, k, power):
    lab, asked, shares, _ = drawn(seed, k, 3)
    unmet = Unmet(lab, asked, power)
    for own in shares:
        taken = unmet.taken(own)
        wanted = np.array([one.share for one in asked])
        assert (taken >= 0).all()
        assert (taken.sum(axis=0) <= own + 1e-12).all(), "no more than the photo has"
        assert (np.count_nonzero(taken, axis=0) <= 1).all(), "no colour counts for two"
        assert (taken.sum(axis=1) <= wanted + 1e-12).all()
        told = (taken * unmet.costs).sum(axis=1) + wanted - taken.sum(axis=1)
        assert unmet.of(own[None])[0] == pytest.approx(float(unmet.weights @ told), abs=1e-12)


@deterministic
@given(seed=seeds, k=st.integers(1, 80), n=st.integers(1, 9))
def test_each_photo_is_computed_as_if_it_were_alone(seed, k, n):
    lab, asked, shares, rng = drawn(seed, k, n)
    for of in (
        Unmet(lab, asked).of,
        StandsOut(lab, asked[0], rng.dirichlet(np.ones(k))).of,
        lambda some: share_of(some, lab, asked[0]),
    ):
        together = of(shares)
        assert [float(of(one[None])[0]) for one in shares] == together.tolist()
        assert of(shares[::-1])[::-1].tolist() == together.tolist()


def mean_of(rare: float) -> F64:
    """Histograms of a collection in which red takes up so much."""
    return np.array([0.8 - rare, rare, 0.0, 0.2])


# Green is 0.8 or more from the red in contrast, and the light red a shade of it.
GARDEN = np.array([(50.0, -60.0, 40.0), RED, LIGHT_RED, (95.0, 0.0, 0.0)])


def test_a_patch_of_a_colour_stands_out_from_its_contrary_and_a_photo_full_of_it_does_not():
    stands_out = StandsOut(GARDEN, Asked(RED, 0.0, 12), mean_of(0.001))
    petals, half, all_red, none = stands_out.of(
        np.array([[0.98, 0.02, 0, 0], [0.5, 0.5, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
    )
    assert petals > half > all_red == none == 0
    assert petals > 0.85


def test_how_much_a_colour_stands_out_is_how_much_is_seen_of_it_by_the_contrast_of_the_rest():
    stands_out = StandsOut(GARDEN, Asked(RED, 0.0, 12), mean_of(0.01))
    # Red takes up 1 %, so half of it counts; white is 45 / 2 lighter and 60 / 3.88 greyer: 27.295 of 30.
    contrast = math.hypot(45 / 2, 60 / (1 + 0.048 * 60)) / 30
    (found,) = stands_out.of(np.array([[0, 0.004, 0, 0.996]]))
    assert found == pytest.approx(0.002 / 0.003 * 0.996 * contrast)
    # The light red is 5 of 12 off, and 5 of 30 in contrast.
    (found,) = stands_out.of(np.array([[0, 0, 0.004, 0.996]]))
    near = 1 - (5 / 12) ** 2
    assert found == pytest.approx(0.002 * near / (0.002 * near + 0.001) * (0.996 * contrast + 0.004 * 5 / 30))


def test_of_what_is_common_a_trace_stands_out_less():
    photo = np.array([[0.998, 0.002, 0, 0]])
    found = [float(StandsOut(GARDEN, Asked(RED, 0.0, 12), mean_of(rare)).of(photo)[0]) for rare in (0.0, 0.01, 0.5)]
    assert found[0] > found[1] > found[2] > 0


@deterministic
@given(seed=seeds, k=st.integers(1, 40))
def test_how_much_a_colour_stands_out_is_between_nothing_and_all(seed, k):
    lab, asked, shares, rng = drawn(seed, k, 8)
    found = StandsOut(lab, asked[0], rng.dirichlet(np.ones(k))).of(shares)
    assert (found >= 0).all() and (found <= 1 + 1e-12).all()
