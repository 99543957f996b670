"""Films written: drawn frames encoded, and the sound, subtitles, chapters and metadata taken over as they were."""

from __future__ import annotations

import os
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cbir.color import U8
from cbir.errors import OutputError, RefusedError
from cbir.film_drawing import Drawn
from cbir.film_reading import Copied, Film, Part
from cbir.luma import FULL_RANGE, yuv_of_rgb
from cbir.output import check_output
from cbir.palette import U16
from cbir.pyav import pyav

# What is said of a stream of sound or subtitles, and stays.
_OF_STREAMS = ("language", "title")
_ROTATING = ("mp4", "mov", "matroska")
# Text that FFmpeg's containers take as it is.
_SUBTITLES = {
    "mp4": ("mov_text",),
    "mov": ("mov_text",),
    "matroska": ("subrip", "srt", "ass", "ssa", "webvtt"),
    "webm": ("webvtt",),
}
# Packets of sound before any frame.
_SOUND_BEFORE = 4096


@dataclass(frozen=True)
class Encoder:
    """A codec as FFmpeg calls it, the pixels it is given, and its options."""

    library: str
    pixels: str
    options: dict[str, str]


# Of flat colours the edges cost: small blocks that follow them to whole pixels, and bits for them rather than for what
# is even, take half the time of frames both ways, parts of pixels and arithmetic coding, for as large and sharp a film.
_X264 = "bframes=0:weightp=0:subme=0:analyse=i4x4,p8x8:aq-mode=0:no-cabac=1"
# Fast settings, since films are to be drawn at the speed of playing; flat colours take few bits even so.
CODECS: dict[str, Encoder] = {
    "h264": Encoder("libx264", "yuv420p", {"preset": "superfast", "crf": "22", "x264-params": _X264}),
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


def check_film_output(path: Path, codec: str | None, force: bool) -> None:
    """Refuse, before any work, a film that cannot be written. Raises OutputError or MissingExtraError."""
    _, name = container_of(path, codec)
    av = pyav()
    try:
        av.Codec(CODECS[name].library, "w")
    except ValueError:
        raise OutputError(
            f"{path}: this PyAV has no {CODECS[name].library} to encode {name}; use another --codec"
        ) from None
    check_output(path, force)


def container_of(path: Path, codec: str | None) -> tuple[str, str]:
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


class Writer:
    """Encodes drawn frames, and copies the sound and subtitles, into an open file."""

    def __init__(self, file: BinaryIO, target: Path, codec: str | None, film: Film, part: Part) -> None:
        self._container, name = container_of(target, codec)
        self._encoder, self._film, self._target = CODECS[name], film, target
        self._shift = film.time_base and round(part.start / film.time_base)
        self.frames = 0
        self.has_sound = bool(film.sound) and name not in _SILENT
        taken = _SUBTITLES.get(self._container, ())
        texts = [text for text in film.subtitles if text.codec_context.name in taken]
        # The streams that are copied, and the codecs of subtitles that cannot be.
        self.copied = (film.sound if self.has_sound else []) + texts
        self.left_out = ", ".join(sorted({text.codec_context.name for text in film.subtitles if text not in texts}))
        self._chapters = film.chapters(part) if name not in _SILENT else []
        self._every = part.every
        self._colors: U8 | None = None
        self._output = pyav().open(file, "w", format=self._container)
        self._stream: Any = None
        self._copies: dict[int, Any] = {}
        self._waiting: list[Copied] = []

    def add(self, item: Drawn | Copied) -> None:
        """Write a frame or a packet that is copied."""
        if isinstance(item, Copied):
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
        if self._encoder.library == "libsvtav1":
            # It tells of itself on stderr otherwise; 1 is errors only.
            os.environ.setdefault("SVT_LOG", "1")
        stream = self._output.add_stream(self._encoder.library, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, self._encoder.pixels
        context, source = stream.codec_context, film.video.codec_context
        context.time_base = film.time_base
        stream.time_base = film.time_base
        if source.sample_aspect_ratio:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        if self._encoder.pixels.startswith("yuv"):
            context.color_range = FULL_RANGE if film.full_range else 1
            context.colorspace = film.matrix
            context.color_primaries, context.color_trc = film.primaries, film.transfer
        if film.rotation and self._container in _ROTATING:
            stream.set_display_matrix(film.rotation)
        self._stream = stream
        if self._container not in _SILENT:
            self._output.metadata.update(film.metadata)
            self._output.set_chapters(self._chapters)
        try:
            for copied in self.copied:
                copy = self._copies[copied.index] = self._output.add_stream_from_template(copied)
                copy.metadata.update({key: copied.metadata[key] for key in _OF_STREAMS if key in copied.metadata})
            self._output.start_encoding()
        except (pyav().FFmpegError, ValueError) as error:
            if not self.has_sound or (isinstance(error, OSError) and error.errno not in (None, EINVAL)):
                raise
            names = ", ".join(sorted({sound.codec_context.name for sound in film.sound}))
            raise RefusedError(f"{names} sound does not go into {self._target.suffix}; name the output .mkv") from error
        for item in self._waiting:
            self._copy(item)
        self._waiting = []

    def _copy(self, item: Copied) -> None:
        packet = item.packet
        shift = round(self._shift * self._film.time_base / packet.time_base)
        packet.stream = self._copies[item.stream]
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
        deep = self._encoder.pixels.endswith("10le")
        if self._colors is not colors:
            levels = yuv_of_rgb(colors, self._film.weights, self._film.full_range, 10 if deep else 8)
            padded = np.zeros((256, 4), np.uint16 if deep else np.uint8)
            padded[: len(levels), :3] = levels
            self._colors, self._levels = colors, padded
        frame = pyav().VideoFrame(labels.shape[1], labels.shape[0], self._encoder.pixels)
        planes = [_samples(plane, self._levels.dtype) for plane in frame.planes]
        (_fill_deep if deep else _fill)(planes, labels, self._levels)
        frame.color_range = FULL_RANGE if self._film.full_range else 1
        frame.colorspace = self._film.matrix
        return frame


def _samples(plane: Any, dtype: Any) -> Any:
    """A view of a frame's plane, (height, width)."""
    return np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)[: plane.height, : plane.width]


def _fill(planes: list[U8], labels: U8, levels: U8) -> None:
    """Draw labels in their `levels` (256, 4) of luma, chroma, and nothing; chroma is half as wide and high."""
    import cv2

    # The four bytes of a label are looked up as one number, in a third of the time.
    pixels = np.asarray(cv2.LUT(labels, levels.view(np.int32).T)).view(np.uint8).reshape(*labels.shape, 4)
    chroma = cv2.resize(pixels, planes[1].shape[::-1], interpolation=cv2.INTER_AREA)
    for channel, (plane, of) in enumerate(zip(planes, (pixels, chroma, chroma), strict=True)):
        cv2.extractChannel(of, channel, plane)


def _fill_deep(planes: list[U16], labels: U8, levels: U16) -> None:
    """The same of planes that are as large as the frame, in 10 bits."""
    for plane, of in zip(planes, levels.T, strict=False):
        plane[:] = of[labels]


def _palette_frame(labels: U8, colors: U8) -> Any:
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0] = 255
    palette[: len(colors), 1:] = colors
    return pyav().VideoFrame.from_ndarray((np.ascontiguousarray(labels), palette), format="pal8")


def _rgba_frame(labels: U8, colors: U8) -> Any:
    bgra = np.column_stack([colors[:, ::-1], np.full(len(colors), 255, np.uint8)])
    return pyav().VideoFrame.from_ndarray(bgra[labels], format="bgra")
