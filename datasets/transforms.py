"""A benchmark to pass on, made of photos that one has: `python -m datasets.transforms PHOTOS FOLDER [--seed N]`.

FOLDER gets the `originals`, byte for byte, the `copies`, each an original altered in a known way, as PNG, and
`truth.tsv`, which tells of every copy what it was made of and how. The same photos and seed give the same pictures, and
they are those that `cbir evaluate --transforms PHOTOS` asks with.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cbir.errors import CbirError, PictureError
from cbir.evaluation.altered import CASES, altered, seed_of
from cbir.find import find_pictures
from cbir.output import save_pixels

_HEAD = ("copy", "original", "transform", "strength")


def make(photos: Path, folder: Path, seed: int = 0) -> Iterator[tuple[str, str, str, str]]:
    """Make the benchmark in an empty folder, and yield the rows of its truth as the pictures are written.

    A photo that cannot be read is told of on standard error and left out. Raises OSError or CbirError.
    """
    top = os.path.abspath(photos)
    found, skipped = find_pictures([top])
    for one in skipped:
        _tell(f"left out {one.path}: {one.reason}")
    for file in (one for one in found if one.named):
        name = os.path.relpath(file.path, top)
        try:
            yield from _copies(file.path, name, folder, seed)
        except PictureError as error:
            _tell(f"left out {error}")
            continue
        original = folder / "originals" / name
        original.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, original)


def _copies(path: str, name: str, folder: Path, seed: int) -> Iterator[tuple[str, str, str, str]]:
    for number, (pixels, (transform, strength)) in enumerate(
        zip(altered(path, seed_of(name, seed)), CASES, strict=True), start=1
    ):
        # The number alone, so that the name of a copy gives nothing away of how it was made.
        copy = folder / "copies" / f"{name}.{number:02}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        save_pixels(copy, pixels)
        original = os.path.join("originals", name)
        yield os.path.relpath(copy, folder), original, transform.name, transform.label(strength)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="python -m datasets.transforms", description=__doc__)
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    try:
        if not options.photos.is_dir():
            _tell(f"{options.photos}: not a folder of photos")
            return 1
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            _tell(f"{folder}: exists and is not an empty folder; name another")
            return 1
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "truth.tsv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.writer(file, dialect="excel-tab", lineterminator="\n")
            rows.writerow(_HEAD)
            count = 0
            for row in make(options.photos, folder, options.seed):
                rows.writerow(row)
                count += 1
    except (OSError, CbirError) as error:
        _tell(f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error))
        return 1
    print(f"{folder}: {count:,} copies of {count // len(CASES):,} photos")
    return 0 if count else 1


def _tell(message: str) -> None:
    print(
        message.encode("unicode_escape", "surrogatepass").decode() if not message.isprintable() else message,
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
