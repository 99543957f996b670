"""Palette files: what is written is read back, other programs' files are read, and hostile ones end in one line."""

import json
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cbir.color import lab_of_bytes
from cbir.color_name import parse_color
from cbir.errors import PaletteError
from cbir.histogram import Swatch
from cbir.palette_file import (
    PALETTE_SUFFIXES,
    WRITERS,
    read_palette_file,
    strip,
    to_aco,
    to_ase,
    to_css,
    to_gpl,
    to_json,
)

MIB = 1 << 20
SWATCHES = [
    Swatch(np.array([255, 128, 0], np.uint8), 0.5),
    Swatch(np.array([0, 0, 0], np.uint8), 0.375),
    Swatch(np.array([1, 2, 3], np.uint8), 0.125),
]
names = st.text(max_size=60) | st.sampled_from(
    ["", "a\nb", "255 0 0", "\n1 2 3\n", "#fff;", "*/ } --x: #123456;", "\\", '"', "☃ 🌅", "caf\udce9", "\0", "x" * 255]
)
colors = arrays(np.uint8, st.tuples(st.integers(1, 40), st.just(3)))


def swatches_of(colors: NDArray[np.uint8]) -> list[Swatch]:
    return [Swatch(color, 1 / len(colors)) for color in colors]


def read(folder: Path, name: str, content: bytes | str) -> list[list[int]]:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_palette_file(folder / name).tolist()


def refusal(path: Path) -> str:
    """Why a palette file is refused: in one line for a person, which names the file."""
    with pytest.raises(PaletteError) as caught:
        read_palette_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 300
    return message


# --- what is written


@pytest.mark.parametrize("suffix", WRITERS)
@given(colors=colors, name=names)
@example(colors=np.array([[0, 0, 0], [255, 255, 255], [0, 0, 0]], np.uint8), name="twice the same")
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, colors: NDArray[np.uint8], name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"palette{suffix}"
    path.write_bytes(WRITERS[suffix](swatches_of(colors), name))
    assert np.array_equal(read_palette_file(path), colors)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_thousand_colours_can_be_written_and_read(tmp_path: Path, suffix: str) -> None:
    many = np.random.default_rng(0).integers(0, 256, (1024, 3)).astype(np.uint8)
    assert read(tmp_path, f"many{suffix}", WRITERS[suffix](swatches_of(many), "many")) == many.tolist()


def test_a_gimp_palette_has_a_line_for_each_colour() -> None:
    header, name, columns, comment, *lines = to_gpl(SWATCHES, "sun\nset").decode().splitlines()
    assert (header, name) == ("GIMP Palette", "Name: sun set")
    assert columns.startswith("Columns:")
    assert comment == "#"
    assert [line.split() for line in lines] == [
        ["255", "128", "0", "#ff8000", "50.0%"],
        ["0", "0", "0", "#000000", "37.5%"],
        ["1", "2", "3", "#010203", "12.5%"],
    ]


@pytest.mark.parametrize(
    ("name", "property"),
    [
        ("My Photo!", "--my-photo-1"),
        ("", "--color-1"),
        ("日本", "--color-1"),
        ("2024", "--2024-1"),
        ("};", "--color-1"),
    ],
)
def test_css_has_a_custom_property_for_each_colour(name: str, property: str) -> None:
    css = to_css(SWATCHES, name).decode()
    assert re.findall(r"^  ([\w-]+): (#[0-9a-f]{6});", css, re.M)[0] == (property, "#ff8000")
    assert css.count(";") == css.count("--") == 3
    assert css.startswith(":root {")
    assert css.endswith("}\n")


def test_json_says_each_colour_in_three_ways_with_its_share() -> None:
    value = json.loads(to_json(SWATCHES, "sunset"))
    assert value["name"] == "sunset"
    first = value["colors"][0]
    assert (first["hex"], first["rgb"], first["share"]) == ("#ff8000", [255, 128, 0], 0.5)
    assert first["lab"] == pytest.approx([67.05, 42.83, 74.03], abs=0.05)
    assert [one["share"] for one in value["colors"]] == [0.5, 0.375, 0.125]


def test_an_ase_file_is_one_group_of_whole_blocks() -> None:
    content = to_ase(SWATCHES, "sunset")
    assert struct.unpack_from(">4s2HI", content) == (b"ASEF", 1, 0, 5)
    at, kinds, texts = 12, [], []
    while at < len(content):
        kind, length = struct.unpack_from(">HI", content, at)
        kinds.append(kind)
        if length:
            (characters,) = struct.unpack_from(">H", content, at + 6)
            texts.append(content[at + 8 : at + 8 + 2 * characters].decode("utf-16-be"))
        at += 6 + length
    assert at == len(content)
    assert kinds == [0xC001, 1, 1, 1, 0xC002]
    assert texts == ["sunset\0", "#ff8000\0", "#000000\0", "#010203\0"]


