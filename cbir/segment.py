"""Segments: immutable files that hold the descriptions of some of the photos of an index, and its palette."""

from __future__ import annotations

import bisect
import hashlib
import heapq
import mmap
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from cbir import plain
from cbir.atomic import TEMPORARY, write_file
from cbir.color import U8
from cbir.descriptor import codes_of_shares
from cbir.errors import REBUILD, REPAIR, IndexFolderError
from cbir.fingerprint import UNKNOWN
from cbir.lock import LOCK_NAME
from cbir.palette import Palette

# Photos in one segment: 29 MB of 448 bytes each. Enough that a million photos open as sixteen files.
SEGMENT_PHOTOS = 1 << 16
# Photos whose descriptors are kept beside the palette, for metrics that measure from a mean: with that of 64 photos all
# labelled sets ranked as well as with that of all their photos.
MAX_REFERENCE = 64
# What the names of folders begin with that tasks on other machines write into while an index is made.
TASKS = ".tasks-"
# The axes of a metric, whose key stands in the name, are made of the segments, see `cbir.prepare`.
_FILE_NAME = re.compile(r"(palette|segment|axes-[0-9a-f]{16})-[0-9a-f]{16}\.joblib")


class Names(Sequence[bytes]):
    """File names in one block of bytes, mapped, with the offsets of their ends, so that a million open at once."""

    def __init__(self, block: NDArray[np.uint8], ends: NDArray[np.uint64]) -> None:
        self.block, self.ends = block, ends

    @classmethod
    def pack(cls, names: Sequence[bytes]) -> Names:
        """Put names together."""
        ends = np.cumsum([len(name) for name in names], dtype=np.uint64)
        return cls(np.frombuffer(b"".join(names), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> list[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | list[bytes]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(row)
        start = int(self.ends[row - 1]) if row else 0
        return self.block[start : int(self.ends[row])].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        block, start = self.block.tobytes(), 0
        for end in self.ends.tolist():
            yield block[start:end]
            start = end

    def find(self, name: bytes) -> int | None:
        """The row of a name among names in ascending order, or None."""
        row = bisect.bisect_left(self, name)
        return row if row < len(self) and self[row] == name else None


class PhotoRow(NamedTuple):
    """A photo as a segment keeps it; see there."""

    name: bytes
    size: int
    mtime_ns: int
    codes: U8
    fingerprint: int
    converted: bool


class UnreadRow(NamedTuple):
    """A file that could not be read, and why."""

    name: bytes
    size: int
    mtime_ns: int
    reason: str


@dataclass(frozen=True)
class Files:
    """Files in ascending order of their names, with what tells whether one has changed: `sizes` (n,) uint64 bytes and
    `mtimes` (n,) int64 nanoseconds."""

    names: Names
    sizes: NDArray[np.uint64]
    mtimes: NDArray[np.int64]

    @classmethod
    def pack(cls, files: Sequence[tuple[bytes, int, int]]) -> Files:
        """Of (name, size, mtime) in ascending order of the names."""
        return cls(
            Names.pack([name for name, _, _ in files]),
            np.array([size for _, size, _ in files], np.uint64),
            np.array([mtime for _, _, mtime in files], np.int64),
        )

    def __len__(self) -> int:
        return len(self.names)

    def entry(self, row: int) -> tuple[bytes, int, int]:
        """A file's name, size and mtime."""
        return self.names[row], int(self.sizes[row]), int(self.mtimes[row])

    def rows(self) -> Iterator[tuple[bytes, int, int]]:
        """Each file's name, size and mtime."""
        return zip(self.names, self.sizes.tolist(), self.mtimes.tolist(), strict=True)

    def take(self, rows: NDArray[np.intp]) -> Files:
        """Some of the files, in the same order."""
        names = Names.pack([self.names[int(row)] for row in rows])
        return Files(names, self.sizes[rows], self.mtimes[rows])

    def parts(self, kind: str) -> dict[str, NDArray[np.generic]]:
        """The arrays as they are called in a segment's file."""
        block, ends = self.names.block, self.names.ends
        return {
            f"{kind}_names": block,
            f"{kind}_ends": ends,
            f"{kind}_sizes": self.sizes,
            f"{kind}_mtimes": self.mtimes,
        }

    @classmethod
    def of_parts(cls, kind: str, value: dict[str, Any]) -> Files:
        """Undo `parts`. Raises ValueError if the arrays do not fit together."""
        block, ends, sizes, mtimes = (value.get(f"{kind}_{part}") for part in ("names", "ends", "sizes", "mtimes"))
        n = len(ends) if isinstance(ends, np.ndarray) else 0
        check_array(block, np.uint8, (None,))
        check_array(ends, np.uint64, (None,))
        check_array(sizes, np.uint64, (n,))
        check_array(mtimes, np.int64, (n,))
        bounds = np.concatenate([[0], ends.astype(np.int64)])  # type: ignore[union-attr]
        if bounds[-1] != len(block) or (np.diff(bounds) <= 0).any():  # type: ignore[arg-type]
            raise ValueError("its names do not fit together")
        return cls(Names(block, ends), sizes, mtimes)  # type: ignore[arg-type]  # _check has seen to it


@dataclass(frozen=True)
class Segment:
    """Photos below one folder, their names relative to it.

    `codes` (n, width) uint8 are their descriptors, `fingerprints` (n,) uint64 those of their files, and `converted`
    (n,) uint8 is 1 where a profile converted the colours. `unread` are the files that could not be read as a picture,
    each with its reason in `reasons`.
    """

    photos: Files
    codes: U8
    fingerprints: NDArray[np.uint64]
    converted: U8
    unread: Files
    reasons: list[str]

    @classmethod
    def pack(cls, photos: Sequence[PhotoRow], unread: Sequence[UnreadRow], width: int) -> Segment:
        """Of rows in ascending order of their names."""
        return cls(
            Files.pack([row[:3] for row in photos]),
            np.array([row.codes for row in photos], np.uint8).reshape(-1, width),
            np.array([row.fingerprint for row in photos], np.uint64),
            np.array([row.converted for row in photos], np.uint8),
            Files.pack([row[:3] for row in unread]),
            [row.reason for row in unread],
        )

    def photo(self, row: int) -> PhotoRow:
        """All about a photo."""
        return PhotoRow(
            *self.photos.entry(row), self.codes[row], int(self.fingerprints[row]), bool(self.converted[row])
        )

    def unread_file(self, row: int) -> UnreadRow:
        """All about a file that could not be read."""
        return UnreadRow(*self.unread.entry(row), self.reasons[row])

    def take(self, photos: NDArray[np.intp], unread: NDArray[np.intp]) -> Segment:
        """Some of the rows, in the same order."""
        return Segment(
            self.photos.take(photos),
            self.codes[photos],
            self.fingerprints[photos],
            self.converted[photos],
            self.unread.take(unread),
            [self.reasons[row] for row in unread],
        )

    def release(self) -> None:
        """Give back the memory of what was read of a mapped file; it is read again where it is needed."""
        mapped = self.codes.base
        while isinstance(mapped, np.ndarray):
            mapped = mapped.base
        if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def save(self, folder: Path) -> str:
        """Write into an index's folder; the name of the file, which is made of its content, is returned."""
        value = {
            **self.photos.parts("photo"),
            "codes": self.codes,
            "fingerprints": self.fingerprints,
            "converted": self.converted,
            **self.unread.parts("unread"),
        }
        # Equal texts as one, or the file's bytes would tell where they came from.
        return save_arrays({**value, "reasons": [sys.intern(reason) for reason in self.reasons]}, folder, "segment")

    @classmethod
    def load(cls, folder: Path, name: str, width: int | None, version: int) -> Segment:
        """Map a segment of a format version whose descriptors have `width` bytes; None if that is not known.

        Raises IndexFolderError, naming the file, if it is not one.
        """
        path = own_path(folder, name)
        value = plain.load(path)
        try:
            photos, unread = Files.of_parts("photo", value), Files.of_parts("unread", value)
            codes, fingerprints, converted = _ABOUT_PHOTOS[version](value, len(photos), width)
            check_array(codes, np.uint8, (len(photos), width))
            check_array(fingerprints, np.uint64, (len(photos),))
            check_array(converted, np.uint8, (len(photos),))
            reasons = value.get("reasons")
            if not (isinstance(reasons, list) and list(map(type, reasons)) == [str] * len(unread)):
                raise ValueError("its reasons are not one string for each file")
        except ValueError as error:
            raise IndexFolderError(f"{path}: damaged ({error}); {REPAIR}") from error
        return cls(photos, codes, fingerprints, converted, unread, reasons)


def merge(segments: Sequence[Segment], width: int) -> Iterator[Segment]:
    """The rows of some segments of one folder anew, in order of the names, in segments of SEGMENT_PHOTOS."""
    rows = heapq.merge(*(_rows(segment, number) for number, segment in enumerate(segments)))
    while part := list(islice(rows, SEGMENT_PHOTOS)):
        yield Segment.pack(
            [segments[number].photo(row) for _, number, is_photo, row in part if is_photo],
            [segments[number].unread_file(row) for _, number, is_photo, row in part if not is_photo],
            width,
        )
        for segment in segments:
            segment.release()


def _rows(segment: Segment, number: int) -> Iterator[tuple[bytes, int, bool, int]]:
    photos = ((name, number, True, row) for row, name in enumerate(segment.photos.names))
    unread = ((name, number, False, row) for row, name in enumerate(segment.unread.names))
    return heapq.merge(photos, unread)


def _about_photos(value: dict[str, Any], photos: int, width: int | None) -> tuple[Any, Any, Any]:
    return value.get("codes"), value.get("fingerprints"), value.get("converted")


def _about_photos_2(value: dict[str, Any], photos: int, width: int | None) -> tuple[Any, Any, Any]:
    """Format 2 told neither of fingerprints nor of profiles."""
    return value.get("codes"), np.full(photos, UNKNOWN, np.uint64), np.zeros(photos, np.uint8)


def _about_photos_1(value: dict[str, Any], photos: int, width: int | None) -> tuple[Any, Any, Any]:
    """Format 1 had shares in units of 1/65535 of the photo, of two bytes, in place of today's codes."""
    check_array(value.get("amounts"), np.uint16, (photos, width))
    return _about_photos_2({"codes": codes_of_shares(value["amounts"] / 65535)}, photos, width)


_ABOUT_PHOTOS = {1: _about_photos_1, 2: _about_photos_2, 3: _about_photos}


def is_axes_file(name: str) -> bool:
    """Whether a file of this name in an index's folder is of axes, which no manifest lists."""
    return name.startswith("axes-") and bool(_FILE_NAME.fullmatch(name))


def is_own_file(name: str) -> bool:
    """Whether a file of this name in an index's folder is a part of an index, or was on its way to become one."""
    return bool(_FILE_NAME.fullmatch(name)) or name.startswith((TEMPORARY, TASKS)) or name == LOCK_NAME


def check_content(folder: Path, name: str) -> None:
    """Read a file, a block at a time, and compare its content with what was written, which its name tells.

    Raises IndexFolderError if it is another, or FileNotFoundError.
    """
    path = own_path(folder, name)
    if path.exists() and not path.is_file():
        raise IndexFolderError(f"{path}: not a file; {REPAIR}")
    with path.open("rb") as file:
        if _name_by_content(file, name.rpartition("-")[0]) != name:
            raise IndexFolderError(f"{path}: damaged (its content is not what was written); {REPAIR}")


def save_palette(palette: Palette, reference: U8, folder: Path) -> str:
    """Write a palette with its reference photos' descriptors into an index's folder; the file's name is returned."""
    value = {"lab": palette.lab, "mean_error": palette.mean_error, "p95_error": palette.p95_error}
    return save_arrays({**value, "reference": reference}, folder, "palette")


def load_palette(folder: Path, name: str, blocks: int, version: int) -> tuple[Palette, U8]:
    """Read a palette and the reference, (r, blocks * k) uint8; in format version 1 there was none.

    Raises IndexFolderError, naming the file, if it is not one.
    """
    path = own_path(folder, name)
    value = plain.load(path)
    try:
        lab, mean, p95 = value["lab"], value["mean_error"], value["p95_error"]
        check_array(lab, np.float32, (None, 3))
        reference = np.zeros((0, blocks * len(lab)), np.uint8) if version == 1 else value["reference"]
        check_array(reference, np.uint8, (None, blocks * len(lab)))
        if len(reference) > MAX_REFERENCE:
            raise ValueError(f"more than {MAX_REFERENCE} reference photos")
        if not (isinstance(mean, float) and isinstance(p95, float)):
            raise ValueError("not a palette")
        return Palette(lab, mean, p95), reference
    except (KeyError, ValueError) as error:
        raise IndexFolderError(f"{path}: damaged ({error}); {REBUILD}") from error


def save_arrays(value: dict[str, Any], folder: Path, kind: str) -> str:
    """Write a file of this kind into an index's folder; its name, which is made of its content, is returned."""
    # Mapped arrays are copied first: joblib notes the class of what it writes, and the reader admits one class.
    arrays = {key: _as_plain(part) if isinstance(part, np.ndarray) else part for key, part in value.items()}
    return write_file(folder, lambda file: _name_by_content(file, kind), lambda file: plain.dump(arrays, file))


def _as_plain(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array if type(array) is np.ndarray and array.flags.c_contiguous else np.array(array)


def _name_by_content(file: BinaryIO, kind: str) -> str:
    digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]  # any binary file will do
    return f"{kind}-{digest.hexdigest()[:16]}.joblib"


def own_path(folder: Path, name: str) -> Path:
    """The path of a file by the name that another file gives. Raises IndexFolderError if there are no such names."""
    if not _FILE_NAME.fullmatch(name):
        raise IndexFolderError(f"{folder}: damaged, its manifest names {name!r}; {REBUILD}")
    return folder / name


def check_array(array: object, dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """Raise ValueError unless `array` is one of this dtype and shape, where None is any length."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != len(shape):
        raise ValueError("a part is missing or of another kind")
    if any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        raise ValueError(f"a part has the shape {array.shape}, not {shape}")
