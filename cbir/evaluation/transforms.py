"""Photos changed in known ways and by known amounts, so that what a search should find is known without a judge.

Each transform is graded by strength, and nothing but numbers goes in: the same photo, strength and seed give the same
bytes, in any order and on any machine, as far as NumPy, OpenCV and Pillow of one version do.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cbir.color import U8, bytes_of_linear, linear_of_bytes


@dataclass(frozen=True)
class Transform:
    """One way to change a picture.

    `strengths` are those of the benchmark, mildest first, in the unit that `label_format` prints. `apply` takes a
    picture (h, w, 3) uint8 sRGB of at least one pixel, a strength and a source of chance, and returns a new picture
    (h', w', 3) uint8, again of at least one pixel; what it was given stays as it was.
    """

    name: str
    strengths: tuple[float, ...]
    label_format: str
    apply: Callable[[U8, float, np.random.Generator], U8]

    def label(self, strength: float) -> str:
        """A strength as it is printed, such as `90 %` or `+0.7 EV`; empty if there is only one."""
        return self.label_format.format(strength)


def transformed(pixels: U8, transform: Transform, strength: float, seed: int) -> U8:
    """A changed copy of a picture, (h, w, 3) uint8 sRGB to (h', w', 3) uint8.

    `seed` is any whole number, one for each photo. Chance depends on it, on the transform's name and on the strength
    alone, so each picture of a benchmark can be made by itself.
    """
    digest = hashlib.sha256(f"{seed} {transform.name} {float(strength)}".encode()).digest()
    return transform.apply(pixels, strength, np.random.default_rng(int.from_bytes(digest)))


def _window(pixels: U8, percent: float, random: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a window with this share of the area, in the picture's aspect ratio, at a random place."""
    window = []
    for side in pixels.shape[:2]:
        length = max(1, round(side * math.sqrt(percent / 100)))
        start = int(random.integers(side - length + 1))
        window.append(slice(start, start + length))
    return window[0], window[1]


def _black_or_white(random: np.random.Generator) -> int:
    return 255 * int(random.integers(2))


def _crop(pixels: U8, percent: float, random: np.random.Generator) -> U8:
    """Keep this share of the area."""
    return pixels[_window(pixels, percent, random)].copy()


def _mirror(pixels: U8, _strength: float, _random: np.random.Generator) -> U8:
    """Left to right."""
    return pixels[:, ::-1].copy()


def _rotate(pixels: U8, degrees: float, random: np.random.Generator) -> U8:
    """Turn about the centre, either way, and cut out the largest upright rectangle of the old aspect ratio."""
    import cv2

    height, width = pixels.shape[:2]
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    # The rectangle turned back has to fit into the picture: its bounding box is no wider and no higher.
    scale = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    w, h = max(1, int(scale * width)), max(1, int(scale * height))
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees * random.choice([-1, 1]), 1)
    turn[:, 2] -= (width - w) / 2, (height - h) / 2
    # Pillow's bicubic rounds down, which would darken the picture by half a level. Only the kernel reaches over the
    # edge, so there the edge is repeated.
    turned = cv2.warpAffine(pixels, turn, (w, h), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8)


