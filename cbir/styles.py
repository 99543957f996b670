"""Styles in which a picture is redrawn: what is smoothed away, where ink runs, and which flat areas are too small.

Each style is the same few steps with other settings, and a film takes them one by one for each frame: `prepared`,
which is `smoothed`, then `stepped` (the palette is learnt from it), `Palette.labels`, `tidied`, and `lines` over it
all. `redraw` does them all for one picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from cbir.color import F32, U8, bytes_of_lab
from cbir.errors import PaletteError
from cbir.palette import U16, Palette

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]
_Image = TypeVar("_Image", U8, F32)
StyleName = Literal["flat", "darkly", "poster", "ink"]

# Lengths are told in pixels of a picture whose shorter side has so many; they grow and shrink with the picture.
UNIT_SIDE = 720
HEAVIEST_LINE, LARGEST_SPECK, MOST_LEVELS = 4.0, 10_000.0, 32
# Black as ink is, not as a screen that is off.
INK = np.array([18, 16, 20], np.uint8)
INK.flags.writeable = False

# A picture is smoothed at these shorter sides, coarse to fine: a 5 x 5 bilateral filter (Tomasi, Manduchi 1998) reaches
# far at the coarse ones, where a wide window takes ten times longer. Which differences of levels are smoothed away at
# each, at full strength: most in the fine texture, least where a step is as large as a mouth.
_SIDES, _SIGMAS = (360, 180, 90), (42.0, 27.0, 16.0)
# Once more at the coarse sizes, which costs little; at the finest one it could not be seen.
_WINDOW, _REACH, _PASSES = 5, 2.0, (1, 2, 2)
# Detail that the smaller size lacks comes back if it stands out by more than this, at full strength.
_CORES = (16.0, 8.0, 4.0)
# A median takes out points and hairs that are left, and rounds corners; over 5 x 5 pixels it would take a small
# picture's eyes and mouths with them.
_MEDIAN, _SMALL_MEDIAN, _SMALL_UNIT = 5, 3, 0.85
# From 0, no steps at all, to hard ones at about 10.
_SHARPNESS_OF_STEPS = 1.5

# The two Gaussians' ratio with which their difference is nearest to a Laplacian (Marr, Hildreth 1980).
_RATIO = 1.6
# Width of the narrower for lines of weight 1 in unit pixels, and what is still sampled well, in pixels.
_LINE_SIGMA, _NARROWEST = 1.3, 0.7
# Levels by which a line is darker than its surroundings, after `_DARKS`: where it may run, and where it must somewhere.
_FAINT, _CLEAR = 2.0, 4.0
# Exponent that raises differences among dark levels, which the eye adapts to.
_DARKS = 0.75
# Lines with fewer clear unit pixels, for weight 1, are specks.
_SHORTEST = 16.0
# Lines are averaged along themselves at this shorter side, as far as these steps reach, in its pixels; their direction
# is that of the structure tensor over a Gaussian of this width.
_ALONG_SIDE, _ALONG, _DIRECTION_SIGMA = 360, (1.0, 2.0), 2.0

# XDoG (Winnemoeller, Kyprianidis, Olsen 2012): how much the difference is sharpened, and how steep black meets white.
_SHARPNESS, _STEEPNESS = 18.0, 6.0
# Levels below which all is ink, however even; where it is darker all around, at night, less: so much, and this share of
# the mean level there, which is a Gaussian's of this width at this shorter side.
_BLACK_BELOW, _BLACK_AT_NIGHT, _SHARE_AT_NIGHT = 80.0, 14.0, 0.85
_AROUND_SIDE, _AROUND_SIGMA = 90, 12.0


# Horizontal runs of equal labels in a picture whose specks are merged; a photo of 100 megapixels has about as many.
_MOST_RUNS = 1 << 22


@dataclass(frozen=True)
class Style:
    """How a picture is redrawn, in `steps` that say it in words.

    `strength` 0 (left as it is) to 1: how much is smoothed away. `line` 0 (none) to 4: how heavy lines are, 1 being
    four or five unit pixels at a clear edge; unit pixels are those of a picture whose shorter side has 720. `speck` 0
    to 10,000: the smallest flat area that stays, in unit pixels. `levels` 0 (as many as there are) to 32: the soft
    steps of lightness. `colors`: how many there are unless told, ink among them. Raises PaletteError for values out of
    range.
    """

    name: StyleName
    steps: tuple[str, ...]
    colors: int
    strength: float = 0.0
    line: float = 0.0
    speck: float = 0.0
    levels: int = 0

    def __post_init__(self) -> None:
        for what, value, most in (
            ("strength", self.strength, 1.0),
            ("line weight", self.line, HEAVIEST_LINE),
            ("speck size", self.speck, LARGEST_SPECK),
            ("number of lightness levels", self.levels, MOST_LEVELS),
        ):
            if not 0 <= value <= most:
                raise PaletteError(f"a style's {what} is 0 to {most:,g}, not {value:g}")

    @property
    def is_inked(self) -> bool:
        """Whether lines are drawn over the flat colours, in a colour of their own."""
        return self.line > 0 and self.name != "ink"

    def palette_size(self, k: int) -> int:
        """How many colours the palette has for a picture of k: one less where lines are drawn.

        Raises PaletteError where none would be left.
        """
        if k <= self.is_inked:
            raise PaletteError(f"the style {self.name} needs a colour besides its lines', so 2 at least, not {k}")
        return k - self.is_inked

    def own_palette(self, k: int) -> Palette | None:
        """The palette that this style always has: ink's greys, evenly from black to white; None if it is learnt."""
        if self.name != "ink":
            return None
        lightness = np.linspace(0, 100, self.palette_size(k)) if k > 1 else np.array([100.0])
        return Palette.of_bytes(bytes_of_lab(np.stack([lightness, 0 * lightness, 0 * lightness], axis=1)))


