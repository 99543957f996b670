"""Films redrawn: what stays as it was, what is exact, and what becomes of bad ones."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import make_photo, photo_pixels

from cbir.ahead import ahead
from cbir.cli.filming import run_film
from cbir.errors import CbirError, MissingExtraError, OutputError, PaletteError
from cbir.film import quantize_film, stills
from cbir.film_drawing import Drawing, working_size
from cbir.film_reading import FilmError, Part, is_film, opened
from cbir.film_writing import CODECS, Encoder, check_film_output
from cbir.hdr import Transfer, srgb_of_hdr
from cbir.luma import rgb_of_yuv, yuv_of_rgb
from cbir.palette import Palette
from cbir.scenes import Scene
from cbir.styles import STYLES

av: Any = pytest.importorskip("av", reason="films need PyAV: pip install 'cbir[video]'")
U8 = NDArray[np.uint8]
RATE, FRAMES = 25, 30


def moving_frames(count: int = FRAMES, size: tuple[int, int] = (96, 64), cut: int | None = None) -> list[U8]:
    """A yellow square that crosses a photo; from frame `cut` on, another photo."""
    frames = []
    for i in range(count):
        frame = photo_pixels("#1f5fa8" if cut is None or i < cut else "#a83a2c", size).copy()
        frame[20:40, i % 60 : i % 60 + 20] = (240, 216, 58)
        frames.append(frame)
    return frames


def make_film(
    path: Path,
    frames: list[U8],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    time_base: Fraction = Fraction(1, RATE),
    sound: bool = False,
    rotation: int = 0,
    full_range: bool = False,
    trc: int | None = None,
    matrix: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    with av.open(os.fspath(path), "w") as output:
        stream = output.add_stream(codec, rate=RATE, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = time_base
        if full_range:
            stream.codec_context.color_range = 2
        if trc:
            stream.codec_context.color_trc = trc
        if matrix:
            stream.codec_context.colorspace = stream.codec_context.color_primaries = matrix
        if rotation:
            stream.set_display_rotation(rotation)
        audio = output.add_stream("aac", rate=48000) if sound else None
        for i, frame_pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(frame_pixels, format="rgb24")
            if matrix:
                frame = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range=1)
            frame.pts, frame.time_base = (times[i] if times else i), time_base
            output.mux(stream.encode(frame))
            if audio is not None:
                output.mux(audio.encode(tone(i)))
        output.mux(stream.encode())
        if audio is not None:
            output.mux(audio.encode())
    return path


def tone(number: int) -> Any:
    """A twenty-fifth of a second of sound."""
    at = np.arange(1920) + 1920 * number
    samples = np.tile(np.sin(at * 0.05).astype(np.float32) * 0.3, (2, 1))
    sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
    sound.sample_rate, sound.pts, sound.time_base = 48000, 1920 * number, Fraction(1, 48000)
    return sound


def decoded(path: Path) -> list[Any]:
    with av.open(os.fspath(path)) as container:
        return list(container.decode(video=0))


def sounds(path: Path) -> list[tuple[bytes, float]]:
    with av.open(os.fspath(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.dts is not None]
        return [(bytes(packet), float(packet.pts * packet.time_base)) for packet in packets]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 30 frames of 96 x 64 pixels, with sound."""
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", moving_frames(), sound=True)


# --- what stays as it was


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_the_sound_is_copied_packet_by_packet(film: Path, tmp_path: Path, ending: str) -> None:
    quantize_film(film, tmp_path / f"out{ending}")
    before, after = sounds(film), sounds(tmp_path / f"out{ending}")
    assert [data for data, _ in after] == [data for data, _ in before]
    # Matroska has no time before 0, so that all of a film, its frames too, begins later by a packet of sound.
    late = after[0][1] - before[0][1]
    assert decoded(tmp_path / f"out{ending}")[0].time == pytest.approx(late, abs=0.001)
    assert [at - late for _, at in after] == pytest.approx([at for _, at in before], abs=0.001)


def test_a_film_keeps_its_frames_and_their_times(film: Path, tmp_path: Path) -> None:
    report = quantize_film(film, tmp_path / "out.mp4")
    frames = decoded(tmp_path / "out.mp4")
    assert report.frames == len(frames) == FRAMES
    assert [frame.time for frame in frames] == [frame.time for frame in decoded(film)]
    assert report.lost == 0


