"""What a file is, by its first bytes."""

from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cbir.signature import HEAD_BYTES, PICTURE_SUFFIXES, RAW_SUFFIXES, picture_format


def saved(format: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (300, 200), (1, 2, 3)).save(file, format)
    return file.getvalue()


def ftyp(*brands: bytes, following: bytes = bytes(100)) -> bytes:
    """The beginning of an ISO media file of a major brand, with its version, and compatible brands."""
    body = brands[0] + bytes(4) + b"".join(brands[1:])
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body + following


@pytest.mark.parametrize(
    "format",
    ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "JPEG2000", "PPM", "ICO", "PCX", "SGI", "DDS"],
)
def test_the_head_of_a_saved_picture_tells_its_format(format: str) -> None:
    assert picture_format(saved(format)[:HEAD_BYTES]) == format


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (ftyp(b"avif", b"mif1", b"miaf"), "AVIF"),
        (ftyp(b"avis", b"msf1"), "AVIF"),
        (ftyp(b"mif1", b"mif1", b"avif", b"miaf"), "AVIF"),
        (ftyp(b"heic", b"mif1"), "HEIF"),
        (ftyp(b"mif1", b"mif1", b"heic"), "HEIF"),
        (ftyp(b"msf1", b"hevc"), "HEIF"),
        (ftyp(b"mif1"), "HEIF"),
        (ftyp(b"crx ", b"isom"), "RAW"),
        (ftyp(b"isom", b"iso2", b"avc1", b"mp41"), None),
        (ftyp(b"qt  "), None),
        # What follows the list of brands is no brand.
        (ftyp(b"mp42", following=b"heic" * 10), None),
    ],
)
def test_iso_media_files_are_told_apart_by_their_brands(head: bytes, format: str | None) -> None:
    assert picture_format(head) == format


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "RAW"),
        (b"FUJIFILMCCD-RAW 0201", "RAW"),
        (b"IIRO\x08\0\0\0", "RAW"),
        (b"IIU\0\x18\0\0\0", "RAW"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"MM\0+\0\x08\0\0", "TIFF"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG2000"),
        (b"8BPS\0\x01", "PSD"),
        (b"qoif\0\0\0\x80", "QOI"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b'<?xml version="1.0"?>\n<svg width="4">', "SVG"),
    ],
)
def test_known_first_bytes_tell_the_format(head: bytes, format: str) -> None:
    assert picture_format(head) == format


@pytest.mark.parametrize(
    "head",
    [
        b"P6\n640 480\n255\n",
        b"P4 8 8\n",
        b"P5\r\n# a comment\r\n# and one more\r\n12 9\r\n255\r\n",
        b"P2 # of width\n3 # and height\n4",
        b"P3\n#" + b"a comment that does not end in the head" * 9,
    ],
)
def test_a_portable_pixmap_has_a_width_and_a_height_with_comments_between(head: bytes) -> None:
    assert picture_format(head[:HEAD_BYTES]) == "PPM"


@pytest.mark.parametrize(
    "text",
    [
        "P1 is the parking level for guests",
        "P5 3 of them",
        "P6\nis the sixth of my notes",
        "P38 was a plane with 2 engines and 2 booms",
        "BMW 2002 tii, built in 1972, red, two owners",
        "RIFF raff",
        "GIF or JIF?",
        "II*",
        "MMXXVI",
        "%!PS-Adobe-3.0\n%%Title: a letter\n",
        "<?xml version='1.0'?><note><to>Anna</to></note>",
        "#include <stdio.h>\n",
        "{}",
        "",
    ],
)
def test_a_text_is_no_picture(text: str) -> None:
    assert picture_format(text.encode()[:HEAD_BYTES]) is None


@given(st.text(st.characters(codec="ascii", min_codepoint=32), max_size=HEAD_BYTES))
def test_no_text_of_one_line_passes_for_a_binary_format(text: str) -> None:
    readable = {"JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "DIB", "JPEG2000"}
    assert picture_format(text.encode()) not in readable


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"%PDF-1.7", b"\x7fELF", b"\0" * HEAD_BYTES, b"\0\x01\0\0\0\x12"])
def test_other_files_are_no_pictures(head: bytes) -> None:
    assert picture_format(head) is None


@given(st.binary(max_size=HEAD_BYTES))
def test_any_brands_are_a_picture_or_none(rest: bytes) -> None:
    assert picture_format((b"\0\0\0\x20ftyp" + rest)[:HEAD_BYTES]) in (None, "AVIF", "HEIF", "RAW")


def test_endings_are_lower_case_with_their_dot() -> None:
    assert {".jpg", ".heic", ".tga", ".nef"} <= PICTURE_SUFFIXES
    assert RAW_SUFFIXES <= PICTURE_SUFFIXES
    assert all(Path(f"a{suffix}").suffix.lower() == suffix for suffix in PICTURE_SUFFIXES)
