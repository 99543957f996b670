"""Keeping libraries from talking to the user of whoever reads a picture."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock


class _WhileReading:
    """A state of the whole process that lasts while any thread reads a picture.

    The first thread to enter sets it and the last to leave restores what was before; if each did so for itself, two
    that overlap would leave it set for good.
    """

    def __init__(self, state: Callable[[], AbstractContextManager[None]]) -> None:
        self._state, self._lock, self._readers = state, Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._readers:
                self._entered = self._state()
                self._entered.__enter__()
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                self._entered.__exit__(None, None, None)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Decoders warn of odd metadata and of large sizes below their limits; neither is the user's to mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL|pillow_heif|rawpy")
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """libtiff and LibRaw write what they think of a file to file descriptor 2, which Pillow cannot keep them from.

    What other threads write to standard error in the meantime is lost.
    """
    try:
        # Fails where standard error is closed, also if a file that is being read has got its number.
        os.write(2, b"")
        saved = os.dup(2)
    except OSError:
        yield
        return
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    # What Pillow's plugin logs is written to standard error where nobody handles it.
    silence = logging.NullHandler()
    logging.getLogger("PIL").addHandler(silence)
    try:
        yield
    finally:
        logging.getLogger("PIL").removeHandler(silence)
        os.dup2(saved, 2)
        os.close(saved)


NO_WARNINGS, QUIET = _WhileReading(_no_warnings), _WhileReading(_quiet)
