"""Photos in files: parts that are written once and then only read, of which later ones count before earlier ones."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cbir.atomic import TEMPORARY, write_file
from cbir.color import F32, U8
from cbir.store import Rows, Stored

# A photo without its path, codes and vector; `end` is where its path ends in the bytes of all paths.
ROW = np.dtype(
    [(name, "<u8") for name in ("high", "low")] + [(name, "<i8") for name in ("size", "mtime", "mark", "end")]
)
KEY = np.dtype([("high", "<u8"), ("low", "<u8")])
_NAME = re.compile(r"(base|rows|gone)-(\d{10})")
_AT_ONCE = 16_384


class DamagedError(Exception):
    """A part is not as it was written; the text says which."""


class Name(NamedTuple):
    """A part's name: `base` holds all photos of its time, `rows` some, `gone` only keys of what was taken out."""

    number: int
    kind: str

    @property
    def text(self) -> str:
        """As the folder is called."""
        return f"{self.kind}-{self.number:010}"


class Part(NamedTuple):
    """Photos in the order of their paths' bytes, mapped from files: `rows` (n,), the bytes of all `paths`, `codes`
    (n, width) uint8 and `vectors` (n, m) float32."""

    rows: NDArray[np.void]
    paths: U8
    codes: U8
    vectors: F32

    @property
    def keys(self) -> NDArray[np.void]:
        """The photos' keys, (n,) of KEY's fields."""
        return self.rows[["high", "low"]]

    def path(self, row: int) -> bytes:
        """A photo's path."""
        start = int(self.rows["end"][row - 1]) if row else 0
        return self.paths[start : int(self.rows["end"][row])].tobytes()

    def stored(self, row: int) -> Stored:
        """A photo."""
        one = self.rows[row]
        path = os.fsdecode(self.path(row))
        return Stored(path, int(one["size"]), int(one["mtime"]), np.array(self.codes[row]))

    def first_from(self, path: bytes) -> int:
        """The first row whose path is this one or later."""
        return bisect_left(range(len(self.rows)), path, key=self.path)


def names(folder: Path) -> list[Name]:
    """The parts that count, oldest first: the last base and what came after it."""
    found = [match for name in os.listdir(folder) if (match := _NAME.fullmatch(name))]
    parts = sorted(Name(int(match[2]), match[1]) for match in found)
    bases = [place for place, name in enumerate(parts) if name.kind == "base"]
    return parts[bases[-1] :] if bases else parts


def keys_of(keys: Sequence[UUID]) -> NDArray[np.void]:
    """Keys as they are kept, (n,) of KEY."""
    whole = np.frombuffer(b"".join(key.bytes for key in keys), ">u8").reshape(-1, 2)
    packed = np.empty(len(keys), KEY)
    packed["high"], packed["low"] = whole[:, 0], whole[:, 1]
    return packed


def uuids_of(keys: NDArray[np.void]) -> list[UUID]:
    """Undo `keys_of`."""
    pairs = zip(keys["high"].tolist(), keys["low"].tolist(), strict=True)
    return [UUID(int=(high << 64) | low) for high, low in pairs]


def rows_without(part: Part, known: set[tuple[int, int]]) -> NDArray[np.intp]:
    """The rows of a part, ascending, of photos whose keys, as pairs of high and low, are not known."""
    rows = np.arange(len(part.rows))
    some = rows
    if len(known) < len(rows):
        # Of a large part by halves of keys first, for few are known.
        some = np.flatnonzero(np.isin(part.rows["high"], np.array([high for high, _ in known], np.uint64)))
    gone = [row for row, key in zip(some.tolist(), part.keys[some].tolist(), strict=True) if key in known]
    return np.delete(rows, gone)


def part_of(given: Rows) -> Part:
    """Photos as a part; of several with one key the last."""
    last = {key: place for place, key in enumerate(given.keys)}
    paths = [os.fsencode(path) for path in given.paths]
    order = np.array(sorted(last.values(), key=paths.__getitem__), np.intp)
    rows = np.empty(len(order), ROW)
    packed = keys_of(given.keys)[order]
    rows["high"], rows["low"] = packed["high"], packed["low"]
    rows["size"], rows["mtime"], rows["mark"] = given.sizes[order], given.mtimes[order], given.marks[order]
    sorted_paths = [paths[place] for place in order]
    rows["end"] = np.cumsum([len(path) for path in sorted_paths], dtype=np.int64)
    blob = np.frombuffer(b"".join(sorted_paths), np.uint8)
    return Part(rows, blob, given.codes[order], given.vectors[order].astype(np.float32))


def write_part(folder: Path, name: Name, part: Part) -> None:
    """Write a part, which is there in full or not at all. Raises OSError."""
    _write(folder, name, {column: _whole(array) for column, array in part._asdict().items()})


def write_gone(folder: Path, name: Name, keys: NDArray[np.void]) -> None:
    """Write which photos are no longer there."""
    _write(folder, name, {"keys": _whole(keys)})


