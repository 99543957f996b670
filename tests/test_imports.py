"""Heavy libraries are imported only where they are used, so that commands start at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cbir.index import Index

HEAVY = ("sklearn", "scipy", "cv2", "PIL", "numpy", "joblib", "rich")


def imported(code: str) -> set[str]:
    """Which of the heavy libraries a fresh Python has imported after running some code."""
    code += f"\nimport sys; print('imported:', *[name for name in {HEAVY} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(output.splitlines()[-1].removeprefix("imported:").split())


def test_importing_the_package_and_asking_for_help_import_none() -> None:
    assert imported("import cbir") == set()
    assert imported("from cbir.cli import app\ntry: app(['search', '--help'])\nexcept SystemExit: pass") == set()


@pytest.mark.parametrize("format", ["table", "json"])
def test_a_search_imports_neither_scikit_learn_nor_scipy(photos: Path, tmp_path: Path, format: str) -> None:
    Index.create(tmp_path / "index", [photos])
    words = f"'search', %r, '--index', {str(tmp_path / 'index')!r}, '--format', {format!r}"
    start = f"from cbir.cli import app\ntry: app([{words}])\nexcept SystemExit as done: assert not done.code"
    known = photos / "things" / "plum.png"
    assert imported(start % str(known)) == {"numpy", "joblib"}
    elsewhere = known.rename(tmp_path / "elsewhere.png")
    assert imported(start % str(elsewhere)) == {"numpy", "joblib", "PIL", "cv2"}
