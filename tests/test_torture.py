"""The worst picture files there are: each is a picture, or skipped with a true reason in one line, at little cost.

They come from the tests and fuzzers of other decoders; what another one makes of each is in a table beside them.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command

from cbir.decode import read_picture, read_working_picture

READ = {"JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "JPEG2000", "PPM", "HEIF"}
# A new process that has read all of them, in both sizes, needs no more than this, a third of it for Python and numpy.
MOST_MEGABYTES = 300

# Reads every file and notes what became of it; whatever else it says comes from a library.
SCRIPT = """
import json, os, sys
from cbir.decode import read_picture, read_working_picture
from cbir.errors import NOT_PICTURES, PictureError
folder, result = sys.argv[1:]
told = {}
for parent, _, names in os.walk(folder):
    for name in names:
        path = os.path.join(parent, name)
        both = []
        for read in (read_picture, read_working_picture):
            try:
                picture = read(path)
                both.append({"size": picture.pixels.shape[1::-1], "converted": picture.converted})
            except PictureError as error:
                both.append({"reason": error.reason, "no picture": error.reason in NOT_PICTURES})
        told[os.path.relpath(path, os.path.dirname(folder))] = both
# Not by getrusage, in which a process begins with what its parent had.
with open("/proc/self/status") as status:
    megabytes = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
with open(result, "w") as file:
    json.dump({"told": told, "megabytes": megabytes}, file)
"""
# What the other decoder refuses and is read all the same.
READ_ALTHOUGH = {
    "torture/gofuzz/4bbf83bc566f75140382c30e287cc0743ff49a79-2.tiffbin": "its second frame is damaged, not the first",
    "torture/gofuzz/7896ec6ec6486df2d1a33010946094279390d5d1-2.tiffbin": "its second frame is damaged, not the first",
    "torture/libavif/paris_icc_exif_xmp.png": "only its Exif is damaged",
}
# What is refused although the other decoder reads it, by the reason that must be told.
REFUSED_ALTHOUGH = {
    "torture/pillow/10ct_32bit_128.tiff": "samples of 32 bits (F) have no known range",
    "torture/pillow/16_bit_binary_pgm.tiff": "samples of 32 bits (I) have no known range",
    "torture/pillow/16bit.s.tif": "samples of 32 bits (I) have no known range",
}


SUMMARY = re.compile(r"([\d,]+) photos.*?([\d,]+) skipped; ([\d,]+) other files", re.S)


@pytest.fixture(scope="module")
def torture(shared: Path) -> Path:
    if not (shared / "torture").is_dir():
        pytest.skip("there are no torture files among the real pictures")
    return shared / "torture"


@pytest.fixture(scope="module")
def run(torture: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each file, and the memory that it took; nothing may have been written to either output."""
    pytest.importorskip("pillow_heif")
    result = tmp_path_factory.mktemp("torture") / "result.json"
    command = [sys.executable, "-c", SCRIPT, str(torture), str(result)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return json.loads(result.read_text())


@pytest.fixture(scope="module")
def other(torture: Path) -> dict[str, dict[str, str]]:
    """What another decoder makes of each file: status (ok, err or bomb), format, size as stored, Exif's orientation."""
    head, *rows = (line.split("\t") for line in (torture / "expected_pillow13.tsv").read_text().splitlines())
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def upright(row: dict[str, str]) -> list[int]:
    width, height = map(int, row["size"].split("x"))
    # Of a TIFF the other decoder tells the upright size.
    turned = row["exif_orientation"] in tuple("5678") and row["format"] != "TIFF"
    return [height, width] if turned else [width, height]


def test_every_file_is_a_picture_or_refused_with_a_reason_in_one_line(run: dict[str, Any]) -> None:
    assert len(run["told"]) > 1300
    for path, (full, working) in run["told"].items():
        assert full.get("reason") == working.get("reason"), path
        if "reason" in full:
            assert full["reason"].isprintable(), path
            assert 5 < len(full["reason"]) < 300, path
        else:
            assert working["size"][0] * working["size"][1] <= 8_192, path
            assert full["converted"] == working["converted"], path


def test_no_file_takes_much_memory(run: dict[str, Any]) -> None:
    assert run["megabytes"] < MOST_MEGABYTES


def test_what_another_decoder_reads_is_read_in_the_same_upright_size(
    run: dict[str, Any], other: dict[str, dict[str, str]]
) -> None:
    wrong = {}
    for path, row in other.items():
        told, _ = run["told"][path]
        if row["status"] == "ok" and row["format"] in READ and told.get("size") != upright(row):
            wrong[path] = told.get("reason", told)
    assert wrong == REFUSED_ALTHOUGH


def test_what_another_decoder_refuses_is_not_silently_read(
    run: dict[str, Any], other: dict[str, dict[str, str]]
) -> None:
    read = {path for path, row in other.items() if row["status"] != "ok" and "size" in run["told"][path][0]}
    assert read == set(READ_ALTHOUGH)


def test_a_picture_of_a_format_that_is_not_read_is_refused_by_name_or_as_unknown(
    run: dict[str, Any], other: dict[str, dict[str, str]]
) -> None:
    unknown = set()
    for path, row in other.items():
        if row["status"] == "ok" and row["format"] not in READ:
            told, _ = run["told"][path]
            unknown |= {row["format"]} if told["no picture"] else set()
            assert told["no picture"] or told["reason"].endswith(f" {row['format']} file, which cbir cannot read"), path
    # These two have no first bytes that tell them.
    assert unknown == {"TGA", "XBM"}


def test_a_bomb_is_refused_for_its_size(run: dict[str, Any], other: dict[str, dict[str, str]]) -> None:
    bombs = [run["told"][path][0]["reason"] for path, row in other.items() if row["status"] == "bomb"]
    assert len(bombs) > 10
    too_large = " more than 250 million; raise --max-pixels to read it"
    assert all(reason.endswith((too_large, "which cbir cannot read")) for reason in bombs)
    assert sum(reason.endswith(too_large) for reason in bombs) > 10


@pytest.mark.parametrize("kind", ["Landscape", "Portrait"])
def test_photos_held_in_eight_ways_are_read_alike(shared: Path, kind: str) -> None:
    paths = [shared / "exif_orientation" / f"{kind}_{i}.jpg" for i in range(9)]
    if not paths[0].exists():
        pytest.skip("there are no photos held in eight ways among the real pictures")
    for read in (read_picture, read_working_picture):
        first, *others = (read(path).pixels for path in paths)
        for pixels in others:
            assert pixels.shape == first.shape
            assert np.abs(pixels.astype(float) - first).mean() < 5


def test_all_of_it_is_indexed_or_skipped_in_a_line_each(torture: Path, tmp_path: Path, command: Command) -> None:
    files = sum(path.is_file() for path in torture.rglob("*"))
    first, again = (command("index", torture, "--index", "./index") for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0)
    summary = SUMMARY.search(first.stdout.decode())
    assert summary
    indexed, skipped, others = (int(number.replace(",", "")) for number in summary.groups())
    assert indexed + skipped + others == files
    lines = first.stderr.decode().splitlines()
    assert len(lines) == skipped and all(line.startswith("cbir: skipped ") for line in lines)
    assert sorted(again.stderr.splitlines()) == sorted(first.stderr.splitlines())
    assert b"0 added, 0 changed, 0 moved, 0 dropped" in again.stdout
