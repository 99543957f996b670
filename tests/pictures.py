"""Synthetic photos: a gradient around one colour, with noise, so that each has thousands of colours of its own."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

Color = tuple[int, int, int]


def photo_pixels(color_or_seed: Color | str | int, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """The pixels (height, width, 3) of a photo around a colour (r, g, b) or "#rrggbb", or around one made of a seed."""
    if isinstance(color_or_seed, int):
        random = np.random.default_rng(color_or_seed)
        color = random.integers(40, 216, 3)
    else:
        color = np.array(ImageColor.getrgb(color_or_seed) if isinstance(color_or_seed, str) else color_or_seed)
        random = np.random.default_rng(color.tolist())
    width, height = size
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    slopes = random.uniform(-24, 24, (2, 3))
    noise = random.normal(0, 4, (height, width, 3))
    levels = color + across[..., None] * slopes[0] + down[..., None] * slopes[1] + noise
    return np.rint(levels.clip(0, 255)).astype(np.uint8)


def make_photo(
    path: Path, color_or_seed: Color | str | int, size: tuple[int, int] = (64, 48), **save_options: Any
) -> Path:
    """Save such a photo, in the format of the path's ending unless `save_options` name one; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo_pixels(color_or_seed, size)).save(path, **save_options)
    return path
