"""Making an index, and bringing it up to date: find, compare with what is there, describe what is new, commit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from cbir.borrow import Borrowed
from cbir.cluster import Cluster, ClusterError
from cbir.decode import DEFAULT_LIMITS, Limits, decoder_version
from cbir.describe import Described, describe_files, sample_files
from cbir.descriptor import DESCRIPTORS, Descriptor
from cbir.errors import (
    NOT_PICTURES,
    DescriptorError,
    IndexFolderError,
    NoPicturesError,
    PaletteError,
    PictureError,
)
from cbir.find import Found, Skipped, absolute, find_pictures, is_below
from cbir.learn import LEARNING_PHOTOS, Learnt, learn_from_files
from cbir.lock import LOCK_NAME, locked
from cbir.manifest import FILE_NAME, Manifest, check_is_ours
from cbir.palette import MAX_COLORS, Algorithm, Palette
from cbir.parallel import cores
from cbir.plan import Old, Plan, join, make_plan
from cbir.segment import is_own_file
from cbir.signature import PICTURE_SUFFIXES
from cbir.tasks import Done, Place, describe_on, sample_on, task_folder
from cbir.writer import Writer, remove_unlisted, root_of

# Where the ranking did best on eight labelled sets; 48 to 128 do nearly as well.
DEFAULT_COLORS = 64
DEFAULT_DESCRIPTOR = "spatial"
DEFAULT_ALGORITHM: Algorithm = "minibatch"
Progress = Callable[[int, int], None]
_T = TypeVar("_T")


class IndexingInterruptedError(KeyboardInterrupt):
    """Ctrl-C while an index was written; `photos` are in it, and the next run goes on from there."""

    def __init__(self, folder: Path, photos: int) -> None:
        super().__init__(f"{folder}: interrupted; its {photos:,} photos are kept, and the same command goes on")
        self.photos = photos


@dataclass(frozen=True)
class Report:
    """What one run did to an index: `photos` are in it now, `skipped` are left out, each with its reason.

    `moved` photos were recognised under another name, and not decoded again. `converted` photos of the index had a
    colour profile by which their colours were converted to sRGB. `others` is the number of files that are no pictures
    and are not named as such. `colors` is how many the palette was asked to have; it has fewer where the photos have no
    more. It was learnt from `learnt_photos`, here or, if that is told, in the index in the folder `palette_of`.
    """

    folder: Path
    photos: int
    added: int
    changed: int
    moved: int
    dropped: int
    converted: int
    skipped: list[Skipped]
    others: int
    palette: Palette
    colors: int
    learnt_photos: int
    palette_of: str | None
    seconds: float

    @property
    def palette_is_outgrown(self) -> bool:
        """Whether most photos came after the palette was learnt, so that learning it anew may describe them better.

        One that was taken from another index is to stay that one's.
        """
        is_from_few = self.learnt_photos < LEARNING_PHOTOS and self.photos > 2 * self.learnt_photos
        return is_from_few and self.palette_of is None


def build_index(
    folder: str | os.PathLike[str],
    paths: Iterable[str | os.PathLike[str]],
    *,
    colors: int | None = None,
    algorithm: Algorithm | None = None,
    descriptor: str | None = None,
    palette_of: str | os.PathLike[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    jobs: int | None = None,
    rebuild: bool = False,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> Report:
    """Make the index in `folder` of all photos below `paths`, or bring it up to date with them.

    A new index learns a palette of `colors` (64) by `algorithm` ("minibatch"), and keeps of each photo the `descriptor`
    "spatial" (seven histograms, see `cbir.descriptor`) or "global" (one). An existing one keeps all three; of the
    photos below `paths`, those that are new or have changed (size or time) are decoded, those that were renamed or
    moved are recognised, and those that are gone are dropped; the photos elsewhere stay. `rebuild` forgets what there
    was, once all is done anew. A new or rebuilt index can take all that distances depend on from another, in the folder
    `palette_of`: then a photo's description, and its distances by any metric, are the same in both, to the last bit, as
    if all photos were in one. `limits` says what is too large to read. `jobs` worker processes (None: one per core)
    change the speed only, never a byte; nor does a `cluster`, whose machines decode photos that this one need not see
    but must list: `cbir.tasks` says what they must have. `progress` is called with the numbers of files done and to do.

    What is described is committed every few seconds, unless an index is rebuilt. Ctrl-C commits too and raises
    IndexingInterruptedError; after that, or a crash, the next run goes on from the last commit, and its result is that
    of a run that was never interrupted, byte for byte. Until the palette is learnt there is nothing to commit.
    Raises FileNotFoundError, NoPicturesError, IndexFolderError, PaletteError, DescriptorError, or OSError if it cannot
    be written.
    """
    started = time.perf_counter()
    target, tops = Path(folder), [absolute(path) for path in paths]
    # Looked at before anything is made there, and again under the lock, since another writer may have been first.
    _is_index(target)
    borrowed = None if palette_of is None else Borrowed.load(Path(palette_of), target)
    with _written_alone(target), _placed(cluster, target, tops) as place:
        old = Old.load(target) if _is_index(target) and not rebuild else None
        # What is there stays what it was; the other has only to be the same.
        given = old or borrowed
        kind, colors, algorithm = _settle(target, given, descriptor, colors, algorithm)
        if old and borrowed:
            borrowed.check_same(old, target)
        found, skipped = find_pictures(tops)
        if not found:
            raise NoPicturesError(f"{', '.join(tops)}: no pictures there; name a folder with pictures{_first(skipped)}")
        plan = make_plan(old, tops, found, skipped)
        tick = _Ticker(progress, len(plan.todo))
        workers = jobs or cores()
        if given:
            learnt = Learnt(given.palette, given.reference, given.manifest.learnt_photos, {})
        else:
            sampler = partial(sample_on, *place) if place else sample_files
            learnt = learn_from_files(plan.todo, colors, algorithm, kind, workers, tick, limits, sampler)
        origin = given.palette_of if given else None
        base = Manifest(kind.name, colors, algorithm, learnt.photos, "", decoder_version(), (), palette_of=origin)
        replaces = rebuild and (target / FILE_NAME).exists()
        writer = Writer(
            target, base, learnt.palette, learnt.reference, plan, tops, replaces, place and Path(place[1].folder)
        )
        run = _Run(plan, writer)
        # In one go with what is done after it, for the plan has taken them from their old places.
        for file, known in plan.described:
            run.take(file, known)
        try:
            rest = _take_learnt(run, plan.todo, learnt)
            if place:
                described = describe_on(
                    *place, [(root_of(file.path, tops), file) for file in rest], learnt.palette, kind, limits
                )
                _take_tasks(run, described, tick)
            else:
                _describe(run, rest, learnt.palette, kind, workers, tick, limits)
            if not run.photos:
                raise NoPicturesError(f"{', '.join(tops)}: no picture there can be read{_first(run.failed)}")
            ordered = writer.ordered() if old is None or plan.has_work else None
        except ClusterError:
            if run.has_photos and not replaces:
                writer.commit_quickly()
            raise
        except KeyboardInterrupt as error:
            if replaces or not run.has_photos:
                raise
            raise IndexingInterruptedError(target, writer.commit_quickly()) from error
        if ordered is not None:
            writer.finish(ordered)
    unread = [*_kept_unread(plan, tops), *run.failed]
    return Report(
        folder=target,
        photos=run.photos,
        added=run.added,
        changed=run.changed,
        moved=plan.moved,
        dropped=plan.gone + run.lost,
        converted=run.converted,
        skipped=skipped + [one for one in unread if not _is_other(one)],
        others=sum(map(_is_other, unread)),
        palette=learnt.palette,
        colors=colors,
        learnt_photos=learnt.photos,
        palette_of=origin,
        seconds=time.perf_counter() - started,
    )


def _take_learnt(run: _Run, files: list[Found], learnt: Learnt) -> list[Found]:
    """Take what is known of the files that the palette was learnt from; the others are returned."""
    for row, result in sorted(learnt.results.items(), key=lambda item: item[0]):
        run.take(files[row], result)
    rest = [file for row, file in enumerate(files) if row not in learnt.results]
    learnt.results.clear()
    return rest


def _describe(
    run: _Run, files: list[Found], palette: Palette, kind: Descriptor, jobs: int, tick: _Ticker, limits: Limits
) -> None:
    """Describe files here, and commit what is done every few seconds."""
    with closing(describe_files([file.path for file in files], palette, kind, jobs, limits)) as described:
        for row, result in tick(described):
            run.take(files[row], result)
            run.commit_if_due()


def _take_tasks(run: _Run, described: Generator[tuple[list[Found], Done]], tick: _Ticker) -> None:
    """Take what tasks on other machines have described, and commit it every few seconds."""
    with closing(described):
        for files, done in described:
            run.take_task(files, done)
            tick.advance(len(files))
            run.commit_if_due()


class _Run:
    """Hands what is made of files to the writer, and counts."""

    def __init__(self, plan: Plan, writer: Writer) -> None:
        self._plan, self._writer = plan, writer
        self._described = self._converted = 0
        # Photos that had been described, and cannot be read any more, or just now, and stay described as they were.
        self.lost = self._as_before = 0
        self.failed: list[Skipped] = []

    def take(self, file: Found, result: Described | PictureError) -> None:
        if isinstance(result, PictureError):
            self._note_unread(file, result.reason, result.lasting)
        else:
            self._described += 1
            self._converted += result.converted
        self._writer.add(file, result)

    def take_task(self, files: list[Found], done: Done) -> None:
        for number, reason, lasting in done.unread:
            self._note_unread(files[number], reason, lasting)
        self._converted += done.converted
        if done.entry:
            self._described += done.entry.photos
            self._writer.adopt(done.entry)

    @property
    def has_photos(self) -> bool:
        """Whether there is anything to commit: an index never was without any photo."""
        return bool(self._described or self._plan.kept)

    def commit_if_due(self) -> None:
        if self.has_photos:
            self._writer.commit_if_due()

    def _note_unread(self, file: Found, reason: str, lasting: bool) -> None:
        self.failed.append(Skipped(file.path, reason))
        if file.path in self._plan.changed:
            self.lost += lasting
            self._as_before += not lasting

    @property
    def photos(self) -> int:
        """How many photos the index has, once all files are taken."""
        return sum(int(np.count_nonzero(kept.photos)) for kept in self._plan.kept) + self._described

    @property
    def converted(self) -> int:
        """How many of them had a profile that changed their colours."""
        return sum(int(kept.segment.converted[kept.photos].sum()) for kept in self._plan.kept) + self._converted

    @property
    def changed(self) -> int:
        """How many photos were described before, and otherwise."""
        return len(self._plan.changed) - self.lost - self._as_before

    @property
    def added(self) -> int:
        """How many photos were not in the index before, under whatever name."""
        return self._described - self.changed - self._plan.moved


def _kept_unread(plan: Plan, tops: list[str]) -> Iterator[Skipped]:
    """The files below the given paths that could not be read before, and have not changed."""
    for kept in plan.kept:
        for row in np.flatnonzero(kept.unread).tolist():
            path = join(kept.entry.root, kept.segment.unread.names[row])
            if any(is_below(path, top) for top in tops):
                yield Skipped(path, kept.segment.reasons[row])


def _is_other(one: Skipped) -> bool:
    """Whether nobody would expect a picture there: neither the file's name says so nor its content."""
    return one.reason in NOT_PICTURES and Path(one.path).suffix.lower() not in PICTURE_SUFFIXES


