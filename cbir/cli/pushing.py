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
    below: Annotated[
        list[str] | None,
        typer.Option(
            "--below",
            metavar="FOLDER",
            help="Only photos below FOLDER, beside what else is there; can be given more than once. Example: "
            "cbir push photos faiss:stores/photos --below photos/2024",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="In place of all that is there (below FOLDER), also of what came from other indexes. Example: "
            "cbir push photos faiss:stores/photos --replace",
        ),
    ] = False,
) -> None:
    """Copy an index into a store, or bring it up to date there: only what has changed is sent.

    cbir search --store TARGET then needs nothing but the address: palette, metric and descriptors are there, too.
    What is no longer in the index is taken out. Indexes of one palette (cbir index --palette) fill one store in parts,
    each with --below.
    Passwords are best kept out of the address: PostgreSQL takes them from ~/.pgpass or PGPASSWORD, Milvus a token from
    MILVUS_TOKEN. After an interruption the same command goes on.
    """
    from cbir.cli.places import find_index
    from cbir.cli.shell import INTERRUPTED, tell
    from cbir.cli.show import stage_bar
    from cbir.index import Index
    from cbir.push import push_index

    chosen = parse_metric(metric)
    if below and not all(below):
        raise typer.BadParameter("names no folder", param_hint="--below")
    opened = Index.open(find_index(index))
    if opened.is_unfinished:
        tell(f"{opened.folder}: indexing was interrupted, so photos may be missing; cbir index goes on from there")
    try:
        with stage_bar() as bar:
            report = push_index(
                opened,
                target,
                chosen,
                below=below or (),
                replace_all=replace,
                kind=None if kind is None else kind.value,
                progress=bar,
            )
    except KeyboardInterrupt:
        tell("interrupted; what was sent is in the store, and the same command goes on from there")
        raise SystemExit(INTERRUPTED) from None
    typer.echo(
        f"{report.store}: {report.photos:,} photos, {report.sent:,} sent, {report.deleted:,} deleted "
        f"({report.seconds:.1f} s)"
    )
    if report.decoder:
        tell(f"photos there were decoded by {report.decoder}, these otherwise; distances may differ in the last digits")
