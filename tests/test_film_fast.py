"""What makes films fast: each fast way gives what the plain one does, and what is set up for it holds."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from cbir.film import quantize_film
from cbir.film_drawing import enlarged
from cbir.film_process import one_thread_each
from cbir.luma import pixels_of, rgb_of_yuv
from cbir.palette import Palette
from cbir.steady import PARTS, LabelTable, SteadyLabels, SteadyLines, SteadyPicture, differing, smooth
from cbir.styles import STYLES, stepped

av: Any = pytest.importorskip("av", reason="films need PyAV: pip install 'cbir[video]'")
U8 = NDArray[np.uint8]


def frames(count: int = 8) -> list[U8]:
    """Frames of a real photo on which a square moves, with noise."""
    random = np.random.default_rng(0)
    photo, shown = load_sample_images().images[0][100:220, 200:400], []
    for i in range(count):
        frame = photo.astype(np.float64)
        frame[20:60, 10 * i : 10 * i + 40] = (240, 216, 58)
        shown.append(np.rint(frame + random.normal(0, 3, frame.shape)).clip(0, 255).astype(np.uint8))
    return shown


def masks(count: int = 8) -> list[U8]:
    random = np.random.default_rng(1)
    return [np.where(random.random((120, 200)) < 0.3, np.uint8(255), np.uint8(0)) for _ in range(count)]


# --- equal to the plain way


@pytest.mark.parametrize("k", [16, 60, 200])
def test_labels_that_rest_are_those_of_the_plain_rule_to_the_last(k: int) -> None:
    colors = np.unique(np.random.default_rng(k).integers(0, 256, (k, 3)).astype(np.uint8), axis=0)
    table = LabelTable(Palette.of_bytes(colors))
    steady, before, kept = SteadyLabels(table), None, 0
    for frame, moved in zip(frames(), masks(), strict=True):
        cells = table.cells(frame)
        plain = table.labels(cells).copy()
        if before is not None:
            excess = table.excess(cells.reshape(-1), before.reshape(-1)).reshape(before.shape)
            keeps = (moved == 0) & (excess <= 8 * PARTS)
            kept += np.count_nonzero(keeps & (plain != before))
            plain = np.where(keeps, before, plain)
        before = steady.next(frame, moved, 8.0).copy()
        assert np.array_equal(before, plain)
    assert kept > 0


def test_a_steady_picture_is_the_average_or_the_frame_itself() -> None:
    steady, mean = SteadyPicture(), None
    for i, (frame, moved) in enumerate(zip(frames(), masks(), strict=True)):
        shown, _ = steady.next(frame, moved, 6.0)
        if mean is None:
            mean = frame.astype(np.float32)
            continue
        before = np.rint(mean).astype(np.uint8)
        changed = cv2.dilate(differing(smooth(before), smooth(frame), 6.0), np.ones((3, 3), np.uint8)) > 0
        assert changed.any()
        assert not changed.all()
        share = np.float32(max(0.125, 1 / (i + 1)))
        mean = np.where(changed[..., None], frame, mean + share * (frame - mean)).astype(np.float32)
        # An average is rounded by the order of its sum; what moved is exact.
        assert np.abs(shown.astype(int) - np.rint(mean).astype(int)).max() <= 1
        assert np.array_equal(shown[changed], frame[changed])


def test_the_certainty_of_lines_that_move_is_their_own() -> None:
    lines = SteadyLines()
    for strength, moved in zip((frame[..., 0].copy() for frame in frames()), masks(), strict=True):
        averaged = lines.averaged(strength, moved)
        assert np.array_equal(averaged[moved > 0], strength[moved > 0])


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (1921, 1079), (721, 1283), (33, 7), (1, 1)])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_an_enlarged_mask_is_that_of_the_nearest_pixels(size: tuple[int, int], parts: int) -> None:
    shape = -(-size[1] // parts), -(-size[0] // parts)
    mask = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(enlarged(mask, size), cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST))


def test_steps_change_luma_alone() -> None:
    pixels = frames(1)[0]
    parts = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    # Of greys the steps are the table itself.
    table = stepped(greys, STYLES["darkly"])[0, :, 0]
    parts[..., 0] = table[parts[..., 0]]
    assert np.array_equal(stepped(pixels, STYLES["darkly"]), cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB))


def test_levels_that_reach_from_0_to_255_are_not_stretched() -> None:
    pixels = frames(1)[0]
    black, white = np.zeros(3, np.uint8), np.full(3, 255, np.uint8)
    table = LabelTable(Palette.of_bytes(np.stack([black, white])), black, white)
    assert np.array_equal(table.stretched(pixels), cv2.LUT(pixels, table._stretch))


def test_chroma_that_is_hardly_made_smaller_is_as_good_as_averaged() -> None:
    photo = load_sample_images().images[0][:420, :636]
    planes = cv2.cvtColor(photo, cv2.COLOR_RGB2YUV_I420)
    luma, blue, red = planes[:420], planes[420:525].reshape(210, 318), planes[525:].reshape(210, 318)
    matrix, size = rgb_of_yuv((0.299, 0.114), False), (212, 140)
    small = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in (luma, blue, red)]
    averaged = cv2.transform(cv2.merge(small), matrix)
    difference = np.abs(pixels_of((luma, blue, red), size, matrix).astype(int) - averaged)
    assert difference.mean() < 0.5
    assert np.quantile(difference, 0.99) <= 4


@pytest.mark.parametrize("size", [(96, 64), (98, 66)])
def test_frames_have_the_luma_and_the_mean_chroma_of_their_colours(size: tuple[int, int]) -> None:
    from cbir.film_writing import _fill, _samples

    levels = np.random.default_rng(0).integers(0, 256, (256, 4)).astype(np.uint8)
    labels = np.random.default_rng(1).integers(0, 256, size[::-1]).astype(np.uint8)
    frame = av.VideoFrame(*size, "yuv420p")
    planes = [_samples(plane, levels.dtype) for plane in frame.planes]
    _fill(planes, labels, levels)
    sums = levels[labels].astype(int).reshape(size[1] // 2, 2, size[0] // 2, 2, 4).sum(axis=(1, 3))
    assert np.array_equal(_samples(frame.planes[0], levels.dtype), levels[labels][..., 0])
    for channel in (1, 2):
        assert np.array_equal(_samples(frame.planes[channel], levels.dtype), (sums[..., channel] + 2) >> 2)


# --- what is set up


def test_opencv_has_its_threads_back_after_the_last_film() -> None:
    before = cv2.getNumThreads()
    first, second = one_thread_each(), one_thread_each()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cv2.getNumThreads() == 1
    second.__exit__(None, None, None)
    assert cv2.getNumThreads() == before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone gives memory back so")
def test_freed_memory_is_kept_for_the_next_picture() -> None:
    script = (
        "import resource, numpy as np; from cbir.film_process import keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(0).ru_minflt\n"
        "    for _ in range(20): np.empty(3 << 20, np.uint8).fill(1)\n"
        "    return resource.getrusage(0).ru_minflt - before\n"
        "{}np.empty(1 << 20, np.uint8).fill(1); faults(); print(faults())\n"
    )
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout)
        for text in (script.format("keep_freed_memory(); "), script.format("np.empty(1 << 20); "))
    )
    assert kept < 200, given_back


def test_the_encoder_takes_its_settings(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 200, 120, "yuv420p"
        for shown in frames():
            output.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        output.mux(stream.encode())
    quantize_film(tmp_path / "film.mp4", tmp_path / "out.mp4")
    # What x264 does not understand it leaves out without an error; in the first frame it tells what it took.
    written = (tmp_path / "out.mp4").read_bytes()
    for setting in (b"cabac=0", b"subme=0", b"bframes=0", b"weightp=0", b"aq=0", b"crf=22.0"):
        assert setting in written
