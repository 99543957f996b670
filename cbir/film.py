"""Films: decoded, redrawn in flat colours without flicker, and encoded again, with their sound as it was.

A first pass over small frames finds the scenes and learns their palettes (`cbir.scenes`), a second one draws every
frame (`cbir.steady`). Decoding, drawing and encoding each have a thread, with short queues between them, so that memory
stays flat. PyAV, the extra `cbir[video]`, decodes and encodes; only containers that hold films are opened, and of
these none that can name other files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from errno import EINVAL
from fractions import Fraction
from importlib import import_module
from math import inf
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from cbir.atomic import write_file
from cbir.color import U8
from cbir.errors import CbirError, MissingExtraError, OutputError, PaletteError, RefusedError
from cbir.eye import learn_palette
from cbir.output import check_output
from cbir.palette import Palette
from cbir.pixels import Picture
from cbir.scenes import SMALL_PIXELS, Scene, SceneFinder
from cbir.signature import HEAD_BYTES, picture_format
from cbir.steady import (
    MARGIN,
    MARGIN_OF_NOISE,
    Flicker,
    LabelTable,
    SteadyLabels,
    SteadyLines,
    SteadyPicture,
    Stillness,
)
from cbir.styles import INK, STYLES, Style, StyleName, prepared, stepped
from cbir.styles import lines as lines_of

T = TypeVar("T")
Progress = Callable[[str, int, int | None], None]

# 8192 x 4320; larger frames, which only a hostile header claims, are refused before they are decoded.
MAX_PIXELS = 8192 * 4320
MAX_COLORS = 256
# Frames that wait between two threads.
_AHEAD = 4
# Seconds of a film in which the sound of a frame is to be found behind it; and packets of sound before any frame.
_SOUND_AFTER, _SOUND_BEFORE = 2, 4096
# Places in a file that cannot be read, after which it is given up.
_MOST_GAPS = 64
# Containers that hold films and nothing else; playlists and scripts, which open other files, are left out on purpose.
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,h264,hevc,obu,m4v,yuv4mpegpipe,dv,mxf,nut,apng"
)
# What films begin with, at which byte.
_SIGNATURES = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (0, b"\x1a\x45\xdf\xa3"),
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"OggS"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x00\x00\x01\xb3"),
    (0, b"YUV4MPEG2"),
    (0, b"DKIF"),
)
_TS_PACKET = 188
# Numbers of ITU-T H.273: transfer characteristics of HDR, and the weights of red and blue in luma.
_HDR = {16: "PQ", 18: "HLG"}
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
_WEIGHTS |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_BT709, _BT601, _UNSPECIFIED = 1, 6, 2
_FULL_RANGE = 2
# Films that do not say which luma they have are taken for HD above this height, as players do.
_SD_HEIGHT = 576
# Frames are smoothed, and their lines found, with a shorter side of so many pixels or up to twice as many.
_WORKING_SIDE = 360
# The side of the median that takes specks out of whole frames and rounds outlines.
_MEDIAN = 5
_ROTATING = ("mp4", "mov", "matroska")
_MUCH_LARGER = 8
PREVIEW_SECONDS = 3.0
# A sheet of stills, two of them side by side, is so many pixels wide at the most.
_SHEET_WIDTH = 1600


class FilmError(CbirError, ValueError):
    """A file cannot be read as a film."""


@dataclass(frozen=True)
class FilmReport:
    """What was written: `frames` in `scenes`, in `seconds` of work, which is `fps` a second.

    `flicker` is the share (0 to 1) of pixels that change their colour from one frame to the next where the source did
    not move. `lost` frames could not be decoded.
    """

    frames: int
    seconds: float
    scenes: int
    flicker: float
    lost: int
    fps: float


class FilmInterruptedError(KeyboardInterrupt):
    """Ctrl-C while a film was written: what was done by then is in a whole file, and `report` tells what that is."""

    def __init__(self, report: FilmReport) -> None:
        super().__init__(f"interrupted after {report.frames:,} frames")
        self.report = report


@dataclass(frozen=True)
class Encoder:
    """A codec as FFmpeg calls it, the pixels it is given, and its options."""

    library: str
    pixels: str
    options: dict[str, str]


# Fast settings, since films are to be drawn at the speed of playing; flat colours take few bits even so.
CODECS: dict[str, Encoder] = {
    "h264": Encoder("libx264", "yuv420p", {"preset": "superfast", "crf": "20"}),
    "vp9": Encoder(
        "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "24", "b": "0"}
    ),
    "av1": Encoder("libsvtav1", "yuv420p", {"preset": "10", "crf": "28"}),
    # 4:4:4, since edges between flat colours are where 4:2:2 shows.
    "prores": Encoder("prores_ks", "yuv444p10le", {"profile": "4444"}),
    "gif": Encoder("gif", "pal8", {}),
    "webp": Encoder("libwebp_anim", "bgra", {"lossless": "1", "compression_level": "1"}),
}
# Ending to FFmpeg's container, and the codecs it may hold, the usual one first.
_ENDINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    ".mp4": ("mp4", ("h264", "av1", "vp9")),
    ".m4v": ("mp4", ("h264",)),
    ".mov": ("mov", ("h264", "prores")),
    ".mkv": ("matroska", ("h264", "vp9", "av1", "prores")),
    ".webm": ("webm", ("vp9", "av1")),
    ".gif": ("gif", ("gif",)),
    ".webp": ("webp", ("webp",)),
}
FILM_SUFFIXES = tuple(_ENDINGS)
_SILENT = ("gif", "webp")


def is_film(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as films do, whatever its name; animated GIF and WebP files count as pictures."""
    try:
        with open(path, "rb") as file:
            head = file.read(max(HEAD_BYTES, 2 * _TS_PACKET))
    except OSError:
        return False
    if picture_format(head[:HEAD_BYTES]) is not None:
        return False
    is_stream = len(head) > _TS_PACKET and head[0] == head[_TS_PACKET] == 0x47
    return is_stream or any(head[at : at + len(start)] == start for at, start in _SIGNATURES)


