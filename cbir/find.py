"""Finding picture files below folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cbir.decode import PICTURE_SUFFIXES


@dataclass(frozen=True)
class Found:
    """A picture file as the file system tells of it: absolute path, bytes, and time of change in nanoseconds."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Skipped:
    """A file or folder that was left out, and why."""

    path: str
    reason: str


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Found], list[Skipped]]:
    """All picture files below `paths`, each once, in byte order of their absolute paths, and what cannot be read.

    Below a folder a picture is a regular file with a picture's ending (links to files are followed, links to folders
    are not; what begins with a dot is left out). A path that is itself a file counts whatever its ending. Raises
    FileNotFoundError, naming it, for a path that does not exist.
    """
    found: dict[str, Found] = {}
    skipped: list[Skipped] = []
    for path in paths:
        top = absolute(path)
        if not stat.S_ISDIR(os.stat(top).st_mode):
            _note(top, found, skipped)
            continue
        for file in _files_below(top, skipped):
            _note(file, found, skipped)
    return sorted(found.values(), key=lambda one: os.fsencode(one.path)), skipped


def absolute(path: str | os.PathLike[str]) -> str:
    """The absolute path, `.` and `..` taken out, links left as they are."""
    return os.path.abspath(os.fspath(path))


def is_below(path: str, top: str) -> bool:
    """Whether an absolute path is `top` or lies below it."""
    return path == top or path.startswith(top.rstrip(os.sep) + os.sep)


def _note(path: str, found: dict[str, Found], skipped: list[Skipped]) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        skipped.append(Skipped(path, _reason(error)))
        return
    if stat.S_ISREG(status.st_mode):
        found[path] = Found(path, status.st_size, status.st_mtime_ns)
    else:
        skipped.append(Skipped(path, "not a regular file"))


def _files_below(top: str, skipped: list[Skipped]) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(str(error.filename), _reason(error)))

    for folder, folders, files in os.walk(top, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES:
                yield os.path.join(folder, name)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
