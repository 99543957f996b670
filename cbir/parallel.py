"""Work over many items on worker processes. A picture that kills its decoder, or never lets it go, costs one item."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from typing import IO, TypeVar, cast

from cbir.errors import CbirError

# Items that go to a worker at a time: enough that handing photos over costs nothing beside decoding them, few enough
# that a small collection keeps all cores busy.
_BATCH = 16
# Batches on their way, for each worker: one at work, one waiting. This bounds memory whatever the number of items.
_AHEAD = 2
# JPEG 2000 is the slowest to decode: 250 million pixels, the default limit, took a minute and a half.
ITEM_SECONDS = 300
# Address space of a worker: JPEG 2000 with alpha takes the most, 28 bytes a pixel, which is 7 GB at the default limit.
_WORKER_BYTES = 8 << 30
_START = "import sys; sys.path[:] = {path!r}; from cbir.parallel import serve; serve()"
# Workers share the cores by being one for each, so none starts threads of its own.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")
_READY = "ready"
_T = TypeVar("_T")
_R = TypeVar("_R")


class WorkerDiedError(Exception):
    """A worker process ended before it had answered; the text says how.

    `lasting` tells whether by a fault of its own. All else may be the system's: too little memory, a disk that sleeps.
    """

    def __init__(self, code: int) -> None:
        super().__init__(_told(code))
        self.lasting = -code in (signal.SIGSEGV, signal.SIGILL, signal.SIGFPE)


class WorkerStartError(CbirError):
    """Worker processes cannot start."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_any_order(
    work: Callable[..., _R], items: Sequence[_T], jobs: int, *arguments: object, lost: Callable[[_T, str, bool], _R]
) -> Generator[tuple[int, _R]]:
    """The number of each item and `work(item, *arguments)`, on `jobs` processes, as they are done.

    An item during which its worker dies, or that takes longer than ITEM_SECONDS, is tried once more, alone, and
    then gets `lost(item, reason, lasting)`, where `lasting` tells that it was the decoder's fault, and not perhaps the
    system's. The others are not touched by that. An exception that `work` raises ends it all. Memory stays flat: no
    more than two batches of items for each worker are on their way. `work` must be a function at the top of a module.
    """
    whole = (range(start, min(start + _BATCH, len(items))) for start in range(0, len(items), _BATCH))
    alone: list[range] = []
    suspects: set[int] = set()
    running: dict[Future[list[_R]], range] = {}
    team = _Team()
    jobs = max(1, min(jobs, -(-len(items) // _BATCH)))
    with ThreadPoolExecutor(jobs) as threads:
        try:
            while True:
                while len(running) < _AHEAD * jobs and (rows := alone.pop() if alone else next(whole, None)):
                    running[threads.submit(team.ask, work, [items[row] for row in rows], arguments)] = rows
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    rows = running.pop(future)
                    try:
                        yield from zip(rows, future.result(), strict=True)
                    except WorkerDiedError as error:
                        if rows[0] in suspects:
                            yield rows[0], lost(items[rows[0]], str(error), error.lasting)
                        else:
                            # One of them is to blame, or whoever ended the worker; each will tell when it is alone.
                            suspects.update(rows)
                            alone += [range(row, row + 1) for row in rows]
        finally:
            team.stop()
            threads.shutdown(cancel_futures=True)


def in_order(
    work: Callable[..., _R], items: Sequence[_T], jobs: int, *arguments: object, lost: Callable[[_T, str, bool], _R]
) -> Generator[_R]:
    """The results of `in_any_order`, in the order of the items. What comes too early waits in memory."""
    early: dict[int, _R] = {}
    due = 0
    with closing(in_any_order(work, items, jobs, *arguments, lost=lost)) as results:
        for row, result in results:
            early[row] = result
            while due in early:
                yield early.pop(due)
                due += 1


class _Worker:
    """A process that runs what it is sent, a batch at a time."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START.format(path=sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Decoders written in C print their warnings there.
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise WorkerStartError(f"{sys.executable}: a worker process cannot start ({reason})") from error
        self._requests, self._replies = (cast(IO[bytes], pipe) for pipe in (self._process.stdin, self._process.stdout))
        self._is_ready = False

    def ask(self, work: Callable[..., _R], items: Sequence[object], arguments: tuple[object, ...]) -> list[_R]:
        """The results of a batch. Raises WorkerDiedError, WorkerStartError, or what `work` raised."""
        try:
            self._is_ready = self._is_ready or pickle.load(self._replies) == _READY
            _send((work, items, arguments, ITEM_SECONDS), self._requests)
            results, error = pickle.load(self._replies)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.end()
            code = self._process.wait()
            if not self._is_ready and code >= 0:
                raise WorkerStartError(f"{sys.executable}: a worker process cannot start (exit code {code})") from None
            raise WorkerDiedError(code) from None
        if error is not None:
            raise error
        return cast("list[_R]", results)

    @property
    def is_alive(self) -> bool:
        """Whether nobody has ended it."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()

    def close(self) -> None:
        """End it and give back its pipes; for the thread that talks to it."""
        self.end()
        self._process.wait()
        for pipe in (self._requests, self._replies):
            # What was not sent yet cannot be.
            with suppress(OSError):
                pipe.close()


class _Team:
    """The workers of one run. Those that have nothing to do are kept for the next: starting one takes a while."""

    _idle: list[_Worker] = []  # noqa: RUF012 - shared by all runs of this process on purpose

    def __init__(self) -> None:
        self._busy: set[_Worker] = set()
        self._stopped = False

    def ask(self, work: Callable[..., _R], items: Sequence[object], arguments: tuple[object, ...]) -> list[_R]:
        """The results of a batch by a worker that has nothing else to do."""
        worker = self._kept() or _Worker()
        self._busy.add(worker)
        try:
            if self._stopped:
                raise WorkerDiedError(0)
            results = worker.ask(work, items, arguments)
        except BaseException:
            self._busy.discard(worker)
            worker.close()
            raise
        self._busy.discard(worker)
        self._idle.append(worker)
        return results

    def _kept(self) -> _Worker | None:
        with suppress(IndexError):
            while True:
                worker = self._idle.pop()
                if worker.is_alive:
                    return worker
                worker.close()
        return None

    def stop(self) -> None:
        """End the workers that are at work, and with them the threads that wait for them."""
        self._stopped = True
        for worker in list(self._busy):
            worker.end()

    @classmethod
    def dismiss(cls) -> None:
        """End the workers that are kept."""
        while cls._idle:
            cls._idle.pop().close()


atexit.register(_Team.dismiss)
if hasattr(os, "register_at_fork"):
    # A copy of this process must not talk to its workers.
    os.register_at_fork(after_in_child=_Team._idle.clear)


def _told(code: int) -> str:
    """How a process ended, by its exit code."""
    if hasattr(signal, "SIGALRM") and code == -signal.SIGALRM:
        return f"not done within {ITEM_SECONDS} s"
    if code >= 0:
        return f"its decoder died (exit code {code})"
    # Those of real time have no names.
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"its decoder died ({name})"


def serve() -> None:
    """Be a worker: run what comes by standard input until that is closed, and answer by standard output."""
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Nothing that a decoder prints or reads may get between.
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    _limit_memory()
    _send(_READY, replies)
    while True:
        try:
            work, items, arguments, seconds = pickle.load(requests)
        except EOFError:
            return
        try:
            # Without a parent the answer is for nobody, and sending it fails.
            answer = [_timed(work, item, arguments, seconds) for item in items if os.getppid() == parent], None
        except Exception as error:
            answer = [], error  # type: ignore[assignment]  # either results or an error
        _send(answer, replies)


def _send(message: object, pipe: IO[bytes]) -> None:
    pickle.dump(message, pipe)
    pipe.flush()


def _timed(work: Callable[..., _R], item: object, arguments: tuple[object, ...], seconds: float) -> _R:
    """Run an item under an alarm that ends this process: a decoder that hangs in C can be stopped by nothing less."""
    alarm = getattr(signal, "setitimer", None)
    if alarm is None:
        return work(item, *arguments)
    alarm(signal.ITIMER_REAL, seconds)
    try:
        return work(item, *arguments)
    finally:
        alarm(signal.ITIMER_REAL, 0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or hard > _WORKER_BYTES:
        resource.setrlimit(resource.RLIMIT_AS, (_WORKER_BYTES, hard))