def test_a_film_of_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 40, 50, 200, 201, 500, 900, 933]
    make_film(tmp_path / "film.mkv", moving_frames(8), times=times, time_base=Fraction(1, 1000))
    quantize_film(tmp_path / "film.mkv", tmp_path / "out.mp4")
    assert [round(frame.time * 1000) for frame in decoded(tmp_path / "out.mp4")] == times


def test_a_film_keeps_its_length(film: Path, tmp_path: Path) -> None:
    quantize_film(film, tmp_path / "out.mp4")
    with av.open(os.fspath(film)) as before, av.open(os.fspath(tmp_path / "out.mp4")) as after:
        assert after.streams.video[0].duration * after.streams.video[0].time_base == Fraction(FRAMES, RATE)
        assert after.duration == before.duration


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_film_stays_turned_as_it_was(tmp_path: Path, rotation: int) -> None:
    make_film(tmp_path / "film.mp4", moving_frames(), rotation=rotation)
    before = decoded(tmp_path / "film.mp4")[0].rotation
    quantize_film(tmp_path / "film.mp4", tmp_path / "out.mp4")
    assert before % 360 == rotation % 360
    assert decoded(tmp_path / "out.mp4")[0].rotation == before


def test_a_container_that_cannot_tell_of_turns_gets_upright_frames(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mp4", moving_frames(8), rotation=90)
    quantize_film(tmp_path / "film.mp4", tmp_path / "out.gif", style="flat")
    turned = np.rot90(moving_frames(8)[0], 1)
    shown = decoded(tmp_path / "out.gif")[0].to_ndarray(format="rgb24")
    assert shown.shape == turned.shape
    assert np.abs(shown.astype(float) - turned).mean() < 12


@pytest.mark.parametrize("full_range", [False, True])
def test_a_film_keeps_its_colour_range_and_its_colours(tmp_path: Path, full_range: bool) -> None:
    flat = [np.full((64, 96, 3), (30, 120, 220), np.uint8)] * 4
    pixels = "yuvj420p" if full_range else "yuv420p"
    make_film(tmp_path / "film.mp4", flat, pixels=pixels, full_range=full_range)
    quantize_film(tmp_path / "film.mp4", tmp_path / "out.mp4", style="flat")
    before, after = decoded(tmp_path / "film.mp4")[2], decoded(tmp_path / "out.mp4")[2]
    assert (after.color_range == 2) == full_range
    for a, b in zip(before.planes, after.planes, strict=True):
        assert abs(np.median(np.frombuffer(a, np.uint8)) - float(np.median(np.frombuffer(b, np.uint8)))) <= 1


@pytest.mark.parametrize("size", [(97, 65), (96, 65), (1, 1)])
def test_an_odd_size_is_kept_but_for_a_pixel(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = [photo_pixels(1, size)] * 4
    make_film(tmp_path / "film.mkv", frames, codec="ffv1", pixels="bgr0")
    report = quantize_film(tmp_path / "film.mkv", tmp_path / "out.mp4")
    shown = decoded(tmp_path / "out.mp4")
    assert (shown[0].width, shown[0].height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert report.frames == len(shown) == 4


# --- what is written


@pytest.mark.parametrize(
    ("ending", "codec", "name"),
    [
        (".mp4", None, "h264"),
        (".webm", None, "vp9"),
        (".mkv", "av1", "av1"),
        (".mov", "prores", "prores"),
        (".gif", None, "gif"),
    ],
)
def test_the_codec_is_by_the_ending_or_as_told(tmp_path: Path, ending: str, codec: str | None, name: str) -> None:
    make_film(tmp_path / "film.mp4", moving_frames(10))
    quantize_film(tmp_path / "film.mp4", tmp_path / f"out{ending}", codec=codec)
    with av.open(os.fspath(tmp_path / f"out{ending}")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == name
        assert len(list(container.decode(video=0))) == 10


def test_a_film_becomes_an_animated_webp(tmp_path: Path) -> None:
    from PIL import Image

    make_film(tmp_path / "film.mp4", moving_frames(6))
    quantize_film(tmp_path / "film.mp4", tmp_path / "out.webp", 8)
    with Image.open(tmp_path / "out.webp") as image:
        assert image.n_frames == 6
        assert len(image.convert("RGB").getcolors(1 << 16)) <= 8


@pytest.mark.parametrize("style", list(STYLES))
@pytest.mark.parametrize("k", [2, 8])
def test_no_frame_has_more_colours_than_asked_for(film: Path, tmp_path: Path, style: Any, k: int) -> None:
    quantize_film(film, tmp_path / "out.gif", k, style=style)
    for frame in decoded(tmp_path / "out.gif"):
        assert len(np.unique(frame.to_ndarray(format="rgb24").reshape(-1, 3), axis=0)) <= k


def test_each_scene_has_a_palette_that_does_not_change_within(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mp4", moving_frames(40, cut=20))
    report = quantize_film(tmp_path / "film.mp4", tmp_path / "out.gif", 4, style="flat")
    colors = [
        set(map(tuple, f.to_ndarray(format="rgb24").reshape(-1, 3).tolist())) for f in decoded(tmp_path / "out.gif")
    ]
    assert report.scenes == 2
    first, second = set().union(*colors[:20]), set().union(*colors[20:])
    assert len(first) == len(second) == 4
    assert first != second


def test_one_palette_serves_all_scenes(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mp4", moving_frames(40, cut=20))
    report = quantize_film(tmp_path / "film.mp4", tmp_path / "out.gif", 4, style="flat", one_palette=True)
    colors = np.concatenate([f.to_ndarray(format="rgb24").reshape(-1, 3) for f in decoded(tmp_path / "out.gif")])
    assert report.scenes == 1
    assert len(np.unique(colors, axis=0)) == 4


def test_a_given_palette_is_used(film: Path, tmp_path: Path) -> None:
    palette = Palette.of_bytes(np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8))
    quantize_film(film, tmp_path / "out.gif", palette=palette, style="flat")
    colors = np.concatenate([f.to_ndarray(format="rgb24").reshape(-1, 3) for f in decoded(tmp_path / "out.gif")])
    assert set(map(tuple, np.unique(colors, axis=0).tolist())) <= {(0, 0, 0), (255, 0, 0), (0, 0, 255)}


@pytest.mark.parametrize("style", list(STYLES))
def test_a_still_film_with_noise_does_not_flicker(tmp_path: Path, style: Any) -> None:
    random = np.random.default_rng(0)
    # A smooth picture, so that much of it lies between two colours.
    clean = cv2.resize(random.integers(0, 256, (5, 6, 3)).astype(np.uint8), (192, 160), interpolation=cv2.INTER_CUBIC)
    frames = [np.rint(clean + random.normal(0, 4, clean.shape)).clip(0, 255).astype(np.uint8) for _ in range(60)]
    make_film(tmp_path / "film.mkv", frames, codec="ffv1", pixels="bgr0")
    assert quantize_film(tmp_path / "film.mkv", tmp_path / "out.mp4", style=style).flicker < 0.001


def test_what_moves_is_drawn_without_a_trail(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mkv", moving_frames(), codec="ffv1", pixels="bgr0")
    yellow = Palette.of_bytes(np.array([[31, 95, 168], [240, 216, 58]], np.uint8))
    with opened(tmp_path / "film.mkv") as film:
        everything = np.zeros(3, np.uint8), np.full(3, 255, np.uint8)
        drawing = Drawing(film, STYLES["flat"], [Scene(0, yellow, *everything)])
        for i, frame in enumerate(film.items(Part())):
            drawn = drawing.draw(frame)  # type: ignore[arg-type]
            is_yellow = drawn.colors[drawn.labels][..., 0] == 240
            expected = np.zeros((64, 96), bool)
            expected[20:40, i : i + 20] = True
            # Chroma is half as wide.
            assert (is_yellow != expected).sum() <= 60


# --- parts


def test_a_part_of_a_film_begins_at_its_start(film: Path, tmp_path: Path) -> None:
    report = quantize_film(film, tmp_path / "out.mp4", start=0.4, end=0.8)
    assert report.frames == 10
    assert [round(f.time * RATE) for f in decoded(tmp_path / "out.mp4")] == list(range(10))
    heard = sounds(tmp_path / "out.mp4")
    whole = [data for data, at in sounds(film) if 0.4 <= at < 0.8]
    assert [data for data, _ in heard] == whole


def test_of_every_third_frame_the_times_are_kept(film: Path, tmp_path: Path) -> None:
    quantize_film(film, tmp_path / "out.mp4", every=3)
    assert [round(f.time * RATE) for f in decoded(tmp_path / "out.mp4")] == list(range(0, FRAMES, 3))


@pytest.mark.parametrize("part", [{"every": 0}, {"start": -1.0}, {"start": 2.0, "end": 2.0}])
def test_a_part_without_anything_in_it_is_refused(film: Path, tmp_path: Path, part: dict[str, Any]) -> None:
    with pytest.raises(FilmError):
        quantize_film(film, tmp_path / "out.mp4", **part)
    assert list(tmp_path.iterdir()) == []


def test_a_part_beyond_the_end_is_refused(film: Path, tmp_path: Path) -> None:
    with pytest.raises(FilmError, match="no frames"):
        quantize_film(film, tmp_path / "out.mp4", start=100)


def test_stills_show_each_beside_itself_redrawn(film: Path) -> None:
    sheet = stills(film, 8, number=3)
    assert sheet.shape == (3 * 64, 2 * 96, 3)
    assert len(np.unique(sheet[:64, 96:].reshape(-1, 3), axis=0)) <= 8


# --- colours


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("weights", [(0.2126, 0.0722), (0.299, 0.114)])
def test_luma_and_chroma_become_the_colours_they_were_made_of(weights: tuple[float, float], full_range: bool) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (500, 3)).astype(np.uint8)
    yuv = yuv_of_rgb(colors, weights, full_range, 10) / 4
    back = np.column_stack([yuv, np.ones(len(yuv))]) @ rgb_of_yuv(weights, full_range).T
    assert np.abs(back - colors).max() < 1


def test_white_and_black_have_the_levels_of_the_standard() -> None:
    colors = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    assert yuv_of_rgb(colors, (0.2126, 0.0722), False).tolist() == [[16, 128, 128], [235, 128, 128]]
    assert yuv_of_rgb(colors, (0.2126, 0.0722), True).tolist() == [[0, 128, 128], [255, 128, 128]]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1280, 720), (640, 360)), ((1920, 1080), (640, 360)), ((768, 576), (768, 576)), ((10, 8), (10, 8))],
)
def test_frames_are_smoothed_at_a_part_of_their_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(*size) == expected


# --- bad input


def test_a_truncated_film_keeps_what_decodes_and_tells_what_is_lost(tmp_path: Path) -> None:
    # MPEG-TS has no table that is lost with its end.
    make_film(tmp_path / "film.ts", moving_frames())
    data = (tmp_path / "film.ts").read_bytes()
    (tmp_path / "film.ts").write_bytes(data[: len(data) * 2 // 3])
    report = quantize_film(tmp_path / "film.ts", tmp_path / "out.mp4")
    assert 0 < report.frames < FRAMES
    assert len(decoded(tmp_path / "out.mp4")) == report.frames


def test_the_frames_that_are_missing_at_the_end_of_a_film_are_counted(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mp4", moving_frames(), options={"x264-params": "keyint=1"})
    data = bytearray((tmp_path / "film.mp4").read_bytes())
    with av.open(os.fspath(tmp_path / "film.mp4")) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    data[places[20] : places[29]] = b"\0" * (places[29] - places[20])
    (tmp_path / "film.mp4").write_bytes(data)
    report = quantize_film(tmp_path / "film.mp4", tmp_path / "out.mp4")
    assert report.frames + report.lost == FRAMES
    assert report.lost >= 9


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_film_is_drawn_or_refused_in_a_line(film: Path, tmp_path: Path, seed: int) -> None:
    data = bytearray(film.read_bytes())
    random = np.random.default_rng(seed)
    for at in random.integers(0, len(data), 40):
        data[at] = int(random.integers(256))
    (tmp_path / "film.mp4").write_bytes(data)
    try:
        report = quantize_film(tmp_path / "film.mp4", tmp_path / "out.mp4")
    except CbirError as error:
        assert "\n" not in str(error)
        assert not (tmp_path / "out.mp4").exists()
    else:
        assert len(decoded(tmp_path / "out.mp4")) == report.frames > 0


@pytest.mark.parametrize("content", [b"", b"Buy milk.", b"\0" * 5000, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"])
def test_what_is_no_film_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "film.mp4").write_bytes(content)
    with pytest.raises(FilmError, match=r"film\.mp4"):
        quantize_film(tmp_path / "film.mp4", tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_script_that_names_other_films_is_not_followed(film: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_text(f"ffconcat version 1.0\nfile {film}\n")
    with pytest.raises(FilmError):
        quantize_film(tmp_path / "film.mp4", tmp_path / "out.mp4")


def test_a_name_like_an_address_is_a_file(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("concat:a.mp4").write_bytes(film.read_bytes())
    assert quantize_film("concat:a.mp4", "out.mp4").frames == FRAMES


def test_a_picture_with_a_films_name_is_told_by_what_it_is(tmp_path: Path) -> None:
    make_photo(tmp_path / "film.mp4", 1, format="JPEG")
    assert not is_film(tmp_path / "film.mp4")
    with pytest.raises(FilmError, match="is a picture"):
        quantize_film(tmp_path / "film.mp4", tmp_path / "out.mp4")


def test_a_film_with_a_pictures_name_is_a_film(film: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(film.read_bytes())
    assert is_film(tmp_path / "photo.jpg")
    assert quantize_film(tmp_path / "photo.jpg", tmp_path / "out.mp4").frames == FRAMES


def test_a_missing_film_is_refused(tmp_path: Path) -> None:
    assert not is_film(tmp_path / "none.mp4")
    with pytest.raises(FilmError, match="no such file"):
        quantize_film(tmp_path / "none.mp4", tmp_path / "out.mp4")


def test_sound_alone_is_no_film(tmp_path: Path) -> None:
    with av.open(os.fspath(tmp_path / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=48000)
        for i in range(10):
            output.mux(stream.encode(tone(i)))
        output.mux(stream.encode())
    with pytest.raises(FilmError, match="no moving pictures"):
        quantize_film(tmp_path / "sound.mp4", tmp_path / "out.mp4")


def test_ten_bits_are_drawn_in_eight(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mkv", moving_frames(6), codec="libx264", pixels="yuv420p10le")
    assert quantize_film(tmp_path / "film.mkv", tmp_path / "out.mp4").frames == 6
    shown = decoded(tmp_path / "out.mp4")[0].to_ndarray(format="rgb24")
    assert np.abs(shown[50:].astype(float) - moving_frames(1)[0][50:]).mean() < 12


@pytest.mark.parametrize("pixels", ["yuv420p10le", "gbrp10le"])
@pytest.mark.parametrize(("trc", "transfer"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_drawn_in_the_colours_of_usual_screens(
    tmp_path: Path, trc: int, transfer: Transfer, pixels: str, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = np.array([[96, 112, 80], [150, 140, 150]], np.uint8)
    frame = np.repeat(np.repeat(levels[:, None], 64, axis=1), 32, axis=0)
    codec, matrix = ("ffv1", None) if pixels.startswith("gbr") else ("libx264", 9)
    make_film(tmp_path / "film.mkv", [frame] * 6, codec=codec, pixels=pixels, trc=trc, matrix=matrix)
    report = quantize_film(tmp_path / "film.mkv", tmp_path / "out.mp4", 2, style="flat")
    assert (report.frames, report.hdr) == (6, transfer)
    drawn = decoded(tmp_path / "out.mp4")[-1]
    assert (drawn.colorspace, drawn.color_primaries, drawn.color_trc) == (1, 1, 1)
    shown = drawn.to_ndarray(format="rgb24").astype(int)
    wanted = srgb_of_hdr(levels / 255, transfer).astype(int)
    assert np.abs(shown[[10, 50], 20] - wanted).max() <= 6
    assert np.abs(wanted - levels).max() > 20, "which is not what the film's numbers are"
    run_film(tmp_path / "film.mkv", tmp_path / "again.mp4", style="flat")
    assert f"is HDR ({transfer})" in capsys.readouterr().err


def test_frames_of_an_absurd_size_are_refused_before_they_are_decoded(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbir.film_reading.MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(FilmError, match="96 x 64 pixels are more"):
        quantize_film(film, tmp_path / "out.mp4")


def test_an_output_that_exists_is_refused_before_any_work(film: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        quantize_film(film, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    quantize_film(film, tmp_path / "out.mp4", force=True)
    assert len(decoded(tmp_path / "out.mp4")) == FRAMES


@pytest.mark.parametrize(
    ("name", "codec", "reason"),
    [
        ("out.png", None, "films are written as"),
        ("out.mp4", "mpeg17", "no codec"),
        ("out.webm", "h264", "does not go into .webm"),
        ("none/out.mp4", None, "no such folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused(tmp_path: Path, name: str, codec: str | None, reason: str) -> None:
    with pytest.raises(OutputError, match=reason):
        check_film_output(tmp_path / name, codec, False)


def test_an_encoder_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "av1", Encoder("libnothing", "yuv420p", {}))
    with pytest.raises(OutputError, match="no libnothing to encode av1"):
        check_film_output(tmp_path / "out.mkv", "av1", False)


def test_sound_that_does_not_go_into_a_container_is_told(film: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"aac sound does not go into \.webm"):
        quantize_film(film, tmp_path / "out.webm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("k", [0, 1, 257])
def test_other_numbers_of_colours_than_2_to_256_are_refused(film: Path, tmp_path: Path, k: int) -> None:
    with pytest.raises(PaletteError, match=f"not {k}"):
        quantize_film(film, tmp_path / "out.mp4", k)


def test_without_pyav_a_line_says_how_to_install_it(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cbir\[video\]'"):
        quantize_film(film, tmp_path / "out.mp4")


def test_a_disk_that_is_full_is_told_and_leaves_nothing(film: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"out\.mp4: cannot be written"):
            quantize_film(film, tmp_path / "out.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


# --- threads


def test_items_made_ahead_are_the_same_and_few() -> None:
    made: list[int] = []

    def numbers() -> Any:
        for i in range(100):
            made.append(i)
            yield i

    items = ahead(numbers(), 3)
    assert next(items) == 0
    time.sleep(0.1)
    assert len(made) <= 6
    assert list(items) == list(range(1, 100))


def test_ctrl_c_at_any_moment_is_told_as_such() -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    before, threads = signal.signal(signal.SIGALRM, press), threading.active_count()
    try:
        for seed in range(500):
            with pytest.raises(KeyboardInterrupt), closing(ahead(i for i in iter(int, 1))) as items:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + seed * 1e-5)
                for _ in items:
                    pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert threading.active_count() == threads


def test_what_fails_ahead_is_raised_here() -> None:
    def fails() -> Any:
        yield 1
        raise FilmError("no more")

    items = ahead(fails())
    assert next(items) == 1
    with pytest.raises(FilmError, match="no more"):
        next(items)


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    items = ahead(ahead(i for i in range(1000)))
    next(items)
    items.close()
    assert threading.active_count() == before


# --- the command


def test_the_command_tells_what_it_drew_and_how_steady_it_is(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_film(film, tmp_path / "out.mp4", 8)
    said = capsys.readouterr().out
    assert "30 frames in 1 scene" in said
    assert "% of the pixels change colour from one frame to the next where the source rests" in said


def test_a_preview_has_three_seconds_or_is_a_sheet(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cbir.cli.filming.PREVIEW_SECONDS", 0.4)
    run_film(film, Path("out.mp4"), preview=True)
    assert len(decoded(Path("out.mp4"))) == 10
    run_film(film, None, preview=True)
    assert cv2.imread("film-preview.png").shape == (4 * 64, 2 * 96, 3)


def test_ctrl_c_leaves_a_film_of_what_was_done(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mp4", moving_frames(500, (320, 240)), sound=True, options={"preset": "ultrafast"})
    script = (
        "import sys; from pathlib import Path; from cbir.film import quantize_film, FilmInterruptedError\n"
        "def tell(what, done, total):\n"
        "    if what == 'frames' and done == 20: print('ready', flush=True)\n"
        "try: quantize_film('film.mp4', 'out.mp4', progress=tell)\n"
        "except FilmInterruptedError as error: print(error.report.frames); sys.exit(130)\n"
    )
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=surroundings, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 20 <= int(said) < 500
    assert len(decoded(tmp_path / "out.mp4")) == int(said)
    assert sounds(tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "out.mp4"]
