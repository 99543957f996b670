"""A picture of flat colours as SVG: its shapes traced as curves."""

from __future__ import annotations

import io
import re

import numpy as np
from numpy.typing import NDArray

from cbir.color import U8, hex_of_bytes, lab_of_bytes
from cbir.errors import CbirError
from cbir.palette import U16

# Patches of fewer pixels across are taken into what is around them: each would be a shape of its own.
_SPECKLE = 4
# Digits after the point, in pixels.
_DIGITS = 2
_FILL = re.compile(r'(?<=fill=")#([0-9A-Fa-f]{6})(?=")')


def svg_of(colors: U8, labels: U16, visible: NDArray[np.bool_] | None = None) -> bytes:
    """A picture in flat colours as SVG, traced by vtracer: curves filled with its own colours.

    `colors` (n, 3) uint8 sRGB, `labels` (height, width) into them, `visible` (height, width) or None.
    Patches of less than four pixels across vanish. What is transparent stays so. Raises CbirError if vtracer, the extra
    `svg`, is not installed.
    """
    from PIL import Image

    try:
        import vtracer
    except ImportError:
        raise CbirError("SVG is traced by vtracer; install it with: pip install 'cbir[svg]'") from None
    pixels = colors[labels]
    if visible is not None:
        pixels = np.dstack([pixels, np.where(visible, np.uint8(255), np.uint8(0))])
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "PNG", compress_level=1)
    traced = vtracer.convert_raw_image_to_svg(
        picture.getvalue(),
        img_format="png",
        colormode="color",
        hierarchical="stacked",
        mode="spline",
        filter_speckle=_SPECKLE,
        color_precision=8,
        layer_difference=0,
        path_precision=_DIGITS,
    )
    return _in_own_colors(str(traced), colors).encode()


def _in_own_colors(svg: str, colors: U8) -> str:
    """Patches that were taken in have changed the colour of what is around a little; each gets the nearest again."""
    written = sorted(set(_FILL.findall(svg)))
    if not written:
        return svg
    own = lab_of_bytes(colors)
    asked = lab_of_bytes(np.array([list(bytes.fromhex(one)) for one in written], np.uint8))
    nearest = np.linalg.norm(asked[:, None] - own, axis=-1).argmin(axis=1)
    named = {one: hex_of_bytes(colors[i]) for one, i in zip(written, nearest.tolist(), strict=True)}
    return _FILL.sub(lambda match: named[match[1]], svg)
