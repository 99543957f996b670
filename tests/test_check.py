"""A check finds every damage to an index, each told in one line; a repair loses nothing that is whole."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from conftest import PHOTOS, Run
from made_indexes import in_small
from pictures import make_photo

from cbir import check, manifest, segment, writer
from cbir.check import check_index
from cbir.errors import IndexFolderError
from cbir.index import Index
from cbir.indexing import build_index
from cbir.lock import locked
from cbir.manifest import FILE_NAME, Manifest, SegmentEntry
from cbir.segment import PhotoRow, Segment, UnreadRow

GOLDEN = Path(__file__).parent / "golden"
WIDTH = 7 * 8


@dataclass(frozen=True)
class Made:
    """Photos, with a file that cannot be read, and two indexes of them: of one segment, and of four."""

    photos: Path
    one: Path
    many: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("made")
    for name, color in PHOTOS.items():
        make_photo(place / "photos" / name, color)
    (place / "photos" / "things" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    build_index(place / "one", [place / "photos"], colors=8, jobs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "SEGMENT_PHOTOS", 3)
        build_index(place / "many", [place / "photos"], colors=8, jobs=1)
    assert (len(Manifest.load(place / "one").segments), len(Manifest.load(place / "many").segments)) == (1, 4)
    return Made(place / "photos", place / "one", place / "many")


@pytest.fixture
def one(made: Made, tmp_path: Path) -> Path:
    return shutil.copytree(made.one, tmp_path / "one")


@pytest.fixture
def many(made: Made, tmp_path: Path) -> Path:
    return shutil.copytree(made.many, tmp_path / "many")


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "SEGMENT_PHOTOS", 3)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".writer"}


def segments_of(folder: Path) -> list[Path]:
    return [folder / entry.file for entry in Manifest.load(folder).segments]


def palette_of(folder: Path) -> Path:
    return folder / Manifest.load(folder).palette


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def problems_of(folder: Path, **options: bool) -> list[str]:
    """The problems that a check finds, each of which is one line."""
    problems = check_index(folder, **options).problems
    assert all(problem.isprintable() for problem in problems)
    return problems


def test_a_whole_index_has_no_problems(made: Made) -> None:
    for folder, files in ((made.one, 3), (made.many, 6)):
        report = check_index(folder)
        assert (report.photos, report.unread, report.files, report.problems) == (10, 1, files, [])
        assert report.bytes == sum(len(content) for content in files_of(folder).values())
        assert (report.lost_photos, report.leftovers, report.repaired) == (0, [], False)


def test_a_check_changes_nothing_and_neither_does_a_repair_of_a_whole_index(one: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in one.iterdir() if path.name != ".writer"}
    assert not problems_of(one) and not problems_of(one, repair=True)
    assert {path.name: path.stat().st_mtime_ns for path in one.iterdir() if path.name != ".writer"} == before


def test_where_there_is_no_index_it_is_said_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("mine", "nowhere"):
        for repair in (False, True):
            with pytest.raises(IndexFolderError, match="not an index"):
                check_index(tmp_path / name, repair=repair)
    assert list((tmp_path / "mine").iterdir()) == [] and not (tmp_path / "nowhere").exists()


def test_any_flipped_bit_of_a_palette_or_segment_is_found_and_the_file_is_named(many: Path) -> None:
    for path in (palette_of(many), *segments_of(many)):
        whole = path.read_bytes()
        for place in range(0, len(whole), 61):
            flip(path, place)
            assert problems_of(many) == [f"{path.name}: damaged (its content is not what was written)"]
            path.write_bytes(whole)
    assert not problems_of(many)


def test_any_flipped_bit_of_the_manifest_is_found(one: Path) -> None:
    path = one / FILE_NAME
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole) - 1):
        flip(path, place)
        try:
            assert len(problems_of(one)) == 1
        except IndexFolderError as error:
            # What says that it is a manifest, and of which version, is damaged.
            assert "\n" not in str(error)
            refused += 1
        path.write_bytes(whole)
    assert refused < 25


Damage = Callable[[Path], None]


def swap(folder: Path) -> None:
    first, last = segments_of(folder)[0], segments_of(folder)[-1]
    first.rename(folder / "aside")
    last.rename(first)
    (folder / "aside").rename(last)


def edit(folder: Path, number: int, change: Callable[[Segment], Segment], **counts: object) -> None:
    """Replace a segment by a changed one that is named, listed and counted as it should be, unless told otherwise."""
    listed = Manifest.load(folder)
    entry = listed.segments[number]
    changed = change(Segment.load(folder, entry.file, WIDTH, listed.version))
    numbers = {"photos": len(changed.photos), "unread": len(changed.unread)} | counts
    new = replace(entry, file=changed.save(folder), **numbers)
    replace(listed, segments=(*listed.segments[:number], new, *listed.segments[number + 1 :])).commit(folder)


def photos(one: Segment) -> list[PhotoRow]:
    return [one.photo(row) for row in range(len(one.photos))]


def unread(one: Segment) -> list[UnreadRow]:
    return [one.unread_file(row) for row in range(len(one.unread))]


def nested(folder: Path) -> None:
    """Describe a photo below a folder within the first too."""
    listed = Manifest.load(folder)
    entry = listed.segments[0]
    whole = Segment.load(folder, entry.file, WIDTH, listed.version)
    row = whole.photo(0)
    inner = row._replace(name=row.name.removeprefix(b"nature/"))
    assert inner != row
    file = Segment.pack([inner], [], WIDTH).save(folder)
    more = SegmentEntry(file, entry.root + "/nature", 1, 0)
    replace(listed, segments=(*listed.segments, more)).commit(folder)


def twice_in_one(folder: Path) -> None:
    edit(folder, 0, lambda one: Segment.pack([one.photo(0), *photos(one)], unread(one), WIDTH))


def twice_in_two(folder: Path) -> None:
    listed = Manifest.load(folder)
    first = Segment.load(folder, listed.segments[0].file, WIDTH, listed.version)
    edit(folder, 1, lambda one: Segment.pack([*photos(first), *photos(one)], unread(one), WIDTH))


def append(folder: Path) -> None:
    with segments_of(folder)[0].open("ab") as file:
        file.write(b"x")


def remove(*numbers: int) -> Damage:
    def damage(folder: Path) -> None:
        for number in numbers:
            segments_of(folder)[number].unlink()

    return damage


# Kinds of damage to the segments, and what is told of it.
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a bit": (lambda folder: flip(segments_of(folder)[0], 900), "not what was written"),
    "cut": (lambda folder: os.truncate(segments_of(folder)[0], 900), "not what was written"),
    "empty": (lambda folder: os.truncate(segments_of(folder)[-1], 0), "not what was written"),
    "longer": (append, "not what was written"),
    "missing": (remove(0), "missing"),
    "a photo twice in a segment": (twice_in_one, "described already (1, such as '"),
    "a photo twice in nested folders": (nested, "described already (1, such as '"),
}
IN_MANY: dict[str, tuple[Damage, str]] = {
    "one in the middle missing": (remove(1), "missing"),
    "two missing": (remove(0, 2), "missing"),
    "all missing": (remove(0, 1, 2, 3), "missing"),
    "swapped": (swap, "not what was written"),
    "photos twice in segments": (twice_in_two, "described already (3, such as '"),
}
CASES = [("one", damage) for damage in DAMAGES] + [("many", damage) for damage in DAMAGES | IN_MANY]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_damage_is_told_and_repaired_and_the_next_run_restores_every_byte(
    made: Made, name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "many":
        monkeypatch.setattr(segment, "SEGMENT_PHOTOS", 3)
    folder = shutil.copytree(getattr(made, name), tmp_path / "index")
    harm, message = (DAMAGES | IN_MANY)[damage]
    harm(folder)
    problems = problems_of(folder)
    assert problems and all(message in problem for problem in problems)
    assert problems_of(folder, repair=True) == problems
    assert problems_of(folder) == []
    assert Index.open(folder).is_unfinished == ("described" not in message)
    report = build_index(folder, [made.photos], jobs=1)
    assert report.photos == 10
    assert files_of(folder) == files_of(getattr(made, name))


def test_a_repair_tells_how_many_photos_it_drops_and_keeps_all_others(many: Path) -> None:
    first, _, third, _ = segments_of(many)
    first.unlink()
    flip(third, 900)
    lost = sum(Manifest.load(many).segments[i].photos for i in (0, 2))
    assert (check_index(many).photos, check_index(many).lost_photos) == (10, lost)
    report = check_index(many, repair=True)
    assert (report.lost_photos, report.repaired, len(report.problems)) == (lost, True, 2)
    assert len(Index.open(many)) == 10 - lost


def test_one_problem_does_not_hide_the_others(many: Path) -> None:
    first, second, *_ = segments_of(many)
    flip(palette_of(many), 50)
    first.unlink()
    os.truncate(second, 100)
    edit(many, 3, lambda one: replace(one, converted=one.converted + 2))
    assert len(problems_of(many)) == 4
    assert {problem.split(": ")[0] for problem in problems_of(many)} == {
        *(path.name for path in (palette_of(many), first, second, segments_of(many)[3])),
    }


def renamed(names: list[bytes]) -> Callable[[Segment], Segment]:
    def change(one: Segment) -> Segment:
        rows = photos(one)[: len(names)]
        return Segment.pack([row._replace(name=name) for row, name in zip(rows, names, strict=True)], [], WIDTH)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed([b"b.jpg", b"a.jpg"]), "its names are not in order"),
        (renamed([b"../a.jpg"]), r"'\.\./a\.jpg' is no name"),
        (renamed([b"a/../../b.jpg"]), "is no name"),
        (renamed([b".."]), "is no name"),
        (renamed([b"a/."]), "is no name"),
        (renamed([b"/etc/passwd"]), "'/etc/passwd' is no name"),
        (renamed([b"a//b.jpg"]), "is no name"),
        (renamed([b"a/"]), "is no name"),
        (renamed([b"a\0b\n\xff"]), r"'a\\x00b\\n\\udcff' is no name"),
        (lambda one: replace(one, codes=one.codes + np.uint8(20)), "do not sum to one"),
        (lambda one: replace(one, codes=one.codes // 2), "do not sum to one"),
        (lambda one: replace(one, codes=np.asarray(one.codes[:, :-7])), "shape"),
        (lambda one: replace(one, codes=one.codes.astype(np.uint16)), "of another kind"),
        (lambda one: replace(one, fingerprints=one.fingerprints[1:]), "shape"),
        (lambda one: replace(one, fingerprints=one.fingerprints.astype(np.int64)), "of another kind"),
        (lambda one: replace(one, converted=one.converted + 2), "neither 0 nor 1"),
        (lambda one: replace(one, reasons=[*one.reasons, "more"]), "reasons"),
    ],
)
def test_a_segment_that_is_as_written_but_makes_no_sense_is_damaged(
    one: Path, change: Callable[[Segment], Segment], message: str
) -> None:
    edit(one, 0, change)
    (problem,) = problems_of(one)
    assert re.search(message, problem) and problem.startswith(segments_of(one)[0].name)
    assert check_index(one, repair=True).repaired and not problems_of(one)


@pytest.mark.parametrize("name", [b"a", b"...", b"..a", b"a../b", b"a/.../b", b".a/b..", b"a b\n\xff\\c"])
def test_odd_names_are_no_damage(one: Path, name: bytes) -> None:
    edit(one, 0, renamed([name]))
    assert not problems_of(one)


def test_areas_that_are_wholly_transparent_are_no_damage(one: Path) -> None:
    def without_top(one: Segment) -> Segment:
        codes = np.array(one.codes)
        codes[:, 3 * 8 : 4 * 8] = 0
        return replace(one, codes=codes)

    edit(one, 0, without_top)
    assert not problems_of(one)


@pytest.mark.parametrize("listed", [{"photos": 9}, {"unread": 0}])
def test_another_number_of_photos_than_listed_is_damage(one: Path, listed: dict[str, int]) -> None:
    edit(one, 0, lambda whole: whole, **listed)
    assert [problem.partition(": ")[2] for problem in problems_of(one)] == ["damaged (not the photos it should have)"]


def test_a_segment_that_is_something_else_is_told(many: Path, never_hangs: None) -> None:
    first, second, third, fourth = segments_of(many)
    for path in (first, second, third, fourth):
        path.unlink()
    first.mkdir()
    os.mkfifo(second)
    third.symlink_to("nowhere")
    fourth.symlink_to("/dev/zero")
    assert set(problems_of(many)) == {
        *(f"{path.name}: not a file" for path in (first, second, fourth)),
        f"{third.name}: missing",
    }
    assert check_index(many, repair=True).repaired and not problems_of(many)


def test_a_crafted_segment_is_told_and_runs_nothing(one: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "it ran"),)

    joblib.dump({"photo_names": Runs()}, one / "crafted")
    with (one / "crafted").open("rb") as file:
        name = segment._name_by_content(file, "segment")
    (one / "crafted").rename(one / name)
    listed = Manifest.load(one)
    replace(listed, segments=(replace(listed.segments[0], file=name),)).commit(one)
    (problem,) = problems_of(one)
    assert problem.startswith(f"{name}: refused") and "plain data only" in problem
    assert check_index(one, repair=True).repaired and not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"format": "zip"}', b"1" * 100_000),
        *(b'{"format": "cbir index"}', b'{"format": "cbir index", "version": 99}'),
        b'{"format": "cbir index", "version": 1, "segments": 7}',
    ],
)
@pytest.mark.parametrize("repair", [False, True])
def test_a_hostile_manifest_ends_in_one_line_and_changes_nothing(one: Path, content: bytes, repair: bool) -> None:
    (one / FILE_NAME).write_bytes(content)
    before = files_of(one)
    try:
        report = check_index(one, repair=repair)
    except IndexFolderError as error:
        assert str(error).isprintable()
    else:
        assert len(report.problems) == 1 and report.problems[0].startswith("manifest.json: damaged")
        assert (report.mendable, report.repaired) == (False, False)
    assert files_of(one) == before


def test_a_manifest_that_names_files_elsewhere_has_them_neither_read_nor_removed(one: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work")
    listed = Manifest.load(one)
    (entry,) = listed.segments
    odd = [replace(entry, file=name, root=f"/{i}") for i, name in enumerate(["../mine", "/etc/passwd", "a\nb\0"])]
    replace(listed, segments=(entry, *odd)).commit(one)
    problems = problems_of(one)
    assert len(problems) == 3 and all("its manifest names" in problem for problem in problems)
    assert check_index(one, repair=True).repaired and not problems_of(one)
    assert (tmp_path / "mine").read_text() == "years of work" and len(Index.open(one)) == 10


@pytest.mark.parametrize("damage", ["a bit", "missing", "another", "a colour that is none"])
def test_a_damaged_palette_cannot_be_repaired_and_nothing_is_changed(one: Path, damage: str) -> None:
    listed, palette = Manifest.load(one), palette_of(one)
    if damage == "a bit":
        flip(palette, 100)
    elif damage == "missing":
        palette.unlink()
    elif damage == "another":
        replace(listed, palette=listed.segments[0].file).commit(one)
    else:
        colors, reference = listed.load_palette(one)
        colors.lab[0] = np.nan
        replace(listed, palette=segment.save_palette(colors, reference, one)).commit(one)
    before = files_of(one)
    report = check_index(one, repair=True)
    assert len(report.problems) == 1 and (report.mendable, report.repaired) == (False, False)
    assert files_of(one) == before


def test_leftovers_are_told_are_no_problem_and_are_removed_by_a_repair(one: Path) -> None:
    left = [".writing-abc", "palette-0123456789abcdef.joblib", "segment-0123456789abcdef.joblib"]
    for name in left:
        (one / name).write_bytes(b"half")
    (one / "notes.txt").write_text("mine")
    report = check_index(one)
    assert (report.problems, report.leftovers) == ([], left)
    assert check_index(one, repair=True).leftovers == left
    assert check_index(one).leftovers == [] and (one / "notes.txt").exists()


@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_an_index_of_an_older_format_is_repaired_too(tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(GOLDEN / name, tmp_path / name)
    whole, codes = Index.open(folder), Index.open(folder).codes(1)
    value = json.loads((folder / FILE_NAME).read_text())
    (entry,) = value["segments"]
    # A second folder of photos, whose segment is lost.
    value["segments"].append({**entry, "file": "segment-0123456789abcdef.joblib", "root": "/lost"})
    if value.pop("checksum", None):
        value["checksum"] = manifest._checksum(value)
    (folder / FILE_NAME).write_text(json.dumps(value))
    assert problems_of(folder, repair=True) == ["segment-0123456789abcdef.joblib: missing"]
    assert not problems_of(folder)
    repaired = Index.open(folder)
    assert [repaired.path(row) for row in range(len(repaired))] == [whole.path(row) for row in range(len(whole))]
    np.testing.assert_array_equal(repaired.codes(1), codes)
    assert repaired.info().format_version == 3


def test_a_repair_waits_for_no_other_writer(one: Path) -> None:
    pytest.importorskip("fcntl", reason="folders can be locked on POSIX systems only")
    flip(segments_of(one)[0], 900)
    before = files_of(one)
    with locked(one), pytest.raises(IndexFolderError, match="is writing it"):
        check_index(one, repair=True)
    assert files_of(one) == before


def test_what_a_writer_removes_meanwhile_is_no_problem(made: Made, tmp_path: Path) -> None:
    photos = shutil.copytree(made.photos, tmp_path / "photos")
    build_index(tmp_path / "index", [photos], colors=8, jobs=1)
    written: list[str] = []

    def write(what: str, done: int, total: int) -> None:
        if not written:
            written.append(what)
            (photos / "things" / "plum.png").unlink()
            build_index(tmp_path / "index", [photos], jobs=1)

    report = check_index(tmp_path / "index", progress=write)
    assert written and (report.photos, report.problems) == (9, [])


@pytest.mark.parametrize(("number", "told"), [(errno.EACCES, None), (errno.EIO, "cannot be read (input/output error)")])
def test_a_file_that_may_not_be_read_is_not_taken_for_damaged_but_a_bad_disk_is(
    one: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str | None
) -> None:
    real = check.check_content

    def fail(folder: Path, name: str) -> None:
        if name.startswith("segment"):
            raise OSError(number, os.strerror(number))
        real(folder, name)

    monkeypatch.setattr(check, "check_content", fail)
    before = files_of(one)
    if told is None:
        with pytest.raises(IndexFolderError, match=r"segment-.*: cannot be read \(permission denied\)"):
            check_index(one, repair=True)
        assert files_of(one) == before
    else:
        assert problems_of(one) == [f"{segments_of(one)[0].name}: {told}"]


def test_progress_counts_files_and_photos_to_their_ends(many: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    check_index(many, progress=lambda *what: seen.append(what))
    assert [one for one in seen if one[0] == "files"] == [("files", done, 5) for done in range(1, 6)]
    assert seen[-1] == ("photos", 11, 11)


def described(folder: Path, roots: list[str], rng: np.random.Generator) -> list[tuple[str, int]]:
    """Put an index of random segments below `roots` into place; the paths of their photos, and their segments."""
    photo = np.zeros(WIDTH, np.uint8)
    entries, paths = [], []
    for number, root in enumerate(roots):
        names = {"/".join(rng.choice(["a", "b", "c-", "c"], rng.integers(1, 4))).encode() for _ in range(8)}
        rows = [PhotoRow(name, 1, 1, photo, 1, False) for name in sorted(names)]
        file = Segment.pack(rows, [], WIDTH).save(folder)
        entries.append(SegmentEntry(file, root, len(rows), 0))
        paths += [(os.path.join(root, name.decode()), number) for name in names]
    listed = Manifest.load(folder)
    replace(listed, segments=tuple(entries)).commit(folder)
    return paths


def test_photos_described_twice_are_those_that_a_plain_count_finds(one: Path) -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(20):
        paths = described(one, ["/", "/a", "/a/b", "/c", "/a/c-"], rng)
        first: dict[str, int] = {}
        for path, number in paths:
            first[path] = min(number, first.get(path, number))
        twice = [len({p for p, n in paths if n == number and first[p] != number}) for number in range(5)]
        problems = problems_of(one, repair=True)
        assert [int(problem.split("(")[1].split(",")[0]) for problem in problems] == [n for n in twice if n]
        index = Index.open(one)
        assert sorted(index.path(row) for row in range(len(index))) == sorted(first)
        assert not problems_of(one)
        found += sum(twice)
    assert found > 30


def test_of_a_file_described_as_photo_and_as_unreadable_the_photo_is_kept(many: Path) -> None:
    second = Segment.load(many, segments_of(many)[1].name, WIDTH, 3)
    row = UnreadRow(second.photo(0).name, 1, 1, "broken")
    edit(many, 0, lambda first: Segment.pack(photos(first), [row], WIDTH))
    assert len(problems_of(many, repair=True)) == 1
    assert Index.open(many).info().photos == 10 and Index.open(many).info().unread == 1


def test_a_second_repair_remembers_what_the_first_has_lost(one: Path, tmp_path: Path) -> None:
    listed = Manifest.load(one)
    other = replace(listed.segments[0], root="/other")
    replace(listed, segments=(*listed.segments, other)).commit(one)
    (one / other.file).unlink()
    assert check_index(one, repair=True).lost_photos == 20
    edit(one, 0, lambda empty: replace(empty, codes=empty.codes[:, :-7]))
    assert check_index(one, repair=True).repaired and not problems_of(one)
    kept = Manifest.load(one).segments
    assert {(entry.root, entry.unfinished) for entry in kept} == {(listed.segments[0].root, True), ("/other", True)}


def damaged_descriptor(folder: Path, number: int) -> Path:
    """Flip a bit of a photo's descriptor, which opening an index does not notice."""
    path = segments_of(folder)[number]
    codes = bytes(Segment.load(folder, path.name, WIDTH, 3).codes[0])
    flip(path, path.read_bytes().index(codes) + 5)
    Index.open(folder)
    return path


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Iterator[Path]:
    """Photos of the test's own, as old as those of `made`."""
    yield shutil.copytree(made.photos, tmp_path / "photos")