def write_base(folder: Path, name: Name, parts: list[tuple[Part, NDArray[np.intp]]], dimensions: int) -> None:
    """Write one part of the chosen rows of several; memory holds the paths, and a block. Raises OSError, DamagedError
    if their descriptors are of several widths."""
    widths = {part.codes.shape[1] for part, rows in parts if len(rows)}
    if len(widths) > 1:
        raise DamagedError("holds descriptors of several widths")
    paths = [part.path(row) for part, rows in parts for row in rows.tolist()]
    order = np.array(sorted(range(len(paths)), key=paths.__getitem__), np.intp)
    # Where each row comes from, in the new order.
    origins = np.repeat(np.arange(len(parts)), [len(rows) for _, rows in parts])[order]
    places = np.concatenate([np.empty(0, np.intp), *(rows for _, rows in parts)])[order]
    ends = np.cumsum([len(paths[place]) for place in order], dtype=np.int64)

    def blocks(column: str) -> Iterator[NDArray[Any]]:
        for start in range(0, len(order), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            yield _gathered([getattr(part, column) for part, _ in parts], origins[some], places[some])

    def rows() -> Iterator[NDArray[Any]]:
        for start, block in zip(range(0, len(order), _AT_ONCE), blocks("rows"), strict=True):
            block["end"] = ends[start : start + len(block)]
            yield block

    blob = (np.frombuffer(paths[place], np.uint8) for place in order)
    n, width, size = len(order), max(widths, default=0), sum(map(len, paths))
    columns = {
        "rows": _Blocks((n,), ROW, rows()),
        "paths": _Blocks((size,), np.dtype(np.uint8), blob),
        "codes": _Blocks((n, width), np.dtype(np.uint8), blocks("codes")),
        "vectors": _Blocks((n, dimensions), np.dtype(np.float32), blocks("vectors")),
    }
    _write(folder, name, columns)


def _gathered(columns: list[NDArray[Any]], origins: NDArray[np.intp], places: NDArray[np.intp]) -> NDArray[Any]:
    """Rows of several arrays, each by which one it is in, and where there."""
    first = columns[origins[0]]
    block = np.empty((len(origins), *first.shape[1:]), first.dtype)
    for number in np.unique(origins):
        here = origins == number
        block[here] = columns[number][places[here]]
    return block


class _Blocks(NamedTuple):
    """An array that comes in blocks."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Iterator[NDArray[Any]]


def _whole(array: NDArray[Any]) -> _Blocks:
    return _Blocks(array.shape, array.dtype, iter([array]))


def _write(folder: Path, name: Name, columns: dict[str, _Blocks]) -> None:
    """Write a part's files into a folder that then is renamed."""
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        for column, array in columns.items():
            write_file(temporary, f"{column}.npy", partial(_write_array, array))
        # As the folder that it comes into, not for its owner alone, as mkdtemp makes it.
        temporary.chmod(folder.stat().st_mode & 0o777)
        temporary.rename(folder / name.text)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_array(array: _Blocks, file: BinaryIO) -> None:
    descr = np.lib.format.dtype_to_descr(array.dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": array.shape})
    for block in array.blocks:
        file.write(np.ascontiguousarray(block).tobytes())


def read_gone(folder: Path, name: Name) -> NDArray[np.void]:
    """The keys of what was taken out. Raises OSError, DamagedError."""
    keys = _read(folder, name, "keys")
    if keys.dtype != KEY or keys.ndim != 1:
        raise DamagedError(f"{name.text} is damaged")
    return keys


def read_part(folder: Path, name: Name, dimensions: int) -> Part:
    """A part, mapped. Raises OSError, DamagedError."""
    part = Part(*(_read(folder, name, column) for column in Part._fields))
    n = len(part.rows) if part.rows.ndim == 1 else -1
    dtypes = [array.dtype for array in part]
    is_sound = (
        dtypes == [ROW, np.dtype(np.uint8), np.dtype(np.uint8), np.dtype(np.float32)]
        and part.paths.ndim == 1
        and part.codes.ndim == 2
        and len(part.codes) == n
        and part.vectors.shape == (n, dimensions)
    )
    if not is_sound or not _are_ends(part.rows["end"], len(part.paths)):
        raise DamagedError(f"{name.text} is damaged")
    return part


def _are_ends(ends: NDArray[np.int64], size: int) -> bool:
    if not len(ends):
        return size == 0
    return bool(ends[0] >= 0 and (np.diff(ends) >= 0).all() and ends[-1] == size)


def _read(folder: Path, name: Name, column: str) -> NDArray[Any]:
    path = folder / name.text / f"{column}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, EOFError) as error:
        raise DamagedError(f"{name.text} is damaged") from error


def remove_before(folder: Path, first: Name) -> None:
    """Remove parts that no longer count, and what was never finished; the folder is locked."""
    for name in os.listdir(folder):
        match = _NAME.fullmatch(name)
        if name.startswith(TEMPORARY) or (match and int(match[2]) < first.number):
            place = folder / name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