def _rescale(pixels: U8, divisor: float, _random: np.random.Generator) -> U8:
    """Divide both sides, averaging areas."""
    import cv2

    h, w = (max(1, round(side / divisor)) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(pixels: U8, quality: float, _random: np.random.Generator) -> U8:
    """Compress and decode, with libjpeg's quality and Pillow's default of half the resolution for colour (4:2:0)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
    return np.array(Image.open(file))


def _light(pixels: U8, gains: tuple[float, float, float]) -> U8:
    """Multiply the light of red, green and blue; what is too bright is clipped."""
    import cv2

    levels = np.arange(256, dtype=np.uint8)
    table = bytes_of_linear(linear_of_bytes(levels)[:, None] * np.array(gains))
    return np.asarray(cv2.LUT(pixels, table[None]), np.uint8)


def _expose(pixels: U8, stops: float, _random: np.random.Generator) -> U8:
    """Twice the light for each stop (EV)."""
    return _light(pixels, (2**stops,) * 3)


# What becomes of white when daylight of a colour temperature (K) falls on what was balanced for D65: the chromaticity
# of the CIE's daylight (Judd, MacAdam and Wyszecki 1964; CIE 15:2004) in linear sRGB, of luminance 1. 5000 K is the
# light in which prints are judged (ISO 3664), 8000 K about that of open shade; the other two are half as far from D65
# in mired (10^6 / K), the unit in which equal steps look alike.
_DAYLIGHT = {
    5000: (1.1757, 0.9759, 0.7210),
    5700: (1.0792, 0.9905, 0.8603),
    7200: (0.9475, 1.0052, 1.1034),
    8000: (0.9014, 1.0085, 1.2063),
}


def _balance(pixels: U8, kelvin: float, _random: np.random.Generator) -> U8:
    """Make white look as under another daylight (von Kries 1902, in linear sRGB); greys keep their luminance."""
    return _light(pixels, _DAYLIGHT[int(kelvin)])


def _border(pixels: U8, percent: float, random: np.random.Generator) -> U8:
    """Add a white or black frame around the picture, as wide as this share of its shorter side."""
    width = max(1, round(min(pixels.shape[:2]) * percent / 100))
    return np.pad(pixels, ((width, width), (width, width), (0, 0)), constant_values=_black_or_white(random))


_CAPTION = "A line of text, as in a magazine"


def _caption(pixels: U8, percent: float, random: np.random.Generator) -> U8:
    """Cover this share of the height, at the bottom, with a bar with text, black on white or white on black."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = pixels.shape[:2]
    bar = max(1, round(height * percent / 100))
    paper = _black_or_white(random)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height - bar, width, height), fill=(paper,) * 3)
    # As large as fits: three fifths of the bar's height, and nine tenths of its width.
    widest = 0.9 * width / ImageFont.load_default(100).getlength(_CAPTION) * 100
    font = ImageFont.load_default(max(1, min(0.6 * bar, widest)))
    draw.text((width / 2, height - bar / 2), _CAPTION, fill=(255 - paper,) * 3, font=font, anchor="mm")
    return np.array(image)


def _cover(pixels: U8, percent: float, random: np.random.Generator) -> U8:
    """Cover this share of the area with a rectangle of one random colour."""
    covered = pixels.copy()
    covered[_window(pixels, percent, random)] = random.integers(0, 256, 3, np.uint8)
    return covered


def _grain(pixels: U8, sigma: float, random: np.random.Generator) -> U8:
    """Add normal noise of this many levels of 255, on each channel its own, as a sensor does."""
    noise = random.standard_normal(pixels.shape, np.float32) * np.float32(sigma)
    return np.asarray(np.rint(pixels + noise).clip(0, 255), np.uint8)


TRANSFORMS = (
    Transform("crop", (90, 75, 60), "{:g} %", _crop),
    Transform("mirror", (1,), "", _mirror),
    Transform("rotation", (2, 5, 10), "{:g}°", _rotate),
    Transform("rescaling", (2, 4), "1/{:g}", _rescale),
    Transform("JPEG", (60, 40, 20), "quality {:g}", _jpeg),
    Transform("exposure", (-0.35, 0.35, -0.7, 0.7), "{:+g} EV", _expose),
    Transform("white balance", (7200, 5700, 8000, 5000), "{:g} K", _balance),
    Transform("border", (5, 10), "{:g} %", _border),
    Transform("caption", (10, 20), "{:g} %", _caption),
    Transform("cover", (10, 20, 30), "{:g} %", _cover),
    Transform("grain", (5, 10, 20), "{:g} levels", _grain),
)