def test_an_aco_file_has_both_versions_and_names_in_the_second() -> None:
    orange, black, ink = (
        struct.pack(">5H", 0, *(257 * v for v in rgb), 0) for rgb in ((255, 128, 0), (0,) * 3, (1, 2, 3))
    )
    ends = [struct.pack(">I", 8) + f"{text}\0".encode("utf-16-be") for text in ("#ff8000", "#000000", "#010203")]
    expected = b"\0\1\0\3" + orange + black + ink + b"\0\2\0\3" + orange + ends[0] + black + ends[1] + ink + ends[2]
    assert to_aco(SWATCHES, "sunset") == expected


# --- what other programs write


def test_a_gimp_palette_with_comments_and_names_is_read(tmp_path: Path) -> None:
    text = (
        "GIMP Palette\r\nName: 3 Greys 1 2 3\r\nColumns: 16\r\n# 9 9 9 is no colour here\r\n#\r\n"
        "  0   0   0\tBlack\r\n255 255 255 White 7 8 9\r\n\r\n  127\t127\t127\r\n 12  34  56 Untitled"
    )
    expected = [[0, 0, 0], [255, 255, 255], [127, 127, 127], [12, 34, 56]]
    assert read(tmp_path, "greys.gpl", text) == expected


def test_a_gimp_palette_without_name_and_columns_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "old.GPL", "GIMP Palette\n#\n1 2 3\n") == [[1, 2, 3]]


def test_css_with_short_and_long_hex_is_read(tmp_path: Path) -> None:
    text = (
        ":root{--white:#FFF;--sky-blue:#8ec5ee}\n.dark {\n  --ink_2 : #1a2B3c ;\n  color: #999999;\n"
        "  --gap: 4px;\n  --alias: var(--ink_2);\n}\n"
    )
    assert read(tmp_path, "theme.css", text) == [[255, 255, 255], [0x8E, 0xC5, 0xEE], [0x1A, 0x2B, 0x3C]]


def test_css_with_any_notation_of_css_is_read_and_what_is_no_opaque_colour_is_passed_over(tmp_path: Path) -> None:
    text = """:root {
      --name: RebeccaPurple; --last: teal}
      a { --rgb: rgb(27, 58, 92) ; --new: rgb(27 58 92)!important; --hsl: HSL(210 50% 40%);
      --lab: lab(29.69% 44.888% -29.04%); /* purple */ --ok: oklch(62.8% 0.2577 29.23deg)/* red */;
      --alpha: rgb(0 0 0 / 50%); --old: rgba(0, 0, 0, 0.5); --hex: #11223344; --clear: transparent;
      --font: red hat display; --family: "tan"; --digits: 123456; --surveyed: burnt orange; --wrong: rgb(300 0 0);
      --size: calc(1px + 2px); --mix: color-mix(in oklch, red, blue); --end: tan"""
    purple, navy = [0x66, 0x33, 0x99], [27, 58, 92]
    teal, blue, red, tan = [0, 128, 128], [0x33, 0x66, 0x99], [255, 0, 0], [210, 180, 140]
    expected = [purple, teal, navy, navy, blue, [128, 0, 128], red, tan]
    assert read(tmp_path, "theme.css", text) == expected


@pytest.mark.parametrize(
    "text",
    ['["#FF8000", "010203", "#abc"]', '{"colors": ["#ff8000", {"hex": "#010203", "name": "ink"}, {"hex": "abc"}]}'],
    ids=["list", "object"],
)
def test_json_lists_of_hex_colours_are_read(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, "palette.json", text) == [[255, 128, 0], [1, 2, 3], [0xAA, 0xBB, 0xCC]]


@pytest.mark.parametrize("suffix", [".txt", ".hex"])
@pytest.mark.parametrize(
    "text",
    [
        "264653\n2A9D8F\nfff\n",
        "\ufeff#264653\r\n#2a9d8f\r\n\r\n#fff",
        "264653,2a9d8f, ffffff",
        "#264653-#2a9d8f-#ffffff",
        "264653 2a9d8f;ffffff;",
        "https://coolors.co/264653-2a9d8f-ffffff",
        " https://coolors.co/palette/264653-2a9d8f-ffffff/?from=123456#fade \n",
        "264653\nhttps://coolors.co/2a9d8f-ffffff\n",
    ],
)
def test_a_list_of_hex_colours_is_read(tmp_path: Path, text: str, suffix: str) -> None:
    assert read(tmp_path, f"list{suffix}", text) == [[0x26, 0x46, 0x53], [0x2A, 0x9D, 0x8F], [255, 255, 255]]