STYLES: dict[StyleName, Style] = {
    style.name: style
    for style in (
        Style("flat", ("each pixel gets the nearest colour",), 8),
        Style(
            "darkly",
            (
                "smooth along edges, not across them",
                "draw lightness towards soft steps",
                "give each pixel the nearest colour",
                "merge small specks into their neighbours",
                "draw ink lines where a difference of Gaussians along the edges is dark",
            ),
            16,
            strength=0.6,
            line=1.0,
            speck=40,
            levels=12,
        ),
        Style(
            "poster",
            (
                "smooth along edges, strongly",
                "draw lightness towards a few soft steps",
                "give each pixel the nearest colour",
                "merge all but bold areas into their neighbours",
            ),
            8,
            strength=0.8,
            speck=400,
            levels=6,
        ),
        Style(
            "ink",
            (
                "smooth along edges",
                "sharpen lightness by a difference of Gaussians along the edges (XDoG)",
                "make black what is darker than a level, white the rest, with a few greys between if told",
                "merge small specks into their neighbours",
            ),
            2,
            strength=0.25,
            line=1.0,
            speck=40,
        ),
    )
}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A redrawn picture: `colors` (n, 3) uint8 sRGB, all used, and `labels` (height, width) uint16 into them."""

    colors: U8
    labels: U16

    @cached_property
    def pixels(self) -> U8:
        """The picture as sRGB pixels, (height, width, 3) uint8."""
        return self.colors.take(self.labels, axis=0)


def redraw(pixels: U8, palette: Palette, style: Style, ink: U8 = INK) -> Drawn:
    """Redraw a picture, (height, width, 3) uint8 sRGB, in the colours of a palette, and ink (3,) where lines are drawn.

    So it has at most one colour more than the palette, which for k colours is one of `style.palette_size(k)`, learnt
    from `prepared`, or `style.own_palette(k)`.
    """
    # The nearest of the colours as they are written, not of those before rounding to 8 bits.
    palette = Palette.of_bytes(palette.srgb)
    labels = tidied(palette.labels(prepared(pixels, style)), style)
    colors = np.concatenate([palette.srgb, ink[None]])
    if style.is_inked:
        # The palette may have ink's colour too.
        first_like_ink = np.flatnonzero((colors == ink).all(axis=1))[0]
        labels[lines(pixels, style)] = first_like_ink
    used = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=len(colors)))
    renumbered = np.zeros(len(colors), np.uint16)
    renumbered[used] = np.arange(len(used))
    return Drawn(colors[used], renumbered.take(labels))


def prepared(pixels: U8, style: Style) -> U8:
    """The picture whose pixels get the nearest palette colours, and of which the palette is learnt; shape kept."""
    smooth = smoothed(pixels, style)
    return _sharpened(smooth, style) if style.name == "ink" else stepped(smooth, style)


def smoothed(pixels: U8, style: Style) -> U8:
    """A picture without its small differences, its edges kept; (height, width, 3) uint8 sRGB.

    Bilateral filters from coarse to fine, and at each size what of its detail is large enough to count is put back: a
    Laplacian pyramid (Burt, Adelson 1983) with coring.
    """
    import cv2

    if style.strength == 0:
        return pixels
    return np.asarray(cv2.medianBlur(_smoothed(pixels, style.strength, 0), _median_side(pixels)), np.uint8)


def _smoothed(pixels: U8, strength: float, level: int) -> U8:
    import cv2

    if level == len(_SIDES):
        return pixels
    small = _fitted(pixels, _SIDES[level])
    smooth = _smoothed(small, strength, level + 1)
    for _ in range(_PASSES[level]):
        # With this border OpenCV's own filter runs, not that of Intel's library, which takes a fifth longer.
        smooth = np.asarray(
            cv2.bilateralFilter(smooth, _WINDOW, strength * _SIGMAS[level], _REACH, borderType=cv2.BORDER_REFLECT),
            np.uint8,
        )
    if small.shape == pixels.shape:
        return smooth
    detail = cv2.addWeighted(pixels, 1, _enlarged(small, pixels), -1, 128)
    detail = cv2.LUT(detail, _cored(strength * _CORES[level]))
    return np.asarray(cv2.addWeighted(_enlarged(smooth, pixels), 1, detail, 1, -128), np.uint8)


@lru_cache(maxsize=64)
def _cored(threshold: float) -> U8:
    """A table for differences + 128: those up to `threshold` become 0, those from twice as much on stay."""
    difference = np.arange(256) - 128.0
    size = np.abs(difference)
    return np.asarray(np.rint(128 + np.sign(difference) * np.clip(2 * (size - threshold), 0, size)), np.uint8)


def stepped(pixels: U8, style: Style) -> U8:
    """A picture whose luma is drawn towards `style.levels` even steps (Winnemoeller, Olsen, Gooch 2006)."""
    import cv2

    if style.levels == 0:
        return pixels
    parts = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(parts, 0), _soft_steps(style.levels)), parts, 0)
    return np.asarray(cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB), np.uint8)


@lru_cache(maxsize=64)
def _soft_steps(levels: int) -> U8:
    """A table for luma, (256,) uint8."""
    position = np.arange(256) / 255 * levels
    between = np.floor(position) + 0.5
    # From one step to the next through tanh, which is flattest where it joins the ones beside it: at the steps.
    soft = between + np.tanh(2 * _SHARPNESS_OF_STEPS * (position - between)) / np.tanh(_SHARPNESS_OF_STEPS) / 2
    return np.asarray(np.rint(soft * 255 / levels), np.uint8)


def lines(pixels: U8, style: Style) -> Mask:
    """Where ink runs, (height, width) bool, on a picture as it came: the dark side of edges, and thin dark things.

    A difference of Gaussians of luma, averaged along the edges (Kang, Lee, Chui 2007), is thresholded with hysteresis
    (Canny 1986). Lines that are too short are left out.
    """
    import cv2

    luma = _luma(pixels)
    if style.line == 0:
        return np.zeros(luma.shape, bool)
    small = _fitted(luma, UNIT_SIDE)
    small = np.asarray(cv2.LUT(cv2.medianBlur(small, _median_side(small)), _lifted_darks()), np.uint8)
    narrow, wide = _blurs(small, style.line)
    darker = _enlarged(_along_edges(wide - narrow, small), luma)
    number, part = cv2.connectedComponents((darker > _FAINT).view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    clear = np.bincount(part[darker > _CLEAR], minlength=number)
    # Part 0 is what is no line; nothing clear is in it.
    kept = clear >= max(1.0, _SHORTEST * style.line * _unit(luma) ** 2)
    return np.asarray(kept.take(np.asarray(part, np.int32)), np.bool_)


@lru_cache(maxsize=1)
def _lifted_darks() -> U8:
    return np.asarray(np.rint(255 * (np.arange(256) / 255) ** _DARKS), np.uint8)


def _sharpened(pixels: U8, style: Style) -> U8:
    """The picture in greys from ink to paper by XDoG, (height, width, 3) uint8."""
    import cv2

    luma = _luma(pixels)
    small = _fitted(luma, UNIT_SIDE)
    narrow, wide = _blurs(small, style.line)
    tone = narrow + _SHARPNESS * _along_edges(narrow - wide, small)
    tone = _enlarged(np.asarray(127.5 + _STEEPNESS * (tone - _black_below(small)), np.float32), luma)
    return np.asarray(cv2.cvtColor(np.clip(tone, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB), np.uint8)


def _black_below(luma: U8) -> F32:
    """The level below which each pixel is ink, relative to how light it is around it; float32 in the shape of luma."""
    import cv2

    around = cv2.GaussianBlur(_fitted(luma, _AROUND_SIDE).astype(np.float32), (0, 0), _AROUND_SIGMA)
    level = np.minimum(_BLACK_AT_NIGHT + _SHARE_AT_NIGHT * around, _BLACK_BELOW)
    return _enlarged(np.asarray(level, np.float32), luma)


def _luma(pixels: U8) -> U8:
    import cv2

    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _blurs(luma: U8, line: float) -> tuple[F32, F32]:
    """Luma blurred by two Gaussians, for lines of this weight."""
    import cv2

    levels = luma.astype(np.float32)
    sigma = max(_NARROWEST, _LINE_SIGMA * line * _unit(luma))
    narrow, wide = (cv2.GaussianBlur(levels, (0, 0), width) for width in (sigma, _RATIO * sigma))
    return np.asarray(narrow, np.float32), np.asarray(wide, np.float32)


def _along_edges(values: F32, luma: U8) -> F32:
    """Values averaged along the edges of luma, so that lines are without gaps and hairs."""
    import cv2

    small = _fitted(values, _ALONG_SIDE)
    across, down = _edge_directions(_fitted(luma, _ALONG_SIDE))
    x, y = _places(*small.shape)
    for step in _ALONG:
        there, back = (
            cv2.remap(
                small,
                cv2.scaleAdd(across, way, x),
                cv2.scaleAdd(down, way, y),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for way in (step, -step)
        )
        small = np.asarray((small + there + back) / 3, np.float32)
    return _enlarged(small, values)


def _edge_directions(luma: U8) -> tuple[F32, F32]:
    """The unit vectors along edges, x and y: the structure tensor's lesser eigenvectors (Brox et al. 2006)."""
    import cv2

    dx, dy = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
    difference = cv2.GaussianBlur(dx * dx - dy * dy, (0, 0), _DIRECTION_SIGMA)
    product = cv2.GaussianBlur(2 * dx * dy, (0, 0), _DIRECTION_SIGMA)
    # Half the angle of (Jxx - Jyy, 2 Jxy) is the gradient's; edges run at a right angle to it.
    angle = cv2.phase(difference, product) / 2
    cosine, sine = cv2.polarToCart(np.ones_like(angle), angle)
    return np.asarray(-sine, np.float32), np.asarray(cosine, np.float32)


