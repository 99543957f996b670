"""Photos a second, beside a bare loop that reads and scale-decodes the same files and does nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.collection import copies, large, medium, small
from benchmarks.measure import seconds, table
from benchmarks.memory import peak_of
from cbir import decode, describe
from cbir.color import lab_of_bytes
from cbir.descriptor import SPATIAL
from cbir.find import find_pictures
from cbir.fingerprint import fingerprint
from cbir.grid import CellCounts
from cbir.index import Index
from cbir.indexing import build_index
from cbir.palette import Palette
from cbir.parallel import in_any_order
from cbir.pixels import WORKING_PIXELS

_CLASSIC_FILES = 3
# Of so many pixels one is compared with the palettes.
_PROBED = 16


def run(work: Path) -> None:
    """Print the tables."""
    collections = {
        "12 megapixels": copies(large(work, 100), work / "many-12", 10),
        "400 pixels": copies(medium(work, 4000), work / "many-400", 10),
    }
    table(
        "Indexing, beside a bare loop over the same files with as many workers (JPEGs; best of 2)",
        (
            "photos",
            "files",
            "workers",
            "bare loop",
            "index, palette learnt too",
            "ratio",
            "index, palette known",
            "ratio",
        ),
        [row for name, folder in collections.items() for row in _rates(name, folder, work)],
    )
    table(
        f"The classic recipe: decode in full, L*a*b*, predict on every pixel ({_CLASSIC_FILES} files, one process)",
        ("photos", "classic", "cbir, one worker", "times faster"),
        [_classic(name, folder, work) for name, folder in collections.items()],
    )
    table(
        "Where the time of a photo goes, in milliseconds (one process, labels looked up before)",
        ("photos", *(_STAGES)),
        [_profile(name, folder, work) for name, folder in collections.items()],
    )
    table(
        "Memory and second runs (JPEGs of 128 x 96, two workers; memory of all processes together, shared pages once)",
        ("files", "index", "peak memory", "again, unchanged", "folder renamed", "bytes a photo"),
        [_growth(small(work, number), work) for number in (1_000, 100_000)],
    )
    table(
        "The palette, 64 colours (mean colour error of the photos' pixels, beside that of k-means over all photos)",
        ("photos", "learnt from", "time", "colour error", "full k-means", "excess"),
        [_palette(number, work) for number in (1_000, 4_000)],
    )


def _rates(name: str, folder: Path, work: Path) -> Iterator[tuple[str, ...]]:
    files = [file.path for file in find_pictures([folder])[0]]
    for jobs in (1, 2):
        bare = min(_timed(lambda: _bare_loop(files, jobs)) for _ in range(2))  # noqa: B023
        both = [_fresh_and_known(folder, work, jobs) for _ in range(2)]
        fresh, known = (min(times) for times in zip(*both, strict=True))
        yield (
            name,
            f"{len(files):,}",
            str(jobs),
            f"{len(files) / bare:,.0f} / s",
            f"{len(files) / fresh:,.0f} / s",
            f"{bare / fresh:.2f}",
            f"{len(files) / known:,.0f} / s",
            f"{bare / known:.2f}",
        )


def _fresh_and_known(folder: Path, work: Path, jobs: int) -> tuple[float, float]:
    """Seconds to index a folder that is new, and to add it to an index that has a palette already."""
    shutil.rmtree(work / "index", ignore_errors=True)
    fresh = build_index(work / "index", [folder], jobs=jobs).seconds
    shutil.rmtree(work / "index")
    build_index(work / "index", [small(work, 1_000)], jobs=jobs)
    return fresh, build_index(work / "index", [folder], jobs=jobs).seconds


def _bare_loop(files: list[str], jobs: int) -> None:
    for _ in in_any_order(decode_only, files, jobs, lost=lambda path, _: print(path)):
        pass


def decode_only(path: str) -> None:
    """Read a JPEG and decode it at the scale that a description needs."""
    _decoded(path)


def _decoded(path: str) -> Image.Image:
    with Image.open(path) as image:
        area = image.width * image.height
        scale = max(s for s in (8, 4, 2, 1) if s == 1 or area // s**2 >= WORKING_PIXELS)
        image.draft(image.mode, (max(1, image.width // scale), max(1, image.height // scale)))
        image.load()
        return image


def _classic(name: str, folder: Path, work: Path) -> tuple[str, ...]:
    from sklearn.cluster import MiniBatchKMeans

    files = [file.path for file in find_pictures([folder])[0]]
    palette = _palette_of(folder, work)
    model = MiniBatchKMeans(len(palette), n_init=1, random_state=0).fit(palette.lab)

    def classic() -> None:
        for path in files[:_CLASSIC_FILES]:
            lab = cv2.cvtColor(cv2.imread(path).astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
            np.bincount(model.predict(lab.reshape(-1, 3)), minlength=len(palette))

    def ours() -> None:
        for path in files[:_CLASSIC_FILES]:
            describe.describe_file(path, palette, SPATIAL)

    theirs, mine = seconds(classic, 3), seconds(ours, 3)
    return name, *(f"{_CLASSIC_FILES / took:,.1f} / s" for took in (theirs, mine)), f"{theirs / mine:,.0f}"


def _palette_of(folder: Path, work: Path) -> Palette:
    shutil.rmtree(work / "index", ignore_errors=True)
    build_index(work / "index", [folder])
    return Index.open(work / "index").palette


_STAGES = ("open and decode", "all of reading", "labels", "counting", "fingerprint", "in all")


def _profile(name: str, folder: Path, work: Path) -> tuple[str, ...]:
    files = [file.path for file in find_pictures([folder])[0]][:: 400 if name == "400 pixels" else 50]
    palette = _palette_of(folder, work)
    pictures = [decode.read_working_picture(path) for path in files]
    labels = [palette.labels(picture.pixels) for picture in pictures]

    def each(work: Callable[[int], object]) -> str:
        return f"{seconds(lambda: [work(i) for i in range(len(files))]) / len(files) * 1000:.3f}"

    return (
        name,
        each(lambda i: _decoded(files[i])),
        each(lambda i: decode.read_working_picture(files[i])),
        each(lambda i: palette.labels(pictures[i].pixels)),
        each(lambda i: SPATIAL.describe(labels[i], len(palette))),
        each(lambda i: fingerprint(files[i])),
        each(lambda i: (describe.describe_file(files[i], palette, SPATIAL), fingerprint(files[i]))),
    )


def _growth(folder: Path, work: Path) -> tuple[str, ...]:
    target = work / "index"
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "cbir", "index", "--index", str(target), "--jobs", "2"]
    started = time.perf_counter()
    peak = peak_of([*command, str(folder)])
    first = time.perf_counter() - started
    again = min(_timed(lambda: subprocess.run([*command, str(folder)], check=True, stdout=-3)) for _ in range(3))
    renamed = folder.with_name("renamed")
    folder.rename(renamed)
    try:
        moved = _timed(lambda: subprocess.run([*command, str(renamed)], check=True, stdout=-3))
    finally:
        renamed.rename(folder)
    index = Index.open(target)
    return (
        f"{len(index):,}",
        f"{first:,.1f} s",
        f"{peak / 2**20:,.0f} MiB",
        f"{again:.2f} s",
        f"{moved:.2f} s",
        f"{index.info().bytes / len(index):.0f}",
    )


def _palette(number: int, work: Path) -> tuple[str, ...]:
    folder = copies(medium(work, 4000), work / f"some-{number}", 1, number)
    shutil.rmtree(work / "index", ignore_errors=True)
    build_index(work / "index", [folder])
    index = Index.open(work / "index")
    pictures = [decode.read_working_picture(file.path) for file in find_pictures([folder])[0]]
    points, weights = CellCounts.of_pictures([(picture.pixels, None) for picture in pictures]).colors()
    probes = lab_of_bytes(np.concatenate([picture.pixels.reshape(-1, 3)[::_PROBED] for picture in pictures]))
    ours, full = Palette(index.palette.lab), Palette.learn(points, weights, len(index.palette), "kmeans")
    for palette in (ours, full):
        palette.measure(probes, np.ones(len(probes)))
    learnt_from = index.info().learnt_photos
    some = CellCounts.of_pictures([(picture.pixels, None) for picture in pictures[:learnt_from]]).colors()
    took = seconds(lambda: Palette.learn(*some, len(ours)), 3)
    return (
        f"{number:,}",
        f"{learnt_from:,}",
        f"{took:.2f} s",
        f"{ours.mean_error:.3f}",
        f"{full.mean_error:.3f}",
        f"{ours.mean_error / full.mean_error - 1:+.1%}",
    )


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
