"""Making an index, and bringing it up to date: find, compare with what is there, describe what is new, commit."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cbir.color import U8
from cbir.decode import decoder_version
from cbir.describe import describe_files
from cbir.descriptor import DESCRIPTORS, Descriptor
from cbir.errors import DescriptorError, IndexFolderError, NoPicturesError, PaletteError, PictureError
from cbir.find import Found, Skipped, absolute, find_pictures, is_below
from cbir.learn import LEARNING_PHOTOS, learn_from_files
from cbir.manifest import FILE_NAME, Manifest, SegmentEntry
from cbir.palette import MAX_COLORS, Algorithm, Palette
from cbir.parallel import cores
from cbir.segment import SEGMENT_PHOTOS, Files, Segment, is_own_file, load_palette, save_palette

# Where the ranking did best on eight labelled sets; 48 to 128 do nearly as well.
DEFAULT_COLORS = 64
DEFAULT_DESCRIPTOR = "spatial"
DEFAULT_ALGORITHM: Algorithm = "minibatch"
Progress = Callable[[int, int], None]
# Segments of one folder above which small ones are merged.
_MANY_SEGMENTS = 8
_T = TypeVar("_T")
_Result = U8 | PictureError


@dataclass(frozen=True)
class Report:
    """What one run did to an index: `photos` are in it now, `skipped` are left out, each with its reason.

    `colors` is how many the palette was asked to have; it has fewer where the photos have no more.
    """

    folder: Path
    photos: int
    added: int
    changed: int
    dropped: int
    skipped: list[Skipped]
    palette: Palette
    colors: int
    learnt_photos: int
    bytes: int
    seconds: float

    @property
    def palette_is_outgrown(self) -> bool:
        """Whether most photos came after the palette was learnt, so that learning it anew may describe them better."""
        return self.learnt_photos < LEARNING_PHOTOS and self.photos > 2 * self.learnt_photos


@dataclass(frozen=True)
class _Old:
    """An index as it was before this run."""

    manifest: Manifest
    palette: Palette
    reference: U8
    segments: list[Segment]

    @classmethod
    def load(cls, folder: Path) -> _Old:
        manifest = Manifest.load(folder)
        blocks = len(DESCRIPTORS[manifest.descriptor].blocks)
        palette, reference = load_palette(folder, manifest.palette, blocks)
        return cls(manifest, palette, reference, manifest.load_segments(folder, blocks * len(palette)))


@dataclass
class _Plan:
    """What is to be done: the rows that each old segment keeps (photos, unread files), and the files to decode."""

    todo: list[Found]
    keep: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = field(default_factory=list)
    kept_photos: int = 0
    kept_unread: list[Skipped] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    dropped: int = 0
    forgotten: int = 0


def build_index(
    folder: str | os.PathLike[str],
    paths: Iterable[str | os.PathLike[str]],
    *,
    colors: int | None = None,
    algorithm: Algorithm | None = None,
    descriptor: str | None = None,
    jobs: int | None = None,
    rebuild: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Make the index in `folder` of all photos below `paths`, or bring it up to date with them.

    A new index learns a palette of `colors` (64) by `algorithm` ("minibatch"), and keeps of each photo the `descriptor`
    "spatial" (seven histograms, see `cbir.descriptor`) or "global" (one). An existing one keeps all three; of the
    photos below `paths`, those that are new or have changed (size or time) are decoded and those that are gone are
    dropped; the photos elsewhere stay. `rebuild` forgets what there was. `jobs` worker processes (None: one per core)
    change the speed only, never a byte. `progress` is called with the numbers of photos decoded and to decode.

    There is one commit, at the end: if anything raises, Ctrl-C included, the old index is as it was.
    Raises FileNotFoundError, NoPicturesError, IndexFolderError, PaletteError, DescriptorError, or OSError if it cannot
    be written.
    """
    started = time.perf_counter()
    target, tops = Path(folder), [absolute(path) for path in paths]
    # Looked at before anything is made there, and again under the lock, since another writer may have been first.
    _is_index(target)
    with _written_alone(target):
        old = _Old.load(target) if _is_index(target) and not rebuild else None
        kind, colors, algorithm = _settle(target, old, descriptor, colors, algorithm)
        found, skipped = find_pictures(tops)
        if not found:
            raise NoPicturesError(f"{', '.join(tops)}: no pictures there; name a folder with pictures{_first(skipped)}")
        plan = _compare(old, tops, found, skipped)
        files = [file.path for file in plan.todo]
        tick = _Ticker(progress, len(files))
        workers = jobs or cores()
        results: dict[int, _Result] = {}
        if old:
            palette, reference, learnt_photos = old.palette, old.reference, old.manifest.learnt_photos
        else:
            learnt = learn_from_files(files, colors, algorithm, kind, workers, tick)
            palette, reference, learnt_photos = learnt.palette, learnt.reference, learnt.photos
            results = learnt.results
        rest = [row for row in range(len(files)) if row not in results]
        described = tick(describe_files([files[row] for row in rest], palette, kind, workers))
        results.update(zip(rest, described, strict=True))
        failed = [Skipped(one.path, one.reason) for _, one in sorted(results.items()) if isinstance(one, PictureError)]
        photos = plan.kept_photos + len(results) - len(failed)
        lost = sum(one.path in plan.changed for one in failed)
        if not photos:
            raise NoPicturesError(f"{', '.join(tops)}: no picture there can be read{_first(failed)}")
        if old is None or files or plan.dropped or plan.forgotten:
            entries = _save_segments(target, old, plan, results, tops, reference.shape[1])
            palette_file = save_palette(palette, reference, target)
            Manifest(
                kind.name, colors, algorithm, learnt_photos, palette_file, decoder_version(), tuple(entries)
            ).commit(target)
            _remove_unlisted(target)
        size = sum(file.stat().st_size for file in target.iterdir())
    return Report(
        folder=target,
        photos=photos,
        added=len(results) - len(failed) - len(plan.changed) + lost,
        changed=len(plan.changed) - lost,
        dropped=plan.dropped + lost,
        skipped=skipped + plan.kept_unread + failed,
        palette=palette,
        colors=colors,
        learnt_photos=learnt_photos,
        bytes=size,
        seconds=time.perf_counter() - started,
    )