@lru_cache(maxsize=4)
def _places(height: int, width: int) -> tuple[F32, F32]:
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x, y


def tidied(labels: U16, style: Style) -> U16:
    """Labels (height, width) of a palette in its order, with smooth outlines and without specks of this style's size.

    The median of labels in a palette's order, that of lightness, is a label from among them.
    """
    import cv2

    if style.speck == 0:
        return labels
    labels = np.asarray(cv2.medianBlur(labels, _median_side(labels)), np.uint16)
    # A picture that is dust all over stays dust: to merge it would take hundreds of bytes for each of its specks.
    if np.count_nonzero(labels[:, 1:] != labels[:, :-1]) > _MOST_RUNS:
        return labels
    return without_specks(labels, style.speck * _unit(labels) ** 2)


def without_specks(labels: U16, smallest: float) -> U16:
    """Labels (height, width) in which no connected area has fewer pixels than `smallest`, unless all is one area.

    In rounds, each area that is too small gets the label of that one of its larger neighbours with which it shares the
    longest border, until none is left; where two are equal, the upper one (then the left one) is the smaller area and
    the better neighbour. Areas connect by their pixels' sides.
    """
    areas, of_run, length = _areas(labels)
    of_first = np.arange(len(areas.size))
    while (areas.size < smallest).any() and len(areas.size) > 1:
        areas, of_area = _merged(areas, areas.size < smallest)
        of_first = of_area[of_first]
    label = areas.label.astype(labels.dtype)
    return np.repeat(label[of_first[of_run]], length).reshape(labels.shape)


