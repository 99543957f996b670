"""What other machines do for an index: decode photos that a palette is learnt from, and write segments of photos."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from cbir.cluster import Cluster, ClusterError, difference, versions_here
from cbir.decode import Limits
from cbir.describe import Described, Sample, describe_files, sample_files
from cbir.descriptor import DESCRIPTORS, Descriptor
from cbir.errors import PictureError
from cbir.find import Found, name_below
from cbir.manifest import SegmentEntry
from cbir.palette import Palette
from cbir.segment import TASKS, PhotoRow, Segment, UnreadRow

# Files of a task, at most and, of a collection that has fewer for each process, at least.
FILES = 2048
FEWEST_FILES = 64
# Photos to learn from that travel in one piece, of 24 KB each.
_SAMPLES = 64
# Tasks for each process, so that none is left over when the others are done.
_TASKS_EACH = 4
_TOKEN = "token"
_BYTES_OF_COLOR = 12
_Item = TypeVar("_Item")


class Place(NamedTuple):
    """What every machine must see, and have: the folder that tasks write into, what is in its token, the versions."""

    folder: str
    token: str
    versions: dict[str, str | None]


class Done(NamedTuple):
    """What a task made: its segment, if it has any rows, and the files that have none, by their number in the task.

    `unread` are the files that could not be read, with the reason, and whether it lasts and is in the segment.
    `converted` photos had a colour profile that changed their colours.
    """

    entry: SegmentEntry | None
    unread: list[tuple[int, str, bool]]
    converted: int


class _Samples(NamedTuple):
    # Named tuples, since joblib puts large objects of other kinds on one machine, and a task ends with it.
    place: Place
    paths: list[str]
    limits: Limits


class _Part(NamedTuple):
    place: Place
    root: str
    files: list[tuple[str, int, int]]
    lab: bytes
    descriptor: str
    limits: Limits


@contextmanager
def task_folder(cluster: Cluster, folder: Path, tops: Sequence[str]) -> Iterator[Place]:
    """A folder within that of an index for tasks to write into, and gone afterwards with what nobody took.

    Raises ClusterError if a machine is known that sees another folder, or has not the photos.
    """
    path = folder.absolute() / f"{TASKS}{secrets.token_hex(8)}"
    place = Place(str(path), secrets.token_hex(16), versions_here())
    path.mkdir()
    try:
        (path / _TOKEN).write_text(place.token)
        cluster.check(unfit, place, tuple(tops))
        yield place
    finally:
        shutil.rmtree(path, ignore_errors=True)


def unfit(place: Place, tops: Sequence[str]) -> str | None:
    """Why this machine cannot describe photos below `tops` into that place; None if it can."""
    try:
        seen = Path(place.folder, _TOKEN).read_text()
    except OSError as error:
        seen = f"({(error.strerror or str(error)).lower()})"
    index = os.path.dirname(place.folder)
    if seen != place.token:
        return f"does not see the index's folder {index} {seen if seen.startswith('(') else '(it has another)'}"
    if not os.access(place.folder, os.W_OK):
        return f"may not write into the index's folder {index}"
    for top in tops:
        if not os.path.exists(top):
            return f"does not see {top}; photos must have the same path on all machines"
    return None


def sample_on(
    cluster: Cluster, place: Place, paths: Sequence[str], jobs: int, limits: Limits
) -> Generator[Sample | PictureError]:
    """As `sample_files`, on a cluster."""
    parts = [list(part) for part in _split(paths, cluster.size, _SAMPLES, 1)]
    early: dict[int, list[Sample | PictureError]] = {}
    due = 0
    with closing(cluster.run(_sample, [_Samples(place, part, limits) for part in parts])) as results:
        for number, samples in results:
            early[number] = samples
            while due in early:
                yield from early.pop(due)
                due += 1


def describe_on(
    cluster: Cluster,
    place: Place,
    files: Sequence[tuple[str, Found]],
    palette: Palette,
    descriptor: Descriptor,
    limits: Limits,
) -> Generator[tuple[list[Found], Done]]:
    """Describe files, each with the folder that its name is relative to: by the task, as they are done."""
    by_root: defaultdict[str, list[Found]] = defaultdict(list)
    for root, file in files:
        by_root[root].append(file)
    size, lab = cluster.size, palette.lab.tobytes()
    chosen: list[list[Found]] = []
    tasks: list[_Part] = []
    for root, below in by_root.items():
        for part in _split(below, size, FILES, FEWEST_FILES):
            chosen.append(list(part))
            looks = [(file.path, file.size, file.mtime_ns) for file in part]
            tasks.append(_Part(place, root, looks, lab, descriptor.name, limits))
    with closing(cluster.run(_describe, tasks)) as results:
        for number, done in results:
            yield chosen[number], done


def _split(items: Sequence[_Item], size: int, most: int, fewest: int) -> Iterator[Sequence[_Item]]:
    step = max(fewest, min(most, -(-len(items) // (_TASKS_EACH * size))))
    return (items[start : start + step] for start in range(0, len(items), step))


def _check_here(place: Place, tops: Sequence[str] = ()) -> None:
    """A machine may have joined since all were looked at, or nobody could look."""
    reason = difference(place.versions, versions_here()) or unfit(place, tops)
    if reason:
        raise ClusterError(f"{platform.node()}: {reason}")


def _sample(task: _Samples) -> list[Sample | PictureError]:
    _check_here(task.place)
    return list(sample_files(task.paths, 1, task.limits))


def _describe(task: _Part) -> Done:
    _check_here(task.place, [task.root])
    palette = Palette(np.frombuffer(task.lab, np.float32).reshape(-1, 3))
    descriptor = DESCRIPTORS[task.descriptor]
    photos: list[PhotoRow] = []
    rows: list[UnreadRow] = []
    unread: list[tuple[int, str, bool]] = []
    paths = [path for path, _, _ in task.files]
    # A process of this machine's works for each task at a time, of which there are as many as it has threads.
    with closing(describe_files(paths, palette, descriptor, 1, task.limits)) as described:
        for number, result in described:
            path, size, mtime = task.files[number]
            name = name_below(path, task.root)
            if isinstance(result, Described):
                photos.append(PhotoRow(name, size, mtime, result.codes, result.fingerprint, result.converted))
                continue
            unread.append((number, result.reason, result.lasting))
            if result.lasting:
                rows.append(UnreadRow(name, size, mtime, result.reason))
    return Done(_saved(task, photos, rows), sorted(unread), sum(row.converted for row in photos))


def _saved(task: _Part, photos: list[PhotoRow], unread: list[UnreadRow]) -> SegmentEntry | None:
    """Write the rows; a task that runs twice gives its file the same name."""
    if not photos and not unread:
        return None
    width = len(DESCRIPTORS[task.descriptor].blocks) * (len(task.lab) // _BYTES_OF_COLOR)
    ordered = sorted(photos, key=lambda row: row.name), sorted(unread, key=lambda row: row.name)
    file = Segment.pack(*ordered, width).save(Path(task.place.folder))
    return SegmentEntry(file, task.root, len(photos), len(unread), unfinished=True)
