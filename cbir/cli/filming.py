"""What `cbir quantize` does with films: it redraws them, or shows beforehand what they will look like."""

from __future__ import annotations

from pathlib import Path

import typer

from cbir.cli.shell import INTERRUPTED, printable, tell
from cbir.cli.show import size, stage_bar
from cbir.film import PREVIEW_SECONDS, FilmInterruptedError, FilmReport, quantize_film, stills
from cbir.film_writing import FILM_SUFFIXES, check_film_output
from cbir.output import check_picture_output, save_pixels
from cbir.palette import Palette
from cbir.styles import Style, StyleName


def run_film(
    source: Path,
    target: Path | None,
    k: int = 16,
    *,
    style: StyleName | Style = "darkly",
    palette: Palette | None = None,
    one_palette: bool = False,
    codec: str | None = None,
    preview: bool = False,
    start: float | None = None,
    end: float | None = None,
    every: int = 1,
    force: bool = False,
) -> None:
    """Redraw a film and print what became of it; `SOURCE-quantized.mp4` in this folder unless told where to.

    With `preview` only three seconds, or a sheet of stills if the target, `SOURCE-preview.png` unless told, is named
    like a picture. Raises FilmError, PaletteError, OutputError or MissingExtraError; SystemExit after Ctrl-C.
    """
    if preview:
        target = target or Path(f"{source.stem}-preview.png")
        if target.suffix.lower() not in FILM_SUFFIXES or target.suffix.lower() == ".webp":
            _run_stills(source, target, k, style, palette, start, end, force)
            return
        end = min((start or 0) + PREVIEW_SECONDS, end if end is not None else float("inf"))
    target = target or Path(f"{source.stem}-quantized.mp4")
    check_film_output(target, codec, force)
    try:
        with stage_bar() as progress:
            report = quantize_film(
                source,
                target,
                k,
                style=style,
                palette=palette,
                one_palette=one_palette,
                codec=codec,
                start=start,
                end=end,
                every=every,
                force=force,
                progress=progress,
            )
    except FilmInterruptedError as error:
        _print(error.report, source, target)
        tell(f"{target}: interrupted; what was done until then is in it")
        raise SystemExit(INTERRUPTED) from None
    _print(report, source, target)


def _run_stills(
    source: Path,
    target: Path,
    k: int,
    style: StyleName | Style,
    palette: Palette | None,
    start: float | None,
    end: float | None,
    force: bool,
) -> None:
    check_picture_output(target, force)
    save_pixels(target, stills(source, k, style=style, palette=palette, start=start, end=end), force=force)
    typer.echo(f"{printable(str(target))}: stills of {printable(str(source))}, as they are and redrawn")


def _print(report: FilmReport, source: Path, target: Path) -> None:
    scenes = "1 scene" if report.scenes == 1 else f"{report.scenes:,} scenes"
    typer.echo(
        f"{printable(str(target))}: {report.frames:,} frames in {scenes}, {size(target.stat().st_size)}, "
        f"drawn in {report.seconds:.1f} s ({report.fps:.1f} a second)"
    )
    typer.echo(f"{report.flicker:.3%} of the pixels change colour from one frame to the next where the source rests")
    if report.hdr:
        tell(f"{source}: is HDR ({report.hdr}); {target.name} has the range of usual screens (BT.709)")
    if report.left_out:
        tell(f"{target}: subtitles ({report.left_out}) do not go into {target.suffix} and were left out")
    if report.lost:
        tell(f"{source}: damaged; {report.lost:,} frames were lost")
