"""Photos are found by row, path and folder, exactly as going through all their paths finds them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_indexes import WIDTH, segment_of

from cbir.manifest import SegmentEntry
from cbir.photos import Photos

deterministic = settings(derandomize=True, deadline=None, max_examples=200)
# Names of which some begin with others, and that lie before and behind the separator, "/", and one that is no UTF-8.
PARTS = [b"a", b"ab", b"a.jpg", b"a-", b"a0", b"b", b"A", b" ", b"\xff", b"\xc3\xa4", b"0"]
part = st.sampled_from(PARTS)
name = st.lists(part, min_size=1, max_size=4).map(b"/".join)
root = st.lists(part, max_size=3).map(lambda parts: os.fsdecode(b"/" + b"/".join(parts)))
# What lies below each of some folders.
collections = st.lists(st.tuples(root, st.lists(name, unique=True, max_size=12)), max_size=5)


def photos_below(*below: tuple[str, list[bytes]]) -> Photos:
    """Photos of these names below some folders, each numbered in its size and in its descriptor."""
    entries, segments = [], []
    for number, (folder, names) in enumerate(below):
        codes = np.full((len(names), WIDTH), number, np.uint8)
        codes[:, 0] = np.arange(len(names))
        segments.append(segment_of(codes, sorted(names)))
        entries.append(SegmentEntry(f"segment-{number:016}.joblib", folder, len(names), 0))
    return Photos(entries, segments)


def paths_of(photos: Photos) -> list[str]:
    return [photos.path(row) for row in range(len(photos))]


def is_at_or_below(path: str, place: str) -> bool:
    """Part for part."""
    ours, theirs = path.split("/")[1:], [part for part in place.split("/")[1:] if part]
    return ours[: len(theirs)] == theirs


def test_a_photo_by_its_row() -> None:
    photos = photos_below(("/a", [b"2.jpg", b"1.jpg"]), ("/empty", []), ("/", [b"b/3.jpg"]))
    assert len(photos) == 3
    assert paths_of(photos) == ["/a/1.jpg", "/a/2.jpg", "/b/3.jpg"]
    assert [photos.codes(row)[:2].tolist() for row in range(3)] == [[0, 0], [1, 0], [0, 2]]
    assert [photos.size_and_mtime(row) for row in range(3)] == [(1000, 0), (1001, 10**9), (1000, 0)]
    for row in (-1, 3):
        for ask in (photos.path, photos.codes, photos.size_and_mtime):
            with pytest.raises(IndexError):
                ask(row)


def test_of_no_photos_none_is_found() -> None:
    for photos in (photos_below(), photos_below(("/a", []))):
        assert len(photos) == 0 and photos.row_of("/a") is None and not photos.has("/") and not photos.has("/a")
        assert photos.rows_ending_in("a") == []
        assert photos.mask(["/"], ["/a"]).tolist() == []  # type: ignore[union-attr]


@deterministic
@given(collections)
def test_every_photo_has_the_row_of_its_path_and_nothing_else_has_one(below) -> None:
    photos = photos_below(*below)
    paths = paths_of(photos)
    for path in paths:
        # It may be described twice, by nested folders.
        assert photos.row_of(path) in [row for row, one in enumerate(paths) if one == path]
    others = {path + "0" for path in paths} | {os.path.dirname(path) for path in paths} | {path[:-1] for path in paths}
    others |= {folder for folder, _ in below} | {f"{path}/a" for path in paths}
    for path in others - set(paths):
        assert photos.row_of(path) is None


@deterministic
@given(collections, st.data())
def test_a_mask_is_what_going_through_all_paths_makes_of_the_places(below, data) -> None:
    photos = photos_below(*below)
    paths = paths_of(photos)
    above = {"/".join(path.split("/")[:n]) or "/" for path in paths for n in range(1, 7)}
    place = st.sampled_from(sorted(above | {folder for folder, _ in below} | {"/"})) | root
    within = data.draw(st.none() | st.lists(place, max_size=3))
    excluded = data.draw(st.lists(place, max_size=3))
    for one in [*(within or []), *excluded]:
        assert photos.has(one) == any(is_at_or_below(path, one) for path in paths)
    expected = [
        (within is None or any(is_at_or_below(path, one) for one in within))
        and not any(is_at_or_below(path, one) for one in excluded)
        for path in paths
    ]
    mask = photos.mask(within, excluded)
    if within is None and not excluded:
        assert mask is None
    else:
        assert mask is not None and mask.dtype == bool and mask.tolist() == expected


@deterministic
@given(collections, name, st.sampled_from(["", "/", "./", "//"]))
def test_photos_by_the_end_of_their_paths_are_those_whose_last_parts_it_is(below, name, before) -> None:
    photos = photos_below(*below)
    ending = os.fsdecode(name)
    parts = ending.split("/")
    expected = [row for row, path in enumerate(paths_of(photos)) if path.split("/")[1:][-len(parts) :] == parts]
    assert photos.rows_ending_in(before + ending) == expected


def test_names_that_begin_alike_are_told_apart() -> None:
    names = [b"a-.jpg", b"a", b"a.jpg", b"a/1", b"a/b/2", b"a0", b"ab", b"ab/3"]
    photos = photos_below(("/p", names))

    def below(place: str) -> list[str]:
        mask = photos.mask([place], [])
        assert mask is not None
        return [path[3:] for path, told in zip(paths_of(photos), mask, strict=True) if told]

    assert below("/p/a") == ["a", "a/1", "a/b/2"]
    assert below("/p/ab") == ["ab", "ab/3"]
    assert below("/p/a.jpg") == ["a.jpg"]
    assert below("/p/a/") == below("/p//a") == below("/p/x/../a") == below("/p/a")
    assert below("/p/a/b") == ["a/b/2"]
    assert below("/p/") == below("/p") == below("/") == [path[3:] for path in paths_of(photos)]
    for nothing in ("/p/a/b/2/3", "/p0", "/pa", "/p/A", "/q"):
        assert below(nothing) == [] and not photos.has(nothing)


def test_places_are_relative_to_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = photos_below((str(tmp_path), [b"a/1.jpg", b"b/2.jpg"]), ("/", [b"a/1.jpg"]))
    monkeypatch.chdir(tmp_path / "..")
    assert photos.mask([tmp_path.name + "/a"], []).tolist() == [True, False, False]  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    assert photos.mask(["."], ["b"]).tolist() == [True, False, False]  # type: ignore[union-attr]
    assert photos.has("a/1.jpg") and photos.has(".") and not photos.has("c")


def test_where_places_lie_in_one_another_what_is_excluded_stays_out() -> None:
    photos = photos_below(("/p", [b"a/b/1", b"a/b/2", b"a/3", b"4"]))
    assert photos.mask(["/p/a/b"], ["/p/a"]).tolist() == [False] * 4  # type: ignore[union-attr]
    assert photos.mask(["/p/a"], ["/p/a/b/1"]).tolist() == [False, True, False, True]  # type: ignore[union-attr]
    assert photos.mask([], []).tolist() == [False] * 4  # type: ignore[union-attr]
