"""Quantizing: a picture redrawn in a few flat colours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64, U8, bytes_of_codes, codes, distinct, lab_of_bytes
from cbir.decode import read_picture
from cbir.errors import PaletteError, PictureError
from cbir.grid import CellCounts
from cbir.histogram import Swatch, count_labels
from cbir.output import check_picture_output, save_indexed, save_pixels
from cbir.palette import Algorithm, Palette, nearest
from cbir.pixels import Picture

# A palette image has one byte for each pixel.
MAX_COLORS = 256
_HALF_OPAQUE = 128
# With fewer cells of the grid for each colour than this, the grid is too coarse for the picture.
_CELLS_PER_COLOR = 4
_NOTHING_VISIBLE = "the picture is wholly transparent"


@dataclass(frozen=True, eq=False)
class Quantized:
    """A picture in flat colours: `colors` (n, 3) uint8 sRGB, all of them used, and `labels` (height, width) into them.

    Where `visible` (height, width) is False the picture is transparent; None if it is opaque throughout.
    """

    colors: U8
    labels: NDArray[np.uint16]
    visible: NDArray[np.bool_] | None = None

    @cached_property
    def pixels(self) -> U8:
        """The picture as sRGB pixels, (height, width, 3) uint8."""
        return self.colors[self.labels]

    @property
    def swatches(self) -> list[Swatch]:
        """The colours with their shares of the visible area, largest first."""
        weights = None if self.visible is None else np.where(self.visible, np.uint8(255), np.uint8(0))
        shares = count_labels(self.labels, len(self.colors), weights)
        return [Swatch(self.colors[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")]


def quantize(
    picture: Picture, k: int = 8, *, algorithm: Algorithm = "minibatch", palette: Palette | None = None
) -> Quantized:
    """Redraw a picture in at most k (1 to 256) colours of its own, or in those of a given palette.

    Each pixel gets the nearest colour (Euclidean in L*a*b*). A picture that has no more than k colours keeps them to
    the bit, so quantizing twice changes nothing. What is less than half opaque becomes transparent.
    Raises PaletteError for another k, and for a picture of which nothing is visible.
    """
    visible = None if picture.alpha is None else picture.alpha >= _HALF_OPAQUE
    if visible is not None and not visible.any():
        raise PaletteError(_NOTHING_VISIBLE)
    if palette is None:
        # Transparency takes one of a palette image's 256 entries.
        palette = palette_of_picture(picture, k if visible is None else min(k, MAX_COLORS - 1), algorithm)
    # The nearest of the colours as they are written, not of those before rounding to 8 bits.
    palette = Palette.of_bytes(palette.srgb)
    labels = palette.labels(picture.pixels)
    shown = labels if visible is None else labels[visible]
    used = np.flatnonzero(np.bincount(shown.reshape(-1), minlength=len(palette)))
    renumbered = np.zeros(len(palette), np.uint16)
    renumbered[used] = np.arange(len(used))
    return Quantized(palette.srgb[used], renumbered[labels], visible)


def quantize_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    k: int = 8,
    *,
    algorithm: Algorithm = "minibatch",
    palette: Palette | None = None,
    side_by_side: bool = False,
    force: bool = False,
) -> Quantized:
    """Redraw a picture file in flat colours and write it, as a palette image where the target's format has them.

    `side_by_side` puts the original to the left. An existing target is refused unless `force`.
    Raises PictureError, PaletteError or OutputError; then nothing is written.
    """
    check_picture_output(Path(target), force)
    picture = read_visible_picture(source)
    drawn = quantize(picture, k, algorithm=algorithm, palette=palette)
    if not side_by_side:
        save_indexed(Path(target), drawn.colors, drawn.labels, drawn.visible, force)
        return drawn
    alpha = None
    if picture.alpha is not None and drawn.visible is not None:
        alpha = np.concatenate([picture.alpha, np.where(drawn.visible, np.uint8(255), np.uint8(0))], axis=1)
    save_pixels(Path(target), np.concatenate([picture.pixels, drawn.pixels], axis=1), alpha, force)
    return drawn


def read_visible_picture(path: str | os.PathLike[str]) -> Picture:
    """Decode a picture file in full size. Raises PictureError, also if nothing of it is at least half opaque."""
    picture = read_picture(path)
    if picture.alpha is not None and picture.alpha.max() < _HALF_OPAQUE:
        raise PictureError(os.fspath(path), _NOTHING_VISIBLE)
    return picture


def palette_of_picture(picture: Picture, k: int, algorithm: Algorithm = "minibatch") -> Palette:
    """The palette of at most k (1 to 256) colours of one picture."""
    if not 1 <= k <= MAX_COLORS:
        raise PaletteError(f"a picture is redrawn in 1 to {MAX_COLORS} colours, not {k}")
    code = codes(picture.pixels)
    if picture.alpha is not None:
        code = code[picture.alpha >= _HALF_OPAQUE]
    own = distinct(code)
    if not len(own):
        raise PaletteError(_NOTHING_VISIBLE)
    if len(own) <= k:
        return Palette.of_bytes(bytes_of_codes(own))
    counts = CellCounts.of_pixels(picture.pixels, picture.alpha)
    if len(counts.cells) < _CELLS_PER_COLOR * k:
        # A dull picture: all its colours lie in a few cells of the grid, so they are told apart without it.
        own, amounts = np.unique(code, return_counts=True)
        return Palette.learn(lab_of_bytes(bytes_of_codes(own)), amounts.astype(np.float64), k, algorithm)
    return Palette.learn(*counts.colors(), k, algorithm)


def reduce_palette(palette: Palette, shares: F64, k: int) -> list[Swatch]:
    """Sum a palette up in at most k colours, with their shares, largest first.

    `shares` (len(palette),) float64 are the amounts of the palette's colours; those with none do not count.
    """
    used = np.flatnonzero(shares > 0)
    few = Palette.learn(palette.lab[used], shares[used], k)
    _, label = nearest(palette.lab[used], few.lab)
    total = np.bincount(label, weights=shares[used], minlength=len(few)) / shares.sum()
    return [Swatch(few.srgb[i], float(total[i])) for i in np.argsort(-total, kind="stable")]
