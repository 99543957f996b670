"""A file of axes comes back to the bit, or is refused; a search that meets a refused one is right without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from made_indexes import compared_with_each, in_small, photos, placed, put, told

from cbir import axes_file, plain, prepare
from cbir.axes import Axes, make_axes
from cbir.axes_file import load_axes, save_axes
from cbir.check import check_index
from cbir.color import lab_of_bytes
from cbir.descriptor import SPATIAL
from cbir.errors import IndexFolderError
from cbir.index import Index
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.segment import save_arrays
from cbir.space import Space

KEY = "0123456789abcdef"
SEGMENTS = (("segment-0123456789abcdef.joblib", 60), ("segment-fedcba9876543210.joblib", 30))


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with in_small():
        yield


def space_of(metric: Metric = DEFAULT) -> Space:
    lab = lab_of_bytes(np.random.default_rng(0).integers(0, 256, (6, 3)).astype(np.uint8))
    return Space(metric, lab, SPATIAL, photos(16, 0))


def made(space: Space, number: int = 90, leading: int | None = None) -> Axes:
    codes = photos(number, 1)
    return make_axes(space, lambda rows: codes[rows], number, leading)


def parts(axes: Axes) -> dict[str, np.ndarray]:
    arrays = {name: getattr(axes, name) for name in ("mean", "basis", "order", "leading", "lowest", "highest")}
    for number, stage in enumerate(axes.coarse):
        arrays |= {f"codes {number}": stage.codes, f"numbers {number}": stage.numbers}
    return arrays


@pytest.mark.parametrize("leading", [1, 4, 32, None])
@pytest.mark.parametrize("metric", ["cbir", "qbic", "laplacian:40"])
def test_axes_come_back_to_the_bit_and_are_mapped(tmp_path: Path, metric: str, leading: int | None) -> None:
    space = space_of(Metric.parse(metric))
    axes = made(space, leading=leading)
    name = save_axes(tmp_path, KEY, SEGMENTS, axes)
    loaded = load_axes(tmp_path, name, space.dimensions)
    assert (loaded.name, loaded.segments) == (name, SEGMENTS) and name.startswith(f"axes-{KEY}-")
    for part, array in parts(loaded.axes).items():
        expected = parts(axes)[part]
        assert array.dtype == expected.dtype and not array.flags.writeable
        np.testing.assert_array_equal(array, expected)
    assert len(loaded.axes.coarse) == len(axes.coarse)
    for ours, theirs in ((loaded.axes, axes), *zip(loaded.axes.coarse, axes.coarse, strict=True)):
        numbers = ("error", "reach") if isinstance(ours, Axes) else ("low", "step")
        assert [getattr(ours, number) for number in numbers] == [getattr(theirs, number) for number in numbers]


def test_where_all_colours_are_alike_there_are_no_axes_and_that_comes_back_too(tmp_path: Path) -> None:
    space = Space(QBIC, np.zeros((6, 3), np.float32), SPATIAL, photos(16, 0))
    axes = made(space)
    assert axes.axes == 0
    loaded = load_axes(tmp_path, save_axes(tmp_path, KEY, SEGMENTS, axes), space.dimensions)
    assert loaded.axes.axes == 0 and len(loaded.axes) == 90


def test_a_file_is_called_after_its_metric_and_its_content(tmp_path: Path) -> None:
    axes = made(space_of())
    name = save_axes(tmp_path, KEY, SEGMENTS, axes)
    assert save_axes(tmp_path, KEY, SEGMENTS, axes) == name
    others = {
        save_axes(tmp_path, KEY[::-1], SEGMENTS, axes),
        save_axes(tmp_path, KEY, SEGMENTS[::-1], axes),
        save_axes(tmp_path, KEY, SEGMENTS, replace(axes, error=axes.error * 2)),
    }
    assert len(others | {name}) == 4 == len(list(tmp_path.iterdir()))


Values = dict[str, Any]


def with_value(name: str, value: Callable[[Any], Any]) -> Callable[[Values], Values]:
    return lambda values: values | {name: value(values[name])}


def changed(place: object, number: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        copy = np.array(array)
        copy[place] = number
        return copy

    return change


# What a file may say that fits together, by its name, but makes no sense.
NONSENSE: dict[str, Callable[[Values], Values]] = {
    "no photos": lambda values: values | {"segments": [], "photos": []},
    "photos of another number": with_value("photos", lambda photos: [photos[0], photos[1] + 1]),
    "photos of a huge number": with_value("photos", lambda photos: [10**40, *photos[1:]]),
    "photos of a negative number": with_value("photos", lambda photos: [sum(photos) + 1, -1]),
    "photos that are no number": with_value("photos", lambda photos: [str(n) for n in photos]),
    "photos that are not whole": with_value("photos", lambda photos: [float(n) for n in photos]),
    "fewer segments than numbers": with_value("segments", lambda names: names[:1]),
    "segments that are no names": with_value("segments", lambda names: [1, 2]),
    "segments in segments": with_value("segments", lambda names: [names, names]),
    "segments that are no list": with_value("segments", lambda names: 7),
    "no axes at all": with_value("leading", lambda leading: leading[:0]),
    "half a leaf": with_value("leading", lambda leading: leading[:-1]),
    "less than no leading axes": lambda values: values | {
        "leading": values["leading"][:12], "basis": values["basis"][:, :-5],
        "lowest": values["lowest"][:1], "highest": values["highest"][:1],
    },
    "leaves of another size": with_value("leading", lambda leading: leading[:, :4]),
    "leaves in double precision": with_value("leading", lambda leading: leading.astype(np.float64)),
    "order out of range": with_value("order", changed(3, 90)),
    "order far out of range": with_value("order", changed(3, 2**32 - 1)),
    "order too short": with_value("order", lambda order: order[1:]),
    "order of other numbers": with_value("order", lambda order: order.astype(np.float32)),
    "NaN in the basis": with_value("basis", changed((2, 3), np.nan)),
    "infinity in the basis": with_value("basis", changed((2, 3), np.inf)),
    "NaN in the mean": with_value("mean", changed(0, np.nan)),
    "a mean of another space": with_value("mean", lambda mean: mean[1:]),
    "a basis of another space": with_value("basis", lambda basis: basis[1:]),
    "both of another space": lambda values: values | {name: values[name][1:] for name in ("mean", "basis")},
    "an axis more": with_value("basis", lambda basis: np.column_stack([basis, basis[:, 0]])),
    "an axis less": with_value("basis", lambda basis: basis[:, 1:]),
    "boxes of other sides": with_value("lowest", lambda lowest: lowest[1:]),
    "boxes of fewer leaves": with_value("highest", lambda highest: highest[:, 1:]),
    "codes of fewer photos": with_value("codes_0", lambda codes: codes[1:]),
    "codes in single precision": with_value("codes_0", lambda codes: codes.astype(np.float32)),
    "three numbers a photo": with_value("numbers_0", lambda numbers: numbers[:, :3]),
    "a step that is none": with_value("step_0", lambda step: float("nan")),
    "a step of nothing": with_value("step_0", lambda step: 0.0),
    "a negative step": with_value("step_0", lambda step: -step),
    "a low that is text": with_value("low_0", lambda low: "low"),
    "an error that overflows when it is squared": with_value("error", lambda error: 1e200),
    "a step that overflows when it is squared": with_value("step_0", lambda step: 1e200),
    "an error that is none": with_value("error", lambda error: float("inf")),
    "a negative error": with_value("error", lambda error: -1.0),
    "a reach that is whole": with_value("reach", lambda reach: 1),
    "codes of a stage that is not there": lambda values: values | {"codes_7": values["codes_0"]},
    **{
        f"without {name}": lambda values, name=name: {key: values[key] for key in values if key != name}
        for name in ("segments", "photos", "mean", "basis", "order", "leading", "lowest", "highest", "error", "reach",
                     "codes_0", "numbers_0", "low_0", "step_0")
    },
}  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index whose axes are there."""
    made = put(tmp_path / "index", [placed(60, 1), placed(30, 2)])
    made.prepare(leading=4)
    return Index.open(made.folder)


