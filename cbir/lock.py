"""One writer at a time for an index's folder."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cbir.errors import IndexFolderError

# The file that is locked; it says who has locked it, and is empty when nobody has.
LOCK_NAME = ".writer"
_MAX_HOLDER = 200


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other writers; the lock ends with the process, however that ends.

    Where the system or a network file system has no locks, one writer at a time is the user's to see to. Raises
    IndexFolderError that says who has locked it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, _MAX_HOLDER, 0).decode("utf-8", "replace").strip() or "another cbir"
            raise IndexFolderError(f"{folder}: {holder} is writing it; wait until it is done") from error
        except OSError:
            yield
            return
        os.ftruncate(descriptor, 0)
        # On a full disk nobody is told who it is, and the lock holds all the same.
        with suppress(OSError):
            os.pwrite(descriptor, f"cbir (process {os.getpid()} on {platform.node()})".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
