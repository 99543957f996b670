"""How this process is set up while it redraws films, the stages of which have a thread each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np

# Bytes of one piece of memory, just below the most that glibc takes as an example (32 MB, see mallopt(3)).
_PIECE = 31 << 20
_lock = Lock()
_within: list[int] = []


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let OpenCV work on the thread that calls it, within.

    Threads of its own wait for work in loops, which takes the processor from the other stages. It holds for the
    process, from the first of its threads that comes in to the last that leaves.
    """
    import cv2

    with _lock:
        # The first notes what there was; the others but count.
        _within.append(cv2.getNumThreads())
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        with _lock:
            before = _within[0]
            _within.pop()
            if not _within:
                cv2.setNumThreads(before)


def keep_freed_memory() -> None:
    """Have pictures that are freed kept for the next ones, some 60 MB at most for each thread.

    glibc gives large pieces back to the system, which hands them out again zeroed, page by page; that took up to 1/6
    of the time. What it calls large it learns from the largest piece that was freed. Elsewhere this does nothing.
    """
    np.empty(_PIECE, np.uint8)
