"""From a file to upright sRGB pixels: what a picture is read as, and what is refused."""

import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import make_photo, photo_pixels
from PIL import Image, ImageCms
from PIL.Image import Transpose
from sklearn.datasets import load_sample_images

from cbir.decode import Picture, read_picture, read_working_picture
from cbir.describe import describe_picture
from cbir.descriptor import GLOBAL, SPATIAL
from cbir.errors import PictureError
from cbir.palette import Palette

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


@pytest.mark.parametrize("kind", ["Landscape", "Portrait"])
def test_photos_held_in_eight_ways_are_read_alike(shared: Path, kind: str) -> None:
    paths = [shared / "exif_orientation" / f"{kind}_{i}.jpg" for i in range(1, 9)]
    full, working = read_picture(paths[0]).pixels, read_working_picture(paths[0]).pixels
    for path in paths[1:]:
        assert difference(read_picture(path).pixels, full) < 5
        assert difference(read_working_picture(path).pixels, working) < 5


# --- levels, palettes and transparency


def test_sixteen_bits_of_grey_are_scaled_not_cut(tmp_path: Path) -> None:
    levels = np.array([[0, 257, 32768, 65280, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    assert read_picture(tmp_path / "grey.png").pixels[0, :, 0].tolist() == [0, 1, 128, 254, 255]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_grey_are_read_in_either_byte_order(tmp_path: Path, order: str) -> None:
    image = Image.frombytes("I;16" if order == "<" else "I;16B", (2, 1), struct.pack(f"{order}2H", 32768, 65535))
    image.save(tmp_path / "grey.tif")
    assert read_picture(tmp_path / "grey.tif").pixels[0, :, 0].tolist() == [128, 255]


def test_sixteen_bits_of_grey_in_a_pgm_are_scaled_by_its_largest_value(tmp_path: Path) -> None:
    (tmp_path / "grey.pgm").write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 32768, 65535))
    assert read_picture(tmp_path / "grey.pgm").pixels[0, :, 0].tolist() == [0, 128, 255]


def png(width: int, height: int, depth: int, color_type: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG file made by hand; `more` are the chunks before the picture data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">2I5B", width, height, depth, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_level_of_a_grey_png_is_transparent(tmp_path: Path, depth: int) -> None:
    level = ">B" if depth == 8 else ">H"
    rows = b"\0" + struct.pack(level, 7) + struct.pack(level, 9)
    (tmp_path / "grey.png").write_bytes(png(2, 1, depth, 0, rows, (b"tRNS", struct.pack(">H", 7))))
    alpha = read_picture(tmp_path / "grey.png").alpha
    assert alpha is not None
    assert alpha.tolist() == [[0, 255]]


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


def test_a_cmyk_jpeg_is_read_in_its_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    red, green, blue = one_color(read_picture(tmp_path / "red.jpg"))
    assert red > 180
    assert max(green, blue) < 80


def test_a_grey_jpeg_has_equal_red_green_and_blue(tmp_path: Path) -> None:
    Image.fromarray(photo_pixels(3)).convert("L").save(tmp_path / "grey.jpg", quality=100)
    pixels = read_picture(tmp_path / "grey.jpg").pixels
    assert pixels.shape == (48, 64, 3)
    assert np.ptp(pixels, axis=2).max() == 0
    assert difference(pixels[..., 0], np.asarray(Image.fromarray(photo_pixels(3)).convert("L"))) < 1


# --- colour profiles

# The sRGB primaries as ICC profiles have them, adapted to the white D50.
SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def srgb_curve(encoded: float) -> float:
    return encoded / 12.92 if encoded <= 0.04045 else ((encoded + 0.055) / 1.055) ** 2.4


def icc_profile(
    description: str, primaries: tuple[tuple[float, ...], ...] = SRGB_PRIMARIES, linear: bool = False
) -> bytes:
    """An ICC profile of an RGB display (version 2), made by hand."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    text = description.encode("ascii") + b"\0"
    levels = [] if linear else [round(65535 * srgb_curve(i / 1023)) for i in range(1024)]
    curve = b"curv\0\0\0\0" + struct.pack(f">I{len(levels)}H", len(levels), *levels)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        **{name: xyz(one) for name, one in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, data = b"", b""
    for name, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        table += struct.pack(">4s2I", name, 128 + 4 + 12 * len(tags) + len(data), len(body))
        data += padded
    size = 128 + 4 + len(table) + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


RED_AND_GREEN_SWAPPED = icc_profile("swapped", (SRGB_PRIMARIES[1], SRGB_PRIMARIES[0], SRGB_PRIMARIES[2]))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_an_embedded_profile_is_honoured(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (20, 20), (200, 60, 20))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "photo.png", icc_profile=RED_AND_GREEN_SWAPPED)
    assert one_color(read_picture(tmp_path / "photo.png")) == pytest.approx((60, 200, 20), abs=2)


def test_an_embedded_profile_is_honoured_in_a_scaled_jpeg(tmp_path: Path) -> None:
    image = Image.new("RGB", (1200, 1000), (200, 60, 20))
    image.save(tmp_path / "photo.jpg", quality=100, icc_profile=RED_AND_GREEN_SWAPPED)
    assert one_color(read_working_picture(tmp_path / "photo.jpg")) == pytest.approx((60, 200, 20), abs=3)


def test_a_profile_leaves_transparency_alone(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (200, 60, 20, 77))
    image.save(tmp_path / "photo.png", icc_profile=RED_AND_GREEN_SWAPPED)
    alpha = read_picture(tmp_path / "photo.png").alpha
    assert alpha is not None
    assert np.unique(alpha).tolist() == [77]


@pytest.mark.parametrize("description", ["linear RGB", "GIMP built-in Linear sRGB"])
def test_a_linear_profile_is_honoured_whatever_its_name(tmp_path: Path, description: str) -> None:
    # 55 of 255 in linear light is 128 of 255 in sRGB.
    Image.new("RGB", (8, 8), (55, 55, 55)).save(
        tmp_path / "photo.png", icc_profile=icc_profile(description, linear=True)
    )
    assert one_color(read_picture(tmp_path / "photo.png")) == pytest.approx((128, 128, 128), abs=2)


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        icc_profile("sRGB IEC61966-2.1"),
    ],
    ids=["Little CMS", "by hand"],
)
def test_the_profile_of_srgb_changes_nothing(tmp_path: Path, profile: bytes) -> None:
    pixels = photo_pixels(5)
    Image.fromarray(pixels).save(tmp_path / "photo.png", icc_profile=profile)
    assert np.array_equal(read_picture(tmp_path / "photo.png").pixels, pixels)


@pytest.mark.parametrize(
    "profile",
    [b"no profile at all", RED_AND_GREEN_SWAPPED[:150], RED_AND_GREEN_SWAPPED[:-300], b"\0" * 500],
    ids=["text", "no tags", "cut short", "zeros"],
)
def test_a_broken_profile_is_ignored(tmp_path: Path, profile: bytes) -> None:
    pixels = photo_pixels(5)
    Image.fromarray(pixels).save(tmp_path / "photo.png", icc_profile=profile)
    assert np.array_equal(read_picture(tmp_path / "photo.png").pixels, pixels)


def test_a_profile_of_another_kind_of_colours_is_ignored(tmp_path: Path) -> None:
    grey = Image.fromarray(photo_pixels(5)).convert("L")
    grey.save(tmp_path / "grey.png", icc_profile=RED_AND_GREEN_SWAPPED)
    assert np.array_equal(read_picture(tmp_path / "grey.png").pixels[..., 0], np.asarray(grey))


def test_display_p3_red_is_beyond_srgb(shared: Path) -> None:
    path = shared / "torture" / "sharp" / "p3.png"
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB")).reshape(-1, 3)
    read = read_picture(path).pixels.reshape(-1, 3)
    colorful = np.ptp(stored.astype(int), axis=1) > 60
    assert colorful.any()
    # What both can show looks more vivid in numbers of the smaller space.
    assert (np.ptp(read.astype(int), axis=1)[colorful] >= np.ptp(stored.astype(int), axis=1)[colorful]).all()
    assert not np.array_equal(read, stored)


# --- the working picture

SIZES = [(1, 1), (64, 48), (128, 128), (255, 257), (256, 256), (640, 427), (900, 1400), (2000, 1500), (20, 30_000)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_working_picture_is_just_large_enough(tmp_path: Path, size: tuple[int, int], ending: str) -> None:
    Image.new("RGB", size, (120, 80, 40)).save(tmp_path / f"photo.{ending}")
    height, width, _ = read_working_picture(tmp_path / f"photo.{ending}").pixels.shape
    assert width * height <= 32_768
    assert width * height >= min(16_384, size[0] * size[1])
    assert (width > height) == (size[0] > size[1])


@pytest.mark.parametrize("size", [(300_000, 1), (2, 250_000)], ids=str)
def test_a_working_picture_of_a_line_is_just_large_enough(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (120, 80, 40)).save(tmp_path / "line.png")
    assert 16_384 <= read_working_picture(tmp_path / "line.png").pixels[..., 0].size <= 32_768


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


@pytest.mark.parametrize("size", [(12, 9), (180, 90)], ids=str)
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


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif", "gif", "tif", "bmp", "dib", "jp2", "ppm", "mpo"])
def test_every_format_is_read(tmp_path: Path, ending: str) -> None:
    Image.new("RGB", (16, 16), (30, 120, 210)).save(tmp_path / f"photo.{ending}")
    assert one_color(read_picture(tmp_path / f"photo.{ending}")) == pytest.approx((30, 120, 210), abs=3)


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


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(60_000, 60_000, 8, 2, bytes(100)))
    assert refusal(tmp_path / "bomb.png") == "more pixels than are safe to decode"


@pytest.mark.parametrize("ending", ["eps", "jpg"])
def test_postscript_is_refused_and_not_run(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **_: started.append(arguments))
    path = tmp_path / f"program.{ending}"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n0 0 10 10 rectfill\nshowpage\n%%EOF\n"
    )
    assert refusal(path) == "not a picture, or of a format that cannot be read"
    assert started == []


SMALL_PNG = png(2, 2, 8, 2, bytes(14))
SMALL_GIF = b"GIF89a\x01\0\x01\0\x80\0\0\xff\0\0\0\xff\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
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


def test_all_of_the_worst_files_are_pictures_or_refused(shared: Path) -> None:
    files = sorted(path for path in (shared / "torture").rglob("*") if path.is_file())
    assert len(files) > 1000
    read = 0
    for path in files:
        for reader in READERS:
            try:
                picture = reader(path)
            except PictureError as error:
                assert error.reason.isprintable(), path
                continue
            read += 1
            assert picture.pixels.dtype == np.uint8, path
            assert picture.pixels.shape[2:] == (3,), path
            if picture.alpha is not None:
                assert picture.alpha.dtype == np.uint8, path
                assert picture.alpha.shape == picture.pixels.shape[:2], path
    assert read > 500


def test_what_pillow_reads_in_eight_bits_is_read(shared: Path) -> None:
    """Of the formats that are read, in sizes as Pillow tells them; the list was made beforehand with Pillow alone."""
    known = {"JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "JPEG2000", "PPM"}
    lines = (shared / "torture" / "expected_pillow13.tsv").read_text().splitlines()[1:]
    wrong = []
    for path, status, kind, mode, size, *_ in (line.split("\t") for line in lines):
        if status != "ok" or kind not in known or mode in ("I", "F"):
            continue
        try:
            height, width, _ = read_picture(shared / path).pixels.shape
        except PictureError as error:
            wrong.append(str(error))
        else:
            if sorted((width, height)) != sorted(map(int, size.split("x"))):
                wrong.append(f"{path}: {width}x{height}, not {size}")
    assert wrong == []
