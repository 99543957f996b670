"""What the labelled sets' file names say, and when they say nothing."""

import os
from pathlib import Path

import pytest

from cbir.evaluation.layouts import LAYOUTS, LabelledSet, LayoutError, read_layout

SHARED = Path(__file__).parents[2] / "shared" / "data"

# For each layout some names that fit, in the order of their paths, and their labels.
EXAMPLES = {
    "folders": {"cat/1.jpg": "cat", "cat/2.JPG": "cat", "dog/puppy/small/3.png": "dog", "dog/z.webp": "dog"},
    "hundreds": {"0.jpg": "0", "100.jpg": "1", "199.jpg": "1", "99.jpg": "0", "999.JPG": "9"},
    "ukbench": {"ukbench00000.jpg": "0", "ukbench00003.jpg": "0", "ukbench00004.JPG": "1", "ukbench10199.jpg": "2549"},
    "holidays": {"100000.jpg": "1000", "100001.jpg": "1000", "100100.JPG": "1001", "149910.jpg": "1499"},
}


def put(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def labels_by_name(read: LabelledSet, folder: Path) -> dict[str, str]:
    names = [photo.relative_to(folder).as_posix() for photo in read.photos]
    return dict(zip(names, read.labels, strict=True))


def names_left_out(read: LabelledSet) -> list[str]:
    return [path.name for path, _ in read.left_out]


def test_every_layout_has_an_example_here() -> None:
    assert EXAMPLES.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_named_layout_labels_the_photos_by_their_paths(layout: str, tmp_path: Path) -> None:
    read = read_layout(put(tmp_path, *EXAMPLES[layout]), layout)
    assert labels_by_name(read, tmp_path) == EXAMPLES[layout]
    assert read.left_out == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_is_told_from_the_names(layout: str, tmp_path: Path) -> None:
    read = read_layout(put(tmp_path, *EXAMPLES[layout]))
    assert read.layout == layout
    assert read == read_layout(tmp_path, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_photos_are_sorted_whatever_order_they_were_written_in(layout: str, tmp_path: Path) -> None:
    read = read_layout(put(tmp_path, *reversed(EXAMPLES[layout])))
    assert read.photos == [tmp_path / name for name in EXAMPLES[layout]]


@pytest.mark.parametrize(
    ("layout", "wrong"),
    [
        ("folders", "top.jpg"),
        ("hundreds", "1000.jpg"),
        ("hundreds", "007.jpg"),
        ("hundreds", "5.png"),
        ("hundreds", "more/5.jpg"),
        ("ukbench", "ukbench0000.jpg"),
        ("ukbench", "ukbench000000.jpg"),
        ("ukbench", "00000.jpg"),
        ("ukbench", "thumbnails/ukbench00000.jpg"),
        ("holidays", "10000.jpg"),
        ("holidays", "1000000.jpg"),
        ("holidays", "100000 (1).jpg"),
    ],
)
def test_a_wrong_name_is_left_out_with_the_reason(layout: str, wrong: str, tmp_path: Path) -> None:
    read = read_layout(put(tmp_path, *EXAMPLES[layout], wrong), layout)
    assert labels_by_name(read, tmp_path) == EXAMPLES[layout]
    assert read.left_out == [(tmp_path / wrong, LAYOUTS[layout].misfit)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hidden_files_and_files_that_are_no_pictures_are_ignored(layout: str, tmp_path: Path) -> None:
    put(tmp_path, *EXAMPLES[layout], ".DS_Store", ".5.jpg", ".cache/5.jpg", "readme.txt", "cat/Thumbs.db")
    read = read_layout(tmp_path)
    assert labels_by_name(read, tmp_path) == EXAMPLES[layout]
    assert read.left_out == []


def test_a_pipe_named_like_a_photo_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, *EXAMPLES["hundreds"])
    os.mkfifo(tmp_path / "7.jpg")
    assert read_layout(tmp_path).left_out == [(tmp_path / "7.jpg", "not a regular file")]


def test_a_relative_folder_gives_the_same_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "set", *EXAMPLES["folders"])
    monkeypatch.chdir(tmp_path)
    assert read_layout("set") == read_layout(tmp_path / "set")


def test_an_empty_class_folder_gives_no_label(tmp_path: Path) -> None:
    put(tmp_path, *EXAMPLES["folders"])
    (tmp_path / "empty").mkdir()
    read = read_layout(tmp_path)
    assert set(read.labels) == {"cat", "dog"}
    assert "empty" not in read.singletons


def test_a_class_of_one_photo_stays_and_is_listed(tmp_path: Path) -> None:
    read = read_layout(put(tmp_path, *EXAMPLES["folders"], "yak/only.jpg", "ant/only.jpg"))
    assert read.labels.count("yak") == 1
    assert read.singletons == ["ant", "yak"]


def test_holidays_are_searched_with_the_first_photo_of_each_group(tmp_path: Path) -> None:
    read = read_layout(put(tmp_path, *EXAMPLES["holidays"]))
    assert [read.photos[index].name for index in read.queries] == ["100000.jpg", "100100.JPG"]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "holidays"])
