"""From a file to upright sRGB pixels.

Pillow decodes, because it scales JPEGs while decoding, tells a truncated file from a whole one, and brings Little CMS
for colour profiles. `cbir.signature` says of which format a file is, and only that decoder is asked. Of several frames
the first is decoded; the others are not even counted.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, cast

from cbir.errors import EMPTY, UNKNOWN_FORMAT, PictureError, RefusedError
from cbir.icc import jpeg2000_profile
from cbir.pixels import WORKING_PIXELS, Picture, picture_of, scale_transparent_color, tiff_tag
from cbir.quiet import NO_WARNINGS, QUIET
from cbir.signature import HEAD_BYTES, RAW_SUFFIXES, picture_format

if TYPE_CHECKING:
    from PIL import Image, ImageFile

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
# Libraries that are not always there, and why a file that needs one is skipped without it.
_EXTRAS = {
    "pillow_heif": "a HEIF photo, which is read with: pip install 'cbir[heif]'",
    "rawpy": "a raw photo; its preview is read with: pip install 'cbir[raw]'",
}
# Encoders of JPEG 2000 seldom make more smaller versions of a picture than this.
_MOST_HALVINGS = 5
_EXIF_ORIENTATION = 0x0112
# Tags that tell of a file's own pixels: their number, kind, and where in the file they are.
_EXIF_OF_PIXELS = (
    *range(0x0100, 0x0108),
    0x0111,
    *range(0x0115, 0x0118),
    0x011C,
    0x0140,
    0x0142,
    0x0143,
    0x0144,
    0x0145,
)
_MOST_EXIF = 65_000
# Where Pillow keeps Exif, or what may stand in for it, when it has read a header.
_EXIF_KEYS = ("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp")
# How a camera was held, in LibRaw's numbers and in those of Exif.
_EXIF_OF_FLIP = {3: 3, 5: 8, 6: 6}
_TIFF_TILE_SIDES, _TIFF_DNG = (322, 323), 50706


@dataclass(frozen=True)
class Limits:
    """What is too large to be a photo, and refused before any pixel is decoded: so many pixels, so large a file.

    Decoding takes up to 28 bytes of memory a pixel (JPEG 2000 with alpha), other formats much less.
    """

    pixels: int = 250_000_000
    file_bytes: int = 1 << 30


DEFAULT_LIMITS = Limits()


def decoder_version() -> str:
    """What decodes: a file that it could not read is tried again when this has changed."""
    from importlib.metadata import PackageNotFoundError, version

    there = []
    for name in ("Pillow", "pillow-heif", "rawpy"):
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(there)


def read_picture(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Decode a picture file (of several frames the first) in full size. Raises PictureError with the reason."""
    return _read(os.fspath(path), None, limits)


