"""Finding pictures below folders: which files count, in which order, and by which names."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbir.find import Found, find_pictures, is_below

# Names that trip programs up: all of them are good names on Linux.
AWKWARD = [
    b"two\nlines.jpg",
    b"tab\tand \x1b[31mred\x1b[0m.jpg",
    b'it\'s "quoted" $HOME `id`.jpg',
    "sonnenaufgang über köln 🌅.jpg".encode(),
    b"latin-1 caf\xe9.jpg",
    b"\xff\xfe.png",
    b"-rf.jpg",
    b" leading and trailing .jpg",
    b"back\\slash.jpg",
    b"100%.jpg",
    b"a.b.c.JPEG",
    b"*.jpg",
]


def put(folder: Path, *names: str | bytes) -> Path:
    """Make files, and the folders they are in; whether they are pictures does not matter to finding them."""
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x")
    return folder


def names(folder: Path, *tops: str | Path) -> list[str]:
    """The names relative to `folder` of what is found below it, or below other paths; nothing may be skipped."""
    found, skipped = find_pictures(tops or [folder])
    assert skipped == []
    return [os.path.relpath(one.path, folder) for one in found]


def test_pictures_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "deep/er/b.png", "deep/c.webp")
    assert names(tmp_path) == ["a.jpg", "deep/c.webp", "deep/er/b.png"]


def test_pictures_are_in_the_order_of_their_paths_bytes(tmp_path: Path) -> None:
    put(tmp_path, "b.jpg", "B.jpg", "a/z.jpg", "a-b.jpg", "a.jpg", "ä.jpg", "10.jpg", "9.jpg", b"\xc3.jpg", b"\xff.jpg")
    found = [os.fsencode(name) for name in names(tmp_path)]
    assert found == sorted(found, key=lambda name: os.fsencode(tmp_path) + b"/" + name)
    assert found[:5] == [b"10.jpg", b"9.jpg", b"B.jpg", b"a-b.jpg", b"a.jpg"]


CALLED_PICTURES = ["a.jpg", "b.JPG", "c.JpEg", "d.tiff", "e.PNG", "f.heic", "g.NEF", "h.tga", "i.psd", "a.b.c.webp"]
CALLED_OTHERWISE = ["notes.txt", "film.mp4", "jpg", "f.jpg.txt", "IMG_0001", "photo.", "a.jpg~"]


def test_every_file_is_found_whatever_its_ending(tmp_path: Path) -> None:
    put(tmp_path, *CALLED_PICTURES, *CALLED_OTHERWISE)
    assert names(tmp_path) == sorted(CALLED_PICTURES + CALLED_OTHERWISE)


def test_the_ending_tells_what_is_called_a_picture_in_small_and_capital_letters(tmp_path: Path) -> None:
    put(tmp_path, *CALLED_PICTURES, *CALLED_OTHERWISE)
    found, _ = find_pictures([tmp_path])
    assert {os.path.basename(one.path) for one in found if one.named} == set(CALLED_PICTURES)


@pytest.mark.parametrize("own_first", [True, False])
def test_a_file_that_somebody_asked_for_is_named_also_if_it_is_found_below_a_folder(
    tmp_path: Path, own_first: bool
) -> None:
    put(tmp_path, "scan.dat", "other.dat")
    tops = [tmp_path / "scan.dat", tmp_path]
    found, _ = find_pictures(tops if own_first else tops[::-1])
    assert [one.named for one in found] == [False, True]


def test_what_begins_with_a_dot_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", ".hidden.jpg", ".thumbnails/b.jpg", "deep/.c.png", "deep/.cache/d.png", ".jpg")
    assert names(tmp_path) == ["a.jpg"]


def test_a_hidden_folder_that_is_named_itself_is_searched(tmp_path: Path) -> None:
    put(tmp_path, ".album/a.jpg")
    assert names(tmp_path, tmp_path / ".album") == [".album/a.jpg"]


def test_a_file_that_is_named_itself_counts_whatever_its_ending(tmp_path: Path) -> None:
    put(tmp_path, "scan.dat", "noending", ".hidden")
    tops = [tmp_path / name for name in ("scan.dat", "noending", ".hidden")]
    assert names(tmp_path, *tops) == [".hidden", "noending", "scan.dat"]


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    with pytest.raises(FileNotFoundError) as caught:
        find_pictures([tmp_path, tmp_path / "holidays"])
    assert caught.value.filename == str(tmp_path / "holidays")


def test_an_empty_folder_has_no_pictures(tmp_path: Path) -> None:
    assert find_pictures([tmp_path]) == ([], [])


def test_overlapping_paths_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "in/a.jpg", "in/deep/b.jpg")
    monkeypatch.chdir(tmp_path)
    tops = ["in", "in/", "./in/deep", tmp_path / "in" / ".." / "in", "in/a.jpg", tmp_path / "in" / "a.jpg"]
    assert names(tmp_path, *tops) == ["in/a.jpg", "in/deep/b.jpg"]


def test_size_and_time_are_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"12345")
    os.utime(tmp_path / "a.jpg", ns=(0, 1_234_567_890_123_456_789))
    assert find_pictures([tmp_path]) == ([Found(str(tmp_path / "a.jpg"), 5, 1_234_567_890_123_456_789, True)], [])


def test_awkward_names_come_back_exactly(tmp_path: Path) -> None:
    put(tmp_path, *AWKWARD)
    assert [os.fsencode(name) for name in names(tmp_path)] == sorted(AWKWARD)


@settings(max_examples=50)
@given(
    st.lists(
        st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, ord("/")} and name[:1] != b"."),
        unique=True,
        max_size=5,
    )
)
def test_any_name_comes_back_exactly(tmp_path_factory: pytest.TempPathFactory, stems: list[bytes]) -> None:
    folder = put(tmp_path_factory.mktemp("names"), *[stem + b".jpg" for stem in stems])
    assert [os.fsencode(name) for name in names(folder)] == sorted(stem + b".jpg" for stem in stems)


def test_a_link_to_a_picture_is_followed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/original.jpg", "album/own.jpg")
    (tmp_path / "album" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "original.jpg")
    assert names(tmp_path, tmp_path / "album") == ["album/link.jpg", "album/own.jpg"]


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/original.jpg", "album/own.jpg")
    (tmp_path / "album" / "link").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path, tmp_path / "album") == ["album/own.jpg"]


def test_a_link_to_a_folder_that_is_named_itself_is_followed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/original.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path, tmp_path / "link") == ["link/original.jpg"]


@pytest.mark.usefixtures("never_hangs")
def test_links_in_a_circle_end(tmp_path: Path) -> None:
    put(tmp_path, "a/b/photo.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to("self")
    assert names(tmp_path) == ["a/b/photo.jpg"]


@pytest.mark.usefixtures("never_hangs")
def test_what_is_only_called_a_picture_is_skipped_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "good.jpg")
    (tmp_path / "broken link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    found, skipped = find_pictures([tmp_path])
    assert [one.path for one in found] == [str(tmp_path / "good.jpg")]
    assert {os.path.basename(one.path): one.reason for one in skipped} == {
        "broken.jpg": "no such file or directory",
        "circle.jpg": "too many levels of symbolic links",
        "device.jpg": "not a regular file",
        "pipe.jpg": "not a regular file",
    }


def test_a_folder_that_is_called_like_a_picture_is_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "album.jpg/photo.jpg")
    assert names(tmp_path) == ["album.jpg/photo.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_skipped_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "secret/a.jpg", "open/b.jpg")
    (tmp_path / "secret").chmod(0)
    try:
        found, skipped = find_pictures([tmp_path])
    finally:
        (tmp_path / "secret").chmod(0o700)
    assert [one.path for one in found] == [str(tmp_path / "open" / "b.jpg")]
    assert [(one.path, one.reason) for one in skipped] == [(str(tmp_path / "secret"), "permission denied")]


def test_a_path_longer_than_the_system_allows_is_skipped_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    outside = os.getcwd()
    try:
        os.chdir(tmp_path)
        # Deeper and deeper, by short steps, until the whole has more than 4,096 bytes.
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        Path("deep.jpg").touch()
    finally:
        os.chdir(outside)
    found, skipped = find_pictures([tmp_path, tmp_path / ("n" * 300 + ".jpg")])
    assert [os.path.basename(one.path) for one in found] == ["a.jpg"]
    assert [one.reason for one in skipped] == ["file name too long"] * 2


def test_a_folder_whose_name_only_begins_alike_is_not_above() -> None:
    assert is_below("/photos/2024/a.jpg", "/photos")
    assert is_below("/photos", "/photos")
    assert is_below("/photos", "/")
    assert not is_below("/photos-old/a.jpg", "/photos")