def _is_index(folder: Path) -> bool:
    """Whether there is an index to be brought up to date. Raises IndexFolderError if there is something else."""
    try:
        if (folder / FILE_NAME).exists():
            return True
        if folder.exists() and not (folder.is_dir() and all(is_own_file(path.name) for path in folder.iterdir())):
            raise IndexFolderError(f"{folder}: exists and is not an index; name another place with --index")
    except OSError as error:
        raise IndexFolderError(f"{folder}: {(error.strerror or str(error)).lower()}") from error
    return False


def _settle(
    folder: Path, old: _Old | None, descriptor: str | None, colors: int | None, algorithm: Algorithm | None
) -> tuple[Descriptor, int, Algorithm]:
    """What of each photo is kept, how many colours the palette has and how it is learnt: as asked, or as it was."""
    if descriptor not in (None, *DESCRIPTORS):
        raise DescriptorError(f"there is no descriptor {descriptor!r}; use one of {', '.join(DESCRIPTORS)}")
    if colors is not None and not 1 <= colors <= MAX_COLORS:
        raise PaletteError(f"a palette has 1 to {MAX_COLORS} colours, not {colors}")
    if old is None:
        return DESCRIPTORS[descriptor or DEFAULT_DESCRIPTOR], colors or DEFAULT_COLORS, algorithm or DEFAULT_ALGORITHM
    have = old.manifest
    if any(
        asked not in (None, kept)
        for asked, kept in ((descriptor, have.descriptor), (colors, have.colors), (algorithm, have.algorithm))
    ):
        raise IndexFolderError(
            f"{folder}: has a palette of {have.colors} colours by {have.algorithm} and {have.descriptor} descriptors; "
            "add --rebuild to make it otherwise, or name another index"
        )
    return DESCRIPTORS[have.descriptor], have.colors, cast(Algorithm, have.algorithm)


def _compare(old: _Old | None, tops: list[str], found: list[Found], skipped: list[Skipped]) -> _Plan:
    """Tell what of the old index stays and what is to be decoded. Nothing is opened."""
    if old is None:
        return _Plan(found)
    by_path = {file.path: file for file in found}
    known: set[str] = set()

    def state(root: str, files: Files, row: int) -> str:
        path = _join(root, files.names[row])
        if not any(is_below(path, top) for top in tops):
            return "kept"
        if path not in by_path:
            # What lies below a folder that cannot be looked into just now may still be there.
            return "kept" if any(is_below(path, one.path) for one in skipped) else "gone"
        if (by_path[path].size, by_path[path].mtime_ns) != (int(files.sizes[row]), int(files.mtimes[row])):
            return "changed"
        known.add(path)
        return "kept"

    plan = _Plan([])
    same_decoder = old.manifest.decoder == decoder_version()
    for entry, segment in zip(old.manifest.segments, old.segments, strict=True):
        photos = [state(entry.root, segment.photos, row) for row in range(len(segment.photos))]
        # What this version of the decoder could not read it cannot read now; another may.
        unread = [state(entry.root, segment.unread, row) if same_decoder else "" for row in range(len(segment.unread))]
        rows = _rows_of("kept", photos), _rows_of("kept", unread)
        plan.keep.append(rows)
        plan.kept_photos += len(rows[0])
        plan.kept_unread += [Skipped(_join(entry.root, segment.unread.names[i]), segment.reasons[i]) for i in rows[1]]
        plan.changed |= {_join(entry.root, segment.photos.names[i]) for i in _rows_of("changed", photos)}
        plan.dropped += photos.count("gone")
        plan.forgotten += len(unread) - len(rows[1])
    plan.todo = [file for file in found if file.path not in known]
    return plan