def _is_index(folder: Path) -> bool:
    """Whether there is an index to be brought up to date, be it damaged. Raises IndexFolderError if it is another's."""
    try:
        if (folder / FILE_NAME).exists():
            check_is_ours(folder)
            return True
        if folder.exists() and not (folder.is_dir() and all(is_own_file(path.name) for path in folder.iterdir())):
            raise IndexFolderError(f"{folder}: exists and is not an index; name another place with --index")
    except OSError as error:
        raise IndexFolderError(f"{folder}: {(error.strerror or str(error)).lower()}") from error
    return False


def _settle(
    folder: Path,
    given: Old | Borrowed | None,
    descriptor: str | None,
    colors: int | None,
    algorithm: Algorithm | None,
) -> tuple[Descriptor, int, Algorithm]:
    """What of each photo is kept, how many colours the palette has and how it is learnt: as asked, or as is given."""
    if descriptor not in (None, *DESCRIPTORS):
        raise DescriptorError(f"there is no descriptor {descriptor!r}; use one of {', '.join(DESCRIPTORS)}")
    if colors is not None and not 1 <= colors <= MAX_COLORS:
        raise PaletteError(f"a palette has 1 to {MAX_COLORS} colours, not {colors}")
    if given is None:
        return DESCRIPTORS[descriptor or DEFAULT_DESCRIPTOR], colors or DEFAULT_COLORS, algorithm or DEFAULT_ALGORITHM
    have = given.manifest
    if any(
        asked not in (None, kept)
        for asked, kept in ((descriptor, have.descriptor), (colors, have.colors), (algorithm, have.algorithm))
    ):
        where, advice = folder, "add --rebuild to make it otherwise"
        if isinstance(given, Borrowed):
            where, advice = given.folder, "ask for no other with it"
        raise IndexFolderError(
            f"{where}: has a palette of {have.colors} colours by {have.algorithm} and {have.descriptor} descriptors; "
            f"{advice}, or name another index"
        )
    return DESCRIPTORS[have.descriptor], have.colors, cast(Algorithm, have.algorithm)


