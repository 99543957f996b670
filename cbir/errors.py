"""What can go wrong for a user, each said in one line: what, which file, what to do next."""

from __future__ import annotations

# What to do about an index that cannot be read.
REBUILD = "make it again with: cbir index PHOTOS --rebuild"
# What to do about a part of it that is damaged.
REPAIR = "run: cbir check --repair"


# Why a file is no picture at all, which is worth a line only if its name says that it is one.
EMPTY, UNKNOWN_FORMAT = "the file is empty", "not a picture, or of a format that cannot be read"
NOT_PICTURES = (EMPTY, UNKNOWN_FORMAT)


class CbirError(Exception):
    """Base of every error that is the user's to mend; its text is one line for the user."""


class MetricError(CbirError, ValueError):
    """A metric's name, range or matrix cannot be used."""


class NotPositiveSemidefiniteError(MetricError):
    """A similarity matrix would give negative squared distances; see `QuadraticForm`."""

    def __init__(self, smallest: float, largest: float) -> None:
        super().__init__(
            f"this similarity matrix is not positive semi-definite (eigenvalues {smallest:.3g} to {largest:.3g}), "
            "so some squared distances would be negative; use another, or repair=True for the nearest that is"
        )
        self.smallest = smallest


class PaletteError(CbirError, ValueError):
    """A palette cannot be learnt or read."""


class DescriptorError(CbirError, ValueError):
    """There is no such descriptor."""


class PictureError(CbirError, ValueError):
    """A file cannot be read as a picture; `reason` says why, without the file's name.

    `lasting` tells whether it lies in the file, so that trying again is of no use until the file changes.
    """

    def __init__(self, path: str, reason: str, lasting: bool = True) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason, self.lasting = path, reason, lasting

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str, bool]]:
        return type(self), (self.path, self.reason, self.lasting)


class RefusedError(Exception):
    """Why a file is not read, said where its name is not known; see PictureError."""

    def __init__(self, reason: str, lasting: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.lasting = reason, lasting


class NoPicturesError(CbirError):
    """There is nothing to index."""


class IndexFolderError(CbirError):
    """An index is missing, is not one, is damaged, or was written by a newer cbir."""


class OutputError(CbirError, OSError):
    """An output cannot be written, or exists and was not asked to be overwritten."""


class MissingExtraError(CbirError, ImportError):
    """A library is not installed that only some outputs need, and that cbir therefore does not bring along."""