def axes_of(index: Index) -> Path:
    (path,) = index.folder.glob("axes-*")
    return path


def check_is_right(index: Index) -> None:
    opened = Index.open(index.folder)
    wanted = compared_with_each(opened, opened.codes(3))
    assert told(opened.search(opened.path(3), 10))[1:] == [one for one in wanted if one[0] != opened.path(3)][:9]


@pytest.mark.parametrize("damage", NONSENSE)
def test_what_makes_no_sense_is_refused_told_not_used_and_made_again(
    index: Index, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    path, whole = axes_of(index), axes_of(index).read_bytes()
    values = NONSENSE[damage](plain.load(path))
    path.unlink()
    name = save_arrays(values, index.folder, path.name.rpartition("-")[0])
    with pytest.raises(IndexFolderError, match=f"{name}: damaged") as caught:
        load_axes(index.folder, name, index.space().dimensions)
    assert "\n" not in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        check_is_right(index)
    # Which metric it is of, so which space, only a search knows.
    if damage != "both of another space":
        (problem,) = check_index(index.folder).problems
        assert problem.startswith(f"{name}: damaged")
    check_is_right(index)
    index.prepare(leading=4)
    assert not (index.folder / name).exists() and check_index(index.folder).problems == []
    Index.open(index.folder).prepare(leading=4)
    assert axes_of(index).read_bytes() == whole


def test_a_file_cut_anywhere_is_refused_or_says_the_same(index: Index) -> None:
    path, whole = axes_of(index), axes_of(index).read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(IndexFolderError, match=path.name):
            load_axes(index.folder, path.name, index.space().dimensions)
    path.write_bytes(whole[:1000])
    check_is_right(index)
    path.write_bytes(whole + b"more")
    check_is_right(index)


def test_any_changed_bit_of_what_stands_before_the_numbers_is_harmless(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = axes_of(index), axes_of(index).read_bytes()
    first = whole.index(plain.load(path)["mean"].tobytes())
    monkeypatch.setattr(os, "access", lambda *_: False)
    refused = 0
    for place in range(0, first, 5):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        check_is_right(index)
        refused += not Index.open(index.folder)._prepared_for(DEFAULT).files
    assert refused > first // 10


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_changed_byte_makes_a_search_fail(index: Index) -> None:
    path, whole = axes_of(index), axes_of(index).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 200).tolist():
        content = bytearray(whole)
        content[place] = rng.integers(256)
        path.write_bytes(content)
        Index.open(index.folder).search("1/0003.jpg", 5)
        if content != whole:
            assert [problem.split(": ")[0] for problem in check_index(index.folder).problems] in ([path.name], [])
        for other in index.folder.glob("axes-*"):
            other.unlink()


class Runs:
    """An object whose unpickling makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_crafted_file_runs_nothing(index: Index, tmp_path: Path) -> None:
    path, marker = axes_of(index), tmp_path / "it ran"
    other = index.folder / f"axes-{KEY}-{KEY}.joblib"
    values = plain.load(path)
    objects = np.empty(2, object)
    objects[:] = Runs(marker)
    for crafted in ({**values, "segments": [Runs(marker)]}, {**values, "order": objects}, Runs(marker)):
        for place in index.folder.glob("axes-*"):
            # What is mapped of it stays.
            place.unlink()
        for place in (path, other):
            joblib.dump(crafted, place)
        assert len(check_index(index.folder).problems) == 2
        check_is_right(index)
        assert not other.exists(), "it was looked at when axes were made"
        check_index(index.folder, repair=True)
        assert not marker.exists()


def test_odd_names_of_segments_in_another_metrics_file_are_no_hindrance(index: Index) -> None:
    axes_of(index).unlink()
    for names in ([["a"]], [{}], [1.5], "segment", 7, [None]):
        other = save_arrays({"segments": names}, index.folder, f"axes-{KEY}")
        check_is_right(index)
        assert not (index.folder / other).exists()
        axes_of(index).unlink()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nowhere", "link to itself", "link to a device"])
def test_something_else_in_place_of_a_file_is_passed_over(index: Index, kind: str, never_hangs: None) -> None:
    path = axes_of(index)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link to nowhere": "nowhere", "link to itself": path.name}.get(kind, "/dev/zero"))
    check_is_right(index)
    index.prepare(leading=4)
    assert len(index.search("1/0003.jpg")) == 10


def test_axes_of_another_index_are_not_used_and_go(index: Index, tmp_path: Path) -> None:
    # Of the same palette and metric, so under the same key; but of other photos.
    other = put(tmp_path / "other", [placed(200, 7)])
    other.prepare()
    foreign, own = axes_of(other), axes_of(index)
    own.unlink()
    assert foreign.name.startswith(own.name.rpartition("-")[0])
    (index.folder / foreign.name).write_bytes(foreign.read_bytes())
    assert Index.open(index.folder)._prepared_for(DEFAULT).files == []
    check_is_right(index)
    assert axes_of(index).name != foreign.name


def test_axes_of_a_segment_that_is_said_to_have_other_photos_are_not_used(index: Index) -> None:
    path = axes_of(index)
    values = plain.load(path)
    values["photos"] = values["photos"][::-1]
    assert values["photos"] != plain.load(path)["photos"]
    path.unlink()
    save_arrays(values, index.folder, path.name.rpartition("-")[0])
    assert Index.open(index.folder)._prepared_for(DEFAULT).files == []
    check_is_right(index)


def test_files_of_another_version_are_not_found(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "VERSION", axes_file.VERSION + 1)
    assert Index.open(index.folder)._prepared_for(DEFAULT).files == []
