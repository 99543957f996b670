"""Learning the palette of a collection from photos that are decoded only once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from threading import Thread

import numpy as np

from cbir.color import F32, F64, U8, lab_of_bytes
from cbir.decode import DEFAULT_LIMITS, Limits
from cbir.describe import Described, Sample, describe_samples, sample_files
from cbir.descriptor import Descriptor
from cbir.errors import NoPicturesError, PictureError
from cbir.find import Found
from cbir.grid import CellCounts, ColorGrid
from cbir.palette import Algorithm, Palette
from cbir.pixels import Picture
from cbir.segment import MAX_REFERENCE

# A palette is learnt from all photos, or from this many drawn evenly by chance: their small pictures stay in memory
# (24 KB each) until they can be described, so that no photo is decoded twice. Learnt from so many of 1,500 and of
# 4,000 photos it was at most 1.1 % worse than full k-means over all of them; learnt from 512 it was up to 1.6 % worse.
LEARNING_PHOTOS = 1024
# Pixels of each photo that the palette's error is measured on.
_PROBED_PIXELS = 512
# Pictures whose colours are counted together, which bounds the memory.
_COUNTED_AT_ONCE = 64
_SEED = 0
# As `sample_files`.
Sampler = Callable[[list[str], int, Limits], Generator[Sample | PictureError]]
_Tick = Callable[[Iterator[Sample | PictureError]], Iterator[Sample | PictureError]]


@dataclass(frozen=True)
class Learnt:
    """A palette that was learnt from so many `photos`, and by their place in the list what is known of files by that.

    `reference` (r, blocks * k) uint8 are some of the photos' descriptors, evenly spread over them.
    """

    palette: Palette
    reference: U8
    photos: int
    results: dict[int, Described | PictureError]


def learn_from_files(
    files: list[Found],
    k: int,
    algorithm: Algorithm,
    descriptor: Descriptor,
    jobs: int,
    tick: _Tick,
    limits: Limits = DEFAULT_LIMITS,
    sampler: Sampler = sample_files,
) -> Learnt:
    """Learn a palette in which every photo counts the same, whatever its size, and describe these photos with it.

    `tick` is put around the stream of photos, for progress, and `sampler` decodes them. Raises NoPicturesError if none
    can be read.
    """
    # scikit-learn takes a second to import, in which photos can be decoded.
    Thread(target=import_module, args=("sklearn.cluster",), daemon=True).start()
    samples: dict[int, Sample] = {}
    results: dict[int, Described | PictureError] = {}
    drawn = _draw(files)
    while len(samples) < LEARNING_PHOTOS and (rows := sorted(islice(drawn, LEARNING_PHOTOS - len(samples)))):
        with closing(sampler([files[row].path for row in rows], jobs, limits)) as stream:
            for row, sample in zip(rows, tick(stream), strict=True):
                if isinstance(sample, PictureError):
                    results[row] = sample
                else:
                    samples[row] = sample
    if not samples:
        raise NoPicturesError(f"none of the {len(files)} files there can be read as a picture; {_first(results)}")
    samples = dict(sorted(samples.items()))
    palette = Palette.learn(*_colors([sample.picture for sample in samples.values()]), k, algorithm)
    # The error is that of the photos' own pixels; the grid's cells, which are means, would flatter it.
    probes = [_probe(sample.picture) for sample in samples.values()]
    palette.measure(lab_of_bytes(np.concatenate([p for p, _ in probes])), np.concatenate([w for _, w in probes]))
    described = list(describe_samples(list(samples.values()), palette, descriptor, jobs))
    results.update(zip(samples, described, strict=True))
    spread = np.linspace(0, len(described) - 1, min(len(described), MAX_REFERENCE)).astype(int)
    return Learnt(palette, np.stack([described[i].codes for i in spread]), len(described), results)


def _first(results: dict[int, Described | PictureError]) -> Described | PictureError:
    return results[min(results)]


def _colors(pictures: list[Picture]) -> tuple[F32, F64]:
    """The colours of the pictures and their weights, as `Palette.learn` takes them, every picture weighing the same."""
    grid = ColorGrid()
    for start in range(0, len(pictures), _COUNTED_AT_ONCE):
        part = pictures[start : start + _COUNTED_AT_ONCE]
        grid.add(CellCounts.of_pictures([(picture.pixels, picture.alpha) for picture in part]))
    return grid.total().colors()


def _reference(results: dict[int, Described | PictureError], rows: list[int]) -> U8:
    """The descriptors of some photos, evenly spread over those in `rows`."""
    spread = np.linspace(0, len(rows) - 1, min(len(rows), MAX_REFERENCE)).astype(int)
    chosen = [results[rows[i]] for i in spread]
    return np.stack([one.codes for one in chosen if isinstance(one, Described)])


def _probe(picture: Picture) -> tuple[U8, F64]:
    """Some pixels of a picture, evenly spread, and their weights, which sum to one."""
    step = -(-picture.pixels.size // (3 * _PROBED_PIXELS))
    weights = np.ones(picture.pixels.shape[:2]) if picture.alpha is None else picture.alpha.astype(np.float64)
    chosen = weights.reshape(-1)[::step]
    return picture.pixels.reshape(-1, 3)[::step], chosen / (chosen.sum() or 1.0)


def _draw(files: list[Found]) -> Iterator[int]:
    """The files' numbers by chance, those that are named as pictures first; the others may be anything."""
    chance = np.random.default_rng(_SEED)
    for named in (True, False):
        rows = np.array([row for row, file in enumerate(files) if file.named is named], np.intp)
        yield from chance.permutation(rows).tolist()
