"""Printing the hits of a search."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

import typer

from cbir.cli.shell import quoted_path, shown_path
from cbir.cli.show import bars, in_color
from cbir.histogram import main_colors
from cbir.index import Hit, Index


def print_hits(format: str, query: str, index: Index, metric: str, hits: list[Hit]) -> None:
    """Print hits as table, json, jsonl, csv, paths or paths0, on standard output."""
    if format == "table":
        _table(index, hits)
    elif format == "json":
        value = {"query": query, "index": str(index.folder), "metric": metric, "hits": [_record(hit) for hit in hits]}
        typer.echo(json.dumps(value, indent=1))
    elif format == "jsonl":
        for hit in hits:
            typer.echo(json.dumps(_record(hit)))
    elif format == "csv":
        rows = csv.writer(sys.stdout, lineterminator="\n")
        rows.writerow(["rank", "path", "distance"])
        rows.writerows(_record(hit).values() for hit in hits)
    else:
        # Not by typer, which takes escape sequences out of what goes to a pipe: names go as they are.
        end = "\0" if format == "paths0" else "\n"
        sys.stdout.writelines(shown_path(hit.path) + end for hit in hits)


def _record(hit: Hit) -> dict[str, Any]:
    return {"rank": hit.rank, "path": shown_path(hit.path), "distance": hit.distance}


def _table(index: Index, hits: list[Hit]) -> None:
    # The path comes last, so that nothing has to be cut to keep the columns straight.
    typer.echo("rank  distance  colours and path")
    colors = bars([main_colors(hit.amounts, index.palette.lab) for hit in hits])
    for hit, cell in zip(hits, colors, strict=True):
        typer.echo(f"{hit.rank:4}  {hit.distance:8.4f}  {cell}  {quoted_path(hit.path)}", color=in_color())
