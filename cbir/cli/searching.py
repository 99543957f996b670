"""Running searches: of one query or many, and what is told beside their hits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import typer

from cbir.cli.asking import Asked
from cbir.cli.hits import Answer, Heading, print_hits
from cbir.cli.places import find_index
from cbir.cli.seen import Seeing
from cbir.cli.shell import SKIPPED, is_terminal, quoted_path, tell
from cbir.cli.show import columns, stage_bar
from cbir.errors import REPAIR, CbirError, PictureError
from cbir.find import Skipped
from cbir.index import Hit, Index
from cbir.metric import Metric
from cbir.prepare import StageProgress
from cbir.scope import Scope
from cbir.search import Stage

if TYPE_CHECKING:
    from cbir.query import Query

T = TypeVar("T")
# Queries that are answered before their hits are printed, and about how many hits these have at most: enough to keep
# all cores busy, few enough that the first hits come soon, and that any number of queries needs little memory.
_TOGETHER, _HITS_TOGETHER = 256, 1 << 16


@dataclass(frozen=True)
class Search:
    """What is searched for; `axes` lead, as many as the software chooses unless told, and `jobs` threads search."""

    questions: Sequence[Asked]
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
        return len(self.questions) > 1

    @property
    def colors(self) -> tuple[str, ...]:
        """The names of the colours that are asked for, in the order in which hits tell their shares."""
        query = self.questions[0].query
        return () if isinstance(query, str) else query.color_names


def run_search(name: str | None, search: Search, seeing: Seeing, format: str, strict: bool) -> None:
    """Print the hits of all queries, and show them in whatever other way is asked for.

    Raises FileNotFoundError, before any work, for a query that is nowhere, CbirError if none can be read or if hits
    turn out not to be exact, and Exit if `strict` and one cannot be read.
    """
    index = Index.open(find_index(name))
    if index.is_unfinished:
        tell(f"{index.folder}: indexing was interrupted, so photos may be missing; cbir index goes on from there")
    _refuse_missing(index, search.questions)
    prepare(index, search.metric, search.axes)
    skipped: list[Skipped] = []
    inexact: list[str] = []
    heading = Heading(
        str(index.folder),
        index.palette.lab,
        str(search.metric),
        search.many,
        search.scope.distinct is not None,
        search.colors,
    )
    kept: list[tuple[Asked, Answer]] = []
    with closing(_answers(index, search, seeing, kept, skipped, inexact)) as answers:
        print_hits(format, heading, answers)
    seeing.show(index, search.metric, search.colors, kept)
    tell_what_failed(search, skipped, inexact)
    if strict and skipped:
        raise typer.Exit(SKIPPED)


def prepare(index: Index, metric: Metric, leading: int | None = None) -> None:
    """Make the axes that a search is fast with, where they are missing, with a bar; see `Index.prepare`."""
    # Where they cannot be kept, one search without them is faster than making them.
    if leading is None and not os.access(index.folder, os.W_OK):
        return
    with stage_bar() as progress:
        index.prepare(metric, leading=leading, progress=progress)


def _refuse_missing(index: Index, questions: Sequence[Asked]) -> None:
    for one in questions:
        if one.picture is not None and not os.path.exists(one.picture):
            index.find(one.picture)


def tell_what_failed(search: Search, skipped: Sequence[Skipped], inexact: Sequence[str]) -> None:
    """List the queries that were skipped, and the hits that are not exact. Raises CbirError if nothing is left."""
    for one in skipped:
        tell(f"skipped {quoted_path(one.path)}: {one.reason}")
    if len(skipped) == len(search.questions):
        raise CbirError(f"none of these {len(skipped):,} queries can be read")
    if inexact:
        *others, last = inexact
        for line in others:
            tell(line)
        raise CbirError(f"{last}; {REPAIR}")


def _answers(
    index: Index,
    search: Search,
    seeing: Seeing,
    kept: list[tuple[Asked, Answer]],
    skipped: list[Skipped],
    inexact: list[str],
) -> Generator[Answer]:
    """The queries with their hits; queries that cannot be read, and what is not exact, are told to the lists.

    Those that are to be shown otherwise too are `kept`.
    """
    # On a terminal many tables themselves tell how far it is, and a bar would get among them.
    with stage_bar() if search.many and not is_terminal(sys.stdout) else nullcontext() as progress:
        for asked, hits in _many(index, search, skipped, progress) if search.many else _single(index, search):
            why = None
            if seeing.explain:
                why = index.explain(asked.query, [hit.path for hit in hits], search.metric)
            answer = Answer(asked.name, hits, why)
            if seeing.is_asked:
                kept.append((asked, answer))
            yield answer
            if search.verify:
                _verify(index, search, asked, hits, inexact, progress)


def _single(index: Index, search: Search) -> Iterator[tuple[Asked, list[Hit]]]:
    (asked,) = search.questions
    stages: list[Stage] = []
    hits = index.search(
        asked.query, search.limit, search.metric, scope=search.scope, rerank=search.rerank, stages=stages
    )
    yield asked, hits
    if search.stats:
        _print_stages(stages, len(index), len(hits))


def _many(
    index: Index, search: Search, skipped: list[Skipped], progress: StageProgress | None
) -> Iterator[tuple[Asked, list[Hit]]]:
    def found(queries: list[str | Query], unread: list[Skipped]) -> list[list[Hit]]:
        return index.search_many(
            queries,
            search.limit,
            search.metric,
            scope=search.scope,
            rerank=search.rerank,
            jobs=search.jobs,
            skipped=unread,
        )

    return answers_of_many(found, search, skipped, progress)


def answers_of_many(
    find: Callable[[list[str | Query], list[Skipped]], Iterable[T]],
    search: Search,
    skipped: list[Skipped],
    progress: StageProgress | None = None,
) -> Iterator[tuple[Asked, T]]:
    """What `find` finds for each of many queries, some together; it tells its list those that cannot be read, and
    something for each query all the same. Raises PictureError for what all of them ask with."""
    together = max(1, min(_TOGETHER, _HITS_TOGETHER // (search.scope.offset + search.limit)))
    for start in range(0, len(search.questions), together):
        questions = search.questions[start : start + together]
        if progress:
            progress("queries", start, len(search.questions))
        unread: list[Skipped] = []
        found = find([one.query for one in questions], unread)
        by_path = {one.path: one for one in unread}
        own = [one for one in questions if one.picture in by_path]
        if len(own) < len(unread):
            # What all of them ask with, such as a painting, which may be one of the queries too.
            pictures = {one.picture for one in own}
            common = min(unread, key=lambda one: (one.path in pictures, one.path))
            raise PictureError(common.path, common.reason)
        skipped += [Skipped(one.given or one.name, by_path[str(one.picture)].reason) for one in own]
        yield from ((one, answer) for one, answer in zip(questions, found, strict=True) if one.picture not in by_path)


def _verify(
    index: Index,
    search: Search,
    asked: Asked,
    hits: Sequence[Hit],
    inexact: list[str],
    progress: StageProgress | None,
) -> None:
    """Tell that hits are exact, or note that they are not."""
    with stage_bar() if progress is None else nullcontext(progress) as bar:
        verified = index.verify(asked.query, hits, search.limit, search.metric, scope=search.scope, progress=bar)
    whose = f"{quoted_path(asked.name)}: " if search.many else ""
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