def _rows_of(wanted: str, states: list[str]) -> NDArray[np.intp]:
    return np.array([row for row, one in enumerate(states) if one == wanted], np.intp)


def _save_segments(
    folder: Path, old: _Old | None, plan: _Plan, results: dict[int, _Result], tops: list[str], width: int
) -> list[SegmentEntry]:
    """Write what has changed: old segments that lost rows, and the new rows below each of the given paths."""
    kept: dict[str, list[tuple[Segment, SegmentEntry | None]]] = defaultdict(list)
    if old:
        for entry, segment, (photos, unread) in zip(old.manifest.segments, old.segments, plan.keep, strict=True):
            if (len(photos), len(unread)) == (entry.photos, entry.unread):
                kept[entry.root].append((segment, entry))
            elif len(photos) or len(unread):
                kept[entry.root].append((segment.take(photos, unread), None))
    by_root: dict[str, list[int]] = defaultdict(list)
    for row, found in enumerate(plan.todo):
        by_root[_root_of(found.path, tops)].append(row)
    for root, rows in by_root.items():
        for start in range(0, len(rows), SEGMENT_PHOTOS):
            part = rows[start : start + SEGMENT_PHOTOS]
            segment = _segment(root, [plan.todo[row] for row in part], [results[row] for row in part], width)
            if len(segment.photos) or len(segment.unread):
                kept[root].append((segment, None))
    entries = []
    for root, segments in sorted(kept.items()):
        for segment, saved in _merged(segments):
            numbers = len(segment.photos), len(segment.unread)
            entries.append(saved or SegmentEntry(segment.save(folder), root, *numbers))
    return entries


def _merged(segments: list[tuple[Segment, SegmentEntry | None]]) -> list[tuple[Segment, SegmentEntry | None]]:
    """Put small segments together when there are many, so that years of daily runs leave few files to open.

    Always the smallest half of them, so that a photo is written anew a few times in its life, not each time.
    """
    while len(segments) > _MANY_SEGMENTS:
        by_size = sorted(segments, key=lambda one: len(one[0].photos) + len(one[0].unread))
        small = [one for one in by_size[: _MANY_SEGMENTS // 2] if len(one[0].photos) < SEGMENT_PHOTOS // 2]
        if len(small) < 2:
            break
        merged = Segment.merge([segment for segment, _ in small])
        segments = [one for one in segments if not any(one is part for part in small)] + [(merged, None)]
    return segments


def _segment(root: str, files: list[Found], results: list[_Result], width: int) -> Segment:
    photos, unread, codes, reasons = [], [], [], []
    for file, result in zip(files, results, strict=True):
        row = (os.fsencode(file.path[len(root.rstrip(os.sep)) + 1 :]), file.size, file.mtime_ns)
        if isinstance(result, PictureError):
            if result.lasting:
                unread.append(row)
                reasons.append(result.reason)
        else:
            photos.append(row)
            codes.append(result)
    table = np.array(codes, np.uint8).reshape(-1, width)
    return Segment(Files.pack(photos), table, Files.pack(unread), reasons)


def _root_of(path: str, tops: list[str]) -> str:
    """The given folder that a file lies below (the widest of several), or its own folder if it was given itself."""
    root = min((top for top in tops if is_below(path, top)), key=len)
    return os.path.dirname(path) if root == path else root


def _join(root: str, name: bytes) -> str:
    return root.rstrip(os.sep) + os.sep + os.fsdecode(name)


def _remove_unlisted(folder: Path) -> None:
    """Remove the index's files that its last commit does not name. Readers keep what they mapped."""
    files: set[str] = set()
    if (folder / FILE_NAME).exists():
        listed = Manifest.load(folder)
        files = {listed.palette, *(entry.file for entry in listed.segments)}
    for path in folder.iterdir():
        if is_own_file(path.name) and path.name not in files:
            # A system that does not remove open files may keep one until the next run.
            with suppress(OSError):
                path.unlink()


@contextmanager
def _written_alone(folder: Path) -> Iterator[None]:
    """Make the index's folder, be its only writer, and take back what was not committed if the work fails."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "permission denied")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise IndexFolderError(f"{folder}: cannot be written ({reason}); name another place with --index") from error
    with _locked(folder):
        try:
            yield
        except BaseException:
            with suppress(IndexFolderError, OSError):
                _remove_unlisted(folder)
                for one in made:
                    one.rmdir()
            raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other writers, where the system can; the lock ends with the process, however that ends."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise IndexFolderError(f"{folder}: another cbir is writing it; wait until it is done") from error
        except OSError:
            # Some network file systems have no locks; one writer at a time is then the user's to see to.
            pass
        yield
    finally:
        os.close(descriptor)


class _Ticker:
    """Counts what streams through it, over several streams."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, stream: Iterable[_T]) -> Iterator[_T]:
        for item in stream:
            self._done += 1
            if self._progress:
                self._progress(self._done, self._total)
            yield item


def _first(skipped: Sequence[Skipped]) -> str:
    return f" (skipped {skipped[0].path}: {skipped[0].reason})" if skipped else ""
