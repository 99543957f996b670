"""How well photos are ranked, beside what others use: the tables that `cbir evaluate` prints, on the shared photos."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import SHARED

# Licences under which the pictures of the transforms' benchmark may be passed on, altered.
_FREE = ("CC0 1.0", "CC BY 2.0", "CC BY 3.0", "Public Domain")
# tf_flowers has some of the same photos as tf_flowers_256.
_BASES = ("ferrari", "clothing", "gb82", "cq100", "sklearn", "tf_flowers_256")


def run(work: Path) -> None:
    """Print the tables."""
    for name in ("ferrari", "tf_flowers_256"):
        if (SHARED / name).is_dir():
            print(f"\n## {name}\n")
            _evaluate(work, str(SHARED / name), "--rerank")
    print("\n## Altered copies\n")
    _evaluate(work, str(_bases(work)), "--transforms")


def _evaluate(work: Path, *words: str) -> None:
    command = [sys.executable, "-m", "cbir", "evaluate", *words, "--format", "markdown"]
    print(subprocess.run(command, cwd=work, check=True, stdout=subprocess.PIPE, text=True).stdout, flush=True)


def _bases(work: Path) -> Path:
    """A folder of links to the photos whose licence is free; without the shared ones, the sample set."""
    if not SHARED.is_dir():
        from datasets.sample import gather

        gather(work / "sample")
        return work / "sample"
    with (SHARED / "ATTRIBUTION.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, dialect="excel-tab"):
            path = Path(row["path"])
            if path.parts[0] in _BASES and row["licence"] in _FREE:
                link = work / "free" / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(SHARED / path)
    return work / "free"
