"""Palettes of one picture against rivals: how redrawn photos look (mean CIEDE2000), their RGB error, and the time."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.Image import Dither, Quantize
from sklearn.cluster import MiniBatchKMeans

from benchmarks.measure import SHARED, seconds, table
from cbir.ciede2000 import ciede2000
from cbir.color import F32, U8, bytes_of_codes, bytes_of_lab, codes, lab_of_bytes
from cbir.decode import read_picture
from cbir.eye import labels_by_eye, labels_by_rgb, learn_palette
from cbir.pixels import Picture

Redraw = Callable[[U8, int], U8]

COLORS = (4, 8, 16, 64, 256)
_SETS = ("cq100", "kodak", "gb82")
_PHOTOS = 12
# OpenCV's k-means visits all points in each pass; of a megapixel and 256 colours that takes minutes.
_OPENCV_POINTS = 20_000
_CHUNK = 1 << 16
# Millions of pixels, and colours, of the table of times.
_TIMED, _TIMED_COLORS = (2, 12), 16


def run(work: Path) -> None:
    """Print the tables."""
    photos = {name: photos_of(SHARED / name, _PHOTOS) for name in _SETS if (SHARED / name).is_dir()}
    if not photos:
        print(f"no photos: {', '.join(str(SHARED / name) for name in _SETS)}")
        return
    print_errors(photos, rivals())
    _print_times(next(iter(photos.values()))[0])


def photos_of(folder: Path, number: int) -> list[U8]:
    """Photos of a folder, in full size, spread evenly over its files by name."""
    paths = sorted(folder.rglob("*.png"))
    chosen = [paths[int(i * len(paths) / number)] for i in range(min(number, len(paths)))]
    return [read_picture(path).pixels for path in chosen]


def print_errors(photos: dict[str, list[U8]], methods: dict[str, Redraw], colors: tuple[int, ...] = COLORS) -> None:
    """Print, for each set of photos, the mean error of each method and number of colours, its time, its RGB error."""
    for name, some in photos.items():
        found: defaultdict[str, list[list[float]]] = defaultdict(list)
        for method, redraw in methods.items():
            for k in colors:
                measured = np.mean([_measured(pixels, redraw, k) for pixels in some], axis=0)
                found[method].append(measured.tolist())
                print(f"{name}, {method}, {k} colours: {measured}", file=sys.stderr, flush=True)
        head = ["method", *(f"{k} colours" for k in colors)]
        size = f"{len(some)} photos of {name}, {some[0].shape[0] * some[0].shape[1] / 1e6:.1f} megapixels each"
        for i, what in enumerate(("mean CIEDE2000", "RGB mean squared error", "seconds a photo")):
            digits = 1 if what.startswith("RGB") else 3
            rows = [(method, *(f"{of_k[i]:.{digits}f}" for of_k in all_k)) for method, all_k in found.items()]
            table(f"{what}, {size}", head, _best_in_bold(rows))


def _measured(pixels: U8, redraw: Redraw, k: int) -> tuple[float, float, float]:
    started = time.perf_counter()
    redrawn = redraw(pixels, k)
    took = time.perf_counter() - started
    squares = float(np.mean((pixels.astype(np.float64) - redrawn) ** 2))
    return eye_error(pixels, redrawn), squares, took


def eye_error(pixels: U8, redrawn: U8) -> float:
    """The mean CIEDE2000 between a picture and its redrawing, as they are shown (8-bit sRGB)."""
    pair = codes(pixels).astype(np.uint64) << 32 | codes(redrawn)
    pairs, counts = np.unique(pair, return_counts=True)
    # The halves of a number of 64 bits: the new colour, then the old.
    lab = lab_of_bytes(bytes_of_codes(pairs.view(np.uint32).reshape(-1, 2))).astype(np.float64)
    parts = range(0, len(lab), _CHUNK)
    difference = np.concatenate([ciede2000(lab[i : i + _CHUNK, 0], lab[i : i + _CHUNK, 1]) for i in parts])
    return float(np.average(difference, weights=counts))


def _best_in_bold(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    best = [min(column, key=float) for column in list(zip(*rows, strict=True))[1:]]
    return [
        (row[0], *(f"**{cell}**" if cell == low else cell for cell, low in zip(row[1:], best, strict=True)))
        for row in rows
    ]


def rivals() -> dict[str, Redraw]:
    """The methods by name, with versions and settings; those that are not installed are left out."""
    pillow = f"Pillow {version('Pillow')}, no dither"
    methods: dict[str, Redraw] = {
        "cbir": by_cbir,
        "cbir, space rgb": _by_cbir_rgb,
        f"{pillow}, median cut (the default)": _pillow(Quantize.MEDIANCUT),
        f"{pillow}, max coverage": _pillow(Quantize.MAXCOVERAGE),
        f"{pillow}, fast octree": _pillow(Quantize.FASTOCTREE),
    }
    try:
        methods[f"libimagequant {version('libimagequant')}, speed 1, no dither"] = _by_libimagequant
    except PackageNotFoundError:
        print("libimagequant is left out; it is measured with: pip install 'cbir[bench]'")
    methods |= {
        f"OpenCV {cv2.__version__}, kmeans of {_OPENCV_POINTS:,} pixels in L\\*a\\*b\\*, best of 3": _by_opencv,
        f"scikit-learn {version('scikit-learn')}, MiniBatchKMeans of all pixels in L\\*a\\*b\\*, best of 3": by_sklearn,
    }
    return methods


def by_cbir(pixels: U8, k: int) -> U8:
    """Our own."""
    palette = learn_palette(Picture(pixels), k)
    return palette.srgb[labels_by_eye(pixels, palette, learnt=True)]


def _by_cbir_rgb(pixels: U8, k: int) -> U8:
    palette = learn_palette(Picture(pixels), k, space="rgb")
    return palette.srgb[labels_by_rgb(pixels, palette)]


def _pillow(method: Quantize) -> Redraw:
    def redraw(pixels: U8, k: int) -> U8:
        drawn = Image.fromarray(pixels).quantize(k, method=method, dither=Dither.NONE)
        return np.asarray(drawn.convert("RGB"))

    return redraw


def _by_libimagequant(pixels: U8, k: int) -> U8:
    import libimagequant

    height, width = pixels.shape[:2]
    settings = libimagequant.Attr()
    settings.max_colors, settings.speed = k, 1
    opaque = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
    image = settings.create_rgba(opaque.tobytes(), width, height, 0)
    result = image.quantize(settings)
    result.dithering_level = 0.0
    labels = np.frombuffer(bytes(result.remap_image(image)), np.uint8).reshape(height, width)
    return np.array([(color.r, color.g, color.b) for color in result.get_palette()], np.uint8)[labels]


def _by_opencv(pixels: U8, k: int) -> U8:
    points = lab_of_bytes(pixels.reshape(-1, 3))
    some = np.random.default_rng(0).choice(len(points), min(len(points), _OPENCV_POINTS), replace=False)
    until = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 30, 0.1)
    cv2.setRNGSeed(0)
    colors = cv2.kmeans(points[some], k, None, until, 3, cv2.KMEANS_PP_CENTERS)[2]
    return _nearest(points, colors).reshape(pixels.shape)


def _nearest(points: F32, colors: F32) -> U8:
    index = cv2.batchDistance(points, colors, cv2.CV_32F, normType=cv2.NORM_L2SQR, K=1)[1]
    return bytes_of_lab(colors)[index[:, 0]]


def by_sklearn(pixels: U8, k: int) -> U8:
    """The classic recipe."""
    points = lab_of_bytes(pixels.reshape(-1, 3))
    clusters = MiniBatchKMeans(k, random_state=0, n_init=3)
    labels = clusters.fit_predict(points)
    return bytes_of_lab(clusters.cluster_centers_)[labels].reshape(pixels.shape)


def _print_times(photo: U8) -> None:
    large = SHARED / "exif_orientation" / "Landscape_1.jpg"
    photo = read_picture(large).pixels if large.is_file() else photo
    head = ("megapixels", "cbir", "classic recipe, once", "times faster", "mean CIEDE2000, cbir", "classic")
    table(
        f"Time of {_TIMED_COLORS} colours, in memory: palette and labels (median of 5)",
        head,
        (_timed(photo, millions) for millions in _TIMED),
    )


def _timed(photo: U8, millions: int) -> tuple[str, ...]:
    factor = (millions * 1e6 / (photo.shape[0] * photo.shape[1])) ** 0.5
    pixels = np.asarray(cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)
    ours = seconds(lambda: by_cbir(pixels, _TIMED_COLORS))
    started = time.perf_counter()
    classic = by_sklearn(pixels, _TIMED_COLORS)
    took = time.perf_counter() - started
    errors = [f"{eye_error(pixels, one):.2f}" for one in (by_cbir(pixels, _TIMED_COLORS), classic)]
    return str(millions), f"{ours:.3f} s", f"{took:.2f} s", f"{took / ours:.0f}", *errors
