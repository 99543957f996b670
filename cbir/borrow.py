"""What an index takes over from another one, so that the distances of both are those of one index of all photos."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cbir.color import U8
from cbir.errors import REPAIR, IndexFolderError
from cbir.find import absolute
from cbir.manifest import Manifest
from cbir.palette import Palette
from cbir.plan import Old
from cbir.segment import check_content


@dataclass(frozen=True)
class Borrowed:
    """All that a distance depends on, beside the two photos and the metric: the `palette`, `reference`
    (r, blocks * k) uint8, which are the photos that a metric measures from, and the descriptor, which the `manifest` of
    the index in `folder` tells.
    """

    folder: Path
    manifest: Manifest
    palette: Palette
    reference: U8

    @classmethod
    def load(cls, folder: Path, target: Path) -> Borrowed:
        """Read it from an index other than that in `target`, whose photos need not be there, nor be whole.

        Raises IndexFolderError.
        """
        if folder.is_file():
            raise IndexFolderError(
                f"{folder}: is a file; distances depend on more than a palette, so name an index to have them the same"
            )
        if target.exists() and folder.exists() and os.path.samefile(folder, target):
            raise IndexFolderError(f"{folder}: is the index that is to be made; name another one")
        while True:
            manifest = Manifest.load(folder)
            try:
                # It becomes a part of another index, which must not spread damage.
                check_content(folder, manifest.palette)
                return cls(folder, manifest, *manifest.load_palette(folder))
            except FileNotFoundError as error:
                # A writer may have committed since the manifest was read; then there is a new one.
                if Manifest.load(folder) == manifest:
                    raise IndexFolderError(f"{error.filename}: missing; {REPAIR}") from error
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise IndexFolderError(f"{error.filename or folder}: cannot be read ({reason})") from error

    @property
    def palette_of(self) -> str:
        """The absolute folder of the index that the palette was learnt in: this one, or that it was taken from."""
        return self.manifest.palette_of or absolute(self.folder)

    def check_same(self, old: Old, target: Path) -> None:
        """Raise IndexFolderError unless an index has the very same already."""
        if self.manifest.descriptor != old.manifest.descriptor:
            what = f"{old.manifest.descriptor} descriptors, not {self.manifest.descriptor} as"
        elif not (np.array_equal(self.palette.lab, old.palette.lab) and np.array_equal(self.reference, old.reference)):
            what = "another palette than"
        else:
            return
        raise IndexFolderError(
            f"{target}: has {what} {self.folder}; add --rebuild to describe its photos anew, or name another index"
        )
