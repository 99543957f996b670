"""Running searches of a store."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing

import typer

from cbir.cli.asking import Asked
from cbir.cli.hits import Answer, Heading, print_hits
from cbir.cli.searching import Search, tell_what_failed
from cbir.cli.seen import Seeing
from cbir.cli.shell import SKIPPED, quoted_path, tell
from cbir.errors import PictureError
from cbir.find import Skipped
from cbir.metric import Metric
from cbir.stored import Answer as Found
from cbir.stored import StoredIndex


def refuse_in_store(search: Search, seeing: Seeing, is_given: bool) -> None:
    """Refuse what only an index in a folder can answer. Raises BadParameter.

    Unless --store `is_given` it is said where the store comes from.
    """
    advice = "" if is_given else " (CBIR_STORE is set; name an index with --index)"
    if not all(isinstance(one.query, str) for one in search.questions):
        raise typer.BadParameter(
            f"is asked with pictures alone; leave colours and other parts out{advice}", param_hint="--store"
        )
    options = {
        "--rerank": search.rerank,
        "--verify": search.verify,
        "--stats": search.stats,
        "--axes": search.axes is not None,
        "--distinct": search.scope.distinct is not None,
        "--explain": seeing.explain,
    }
    for option, is_given in options.items():
        if is_given:
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
            index.store.shown, index.header.palette.lab, str(index.header.metric), search.many, alike=False
        )
        kept: list[tuple[Asked, Answer]] = []

        def answers() -> Generator[Answer]:
            for one in search.questions:
                query = str(one.query)
                try:
                    found = index.search(query, search.limit, metric, scope=search.scope, effort=effort, exact=exact)
                except PictureError as error:
                    skipped.append(Skipped(one.given or one.name, error.reason))
                    continue
                answer = Answer(one.name, found.hits)
                if seeing.is_asked:
                    kept.append((one, answer))
                yield answer
                _tell_proof(found, index, f"{quoted_path(one.name)}: " if search.many else "")

        for one in search.questions:
            # Before any work, as with an index; what is not a file may be in the store.
            if not os.path.exists(str(one.query)):
                index.check_known(str(one.query))
        with closing(answers()) as all_answers:
            print_hits(format, heading, all_answers)
        seeing.show(index, index.header.metric, (), kept)
    tell_what_failed(search, skipped, [])
    if strict and skipped:
        raise typer.Exit(SKIPPED)


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