@contextmanager
def _written_alone(folder: Path) -> Iterator[None]:
    """Make the index's folder, be its only writer, and take back what was not committed if the work fails."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            # The system does not say which of the two it is before something is written.
            is_read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
            raise OSError(None, "read-only file system" if is_read_only else "permission denied")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise IndexFolderError(f"{folder}: cannot be written ({reason}); name another place with --index") from error
    with locked(folder):
        try:
            yield
        except BaseException:
            with suppress(IndexFolderError, OSError):
                remove_unlisted(folder)
                if made:
                    (folder / LOCK_NAME).unlink()
                for one in made:
                    one.rmdir()
            raise


@contextmanager
def _placed(cluster: Cluster | None, folder: Path, tops: Sequence[str]) -> Iterator[tuple[Cluster, Place] | None]:
    """A cluster and the place that its tasks work on, if there is one."""
    if cluster is None:
        yield None
        return
    with task_folder(cluster, folder, tops) as place:
        yield cluster, place


class _Ticker:
    """Counts what streams through it, over several streams."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, stream: Iterable[_T]) -> Iterator[_T]:
        for item in stream:
            self.advance(1)
            yield item

    def advance(self, number: int) -> None:
        """Count so many."""
        self._done += number
        if self._progress:
            self._progress(self._done, self._total)


def _first(skipped: Sequence[Skipped]) -> str:
    return f" (skipped {skipped[0].path}: {skipped[0].reason})" if skipped else ""
