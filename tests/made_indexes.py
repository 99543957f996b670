"""Indexes of made-up descriptors, put into place as a writer does; and what comparing with every photo finds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from random_codes import Codes, random_codes, random_palette, random_photo

from cbir import axes, axes_file, prepare, search, view
from cbir.descriptor import SPATIAL
from cbir.index import Hit, Index
from cbir.manifest import Manifest, SegmentEntry
from cbir.metric import DEFAULT, Metric
from cbir.palette import Palette
from cbir.segment import Files, Names, Segment, save_palette
from cbir.writer import remove_unlisted

K = 6
WIDTH = K * len(SPATIAL.blocks)
# A folder, and the segment of the photos below it.
Placed = tuple[str, Segment]


@contextmanager
def in_small(fewest: int = 40, most: int = prepare.MOST) -> Iterator[None]:
    """Leaves so small, and bounds so low, that a collection of some hundred photos is searched as a large one is."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (axes, axes_file, search, view):
            patch.setattr(module, "LEAF", 8)
        patch.setattr(view, "_LEAF_BITS", 3)
        patch.setattr(search, "_PROBED", 1)
        patch.setattr(search, "_FEW", 10)
        patch.setattr(axes, "_FEWEST_HALVED", 16)
        patch.setattr(axes, "_BLOCK", 16)
        patch.setattr(prepare, "FEWEST", fewest)
        patch.setattr(prepare, "MOST", most)
        # None of these indexes is to outlive a power cut.
        patch.setattr(os, "fsync", lambda _: None)
        yield


def photos(number: int, seed: int) -> Codes:
    """The descriptors of random photos, a third of them copies of others."""
    rng = np.random.default_rng(seed)
    rows = [random_photo(K, SPATIAL, rng) for _ in range(number)]
    for i in rng.integers(0, max(number, 1), number // 3):
        rows[i] = rows[rng.integers(number)]
    return np.array(rows, np.uint8).reshape(number, WIDTH)


def segment_of(codes: Codes, names: Sequence[bytes] | Callable[[int], bytes] = lambda i: b"%04d.jpg" % i) -> Segment:
    """A segment of photos of these names, which ascend; nobody has fingerprinted their files."""
    given = [names(i) for i in range(len(codes))] if callable(names) else names
    numbers = np.arange(len(codes))
    files = Files(Names.pack(given), (numbers + 1000).astype(np.uint64), numbers * 1_000_000_000)
    unconverted = np.zeros(len(codes), np.uint8)
    return Segment(files, codes, np.zeros(len(codes), np.uint64), unconverted, Files.pack([]), [])


def put(folder: Path, segments: Sequence[Placed], palette_seed: int = 0) -> Index:
    """Make these segments the state of an index, as a writer does, and open it."""
    rng = np.random.default_rng(palette_seed)
    palette, reference = Palette(random_palette(K, rng), 1.0, 2.0), random_codes(16, K, SPATIAL, rng)
    folder.mkdir(exist_ok=True)
    entries = [SegmentEntry(segment.save(folder), root, len(segment.photos), 0) for root, segment in segments]
    file = save_palette(palette, reference, folder)
    Manifest(SPATIAL.name, K, "median-cut", 16, file, "nothing: made up", tuple(entries)).commit(folder)
    remove_unlisted(folder)
    return Index.open(folder)


def placed(number: int, seed: int, root: str | None = None) -> Placed:
    """A segment of random photos below a folder that is called after the seed, unless told."""
    return root or f"/photos/{seed}", segment_of(photos(number, seed))


def compared_with_each(index: Index, query: Codes, metric: Metric = DEFAULT) -> list[tuple[str, float]]:
    """Every photo's path and distance, in the order in which a search tells them."""
    space = index.space(metric)
    asked = space.prepare(query)
    distances = [space.prepared_distance(space.prepare(index.codes(row)), asked) for row in range(len(index))]
    told = [(index.path(row), distance) for row, distance in enumerate(distances)]
    return sorted(told, key=lambda one: (one[1], os.fsencode(one[0])))


def told(hits: Sequence[Hit]) -> list[tuple[str, float]]:
    """What hits say, without their amounts."""
    return [(hit.path, hit.distance) for hit in hits]
