"""Tones: what each is defined as, by photos of few colours."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cbir.tone import DEFINITIONS, has_tone

F64 = NDArray[np.float64]


def color(lightness: float, chroma: float = 0.0, hue: float = 0.0) -> list[float]:
    """A colour by its hue in degrees."""
    angle = math.radians(hue)
    return [lightness, chroma * math.cos(angle), chroma * math.sin(angle)]


def tones(*parts: tuple[float, list[float]]) -> set[str]:
    """The tones of a photo that has such shares of such colours."""
    shares, lab = np.array([[share for share, _ in parts]]), np.array([one for _, one in parts])
    return {name for name in DEFINITIONS if has_tone(name, shares, lab)[0]}


@pytest.mark.parametrize(
    ("lightness", "tone"), [(34, {"dark"}), (36, set()), (64, set()), (66, {"light"}), (0, {"dark"}), (100, {"light"})]
)
def test_dark_and_light_go_by_the_mean_lightness(lightness, tone):
    assert tones((1, color(lightness))) & {"dark", "light"} == tone
    # The same mean of black and white.
    assert tones((lightness / 100, color(100)), (1 - lightness / 100, color(0))) & {"dark", "light"} == tone


def test_muted_is_what_has_little_chroma_on_the_average():
    assert "muted" in tones((1, color(50, 13, 90))) and "muted" not in tones((1, color(50, 15, 90)))
    assert "muted" in tones((0.8, color(50)), (0.2, color(50, 60, 90)))
    assert "muted" not in tones((0.7, color(50)), (0.3, color(50, 60, 90)))


def test_vivid_is_what_is_strong_in_a_fifth_of_it():
    assert "vivid" in tones((0.75, color(50)), (0.25, color(50, 51, 200)))
    assert "vivid" not in tones((0.85, color(50)), (0.15, color(50, 90, 200)))
    assert "vivid" not in tones((1, color(50, 49, 200)))
    # A fifth may be strong where all else is grey.
    assert {"vivid", "muted"} <= tones((0.78, color(50)), (0.22, color(50, 60, 200)))


def test_monochrome_is_what_has_greys_and_one_hue():
    assert "monochrome" in tones((0.3, color(10)), (0.7, color(90)))
    assert "monochrome" in tones((0.5, color(20)), (0.25, color(50, 40, 170)), (0.25, color(60, 60, 190)))
    assert "monochrome" not in tones((0.5, color(50, 40, 0)), (0.5, color(50, 40, 60)))
    # A hue either side of 180 degrees, where its angle turns over, and of 0 degrees.
    for middle in (180, 0):
        assert "monochrome" in tones((0.5, color(50, 40, middle - 10)), (0.5, color(50, 40, middle + 10)))
    assert "monochrome" not in tones((0.5, color(50, 40, 0)), (0.5, color(50, 40, 180)))


def test_monochrome_allows_a_tenth_of_another_hue_and_any_of_what_is_nearly_grey():
    assert "monochrome" in tones((0.92, color(50, 30, 60)), (0.08, color(50, 30, 200)))
    assert "monochrome" not in tones((0.85, color(50, 30, 60)), (0.15, color(50, 30, 200)))
    assert "monochrome" in tones((0.2, color(50, 30, 60)), (0.8, color(50, 7, 200)))


@pytest.mark.parametrize(
    ("hue", "tone"),
    [(-25, set()), (-15, {"warm"}), (40, {"warm"}), (95, {"warm"}), (105, set()), (145, set()), (155, {"cool"}),
     (270, {"cool"}), (305, {"cool"}), (315, set())],
)  # fmt: skip
def test_warm_is_from_red_to_yellow_and_cool_from_green_to_violet(hue, tone):
    assert tones((1, color(50, 30, hue))) & {"warm", "cool"} == tone


def test_warm_and_cool_go_by_most_of_the_chroma():
    assert "warm" in tones((0.5, color(50, 40, 40)), (0.5, color(50, 10, 270)))
    assert tones((0.6, color(50, 40, 40)), (0.4, color(50, 40, 270))) & {"warm", "cool"} == set()
    # Of a photo that is next to grey nobody says that it is cool.
    assert "cool" not in tones((1, color(50, 4, 270))) and "cool" in tones((1, color(50, 6, 270)))


def test_copies_are_of_one_tone_wherever_they_stand():
    rng = np.random.default_rng(1)
    lab = rng.uniform([0, -60, -60], [100, 60, 60], (40, 3))
    shares = rng.dirichlet(np.full(40, 0.2), 30)
    for name in DEFINITIONS:
        together = has_tone(name, np.concatenate([shares, shares[::-1]]), lab)
        alone = [bool(has_tone(name, one[None], lab)[0]) for one in shares]
        assert together.tolist() == [*alone, *alone[::-1]]


def test_each_tone_is_defined_in_a_line_with_its_numbers():
    assert {"dark", "light", "muted", "vivid", "monochrome", "warm", "cool"} == set(DEFINITIONS)
    assert "35" in DEFINITIONS["dark"] and "65" in DEFINITIONS["light"] and "20%" in DEFINITIONS["vivid"]
    assert all("\n" not in text for text in DEFINITIONS.values())
