"""Large collections of made-up photos: mixtures of the histograms of real ones, by seeded chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import SHARED, photo_sets
from cbir.color import F32, F64, U8
from cbir.descriptor import Descriptor, codes_of_shares
from cbir.find import absolute
from cbir.index import Index
from cbir.indexing import DEFAULT_ALGORITHM
from cbir.manifest import Manifest, SegmentEntry
from cbir.metric import DEFAULT
from cbir.palette import Palette
from cbir.segment import SEGMENT_PHOTOS, Files, Names, Segment, save_palette
from cbir.space import squared_distances

# Pictures that were made to be hard to read, and films.
_NOT_PHOTOS = ("torture", "video")
_QUERIES = 1000
_SPLIT_SEED = 0
# Nearer than this, two photos are taken to be one picture. Of the pairs of shared photos fewest lie at 0.20 to 0.25:
# below are copies in other formats, turned or scaled; above are some more, photos of one scene, and soon many that are
# merely alike. To keep a few of those together does no harm, so the bound lies above the gap.
_SAME_PICTURE = 0.3
# How evenly the three photos of a mixture share it: mostly one or two of them show, so that mixtures stay far apart.
_CONCENTRATION = (0.5, 0.5, 0.5)
# Mixtures that are made at a time, 30 MB of shares. Another number makes other mixtures.
BLOCK = 1 << 14
_FOLDER_FILES = 1000


@dataclass(frozen=True)
class Real:
    """Real photos by their descriptors over one palette, parted by seeded chance, no picture on both sides.

    `sources` (n, blocks * k) uint8 are what mixtures are made of; `queries` (q, blocks * k) are held out, in random
    order, with their `paths`. `palette` and `reference` (r, blocks * k) are those of the index that described them.
    """

    descriptor: Descriptor
    palette: Palette
    reference: U8
    sources: U8
    queries: U8
    paths: list[str]


def real(work: Path, descriptor: str = "spatial") -> Real:
    """Describe all shared photos, or without them the sample set, by an index in `work`.

    The queries are 1,000 of them, or half where there are fewer than 2,000. A picture of which some copies have become
    queries and the number was full then is left out of the sources, too.
    """
    folder = work / f"real-{descriptor}"
    index = Index.create(folder, _folders(work), descriptor=descriptor)
    palette, reference = Manifest.load(folder).load_palette(folder)
    codes = np.stack([index.codes(row) for row in range(len(index))])
    paths = [index.path(row) for row in range(len(index))]
    sources, queries = _split(_pictures(index.space(DEFAULT).embed(codes), paths))
    return Real(index.descriptor, palette, reference, codes[sources], codes[queries], [paths[row] for row in queries])


def mixtures(sources: U8, descriptor: Descriptor, number: int, seed: int = 0) -> Iterator[U8]:
    """Descriptors of made-up photos, (BLOCK, blocks * k) uint8 at a time; the last block may be shorter.

    Each mixes the shares of three random sources, (n, blocks * k) uint8, by weights of a Dirichlet distribution. The
    same seed makes the same photos, whatever their `number`.
    """
    rng = np.random.default_rng(seed)
    shares = np.asarray(descriptor.shares(sources, np.float32))
    shows = _shows(shares, descriptor)
    for start in range(0, number, BLOCK):
        # Drawn for a whole block even where fewer are wanted, so that the numbers are those of a longer collection.
        parents = rng.integers(len(sources), size=(BLOCK, len(_CONCENTRATION)))[: number - start]
        weights = rng.dirichlet(_CONCENTRATION, BLOCK)[: number - start].astype(np.float32)
        yield _mixed(shares, shows, parents, weights)


def made_index(folder: Path, real: Real, number: int, seed: int = 0) -> Path:
    """Write an index of `number` mixtures, below 100 million, into a new folder, which is returned.

    Their files need not exist: they are said to lie below `folder`/photos, a thousand to a folder. Raises
    FileExistsError if there is something at `folder`.
    """
    folder.mkdir(parents=True)
    entries: list[SegmentEntry] = []
    blocks = mixtures(real.sources, real.descriptor, number, seed)
    while some := list(islice(blocks, SEGMENT_PHOTOS // BLOCK)):
        segment = _segment(np.concatenate(some), len(entries) * SEGMENT_PHOTOS)
        entries.append(SegmentEntry(segment.save(folder), absolute(folder / "photos"), len(segment.photos), 0))
    palette = save_palette(real.palette, real.reference, folder)
    learnt = len(real.sources) + len(real.queries)
    decoder = "nothing: made up"
    Manifest(
        real.descriptor.name, len(real.palette), DEFAULT_ALGORITHM, learnt, palette, decoder, tuple(entries)
    ).commit(folder)
    return folder


def _folders(work: Path) -> list[Path]:
    if SHARED.is_dir():
        return sorted(path for path in SHARED.iterdir() if path.is_dir() and path.name not in _NOT_PHOTOS)
    return list(photo_sets(work).values())


def _pictures(vectors: F64, paths: list[str]) -> NDArray[np.intp]:
    """Which picture each photo is, (n,) numbers below n: one with all that are near it, and near those, and so on.

    Files of one name are one picture, too: sets have the same photos at other sizes, and a dark one is told from its
    smaller copy by as much as 1.1.
    """
    _, names = np.unique([Path(path).name for path in paths], return_inverse=True)
    same = (squared_distances(vectors, vectors) < _SAME_PICTURE**2) | (names[:, None] == names)
    pictures = np.arange(len(paths))
    while (joined := np.where(same, pictures, len(pictures)).min(axis=1)).tolist() != pictures.tolist():
        pictures = joined
    return pictures


def _split(pictures: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows of the sources, and those of the queries."""
    place = np.random.default_rng(_SPLIT_SEED).permutation(len(pictures))
    order = np.argsort(place[pictures], kind="stable")
    queries, rest = np.split(order, [min(_QUERIES, len(order) // 2)])
    return rest[~np.isin(pictures[rest], pictures[queries])], queries


def _shows(shares: F32, descriptor: Descriptor) -> NDArray[np.bool_]:
    """Whether anything of each block's area shows in each photo, (n, blocks): not if it is wholly transparent."""
    lengths = [len(area) for area in descriptor.areas]
    totals = np.add.reduceat(shares.sum(axis=2), np.cumsum([0, *lengths[:-1]]), axis=1)
    return np.repeat(totals > 0, lengths, axis=1)


def _mixed(shares: F32, shows: NDArray[np.bool_], parents: NDArray[np.int64], weights: F32) -> U8:
    parts = weights[:, :, None] * shows[parents]
    # An area that does not show in one photo is made of the others, so that its shares sum to one again.
    total = parts.sum(axis=1, keepdims=True)
    np.divide(parts, total, out=parts, where=total > 0)
    mixed = sum(parts[:, i, :, None] * shares[parents[:, i]] for i in range(parents.shape[1]))
    return codes_of_shares(mixed).reshape(len(parents), -1)


def _segment(codes: U8, first: int) -> Segment:
    """A segment of photos whose names, sizes, times and fingerprints are made of their numbers from `first` on."""
    numbers = np.arange(first, first + len(codes))
    names = Names.pack([b"%05d/%08d.jpg" % (number // _FOLDER_FILES, number) for number in numbers.tolist()])
    files = Files(names, (numbers + 100_000).astype(np.uint64), numbers * 1_000_000_000)
    unconverted = np.zeros(len(codes), np.uint8)
    return Segment(files, codes, (numbers + 1).astype(np.uint64), unconverted, Files.pack([]), [])
