"""What goes with a film: its metadata, chapters and subtitles; and films that have no frames."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbir.cli.filming import run_film
from cbir.film import quantize_film
from cbir.film_drawing import median_side
from cbir.film_reading import FilmError

av: Any = pytest.importorskip("av", reason="films need PyAV: pip install 'cbir[video]'")
RATE, SECONDS = 25, 4
HEADER = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\n\n[Events]\nFormat: Layer, Start, End, Text\n"
)
TITLE = {"title": "Überfahrt", "artist": "Ann", "creation_time": "2020-01-02T03:04:05.000000Z", "location": "+48-011/"}


def make_film(path: Path, subtitles: str | None = None) -> Path:
    """Four seconds with a chapter and a line of subtitles in each."""
    with av.open(os.fspath(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        output.metadata.update(TITLE)
        output.set_chapters([chapter(i) for i in range(SECONDS)])
        text = output.add_stream(subtitles) if subtitles else None
        if text is not None:
            text.codec_context.subtitle_header = HEADER
            text.metadata["language"] = "ger"
        for i in range(RATE * SECONDS):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 2 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            output.mux(stream.encode(frame))
            if text is not None and i % RATE == 0:
                output.mux(line(text, i // RATE, subtitles == "mov_text"))
        output.mux(stream.encode())
    return path


def chapter(number: int) -> dict[str, Any]:
    at = {"start": number * 1000, "end": (number + 1) * 1000, "time_base": Fraction(1, 1000)}
    return {"id": number + 1, **at, "metadata": {"title": f"Part {number}"}}


def line(stream: Any, number: int, counted: bool) -> Any:
    said = f"Line {number}".encode()
    packet = av.Packet((len(said).to_bytes(2, "big") if counted else b"") + said)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = number * 1000
    packet.duration = 800
    return packet


def chapters(path: Path) -> list[tuple[str, float, float]]:
    with av.open(os.fspath(path)) as container:
        found = container.chapters()
    return [
        (c["metadata"]["title"], *(round(float(c[at] * c["time_base"]), 3) for at in ("start", "end"))) for c in found
    ]


def lines(path: Path) -> list[tuple[bytes, float]]:
    with av.open(os.fspath(path)) as container:
        packets = [p for p in container.demux(subtitles=0) if p.dts is not None]
        return [(bytes(p)[-6:], round(float(p.pts * p.time_base), 2)) for p in packets if b"Line" in bytes(p)]


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_a_film_keeps_its_metadata(tmp_path: Path, ending: str) -> None:
    source = make_film(tmp_path / "film.mov")
    quantize_film(source, tmp_path / f"out{ending}", style="flat")
    with av.open(os.fspath(tmp_path / f"out{ending}")) as container:
        said = {key.lower(): text for key, text in container.metadata.items()}
    assert {key: said[key] for key in ("title", "artist", "creation_time")} == {
        key: TITLE[key] for key in ("title", "artist", "creation_time")
    }
    assert said["location"].startswith("+48")
    assert said.get("major_brand") == {".mp4": "isom", ".mov": "qt  "}.get(ending)


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_film_keeps_its_chapters(tmp_path: Path, ending: str) -> None:
    source = make_film(tmp_path / "film.mkv")
    quantize_film(source, tmp_path / f"out{ending}", style="flat")
    assert chapters(tmp_path / f"out{ending}") == [(f"Part {i}", i, i + 1) for i in range(SECONDS)]


def test_chapters_are_cut_with_the_film(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv")
    quantize_film(source, tmp_path / "out.mkv", style="flat", start=1.6, end=3.2)
    assert chapters(tmp_path / "out.mkv") == [("Part 1", 0, 0.4), ("Part 2", 0.4, 1.4), ("Part 3", 1.4, 1.6)]


@pytest.mark.parametrize(("ending", "codec"), [(".mp4", "mov_text"), (".mkv", "subrip")])
def test_subtitles_are_copied_with_their_language(tmp_path: Path, ending: str, codec: str) -> None:
    source = make_film(tmp_path / f"film{ending}", codec)
    report = quantize_film(source, tmp_path / f"out{ending}", style="flat")
    assert lines(tmp_path / f"out{ending}") == lines(source) == [(f"Line {i}".encode(), i) for i in range(SECONDS)]
    with av.open(os.fspath(tmp_path / f"out{ending}")) as container:
        assert container.streams.subtitles[0].metadata["language"] == "ger"
    assert report.left_out == ""


def test_subtitles_are_cut_with_the_film(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", "subrip")
    quantize_film(source, tmp_path / "out.mkv", style="flat", start=1, end=3)
    assert lines(tmp_path / "out.mkv") == [(b"Line 1", 0), (b"Line 2", 1)]


def test_subtitles_that_do_not_go_into_a_container_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_film(tmp_path / "film.mkv", "subrip")
    run_film(source, tmp_path / "out.mp4", style="flat")
    assert "do not go into .mp4 and were left out" in " ".join(capsys.readouterr().err.split())
    with av.open(os.fspath(tmp_path / "out.mp4")) as container:
        assert not container.streams.subtitles


def test_a_gif_takes_nothing_but_frames(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv")
    assert quantize_film(source, tmp_path / "out.gif", style="flat", every=10).frames == 10


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi"])
def test_a_film_of_no_frames_is_refused_in_a_line(tmp_path: Path, ending: str) -> None:
    source = tmp_path / f"film{ending}"
    with av.open(os.fspath(source), "w") as output:
        stream = output.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        output.start_encoding()
    with pytest.raises(FilmError) as error:
        quantize_film(source, tmp_path / "out.mp4")
    assert str(error.value).startswith(str(source))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("after", [b"ftyp", b"moov"])
def test_a_film_cut_off_behind_its_header_is_refused_in_a_line(tmp_path: Path, after: bytes) -> None:
    source = tmp_path / "film.mp4"
    with av.open(os.fspath(source), "w", container_options={"movflags": "faststart"}) as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24")))
        output.mux(stream.encode())
    data = source.read_bytes()
    at = data.index(after) - 4
    source.write_bytes(data[: at + int.from_bytes(data[at : at + 4], "big")])
    with pytest.raises(FilmError) as error:
        quantize_film(source, tmp_path / "out.mp4")
    assert str(error.value).startswith(str(source))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(("lines", "side"), [(64, 3), (360, 3), (480, 5), (1080, 5)])
def test_specks_are_smaller_in_small_frames(lines: int, side: int) -> None:
    assert median_side(lines) == side
