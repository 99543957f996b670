"""What goes wrong on real disks costs one line, and no photo is lost under whatever name it has."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from pictures import make_photo

from cbir import describe, learn, writer
from cbir.errors import PictureError
from cbir.index import Index
from cbir.indexing import build_index

# Bytes, since names are bytes; the last one is no UTF-8.
NAMES = [
    b"two\nlines.jpg",
    b"tab\tand \x1b[31mred.jpg",
    b"quotes 'single' \"double\".jpg",
    b"back\\slash\\n.jpg",
    b"$(touch pwned) `date` $HOME.jpg",
    b" spaces  and -dash.jpg",
    b"comma,semicolon;.jpg",
    "emoji \N{SMILING FACE WITH HEART-SHAPED EYES} and \N{LATIN SMALL LETTER O WITH DIAERESIS}.jpg".encode(),
    "right to left \u202egpj.jpg".encode(),
    b"latin-1 caf\xe9.jpg",
]


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A folder of photos with difficult names, indexed."""
    for seed, name in enumerate(NAMES):
        make_photo(tmp_path / "photos" / "plain.jpg", seed)
        os.rename(tmp_path / "photos" / "plain.jpg", os.fsencode(tmp_path / "photos") + b"/" + name)
    build_index(tmp_path / "indexes" / "photos", [tmp_path / "photos"], colors=8)
    return tmp_path / "photos"


def found_names(command: Command, format: str) -> bytes:
    result = command("search", os.path.join("photos", os.fsdecode(NAMES[0])), "-n", "99", "--format", format)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_photo_is_found_under_its_exact_name_in_every_format(named: Path, command: Command) -> None:
    paths = {b"photos/" + name for name in NAMES}
    hits = json.loads(found_names(command, "json"))["hits"]
    assert {os.fsencode(hit["path"]) for hit in hits} == paths
    lines = found_names(command, "jsonl").splitlines()
    assert {os.fsencode(json.loads(line)["path"]) for line in lines} == paths
    text = io.StringIO(found_names(command, "csv").decode("utf-8", "surrogateescape"), newline="")
    assert {os.fsencode(row["path"]) for row in csv.DictReader(text)} == paths
    assert set(found_names(command, "paths0").split(b"\0")) == paths | {b""}
    assert sorted(found_names(command, "paths").splitlines()) == sorted(b"\n".join(paths).splitlines())


def test_what_the_table_shows_can_be_typed_in_a_shell(named: Path, command: Command, tmp_path: Path) -> None:
    rows = found_names(command, "table").decode().splitlines()[1:]
    assert len(rows) == len(NAMES) and all(row.isprintable() for row in rows)
    shown = [row[row.index("photos/") - (2 if "$'photos/" in row else 0) :] for row in rows]
    typed = [one for one in shown if one.startswith("$'")]
    assert len(typed) == 4
    script = "printf '%s\\0' " + " ".join(typed)
    printed = subprocess.run(["bash", "-c", script], capture_output=True, check=True, cwd=tmp_path).stdout
    untyped = {os.fsencode(one) for one in shown if not one.startswith("$'")}
    assert set(printed.split(b"\0")[:-1]) | untyped == {b"photos/" + name for name in NAMES}
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_photo_is_asked_for_by_its_exact_name(named: Path, name: bytes) -> None:
    index = Index.open(named.parent / "indexes" / "photos")
    hit = index.search(os.fsdecode(os.fsencode(named) + b"/" + name), limit=1)[0]
    assert (os.fsencode(os.path.basename(hit.path)), hit.distance) == (name, 0)


def test_a_skipped_file_of_any_name_costs_one_line(tmp_path: Path, command: Command) -> None:
    make_photo(tmp_path / "photos" / "good.jpg", 1)
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(tmp_path / "photos") + b"/" + name)).write_bytes(b"\xff\xd8\xff")
    result = command("index", "photos")
    lines = result.stderr.decode().splitlines()
    assert result.returncode == 0
    assert [line for line in lines if not line.startswith("cbir: ")] == []
    assert len([line for line in lines if "skipped" in line]) == len(NAMES)


def test_a_path_of_four_thousand_characters_is_indexed_and_a_longer_one_costs_a_line(tmp_path: Path) -> None:
    place, here = tmp_path / "photos", os.getcwd()
    place.mkdir()
    make_photo(place / "short.jpg", 1)
    (tmp_path / "source").mkdir()
    photo = make_photo(tmp_path / "source" / "photo.jpg", 2).read_bytes()
    deep = os.fspath(place)
    try:
        # Step by step, since no single call takes a path that is longer than the system allows.
        os.chdir(place)
        while len(deep) < 4500:
            part = "d" * min(200, 4000 - len(deep) - 1 - len("/photo.jpg")) if len(deep) < 3980 else "e" * 200
            os.mkdir(part)
            os.chdir(part)
            deep = f"{deep}/{part}"
            if len(deep) + len("/photo.jpg") == 4000:
                Path("photo.jpg").write_bytes(photo)
                longest = f"{deep}/photo.jpg"
        Path("photo.jpg").write_bytes(photo)
    finally:
        os.chdir(here)
    report = build_index(tmp_path / "index", [place])
    assert report.photos == 2
    assert [one.reason for one in report.skipped] == ["file name too long"]
    hit = Index.open(tmp_path / "index").search(longest, limit=1)[0]
    assert (hit.path, hit.distance) == (longest, 0)


