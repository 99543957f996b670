"""Gathering: found photos in a folder by rank, whole or not at all, and never over anything."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbir import gather
from cbir.errors import CbirError
from cbir.find import Skipped
from cbir.gather import copy_to

UNIX = pytest.mark.skipif(os.name != "posix", reason="names and links of Unix")


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Three files in two folders, two of one name."""
    made = []
    for name in ("a/sea.jpg", "b/sea.jpg", "b/sky.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() * 100)
        os.utime(path, ns=(1_000_000_000, 1_234_567_890_000_000_000))
        made.append(str(path))
    return made


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_photos_are_copied_by_rank_with_their_times_into_a_folder_that_is_made(tmp_path, photos):
    made = copy_to(photos, tmp_path / "new" / "hits")
    assert names(tmp_path / "new" / "hits") == ["001-sea.jpg", "002-sea.jpg", "003-sky.png"]
    assert made == [str(tmp_path / "new" / "hits" / name) for name in ("001-sea.jpg", "002-sea.jpg", "003-sky.png")]
    for path, copy in zip(photos, made, strict=True):
        assert Path(copy).read_bytes() == Path(path).read_bytes()
        assert os.stat(copy).st_mtime_ns == 1_234_567_890_000_000_000
        assert not os.path.samefile(path, copy)


@UNIX
def test_copies_may_be_read_by_whom_the_user_lets_read_new_files(tmp_path, photos):
    os.chmod(photos[0], 0o400)
    before = os.umask(0o027)
    try:
        (copy,) = copy_to(photos[:1], tmp_path / "hits")
    finally:
        os.umask(before)
    assert os.stat(copy).st_mode & 0o777 == 0o640


@UNIX
def test_links_lead_to_the_photos_from_wherever_they_are_followed(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = copy_to(["a/sea.jpg", photos[2]], "hits", link=True)
    assert [os.readlink(link) for link in made] == [photos[0], photos[2]]


def test_more_than_999_are_numbered_alike(tmp_path, photos):
    copy_to([photos[0]] * 1000, tmp_path / "hits")
    assert names(tmp_path / "hits")[::999] == ["0001-sea.jpg", "1000-sea.jpg"]


@pytest.mark.parametrize("link", [False, pytest.param(True, marks=UNIX)], ids=["copies", "links"])
@pytest.mark.parametrize("kind", ["file", "folder", pytest.param("broken link", marks=UNIX)])
def test_nothing_is_overwritten_and_nothing_done_if_a_name_is_taken(tmp_path, photos, link, kind):
    folder = tmp_path / "hits"
    taken = folder / "002-sea.jpg"
    folder.mkdir()
    if kind == "file":
        taken.write_bytes(b"mine")
    elif kind == "folder":
        taken.mkdir()
    else:
        taken.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CbirError, match=r"002-sea\.jpg: exists; name another folder"):
        copy_to(photos, folder, link)
    assert names(folder) == ["002-sea.jpg"]
    assert kind != "file" or taken.read_bytes() == b"mine"


def test_other_files_of_the_folder_stay(tmp_path, photos):
    (tmp_path / "hits").mkdir()
    (tmp_path / "hits" / "mine.jpg").write_bytes(b"mine")
    copy_to(photos[:1], tmp_path / "hits")
    assert names(tmp_path / "hits") == ["001-sea.jpg", "mine.jpg"]


@pytest.mark.parametrize("hard_links", [True, False], ids=["hard links", "none"])
def test_a_file_that_comes_while_photos_are_copied_stays_and_all_else_is_removed(
    tmp_path, photos, monkeypatch, hard_links
):
    folder = tmp_path / "hits"
    if not hard_links:
        monkeypatch.setattr(os, "link", no_hard_links)

    def another_program(done, of):
        if done == 1:
            (folder / "002-sea.jpg").write_bytes(b"mine")

    with pytest.raises(CbirError, match=r"002-sea\.jpg: was made by another program"):
        copy_to(photos, folder, progress=another_program)
    assert names(folder) == ["002-sea.jpg"]
    assert (folder / "002-sea.jpg").read_bytes() == b"mine"


def no_hard_links(source, target):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM), source, None, target)


