"""Made-up collections for the benchmarks: mixtures of real photos, the same for the same seed, as indexes in order."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures import make_photo
from random_codes import one_color, random_codes, random_palette

from benchmarks import mixtures as module
from benchmarks.mixtures import Real, made_index, mixtures, real
from cbir.check import check_index
from cbir.descriptor import DESCRIPTORS, GLOBAL, SPATIAL, Descriptor
from cbir.index import Index
from cbir.palette import Palette

K = 8


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 50)
    monkeypatch.setattr(module, "SEGMENT_PHOTOS", 100)


def collection(sources: np.ndarray, descriptor: Descriptor, number: int, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(mixtures(sources, descriptor, number, seed)))


def random_real(descriptor: Descriptor) -> Real:
    rng = np.random.default_rng(1)
    codes = random_codes(60, K, descriptor, rng)
    return Real(descriptor, Palette(random_palette(K, rng)), codes[:20], codes[20:50], codes[50:], [""] * 10)


def three_plain_photos(descriptor: Descriptor) -> np.ndarray:
    return np.stack([one_color(color, 3, descriptor) for color in range(3)])


@pytest.mark.parametrize("number", [1, 50, 70, 100, 170])
def test_a_smaller_collection_is_the_beginning_of_a_larger_one(small_blocks: None, number: int) -> None:
    sources = random_real(SPATIAL).sources
    made = collection(sources, SPATIAL, number)
    assert made.shape == (number, 7 * K)
    np.testing.assert_array_equal(made, collection(sources, SPATIAL, 220)[:number])


def test_another_seed_makes_other_photos() -> None:
    sources = random_real(GLOBAL).sources
    assert (collection(sources, GLOBAL, 40, seed=1) != collection(sources, GLOBAL, 40)).any(axis=1).sum() > 20


def test_a_mixture_of_one_photo_is_that_photo() -> None:
    photo = SPATIAL.describe(np.repeat([[0, 1, 1, 1]], 6, axis=0).astype(np.uint16), 2)
    assert np.unique(collection(photo[None], SPATIAL, 20), axis=0).tolist() == [photo.tolist()]


def test_shares_are_mixed_by_weights_that_sum_to_one_and_favour_each_photo_alike() -> None:
    # Of three photos, each all of one colour, the shares of a mixture are the weights.
    weights = (collection(three_plain_photos(GLOBAL), GLOBAL, 4000) / 255) ** 2
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=0.01)
    np.testing.assert_allclose(weights.mean(axis=0), 1 / 3, atol=0.02)
    # One draw of three from three photos has two different ones at least in eight of nine cases.
    assert (weights.max(axis=1) < 0.99).mean() > 0.6


def test_one_weight_holds_for_all_of_a_photo() -> None:
    smooth, mixed, busy, *places = (
        collection(three_plain_photos(SPATIAL), SPATIAL, 100).reshape(100, 7, 3).swapaxes(0, 1)
    )
    assert not mixed.any() and not busy.any()
    for place in places:
        np.testing.assert_array_equal(place, smooth)


def test_an_area_that_is_transparent_in_one_photo_is_made_of_the_others() -> None:
    whole, without_top = one_color(0, 2, SPATIAL), one_color(1, 2, SPATIAL)
    top = slice(3 * 2, 4 * 2)
    without_top[top] = 0
    tops = collection(np.stack([whole, without_top]), SPATIAL, 200)[:, top]
    assert np.unique(tops, axis=0).tolist() == [[0, 0], [255, 0]]


@pytest.mark.parametrize("descriptor", DESCRIPTORS.values(), ids=DESCRIPTORS)
def test_a_made_index_is_a_sound_one_of_the_mixtures_in_several_segments(
    small_blocks: None, tmp_path: Path, descriptor: Descriptor
) -> None:
    source = random_real(descriptor)
    folder = made_index(tmp_path / "made", source, 230, seed=5)
    report = check_index(folder)
    assert (report.problems, report.leftovers, report.photos) == ([], [], 230)
    index = Index.open(folder)
    assert index.descriptor == descriptor
    np.testing.assert_array_equal(index.palette.lab, source.palette.lab)
    made = np.stack([index.codes(row) for row in range(230)])
    np.testing.assert_array_equal(made, collection(source.sources, descriptor, 230, seed=5))


def test_a_photo_of_a_made_index_is_found_by_its_name(small_blocks: None, tmp_path: Path) -> None:
    index = Index.open(made_index(tmp_path / "made", random_real(SPATIAL), 230))
    hit = index.search("00000/00000123.jpg", limit=1)[0]
    assert (hit.path, hit.distance) == (str(tmp_path / "made" / "photos" / "00000" / "00000123.jpg"), 0.0)


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        made_index(tmp_path, random_real(GLOBAL), 1)


def test_half_the_real_photos_are_held_out_and_no_picture_is_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    for i in range(8):
        copied = make_photo(shared / "one" / f"{i}.png", i)
        make_photo(shared / "one" / f"same-name-{i}.png", 100 + i)
        make_photo(shared / "two" / f"same-name-{i}.png", 200 + i)
        shutil.copy(copied, shared / "two" / f"copy-{i}.png")
    make_photo(shared / "torture" / "odd.png", 300)
    monkeypatch.setattr(module, "SHARED", shared)
    found = real(tmp_path / "work", "global")
    index = Index.open(tmp_path / "work" / "real-global")
    row_of = {Path(index.path(row)): row for row in range(len(index))}
    assert len(index) == 32 and len(found.queries) == 16 and 15 <= len(found.sources) <= 16
    np.testing.assert_array_equal(found.queries, [index.codes(row_of[Path(path)]) for path in found.paths])
    sources = {row.tobytes() for row in found.sources}
    pairs = [(f"one/{i}.png", f"two/copy-{i}.png") for i in range(8)]
    pairs += [(f"one/same-name-{i}.png", f"two/same-name-{i}.png") for i in range(8)]
    for pair in pairs:
        held_out = [str(shared / name) in found.paths for name in pair]
        made_of = [index.codes(row_of[shared / name]).tobytes() in sources for name in pair]
        assert not (any(held_out) and any(made_of))