def read_working_picture(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Decode a picture file just large enough to count its colours: at most 8,192 pixels, all if it has fewer.

    Always the same number, so that a photo is described alike at whatever size it was saved.

    JPEG and JPEG 2000 are scaled by the decoder, the rest by averaging, which moves colours a little at edges and in
    texture. Raises PictureError with the reason.
    """
    return _read(os.fspath(path), WORKING_PIXELS, limits)


def read_small_picture(path: str | os.PathLike[str], most: int, *, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Decode a picture file to `most` pixels at most, all if it has fewer; see `read_working_picture`."""
    return _read(os.fspath(path), most, limits)


def read_exif(path: str | os.PathLike[str]) -> bytes | None:
    """What a picture file says of itself in Exif (when, where, by which camera), for a picture that is upright.

    Without what does not hold for that: which way is up, and a small version of it. None if there is none, or it is
    damaged, or the file is no picture. At most 64 KiB, which is as much as a JPEG holds.
    """
    try:
        with open(path, "rb") as file:
            kind = picture_format(file.read(HEAD_BYTES))
            if kind not in _PLUGINS:
                return None
            with NO_WARNINGS, QUIET if kind == "TIFF" else nullcontext():
                return _exif_of(_open(kind, file))
    # As of which way is up: the picture is fine without.
    except Exception:
        return None


def _exif_of(image: Image.Image) -> bytes | None:
    if not any(key in image.info for key in _EXIF_KEYS):
        return None
    exif = image.getexif()
    exif.pop(_EXIF_ORIENTATION, None)
    for tag in _EXIF_OF_PIXELS:
        exif.pop(tag, None)
    written = exif.tobytes()
    return written if len(exif) and len(written) <= _MOST_EXIF else None


# --- the file, and why it is not read


def _read(path: str, most: int | None, limits: Limits) -> Picture:
    try:
        status = os.stat(path)
        _check_file(status, limits)
        with open(path, "rb") as file:
            try:
                picture = _decode(file, os.path.splitext(path)[1].lower(), most, limits)
            except Exception:
                # What a file looks like while it is being written says nothing about it.
                _check_unchanged(file, status)
                raise
            _check_unchanged(file, status)
            return picture
    except RefusedError as why:
        raise PictureError(path, why.reason, why.lasting) from why.__cause__
    except MemoryError:
        raise PictureError(path, "not enough memory to decode it", lasting=False) from None
    # Decoders meet hostile files with every kind of exception; none of them may end a run over a collection.
    except Exception as error:
        of_the_system = isinstance(error, OSError) and error.errno is not None
        raise PictureError(path, _reason(error), lasting=not of_the_system) from error


def _check_file(status: os.stat_result, limits: Limits) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if status.st_size == 0:
        raise RefusedError(EMPTY)
    if status.st_size > limits.file_bytes:
        # The next run may have other limits, so that no refusal because of them lasts.
        raise RefusedError(f"{status.st_size:,} bytes are more than {limits.file_bytes:,}", lasting=False)


def _check_unchanged(file: IO[bytes], before: os.stat_result) -> None:
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise RefusedError("changed while it was read", lasting=False)


def _check_pixels(kind: str, image: Image.Image, limits: Limits) -> None:
    sizes = [image.size]
    if kind == "TIFF":
        # A tile is decoded as a whole, however little of it lies in the picture.
        sizes.append(cast("tuple[int, int]", tuple(tiff_tag(image, side, 1) for side in _TIFF_TILE_SIDES)))
    for width, height in sizes:
        if width * height > limits.pixels:
            raise _too_large(f"{width:,} x {height:,} pixels are", limits)


def _too_large(what: str, limits: Limits) -> RefusedError:
    millions, rest = divmod(limits.pixels, 1_000_000)
    most = f"{limits.pixels:,}" if rest else f"{millions:,} million"
    return RefusedError(f"{what} more than {most}; raise --max-pixels to read it", lasting=False)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return (error.strerror or str(error)).lower()
    text = _one_line(error)
    if any(words in text.lower() for words in ("truncated", "reached eof", "not enough image data")):
        return "truncated"
    if "MAX_TEXT" in text:
        return "more text, or a larger colour profile, than is safe to unpack"
    if bits := re.search(r"cannot handle (\d+)-bit layers", text):
        return f"a JPEG of {bits[1]} bits a channel, which cannot be read"
    return f"damaged, or of a kind that cannot be read ({text})" if text else "damaged"


def _one_line(error: Exception) -> str:
    """What a decoder says, which may quote the file's own bytes."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())[:200]


# --- the decoder


def _decode(file: IO[bytes], suffix: str, most: int | None, limits: Limits) -> Picture:
    from PIL import Image

    kind = picture_format(file.read(HEAD_BYTES))
    if kind is None:
        raise RefusedError(UNKNOWN_FORMAT)
    with NO_WARNINGS, QUIET if kind in ("TIFF", "RAW") else nullcontext():
        try:
            return _decode_as(kind, file, suffix, most, limits)
        except Image.DecompressionBombError:
            # Pillow's own limit, which may be the lower one, is for all of the process, and not ours to change.
            with _pillow_limit(limits):
                return _decode_as(kind, file, suffix, most, limits)


def _decode_as(kind: str, file: IO[bytes], suffix: str, most: int | None, limits: Limits) -> Picture:
    if kind == "RAW" or (kind == "TIFF" and suffix in RAW_SUFFIXES):
        kind, file = _preview(kind, file)
    image = _open(kind, file)
    if kind == "TIFF" and tiff_tag(image, _TIFF_DNG, None):
        kind, file = _preview(kind, file)
        image = _open(kind, file)
    _check_pixels(kind, image, limits)
    image = _loaded(kind, image, file, most)
    profile = jpeg2000_profile(file) if kind == "JPEG2000" else image.info.get("icc_profile")
    return picture_of(image, _orientation(image), profile if isinstance(profile, bytes) else None, most)


def _open(kind: str, file: IO[bytes]) -> ImageFile.ImageFile:
    """Read a file's header, and no more."""
    file.seek(0)
    return _opener(kind)(file)


@cache
def _opener(kind: str) -> Callable[[IO[bytes]], ImageFile.ImageFile]:
    """What opens a format. `Image.open` would try several, and refuse large pictures without telling their size."""
    from PIL import Image

    if kind == "HEIF":
        return cast("Callable[[IO[bytes]], ImageFile.ImageFile]", _extra("pillow_heif").HeifImageFile)
    if kind not in _PLUGINS:
        raise RefusedError(f"{_a(kind)} file, which cbir cannot read")
    import_module(f"PIL.{_PLUGINS[kind]}")
    plugin, _ = Image.OPEN[kind]
    return lambda file: plugin(file, "")


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise RefusedError(_EXTRAS[module]) from None


def _a(kind: str) -> str:
    """A format's name, which is spelled when read aloud, with its article."""
    return f"{'an' if kind[0] in 'AEFHILMNORSX' else 'a'} {kind}"


def _preview(kind: str, file: IO[bytes]) -> tuple[str, IO[bytes]]:
    """The largest preview in a raw photo: its format, and a file of its own. A TIFF file that has none stays itself."""
    from PIL import Image

    rawpy = _extra("rawpy")
    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            preview, flip = raw.extract_thumb(), raw.sizes.flip
    except rawpy.LibRawError as error:
        if kind == "TIFF":
            return kind, file
        raise RefusedError("a raw photo without a preview that can be read") from error
    if preview.format == rawpy.ThumbFormat.JPEG:
        # LibRaw adds which way is up, if the camera has not written it into the preview.
        return "JPEG", io.BytesIO(preview.data)
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = _EXIF_OF_FLIP.get(flip, 1)
    bitmap = io.BytesIO()
    Image.fromarray(preview.data).save(bitmap, "PNG", compress_level=0, exif=exif)
    return "PNG", bitmap


def _loaded(kind: str, image: ImageFile.ImageFile, file: IO[bytes], most: int | None) -> ImageFile.ImageFile:
    """An opened picture with its pixels; if told, few of them, but `most` where the decoder can."""
    if most and kind == "JPEG":
        scale = next(s for s in (8, 4, 2, 1) if s == 1 or image.width * image.height // s**2 >= most)
        image.draft(image.mode, (max(1, image.width // scale), max(1, image.height // scale)))
    elif kind == "PNG":
        scale_transparent_color(image)
    elif most and kind == "JPEG2000" and (halvings := _halvings(*image.size, most)):
        try:
            cast("Any", image).reduce = halvings
            image.load()
            # Until then it hides Pillow's method of that name.
            cast("Any", image).reduce = 0
            return image
        except OSError:
            # It holds no such small version of itself, or it is damaged, which its full size will tell.
            image = _open(kind, file)
    image.load()
    return image


def _halvings(width: int, height: int, most: int) -> int:
    """How often to halve a JPEG 2000 picture of this size while it is decoded."""
    for halvings in range(_MOST_HALVINGS, 0, -1):
        scale = 1 << halvings
        # The decoder rounds sides up and Pillow to the nearest; it refuses the picture if these differ.
        alike = all((side + scale // 2) // scale == -(-side // scale) for side in (width, height))
        if alike and width * height >= most * scale**2:
            return halvings
    return 0


def _orientation(image: Image.Image) -> int:
    if not any(key in image.info for key in _EXIF_KEYS):
        return 1
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    # Exif is a whole file format of its own, and damaged Exif raises anything; the picture is fine without.
    except Exception:
        return 1


_PILLOW = Lock()


@contextmanager
def _pillow_limit(limits: Limits) -> Iterator[None]:
    """Pillow's limit of pixels made our own, for one thread at a time."""
    from PIL import Image

    with _PILLOW:
        before = Image.MAX_IMAGE_PIXELS
        # Pillow refuses pictures of more than twice its limit.
        Image.MAX_IMAGE_PIXELS = (limits.pixels + 1) // 2
        try:
            yield
        except Image.DecompressionBombError as error:
            count = re.search(r"\d+", str(error))
            raise _too_large(f"{int(count[0]):,} pixels are" if count else "its pixels are", limits) from None
        finally:
            Image.MAX_IMAGE_PIXELS = before
