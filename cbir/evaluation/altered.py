"""Evaluating with altered copies: a photo that was cropped, compressed, warmed or covered asks for its original."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, U8
from cbir.decode import read_picture
from cbir.describe import describe_picture, process_palette
from cbir.descriptor import DESCRIPTORS
from cbir.errors import PictureError
from cbir.evaluation.labelled import Progress, decoded_for_rivals, rows_below, tell_nobody
from cbir.evaluation.layouts import LayoutError
from cbir.evaluation.rankings import Described, others_on_our_histogram, our_rankings, rivals
from cbir.evaluation.rivals import RIVALS
from cbir.evaluation.transforms import TRANSFORMS, Transform, transformed
from cbir.find import Skipped, is_below
from cbir.index import Index
from cbir.metric import DEFAULT, Metric
from cbir.parallel import cores, in_order
from cbir.pixels import Picture, on_white, reduced

# Photos are altered at no more pixels a side than this, so that grain or a caption means the same for all.
LONGEST_SIDE = 512
# Every transform at every strength.
CASES: tuple[tuple[Transform, float], ...] = tuple((one, strength) for one in TRANSFORMS for strength in one.strengths)


@dataclass(frozen=True)
class AlteredEvaluation:
    """What came out: `ranks` by the rankings' names, ours first, each (photos, len(CASES)) int from 1: at what rank
    among all `photos` an altered copy finds its original. `left_out` took no part, and why."""

    photos: list[str]
    left_out: list[Skipped]
    ranks: dict[str, NDArray[np.intp]]
    seconds: float


def evaluate_altered(
    index: Index,
    folder: str | os.PathLike[str],
    skipped: Sequence[Skipped] = (),
    *,
    metric: Metric = DEFAULT,
    against_rivals: bool = True,
    seed: int = 0,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> AlteredEvaluation:
    """Search among the photos of an index below `folder` with altered copies of each of them.

    `seed` makes other copies; the same one gives the same. `skipped` are files that did not get into the index.
    Raises LayoutError if there are fewer than two photos.
    """
    started = time.perf_counter()
    top, workers = os.path.abspath(folder), jobs or cores()
    rows = rows_below(index, top)
    photos, by_rivals, gone = decoded_for_rivals(list(rows), workers, progress or tell_nobody)
    if len(photos) < 2:
        raise LayoutError(f"{top}: fewer than two photos that can be read, so there is nothing to tell apart")
    known = Described(np.stack([index.codes(rows[path]) for path in photos]), by_rivals)
    rankings = list(our_rankings(index, metric))
    if against_rivals:
        rankings += [*others_on_our_histogram(index), *rivals()]
    vectors = [ranking.vectors(known) for ranking in rankings]
    ranks = np.empty((len(rankings), len(photos), len(CASES)), np.intp)
    copies = _describe_copies(index, top, photos, seed, workers, against_rivals)
    for row, copy in enumerate(copies):
        for i, ranking in enumerate(rankings):
            ranks[i, row] = ranking.ranks(ranking.vectors(copy), vectors[i], row)
        if progress:
            progress("photos altered", row + 1, len(photos))
    return AlteredEvaluation(
        photos=photos,
        left_out=[*(one for one in skipped if is_below(one.path, top)), *gone],
        ranks={ranking.name: ranks[i] for i, ranking in enumerate(rankings)},
        seconds=time.perf_counter() - started,
    )


def altered(path: str | os.PathLike[str], seed: int) -> Iterator[U8]:
    """The altered copies of a photo file in the order of `CASES`, (height, width, 3) uint8. Raises PictureError.

    Transparency is taken to lie on white paper.
    """
    pixels = on_white(read_picture(path))
    longest = max(pixels.shape[:2])
    if longest > LONGEST_SIDE:
        pixels = _scaled(pixels, LONGEST_SIDE / longest)
    for transform, strength in CASES:
        yield transformed(pixels, transform, strength, seed)


def seed_of(name: str, seed: int) -> int:
    """The seed of a photo's copies, by its path below the collection's folder, so that it depends on no other photo."""
    return int.from_bytes(hashlib.sha256(f"{seed} ".encode() + os.fsencode(name)).digest()[:8])


def _describe_copies(
    index: Index, top: str, photos: list[str], seed: int, jobs: int, against_rivals: bool
) -> Iterator[Described]:
    tasks = [(path, seed_of(os.path.relpath(path, top), seed)) for path in photos]
    lab, descriptor = index.palette.lab, index.descriptor.name
    return in_order(_describe, tasks, jobs, lab, descriptor, against_rivals, lost=_lost)


def _lost(task: tuple[str, int], reason: str, lasting: bool) -> Described:
    raise PictureError(task[0], reason, lasting)


def _describe(task: tuple[str, int], lab: F32, descriptor: str, against_rivals: bool) -> Described:
    path, seed = task
    palette = process_palette(lab)
    codes, by_rivals = [], []
    for pixels in altered(path, seed):
        codes.append(describe_picture(Picture(reduced(pixels)), palette, DESCRIPTORS[descriptor]))
        if against_rivals:
            by_rivals.append([rival.describe(pixels) for rival in RIVALS])
    return Described(np.stack(codes), tuple(np.stack(one) for one in zip(*by_rivals, strict=True)))


def _scaled(pixels: U8, factor: float) -> U8:
    import cv2

    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
