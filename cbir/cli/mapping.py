"""`cbir map`: a collection as one picture."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from cbir.cli.chosen import PathsArgument, chosen_rows, opened, thumbnail_progress, vectors_of
from cbir.cli.options import ForceOption, IndexOption, JobsOption
from cbir.cli.shell import printable, tell

if TYPE_CHECKING:
    from cbir.arrange import Grid
    from cbir.color import U8
    from cbir.index import Index
    from cbir.prepare import StageProgress


# A map has about so many pixels, which are soon written and opened; of the most photos it has 46 million.
_MAP_PIXELS, _SMALLEST_CELL, _LARGEST_CELL = 20_000_000, 48, 160
# A thumbnail is so much longer than a cell is wide that a photo of 3:2 fills it when its ends are cut.
_CUT = 1.5
_MAP_PAPER = 226
_MAP_JPEG = {"quality": 85, "subsampling": 0}


def map_(
    paths: PathsArgument = None,
    index: IndexOption = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A picture or a page (.html), or both; map.png if none. Example: -o map.html",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("-n", "--limit", min=1, max=20_000, help="Only so many photos, evenly drawn. Example: -n 500"),
    ] = None,
    force: ForceOption = False,
    jobs: JobsOption = None,
) -> None:
    """Show a collection as one picture in which photos of like colours are together.

    Of at most 20,000 photos, each cut to a square of 48 to 160 pixels. The same photos give the same map. On a page a
    click opens the photo.
    """
    _run_map(paths or [], index, output or [Path("map.png")], limit, force, jobs)


def _run_map(
    paths: Sequence[str], name: str | None, targets: Sequence[Path], limit: int | None, force: bool, jobs: int | None
) -> None:
    from cbir.arrange import MOST, evenly
    from cbir.cli.show import stage_bar
    from cbir.errors import CbirError

    _check_maps(targets, force)
    index = opened(name)
    rows = chosen_rows(index, paths)
    if limit is not None:
        rows = [rows[i] for i in evenly(len(rows), limit)]
    if len(rows) > MOST:
        raise CbirError(f"{len(rows):,} photos are more than the {MOST:,} of a map; --limit {MOST} draws some evenly")
    listed = [index.path(row) for row in rows]
    with stage_bar() as progress:
        grid = _layout(index, rows, progress)
        side = _cell_side(grid)
        sheet, unread = _drawn_map(grid, side, listed, jobs, progress)
    for target in targets:
        _save_map(target, sheet, grid, side, listed, force)
        tell(f"wrote {target}")
    if unread:
        tell(f"{unread:,} of {len(listed):,} photos cannot be read now, and are left out")


def _check_maps(targets: Sequence[Path], force: bool) -> None:
    from cbir.cli.seeing import PAGE_SUFFIXES, check_page_output
    from cbir.output import check_picture_output

    for target in targets:
        if target.suffix.lower() in PAGE_SUFFIXES:
            check_page_output(target, force)
        else:
            check_picture_output(target, force)


def _layout(index: Index, rows: Sequence[int], progress: StageProgress | None) -> Grid:
    from cbir.arrange import grid, plane

    if progress:
        progress("layout", 0, len(rows))
    places = plane(vectors_of(index, rows))
    return grid(places, None if progress is None else lambda done, total: progress("layout", done, total))


def _cell_side(grid: Grid) -> int:
    return min(max(int((_MAP_PIXELS / grid.cells.size) ** 0.5), _SMALLEST_CELL), _LARGEST_CELL)


def _drawn_map(
    grid: Grid, side: int, paths: Sequence[str], jobs: int | None, progress: StageProgress | None
) -> tuple[U8, int]:
    """The map's pixels, (height, width, 3) uint8, and how many photos cannot be read."""
    import numpy as np

    from cbir.thumbnail import thumbnails

    sheet = np.full((grid.rows * side, grid.columns * side, 3), _MAP_PAPER, np.uint8)
    down, across = np.nonzero(grid.cells >= 0)
    own = [paths[i] for i in grid.cells[down, across]]
    unread = 0
    with closing(thumbnails(own, round(_CUT * side), jobs, thumbnail_progress(progress))) as made:
        for row, column, small in zip(down, across, made, strict=True):
            if small is None:
                unread += 1
                continue
            top, left = row * side, column * side
            sheet[top : top + side, left : left + side] = _square(small, side)
    return sheet, unread


def _square(pixels: U8, side: int) -> U8:
    """What lies of a picture in a square around its middle, (side, side, 3); a small or narrow one is enlarged."""
    import numpy as np
    from PIL import Image, ImageOps

    height, width = pixels.shape[:2]
    if min(height, width) < side:
        return np.asarray(ImageOps.fit(Image.fromarray(pixels), (side, side)))
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _save_map(target: Path, sheet: U8, grid: Grid, side: int, paths: Sequence[str], force: bool) -> None:
    from cbir.atomic import write_file
    from cbir.cli.seeing import PAGE_SUFFIXES, check_page_output
    from cbir.errors import OutputError
    from cbir.output import save_pixels

    if target.suffix.lower() not in PAGE_SUFFIXES:
        save_pixels(target, sheet, force=force)
        return
    check_page_output(target, force)
    try:
        write_file(target.parent, target.name, lambda file: _write_map_page(file, sheet, grid, side, paths))
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({(error.strerror or str(error)).lower()})") from error


def _write_map_page(file: BinaryIO, sheet: U8, grid: Grid, side: int, paths: Sequence[str]) -> None:
    """The map as one picture in a page, each cell a link to its photo; no script, nothing from elsewhere."""
    import base64
    import io

    import numpy as np
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(sheet).save(content, "JPEG", **_MAP_JPEG)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    file.write(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="referrer" content="no-referrer">\n<title>Map of photos</title>\n'
        "<style>body { margin: 0; background: #e2e2e2; } img { display: block; }</style>\n</head>\n<body>\n"
        f'<img usemap="#photos" width="{sheet.shape[1]}" height="{sheet.shape[0]}" '
        f'alt="{len(paths):,} photos, those of like colours together" src="data:image/jpeg;base64,'.encode()
    )
    file.write(base64.b64encode(content.getbuffer()))
    file.write(b'">\n<map name="photos">\n')
    for row, column in zip(*np.nonzero(grid.cells >= 0), strict=True):
        file.write(_area(paths[grid.cells[row, column]], int(column) * side, int(row) * side, side).encode())
    file.write(b"</map>\n</body>\n</html>\n")


def _area(path: str, left: int, top: int, side: int) -> str:
    from cbir.page import file_url

    name = html.escape(printable(os.path.basename(path)))
    coordinates = f"{left},{top},{left + side},{top + side}"
    return (
        f'<area shape="rect" coords="{coordinates}" href="{html.escape(file_url(path))}" alt="{name}" title="{name}">\n'
    )