def aco(*colors: tuple[int, ...], version: int = 1, count: int | None = None, name: str = "ink") -> bytes:
    """One version of an ACO file; a colour is its space and up to four numbers of 16 bits, negative or not."""
    text = struct.pack(">I", len(name) + 1) + f"{name}\0".encode("utf-16-be") if version == 2 else b""
    words = [[v & 0xFFFF for v in (*color, 0, 0, 0, 0)[:5]] for color in colors]
    body = b"".join(struct.pack(">5H", *five) + text for five in words)
    return struct.pack(">2H", version, len(colors) if count is None else count) + body


SPACES = {
    "red": ((0, 65535, 0, 0), [255, 0, 0]),
    "dark": ((0, 257, 2 * 257, 3 * 257), [1, 2, 3]),
    # 120 degrees of 360, wholly saturated, half as bright.
    "green as HSB": ((1, 21845, 65535, 32768), [0, 128, 0]),
    "paper": ((2, 65535, 65535, 65535, 65535), [255, 255, 255]),
    # As much ink as there is of magenta, and a fifth of black.
    "magenta ink": ((2, 65535, 0, 65535, 52428), [204, 0, 204]),
    "purple as Lab": ((7, 2969, 5611, -3630), [128, 0, 128]),
    "white as Lab": ((7, 10000, 0, 0), [255, 255, 255]),
    "white": ((8, 0), [255, 255, 255]),
    "a quarter of black": ((8, 2500), [191, 191, 191]),
    "black": ((8, 10000), [0, 0, 0]),
    "blacker than black": ((8, 20000), [0, 0, 0]),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", SPACES)
def test_each_space_of_photoshops_swatches_is_read(tmp_path: Path, name: str, version: int) -> None:
    color, expected = SPACES[name]
    assert read(tmp_path, "swatches.aco", aco(color, version=version, name=name)) == [expected]


def test_two_versions_of_the_same_swatches_are_read_once(tmp_path: Path) -> None:
    content = aco((0, 65535), (8, 10000)) + aco((0, 65535), (8, 10000), version=2)
    assert read(tmp_path, "swatches.ACO", content) == [[255, 0, 0], [0, 0, 0]]


def test_an_unknown_space_of_photoshops_swatches_is_refused_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "inks.aco").write_bytes(aco((3, 1, 2, 3)))
    assert "the space 3" in refusal(tmp_path / "inks.aco")


def ase(*blocks: tuple[int, bytes], count: int | None = None) -> bytes:
    """An ASE file; `count` is what it says of the number of its blocks."""
    body = b"".join(struct.pack(">HI", kind, len(content)) + content for kind, content in blocks)
    return struct.pack(">4s2HI", b"ASEF", 1, 0, len(blocks) if count is None else count) + body


def ase_color(model: bytes, *values: float, name: str = "ink") -> tuple[int, bytes]:
    text = (name + "\0").encode("utf-16-be")
    levels = struct.pack(f">{len(values)}f", *values)
    return 1, struct.pack(">H", len(text) // 2) + text + model + levels + struct.pack(">H", 2)


GROUP = (0xC001, struct.pack(">H", 5) + "Inks\0".encode("utf-16-be"))
GROUP_END = (0xC002, b"")


def test_an_ase_file_with_groups_and_several_colour_models_is_read(tmp_path: Path) -> None:
    # The same purple as sRGB's #800080, relative to D50 (CSS Color 4).
    assert np.allclose(parse_color("lab(29.69% 44.888% -29.04%)").lab, lab_of_bytes(np.uint8([128, 0, 128])), atol=0.05)
    content = ase(
        ase_color(b"RGB ", 1, 128 / 255, 0, name="outside any group"),
        GROUP,
        ase_color(b"LAB ", 0.2969, 1.25 * 44.888, 1.25 * -29.04, name="☀"),
        ase_color(b"Gray", 0.2, name=""),
        GROUP_END,
        GROUP,
        GROUP_END,
        ase_color(b"RGB ", 1.2, -0.1, 0.5, name="out of range"),
    )
    expected = [[255, 128, 0], [128, 0, 128], [51, 51, 51], [255, 0, 128]]
    assert read(tmp_path, "inks.ase", content) == expected


def test_cmyk_in_an_ase_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "inks.ase").write_bytes(ase(ase_color(b"CMYK", 0, 1, 1, 0)))
    assert "'CMYK'" in refusal(tmp_path / "inks.ase")


