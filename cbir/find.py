"""Finding files below folders that may be pictures: whether one is, its content says, which is read later."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cbir.segment import is_own_file
from cbir.signature import PICTURE_SUFFIXES


class Found(NamedTuple):
    """A file as the file system tells of it: absolute path, bytes, and time of change in nanoseconds.

    `named` tells whether it is called a picture: by its ending, or because somebody asked for this very file.
    """

    path: str
    size: int
    mtime_ns: int
    named: bool


@dataclass(frozen=True)
class Skipped:
    """A file or folder that was left out, and why."""

    path: str
    reason: str


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Found], list[Skipped]]:
    """All files below `paths`, each once, in byte order of their absolute paths, and what cannot be read.

    Below a folder that is every regular file, whatever its ending (links to files are followed, links to folders are
    not; what begins with a dot is left out, and so are indexes). Of what is no regular file only that is told as
    skipped which has a picture's ending. Raises FileNotFoundError, naming it, for a path that does not exist.
    """
    found: dict[str, Found] = {}
    skipped: list[Skipped] = []
    for path in paths:
        top = absolute(path)
        try:
            status = os.stat(top)
        except FileNotFoundError:
            raise
        except OSError as error:
            skipped.append(Skipped(top, _reason(error)))
            continue
        if stat.S_ISDIR(status.st_mode):
            _find_below(top, found, skipped)
        else:
            _note(top, status, True, found, skipped)
    return sorted(found.values(), key=lambda one: os.fsencode(one.path)), skipped


def absolute(path: str | os.PathLike[str]) -> str:
    """The absolute path, `.` and `..` taken out, links left as they are."""
    return os.path.abspath(os.fspath(path))


def is_below(path: str, top: str) -> bool:
    """Whether an absolute path is `top` or lies below it."""
    return path == top or path.startswith(top.rstrip(os.sep) + os.sep)


def name_below(path: str, root: str) -> bytes:
    """The name of a file, by its absolute path, relative to a folder that it lies below."""
    return os.fsencode(path[len(root.rstrip(os.sep)) + 1 :])


def _find_below(top: str, found: dict[str, Found], skipped: list[Skipped]) -> None:
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
                if any(is_own_file(entry.name) for entry in visible):
                    # An index, which every run would find changed by the one before.
                    continue
        except OSError as error:
            skipped.append(Skipped(folder, _reason(error)))
            continue
        for entry in visible:
            _, dot, ending = entry.name.rpartition(".")
            named = dot + ending.lower() in PICTURE_SUFFIXES
            try:
                if not entry.is_dir():
                    _note(entry.path, entry.stat(), named, found, skipped)
                elif not entry.is_symlink():
                    folders.append(entry.path)
            except OSError as error:
                if named:
                    skipped.append(Skipped(entry.path, _reason(error)))


def _note(path: str, status: os.stat_result, named: bool, found: dict[str, Found], skipped: list[Skipped]) -> None:
    if stat.S_ISREG(status.st_mode):
        # The same file may be found and be asked for by its own name.
        known = found.get(path)
        found[path] = Found(path, status.st_size, status.st_mtime_ns, named or (known is not None and known.named))
    elif named:
        skipped.append(Skipped(path, "not a regular file"))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
