"""Running searches of a store."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from cbir.cli.asking import Asked, Asking
from cbir.cli.hits import Answer, Heading, print_hits
from cbir.cli.searching import Search, answers_of_many, tell_what_failed
from cbir.cli.seen import Seeing
from cbir.cli.shell import SKIPPED, quoted_path, tell
from cbir.find import Skipped
from cbir.metric import Metric
from cbir.stored import Answer as Found
from cbir.stored import StoredIndex

if TYPE_CHECKING:
    from cbir.query import Query


def refuse_in_store(search: Search, asking: Asking, is_given: bool) -> None:
    """Refuse what only an index in a folder can answer. Raises BadParameter.

    Unless --store `is_given` it is said where the store comes from.
    """
    from cbir.stored_asking import not_in_vectors

    (one, *_) = search.questions
    parts = () if isinstance(one.query, str) else not_in_vectors(one.query)
    options = {
        "--palette": "colors" in parts and asking.palette is not None,
        "--color": "colors" in parts,
        "--accent": "accents" in parts,
        "--without": "without" in parts,
        "--tone": "tones" in parts,
        "--paint": "paint" in parts,
        "--verify": search.verify,
        "--stats": search.stats,
        "--axes": search.axes is not None,
        "--distinct": search.scope.distinct is not None,
    }
    advice = "" if is_given else " (CBIR_STORE is set; name an index with --index)"
    for option, is_asked in options.items():
        if is_asked:
            raise typer.BadParameter(f"goes with an index in a folder, not with --store{advice}", param_hint=option)


def run_store_search(
    target: str,
    search: Search,
    metric: Metric | None,
    effort: int | None,
    exact: bool,
    seeing: Seeing,
    format: str,
    strict: bool,
) -> None:
    """Print the hits of all queries of a store, and tell of each whether they are proven. Raises as `run_search`."""
    with StoredIndex.open(target) as index:
        if not index.header.is_complete:
            tell(
                f"{index.store.shown}: a push is under way or was interrupted, so photos may be missing; cbir push "
                "goes on from there"
            )
        skipped: list[Skipped] = []
        heading = Heading(
            index.store.shown,
            index.header.palette.lab,
            str(index.header.metric),
            search.many,
            alike=False,
            asked=search.colors,
        )
        kept: list[tuple[Asked, Answer]] = []

        def answers() -> Generator[Answer]:
            for one, found in _found(index, search, metric, effort, exact, skipped):
                why = index.explain(one.query, [hit.path for hit in found.hits]) if seeing.explain else None
                answer = Answer(one.name, found.hits, why)
                if seeing.is_asked:
                    kept.append((one, answer))
                yield answer
                _tell_proof(found, index, f"{quoted_path(one.name)}: " if search.many else "")

        for one in search.questions:
            # Before any work, as with an index; what is not a file may be in the store.
            if one.picture is not None and not os.path.exists(one.picture):
                index.check_known(one.picture)
        with closing(answers()) as all_answers:
            print_hits(format, heading, all_answers)
        seeing.show(index, index.header.metric, search.colors, kept)
    tell_what_failed(search, skipped, [])
    if strict and skipped:
        raise typer.Exit(SKIPPED)


def _found(
    index: StoredIndex, search: Search, metric: Metric | None, effort: int | None, exact: bool, skipped: list[Skipped]
) -> Iterator[tuple[Asked, Found]]:
    """The queries with what is found for each; of many those that cannot be read are told to `skipped`."""
    if not search.many:
        (one,) = search.questions
        found = index.search(
            one.query,
            search.limit,
            metric,
            scope=search.scope,
            rerank=search.rerank,
            effort=effort,
            exact=exact,
        )
        yield one, found
        return

    def find(queries: list[str | Query], unread: list[Skipped]) -> Iterator[Found | None]:
        return index.search_many(
            queries,
            search.limit,
            metric,
            scope=search.scope,
            rerank=search.rerank,
            effort=effort,
            exact=exact,
            jobs=search.jobs,
            skipped=unread,
        )

    for one, answer in answers_of_many(find, search, skipped):
        assert answer is not None, "what cannot be read is skipped"
        yield one, answer


def _tell_proof(found: Found, index: StoredIndex, whose: str) -> None:
    # During a push nobody knows of how many.
    whole = f" of {found.photos:,}" if index.header.is_complete else ""
    looked = f"{found.looked_at:,}{whole} photos compared"
    if found.is_proven:
        tell(f"{whose}exact, proven{'' if whole else ' among what is there'}: {looked}")
    elif found.bound:
        tell(f"{whose}not proven exact: {looked}, and one beyond them may be as near as {found.bound:.4f}; use --exact")
    else:
        tell(f"{whose}not proven exact: {looked}, as {index.header.kind} told them; --exact has the store compare all")
