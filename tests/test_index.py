"""An index holds exactly the photos that can be read, finds each by itself, and is never left half-written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import work_for_workers
from made_indexes import compared_with_each, in_small, placed, put
from made_indexes import photos as random_photos
from pictures import make_photo
from PIL import Image

from cbir import describe, learn, parallel, plain, search, view
from cbir.check import check_index
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
from cbir.find import Skipped
from cbir.index import Hit, Index
from cbir.indexing import IndexingInterruptedError, build_index
from cbir.lock import LOCK_NAME
from cbir.manifest import _checksum
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.scope import Scope


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


# What follows searches small collections as large ones are searched: with axes.


@pytest.fixture
def small() -> Iterator[None]:
    with in_small(fewest=5):
        yield


def as_told(hits: Sequence[Hit]) -> list[tuple[object, ...]]:
    return [(hit.rank, hit.path, hit.distance, hit.amounts.tolist(), hit.alike) for hit in hits]


SCOPES = {
    "everything": Scope(),
    "within": Scope(within=0.9),
    "offset": Scope(offset=2),
    "offset past the end": Scope(offset=100),
    "below": Scope(below=("photos/nature", "photos/things/plum.png")),
    "excluded": Scope(excluded=("photos/things",)),
    "without itself": Scope(itself=False),
    "distinct": Scope(distinct=0.7),
    "all": Scope(within=1.3, offset=1, below=("photos",), excluded=("photos/nature",), itself=False, distinct=0.2),
}


@pytest.mark.parametrize("rerank", [False, True], ids=["", "reranked"])
@pytest.mark.parametrize("scope", SCOPES)
def test_many_queries_find_what_each_finds(
    small: None, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str, rerank: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(photos / "things" / "plum.png", photos / "things" / "plum2.png")
    index = Index.create("index", ["photos"], colors=8)
    (photos / "nature" / "sea.jpg").unlink()
    make_photo(photos / "nature" / "sand.jpg", "#445566")
    make_photo(tmp_path / "new.png", 3)
    files = ["photos/things/plum.png", photos / "things" / "plum2.png", "sea.jpg", "photos/nature/sand.jpg", "new.png"]
    amounts = [np.eye(8)[2], [1, 0, 0, 2, 0, 0, 0, 0]]
    for queries in ([*files, *amounts, *files[:2]], files, amounts, files[:1], []):
        for limit in (1, 4, 50):
            wanted = [as_told(index.search(one, limit, scope=SCOPES[scope], rerank=rerank)) for one in queries]
            for jobs in (1, 2):
                found = index.search_many(queries, limit, scope=SCOPES[scope], rerank=rerank, jobs=jobs)
                assert list(map(as_told, found)) == wanted
    assert list((tmp_path / "index").glob("axes-*"))


def made_up(folder: Path) -> Index:
    """100 photos that have axes, and 4 that have none."""
    put(folder, [placed(100, 1)]).prepare()
    index = put(folder, [placed(100, 1), placed(4, 2)])
    assert len(index._prepared_for(DEFAULT).collection.loose) == 4
    return index


def test_more_queries_than_are_answered_together_find_what_each_finds(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = made_up(tmp_path / "index")
    monkeypatch.setattr(search, "_GROUP", 4)
    monkeypatch.setattr(view, "_LEAVES", 3)
    queries = [index.path(row) for row in (*range(0, 104, 7), 102, 3, 3)]
    for metric in (DEFAULT, QBIC):
        wanted = [as_told(index.search(one, 5, metric)) for one in queries]
        for jobs in (1, 2):
            assert list(map(as_told, index.search_many(queries, 5, metric, jobs=jobs))) == wanted


def test_a_query_that_cannot_be_read_is_told_and_the_others_are_answered(
    small: None, photos: Path, tmp_path: Path
) -> None:
    index = Index.create(tmp_path / "index", [photos], colors=8)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "empty.jpg").write_bytes(b"")
    bad = [tmp_path / "broken.jpg", tmp_path / "empty.jpg"]
    good = [photos / "things" / "plum.png", photos / "nature" / "sea.jpg"]
    queries = [bad[0], good[0], bad[1], good[1]]
    for rerank in (False, True):
        with pytest.raises(PictureError, match=r"broken\.jpg|empty\.jpg"):
            index.search_many(queries, rerank=rerank)
        skipped: list[Skipped] = []
        found = index.search_many(queries, 3, rerank=rerank, skipped=skipped)
        assert {one.path for one in skipped} == set(map(str, bad)) and len(skipped) == 2
        assert "the file is empty" in {one.reason for one in skipped}
        wanted = [as_told(index.search(one, 3, rerank=rerank)) for one in good]
        assert [found[0], found[2]] == [[], []] and list(map(as_told, [found[1], found[3]])) == wanted
        assert index.search_many(bad, rerank=rerank, skipped=[]) == [[], []]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        index.search_many([good[0], "nowhere.jpg"], skipped=[])
    for amounts in (np.zeros(8), -np.ones(8), np.full(8, np.nan), np.ones(7)):
        with pytest.raises(ValueError, match="amounts"):
            index.search_many([good[0], amounts], skipped=[])


def test_many_descriptors_find_the_rows_that_each_finds(small: None, tmp_path: Path) -> None:
    index = made_up(tmp_path / "index")
    codes = np.concatenate([[index.codes(row) for row in (0, 50, 102, 50)], random_photos(30, 9)])
    for metric in (DEFAULT, QBIC):
        for limit in (1, 10, 500):
            wanted = [index.nearest(one, limit, metric) for one in codes]
            for jobs in (1, 2, None):
                for number in (len(codes), 1, 0):
                    found = index.nearest_many(codes[:number], limit, metric, jobs=jobs)
                    assert len(found) == number
                    for ours, theirs in zip(found, wanted, strict=False):
                        np.testing.assert_array_equal(ours.rows, theirs.rows)
                        np.testing.assert_array_equal(ours.distances, theirs.distances)
    for row in (0, 50, 102):
        rows, distances = index.nearest(index.codes(row), 7)
        wanted_hits = compared_with_each(index, index.codes(row))[:7]
        assert [(index.path(one), distance) for one, distance in zip(rows, distances, strict=True)] == wanted_hits


@pytest.mark.parametrize(
    "change",
    [
        *(lambda codes: np.append(codes, codes[:3]), lambda codes: codes[:-1], lambda codes: np.append(codes, codes)),
        *(lambda codes: codes[None], lambda codes: codes[0]),
        *(lambda codes: codes.astype(np.int64), lambda codes: codes / 255, lambda codes: codes.astype(np.int64) - 256),
    ],
    ids=["longer", "shorter", "twice as long", "two", "a number", "integers", "shares", "negative"],
)
def test_what_is_no_descriptor_of_the_index_is_refused(
    small: None, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    index = made_up(tmp_path / "index")
    wrong = change(index.codes(0))
    with pytest.raises(ValueError, match="descriptor"):
        index.nearest(wrong)
    with pytest.raises(ValueError, match="descriptor"):
        index.nearest_many(wrong[None])


@pytest.mark.parametrize("limit", [0, -1])
def test_no_rows_at_all_cannot_be_asked_for(small: None, tmp_path: Path, limit: int) -> None:
    index = made_up(tmp_path / "index")
    with pytest.raises(ValueError, match="limit"):
        index.nearest(index.codes(0), limit)
    with pytest.raises(ValueError, match="limit"):
        index.nearest_many(index.codes(0)[None], limit)


@pytest.mark.parametrize("leading", [0, -1, 33])
def test_a_number_of_leading_axes_out_of_range_is_refused(small: None, tmp_path: Path, leading: int) -> None:
    with pytest.raises(ValueError, match="leading"):
        put(tmp_path / "index", [placed(50, 1)]).prepare(leading=leading)


def test_a_second_pass_goes_on_from_page_to_page_and_only_over_what_may_be_found(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbir.ranking.POOL", 30)
    index = made_up(tmp_path / "index")
    query = index.path(7)
    for bounds in ({}, {"itself": False}, {"excluded": ("/photos/2",)}, {"within": 1.4}):
        plainly = index.search(query, 500, scope=Scope(**bounds))
        again = index.search(query, 500, scope=Scope(**bounds), rerank=True)
        pool = 30 + (again[0].path == query)
        assert {hit.path for hit in again[:pool]} == {hit.path for hit in plainly[:pool]}
        assert [hit.path for hit in again[pool:]] == [hit.path for hit in plainly[pool:]]
        assert [hit.path for hit in again] != [hit.path for hit in plainly]
        pages = [
            hit
            for offset in range(0, 104, 25)
            for hit in index.search(query, 25, scope=Scope(offset=offset, **bounds), rerank=True)
        ]
        assert as_told(pages) == as_told(again)


def with_hit(hits: list[Hit], number: int, **changes: object) -> list[Hit]:
    return [*hits[:number], replace(hits[number], **changes), *hits[number + 1 :]]


LIES: dict[str, tuple[Callable[[list[Hit]], list[Hit]], int]] = {
    "the truth": (lambda hits: hits, 10),
    "two swapped": (lambda hits: [*hits[:3], hits[4], hits[3], *hits[5:]], 8),
    "the last missing": (lambda hits: hits[:-1], 9),
    "the first missing": (lambda hits: hits[1:], 0),
    "one in the middle missing": (lambda hits: [*hits[:4], *hits[5:]], 4),
    "none": (lambda hits: [], 0),
    "one too many": (lambda hits: [*hits, hits[-1]], 9),
    "another photo": (lambda hits: with_hit(hits, 4, path="/photos/1/none.jpg"), 9),
    "another distance": (lambda hits: with_hit(hits, 4, distance=float(np.nextafter(hits[4].distance, 9))), 9),
    "one twice": (lambda hits: [*hits[:5], hits[4], *hits[6:]], 9),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_verification_tells_how_many_hits_are_as_the_plain_form_finds_them(
    small: None, tmp_path: Path, lie: str
) -> None:
    index = made_up(tmp_path / "index")
    tell, same = LIES[lie]
    query = index.path(3)
    hits = index.search(query)
    seen: list[tuple[str, int, int]] = []
    assert index.verify(query, tell(hits), progress=lambda *what: seen.append(what)) == (same, 10)
    assert seen[-1] == ("verified", 104, 104) and [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_verification_of_hits_that_stand_for_most_photos_compares_each_photo_once(
    small: None, tmp_path: Path
) -> None:
    index = made_up(tmp_path / "index")
    query, scope = index.path(3), Scope(distinct=2.0)
    hits = index.search(query, 1, scope=scope)
    assert len(hits[0].alike) > 50
    seen: list[tuple[str, int, int]] = []
    assert index.verify(query, hits, 1, scope=scope, progress=lambda *what: seen.append(what)) == (1, 1)
    assert seen == [("verified", 104, 104)]


def test_a_verification_of_hits_where_there_are_none_is_not_what_it_finds(small: None, tmp_path: Path) -> None:
    index = made_up(tmp_path / "index")
    hits, nothing = index.search(index.path(3), 2), Scope(excluded=("/photos",))
    assert index.verify(index.path(3), [], 2, scope=nothing) == (0, 0)
    assert index.verify(index.path(3), hits, 2, scope=nothing) != (0, 0)


def tampered(folder: Path) -> Path:
    """Put the photos of an index's axes in another order, under the same name."""
    (path,) = folder.glob("axes-*")
    value = plain.load(path)
    value = {name: np.array(part) if isinstance(part, np.ndarray) else part for name, part in value.items()}
    # By half, so that each photo has the place of one from the other side.
    value["order"] = np.roll(value["order"], len(value["order"]) // 2)
    path.unlink()
    with path.open("wb") as file:
        plain.dump(value, file)
    return path


def test_a_verification_tells_that_photos_are_missed_since_axes_were_tampered_with(small: None, tmp_path: Path) -> None:
    folder = made_up(tmp_path / "index").folder
    path = tampered(folder)
    index = Index.open(folder)
    same, of = index.verify("1/0003.jpg", index.search("1/0003.jpg"))
    assert same < of == 10
    assert [problem.partition(":")[0] for problem in check_index(folder, repair=True).problems] == [path.name]
    mended = Index.open(folder)
    assert mended.verify("1/0003.jpg", mended.search("1/0003.jpg")) == (10, 10)


def axes_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("axes-*")}


