"""Quantizing: a picture redrawn in a few flat colours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cbir.color import F64, U8, bytes_of_codes, codes
from cbir.decode import read_exif, read_picture
from cbir.dither import Dither, dithered
from cbir.errors import OutputError, PaletteError, PictureError
from cbir.eye import Space, labels_by_eye, labels_by_rgb, learn_palette
from cbir.histogram import Swatch, count_labels
from cbir.output import check_output, check_picture_output, save_file, save_indexed, save_pixels
from cbir.palette import U16, Palette, nearest
from cbir.pixels import Picture
from cbir.styles import STYLES, Style, StyleName, prepared, redraw
from cbir.svg import svg_of

# A palette image has one byte for each pixel.
MAX_COLORS = 256
_HALF_OPAQUE = 128
_SVG = ".svg"
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
        # Several times as fast as rows of three bytes are.
        return bytes_of_codes(codes(self.colors).take(self.labels, mode="wrap"))

    @property
    def swatches(self) -> list[Swatch]:
        """The colours with their shares of the visible area, largest first."""
        weights = None if self.visible is None else np.where(self.visible, np.uint8(255), np.uint8(0))
        shares = count_labels(self.labels, len(self.colors), weights)
        return [Swatch(self.colors[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")]


def quantize(
    picture: Picture,
    k: int | None = None,
    *,
    style: StyleName | Style = "flat",
    palette: Palette | None = None,
    space: Space = "eye",
    keep_accents: bool = False,
    dither: Dither = "none",
) -> Quantized:
    """Redraw a picture in at most k (1 to 256) colours of its own, or in those of a given palette.

    k is the style's own number unless told, ink for lines included. In the style "flat" each pixel gets the nearest
    colour, by CIEDE2000 (`space` "eye") or in the sRGB levels ("rgb"), or is dithered; others are described in
    `cbir.styles`. `keep_accents` keeps small colours that stand out. A picture that has no more than k colours keeps
    them to the bit in "flat", so quantizing twice changes nothing. What is less than half opaque becomes transparent.
    Raises PaletteError for another k, for dithering in another style than "flat", and for a picture of which nothing is
    visible.
    """
    drawn_in = STYLES[style] if isinstance(style, str) else style
    visible = None if picture.alpha is None else picture.alpha >= _HALF_OPAQUE
    if visible is not None and not visible.any():
        raise PaletteError(_NOTHING_VISIBLE)
    if dither != "none" and drawn_in.name != "flat":
        raise PaletteError(f"dithering breaks up what the style {drawn_in.name} makes flat; use one of the two")
    k = drawn_in.colors if k is None else k
    # Transparency takes one of a palette image's 256 entries.
    most = k if visible is None else min(k, MAX_COLORS - 1)
    if drawn_in.name == "flat":
        learnt = palette is None
        palette = palette or learn_palette(picture, most, space=space, keep_accents=keep_accents)
        # The nearest of the colours as they are written, not of those before rounding to 8 bits.
        palette = Palette.of_bytes(palette.srgb)
        if dither != "none":
            labels = dithered(picture.pixels, palette, dither)
        elif space == "rgb":
            labels = labels_by_rgb(picture.pixels, palette)
        else:
            labels = labels_by_eye(picture.pixels, palette, learnt=learnt)
        return _used(palette.srgb, labels, visible)
    if palette is None:
        palette = drawn_in.own_palette(most)
    if palette is None:
        smooth = Picture(prepared(picture.pixels, drawn_in), picture.alpha)
        palette = learn_palette(smooth, drawn_in.palette_size(most), space=space, keep_accents=keep_accents)
    drawn = redraw(picture.pixels, palette, drawn_in)
    return _used(drawn.colors, drawn.labels, visible)


def _used(colors: U8, labels: U16, visible: NDArray[np.bool_] | None) -> Quantized:
    """With those colours alone that some visible pixel has."""
    import cv2

    # Of OpenCV, whose counting is several times as fast as numpy's.
    mask = None if visible is None else visible.view(np.uint8)
    used = np.flatnonzero(cv2.calcHist([labels], [0], mask, [len(colors)], [0, len(colors)]))
    if len(used) == len(colors):
        return Quantized(colors, labels, visible)
    renumbered = np.zeros(len(colors), np.uint16)
    renumbered[used] = np.arange(len(used))
    return Quantized(colors[used], renumbered.take(labels, mode="wrap"), visible)


def quantize_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    k: int | None = None,
    *,
    style: StyleName | Style = "flat",
    palette: Palette | None = None,
    space: Space = "eye",
    keep_accents: bool = False,
    dither: Dither = "none",
    side_by_side: bool = False,
    force: bool = False,
) -> Quantized:
    """Redraw a picture file in flat colours, see `quantize`, and write it.

    As a palette image where the target's format has them, or traced as shapes, if it is .svg. The colours are sRGB and
    the picture upright; of its Exif all is kept that still holds. `side_by_side` puts the original to the left. An
    existing target is refused unless `force`. Raises PictureError, PaletteError, OutputError, or CbirError where SVG
    cannot be made; then nothing is written.
    """
    check_quantize_output(Path(target), side_by_side, force)
    picture = read_visible_picture(source)
    drawn = quantize(picture, k, style=style, palette=palette, space=space, keep_accents=keep_accents, dither=dither)
    if Path(target).suffix.lower() == _SVG:
        save_file(Path(target), svg_of(drawn.colors, drawn.labels, drawn.visible), force)
        return drawn
    exif = read_exif(source)
    if not side_by_side:
        save_indexed(Path(target), drawn.colors, drawn.labels, drawn.visible, force, exif)
        return drawn
    alpha = None
    if picture.alpha is not None and drawn.visible is not None:
        alpha = np.concatenate([picture.alpha, np.where(drawn.visible, np.uint8(255), np.uint8(0))], axis=1)
    save_pixels(Path(target), np.concatenate([picture.pixels, drawn.pixels], axis=1), alpha, force, exif)
    return drawn


def check_quantize_output(target: Path, side_by_side: bool, force: bool) -> None:
    """Refuse, before any work, a picture that cannot be written. Raises OutputError."""
    if target.suffix.lower() != _SVG:
        check_picture_output(target, force)
        return
    if side_by_side:
        raise OutputError(
            f"{target}: shapes are not put beside a photo; write another format, or leave out side by side"
        )
    check_output(target, force)


def read_visible_picture(path: str | os.PathLike[str]) -> Picture:
    """Decode a picture file in full size. Raises PictureError, also if nothing of it is at least half opaque."""
    picture = read_picture(path)
    if picture.alpha is not None and picture.alpha.max() < _HALF_OPAQUE:
        raise PictureError(os.fspath(path), _NOTHING_VISIBLE)
    return picture


def reduce_palette(palette: Palette, shares: F64, k: int) -> list[Swatch]:
    """Sum a palette up in at most k colours, with their shares, largest first.

    `shares` (len(palette),) float64 are the amounts of the palette's colours; those with none do not count.
    """
    used = np.flatnonzero(shares > 0)
    few = Palette.learn(palette.lab[used], shares[used], k)
    _, label = nearest(palette.lab[used], few.lab)
    total = np.bincount(label, weights=shares[used], minlength=len(few)) / shares.sum()
    return [Swatch(few.srgb[i], float(total[i])) for i in np.argsort(-total, kind="stable")]
