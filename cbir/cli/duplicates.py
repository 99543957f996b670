"""`cbir duplicates`: photos that are there twice."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cbir.cli.chosen import SortFormat, opened, write_paths
from cbir.cli.options import IndexOption, JobsOption
from cbir.cli.shell import quoted_path, shown_path, tell

if TYPE_CHECKING:
    from cbir.duplicates import Copy, Duplicates
    from cbir.index import Index


def duplicates(
    index: IndexOption = None,
    within: Annotated[
        float,
        typer.Option(
            "--within",
            metavar="D",
            min=0,
            max=10,
            help="How far apart in colours copies are at most; 0.75 finds more of a quarter the size, or turned upside "
            "down, and takes longer. Example: --within 0.3",
        ),
    ] = 0.5,
    format: Annotated[
        SortFormat,
        typer.Option(help="How to print them; groups of paths end with an empty one. Example: --format json"),
    ] = SortFormat.table,
    jobs: JobsOption = None,
) -> None:
    """Find photos of an index that are copies of one another: scaled, saved again, mirrored or turned.

    Photos of like colours are compared by small pictures of them. Nothing is deleted. The first of each group is the
    photo of the most pixels; of as many, the largest file.

    JSON is an object with index, within, groups, lists of {path, bytes, width, height, distance, difference, way}, the
    last three as compared with the first, and photos, pairs, compared and rejected.
    """
    _run_duplicates(index, within, format, jobs)


def _run_duplicates(name: str | None, within: float, format: SortFormat, jobs: int | None) -> None:
    from cbir.cli.searching import prepare
    from cbir.cli.show import stage_bar
    from cbir.duplicates import MOST_NEAR, find_duplicates
    from cbir.metric import DEFAULT

    index = opened(name)
    prepare(index, DEFAULT)
    with stage_bar() as progress:
        found = find_duplicates(index, within, jobs=jobs, progress=progress)
    for one in found.skipped:
        tell(f"skipped {quoted_path(one.path)}: {one.reason}")
    if found.links:
        tell(f"{found.links:,} paths lead to files that other paths lead to as well, and are no copies")
    if found.crowded:
        tell(
            f"{found.crowded:,} photos have more than {MOST_NEAR} others within {within:g}; the nearest were looked at"
        )
    if format in (SortFormat.paths, SortFormat.paths0):
        for group in found.groups:
            write_paths([copy.path for copy in group], format)
            sys.stdout.write("\0" if format is SortFormat.paths0 else "\n")
    elif format is SortFormat.json:
        typer.echo(json.dumps(_duplicates_record(index, within, found), indent=1))
    else:
        _print_groups(found.groups)
    copies = sum(len(group) - 1 for group in found.groups)
    tell(
        f"{found.photos:,} photos: {found.pairs:,} pairs within {within:g}, {found.compared:,} of them compared by "
        f"their pictures, {found.rejected:,} rejected; {copies:,} copies in {len(found.groups):,} groups"
    )


def _print_groups(groups: Sequence[Sequence[Copy]]) -> None:
    from cbir.cli.show import size

    if not groups:
        return
    typer.echo("      pixels        size  distance  Delta E  path")
    for number, group in enumerate(groups):
        if number:
            typer.echo()
        for i, copy in enumerate(group):
            pixels = "?" if copy.pixels is None else f"{copy.pixels[0]}x{copy.pixels[1]}"
            far = f"{copy.distance:8.4f}  {copy.difference:7.1f}" if i else " " * 17
            way = f" ({copy.way})" if copy.way else ""
            typer.echo(f"{pixels:>12}  {size(copy.bytes):>10}  {far}  {quoted_path(copy.path)}{way}")


def _duplicates_record(index: Index, within: float, found: Duplicates) -> dict[str, Any]:
    groups = [
        [
            {
                "path": shown_path(copy.path),
                "bytes": copy.bytes,
                "width": None if copy.pixels is None else copy.pixels[0],
                "height": None if copy.pixels is None else copy.pixels[1],
                "distance": copy.distance,
                "difference": copy.difference,
                "way": copy.way,
            }
            for copy in group
        ]
        for group in found.groups
    ]
    return {
        "index": str(index.folder),
        "within": within,
        "groups": groups,
        "photos": found.photos,
        "pairs": found.pairs,
        "compared": found.compared,
        "rejected": found.rejected,
    }
