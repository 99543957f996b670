"""Palette files: GIMP (.gpl), Adobe (.ase, .aco), CSS custom properties (.css), JSON, lists of hex (.txt, .hex)."""

from __future__ import annotations

import colorsys
import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from cbir.color import F64, U8, bytes_of_lab, hex_of_bytes, lab_of_bytes
from cbir.color_name import ColorError, css_color, lab_of_d50
from cbir.errors import PaletteError
from cbir.histogram import Swatch
from cbir.palette import MAX_COLORS

# A thousand colours take about 50 KB in the wordiest of these formats.
_MAX_BYTES = 1 << 20
_CSS_NAME = 40


def to_gpl(swatches: Sequence[Swatch], name: str) -> bytes:
    """A GIMP palette; each colour is called by its hex value and share."""
    lines = ["GIMP Palette", f"Name: {_one_line(name)}", "Columns: 8", "#"]
    lines += [
        "{:3d} {:3d} {:3d}\t".format(*s.srgb.tolist()) + f"{hex_of_bytes(s.srgb)} {s.share:.1%}" for s in swatches
    ]
    return ("\n".join(lines) + "\n").encode()


def to_css(swatches: Sequence[Swatch], name: str) -> bytes:
    """CSS custom properties, called after `name` and numbered from 1."""
    prefix = re.sub(r"[^a-z0-9]+", "-", name.lower())[:_CSS_NAME].strip("-") or "color"
    lines = [f"  --{prefix}-{i}: {hex_of_bytes(s.srgb)}; /* {s.share:.1%} */" for i, s in enumerate(swatches, start=1)]
    return ("\n".join([":root {", *lines, "}"]) + "\n").encode()


def to_json(swatches: Sequence[Swatch], name: str) -> bytes:
    """An object with `name` and `colors`, each with `hex`, `rgb` (0..255), `lab` and `share` (0..1)."""
    colors = [
        {
            "hex": hex_of_bytes(s.srgb),
            "rgb": s.srgb.tolist(),
            "lab": [round(float(v), 2) for v in lab_of_bytes(s.srgb)],
            "share": round(s.share, 6),
        }
        for s in swatches
    ]
    return (json.dumps({"name": name, "colors": colors}, indent=1) + "\n").encode()


def to_ase(swatches: Sequence[Swatch], name: str) -> bytes:
    """Adobe Swatch Exchange 1.0: one group of global RGB colours, called by their hex values.

    Adobe has published no specification; the structure is that which Photoshop, Illustrator and GIMP agree on:
    big-endian blocks of type (2 bytes), length (4), name (counted UTF-16 with a final zero), model, floats, kind (2).
    """
    blocks = [struct.pack(">H", _ASE_GROUP) + _counted(_ase_name(name))]
    for s in swatches:
        color = struct.pack(">4s3fH", b"RGB ", *(s.srgb / 255).tolist(), 0)
        blocks.append(struct.pack(">H", _ASE_COLOR) + _counted(_ase_name(hex_of_bytes(s.srgb)) + color))
    blocks.append(struct.pack(">HI", _ASE_GROUP_END, 0))
    return struct.pack(">4sHHI", b"ASEF", 1, 0, len(blocks)) + b"".join(blocks)


