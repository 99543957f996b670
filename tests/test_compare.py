"""Comparing photos and collections: by an index or by themselves, and which colours one has and the other lacks."""

from pathlib import Path

import numpy as np
import pytest
from made_indexes import put
from pictures import make_photo

from cbir import compare as module
from cbir.color import bytes_of_lab
from cbir.compare import Comparison, Source, compare, difference, source_of, source_of_index
from cbir.errors import CbirError, NoPicturesError
from cbir.index import Index
from cbir.metric import DEFAULT

RED, GREEN, GREY = (50.0, 65.0, 50.0), (50.0, -50.0, 40.0), (60.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and green photos in a folder each, which share grey ones, and an index of both."""
    folder = tmp_path_factory.mktemp("compare")
    for number in range(4):
        make_photo(folder / "photos" / "red" / f"{number}.png", (190 + number, 40, 40))
        make_photo(folder / "photos" / "green" / f"{number}.png", (40, 150 + number, 40))
        for name in ("red", "green"):
            make_photo(folder / "photos" / name / f"grey{number}.png", (120, 120, 120 + number))
    Index.create(folder / "index", [folder / "photos"], colors=16, jobs=1)
    make_photo(folder / "new" / "red.png", (185, 45, 40), (200, 150))
    (folder / "new" / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_text("Buy milk.")
    return folder


@pytest.fixture
def index(folder: Path) -> Index:
    return Index.open(folder / "index")


def of(folder: Path, name: str) -> Source:
    return source_of(str(folder / name))


def hues(compared: Comparison) -> tuple[set[int], set[int]]:
    """Which of red, green and blue is strongest in the colours that only the first, and only the second, has."""
    first, second = compared.difference.only_first, compared.difference.only_second
    return {int(one.srgb.argmax()) for one in first}, {int(one.srgb.argmax()) for one in second}


# --- histograms


def test_a_colour_that_one_has_and_the_other_lacks_is_told_with_its_share() -> None:
    lab = np.array([RED, GREEN, GREY])
    told = difference(np.array([0.3, 0.0, 0.7]), np.array([0.0, 0.2, 0.8]), lab)
    assert [(one.srgb.tolist(), one.share) for one in told.only_first] == [(bytes_of_lab(RED).tolist(), 0.3)]
    assert [(one.srgb.tolist(), one.share) for one in told.only_second] == [(bytes_of_lab(GREEN).tolist(), 0.2)]


def test_shades_of_a_colour_are_not_taken_for_its_lack() -> None:
    lab = np.array([RED, (RED[0] + 8, RED[1], RED[2]), GREY])
    told = difference(np.array([0.3, 0.0, 0.7]), np.array([0.0, 0.3, 0.7]), lab)
    assert (told.only_first, told.only_second) == ([], [])


def test_a_trace_of_a_colour_is_as_good_as_none_and_a_trace_is_not_missed() -> None:
    lab = np.array([RED, GREEN, GREY])
    told = difference(np.array([0.3, 0.01, 0.69]), np.array([0.01, 0.0, 0.99]), lab)
    assert [one.share for one in told.only_first] == [0.3]


def test_main_colours_of_both_are_told_with_the_share_of_each() -> None:
    lab = np.array([RED, GREEN, GREY])
    told = difference(np.array([0.3, 0.0, 0.7]), np.array([0.0, 0.2, 0.8]), lab)
    assert [(one.first, one.second) for one in told.shades] == [(0.7, 0.8), (0.3, 0), (0, 0.2)]


# --- photos


def test_two_photos_of_an_index_are_as_far_apart_as_a_search_tells(folder: Path, index: Index) -> None:
    first, second = folder / "photos" / "red" / "0.png", folder / "photos" / "green" / "0.png"
    compared = compare(source_of(str(first)), source_of(str(second)), index)
    (distance,) = (hit.distance for hit in index.search(first, 100) if hit.path == str(second))
    assert compared.distance == distance
    assert (compared.metric, compared.photos, compared.decoded_of) == (DEFAULT, (1, 1), ((0, 0), (0, 0)))


def test_a_photo_that_the_index_does_not_have_is_described_by_it(folder: Path, index: Index) -> None:
    first, second = folder / "new" / "red.png", folder / "photos" / "green" / "0.png"
    compared = compare(source_of(str(first)), source_of(str(second)), index, jobs=1)
    (distance,) = (hit.distance for hit in index.search(first, 100) if hit.path == str(second))
    assert compared.distance == pytest.approx(distance, abs=1e-9)
    assert compared.decoded_of == ((1, 1), (0, 0))


def test_a_photo_of_the_index_is_found_by_the_end_of_its_path(folder: Path, index: Index) -> None:
    assert source_of("red/2.png", index).files[0].path == str(folder / "photos" / "red" / "2.png")


def test_a_photo_that_is_nowhere_is_told(index: Index) -> None:
    with pytest.raises(FileNotFoundError, match="no such file, nor a photo"):
        source_of("nowhere.png", index)
    with pytest.raises(FileNotFoundError):
        source_of("nowhere.png")


# --- collections


@pytest.mark.parametrize("by_index", [True, False])
def test_of_two_folders_the_colours_are_told_that_one_has_and_the_other_lacks(
    folder: Path, index: Index, by_index: bool
) -> None:
    compared = compare(of(folder, "photos/red"), of(folder, "photos/green"), index if by_index else None, jobs=1)
    assert hues(compared) == ({0}, {1})
    assert compared.distance > 0.1 and compared.photos == (8, 8)


def test_folders_are_compared_by_their_mean_colours(folder: Path, index: Index) -> None:
    compared = compare(of(folder, "photos/red"), of(folder, "photos/green"), index)
    for amounts, name in zip(compared.amounts, ("red", "green"), strict=True):
        rows = [row for row in range(len(index)) if f"/{name}/" in index.path(row)]
        assert amounts == pytest.approx(np.mean([index.amounts(row) for row in rows], axis=0))
    assert compared.metric == DEFAULT.of_whole()


def test_the_same_folder_twice_is_at_no_distance_and_lacks_nothing(folder: Path, index: Index) -> None:
    compared = compare(of(folder, "photos/red"), of(folder, "photos/red"), index)
    assert compared.distance == 0
    assert (compared.difference.only_first, compared.difference.only_second) == ([], [])


def test_without_an_index_a_palette_is_learnt_and_the_metric_is_not_centred(folder: Path) -> None:
    compared = compare(of(folder, "photos/red/0.png"), of(folder, "photos/green/0.png"), jobs=1)
    assert compared.by is None and not compared.metric.centred and compared.distance > 0.1
    assert hues(compared) == ({0}, {1})


def test_an_index_is_compared_as_all_of_its_photos(folder: Path, index: Index) -> None:
    compared = compare(source_of_index("all", index), of(folder, "photos/red"), index)
    assert compared.photos == (16, 8) and compared.decoded_of == ((0, 0), (0, 0))
    assert compared.amounts[0] == pytest.approx(index.mean_amounts())


def test_an_index_can_be_compared_by_its_photos_without_its_palette(folder: Path, index: Index) -> None:
    compared = compare(source_of_index("all", index), of(folder, "new/red.png"), jobs=1)
    assert compared.photos == (16, 1) and compared.by is None


def test_of_a_large_folder_photos_are_drawn_evenly(folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DECODED", 3)
    compared = compare(of(folder, "photos/red"), of(folder, "photos/green/0.png"), jobs=1)
    assert compared.decoded_of == ((3, 8), (1, 1)) and compared.photos == (3, 1)
    # What an index has needs no decoding, so all of it counts.
    assert compare(of(folder, "photos/red"), of(folder, "photos/green/0.png"), index).photos == (8, 1)


@pytest.mark.parametrize("by_index", [True, False])
def test_what_cannot_be_read_is_told_and_left_out(folder: Path, index: Index, by_index: bool) -> None:
    compared = compare(of(folder, "new"), of(folder, "photos/green"), index if by_index else None, jobs=1)
    assert compared.photos == (1, 8)
    assert [Path(one.path).name for one in compared.skipped] == ["damaged.jpg"]


@pytest.mark.parametrize("by_index", [True, False])
def test_a_photo_that_cannot_be_read_is_refused_in_one_line(folder: Path, index: Index, by_index: bool) -> None:
    with pytest.raises(CbirError, match=r"damaged\.jpg: ") as error:
        compare(of(folder, "new/damaged.jpg"), of(folder, "photos/green"), index if by_index else None, jobs=1)
    assert "\n" not in str(error.value)


def test_a_folder_without_pictures_is_refused(folder: Path) -> None:
    with pytest.raises(NoPicturesError, match="has no pictures"):
        of(folder, "empty")


def test_an_index_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CbirError, match="gone: has no photos"):
        source_of_index("gone", put(tmp_path / "index", []))


def test_progress_tells_how_many_photos_are_decoded(folder: Path, index: Index) -> None:
    told: list[tuple[int, int]] = []
    sources = of(folder, "new"), of(folder, "photos/green")
    compare(*sources, index, jobs=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
