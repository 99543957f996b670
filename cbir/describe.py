"""Describing photos: from files to descriptors, one decode each, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cbir.color import U8
from cbir.decode import Picture, read_working_picture
from cbir.descriptor import DESCRIPTORS, Descriptor
from cbir.errors import PictureError
from cbir.grid import CellCounts
from cbir.palette import Palette
from cbir.parallel import in_order

_T = TypeVar("_T")


@dataclass(frozen=True)
class Sample:
    """A photo of which a palette is to be learnt: its small picture, kept to be described, and its counted colours."""

    picture: Picture
    counts: CellCounts


def describe_picture(picture: Picture, palette: Palette, descriptor: Descriptor) -> U8:
    """The descriptor of a picture over a palette, (blocks * k,) uint8. Raises ValueError if all is transparent."""
    return descriptor.describe(palette.labels(picture.pixels), len(palette), picture.alpha)


def describe_file(path: str, palette: Palette, descriptor: Descriptor) -> U8:
    """The descriptor of a photo over a palette, as an index stores it, (blocks * k,) uint8. Raises PictureError."""
    picture = read_working_picture(path)
    try:
        return describe_picture(picture, palette, descriptor)
    except ValueError as error:
        raise PictureError(path, str(error)) from error


def describe_files(
    paths: list[str], palette: Palette, descriptor: Descriptor, jobs: int
) -> Iterator[U8 | PictureError]:
    """The descriptors of photos over a palette, in the paths' order; for those that cannot be read, the reason."""
    return in_order(_describe_batch, paths, jobs, palette.lab, descriptor.name)


def describe_pictures(pictures: list[Picture], palette: Palette, descriptor: Descriptor, jobs: int) -> Iterator[U8]:
    """The descriptors of decoded pictures over a palette, in their order."""
    return in_order(_describe_pictures, pictures, jobs, palette.lab, descriptor.name)


def sample_files(paths: list[str], jobs: int) -> Iterator[Sample | PictureError]:
    """Decode photos to learn a palette from, in the order of the paths; for those that cannot be read, the reason."""
    return in_order(_sample_batch, paths, jobs)


@lru_cache(maxsize=1)
def process_palette(lab: bytes) -> Palette:
    """The palette of this process, kept from batch to batch for the labels that it has already looked up."""
    return Palette(np.frombuffer(lab, np.float32).reshape(-1, 3))


def _describe_batch(paths: list[str], lab: NDArray[np.float32], descriptor: str) -> list[U8 | PictureError]:
    palette = process_palette(lab.tobytes())
    return [_or_error(describe_file, path, palette, DESCRIPTORS[descriptor]) for path in paths]


def _describe_pictures(pictures: list[Picture], lab: NDArray[np.float32], descriptor: str) -> list[U8]:
    palette = process_palette(lab.tobytes())
    return [describe_picture(picture, palette, DESCRIPTORS[descriptor]) for picture in pictures]


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
