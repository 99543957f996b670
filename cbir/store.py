"""A store: an engine that others run, which holds an index's photos as vectors and finds those near one (L2).

This is all that `cbir.push` and `cbir.stored` know of engines. The modules of `cbir.stores` speak to one engine each;
`register` takes in others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from typing import Any, NamedTuple, Protocol
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit, urlunsplit
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, F64, U8
from cbir.errors import CbirError, MissingExtraError

I64 = NDArray[np.int64]
# How an engine finds near vectors: it compares with all, by a graph, or by cells.
KINDS = ("flat", "hnsw", "ivf")
DEFAULT_KIND = "hnsw"
# Seconds after which an engine that does not answer is given up.
TIMEOUT = 10
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_URI = "file://"
_MAX_SAID = 400
# Parameters of an address that libpq and Milvus keep secret.
_SECRET = re.compile(r"(?i)\b([a-z_]*(?:password|token|secret|_key)=)([^&]*)")


class StoreError(CbirError):
    """A store cannot be reached, is not ours, or does not fit; the text names it without its password."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Photos as a store keeps them: n absolute `paths` with their `keys`, file `sizes` (n,) in bytes, `mtimes` (n,) in
    nanoseconds, `marks` (n,) int64 that differ where anything else does, descriptors `codes` (n, width) uint8, and
    `vectors` (n, m) float32 of the store's metric."""

    keys: list[UUID]
    paths: list[str]
    sizes: I64
    mtimes: I64
    marks: I64
    codes: U8
    vectors: F32

    def __len__(self) -> int:
        return len(self.keys)


class Stored(NamedTuple):
    """A photo as it is told by a store: `codes` (width,) uint8 is its descriptor."""

    path: str
    size: int
    mtime: int
    codes: U8


@dataclass(frozen=True)
class Where:
    """Which photos may be found: those in one of the folders `below` (everything if there are none; a photo is a place,
    too), and in none of `excluded`, all absolute; and changed at `since` or later, and before `until`, in nanoseconds.
    """

    below: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """What an engine found: n photos, `distances` (n,) float64, not squared, as it computed them, in ascending order.

    `is_scan` tells that it compared the vector with every photo that may be found, so that all others are at least as
    far as the last one; else nothing is known of them.
    """

    photos: list[Stored]
    distances: F64
    is_scan: bool


class Store(Protocol):
    """An open store. Everything raises StoreError, in one line, where the engine does not do as it is asked."""

    # The address as it may be printed, and how many photos one search can ask for at the most.
    shown: str
    most: int

    def header(self) -> bytes | None:
        """What `write_header` has written last; None if there is no store yet. Raises StoreError if what is there was
        not made by cbir."""

    def create(self, dimensions: int, kind: str = "flat") -> None:
        """Make what is missing to hold vectors of so many dimensions, which `settle` is to have found by this one of
        KINDS. What is there already, and ours, stays. Raises StoreError, before anything is made, if the engine cannot
        do that."""

    def write_header(self, header: bytes) -> None:
        """Keep what tells of the collection as a whole, up to some megabytes, in place of what was kept."""

    def writing(self) -> AbstractContextManager[None]:
        """Held while a push writes. Raises StoreError if another holds it, where the engine can tell."""

    def marks(self, below: tuple[str, ...] = ()) -> Iterator[tuple[list[UUID], I64]]:
        """The keys of all photos in folders, or of all there are if none is named, with their marks, some thousands at
        a time, in any order."""

    def upsert(self, rows: Rows) -> None:
        """Put photos in, in place of those with the same keys. When it returns they stay, whatever happens."""

    def delete(self, keys: Sequence[UUID]) -> None:
        """Take photos out; those that are not there are no error."""

    def settle(self, kind: str) -> None:
        """After a push: have the photos found by this one of KINDS, and what was written be seen by searches."""

    def fetch(self, key: UUID) -> Stored | None:
        """A photo by its key, if it is there."""

    def search(self, vector: F32, limit: int, where: Where, effort: int | None, scan: bool) -> Seen:
        """The `limit` photos nearest to a vector, (m,), or fewer if fewer may be found.

        `effort` is how many photos (of a graph) or cells the engine looks at, its own default unless told; `scan` has
        it compare with all.
        """

    def count(self) -> int:
        """How many photos there are."""

    def close(self) -> None:
        """Give back the connection."""


