"""Printing the hits of searches, one search after the other, as they are found."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import typer

from cbir.cli.shell import quoted_path, shown_path
from cbir.cli.show import bars, in_color
from cbir.histogram import main_colors
from cbir.index import Hit, Index


class Answer(NamedTuple):
    """A query as it was given, and its hits."""

    query: str
    hits: list[Hit]


@dataclass(frozen=True)
class Heading:
    """What is told of all searches: their index and metric, whether there are many, and whether hits tell the photos
    that they stand for."""

    index: Index
    metric: str
    many: bool
    alike: bool


def print_hits(format: str, heading: Heading, answers: Iterable[Answer]) -> None:
    """Print hits as table, json, jsonl, csv, paths or paths0, on standard output; nothing if there is no answer."""
    if format == "table":
        _tables(heading, answers)
    elif format == "json":
        _json(heading, answers)
    elif format == "jsonl":
        for query, hits in answers:
            for hit in hits:
                typer.echo(json.dumps(({"query": query} if heading.many else {}) | _record(hit, heading.alike)))
    elif format == "csv":
        _csv(heading, answers)
    else:
        # Not by typer, which takes escape sequences out of what goes to a pipe: names go as they are.
        end = "\0" if format == "paths0" else "\n"
        for _, hits in answers:
            sys.stdout.writelines(shown_path(hit.path) + end for hit in hits)


def _record(hit: Hit, alike: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"rank": hit.rank, "path": shown_path(hit.path), "distance": hit.distance}
    return record | {"alike": list(map(shown_path, hit.alike))} if alike else record


def _json(heading: Heading, answers: Iterable[Answer]) -> None:
    """The object of one search, or a list of those of many, each printed as it comes."""
    before, between, after = ("[\n", ",\n", "\n]") if heading.many else ("", "", "")
    started = False
    for query, hits in answers:
        value = {
            "query": query,
            "index": str(heading.index.folder),
            "metric": heading.metric,
            "hits": [_record(hit, heading.alike) for hit in hits],
        }
        typer.echo((between if started else before) + json.dumps(value, indent=1), nl=False)
        started = True
    if started:
        typer.echo(after)


def _csv(heading: Heading, answers: Iterable[Answer]) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    started = False
    for query, hits in answers:
        if not started:
            rows.writerow([*(["query"] if heading.many else []), "rank", "path", "distance"])
            started = True
        own = [query] if heading.many else []
        rows.writerows([*own, *_record(hit, False).values()] for hit in hits)


def _tables(heading: Heading, answers: Iterable[Answer]) -> None:
    for number, (query, hits) in enumerate(answers):
        if heading.many:
            typer.echo(("\n" if number else "") + quoted_path(query))
        # The path comes last, so that nothing has to be cut to keep the columns straight.
        typer.echo("rank  distance  colours and path")
        colors = bars([main_colors(hit.amounts, heading.index.palette.lab) for hit in hits])
        for hit, cell in zip(hits, colors, strict=True):
            alike = f" (+{len(hit.alike):,} alike)" if hit.alike else ""
            line = f"{hit.rank:4}  {hit.distance:8.4f}  {cell}  {quoted_path(hit.path)}{alike}"
            typer.echo(line, color=in_color())
