"""Large collections made of a few real photos, by seeded chance: parts of them, turned, scaled and put together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import photo_sets
from cbir.find import find_pictures

_SEED = 7
_FOLDER_FILES = 1000


def large(work: Path, number: int) -> Path:
    """JPEGs of 12 megapixels (4000 x 3000, quality 90), each made of sixteen real photos side by side."""

    def draw(sources: list[Image.Image], rng: np.random.Generator) -> Image.Image:
        picture = Image.new("RGB", (4000, 3000))
        for place in range(16):
            picture.paste(_part(sources, rng, (1000, 750)), (place % 4 * 1000, place // 4 * 750))
        return picture

    return _made(work / f"large-{number}", number, 90, draw)


def medium(work: Path, number: int) -> Path:
    """JPEGs of 400 x 300 pixels (quality 88), each a part of a real photo."""
    return _made(work / f"medium-{number}", number, 88, lambda sources, rng: _part(sources, rng, (400, 300)))


def small(work: Path, number: int) -> Path:
    """JPEGs of 128 x 96 pixels (quality 80), each a part of a real photo, a thousand to a folder."""
    return _made(work / f"small-{number}", number, 80, lambda sources, rng: _part(sources, rng, (128, 96)))


def copies(folder: Path, target: Path, times: int, most: int | None = None) -> Path:
    """The files of a folder (the first `most` of them) under several names each, in `target`."""
    files = [file.path for file in find_pictures([folder])[0]][:most]
    if not target.exists():
        for time in range(times):
            place = target / f"{time:03}"
            place.mkdir(parents=True)
            for number, path in enumerate(files):
                os.link(path, place / f"{number:05}.jpg")
    return target


def _made(
    folder: Path, number: int, quality: int, draw: Callable[[list[Image.Image], np.random.Generator], Image.Image]
) -> Path:
    if folder.exists():
        return folder
    sources = _sources(folder.parent)
    rng = np.random.default_rng(_SEED)
    unfinished = folder.with_name(folder.name + "-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for i in range(number):
        place = unfinished / f"{i // _FOLDER_FILES:03}"
        place.mkdir(parents=True, exist_ok=True)
        draw(sources, rng).save(place / f"{i % _FOLDER_FILES:04}.jpg", quality=quality)
    return unfinished.rename(folder)


def _sources(work: Path) -> list[Image.Image]:
    """The photos of which collections are made, at most a few hundred, evenly taken."""
    paths = [file.path for folder in photo_sets(work).values() for file in find_pictures([folder])[0]]
    return [Image.open(path).convert("RGB") for path in paths[:: max(1, len(paths) // 400)]]


def _part(sources: list[Image.Image], rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A part of a photo, at least half as wide and high, of a given size, mirrored or not."""
    photo = sources[rng.integers(len(sources))]
    share = rng.uniform(0.5, 1)
    width, height = photo.width * share, photo.height * share
    left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    part = photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part
