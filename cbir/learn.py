"""Learning the palette of a collection from photos that are decoded only once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from threading import Thread

import numpy as np

from cbir.color import F64, U8, lab_of_bytes
from cbir.decode import Picture
from cbir.describe import Sample, describe_pictures, sample_files
from cbir.descriptor import Descriptor
from cbir.errors import NoPicturesError, PictureError
from cbir.grid import ColorGrid
from cbir.palette import Algorithm, Palette
from cbir.segment import MAX_REFERENCE

# A palette is learnt from all photos, or from this many drawn evenly by chance: their small pictures stay in memory
# (about 100 KB each) until they can be described, so that no photo is decoded twice.
LEARNING_PHOTOS = 1024
# Pixels of each photo that the palette's error is measured on.
_PROBED_PIXELS = 512
_SEED = 0
_Tick = Callable[[Iterator[Sample | PictureError]], Iterator[Sample | PictureError]]


@dataclass(frozen=True)
class Learnt:
    """A palette, and by their place in the list the descriptions of the photos that it was learnt from.

    `reference` (r, blocks * k) uint8 are some of these descriptors, evenly spread over the photos.
    """

    palette: Palette
    results: dict[int, U8 | PictureError]
    reference: U8

    @property
    def photos(self) -> int:
        """From how many photos the palette was learnt."""
        return sum(not isinstance(result, PictureError) for result in self.results.values())


def learn_from_files(
    paths: list[str], k: int, algorithm: Algorithm, descriptor: Descriptor, jobs: int, tick: _Tick
) -> Learnt:
    """Learn a palette in which every photo counts the same, whatever its size, and describe these photos with it.

    `tick` is put around the stream of photos, for progress. Raises NoPicturesError if none can be read.
    """
    # scikit-learn takes a second to import, in which photos can be decoded.
    Thread(target=import_module, args=("sklearn.cluster",), daemon=True).start()
    grid = ColorGrid()
    pictures: dict[int, Picture] = {}
    results: dict[int, U8 | PictureError] = {}
    rows = _draw(len(paths))
    for row, sample in zip(rows, tick(sample_files([paths[row] for row in rows], jobs)), strict=True):
        if isinstance(sample, PictureError):
            results[row] = sample
        else:
            grid.add(sample.counts)
            pictures[row] = sample.picture
    if not pictures:
        raise NoPicturesError(f"none of the {len(paths)} pictures can be read; {next(iter(results.values()))}")
    palette = Palette.learn(*grid.total().colors(), k, algorithm)
    # The error is that of the photos' own pixels; the grid's cells, which are means, would flatter it.
    probes = [_probe(picture) for picture in pictures.values()]
    palette.measure(lab_of_bytes(np.concatenate([p for p, _ in probes])), np.concatenate([w for _, w in probes]))
    described = list(describe_pictures(list(pictures.values()), palette, descriptor, jobs))
    results.update(zip(pictures, described, strict=True))
    spread = np.linspace(0, len(described) - 1, min(len(described), MAX_REFERENCE)).astype(int)
    return Learnt(palette, results, np.stack([described[row] for row in spread]))


def _probe(picture: Picture) -> tuple[U8, F64]:
    """Some pixels of a picture, evenly spread, and their weights, which sum to one."""
    step = -(-picture.pixels.size // (3 * _PROBED_PIXELS))
    weights = np.ones(picture.pixels.shape[:2]) if picture.alpha is None else picture.alpha.astype(np.float64)
    chosen = weights.reshape(-1)[::step]
    return picture.pixels.reshape(-1, 3)[::step], chosen / (chosen.sum() or 1.0)


def _draw(photos: int) -> list[int]:
    if photos <= LEARNING_PHOTOS:
        return list(range(photos))
    return sorted(np.random.default_rng(_SEED).choice(photos, LEARNING_PHOTOS, replace=False).tolist())
