"""The commands, and what each of them does."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cbir import __version__
from cbir.cli.comparing import compare
from cbir.cli.duplicates import duplicates
from cbir.cli.mapping import map_
from cbir.cli.options import ForceOption, IndexArgument, IndexOption, JobsOption, MetricOption, parse_metric
from cbir.cli.pushing import push
from cbir.cli.quantizing import quantize
from cbir.cli.search import EXAMPLE, search
from cbir.cli.shell import (
    BAD_USAGE,
    FAILED,
    INTERRUPTED,
    SKIPPED,
    OneLineErrors,
    printable,
    quoted_path,
    shown_path,
    tell,
)
from cbir.cli.sorting import sort

app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class Algorithm(StrEnum):
    """How a palette is learnt."""

    minibatch = "minibatch"
    kmeans = "kmeans"


class DescriptorName(StrEnum):
    """What is kept of each photo."""

    spatial = "spatial"
    global_ = "global"


class EvaluationFormat(StrEnum):
    """How the figures of an evaluation are printed."""

    table = "table"
    json = "json"
    markdown = "markdown"


class LayoutName(StrEnum):
    """How the labels of photos are told by their paths."""

    folders = "folders"
    hundreds = "hundreds"
    ukbench = "ukbench"
    holidays = "holidays"


class PaletteFormat(StrEnum):
    """How a palette is printed."""

    table = "table"
    json = "json"
    css = "css"
    gpl = "gpl"


class InfoFormat(StrEnum):
    """How the facts about an index are printed."""

    table = "table"
    json = "json"


@app.callback(invoke_without_command=True, epilog="Start with: cbir index ./photos, then: cbir search query.jpg")
def cbir(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and stop.")] = False,
) -> None:
    """Search your own photos by colour, and redraw pictures in a few flat colours."""
    if version:
        typer.echo(f"cbir {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(BAD_USAGE)


@app.command(epilog="Example: cbir index ./photos --colors 256 --jobs 2")
def index(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Folders of photos, or single photos.")],
    index: IndexOption = None,
    colors: Annotated[
        int | None,
        typer.Option("--colors", "-k", min=1, max=1024, help="Colours of the palette; 64 unless the index has others."),
    ] = None,
    jobs: JobsOption = None,
    algorithm: Annotated[
        Algorithm | None,
        typer.Option(help="How the palette is learnt: minibatch (default), or kmeans, which is slower."),
    ] = None,
    descriptor: Annotated[
        DescriptorName | None,
        typer.Option(
            help="What is kept of each photo: spatial (default), which also tells in how busy a place and where a "
            "colour is; or global, the plain histogram alone."
        ),
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(
            "--palette",
            metavar="INDEX",
            help="Describe the photos as this other index does, by its palette, so that distances in both are those "
            "of one index of all. Example: cbir index ./more --palette photos",
        ),
    ] = None,
    max_pixels: Annotated[
        float,
        typer.Option(
            "--max-pixels",
            min=0.01,
            max=1e6,
            metavar="MILLIONS",
            help="Skip pictures of more pixels, before decoding them.",
        ),
    ] = 250,
    max_size: Annotated[
        float, typer.Option("--max-size", min=0.001, max=1e6, metavar="GIB", help="Skip files that are larger.")
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Decode on the workers of this scheduler of Dask, which see the same folders. "
            "Example: --scheduler tcp://host:8786",
        ),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Learn and decode PATH... anew, and then forget the old index, all of it.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if any picture had to be skipped.")] = False,
) -> None:
    """Index the photos below PATH..., or bring an index up to date.

    The first run learns one palette for the whole collection and describes every photo with it. Later runs decode
    only what is new or has changed, recognise what was renamed or moved, and drop what is gone. Once the palette is
    learnt, what is done is kept every few seconds: after Ctrl-C or a crash the next run goes on from there. The index
    goes to indexes/NAME, after the first folder.

    Whether a file is a picture its content decides; of those with several frames the first is taken.
    """
    from cbir.cli.machines import cluster_at
    from cbir.cli.places import palette_place, place_for_index
    from cbir.cli.searching import prepare
    from cbir.cli.show import progress_bar, size
    from cbir.decode import Limits
    from cbir.index import Index
    from cbir.indexing import IndexingInterruptedError, build_index
    from cbir.metric import DEFAULT

    place = place_for_index(index, paths)
    palette_of = None if palette is None else palette_place(palette)
    try:
        with cluster_at(scheduler) as cluster, progress_bar("files") as progress:
            report = build_index(
                place,
                paths,
                colors=colors,
                algorithm=algorithm.value if algorithm else None,
                descriptor=descriptor.value if descriptor else None,
                palette_of=palette_of,
                limits=Limits(round(max_pixels * 1e6), round(max_size * (1 << 30))),
                jobs=jobs,
                rebuild=rebuild,
                progress=progress,
                cluster=cluster,
            )
    except IndexingInterruptedError as error:
        tell(f"{place}: interrupted; {error.photos:,} photos are in it, and the same command goes on from there")
        raise SystemExit(INTERRUPTED) from None
    for one in report.skipped:
        tell(f"skipped {quoted_path(one.path)}: {one.reason}")
    learnt = report.palette
    if len(learnt) < report.colors and report.palette_of is None:
        tell(f"{place}: the photos have too few different colours for {report.colors}; the palette has {len(learnt)}")
    if report.palette_is_outgrown:
        tell(
            f"{place}: the palette was learnt from {report.learnt_photos} of {report.photos} photos; "
            "--rebuild learns it from all"
        )
    made = Index.open(place)
    prepare(made, DEFAULT)
    decoded = report.added + report.changed
    rate = f" ({decoded / report.seconds:,.0f} a second)" if decoded else ""
    typer.echo(f"{printable(str(place))}: {report.photos:,} photos, {size(made.info().bytes)}")
    typer.echo(
        f"{report.added:,} added, {report.changed:,} changed, {report.moved:,} moved, {report.dropped:,} dropped "
        f"in {report.seconds:.1f} s{rate}"
    )
    others = f"; {report.others:,} other files are no pictures" if report.others else ""
    typer.echo(f"{len(report.skipped):,} skipped{others}")
    if report.converted:
        typer.echo(f"{report.converted:,} converted to sRGB from the colours of their profiles")
    errors = f"{learnt.mean_error:.1f} on average, 95 % below {learnt.p95_error:.1f} (Delta E 1976)"
    if report.palette_of is None:
        typer.echo(f"palette of {len(learnt)} colours, colour error {errors}")
    else:
        of = printable(shown_path(report.palette_of))
        typer.echo(f"palette of {of}: {len(learnt)} colours, colour error of its photos {errors}")
    if strict and report.skipped:
        raise typer.Exit(SKIPPED)


app.command(epilog=EXAMPLE)(search)
app.command(epilog="Example: cbir push photos faiss:stores/photos")(push)
app.command("sort", epilog="Example: cbir sort --by rainbow --montage rainbow.png")(sort)
app.command("map", epilog="Example: cbir map -o map.png -o map.html")(map_)
app.command("compare", epilog="Example: cbir compare query.jpg photo.jpg")(compare)
app.command("duplicates", epilog="Example: cbir duplicates --within 0.3")(duplicates)


@app.command(epilog="Example: cbir evaluate ./flowers --curves curves.png --worst worst.png")
def evaluate(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder of labelled photos, or an index of one.")],
    transforms: Annotated[
        bool,
        typer.Option(
            "--transforms", help="Ask with altered copies of the photos, which need no labels, for their originals."
        ),
    ] = False,
    index: Annotated[
        str | None, typer.Option("--index", metavar="NAME|DIR", help="Where the index of PATH is, or goes.")
    ] = None,
    layout: Annotated[
        LayoutName | None, typer.Option(help="How the labels are told by the paths; the one that fits unless told.")
    ] = None,
    metric: MetricOption = "cbir",
    rerank: Annotated[bool, typer.Option("--rerank", help="Evaluate the second pass of search --rerank too.")] = False,
    rivals: Annotated[
        bool, typer.Option("--rivals/--no-rivals", help="Rank the same photos as others do, too.")
    ] = True,
    format: Annotated[EvaluationFormat, typer.Option(help="How to print the figures.")] = EvaluationFormat.table,
    curves: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw precision and recall, as .png or .svg.")
    ] = None,
    worst: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show the worst searches with their hits, as a picture.")
    ] = None,
    force: ForceOption = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the altered copies and of the intervals' bootstrap.")] = 0,
    jobs: JobsOption = None,
) -> None:
    """Measure how well photos are ranked, beside what others use, on photos whose classes are known.

    Every photo asks for the others of its class. A folder is first indexed as by `cbir index`, or its index brought
    up to date. Layouts: folders (a folder for each class), hundreds (0.jpg to 999.jpg, a hundred to a class), ukbench
    (four to a class), holidays. Intervals of 95 % are by bootstrap over the searches. What cannot be measured is
    listed and left out.
    """
    from cbir.cli.evaluation import Pictures, run_altered, run_labelled

    chosen = parse_metric(metric)
    if transforms:
        for option, given in {"--layout": layout, "--rerank": rerank, "--curves": curves, "--worst": worst}.items():
            if given:
                raise typer.BadParameter("is of no use with --transforms, which needs no labels", param_hint=option)
        run_altered(path, index, chosen, rivals, format.value, seed, jobs)
        return
    pictures = Pictures(curves, worst, force)
    named = layout.value if layout else None
    run_labelled(path, index, named, chosen, rerank, rivals, format.value, pictures, seed, jobs)


app.command(epilog="Example: cbir quantize photo.jpg --style darkly -o darkly.png")(quantize)


@app.command(epilog="Example: cbir palette photo.jpg -k 5 -o photo.gpl -o photo.png")
def palette(
    input: Annotated[str, typer.Argument(metavar="INPUT|INDEX", help="A picture file, a palette file, or an index.")],
    k: Annotated[int, typer.Option("--colors", "-k", min=1, max=256, help="At most how many colours.")] = 8,
    format: Annotated[PaletteFormat, typer.Option(help="How to print them.")] = PaletteFormat.table,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write a file too: a strip (.png), .json, .css, .gpl (GIMP) or .ase (Adobe)."
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """The main colours of a picture or of a whole index, with their shares."""
    from cbir.cli.colors import check_palette_output, print_palette, save_palette, swatches_of

    for target in output or []:
        check_palette_output(target, force)
    name, swatches = swatches_of(input, k)
    for target in output or []:
        save_palette(target, swatches, name, force)
        tell(f"wrote {target}")
    print_palette(format.value, swatches, name)


@app.command(epilog="Example: cbir info photos")
def info(
    index: IndexArgument = None,
    format: Annotated[InfoFormat, typer.Option(help="How to print it.")] = InfoFormat.table,
) -> None:
    """What is in an index: photos, colours, palette error, metric, size, when, format version."""
    import json
    from dataclasses import asdict

    from cbir.cli.places import find_index
    from cbir.cli.show import size
    from cbir.index import Index

    facts = Index.open(find_index(index)).info()
    if format is InfoFormat.json:
        typer.echo(json.dumps(asdict(facts), indent=1))
        return
    rows = {
        "index": facts.folder,
        "photos": f"{facts.photos:,}, and {facts.unread:,} files that could not be read as a picture",
        "profiles": f"{facts.converted:,} photos were converted to sRGB from the colours of their profiles",
        "from": ", ".join(shown_path(root) for root in facts.roots),
        "descriptor": facts.descriptor,
        "colours": f"{facts.colors}, learnt from {facts.learnt_photos:,} photos by {facts.algorithm}"
        + (f" in {shown_path(facts.palette_of)}" if facts.palette_of else ""),
        "colour error": f"{facts.mean_error:.2f} on average, 95 % below {facts.p95_error:.2f} (Delta E 1976)",
        "metric": f"{facts.metric} unless search is told another",
        "size": f"{size(facts.bytes)}, {facts.bytes / max(1, facts.photos):,.0f} bytes a photo",
        "committed": facts.committed + (", in the middle of a run; cbir index goes on" if facts.unfinished else ""),
        "format": f"version {facts.format_version}, decoded by {facts.decoder}",
    }
    for label, value in rows.items():
        typer.echo(f"{label:13}{printable(value)}")


@app.command(epilog="Example: cbir check photos --repair")
def check(
    index: IndexArgument = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop what is damaged from the index; cbir index brings it back.")
    ] = False,
) -> None:
    """Verify all of an index: that every file is as it was written, and that no photo is in it twice.

    It is read as a whole and prints a line for each problem. Exits with 1 if there is one that is not repaired.
    """
    from cbir.check import check_index
    from cbir.cli.places import find_index
    from cbir.cli.show import stage_bar
    from cbir.errors import REBUILD

    place = find_index(index)
    with stage_bar() as progress:
        report = check_index(place, repair=repair, progress=progress)
    for problem in report.problems:
        typer.echo(printable(problem))
    if not report.problems:
        typer.echo(f"{printable(str(place))}: {report.photos:,} photos in {report.files} files, all as written")
    elif not report.mendable:
        typer.echo(f"this cannot be repaired; {REBUILD}")
    elif not repair:
        typer.echo(printable(f"this can be repaired with: cbir check {place} --repair"))
    elif report.lost_photos:
        typer.echo(f"repaired; {report.lost_photos:,} photos were dropped, and cbir index PHOTOS brings them back")
    else:
        typer.echo("repaired; no photo was lost")
    if report.leftovers and report.mendable:
        done = "were removed" if repair else "do no harm; --repair removes them"
        typer.echo(f"{len(report.leftovers):,} files that runs which ended early have left {done}")
    if report.problems and not report.repaired:
        raise typer.Exit(FAILED)