class Address(NamedTuple):
    """Where a store is: the URL without its fragment, and the name of the collection there."""

    url: str
    name: str

    @property
    def parts(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.url)

    @property
    def shown(self) -> str:
        """The address as it may be printed: without password."""
        parts = self.parts
        login, at, host = parts.netloc.rpartition("@")
        user = login.partition(":")[0]
        query = _SECRET.sub(r"\1***", parts.query)
        shown = urlunsplit(parts._replace(netloc=user + at + host, query=query))
        return shown if self.name == DEFAULT_NAME else f"{shown}#{self.name}"

    def error(self, text: str) -> StoreError:
        """An error about the store."""
        return StoreError(f"{self.shown}: {text}")

    @contextmanager
    def in_one_line(self, errors: tuple[type[Exception], ...], told: Callable[[Any], str]) -> Iterator[None]:
        """Have what an engine raises raised as an error about the store, of which `told` makes one line."""
        try:
            yield
        except errors as error:
            raise self.error(told(error)) from None

    @property
    def secrets(self) -> list[str]:
        """What of it must not be printed, in any spelling."""
        login = self.parts.netloc.rpartition("@")[0].partition(":")[2]
        found = [login, *(value for _, value in _SECRET.findall(self.parts.query))]
        return [spelt for secret in found if secret for spelt in {secret, unquote(secret)}]


DEFAULT_NAME = "cbir"


def parse_address(target: str) -> Address:
    """Read `URL[#NAME]`. Raises StoreError for what is no address of a store."""
    url, _, name = target.partition("#")
    name = name or DEFAULT_NAME
    scheme = url.partition(":")[0]
    if ":" not in url or scheme not in _OPENERS:
        known = ", ".join(f"{scheme}:" for scheme in _OPENERS)
        # It may have a password in it, so it is not repeated.
        raise StoreError(f"this is no address of a store, which begin with {known} see: cbir push --help")
    if "@" in name:
        # It may be the rest of a password, so nothing of it is repeated.
        raise StoreError("a # in a password is written %23 in an address; better, keep the password out of it")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise StoreError("this is no address of a store: its host is no host; see: cbir push --help") from None
    if parts.netloc and "@" in parts.path + parts.query:
        raise StoreError(
            "a / or ? in a password is written %2F or %3F in an address; better, keep the password out of it"
        )
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{Address(url, DEFAULT_NAME).shown}: a collection's name is letters from a to z, digits and _, not "
            f"{name!r}"
        )
    return Address(url, name)


Opener = Callable[[Address], Store]


def _lazily(module: str, name: str) -> Opener:
    def opener(address: Address) -> Store:
        return getattr(import_module(module), name)(address)  # type: ignore[no-any-return]

    return opener


_OPENERS: dict[str, Opener] = {
    "postgresql": _lazily("cbir.stores.postgres", "PostgresStore"),
    "milvus": _lazily("cbir.stores.milvus", "MilvusStore"),
    "faiss": _lazily("cbir.stores.faiss", "FaissStore"),
}


def register(scheme: str, opener: Opener) -> None:
    """Have addresses that begin with `scheme:` opened by this."""
    _OPENERS[scheme] = opener


def registered() -> list[str]:
    """The schemes of all stores."""
    return list(_OPENERS)


def open_store(target: str) -> Store:
    """Open a store by its address; nothing is written. Raises StoreError or MissingExtraError."""
    address = parse_address(target)
    return _OPENERS[address.parts.scheme](address)


def library(module: str, extra: str) -> object:
    """A library of an extra. Raises MissingExtraError, which says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{module} is not installed; run: pip install 'cbir[{extra}]'") from error


def without_secrets(text: str, address: Address) -> str:
    """What an engine says, on one line that is not too long, without what must not be printed."""
    for secret in address.secrets:
        text = text.replace(secret, "***")
    return " ".join(text.split())[:_MAX_SAID]


def key_of(path: str) -> UUID:
    """The key of a photo: a hash of the bytes of its absolute path."""
    return UUID(bytes=blake2b(os.fsencode(path), digest_size=16).digest())


def mark_of(size: int, mtime: int, codes: U8) -> int:
    """A number, 64 bits with a sign, that differs where what a store keeps of a photo does."""
    digest = blake2b(f"{size} {mtime} ".encode() + codes.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def text_of_path(path: str) -> str:
    """A path as text that every engine takes: itself, or if its bytes are no UTF-8, a file: URI."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _URI + quote(os.fsencode(path))
    return path


def path_of_text(text: str) -> str:
    """Undo `text_of_path`."""
    return os.fsdecode(unquote_to_bytes(text[len(_URI) :])) if text.startswith(_URI) else text
