"""PyAV, the extra `cbir[video]`, which decodes and encodes films; imported when a film is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cbir.errors import MissingExtraError


def pyav() -> Any:
    """The package `av`. Raises MissingExtraError."""
    try:
        return import_module("av")
    except ImportError:
        raise MissingExtraError("films are read and written with PyAV: pip install 'cbir[video]'") from None


def reason(error: Exception) -> str:
    """What FFmpeg says of an error, in one short printable line."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:120].lower()
