"""Learning the palette of a collection from photos that are decoded only once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from threading import Thread

import numpy as np

from cbir.color import F32, F64, U8, lab_of_bytes
from cbir.decode import DEFAULT_LIMITS, Limits
from cbir.describe import Described, Sample, describe_samples, sample_files
from cbir.descriptor import Descriptor
from cbir.errors import NoPicturesError, PictureError
from cbir.grid import CellCounts, ColorGrid
from cbir.palette import Algorithm, Palette
from cbir.pixels import Picture
from cbir.segment import MAX_REFERENCE

# A palette is learnt from all photos, or from this many drawn evenly by chance: their small pictures stay in memory
# (24 KB each) until they can be described, so that no photo is decoded twice. Of 1,500 photos it was at most 1 % worse
# than full k-means over all of them; a palette of 512 was up to 2 % worse.
LEARNING_PHOTOS = 1024
# Pixels of each photo that the palette's error is measured on.
_PROBED_PIXELS = 512
# Pictures whose colours are counted together, which bounds the memory.
_COUNTED_AT_ONCE = 64
_SEED = 0
_Tick = Callable[[Iterator[Sample | PictureError]], Iterator[Sample | PictureError]]


@dataclass(frozen=True)
class Learnt:
    """A palette, and by their place in the list the descriptions of the photos that it was learnt from.

    `reference` (r, blocks * k) uint8 are some of these descriptors, evenly spread over the photos.
    """

    palette: Palette
    results: dict[int, Described | PictureError]
    reference: U8

    @property
    def photos(self) -> int:
        """From how many photos the palette was learnt."""
        return sum(not isinstance(result, PictureError) for result in self.results.values())


def learn_from_files(
    paths: list[str],
    k: int,
    algorithm: Algorithm,
    descriptor: Descriptor,
    jobs: int,
    tick: _Tick,
    limits: Limits = DEFAULT_LIMITS,
) -> Learnt:
    """Learn a palette in which every photo counts the same, whatever its size, and describe these photos with it.

    `tick` is put around the stream of photos, for progress. Raises NoPicturesError if none can be read.
    """
    # scikit-learn takes a second to import, in which photos can be decoded.
    Thread(target=import_module, args=("sklearn.cluster",), daemon=True).start()
    samples: dict[int, Sample] = {}
    results: dict[int, Described | PictureError] = {}
    rows = _draw(len(paths))
    with closing(sample_files([paths[row] for row in rows], jobs, limits)) as stream:
        for row, sample in zip(rows, tick(stream), strict=True):
            if isinstance(sample, PictureError):
                results[row] = sample
            else:
                samples[row] = sample
    if not samples:
        raise NoPicturesError(f"none of the {len(paths)} pictures can be read; {next(iter(results.values()))}")
    palette = Palette.learn(*_colors([sample.picture for sample in samples.values()]), k, algorithm)
    # The error is that of the photos' own pixels; the grid's cells, which are means, would flatter it.
    probes = [_probe(sample.picture) for sample in samples.values()]
    palette.measure(lab_of_bytes(np.concatenate([p for p, _ in probes])), np.concatenate([w for _, w in probes]))
    results.update(zip(samples, describe_samples(list(samples.values()), palette, descriptor, jobs), strict=True))
    return Learnt(palette, results, _reference(results, list(samples)))


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


def _draw(photos: int) -> list[int]:
    if photos <= LEARNING_PHOTOS:
        return list(range(photos))
    return sorted(np.random.default_rng(_SEED).choice(photos, LEARNING_PHOTOS, replace=False).tolist())
