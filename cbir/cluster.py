"""Tasks that run on other machines, through any back end of joblib: each is done once, in whatever order."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from cbir.errors import CbirError

# What descriptions depend on, and their files' bytes, by the names under which it is installed. Those of the second
# kind may be missing, here as there.
NEEDED = {"cbir": "cbir", "numpy": "numpy", "opencv": "cv2", "Pillow": "PIL", "joblib": "joblib"}
OPTIONAL = {"pillow-heif": "pillow_heif", "rawpy": "rawpy"}
# Rounds of tasks for each process where a back end gives results by the round only.
_ROUNDS_AHEAD = 2
_T = TypeVar("_T")
_R = TypeVar("_R")


class ClusterError(CbirError):
    """Other machines cannot be reached, or are not fit for the work; the text names the one."""


class Cluster:
    """Machines that a back end of joblib reaches, by the name that it is registered under, such as "ray" or "spark"."""

    def __init__(self, backend: str) -> None:
        self._backend: Any = backend

    @property
    def size(self) -> int:
        """How many tasks it does at a time."""
        from joblib import effective_n_jobs, parallel_config

        with parallel_config(backend=self._backend, n_jobs=-1):
            return max(1, int(effective_n_jobs(-1)))

    def check(self, look: Callable[..., str | None], *arguments: object) -> None:
        """Raise ClusterError if `look(*arguments)` gives a reason on one of the machines, as far as they are known.

        A back end of which only joblib knows does not name its machines, so that each task has to look itself.
        """

    def run(self, work: Callable[[_T], _R], tasks: Sequence[_T]) -> Generator[tuple[int, _R]]:
        """The number of each task and `work(task)`, as they are done. `work` must be a function at the top of a module.

        Raises ClusterError, or what `work` raised. Closing the generator gives up what was not done.
        """
        yield from run_on(self._backend, work, tasks, self.size)


def run_on(backend: Any, work: Callable[[_T], _R], tasks: Sequence[_T], size: int) -> Generator[tuple[int, _R]]:
    """As `Cluster.run`, by a back end of joblib or its name, which does `size` tasks at a time."""
    from joblib import Parallel, delayed, parallel_config

    calls = (delayed(_numbered)(number, work, task) for number, task in enumerate(tasks))
    # It warns of what is given up when it is closed.
    with parallel_config(backend=backend, n_jobs=-1), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        done = 0
        try:
            parallel = Parallel(batch_size=1, return_as="generator_unordered")
        except ValueError:
            while part := list(islice(calls, _ROUNDS_AHEAD * size)):
                for result in Parallel(batch_size=1)(part):
                    done += 1
                    yield result
        else:
            for result in parallel(calls):
                done += 1
                yield result
    if done != len(tasks):
        # joblib ends so if a task fails while it looks elsewhere.
        raise ClusterError(f"{len(tasks) - done} of {len(tasks)} tasks were lost; the same command goes on from there")


def _numbered(number: int, work: Callable[[_T], _R], task: _T) -> tuple[int, _R]:
    return number, work(task)


@cache
def versions_here() -> dict[str, str | None]:
    """The versions of what descriptions depend on in this process; None for what is not there."""
    found: dict[str, str | None] = {"Python": python_version(sys.version_info)}
    for name, module in {**NEEDED, **OPTIONAL}.items():
        try:
            found[name] = str(importlib.import_module(module).__version__)
        except ImportError:
            found[name] = None
    return found


def python_version(version: Sequence[Any]) -> str:
    """What of Python's version must be the same, such as 3.11."""
    return f"{version[0]}.{version[1]}"


def difference(asked: dict[str, str | None], here: dict[str, str | None]) -> str | None:
    """In what a machine, whose versions are `here`, differs from the one that asks it; None if in nothing."""
    for name, version in asked.items():
        if here.get(name) != version:
            return f"has {_told(name, here.get(name))}, not {_told(name, version)} as this machine; make them the same"
    return None


def _told(name: str, version: str | None) -> str:
    return f"{name} {version}" if version else f"no {name}"
