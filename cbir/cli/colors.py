"""Palettes by name: of a picture, of a palette file, of an index; and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import typer

from cbir.cli.places import find_index
from cbir.cli.show import block, in_color
from cbir.color import hex_of_bytes
from cbir.errors import CbirError, IndexFolderError, OutputError
from cbir.eye import learn_palette
from cbir.histogram import Swatch
from cbir.index import Index
from cbir.output import check_output, save_file, save_pixels
from cbir.palette import Palette
from cbir.palette_file import PALETTE_SUFFIXES, WRITERS, read_palette_file, strip
from cbir.quantize import quantize, read_visible_picture, reduce_palette


def palette_of(name: str, k: int | None) -> Palette:
    """The palette of an index, a palette file or a picture, summed up in k colours if k is given (a picture's: 8)."""
    path = Path(name)
    if path.is_file() and path.suffix.lower() not in PALETTE_SUFFIXES:
        return learn_palette(read_visible_picture(path), k or 8)
    if path.is_file():
        palette = Palette.of_bytes(read_palette_file(path))
        shares = np.ones(len(palette))
    else:
        opened = _index(name)
        palette, shares = opened.palette, opened.mean_amounts()
    if k is None or k >= len(palette):
        return palette
    return Palette.of_bytes(np.array([swatch.srgb for swatch in reduce_palette(palette, shares, k)]))


def swatches_of(name: str, k: int) -> tuple[str, list[Swatch]]:
    """The main colours, at most k, of a picture, a palette file or an index, and what it is called."""
    path = Path(name)
    if path.is_file() and path.suffix.lower() in PALETTE_SUFFIXES:
        palette = Palette.of_bytes(read_palette_file(path))
        return path.stem, reduce_palette(palette, np.ones(len(palette)), k)
    if path.is_file():
        return path.stem, quantize(read_visible_picture(path), k).swatches
    opened = _index(name)
    return opened.folder.resolve().name, reduce_palette(opened.palette, opened.mean_amounts(), k)


def print_palette(format: str, swatches: Sequence[Swatch], name: str) -> None:
    """Print colours as a table, or as the text of a palette file."""
    if format != "table":
        typer.echo(WRITERS[f".{format}"](swatches, name).decode(), nl=False)
        return
    for swatch in swatches:
        sample = block(swatch, 4) + "  " if in_color() else ""
        typer.echo(f"{sample}{hex_of_bytes(swatch.srgb)}  {swatch.share:6.1%}", color=in_color())


def check_palette_output(target: Path, force: bool) -> None:
    """Refuse, before any work, a file that palettes are not written as, or that exists. Raises OutputError."""
    known = [".png", *WRITERS]
    if target.suffix.lower() not in known:
        raise OutputError(f"{target}: palettes are written as {', '.join(known)}; name the output so")
    check_output(target, force)


def save_palette(target: Path, swatches: Sequence[Swatch], name: str, force: bool) -> None:
    """Write colours as a strip or a palette file, by the ending."""
    suffix = target.suffix.lower()
    if suffix == ".png":
        save_pixels(target, strip(swatches), force=force)
    else:
        save_file(target, WRITERS[suffix](swatches, name), force)


def _index(name: str) -> Index:
    try:
        place = find_index(name)
    except IndexFolderError as error:
        what = (
            "neither a picture file nor an index" if Path(name).exists() else "no such file, nor an index of that name"
        )
        raise CbirError(f"{name}: {what}") from error
    return Index.open(place)
