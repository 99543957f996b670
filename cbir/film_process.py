"""How this process is set up while it redraws films, the stages of which have a thread each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from cbir.threads import ProcessSetting

# Bytes of one piece of memory, just below the most that glibc takes as an example (32 MB, see mallopt(3)).
_PIECE = 31 << 20


def _threads() -> int:
    import cv2

    return int(cv2.getNumThreads())


def _set_threads(number: int) -> None:
    import cv2

    cv2.setNumThreads(number)


_opencv = ProcessSetting(_threads, _set_threads)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let OpenCV work on the thread that calls it, within.

    Threads of its own wait for work in loops, which takes the processor from the other stages.
    """
    with _opencv.changed(lambda _: 1):
        yield


def keep_freed_memory() -> None:
    """Have pictures that are freed kept for the next ones, some 60 MB at most for each thread.

    glibc gives large pieces back to the system, which hands them out again zeroed, page by page; that took up to 1/6
    of the time. What it calls large it learns from the largest piece that was freed. Elsewhere this does nothing.
    """
    np.empty(_PIECE, np.uint8)
