"""From a file to upright sRGB pixels.

Pillow decodes, because it knows all the formats from their content, scales JPEGs while decoding, tells a truncated
file from a whole one, and brings Little CMS for colour profiles.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from math import sqrt
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from cbir.color import U8
from cbir.errors import PictureError

if TYPE_CHECKING:
    from PIL import Image, ImageCms

# Formats whose decoders only read pixels; EPS and the like, which run programs, are left out on purpose. Phones'
# multi-picture JPEGs (MPO) come through JPEG.
_PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "AVIF": "AvifImagePlugin",
    "GIF": "GifImagePlugin",
    "TIFF": "TiffImagePlugin",
    "BMP": "BmpImagePlugin",
    "DIB": "BmpImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "PPM": "PpmImagePlugin",
}
PICTURE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "avif", "gif", "tif", "tiff", "bmp", "dib"),
        *("jp2", "j2k", "jpf", "jpx", "ppm", "pgm", "pbm", "pnm"),
        # Not read so far, but photos all the same: found, tried, and listed as skipped.
        *("heic", "heif"),
    )
)
# Enough for the shares of a few hundred colours, at a fraction of the cost of a photo in full.
WORKING_PIXELS = 1 << 15
# Larger files than this are no photos; a limit keeps a hostile one from filling the memory.
_MAX_FILE_BYTES = 1 << 30
_EXIF_ORIENTATION = 0x0112
# Profiles of one colour space differ by rounding, up to this much of 255.
_SAME_LEVELS = 3


@dataclass(frozen=True)
class Picture:
    """Upright sRGB pixels, (height, width, 3) uint8, and their alpha (height, width) uint8, None if all are opaque."""

    pixels: U8
    alpha: U8 | None = None


def decoder_version() -> str:
    """What decodes: a file that it could not read is tried again when this has changed."""
    import PIL

    return f"Pillow {PIL.__version__}"


@cache
def _formats() -> tuple[str, ...]:
    """The formats' names, after their plugins are loaded: `Image.open` loads only a few of them by itself."""
    for module in set(_PLUGINS.values()):
        import_module(f"PIL.{module}")
    return tuple(_PLUGINS)


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Decode a picture file (of several frames the first) in full size. Raises PictureError with the reason."""
    return _read(os.fspath(path), working=False)


def read_working_picture(path: str | os.PathLike[str]) -> Picture:
    """Decode a picture file just large enough to count its colours: at most 32,768 pixels, all if it has fewer.

    Always the same number, so that a photo is described alike at whatever size it was saved.

    JPEGs are scaled by the decoder, the rest by averaging, which moves colours a little at edges and in texture.
    Raises PictureError with the reason.
    """
    return _read(os.fspath(path), working=True)


def on_white(picture: Picture) -> U8:
    """A picture's pixels, (height, width, 3) uint8, as they look on white paper where it is transparent."""
    if picture.alpha is None:
        return picture.pixels
    share = picture.alpha[..., None] / 255.0
    return np.asarray(np.rint(picture.pixels * share + 255 * (1 - share)), np.uint8)


def reduced(pixels: U8) -> U8:
    """Pixels (height, width, 3) uint8 made as small as `read_working_picture` makes a decoded picture."""
    from PIL import Image

    return np.asarray(_reduced(Image.fromarray(pixels)))