def test_photos_are_copied_to_file_systems_without_hard_links(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(os, "link", no_hard_links)
    made = copy_to(photos, tmp_path / "hits")
    assert [Path(copy).read_bytes() for copy in made] == [Path(path).read_bytes() for path in photos]
    assert names(tmp_path / "hits") == ["001-sea.jpg", "002-sea.jpg", "003-sky.png"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")], ids=repr)
def test_what_is_interrupted_leaves_nothing_behind(tmp_path, photos, monkeypatch, stop):
    real = gather._copy

    def stopped(source, copy):
        real(source, copy)
        if source.name == photos[2]:
            raise stop
        return None

    monkeypatch.setattr(gather, "_copy", stopped)
    with pytest.raises((KeyboardInterrupt, CbirError)) as caught:
        copy_to(photos, tmp_path / "hits")
    assert not (tmp_path / "hits").exists()
    assert caught.type is KeyboardInterrupt or str(caught.value).endswith("(no space left on device)")


def test_what_is_gone_or_no_file_is_told_and_its_number_stays_free(tmp_path, photos):
    skipped: list[Skipped] = []
    paths = [photos[0], str(tmp_path / "gone.jpg"), str(tmp_path / "a"), photos[2]]
    made = copy_to(paths, tmp_path / "hits", skipped=skipped)
    assert [os.path.basename(path) for path in made] == ["001-sea.jpg", "004-sky.png"]
    assert skipped == [Skipped(paths[1], "no such file or directory"), Skipped(paths[2], "not a regular file")]


@UNIX
def test_a_pipe_that_would_never_end_is_not_opened(tmp_path, never_hangs):
    os.mkfifo(tmp_path / "a.jpg")
    assert copy_to([str(tmp_path / "a.jpg")], tmp_path / "hits") == []


def test_a_photo_that_cannot_be_read_to_its_end_is_told_and_leaves_nothing(tmp_path, photos, monkeypatch):
    class Torn:
        def read(self, size):
            raise OSError(errno.EIO, "Input/output error")

    real = gather._copy
    monkeypatch.setattr(
        gather, "_copy", lambda source, copy: real(Torn() if source.name == photos[1] else source, copy)
    )
    skipped: list[Skipped] = []
    copy_to(photos, tmp_path / "hits", skipped=skipped)
    assert names(tmp_path / "hits") == ["001-sea.jpg", "003-sky.png"]
    assert skipped == [Skipped(photos[1], "input/output error")]


def test_where_links_cannot_be_made_a_line_says_so(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(os, "symlink", no_hard_links)
    with pytest.raises(CbirError, match=r"links cannot be made there \(operation not permitted\); copy the photos"):
        copy_to(photos, tmp_path / "hits", link=True)
    assert not (tmp_path / "hits").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path, photos):
    with pytest.raises(CbirError, match="is not a folder"):
        copy_to(photos[1:], photos[0])
    with pytest.raises(CbirError, match="cannot be made"):
        copy_to(photos[1:], Path(photos[0]) / "hits")


def test_progress_tells_how_many_are_done_of_how_many(tmp_path, photos):
    told = []
    copy_to(photos, tmp_path / "hits", progress=lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]


@UNIX
@pytest.mark.parametrize("link", [False, True], ids=["copies", "links"])
@given(name=st.binary(min_size=1, max_size=255).filter(lambda name: not {0, ord("/")} & set(name)))
@settings(max_examples=40)
def test_any_name_is_kept_as_far_as_there_is_room(tmp_path_factory, link, name):
    if name in (b".", b".."):
        return
    root = os.fsencode(tmp_path_factory.mktemp("names"))
    with open(os.path.join(root, name), "wb") as file:
        file.write(b"photo")
    copy_to([os.fsdecode(os.path.join(root, name))], os.fsdecode(os.path.join(root, b"hits in a folder")), link)
    (made,) = os.listdir(os.path.join(root, b"hits in a folder"))
    assert made == b"001-" + name if len(name) < 252 else len(made) <= 255 and made[:100] == (b"001-" + name)[:100]


@UNIX
def test_of_a_name_too_long_the_ending_stays(tmp_path):
    path = tmp_path / ("ä" * 125 + ".jpg")
    path.write_bytes(b"photo")
    (made,) = copy_to([str(path)], tmp_path / "hits")
    assert os.path.basename(made) == "001-" + "ä" * 123 + ".jpg"
