"""A fingerprint tells files of one name, size and time apart by a few kilobytes of each."""

import os
from pathlib import Path

import numpy as np
import pytest

from cbir.fingerprint import UNKNOWN, fingerprint

# Around one, two and three reads of 4 KiB, which then overlap, meet, or leave a gap.
SIZES = [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 12287, 12288, 12289, 1_000_000]


def some_bytes(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def print_of(folder: Path, content: bytes) -> int:
    (folder / "file").write_bytes(content)
    return fingerprint(folder / "file")


def test_files_of_one_content_have_one_number_whatever_they_are_called(tmp_path: Path) -> None:
    for size in SIZES:
        content = some_bytes(size)
        (tmp_path / "a.jpg").write_bytes(content)
        (tmp_path / "b.png").write_bytes(content)
        os.utime(tmp_path / "b.png", (1, 1))
        assert fingerprint(tmp_path / "a.jpg") == fingerprint(str(tmp_path / "b.png"))


def test_the_number_stays_what_it_is_in_the_indexes_of_today(tmp_path: Path) -> None:
    """By `b2sum -l 64` of the size in eight bytes, the highest first, and the three parts, here each the whole file."""
    assert print_of(tmp_path, b"") == 0xCA08EA5BCA49CC18
    assert print_of(tmp_path, b"abc") == 0x905BBB0251C6994E


def test_it_is_a_number_of_64_bits_that_is_never_that_of_an_unknown_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in SIZES:
        assert 0 < print_of(tmp_path, some_bytes(size)) < 1 << 64

    class Nought:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def update(self, _: bytes) -> None:
            pass

        def digest(self) -> bytes:
            return bytes(8)

    monkeypatch.setattr("hashlib.blake2b", Nought)
    assert print_of(tmp_path, b"abc") != UNKNOWN


@pytest.mark.parametrize("size", [size for size in SIZES if size])
def test_one_byte_at_the_beginning_in_the_middle_or_at_the_end_changes_it(tmp_path: Path, size: int) -> None:
    content = some_bytes(size)
    before = print_of(tmp_path, content)
    for place in (0, min(4095, size - 1), size // 2, max(size - 4096, 0), size - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        assert print_of(tmp_path, bytes(changed)) != before


@pytest.mark.parametrize("size", [1, 4096, 8193, 12288])
def test_up_to_12_kib_every_byte_counts(tmp_path: Path, size: int) -> None:
    content = some_bytes(size)
    before = print_of(tmp_path, content)
    for place in range(0, size, 97):
        changed = bytearray(content)
        changed[place] ^= 128
        assert print_of(tmp_path, bytes(changed)) != before


def test_another_size_changes_it_though_all_that_is_read_is_alike(tmp_path: Path) -> None:
    assert len({print_of(tmp_path, bytes(size)) for size in SIZES}) == len(SIZES)


def test_it_reads_12_kib_at_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    real = os.pread

    def spy(descriptor: int, length: int, start: int) -> bytes:
        lengths.append(length)
        return real(descriptor, length, start)

    monkeypatch.setattr(os, "pread", spy)
    for size in SIZES:
        lengths.clear()
        print_of(tmp_path, some_bytes(size))
        assert 0 < sum(lengths) <= 3 * 4096


def test_what_cannot_be_read_raises_oserror_and_leaves_nothing_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "missing.jpg")
    before = len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0
    with pytest.raises(OSError, match="directory"):
        fingerprint(tmp_path)
    assert (len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0) == before
