"""A painted question: what photos lack of it, where it is painted, and nothing elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cbir.asked import Asked, Unmet
from cbir.descriptor import GLOBAL, SPATIAL, Descriptor
from cbir.painting import Painting
from cbir.palette import Palette
from cbir.pixels import Picture

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
SIDE = 24
RED, BLUE, GREEN, WHITE = 0, 1, 2, 3
SRGB = np.array([(200, 30, 30), (30, 60, 200), (30, 160, 60), (255, 255, 255)], np.uint8)
PALETTE = Palette.of_bytes(SRGB)
each_descriptor = pytest.mark.parametrize("descriptor", [SPATIAL, GLOBAL], ids=lambda one: one.name)


def striped(*rows: int) -> U8:
    """A picture of stripes across, of equal height."""
    return SRGB[np.repeat(rows, SIDE // len(rows))][:, None].repeat(SIDE, axis=1)


def opaque(*rows: int) -> U8:
    """How opaque such stripes are."""
    return np.repeat(np.array(rows, np.uint8), SIDE // len(rows))[:, None].repeat(SIDE, axis=1)


def described(descriptor: Descriptor, *pixels: U8) -> F64:
    codes = np.array([descriptor.describe(PALETTE.labels(one), len(PALETTE)) for one in pixels])
    return np.asarray(descriptor.shares(codes), np.float64)


def lacking(painted: Picture, *pixels: U8, descriptor: Descriptor = SPATIAL, tolerance: float = 12) -> list[float]:
    return Painting(painted, PALETTE, descriptor, tolerance).of(described(descriptor, *pixels)).tolist()


@each_descriptor
def test_what_is_wholly_transparent_is_refused(descriptor: Descriptor):
    with pytest.raises(ValueError, match="nothing is painted"):
        Painting(Picture(striped(RED), opaque(0)), PALETTE, descriptor, 12)


@each_descriptor
def test_what_is_next_to_wholly_transparent_is_refused(descriptor: Descriptor):
    alpha = opaque(0)
    alpha[0, 0] = 50
    with pytest.raises(ValueError, match="next to nothing is painted"):
        Painting(Picture(striped(RED), alpha), PALETTE, descriptor, 12)


@each_descriptor
def test_a_photo_has_what_is_painted_as_itself_and_another_lacks_all(descriptor: Descriptor):
    assert lacking(Picture(striped(RED)), striped(RED), striped(BLUE), descriptor=descriptor) == pytest.approx([0, 1])


def test_where_nothing_is_painted_nothing_is_asked():
    sky = Picture(striped(BLUE, BLUE, BLUE), opaque(255, 0, 0))
    meadow, sea, below = striped(BLUE, BLUE, GREEN), striped(BLUE, BLUE, WHITE), striped(GREEN, BLUE, BLUE)
    first, second, third = lacking(sky, meadow, sea, below)
    assert first == second == 0 and third > 0.5
    # The centre is asked for no more than is painted of it.
    assert lacking(sky, striped(BLUE, GREEN, GREEN))[0] == pytest.approx(0, abs=0.01)


def test_the_whole_descriptor_asks_for_as_much_of_the_colour_as_is_painted_wherever_it_lies():
    sky = Picture(striped(BLUE, BLUE, BLUE), opaque(255, 0, 0))
    found = lacking(sky, striped(BLUE, GREEN, GREEN), striped(GREEN, GREEN, BLUE), striped(GREEN), descriptor=GLOBAL)
    assert found == pytest.approx([0, 0, 1], abs=0.01)


def test_a_transparent_pixel_s_hidden_colour_is_of_no_matter():
    alpha = opaque(255, 0, 0)
    photos = striped(BLUE, GREEN, WHITE), striped(GREEN, BLUE, RED), striped(RED, RED, BLUE)
    assert lacking(Picture(striped(BLUE, RED, GREEN), alpha), *photos) == lacking(
        Picture(striped(BLUE, WHITE, WHITE), alpha), *photos
    )


def test_what_is_half_opaque_is_asked_for_in_half_the_amount():
    # Half a layer of red all over: half of each area is to be red, the other half is free.
    half = Picture(striped(RED), opaque(128))
    assert lacking(half, striped(RED), striped(RED, GREEN, RED, GREEN, RED, GREEN), descriptor=GLOBAL) == pytest.approx(
        [0, 0], abs=0.01
    )
    (found,) = lacking(half, striped(RED, GREEN, GREEN, GREEN), descriptor=GLOBAL)
    assert found == pytest.approx(0.5, abs=0.01)


def test_areas_count_by_how_much_of_them_is_painted():
    alpha = opaque(255, 0, 0)
    painted = SPATIAL.painted(PALETTE.labels(striped(RED)), len(PALETTE), alpha)
    weights = painted.sum(axis=1)
    # Of 24 rows 8 are painted: 8 of the whole, all of the top, 2 of the 12 of the centre.
    assert weights.tolist() == pytest.approx([8 / 24, 1, 0, 0, 2 / 12])
    # With as much red at the bottom a photo has what is asked of the whole and of the centre, but not of the top.
    (found,) = lacking(Picture(striped(RED), alpha), striped(GREEN, GREEN, RED))
    assert found == pytest.approx(1 / (8 / 24 + 1 + 2 / 12), abs=0.01)


@each_descriptor
@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=st.integers(0, 1 << 32))
def test_what_is_lacking_is_that_of_each_area_told_plainly(descriptor: Descriptor, seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, (SIDE, SIDE), p=rng.dirichlet(np.ones(4)))
    alpha = (rng.integers(0, 256, (SIDE, SIDE)) * (rng.random((SIDE, SIDE)) < rng.random())).astype(np.uint8)
    alpha[:4] = 255
    picture = Picture(SRGB[labels], alpha)
    shares = described(descriptor, *(SRGB[rng.choice(4, (SIDE, SIDE), p=rng.dirichlet(np.ones(4)))] for _ in range(4)))
    painted = descriptor.painted(PALETTE.labels(picture.pixels), len(PALETTE), alpha)
    expected, weights = np.zeros(4), 0.0
    for number, area in enumerate(descriptor.areas):
        blocks = [descriptor.blocks.index(name) for name in area]
        colors = [i for i in range(4) if painted[number, i] > 0.002]
        if colors:
            lab = PALETTE.lab.astype(float).tolist()
            asked = [Asked((lab[i][0], lab[i][1], lab[i][2]), float(painted[number, i]), 12.0) for i in colors]
            weight = painted[number].sum()
            expected += weight * Unmet(PALETTE.lab, asked, power=1).of(shares[:, blocks].sum(axis=1))
            weights += weight
    found = Painting(picture, PALETTE, descriptor, 12).of(shares)
    np.testing.assert_allclose(found, expected / weights, atol=1e-12)
    assert (found >= 0).all() and (found <= 1 + 1e-12).all()


@each_descriptor
@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=st.integers(0, 1 << 32), k=st.integers(2, 64))
def test_a_picture_lacks_nothing_of_itself_painted_but_what_its_bytes_have_rounded_off(
    descriptor: Descriptor, seed: int, k: int
):
    rng = np.random.default_rng(seed)
    palette = Palette.of_bytes(rng.integers(0, 256, (k, 3)).astype(np.uint8))
    pixels = palette.srgb[rng.choice(len(palette), (SIDE, SIDE), p=rng.dirichlet(np.full(len(palette), 0.3)))]
    codes = descriptor.describe(palette.labels(pixels), len(palette))[None]
    (found,) = Painting(Picture(pixels), palette, descriptor, 12).of(descriptor.shares(codes))
    # A share s is off by (sqrt(s) + 0.001) / 255 in each block; the sum of up to 3 k roots of shares that make 1 is
    # at most sqrt(3 k). Scaling the sums back to one may move as much again.
    most = 2 * (np.sqrt(3 * k) + 0.003 * k) / 255
    assert 0 <= found <= most


@each_descriptor
def test_each_photo_is_computed_as_if_it_were_alone(descriptor: Descriptor):
    rng = np.random.default_rng(5)
    palette = Palette.of_bytes(rng.integers(100, 160, (60, 3)).astype(np.uint8))
    labels = rng.integers(0, len(palette), (9, SIDE, SIDE)).astype(np.uint16)
    painting = Painting(Picture(palette.srgb[labels[0]]), palette, descriptor, 40)
    shares = descriptor.shares(np.array([descriptor.describe(one, len(palette)) for one in labels]))
    assert [float(painting.of(one[None])[0]) for one in shares] == painting.of(shares).tolist()
