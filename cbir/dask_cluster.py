"""A cluster of Dask: found fit before any work, and watched during it, since what goes wrong there waits for ever."""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any, NamedTuple, TypeVar, cast

from cbir.cluster import NEEDED, OPTIONAL, Cluster, ClusterError, difference, python_version, run_on, versions_here
from cbir.errors import MissingExtraError

# How long anybody may take to answer.
ANSWER_SECONDS = 10.0
# How long to go on without any worker: the system that starts them may be about to.
PATIENCE_SECONDS = 60.0
_WATCH_SECONDS = 1.0
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://(\[[0-9A-Fa-f:.%]+\]|[\w.-]+):([0-9]{1,5})")
# What two Dasks must have in common to talk at all.
_PROTOCOL = ("dask", "distributed")
# They write lines of their own about what is told in one line here.
_LOGGERS = ("distributed", "distributed.client", "distributed.core", "distributed.comm", "tornado.application")
_T = TypeVar("_T")
_R = TypeVar("_R")


def is_address(text: str) -> bool:
    """Whether a text is the address of a scheduler, such as tcp://host:8786."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and 0 < int(match[3]) < 1 << 16


@contextmanager
def dask_cluster(address: str) -> Iterator[Cluster]:
    """The cluster of the scheduler at an address such as "tcp://host:8786", to be given to `build_index`.

    The scheduler and all workers must have the versions that this process has. Certificates for tls:// are those of
    Dask's own settings. Raises ClusterError, which names the node that is not fit, or MissingExtraError.
    """
    if not is_address(address):
        raise ClusterError(f"{address!r} is no address of a scheduler; it is like tcp://host:8786")
    try:
        from distributed import Client
    except ImportError:
        raise MissingExtraError("Dask is not installed; to work on many machines: pip install 'cbir[dask]'") from None
    _be_quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Its own limit of time is not one for somebody who listens there and says nothing.
        client = _within(
            ANSWER_SECONDS + 1,
            lambda: cast(Any, Client)(address, timeout=ANSWER_SECONDS, set_as_default=False, name="cbir"),
            lambda: f"{address}: no scheduler answers there within {ANSWER_SECONDS:.0f} s; start one: dask scheduler",
        )
    try:
        _check_fit(client, address)
        yield _DaskCluster(client, address)
    finally:
        # What it has not done it need not do any more; a scheduler that is gone is not waited for.
        with suppress(Exception):
            client.close(timeout=2)


class _DaskCluster(Cluster):
    def __init__(self, client: Any, address: str) -> None:
        super().__init__("dask")
        self._client, self._address = client, address

    @property
    def size(self) -> int:
        return _size(self._client)

    def check(self, look: Callable[..., str | None], *arguments: object) -> None:
        for node, answer in _asked_workers(self._client, self._address, look, *arguments).items():
            if answer is not None:
                raise ClusterError(f"{node} {_one_line(answer)}")

    def run(self, work: Callable[[_T], _R], tasks: Sequence[_T]) -> Generator[tuple[int, _R]]:
        backend = _backend(self._client)
        over = Event()
        Thread(target=_watch, args=(self._client, self._address, backend, over), daemon=True).start()
        try:
            yield from run_on(backend, work, tasks, self.size)
        finally:
            over.set()


# --- before the work


def _check_fit(client: Any, address: str) -> None:
    """Raise ClusterError unless scheduler and workers can import what this process has, in the same versions.

    A task that is sent to a node that cannot is never answered.
    """
    try:
        client.wait_for_workers(1, timeout=ANSWER_SECONDS)
    except TimeoutError:
        raise ClusterError(f"{address}: has no worker; start some with: dask worker {address}") from None
    found = cast("dict[str, Any]", _within(ANSWER_SECONDS, client.get_versions, lambda: _silent(client, address)))
    answers = {f"scheduler {address}": found["scheduler"], **_named(found["workers"])}
    ours = _protocol(found["client"])
    for node, answer in answers.items():
        # What is sent below can be read only by the same Python.
        if isinstance(answer, dict) and (reason := difference(ours, _protocol(answer))):
            raise ClusterError(f"{node} {reason}")
    look, modules = _look(), (NEEDED, OPTIONAL)
    there = {
        f"scheduler {address}": _within(
            ANSWER_SECONDS, lambda: client.run_on_scheduler(look, *modules), lambda: f"{address}: does not answer"
        ),
        **_asked_workers(client, address, look, *modules),
    }
    for node, answer in there.items():
        if not isinstance(answer, tuple | list):
            raise ClusterError(f"{node} does not answer ({_one_line(answer)})")
        versions, errors = answer
        if errors:
            name, error = next(iter(errors.items()))
            raise ClusterError(f"{node} cannot import {name} ({_one_line(error)}); install cbir there as it is here")
        if reason := difference(versions_here(), versions):
            raise ClusterError(f"{node} {reason}")


def _look() -> Callable[[dict[str, str], dict[str, str]], tuple[dict[str, str | None], dict[str, str]]]:
    """A function that tells the versions of modules where it runs, and why those cannot be imported that must.

    It travels as a whole, since within another it has no name to be imported by, and uses nothing of this module.
    """

    def look(needed: dict[str, str], optional: dict[str, str]) -> tuple[dict[str, str | None], dict[str, str]]:
        import importlib
        import sys

        versions: dict[str, str | None] = {"Python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
        errors: dict[str, str] = {}
        for name, module in {**needed, **optional}.items():
            try:
                versions[name] = str(importlib.import_module(module).__version__)
            except Exception as error:
                versions[name] = None
                if name in needed:
                    errors[name] = f"{type(error).__name__}: {error}"
        return versions, errors

    return look


def _protocol(answer: dict[str, Any]) -> dict[str, str | None]:
    packages = answer["packages"]
    python = python_version(answer["host"]["python"].split("."))
    return {"Python": python, **{name: packages.get(name) for name in _PROTOCOL}}


def _asked_workers(client: Any, address: str, look: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    """What each worker answers, or the exception in place of it, by the worker's name."""
    answers = _within(
        ANSWER_SECONDS, lambda: client.run(look, *arguments, on_error="return"), lambda: _silent(client, address)
    )
    return _named(cast("dict[str, Any]", answers))


