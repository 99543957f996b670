"""Gathering found photos in a folder, by rank: as copies or as links, never over a file."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import BinaryIO

from cbir.atomic import TEMPORARY
from cbir.errors import OutputError
from cbir.find import Skipped

# Ranks have at least so many digits, so that up to 999 hits are in order in any list of files.
_DIGITS = 3
# File systems have room for so many bytes of a name.
_NAME_BYTES = 255
# Bytes that are copied at a time.
_CHUNK = 1 << 20


def copy_to(
    paths: Sequence[str],
    folder: str | os.PathLike[str],
    link: bool = False,
    skipped: list[Skipped] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[str]:
    """Copy photos into a folder, which is made if it is missing, as 001-name.jpg and so on; the paths are returned.

    Their times are kept. With `link` they are linked to instead, by their absolute paths. What is gone, or cannot be
    opened, is told to `skipped`; its number stays free. `progress` is told how many are done, of how many.

    Raises OutputError, before any work if one of the names exists. Whatever fails, Ctrl-C included, all that was made
    is removed again.
    """
    place = os.path.abspath(folder)
    targets = [os.path.join(place, name) for name in _names(paths)]
    _refuse_existing(targets)
    made_folder = _make_folder(place)
    made: list[str] = []
    try:
        for number, (path, target) in enumerate(zip(paths, targets, strict=True), 1):
            reason = _gather(os.path.abspath(path), target, link, made)
            if reason is not None and skipped is not None:
                skipped.append(Skipped(path, reason))
            if progress:
                progress(number, len(paths))
    except BaseException as error:
        for target in made:
            with suppress(OSError):
                os.unlink(target)
        if made_folder:
            with suppress(OSError):
                os.rmdir(place)
        if isinstance(error, OSError):
            raise _failure(place, error, link) from error
        raise
    return made


def _names(paths: Sequence[str]) -> list[str]:
    digits = max(_DIGITS, len(str(len(paths))))
    return [_fitted(f"{rank:0{digits}}-", os.path.basename(path)) for rank, path in enumerate(paths, 1)]


def _fitted(number: str, name: str) -> str:
    """A name with its number before it; where that is too long, the end of its stem is left out."""
    stem, ending = os.path.splitext(name)
    while stem and len(os.fsencode(number + stem + ending)) > _NAME_BYTES:
        stem = stem[:-1]
    return number + stem + ending


def _refuse_existing(targets: Sequence[str]) -> None:
    there = [target for target in targets if os.path.lexists(target)]
    if there:
        others = f" (and {len(there) - 1:,} more)" if len(there) > 1 else ""
        raise OutputError(f"{there[0]}: exists{others}; name another folder, or empty this one")


def _make_folder(place: str) -> bool:
    """Make a folder where there is none; whether it was made."""
    if os.path.isdir(place):
        return False
    if os.path.lexists(place):
        raise OutputError(f"{place}: is not a folder; name another one")
    try:
        os.makedirs(place)
    except OSError as error:
        raise OutputError(f"{place}: cannot be made ({_why(error)})") from error
    return True


def _gather(path: str, target: str, link: bool, made: list[str]) -> str | None:
    """Copy or link a photo and add the target to those made; or the reason why the photo is left out."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        source = open(path, "rb")  # noqa: SIM115 - what opening it says is not what copying it says
    except OSError as error:
        return _why(error)
    with source:
        if link:
            os.symlink(path, target)
            made.append(target)
            return None
        temporary = os.path.join(os.path.dirname(target), f"{TEMPORARY}{secrets.token_hex(8)}")
        try:
            with open(temporary, "xb") as copy:
                reason = _copy(source, copy)
            if reason is None:
                os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
                _put_in_place(temporary, target, made)
            return reason
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def _copy(source: BinaryIO, copy: BinaryIO) -> str | None:
    """Copy what is in a file; or the reason why it cannot be read to its end."""
    while True:
        try:
            chunk = source.read(_CHUNK)
        except OSError as error:
            return _why(error)
        if not chunk:
            return None
        copy.write(chunk)


def _put_in_place(temporary: str, target: str, made: list[str]) -> None:
    """Give a file its name, unless that is taken, for which renaming alone does not look."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links, such as those of memory cards. An empty file takes the name first.
        with open(target, "xb"):
            made.append(target)
        os.replace(temporary, target)
    else:
        made.append(target)


def _failure(place: str, error: OSError, link: bool) -> OutputError:
    if isinstance(error, OutputError):
        return error
    if isinstance(error, FileExistsError):
        return OutputError(f"{error.filename2 or error.filename}: was made by another program meanwhile; try again")
    if link:
        return OutputError(f"{place}: links cannot be made there ({_why(error)}); copy the photos instead")
    return OutputError(f"{place}: cannot be written ({_why(error)})")


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
