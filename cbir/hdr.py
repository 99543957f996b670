"""High dynamic range made standard: the colours of PQ and HLG films as a usual screen shows them."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from cbir.color import F64, U8, bytes_of_linear

Transfer = Literal["PQ", "HLG"]

# In cd/m^2: the brightest that is told apart, and what is white on a usual screen (ITU-R BT.2408-7, table 1).
PEAK, WHITE = 1000.0, 203.0
# ITU-R BT.2100-2: table 4 (PQ) and table 5 (HLG), and the gamma of a screen with a peak of 1,000 cd/m^2.
_PQ_PEAK = 10000.0
_PQ_M1, _PQ_M2, _PQ_C1, _PQ_C2, _PQ_C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
_HLG_A, _HLG_B, _HLG_C, _HLG_GAMMA = 0.17883277, 0.28466892, 0.55991073, 1.2
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])
# ITU-R BT.2407, section 2: light of BT.2020's primaries as that of BT.709's.
_BT709_OF_BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
# Colours to a side of the table between which others are interpolated.
_SIDE = 65


def light_of(levels: ArrayLike, transfer: Transfer) -> F64:
    """The light (..., 3) in cd/m^2 of R'G'B' `levels` (..., 3), 0 to 1, by ITU-R BT.2100-2.

    PQ tells of light up to 10,000; HLG is that of a screen with a peak of 1,000.
    """
    encoded = np.asarray(levels, np.float64)
    if transfer == "PQ":
        root = encoded ** (1 / _PQ_M2)
        return np.asarray(_PQ_PEAK * (np.maximum(root - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * root)) ** (1 / _PQ_M1))
    scene = np.where(encoded <= 0.5, encoded**2 / 3, (np.exp((encoded - _HLG_C) / _HLG_A) + _HLG_B) / 12)
    return np.asarray(PEAK * scene * (scene @ _LUMINANCE)[..., None] ** (_HLG_GAMMA - 1))


def tone_mapped(luminance: ArrayLike) -> F64:
    """Luminance up to `PEAK` on a screen that reaches `WHITE`, both in cd/m^2, any shape.

    Unchanged up to some 85, then bent, so that what is brighter than white is still told apart: ITU-R BT.2390-8,
    section 5.4.1, for a screen whose black is none.
    """
    peak, white = _pq_of(PEAK), _pq_of(WHITE)
    seen, largest = _pq_of(np.minimum(luminance, PEAK)) / peak, white / peak
    start = 1.5 * largest - 0.5
    t = np.maximum(seen - start, 0) / (1 - start)
    bent = (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * (1 - start) + (3 * t**2 - 2 * t**3) * largest
    return light_of(np.where(seen < start, seen, bent) * peak, "PQ")


def _pq_of(light: ArrayLike) -> F64:
    """The PQ level, 0 to 1, of light in cd/m^2."""
    root = (np.asarray(light, np.float64) / _PQ_PEAK) ** _PQ_M1
    return np.asarray(((_PQ_C1 + _PQ_C2 * root) / (1 + _PQ_C3 * root)) ** _PQ_M2)


def srgb_of_hdr(levels: ArrayLike, transfer: Transfer) -> U8:
    """The sRGB colours (..., 3) uint8 of R'G'B' `levels` (..., 3), 0 to 1, of a film with BT.2020's primaries."""
    light = light_of(levels, transfer)
    luminance = light @ _LUMINANCE
    # Of black, which stays black, nothing is divided.
    share = tone_mapped(luminance) / np.maximum(luminance, np.finfo(np.float64).tiny)
    return bytes_of_linear(light * share[..., None] / WHITE @ _BT709_OF_BT2020.T)


def sdr_pixels(pixels: U8, transfer: Transfer) -> U8:
    """`srgb_of_hdr` of 8-bit levels (height, width, 3) uint8, interpolated between 65 x 65 x 65 colours."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).filter(_table(transfer)), np.uint8)


@cache
def _table(transfer: Transfer) -> Any:
    from PIL import ImageFilter

    steps = np.linspace(0, 1, _SIDE)
    # Red changes fastest.
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colors = srgb_of_hdr(np.stack([red, green, blue], axis=-1), transfer)
    return ImageFilter.Color3DLUT(_SIDE, (colors / np.float32(255)).reshape(-1))
