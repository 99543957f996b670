"""What is said to Milvus: the fields of its collections, and expressions that choose photos. Nothing here is run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

from cbir.store import Where, text_of_path

# By what a collection is known to be ours: its fields with their types' names; more do no harm.
PHOTOS = {
    "id": "VARCHAR",
    "path": "VARCHAR",
    "modified_ns": "INT64",
    "bytes": "INT64",
    "mark": "INT64",
    "codes": "VARCHAR",
    "embedding": "FLOAT_VECTOR",
}
ABOUT = {"id": "VARCHAR", "chunk": "VARCHAR", "nothing": "FLOAT_VECTOR"}
# Bytes that a text may have, of which VARCHAR takes up to 65,535.
LENGTHS = {"id": 64, "path": 16_384, "codes": 65_535, "chunk": 65_535}
# The one vector field that a collection must have.
VECTORS = {"embedding", "nothing"}

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_URI = "file://"
_MOST = 2**63 - 1


def quoted(text: str) -> str:
    """A text as an expression has it."""
    return f'"{text.translate(_ESCAPES)}"'


def condition(where: Where) -> str:
    """Which photos may be found, as an expression; empty if all may."""
    conditions = []
    if where.below:
        conditions.append(f"({_lies_in(where.below)})")
    if where.excluded:
        conditions.append(f"not ({_lies_in(where.excluded)})")
    if where.since is not None:
        conditions.append(f"modified_ns >= {_number(where.since)}")
    if where.until is not None:
        conditions.append(f"modified_ns < {_number(where.until)}")
    return " and ".join(conditions)


def _lies_in(places: tuple[str, ...]) -> str:
    ways = []
    for place in places:
        ways.append(f"path == {quoted(text_of_path(place))}")
        # Not by `like`, of which the escapes are not the same in all versions.
        ways += [f"(path >= {quoted(first)} and path < {quoted(last)})" for first, last in _ranges(place)]
    return " or ".join(ways)


def _ranges(folder: str) -> Iterator[tuple[str, str]]:
    """Between which texts all below a folder lies: from `folder/` to before `folder0`, 0 being what follows on /."""
    folder = folder.rstrip("/")
    # Below any folder there may be names that are no UTF-8, which are kept as URIs.
    uri = _URI + quote(os.fsencode(folder))
    for spelt in {uri, text_of_path(folder) if folder else ""}:
        yield f"{spelt}/", f"{spelt}0"


def _number(value: int) -> int:
    return max(-_MOST, min(value, _MOST))
