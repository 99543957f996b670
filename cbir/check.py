"""Verifying all of an index, and mending what can be mended."""

from __future__ import annotations

import errno
import heapq
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cbir.axes_file import load_axes
from cbir.color import U8
from cbir.descriptor import DESCRIPTORS, Descriptor
from cbir.errors import REBUILD, REPAIR, IndexFolderError
from cbir.lock import LOCK_NAME, locked
from cbir.manifest import FILE_NAME, VERSION, Manifest, SegmentEntry
from cbir.palette import Palette
from cbir.plan import Kept
from cbir.segment import Files, Names, Segment, check_content, is_axes_file, is_own_file, save_palette
from cbir.writer import remove_unlisted

# Called with what is being verified, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

# Names and descriptors that are in memory at a time.
_BLOCK = 1024
# A name with a NUL, or with a part that is empty, "." or "..".
_BAD_NAME = re.compile(rb"\0|(?:^|%b)\.{0,2}(?:%b|$)" % ((re.escape(os.fsencode(os.sep)),) * 2), re.DOTALL)


@dataclass(frozen=True)
class CheckReport:
    """What was found in an index: `problems`, each a line that begins with the file that it is about.

    `photos` and `unread` are listed in the index, in `files` files of `bytes` bytes, all of which were read.
    `lost_photos` of them are described by files that are damaged or missing. `leftovers` are files that no commit
    names, as a crash leaves them; they do no harm. `mendable` tells whether a repair can mend all there is, and
    `repaired` whether one has.
    """

    photos: int
    unread: int
    files: int
    bytes: int
    problems: list[str]
    lost_photos: int
    leftovers: list[str]
    mendable: bool
    repaired: bool


def check_index(
    folder: str | os.PathLike[str], *, repair: bool = False, progress: Progress | None = None
) -> CheckReport:
    """Verify everything in an index: that each file's content is what was written, and that it makes sense.

    `repair` drops from the index what is damaged or missing, and descriptions of files that are described already, in
    one commit, and removes leftovers. The index is unfinished then: the next `build_index` describes anew what it has
    lost. One of an older format becomes one of the newest by that. A damaged manifest or palette cannot be mended: then
    nothing is changed.
    Raises IndexFolderError if there is no index, one of a newer format, one whose files may not be read, or, to be
    repaired, one that is being written; and OSError if the repaired one cannot be written.
    """
    path = Path(folder)
    if not (path / FILE_NAME).is_file():
        Manifest.load(path)
    if repair:
        with locked(path):
            return _repaired(path, _look_at(path, progress))
    while True:
        found = _look_at(path, progress)
        # Files that a writer has removed since are none of the index's any more.
        if not found.problems or found.manifest is None or found.manifest == Manifest.load(path):
            return found.report(path, repaired=False)


@dataclass
class _Found:
    """What was found: the listed segments with the rows that can stay, None where a file is damaged or missing; and the
    files of axes that are whole, and what is wrong with others."""

    manifest: Manifest | None = None
    palette: tuple[Palette, U8] | None = None
    kept: list[Kept | None] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    axes: list[str] = field(default_factory=list)
    damaged_axes: dict[str, str] = field(default_factory=dict)
    bytes: int = 0

    @property
    def mendable(self) -> bool:
        return self.palette is not None

    def report(self, folder: Path, repaired: bool) -> CheckReport:
        listed = self.manifest.segments if self.manifest else ()
        files = self.manifest.files if self.manifest else set()
        return CheckReport(
            photos=sum(entry.photos for entry in listed),
            unread=sum(entry.unread for entry in listed),
            files=1 + len(files) + len(self.axes),
            bytes=self.bytes,
            problems=[*self.problems, *self.damaged_axes.values()],
            lost_photos=sum(entry.photos for entry, kept in zip(listed, self.kept, strict=True) if kept is None),
            leftovers=_leftovers(folder, files) if self.manifest else [],
            mendable=self.mendable,
            repaired=repaired,
        )


def _look_at(folder: Path, progress: Progress | None) -> _Found:
    found = _Found(bytes=(folder / FILE_NAME).stat().st_size)
    try:
        manifest = found.manifest = Manifest.load(folder)
    except IndexFolderError as error:
        found.problems.append(_damage(folder, error))
        return found
    kind = DESCRIPTORS[manifest.descriptor]
    whole = _verify_contents(folder, manifest, found, progress)
    if manifest.palette in whole:
        _verify_palette(folder, manifest, kind, found)
    for entry in manifest.segments:
        found.kept.append(_verify_segment(folder, manifest, entry, kind, found) if entry.file in whole else None)
    _drop_described_twice(found, progress)
    _verify_axes(folder, found)
    return found


