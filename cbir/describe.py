"""Describing photos: from files to amounts, one decode each, on all cores."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import joblib
import numpy as np
from numpy.typing import NDArray

from cbir.decode import Picture, read_working_picture
from cbir.errors import PictureError
from cbir.grid import CellCounts
from cbir.histogram import count_labels, to_units
from cbir.palette import Palette

U16 = NDArray[np.uint16]
# Photos that go to a worker at a time: enough that handing them over costs nothing beside decoding them, few enough
# that a small collection keeps all cores busy. Fixed, so that nothing depends on the number of workers.
_BATCH = 16
# Starting worker processes takes about a second, in which one process has described this many photos.
_WORTH_WORKERS = 128
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Sample:
    """A photo of which a palette is to be learnt: its small picture, kept to be described, and its counted colours."""

    picture: Picture
    counts: CellCounts


def amounts_of_picture(picture: Picture, palette: Palette) -> U16:
    """The histogram of a picture over a palette in units of 1/65535, (k,) uint16. ValueError if all is transparent."""
    return to_units(count_labels(palette.labels(picture.pixels), len(palette), picture.alpha))


def amounts_of_file(path: str, palette: Palette) -> U16:
    """The histogram of a photo over a palette, as an index stores it, (k,) uint16. Raises PictureError."""
    picture = read_working_picture(path)
    try:
        return amounts_of_picture(picture, palette)
    except ValueError as error:
        raise PictureError(path, str(error)) from error


def describe_files(paths: list[str], palette: Palette, jobs: int) -> Iterator[U16 | PictureError]:
    """The histograms of photos over a palette, in the order of the paths; for those that cannot be read, the reason."""
    return _in_order(_describe_batch, paths, jobs, palette.lab)


def describe_pictures(pictures: list[Picture], palette: Palette, jobs: int) -> Iterator[U16]:
    """The histograms of decoded pictures over a palette, in their order."""
    return _in_order(_describe_pictures, pictures, jobs, palette.lab)


def sample_files(paths: list[str], jobs: int) -> Iterator[Sample | PictureError]:
    """Decode photos to learn a palette from, in the order of the paths; for those that cannot be read, the reason."""
    return _in_order(_sample_batch, paths, jobs)


def _in_order(work: Callable[..., list[_R]], items: list[_T], jobs: int, *arguments: object) -> Iterator[_R]:
    """Run `work` over batches of items on worker processes; results in order, looking ahead by a few batches only."""
    batches = (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
    jobs = jobs if len(items) >= _WORTH_WORKERS else 1
    parallel = joblib.Parallel(
        n_jobs=jobs, return_as="generator", pre_dispatch="3*n_jobs", batch_size=1, max_nbytes=None
    )
    with _workers_without_ctrl_c():
        results = parallel(joblib.delayed(work)(batch, *arguments) for batch in batches)
    try:
        for batch_results in results:
            yield from batch_results
    finally:
        with warnings.catch_warnings():
            # When a run is given up, joblib warns of the batches that were on their way.
            warnings.simplefilter("ignore")
            results.close()


@contextmanager
def _workers_without_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C while worker processes start, which inherit that: it reaches them too, but is for this process to
    heed, and workers that die of it cover the terminal with tracebacks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@lru_cache(maxsize=1)
def _palette(lab: bytes) -> Palette:
    """The palette of this process, kept from batch to batch for the labels that it has already looked up."""
    return Palette(np.frombuffer(lab, np.float32).reshape(-1, 3))


def _describe_batch(paths: list[str], lab: NDArray[np.float32]) -> list[U16 | PictureError]:
    palette = _palette(lab.tobytes())
    return [_or_error(amounts_of_file, path, palette) for path in paths]


def _describe_pictures(pictures: list[Picture], lab: NDArray[np.float32]) -> list[U16]:
    palette = _palette(lab.tobytes())
    return [amounts_of_picture(picture, palette) for picture in pictures]


def _sample_batch(paths: list[str]) -> list[Sample | PictureError]:
    return [_or_error(_sample, path) for path in paths]


def _sample(path: str) -> Sample:
    picture = read_working_picture(path)
    counts = CellCounts.of_pixels(picture.pixels, picture.alpha)
    if not len(counts.cells):
        raise PictureError(path, "the picture is wholly transparent")
    return Sample(picture, counts)


def _or_error(function: Callable[..., _T], *arguments: object) -> _T | PictureError:
    try:
        return function(*arguments)
    except PictureError as error:
        return error
