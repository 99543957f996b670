"""The command `cbir`, which is also `python -m cbir`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; Ctrl-C while it is imported ends it in a line, as it does later on."""
    try:
        from cbir.cli import app

        app()
    except KeyboardInterrupt:
        sys.stderr.write("cbir: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