def quantize_film(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    k: int = 16,
    *,
    style: StyleName | Style = "darkly",
    palette: Palette | None = None,
    one_palette: bool = False,
    codec: str | None = None,
    start: float | None = None,
    end: float | None = None,
    every: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> FilmReport:
    """Redraw a film in at most k (2 to 256) colours for each scene, ink lines among them, and write it.

    `style` is a name or a `cbir.styles.Style`. The colours are those of `palette` if it is given, of the whole film
    with `one_palette`, else of each scene. `codec` (one of `CODECS`) is by the ending of `target` unless told. `start`
    and `end` are seconds; of `every` so many frames one is kept. Sound, timestamps, rotation, aspect ratio and colour
    range stay. Raises FilmError, PaletteError, OutputError or MissingExtraError; then nothing is written. On Ctrl-C
    what was done is written and FilmInterruptedError raised.
    """
    begun = time.perf_counter()
    check_film_output(Path(target), codec, force)
    part = Part(start or 0.0, end, every)
    drawn_in = _style(style)
    _check_colors(k, palette, drawn_in)
    scenes, count = _scenes(source, part, k, drawn_in, palette, one_palette, progress)
    report, interrupted = _redraw(Path(source), Path(target), codec, force, part, drawn_in, scenes, count, progress)
    seconds = time.perf_counter() - begun
    report = replace(report, seconds=seconds, fps=report.frames / seconds)
    if interrupted:
        raise FilmInterruptedError(report)
    return report


def _check_colors(k: int, palette: Palette | None, style: Style) -> None:
    colors = k if palette is None else len(palette) + style.is_inked
    if not 2 <= colors <= MAX_COLORS:
        raise PaletteError(f"a film is redrawn in 2 to {MAX_COLORS} colours, ink among them, not {colors}")


def check_film_output(path: Path, codec: str | None, force: bool) -> None:
    """Refuse, before any work, a film that cannot be written. Raises OutputError or MissingExtraError."""
    _, name = _container(path, codec)
    av = _av()
    try:
        av.Codec(CODECS[name].library, "w")
    except ValueError:
        raise OutputError(
            f"{path}: this PyAV has no {CODECS[name].library} to encode {name}; use another --codec"
        ) from None
    check_output(path, force)


def _container(path: Path, codec: str | None) -> tuple[str, str]:
    """FFmpeg's name of the container that a path's ending asks for, and the codec that goes into it."""
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise OutputError(f"{path}: films are written as {', '.join(FILM_SUFFIXES)}; name the output so")
    container, codecs = _ENDINGS[ending]
    name = codec or codecs[0]
    if name not in CODECS:
        raise OutputError(f"there is no codec {name!r}; use one of {', '.join(CODECS)}")
    if name not in codecs:
        raise OutputError(f"{path}: {name} does not go into {ending}, which takes {', '.join(codecs)}")
    return container, name


def _av() -> Any:
    try:
        return import_module("av")
    except ImportError:
        raise MissingExtraError("films are read and written with PyAV: pip install 'cbir[video]'") from None


# --- what is read


@dataclass(frozen=True)
class Part:
    """The part of a film from `start` to `end` seconds (None: its end), of which one of `every` frames is kept.

    Raises FilmError for one with nothing in it.
    """

    start: float = 0.0
    end: float | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise FilmError(f"one of every 1 or more frames is kept, not of {self.every}")
        if not 0 <= self.start < (inf if self.end is None else self.end):
            raise FilmError(f"there is nothing from {self.start:g} s to {'the end' if self.end is None else self.end}")


@dataclass(frozen=True, eq=False)
class Frame:
    """A decoded frame: its planes of luma (height, width) and chroma (half as large), time and duration in ticks."""

    planes: tuple[U8, U8, U8]
    pts: int
    duration: int


@dataclass(frozen=True, eq=False)
class Sound:
    """A packet of sound as it was in the file, of the sound stream with this number."""

    packet: Any
    stream: int


class Film:
    """A film that is open for reading: what it is like, and its frames and sound, once."""

    def __init__(self, path: str, container: Any) -> None:
        self.path, self._input = path, container
        self.video = _video_stream(path, container)
        # Of a kind that nobody knows it cannot be copied either.
        self.sound = [sound for sound in container.streams.audio if sound.codec_context is not None]
        context = self.video.codec_context
        self.width, self.height = int(context.width), int(context.height)
        _check_size(path, self.width, self.height)
        # Frames of another size in mid-film are scaled, so a hostile one must not be decoded either.
        context.options = {"max_pixels": str(MAX_PIXELS)}
        self.video.thread_type = "AUTO"
        if context.color_trc in _HDR:
            raise FilmError(
                f"{path}: is HDR ({_HDR[context.color_trc]}), which cannot be redrawn; convert it to SDR (BT.709) first"
            )
        self.time_base: Fraction = self.video.time_base or Fraction(1, 1000)
        self.rate: Fraction = self.video.average_rate or self.video.guessed_rate or Fraction(25)
        is_yuv = bool(context.format) and not context.format.is_rgb and "pal8" not in context.format.name
        self.matrix: int = context.colorspace if is_yuv else _BT709
        self.weights = _WEIGHTS.get(self.matrix) or _WEIGHTS[_BT709 if self.height > _SD_HEIGHT else _BT601]
        name = context.pix_fmt or ""
        self.full_range = is_yuv and (context.color_range == _FULL_RANGE or name.startswith("yuvj"))
        self._errors: tuple[type[Exception], ...] = (_av().FFmpegError, OSError, ValueError)
        self.lost = 0
        self.rotation: tuple[int, ...] | None = None
        self.turned = 0

    @property
    def expected(self) -> int | None:
        """How many frames its header claims."""
        if self.video.frames:
            return int(self.video.frames)
        return int(self._input.duration / 1e6 * self.rate) if self._input.duration else None

    def items(self, part: Part, sound: bool = False) -> Generator[Frame | Sound]:
        """Its frames, and if told packets of sound between them, in the order of the file."""
        first = self.video.start_time or 0
        begin = first + round(part.start / self.time_base)
        stop = None if part.end is None else first + round(part.end / self.time_base)
        if part.start:
            self._seek(begin)
        clock, seen, ended = _Clock(self.time_base, self.rate), 0, False
        for packet in self._packets([self.video, *(self.sound if sound else [])]):
            if packet.stream.type == "audio":
                if _within(packet, self.time_base, begin if part.start else None, stop):
                    yield Sound(packet, self.sound.index(packet.stream))
                continue
            if ended:
                # Sound of the same time may lie a little further on in the file.
                if not sound or packet.dts is None or packet.dts > (stop or 0) + _SOUND_AFTER / self.time_base:
                    return
                continue
            for frame in self._decoded(packet):
                pts = clock.time_of(frame)
                ended = stop is not None and pts >= stop
                if ended:
                    break
                if pts < begin:
                    continue
                if seen % part.every == 0:
                    yield self._frame(frame, pts, part.every * clock.duration_of(frame))
                seen += 1

    def _seek(self, pts: int) -> None:
        try:
            self._input.seek(pts, stream=self.video)
        except self._errors:
            # Then everything before is decoded and left out.
            return

    def _packets(self, streams: Sequence[Any]) -> Iterator[Any]:
        for _ in range(_MOST_GAPS):
            try:
                yield from self._input.demux(*streams)
                return
            except self._errors:
                # What cannot be read is left out.
                continue

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except self._errors:
            self.lost += 1
            return []

    def _frame(self, frame: Any, pts: int, duration: int) -> Frame:
        _check_size(self.path, frame.width, frame.height)
        if self.rotation is None:
            data = frame.side_data.get("DISPLAYMATRIX")
            self.rotation = tuple(np.frombuffer(data, np.int32)[:9].tolist()) if data is not None else ()
            self.turned = int(frame.rotation)
        return Frame(self._planes(frame), pts, duration)

    def _planes(self, frame: Any) -> tuple[U8, U8, U8]:
        same = (frame.width, frame.height) == (self.width, self.height)
        if not same or frame.format.name not in ("yuv420p", "yuvj420p"):
            frame = frame.reformat(self.width, self.height, "yuv420p", **self._conversion(frame))
        half = (self.height + 1) // 2, (self.width + 1) // 2
        sizes = ((self.height, self.width), half, half)
        y, u, v = (_plane(plane, *size) for plane, size in zip(frame.planes, sizes, strict=True))
        return y, u, v

    def _conversion(self, frame: Any) -> dict[str, Any]:
        if frame.format.is_rgb or "pal8" in frame.format.name:
            return {"dst_colorspace": _BT709, "dst_color_range": 1}
        levels = _FULL_RANGE if self.full_range else 1
        same = self.matrix if self.matrix in _WEIGHTS else _BT601
        return {
            "src_colorspace": same,
            "dst_colorspace": same,
            "src_color_range": levels,
            "dst_color_range": levels,
        }


def _plane(plane: Any, height: int, width: int) -> U8:
    """A view of a frame's plane, (height, width) uint8, which keeps the frame alive."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width]


def _video_stream(path: str, container: Any) -> Any:
    covers = container.streams.video and container.streams.video[0].disposition.__class__.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & covers:
            if stream.codec_context is None:
                raise FilmError(f"{path}: is encoded in a way that this PyAV cannot decode")
            return stream
    raise FilmError(f"{path}: has no moving pictures in it")


def _check_size(path: str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise FilmError(f"{path}: damaged, its frames have no size")
    if width * height > MAX_PIXELS:
        raise FilmError(f"{path}: frames of {width:,} x {height:,} pixels are more than {MAX_PIXELS:,}")


def _within(packet: Any, time_base: Fraction, begin: int | None, stop: int | None) -> bool:
    """Whether a packet of sound belongs to a part of the film, given in the ticks of its frames."""
    if packet.dts is None:
        return False
    if begin is None and stop is None:
        return True
    at = packet.dts * packet.time_base / time_base
    return (begin is None or at >= begin) and (stop is None or at < stop)


class _Clock:
    """Times of frames that always rise, also where a file has none or wrong ones."""

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        self._usual = max(1, round(1 / (rate * time_base)))
        self._last: int | None = None

    def time_of(self, frame: Any) -> int:
        pts = frame.pts
        if pts is None or (self._last is not None and pts <= self._last):
            pts = 0 if self._last is None else self._last + self._usual
        self._last = int(pts)
        return self._last

    def duration_of(self, frame: Any) -> int:
        return int(frame.duration) or self._usual


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Film]:
    """A film open for reading. Raises FilmError, or MissingExtraError."""
    av, name = _av(), os.fspath(path)
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise FilmError(f"{name}: {(error.strerror or 'cannot be read').lower()}") from error
    if not head:
        raise FilmError(f"{name}: the file is empty")
    kind = picture_format(head)
    if kind not in (None, "GIF", "PNG"):
        raise FilmError(f"{name}: is a picture ({kind}), not a film")
    # "file:" in front, so that no name is taken for an address.
    safe = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{os.path.abspath(name)}", container_options=safe, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{name}: damaged, or not a film ({_reason(error)})") from error
    with container:
        yield Film(name, container)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:120].lower()


# --- threads


def ahead(items: Generator[T], depth: int = _AHEAD) -> Generator[T]:
    """The same items, made by a thread of its own, `depth` at most before they are asked for.

    What fails there is raised here; closing this iterator ends the thread.
    """
    queue: Queue[tuple[bool, Any]] = Queue(depth)
    stop = Event()

    def put(entry: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                queue.put(entry, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    break
            put((False, None))
        except BaseException as error:
            put((False, error))
        finally:
            items.close()

    thread = Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = queue.get()
            if not is_item:
                if value is not None:
                    raise value
                return
            yield value
    finally:
        stop.set()
        with suppress(Empty):
            while True:
                queue.get_nowait()
        thread.join()


# --- colours of frames


def rgb_of_yuv(weights: tuple[float, float], full_range: bool) -> NDArray[np.float64]:
    """The matrix (3, 4) from 8-bit luma, blue and red chroma, and one, to R'G'B' levels (ITU-T H.273, section 8.3)."""
    red, blue = weights
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    rows = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * blue * (1 - blue) / green * chroma, -2 * red * (1 - red) / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    return np.column_stack([rows, -rows @ [black, 128, 128]])


def yuv_of_rgb(colors: U8, weights: tuple[float, float], full_range: bool, bits: int = 8) -> NDArray[np.uint16]:
    """Luma, blue and red chroma of sRGB colours (n, 3) uint8, as (n, 3) uint16 of so many bits: `rgb_of_yuv` undone."""
    matrix = rgb_of_yuv(weights, full_range)
    levels = (colors.astype(np.float64) - matrix[:, 3]) @ np.linalg.inv(matrix[:, :3]).T
    return np.asarray(np.clip(np.rint(levels * (1 << bits - 8)), 0, (1 << bits) - 1), np.uint16)


def pixels_of(planes: tuple[U8, U8, U8], size: tuple[int, int], matrix: NDArray[np.float64]) -> U8:
    """The sRGB pixels (height, width, 3) uint8 of a frame made (width, height) `size` by averaging."""
    import cv2

    if planes[0].shape[1] >= _MUCH_LARGER * size[0]:
        # Averaging all pixels for so few takes longer than decoding them; a part of them, evenly spread, does.
        between = 2 * size[0], 2 * size[1]
        y, u, v = (np.asarray(cv2.resize(p, between, interpolation=cv2.INTER_NEAREST), np.uint8) for p in planes)
        planes = y, u, v
    whole = planes[0].shape[1] == size[0]
    same = [
        plane
        if plane.shape[::-1] == size
        else cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR if whole else cv2.INTER_AREA)
        for plane in planes
    ]
    return np.asarray(cv2.transform(cv2.merge(same), matrix), np.uint8)


