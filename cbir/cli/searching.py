"""Running searches: of one query or many, and what is told beside their hits."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass

import typer

from cbir.cli.hits import Answer, Heading, print_hits
from cbir.cli.places import find_index
from cbir.cli.shell import SKIPPED, is_terminal, quoted_path, tell
from cbir.cli.show import columns, stage_bar
from cbir.errors import REPAIR, CbirError
from cbir.find import Skipped
from cbir.index import Index
from cbir.metric import Metric
from cbir.prepare import StageProgress
from cbir.scope import Scope
from cbir.search import Stage

# Queries that are answered before their hits are printed, and about how many hits these have at most: enough to keep
# all cores busy, few enough that the first hits come soon, and that any number of queries needs little memory.
_TOGETHER, _HITS_TOGETHER = 256, 1 << 16


@dataclass(frozen=True)
class Asked:
    """What is searched for; `axes` lead, as many as the software chooses unless told, and `jobs` threads search."""

    queries: Sequence[str]
    limit: int
    metric: Metric
    scope: Scope
    rerank: bool
    verify: bool
    stats: bool
    axes: int | None
    jobs: int | None

    @property
    def many(self) -> bool:
        """Whether there is more than one query."""
        return len(self.queries) > 1


def run_search(name: str | None, asked: Asked, format: str, strict: bool) -> None:
    """Print the hits of all queries.

    Raises FileNotFoundError, before any work, for a query that is nowhere, CbirError if none can be read or if hits
    turn out not to be exact, and Exit if `strict` and one cannot be read.
    """
    index = Index.open(find_index(name))
    if index.is_unfinished:
        tell(f"{index.folder}: indexing was interrupted, so photos may be missing; cbir index goes on from there")
    _refuse_missing(index, asked.queries)
    prepare(index, asked.metric, asked.axes)
    skipped: list[Skipped] = []
    inexact: list[str] = []
    heading = Heading(index, str(asked.metric), asked.many, asked.scope.distinct is not None)
    with closing(_answers(index, asked, skipped, inexact)) as answers:
        print_hits(format, heading, answers)
    _tell_what_failed(asked, skipped, inexact)
    if strict and skipped:
        raise typer.Exit(SKIPPED)


def prepare(index: Index, metric: Metric, leading: int | None = None) -> None:
    """Make the axes that a search is fast with, where they are missing, with a bar; see `Index.prepare`."""
    # Where they cannot be kept, one search without them is faster than making them.
    if leading is None and not os.access(index.folder, os.W_OK):
        return
    with stage_bar() as progress:
        index.prepare(metric, leading=leading, progress=progress)


def _refuse_missing(index: Index, queries: Sequence[str]) -> None:
    for query in queries:
        if not os.path.exists(query):
            index.find(query)


def _tell_what_failed(asked: Asked, skipped: Sequence[Skipped], inexact: Sequence[str]) -> None:
    for one in skipped:
        tell(f"skipped {quoted_path(one.path)}: {one.reason}")
    if len(skipped) == len(asked.queries):
        raise CbirError(f"none of these {len(skipped):,} queries can be read")
    if inexact:
        *others, last = inexact
        for line in others:
            tell(line)
        raise CbirError(f"{last}; {REPAIR}")


def _answers(index: Index, asked: Asked, skipped: list[Skipped], inexact: list[str]) -> Generator[Answer]:
    """The queries with their hits; queries that cannot be read, and what is not exact, are told to the lists."""
    # On a terminal many tables themselves tell how far it is, and a bar would get among them.
    with stage_bar() if asked.many and not is_terminal(sys.stdout) else nullcontext() as progress:
        for answer in _many(index, asked, skipped, progress) if asked.many else _single(index, asked):
            yield answer
            if asked.verify:
                _verify(index, asked, answer, inexact, progress)


def _single(index: Index, asked: Asked) -> Iterator[Answer]:
    (query,) = asked.queries
    stages: list[Stage] = []
    hits = index.search(query, asked.limit, asked.metric, scope=asked.scope, rerank=asked.rerank, stages=stages)
    yield Answer(query, hits)
    if asked.stats:
        _print_stages(stages, len(index), len(hits))


def _many(index: Index, asked: Asked, skipped: list[Skipped], progress: StageProgress | None) -> Iterator[Answer]:
    together = max(1, min(_TOGETHER, _HITS_TOGETHER // (asked.scope.offset + asked.limit)))
    for start in range(0, len(asked.queries), together):
        queries = asked.queries[start : start + together]
        if progress:
            progress("queries", start, len(asked.queries))
        unread: list[Skipped] = []
        found = index.search_many(
            queries,
            asked.limit,
            asked.metric,
            scope=asked.scope,
            rerank=asked.rerank,
            jobs=asked.jobs,
            skipped=unread,
        )
        by_path = {one.path: one for one in unread}
        skipped += [by_path[query] for query in queries if query in by_path]
        yield from (Answer(query, hits) for query, hits in zip(queries, found, strict=True) if query not in by_path)


def _verify(index: Index, asked: Asked, answer: Answer, inexact: list[str], progress: StageProgress | None) -> None:
    """Tell that hits are exact, or note that they are not."""
    with stage_bar() if progress is None else nullcontext(progress) as bar:
        verified = index.verify(answer.query, answer.hits, asked.limit, asked.metric, scope=asked.scope, progress=bar)
    whose = f"{quoted_path(answer.query)}: " if asked.many else ""
    if verified.same == verified.of:
        tell(f"{whose}exact: {verified.same:,} of {verified.of:,}")
    else:
        inexact.append(f"{whose}not exact: {verified.same:,} of {verified.of:,}")


def _print_stages(stages: Sequence[Stage], photos: int, hits: int) -> None:
    """What the stages of a search did, as a table on standard error."""
    all_of_it = Stage("total", photos, hits, sum(stage.seconds for stage in stages))
    rows = [
        (stage.name, f"{stage.looked_at:,}", f"{stage.left:,}", f"{1000 * stage.seconds:.2f}")
        for stage in (*stages, all_of_it)
    ]
    for line in columns([("stage", "looked at", "left", "ms"), *rows]):
        typer.echo(line, err=True)
