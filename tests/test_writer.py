"""What was done stays done: after Ctrl-C or a crash the next run goes on, and its result is that of a single run."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import make_photo
from test_index import files_of

from cbir import learn, parallel, writer
from cbir.index import Index
from cbir.indexing import IndexingInterruptedError, build_index
from cbir.writer import Writer

PHOTOS = 10
LEARNT = 3
often = pytest.mark.parametrize("commits", ["after every photo", "when interrupted"])


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `album` of ten photos and a broken one, more than is learnt from and than goes to a worker at once."""
    monkeypatch.setattr(learn, "LEARNING_PHOTOS", LEARNT)
    monkeypatch.setattr(parallel, "_BATCH", 2)
    for seed in range(PHOTOS):
        make_photo(tmp_path / "album" / "xy"[seed % 2] / f"{seed}.bmp", seed, (8, 8))
    (tmp_path / "album" / "x" / "broken.bmp").write_bytes(b"BM")
    return tmp_path / "album"


def commit_when(commits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if commits == "when interrupted, with much to write anew":
        monkeypatch.setattr(writer, "_FEW_PHOTOS", 0)
    if commits == "after every photo":
        monkeypatch.setattr(writer, "_COMMIT_SECONDS", 0)
        monkeypatch.setattr(writer, "_COMMIT_SHARE", 0)


def fail_after(number: int, failure: BaseException, patch: pytest.MonkeyPatch) -> None:
    """Let it fail when so many files have been taken in."""
    taken: list[object] = []
    real = Writer.add

    def add(self: Writer, *arguments: object) -> None:
        real(self, *arguments)  # type: ignore[arg-type]
        taken.append(arguments)
        if len(taken) == number:
            raise failure

    patch.setattr(Writer, "add", add)


def interrupt_after(number: int, index: Path, album: Path, jobs: int = 1) -> int:
    """Press Ctrl-C when so many files have been taken in; how many photos are said to be in the index."""
    with pytest.MonkeyPatch.context() as patch:
        fail_after(number, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt) as caught:
            build_index(index, [album], colors=8, jobs=jobs)
    # Before the first file is decoded there is nothing to be told of.
    return caught.value.photos if isinstance(caught.value, IndexingInterruptedError) else len(Index.open(index))


def files_in(index: Path) -> int:
    """How many files an index tells of: photos, and the broken one, which of two workers may come early or late."""
    info = Index.open(index).info()
    return info.photos + info.unread


def file_numbers(album: Path) -> range:
    return range(1, 1 + sum(path.is_file() for path in album.rglob("*")))


# --- a new index


@often
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_new_index_that_was_interrupted_anywhere_becomes_the_same_byte_for_byte(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, commits: str
) -> None:
    build_index(tmp_path / "undisturbed", [album], colors=8)
    commit_when(commits, monkeypatch)
    for number in file_numbers(album):
        index = tmp_path / str(number)
        photos = interrupt_after(number, index, album, jobs)
        assert number - 1 <= photos <= number, "one file is broken"
        assert len(Index.open(index)) == photos and Index.open(index).info().unfinished
        report = build_index(index, [album], jobs=jobs)
        assert (report.photos, report.added, len(report.skipped)) == (PHOTOS, PHOTOS - photos, 1)
        assert files_of(index) == files_of(tmp_path / "undisturbed")
        assert not Index.open(index).info().unfinished


@often
def test_nothing_is_decoded_twice_however_often_it_is_interrupted(
    album: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch, commits: str
) -> None:
    build_index(tmp_path / "undisturbed", [album], colors=8)
    decoded.clear()
    commit_when(commits, monkeypatch)
    for number in (LEARNT, *[1] * (PHOTOS + 1 - LEARNT)):
        interrupt_after(number, tmp_path / "index", album)
    build_index(tmp_path / "index", [album])
    assert sorted(decoded) == sorted(path.name for path in album.rglob("*.bmp"))
    assert files_of(tmp_path / "index") == files_of(tmp_path / "undisturbed")


def test_until_the_palette_is_learnt_nothing_is_kept_and_nothing_left(album: Path, tmp_path: Path) -> None:
    def press(done: int, total: int) -> None:
        if done == LEARNT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        build_index(tmp_path / "index", [album], progress=press)
    assert not isinstance(caught.value, IndexingInterruptedError)
    assert not (tmp_path / "index").exists()


def test_what_is_there_can_be_searched_meanwhile(
    album: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_when("after every photo", monkeypatch)
    lengths: list[int] = []

    def read(done: int, total: int) -> None:
        if done > LEARNT + 1:
            index = Index.open(tmp_path / "index")
            assert index.search(index.path(0))[0].distance == 0
            lengths.append(len(index))

    build_index(tmp_path / "index", [album], colors=8, progress=read)
    assert lengths == sorted(lengths) and lengths[0] <= LEARNT + 1 and lengths[-1] >= PHOTOS - 1


# --- an index that is brought up to date


@pytest.fixture
def older(album: Path, tmp_path: Path) -> Path:
    """The index of an album of which since then photos have changed, gone, moved and come."""
    build_index(tmp_path / "older", [album], colors=8)
    for seed, name in ((20, "x/0.bmp"), (21, "y/1.bmp"), (22, "z/20.bmp"), (23, "a.bmp"), (24, "y/24.bmp")):
        make_photo(album / name, seed, (9, 9))
    (album / "x" / "2.bmp").unlink()
    (album / "y" / "3.bmp").unlink()
    (album / "x" / "4.bmp").rename(album / "z" / "4.bmp")
    (album / "y" / "5.bmp").rename(album / "z" / "5.bmp")
    (album / "x" / "6.bmp").rename(album / "y" / "6.bmp")
    (album / "y" / "7.bmp").write_bytes(b"BM")
    return tmp_path / "older"


EXPECTED = {"photos": 10, "added": 3, "changed": 2, "moved": 3, "dropped": 3}
FILES = 3 + 2 + 3 + 1


@pytest.mark.parametrize(
    "commits", ["after every photo", "when interrupted", "when interrupted, with much to write anew"]
)
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_update_that_was_interrupted_anywhere_becomes_the_same_byte_for_byte(
    album: Path, older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, commits: str
) -> None:
    report = build_index(shutil.copytree(older, tmp_path / "undisturbed"), [album])
    assert {name: getattr(report, name) for name in EXPECTED} == EXPECTED
    commit_when(commits, monkeypatch)
    for number in range(1, FILES + 1):
        index = shutil.copytree(older, tmp_path / str(number))
        photos = interrupt_after(number, index, album, jobs)
        paths = [Index.open(index).path(row) for row in range(photos)]
        assert len(Index.open(index)) == photos == len(set(paths)), "no photo is there twice"
        build_index(index, [album], jobs=jobs)
        assert files_of(index) == files_of(tmp_path / "undisturbed")


@often
def test_an_update_decodes_nothing_twice_however_often_it_is_interrupted(
    album: Path, older: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch, commits: str
) -> None:
    build_index(shutil.copytree(older, tmp_path / "undisturbed"), [album])
    expected = sorted(decoded)
    decoded.clear()
    commit_when(commits, monkeypatch)
    for number in (EXPECTED["moved"] + 1, *[1] * (FILES - EXPECTED["moved"] - 1)):
        interrupt_after(number, older, album)
    build_index(older, [album])
    assert sorted(decoded) == expected and len(expected) == FILES - EXPECTED["moved"]
    assert files_of(older) == files_of(tmp_path / "undisturbed")


def test_what_was_moved_is_not_lost_by_an_interruption_before_all_of_it_is_taken_over(
    album: Path, older: Path, decoded: list[str]
) -> None:
    before = files_of(older)
    with pytest.MonkeyPatch.context() as patch:
        fail_after(2, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            build_index(older, [album])
    assert files_of(older) == before
    assert build_index(older, [album]).moved == EXPECTED["moved"]
    assert len(decoded) == FILES - EXPECTED["moved"]


def test_photos_that_change_between_an_interruption_and_the_next_run_are_described_anew(
    album: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(tmp_path / "other", [album], colors=8)
    commit_when("after every photo", monkeypatch)
    photos = interrupt_after(LEARNT + 2, tmp_path / "index", album)
    # All that is in the index so far, so that nothing stays of what the first run has committed.
    for row, path in enumerate([Index.open(tmp_path / "index").path(row) for row in range(photos)]):
        make_photo(Path(path), 30 + row, (9, 9))
    report = build_index(tmp_path / "index", [album])
    assert (report.photos, report.changed, report.added) == (PHOTOS, photos, PHOTOS - photos)
    index = Index.open(tmp_path / "index")
    assert all(index.search(index.path(row), limit=1)[0].distance == 0 for row in range(PHOTOS))
    assert not index.info().unfinished


# --- other ends


def test_ctrl_c_while_it_is_put_in_order_loses_nothing(
    album: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(tmp_path / "undisturbed", [album], colors=8)
    decoded.clear()
    real = Writer.ordered

    def interrupted(self: Writer) -> None:
        real(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "ordered", interrupted)
        with pytest.raises(IndexingInterruptedError) as caught:
            build_index(tmp_path / "index", [album], colors=8)
    assert caught.value.photos == PHOTOS == len(Index.open(tmp_path / "index"))
    decoded.clear()
    build_index(tmp_path / "index", [album])
    assert decoded == []
    assert files_of(tmp_path / "index") == files_of(tmp_path / "undisturbed")


def test_a_failure_leaves_the_last_commit_and_nothing_else(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(tmp_path / "undisturbed", [album], colors=8)
    commit_when("after every photo", monkeypatch)
    with monkeypatch.context() as patch:
        fail_after(LEARNT + 3, OSError(28, "No space left on device"), patch)
        with pytest.raises(OSError, match="No space"):
            build_index(tmp_path / "index", [album], colors=8)
    assert files_in(tmp_path / "index") == LEARNT + 2
    build_index(tmp_path / "index", [album])
    assert files_of(tmp_path / "index") == files_of(tmp_path / "undisturbed")


def test_after_a_crash_the_next_run_goes_on_from_the_last_commit(album: Path, tmp_path: Path) -> None:
    build_index(tmp_path / "undisturbed", [album], colors=8)
    program = f"""if True:
        import os, signal, sys
        from cbir import learn, writer
        from cbir.indexing import build_index
        learn.LEARNING_PHOTOS, writer._COMMIT_SECONDS, writer._COMMIT_SHARE = {LEARNT}, 0, 0
        def crash(done, total):
            if done == {LEARNT + 4}:
                os.kill(os.getpid(), signal.SIGKILL)
        build_index(sys.argv[1], [sys.argv[2]], colors=8, progress=crash)
    """
    crashed = subprocess.run([sys.executable, "-c", program, tmp_path / "index", album], check=False)
    assert crashed.returncode == -signal.SIGKILL
    done = len(Index.open(tmp_path / "index"))
    assert LEARNT + 2 <= files_in(tmp_path / "index") <= LEARNT + 3
    report = build_index(tmp_path / "index", [album])
    assert report.added == PHOTOS - done
    assert files_of(tmp_path / "index") == files_of(tmp_path / "undisturbed")


def test_a_long_run_leaves_few_files_to_open_however_often_it_commits(
    album: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(40):
        make_photo(album / f"{seed}.bmp", seed, (8, 8))
    build_index(tmp_path / "undisturbed", [album], colors=8)
    commit_when("after every photo", monkeypatch)
    photos = interrupt_after(50, tmp_path / "index", album)
    assert photos >= 49 and len(files_of(tmp_path / "index")) <= 12
    build_index(tmp_path / "index", [album])
    assert files_of(tmp_path / "index") == files_of(tmp_path / "undisturbed")