def _verify_axes(folder: Path, found: _Found) -> None:
    """Axes are made of the descriptors; a search that uses damaged ones may miss photos."""
    for name in sorted(path.name for path in folder.iterdir() if is_axes_file(path.name)):
        told: list[str] = []
        # Where one is gone, others have been made in its place.
        with _noted(folder, name, told), suppress(FileNotFoundError):
            check_content(folder, name)
            load_axes(folder, name, None)
            found.bytes += (folder / name).stat().st_size
            found.axes.append(name)
        if told:
            found.damaged_axes[name] = told[0]


def _verify_contents(folder: Path, manifest: Manifest, found: _Found, progress: Progress | None) -> set[str]:
    """The listed files whose content is what was written."""
    whole: set[str] = set()
    for done, name in enumerate(sorted(manifest.files), start=1):
        with _noted(folder, name, found.problems):
            check_content(folder, name)
            found.bytes += (folder / name).stat().st_size
            whole.add(name)
        if progress:
            progress("files", done, len(manifest.files))
    return whole


@contextmanager
def _noted(folder: Path, name: str, problems: list[str]) -> Iterator[None]:
    """Note what an error tells about a file. Raises IndexFolderError if the file may not be read."""
    try:
        yield
    except FileNotFoundError:
        problems.append(f"{name}: missing")
    except OSError as error:
        reason = f"cannot be read ({(error.strerror or str(error)).lower()})"
        if error.errno != errno.EIO:
            # Another user may read it, or the same one later: that is no damage.
            raise IndexFolderError(f"{folder / name}: {reason}") from error
        problems.append(f"{name}: {reason}")
    except IndexFolderError as error:
        problems.append(_damage(folder, error))
    except ValueError as error:
        problems.append(f"{name}: damaged ({error})")


def _damage(folder: Path, error: IndexFolderError) -> str:
    """What is wrong, without the folder and without what to do about it. Any other error than damage is raised on."""
    message = str(error)
    for advice in (REBUILD, REPAIR):
        if message.endswith(f"; {advice}"):
            return message.removeprefix(f"{folder}{os.sep}").removesuffix(f"; {advice}")
    raise error


def _verify_palette(folder: Path, manifest: Manifest, kind: Descriptor, found: _Found) -> None:
    with _noted(folder, manifest.palette, found.problems):
        palette, reference = manifest.load_palette(folder)
        _verify_sums(kind, reference)
        found.palette = palette, reference


def _verify_segment(
    folder: Path, manifest: Manifest, entry: SegmentEntry, kind: Descriptor, found: _Found
) -> Kept | None:
    width = found.palette[1].shape[1] if found.palette else None
    with _noted(folder, entry.file, found.problems):
        segment = Segment.load(folder, entry.file, width, manifest.version)
        if (len(segment.photos), len(segment.unread)) != (entry.photos, entry.unread):
            raise ValueError("not the photos it should have")
        _verify_names(segment.photos.names)
        _verify_names(segment.unread.names)
        if (segment.converted > 1).any():
            raise ValueError("a mark that is neither 0 nor 1")
        _verify_sums(kind, segment.codes)
        photos, unread = np.ones(entry.photos, bool), np.ones(entry.unread, bool)
        return Kept(entry, segment, photos, unread, manifest.version != VERSION)
    return None


def _verify_names(names: Names) -> None:
    """Raise ValueError unless names are of files below a folder, in order. One may be there twice; see below."""
    before = b""
    for name in _few_at_a_time(names):
        if _BAD_NAME.search(name):
            raise ValueError(f"{os.fsdecode(name)!r} is no name of a file in its folder")
        if name < before:
            raise ValueError("its names are not in order")
        before = name