def axes_of(folder: Path) -> Path:
    (path,) = folder.glob("axes-*")
    return path


@pytest.fixture
def with_axes(one: Path) -> Iterator[Path]:
    """An index that has been searched, so that its axes are there."""
    with in_small(fewest=5):
        Index.open(one).search("plum.png")
        assert axes_of(one).is_file()
        yield one


def test_sound_axes_are_a_part_of_the_index_and_stay(with_axes: Path, made: Made) -> None:
    before = files_of(with_axes)
    report = check_index(with_axes)
    assert (report.photos, report.files, report.problems, report.leftovers) == (10, 4, [], [])
    assert report.bytes == sum(map(len, before.values()))
    assert check_index(with_axes, repair=True).repaired and files_of(with_axes) == before
    assert build_index(with_axes, [made.photos], jobs=1).added == 0 and files_of(with_axes) == before


def test_axes_of_photos_that_are_gone_are_no_damage(with_axes: Path) -> None:
    edit(with_axes, 0, lambda whole: whole.take(np.arange(9), np.array([], np.intp)))
    report = check_index(with_axes)
    assert report.problems == [] and axes_of(with_axes).name not in report.leftovers


def in_place_of(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


AXES_DAMAGES: dict[str, tuple[Damage, str]] = {
    "cut": (lambda folder: os.truncate(axes_of(folder), 2000), "damaged (its content is not what was written)"),
    "empty": (lambda folder: os.truncate(axes_of(folder), 0), "damaged (its content is not what was written)"),
    "another file": (
        lambda folder: shutil.copy(segments_of(folder)[0], axes_of(folder)),
        "damaged (its content is not what was written)",
    ),
    "a folder": (lambda folder: in_place_of(axes_of(folder), Path.mkdir), "not a file"),
    "a pipe": (lambda folder: in_place_of(axes_of(folder), os.mkfifo), "not a file"),
}


@pytest.mark.parametrize("damage", AXES_DAMAGES)
def test_damaged_axes_are_told_a_repair_removes_them_and_a_search_makes_them_again(
    with_axes: Path, damage: str, never_hangs: None
) -> None:
    before, path = files_of(with_axes), axes_of(with_axes)
    harm, message = AXES_DAMAGES[damage]
    harm(with_axes)
    report = check_index(with_axes)
    assert report.problems == [f"{path.name}: {message}"]
    assert (report.mendable, report.lost_photos, report.leftovers) == (True, 0, [])
    assert problems_of(with_axes, repair=True) == report.problems
    assert problems_of(with_axes) == [] and not path.exists()
    assert not Index.open(with_axes).is_unfinished
    hits = Index.open(with_axes).search("plum.png", 20)
    assert len(hits) == 10 and files_of(with_axes) == before


def test_any_flipped_bit_of_axes_is_found(with_axes: Path) -> None:
    path, whole = axes_of(with_axes), axes_of(with_axes).read_bytes()
    for place in range(0, len(whole), 61):
        flip(path, place)
        assert problems_of(with_axes) == [f"{path.name}: damaged (its content is not what was written)"]
        path.write_bytes(whole)


def test_damaged_axes_hide_no_other_damage_and_all_is_repaired_at_once(with_axes: Path, made: Made) -> None:
    flip(axes_of(with_axes), 3000)
    flip(segments_of(with_axes)[0], 900)
    names = {axes_of(with_axes).name, segments_of(with_axes)[0].name}
    assert {problem.split(": ")[0] for problem in problems_of(with_axes)} == names
    assert check_index(with_axes, repair=True).lost_photos == 10
    assert problems_of(with_axes) == [] and not list(with_axes.glob("axes-*"))
    assert build_index(with_axes, [made.photos], jobs=1).photos == 10


def test_a_folder_with_something_in_it_in_place_of_axes_is_not_removed(with_axes: Path) -> None:
    path = axes_of(with_axes)
    in_place_of(path, Path.mkdir)
    (path / "thesis.txt").write_text("years of work")
    with pytest.raises(OSError, match=path.name):
        check_index(with_axes, repair=True)
    assert (path / "thesis.txt").exists() and len(problems_of(with_axes)) == 1


def test_axes_that_others_replace_meanwhile_are_no_problem(with_axes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = check.check_content

    def gone(folder: Path, name: str) -> None:
        if name.startswith("axes"):
            (folder / name).unlink()
        real(folder, name)

    monkeypatch.setattr(check, "check_content", gone)
    report = check_index(with_axes)
    assert (report.problems, report.files) == ([], 3)


@pytest.mark.parametrize(("number", "told"), [(errno.EACCES, None), (errno.EIO, "cannot be read (input/output error)")])
def test_axes_that_may_not_be_read_are_not_taken_for_damaged_but_on_a_bad_disk_they_are(
    with_axes: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str | None
) -> None:
    real, path = check.check_content, axes_of(with_axes)

    def fail(folder: Path, name: str) -> None:
        if name.startswith("axes"):
            raise OSError(number, os.strerror(number))
        real(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(check, "check_content", fail)
        if told is None:
            with pytest.raises(IndexFolderError, match=r"axes-.*: cannot be read \(permission denied\)"):
                check_index(with_axes, repair=True)
            assert path.exists()
        else:
            assert problems_of(with_axes, repair=True) == [f"{path.name}: {told}"]
            assert not path.exists()


def test_a_damaged_segment_is_not_spread_by_writing_it_anew(copied: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build_index(folder, [copied], colors=8, jobs=1)
    path = damaged_descriptor(folder, 0)
    before = files_of(folder)
    make_photo(copied / "nature" / "sea.jpg", 7)
    with pytest.raises(IndexFolderError, match=r"not what was written\); run: cbir check --repair") as caught:
        build_index(folder, [copied], jobs=1)
    assert path.name in str(caught.value) and files_of(folder) == before
    check_index(folder, repair=True)
    assert build_index(folder, [copied], jobs=1).photos == 10 and not problems_of(folder)


def test_a_damaged_segment_that_stays_as_it_is_hinders_nobody(copied: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build_index(folder, [copied], colors=8, jobs=1)
    damaged_descriptor(folder, 0)
    make_photo(copied / "new.jpg", 7)
    assert build_index(folder, [copied], jobs=1).photos == 11
    assert len(problems_of(folder)) == 1


def test_a_damaged_segment_is_not_spread_by_merging_it(
    copied: Path, tmp_path: Path, small_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "index"
    build_index(folder, [copied], colors=8, jobs=1)
    damaged_descriptor(folder, 3)
    make_photo(copied / "new.jpg", 7)
    # The smallest two of five are merged: the new one, and the last.
    monkeypatch.setattr(writer, "_MANY_SEGMENTS", 4)
    with pytest.raises(IndexFolderError, match="not what was written"):
        build_index(folder, [copied], jobs=1)


def test_a_damaged_segment_is_not_spread_by_a_photo_that_moves(copied: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build_index(folder, [copied], colors=8, jobs=1)
    damaged_descriptor(folder, 0)
    (tmp_path / "elsewhere").mkdir()
    (copied / "nature" / "sea.jpg").rename(tmp_path / "elsewhere" / "sea.jpg")
    before = files_of(folder)
    with pytest.raises(IndexFolderError, match="not what was written"):
        build_index(folder, [tmp_path / "elsewhere"], jobs=1)
    assert files_of(folder) == before


def test_the_command_tells_that_all_is_as_written(one: Path, run: Run) -> None:
    result = run("check", one)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{one}: 10 photos in 3 files, all as written\n"
    assert run("check", CBIR_INDEX=str(one)).stdout == result.stdout


def test_the_command_tells_each_problem_in_a_line_and_what_to_do_and_ends_with_1(many: Path, run: Run) -> None:
    first, second, *_ = segments_of(many)
    first.unlink()
    flip(second, 900)
    result = run("check", many)
    assert (result.exit_code, result.stderr) == (1, "")
    *problems, advice = result.stdout.splitlines()
    assert sorted(problems) == sorted(
        [f"{first.name}: missing", f"{second.name}: damaged (its content is not what was written)"]
    )
    assert advice == f"this can be repaired with: cbir check {many} --repair"


def test_the_command_repairs_says_what_is_lost_and_cbir_index_brings_it_back(many: Path, made: Made, run: Run) -> None:
    segments_of(many)[1].unlink()
    lost = Manifest.load(many).segments[1].photos
    result = run("check", many, "--repair")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1:] == [
        f"repaired; {lost} photos were dropped, and cbir index PHOTOS brings them back"
    ]
    assert "photos may be missing" in run("search", made.photos / "things" / "plum.png", "--index", many).stderr
    assert run("index", made.photos, "--index", many).exit_code == 0
    assert run("check", many).stdout.startswith(f"{many}: 10 photos")


@pytest.mark.parametrize("repair", [[], ["--repair"]])
def test_the_command_says_what_to_do_about_what_cannot_be_repaired(one: Path, run: Run, repair: list[str]) -> None:
    os.truncate(palette_of(one), 10)
    result = run("check", one, *repair)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines()[-1] == (
        "this cannot be repaired; make it again with: cbir index PHOTOS --rebuild"
    )


def test_the_command_tells_of_leftovers_and_a_repair_removes_them(one: Path, run: Run) -> None:
    (one / "segment-0123456789abcdef.joblib").write_bytes(b"half")
    for option, end in (([], "do no harm; --repair removes them"), (["--repair"], "were removed")):
        result = run("check", one, *option)
        assert result.exit_code == 0 and result.stdout.splitlines()[1].endswith(end)
    assert len(run("check", one).stdout.splitlines()) == 1