def test_a_run_keeps_the_axes_and_an_open_index_answers_for_what_it_opened(
    small: None, photos: Path, tmp_path: Path
) -> None:
    opened = Index.create(tmp_path / "index", [photos], colors=8)
    before = as_told(opened.search("plum.png", 20))
    kept = axes_in(opened.folder)
    assert len(before) == 10 and len(kept) == 1
    make_photo(photos / "new.jpg", 4)
    added = Index.create(tmp_path / "index", [photos])
    assert axes_in(opened.folder) == kept
    assert len(added.search("plum.png", 20)) == 11 and as_told(opened.search("plum.png", 20)) == before
    shutil.rmtree(photos / "nature")
    rebuilt = Index.create(tmp_path / "index", [photos], colors=6, rebuild=True)
    assert len(rebuilt.search("plum.png", 20)) == 6 and as_told(opened.search("plum.png", 20)) == before
    assert len(added.search("plum.png", 20)) == 11
    assert axes_in(opened.folder).isdisjoint(kept), "they told of no segment that is left"
    assert rebuilt.info().bytes == sum(len(content) for content in files_of(opened.folder).values())
    shutil.rmtree(opened.folder)
    for index, number in ((opened, 10), (added, 11), (rebuilt, 6)):
        for metric in (DEFAULT, QBIC):
            hits = index.search("plum.png", 20, metric)
            assert len(hits) == number and index.verify("plum.png", hits, 20, metric) == (number, number)
            assert as_told(index.search_many(["plum.png"], 20, metric)[0]) == as_told(hits)
    assert as_told(opened.search("plum.png", 20)) == before and not opened.folder.exists()
