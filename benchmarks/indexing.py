"""Photos a second, beside a bare loop that reads and scale-decodes the same files and does nothing else."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import joblib
from PIL import Image

from benchmarks.measure import photo_sets, table
from cbir.decode import WORKING_PIXELS
from cbir.find import find_pictures
from cbir.indexing import build_index

_BATCH = 16


def run(work: Path) -> None:
    """Print the table."""
    rows = []
    for name, folder in photo_sets(work).items():
        paths = [file.path for file in find_pictures([folder])[0]]
        for jobs in (1, 2):
            bare = min(_bare_loop(paths, jobs) for _ in range(3))
            runs = []
            for _ in range(3):
                shutil.rmtree(work / "index", ignore_errors=True)
                runs.append(build_index(work / "index", [folder], jobs=jobs))
            fresh = min(report.seconds for report in runs)
            again = min(build_index(work / "index", [folder], jobs=jobs).seconds for _ in range(3))
            report = runs[0]
            rows.append(
                (
                    name,
                    str(jobs),
                    f"{len(paths) / bare:,.0f} / s",
                    f"{len(paths) / fresh:,.0f} / s",
                    f"{bare / fresh:.2f}",
                    f"{fresh:.1f} s",
                    f"{again * 1000:.0f} ms",
                    f"{report.bytes / report.photos:.0f}",
                    f"{report.palette.mean_error:.2f} / {report.palette.p95_error:.2f}",
                )
            )
    head = ("photos", "workers", "bare decode", "index", "ratio", "index in all", "again", "bytes a photo")
    table("Indexing (best of 3; in all: with learning the palette)", (*head, "colour error, mean / 95 %"), rows)


def _bare_loop(paths: list[str], jobs: int) -> float:
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    started = time.perf_counter()
    joblib.Parallel(n_jobs=jobs, batch_size=1)(joblib.delayed(_decode)(batch) for batch in batches)
    return time.perf_counter() - started


def _decode(paths: list[str]) -> None:
    for path in paths:
        with Image.open(path) as image:
            area = image.width * image.height
            scale = max(s for s in (8, 4, 2, 1) if s == 1 or area // s**2 >= WORKING_PIXELS)
            image.draft(image.mode, (max(1, image.width // scale), max(1, image.height // scale)))
            image.load()
