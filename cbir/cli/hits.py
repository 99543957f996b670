"""Printing the hits of searches, one search after the other, as they are found."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from cbir.cli.shell import printable, quoted_path, shown_path
from cbir.cli.show import bars, in_color
from cbir.color import F32
from cbir.histogram import main_colors
from cbir.index import Hit

if TYPE_CHECKING:
    from cbir.explain import Explanation

# How wide a column of shares is: names of colours longer than that are cut, and shares take so many characters.
_NAME, _SHARE = 16, 6


class Answer(NamedTuple):
    """A query as it was given, its hits, and of each why it is as far as it is, if that is asked for."""

    query: str
    hits: list[Hit]
    why: list[Explanation] | None = None


@dataclass(frozen=True)
class Heading:
    """What is told of all searches: what their index is called, the colours of its palette, (k, 3) float32, their
    metric, whether there are many, whether hits tell the photos that they stand for, and which colours are asked for.
    """

    index: str
    lab: F32
    metric: str
    many: bool
    alike: bool
    asked: tuple[str, ...] = ()


def print_hits(format: str, heading: Heading, answers: Iterable[Answer]) -> None:
    """Print hits as table, json, jsonl, csv, paths or paths0, on standard output; nothing if there is no answer."""
    if format == "table":
        _tables(heading, answers)
    elif format == "json":
        _json(heading, answers)
    elif format == "jsonl":
        for answer in answers:
            for record in _records(heading, answer):
                typer.echo(json.dumps(({"query": answer.query} if heading.many else {}) | record))
    elif format == "csv":
        _csv(heading, answers)
    else:
        # Not by typer, which takes escape sequences out of what goes to a pipe: names go as they are.
        end = "\0" if format == "paths0" else "\n"
        for answer in answers:
            sys.stdout.writelines(shown_path(hit.path) + end for hit in answer.hits)


def _record(hit: Hit) -> dict[str, Any]:
    return {"rank": hit.rank, "path": shown_path(hit.path), "distance": hit.distance}


def _records(heading: Heading, answer: Answer) -> Iterator[dict[str, Any]]:
    for i, hit in enumerate(answer.hits):
        record = _record(hit)
        if heading.alike:
            record["alike"] = list(map(shown_path, hit.alike))
        if heading.asked:
            record["asked"] = _asked(heading, hit)
        if answer.why is not None:
            from cbir.cli.explaining import explanation_record

            record["explanation"] = explanation_record(answer.why[i])
        yield record


def _asked(heading: Heading, hit: Hit) -> list[dict[str, Any]]:
    """The colours asked for, with their shares of a photo; some may have one name."""
    return [{"color": name, "share": share} for name, share in zip(heading.asked, hit.asked, strict=True)]


def _json(heading: Heading, answers: Iterable[Answer]) -> None:
    """The object of one search, or a list of those of many, each printed as it comes."""
    before, between, after = ("[\n", ",\n", "\n]") if heading.many else ("", "", "")
    started = False
    for answer in answers:
        value = {
            "query": answer.query,
            "index": heading.index,
            "metric": heading.metric,
            "hits": list(_records(heading, answer)),
        }
        typer.echo((between if started else before) + json.dumps(value, indent=1), nl=False)
        started = True
    if started:
        typer.echo(after)


def _csv(heading: Heading, answers: Iterable[Answer]) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    started = False
    for answer in answers:
        if not started:
            rows.writerow([*(["query"] if heading.many else []), "rank", "path", "distance", *heading.asked])
            started = True
        own = [answer.query] if heading.many else []
        rows.writerows([*own, *_record(hit).values(), *hit.asked] for hit in answer.hits)


def _tables(heading: Heading, answers: Iterable[Answer]) -> None:
    names = [printable(name)[:_NAME] for name in heading.asked]
    widths = [max(len(name), _SHARE) for name in names]
    for number, (query, hits, why) in enumerate(answers):
        if heading.many:
            typer.echo(("\n" if number else "") + quoted_path(query))
        # The path comes last, so that nothing has to be cut to keep the columns straight.
        shares = "".join(f"{name:>{width}}  " for name, width in zip(names, widths, strict=True))
        typer.echo(f"rank  distance  {shares}colours and path")
        colors = bars([main_colors(hit.amounts, heading.lab) for hit in hits])
        for i, (hit, cell) in enumerate(zip(hits, colors, strict=True)):
            alike = f" (+{len(hit.alike):,} alike)" if hit.alike else ""
            shares = "".join(f"{share:{width}.1%}  " for share, width in zip(hit.asked, widths, strict=True))
            line = f"{hit.rank:4}  {hit.distance:8.4f}  {shares}{cell}  {quoted_path(hit.path)}{alike}"
            typer.echo(line, color=in_color())
            if why is not None:
                from cbir.cli.explaining import explanation_lines

                for told in explanation_lines(why[i], in_color()):
                    typer.echo(f"    {told}", color=in_color())
