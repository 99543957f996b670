"""Evaluating on a labelled set: every photo asks for the others of its class."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32
from cbir.errors import PictureError
from cbir.evaluation.figures import Figures, measure
from cbir.evaluation.layouts import LabelledSet, LayoutError, label_photos
from cbir.evaluation.rankings import (
    Described,
    Ranking,
    describe_by_rivals,
    others_on_our_histogram,
    our_rankings,
    rivals,
    with_second_pass,
)
from cbir.find import Skipped, is_below
from cbir.index import Index
from cbir.metric import DEFAULT, Metric
from cbir.parallel import cores

# Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What came out: the first of `figures` is ours, the others are compared with it.

    `photos` are in the figures, `labels` (n,) number their classes in the order of `classes`, and `queries` (q,) are
    the rows that were searched with. What is not in the figures is told by `left_out`, files with reasons;
    `singletons`, classes of one photo, which has nothing to find; `empty`, folders of classes of which no photo can be
    read. `unasked` are classes in the figures that no query is of (as in holidays, if its query is missing).
    """

    layout: str
    photos: list[str]
    classes: list[str]
    labels: NDArray[np.intp]
    queries: NDArray[np.intp]
    left_out: list[Skipped]
    singletons: list[str]
    empty: list[str]
    unasked: list[str]
    figures: list[Figures]
    seconds: float


def evaluate_labelled(
    index: Index,
    folder: str | os.PathLike[str],
    skipped: Sequence[Skipped] = (),
    *,
    layout: str | None = None,
    metric: Metric = DEFAULT,
    again: bool = False,
    against_rivals: bool = True,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure how well `metric` ranks the photos of an index below `folder`, whose paths tell their labels.

    `layout` names one of `cbir.evaluation.layouts`, or None to tell it from the paths; `skipped` are files that did not
    get into the index. `again` adds the second pass, `against_rivals` what others use; that decodes the photos, so
    those that are gone are left out. Raises LayoutError if there is nothing to measure.
    """
    started = time.perf_counter()
    top = os.path.abspath(folder)
    tell = progress or tell_nobody
    rows = rows_below(index, top)
    unseen = [(Path(one.path), one.reason) for one in skipped if is_below(one.path, top)]
    named = label_photos(Path(top), [Path(path) for path in rows], unseen, layout)
    label_of = {str(path): label for path, label in zip(named.photos, named.labels, strict=True)}
    left_out = [Skipped(str(path), reason) for path, reason in named.left_out]
    asked = {str(named.photos[i]) for i in named.queries}
    # Made first: a metric that cannot be used shall be said before the photos are decoded.
    rankings = list(our_rankings(index, metric))
    photos, by_rivals = list(label_of), None
    if against_rivals:
        photos, by_rivals, gone = decoded_for_rivals(photos, jobs or cores(), tell)
        left_out += gone
    sizes = Counter(label_of[path] for path in photos)
    members = [i for i, path in enumerate(photos) if sizes[label_of[path]] > 1]
    photos = [photos[i] for i in members]
    if not asked.intersection(photos):
        raise LayoutError(f"{top}: no class has two photos that can be read, so there is nothing to find")
    known = Described(
        np.stack([index.codes(rows[path]) for path in photos]),
        tuple(descriptors[members] for descriptors in by_rivals or ()),
    )
    classes, labels = np.unique([label_of[path] for path in photos], return_inverse=True)
    queries = np.array([i for i, path in enumerate(photos) if path in asked], np.intp)
    if again:
        rankings.insert(1, with_second_pass(rankings[0]))
    if against_rivals:
        rankings += [*others_on_our_histogram(index), *rivals()]
    return Evaluation(
        layout=named.layout,
        photos=photos,
        classes=classes.tolist(),
        labels=labels,
        queries=queries,
        left_out=left_out,
        singletons=sorted(label for label, size in sizes.items() if size == 1),
        empty=_empty_classes(top, named, sizes, os.path.abspath(index.folder)),
        unasked=sorted(set(classes.tolist()) - {label_of[photos[row]] for row in queries}),
        figures=list(_measured(rankings, known, labels, queries, tell)),
        seconds=time.perf_counter() - started,
    )


def rows_below(index: Index, top: str) -> dict[str, int]:
    """The photos of an index below a folder, by path in byte order, and their rows."""
    paths = {path: row for row in range(len(index)) if is_below(path := index.path(row), top)}
    return dict(sorted(paths.items(), key=lambda one: os.fsencode(one[0])))


def decoded_for_rivals(paths: list[str], jobs: int, tell: Progress) -> tuple[list[str], tuple[F32, ...], list[Skipped]]:
    """Which photos can be decoded, what each of `RIVALS` makes of these, (n, d) float32, and which cannot."""
    kept: list[str] = []
    described: list[list[F32]] = []
    gone: list[Skipped] = []
    for done, (path, result) in enumerate(zip(paths, describe_by_rivals(paths, jobs), strict=True), start=1):
        tell("photos for the rivals", done, len(paths))
        if isinstance(result, PictureError):
            gone.append(Skipped(path, result.reason))
        else:
            kept.append(path)
            described.append(result)
    return kept, tuple(np.stack(one) for one in zip(*described, strict=True)), gone


def tell_nobody(what: str, done: int, total: int) -> None:
    """The progress of work that nobody watches."""


def _measured(
    rankings: list[Ranking], known: Described, labels: NDArray[np.intp], queries: NDArray[np.intp], tell: Progress
) -> Iterator[Figures]:
    done, total = 0, len(rankings) * len(queries)

    def tick(more: int) -> None:
        nonlocal done
        done += more
        tell("searches", done, total)

    for ranking in rankings:
        yield measure(ranking, known, labels, queries, tick)


def _empty_classes(top: str, named: LabelledSet, sizes: Counter[str], index: str) -> list[str]:
    """Folders of classes of which no photo can be read; other layouts have no folders, and an index's is no class."""
    if named.layout != "folders" or not os.path.isdir(top):
        return []
    folders = (entry for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False))
    folders = (one for one in folders if not one.name.startswith(".") and not is_below(index, one.path))
    return sorted(one.name for one in folders if not sizes[one.name])
