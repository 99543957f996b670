"""Describing photos: from files to descriptors, one decode each, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

from cbir.color import F32, U8
from cbir.decode import DEFAULT_LIMITS, Limits, read_working_picture
from cbir.descriptor import DESCRIPTORS, Descriptor
from cbir.errors import PictureError
from cbir.fingerprint import fingerprint
from cbir.palette import Palette
from cbir.parallel import in_any_order, in_order
from cbir.pixels import Picture

_T = TypeVar("_T")


class Described(NamedTuple):
    """What an index keeps of a photo.

    `codes` (blocks * k,) uint8 is its descriptor, `converted` tells whether its colours were converted to sRGB by a
    profile, and `fingerprint` is that of its file.
    """

    codes: U8
    converted: bool
    fingerprint: int


class Sample(NamedTuple):
    """A photo of which a palette is to be learnt: its small picture, kept to be described, and its fingerprint."""

    picture: Picture
    fingerprint: int


def describe_picture(picture: Picture, palette: Palette, descriptor: Descriptor) -> U8:
    """The descriptor of a picture over a palette, (blocks * k,) uint8. Raises ValueError if all is transparent."""
    return descriptor.describe(palette.labels(picture.pixels), len(palette), picture.alpha)


def describe_file(path: str, palette: Palette, descriptor: Descriptor, limits: Limits = DEFAULT_LIMITS) -> U8:
    """The descriptor of a photo over a palette, as an index stores it, (blocks * k,) uint8. Raises PictureError."""
    return describe_picture(_visible(path, limits), palette, descriptor)


def describe_files(
    paths: Sequence[str], palette: Palette, descriptor: Descriptor, jobs: int, limits: Limits = DEFAULT_LIMITS
) -> Generator[tuple[int, Described | PictureError]]:
    """The number of each photo and its description, as they are done; for those that cannot be read, the reason."""
    return in_any_order(_describe, paths, jobs, palette.lab, descriptor.name, limits, lost=PictureError)


def sample_files(paths: Sequence[str], jobs: int, limits: Limits = DEFAULT_LIMITS) -> Generator[Sample | PictureError]:
    """Decode photos to learn a palette from, in the order of the paths; for those that cannot be read, the reason."""
    return in_order(_sample, paths, jobs, limits, lost=PictureError)


def describe_samples(
    samples: Sequence[Sample], palette: Palette, descriptor: Descriptor, jobs: int
) -> Generator[Described]:
    """The descriptions of decoded photos over a palette, in their order."""
    return in_order(_describe_sample, samples, jobs, palette.lab, descriptor.name, lost=_lost_sample)


def process_palette(lab: F32) -> Palette:
    """The palette of this process, kept from photo to photo for the labels that it has already looked up."""
    return _palette_of_bytes(lab.tobytes())


@lru_cache(maxsize=1)
def _palette_of_bytes(lab: bytes) -> Palette:
    return Palette(np.frombuffer(lab, np.float32).reshape(-1, 3))


def _describe(path: str, lab: F32, descriptor: str, limits: Limits) -> Described | PictureError:
    def describe() -> Described:
        picture = _visible(path, limits)
        codes = describe_picture(picture, process_palette(lab), DESCRIPTORS[descriptor])
        return Described(codes, picture.converted, _fingerprint(path))

    return _or_error(describe)


def _sample(path: str, limits: Limits) -> Sample | PictureError:
    return _or_error(lambda: Sample(_visible(path, limits), _fingerprint(path)))


def _describe_sample(sample: Sample, lab: F32, descriptor: str) -> Described:
    picture, mark = sample
    return Described(describe_picture(picture, process_palette(lab), DESCRIPTORS[descriptor]), picture.converted, mark)


def _lost_sample(_: Sample, reason: str, lasting: bool) -> Described:
    raise RuntimeError(f"a worker process ended while it counted colours: {reason}")


def _visible(path: str, limits: Limits) -> Picture:
    picture = read_working_picture(path, limits=limits)
    if picture.alpha is not None and not picture.alpha.any():
        raise PictureError(path, "the picture is wholly transparent")
    return picture


def _fingerprint(path: str) -> int:
    try:
        return fingerprint(path)
    except OSError as error:
        raise PictureError(path, (error.strerror or str(error)).lower(), lasting=False) from error


def _or_error(function: Callable[[], _T]) -> _T | PictureError:
    try:
        return function()
    except PictureError as error:
        return error
