"""The classic trade-off: the number of colours against error, time, memory and file size, on three photos.

`BENCHMARK_PICTURES` names a folder into which `tradeoff.png`, a picture of the table, is drawn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measure import SHARED, seconds, table
from benchmarks.memory import peak_beyond_files
from benchmarks.rivals import by_sklearn, eye_error
from cbir.color import U8
from cbir.decode import read_picture
from cbir.output import save_indexed
from cbir.pixels import Picture
from cbir.quantize import quantize

COLORS = (2, 4, 8, 16, 32, 64, 128, 256)
# The classic recipe takes ever longer with more.
_MOST_CLASSIC = 16
# In the public domain or CC0. No photo of a match is among the shared ones; racing cyclists stand for it.
_PHOTOS = {
    "cyclists, for a match": SHARED / "cq100" / "Vehicles" / "sports_bicycles.png",
    "landscape": SHARED / "gb82" / "sunset-lossless.png",
    "face": SHARED / "cq100" / "People" / "girl.png",
}
_PICTURES = "BENCHMARK_PICTURES"


class Point(NamedTuple):
    """What k colours cost: mean CIEDE2000, root mean squared error of the sRGB levels, seconds, bytes.

    `memory` is the most that the process had beyond mapped files, less what it had before; `file` a palette PNG's size.
    """

    k: int
    eye: float
    rgb: float
    time: float
    memory: int
    file: int


class Classic(NamedTuple):
    """The same of the classic recipe."""

    k: int
    eye: float
    rgb: float
    time: float


class Photo(NamedTuple):
    """A photo's pixels, the size of its own file, and what was measured with it."""

    pixels: U8
    bytes: int
    points: list[Point]
    classic: list[Classic]


def run(work: Path) -> None:
    """Print the table, and draw the picture if it is wanted."""
    there = {name: path for name, path in _PHOTOS.items() if path.is_file()}
    if not there:
        print(f"no photos: {', '.join(map(str, _PHOTOS.values()))}")
        return
    photos = {name: _measured(path, work) for name, path in there.items()}
    table(
        "The trade-off: palette and labels (median of 5), memory in a fresh process; the classic recipe (median of 3)",
        (
            *("photo", "colours", "mean CIEDE2000", "classic", "RGB error", "classic", "seconds", "classic"),
            *("memory", "palette PNG", "of the original"),
        ),
        [row for name, photo in photos.items() for row in _rows(name, photo)],
    )
    if folder := os.environ.get(_PICTURES):
        from benchmarks.tradeoff_curves import draw

        draw(photos, Path(folder) / "tradeoff.png")


def _measured(path: Path, work: Path) -> Photo:
    pixels = read_picture(path).pixels
    points = [_point(path, pixels, k, work / "palette.png") for k in COLORS]
    classic = [_classic(pixels, k) for k in COLORS if k <= _MOST_CLASSIC]
    return Photo(pixels, path.stat().st_size, points, classic)


def _point(path: Path, pixels: U8, k: int, target: Path) -> Point:
    drawn = quantize(Picture(pixels), k)
    save_indexed(target, drawn.colors, drawn.labels, None, True)
    command = [sys.executable, "-m", "benchmarks.tradeoff", str(path), str(k)]
    memory = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    took = seconds(lambda: quantize(Picture(pixels), k))
    errors = eye_error(pixels, drawn.pixels), _rgb_error(pixels, drawn.pixels)
    return Point(k, *errors, took, memory, target.stat().st_size)


def _classic(pixels: U8, k: int) -> Classic:
    drawn = by_sklearn(pixels, k)
    took = seconds(lambda: by_sklearn(pixels, k), 3)
    return Classic(k, eye_error(pixels, drawn), _rgb_error(pixels, drawn), took)


def _rgb_error(pixels: U8, redrawn: U8) -> float:
    return float(np.sqrt(np.mean((pixels.astype(np.float64) - redrawn) ** 2)))


def memory_of(path: Path, k: int) -> int:
    """The bytes that quantizing takes at the most in this process, beyond those that it had with the picture."""
    picture = read_picture(path)
    before = peak_beyond_files(lambda: None)
    return peak_beyond_files(lambda: quantize(picture, k)) - before


def _rows(name: str, photo: Photo) -> list[tuple[str, ...]]:
    classic = {one.k: one for one in photo.classic}
    rows = []
    for point in photo.points:
        other = classic.get(point.k)
        pairs = [("eye", ".2f"), ("rgb", ".1f"), ("time", ".3f")]
        cells = [f"{getattr(one, what):{form}}" if one else "" for what, form in pairs for one in (point, other)]
        size = f"{point.file / 1024:.0f} KiB", f"{100 * point.file / photo.bytes:.0f} %"
        rows.append((name, str(point.k), *cells, f"{point.memory / 2**20:.0f} MiB", *size))
    return rows


if __name__ == "__main__":
    print(json.dumps(memory_of(Path(sys.argv[1]), int(sys.argv[2]))))
