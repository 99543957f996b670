"""What has not changed is not opened, what has moved is recognised by its content, and only what is new is decoded."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opened_files import opened_below
from pictures import make_photo
from PIL import Image

from cbir import describe
from cbir.describe import describe_file
from cbir.fingerprint import UNKNOWN, fingerprint
from cbir.index import Index
from cbir.indexing import Report, build_index

# Two of them are called the same; all are of one size in bytes, as bitmaps of one size in pixels are.
NAMES = ("e.bmp", "x/a.bmp", "x/b.bmp", "x/c.bmp", "y/a.bmp", "y/d.bmp")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder `album` with six photos, which are in the index `index` beside it."""
    for seed, name in enumerate(NAMES):
        make_photo(tmp_path / "album" / name, seed, (8, 8))
    build_index(tmp_path / "index", [tmp_path / "album"], colors=8)
    return tmp_path / "album"


def update(album: Path, *tops: Path) -> Report:
    return build_index(album.parent / "index", tops or [album])


def counts(report: Report) -> dict[str, int]:
    """What a report tells of photos, but for what there are none of."""
    numbers = {name: getattr(report, name) for name in ("added", "changed", "moved", "dropped")}
    return {name: number for name, number in numbers.items() if number}


def described(folder: Path) -> list[tuple[str, bytes]]:
    """The paths of the photos in an index, and their codes."""
    index = Index.open(folder)
    return sorted((index.path(row), index.codes(row).tobytes()) for row in range(len(index)))


def described_anew(folder: Path, *tops: Path) -> list[tuple[str, bytes]]:
    """The same of the photos that there are, each decoded by itself."""
    index = Index.open(folder)
    paths = [str(path) for top in tops for path in top.rglob("*.bmp")]
    return sorted((path, describe_file(path, index.palette, index.descriptor).tobytes()) for path in paths)


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


def copy(one: Path, other: Path) -> None:
    """Copy a file with its time."""
    other.parent.mkdir(exist_ok=True)
    shutil.copy2(one, other)


# --- what is not touched


def test_of_a_collection_that_has_not_changed_nothing_is_opened(album: Path, in_process: None) -> None:
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (album / "notes.txt").write_text("Buy milk.")
    update(album)
    with opened_below(album) as files:
        report = update(album)
    assert (files.to_read, files.to_write, counts(report), report.photos) == ([], [], {}, 6)


def test_of_a_renamed_folder_each_photo_is_opened_once_and_no_other(album: Path, in_process: None) -> None:
    (album / "x").rename(album / "z")
    with opened_below(album) as files:
        update(album)
    assert sorted(files.to_read) == [str(album / "z" / name) for name in ("a.bmp", "b.bmp", "c.bmp")]


# --- what has moved

MOVES: dict[str, tuple[Callable[[Path], object], dict[str, int]]] = {
    "a renamed folder": (lambda album: (album / "x").rename(album / "z"), {"moved": 3}),
    "a folder moved into another": (lambda album: (album / "x").rename(album / "y" / "x"), {"moved": 3}),
    "a moved file": (lambda album: (album / "x" / "b.bmp").rename(album / "y" / "b.bmp"), {"moved": 1}),
    "a renamed file": (lambda album: (album / "x" / "b.bmp").rename(album / "x" / "z.bmp"), {"moved": 1}),
    "a file under a new name in another folder": (
        lambda album: (album / "x" / "b.bmp").rename(album / "y" / "z.bmp"),
        {"moved": 1},
    ),
    "a file moved up": (lambda album: (album / "y" / "d.bmp").rename(album / "d.bmp"), {"moved": 1}),
    "swapped folders": (lambda album: swap(album / "x", album / "y"), {"moved": 5}),
    "swapped files": (lambda album: swap(album / "x" / "a.bmp", album / "y" / "a.bmp"), {"moved": 2}),
    "a file moved over another": (
        lambda album: (album / "x" / "a.bmp").replace(album / "y" / "a.bmp"),
        {"moved": 1, "dropped": 1},
    ),
    "one makes room for another": (
        lambda album: [
            (album / "y" / "a.bmp").rename(album / "a.bmp"),
            (album / "x" / "a.bmp").rename(album / "y" / "a.bmp"),
        ],
        {"moved": 2},
    ),
}


@pytest.mark.parametrize("how", MOVES)
def test_what_was_moved_is_recognised_and_not_decoded(album: Path, decoded: list[str], how: str) -> None:
    move, expected = MOVES[how]
    move(album)
    report = update(album)
    assert (decoded, counts(report)) == ([], expected)
    files = list(album.rglob("*.bmp"))
    assert report.photos == len(files)
    assert described(album.parent / "index") == described_anew(album.parent / "index", album)
    assert all(Index.open(album.parent / "index").search(path, limit=1)[0].path == str(path) for path in files)
    assert counts(update(album)) == {}, "and the next run has nothing to do"