def to_aco(swatches: Sequence[Swatch], name: str) -> bytes:
    """Photoshop's colour swatches, version 1 and then, as Photoshop 7 and later do, version 2 with their hex values.

    After Adobe Photoshop File Formats Specification (2019), "Color swatches"; the file has no place for `name`.
    """
    colors = [struct.pack(">5H", _ACO_RGB, *(257 * s.srgb.astype(int)).tolist(), 0) for s in swatches]
    names = [(hex_of_bytes(s.srgb) + "\0").encode("utf-16-be") for s in swatches]
    named = [color + struct.pack(">I", len(text) // 2) + text for color, text in zip(colors, names, strict=True)]
    versions = [struct.pack(">2H", i, len(swatches)) + b"".join(each) for i, each in ((1, colors), (2, named))]
    return b"".join(versions)


_ACO_RGB, _ACO_HSB, _ACO_CMYK, _ACO_LAB, _ACO_GRAY = 0, 1, 2, 7, 8
_ASE_COLOR, _ASE_GROUP, _ASE_GROUP_END = 0x0001, 0xC001, 0xC002


def _counted(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def _ase_name(name: str) -> bytes:
    text = (_one_line(name) + "\0").encode("utf-16-be", "replace")
    return struct.pack(">H", len(text) // 2) + text


def _one_line(name: str) -> str:
    return " ".join(name.encode("utf-8", "replace").decode().split())


def _of_gpl(content: bytes) -> U8:
    lines = content.decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith("GIMP Palette"):
        raise ValueError("it does not begin with 'GIMP Palette'")
    fields = [line.split(None, 3)[:3] for line in lines]
    return _rows([[int(v) for v in row] for row in fields if len(row) == 3 and all(map(_LEVEL.fullmatch, row))])


# Bounded repeats, so that no file takes more time than its length deserves.
_LEVEL = re.compile(r"[0-9]{1,3}")
_CSS_COLOR = re.compile(
    r"--[\w-]{1,64}[ \t]{0,8}:[ \t]{0,8}(#(?:[0-9a-f]{6}|[0-9a-f]{3})(?![\w-])|"
    r"(?:[a-z]{3,5}\([^(){};/]{1,90}\)|[a-z]{3,24})(?=\s{0,8}(?:[;}!]|/\*|\Z)))",
    re.IGNORECASE,
)


def _of_css(content: bytes) -> U8:
    # One more than there may be is enough to tell that there are too many.
    return _rows(list(islice(_css_colors(content.decode("utf-8", "replace")), MAX_COLORS + 1)))


def _css_colors(text: str) -> Iterator[list[int]]:
    """The opaque colours among the values of custom properties; other values, such as lengths, are passed over."""
    for match in _CSS_COLOR.finditer(text):
        try:
            yield css_color(match[1]).srgb.tolist()
        except ColorError:
            continue


def _of_list(content: bytes) -> U8:
    """Hex colours with anything usual between them; of an address, such as of coolors.co, only the last part counts."""
    lines = content.decode("utf-8-sig", "replace").splitlines()
    parts = [re.split(r"[?#]", line)[0].rstrip("/ ").rpartition("/")[2] if "//" in line else line for line in lines]
    words = (word for part in parts for word in re.split(r"[\s,;-]+", part) if word)
    return _rows([_of_hex(word) for word in islice(words, MAX_COLORS + 1)])


def _of_json(content: bytes) -> U8:
    value = json.loads(content)
    colors = value.get("colors") if isinstance(value, dict) else value
    if not isinstance(colors, list):
        raise ValueError("it has no list of colors")
    return _rows([_of_hex(str(one.get("hex") if isinstance(one, dict) else one)) for one in colors])


def _of_hex(text: str) -> list[int]:
    match = re.fullmatch(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", text)
    if not match:
        raise ValueError(f"{text[:16]!r} is no hex colour")
    digits = match[1] if len(match[1]) == 6 else "".join(2 * digit for digit in match[1])
    return list(bytes.fromhex(digits))


def _of_ase(content: bytes) -> U8:
    signature, _, _, blocks = struct.unpack_from(">4sHHI", content)
    if signature != b"ASEF":
        raise ValueError("it does not begin with 'ASEF'")
    rows, at = [], 12
    for _ in range(min(blocks, len(content) // 6)):
        kind, length = struct.unpack_from(">HI", content, at)
        if kind == _ASE_COLOR:
            (characters,) = struct.unpack_from(">H", content, at + 6)
            rows.append(_ase_color(content, at + 8 + 2 * characters))
        at += 6 + length
    return _rows(rows)


def _ase_color(content: bytes, at: int) -> list[int]:
    model = content[at : at + 4]
    if model == b"RGB ":
        levels = np.array(struct.unpack_from(">3f", content, at + 4)) * 255
    elif model == b"Gray":
        levels = np.repeat(struct.unpack_from(">f", content, at + 4), 3) * 255
    elif model == b"LAB ":
        lab = np.array(struct.unpack_from(">3f", content, at + 4)) * (100, 1, 1)
        levels = _levels_of_d50(lab) if (np.abs(lab) < 1000).all() else np.full(3, np.nan)
    else:
        raise ValueError(f"colours of the model {model.decode('ascii', 'replace')!r} cannot be read")
    if not np.isfinite(levels).all():
        raise ValueError("a colour is not a number")
    return [int(level) for level in np.rint(levels.clip(0, 255))]


def _levels_of_d50(lab: F64) -> F64:
    """Levels 0..255 of L*a*b* as Adobe's programs have it, which is relative to D50."""
    return bytes_of_lab(lab_of_d50(lab)).astype(np.float64)


def _of_aco(content: bytes) -> U8:
    """The first of the versions in a file; where there are two, both have the same colours."""
    version, count = struct.unpack_from(">2H", content)
    if version not in (1, 2):
        raise ValueError("it does not begin with version 1 or 2 of colour swatches")
    if count > MAX_COLORS:
        raise ValueError(_TOO_MANY)
    rows, at = [], 4
    for _ in range(count):
        rows.append(_aco_color(*struct.unpack_from(">H8s", content, at)))
        at += 10
        if version == 2:
            at += 4 + 2 * int(struct.unpack_from(">I", content, at)[0])
    return _rows(rows)


def _aco_color(space: int, values: bytes) -> list[int]:
    """sRGB of four numbers of 16 bits; inks, which have no profile here, are taken to be ideal."""
    w, x, y, z = (value / 65535 for value in struct.unpack(">4H", values))
    if space == _ACO_RGB:
        levels = np.array([w, x, y]) * 255
    elif space == _ACO_HSB:
        levels = np.array(colorsys.hsv_to_rgb(w, x, y)) * 255
    elif space == _ACO_CMYK:
        # The numbers say how much ink is missing.
        levels = np.array([w, x, y]) * z * 255
    elif space == _ACO_LAB:
        levels = _levels_of_d50(np.array(struct.unpack(">H2h", values[:6])) / 100)
    elif space == _ACO_GRAY:
        # Ten-thousandths of black ink, as GIMP reads it, too.
        levels = np.repeat(1 - struct.unpack(">H", values[:2])[0] / 10000, 3) * 255
    else:
        raise ValueError(f"colours of the space {space} cannot be read")
    return [int(level) for level in np.rint(levels.clip(0, 255))]


_TOO_MANY = f"it has more than {MAX_COLORS} colours"


def _rows(rows: list[list[int]]) -> U8:
    if not rows:
        raise ValueError("it has no colours")
    if len(rows) > MAX_COLORS:
        raise ValueError(_TOO_MANY)
    if max(map(max, rows)) > 255:
        raise ValueError("a level is above 255")
    return np.array(rows, np.uint8)


WRITERS: dict[str, Callable[[Sequence[Swatch], str], bytes]] = {
    ".gpl": to_gpl,
    ".ase": to_ase,
    ".aco": to_aco,
    ".css": to_css,
    ".json": to_json,
}
_READERS: dict[str, Callable[[bytes], U8]] = {
    ".gpl": _of_gpl,
    ".ase": _of_ase,
    ".aco": _of_aco,
    ".css": _of_css,
    ".json": _of_json,
    ".txt": _of_list,
    ".hex": _of_list,
}
PALETTE_SUFFIXES = tuple(_READERS)


def read_palette_file(path: Path) -> U8:
    """The colours of a palette file, (n, 3) uint8 sRGB, in its order. Raises PaletteError, naming the file."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError("it is larger than a palette can be")
        if path.suffix.lower() not in _READERS:
            raise ValueError(f"its name does not end in {', '.join(PALETTE_SUFFIXES)}")
        return _READERS[path.suffix.lower()](content)
    except OSError as error:
        raise PaletteError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, struct.error, RecursionError) as error:
        raise PaletteError(f"{path}: not a palette file ({error})") from error


def strip(swatches: Sequence[Swatch], width: int = 1024, height: int = 128) -> U8:
    """The colours side by side, each as wide as its share: (height, width, 3) uint8."""
    ends = np.cumsum([s.share for s in swatches])
    place = (np.arange(width) + 0.5) / width * ends[-1]
    row = np.array([s.srgb for s in swatches])[np.searchsorted(ends, place).clip(0, len(swatches) - 1)]
    return np.repeat(row[None], height, axis=0)
