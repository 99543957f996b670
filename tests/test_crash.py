"""Killed at any moment, an index opens, holds what was last committed, and the next run ends as if nothing had been."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pictures import make_photo

from cbir import indexing, manifest, writer
from cbir.check import check_index
from cbir.index import Index
from cbir.indexing import build_index
from cbir.manifest import FILE_NAME, Manifest

PHOTOS = 60
MOMENTS = 200


@dataclass(frozen=True)
class Case:
    """An index as it is before the run, if there is one, and after a run that was not disturbed."""

    before: Path | None
    after: dict[str, bytes]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".writer"}


def start_again(case: Case, index: Path) -> None:
    shutil.rmtree(index, ignore_errors=True)
    if case.before:
        shutil.copytree(case.before, index)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crash") / "photos"
    folder.mkdir()
    for seed in range(PHOTOS):
        make_photo(folder / f"{seed:03}.png", seed)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture(scope="module")
def cases(photos: Path) -> list[Case]:
    """A new index, and one of which photos were changed, removed, renamed and added since."""
    place = photos.parent
    old = place / "old"
    build_index(place / "new", [photos], colors=16, jobs=1)
    shutil.copytree(photos, place / "was")
    shutil.copytree(place / "was", place / "aside")
    for seed in range(0, PHOTOS, 4):
        (photos / f"{seed:03}.png").unlink()
    for seed in range(1, PHOTOS, 4):
        make_photo(photos / f"{seed:03}.png", 100 + seed)
    for seed in range(2, PHOTOS, 8):
        (photos / f"{seed:03}.png").rename(photos / f"renamed-{seed:03}.png")
    shutil.copytree(place / "new", old)
    fresh = place / "fresh"
    build_index(fresh, [photos], colors=16, jobs=1)
    updated = place / "updated"
    shutil.copytree(old, updated)
    build_index(updated, [photos], jobs=1)
    return [Case(None, files_of(fresh)), Case(old, files_of(updated))]


def build_and_log(index: Path, photos: Path, log: Path) -> None:
    """In a process of its own: index with a commit after every photo, noting each commit before and after it."""
    writer._COMMIT_SECONDS, writer._COMMIT_SHARE = 0.0, 0
    real = Manifest.commit

    def commit(self: Manifest, folder: Path) -> None:
        note(log / "next", folder, self)
        real(self, folder)
        os.replace(log / "next", log / "last")

    manifest.Manifest.commit = commit  # type: ignore[method-assign]
    indexing.build_index(index, [photos], colors=16, jobs=1)


def note(place: Path, folder: Path, committed: Manifest) -> None:
    """What `committed` will make of the index, as text, written in one step."""
    partly = place.with_suffix(".part")
    partly.write_text(repr(committed))
    os.replace(partly, place)


@pytest.mark.slow
def test_killed_at_two_hundred_moments_nothing_is_lost(photos: Path, cases: list[Case], tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["cbir.index", "sklearn.cluster", "test_crash"])
    rng = np.random.default_rng(2026)
    index, log = tmp_path / "index", tmp_path / "log"
    finished = in_the_middle = 0
    for case in cases:
        start_again(case, index)
        longest, commits = 1.0, 0.2
        moment = 0
        while moment < MOMENTS // len(cases):
            shutil.rmtree(log, ignore_errors=True)
            log.mkdir()
            was = Manifest.load(index) if (index / FILE_NAME).exists() else None
            process = processes.Process(target=build_and_log, args=(index, photos, log))
            started = time.monotonic()
            process.start()
            # Every other time, by chance, not before the first commit: for most of a run there is nothing to commit.
            if rng.random() < 0.5 and wait_for(log / "last", process):
                first = time.monotonic()
                process.join(rng.uniform(0, commits))
            else:
                first = None
                process.join(rng.uniform(0, longest))
            process.kill()
            process.join()
            if process.exitcode == 0:
                assert files_of(index) == case.after
                longest = time.monotonic() - started
                commits = time.monotonic() - first if first else commits
                finished += 1
                start_again(case, index)
                continue
            assert process.exitcode == -9
            moment += 1
            holds_what_was_committed(index, log, was)
            in_the_middle += (log / "last").exists()
        build_index(index, [photos], colors=16, jobs=1)
        assert files_of(index) == case.after
    print(f"{in_the_middle} of {MOMENTS} after a commit of theirs; {finished} were done first")
    assert in_the_middle > MOMENTS // 10


def wait_for(path: Path, process: multiprocessing.process.BaseProcess) -> bool:
    """Whether a file appears before a process ends."""
    while process.exitcode is None and not path.exists():
        time.sleep(0.001)
    return path.exists()


def holds_what_was_committed(index: Path, log: Path, was: Manifest | None) -> None:
    """The index is the last that was committed, or the one that was just being committed; it opens, and is whole."""
    last = (log / "last").read_text() if (log / "last").exists() else repr(was)
    allowed = {last, (log / "next").read_text() if (log / "next").exists() else last}
    if not (index / FILE_NAME).exists():
        assert "None" in allowed
        return
    assert repr(Manifest.load(index)) in allowed
    opened = Index.open(index)
    paths = [opened.path(row) for row in range(len(opened))]
    assert len(set(paths)) == len(paths)
    assert check_index(index).problems == []
