"""Writing pictures: few colours as palette images, nothing over a file unasked, and never half a file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cbir.atomic import write_file
from cbir.errors import OutputError
from cbir.output import OUTPUT_SUFFIXES, check_output, check_picture_output, save_file, save_indexed, save_pixels

COLORS = np.array([[250, 10, 20], [30, 240, 50], [60, 70, 230], [0, 0, 0], [255, 255, 255]], np.uint8)
LABELS = np.random.default_rng(0).integers(0, 5, (30, 40)).astype(np.uint16)
LOSSLESS = [suffix for suffix in OUTPUT_SUFFIXES if suffix not in (".jpg", ".jpeg")]
PALETTE_IMAGES = [".png", ".gif", ".tif", ".tiff", ".bmp"]
VISIBLE = np.add.outer(np.arange(30), np.arange(40)) % 3 > 0


def read(path: Path, mode: str = "RGB") -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert(mode))


def mode_of(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def listing(folder: Path) -> dict[str, bytes]:
    """All that is in a folder: names and contents."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_a_picture_of_few_colours_keeps_them_exactly(tmp_path: Path, suffix: str) -> None:
    save_indexed(tmp_path / f"out{suffix}", COLORS, LABELS)
    assert np.array_equal(read(tmp_path / f"out{suffix}"), COLORS[LABELS])


@pytest.mark.parametrize("suffix", PALETTE_IMAGES)
@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 256])
def test_up_to_256_colours_make_a_palette_image(tmp_path: Path, suffix: str, count: int) -> None:
    colors = np.stack([np.arange(count), np.arange(count)[::-1], np.full(count, 77)], axis=-1).astype(np.uint8)
    labels = np.arange(32 * 16).reshape(32, 16).astype(np.uint16) % count
    save_indexed(tmp_path / f"out{suffix}", colors, labels)
    assert mode_of(tmp_path / f"out{suffix}") == "P"
    assert np.array_equal(read(tmp_path / f"out{suffix}"), colors[labels])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
