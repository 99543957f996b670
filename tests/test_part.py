"""Parts of a picture: a region of it, and what is not its plain background."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cbir.part import region_of, without_background
from cbir.pixels import Picture

U8 = NDArray[np.uint8]
RED, BLUE, WHITE, GREY = (200, 30, 30), (30, 60, 200), (255, 255, 255), (128, 128, 128)


def plain(color: tuple[int, int, int], width: int = 80, height: int = 60) -> U8:
    return np.tile(np.array(color, np.uint8), (height, width, 1))


def disc(radius: int = 20, width: int = 80, height: int = 60) -> NDArray[np.bool_]:
    y, x = np.ogrid[:height, :width]
    return (x - width // 2) ** 2 + (y - height // 2) ** 2 <= radius**2


def disc_on(background: U8, color: tuple[int, int, int] = RED, radius: int = 20) -> U8:
    pixels = background.copy()
    pixels[disc(radius)] = color
    return pixels


@pytest.mark.parametrize("has_alpha", [False, True])
def test_a_region_is_the_pixels_in_it(has_alpha):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    alpha = rng.integers(0, 256, (30, 40)).astype(np.uint8) if has_alpha else None
    part = region_of(Picture(pixels, alpha, converted=True), 5, 3, 10, 20)
    assert part.pixels.shape == (20, 10, 3) and part.pixels.flags.c_contiguous and part.converted
    assert (
        part.pixels[0, 0].tolist() == pixels[3, 5].tolist() and part.pixels[19, 9].tolist() == pixels[22, 14].tolist()
    )
    if alpha is None:
        assert part.alpha is None
    else:
        assert part.alpha is not None and part.alpha.tolist() == alpha[3:23, 5:15].tolist()


def test_the_whole_picture_and_a_pixel_of_it_are_regions():
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert region_of(Picture(pixels), 0, 0, 4, 3).pixels.tolist() == pixels.tolist()
    assert region_of(Picture(pixels), 3, 2, 1, 1).pixels.tolist() == [[pixels[2, 3].tolist()]]


@pytest.mark.parametrize(
    "region",
    [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 5, 1), (0, 0, 1, 4), (4, 0, 1, 1), (3, 0, 2, 1), (0, 0, 0, 1), (0, 0, 1, 0)],
)
def test_a_region_that_does_not_lie_in_the_picture_is_refused_with_the_picture_s_size(region):
    with pytest.raises(ValueError, match=r"not within its 4 x 3 pixels"):
        region_of(Picture(np.zeros((3, 4, 3), np.uint8)), *region)


@pytest.mark.parametrize("background", [WHITE, GREY, BLUE])
def test_of_a_disc_on_a_plain_background_the_disc_is_left(background):
    picture = Picture(disc_on(plain(background)), converted=True)
    part = without_background(picture)
    assert part is not None and part.alpha is not None and part.converted
    np.testing.assert_array_equal(part.alpha, np.where(disc(), 255, 0))
    np.testing.assert_array_equal(part.pixels, picture.pixels)


def test_a_background_with_grain_and_a_shadow_that_fades_is_plain():
    rng = np.random.default_rng(1)
    levels = 230 - np.linspace(0, 8, 80)[None, :, None] + rng.normal(0, 2, (60, 80, 1))
    part = without_background(Picture(disc_on(np.rint(levels).repeat(3, axis=2).astype(np.uint8))))
    assert part is not None and part.alpha is not None
    np.testing.assert_array_equal(part.alpha, np.where(disc(), 255, 0))


def test_what_is_of_the_background_s_colour_but_within_the_thing_is_kept():
    pixels = disc_on(plain(WHITE))
    pixels[disc(5)] = WHITE
    part = without_background(Picture(pixels))
    assert part is not None and part.alpha is not None
    np.testing.assert_array_equal(part.alpha, np.where(disc(), 255, 0))


def test_a_hole_that_meets_the_background_at_a_corner_alone_is_kept():
    pixels = plain(WHITE)
    pixels[20:40, 20:40] = RED
    pixels[20, 20], pixels[21, 21] = WHITE, WHITE
    part = without_background(Picture(pixels))
    assert part is not None and part.alpha is not None
    assert part.alpha[20, 20] == 0 and part.alpha[21, 21] == 255


def test_a_thing_that_touches_the_border_is_kept_where_the_border_is_plain_elsewhere():
    pixels = plain(WHITE)
    pixels[30:, 35:45] = RED
    part = without_background(Picture(pixels))
    assert part is not None and part.alpha is not None
    np.testing.assert_array_equal(part.alpha > 0, (pixels == RED).all(axis=2))


def test_a_picture_without_a_plain_border_has_no_background():
    rng = np.random.default_rng(2)
    noisy = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    assert without_background(Picture(disc_on(noisy))) is None
    halves = plain(WHITE)
    halves[:, 40:] = BLUE
    assert without_background(Picture(disc_on(halves))) is None


@pytest.mark.parametrize("size", [(80, 60), (1, 1), (1, 50), (3, 2)])
def test_a_picture_that_is_all_background_has_no_thing_in_it(size):
    assert without_background(Picture(plain(GREY, *size))) is None


def test_transparency_stays_and_counts_as_background():
    pixels, alpha = disc_on(plain(WHITE)), np.full((60, 80), 255, np.uint8)
    alpha[:, :2], alpha[disc(10)] = 0, 100
    part = without_background(Picture(pixels, alpha))
    assert part is not None and part.alpha is not None
    np.testing.assert_array_equal(part.alpha, np.where(disc(10), 100, np.where(disc(), 255, 0)))
    # What the transparent pixels hide is of no matter.
    hiding = pixels.copy()
    hiding[:, :2] = np.random.default_rng(3).integers(0, 256, (60, 2, 3))
    other = without_background(Picture(hiding, alpha))
    assert other is not None and other.alpha is not None
    np.testing.assert_array_equal(other.alpha, part.alpha)


def test_a_picture_whose_border_is_transparent_all_round_has_no_plain_border():
    alpha = np.where(disc(), 255, 0).astype(np.uint8)
    assert without_background(Picture(plain(RED), alpha)) is None
    assert without_background(Picture(plain(RED), np.zeros_like(alpha))) is None
