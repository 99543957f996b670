"""Axes on disk: one file for the axes of some segments, by one metric, beside the segments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cbir import plain
from cbir.axes import LEAF, Axes, Coarse, box_sides
from cbir.errors import REPAIR, IndexFolderError
from cbir.segment import check_array, own_path, save_arrays

# Raised when what is kept, or what it is made by, changes: files of another version are not found any more.
VERSION = 1
# Far larger than any coordinate, and far smaller than what overflows when it is squared.
_LARGEST = 1e9


@dataclass(frozen=True)
class AxesFile:
    """The axes of the photos of some segments' files, one after the other, each with its number of photos."""

    name: str
    segments: tuple[tuple[str, int], ...]
    axes: Axes


def save_axes(folder: Path, key: str, segments: tuple[tuple[str, int], ...], axes: Axes) -> str:
    """Write axes into an index's folder; the file's name, made of the metric's key and its content, is returned."""
    leaves, rows, _ = axes.leading.shape
    value: dict[str, Any] = {
        "segments": [name for name, _ in segments],
        "photos": [photos for _, photos in segments],
        "mean": axes.mean,
        "basis": axes.basis,
        "order": axes.order,
        "leading": axes.leading.reshape(leaves * rows, LEAF),
        "lowest": axes.lowest,
        "highest": axes.highest,
        "error": axes.error,
        "reach": axes.reach,
    }
    for number, stage in enumerate(axes.coarse):
        value |= {f"codes_{number}": stage.codes, f"numbers_{number}": stage.numbers}
        value |= {f"low_{number}": stage.low, f"step_{number}": stage.step}
    return save_arrays(value, folder, f"axes-{key}")


def load_axes(folder: Path, name: str, dimensions: int | None) -> AxesFile:
    """Map a file of axes of a space of so many dimensions; None if that is not known.

    Raises IndexFolderError, naming the file, if it is not one, and FileNotFoundError.
    """
    path = own_path(folder, name)
    value = plain.load(path)
    try:
        segments = _segments(value)
        return AxesFile(name, segments, _axes(value, sum(photos for _, photos in segments), dimensions))
    except (KeyError, TypeError, ValueError) as error:
        raise IndexFolderError(f"{path}: damaged ({error}); {REPAIR}") from error


def _segments(value: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    names, photos = value["segments"], value["photos"]
    if not all(type(name) is str for name in names) or not all(type(n) is int and n >= 0 for n in photos):
        raise ValueError("its segments are not names with numbers")
    return tuple(zip(names, photos, strict=True))


def _axes(value: dict[str, Any], n: int, dimensions: int | None) -> Axes:
    leaves = -(-n // LEAF)
    if not n or len(value["leading"]) % leaves or len(value["leading"]) < 2 * leaves:
        raise ValueError("its leaves do not fit together")
    m = len(value["leading"]) // leaves - 2
    sides = len(box_sides(m))
    check_array(value["mean"], np.float64, (dimensions,))
    check_array(value["basis"], np.float64, (len(value["mean"]), None))
    check_array(value["order"], np.uint32, (n,))
    if not (np.isfinite(value["mean"]).all() and np.isfinite(value["basis"]).all()) or value["order"].max() >= n:
        raise ValueError("its numbers are out of range")
    check_array(value["leading"], np.float32, (leaves * (m + 2), LEAF))
    check_array(value["lowest"], np.float32, (sides, leaves))
    check_array(value["highest"], np.float32, (sides, leaves))
    stages = sum(name.startswith("codes_") for name in value)
    coarse = tuple(_coarse(value, number, n) for number in range(stages))
    if m + sum(stage.codes.shape[1] for stage in coarse) != value["basis"].shape[1]:
        raise ValueError("its axes do not fit together")
    return Axes(
        value["mean"],
        value["basis"],
        value["order"],
        value["leading"].reshape(leaves, m + 2, LEAF),
        value["lowest"],
        value["highest"],
        coarse,
        _number(value["error"], 0),
        _number(value["reach"], 0),
    )


def _coarse(value: dict[str, Any], number: int, n: int) -> Coarse:
    codes, numbers = value[f"codes_{number}"], value[f"numbers_{number}"]
    check_array(codes, np.uint8, (n, None))
    check_array(numbers, np.float32, (n, 4))
    low, step = _number(value[f"low_{number}"]), _number(value[f"step_{number}"], 0)
    if not step:
        raise ValueError("its bytes tell nothing")
    return Coarse(codes, numbers, low, step)


def _number(value: object, least: float = -_LARGEST) -> float:
    if type(value) is not float or not least <= value <= _LARGEST:
        raise ValueError(f"{value!r} is not a number of its kind")
    return value


def tells_of(path: Path, listed: set[str]) -> bool:
    """Whether a file of axes tells of one of some segments, by the names of their files."""
    try:
        names = plain.load(path).get("segments")
    except (IndexFolderError, OSError):
        return False
    return isinstance(names, list) and any(type(name) is str and name in listed for name in names)
