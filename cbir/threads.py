"""Threads of this process that share its interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

# A thread asks for the interpreter back after each call of numpy, of some tenths of a millisecond, and waits so long
# before another that does not call any has to let it go. With the 5 ms of Python two threads were no faster than one.
_TURN_SECONDS = 5e-4
_lock = Lock()
_within: list[float] = []


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads take turns more often than they usually do, within.

    It holds for the process, from the first of its threads that comes in to the last that leaves.
    """
    with _lock:
        # The first notes what there was; the others but count.
        _within.append(sys.getswitchinterval())
        sys.setswitchinterval(min(_TURN_SECONDS, _within[0]))
    try:
        yield
    finally:
        with _lock:
            before = _within[0]
            _within.pop()
            if not _within:
                sys.setswitchinterval(before)
