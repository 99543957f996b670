"""The command line: each command is one call of the library. Heavy imports are made inside the commands."""

from __future__ import annotations

from cbir.cli.commands import app

__all__ = ["app"]
