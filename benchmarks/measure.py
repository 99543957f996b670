"""What all benchmarks share: timing, tables, the photos, and what it was measured with."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64
from cbir.quadratic import one_thread

SHARED = Path(__file__).parents[2] / "shared" / "data"
_PACKAGES = ("numpy", "opencv-python-headless", "Pillow", "scikit-learn", "scipy", "joblib", "typer", "faiss-cpu")
# Far more than any cache holds.
_LARGE = 1 << 29


def seconds(work: Callable[[], object], runs: int = 5) -> float:
    """The median wall time of `work` over some runs, after one that does not count."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def milliseconds(work: Callable[[np.ndarray], object], things: Iterable[np.ndarray]) -> F64:
    """The wall time of `work` on each thing, once."""
    times = []
    for thing in things:
        started = time.perf_counter()
        work(thing)
        times.append((time.perf_counter() - started) * 1000)
    return np.array(times)


def near_and_far(distances: F64) -> dict[str, NDArray[np.intp]]:
    """The nearest and the furthest third of some queries by how far their last hits are, (q,), in rising order."""
    order = np.argsort(distances, kind="stable")
    third = max(1, len(order) // 3)
    return {"near": order[:third], "far": order[-third:]}


def bandwidth() -> float:
    """How many bytes one thread reads from memory in a second: the best of some products of a long vector."""
    vector = np.ones(_LARGE // 4, np.float32)
    times = []
    with one_thread():
        for _ in range(9):
            started = time.perf_counter()
            np.dot(vector, vector)
            times.append(time.perf_counter() - started)
    return vector.nbytes / min(times)


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    print(f"| {' | '.join(head)} |")
    print(f"|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def settings() -> str:
    """The versions and the machine, in one line."""
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    machine = f"{cores()} cores, {platform.machine()}, {platform.system()}"
    return f"Python {platform.python_version()}, {versions}; {machine}."


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def photo_sets(work: Path) -> dict[str, Path]:
    """Folders of photos to measure on: the shared real ones where they are, else the sample set."""
    named = {
        "ferrari (100 JPEGs, 1024 x 768)": SHARED / "ferrari",
        "tf_flowers_256 (1,500 JPEGs, 256 px)": SHARED / "tf_flowers_256",
    }
    found = {name: folder for name, folder in named.items() if folder.is_dir()}
    if found:
        return found
    from datasets.sample import gather

    gather(work / "sample")
    return {"sample (35 pictures)": work / "sample"}
