"""Which files are opened: Python tells an audit hook of each, whoever opens it by whatever function."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class OpenedFiles:
    """Absolute paths of the files below `folder` that were opened, once for each time."""

    folder: Path
    to_read: list[str] = field(default_factory=list)
    to_write: list[str] = field(default_factory=list)


_watched: list[OpenedFiles] = []


@contextmanager
def opened_below(folder: Path) -> Iterator[OpenedFiles]:
    """Note what this process opens below a folder."""
    files = OpenedFiles(folder)
    _watched.append(files)
    try:
        yield files
    finally:
        _watched.remove(files)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _watched or isinstance(arguments[0], int):
        return
    path, _, flags = arguments
    absolute = os.path.abspath(os.fsdecode(path))
    for files in _watched:
        if absolute.startswith(f"{files.folder}{os.sep}"):
            (files.to_write if flags & _WRITING else files.to_read).append(absolute)


# There is no way to take a hook back.
sys.addaudithook(_note)
