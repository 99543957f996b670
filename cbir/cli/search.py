"""`cbir search`: its options, and what they ask for."""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cbir.cli.options import ForceOption, IndexOption, MetricOption, parse_distance, parse_metric

_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
EXAMPLE = "Example: cbir search query.jpg --color teal:30 -n 20 --format paths"


class HitFormat(StrEnum):
    """How hits are printed."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    paths = "paths"
    paths0 = "paths0"


def search(
    context: typer.Context,
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUERY]...",
            help="Picture files, or photos of the index by their paths or the ends of these; - reads a picture from "
            "standard input. Each is a search of its own.",
        ),
    ] = None,
    color: Annotated[
        list[str] | None,
        typer.Option(
            "--color",
            metavar="COLOR[:AMOUNT][~TOLERANCE]",
            help="Photos with so much of a colour, in per cent; what all leave over may be anything. A name, hex, "
            "rgb(), hsl(), lab() or oklch(); a tolerance in Delta E, 12 unless told. Without amounts colours share out "
            "what is left; amounts that make 100 are those of a whole picture. Example: --color teal:60 --color "
            "'#e07b39:10~15'",
        ),
    ] = None,
    accent: Annotated[
        list[str] | None,
        typer.Option(
            "--accent",
            metavar="COLOR[~TOLERANCE]",
            help="Photos in which a colour stands out, however small, and the rarer it is in the collection. Example: "
            "--accent orange",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="COLOR[:AMOUNT][~TOLERANCE]",
            help="Photos with more than so much of a colour, 1 % unless told, are not shown. Example: --without red:2",
        ),
    ] = None,
    tone: Annotated[
        list[str] | None,
        typer.Option(
            "--tone",
            metavar="TONE",
            help="Only photos that are dark, light, muted, vivid, monochrome, warm or cool: mean L* below 35 or above "
            "65; mean chroma below 14; 20 % or more with chroma above 50; 90 % of what has a hue within 25 degrees of "
            "one; 75 % of the chroma from -20 to 100 degrees of hue, or from 150 to 310. Example: --tone dark",
        ),
    ] = None,
    colors_of: Annotated[
        Path | None,
        typer.Option(
            "--palette",
            metavar="FILE",
            help="Photos of the colours of a palette file (gpl, ase, aco, css, json, or hex values in txt), in equal "
            "amounts. Example: --palette brand.ase",
        ),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            "--like",
            metavar="PICTURE[*WEIGHT]",
            help="Photos like several pictures at once. Example: --like a.jpg --like 'b.jpg*2'",
        ),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(
            "--unlike", metavar="PICTURE[*WEIGHT]", help="And away from these. Example: --like a.jpg --unlike c.jpg"
        ),
    ] = None,
    paint: Annotated[
        Path | None,
        typer.Option(
            "--paint",
            metavar="FILE",
            help="Photos with the colours of a picture where this has them: above, in the middle, below, in the "
            "centre, and in the whole. What is transparent does not matter. Example: --paint sunset.png",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            metavar="X,Y,W,H",
            help="Ask with this part of the pictures only, in pixels from the left and from the top. Example: "
            "cbir search a.jpg --region 100,50,400,300",
        ),
    ] = None,
    ignore_background: Annotated[
        bool,
        typer.Option(
            "--ignore-background",
            help="Ask with what is not of the plain colour along the pictures' border. Example: cbir search shoe.jpg "
            "--ignore-background",
        ),
    ] = False,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="KIND=WEIGHT",
            help="How much a kind of part counts: like, color, accent or paint; 1 unless told. Example: --weight "
            "color=2",
        ),
    ] = None,
    index: IndexOption = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            envvar="CBIR_STORE",
            metavar="URL",
            help="Search what cbir push has put into this store, in place of an index; pictures alone are asked with. "
            "Example: --store postgresql://archive@db.example/pictures",
        ),
    ] = None,
    effort: Annotated[
        int | None,
        typer.Option(
            "--effort",
            min=1,
            metavar="N",
            help="How many photos of its graph, or cells, a store looks at, by default as many as its engine thinks "
            "best; more find more. Example: --store faiss:stores/photos --effort 200",
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Have a store compare with all its photos, and go on until the hits are proven exact. Example: "
            "--store faiss:stores/photos --exact",
        ),
    ] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many photos to show. Example: -n 20")] = 10,
    offset: Annotated[
        int, typer.Option("--offset", min=0, metavar="N", help="Leave out the first N photos. Example: --offset 10")
    ] = 0,
    within: Annotated[
        float | None,
        typer.Option(
            "--within",
            metavar="D",
            callback=parse_distance,
            help="Only photos at a distance of D at most. Example: --within 0.8",
        ),
    ] = None,
    below: Annotated[
        list[str] | None,
        typer.Option(
            "--below",
            metavar="FOLDER",
            help="Only photos below FOLDER; can be given more than once. Example: --below photos/2024",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="PATH",
            help="No photos below PATH, or not this one; can be given more than once. Example: --exclude photos/scans",
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            metavar="DATE",
            formats=_DATES,
            help="Only photos whose files were changed then or later, YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS. Example: "
            "--since 2024-05-01",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--until", metavar="DATE", formats=_DATES, help="Only those changed before. Example: --until 2024-06-01"
        ),
    ] = None,
    not_itself: Annotated[
        bool,
        typer.Option(
            "--not-itself", help="Leave out the photos that are asked with. Example: cbir search a.jpg --not-itself"
        ),
    ] = False,
    distinct: Annotated[
        float | None,
        typer.Option(
            "--distinct",
            metavar="D",
            callback=parse_distance,
            help="Put photos together with the nearest one that they are at a distance of D at most from, and show "
            "that; 0.3 does so with copies. Example: --distinct 0.3",
        ),
    ] = None,
    format: Annotated[HitFormat, typer.Option(help="How to print the hits. Example: --format json")] = HitFormat.table,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Tell of each hit which colours went to which, and what each added to the distance; with --html as "
            "a picture. Example: cbir search a.jpg --explain --format json",
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the hits as one page, too. Example: --html hits.html"),
    ] = None,
    montage: Annotated[
        Path | None,
        typer.Option("--montage", metavar="FILE", help="And as a contact sheet. Example: --montage hits.png"),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the photos in the terminal. Example: cbir search a.jpg --preview")
    ] = False,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the photos with the system's viewer. Example: -n 3 --open")
    ] = False,
    copy_to: Annotated[
        Path | None,
        typer.Option("--copy-to", metavar="DIR", help="Copy the hits' files there, numbered. Example: --copy-to teal"),
    ] = None,
    link_to: Annotated[
        Path | None,
        typer.Option("--link-to", metavar="DIR", help="Link to the hits' files there. Example: --link-to teal"),
    ] = None,
    force: ForceOption = False,
    metric: MetricOption = "cbir",
    rerank: Annotated[
        bool,
        typer.Option(
            "--rerank",
            help="Rank the first 1,000 anew by which of them are like one another too. Example: "
            "cbir search a.jpg --rerank",
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare with every photo plainly too, and fail unless that finds the same. Example: "
            "cbir search a.jpg --verify",
        ),
    ] = False,
    stats: Annotated[
        bool,
        typer.Option(
            "--stats",
            help="Tell what each stage of the search did, and how long it took. Example: cbir search a.jpg --stats",
        ),
    ] = False,
    axes: Annotated[
        int | None,
        typer.Option(
            "--axes",
            min=1,
            max=32,
            metavar="N",
            help="Make the index's leading axes anew, N of them; how many are best the software chooses by default. "
            "Example: --axes 16",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Threads for many queries; one per core by default. Example: cbir search a.jpg b.jpg -j 1",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 3 if any query had to be skipped. Example: cbir search a.jpg b.jpg --strict"
        ),
    ] = False,
) -> None:
    """Rank the photos of an index by how much their colours are like those of QUERY, or like what is asked for.

    All options ask together: a photo's distance is the root of the mean of its squared distances by each kind of part
    (pictures, colours, accents, painting), each with its --weight; --without and --tone take photos out. That of
    colours is how much is missing of what is asked for, 0 to 1, of each colour by the root of its amount; a shade at
    the difference d counts as 1 - (d / tolerance)^2.

    JSON is an object with query, index, metric and hits, a list of {rank, path, distance}, with --distinct also alike,
    the paths of those put together with it, with colours also asked, their amounts in the photo, and with --explain
    also explanation, whose numbers sum to the distance; jsonl has a hit a line; paths0 ends each path with a zero byte,
    for xargs -0.

    Of many queries those that cannot be read are listed and skipped. A table follows each query's path, JSON is a list
    of such objects, jsonl and csv also have the query in each line, and paths are all hits one after the other.
    """
    from cbir.cli.asking import Asking
    from cbir.cli.searching import Search, run_search
    from cbir.cli.seen import Seeing
    from cbir.scope import Scope

    chosen = parse_metric(metric)
    if store is not None and _is_given(context, "index"):
        if _is_given(context, "store"):
            raise typer.BadParameter("goes without --index", param_hint="--store")
        # The store of the environment is what is searched unless something else is asked for.
        store = None
    if store is None and (effort is not None or exact):
        raise typer.BadParameter("goes with --store", param_hint="--exact" if exact else "--effort")
    asking = Asking(
        tuple(query or ()),
        tuple(color or ()),
        tuple(accent or ()),
        tuple(without or ()),
        tuple(tone or ()),
        colors_of,
        tuple(like or ()),
        tuple(unlike or ()),
        paint,
        region,
        ignore_background,
        tuple(weight or ()),
    )
    scope = Scope(
        math.inf if within is None else within,
        offset,
        tuple(below or ()),
        tuple(exclude or ()),
        not not_itself,
        distinct,
        _nanoseconds(since, "--since"),
        _nanoseconds(until, "--until"),
    )
    seeing = Seeing(explain, html, montage, preview, open_, copy_to, link_to, force)
    if verify and rerank:
        raise typer.BadParameter("is of no use with --rerank, which ranks otherwise", param_hint="--verify")
    if rerank and not asking.is_of_pictures:
        raise typer.BadParameter("goes by likeness to pictures alone", param_hint="--rerank")
    if stats and len(asking.pictures) > 1:
        raise typer.BadParameter("is of one query", param_hint="--stats")
    seeing.check(len(asking.pictures) > 1, limit)
    with asking.questions() as questions:
        wanted = Search(questions, limit, chosen, scope, rerank, verify, stats, axes, jobs)
        if store is not None:
            from cbir.cli.storing import refuse_in_store, run_store_search

            refuse_in_store(wanted, asking, _is_given(context, "store"))
            own_metric = chosen if _is_given(context, "metric") else None
            run_store_search(store, wanted, own_metric, effort, exact, seeing, format.value, strict)
            return
        run_search(index, wanted, seeing, format.value, strict)


def _is_given(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _nanoseconds(moment: datetime | None, option: str) -> int | None:
    """A moment of this machine's time in nanoseconds since 1970 began."""
    try:
        return None if moment is None else int(moment.timestamp()) * 1_000_000_000
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"{moment} is no time of this calendar's", param_hint=option) from None