@dataclass(frozen=True, eq=False)
class _Areas:
    """The connected areas of equal labels: `label` and `size` (n,), and the `border` of areas `one` and `other` (m,).

    Each border is there both ways, and maybe in several parts.
    """

    label: I64
    size: I64
    one: I64
    other: I64
    border: I64


def _areas(labels: U16) -> tuple[_Areas, I64, I64]:
    """The areas of a picture of labels; for each horizontal run of equal labels its area, and its length."""
    height, width = labels.shape
    starts = np.ones((height, width), bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    first = np.flatnonzero(starts)
    length = np.diff(first, append=labels.size)
    label = labels.reshape(-1)[first].astype(np.int64)
    # Two runs that touch from above do so from where one of them starts to where the next one does, so that all runs
    # but those of the last row, or of the first, start at one of these places.
    above = np.flatnonzero(starts[:-1] | starts[1:])
    touching = np.diff(above, append=labels.size - width)
    upper = np.cumsum(starts.reshape(-1)[above]) - 1
    lower = np.cumsum(starts.reshape(-1)[above + width]) - 1 + np.count_nonzero(starts[0])
    same = label[upper] == label[lower]
    number, of_run = _connected(upper[same], lower[same], len(first))
    beside = np.flatnonzero(first[1:] % width != 0)
    one = np.concatenate([of_run[upper[~same]], of_run[beside]])
    other = np.concatenate([of_run[lower[~same]], of_run[beside + 1]])
    border = np.concatenate([touching[~same], np.ones(len(beside), np.int64)])
    of_area = np.zeros(number, np.int64)
    of_area[of_run] = label
    size = np.bincount(of_run, length, number).astype(np.int64)
    both = np.concatenate([one, other]), np.concatenate([other, one]), np.concatenate([border, border])
    return _Areas(of_area, size, *both), of_run, length


def _merged(areas: _Areas, small: Mask) -> tuple[_Areas, I64]:
    """The areas after each small one went to a larger neighbour, and for each of the areas before, its new one."""
    from scipy.sparse import coo_array

    number = len(areas.size)
    # By size, and equal ones by number, so that no two wait for each other.
    rank = np.empty(number, np.int64)
    rank[np.argsort(areas.size, kind="stable")] = np.arange(number)
    upward = small[areas.one] & (rank[areas.other] > rank[areas.one])
    borders = coo_array(
        (areas.border[upward], (areas.one[upward], areas.other[upward])), shape=(number, number)
    ).tocsr()
    one, other = np.repeat(np.arange(number), np.diff(borders.indptr)), borders.indices
    # The longest border of each first.
    order = np.lexsort((other, -borders.data, one))
    chosen = order[np.flatnonzero(np.diff(one[order], prepend=-1))]
    target = np.arange(number)
    target[one[chosen]] = other[chosen]
    # A small area's neighbour may itself go to a larger one.
    while (target[target] != target).any():
        target = target[target]
    label = areas.label[target]
    same = label[areas.one] == label[areas.other]
    left, of_area = _connected(areas.one[same], areas.other[same], number)
    of_left = np.zeros(left, np.int64)
    of_left[of_area] = label
    size = np.bincount(of_area, areas.size, left).astype(np.int64)
    return _Areas(of_left, size, of_area[areas.one[~same]], of_area[areas.other[~same]], areas.border[~same]), of_area


def _connected(one: NDArray[np.integer], other: NDArray[np.integer], number: int) -> tuple[int, I64]:
    """How many connected parts a graph of so many nodes has, and each node's part."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(number, number))
    parts, part = connected_components(edges, directed=False)
    return int(parts), part.astype(np.int64)


def _unit(image: NDArray[np.generic]) -> float:
    """How many pixels a unit pixel is."""
    return float(min(image.shape[:2]) / UNIT_SIDE)


def _median_side(image: NDArray[np.generic]) -> int:
    return _MEDIAN if _unit(image) >= _SMALL_UNIT else _SMALL_MEDIAN


def _fitted(image: _Image, side: int) -> _Image:
    """An image made so small that its shorter side is at most this."""
    import cv2

    height, width = image.shape[:2]
    factor = side / min(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), image.dtype)


def _enlarged(image: _Image, like: NDArray[np.generic]) -> _Image:
    """An image made as large as another."""
    import cv2

    height, width = like.shape[:2]
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), image.dtype)
