"""How long a command takes to start: whole processes, beside a Python that only imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import photo_sets, seconds, table
from cbir.indexing import build_index


def run(work: Path) -> None:
    """Print the table."""
    photos = next(iter(photo_sets(work).values()))
    build_index(work / "index", [photos])
    known = next(photos.rglob("*.jpg"))
    unknown = work / "query.jpg"
    unknown.write_bytes(known.read_bytes())
    search = [sys.executable, "-m", "cbir", "search", "--index", str(work / "index")]
    commands = {
        "Python alone": [sys.executable, "-c", "pass"],
        "Python importing numpy, OpenCV and typer": [sys.executable, "-c", "import numpy, cv2, typer"],
        "`cbir --help`": [sys.executable, "-m", "cbir", "--help"],
        "`cbir search`, a photo of the index": [*search, str(known)],
        "`cbir search`, another file": [*search, str(unknown)],
        "for comparison: importing scikit-learn's clusters": [sys.executable, "-c", "import sklearn.cluster"],
    }
    rows = []
    for name, command in commands.items():
        took = seconds(lambda command=command: subprocess.run(command, check=True, capture_output=True), runs=9)
        rows.append((name, f"{took * 1000:,.0f} ms"))
    table("Start-up (whole processes, median of 9)", ("what", "wall time"), rows)
