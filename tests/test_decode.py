"""From a file to upright sRGB pixels: what a picture is read as, and what is refused."""

import os
import pickle
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import make_photo, photo_pixels
from PIL import GifImagePlugin, Image, TiffImagePlugin
from PIL.Image import Transpose
from sklearn.datasets import load_sample_images

from cbir import decode
from cbir.decode import Limits, read_picture, read_working_picture
from cbir.describe import describe_picture
from cbir.descriptor import GLOBAL, SPATIAL
from cbir.errors import NOT_PICTURES, PictureError
from cbir.palette import Palette
from cbir.pixels import Picture, reduced

ORIENTATION = 0x0112
# How a camera that was held so stored the upright picture.
STORED = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
READERS = [read_picture, read_working_picture]


def save_turned(upright: Image.Image, orientation: int, path: Path, **options: object) -> Path:
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    (upright if turn is None else upright.transpose(turn)).save(path, exif=exif, **options)
    return path


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """The mean difference of two pictures in levels; their sizes must be equal."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).mean())


def one_color(picture: Picture) -> tuple[int, ...]:
    """The colour of a picture that has only one, but for the few levels that lossy formats add."""
    assert np.ptp(picture.pixels.reshape(-1, 3), axis=0).max() <= 6
    return tuple(np.rint(picture.pixels.mean(axis=(0, 1))).astype(int).tolist())


def refusal(path: Path) -> str:
    """Why both readers refuse a file: for the same reason, in one line that names the file."""
    reasons = set()
    for read in READERS:
        with pytest.raises(PictureError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {caught.value.reason}"
        reasons.add(caught.value.reason)
    (reason,) = reasons
    assert reason
    assert reason.isprintable()
    return reason


# --- which way is up


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_a_picture_is_turned_upright_as_its_exif_says(tmp_path: Path, ending: str, orientation: int) -> None:
    upright = Image.fromarray(photo_pixels(1, (90, 50)))
    options = {"lossless": True} if ending == "webp" else {}
    path = save_turned(upright, orientation, tmp_path / f"photo.{ending}", **options)
    assert np.array_equal(read_picture(path).pixels, np.asarray(upright))
    assert np.array_equal(read_working_picture(path).pixels, np.asarray(upright))


@pytest.mark.parametrize("orientation", STORED)
def test_a_scaled_jpeg_is_turned_upright_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(photo_pixels(1, (1200, 800)))
    path = save_turned(upright, orientation, tmp_path / "photo.jpg", quality=95, subsampling=0)
    straight = save_turned(upright, 1, tmp_path / "straight.jpg", quality=95, subsampling=0)
    assert difference(read_picture(path).pixels, np.asarray(upright)) < 3
    assert difference(read_working_picture(path).pixels, read_working_picture(straight).pixels) < 1


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_the_orientation_counts_in_every_mode(tmp_path: Path, mode: str, ending: str) -> None:
    left_black = Image.fromarray(np.repeat(np.array([[0] * 20 + [255] * 20], np.uint8), 30, axis=0))
    if mode == "I;16":
        left_black = Image.fromarray(np.asarray(left_black).astype(np.uint16) * 257)
    path = save_turned(left_black.convert(mode), 6, tmp_path / f"photo.{ending}")
    pixels = read_picture(path).pixels
    assert pixels.shape == (30, 40, 3)
    assert (pixels[:, :20] == 0).all()
    assert (pixels[:, 20:] == 255).all()


# --- levels, palettes and transparency


def test_sixteen_bits_of_grey_are_scaled_not_cut(tmp_path: Path) -> None:
    levels = np.array([[0, 257, 32768, 65280, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    assert read_picture(tmp_path / "grey.png").pixels[0, :, 0].tolist() == [0, 1, 128, 254, 255]


def test_large_pictures_of_sixteen_bits_are_scaled_in_all_their_rows(tmp_path: Path) -> None:
    levels = np.random.default_rng(2).integers(0, 1 << 16, (600, 7), np.uint16)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    assert np.array_equal(read_picture(tmp_path / "grey.png").pixels[..., 0], np.rint(levels / 257))


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_grey_are_read_in_either_byte_order(tmp_path: Path, order: str) -> None:
    image = Image.frombytes("I;16" if order == "<" else "I;16B", (2, 1), struct.pack(f"{order}2H", 32768, 65535))
    image.save(tmp_path / "grey.tif")
    assert read_picture(tmp_path / "grey.tif").pixels[0, :, 0].tolist() == [128, 255]


@pytest.mark.parametrize("ending", ["png", "tif", "jp2"])
def test_a_grey_of_sixteen_bits_is_read_from_every_format_that_has_it(tmp_path: Path, ending: str) -> None:
    levels = np.repeat(np.array([[0, 32768, 65535]], np.uint16), 8, axis=0).repeat(8, axis=1)
    Image.fromarray(levels).save(tmp_path / f"grey.{ending}")
    assert read_picture(tmp_path / f"grey.{ending}").pixels[0, ::8, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_colours_of_sixteen_bits_are_scaled_to_within_a_level(tmp_path: Path, kind: str) -> None:
    levels = np.random.default_rng(1).integers(0, 1 << 16, (1, 500, 3), np.uint16)
    if kind == "png":
        content = png(500, 1, 16, 2, b"\0" + levels.astype(">u2").tobytes())
    else:
        content = tiff(500, 1, levels.tobytes(), bits=[16, 16, 16], photometric=2)
    (tmp_path / f"photo.{kind}").write_bytes(content)
    read = read_picture(tmp_path / f"photo.{kind}").pixels
    assert np.abs(read - levels / 257).max() <= 1


def test_twelve_bits_of_grey_are_scaled_by_their_own_largest_value(tmp_path: Path) -> None:
    # Four levels of 12 bits, packed: 0, 2048, 4095 and 16.
    (tmp_path / "grey.tif").write_bytes(tiff(4, 1, bytes.fromhex("000800fff010"), bits=[12]))
    assert read_picture(tmp_path / "grey.tif").pixels[0, :, 0].tolist() == [0, 128, 255, 1]


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_in_which_zero_is_white_is_white_where_it_is_zero(tmp_path: Path, bits: int) -> None:
    levels = struct.pack("<3B", 0, 1, 255) if bits == 8 else struct.pack("<3H", 0, 257, 65535)
    (tmp_path / "grey.tif").write_bytes(tiff(3, 1, levels, [bits], photometric=0))
    assert read_picture(tmp_path / "grey.tif").pixels[0, :, 0].tolist() == [255, 254, 0]


def png(width: int, height: int, depth: int, color_type: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG file made by hand; `more` are the chunks before the picture data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">2I5B", width, height, depth, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def directory(tags: dict[int, list[int] | bytes], start: int) -> bytes:
    """A TIFF directory made by hand, little endian, that lies at `start`: long numbers, or texts and single bytes."""
    table, more = b"", b""
    for tag, value in sorted(tags.items()):
        kind, body = (1, value) if isinstance(value, bytes) else (4, struct.pack(f"<{len(value)}I", *value))
        if len(body) > 4:
            place = struct.pack("<I", start + 2 + 12 * len(tags) + 4 + len(more))
            more += body + bytes(len(body) % 2)
        else:
            place = body.ljust(4, b"\0")
        table += struct.pack("<HHI", tag, kind, len(value)) + place
    return struct.pack("<H", len(tags)) + table + bytes(4) + more


def tiff(
    width: int, height: int, samples: bytes, bits: list[int], photometric: int = 1, **more: list[int] | bytes
) -> bytes:
    """A TIFF file made by hand, of one strip that is not compressed; `more` are tags, as in `tag338=[1]`."""
    tags = {256: [width], 257: [height], 258: bits, 259: [1], 262: [photometric], 273: [8], 277: [len(bits)]}
    tags |= {278: [height], 279: [len(samples)]} | {int(name[3:]): value for name, value in more.items()}
    samples += bytes(len(samples) % 2)
    start = 8 + len(samples)
    return b"II*\0" + struct.pack("<I", start) + samples + directory(tags, start)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_level_of_a_grey_png_is_transparent(tmp_path: Path, depth: int) -> None:
    level = ">B" if depth == 8 else ">H"
    rows = b"\0" + struct.pack(level, 7) + struct.pack(level, 9)
    (tmp_path / "grey.png").write_bytes(png(2, 1, depth, 0, rows, (b"tRNS", struct.pack(">H", 7))))
    alpha = read_picture(tmp_path / "grey.png").alpha
    assert alpha is not None
    assert alpha.tolist() == [[0, 255]]


@pytest.mark.parametrize("key", [(0x1234, 0x5678, 0x9ABC), (0x0012, 0, 0xFFFF)])
def test_the_transparent_colour_of_a_png_is_transparent_also_in_sixteen_bits(
    tmp_path: Path, key: tuple[int, int, int]
) -> None:
    pixels = struct.pack(">6H", *key, 0x4444, 0x8888, 0xCCCC)
    (tmp_path / "photo.png").write_bytes(png(2, 1, 16, 2, b"\0" + pixels, (b"tRNS", struct.pack(">3H", *key))))
    alpha = read_picture(tmp_path / "photo.png").alpha
    assert alpha is not None
    assert alpha.tolist() == [[0, 255]]


@pytest.mark.parametrize(("bits", "photometric"), [([8] * 2, 1), ([8] * 4, 2)], ids=["grey", "RGB"])
def test_colours_that_are_stored_faded_by_their_alpha_are_read_as_they_were(
    tmp_path: Path, bits: list[int], photometric: int
) -> None:
    # 60 of 128 is 120 of 255.
    faded = bytes([60] * (len(bits) - 1) + [128])
    (tmp_path / "photo.tif").write_bytes(tiff(1, 1, faded, bits, photometric, tag338=[1]))
    picture = read_picture(tmp_path / "photo.tif")
    assert one_color(picture) == pytest.approx((120, 120, 120), abs=1)
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[128]]


def test_a_palette_image_has_the_colours_and_the_transparency_of_its_palette(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.save(tmp_path / "palette.png", transparency=b"\xff\x80\x00")
    picture = read_picture(tmp_path / "palette.png")
    assert picture.pixels.tolist() == [[[*RED], [*GREEN]], [[*BLUE], [*BLUE]]]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255, 128], [0, 0]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_an_alpha_channel_is_kept(tmp_path: Path, mode: str, ending: str) -> None:
    image = Image.new("RGB", (2, 1), (90, 90, 90)).convert(mode)
    image.putalpha(Image.frombytes("L", (2, 1), bytes([40, 255])))
    image.save(tmp_path / f"photo.{ending}")
    picture = read_picture(tmp_path / f"photo.{ending}")
    assert one_color(picture) == (90, 90, 90)
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[40, 255]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_an_alpha_channel_that_hides_nothing_is_none(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (4, 3), RED).convert(mode).save(tmp_path / "opaque.png")
    assert read_picture(tmp_path / "opaque.png").alpha is None


@pytest.mark.parametrize("size", [(60, 40), (900, 700)])
def test_colours_that_are_wholly_transparent_do_not_count(tmp_path: Path, size: tuple[int, int]) -> None:
    palette = Palette.of_bytes(np.array([RED, GREEN, BLUE], np.uint8))
    described = []
    for hidden in (GREEN, BLUE):
        pixels = np.zeros((size[1], size[0], 4), np.uint8)
        pixels[:, : size[0] // 3] = (*RED, 255)
        pixels[:, size[0] // 3 :] = (*hidden, 0)
        Image.fromarray(pixels).save(tmp_path / "photo.png")
        described.append(describe_picture(read_working_picture(tmp_path / "photo.png"), palette, SPATIAL))
    np.testing.assert_array_equal(described[0], described[1])
    red = int(palette.labels(np.array([RED], np.uint8))[0])
    assert SPATIAL.whole(described[0])[red] == pytest.approx(1)


def test_a_grey_jpeg_has_equal_red_green_and_blue(tmp_path: Path) -> None:
    Image.fromarray(photo_pixels(3)).convert("L").save(tmp_path / "grey.jpg", quality=100)
    pixels = read_picture(tmp_path / "grey.jpg").pixels
    assert pixels.shape == (48, 64, 3)
    assert np.ptp(pixels, axis=2).max() == 0
    assert difference(pixels[..., 0], np.asarray(Image.fromarray(photo_pixels(3)).convert("L"))) < 1


# --- the working picture

SIZES = [(1, 1), (64, 48), (128, 128), (255, 257), (256, 256), (640, 427), (900, 1400), (2000, 1500), (20, 30_000)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_working_picture_is_just_large_enough(tmp_path: Path, size: tuple[int, int], ending: str) -> None:
    Image.new("RGB", size, (120, 80, 40)).save(tmp_path / f"photo.{ending}")
    height, width, _ = read_working_picture(tmp_path / f"photo.{ending}").pixels.shape
    assert width * height <= 8_192
    assert width * height >= min(4_096, size[0] * size[1])
    assert (width > height) == (size[0] > size[1])


@pytest.mark.parametrize("size", [(300_000, 1), (2, 250_000)], ids=str)
def test_a_working_picture_of_a_line_is_just_large_enough(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (120, 80, 40)).save(tmp_path / "line.png")
    assert 4_096 <= read_working_picture(tmp_path / "line.png").pixels[..., 0].size <= 8_192


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_photo_has_a_working_picture_of_one_size_at_whatever_size_it_was_saved(tmp_path: Path, ending: str) -> None:
    pixels = load_sample_images().images[0]
    sizes = set()
    for width in (640, 500, 400, 320):
        path = tmp_path / f"{width}.{ending}"
        Image.fromarray(pixels).resize((width, width * 427 // 640)).save(path, quality=95)
        height, width, _ = read_working_picture(path).pixels.shape
        sizes.add((height, width))
    assert len({height * width // 1000 for height, width in sizes}) == 1


@pytest.mark.parametrize("size", [(1024, 768), (1013, 767), (259, 255), (801, 601)], ids=str)
@pytest.mark.parametrize("resolutions", [0, 1, 2])
def test_a_jpeg_2000_photo_has_the_colours_of_its_full_size(
    tmp_path: Path, size: tuple[int, int], resolutions: int
) -> None:
    path = make_photo(tmp_path / "photo.jp2", 3, size, num_resolutions=resolutions)
    working = read_working_picture(path).pixels
    assert 4_096 <= working[..., 0].size <= 8_192
    assert difference(working, reduced(read_picture(path).pixels)) < 3


def test_a_large_jpeg_2000_photo_is_halved_by_its_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_photo(tmp_path / "photo.jp2", 3, (1024, 768))
    sizes = []
    monkeypatch.setattr(
        "cbir.pixels._reduced_pixels", lambda image, most: sizes.append(image.size) or np.asarray(image)
    )
    read_working_picture(path)
    assert sizes == [(128, 96)]


@pytest.mark.parametrize("size", [(12, 9), (120, 60)], ids=str)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_small_picture_is_its_own_working_picture(tmp_path: Path, size: tuple[int, int], ending: str) -> None:
    path = make_photo(tmp_path / f"photo.{ending}", 4, size)
    assert np.array_equal(read_working_picture(path).pixels, read_picture(path).pixels)


def test_a_jpeg_and_its_png_copy_have_nearly_the_same_colours(tmp_path: Path) -> None:
    for pixels in load_sample_images().images:
        Image.fromarray(pixels).save(tmp_path / "photo.jpg", quality=95)
        with Image.open(tmp_path / "photo.jpg") as image:
            image.save(tmp_path / "photo.png")
        palette = Palette.of_bytes(np.stack(np.meshgrid(*[[32, 96, 160, 224]] * 3), axis=-1).astype(np.uint8))
        jpeg, png_copy = (
            GLOBAL.whole(describe_picture(read_working_picture(tmp_path / name), palette, GLOBAL))
            for name in ("photo.jpg", "photo.png")
        )
        assert np.abs(jpeg - png_copy).sum() / 2 < 0.02


# --- which format, which frame


def test_the_content_tells_the_format_not_the_ending(tmp_path: Path) -> None:
    path = make_photo(tmp_path / "photo.jpg", 6, format="PNG")
    assert np.array_equal(read_picture(path).pixels, photo_pixels(6))


@pytest.mark.parametrize("ending", ["gif", "png", "tif", "webp", "mpo", "avif"])
def test_of_several_frames_the_first_counts(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / f"frames.{ending}", save_all=True, append_images=frames[1:])
    assert one_color(read_picture(tmp_path / f"frames.{ending}")) == pytest.approx(RED, abs=3)


@pytest.mark.parametrize("ending", ["gif", "tif"])
def test_frames_are_not_counted(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(image: Image.Image) -> int:
        raise AssertionError("counting frames takes as long as there are frames")

    frames = [Image.new("RGB", (16, 16), color) for color in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / f"frames.{ending}", save_all=True, append_images=frames[1:])
    for plugin in (GifImagePlugin.GifImageFile, TiffImagePlugin.TiffImageFile):
        monkeypatch.setattr(plugin, "n_frames", property(count))
    assert one_color(read_picture(tmp_path / f"frames.{ending}")) == RED


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif", "gif", "tif", "bmp", "dib", "jp2", "ppm", "mpo"])
def test_every_format_is_read(tmp_path: Path, ending: str) -> None:
    Image.new("RGB", (16, 16), (30, 120, 210)).save(tmp_path / f"photo.{ending}")
    assert one_color(read_picture(tmp_path / f"photo.{ending}")) == pytest.approx((30, 120, 210), abs=3)


# --- formats that need a library more


def test_a_heic_photo_is_read_upright(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    left_red = Image.new("RGB", (64, 48), BLUE)
    left_red.paste(RED, (0, 0, 32, 48))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    heif.from_pillow(left_red).save(tmp_path / "photo.heic", quality=95, exif=exif.tobytes())
    for read in READERS:
        pixels = read(tmp_path / "photo.heic").pixels
        assert pixels.shape == (64, 48, 3)
        assert one_color(Picture(pixels[:28])) == pytest.approx(RED, abs=6)
        assert one_color(Picture(pixels[36:])) == pytest.approx(BLUE, abs=6)


def raw_photo(preview: bytes, orientation: int, compression: int, photometric: int) -> bytes:
    """A tiny Digital Negative, made by hand: a preview of 64 x 48 pixels, and 16 x 16 that no picture is made of."""
    samples = bytes(16 * 16 * 2)
    raw = {254: [0], 256: [16], 257: [16], 258: [16], 259: [1], 262: [32803], 273: [8], 277: [1], 278: [16]}
    raw |= {279: [len(samples)], 33421: [2, 2], 33422: bytes([0, 1, 1, 2])}
    content = samples + preview + bytes(len(preview) % 2)
    place = 8 + len(content)
    content += directory(raw, place)
    main = {254: [1], 256: [64], 257: [48], 258: [8, 8, 8], 259: [compression], 262: [photometric]}
    main |= {271: b"Maker\0", 272: b"Camera\0", 273: [8 + len(samples)], 274: [orientation], 277: [3], 278: [48]}
    main |= {279: [len(preview)], 330: [place], 50706: bytes([1, 4, 0, 0]), 50708: b"Camera\0"}
    start = 8 + len(content)
    return b"II*\0" + struct.pack("<I", start) + content + directory(main, start)


@pytest.mark.parametrize("name", ["photo.dng", "photo.tif", "photo"])
@pytest.mark.parametrize("kind", ["JPEG", "bitmap"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_of_a_raw_photo_the_preview_is_read_upright(tmp_path: Path, orientation: int, kind: str, name: str) -> None:
    pytest.importorskip("rawpy")
    preview = Image.new("RGB", (64, 48), BLUE)
    preview.paste(RED, (0, 0, 32, 48))
    jpeg = BytesIO()
    preview.save(jpeg, "JPEG", quality=95)
    content = (jpeg.getvalue(), orientation, 7, 6) if kind == "JPEG" else (preview.tobytes(), orientation, 1, 2)
    (tmp_path / name).write_bytes(raw_photo(*content))
    turn = {1: None, 3: Transpose.ROTATE_180, 6: Transpose.ROTATE_270, 8: Transpose.ROTATE_90}[orientation]
    upright = np.asarray(preview if turn is None else preview.transpose(turn))
    for read in READERS:
        assert difference(read(tmp_path / name).pixels, upright) < 4


def test_a_tiff_that_is_only_named_like_a_raw_photo_is_read_as_what_it_is(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    path = make_photo(tmp_path / "photo.dng", 6, format="TIFF")
    assert np.array_equal(read_picture(path).pixels, photo_pixels(6))


def test_a_raw_photo_without_a_preview_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    (tmp_path / "photo.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(500))
    assert refusal(tmp_path / "photo.raf") == "a raw photo without a preview that can be read"


def test_the_decoder_is_told_by_all_of_its_libraries() -> None:
    heif, rawpy = pytest.importorskip("pillow_heif"), pytest.importorskip("rawpy")
    versions = f"Pillow {PIL.__version__}, pillow-heif {heif.__version__}, rawpy {rawpy.__version__}"
    assert decode.decoder_version() == versions


def test_what_needs_a_library_that_is_not_there_is_refused_with_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    (tmp_path / "b.nef").write_bytes(tiff(1, 1, bytes(3), [8, 8, 8], 2))
    (tmp_path / "c.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(500))
    script = (
        "import sys; sys.modules['pillow_heif'] = sys.modules['rawpy'] = None\n"
        "from cbir.decode import read_picture\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_picture(path)\n"
        "    except ValueError as error: print(error.reason)"
    )
    files = [str(tmp_path / name) for name in ("a.heic", "b.nef", "c.raf")]
    output = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True, check=True).stdout
    raw = "a raw photo; its preview is read with: pip install 'cbir[raw]'"
    assert output.splitlines() == [
        "a HEIF photo, which is read with: pip install 'cbir[heif]'",
        raw,
        raw,
    ]


# --- what is refused


def test_a_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    path = make_photo(tmp_path / "photo.jpg", 1, (300, 200))
    path.write_bytes(path.read_bytes()[:-400])
    assert refusal(path) == "truncated"


@pytest.mark.parametrize("ending", ["png", "webp", "gif", "tif", "bmp", "jp2", "ppm", "avif"])
def test_a_truncated_picture_is_refused(tmp_path: Path, ending: str) -> None:
    path = make_photo(tmp_path / f"photo.{ending}", 1, (300, 200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refusal(path)


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("Buy milk.\n")
    assert refusal(tmp_path / "notes.jpg") == "not a picture, or of a format that cannot be read"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert refusal(tmp_path / "empty.jpg") == "the file is empty"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"qoif" + bytes(60), "a QOI file, which cbir cannot read"),
        (b"8BPS\0\1" + bytes(60), "a PSD file, which cbir cannot read"),
        (b"\xff\x0a" + bytes(60), "a JPEG XL file, which cbir cannot read"),
        (b"/* XPM */ static char *", "an XPM file, which cbir cannot read"),
    ],
)
def test_a_picture_of_a_format_that_is_not_read_is_refused_by_its_name(
    tmp_path: Path, head: bytes, reason: str
) -> None:
    (tmp_path / "picture").write_bytes(head)
    assert refusal(tmp_path / "picture") == reason


@pytest.mark.parametrize(
    ("content", "no_picture"), [(b"", True), (b"Buy milk.\n", True), (b"qoif", False), (b"\xff\xd8\xff", False)]
)
def test_an_error_tells_what_is_no_picture_at_all_also_across_processes(
    tmp_path: Path, content: bytes, no_picture: bool
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(PictureError) as caught:
        read_picture(tmp_path / "file")
    assert (caught.value.reason in NOT_PICTURES) is no_picture
    assert caught.value.lasting
    copy = pickle.loads(pickle.dumps(caught.value))
    assert vars(copy) == vars(caught.value)


def test_a_jpeg_of_twelve_bits_is_refused(tmp_path: Path) -> None:
    frame = struct.pack(">2HB2HB3B", 0xFFC1, 11, 12, 16, 16, 1, 1, 0x11, 0)
    (tmp_path / "scan.jpg").write_bytes(b"\xff\xd8" + frame + bytes(100))
    assert refusal(tmp_path / "scan.jpg") == "a JPEG of 12 bits a channel, which cannot be read"


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_of_32_bits_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "map.tif")
    assert refusal(tmp_path / "map.tif") == f"samples of 32 bits ({mode}) have no known range"


@pytest.mark.parametrize("chunk", [b"iCCP", b"zTXt"])
def test_text_that_unpacks_to_more_than_is_safe_is_refused(tmp_path: Path, chunk: bytes) -> None:
    packed = b"name\0\0" + zlib.compress(bytes(50_000_000))
    (tmp_path / "bomb.png").write_bytes(png(1, 1, 8, 2, bytes(4), (chunk, packed)))
    assert refusal(tmp_path / "bomb.png") == "more text, or a larger colour profile, than is safe to unpack"


@pytest.mark.parametrize("good", [True, False])
def test_a_file_that_changes_while_it_is_read_is_refused_for_now(
    tmp_path: Path, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_photo(tmp_path / "photo.jpg", 1)
    if not good:
        path.write_bytes(path.read_bytes()[:-100])
    identify = decode.picture_format

    def in_the_meantime(head: bytes) -> str | None:
        with path.open("ab") as file:
            file.write(b"more")
        return identify(head)

    monkeypatch.setattr(decode, "picture_format", in_the_meantime)
    with pytest.raises(PictureError) as caught:
        read_picture(path)
    assert (caught.value.reason, caught.value.lasting) == ("changed while it was read", False)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    assert refusal(tmp_path / "folder.jpg") == "a folder, not a file"


@pytest.mark.usefixtures("never_hangs")
def test_a_pipe_is_refused_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refusal(tmp_path / "pipe.jpg") == "not a regular file"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "missing.jpg") == "no such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    make_photo(tmp_path / "secret.jpg", 1).chmod(0)
    assert refusal(tmp_path / "secret.jpg") == "permission denied"


# --- limits

ALL = ["jpg", "png", "webp", "avif", "gif", "tif", "bmp", "dib", "jp2", "ppm", "mpo"]


@pytest.mark.parametrize("ending", ALL)
def test_a_picture_of_more_pixels_than_the_limit_is_refused_and_one_of_as_many_is_read(
    tmp_path: Path, ending: str
) -> None:
    path = make_photo(tmp_path / f"photo.{ending}", 1, (60, 50))
    for read in READERS:
        assert read(path, limits=Limits(pixels=3000)).pixels.shape == (50, 60, 3)
        with pytest.raises(PictureError) as caught:
            read(path, limits=Limits(pixels=2999))
        assert caught.value.reason == "60 x 50 pixels are more than 2,999; raise --max-pixels to read it"
        assert not caught.value.lasting


@pytest.mark.parametrize("ending", ALL)
def test_pillows_own_limit_neither_counts_nor_changes(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = make_photo(tmp_path / f"photo.{ending}", 1, (60, 50))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(path).pixels.shape == (50, 60, 3)
    with pytest.raises(PictureError, match="more than 2,999"):
        read_picture(path, limits=Limits(pixels=2999))
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_file_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(2, 2, 8, 2, bytes(14)))
    size = (tmp_path / "photo.png").stat().st_size
    assert read_picture(tmp_path / "photo.png", limits=Limits(file_bytes=size)).pixels.shape == (2, 2, 3)
    with pytest.raises(PictureError) as caught:
        read_picture(tmp_path / "photo.png", limits=Limits(file_bytes=size - 1))
    assert caught.value.reason == f"{size} bytes are more than {size - 1}"
    assert not caught.value.lasting


SMALL_GIF = b"GIF89a\x01\0\x01\0\x80\0\0\xff\0\0\0\xff\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
SIDES = struct.pack("<2H", 65_000, 65_000)
BOMBS = {
    "png": png(65_000, 65_000, 8, 2, bytes(100)),
    "bmp": b"BM" + struct.pack("<8xI", 54) + struct.pack("<I2i2H", 40, 65_000, 65_000, 1, 24) + bytes(100),
    "gif": SMALL_GIF[:6] + SIDES + SMALL_GIF[10:],
    "gif whose frame is larger than itself": SMALL_GIF[:24] + SIDES + SMALL_GIF[28:],
    "tif": tiff(65_000, 65_000, bytes(100), [8]),
    "tif of one huge tile": tiff(16, 16, bytes(100), [8], tag322=[65_000], tag323=[65_000], tag324=[8], tag325=[100]),
    "ppm": b"P5 65000 65000 255 " + bytes(100),
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x1ejp2h\0\0\0\x16ihdr"
    + struct.pack(">2I", 65_000, 65_000)
    + b"\0\3\7\7\0\0",
    "webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + (64_999).to_bytes(3, "little") * 2,
}


@pytest.mark.usefixtures("never_hangs")
@pytest.mark.parametrize("kind", BOMBS)
def test_a_decompression_bomb_is_refused_with_its_size(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bomb").write_bytes(BOMBS[kind])
    size, rest = refusal(tmp_path / "bomb").split(" pixels are ")
    assert size in ("65,000 x 65,000", "4,225,000,000")
    assert rest == "more than 250 million; raise --max-pixels to read it"


@pytest.mark.usefixtures("never_hangs")
@pytest.mark.parametrize(
    "content",
    [
        tiff(16, 16, bytes(256), [8], tag279=[0xFFFFFFF0]),
        tiff(16, 16, bytes(256), [8], tag278=[0xFFFFFFFF]),
        tiff(16, 16, bytes(256), [8]).replace(struct.pack("<HHI", 258, 4, 1), struct.pack("<HHI", 258, 4, 0xFFFFFFF0)),
        tiff(16, 16, bytes(256), [8])[:-200] + b"\xff\xff" + bytes(70),
    ],
    ids=["a strip of gigabytes", "a strip of all rows", "a tag of gigabytes", "a directory of 65,535 tags"],
)
def test_a_tiff_that_claims_more_than_it_has_costs_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photo.tif").write_bytes(content)
    for read in READERS:
        try:
            assert read(tmp_path / "photo.tif").pixels.shape == (16, 16, 3)
        except PictureError as error:
            assert error.reason.isprintable()


# --- the process


def test_libraries_write_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make_photo(tmp_path / "photo.tif", 1, compression="tiff_lzw")
    path.write_bytes(path.read_bytes().replace(path.read_bytes()[1000:3000], bytes(2000)))
    # Without further ado libtiff complains of it at length.
    with Image.open(path) as image, pytest.raises(OSError):
        image.load()
    assert capfd.readouterr().err
    refusal(path)
    assert capfd.readouterr() == ("", "")
    print("still heard", file=sys.stderr)
    assert capfd.readouterr().err == "still heard\n"


def test_a_tiff_is_read_where_standard_error_is_closed(tmp_path: Path) -> None:
    path = make_photo(tmp_path / "photo.tif", 1, compression="tiff_lzw")
    script = "import sys; from cbir.decode import read_picture; print(read_picture(sys.argv[1]).pixels.shape)"
    command = ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-c", script, str(path)]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout == "(48, 64, 3)\n"


def test_standard_error_and_warnings_are_as_before_also_after_reading_in_threads(tmp_path: Path) -> None:
    paths = [make_photo(tmp_path / f"{i}.tif", i, compression="tiff_lzw") for i in range(30)]
    before = os.fstat(2), list(warnings.filters), Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(read_working_picture, paths * 5))
    assert all(np.array_equal(picture.pixels, photo_pixels(i % 30)) for i, picture in enumerate(read))
    after = os.fstat(2), list(warnings.filters), Image.MAX_IMAGE_PIXELS
    assert os.path.samestat(before[0], after[0])
    assert before[1:] == after[1:]


# --- hostile content


@pytest.mark.parametrize("ending", ["eps", "jpg"])
def test_postscript_is_refused_and_not_run(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **_: started.append(arguments))
    path = tmp_path / f"program.{ending}"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n0 0 10 10 rectfill\nshowpage\n%%EOF\n"
    )
    assert refusal(path) == "an EPS file, which cbir cannot read"
    assert started == []


SMALL_PNG = png(2, 2, 8, 2, bytes(14))
BEGINNINGS = [
    b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    b"\xff\xd8\xff\xe1\0\x40Exif\0\0II*\0",
    b"\x89PNG\r\n\x1a\n",
    SMALL_PNG[:33],
    b"GIF89a",
    SMALL_GIF[:13],
    b"II*\0",
    b"MM\0*\0\0\0\x08",
    b"RIFF\x40\0\0\0WEBPVP8 ",
    b"\0\0\0\x20ftypavif",
    b"BM",
    b"P6 ",
    b"\0\0\0\x0cjP  \r\n\x87\n",
]


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300))
@example(b"GIF89a", SMALL_GIF[6:])
@example(b"", b"\0" * 100)
def test_any_bytes_are_a_picture_or_refused(
    tmp_path_factory: pytest.TempPathFactory, beginning: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jpg"
    path.write_bytes(beginning + rest)
    for read in READERS:
        try:
            picture = read(path)
        except PictureError as error:
            assert error.reason.isprintable()
        else:
            assert picture.pixels.dtype == np.uint8


@given(st.data())
def test_a_damaged_picture_is_a_picture_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "AVIF", "JPEG2000"]))
    make_photo(path, 2, (24, 16), format=kind)
    content = bytearray(path.read_bytes())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8)
    ):
        content[place] = value
    path.write_bytes(content)
    for read in READERS:
        try:
            picture = read(path)
        except PictureError as error:
            assert error.reason.isprintable()
        else:
            assert picture.pixels.shape[2] == 3