def _named(by_address: dict[str, Any]) -> dict[str, Any]:
    return {f"worker {address}": answer for address, answer in by_address.items()}


def _silent(client: Any, address: str) -> str:
    """Which worker has not been heard of for the longest time."""
    with suppress(Exception):
        workers = client.scheduler_info(n_workers=-1)["workers"]
        if workers:
            worker = min(workers, key=lambda one: cast(float, workers[one]["last_seen"]))
            return f"worker {worker} does not answer within {ANSWER_SECONDS:.0f} s; restart it"
    return f"{address}: does not answer within {ANSWER_SECONDS:.0f} s"


def _within(seconds: float, ask: Callable[[], _T], why: Callable[[], str]) -> _T:
    """The answer to a question that may never be answered. Raises ClusterError that says why."""
    answers: list[_T] = []
    errors: list[Exception] = []

    def wait() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            errors.append(error)

    thread = Thread(target=wait, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        # Those of the system say no more than that there was no answer.
        detail = "" if isinstance(errors[0], OSError) else f" ({_one_line(errors[0])})"
        raise ClusterError(why() + detail) from errors[0]
    if not answers:
        raise ClusterError(why())
    return answers[0]


def _one_line(value: object) -> str:
    return " ".join(str(value).split())[:200] or type(value).__name__


def _be_quiet() -> None:
    """Have Dask write nothing of its own, for good: a client that has lost its scheduler writes after it is closed."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


# --- during the work


def _size(client: Any) -> int:
    """The threads of all workers; 1 where there are none just now, which `_watch` sees to."""
    with suppress(Exception):
        return max(1, sum(cast("dict[str, int]", client.nthreads()).values()))
    return 1


class _Failed(NamedTuple):
    error: BaseException


def _backend(client: Any) -> Any:
    """joblib's back end for Dask, which waits for ever for a task that Dask gives up, made to tell."""
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
        waiting: set[Callable[[object], None]]

        def effective_n_jobs(self, n_jobs: int) -> int:
            # With one, joblib would do the work here.
            return max(2, _size(client))

        def submit(self, func: Any, callback: Callable[[object], None]) -> Any:
            self.waiting.add(callback)
            future = super().submit(func, callback)
            future.add_done_callback(lambda done: self._end(done, callback))
            return future

        def _end(self, done: Any, callback: Callable[[object], None]) -> None:
            self.waiting.discard(callback)
            if error := done.exception():
                callback(_Failed(error))

        def fail(self, error: ClusterError) -> None:
            """Give up what is not done."""
            while self.waiting:
                with suppress(KeyError):
                    self.waiting.pop()(_Failed(error))

        def retrieve_result_callback(self, out: object) -> Any:
            if isinstance(out, _Failed):
                raise _told(out.error)
            results = super().retrieve_result_callback(out)
            if not isinstance(results, list):
                raise ClusterError("a task was taken from the scheduler; the same command goes on from there")
            return results

    backend = Backend(client=client)
    backend.waiting = set()
    return backend


def _told(error: BaseException) -> BaseException:
    """What became of a task that Dask gave up, in one line."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return ClusterError(
            f"{error.allowed_failures + 1} workers ended during one task, the last of them "
            f"{error.last_worker.address}; its log says why, most often too little memory"
        )
    return error if isinstance(error, ClusterError) else ClusterError(f"a task was lost ({_one_line(error)})")


def _watch(client: Any, address: str, backend: Any, over: Event) -> None:
    """Give up when the scheduler is gone, or there has not been any worker for a while."""
    last = time.monotonic()
    while not over.wait(_WATCH_SECONDS):
        if client.status != "running":
            backend.fail(ClusterError(f"{address}: the scheduler has gone; the same command goes on from there"))
            return
        with suppress(Exception):
            if client.nthreads():
                last = time.monotonic()
        if time.monotonic() - last > PATIENCE_SECONDS:
            backend.fail(ClusterError(f"{address}: no worker is left; start some with: dask worker {address}"))
            return