def working_size(width: int, height: int) -> tuple[int, int]:
    """The size that frames are smoothed at: whole, a half, a third, and so on, with a shorter side from 360 to 720."""
    parts = max(1, min(width, height) // _WORKING_SIDE)
    return -(-width // parts), -(-height // parts)


def _small_size(width: int, height: int) -> tuple[int, int]:
    factor = min(1.0, (SMALL_PIXELS / (width * height)) ** 0.5)
    return max(1, int(width * factor)), max(1, int(height * factor))


# --- the style


def _style(style: StyleName | Style) -> Style:
    if isinstance(style, Style):
        return style
    if style not in STYLES:
        raise PaletteError(f"there is no style {style!r}; use one of {', '.join(STYLES)}")
    return STYLES[style]


def _line_strength(pixels: U8, style: Style) -> U8:
    """How certain a line is, (height, width) uint8: soft between what is one and what is none."""
    import cv2

    lines = np.where(lines_of(pixels, style), np.uint8(255), np.uint8(0))
    return np.asarray(cv2.GaussianBlur(lines, (3, 3), 0), np.uint8)


def _inked(labels: U8, lines: U8, ink: int) -> U8:
    """Labels with that of the ink, which is the last of all, where there are lines."""
    import cv2

    return np.asarray(cv2.max(labels, cv2.threshold(lines, 127, ink, cv2.THRESH_BINARY)[1]), np.uint8)


# --- the first pass


def _scenes(
    source: str | os.PathLike[str],
    part: Part,
    k: int,
    style: Style,
    palette: Palette | None,
    one: bool,
    progress: Progress | None,
) -> tuple[list[Scene], int | None]:
    """The scenes of a film with their palettes, and how many frames there are if that had to be found out."""
    palette = palette or style.own_palette(k)
    if palette is not None:
        everything = np.zeros(3, np.uint8), np.full(3, 255, np.uint8)
        return [Scene(-(1 << 62), Palette.of_bytes(palette.srgb), *everything)], None
    own = style.palette_size(k)

    def learn(frames: list[U8]) -> Palette:
        seen = np.concatenate([stepped(frame, style) for frame in frames])
        return Palette.of_bytes(learn_palette(Picture(seen), own).srgb)

    finder = SceneFinder(learn, one)
    count = 0
    with opened(source) as film:
        size, matrix = _small_size(film.width, film.height), rgb_of_yuv(film.weights, film.full_range)
        with closing(ahead(film.items(part))) as frames:
            for frame in frames:
                assert isinstance(frame, Frame)
                finder.add(frame.pts, pixels_of(frame.planes, size, matrix))
                count += 1
                if progress:
                    progress("looking", count, film.expected)
        scenes = finder.scenes()
    if not scenes:
        raise FilmError(f"{os.fspath(source)}: has no frames that can be decoded")
    return scenes, count


# --- the second pass


@dataclass(frozen=True, eq=False)
class Drawn:
    """A frame in flat colours: `labels` (height, width) uint8 into `colors` (n, 3) uint8."""

    labels: U8
    colors: U8
    pts: int
    duration: int


class Steadied:
    """What is remembered from frame to frame within one scene."""

    def __init__(self, scene: Scene) -> None:
        self.table = LabelTable(scene.palette, scene.low, scene.high)
        self.stillness, self.picture = Stillness(), SteadyPicture()
        self.labels, self.lines = SteadyLabels(self.table), SteadyLines()
        self.colors_and_ink: U8 = np.concatenate([scene.palette.srgb, INK[None]])


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A frame at the working size, smooth, with its levels stretched as the scene's table takes them.

    `lines` tell how certain ink is, None for a style without; `moved` and `source_moved` are as in `SteadyPicture`.
    """

    scene: Steadied
    pixels: U8
    lines: U8 | None
    moved: U8
    source_moved: U8
    margin: float
    pts: int
    duration: int


class Drawing:
    """Draws a film's frames one after the other, and measures how steady they are."""

    def __init__(self, film: Film, style: Style, scenes: Sequence[Scene]) -> None:
        self._style, self._scenes = style, scenes
        self._full = film.width, film.height
        self._size = working_size(*self._full) if style.strength or style.line else self._full
        self._matrix = rgb_of_yuv(film.weights, film.full_range)
        self.flicker, self.scenes = Flicker(), 0
        self._shown: Steadied | None = None

    def items(self, items: Generator[Frame | Sound]) -> Generator[Drawn | Sound]:
        """The same with all frames drawn, on two threads: one for what is done to the small, one to whole frames."""

        def smoothed() -> Generator[Smoothed | Sound]:
            with closing(items):
                for item in items:
                    yield self.smoothed(item) if isinstance(item, Frame) else item

        with closing(ahead(smoothed())) as prepared_items:
            for item in prepared_items:
                yield self.flat(item) if isinstance(item, Smoothed) else item

    def draw(self, frame: Frame) -> Drawn:
        """The next frame in flat colours."""
        return self.flat(self.smoothed(frame))

    def smoothed(self, frame: Frame) -> Smoothed:
        """The next frame at the working size, steady and smooth."""
        while self.scenes < len(self._scenes) and (not self.scenes or self._scenes[self.scenes].start <= frame.pts):
            self._steadied = Steadied(self._scenes[self.scenes])
            self.scenes += 1
        now = self._steadied
        pixels = pixels_of(frame.planes, self._size, self._matrix)
        source_moved = now.stillness.next(pixels)
        steady, moved = now.picture.next(pixels, source_moved, now.stillness.threshold)
        lines = None
        if self._style.is_inked:
            lines = now.lines.averaged(_line_strength(steady, self._style), moved)
        smooth = now.table.stretched(prepared(steady, self._style))
        margin = MARGIN + MARGIN_OF_NOISE * now.stillness.sigma
        return Smoothed(now, smooth, lines, moved, source_moved, margin, frame.pts, frame.duration)

    def flat(self, frame: Smoothed) -> Drawn:
        """A smooth frame in flat colours, in full size."""
        import cv2

        scene, colors, moved = frame.scene, frame.scene.table.palette.srgb, self._whole(frame.moved, smooth=False)
        if scene is not self._shown:
            self._shown = scene
            self.flicker.cut()
        labels = scene.labels.next(self._whole(frame.pixels), moved, frame.margin)
        if self._style.speck:
            # By lightness, as labels are ordered, their median is one of them.
            labels = np.asarray(cv2.medianBlur(labels, _MEDIAN), np.uint8)
        if frame.lines is not None:
            labels = _inked(labels, scene.lines.next(self._whole(frame.lines), moved), len(colors))
            colors = scene.colors_and_ink
        self.flicker.add(labels, self._whole(frame.source_moved, smooth=False))
        return Drawn(labels, colors, frame.pts, frame.duration)

    def _whole(self, pixels: Any, smooth: bool = True) -> Any:
        """A working picture made as large as the frame."""
        import cv2

        if pixels.shape[1::-1] == self._full:
            return pixels
        return cv2.resize(pixels, self._full, interpolation=cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST)


def _redraw(
    source: Path,
    target: Path,
    codec: str | None,
    force: bool,
    part: Part,
    style: Style,
    scenes: Sequence[Scene],
    count: int | None,
    progress: Progress | None,
) -> tuple[FilmReport, bool]:
    """Draw and write a film; whether Ctrl-C ended it early is told too."""
    with opened(source) as film:
        total = count if count is not None else film.expected
        drawing = Drawing(film, style, scenes)
        written, interrupted = 0, False

        def write(file: BinaryIO) -> None:
            nonlocal written, interrupted
            with closing(Writer(file, target, codec, film, part)) as writer:
                decoded = ahead(film.items(part, sound=writer.has_sound))
                with closing(ahead(drawing.items(decoded))) as items:
                    try:
                        for item in items:
                            writer.add(item)
                            if progress and isinstance(item, Drawn):
                                progress("frames", writer.frames, total)
                    except KeyboardInterrupt:
                        if not writer.frames:
                            raise
                        interrupted = True
                written = writer.frames
                if not written:
                    raise FilmError(f"{source}: has no frames that can be decoded")

        try:
            check_output(target, force)
            write_file(target.parent, target.name, write)
        except (CbirError, KeyboardInterrupt):
            raise
        except RefusedError as why:
            raise OutputError(f"{target}: {why.reason}") from why
        except (_av().FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{target}: cannot be written ({_reason(error)})") from error
        lost = film.lost
        if not interrupted and part == Part() and film.video.frames:
            lost = max(lost, int(film.video.frames) - written)
        return FilmReport(written, 0.0, drawing.scenes, drawing.flicker.share, lost, 0.0), interrupted


class Writer:
    """Encodes drawn frames, and copies the sound, into an open file."""

    def __init__(self, file: BinaryIO, target: Path, codec: str | None, film: Film, part: Part) -> None:
        self._container, name = _container(target, codec)
        self._encoder, self._film, self._target = CODECS[name], film, target
        self._shift = film.time_base and round(part.start / film.time_base)
        self.frames = 0
        self.has_sound = bool(film.sound) and name not in _SILENT
        self._every = part.every
        self._colors: U8 | None = None
        self._output = _av().open(file, "w", format=self._container)
        self._stream: Any = None
        self._sounds: list[Any] = []
        self._waiting: list[Sound] = []

    def add(self, item: Drawn | Sound) -> None:
        """Write a frame or a packet of sound."""
        if isinstance(item, Sound):
            if self._stream is None and len(self._waiting) < _SOUND_BEFORE:
                # The header, which is written first, tells how frames are turned, which the first of them tells.
                self._waiting.append(item)
                return
            if self._stream is None:
                self._begin()
            self._copy(item)
            return
        if self._stream is None:
            self._begin()
        frame = self._frame(item)
        frame.pts, frame.time_base = item.pts - self._shift, self._film.time_base
        frame.duration = item.duration
        for packet in self._stream.encode(frame):
            self._output.mux(packet)
        self.frames += 1

    def close(self) -> None:
        """Finish the file, so that it plays."""
        try:
            if self._stream is not None:
                for packet in self._stream.encode():
                    self._output.mux(packet)
        finally:
            self._output.close()

    def _begin(self) -> None:
        film = self._film
        width, height = self._size
        rate, options = film.rate / self._every, self._encoder.options
        stream = self._output.add_stream(self._encoder.library, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, self._encoder.pixels
        context, source = stream.codec_context, film.video.codec_context
        context.time_base = film.time_base
        stream.time_base = film.time_base
        if source.sample_aspect_ratio:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        if self._encoder.pixels.startswith("yuv"):
            context.color_range = _FULL_RANGE if film.full_range else 1
            context.colorspace = film.matrix
            context.color_primaries, context.color_trc = source.color_primaries, source.color_trc
        if film.rotation and self._container in _ROTATING:
            stream.set_display_matrix(film.rotation)
        self._stream = stream
        try:
            self._sounds = [self._output.add_stream_from_template(sound) for sound in film.sound if self.has_sound]
            self._output.start_encoding()
        except (_av().FFmpegError, ValueError) as error:
            if not self.has_sound or (isinstance(error, OSError) and error.errno not in (None, EINVAL)):
                raise
            names = ", ".join(sorted({sound.codec_context.name for sound in film.sound}))
            raise RefusedError(f"{names} sound does not go into {self._target.suffix}; name the output .mkv") from error
        for item in self._waiting:
            self._copy(item)
        self._waiting = []

    def _copy(self, item: Sound) -> None:
        packet = item.packet
        shift = round(self._shift * self._film.time_base / packet.time_base)
        packet.stream = self._sounds[item.stream]
        if shift:
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
        self._output.mux(packet)

    @property
    def _turns(self) -> int:
        """Quarter turns to the left that the container cannot tell of, and that are therefore made."""
        return 0 if self._container in _ROTATING else round(self._film.turned / 90) % 4

    @property
    def _size(self) -> tuple[int, int]:
        width, height = self._film.width, self._film.height
        if self._turns % 2:
            width, height = height, width
        if self._encoder.pixels == "yuv420p":
            width, height = width + width % 2, height + height % 2
        return width, height

    def _frame(self, drawn: Drawn) -> Any:
        labels = np.rot90(drawn.labels, self._turns) if self._turns else drawn.labels
        width, height = self._size
        if labels.shape != (height, width):
            # A colour has one sample for 2 x 2 pixels, so that odd sides get one more.
            labels = np.pad(labels, ((0, height - labels.shape[0]), (0, width - labels.shape[1])), mode="edge")
        if self._encoder.pixels == "pal8":
            return _palette_frame(labels, drawn.colors)
        if self._encoder.pixels == "bgra":
            return _rgba_frame(labels, drawn.colors)
        return self._yuv_frame(labels, drawn.colors)

    def _yuv_frame(self, labels: U8, colors: U8) -> Any:
        import cv2

        deep = self._encoder.pixels.endswith("10le")
        if self._colors is not colors:
            levels = yuv_of_rgb(colors, self._film.weights, self._film.full_range, 10 if deep else 8)
            padded = np.zeros((256, 3), np.uint16 if deep else np.uint8)
            padded[: len(levels)] = levels
            self._colors, self._levels = colors, np.ascontiguousarray(padded.T)
        frame = _av().VideoFrame(labels.shape[1], labels.shape[0], self._encoder.pixels)
        for plane, levels in zip(frame.planes, self._levels, strict=True):
            values = np.asarray(levels[labels] if deep else cv2.LUT(labels, levels))
            if (plane.height, plane.width) != labels.shape:
                values = np.asarray(cv2.resize(values, (plane.width, plane.height), interpolation=cv2.INTER_AREA))
            line = np.frombuffer(plane, values.dtype).reshape(-1, plane.line_size // values.itemsize)
            line[: plane.height, : plane.width] = values
        frame.color_range = _FULL_RANGE if self._film.full_range else 1
        frame.colorspace = self._film.matrix
        return frame


def _palette_frame(labels: U8, colors: U8) -> Any:
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0] = 255
    palette[: len(colors), 1:] = colors
    return _av().VideoFrame.from_ndarray((np.ascontiguousarray(labels), palette), format="pal8")


def _rgba_frame(labels: U8, colors: U8) -> Any:
    bgra = np.column_stack([colors[:, ::-1], np.full(len(colors), 255, np.uint8)])
    return _av().VideoFrame.from_ndarray(bgra[labels], format="bgra")


# --- before a long run


def stills(
    source: str | os.PathLike[str],
    k: int = 16,
    *,
    style: StyleName | Style = "darkly",
    palette: Palette | None = None,
    start: float | None = None,
    end: float | None = None,
    number: int = 4,
) -> U8:
    """A sheet of stills spread throughout a film, (height, width, 3) uint8: each as it is, and redrawn at its right.

    Each has the palette of its own second. Raises FilmError, PaletteError or MissingExtraError.
    """
    drawn_in = _style(style)
    _check_colors(k, palette, drawn_in)
    with opened(source) as film:
        last = end if end is not None else float((film.expected or 0) / film.rate)
    first = start or 0.0
    rows = []
    for i in range(number):
        at = first + max(0.0, last - first) * (i + 0.5) / number
        # A header may claim more than there is.
        with suppress(FilmError):
            rows.append(_still(source, Part(at, at + 1), k, drawn_in, palette))
    return np.concatenate(rows or [_still(source, Part(first, first + 1), k, drawn_in, palette)])


def _still(source: str | os.PathLike[str], part: Part, k: int, style: Style, palette: Palette | None) -> U8:
    """The last frame of a part of a film, beside itself redrawn, upright."""
    scenes, _ = _scenes(source, part, k, style, palette, True, None)
    frame: Frame | Sound | None = None
    with opened(source) as film:
        drawing = Drawing(film, style, scenes)
        with closing(film.items(part)) as items:
            for frame in items:
                assert isinstance(frame, Frame)
                drawn = drawing.draw(frame)
        if not isinstance(frame, Frame):
            raise FilmError(f"{os.fspath(source)}: has no frames that can be decoded")
        before = pixels_of(frame.planes, (film.width, film.height), rgb_of_yuv(film.weights, film.full_range))
        turns = round(film.turned / 90) % 4
        return _narrowed(np.concatenate([np.rot90(before, turns), np.rot90(drawn.colors[drawn.labels], turns)], axis=1))


def _narrowed(pixels: U8) -> U8:
    """A picture at most as wide as a sheet."""
    import cv2

    height, width = pixels.shape[:2]
    if width <= _SHEET_WIDTH:
        return pixels
    size = _SHEET_WIDTH, max(1, round(height * _SHEET_WIDTH / width))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
