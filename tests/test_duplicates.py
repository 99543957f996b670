"""Duplicates: copies are found however they were saved, and photos of like colours are not mistaken for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import PHOTOS
from numpy.typing import NDArray
from pictures import make_photo
from PIL import Image

from cbir import duplicates
from cbir.duplicates import Duplicates, alike, find_duplicates, small_lab
from cbir.index import Index

Pixels = NDArray[np.uint8]


def scene(seed: int, size: tuple[int, int] = (96, 64)) -> Pixels:
    """Patches of three colours, which are the same for every seed, in places of its own: (height, width, 3)."""
    random = np.random.default_rng(seed)
    colors = np.array([[180, 40, 40], [40, 90, 170], [230, 220, 180]], np.uint8)
    places = random.permutation(np.arange(24) % 3).reshape(4, 6)
    return np.asarray(Image.fromarray(colors[places]).resize(size, Image.Resampling.NEAREST))


def save(path: Path, pixels: Pixels, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten different photos; a scene with copies, and two others of its very colours."""
    folder = tmp_path_factory.mktemp("duplicates")
    for name, color in PHOTOS.items():
        make_photo(folder / "photos" / name, color)
    own = scene(1)
    save(folder / "photos" / "own.png", own)
    save(folder / "photos" / "saved.jpg", own, quality=60)
    save(folder / "photos" / "half.png", np.asarray(Image.fromarray(own).resize((48, 32), Image.Resampling.BOX)))
    save(folder / "photos" / "mirror.png", own[:, ::-1])
    save(folder / "photos" / "other.png", scene(2))
    save(folder / "photos" / "another.png", scene(3))
    Index.create(folder / "index", [folder / "photos"], colors=16, jobs=1)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Duplicates:
    return find_duplicates(Index.open(folder / "index"), 1.0, jobs=1)


def names(found: Duplicates) -> list[list[str]]:
    return [[Path(copy.path).name for copy in group] for group in found.groups]


def test_copies_are_one_group_and_photos_of_the_same_colours_are_in_none(found: Duplicates) -> None:
    assert [sorted(group) for group in names(found)] == [["half.png", "mirror.png", "own.png", "saved.jpg"]]


def test_photos_of_the_same_colours_were_looked_at_and_rejected(found: Duplicates) -> None:
    assert found.photos == 16
    assert found.rejected >= 2
    assert found.pairs >= found.compared >= found.rejected + 3


def test_the_first_of_a_group_has_the_most_pixels_and_is_the_largest_file(found: Duplicates) -> None:
    first, *others = found.groups[0]
    for one in others:
        assert first.pixels is not None and one.pixels is not None
        assert (first.pixels[0] * first.pixels[1], first.bytes) >= (one.pixels[0] * one.pixels[1], one.bytes)
    assert first.bytes == Path(first.path).stat().st_size


def test_the_others_are_told_by_path_with_their_size_and_how_far_they_are_from_the_first(found: Duplicates) -> None:
    first, *others = found.groups[0]
    assert (first.distance, first.difference, first.way) == (0, 0, "")
    assert [one.path for one in others] == sorted(one.path for one in others)
    sizes = {Path(one.path).name: one.pixels for one in found.groups[0]}
    assert sizes == {"half.png": (48, 32), "mirror.png": (96, 64), "own.png": (96, 64), "saved.jpg": (96, 64)}
    assert all(one.distance <= 1 and one.difference < 12 for one in others)


def test_a_mirrored_copy_is_told_as_mirrored(found: Duplicates) -> None:
    ways = {Path(one.path).name: one.way for one in found.groups[0]}
    assert {ways["mirror.png"], ways["own.png"]} == {"", "mirrored"}