def test_more_than_256_colours_are_kept_without_a_palette(tmp_path: Path, suffix: str) -> None:
    colors = np.stack([np.arange(300) % 256, np.arange(300) // 256, np.full(300, 9)], axis=-1).astype(np.uint8)
    labels = np.arange(300).reshape(20, 15).astype(np.uint16)
    save_indexed(tmp_path / f"out{suffix}", colors, labels)
    assert mode_of(tmp_path / f"out{suffix}") == "RGB"
    assert np.array_equal(read(tmp_path / f"out{suffix}"), colors[labels])


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp"])
def test_transparency_survives(tmp_path: Path, suffix: str) -> None:
    save_indexed(tmp_path / f"out{suffix}", COLORS, LABELS, VISIBLE)
    pixels = read(tmp_path / f"out{suffix}", "RGBA")
    assert np.array_equal(pixels[..., 3] == 255, VISIBLE)
    assert np.array_equal(pixels[..., 3] == 0, ~VISIBLE)
    assert np.array_equal(pixels[VISIBLE][:, :3], COLORS[LABELS][VISIBLE])


def test_transparency_is_the_257th_colour_and_survives_all_the_same(tmp_path: Path) -> None:
    colors = np.stack([np.arange(256), np.arange(256), np.full(256, 77)], axis=-1).astype(np.uint8)
    labels = np.arange(30 * 40).reshape(30, 40).astype(np.uint16) % 256
    save_indexed(tmp_path / "out.png", colors, labels, VISIBLE)
    pixels = read(tmp_path / "out.png", "RGBA")
    assert np.array_equal(pixels[..., 3] == 255, VISIBLE)
    assert np.array_equal(pixels[VISIBLE][:, :3], colors[labels][VISIBLE])


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tif"])
def test_what_is_transparent_is_white_where_the_format_has_no_transparency(tmp_path: Path, suffix: str) -> None:
    visible = np.zeros((32, 32), bool)
    visible[:, :16] = True
    save_indexed(tmp_path / f"out{suffix}", COLORS, np.full((32, 32), 3, np.uint16), visible)
    pixels = read(tmp_path / f"out{suffix}")
    assert pixels[:, :16].max() < 10
    assert pixels[:, 16:].min() > 245


def test_half_transparent_pixels_are_laid_on_white_in_a_jpeg(tmp_path: Path) -> None:
    black = np.zeros((16, 16, 3), np.uint8)
    save_pixels(tmp_path / "out.jpg", black, np.full((16, 16), 128, np.uint8))
    assert read(tmp_path / "out.jpg") == pytest.approx(127, abs=3)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_pixels_and_their_alpha_are_written_as_they_are(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    alpha = np.random.default_rng(2).integers(1, 256, (20, 30)).astype(np.uint8)
    save_pixels(tmp_path / f"out{suffix}", pixels, alpha)
    assert np.array_equal(read(tmp_path / f"out{suffix}", "RGBA"), np.dstack([pixels, alpha]))


def test_a_gif_of_more_pixels_colours_than_256_is_still_near(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 600).astype(np.uint8)
    pixels = np.repeat(np.stack([ramp, ramp[::-1], ramp // 2], axis=-1)[None], 20, axis=0)
    save_pixels(tmp_path / "out.gif", pixels)
    assert np.abs(read(tmp_path / "out.gif").astype(int) - pixels).mean() < 6


def test_the_ending_may_be_in_capital_letters(tmp_path: Path) -> None:
    save_indexed(tmp_path / "OUT.PNG", COLORS, LABELS)
    with Image.open(tmp_path / "OUT.PNG") as image:
        assert image.format == "PNG"


# --- what is refused


@pytest.mark.parametrize("name", ["out.svg", "out", "out.png.txt", "out.eps"])
def test_an_ending_that_is_no_picture_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"\.png, \.gif"):
        save_indexed(tmp_path / name, COLORS, LABELS)
    with pytest.raises(OutputError, match=r"\.png, \.gif"):
        check_picture_output(tmp_path / name, force=True)
    assert listing(tmp_path) == {}


def test_a_file_that_exists_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"precious")
    for save in (
        lambda path: save_indexed(path, COLORS, LABELS),
        lambda path: save_pixels(path, COLORS[LABELS]),
        lambda path: save_file(path, b"new"),
        lambda path: check_output(path, force=False),
    ):
        with pytest.raises(OutputError, match=r"exists; add --force"):
            save(tmp_path / "out.png")
    assert listing(tmp_path) == {"out.png": b"precious"}


def test_a_file_that_exists_is_replaced_when_forced(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"old")
    save_indexed(tmp_path / "out.png", COLORS, LABELS, force=True)
    assert np.array_equal(read(tmp_path / "out.png"), COLORS[LABELS])
    assert list(listing(tmp_path)) == ["out.png"]


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_refused_even_when_forced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "out.png").mkdir()
    with pytest.raises(OutputError):
        save_indexed(tmp_path / "out.png", COLORS, LABELS, force=force)
    assert (tmp_path / "out.png").is_dir()


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(OutputError, match="no such folder"):
        save_indexed(tmp_path / parent / "out.png", COLORS, LABELS)
    assert listing(tmp_path) == {"file": b"precious"}


# --- all or nothing


def fail_halfway(error: BaseException) -> Any:
    def save(self: Image.Image, file: Any, **_: object) -> None:
        file.write(b"half a pict")
        raise error

    return save


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("encoder error -2")], ids=str)
def test_a_failure_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    (tmp_path / "out.png").write_bytes(b"old")
    monkeypatch.setattr(Image.Image, "save", fail_halfway(error))
    with pytest.raises(OutputError, match="cannot be written") as caught:
        save_indexed(tmp_path / "out.png", COLORS, LABELS, force=True)
    assert str(caught.value).startswith(f"{tmp_path / 'out.png'}: ")
    assert str(caught.value).isprintable()
    assert listing(tmp_path) == {"out.png": b"old"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("broken")], ids=repr)
def test_being_stopped_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(Image.Image, "save", fail_halfway(error))
    with pytest.raises(type(error)):
        save_indexed(tmp_path / "out.png", COLORS, LABELS)
    assert listing(tmp_path) == {}


def test_a_failing_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.json").write_bytes(b"old")

    def replace(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError, match="permission denied"):
        save_file(tmp_path / "out.json", b"new", force=True)
    assert listing(tmp_path) == {"out.json": b"old"}


def test_a_file_is_seen_under_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def write(file: Any) -> None:
        file.write(b"new, ")
        file.flush()
        assert (tmp_path / "a").read_bytes() == b"old"
        file.write(b"and whole")

    write_file(tmp_path, "a", write)
    assert listing(tmp_path) == {"a": b"new, and whole"}


def test_a_name_can_be_made_of_what_was_written(tmp_path: Path) -> None:
    name = write_file(tmp_path, lambda file: f"{len(file.read())}.dat", lambda file: file.write(b"12345"))
    assert name == "5.dat"
    assert listing(tmp_path) == {"5.dat": b"12345"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_says_who_may_read_an_output(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save_file(tmp_path / "out.json", b"{}")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "out.json").stat().st_mode & 0o777 == mode


def test_a_picture_that_the_format_cannot_hold_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"wide\.webp: cannot be written"):
        save_indexed(tmp_path / "wide.webp", COLORS, np.zeros((1, 20_000), np.uint16))
    assert listing(tmp_path) == {}