def _read(path: str, working: bool) -> Picture:
    from PIL import Image

    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise PictureError(path, "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size == 0:
            raise PictureError(path, "the file is empty")
        if status.st_size > _MAX_FILE_BYTES:
            raise PictureError(path, f"larger than {_MAX_FILE_BYTES >> 30} GiB")
        with open(path, "rb") as file:
            return _decode(file, working)
    except PictureError:
        raise
    except OSError as error:
        raise PictureError(path, _reason(error), lasting=error.errno is None) from error
    except Image.DecompressionBombError:
        raise PictureError(path, "more pixels than are safe to decode") from None
    except MemoryError:
        raise PictureError(path, "not enough memory to decode it", lasting=False) from None
    # Decoders meet hostile files with every kind of exception; none of them may end a run over a collection.
    except Exception as error:
        raise PictureError(path, f"damaged ({error})" if str(error) else "damaged") from error


def _reason(error: OSError) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not a picture, or of a format that cannot be read"
    if error.errno is not None:
        return (error.strerror or str(error)).lower()
    text = str(error) or "damaged"
    return "truncated" if "truncated" in text.lower() else text


def _decode(file: IO[bytes], working: bool) -> Picture:
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of large sizes below its limit; neither is the user's to mend.
        warnings.simplefilter("ignore")
        with Image.open(file, formats=_formats()) as opened:
            if working and opened.format in ("JPEG", "MPO"):
                scale = next(
                    s for s in (8, 4, 2, 1) if s == 1 or opened.width * opened.height // s**2 >= WORKING_PIXELS
                )
                opened.draft(opened.mode, (max(1, opened.width // scale), max(1, opened.height // scale)))
            opened.load()
            image = _upright(_to_srgb(opened))
        if working:
            image = _reduced(image)
    pixels = np.asarray(image)
    if image.mode != "RGBA":
        return Picture(pixels)
    alpha = pixels[..., 3]
    return Picture(np.ascontiguousarray(pixels[..., :3]), None if alpha.min() == 255 else np.ascontiguousarray(alpha))


def _reduced(image: Image.Image) -> Image.Image:
    """At most `WORKING_PIXELS`, in the same aspect ratio."""
    from PIL.Image import Resampling

    factor = sqrt(WORKING_PIXELS / (image.width * image.height))
    if factor >= 1:
        return image
    width, height = max(1, int(image.width * factor)), max(1, int(image.height * factor))
    # Of a picture that is a line one side stays a pixel.
    width = max(1, min(width, WORKING_PIXELS // height))
    height = min(height, WORKING_PIXELS // width)
    return image.resize((width, height), Resampling.BILINEAR)


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit sRGB, RGB or RGBA, by the embedded colour profile if there is one."""
    from PIL import ImageCms

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = _of_16_bits(image)
    if image.mode in ("I", "F"):
        raise ValueError(f"samples of 32 bits ({image.mode}) have no known range")
    alpha = None
    if image.has_transparency_data:
        if image.mode not in ("RGBA", "LA"):
            image = image.convert("RGBA")
        alpha = image.getchannel("A")
    base = {"P": "RGB", "RGBA": "RGB", "PA": "RGB", "LA": "L", "1": "L"}.get(image.mode, image.mode)
    profile = image.info.get("icc_profile")
    flat = image if image.mode == base else image.convert(base)
    if profile and flat.mode in ("RGB", "L", "CMYK"):
        try:
            transform = _transform_to_srgb(bytes(profile), flat.mode)
            flat = flat if transform is None else cast("Image.Image", ImageCms.applyTransform(flat, transform))
        except (ImageCms.PyCMSError, OSError, ValueError):
            # A broken profile, or one of another kind of colours than the pixels, says nothing about them.
            pass
    flat = flat if flat.mode == "RGB" else flat.convert("RGB")
    if alpha is not None:
        flat.putalpha(alpha)
    # The orientation is read from what was opened, which conversion does not keep in every case.
    flat.info["orientation"] = _orientation(image)
    return flat


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits scaled, not cut, to 8; the one level that a PNG may call transparent becomes alpha."""
    from PIL import Image

    levels = np.asarray(image)
    grey = Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    kept = {key: value for key, value in image.info.items() if key != "transparency"}
    grey.info.update(kept)
    return grey


@lru_cache(maxsize=16)
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """How to get from a profile's colours to sRGB; None if they are the same. A collection has few different ones."""
    from PIL import Image, ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode == "RGB":
        # There are dozens of sRGB profiles by as many names; what counts is whether they change colours.
        steps = np.arange(0, 256, 51, dtype=np.uint8)
        samples = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        converted = np.asarray(ImageCms.applyTransform(Image.fromarray(samples), transform))
        if np.abs(converted.astype(int) - samples).max() <= _SAME_LEVELS:
            return None
    return transform


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    # Exif is a whole file format of its own, and damaged Exif raises anything; the picture is fine without.
    except Exception:
        return 1


def _upright(image: Image.Image) -> Image.Image:
    from PIL.Image import Transpose

    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(image.info["orientation"])
    return image if turn is None else image.transpose(turn)
