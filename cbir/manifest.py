"""The manifest: the one small file that says what an index consists of. Replacing it is the commit."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cbir.atomic import write_file
from cbir.color import U8
from cbir.descriptor import DESCRIPTORS, GLOBAL
from cbir.errors import REBUILD, REPAIR, IndexFolderError
from cbir.palette import Palette
from cbir.segment import Segment, is_own_file, load_palette

FILE_NAME = "manifest.json"
FORMAT = "cbir index"
# Version 1 had plain histograms of 16 bits; 2 neither fingerprints, nor profiles, nor unfinished runs, nor a checksum.
# All are read; what is written is the newest.
VERSION = 3
# A million photos in segments of 65,536 need a few kilobytes.
_MAX_BYTES = 1 << 24


class ForeignFolderError(IndexFolderError):
    """What is there is not ours to replace: not of an index, or of one that a newer cbir has written."""


@dataclass(frozen=True)
class SegmentEntry:
    """A segment's file, the absolute folder its names are relative to, and how many photos and unread files it has.

    `unfinished` tells that it was committed in the middle of a run, which will put it in order with the rest.
    """

    file: str
    root: str
    photos: int
    unread: int
    unfinished: bool = False


@dataclass(frozen=True)
class Manifest:
    """What an index consists of: which descriptor its photos have, how its palette was learnt, its file, its segments,
    and what decoded the photos.

    `palette_of` is the absolute folder of the index that the palette was learnt in, if not here.
    """

    descriptor: str
    colors: int
    algorithm: str
    learnt_photos: int
    palette: str
    decoder: str
    segments: tuple[SegmentEntry, ...]
    version: int = VERSION
    palette_of: str | None = None

    def commit(self, folder: Path) -> None:
        """Make this the state of the index in `folder`, in one step."""
        value = {"format": FORMAT, **asdict(self), "version": VERSION}
        if self.palette_of is None:
            # As it was before there was such a thing, so that the bytes are, too.
            del value["palette_of"]
        text = json.dumps({**value, "checksum": _checksum(value)}, indent=1, ensure_ascii=True) + "\n"
        write_file(folder, FILE_NAME, lambda file: file.write(text.encode("ascii")))

    @property
    def files(self) -> set[str]:
        """The names of the files that the index consists of, beside this one."""
        return {self.palette, *(entry.file for entry in self.segments)}

    def load_palette(self, folder: Path) -> tuple[Palette, U8]:
        """Read the palette and the reference photos' descriptors. Raises IndexFolderError if they are not there."""
        return load_palette(folder, self.palette, len(DESCRIPTORS[self.descriptor].blocks), self.version)

    def load_segments(self, folder: Path, width: int) -> list[Segment]:
        """Map the segments, whose descriptors have `width` bytes. Raises IndexFolderError if they are not as listed."""
        segments = []
        for entry in self.segments:
            segment = Segment.load(folder, entry.file, width, self.version)
            if (len(segment.photos), len(segment.unread)) != (entry.photos, entry.unread):
                raise IndexFolderError(f"{folder / entry.file}: damaged (not the photos it should have); {REPAIR}")
            segments.append(segment)
        return segments

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the state of an index. Raises IndexFolderError, in one line, if there is none that can be read."""
        path = folder / FILE_NAME
        if not path.is_file():
            raise IndexFolderError(f"{folder}: not an index (no {FILE_NAME}); make one with: cbir index PHOTOS")
        try:
            with path.open("rb") as file:
                value = json.loads(file.read(_MAX_BYTES))
        except OSError as error:
            raise IndexFolderError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        except (ValueError, RecursionError) as error:
            raise IndexFolderError(f"{path}: damaged ({error}); {REBUILD}") from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ForeignFolderError(f"{path}: not the manifest of an index; name another folder")
        version = value.get("version")
        if isinstance(version, int) and version > VERSION:
            raise ForeignFolderError(
                f"{folder}: written by a newer cbir (format {version}, this one reads up to {VERSION}); upgrade cbir"
            )
        try:
            if type(version) is not int or version < 1:
                raise ValueError(f"format version {version!r}")
            if (version >= 3 or "checksum" in value) and value.pop("checksum", None) != _checksum(value):
                raise ValueError("its checksum is wrong")
            segments = tuple(_entry(one) for one in value["segments"])
            # Copies of a folder are described by one file; one folder by one file twice is damage.
            if len({(entry.file, entry.root) for entry in segments}) != len(segments):
                raise ValueError("a segment is listed twice")
            return cls(
                _descriptor(value["descriptor"] if version > 1 else GLOBAL.name),
                _number(value["colors"]),
                _text(value["algorithm"]),
                _number(value["learnt_photos"]),
                _text(value["palette"]),
                _text(value["decoder"]),
                segments,
                version,
                _text(value["palette_of"]) if "palette_of" in value else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IndexFolderError(f"{path}: damaged ({error}); {REBUILD}") from error


def check_is_ours(folder: Path) -> None:
    """Raise ForeignFolderError if a folder's manifest, be it damaged, is not that of an index that may be replaced."""
    try:
        Manifest.load(folder)
    except ForeignFolderError:
        raise
    except IndexFolderError as error:
        if not all(is_own_file(path.name) for path in folder.iterdir() if path.name != FILE_NAME):
            raise ForeignFolderError(f"{error}, once other files are out of {folder}") from error


def _checksum(value: dict[str, Any]) -> str:
    """Of all else that a manifest says. It guards against accidents, not against people."""
    # ensure_ascii keeps folder names that are not UTF-8 (surrogates in Python) intact.
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _entry(value: dict[str, Any]) -> SegmentEntry:
    root = _text(value["root"])
    if not os.path.isabs(root) or os.path.normpath(root) != root or "\0" in os.fsdecode(os.fsencode(root)):
        raise ValueError(f"{root!r} is not an absolute folder")
    numbers = _number(value["photos"]), _number(value["unread"])
    return SegmentEntry(_text(value["file"]), root, *numbers, value.get("unfinished", False) is True)


def _descriptor(value: object) -> str:
    if not isinstance(value, str) or value not in DESCRIPTORS:
        raise ValueError(f"there is no descriptor {value!r}")
    return value


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a number of things")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a name")
    return value