# A copy of a photo that is still there is decoded, since its fingerprint alone is no proof.
COPIES = {
    "a copy": (lambda album: copy(album / "x" / "b.bmp", album / "y" / "b.bmp"), {"added": 1}),
    "a copy over another": (lambda album: copy(album / "x" / "a.bmp", album / "y" / "a.bmp"), {"changed": 1}),
    "two copies of one that is gone": (
        lambda album: [
            copy(album / "x" / "b.bmp", album / "y" / "b.bmp"),
            (album / "x" / "b.bmp").rename(album / "b.bmp"),
        ],
        {"moved": 1, "added": 1},
    ),
}


@pytest.mark.parametrize("how", COPIES)
def test_of_copies_no_more_are_recognised_than_photos_are_gone(album: Path, decoded: list[str], how: str) -> None:
    make_copies, expected = COPIES[how]
    make_copies(album)
    report = update(album)
    assert (len(decoded), counts(report)) == (1, expected)
    assert described(album.parent / "index") == described_anew(album.parent / "index", album)
    assert counts(update(album)) == {}, "and the next run has nothing to do"


def test_pictures_that_are_alike_where_they_are_looked_at_are_told_apart(album: Path) -> None:
    for folder, color in (("x", (255, 0, 0)), ("y", (0, 0, 255))):
        picture = Image.new("RGB", (600, 600), "white")
        picture.paste(color, (100, 400, 500, 500))
        picture.save(album / folder / "page.bmp")
        os.utime(album / folder / "page.bmp", (1_000_000_000, 1_000_000_000))
        update(album)
    assert fingerprint(album / "x" / "page.bmp") == fingerprint(album / "y" / "page.bmp")
    assert described(album.parent / "index") == described_anew(album.parent / "index", album)


def test_a_new_photo_in_the_place_of_one_that_was_moved_is_decoded_alone(album: Path, decoded: list[str]) -> None:
    (album / "x" / "b.bmp").rename(album / "y" / "b.bmp")
    make_photo(album / "x" / "b.bmp", 99, (8, 8))
    assert counts(update(album)) == {"added": 1, "moved": 1}
    assert decoded == ["b.bmp"]
    assert described(album.parent / "index") == described_anew(album.parent / "index", album)


def test_a_collection_under_a_new_name_keeps_its_index(album: Path, decoded: list[str]) -> None:
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    update(album)
    decoded.clear()
    album.rename(album.with_name("photos"))
    report = update(album, album.with_name("photos"))
    assert (decoded, counts(report)) == (["broken.jpg"], {"moved": 6})
    assert [one.path for one in report.skipped] == [str(album.with_name("photos") / "broken.jpg")]
    info = Index.open(album.parent / "index").info()
    assert (info.roots, info.photos, info.unread) == ([str(album.with_name("photos"))], 6, 1)
    assert described(album.parent / "index") == described_anew(album.parent / "index", album.with_name("photos"))


def test_a_photo_that_leaves_the_given_folder_and_comes_back_is_recognised_both_times(
    album: Path, tmp_path: Path, decoded: list[str]
) -> None:
    make_photo(tmp_path / "other" / "f.bmp", 50, (8, 8))
    update(album, tmp_path / "other")
    decoded.clear()
    (album / "x" / "b.bmp").rename(tmp_path / "other" / "b.bmp")
    assert counts(update(album, tmp_path / "other")) == {"moved": 1}
    (tmp_path / "other" / "b.bmp").rename(album / "x" / "b.bmp")
    assert counts(update(album, album)) == {"moved": 1}
    assert decoded == []
    assert described(tmp_path / "index") == described_anew(tmp_path / "index", album, tmp_path / "other")


