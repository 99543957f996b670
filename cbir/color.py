"""Colours as numbers: 8-bit sRGB, CIE L*a*b* (D65), and the 24-bit code that stands for one sRGB colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Linear sRGB to XYZ (IEC 61966-2-1), each row divided by its sum: that is XYZ over the white point, so that
# white is exactly L* = 100 and greys have a* = b* = 0.
_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_XYZ /= _XYZ.sum(axis=1, keepdims=True)
_XYZ_INVERSE = np.linalg.inv(_XYZ)
# Where CIE L*a*b* turns from a cube root to a straight line (CIE 15:2004).
_KNEE = 6 / 29
# Codes that are looked up at a time.
_BLOCK = 1 << 16


def _linear(encoded: NDArray[np.floating]) -> NDArray[np.floating]:
    """Undo sRGB's transfer curve (IEC 61966-2-1); both sides 0..1."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


_LINEAR_OF_BYTE = _linear(np.arange(256) / 255).astype(np.float32)


def linear_of_bytes(srgb: U8) -> F32:
    """Amounts of light, 0..1 float32, of 8-bit sRGB levels, any shape: sRGB's transfer curve undone."""
    return _LINEAR_OF_BYTE[srgb]


def bytes_of_linear(linear: ArrayLike) -> U8:
    """The nearest 8-bit sRGB levels of amounts of light, any shape; below 0 is clipped to black, above 1 to white."""
    light = np.clip(np.asarray(linear, np.float64), 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(encoded * 255), np.uint8)


def _lab_of_linear(rgb: list[F32]) -> F32:
    f = []
    for row in _XYZ.astype(np.float32):
        t = row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2]
        f.append(np.where(t > np.float32(_KNEE**3), np.cbrt(t), t / np.float32(3 * _KNEE**2) + np.float32(4 / 29)))
    lab = np.empty((*f[0].shape, 3), np.float32)
    lab[..., 0] = 116 * f[1] - 16
    lab[..., 1] = 500 * (f[0] - f[1])
    lab[..., 2] = 200 * (f[1] - f[2])
    return lab


def lab_of_bytes(srgb: U8) -> F32:
    """CIE L*a*b* of 8-bit sRGB colours.

    `srgb` is (..., 3) uint8; the result is (..., 3) float32 with L* 0..100 and real a*, b* (about -86..98 and
    -108..95), D65. OpenCV's own float conversion interpolates a coarse table and is off by 0.15 on average, so it
    is not used.
    """
    return _lab_of_linear([linear_of_bytes(srgb[..., channel]) for channel in range(3)])


def lab_of_linear(light: F32) -> F32:
    """CIE L*a*b* of amounts of light, 0 or more, of red, green, blue: (3, n) float32 becomes (n, 3) float32."""
    return _lab_of_linear(list(light))


def lab_of_levels(srgb: ArrayLike) -> F32:
    """CIE L*a*b* of sRGB colours given as real levels 0..255, such as the mean of several pixels; (..., 3)."""
    linear = _linear(np.asarray(srgb, np.float64) / 255).astype(np.float32)
    return _lab_of_linear([linear[..., channel] for channel in range(3)])


def bytes_of_lab(lab: ArrayLike) -> U8:
    """The nearest 8-bit sRGB colours, (..., 3) uint8, of L*a*b* colours; those out of gamut are clipped."""
    values = np.asarray(lab, np.float64)
    y = (values[..., 0] + 16) / 116
    f = np.stack([y + values[..., 1] / 500, y, y - values[..., 2] / 200], axis=-1)
    xyz = np.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    return bytes_of_linear(xyz @ _XYZ_INVERSE.T)


def codes(pixels: U8) -> U32:
    """One number for each pixel: red + 256 green + 65536 blue; (..., 3) uint8 becomes (...) uint32."""
    import cv2

    if not pixels.size:
        return np.zeros(pixels.shape[:-1], np.uint32)
    padded = cv2.cvtColor(np.ascontiguousarray(pixels).reshape(1, -1, 3), cv2.COLOR_RGB2RGBA).view("<u4")
    padded &= np.uint32(0xFFFFFF)
    return np.asarray(padded.reshape(pixels.shape[:-1]), np.uint32)


def bytes_of_codes(values: U32) -> U8:
    """The pixels that `codes` made the numbers of: (...) uint32 becomes (..., 3) uint8."""
    import cv2

    if not values.size:
        return np.zeros((*values.shape, 3), np.uint8)
    padded = np.ascontiguousarray(values, "<u4").view(np.uint8).reshape(1, -1, 4)
    return np.asarray(cv2.cvtColor(padded, cv2.COLOR_RGBA2RGB), np.uint8).reshape(*values.shape, 3)


def distinct(values: U32) -> U32:
    """The different colour codes among `values`, ascending."""
    if values.size < 1 << 18:
        return np.unique(values)
    # From about a quarter of a million values, marking a table of all 24-bit codes is faster than sorting.
    seen = np.zeros(1 << 24, bool)
    flat = values.reshape(-1)
    # Block by block, so that the indices, which numpy wants in 64 bits, stay in the processor's cache.
    for start in range(0, len(flat), _BLOCK):
        seen[flat[start : start + _BLOCK].astype(np.intp)] = True
    return np.flatnonzero(seen).astype(np.uint32)


def hex_of_bytes(srgb: U8) -> str:
    """A colour as `#rrggbb`; `srgb` is (3,) uint8."""
    return "#{:02x}{:02x}{:02x}".format(*srgb.tolist())
