"""`python -m cbir` is the command `cbir`."""

from cbir.cli import app

app()
