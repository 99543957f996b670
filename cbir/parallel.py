"""Work over many items on worker processes, with the results in order."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import joblib

# Items that go to a worker at a time: enough that handing photos over costs nothing beside decoding them, few enough
# that a small collection keeps all cores busy. Fixed, so that nothing depends on the number of workers.
_BATCH = 16
# Starting worker processes takes about a second, in which one process has described this many photos.
_WORTH_WORKERS = 128
_T = TypeVar("_T")
_R = TypeVar("_R")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[..., list[_R]], items: Sequence[_T], jobs: int, *arguments: object) -> Iterator[_R]:
    """The results of `work(batch, *arguments)` over batches of items, on `jobs` processes, in the order of the items.

    It looks ahead by a few batches only, so memory stays flat.
    """
    batches = (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
    jobs = jobs if len(items) >= _WORTH_WORKERS else 1
    parallel = joblib.Parallel(
        n_jobs=jobs, return_as="generator", pre_dispatch="3*n_jobs", batch_size=1, max_nbytes=None
    )
    with _workers_without_ctrl_c():
        results = parallel(joblib.delayed(work)(batch, *arguments) for batch in batches)
    try:
        for batch_results in results:
            yield from batch_results
    finally:
        with warnings.catch_warnings():
            # When a run is given up, joblib warns of the batches that were on their way.
            warnings.simplefilter("ignore")
            results.close()


@contextmanager
def _workers_without_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C while worker processes start, which inherit that: it reaches them too, but is for this process to
    heed, and workers that die of it cover the terminal with tracebacks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
