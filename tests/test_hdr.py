"""High dynamic range: light by the standards' own figures, tones that stay where a usual screen shows them."""

from __future__ import annotations

import numpy as np
import pytest

from cbir.color import linear_of_bytes
from cbir.hdr import PEAK, WHITE, Transfer, light_of, sdr_pixels, srgb_of_hdr, tone_mapped

BOTH = pytest.mark.parametrize("transfer", ["PQ", "HLG"])


# ITU-R BT.2408-7, table 1: reference levels in percent of the signal, and the light of a screen of 1,000 cd/m^2.
@pytest.mark.parametrize(
    ("transfer", "level", "light"),
    [("HLG", 0.75, 203), ("HLG", 0.38, 26), ("PQ", 0.58, 203), ("PQ", 0.38, 26), ("HLG", 1, 1000), ("PQ", 1, 10000)],
)
def test_light_is_that_of_the_standards_levels(transfer: Transfer, level: float, light: float) -> None:
    np.testing.assert_allclose(light_of([level] * 3, transfer), light, rtol=0.025)


@BOTH
def test_grey_stays_grey_and_brighter_stays_brighter(transfer: Transfer) -> None:
    shown = srgb_of_hdr(np.repeat(np.linspace(0, 1, 201)[:, None], 3, axis=1), transfer)
    assert shown[0].tolist() == [0, 0, 0] and shown[-1].tolist() == [255, 255, 255]
    assert np.ptp(shown.astype(int), axis=1).max() <= 1
    assert (np.diff(shown[:, 1].astype(int)) >= 0).all()


def test_dark_and_middle_tones_are_as_bright_as_they_were_and_the_brightest_is_white() -> None:
    light = np.linspace(0, 85, 50)
    np.testing.assert_allclose(tone_mapped(light), light, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(tone_mapped([PEAK, 10 * PEAK]), WHITE, rtol=1e-9)
    bright = tone_mapped(np.linspace(85, PEAK, 500))
    assert (np.diff(bright) > 0).all()


def test_a_usual_picture_in_pq_comes_back() -> None:
    """sRGB as PQ holds it, with a white of 203 cd/m^2, by the formulas the other way round."""
    srgb = np.random.default_rng(0).integers(0, 160, (500, 3), dtype=np.uint8)
    bt2020_of_bt709 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    y = (linear_of_bytes(srgb) @ bt2020_of_bt709.T * WHITE / 10000) ** 0.1593017578125
    pq = ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    assert np.abs(srgb_of_hdr(pq, "PQ").astype(int) - srgb).max() <= 1


@BOTH
def test_pixels_are_those_of_the_formula_but_for_what_lies_between_the_tables_colours(transfer: Transfer) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    off = np.abs(sdr_pixels(pixels, transfer).astype(int) - srgb_of_hdr(pixels / 255, transfer))
    assert off.mean() < 0.3 and (off > 4).mean() < 0.015
