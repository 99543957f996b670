"""Which photos of an index are meant, their colours, and how they are printed; for the commands that arrange photos."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cbir.cli.shell import shown_path, tell

if TYPE_CHECKING:
    from cbir.color import F64
    from cbir.index import Index
    from cbir.prepare import StageProgress


# Paths on standard input beyond this are not what somebody meant: 64 MiB are half a million of them.
_MOST_INPUT = 1 << 26
# Descriptors that are mapped at a time, and the longest vectors: with larger palettes photos are compared as wholes.
_TOGETHER, _MOST_DIMENSIONS = 1_024, 2_048


class SortFormat(StrEnum):
    """How photos in order are printed."""

    table = "table"
    json = "json"
    paths = "paths"
    paths0 = "paths0"


PathsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH...]",
        help="Photos of the index or folders of them, all unless told; - reads paths from standard input.",
    ),
]


def opened(name: str | None) -> Index:
    """An index that has photos, by its name or folder. Raises CbirError."""
    from cbir.cli.places import find_index
    from cbir.errors import CbirError
    from cbir.index import Index

    opened = Index.open(find_index(name))
    if not len(opened):
        raise CbirError(f"{opened.folder}: has no photos; bring it up to date with: cbir index PHOTOS")
    if opened.is_unfinished:
        tell(f"{opened.folder}: indexing was interrupted, so photos may be missing; cbir index goes on from there")
    return opened


def chosen_rows(index: Index, paths: Sequence[str]) -> list[int]:
    """The rows of photos and folders by name, each once, in the order of the names; all if there are none.

    Raises FileNotFoundError or CbirError for what is not in the index.
    """
    from cbir.errors import CbirError

    if not paths:
        return list(range(len(index)))
    names = [name for path in paths for name in (_names_from_input() if path == "-" else [path])]
    if not names:
        raise CbirError("there is no path on standard input")
    rows: dict[int, None] = {}
    for name in names:
        rows.update(dict.fromkeys(_rows_of(index, name)))
    return list(rows)


def _rows_of(index: Index, name: str) -> list[int]:
    import numpy as np

    from cbir.find import absolute

    row = index.photos.row_of(absolute(name))
    if row is not None:
        return [row]
    if index.photos.has(name):
        mask = index.photos.mask([name], ())
        assert mask is not None
        return [int(one) for one in np.flatnonzero(mask)]
    return [index.find(name)]


def _names_from_input() -> list[str]:
    """The paths on standard input: each ends with a zero byte, or if there is none, with its line."""
    from cbir.errors import CbirError

    if sys.stdin is None:
        return []
    content = sys.stdin.buffer.read(_MOST_INPUT + 1)
    if len(content) > _MOST_INPUT:
        raise CbirError(f"more than {_MOST_INPUT >> 20} MiB on standard input; name a folder instead")
    names = content.split(b"\0") if b"\0" in content else content.split(b"\n")
    return [os.fsdecode(name) for name in names if name]


def amounts_of(index: Index, rows: Sequence[int]) -> Iterator[F64]:
    """The histograms of photos, (n, k) of some at a time."""
    import numpy as np

    for start in range(0, len(rows), _TOGETHER):
        yield index.descriptor.whole(np.stack([index.codes(row) for row in rows[start : start + _TOGETHER]]))


def vectors_of(index: Index, rows: Sequence[int]) -> F64:
    """Photos as vectors whose distances are those of a search, or with a large palette those of whole photos."""
    import numpy as np

    from cbir.metric import DEFAULT

    space = index.space(DEFAULT)
    if space.dimensions > _MOST_DIMENSIONS:
        space = index.space(DEFAULT.of_whole())
    vectors = np.empty((len(rows), space.dimensions))
    for start in range(0, len(rows), _TOGETHER):
        codes = np.stack([index.codes(row) for row in rows[start : start + _TOGETHER]])
        vectors[start : start + len(codes)] = space.embed(codes)
    return vectors


def write_paths(paths: Sequence[str], format: SortFormat) -> None:
    """Not by typer, which takes escape sequences out of what goes to a pipe: names go as they are."""
    end = "\0" if format is SortFormat.paths0 else "\n"
    sys.stdout.writelines(shown_path(path) + end for path in paths)


def thumbnail_progress(progress: StageProgress | None) -> Callable[[int, int], object] | None:
    """What is told how many thumbnails are made."""
    return None if progress is None else lambda done, total: progress("thumbnails", done, total)
