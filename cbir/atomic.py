"""Files that nobody ever sees half of: written beside their final place, then renamed there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import BinaryIO, cast

# What the names of files begin with that are on their way.
TEMPORARY = ".writing-"
# It is told only by setting it, and one process may run several tasks at a time.
_UMASK = Lock()


def write_file(folder: Path, name: str | Callable[[BinaryIO], str], write: Callable[[BinaryIO], object]) -> str:
    """Write a file into `folder`, replacing one of the same name, in one step; its name is returned.

    `write` is given the open file; a `name` that is a function is given the written file and makes the name of it.
    On any failure, Ctrl-C included, nothing is left behind. Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
    try:
        with cast(BinaryIO, os.fdopen(descriptor, "w+b")) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            final = name if isinstance(name, str) else name(file)
        # mkstemp makes files for their owner only; the user's umask shall say who may read this one.
        with _UMASK:
            umask = os.umask(0)
            os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(folder / final)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            # A full disk does not say which one it is.
            error.filename = os.fspath(folder)
        raise
    return final
