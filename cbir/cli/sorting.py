"""`cbir sort`: photos in an order that the eye likes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cbir.cli.chosen import (
    PathsArgument,
    SortFormat,
    amounts_of,
    chosen_rows,
    opened,
    thumbnail_progress,
    vectors_of,
    write_paths,
)
from cbir.cli.options import ForceOption, IndexOption, JobsOption
from cbir.cli.shell import quoted_path, shown_path, tell

if TYPE_CHECKING:
    from cbir.arrange import Rows
    from cbir.color import F64
    from cbir.color_name import NamedColor
    from cbir.index import Index
    from cbir.page import Card
    from cbir.prepare import StageProgress


# Sides of thumbnails on a sheet, of which the largest is taken that the sheet has room for, and on a page.
_SHEET_SIDES, _PAGE_SIDE = (240, 160, 120, 80, 60, 40), 240
# A sheet of so many pixels takes ten seconds to write as PNG; pictures on it have so many of gaps and captions.
_SHEET_PIXELS, _BESIDE = 30_000_000, 48
# Thumbnails of less have no room for a caption.
_CAPTIONED = 120
# So many thumbnails make a page of some 80 MB.
_MOST_ON_PAGE = 5_000


def sort(
    paths: PathsArgument = None,
    index: IndexOption = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="rainbow|lightness|COLOR",
            help="The order; rainbow unless told, or a colour: most first. Example: --by teal",
        ),
    ] = None,
    color: Annotated[
        str | None,
        typer.Option(
            "--color", metavar="COLOR", help="As --by, where a colour is called like an order. Example: --color teal"
        ),
    ] = None,
    format: Annotated[
        SortFormat | None,
        typer.Option(
            help="How to print the photos; a table unless they go to a file or folder. Example: --format paths"
        ),
    ] = None,
    montage: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Show them on a sheet, as a picture. Example: --montage rainbow.png"),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Show them on a page, which links to the photos. Example: --html rainbow.html",
        ),
    ] = None,
    link_to: Annotated[
        Path | None,
        typer.Option(
            "--link-to", metavar="DIR", help="Link to them from DIR, numbered in order. Example: --link-to rainbow"
        ),
    ] = None,
    copy_to: Annotated[
        Path | None,
        typer.Option(
            "--copy-to", metavar="DIR", help="Copy them to DIR, numbered in order. Example: --copy-to rainbow"
        ),
    ] = None,
    force: ForceOption = False,
    jobs: JobsOption = None,
) -> None:
    """Put photos of an index in an order that the eye likes.

    rainbow: each photo beside those whose colours are most like its own, by a short path through their distances from
    the darkest photo on; of at most 20,000 photos. lightness: from light to dark, by mean L*. A colour: photos with
    most of it and its shades first, then those that come near it.

    JSON is an object with index, by and photos, a list of {rank, path}, with lightness or share where that orders them.
    """
    order = _order(by, color)
    if link_to is not None and copy_to is not None:
        raise typer.BadParameter("is of no use with --copy-to; choose one", param_hint="--link-to")
    outputs = _Outputs(montage, page, link_to or copy_to, link_to is not None, force, jobs)
    _run_sort(paths or [], index, order, format, outputs)


class _Order(NamedTuple):
    """By what photos are sorted: "rainbow", "lightness", or a colour."""

    name: str
    color: NamedColor | None = None


class _Sorted(NamedTuple):
    """A photo in its place: its row, and what ordered it, if that is a number of its own."""

    row: int
    value: float | None


@dataclass(frozen=True)
class _Outputs:
    """Where sorted photos go beside standard output."""

    montage: Path | None
    page: Path | None
    folder: Path | None
    links: bool
    force: bool
    jobs: int | None

    @property
    def are_none(self) -> bool:
        """Whether they go nowhere else."""
        return self.montage is None and self.page is None and self.folder is None


def _order(by: str | None, color: str | None) -> _Order:
    from cbir.color_name import ColorError, parse_color

    if by is not None and color is not None:
        raise typer.BadParameter("is of no use with --by; choose one", param_hint="--color")
    if color is None and by in (None, "rainbow", "lightness"):
        return _Order(by or "rainbow")
    text, option = (color, "--color") if color is not None else (by or "", "--by")
    try:
        named = parse_color(text)
    except ColorError as error:
        also = "rainbow, lightness or a colour: " if color is None else ""
        raise typer.BadParameter(f"{also}{error}", param_hint=option) from error
    return _Order(named.name, named)


def _run_sort(
    paths: Sequence[str], name: str | None, order: _Order, format: SortFormat | None, outputs: _Outputs
) -> None:
    from cbir.cli.show import stage_bar

    index = opened(name)
    rows = chosen_rows(index, paths)
    side = _check_outputs(outputs, len(rows))
    with stage_bar() as progress:
        photos = _sorted(index, rows, order, progress)
        listed = [index.path(photo.row) for photo in photos]
        if outputs.montage:
            _save_montage(outputs.montage, listed, side, outputs, progress)
        if outputs.page:
            _save_page(outputs.page, index, order, photos, outputs, progress)
        if outputs.folder:
            _gather(outputs.folder, listed, outputs.links, progress)
    for target in (outputs.montage, outputs.page):
        if target:
            tell(f"wrote {target}")
    if outputs.are_none or format is not None:
        _print_sorted(format or SortFormat.table, index, order, photos)


def _sorted(index: Index, rows: Sequence[int], order: _Order, progress: StageProgress | None) -> list[_Sorted]:
    import numpy as np

    if order.color is not None:
        shares, nearness = _shares(index, rows, order.color)
        places = np.lexsort((nearness, -shares))
        return [_Sorted(rows[i], float(shares[i])) for i in places]
    lightness = np.concatenate([some @ index.palette.lab[:, 0] for some in amounts_of(index, rows)])
    if order.name == "lightness":
        return [_Sorted(rows[i], float(lightness[i])) for i in np.argsort(-lightness, kind="stable")]
    return [_Sorted(rows[i], None) for i in _rainbow(index, rows, int(lightness.argmin()), progress)]


def _rainbow(index: Index, rows: Sequence[int], darkest: int, progress: StageProgress | None) -> Rows:
    from cbir.arrange import MOST, short_path
    from cbir.errors import CbirError

    if len(rows) > MOST:
        raise CbirError(
            f"{len(rows):,} photos are more than the {MOST:,} that can be put in a rainbow; name some of their "
            "folders, or use --by lightness"
        )
    tell_path = None if progress is None else lambda done, total: progress("path", done, total)
    return short_path(vectors_of(index, rows), darkest, tell_path)


def _shares(index: Index, rows: Sequence[int], color: NamedColor) -> tuple[F64, F64]:
    """How much photos have of a colour and its shades, and how far their colours are from it on average."""
    import numpy as np

    from cbir.arrange import shades

    lab = index.palette.lab
    weights, far = shades(lab, color.lab), np.linalg.norm(lab - np.array(color.lab), axis=1)
    both = [((some * weights).sum(axis=1), (some * far).sum(axis=1)) for some in amounts_of(index, rows)]
    return np.concatenate([share for share, _ in both]), np.concatenate([one for _, one in both])


def _print_sorted(format: SortFormat, index: Index, order: _Order, photos: Sequence[_Sorted]) -> None:
    if format in (SortFormat.paths, SortFormat.paths0):
        write_paths([index.path(photo.row) for photo in photos], format)
    elif format is SortFormat.json:
        key = "share" if order.color is not None else "lightness"
        listed: list[dict[str, Any]] = [
            {"rank": rank, "path": shown_path(index.path(row))} | ({} if value is None else {key: value})
            for rank, (row, value) in enumerate(photos, 1)
        ]
        typer.echo(json.dumps({"index": str(index.folder), "by": order.name, "photos": listed}, indent=1))
    else:
        _print_sorted_table(index, order, photos)


def _print_sorted_table(index: Index, order: _Order, photos: Sequence[_Sorted]) -> None:
    from cbir.cli.show import bars, in_color
    from cbir.histogram import main_colors

    head = "" if photos[0].value is None else ("   share  " if order.color is not None else "      L*  ")
    typer.echo(f"rank  {head}colours and path")
    colors = bars([main_colors(index.amounts(photo.row), index.palette.lab) for photo in photos])
    for rank, ((row, value), cell) in enumerate(zip(photos, colors, strict=True), 1):
        number = "" if value is None else (f"{value:8.1%}  " if order.color is not None else f"{value:8.1f}  ")
        typer.echo(f"{rank:4}  {number}{cell}  {quoted_path(index.path(row))}", color=in_color())


def _check_outputs(outputs: _Outputs, number: int) -> int:
    """Refuse, before any work, what cannot be written; the side of the thumbnails on the sheet. Raises OutputError."""
    from cbir.cli.seeing import check_page_output
    from cbir.errors import OutputError
    from cbir.output import check_picture_output

    side = _SHEET_SIDES[0]
    if outputs.montage:
        check_picture_output(outputs.montage, outputs.force)
        side = _sheet_side(number)
    if outputs.page:
        check_page_output(outputs.page, outputs.force)
        if number > _MOST_ON_PAGE:
            raise OutputError(f"{outputs.page}: {number:,} photos are more than the {_MOST_ON_PAGE:,} of a page")
    if outputs.folder and outputs.folder.exists() and not outputs.folder.is_dir():
        raise OutputError(f"{outputs.folder}: is not a folder; name another one")
    return side


def _sheet_side(number: int) -> int:
    """The largest side with which so many thumbnails make a sheet that is soon written, or else the smallest."""
    from cbir.montage import check_sheet

    fitting = [side for side in _SHEET_SIDES if number * (side + _BESIDE) ** 2 <= _SHEET_PIXELS]
    side = fitting[0] if fitting else _SHEET_SIDES[-1]
    check_sheet(number, side=side)
    return side


def _save_montage(
    target: Path, paths: Sequence[str], side: int, outputs: _Outputs, progress: StageProgress | None
) -> None:
    from cbir.montage import contact_sheet
    from cbir.output import save_pixels
    from cbir.thumbnail import thumbnails

    pictures = list(thumbnails(paths, side, outputs.jobs, thumbnail_progress(progress)))
    captions = (
        [f"{rank}  {os.path.basename(path)}" for rank, path in enumerate(paths, 1)] if side >= _CAPTIONED else None
    )
    save_pixels(target, contact_sheet(pictures, captions, side=side), force=outputs.force)


def _save_page(
    target: Path,
    index: Index,
    order: _Order,
    photos: Sequence[_Sorted],
    outputs: _Outputs,
    progress: StageProgress | None,
) -> None:
    from cbir.cli.seeing import save_page
    from cbir.page import Section

    title = f"{index.folder.resolve().name} by {order.name}"
    lead = (f"{len(photos):,} photos",)
    cards = _cards(index, order, photos, outputs.jobs, progress)
    save_page(target, title, [Section(title, lead, (), None, cards)], outputs.force)


def _cards(
    index: Index, order: _Order, photos: Sequence[_Sorted], jobs: int | None, progress: StageProgress | None
) -> Iterator[Card]:
    from cbir.histogram import main_colors
    from cbir.page import Card
    from cbir.thumbnail import thumbnails

    paths = [index.path(photo.row) for photo in photos]
    with closing(thumbnails(paths, _PAGE_SIDE, jobs, thumbnail_progress(progress))) as made:
        for rank, (photo, path, small) in enumerate(zip(photos, paths, made, strict=True), 1):
            value = ""
            if photo.value is not None:
                value = f"  {photo.value:.1%}" if order.color is not None else f"  L* {photo.value:.1f}"
            lines = (f"{rank}.{value}", os.path.dirname(shown_path(path)) or ".")
            colors = tuple(main_colors(index.amounts(photo.row), index.palette.lab))
            yield Card(path, os.path.basename(path), lines, colors, small)


def _gather(folder: Path, paths: Sequence[str], links: bool, progress: StageProgress | None) -> None:
    from cbir.find import Skipped
    from cbir.gather import copy_to

    skipped: list[Skipped] = []
    tell_copies = None if progress is None else lambda done, total: progress("copies", done, total)
    made = copy_to(paths, folder, links, skipped, tell_copies)
    for one in skipped:
        tell(f"skipped {quoted_path(one.path)}: {one.reason}")
    tell(f"{folder}: {len(made):,} {'links' if links else 'copies'}")
