"""One writer at a time: the second is told who is first, and a lock never outlives who holds it."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opened_files import opened_below

from cbir.errors import IndexFolderError
from cbir.index import Index
from cbir.indexing import build_index
from cbir.lock import LOCK_NAME, locked

fcntl = pytest.importorskip("fcntl", reason="folders can be locked on POSIX systems only")

# Locks a folder, starts a process of its own as the workers are, says that one's number, and waits.
HOLDER = """if True:
    import subprocess, sys
    from pathlib import Path
    from cbir.lock import locked
    with locked(Path(sys.argv[1])):
        print(subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid, flush=True)
        sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has locked a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def is_free(folder: Path) -> bool:
    try:
        with locked(folder):
            return True
    except IndexFolderError:
        return False


def test_the_second_is_told_in_one_line_which_process_on_which_host_is_first(tmp_path: Path) -> None:
    with holder(tmp_path) as other, pytest.raises(IndexFolderError) as caught, locked(tmp_path):
        pytest.fail("it is locked")
    first = f"cbir (process {other.pid} on {platform.node()})"
    assert str(caught.value) == f"{tmp_path}: {first} is writing it; wait until it is done"


def test_a_lock_is_free_when_its_holder_is_killed_though_what_he_started_lives_on(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        assert not is_free(tmp_path)
        other.kill()
        other.wait()
        assert (tmp_path / LOCK_NAME).read_text() != "", "he could not clean up"
        with locked(tmp_path):
            assert (tmp_path / LOCK_NAME).read_text() == f"cbir (process {os.getpid()} on {platform.node()})"


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_lock_ends_with_the_work_however_that_ends(tmp_path: Path, error: type[BaseException] | None) -> None:
    try:
        with locked(tmp_path):
            assert not is_free(tmp_path)
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert is_free(tmp_path)
    assert (tmp_path / LOCK_NAME).read_bytes() == b"", "nobody holds it"


def test_folders_are_locked_one_by_one(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    with locked(tmp_path / "a"):
        assert is_free(tmp_path / "b")


@pytest.mark.parametrize("how", ["the file system has no locks", "the system has no locks"])
def test_without_locks_the_work_is_done_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    if how == "the system has no locks":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ZeroDivisionError), locked(tmp_path), locked(tmp_path):
        raise ZeroDivisionError


def test_a_second_writer_goes_and_changes_nothing_and_readers_read(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_index(index, [photos], colors=8)
    (photos / "things" / "plum.png").unlink()
    with holder(index):
        before = {path.name: path.read_bytes() for path in index.iterdir()}
        for rebuild in (False, True):
            with pytest.raises(IndexFolderError, match="is writing it"):
                build_index(index, [photos], rebuild=rebuild)
        assert {path.name: path.read_bytes() for path in index.iterdir()} == before
        assert len(Index.open(index).search("plum.png", limit=20)) == 10
    assert build_index(index, [photos]).dropped == 1


def test_a_reader_opens_nothing_to_write_it(photos: Path, tmp_path: Path) -> None:
    build_index(tmp_path / "index", [photos], colors=8)
    with opened_below(tmp_path / "index") as files:
        Index.open(tmp_path / "index").search(photos / "things" / "plum.png")
    assert files.to_read and not files.to_write


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_index_that_cannot_be_written_can_be_read_and_is_told_in_one_line(photos: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build_index(index, [photos], colors=8)
    (index / LOCK_NAME).unlink()
    index.chmod(0o555)
    try:
        assert len(Index.open(index).search("plum.png")) == 10
        with pytest.raises(IndexFolderError, match=f"^{index}: cannot be written"):
            build_index(index, [photos])
    finally:
        index.chmod(0o755)
