"""Parts of a picture: a region of it, or what is not a plain background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cbir.color import U8, lab_of_bytes
from cbir.pixels import Picture

# A border is plain if so much of it is within so many Delta E of its median colour; and so is the background.
_PLAIN, _NEAR = 0.85, 12.0
# How wide the border is, as a part of the shorter side; at least a pixel.
_BORDER = 1 / 40


def region_of(picture: Picture, x: int, y: int, width: int, height: int) -> Picture:
    """A part of a picture, in its pixels. Raises ValueError if it does not lie in it."""
    across, down = picture.pixels.shape[1], picture.pixels.shape[0]
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > across or y + height > down:
        raise ValueError(f"the region {x},{y},{width},{height} is not within its {across} x {down} pixels")
    part = np.s_[y : y + height, x : x + width]
    alpha = None if picture.alpha is None else np.ascontiguousarray(picture.alpha[part])
    return Picture(np.ascontiguousarray(picture.pixels[part]), alpha, picture.converted)


def without_background(picture: Picture) -> Picture | None:
    """A picture whose plain background is transparent: what is of the border's colour and joined to the border.

    None if its border is not plain, or all of it is background.
    """
    import cv2

    lab = lab_of_bytes(picture.pixels)
    border = _border(picture.pixels)
    visible = np.ones(border.shape, bool) if picture.alpha is None else picture.alpha > 0
    if not (border & visible).any():
        return None
    middle = np.median(lab[border & visible], axis=0)
    near = (np.linalg.norm(lab - middle, axis=-1) <= _NEAR) | ~visible
    if near[border].mean() < _PLAIN:
        return None
    _, labels = cv2.connectedComponents(near.astype(np.uint8), connectivity=4)
    joined = np.unique(labels[border & near])
    kept = ~(near & np.isin(labels, joined))
    alpha = np.where(kept, 255 if picture.alpha is None else picture.alpha, 0).astype(np.uint8)
    return Picture(picture.pixels, alpha, picture.converted) if alpha.any() else None


def _border(pixels: U8) -> NDArray[np.bool_]:
    height, width = pixels.shape[:2]
    wide = max(1, round(min(height, width) * _BORDER))
    border = np.ones((height, width), bool)
    border[wide:-wide, wide:-wide] = False
    return border
