"""Writing pictures: palette images where there are few colours, and never over a file unasked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cbir.atomic import write_file
from cbir.color import U8
from cbir.errors import OutputError

# Ending to Pillow's format and its options. WebP is lossless, since flat colours are the point.
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"optimize": True}),
    ".gif": ("GIF", {}),
    ".webp": ("WEBP", {"lossless": True}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".bmp": ("BMP", {}),
}
OUTPUT_SUFFIXES = tuple(_FORMATS)
_WITHOUT_TRANSPARENCY = ("JPEG", "BMP")
_WITH_EXIF = ("PNG", "WEBP", "JPEG", "TIFF")


def check_output(path: Path, force: bool) -> None:
    """Refuse, before any work, an output that cannot be written. Raises OutputError."""
    if path.exists() and not force:
        raise OutputError(f"{path}: exists; add --force to overwrite it, or name another output")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder; make it, or name another output")


def check_picture_output(path: Path, force: bool) -> None:
    """Like `check_output`, and refuse an ending that is not in `OUTPUT_SUFFIXES`. Raises OutputError."""
    if path.suffix.lower() not in _FORMATS:
        raise OutputError(f"{path}: pictures are written as {', '.join(OUTPUT_SUFFIXES)}; name the output so")
    check_output(path, force)


def save_file(path: Path, content: bytes, force: bool = False) -> None:
    """Write bytes to a file in one step. Raises OutputError."""
    check_output(path, force)
    _write(path, lambda file: file.write(content))


def save_indexed(
    path: Path,
    colors: U8,
    labels: np.ndarray[Any, Any],
    visible: Any = None,
    force: bool = False,
    exif: bytes | None = None,
) -> None:
    """Write a picture of few colours, as a palette image where the format has them and 256 are enough.

    `colors` (n, 3) uint8 sRGB, `labels` (height, width) into them, `visible` (height, width) bool or None, and the Exif
    of formats that have it. Raises OutputError, also for an ending that is not in `OUTPUT_SUFFIXES`.
    """
    from PIL import Image

    if len(colors) + (visible is not None) > 256:
        alpha = None if visible is None else np.where(visible, np.uint8(255), np.uint8(0))
        save_pixels(path, colors[labels], alpha, force, exif)
        return
    index = labels.astype(np.uint8)
    extra: dict[str, Any] = {}
    if visible is not None:
        index[~visible] = len(colors)
        colors = np.concatenate([colors, np.full((1, 3), 255, np.uint8)])
        extra["transparency"] = len(colors) - 1
    image = Image.fromarray(index)
    image.putpalette(colors.tobytes())
    # Converting to other modes looks here, saving looks in the options.
    image.info.update(extra)
    _save(path, image, extra, force, exif)


def save_pixels(
    path: Path, pixels: U8, alpha: U8 | None = None, force: bool = False, exif: bytes | None = None
) -> None:
    """Write sRGB pixels, (height, width, 3) uint8, with alpha (height, width) and Exif if any. Raises OutputError."""
    from PIL import Image

    _save(path, Image.fromarray(pixels if alpha is None else np.dstack([pixels, alpha])), {}, force, exif)


def _save(path: Path, image: Any, extra: dict[str, Any], force: bool, exif: bytes | None) -> None:
    check_picture_output(path, force)
    kind, options = _FORMATS[path.suffix.lower()]
    if kind in _WITHOUT_TRANSPARENCY and (extra or image.mode == "RGBA"):
        # What is transparent shows as white, as on paper.
        image = image.convert("RGBA")
        image = _on_white(image)
        extra = {}
    if kind in ("JPEG", "WEBP") and image.mode == "P":
        image = image.convert("RGBA" if extra else "RGB")
        extra = {}
    if exif is not None and kind in _WITH_EXIF:
        extra = extra | {"exif": exif}
    _write(path, lambda file: image.save(file, format=kind, **options, **extra))


def _on_white(image: Any) -> Any:
    from PIL import Image

    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    try:
        write_file(path.parent, path.name, write)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise OutputError(f"{path}: cannot be written ({reason})") from error