def test_no_photo_is_decoded_that_has_no_partner_and_none_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = duplicates.thumbnails

    def spy(paths: list[str], *rest: object) -> object:
        asked.extend(paths)
        return real(paths, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(duplicates, "thumbnails", spy)
    find_duplicates(Index.open(folder / "index"), 1.0, jobs=1)
    assert len(asked) == len(set(asked)) < 16


def test_copies_that_are_further_apart_than_asked_are_not_looked_at(folder: Path) -> None:
    found = find_duplicates(Index.open(folder / "index"), 0.0, jobs=1)
    assert not {"saved.jpg"} & {name for group in names(found) for name in group}


def test_of_photos_with_many_alike_so_many_are_told_to_be_crowded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MOST_NEAR", 2)
    found = find_duplicates(Index.open(folder / "index"), 10.0, jobs=1)
    assert found.crowded == 16
    # Each photo itself, and its nearest.
    assert found.pairs <= 16


def test_progress_is_told_in_stages_that_end_where_they_said(folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    find_duplicates(Index.open(folder / "index"), 1.0, jobs=1, progress=lambda *one: told.append(one))
    assert {what for what, _, _ in told} == {"photos", "small pictures"}
    assert all(0 <= done <= total for _, done, total in told)


def test_a_chain_of_photos_that_are_alike_two_by_two_is_no_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        save(tmp_path / "photos" / name, scene(4, (96 - number, 64)))
    index = Index.create(tmp_path / "index", [tmp_path / "photos"], colors=8, jobs=1)
    real: Callable[..., duplicates.Alike] = alike
    compared: list[int] = []

    def first_and_last_differ(first: NDArray[np.float32], other: NDArray[np.float32]) -> duplicates.Alike:
        # a is compared with b and with c; then c is left alone.
        compared.append(len(compared))
        return real(first, other) if len(compared) == 1 else duplicates.Alike(50.0, 0.0, "")

    monkeypatch.setattr(duplicates, "alike", first_and_last_differ)
    assert names(find_duplicates(index, 1.0, jobs=1)) == [["a.png", "b.png"]]
    assert len(compared) == 2


def test_files_that_are_gone_or_damaged_are_told_and_the_others_compared(tmp_path: Path) -> None:
    paths = [save(tmp_path / "photos" / f"{name}.png", scene(5)) for name in "abcd"]
    index = Index.create(tmp_path / "index", [tmp_path / "photos"], colors=8, jobs=1)
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    found = find_duplicates(index, jobs=1)
    assert names(found) == [["c.png", "d.png"]]
    skipped = {Path(one.path).name: one.reason for one in found.skipped}
    assert skipped == {"a.png": "is gone", "b.png": "cannot be read now"}


def test_links_to_one_file_are_no_copies_of_it(tmp_path: Path) -> None:
    photo = save(tmp_path / "photos" / "photo.png", scene(5))
    (tmp_path / "photos" / "a.png").symlink_to(photo)
    (tmp_path / "photos" / "z.png").hardlink_to(photo)
    save(tmp_path / "photos" / "copy.jpg", scene(5), quality=50)
    index = Index.create(tmp_path / "index", [tmp_path / "photos"], colors=8, jobs=1)
    found = find_duplicates(index, 1.0, jobs=1)
    assert [sorted(group) for group in names(found)] == [["copy.jpg", "photo.png"]]
    assert found.links == 2


def test_an_index_of_one_photo_has_no_duplicates(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png", scene(6))
    index = Index.create(tmp_path / "index", [tmp_path / "photos"], colors=8, jobs=1)
    found = find_duplicates(index, jobs=1)
    assert (found.groups, found.photos, found.pairs, found.compared) == ([], 1, 0, 0)


# --- small pictures


@pytest.mark.parametrize(
    ("change", "way"),
    [
        (lambda pixels: pixels, ""),
        (lambda pixels: pixels[:, ::-1], "mirrored"),
        (lambda pixels: pixels[::-1, ::-1], "upside down"),
        (lambda pixels: np.rot90(pixels, 1), "turned left"),
        (lambda pixels: np.rot90(pixels, -1), "turned right"),
        (lambda pixels: np.rot90(pixels, 1)[:, ::-1], "turned left and mirrored"),
    ],
)
def test_how_a_copy_is_turned_is_told(change: Callable[[Pixels], Pixels], way: str) -> None:
    likeness = alike(small_lab(scene(7)), small_lab(np.ascontiguousarray(change(scene(7)))))
    assert likeness.way == way and likeness.is_copy
    assert likeness.correlation == pytest.approx(1, abs=0.01) and likeness.difference < 1


def test_a_brighter_copy_is_a_copy() -> None:
    pixels = scene(8)
    brighter = np.clip(pixels * 1.1, 0, 255).astype(np.uint8)
    assert alike(small_lab(pixels), small_lab(brighter)).is_copy


def test_the_same_picture_in_other_colours_is_none() -> None:
    pixels = scene(9)
    assert not alike(small_lab(pixels), small_lab(255 - pixels)).is_copy


@pytest.mark.parametrize(("level", "is_copy"), [(100, True), (101, True), (130, False)])
def test_plain_surfaces_are_copies_only_if_they_look_the_same(level: int, is_copy: bool) -> None:
    plain = np.full((40, 60, 3), 100, np.uint8)
    assert alike(small_lab(plain), small_lab(np.full((30, 30, 3), level, np.uint8))).is_copy is is_copy


def test_small_pictures_have_one_size_whatever_the_photo_had() -> None:
    for shape in ((1, 1), (64, 3), (40, 64)):
        assert small_lab(np.zeros((*shape, 3), np.uint8)).shape == (32, 32, 3)
