"""Where indexes are: by name below `indexes/`, or by folder."""

from __future__ import annotations

import os
from pathlib import Path

from cbir.errors import CbirError, IndexFolderError
from cbir.manifest import FILE_NAME

_HOME = Path("indexes")


def is_index(folder: Path) -> bool:
    """Whether a folder holds an index, readable or not."""
    return (folder / FILE_NAME).is_file()


def find_index(name: str | None) -> Path:
    """The folder of an existing index by name or folder; without either, the only index below `indexes/`.

    Raises IndexFolderError that says which there are.
    """
    if name is not None:
        places = [Path(name)] if _is_path(name) else [Path(name), _HOME / name]
        for place in places:
            if is_index(place):
                return place
        raise IndexFolderError(f"{name}: no such index{_which(_known())}")
    known = _known()
    if len(known) == 1:
        return known[0]
    if not known:
        raise IndexFolderError("there is no index below indexes/ here; make one with: cbir index PHOTOS")
    raise IndexFolderError(f"there are several indexes; name one with --index{_which(known)}")


def place_for_index(name: str | None, paths: list[str]) -> Path:
    """The folder that the index of `paths` goes to, by `--index` or after the first path's name."""
    if name is not None:
        return Path(name) if _is_path(name) or is_index(Path(name)) else _HOME / name
    first = Path(os.path.abspath(paths[0]))
    if not first.exists():
        raise CbirError(f"{paths[0]}: no such file or folder")
    place = _HOME / ((first.name if first.is_dir() else first.parent.name) or "photos")
    if is_index(place):
        _refuse_another_collection(place, [os.path.abspath(path) for path in paths])
    return place


def palette_place(name: str) -> Path:
    """The folder of an index by name or folder; or a file of that name, of which it can be said why it will not do."""
    return Path(name) if Path(name).is_file() else find_index(name)


def _refuse_another_collection(place: Path, paths: list[str]) -> None:
    """Two folders may have one name: their photos shall not meet in one index unasked."""
    from cbir.find import is_below
    from cbir.manifest import Manifest

    try:
        roots = sorted({entry.root for entry in Manifest.load(place).segments})
    except IndexFolderError:
        # Nobody can tell what it was of; building it says so, or with --rebuild makes it anew.
        return
    if not any(is_below(path, root) or is_below(root, path) for root in roots for path in paths):
        raise IndexFolderError(f"{place}: is the index of {', '.join(roots)}; name another with --index")


def _is_path(name: str) -> bool:
    return os.sep in name or name in (".", "..") or (os.altsep is not None and os.altsep in name)


def _known() -> list[Path]:
    return sorted(path.parent for path in _HOME.glob(f"*/{FILE_NAME}"))


def _which(known: list[Path]) -> str:
    return f" (there are: {', '.join(path.name for path in known)})" if known else "; make one with: cbir index PHOTOS"
