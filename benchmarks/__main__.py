"""Run the benchmarks that are named, or all: `python -m benchmarks [startup search ...]`; `ALL` lists them."""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.measure import settings

ALL = ("startup", "indexing", "search", "growth", "quantize", "rivals", "tradeoff", "films", "stores", "ranking")


def main(names: list[str]) -> int:
    """Print the tables of the named benchmarks."""
    if unknown := set(names) - set(ALL):
        print(f"there is no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    print(settings())
    for name in names or ALL:
        with tempfile.TemporaryDirectory() as work:
            import_module(f"benchmarks.{name}").run(Path(work))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
