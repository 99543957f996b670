"""Quantizing against the classic recipe: MiniBatchKMeans over all pixels in L*a*b*, then predict."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import sklearn.datasets
from sklearn.cluster import MiniBatchKMeans

from benchmarks.measure import SHARED, seconds, table
from cbir.ciede2000 import ciede2000
from cbir.color import bytes_of_lab, lab_of_bytes
from cbir.decode import read_picture
from cbir.pixels import Picture
from cbir.quantize import quantize


def run(work: Path) -> None:
    """Print the table."""
    samples = sklearn.datasets.load_sample_images().images
    rows = [
        _row(name, pixels, k)
        for name, pixels in zip(("china.jpg", "flower.jpg"), samples, strict=True)
        for k in (8, 16, 64)
    ]
    large = SHARED / "exif_orientation" / "Landscape_1.jpg"
    if large.is_file():
        # One row with the classic recipe only, which takes half a minute a run here, and minutes if enlarged.
        pixels = read_picture(large).pixels
        rows.append(_row(large.name, pixels, 16))
        rows.append(_row(large.name, pixels, 256, classic=False))
        rows.append(_row(f"{large.name}, enlarged", _enlarged(pixels, 12e6), 16, classic=False))
    head = ("picture", "megapixels", "colours", "cbir", "classic recipe", "times faster")
    table(
        "Quantizing (median of 5; the classic recipe once, after a run that does not count)",
        (*head, "mean CIEDE2000, cbir", "classic"),
        rows,
    )


def _row(name: str, pixels: np.ndarray, k: int, classic: bool = True) -> tuple[str, ...]:
    ours = seconds(lambda: quantize(Picture(pixels), k).pixels, 5)
    size = f"{pixels.shape[0] * pixels.shape[1] / 1e6:.2f}"
    error = f"{_error(pixels, quantize(Picture(pixels), k).pixels):.2f}"
    if not classic:
        return name, size, str(k), f"{ours:.3f} s", "", "", error, ""
    theirs = seconds(lambda: _classic(pixels, k), 1)
    times = f"{ours:.3f} s", f"{theirs:.3f} s", f"{theirs / ours:.1f}"
    return name, size, str(k), *times, error, f"{_error(pixels, _classic(pixels, k)):.2f}"


def _enlarged(pixels: np.ndarray, area: float) -> np.ndarray:
    scale = (area / (pixels.shape[0] * pixels.shape[1])) ** 0.5
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def _classic(pixels: np.ndarray, k: int) -> np.ndarray:
    points = lab_of_bytes(pixels.reshape(-1, 3))
    clusters = MiniBatchKMeans(k, random_state=0, n_init=3).fit(points)
    return bytes_of_lab(clusters.cluster_centers_)[clusters.predict(points)].reshape(pixels.shape)


def _error(pixels: np.ndarray, redrawn: np.ndarray) -> float:
    """The mean CIEDE2000 between a picture and its redrawing, as they are shown (8-bit sRGB)."""
    return float(ciede2000(lab_of_bytes(pixels.reshape(-1, 3)), lab_of_bytes(redrawn.reshape(-1, 3))).mean())