def test_how_many_have_a_profile_is_right_whatever_becomes_of_them(
    album: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = describe.read_working_picture

    def with_profile(path: str, **limits: Any) -> object:
        return replace(real(path, **limits), converted="wide" in path)

    monkeypatch.setattr(describe, "read_working_picture", with_profile)

    def converted() -> int:
        report = update(album)
        assert report.converted == Index.open(album.parent / "index").info().converted
        return report.converted

    make_photo(album / "x" / "wide.bmp", 50, (8, 8))
    make_photo(album / "x" / "wider.bmp", 51, (8, 8))
    assert converted() == 2
    (album / "x").rename(album / "z")
    assert converted() == 2
    make_photo(album / "z" / "wide.bmp", 52, (9, 9))
    assert converted() == 2
    (album / "z" / "wide.bmp").unlink()
    assert converted() == 1
    (album / "z" / "wider.bmp").write_bytes(b"BM")
    assert converted() == 0


# --- what only looks so


def test_files_of_one_name_size_and_time_but_other_content_are_not_taken_for_one_another(
    album: Path, decoded: list[str]
) -> None:
    old = (album / "x" / "b.bmp").stat()
    (album / "x" / "b.bmp").unlink()
    new = make_photo(album / "y" / "b.bmp", 99, (8, 8))
    os.utime(new, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert new.stat().st_size == old.st_size
    assert counts(update(album)) == {"added": 1, "dropped": 1}
    assert decoded == ["b.bmp"]
    assert described(album.parent / "index") == described_anew(album.parent / "index", album)


def test_photos_of_which_no_fingerprint_is_known_are_decoded_when_they_move(
    album: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(describe, "fingerprint", lambda path: UNKNOWN)
        build_index(album.parent / "index", [album], colors=8, rebuild=True)
    decoded.clear()
    (album / "x").rename(album / "z")
    assert counts(update(album)) == {"added": 3, "dropped": 3}
    assert decoded == ["a.bmp", "b.bmp", "c.bmp"]
    (album / "z").rename(album / "x")
    assert counts(update(album)) == {"moved": 3}, "now they are known"


def test_photos_below_a_folder_that_cannot_be_looked_into_stay(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def denied(path: str) -> object:
        if path == str(album / "x"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", denied)
        report = update(album)
    assert (counts(report), report.photos) == ({}, 6)
    assert [(one.path, one.reason) for one in report.skipped] == [(str(album / "x"), "permission denied")]
    shutil.rmtree(album / "x")
    assert counts(update(album)) == {"dropped": 3}


def test_a_photo_that_cannot_be_opened_to_be_recognised_is_told(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> int:
        raise PermissionError(13, "Permission denied")

    (album / "x").rename(album / "z")
    monkeypatch.setattr("cbir.plan.fingerprint", denied)
    assert counts(update(album)) == {"added": 3, "dropped": 3}


# --- whatever happens

PLACES = st.sampled_from([f"{folder}/{name}.bmp" for folder in ("x", "y", "z") for name in "ab"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PLACES, st.integers(0, 5), st.integers(1, 2)),
        st.tuples(st.just("delete"), PLACES),
        st.tuples(st.just("move"), PLACES, PLACES),
        st.tuples(st.just("copy"), PLACES, PLACES),
        st.tuples(st.just("swap"), st.sampled_from(["x", "y", "z"]), st.sampled_from(["x", "y", "z"])),
        st.just(("update",)),
    ),
    max_size=25,
)
Files = dict[str, tuple[bytes, int]]


def take(album: Path, step: tuple[object, ...]) -> None:
    """Change the photos below a folder, if there is what is to be changed."""
    what, *others = step
    if what == "write":
        name, seed, time = others
        os.utime(make_photo(album / str(name), int(str(seed)), (8, 8)), (int(str(time)),) * 2)
        return
    first, *second = (album / str(other) for other in others)
    if not first.exists() or first in second:
        return
    if what == "delete":
        first.unlink()
    elif what == "copy":
        copy(first, *second)
    elif what == "move":
        second[0].parent.mkdir(exist_ok=True)
        first.replace(*second)
    elif second[0].exists():
        swap(first, *second)


def files_in(album: Path) -> Files:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in album.rglob("*.bmp")}


def renew_what_nobody_could_tell(album: Path, before: Files, fresh: int) -> None:
    """Give another time to files that have their old name, size and time, but other content."""
    for path, (content, time) in files_in(album).items():
        if path in before and before[path][1] == time and before[path][0] != content:
            os.utime(path, (fresh, fresh))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(STEPS)
def test_whatever_was_done_to_the_photos_each_is_there_as_if_described_anew(
    decoded: list[str], steps: list[tuple[object, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        album, index = Path(folder) / "album", Path(folder) / "index"
        make_photo(album / "always.bmp", 7, (8, 8))
        build_index(index, [album], colors=4, descriptor="global")
        before = files_in(album)
        for number, step in enumerate([*steps, ("update",)]):
            if step != ("update",):
                take(album, step)
                continue
            renew_what_nobody_could_tell(album, before, 1000 + number)
            now = files_in(album)
            decoded.clear()
            report = build_index(index, [album])
            assert described(index) == described_anew(index, album)
            assert report.photos == len(now) == len(before) + report.added - report.dropped
            come = Counter(file for path, file in now.items() if before.get(path) != file)
            gone = Counter(file for path, file in before.items() if now.get(path) != file)
            # describe_file, of which `described_anew` makes use, decodes each file once more.
            assert len(decoded) - len(now) == (come - gone).total()
            assert min(report.added, report.changed, report.moved, report.dropped) >= 0
            before = now
