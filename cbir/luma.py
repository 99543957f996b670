"""Luma and chroma of films to colours, and back (ITU-T H.273)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbir.color import U8

# What H.273 calls levels from 0 to 255; those of most films are from 16 to 235, which is 1.
FULL_RANGE = 2
# How many times wider than the picture asked for a frame is of which not all pixels are averaged.
_MUCH_LARGER = 8


def rgb_of_yuv(weights: tuple[float, float], full_range: bool) -> NDArray[np.float64]:
    """The matrix (3, 4) from 8-bit luma, blue and red chroma, and one, to R'G'B' levels (ITU-T H.273, section 8.3)."""
    red, blue = weights
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    rows = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * blue * (1 - blue) / green * chroma, -2 * red * (1 - red) / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    return np.column_stack([rows, -rows @ [black, 128, 128]])


def yuv_of_rgb(colors: U8, weights: tuple[float, float], full_range: bool, bits: int = 8) -> NDArray[np.uint16]:
    """Luma, blue and red chroma of sRGB colours (n, 3) uint8, as (n, 3) uint16 of so many bits: `rgb_of_yuv` undone."""
    matrix = rgb_of_yuv(weights, full_range)
    levels = (colors.astype(np.float64) - matrix[:, 3]) @ np.linalg.inv(matrix[:, :3]).T
    return np.asarray(np.clip(np.rint(levels * (1 << bits - 8)), 0, (1 << bits) - 1), np.uint16)


def pixels_of(planes: tuple[U8, U8, U8], size: tuple[int, int], matrix: NDArray[np.float64]) -> U8:
    """The sRGB pixels (height, width, 3) uint8 of a frame made (width, height) `size` by averaging."""
    import cv2

    if planes[0].shape[1] >= _MUCH_LARGER * size[0]:
        # Averaging all pixels for so few takes longer than decoding them; a part of them, evenly spread, does.
        between = 2 * size[0], 2 * size[1]
        y, u, v = (np.asarray(cv2.resize(p, between, interpolation=cv2.INTER_NEAREST), np.uint8) for p in planes)
        planes = y, u, v
    same = [_resized(plane, size) for plane in planes]
    return np.asarray(cv2.transform(cv2.merge(same), matrix), np.uint8)


def _resized(plane: U8, size: tuple[int, int]) -> Any:
    import cv2

    if plane.shape[::-1] == size:
        return plane
    # Where less than two samples make one, means of two do as well as means of areas, in a fifth of the time.
    way = cv2.INTER_AREA if plane.shape[1] >= 2 * size[0] else cv2.INTER_LINEAR
    return cv2.resize(plane, size, interpolation=way)