# --- what is refused

HOSTILE = {
    "empty.gpl": b"",
    "empty.ase": b"",
    "empty.css": b"",
    "empty.json": b"",
    "no-colours.gpl": b"GIMP Palette\nName: none\n",
    "no-colours.css": b":root { color: red }",
    "no-colours.json": b"[]",
    "no-colours.ase": ase(GROUP, GROUP_END),
    "level.gpl": b"GIMP Palette\n0 0 256\n",
    "negative.gpl": b"GIMP Palette\n-1 0 0\n",
    "other.gpl": b"JASC-PAL\n0100\n1\n0 0 0\n",
    "many.gpl": b"GIMP Palette\n" + b"1 2 3\n" * 1025,
    "many.json": json.dumps(["#fff"] * 1025).encode(),
    "number.json": b"7",
    "null.json": b"null",
    "nothing.json": b'{"colors": null}',
    "object.json": b'{"colors": {"hex": "#fff"}}',
    "word.json": b'["red"]',
    "lines.json": rb'["one\ntwo\u001b[31m"]',
    "numbers.json": b"[1, 2]",
    "nested.json": b"[" * 100_000 + b"]" * 100_000,
    "digits.json": b'["#fff", ' + b"9" * 10_000 + b"]",
    "cut.json": b'{"colors": ["#fff"',
    "binary.json": b"\xff\xfe\x00",
    "long.json": b'["' + b"x" * 500_000 + b'"]',
    "cut.ase": ase(GROUP, ase_color(b"RGB ", 1, 1, 1), GROUP_END)[:-20],
    "magic.ase": b"ASEF",
    "other.ase": b"ASEX" + ase(ase_color(b"RGB ", 1, 1, 1))[4:],
    "count.ase": ase(ase_color(b"RGB ", 1, 1, 1), count=0xFFFFFFFF),
    "length.ase": ase()[:8] + struct.pack(">IHI", 2, 1, 0xFFFFFFFF),
    "name.ase": ase((1, b"\xff\xff" + b"RGB " + bytes(14))),
    "nan.ase": ase(ase_color(b"RGB ", float("nan"), 0, 0)),
    "infinite.ase": ase(ase_color(b"Gray", float("inf"))),
    "lab-nan.ase": ase(ase_color(b"LAB ", float("nan"), 0, 0)),
    "lab-infinite.ase": ase(ase_color(b"LAB ", 0.5, float("inf"), float("-inf"))),
    "model.ase": ase(ase_color(b"\x1b[2J", 0)),
    "empty.aco": b"",
    "empty.txt": b"",
    "blank.hex": b"\n \n",
    "no-colours.aco": aco(),
    "version.aco": aco((0, 0), version=3),
    "cut.aco": aco((0, 0), (0, 0))[:-1],
    "count.aco": aco((0, 0), count=0xFFFF),
    "many.aco": aco(*[(0, 0)] * 1025),
    "length.aco": aco((0, 0), version=2, count=2)[:14] + b"\xff" * 4 + aco((0, 0)),
    "no-second.aco": aco((0, 0), version=2, count=2),
    "words.txt": b"teal\nred\n",
    "alpha.hex": b"11223344\n",
    "escapes.txt": b"\x1b[31m\n",
    "binary.hex": b"\xff\xfe\x00",
    "address.txt": b"https://example.org/",
    "many.txt": b"fff\n" * 1025,
    "many.css": b"--a:red;" * 1025,
    "large.gpl": b"GIMP Palette\n1 2 3\n".ljust(MIB + 1, b"#"),
    "large.json": b'["#fff"]'.ljust(MIB + 1),
    "large.css": b":root{--a:#fff}".ljust(MIB + 1),
    "large.ase": ase(ase_color(b"RGB ", 1, 1, 1)).ljust(MIB + 1, b"\0"),
    "large.aco": aco((0, 0)).ljust(MIB + 1, b"\0"),
    "large.txt": b"fff\n".ljust(MIB + 1),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_palette_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(HOSTILE[name])
    refusal(tmp_path / name)


NOTHING = {
    "dashes.css": b"-" * MIB,
    "names.css": b"--a" * (MIB // 3),
    "spaces.css": b"--a".ljust(MIB),
    "words.css": b"--a:zzz;" * (MIB // 8),
    "calls.css": b"--a:lab(1 x 3);" * (MIB // 15),
    "brackets.css": b"--a:rgb(" * (MIB // 8),
    "colours.css": b"--a:tan;" * (MIB // 8),
    "colours.txt": b"fff " * (MIB // 4),
    "dashes.txt": b"-" * MIB,
    "slashes.txt": b"/" * MIB,
    "word.hex": b"f" * MIB,
    "name.aco": aco((0, 0), version=2, name="x" * (MIB // 2 - 20), count=2),
    "lines.gpl": b"GIMP Palette\n".ljust(MIB, b"\n"),
    "digits.gpl": b"GIMP Palette\n".ljust(MIB, b"1"),
    "spaces.gpl": b"GIMP Palette\n1 ".ljust(MIB),
    "groups.ase": ase(*[GROUP_END] * (MIB // 6 - 3)),
    "quotes.json": b'["' + b"\\" * (MIB - 4) + b'"]',
}


@pytest.mark.usefixtures("never_hangs")
@pytest.mark.parametrize("name", NOTHING)
def test_a_mebibyte_of_nothing_is_refused_and_hangs_nobody(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(NOTHING[name])
    refusal(tmp_path / name)


def test_a_large_file_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "large.gpl").open("wb") as file:
        file.write(b"GIMP Palette\n")
        file.truncate(1 << 33)
    tracemalloc.start()
    refusal(tmp_path / "large.gpl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MIB


@pytest.mark.parametrize("suffix", PALETTE_SUFFIXES)
@given(rest=st.binary(max_size=400))
def test_any_bytes_are_a_palette_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rest: bytes
) -> None:
    magic = {".gpl": b"GIMP Palette\n", ".ase": b"ASEF\0\1\0\0\0\0", ".css": b":root{--a:#", ".json": b'["#'}
    magic |= {".aco": b"\0\1\0\1\0", ".txt": b"#fff ", ".hex": b"123456\n"}
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    for content in (rest, magic[suffix] + rest):
        path.write_bytes(content)
        try:
            colors = read_palette_file(path)
        except PaletteError as error:
            assert str(error).isprintable()
        else:
            assert colors.dtype == np.uint8
            assert colors.shape[1:] == (3,)


@given(st.lists(st.tuples(st.sampled_from([1, 0xC001, 0xC002, 7]), st.binary(max_size=40)), max_size=6), st.data())
def test_any_blocks_are_a_palette_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    models = st.sampled_from([b"RGB ", b"LAB ", b"Gray", b"CMYK"])
    floats = st.lists(st.floats(width=32), min_size=4, max_size=4)
    drawn = [ase_color(data.draw(models), *data.draw(floats)), *blocks]
    path = tmp_path_factory.getbasetemp() / "blocks.ase"
    path.write_bytes(ase(*drawn))
    try:
        colors = read_palette_file(path)
    except PaletteError as error:
        assert str(error).isprintable()
    else:
        assert colors.shape[1:] == (3,)


@pytest.mark.parametrize("name", ["missing.gpl", "folder.css"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.css").mkdir()
    refusal(tmp_path / name)


def test_an_ending_that_is_no_palette_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "colours.md").write_text("#fff")
    refusal(tmp_path / "colours.md")


# --- strips


def test_the_widths_of_a_strip_follow_the_shares() -> None:
    pixels = strip(SWATCHES, width=80, height=3)
    assert pixels.shape == (3, 80, 3)
    row = [tuple(color) for color in pixels[0].tolist()]
    assert row == [(255, 128, 0)] * 40 + [(0, 0, 0)] * 30 + [(1, 2, 3)] * 10
    assert (pixels == pixels[0]).all()


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1, 400))
def test_no_colour_of_a_strip_is_more_than_a_pixel_off(weights: list[int], width: int) -> None:
    shares = [weight / sum(weights) for weight in weights]
    swatches = [Swatch(np.array([i, 0, 0], np.uint8), share) for i, share in enumerate(shares)]
    counts = np.bincount(strip(swatches, width, 1)[0, :, 0], minlength=len(shares))
    assert counts.sum() == width
    assert np.abs(counts - np.array(shares) * width).max() < 1 + 1e-6


def test_shares_that_do_not_sum_to_one_fill_the_strip() -> None:
    swatches = [Swatch(swatch.srgb, swatch.share / 2) for swatch in SWATCHES]
    assert np.array_equal(strip(swatches), strip(SWATCHES))
