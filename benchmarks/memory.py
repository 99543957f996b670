"""The memory that a command takes with all the processes that it starts, and that a piece of work takes in this one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

_SAMPLED_EVERY = 0.05
# Work that is over in milliseconds takes its memory for as long.
_LOOKED_EVERY = 0.002


def peak_of(command: list[str]) -> int:
    """Run a command and tell the most bytes that it had with its descendants, each shared page counted once (Linux).

    Raises CalledProcessError if it fails.
    """
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_proportional, _family(process.pid))))
            time.sleep(_SAMPLED_EVERY)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak


def peak_beyond_files(work: Callable[[], object]) -> int:
    """The most bytes that this process has while `work` runs, less those of mapped files (Linux)."""
    done = Event()

    def watch() -> int:
        peak = _beyond_files()
        while not done.wait(_LOOKED_EVERY):
            peak = max(peak, _beyond_files())
        return peak

    with ThreadPoolExecutor(1) as pool:
        watched = pool.submit(watch)
        try:
            work()
        finally:
            done.set()
    return watched.result()


def _beyond_files() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    parents = dict(map(_parentage, Path("/proc").glob("[0-9]*")))
    family = [pid]
    for one in family:
        family += [child for child, parent in parents.items() if parent == one]
    return family


def _parentage(process: Path) -> tuple[int, int]:
    """The numbers of a process and of its parent, or 0 if it has ended."""
    try:
        # The name of the program comes first, in parentheses, and may contain anything.
        return int(process.name), int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return int(process.name), 0


def _proportional(pid: int) -> int:
    """The bytes of a process, of pages that it shares its part; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