def test_links_that_go_in_circles_cost_a_line_and_no_time(tmp_path: Path, command: Command) -> None:
    make_photo(tmp_path / "photos" / "good.jpg", 1)
    (tmp_path / "photos" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "photos" / "up").symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos" / "one.jpg").symlink_to("two.jpg")
    (tmp_path / "photos" / "two.jpg").symlink_to("one.jpg")
    result = command("index", "photos")
    assert result.returncode == 0
    assert sorted(result.stderr.decode().splitlines()) == [
        f"cbir: skipped photos/{name}.jpg: too many levels of symbolic links" for name in ("one", "self", "two")
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("only an administrator can make a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_costs_a_line_and_leaves_the_old_index_as_it_was(
    tmp_path: Path, small_disk: Path, command: Command
) -> None:
    for seed in range(4):
        make_photo(tmp_path / "photos" / f"{seed}.jpg", seed)
    assert command("index", "photos", "--index", "disk/index").returncode == 0
    before = {path.name: path.read_bytes() for path in (small_disk / "index").iterdir()}
    (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
    for seed in range(4, 100):
        make_photo(tmp_path / "photos" / f"{seed}.jpg", seed)
    result = command("index", "photos", "--index", "disk/index")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr == b"cbir: disk/index: no space left on device\n"
    assert {path.name: path.read_bytes() for path in (small_disk / "index").iterdir()} == before
    (small_disk / "filler").unlink()
    assert b"100 photos" in command("index", "photos", "--index", "disk/index").stdout


def test_a_disk_that_cannot_be_written_costs_a_line(tmp_path: Path, small_disk: Path, command: Command) -> None:
    make_photo(tmp_path / "photos" / "1.jpg", 1)
    assert command("index", "photos", "--index", "disk/index").returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    make_photo(tmp_path / "photos" / "2.jpg", 2)
    for place in ("disk/index", "disk/new"):
        result = command("index", "photos", "--index", place)
        assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (1, b"", 1)
        assert result.stderr.startswith(f"cbir: {place}: ".encode()) and b"read-only" in result.stderr
    # What is there can still be searched.
    assert command("search", "photos/1.jpg", "--index", "disk/index").returncode == 0


def test_photos_that_vanish_while_they_are_indexed_cost_a_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        make_photo(tmp_path / "photos" / f"{seed}.jpg", seed)
    from cbir import indexing

    real = indexing.find_pictures

    def find_then_remove(paths: list[str]) -> object:
        found = real(paths)
        (tmp_path / "photos" / "2.jpg").unlink()
        (tmp_path / "photos" / "4.jpg").unlink()
        return found

    monkeypatch.setattr(indexing, "find_pictures", find_then_remove)
    report = build_index(tmp_path / "index", [tmp_path / "photos"])
    assert report.photos == 4
    assert [(Path(one.path).name, one.reason) for one in report.skipped] == [
        ("2.jpg", "no such file or directory"),
        ("4.jpg", "no such file or directory"),
    ]


def test_a_photo_that_grows_while_it_is_read_is_told_and_read_by_the_next_run(tmp_path: Path) -> None:
    make_photo(tmp_path / "photos" / "good.jpg", 1)
    whole = make_photo(tmp_path / "photos" / "slow.jpg", 2, (1600, 1200)).read_bytes()
    # A copy on its way: every few milliseconds there is a little more of it.
    script = (
        "import sys, time\n"
        "data = sys.stdin.buffer.read()\n"
        "with open(sys.argv[1], 'wb', buffering=0) as file:\n"
        "    file.write(data[:-60])\n"
        "    print('begun', flush=True)\n"
        "    for start in range(len(data) - 60, len(data)):\n"
        "        file.write(data[start:start + 1])\n"
        "        time.sleep(0.05)\n"
    )
    slow = tmp_path / "photos" / "slow.jpg"
    with subprocess.Popen(
        [sys.executable, "-c", script, slow], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as copying:
        assert copying.stdin and copying.stdout
        copying.stdin.write(whole)
        copying.stdin.close()
        copying.stdout.readline()
        report = build_index(tmp_path / "index", [tmp_path / "photos"])
        assert report.photos == 1
        assert next(one.reason for one in report.skipped) in ("changed while it was read", "truncated")
    assert slow.read_bytes() == whole
    assert build_index(tmp_path / "index", [tmp_path / "photos"]).photos == 2


@pytest.mark.alone
def test_ctrl_c_stops_within_a_second_keeps_what_was_done_and_the_next_run_goes_on(
    tmp_path: Path, command: Command
) -> None:
    # Each of these takes a worker a tenth of a second.
    content = make_photo(tmp_path / "photos" / "0.png", 0, (1600, 1200)).read_bytes()
    assert b"1 photos" in command("index", "photos").stdout
    for number in range(1, 100):
        (tmp_path / "photos" / f"{number}.png").write_bytes(content)
    # As the command does, but that it tells after each commit, and commits often.
    script = (
        "import sys, cbir.writer as writer\n"
        "writer._COMMIT_SECONDS = writer._COMMIT_SHARE = 0\n"
        "real = writer.Writer.commit\n"
        "def commit(self):\n"
        "    photos = real(self)\n"
        "    print(photos, file=sys.stderr, flush=True)\n"
        "    return photos\n"
        "writer.Writer.commit = commit\n"
        "from cbir.__main__ import main\n"
        "main()\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", script, "index", "photos", "--jobs", "1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with running:
        assert running.stderr
        assert 1 < int(running.stderr.readline()) < 100
        started = time.monotonic()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
        took = time.monotonic() - started
    last = err.splitlines()[-1]
    assert (running.returncode, out) == (130, b"")
    assert b"interrupted" in last and b"goes on from there" in last and b"Traceback" not in err
    assert took < 1
    kept = len(Index.open(tmp_path / "indexes" / "photos"))
    assert 1 < kept < 100 and f" {kept} photos are in it".encode() in last
    result = command("index", "photos")
    assert b"100 photos" in result.stdout and f"{100 - kept:,} added".encode() in result.stdout


def test_an_index_among_the_photos_is_none_of_them(tmp_path: Path, command: Command) -> None:
    make_photo(tmp_path / "1.jpg", 1)
    outputs = [command("index", ".").stdout for _ in range(3)]
    assert all(b"other files" not in output for output in outputs)
    assert b"0 added, 0 changed, 0 moved, 0 dropped" in outputs[1] and b"1 photos" in outputs[2]


def test_photos_among_many_other_files_are_what_the_palette_is_learnt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "LEARNING_PHOTOS", 4)
    for number in range(60):
        (tmp_path / "photos" / f"{number}").mkdir(parents=True)
        (tmp_path / "photos" / f"{number}" / "notes.txt").write_text("Buy milk.")
    make_photo(tmp_path / "photos" / "30" / "named.jpg", 1)
    make_photo(tmp_path / "photos" / "40" / "other.jpg", 2).rename(tmp_path / "photos" / "40" / "other")
    report = build_index(tmp_path / "index", [tmp_path / "photos"])
    assert (report.photos, report.learnt_photos, report.others, report.skipped) == (2, 2, 60, [])


def test_rebuilding_leaves_the_old_index_until_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        make_photo(tmp_path / "photos" / f"{seed}.jpg", seed)
    build_index(tmp_path / "index", [tmp_path / "photos"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    monkeypatch.setattr(learn, "LEARNING_PHOTOS", 2)
    monkeypatch.setattr(writer, "_COMMIT_SECONDS", 0)
    taken: list[object] = []
    real = writer.Writer.commit_if_due

    def interrupted(self: writer.Writer) -> None:
        real(self)
        taken.append(self)
        if len(taken) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer.Writer, "commit_if_due", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path / "index", [tmp_path / "photos"], rebuild=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()} == before
    assert build_index(tmp_path / "index", [tmp_path / "photos"], rebuild=True).learnt_photos == 2


def test_a_manifest_of_somebody_elses_is_never_replaced(tmp_path: Path, command: Command) -> None:
    make_photo(tmp_path / "photos" / "1.jpg", 1)
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / "manifest.json").write_text('{"name": "mine"}')
    for options in ([], ["--rebuild"]):
        result = command("index", "photos", "--index", "./extension", *options)
        assert (result.returncode, result.stderr.count(b"\n")) == (1, 1)
    assert [path.name for path in (tmp_path / "extension").iterdir()] == ["manifest.json"]
    assert (tmp_path / "extension" / "manifest.json").read_text() == '{"name": "mine"}'


def test_changed_photos_that_cannot_be_read_just_now_stay_as_they_were(
    tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        make_photo(tmp_path / "photos" / f"{seed}.jpg", seed)
    build_index(tmp_path / "index", [tmp_path / "photos"])
    codes = Index.open(tmp_path / "index").codes(1)
    make_photo(tmp_path / "photos" / "1.jpg", 9)

    def away(path: str, **_: object) -> None:
        raise PictureError(path, "input/output error", lasting=False)

    with monkeypatch.context() as patch:
        patch.setattr(describe, "read_working_picture", away)
        report = build_index(tmp_path / "index", [tmp_path / "photos"])
    assert (report.photos, report.added, report.changed, report.dropped) == (3, 0, 0, 0)
    assert np.array_equal(Index.open(tmp_path / "index").codes(1), codes)
    assert build_index(tmp_path / "index", [tmp_path / "photos"]).changed == 1


def test_outputs_that_are_closed_cost_no_traceback(tmp_path: Path) -> None:
    make_photo(tmp_path / "photos" / "1.jpg", 1)
    for closed in (">&-", "2>&-"):
        result = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m cbir index photos {closed}"], cwd=tmp_path, capture_output=True
        )
        assert b"Traceback" not in result.stdout + result.stderr and result.returncode == 0