def test_in_the_other_layouts_every_photo_is_searched_with(layout: str, tmp_path: Path) -> None:
    read = read_layout(put(tmp_path, *EXAMPLES[layout]))
    assert read.queries == list(range(len(EXAMPLES[layout])))


def test_class_folders_of_numbered_photos_are_class_folders(tmp_path: Path) -> None:
    read = read_layout(put(tmp_path, "beach/100.jpg", "beach/101.jpg", "bus/300.jpg", "bus/ukbench00001.jpg"))
    assert (read.layout, read.labels) == ("folders", ["beach", "beach", "bus", "bus"])


def test_a_few_odd_names_do_not_hide_the_layout(tmp_path: Path) -> None:
    read = read_layout(put(tmp_path, *EXAMPLES["ukbench"], "cover.jpg"))
    assert (read.layout, names_left_out(read)) == ("ukbench", ["cover.jpg"])


def message_of(folder: Path, layout: str | None = None) -> str:
    with pytest.raises(LayoutError) as caught:
        read_layout(folder, layout)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([], "holds no photos"),
        (["notes.txt"], "holds no photos"),
        (["IMG_1.jpg", "IMG_2.jpg"], "most of its names fit no layout"),
        (["7.jpg", "100.jpg", "IMG_1.jpg", "IMG_2.jpg"], "most of its names fit no layout"),
        (["7.jpg", "100.jpg", "100000.jpg"], "fits more than one layout, hundreds and holidays"),
        (["7.jpg", "cat/1.jpg", "dog/1.jpg"], "fits more than one layout, folders and hundreds"),
        (["full/ukbench00000.jpg", "full/ukbench00004.jpg"], "as folders all photos would have one label, 'full'"),
    ],
)
def test_names_that_do_not_settle_the_layout_are_refused(names: list[str], problem: str, tmp_path: Path) -> None:
    assert problem in message_of(put(tmp_path, *names))


def test_a_layout_that_is_named_settles_what_the_names_do_not(tmp_path: Path) -> None:
    put(tmp_path, "7.jpg", "100.jpg", "100000.jpg")
    assert read_layout(tmp_path, "hundreds").labels == ["1", "0"]
    assert read_layout(tmp_path, "holidays").labels == ["1000"]


def test_an_unknown_layout_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    put(tmp_path, *EXAMPLES["folders"])
    assert "there is no layout 'corel'" in message_of(tmp_path, "corel")
    assert "not a folder" in message_of(tmp_path / "nowhere")
    assert "not a folder" in message_of(tmp_path / "cat" / "1.jpg", "folders")


def test_a_refusal_is_one_line_with_the_folder_and_the_known_layouts(tmp_path: Path) -> None:
    message = message_of(tmp_path)
    assert "\n" not in message
    assert message.startswith(str(tmp_path))
    assert message.endswith("folders, hundreds, ukbench, holidays")
    assert issubclass(LayoutError, ValueError)


@pytest.mark.parametrize(("name", "classes", "photos"), [("ferrari", 4, 100), ("tf_flowers_256", 5, 1500)])
def test_public_sets_in_class_folders_are_read_whole(name: str, classes: int, photos: int) -> None:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    read = read_layout(folder)
    assert (read.layout, len(set(read.labels)), len(read.photos)) == ("folders", classes, photos)
    assert (read.left_out, read.singletons) == ([], [])
