"""FAISS's approximate indexes of one base of photos: built, kept beside it in a file, and searched."""

from __future__ import annotations

import json
import math
import os
import tempfile
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbir.atomic import TEMPORARY, write_file
from cbir.color import F32, F64
from cbir.errors import MissingExtraError

try:
    # By its name, since what it says of its types is not what it takes.
    faiss: Any = import_module("faiss")
except ImportError as error:
    raise MissingExtraError(f"{error.name or 'faiss'} is not installed; run: pip install 'cbir[faiss]'") from error

_INDEX, _TOLD = "index.faiss", "index.json"
_MAX_TOLD = 10_000
_AT_ONCE = 10_000
# Links of a photo, and how many are looked at while it is put into the graph.
_M, _EF_CONSTRUCTION = 32, 200
_LEAST_EFFORT, _MOST_EFFORT = 64, 32_768
# k-means wants so many photos a cell, and no more.
_LEAST_TRAINING, _MOST_TRAINING = 39, 256
# Bytes of vectors that are compared at a time.
_SCANNED = 64 * 2**20


class Told(NamedTuple):
    """What is kept of an index file: the base that it is of, its kind, and the hash of its bytes."""

    base: str
    kind: str
    digest: str


def kind_of(folder: Path, base: str) -> str:
    """Of which kind the index of a base is; "flat" if there is none."""
    told = _told(folder)
    return told.kind if told is not None and told.base == base else "flat"


def build(folder: Path, base: str, vectors: F32, kind: str) -> None:
    """Make an index of vectors (n, m), in place of the one there. Raises OSError."""
    remove(folder)
    if kind == "flat" or not len(vectors):
        return
    index = _graph(vectors.shape[1]) if kind == "hnsw" else _cells(vectors)
    # In steps, between which Ctrl-C is seen, and memory holds a block of what is mapped.
    for start in range(0, len(vectors), _AT_ONCE):
        index.add(np.ascontiguousarray(vectors[start : start + _AT_ONCE]))
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
    os.close(descriptor)
    temporary = Path(name)
    try:
        try:
            faiss.write_index(index, name)
        except RuntimeError as error:
            raise OSError(None, "FAISS could not write its index; is the disk full?", os.fspath(folder)) from error
        told = Told(base, kind, _digest(temporary))
        temporary.chmod(folder.stat().st_mode & 0o666)
        temporary.replace(folder / _INDEX)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    write_file(folder, _TOLD, lambda file: file.write(json.dumps(told._asdict()).encode()))


def remove(folder: Path) -> None:
    """Remove the index, which nothing else needs."""
    for name in (_TOLD, _INDEX):
        (folder / name).unlink(missing_ok=True)


def read(folder: Path, base: str, shape: tuple[int, int]) -> Any | None:
    """The index of a base with vectors of this shape, (n, m); None if there is none that fits.

    FAISS reads files in C++ that trusts them. The hash guards against files that are cut short, damaged or of other
    photos; not against someone who can write both files: read only what you have made.
    """
    told = _told(folder)
    if told is None or told.base != base:
        return None
    try:
        if _digest(folder / _INDEX) != told.digest:
            return None
        index = faiss.read_index(os.fspath(folder / _INDEX))
    except (OSError, RuntimeError):
        return None
    return index if (index.ntotal, index.d) == shape else None


def near(index: Any, vector: F32, limit: int, allowed: NDArray[np.bool_] | None, effort: int | None) -> Any:
    """Rows (k,) and distances (k,) float64 of the at most `limit` nearest that an index finds among those allowed."""
    selector = None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    if hasattr(index, "hnsw"):
        looked_at = min(max(limit, effort or _LEAST_EFFORT), _MOST_EFFORT)
        settings = faiss.SearchParametersHNSW(efSearch=looked_at, sel=selector)
    else:
        cells = min(index.nlist, effort or math.ceil(math.sqrt(index.nlist)))
        settings = faiss.SearchParametersIVF(nprobe=cells, sel=selector)
    squares, rows = index.search(vector.reshape(1, -1), limit, params=settings)
    return _found(rows[0], squares[0])


def nearest(vectors: F32, vector: F32, limit: int, rows: NDArray[np.intp] | None) -> tuple[NDArray[np.intp], F64]:
    """The same by comparing with all of `rows`, (r,), or with all vectors if None; memory holds a block."""
    step = max(1, _SCANNED // (4 * vectors.shape[1]))
    best: tuple[NDArray[np.intp], F64] = np.empty(0, np.intp), np.empty(0)
    for start in range(0, len(vectors) if rows is None else len(rows), step):
        chosen = slice(start, start + step) if rows is None else rows[start : start + step]
        block = np.ascontiguousarray(vectors[chosen])
        squares, places = faiss.knn(vector.reshape(1, -1), block, min(limit, len(block)))
        here, distances = _found(places[0], squares[0])
        best = merged(best, (here + start if rows is None else rows[start + here], distances), limit)
    return best


def merged(one: Any, other: Any, limit: int) -> Any:
    """Of two, each some arrays with one value a photo, distances last, the nearest, in order."""
    both = [np.concatenate(pair) for pair in zip(one, other, strict=True)]
    order = np.argsort(both[-1], kind="stable")[:limit]
    return tuple(column[order] for column in both)


def _found(rows: NDArray[np.int64], squares: F32) -> tuple[NDArray[np.intp], F64]:
    # Where there are too few, FAISS says -1; it tells squares.
    there = rows >= 0
    return rows[there].astype(np.intp), np.sqrt(np.maximum(squares[there].astype(np.float64), 0))


def _graph(dimensions: int) -> Any:
    index = faiss.IndexHNSWFlat(dimensions, _M)
    index.hnsw.efConstruction = _EF_CONSTRUCTION
    return index


def _cells(vectors: F32) -> Any:
    n, dimensions = vectors.shape
    cells = max(1, min(4 * math.isqrt(n), n // _LEAST_TRAINING))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dimensions), dimensions, cells)
    # FAISS would say on the terminal that a single cell has too few photos.
    index.cp.min_points_per_centroid = 1
    some = np.random.default_rng(0).choice(n, min(n, _MOST_TRAINING * cells), replace=False)
    index.train(np.ascontiguousarray(vectors[np.sort(some)]))
    return index


def _told(folder: Path) -> Told | None:
    try:
        with open(folder / _TOLD, "rb") as file:
            told = json.loads(file.read(_MAX_TOLD))
        return Told(*(str(told[name]) for name in Told._fields))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(path: Path) -> str:
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
