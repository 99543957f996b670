"""`cbir push`: an index copied into an engine that others run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cbir.cli.options import MetricOption, parse_metric


class KindName(StrEnum):
    """How an engine finds near photos; the names of `cbir.store.KINDS`."""

    flat = "flat"
    hnsw = "hnsw"
    ivf = "ivf"


def push(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="A name below indexes/, or a folder.")],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            envvar="CBIR_STORE",
            show_envvar=True,
            help="The store: postgresql://HOST/DATABASE, milvus://HOST:PORT, milvus:FILE.db or faiss:FOLDER; #NAME "
            "after it names the collection there, cbir unless told.",
        ),
    ],
    metric: MetricOption = "cbir",
    kind: Annotated[
        KindName | None,
        typer.Option(
            help="How the engine finds photos: flat compares with all, hnsw goes along a graph, ivf looks into cells. "
            "A new store has hnsw unless told. Example: --kind flat",
            show_default=False,
        ),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Take out all that is not in INDEX; else photos of folders that it was not made of stay. Example: "
            "cbir push photos faiss:stores/photos --prune",
        ),
    ] = False,
) -> None:
    """Copy an index into a store, or bring it up to date there: only what has changed is sent.

    cbir search --store TARGET then needs nothing but the address: palette, metric and descriptors are there, too.
    Indexes of one palette (cbir index --palette) go into one store, each in place of what is there of its folders.
    Passwords are best kept out of the address: PostgreSQL takes them from ~/.pgpass or PGPASSWORD, Milvus a token from
    MILVUS_TOKEN. After an interruption the same command goes on.
    """
    from cbir.cli.places import find_index
    from cbir.cli.shell import INTERRUPTED, tell
    from cbir.cli.show import stage_bar
    from cbir.index import Index
    from cbir.push import push_index

    chosen = parse_metric(metric)
    opened = Index.open(find_index(index))
    if opened.is_unfinished:
        tell(f"{opened.folder}: indexing was interrupted, so photos may be missing; cbir index goes on from there")
    try:
        with stage_bar() as bar:
            own = None if kind is None else kind.value
            report = push_index(opened, target, chosen, kind=own, prune=prune, progress=bar)
    except KeyboardInterrupt:
        tell("interrupted; what was sent is in the store, and the same command goes on from there")
        raise SystemExit(INTERRUPTED) from None
    typer.echo(
        f"{report.store}: {report.photos:,} photos, {report.sent:,} sent, {report.deleted:,} deleted "
        f"({report.seconds:.1f} s)"
    )
    if report.others:
        tell(f"{report.others:,} of them are of folders that {index} was not made of; --prune takes these out")
