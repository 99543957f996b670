"""Plain data on disk through joblib, read back without ever running what the file says.

joblib's format is a pickle, and a pickle is a program. What is written here is only dicts, lists, strings, numbers
and arrays of numbers; the reader knows nothing else, so a crafted file is refused before anything in it is called.
"""

from __future__ import annotations

import math
import os
import pickle
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
        if path.exists() and not path.is_file():
            raise NotPlainError(f"{path}: not a file; {REBUILD}")
        with path.open("rb") as file:
            # Arrays are mapped from an offset in the file, so only what lies open (not compressed) can be read.
            value = _PlainUnpickler(str(path), file).load()
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

    def __init__(self, code: object, byteorder: object = "<") -> None:
        self.code, self.byteorder = code, byteorder

    def dtype(self) -> np.dtype[Any]:
        if self.byteorder not in ("<", "|") or not isinstance(self.code, str) or self.code not in _DTYPES:
            raise ValueError("an array of something other than numbers")
        return _DTYPES[self.code]


class _PlainArray(NumpyArrayWrapper):  # type: ignore[misc]  # joblib has no types
    """Stands in for joblib's array wrapper: the array must be of numbers, of an honest size, and mapped."""

    def __init__(self) -> None:
        pass

    def check(self, state: object, left: int) -> None:
        """Take over what a pickle says of the array, if it is plain and fits into the bytes that are left."""
        if not isinstance(state, dict) or not isinstance(state.get("dtype"), _PlainDtype):
            raise ValueError("an array of something other than numbers")
        self.dtype, self.shape, self.order = state["dtype"].dtype(), state.get("shape"), "C"
        self.subclass, self.numpy_array_alignment_bytes = np.ndarray, 16
        if state.get("order") != "C" or not isinstance(self.shape, tuple) or not 1 <= len(self.shape) <= 2:
            raise ValueError("an array of another order or shape")
        if not all(type(n) is int and n >= 0 for n in self.shape):
            raise ValueError("an array of another order or shape")
        if math.prod(self.shape) * self.dtype.itemsize > left:
            raise ValueError("an array is longer than the file")


# The three names that joblib writes for an array of numbers, each with its harmless stand-in.
_STAND_INS = {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _PlainArray,
    ("numpy", "dtype"): _PlainDtype,
    ("numpy", "ndarray"): object,
}


# What joblib writes for plain data, at this protocol; nothing else is known. In particular there is no way to call,
# but for the stand-ins below, nothing that can be nested or hashed without end, and nothing that allocates on its word.
# fmt: off
_OPCODES = [
    "PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINGET", "LONG_BINGET", "STACK_GLOBAL", "NONE", "NEWTRUE",
    "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "EMPTY_DICT",
    "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE",
    "NEWOBJ", "REDUCE", "BUILD",
]
# fmt: on
# Two for each of 65,536 reasons why a picture could not be read, and the rest; this bounds memory and time.
_MAX_OPCODES = 1 << 18


class _Bounded(dict[int, Any]):
    """The opcodes that may be met, and how many of them are left."""

    def __init__(self, known: dict[int, Any]) -> None:
        super().__init__(known)
        self.left = _MAX_OPCODES

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if self.left < 0 or opcode not in self:
            raise ValueError("not plain data")
        return super().__getitem__(opcode)


class _PlainUnpickler(NumpyUnpickler):  # type: ignore[misc]
    def __init__(self, path: str, file: IO[bytes]) -> None:
        super().__init__(path, file, ensure_native_byte_order=False, mmap_mode="r")
        self.dispatch = _Bounded(_KNOWN)
        self.size = os.fstat(file.fileno()).st_size

    def find_class(self, module: str, name: str) -> type:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise NotPlainError(
                f"{self.filename}: refused, it asks for {module}.{name} and an index holds plain data only; "
                f"do not trust it; {REBUILD}"
            ) from None

    def load_newobj(self) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        if made is not _PlainArray or arguments != ():
            raise ValueError("an object")
        self.append(_PlainArray())

    def load_reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if called is not _PlainDtype or type(arguments) is not tuple or not arguments:
            raise ValueError("a call")
        self.append(_PlainDtype(arguments[0]))

    def load_build(self) -> None:
        state, built = self.stack.pop(), self.stack.pop()
        if type(built) is _PlainDtype and type(state) is tuple and len(state) > 1:
            self.append(_PlainDtype(built.code, state[1]))
        elif type(built) is _PlainArray:
            built.check(state, self.size - self.file_handle.tell())
            empty = 0 in tuple(built.shape or ())
            self.append(np.asarray(built.read_array(self, False) if empty else built.read_mmap(self)))
        else:
            raise ValueError("an object with a state")

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(items) % 2 or any(type(key) is not str for key in items[::2]):
            raise ValueError("a key that is no string")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def load_appends(self) -> None:
        items = self.pop_mark()
        self._extend(items)

    def load_append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("an object that is appended to")
        self.stack[-1].extend(items)


_KNOWN = {getattr(pickle, name)[0]: NumpyUnpickler.dispatch[getattr(pickle, name)[0]] for name in _OPCODES}
_KNOWN |= {
    getattr(pickle, name.upper())[0]: getattr(_PlainUnpickler, f"load_{name}")
    for name in ("newobj", "reduce", "build", "setitem", "setitems", "append", "appends")
}
