"""Thumbnails: a photo as it looks, upright and on white, made to fit; nothing where there is nothing to see."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import make_photo
from PIL import Image

from cbir import thumbnail as module
from cbir.thumbnail import thumbnail, thumbnails

RED, BLUE = (200, 30, 40), (30, 60, 200)


def halves(path: Path, size: tuple[int, int], **options: object) -> Path:
    """A picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    image.save(path, **options)
    return path


def near(pixel: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - color).max() <= 6)


@pytest.mark.parametrize("side", [60, 90, 91, 240])
@pytest.mark.parametrize("size", [(1200, 800), (800, 1200), (900, 900), (3000, 40), (4000, 1)], ids=str)
def test_a_photo_fits_exactly_and_keeps_its_shape(tmp_path, size, side):
    small = thumbnail(str(make_photo(tmp_path / "a.png", "#4080c0", size)), side)
    assert small.dtype == np.uint8
    assert max(small.shape[:2]) == side
    assert small.shape[0] == pytest.approx(max(1, side * size[1] / max(size)), abs=1)
    assert small.shape[1] == pytest.approx(max(1, side * size[0] / max(size)), abs=1)


@pytest.mark.parametrize("side", [64, 90, 500])
def test_a_photo_that_fits_already_stays_as_it_is(tmp_path, side):
    path = make_photo(tmp_path / "a.png", 5, (64, 48))
    np.testing.assert_array_equal(thumbnail(str(path), side), np.asarray(Image.open(path)))


@given(side=st.integers(1, 120), width=st.integers(1, 150), height=st.integers(1, 150))
def test_a_thumbnail_is_never_larger_than_asked_nor_than_the_photo(tmp_path_factory, side, width, height):
    path = tmp_path_factory.getbasetemp() / "law.png"
    Image.new("RGB", (width, height), RED).save(path)
    small = thumbnail(str(path), side)
    assert small.shape[0] <= min(side, height) and small.shape[1] <= min(side, width)
    assert max(small.shape[:2]) == min(side, max(width, height))


@pytest.mark.parametrize("side", [60, 200])
def test_a_photo_held_sideways_is_turned_upright(tmp_path, side):
    exif = Image.Exif()
    # The camera was turned: what is stored on the left is to be seen at the top.
    exif[0x0112] = 6
    small = thumbnail(str(halves(tmp_path / "a.jpg", (600, 400), exif=exif)), side)
    assert small.shape[0] > small.shape[1]
    assert near(small[2, small.shape[1] // 2], RED) and near(small[-3, small.shape[1] // 2], BLUE)


@pytest.mark.parametrize("side", [60, 200])
def test_what_is_transparent_is_white_and_does_not_stain_its_surroundings(tmp_path, side):
    image = Image.new("RGBA", (600, 600), (0, 0, 0, 0))
    image.paste((*RED, 255), (300, 0, 600, 600))
    image.save(tmp_path / "a.png")
    small = thumbnail(str(tmp_path / "a.png"), side).astype(int)
    assert near(small[5, 3], (255, 255, 255)) and near(small[5, -3], RED)
    # Between white and red; hidden black would make the edge darker than red.
    assert (small >= np.array(RED) - 8).all()


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\xff\xd8\xff\xe0 torn"], ids=str)
@pytest.mark.parametrize("side", [60, 200])
def test_there_is_none_of_a_file_that_is_gone_or_no_picture(tmp_path, content, side):
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    assert thumbnail(str(tmp_path / "a.jpg"), side) is None


def test_there_is_none_of_a_picture_too_large_for_memory(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "_fitted", fail)
    assert thumbnail(str(make_photo(tmp_path / "a.png", 1)), 200) is None


def test_a_side_without_a_pixel_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least a pixel"):
        thumbnail(str(make_photo(tmp_path / "a.png", 1)), 0)


def test_many_come_in_order_the_unreadable_among_them_and_tell_how_far_they_are(tmp_path):
    paths = [str(make_photo(tmp_path / f"{i}.png", i, (40 + i, 30))) for i in range(40)]
    (tmp_path / "3.png").write_bytes(b"")
    told = []
    made = list(thumbnails(paths, 90, jobs=2, progress=lambda *done: told.append(done)))
    assert [None if one is None else one.shape[1] for one in made] == [None if i == 3 else 40 + i for i in range(40)]
    assert told == [(i, 40) for i in range(1, 41)]
    np.testing.assert_array_equal(made[7], thumbnail(paths[7], 90))


def test_many_are_made_in_parts_that_bound_what_waits_in_memory(tmp_path, monkeypatch):
    sizes = []

    def serial(work, items, jobs, *arguments, lost):
        sizes.append(len(items))
        yield from (work(item, *arguments) for item in items)

    monkeypatch.setattr(module, "in_order", serial)
    monkeypatch.setattr(module, "_TOGETHER_BYTES", 3 * 30 * 30 * 4)
    paths = [str(make_photo(tmp_path / f"{i}.png", i)) for i in range(10)]
    assert len(list(thumbnails(paths, 30))) == 10
    assert sizes == [4, 4, 2]


def test_none_are_made_of_no_photos():
    assert list(thumbnails([], 90)) == []


def test_a_photo_whose_worker_died_costs_itself_alone(tmp_path, monkeypatch):
    def one_dies(work, items, jobs, *arguments, lost):
        yield work(items[0], *arguments)
        yield lost(items[1], "its decoder died (SIGSEGV)", True)

    monkeypatch.setattr(module, "in_order", one_dies)
    first, second = thumbnails([str(make_photo(tmp_path / "a.png", 1)), "b.png"], 90)
    assert first is not None and second is None
