"""How searching grows with the collection: from a thousand to ten million made-up photos, each in a fresh process.

`BENCHMARK_PICTURES` names a folder into which `growth.png`, a picture of the tables, is drawn.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.curves import draw
from benchmarks.measure import milliseconds, near_and_far, seconds, table
from benchmarks.memory import peak_beyond_files
from benchmarks.mixtures import Real, made_index, real
from cbir.index import Index
from cbir.segment import is_axes_file

_SIZES = {
    "spatial": (1_000, 10_000, 100_000, 1_000_000),
    "global": (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
}
_QUERIES = 300
_LIMIT = 10
# Searches during which the memory is looked at.
_WATCHED = 50
# With what a command starts that does nothing.
_IMPORTS = "import numpy, cv2, typer"
_PICTURES = "BENCHMARK_PICTURES"


class Size(NamedTuple):
    """What was measured at one size, in seconds and in bytes.

    `near` and `far` are medians of warm searches for the near and the far third of the queries; `build_memory` and
    `memory` are the most that the process had beyond mapped files, while axes were made and while it searched.
    """

    photos: int
    build: float
    build_memory: int
    open: float
    first: float
    near: float
    far: float
    memory: int
    index_bytes: int
    axes_bytes: int
    command: float
    imports: float


def run(work: Path) -> None:
    """Print the table, and draw the picture if it is wanted."""
    sizes = {descriptor: _all_sizes(work, descriptor) for descriptor in _SIZES}
    rows = [_row(descriptor, size) for descriptor, some in sizes.items() for size in some]
    table(
        f"Growth, the time (fresh processes, files in the cache; top {_LIMIT}; medians of warm searches and of "
        "commands)",
        (
            *("descriptor", "photos", "make axes", "open", "first search", "warm search, near", "far"),
            *("`cbir search` in all", "imports alone"),
        ),
        [times for times, _ in rows],
    )
    table(
        "Growth, the space (memory beyond mapped files, the most there was)",
        ("descriptor", "photos", "to make axes", "to search", "index, a photo", "axes, a photo"),
        [space for _, space in rows],
    )
    if folder := os.environ.get(_PICTURES):
        draw(sizes, Path(folder) / "growth.png")


def _all_sizes(work: Path, descriptor: str) -> list[Size]:
    photos = real(work, descriptor)
    np.save(work / "queries.npy", photos.queries[:_QUERIES])
    return [_size(work, photos, number) for number in _SIZES[descriptor]]


def _size(work: Path, photos: Real, number: int) -> Size:
    folder = made_index(work / "made", photos, number)
    try:
        made = _in_fresh_process("prepare", folder)
        searched = _in_fresh_process("search", folder, work / "queries.npy")
        command = [sys.executable, "-m", "cbir", "search", "--index", str(folder), photos.paths[0]]
        commands = {"command": command, "imports": [sys.executable, "-c", _IMPORTS]}
        took = {
            name: seconds(lambda words=words: subprocess.run(words, check=True, stdout=subprocess.DEVNULL))
            for name, words in commands.items()
        }
        bytes_of = {path.name: path.stat().st_size for path in folder.iterdir()}
        axes = sum(size for name, size in bytes_of.items() if is_axes_file(name))
        return Size(number, index_bytes=sum(bytes_of.values()) - axes, axes_bytes=axes, **made, **searched, **took)
    finally:
        shutil.rmtree(folder)


def _in_fresh_process(name: str, *paths: Path) -> dict[str, Any]:
    """What one of the functions below returns."""
    command = [sys.executable, "-m", "benchmarks.growth", name, *map(str, paths)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def prepare(folder: Path) -> dict[str, float]:
    """Make the axes of an index: the seconds, and the memory."""
    index = Index.open(folder)
    started = time.perf_counter()
    memory = peak_beyond_files(index.prepare)
    return {"build": time.perf_counter() - started, "build_memory": memory}


def search(folder: Path, queries: Path) -> dict[str, float]:
    """Open an index and search it by descriptors (q, width) in a NumPy file: the seconds, and the memory."""
    codes = np.load(queries)
    started = time.perf_counter()
    index = Index.open(folder)
    opened = time.perf_counter()
    index.nearest(codes[0], _LIMIT)
    first = time.perf_counter()
    tenth = np.array([index.nearest(one, _LIMIT).distances[-1] for one in codes])
    times = milliseconds(lambda one: index.nearest(one, _LIMIT), codes) / 1000
    warm = {name: float(np.median(times[rows])) for name, rows in near_and_far(tenth).items()}
    memory = peak_beyond_files(lambda: [index.nearest(one, _LIMIT) for one in codes[:_WATCHED]])
    return {"open": opened - started, "first": first - opened, **warm, "memory": memory}


def _row(descriptor: str, size: Size) -> tuple[list[str], list[str]]:
    """The rows of the two tables."""
    photos = [descriptor, f"{size.photos:,}"]
    times = [size.open, size.first, size.near, size.far, size.command, size.imports]
    made = f"{size.build:.1f} s" if size.axes_bytes else "none"
    memory = [f"{size_in_bytes / 2**20:,.0f} MiB" for size_in_bytes in (size.build_memory, size.memory)]
    kept = [f"{size_in_bytes / size.photos:,.0f} bytes" for size_in_bytes in (size.index_bytes, size.axes_bytes)]
    return [*photos, made, *(f"{value * 1000:,.1f} ms" for value in times)], [*photos, *memory, *kept]


if __name__ == "__main__":
    print(json.dumps({"prepare": prepare, "search": search}[sys.argv[1]](*map(Path, sys.argv[2:]))))
