"""Films read: what they are like, their frames in luma and chroma, and their sound as it is in the file.

Only containers that hold films are opened, and of these none that can name other files.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np

from cbir.color import U8
from cbir.errors import CbirError
from cbir.hdr import Transfer, sdr_pixels
from cbir.luma import FULL_RANGE, pixels_of, rgb_of_yuv
from cbir.pyav import pyav, reason
from cbir.signature import HEAD_BYTES, picture_format

# 8192 x 4320; larger frames, which only a hostile header claims, are refused before they are decoded.
MAX_PIXELS = 8192 * 4320
# Seconds of a film in which the sound of a frame is to be found behind it.
_SOUND_AFTER = 2
# Metadata that tells of the file, and is not true of another; and where telephones of Apple write their place.
_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")
_PLACE_OF_QUICKTIME = "com.apple.quicktime.location.ISO6709"
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
_HDR: dict[int, Transfer] = {16: "PQ", 18: "HLG"}
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
_WEIGHTS |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_BT709, _BT601, _BT2020 = 1, 6, 9
# Films that do not say which luma they have are taken for HD above this height, as players do.
_SD_HEIGHT = 576


class FilmError(CbirError, ValueError):
    """A file cannot be read as a film."""


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
class Copied:
    """A packet of sound or subtitles as it was in the file, of the stream with this index there."""

    packet: Any
    stream: int


class Film:
    """A film that is open for reading: what it is like, and its frames and sound, once."""

    def __init__(self, path: str, container: Any) -> None:
        self.path, self._input = path, container
        self.video = _video_stream(path, container)
        # Of a kind that nobody knows it cannot be copied either.
        self.sound = [sound for sound in container.streams.audio if sound.codec_context is not None]
        self.subtitles = [text for text in container.streams.subtitles if text.codec_context is not None]
        context = self.video.codec_context
        self.width, self.height = int(context.width), int(context.height)
        _check_size(path, self.width, self.height)
        # Frames of another size in mid-film are scaled, so a hostile one must not be decoded either.
        context.options = {"max_pixels": str(MAX_PIXELS)}
        self.video.thread_type = "AUTO"
        self.time_base: Fraction = self.video.time_base or Fraction(1, 1000)
        self.rate: Fraction = self.video.average_rate or self.video.guessed_rate or Fraction(25)
        is_yuv = bool(context.format) and not context.format.is_rgb and "pal8" not in context.format.name
        name = context.pix_fmt or ""
        self.full_range = is_yuv and (context.color_range == FULL_RANGE or name.startswith("yuvj"))
        matrix: int = context.colorspace if is_yuv else _BT709
        self.hdr = _HDR.get(context.color_trc)
        usual = _BT2020 if self.hdr else _BT709 if self.height > _SD_HEIGHT else _BT601
        weights = _WEIGHTS.get(matrix) or _WEIGHTS[usual]
        self._decoded_matrix = matrix if matrix in _WEIGHTS else _BT601
        self._rgb_of_yuv = rgb_of_yuv(weights, self.full_range)
        # What it is redrawn in: like itself, but for HDR, whose flat colours are those of a usual screen.
        self.matrix, self.weights = (_BT709, _WEIGHTS[_BT709]) if self.hdr else (matrix, weights)
        self.primaries: int = _BT709 if self.hdr else context.color_primaries
        self.transfer: int = _BT709 if self.hdr else context.color_trc
        self._errors: tuple[type[Exception], ...] = (pyav().FFmpegError, OSError, ValueError)
        self.lost = 0
        self.rotation: tuple[int, ...] | None = None
        self.turned = 0

    @property
    def expected(self) -> int | None:
        """How many frames its header claims."""
        if self.video.frames:
            return int(self.video.frames)
        return int(self._input.duration / 1e6 * self.rate) if self._input.duration else None

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of the film, its title, place, and date of making among it, but not of the file itself."""
        kept = {key: text for key, text in self._input.metadata.items() if key.lower() not in _OF_THE_FILE}
        if place := kept.get(_PLACE_OF_QUICKTIME):
            kept.setdefault("location", place)
        return kept

    def pixels(self, frame: Frame, size: tuple[int, int]) -> U8:
        """The sRGB pixels (height, width, 3) uint8 of a frame made (width, height) `size`; HDR is made standard."""
        pixels = pixels_of(frame.planes, size, self._rgb_of_yuv)
        return sdr_pixels(pixels, self.hdr) if self.hdr else pixels

    def chapters(self, part: Part) -> list[dict[str, Any]]:
        """The chapters of a part, cut to it, in milliseconds from its beginning on."""
        first = float((self.video.start_time or 0) * self.time_base)
        last = inf if part.end is None else first + part.end - part.start
        chapters: list[dict[str, Any]] = []
        for chapter in self._input.chapters():
            if not chapter["time_base"]:
                continue
            start, end = (float(chapter[at] * chapter["time_base"]) - part.start for at in ("start", "end"))
            start, end = max(start, 0.0), min(end, last)
            if start < end:
                times = {"start": round(start * 1000), "end": round(end * 1000), "time_base": Fraction(1, 1000)}
                chapters.append({"id": len(chapters) + 1, "metadata": chapter["metadata"], **times})
        return chapters

    def items(self, part: Part, copied: Sequence[Any] = ()) -> Generator[Frame | Copied]:
        """Its frames, and between them packets of the streams that are `copied`, in the order of the file."""
        first = self.video.start_time or 0
        begin = first + round(part.start / self.time_base)
        stop = None if part.end is None else first + round(part.end / self.time_base)
        if part.start:
            self._seek(begin)
        clock, seen, ended = _Clock(self.time_base, self.rate), 0, False
        for packet in self._packets([self.video, *copied]):
            if packet.stream.index != self.video.index:
                if _within(packet, self.time_base, begin if part.start else None, stop):
                    yield Copied(packet, packet.stream.index)
                continue
            if ended:
                # Sound of the same time may lie a little further on in the file.
                if not copied or packet.dts is None or packet.dts > (stop or 0) + _SOUND_AFTER / self.time_base:
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
        levels = FULL_RANGE if self.full_range else 1
        return {
            "src_colorspace": self._decoded_matrix,
            "dst_colorspace": self._decoded_matrix,
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
    """Whether a packet belongs to a part of the film, given in the ticks of its frames."""
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
    av, name = pyav(), os.fspath(path)
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
        raise FilmError(f"{name}: damaged, or not a film ({reason(error)})") from error
    with container:
        yield Film(name, container)
