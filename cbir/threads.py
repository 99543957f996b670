"""Threads of this process that share its interpreter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")
# A thread asks for the interpreter back after each call of numpy, of some tenths of a millisecond, and waits so long
# before another that does not call any has to let it go. With the 5 ms of Python two threads were no faster than one.
_TURN_SECONDS = 5e-4


class ProcessSetting(Generic[T]):
    """A setting of the whole process, changed from the first of its threads that comes in to the last that leaves."""

    def __init__(self, read: Callable[[], T], write: Callable[[T], object]) -> None:
        self._read, self._write = read, write
        self._lock = Lock()
        self._within: list[T] = []

    @contextmanager
    def changed(self, change: Callable[[T], T]) -> Iterator[None]:
        """Have it as `change` makes it of what it was, within."""
        with self._lock:
            # The first notes what there was; the others but count.
            self._within.append(self._read())
            self._write(change(self._within[0]))
        try:
            yield
        finally:
            with self._lock:
                before = self._within[0]
                self._within.pop()
                if not self._within:
                    self._write(before)


_turns = ProcessSetting(sys.getswitchinterval, sys.setswitchinterval)


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads take turns more often than they usually do, within."""
    with _turns.changed(lambda seconds: min(_TURN_SECONDS, seconds)):
        yield
