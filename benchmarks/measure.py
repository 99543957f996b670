"""What all benchmarks share: timing, tables, the photos, and what it was measured with."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared" / "data"
_PACKAGES = ("numpy", "opencv-python-headless", "Pillow", "scikit-learn", "scipy", "joblib", "typer")


def seconds(work: Callable[[], object], runs: int = 5) -> float:
    """The median wall time of `work` over some runs, after one that does not count."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    print(f"| {' | '.join(head)} |")
    print(f"|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def settings() -> str:
    """The versions and the machine, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"Python {platform.python_version()}, {versions}; {cores} cores, {platform.machine()}, {platform.system()}."


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
