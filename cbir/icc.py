"""True colours: from the colours that an embedded ICC profile speaks of to sRGB, by Little CMS."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageCms

# The profiles of printing presses, the largest there are, have up to 3 MB; one beyond this is no help but to an attack.
MAX_PROFILE_BYTES = 4 << 20
# A profile's header says which kind of colours it is of (ICC.1:2022, 7.2).
_COLOR_SPACE = slice(16, 20)
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
# Profiles of one colour space differ by rounding, up to this much of 255.
_SAME_LEVELS = 3


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """A picture of 8 bits (RGB, L, CMYK or LAB) as sRGB in mode RGB, and whether its profile changed its colours.

    Without a profile grey and RGB are sRGB, CMYK is what an ideal printer would make of it, and LAB, which speaks for
    itself, is CIE L*a*b* under D50. A profile that is damaged, or of another kind of colours than the pixels, says
    nothing about them and is ignored.
    """
    from PIL import ImageCms

    if image.mode == "LAB":
        return cast("Image.Image", ImageCms.applyTransform(image, _lab_to_srgb())), False
    if profile and len(profile) <= MAX_PROFILE_BYTES:
        image = _grey_as_such(image, profile)
        transform = _transform_to_srgb(profile, image.mode)
        if transform is not None:
            return cast("Image.Image", ImageCms.applyTransform(image, transform)), True
    return (image if image.mode == "RGB" else image.convert("RGB")), False


def jpeg2000_profile(file: IO[bytes]) -> bytes | None:
    """The ICC profile of a JP2 file, which Pillow does not tell: that of a box `colr` (ISO 15444-1, I.5.3.3)."""
    for kind, start, end in _boxes(file, 0, file.seek(0, io.SEEK_END)):
        if kind == b"jp2h":
            for inner, first, last in _boxes(file, start, end):
                if inner == b"colr" and last - first <= MAX_PROFILE_BYTES:
                    file.seek(first)
                    method, _, _, *profile = file.read(last - first)
                    if method in (2, 3):
                        return bytes(profile)
    return None


def _boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between two places of a file: the kind of each, and where its content starts and ends."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(8)
        length = int.from_bytes(header[:4], "big")
        # Longer ones, and one of unknown length, hold pixels; nothing that is looked for comes after these.
        if length < 8:
            return
        yield header[4:], start + 8, min(start + length, end)
        start += length


def _grey_as_such(image: Image.Image, profile: bytes) -> Image.Image:
    """A picture without colours in mode L if its profile is one of grey: some decoders give grey as RGB."""
    if image.mode != "RGB" or profile[_COLOR_SPACE] != b"GRAY":
        return image
    red, green, blue = (np.asarray(image.getchannel(band)) for band in "RGB")
    return image.convert("L") if np.array_equal(red, green) and np.array_equal(green, blue) else image


@lru_cache(maxsize=16)
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """How to get from a profile's colours to sRGB; None if it does not say, or if they are the same.

    Kept by content, as thousands of photos share a few profiles.
    """
    from PIL import Image, ImageCms

    if _MODES.get(profile[_COLOR_SPACE]) != mode:
        return None
    try:
        transform = _transform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode == "CMYK":
        return transform
    # There are dozens of sRGB profiles by as many names; what counts is whether they change colours.
    if mode == "L":
        samples = np.arange(256, dtype=np.uint8)[None]
    else:
        steps = np.arange(0, 256, 51, dtype=np.uint8)
        samples = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(ImageCms.applyTransform(Image.fromarray(samples), transform)).astype(int)
    same = np.abs(converted - samples.reshape(1, samples.shape[1], -1)).max() <= _SAME_LEVELS
    return None if same else transform


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    from PIL import ImageCms

    return _transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")


def _transform(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    from PIL import ImageCms

    return ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
