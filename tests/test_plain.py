"""Loading an index never runs what its files say."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest

from cbir import plain
from cbir.errors import IndexFolderError
from cbir.index import Index
from cbir.plain import NotPlainError


class Runs:
    """An object whose unpickling makes a file: what a crafted segment would do to its reader."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


class Runner(np.ndarray):
    """An array class of the attacker's, whose making could do anything."""


def save(path: Path, value: object, **options: object) -> Path:
    joblib.dump(value, path, **options)
    return path


def plain_save(path: Path, value: dict[str, object]) -> Path:
    with path.open("wb") as file:
        plain.dump(value, file)
    return path


VALUE = {
    "names": np.frombuffer(b"a.jpgb.jpg", np.uint8),
    "ends": np.array([5, 10], np.uint64),
    "amounts": np.arange(12, dtype=np.uint16).reshape(2, 6),
    "lab": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    # Of a row that would be longer than the file, as a segment of pictures that could not be read has it.
    "nothing": np.empty((0, 1 << 20), np.uint8),
    "reasons": ["truncated", "naïve \udcff"],
    "error": 3.5,
    "count": 7,
}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    value = plain.load(plain_save(tmp_path / "a", VALUE))
    assert value.keys() == VALUE.keys()
    for key, expected in VALUE.items():
        np.testing.assert_array_equal(value[key], expected)
        if isinstance(expected, np.ndarray):
            assert value[key].dtype == expected.dtype and value[key].shape == expected.shape


def test_arrays_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    value = plain.load(plain_save(tmp_path / "a", VALUE))
    base = value["amounts"]
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        value["amounts"][0, 0] = 1


def test_the_files_are_joblibs_own_format(tmp_path: Path) -> None:
    np.testing.assert_array_equal(joblib.load(plain_save(tmp_path / "a", VALUE))["amounts"], VALUE["amounts"])


def crafted(marker: Path, path: Path) -> dict[str, Path]:
    """Files that a reader of pickles would run, each in another place of joblib's format."""
    evil = Runs(marker)
    object_array = np.empty(1, object)
    object_array[0] = evil
    files = {
        "an object": save(path / "object", evil),
        "an object in a dict": save(path / "dict", {**VALUE, "more": [evil]}),
        "an array of objects": save(path / "objects", {**VALUE, "amounts": object_array}),
        "a compressed file": save(path / "compressed", {"a": evil}, compress=3),
        "a bare pickle": path / "pickle",
        "numpy's own unpickling": path / "numpy",
    }
    files["a bare pickle"].write_bytes(pickle.dumps(evil))
    files["numpy's own unpickling"].write_bytes(pickle.dumps({"a": object_array}))
    return files


def test_a_crafted_file_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    for kind, path in crafted(marker, tmp_path).items():
        with pytest.raises(NotPlainError) as caught:
            plain.load(path)
        assert not marker.exists(), kind
        assert str(path) in str(caught.value) and "\n" not in str(caught.value), kind
    # The files are what they pretend to be: joblib itself runs them.
    joblib.load(tmp_path / "dict")
    assert marker.exists()


def test_other_array_classes_and_kinds_of_numbers_are_refused(tmp_path: Path) -> None:
    for i, array in enumerate(
        [
            np.zeros(3).view(Runner),
            np.zeros(3, "datetime64[s]"),
            np.zeros(3, [("a", "i4")]),
            np.array(["text"]),
            np.zeros(3, ">f4"),
            np.zeros(3, complex),
        ]
    ):
        with pytest.raises(NotPlainError):
            plain.load(save(tmp_path / str(i), {"a": array}))


def test_an_array_that_claims_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    whole = plain_save(tmp_path / "whole", {"a": np.zeros(1000, np.float64)}).read_bytes()
    thousand = b"M\xe8\x03"
    assert whole.count(thousand) == 1
    for i, claim in enumerate([b"M\xff\xff", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff"]):
        path = tmp_path / str(i)
        path.write_bytes(whole.replace(thousand, claim))
        with pytest.raises(NotPlainError):
            plain.load(path)


WRAPPER = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"


@pytest.mark.parametrize(
    "pickled",
    [
        b"}N" + b"\x85" * 2_000_000 + b"Ns.",
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
        b"]" * 1_000_000 + b".",
        b"\x80\x05" + WRAPPER + b"(N}\x8c\x04readcnumpy\ndtype\nstb.",
        b"\x80\x04\x8c\x13joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93)\x81}\x8c\x04read\x8c\x01xsb.",
        b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93)\x81.",
    ],
    ids=["deep key", "huge bytearray", "many lists", "patching a class", "patching an array", "a bare object"],
)
def test_hostile_opcodes_neither_crash_nor_fill_the_memory_nor_change_the_reader(
    tmp_path: Path, pickled: bytes
) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(pickled)
    with pytest.raises(NotPlainError):
        plain.load(path)
    assert plain.load(plain_save(tmp_path / "good", VALUE)).keys() == VALUE.keys()


def test_a_file_cut_anywhere_or_with_any_byte_changed_loads_plain_data_or_is_refused(tmp_path: Path) -> None:
    whole = plain_save(tmp_path / "whole", {"a": np.arange(50, dtype=np.uint16), "b": ["x", 1.5]}).read_bytes()
    path = tmp_path / "damaged"
    random = np.random.default_rng(0)
    damaged = [whole[:n] for n in range(0, len(whole), 3)]
    for _ in range(400):
        changed = bytearray(whole)
        changed[random.integers(len(whole))] = random.integers(256)
        damaged.append(bytes(changed))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert isinstance(plain.load(path), dict)
        except NotPlainError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > len(whole) // 3


def test_an_index_with_a_crafted_segment_does_not_open_and_runs_nothing(photos: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", [photos])
    marker = tmp_path / "it ran"
    (segment,) = index.folder.glob("segment-*.joblib")
    buffer = io.BytesIO()
    joblib.dump({"photo_names": Runs(marker)}, buffer)
    segment.write_bytes(buffer.getvalue())
    with pytest.raises(IndexFolderError, match="plain data only"):
        Index.open(index.folder)
    assert not marker.exists()
