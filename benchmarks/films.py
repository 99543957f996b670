"""Films: how fast they are redrawn, with how much memory, and how steady they are beside others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets

from benchmarks.measure import SHARED, table
from cbir.color import U8, lab_of_bytes
from cbir.eye import learn_palette
from cbir.film import quantize_film
from cbir.film_drawing import Drawing
from cbir.film_reading import Film, Frame, Part, opened
from cbir.palette import Palette
from cbir.pixels import Picture
from cbir.scenes import Scene
from cbir.steady import Flicker, Stillness
from cbir.styles import STYLES, redraw, stepped

COLORS, NOISE, STILL_FRAMES = 16, 4.0, 60
_SIZES = ((1280, 720), (1920, 1080))
# Frames that are compared, at most.
_FRAMES = 100


def run(work: Path) -> None:
    """Print the tables; without PyAV or the shared films a line says so."""
    try:
        import av  # noqa: F401
    except ImportError:
        print("films are left out: PyAV is not installed (pip install 'cbir[video]')")
        return
    films = SHARED / "video"
    rows = [_steadiness(f"still photo {i + 1}, noise of {NOISE:g}", _still_film(work, i)) for i in range(2)]
    if films.is_dir():
        rows.append(_steadiness("vtest.avi, a fixed camera", films / "vtest.avi"))
    table(
        f"Flicker of resting pixels, darkly, {COLORS} colours (labels; rivals without lines)",
        (
            "film",
            "cbir",
            "k-means frame by frame",
            "one palette, nearest colours",
            "error where it moves, against unsteady",
        ),
        rows,
    )
    if films.is_dir():
        speeds = [_speed(work, films / "bigbuckbunny.mp4", size, times) for size in _SIZES for times in (1, 4)]
        heading = ("film", "frames", "frames a second", "megabytes of memory at most", "megabits a second")
        table("Redrawing a film, darkly, H.264, decoding and encoding and the first pass included", heading, speeds)


def _steadiness(name: str, path: Path) -> tuple[str, ...]:
    style, before = STYLES["darkly"], Stillness()
    with opened(path) as film:
        frames = [_copied(frame) for frame in islice(film.items(Part()), _FRAMES)]
        pixels = [_pixels(film, frame) for frame in frames]
        seen = np.concatenate([stepped(frame[::4, ::4], style) for frame in pixels[::4]])
        palette = learn_palette(Picture(seen), style.palette_size(COLORS))
        drawing = Drawing(film, style, [Scene(-(1 << 62), palette, np.zeros(3, np.uint8), np.full(3, 255, np.uint8))])
        each, fixed, errors = Flicker(), Flicker(), np.zeros(2)
        for frame, shown in zip(frames, pixels, strict=True):
            moved = before.next(shown)
            drawn = drawing.draw(frame)
            each.add(_labels(learn_palette(Picture(shown), COLORS), shown), moved)
            fixed.add(_labels(palette, shown), moved)
            if frame is not frames[0]:
                unsteady = redraw(shown, palette, style).pixels
                where = moved > 0
                errors += [_error(shown, drawn.colors[drawn.labels], where), _error(shown, unsteady, where)]
    trail = f"{errors[0] / errors[1] - 1:+.1%}" if errors[1] else "nothing moves"
    return name, *(f"{share:.3%}" for share in (drawing.flicker.share, each.share, fixed.share)), trail


def _labels(palette: Palette, pixels: U8) -> U8:
    return palette.labels(pixels).astype(np.uint8)


def _error(a: U8, b: U8, where: Any) -> float:
    """The sum of the distances in L*a*b* of some pixels of two pictures."""
    return float(np.linalg.norm(lab_of_bytes(a[where]) - lab_of_bytes(b[where]), axis=-1).sum())


def _pixels(film: Film, frame: Frame) -> U8:
    return film.pixels(frame, (film.width, film.height))


def _copied(frame: Any) -> Frame:
    y, u, v = (plane.copy() for plane in frame.planes)
    return Frame((y, u, v), frame.pts, frame.duration)


def _still_film(work: Path, number: int) -> Path:
    """A photo as a film of 60 frames, each with noise of its own, without loss."""
    photo = sklearn.datasets.load_sample_images().images[number][:426]
    random = np.random.default_rng(0)
    frames = (np.rint(photo + random.normal(0, NOISE, photo.shape)).clip(0, 255) for _ in range(STILL_FRAMES))
    return _encoded(work / f"still{number}.mkv", (frame.astype(np.uint8) for frame in frames), "ffv1", "bgr0", {})


def _encoded(path: Path, frames: Iterator[U8], codec: str, pixels: str, options: dict[str, str]) -> Path:
    import av

    with av.open(str(path), "w") as output:
        stream: Any = None
        for i, levels in enumerate(frames):
            if stream is None:
                stream = output.add_stream(codec, rate=25, options=options)
                stream.height, stream.width, stream.pix_fmt = *levels.shape[:2], pixels
            frame = av.VideoFrame.from_ndarray(levels, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def _scaled(path: Path, size: tuple[int, int], times: int) -> Iterator[U8]:
    import av

    for _ in range(times):
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24", width=size[0], height=size[1])


def _speed(work: Path, path: Path, size: tuple[int, int], times: int) -> tuple[str, ...]:
    source = work / f"{size[1]}x{times}.mp4"
    _encoded(source, _scaled(path, size, times), "libx264", "yuv420p", {"preset": "veryfast", "crf": "20"})
    target = work / "out.mp4"
    # In a process of its own, whose memory is its own too.
    script = f"from benchmarks.films import redrawn; redrawn({str(source)!r}, {str(target)!r})"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    frames, fps, memory = int(said[0]), float(said[1]), float(said[2])
    bits = target.stat().st_size * 8 / (frames / 25) / 1e6
    return f"{path.name}, {size[0]} x {size[1]}", f"{frames:,}", f"{fps:.1f}", f"{memory:.0f}", f"{bits:.1f}"


def redrawn(source: str, target: str) -> None:
    """Redraw a film and print its frames, frames a second, and the megabytes of memory that took."""
    report = quantize_film(source, target, COLORS, force=True)
    # Of this process alone; what getrusage tells begins with that of its parent.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(report.frames, report.fps, int(peak.split()[1]) / 1024)
