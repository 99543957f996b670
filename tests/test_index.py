"""An index holds exactly the photos that can be read, finds each by itself, and is never left half-written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import work_for_workers
from pictures import make_photo
from PIL import Image

from cbir import describe, learn, parallel
from cbir.describe import describe_file
from cbir.descriptor import DESCRIPTORS
from cbir.errors import (
    CbirError,
    DescriptorError,
    IndexFolderError,
    MetricError,
    NoPicturesError,
    PaletteError,
    PictureError,
)
from cbir.index import Index
from cbir.indexing import IndexingInterruptedError, build_index
from cbir.lock import LOCK_NAME
from cbir.manifest import _checksum
from cbir.metric import QBIC, Metric


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of an index; the lock, which tells of no photo, is none of them."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != LOCK_NAME}


def paths_of(index: Index) -> set[str]:
    return {os.path.basename(index.path(row)) for row in range(len(index))}


def test_every_photo_finds_itself_first_at_distance_exactly_zero(photos: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", [photos], colors=32)
    assert len(index) == 10
    for metric in ("cbir", "sqrt-laplacian:10", "qbic", "gaussian:5"):
        for row in range(len(index)):
            hits = index.search(index.path(row), limit=3, metric=Metric.parse(metric))
            assert (hits[0].rank, hits[0].path, hits[0].distance) == (1, index.path(row), 0.0)
            assert [hit.rank for hit in hits] == [1, 2, 3]
            assert hits[0].distance <= hits[1].distance <= hits[2].distance


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_what_is_kept_of_each_photo_is_its_descriptor(photos: Path, tmp_path: Path, name: str) -> None:
    index = Index.create(tmp_path / "index", [photos], colors=16, descriptor=name)
    kind = DESCRIPTORS[name]
    assert index.descriptor is kind and index.info().descriptor == name
    for row in range(len(index)):
        np.testing.assert_array_equal(index.codes(row), describe_file(index.path(row), index.palette, kind))
        np.testing.assert_array_equal(index.amounts(row), kind.whole(index.codes(row)))
    np.testing.assert_allclose(index.mean_amounts(), np.mean([index.amounts(row) for row in range(10)], axis=0))
    hits = index.search(index.path(3), limit=10)
    distances = {index.path(row): index.space().distance(index.codes(3), index.codes(row)) for row in range(10)}
    assert {hit.path: hit.distance for hit in hits} == distances


def test_photos_that_come_later_change_no_distance(tmp_path: Path) -> None:
    for seed in range(6):
        make_photo(tmp_path / "photos" / f"{seed}.png", seed)
    before = {hit.path: hit.distance for hit in Index.create(tmp_path / "index", [tmp_path / "photos"]).search("0.png")}
    for seed in range(6, 12):
        make_photo(tmp_path / "photos" / f"{seed}.png", seed)
    (tmp_path / "photos" / "1.png").unlink()
    after = {
        hit.path: hit.distance for hit in Index.create(tmp_path / "index", [tmp_path / "photos"]).search("0.png", 99)
    }
    assert len(after) == 11 and max(before.values()) > 0.1
    assert {path: after[path] for path in before if path in after} == {
        path: distance for path, distance in before.items() if not path.endswith("1.png")
    }


def test_a_part_that_the_descriptor_does_not_tell_is_refused(photos: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", [photos], colors=16, descriptor="global")
    with pytest.raises(MetricError, match=r"global.*'centre'.*it tells whole"):
        index.search("plum.png", metric=Metric.parse("cbir,centre=2,smooth=0"))


def test_a_descriptor_that_there_is_not_and_another_than_it_has_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match="spatial, global"):
        build_index(tmp_path / "index", [photos], descriptor="local")
    assert not (tmp_path / "index").exists()
    build_index(tmp_path / "index", [photos], descriptor="global")
    with pytest.raises(IndexFolderError, match=r"global descriptors.*--rebuild"):
        build_index(tmp_path / "index", [photos], descriptor="spatial")
    assert build_index(tmp_path / "index", [photos]).added == 0, "it keeps its own"
    build_index(tmp_path / "index", [photos], descriptor="spatial", rebuild=True)
    assert Index.open(tmp_path / "index").info().descriptor == "spatial"


def test_like_colours_come_first(photos: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", [photos])
    assert os.path.basename(index.search(photos / "things" / "brick.jpg")[1].path) == "tomato.png"


def test_a_photo_from_elsewhere_is_described_as_the_index_would_have_it(photos: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", [photos])
    copy = shutil.copy(photos / "things" / "plum.png", tmp_path / "elsewhere.png")
    first = index.search(copy, limit=1)[0]
    assert (os.path.basename(first.path), first.distance) == ("plum.png", 0.0)


def test_of_identical_photos_the_query_comes_first_and_the_rest_by_path(tmp_path: Path) -> None:
    one = make_photo(tmp_path / "photos" / "b.png", 1)
    for name in ("a.png", "c.png", "d.png"):
        shutil.copy(one, tmp_path / "photos" / name)
    index = Index.create(tmp_path / "index", [tmp_path / "photos"])
    for name, order in (("c.png", "cabd"), ("a.png", "abcd")):
        hits = index.search(tmp_path / "photos" / name)
        assert [os.path.basename(hit.path)[0] for hit in hits] == list(order)
        assert {hit.distance for hit in hits} == {0.0}


def test_amounts_can_be_the_question_and_bad_ones_are_refused(photos: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", [photos], colors=16)
    lightest = np.zeros(16)
    lightest[-1] = 0.25
    by_amount = [index.amounts(row)[-1] for row in range(len(index))]
    assert index.search(lightest, limit=1, metric=QBIC)[0].path == index.path(int(np.argmax(by_amount)))
    # Of the photo's own amounts only the whole is known; rounding them to codes anew moves it little.
    own = index.search(index.amounts(3), limit=2)
    assert own[0].path == index.path(3) and own[0].distance < own[1].distance / 10
    for bad in (np.zeros(16), -lightest, lightest * np.nan, lightest[:-1], "".join):
        with pytest.raises((ValueError, TypeError)):
            index.search(bad)
    with pytest.raises(ValueError, match="limit"):
        index.search(lightest, limit=0)


def test_a_photo_of_the_index_can_be_asked_for_by_the_end_of_its_path_when_it_is_gone(
    photos: Path, tmp_path: Path
) -> None:
    index = Index.create(tmp_path / "index", [photos])
    shutil.rmtree(photos)
    hits = index.search("things/plum.png", limit=2)
    assert hits[0].path == str(photos / "things" / "plum.png") and hits[0].distance == 0
    assert index.search("plum.png", limit=1)[0].path == hits[0].path
    with pytest.raises(FileNotFoundError, match=r"lum\.png"):
        index.search("lum.png")


def test_a_name_that_several_photos_have_is_refused_with_one_of_them(tmp_path: Path) -> None:
    for folder in "xy":
        make_photo(tmp_path / "photos" / folder / "same.png", ord(folder))
    index = Index.create(tmp_path / "index", [tmp_path / "photos"])
    with pytest.raises(CbirError, match=r"2 photos .*x/same\.png"):
        index.search("same.png")


def test_indexing_twice_gives_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_index(tmp_path / name, [photos])
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_one_and_two_workers_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Few enough photos for a test, but more than one batch for each worker, and more than are learnt from.
    monkeypatch.setattr(learn, "LEARNING_PHOTOS", 40)
    for i in range(70):
        make_photo(tmp_path / "photos" / f"{i}.png", i)
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for jobs in (1, 2):
        report = build_index(tmp_path / str(jobs), [tmp_path / "photos"], jobs=jobs)
        assert (report.photos, len(report.skipped)) == (70, 1) and report.learnt_photos <= 40
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")


def test_a_second_run_decodes_nothing_and_changes_no_byte(photos: Path, tmp_path: Path, decoded: list[str]) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    build_index(tmp_path / "index", [photos])
    assert sorted(set(decoded)) == sorted(decoded) and len(decoded) == 11
    before = files_of(tmp_path / "index")
    decoded.clear()
    report = build_index(tmp_path / "index", [photos])
    assert decoded == []
    assert (report.photos, report.added, report.changed, report.dropped) == (10, 0, 0, 0)
    assert [os.path.basename(one.path) for one in report.skipped] == ["broken.jpg"]
    assert files_of(tmp_path / "index") == before


def test_a_later_run_adds_what_is_new_redoes_what_changed_and_drops_what_is_gone(
    photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    build_index(tmp_path / "index", [photos])
    decoded.clear()
    make_photo(photos / "new.jpg", 5)
    make_photo(photos / "things" / "plum.png", "#00ff00", size=(30, 30))
    (photos / "nature" / "sky.png").unlink()
    report = build_index(tmp_path / "index", [photos])
    assert sorted(decoded) == ["new.jpg", "plum.png"]
    assert (report.photos, report.added, report.changed, report.dropped) == (10, 1, 1, 1)
    index = Index.open(tmp_path / "index")
    assert paths_of(index) == {path.name for path in photos.rglob("*.*")}
    for path in photos.rglob("*.*"):
        assert index.search(path, limit=1)[0].path == str(path)
    # What the new state does not need is gone from the disk.
    listed = json.loads((tmp_path / "index" / "manifest.json").read_text())
    names = {"manifest.json", listed["palette"], *(segment["file"] for segment in listed["segments"])}
    assert set(files_of(tmp_path / "index")) == names


def test_another_folder_is_added_and_the_first_one_stays(photos: Path, tmp_path: Path) -> None:
    build_index(tmp_path / "index", [photos])
    make_photo(tmp_path / "more" / "extra.jpg", 9)
    report = build_index(tmp_path / "index", [tmp_path / "more"])
    assert (report.photos, report.added, report.dropped) == (11, 1, 0)
    shutil.rmtree(photos / "nature")
    report = build_index(tmp_path / "index", [photos / "things", tmp_path / "more"])
    assert (report.photos, report.dropped) == (11, 0), "only what lies below the given paths is looked at"
    report = build_index(tmp_path / "index", [photos])
    assert (report.photos, report.dropped) == (6, 5)


def test_a_wider_folder_decodes_only_what_the_narrower_had_not(
    photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    build_index(tmp_path / "index", [photos / "things"])
    decoded.clear()
    report = build_index(tmp_path / "index", [photos])
    assert report.photos == 10 and len(decoded) == 5
    index = Index.open(tmp_path / "index")
    assert len({index.path(row) for row in range(len(index))}) == 10


def test_a_changed_query_file_is_described_anew_not_taken_from_the_index(photos: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", [photos])
    lemon = photos / "things" / "lemon.jpg"
    shutil.copy(photos / "things" / "plum.png", lemon)
    assert os.path.basename(index.search(lemon, limit=1)[0].path) == "plum.png"


def test_an_open_index_stays_what_it_was_while_a_writer_commits(photos: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", [photos])
    before = [(hit.path, hit.distance) for hit in index.search(photos / "things" / "plum.png")]
    shutil.rmtree(photos / "nature")
    build_index(tmp_path / "index", [photos])
    assert [(hit.path, hit.distance) for hit in index.search("things/plum.png")] == before
    assert len(Index.open(tmp_path / "index")) == 5


def test_an_interrupted_run_keeps_what_was_done_once_the_palette_is_learnt_and_else_leaves_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path / "fresh", [photos], progress=press)
    assert not (tmp_path / "fresh").exists(), "it was the last of the photos that are learnt from"
    build_index(tmp_path / "index", [photos])
    for number in range(3):
        make_photo(photos / f"{number}.jpg", number)
    with pytest.raises(IndexingInterruptedError, match="12 photos are kept") as caught:
        build_index(tmp_path / "index", [photos], progress=press)
    index = Index.open(tmp_path / "index")
    assert len(index) == caught.value.photos == 12 and index.is_unfinished
    assert build_index(tmp_path / "index", [photos]).added == 1
    assert not Index.open(tmp_path / "index").is_unfinished


@pytest.mark.parametrize("step", ["save_palette", "Manifest.commit"])
def test_a_failure_while_saving_leaves_the_old_index_or_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    build_index(tmp_path / "index", [photos])
    before = files_of(tmp_path / "index")
    make_photo(photos / "new.jpg", 5)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"cbir.writer.{step}", full)
    for name in ("index", "fresh"):
        with pytest.raises(OSError, match="No space"):
            build_index(tmp_path / name, [photos])
    assert files_of(tmp_path / "index") == before
    assert not (tmp_path / "fresh").exists()


def test_a_palette_is_kept_until_it_is_learnt_anew(photos: Path, tmp_path: Path) -> None:
    first = build_index(tmp_path / "index", [photos / "things"], colors=32)
    later = build_index(tmp_path / "index", [photos])
    np.testing.assert_array_equal(later.palette.lab, first.palette.lab)
    with pytest.raises(IndexFolderError, match="--rebuild"):
        build_index(tmp_path / "index", [photos], colors=16)
    with pytest.raises(IndexFolderError, match="--rebuild"):
        build_index(tmp_path / "index", [photos], algorithm="kmeans")
    rebuilt = build_index(tmp_path / "index", [photos], colors=16, algorithm="kmeans", rebuild=True)
    assert len(rebuilt.palette) == 16 and len(Index.open(tmp_path / "index").palette) == 16
    with pytest.raises(PaletteError):
        build_index(tmp_path / "other", [photos], colors=0)


def test_a_palette_that_the_collection_has_outgrown_is_told(photos: Path, tmp_path: Path) -> None:
    assert not build_index(tmp_path / "index", [photos / "things" / "plum.png"]).palette_is_outgrown
    assert build_index(tmp_path / "index", [photos]).palette_is_outgrown
    assert not build_index(tmp_path / "index", [photos], rebuild=True).palette_is_outgrown


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((40, 60, 3), (200, 30, 40), np.uint8),
        np.full((1, 1, 3), (1, 2, 3), np.uint8),
        np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2).repeat(9, axis=1),
        np.zeros((300, 300, 3), np.uint8),
    ],
    ids=["one colour", "one pixel", "grey", "black"],
)
def test_a_collection_of_one_plain_picture_works(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "photos" / "plain.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    report = build_index(tmp_path / "index", [path.parent])
    # Colours are counted in cells of 4 levels, so 256 greys are learnt as 64.
    assert len(report.palette) == len(np.unique(pixels.reshape(-1, 3) // 4, axis=0))
    assert report.palette.mean_error < 0.6
    for metric in ("cbir", "sqrt-laplacian", "qbic", "gaussian:3"):
        (hit,) = Index.open(tmp_path / "index").search(path, metric=Metric.parse(metric))
        assert hit.distance == 0
        # A picture of another colour is far in the same index, not an error.
        other = make_photo(tmp_path / "other.png", "#3060c0")
        assert np.isfinite(Index.open(tmp_path / "index").search(other, metric=Metric.parse(metric))[0].distance)


def test_nothing_is_made_where_there_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text.jpg").write_text("not a picture")
    for folder in ("empty", "notes"):
        with pytest.raises(NoPicturesError, match=folder):
            build_index(tmp_path / "index", [tmp_path / folder])
        assert not (tmp_path / "index").exists()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        build_index(tmp_path / "index", [tmp_path / "nowhere"])


def test_a_folder_that_is_no_index_is_neither_opened_nor_written_into(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("mine", "file"):
        for rebuild in (False, True):
            with pytest.raises(IndexFolderError, match=name):
                build_index(tmp_path / name, [photos], rebuild=rebuild)
        with pytest.raises(IndexFolderError, match="not an index"):
            Index.open(tmp_path / name)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


NOT_OURS = ("newer", "another format")


def test_damaged_indexes_are_told_in_one_line_that_names_the_file(photos: Path, tmp_path: Path) -> None:
    good = Index.create(tmp_path / "good", [photos]).folder
    manifest = json.loads((good / "manifest.json").read_text())

    def edited(**changes: object) -> str:
        value = {name: part for name, part in (manifest | changes).items() if name != "checksum"}
        return json.dumps({**value, "checksum": _checksum(value)})

    segment, palette = manifest["segments"][0]["file"], manifest["palette"]
    damages = {
        "of another version": ("manifest.json", edited(version=1).encode(), "damaged"),
        "edited": ("manifest.json", json.dumps(manifest | {"colors": 9}).encode(), "its checksum is wrong"),
        "no descriptor": ("manifest.json", edited(descriptor="local").encode(), "damaged"),
        "another descriptor": ("manifest.json", edited(descriptor="global").encode(), "damaged"),
        "newer": ("manifest.json", edited(version=4).encode(), "newer cbir"),
        "cut": ("manifest.json", edited().encode()[:100], "damaged"),
        "not json": ("manifest.json", b"\xff\xfe", "damaged"),
        "deep": ("manifest.json", b"[" * 100_000, "damaged|not the manifest"),
        "another format": ("manifest.json", b'{"format": "zip"}', "not the manifest"),
        "no version": ("manifest.json", edited(version=None).encode(), "damaged"),
        "outside": ("manifest.json", edited(palette="../../etc/passwd").encode(), "damaged"),
        "odd segments": ("manifest.json", edited(segments=[1]).encode(), "damaged"),
        "negative": ("manifest.json", edited(colors=-1).encode(), "damaged"),
        "lost segment": (segment, None, "missing"),
        "empty segment": (segment, b"", "damaged"),
        "wrong part": (segment, (good / palette).read_bytes(), "damaged"),
        "wrong palette": (palette, (good / segment).read_bytes(), "damaged"),
    }
    for name, (file, content, message) in damages.items():
        folder = shutil.copytree(good, tmp_path / name)
        (folder / file).unlink()
        if content is not None:
            (folder / file).write_bytes(content)
        with pytest.raises(IndexFolderError, match=message) as caught:
            Index.open(folder)
        assert "\n" not in str(caught.value) and name in str(caught.value)
        if name in NOT_OURS:
            before = files_of(folder)
            with pytest.raises(IndexFolderError, match=message):
                build_index(folder, [photos], rebuild=True)
            assert files_of(folder) == before
            continue
        build_index(folder, [photos], rebuild=True)
        assert len(Index.open(folder)) == 10, "--rebuild mends it"


def test_odd_file_names_come_back_exactly(tmp_path: Path) -> None:
    odd = [b"line\nbreak.png", b"quote\"'.png", "smile \U0001f642.png".encode(), b"not utf-8 \xff\xfe.png", b" .png"]
    folder = tmp_path / "photos"
    for seed, name in enumerate(odd):
        plain = make_photo(folder / f"{seed}.png", seed)
        plain.rename(os.fsdecode(os.fsencode(folder) + b"/" + name))
    index = Index.create(tmp_path / "index", [folder])
    assert {os.fsencode(os.path.basename(index.path(row))) for row in range(len(index))} == set(odd)
    for row in range(len(index)):
        assert index.search(index.path(row), limit=1)[0].path == index.path(row)


def test_info_tells_what_is_in_it(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    index = Index.create(tmp_path / "index", [photos], colors=20)
    info = index.info()
    assert (info.photos, info.unread, info.colors, info.format_version) == (10, 1, 20, 3)
    assert info.roots == [str(photos)] and (info.descriptor, info.metric) == ("spatial", "cbir")
    assert info.bytes == sum(len(content) for content in files_of(tmp_path / "index").values())
    assert 0 < info.mean_error < info.p95_error
    assert repr(index) == f"Index({str(tmp_path / 'index')!r}, 10 photos, 20 colours)"
    np.testing.assert_allclose(index.mean_amounts().sum(), 1)


def test_pictures_that_could_not_be_read_are_tried_again_by_another_decoder(
    photos: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    build_index(tmp_path / "index", [photos])
    decoded.clear()
    for module in ("indexing", "plan"):
        monkeypatch.setattr(f"cbir.{module}.decoder_version", lambda: "Pillow 99")
    report = build_index(tmp_path / "index", [photos])
    assert decoded == ["broken.jpg"] and len(report.skipped) == 1
    decoded.clear()
    build_index(tmp_path / "index", [photos])
    assert decoded == []


def test_wholly_transparent_pictures_are_skipped_by_name(photos: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(photos / "nothing.png")
    report = build_index(tmp_path / "index", [photos])
    assert report.photos == 10
    assert [(os.path.basename(one.path), one.reason) for one in report.skipped] == [
        ("nothing.png", "the picture is wholly transparent")
    ]


def test_progress_counts_every_decode_once(photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build_index(tmp_path / "index", [photos], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 10) for done in range(1, 11)]


def test_an_index_whose_photos_are_all_gone_stays_as_it_was(photos: Path, tmp_path: Path) -> None:
    build_index(tmp_path / "index", [photos])
    before = files_of(tmp_path / "index")
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(NoPicturesError):
        build_index(tmp_path / "index", [photos])
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(NoPicturesError, match=r"broken\.jpg"):
        build_index(tmp_path / "index", [photos])
    assert files_of(tmp_path / "index") == before


def test_a_second_writer_is_refused_and_the_first_goes_on(photos: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    def second(done: int, total: int) -> None:
        with pytest.raises(IndexFolderError, match=f"process {os.getpid()} on ") as caught:
            build_index(tmp_path / "index", [photos])
        refused.append(str(caught.value))

    pytest.importorskip("fcntl", reason="folders can be locked on POSIX systems only")
    report = build_index(tmp_path / "index", [photos], progress=second)
    assert len(refused) == 10 and report.photos == 10
    assert build_index(tmp_path / "index", [photos]).added == 0


def test_many_small_runs_leave_few_files_and_every_photo(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for i in range(30):
        make_photo(folder / f"{(7 * i) % 30:02}.png", i)
        if i == 5:
            (folder / "broken.png").write_bytes(b"\x89PNG")
        report = build_index(tmp_path / "index", [folder], colors=16)
        assert report.photos == i + 1 and len(files_of(tmp_path / "index")) <= 10
    index = Index.open(tmp_path / "index")
    assert index.info().unread == 1
    for path in folder.glob("??.png"):
        hit = index.search(path, limit=1)[0]
        assert (hit.path, hit.distance) == (str(path), 0)


def test_a_failure_that_may_pass_is_not_remembered(photos: Path, tmp_path: Path, decoded: list[str]) -> None:
    (photos / "link.jpg").symlink_to(tmp_path / "later.jpg")
    assert len(build_index(tmp_path / "index", [photos]).skipped) == 1
    make_photo(tmp_path / "later.jpg", 3)
    assert build_index(tmp_path / "index", [photos]).photos == 11
    decoded.clear()

    def denied(path: str, **_: object) -> object:
        raise PictureError(path, "permission denied", lasting=False)

    make_photo(photos / "new.jpg", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(describe, "read_working_picture", denied)
        assert len(build_index(tmp_path / "index", [photos]).skipped) == 1
    assert build_index(tmp_path / "index", [photos]).photos == 12


def test_a_photo_that_became_unreadable_counts_as_dropped(photos: Path, tmp_path: Path) -> None:
    build_index(tmp_path / "index", [photos])
    (photos / "things" / "plum.png").write_bytes(b"\x89PNG")
    report = build_index(tmp_path / "index", [photos])
    assert (report.photos, report.added, report.changed, report.dropped) == (9, 0, 0, 1)


def test_what_a_crash_left_behind_is_no_hindrance(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / ".writing-abc").write_bytes(b"half")
    (tmp_path / "index" / "segment-0123456789abcdef.joblib").write_bytes(b"whole")
    assert build_index(tmp_path / "index", [photos]).photos == 10
    assert len(files_of(tmp_path / "index")) == 3


def test_a_full_disk_is_told_with_the_place(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cbir.segment.plain.dump", full)
    with pytest.raises(OSError, match="No space") as caught:
        build_index(tmp_path / "index", [photos])
    assert caught.value.filename == str(tmp_path / "index")


def test_pictures_that_kill_or_hang_their_decoder_are_skipped_by_name_and_all_others_described(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(tmp_path / "index", [photos])
    for name in ("kills", "crashes", "hangs"):
        make_photo(photos / f"{name}.jpg", 5)
    make_photo(photos / "new.jpg", 6)
    monkeypatch.setattr(parallel, "ITEM_SECONDS", 0.5)
    monkeypatch.setattr(describe, "_describe", work_for_workers.describe_or_die)
    report = build_index(tmp_path / "index", [photos], jobs=2)
    assert (report.photos, report.added) == (11, 1)
    assert {os.path.basename(one.path): one.reason for one in report.skipped} == {
        "kills.jpg": "its decoder died (SIGKILL)",
        "crashes.jpg": "its decoder died (SIGSEGV)",
        "hangs.jpg": "not done within 0.5 s",
    }
    # What may have been the system's doing is tried again, what was the picture's is not.
    monkeypatch.undo()
    again = build_index(tmp_path / "index", [photos])
    assert again.added == 2 and [os.path.basename(one.path) for one in again.skipped] == ["crashes.jpg"]
