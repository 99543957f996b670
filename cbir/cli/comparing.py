"""`cbir compare`: two photos, folders or indexes side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cbir.cli.chosen import opened
from cbir.cli.options import IndexOption, JobsOption
from cbir.cli.shell import printable, quoted_path, tell

if TYPE_CHECKING:
    from cbir.compare import Comparison, Source
    from cbir.histogram import Swatch
    from cbir.index import Index


class CompareFormat(StrEnum):
    """How a comparison is printed."""

    table = "table"
    json = "json"


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A photo, a folder of photos, or an index.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    index: IndexOption = None,
    format: Annotated[
        CompareFormat, typer.Option(help="How to print it. Example: --format json")
    ] = CompareFormat.table,
    jobs: JobsOption = None,
) -> None:
    """Compare the colours of two photos, folders or indexes.

    Tells their distance, the main colours of both with the share that each has of them, and the colours of each of
    which the other has next to nothing. The distance is over the palette of the index, if one is named or there is but
    one; else a palette is learnt from the two alone.

    JSON is an object with a, b, distance, metric, palette (index or learnt), index, colors, a list of {color, a, b},
    only_a and only_b.
    """
    _run_compare(first, second, index, format, jobs)


def _run_compare(first: str, second: str, name: str | None, format: CompareFormat, jobs: int | None) -> None:
    from cbir.cli.show import stage_bar
    from cbir.compare import compare

    by = _index_of_both(name)
    sources = [_source(one, by) for one in (first, second)]
    if sources[0].files == sources[1].files:
        raise typer.BadParameter("is the same as A", param_hint="B")
    own = [source.index for source in sources if source.index is not None]
    if by is None and len(own) == 1:
        by = own[0]
    with stage_bar() as progress:
        tell_photos = None if progress is None else lambda done, total: progress("photos", done, total)
        compared = compare(sources[0], sources[1], by, jobs=jobs, progress=tell_photos)
    for one in compared.skipped:
        tell(f"skipped {quoted_path(one.path)}: {one.reason}")
    for source, (decoded, of) in zip(sources, compared.decoded_of, strict=True):
        if decoded < of:
            tell(f"{source.name}: {decoded:,} of {of:,} photos were taken, evenly drawn")
    if format is CompareFormat.json:
        typer.echo(json.dumps(_comparison_record(compared, sources), indent=1))
    else:
        _print_comparison(compared, sources)


def _index_of_both(name: str | None) -> Index | None:
    """The index that is named, or else the only one there is."""
    from cbir.errors import IndexFolderError

    if name is not None:
        return opened(name)
    from cbir.cli.places import find_index

    try:
        place = find_index(None)
    except IndexFolderError:
        return None
    return opened(str(place))


def _source(name: str, by: Index | None) -> Source:
    """What a name means: a folder that is an index, a file or folder, a photo of the index, or an index's name."""
    from cbir.cli.places import find_index, is_index
    from cbir.compare import source_of, source_of_index
    from cbir.errors import CbirError, IndexFolderError

    if os.path.exists(name) and not is_index(Path(name)):
        return source_of(name, by)
    try:
        place = find_index(name)
    except IndexFolderError:
        if by is not None:
            return source_of(name, by)
        raise CbirError(f"{name}: no such file or folder, nor an index of that name") from None
    same = by is not None and place.resolve() == by.folder.resolve()
    return source_of_index(name, by if same and by is not None else opened(str(place)))


def _print_comparison(compared: Comparison, sources: Sequence[Source]) -> None:
    from cbir.cli.show import block, in_color
    from cbir.color import hex_of_bytes
    from cbir.histogram import Swatch

    for letter, source, photos in zip("AB", sources, compared.photos, strict=True):
        number = "" if source.is_photo else f" ({photos:,} photo{'s' if photos != 1 else ''})"
        typer.echo(f"{letter}  {quoted_path(source.name)}{number}")
    typer.echo(f"distance {compared.distance:.4f} ({_how(compared)})")
    typer.echo("\ncolour        A       B")
    for shade in compared.difference.shades:
        sample = block(Swatch(shade.srgb, 1.0), 4) + "  " if in_color() else ""
        shares = f"{shade.first:7.1%} {shade.second:7.1%}"
        typer.echo(f"{sample}{hex_of_bytes(shade.srgb)} {shares}", color=in_color())
    for letter, only in zip("AB", (compared.difference.only_first, compared.difference.only_second), strict=True):
        listed = "  ".join(f"{_sample(one)}{hex_of_bytes(one.srgb)} {one.share:.1%}" for one in only)
        typer.echo(f"only {letter}: {listed or 'nothing'}", color=in_color())


def _sample(swatch: Swatch) -> str:
    from cbir.cli.show import block, in_color

    return block(swatch, 2) + " " if in_color() else ""


def _how(compared: Comparison) -> str:
    if compared.by is None:
        return (
            f"{compared.metric}, over {len(compared.palette)} colours learnt from the two, so not to be held against "
            "distances of an index"
        )
    return f"{compared.metric}, over the palette of {printable(str(compared.by.folder))}"


def _comparison_record(compared: Comparison, sources: Sequence[Source]) -> dict[str, Any]:
    from cbir.color import hex_of_bytes
    from cbir.histogram import main_colors

    def listed(swatches: Sequence[Swatch]) -> list[dict[str, Any]]:
        return [{"color": hex_of_bytes(one.srgb), "share": one.share} for one in swatches]

    sides = [
        {"name": source.name, "photos": photos, "colors": listed(main_colors(amounts, compared.palette.lab))}
        for source, photos, amounts in zip(sources, compared.photos, compared.amounts, strict=True)
    ]
    return {
        "a": sides[0],
        "b": sides[1],
        "distance": compared.distance,
        "metric": str(compared.metric),
        "palette": "learnt" if compared.by is None else "index",
        "index": None if compared.by is None else str(compared.by.folder),
        "colors": [
            {"color": hex_of_bytes(one.srgb), "a": one.first, "b": one.second} for one in compared.difference.shades
        ],
        "only_a": listed(compared.difference.only_first),
        "only_b": listed(compared.difference.only_second),
    }
