"""The usual layouts of labelled photo sets: what a photo's path says of its label."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from cbir.errors import CbirError
from cbir.find import find_pictures


class LayoutError(CbirError, ValueError):
    """A folder cannot be read as a labelled set; one line that names it and the known layouts."""


@dataclass(frozen=True)
class Layout:
    """One way to tell labels from paths.

    `label` takes a photo's path below the set's folder and gives its label, or None if the path does not fit, which
    `misfit` puts in words. `is_query` tells of a photo that fits whether it is there to be searched with.
    """

    label: Callable[[PurePath], str | None]
    misfit: str
    is_query: Callable[[PurePath], bool] = lambda path: True


def _class_folder(path: PurePath) -> str | None:
    return path.parts[0] if len(path.parts) > 1 else None


def _number_in(name: str, group_size: int) -> Callable[[PurePath], str | None]:
    """The label of photos that lie side by side and are numbered through, `group_size` numbers to a label."""
    pattern = re.compile(name, re.IGNORECASE)

    def label(path: PurePath) -> str | None:
        fits = pattern.fullmatch(path.name) if len(path.parts) == 1 else None
        return str(int(fits[1]) // group_size) if fits else None

    return label


# No path fits two of these, so the names alone can tell which layout a folder has.
LAYOUTS = {
    "folders": Layout(_class_folder, "not inside a class folder"),
    "hundreds": Layout(_number_in(r"(0|[1-9][0-9]{0,2})\.jpg", 100), "not one of 0.jpg to 999.jpg at the top"),
    "ukbench": Layout(_number_in(r"ukbench([0-9]{5})\.jpg", 4), "not ukbench and five digits, .jpg, at the top"),
    "holidays": Layout(
        _number_in(r"([0-9]{6})\.jpg", 100),
        "not six digits, .jpg, at the top",
        is_query=lambda path: path.stem.endswith("00"),
    ),
}


@dataclass(frozen=True)
class LabelledSet:
    """The photos of a folder, sorted absolute paths, their `labels` in the same order, and what is left out and why."""

    layout: str
    photos: list[Path]
    labels: list[str]
    left_out: list[tuple[Path, str]]

    @property
    def queries(self) -> list[int]:
        """Indexes of the photos to search with: in `holidays` the first of every group, else all photos."""
        is_query = LAYOUTS[self.layout].is_query
        return [index for index, photo in enumerate(self.photos) if is_query(photo)]

    @property
    def singletons(self) -> list[str]:
        """Labels of one photo only, which has nothing to be found; in the photos' order."""
        return [label for label, count in Counter(self.labels).items() if count == 1]


def read_layout(folder: str | os.PathLike[str], layout: str | None = None) -> LabelledSet:
    """The photos in `folder` that are named as such, with their labels by `layout`, or by the one that fits.

    A layout fits when it alone labels any photo, labels more than half of them, and tells at least two labels apart;
    a layout that is named is not questioned. Raises LayoutError if none fits, several do, or the name is not known.
    """
    top = Path(os.path.abspath(folder))
    _check_name(top, layout)
    if not top.is_dir():
        raise _error(top, "not a folder")
    found, skipped = find_pictures([top])
    photos = [Path(one.path) for one in found if one.named]
    return label_photos(top, photos, [(Path(one.path), one.reason) for one in skipped], layout)


def label_photos(
    top: Path, photos: Sequence[Path], unseen: Sequence[tuple[Path, str]], layout: str | None = None
) -> LabelledSet:
    """The same of photos below `top` that are known already, of which there need be no files any more.

    `unseen` are files that are left out to begin with, and why.
    """
    _check_name(top, layout)
    photos, unseen = sorted(photos), list(unseen)
    if layout is not None:
        return _label(top, photos, unseen, layout)
    if not photos:
        raise _error(top, "holds no photos")
    return _only_fit(top, [_label(top, photos, unseen, name) for name in LAYOUTS], len(unseen))


def _label(top: Path, photos: list[Path], unseen: list[tuple[Path, str]], layout: str) -> LabelledSet:
    """`unseen` are the files that are no photos to begin with; they are left out by every layout."""
    kind = LAYOUTS[layout]
    labelled, left_out = [], list(unseen)
    for photo in photos:
        label = kind.label(photo.relative_to(top))
        if label is None:
            left_out.append((photo, kind.misfit))
        else:
            labelled.append((photo, label))
    return LabelledSet(layout, [photo for photo, _ in labelled], [label for _, label in labelled], sorted(left_out))


def _only_fit(top: Path, readings: list[LabelledSet], unseen: int) -> LabelledSet:
    """The one of several readings that fits; of the files left out, `unseen` are so whatever the layout."""
    fits = [one for one in readings if one.photos]
    if len(fits) > 1:
        raise _error(top, f"fits more than one layout, {' and '.join(one.layout for one in fits)}")
    if not fits or len(fits[0].photos) <= len(fits[0].left_out) - unseen:
        raise _error(top, "most of its names fit no layout")
    if len(set(fits[0].labels)) == 1:
        # As when the photos lie one folder further down than was said; every ranking would then be perfect.
        raise _error(top, f"as {fits[0].layout} all photos would have one label, {fits[0].labels[0]!r}")
    return fits[0]


def _check_name(top: Path, layout: str | None) -> None:
    if layout is not None and layout not in LAYOUTS:
        raise _error(top, f"there is no layout {layout!r}")


def _error(top: Path, problem: str) -> LayoutError:
    return LayoutError(f"{top}: {problem}; known layouts: {', '.join(LAYOUTS)}")
