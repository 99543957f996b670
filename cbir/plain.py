"""Plain data on disk through joblib, read back without ever running what the file says.

joblib's format is a pickle, and a pickle is a program. What is written here is only dicts, lists, strings, numbers
and arrays of numbers; the reader knows nothing else, so a crafted file is refused before anything in it is called.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import IO, Any

import joblib
import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler

from cbir.errors import REBUILD, IndexFolderError

# Fixed, since the bytes of an index must not depend on the Python version.
_PICKLE_PROTOCOL = 4
_DTYPES = {code: np.dtype(f"<{code}") for code in ("u1", "u2", "u4", "u8", "i8", "f4", "f8")}


class NotPlainError(IndexFolderError):
    """A file holds something other than plain data, or less than it says."""


def dump(value: dict[str, Any], file: IO[bytes]) -> None:
    """Write a dict of arrays of numbers, strings, numbers, lists and dicts to an open binary file, with joblib."""
    joblib.dump(value, file, protocol=_PICKLE_PROTOCOL)


def load(path: Path) -> dict[str, Any]:
    """Read what `dump` wrote; arrays are mapped, read-only, not read.

    Raises NotPlainError, naming the file, for anything else, without having run any of it.
    """
    try:
        with path.open("rb") as file:
            # Arrays are mapped from an offset in the file, so only what lies open (not compressed) can be read.
            value = _PlainUnpickler(str(path), file, ensure_native_byte_order=False, mmap_mode="r").load()
    except NotPlainError:
        raise
    except OSError:
        raise
    # A damaged pickle fails in any of dozens of ways, in joblib, numpy or pickle itself.
    except Exception as error:
        raise NotPlainError(f"{path}: damaged ({error or type(error).__name__}); {REBUILD}") from error
    if not isinstance(value, dict):
        raise NotPlainError(f"{path}: not a segment of an index; {REBUILD}")
    return value


class _PlainDtype:
    """Stands in for numpy.dtype: notes what a pickle says of it, and calls nothing."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code
        self.byteorder: object = "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.byteorder = state[1]

    def dtype(self) -> np.dtype[Any]:
        if self.byteorder not in ("<", "|") or not isinstance(self.code, str) or self.code not in _DTYPES:
            raise ValueError("an array of something other than numbers")
        return _DTYPES[self.code]


class _PlainArray(NumpyArrayWrapper):  # type: ignore[misc]  # joblib has no types
    """Stands in for joblib's array wrapper: the array must be of numbers, of an honest size, and mapped."""

    dtype: Any
    shape: Any

    def __init__(self) -> None:
        pass

    def read(self, unpickler: NumpyUnpickler, ensure_native_byte_order: bool) -> np.ndarray[Any, Any]:
        if not isinstance(self.dtype, _PlainDtype):
            raise ValueError("an array of something other than numbers")
        self.dtype = self.dtype.dtype()
        if not isinstance(self.shape, tuple) or not all(type(n) is int and n >= 0 for n in self.shape):
            raise ValueError("an array without a size")
        size = os.fstat(unpickler.file_handle.fileno()).st_size
        if math.prod(self.shape) * self.dtype.itemsize > size - unpickler.file_handle.tell():
            raise ValueError("an array is longer than the file")
        self.order, self.subclass, self.numpy_array_alignment_bytes = "C", np.ndarray, 16
        if math.prod(self.shape) == 0:
            return np.asarray(self.read_array(unpickler, False))
        return np.asarray(self.read_mmap(unpickler))


# The three names that joblib writes for an array of numbers, each with its harmless stand-in.
_STAND_INS = {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _PlainArray,
    ("numpy", "dtype"): _PlainDtype,
    ("numpy", "ndarray"): object,
}


class _PlainUnpickler(NumpyUnpickler):  # type: ignore[misc]
    def find_class(self, module: str, name: str) -> type:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise NotPlainError(
                f"{self.filename}: refused, it asks for {module}.{name} and an index holds plain data only; "
                f"do not trust it; {REBUILD}"
            ) from None