def _verify_sums(kind: Descriptor, codes: U8) -> None:
    """Raise ValueError unless the shares of each area sum to one, as nearly as their codes can tell, or to zero.

    A code is 255 sqrt(s) rounded by at most a half, so n of them move a sum by at most sqrt(n) / 255 + n / 510^2
    (Cauchy-Schwarz).
    """
    k = codes.shape[1] // len(kind.blocks)
    if codes.shape[1] != k * len(kind.blocks):
        raise ValueError(f"descriptors of {codes.shape[1]} bytes are not {kind.name}")
    for start in range(0, len(codes), _BLOCK):
        squares = np.square(codes[start : start + _BLOCK], dtype=np.uint32)
        first = 0
        for area in kind.areas:
            n = len(area) * k
            sums = squares[:, first : first + n].sum(axis=1) / 255**2
            if ((np.abs(sums - 1) > np.sqrt(n) / 255 + n / 510**2) & (sums > 0)).any():
                raise ValueError("a descriptor whose shares do not sum to one")
            first += n


class _Described(NamedTuple):
    """Where a path is described; of several the first by this order is kept."""

    path: bytes
    is_unread: bool
    segment: int
    row: int


def _drop_described_twice(found: _Found, progress: Progress | None) -> None:
    """Let go of rows whose path another row has too.

    Names are in order in each segment, so their absolute paths are too, whatever the folder: merging the segments needs
    a few names of each at a time.
    """
    total = sum(len(kept.photos) + len(kept.unread) for kept in found.kept if kept)
    again: Counter[int] = Counter()
    example: dict[int, bytes] = {}
    before = b""
    for done, (path, is_unread, number, row) in enumerate(heapq.merge(*_streams(found.kept)), start=1):
        kept = found.kept[number]
        if path == before and kept:
            (kept.unread if is_unread else kept.photos)[row] = False
            again[number] += 1
            example.setdefault(number, path)
        before = path
        if progress and (done % _BLOCK == 0 or done == total):
            progress("photos", done, total)
    for number, kept in enumerate(found.kept):
        if kept and again[number]:
            name = os.fsdecode(example[number])
            found.problems.append(
                f"{kept.entry.file}: describes files that are described already ({again[number]:,}, such as {name!r})"
            )


def _streams(all_kept: Iterable[Kept | None]) -> Iterator[Iterator[_Described]]:
    for number, kept in enumerate(all_kept):
        if kept:
            yield _stream(kept.entry.root, kept.segment.photos, False, number)
            yield _stream(kept.entry.root, kept.segment.unread, True, number)


def _stream(root: str, files: Files, is_unread: bool, number: int) -> Iterator[_Described]:
    prefix = os.fsencode(root.rstrip(os.sep) + os.sep)
    for row, name in enumerate(_few_at_a_time(files.names)):
        yield _Described(prefix + name, is_unread, number, row)


def _few_at_a_time(names: Names) -> Iterator[bytes]:
    for start in range(0, len(names), _BLOCK):
        yield from names[start : start + _BLOCK]


def _leftovers(folder: Path, listed: set[str]) -> list[str]:
    names = sorted(path.name for path in folder.iterdir())
    unlisted = [name for name in names if is_own_file(name) and not is_axes_file(name) and name not in listed]
    return [name for name in unlisted if name != LOCK_NAME]


def _repaired(folder: Path, found: _Found) -> CheckReport:
    """Commit what is whole of an index that is locked; what was found, leftovers included, is returned."""
    report = found.report(folder, repaired=found.mendable)
    if found.manifest is None or found.palette is None:
        return report
    if found.problems:
        palette = found.manifest.palette if found.manifest.version == VERSION else save_palette(*found.palette, folder)
        replace(found.manifest, palette=palette, segments=_whole_entries(folder, found)).commit(folder)
    for name in found.damaged_axes:
        # A search makes them again.
        _remove(folder / name)
    remove_unlisted(folder)
    return report


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _whole_entries(folder: Path, found: _Found) -> tuple[SegmentEntry, ...]:
    """The segments that stay, without rows that do not; of each folder that has lost some an empty one, unfinished."""
    assert found.manifest is not None and found.palette is not None
    kept = [one for one in found.kept if one and (one.has_rows or one.entry.unfinished)]
    entries = [one.entry if one.is_as_saved else _saved(folder, one.entry, one.left()) for one in kept]
    empty = Segment.pack([], [], found.palette[1].shape[1])
    for entry, whole in zip(found.manifest.segments, found.kept, strict=True):
        if whole is None:
            entries.append(_saved(folder, replace(entry, unfinished=True), empty))
    # Two of the same folder that are empty are one.
    return tuple(dict.fromkeys(entries))


def _saved(folder: Path, entry: SegmentEntry, segment: Segment) -> SegmentEntry:
    return replace(entry, file=segment.save(folder), photos=len(segment.photos), unread=len(segment.unread))
