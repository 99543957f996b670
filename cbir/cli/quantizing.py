"""`cbir quantize`: pictures and films in a few flat colours."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from cbir.cli.options import ForceOption, JobsOption
from cbir.cli.shell import SKIPPED, printable, quoted_path, tell

if TYPE_CHECKING:
    from cbir.dither import Dither
    from cbir.eye import Space
    from cbir.palette import Palette
    from cbir.styles import Style


class StyleOption(StrEnum):
    """How pictures are redrawn."""

    flat = "flat"
    darkly = "darkly"
    poster = "poster"
    ink = "ink"


class DitherOption(StrEnum):
    """How colours between those of the palette are made."""

    none = "none"
    ordered = "ordered"
    error = "error"


class SpaceOption(StrEnum):
    """By what colours are judged to be near."""

    eye = "eye"
    rgb = "rgb"


class Ending(StrEnum):
    """What pictures of a folder are written as."""

    png = "png"
    webp = "webp"
    gif = "gif"
    jpg = "jpg"
    svg = "svg"


def quantize(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Pictures, folders of pictures, or one film."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Where to: a file, whose ending says what it becomes (.png, .webp, .gif, .jpg, .svg; .mp4, .webm, "
            ".mkv for a film), or a folder; INPUT-quantized.png in this folder unless told. Example: -o flat.png",
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--colors",
            "-k",
            min=1,
            max=256,
            help="How many colours, lines included; the style's own number, or all of --palette. Example: -k 12",
        ),
    ] = None,
    style: Annotated[
        StyleOption | None,
        typer.Option(
            help="flat: the nearest of few colours (pictures); darkly: smoothed along edges, soft steps of lightness, "
            "specks merged, ink lines (films); poster: few bold areas; ink: black on white. Example: --style darkly"
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="How much is smoothed away. Example: --style darkly --strength 0.8"),
    ] = None,
    line: Annotated[
        float | None,
        typer.Option(min=0, max=4, help="How heavy the lines are, 0 for none. Example: --style darkly --line 1.5"),
    ] = None,
    speck: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=10_000,
            help="The smallest area that stays, in pixels of a picture whose shorter side has 720. Example: --style "
            "poster --speck 800",
        ),
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(
            metavar="INDEX|FILE",
            help="Take the colours of an index, a palette file (gpl, ase, aco, css, json, txt) or a picture. Example: "
            "--palette film.gpl",
        ),
    ] = None,
    dither: Annotated[
        DitherOption,
        typer.Option(help="Mix colours in points, in a pattern or by handing errors on. Example: --dither error"),
    ] = DitherOption.none,
    space: Annotated[
        SpaceOption,
        typer.Option(help="What is low: the mean CIEDE2000, or the error of the RGB levels. Example: --space rgb"),
    ] = SpaceOption.eye,
    keep_accents: Annotated[
        bool,
        typer.Option("--keep-accents", help="Keep small colours that stand out. Example: -k 6 --keep-accents"),
    ] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Put the original beside it. Example: -k 6 --side-by-side")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page of before and after, too. Example: --html both.html"),
    ] = None,
    ending: Annotated[
        Ending, typer.Option("--ending", help="What pictures of a folder become. Example: -o flat --ending webp")
    ] = Ending.png,
    one_palette: Annotated[
        bool,
        typer.Option(
            "--one-palette", help="One palette for a whole film, not one for each scene. Example: --one-palette"
        ),
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            help="How a film is written: h264, vp9, av1, prores, gif or webp; by the ending unless told. Example: "
            "-o out.mkv --codec vp9"
        ),
    ] = None,
    start: Annotated[
        float | None, typer.Option("--from", min=0, metavar="SECONDS", help="Of a film from there. Example: --from 60")
    ] = None,
    end: Annotated[
        float | None, typer.Option("--to", min=0, metavar="SECONDS", help="Of a film up to there. Example: --to 90")
    ] = None,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Of a film one frame of N. Example: --every 2")] = 1,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview",
            help="Of a film a sheet of stills, or with -o film.mp4 three seconds. Example: --preview --from 60",
        ),
    ] = False,
    force: ForceOption = False,
    jobs: JobsOption = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit with 3 if any had to be skipped. Example: photos -o flat --strict"),
    ] = False,
) -> None:
    """Redraw pictures in a few flat colours, or a film: the look that A Scanner Darkly was traced in by hand.

    PNG, GIF, TIFF and BMP are written as palette images, which makes them small; SVG is traced, with `cbir[svg]`.
    Colours are sRGB, pictures upright, and Exif is kept where the format has it. Folders are gone through, and their
    pictures go to the same places below the output folder. What cannot be read is listed and skipped.

    A film, with `cbir[video]`, has a palette for each scene, and a pixel changes its colour only for a reason, so that
    noise does not boil; how many do so where the source rests is told. Sound, length and frame rate stay. After Ctrl-C
    what was done is there to play.
    """
    from cbir.cli.colors import palette_of
    from cbir.film_reading import is_film
    from cbir.styles import STYLES

    if len(inputs) == 1 and is_film(inputs[0]):
        from cbir.cli.filming import run_film

        _refuse_with_film(
            {
                "--dither": dither.value != "none",
                "--side-by-side": side_by_side,
                "--html": html,
                "--keep-accents": keep_accents,
            }
        )
        run_film(
            inputs[0],
            output,
            k or 16,
            style=_changed(STYLES[(style or StyleOption.darkly).value], strength, line, speck),
            palette=None if palette is None else palette_of(palette, k),
            one_palette=one_palette,
            codec=codec,
            preview=preview,
            start=start,
            end=end,
            every=every,
            force=force,
        )
        return
    _refuse_without_film(
        {
            "--codec": codec,
            "--one-palette": one_palette,
            "--from": start,
            "--to": end,
            "--every": every > 1,
            "--preview": preview,
        }
    )
    settings = _Settings(
        k,
        _changed(STYLES[(style or StyleOption.flat).value], strength, line, speck),
        None if palette is None else palette_of(palette, k),
        space.value,
        keep_accents,
        dither.value,
        side_by_side,
        force,
    )
    if settings.dither != "none" and settings.style.name != "flat":
        raise typer.BadParameter("goes with the style flat alone", param_hint="--dither")
    tasks = _tasks(inputs, output, ending.value)
    _draw(tasks, settings, html, jobs, strict, len(inputs) == 1 and not inputs[0].is_dir())


def _refuse_with_film(options: dict[str, object]) -> None:
    for option, given in options.items():
        if given:
            raise typer.BadParameter("is of pictures, not of films", param_hint=option)


def _refuse_without_film(options: dict[str, object]) -> None:
    for option, given in options.items():
        if given:
            raise typer.BadParameter("is of a film, and goes with one input that is a film", param_hint=option)


class _Task(NamedTuple):
    source: str
    target: str


@dataclass(frozen=True)
class _Settings:
    """How all pictures are redrawn."""

    k: int | None
    style: Style
    palette: Palette | None
    space: Space
    keep_accents: bool
    dither: Dither
    side_by_side: bool
    force: bool


class _Done(NamedTuple):
    """A picture that was redrawn: how many colours it has; or why it was not."""

    colors: int
    reason: str | None = None


def _changed(style: Style, strength: float | None, line: float | None, speck: float | None) -> Style:
    told = {"strength": strength, "line": line, "speck": speck}
    return replace(style, **{name: value for name, value in told.items() if value is not None})  # type: ignore[arg-type]


def _tasks(inputs: Sequence[Path], output: Path | None, ending: str) -> list[_Task]:
    """Which pictures go where. Raises CbirError for what is not there, and for two that would go to one place."""
    from cbir.errors import CbirError

    single = len(inputs) == 1 and not inputs[0].is_dir()
    if single and (output is None or not (output.is_dir() or _names_folder(output))):
        target = output or Path(f"{inputs[0].stem}-quantized.png")
        return [_Task(os.fspath(inputs[0]), os.fspath(target))]
    if output is None:
        raise typer.BadParameter("name the folder that several pictures go to", param_hint="--output")
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output}: is a file; several pictures go to a folder", param_hint="--output")
    tasks = [
        _Task(source, os.fspath(output / Path(below).with_suffix(f".{ending}")))
        for one in inputs
        for source, below in _pictures(one)
    ]
    if not tasks:
        raise CbirError(f"{', '.join(map(str, inputs))}: no pictures below")
    places: dict[str, str] = {}
    for task in tasks:
        if (other := places.setdefault(task.target, task.source)) != task.source:
            raise CbirError(f"{task.target}: both {other} and {task.source} would go there; redraw them one by one")
    return tasks


def _names_folder(output: Path) -> bool:
    return not output.suffix


def _pictures(place: Path) -> Iterator[tuple[str, str]]:
    """The pictures below a folder, each with its path below that; or the one that is named."""
    from cbir.find import find_pictures
    from cbir.signature import PICTURE_SUFFIXES

    if not place.is_dir():
        yield os.fspath(place), place.name
        return
    found, skipped = find_pictures([place])
    for one in skipped:
        tell(f"skipped {quoted_path(one.path)}: {one.reason}")
    root = os.path.abspath(place)
    for picture in found:
        path = os.fspath(picture.path)
        if os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES:
            yield path, os.path.relpath(path, root)


def _draw(
    tasks: Sequence[_Task], settings: _Settings, html: Path | None, jobs: int | None, strict: bool, single: bool
) -> None:
    from cbir.cli.show import size
    from cbir.errors import CbirError
    from cbir.quantize import check_quantize_output, quantize_file

    for task in tasks:
        target = Path(task.target)
        if not single:
            target.parent.mkdir(parents=True, exist_ok=True)
        check_quantize_output(target, settings.side_by_side, settings.force)
    if html:
        from cbir.cli.seeing import check_page_output

        check_page_output(html, settings.force, 2 * len(tasks))
    if single:
        (task,) = tasks
        drawn = quantize_file(task.source, task.target, **_arguments(settings))  # type: ignore[arg-type]
        written = size(Path(task.target).stat().st_size)
        typer.echo(
            f"{printable(task.target)}: {len(drawn.colors)} colours, {written} "
            f"({printable(task.source)} has {size(Path(task.source).stat().st_size)})"
        )
        done, skipped = [task], 0
    else:
        done, skipped = _draw_all(tasks, settings, jobs)
        if not done:
            raise CbirError(f"none of these {len(tasks):,} pictures can be redrawn")
    if html:
        _write_page(html, done, settings.force)
    if strict and skipped:
        raise typer.Exit(SKIPPED)


def _arguments(settings: _Settings) -> dict[str, object]:
    return dict(vars(settings))


def _draw_all(tasks: Sequence[_Task], settings: _Settings, jobs: int | None) -> tuple[list[_Task], int]:
    """Redraw many pictures on worker processes; those that were, and how many were not."""
    from contextlib import closing

    from cbir.cli.show import stage_bar
    from cbir.parallel import cores, in_order

    done: list[_Task] = []
    # Workers may have been started elsewhere.
    absolute = [_Task(os.path.abspath(task.source), os.path.abspath(task.target)) for task in tasks]
    with stage_bar() as bar, closing(in_order(_drawn, absolute, jobs or cores(), settings, lost=_lost)) as results:
        for number, (task, result) in enumerate(zip(tasks, results, strict=True), 1):
            if result.reason is None:
                typer.echo(f"{printable(task.target)}: {result.colors} colours")
                done.append(task)
            else:
                tell(f"skipped {quoted_path(task.source)}: {result.reason}")
            if bar:
                bar("pictures", number, len(tasks))
    tell(f"{len(done):,} pictures redrawn, {len(tasks) - len(done):,} skipped")
    return done, len(tasks) - len(done)


def _drawn(task: _Task, settings: _Settings) -> _Done:
    from cbir.errors import OutputError, PaletteError, PictureError
    from cbir.quantize import quantize_file

    try:
        drawn = quantize_file(task.source, task.target, **_arguments(settings))  # type: ignore[arg-type]
    except PictureError as error:
        return _Done(0, error.reason)
    except (PaletteError, OutputError) as error:
        return _Done(0, str(error))
    return _Done(len(drawn.colors))


def _lost(_: _Task, reason: str, lasting: bool) -> _Done:
    return _Done(0, reason)


def _write_page(target: Path, done: Sequence[_Task], force: bool) -> None:
    """A page of pictures before and after."""
    from cbir.cli.seeing import save_page
    from cbir.page import Card, Section, thumbnail_side
    from cbir.thumbnail import thumbnail

    side = thumbnail_side(2 * len(done))

    def cards() -> Iterator[Card]:
        for task in done:
            for path, what in ((task.source, "before"), (task.target, "after")):
                yield Card(os.path.abspath(path), os.path.basename(path), (what,), (), thumbnail(path, side))

    section = Section("Before and after", (f"{len(done):,} pictures",), (), None, cards())
    save_page(target, "cbir quantize", [section], force)
    tell(f"wrote {target}")
