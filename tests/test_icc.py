"""True colours: embedded colour profiles are honoured and converted to sRGB."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import photo_pixels
from PIL import Image, ImageCms

from cbir import icc
from cbir.decode import read_picture, read_working_picture
from cbir.icc import to_srgb
from cbir.pixels import Picture


def one_color(picture: Picture) -> tuple[int, ...]:
    """The colour of a picture that has only one, but for the few levels that lossy formats add."""
    assert np.ptp(picture.pixels.reshape(-1, 3), axis=0).max() <= 6
    return tuple(np.rint(picture.pixels.mean(axis=(0, 1))).astype(int).tolist())


# --- profiles made by hand (ICC.1:2001-04, version 2)

# The sRGB primaries as ICC profiles have them, adapted to the white D50.
SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of a kind of device, from its colours to those that connect profiles."""
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        **tags,
    }
    table, data = b"", b""
    for name, body in tags.items():
        table += struct.pack(">4s2I", name, 128 + 4 + 12 * len(tags) + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    size = 128 + 4 + len(table) + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, kind, space, connection) + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(function: Callable[[float], float]) -> bytes:
    """From a device's level to light, both 0 to 1."""
    return b"curv\0\0\0\0" + struct.pack(">I1024H", 1024, *(round(65535 * function(i / 1023)) for i in range(1024)))


def srgb_curve(encoded: float) -> float:
    return encoded / 12.92 if encoded <= 0.04045 else ((encoded + 0.055) / 1.055) ** 2.4


def rgb_profile(
    primaries: tuple[tuple[float, ...], ...] = SRGB_PRIMARIES, light: Callable[[float], float] = srgb_curve
) -> bytes:
    return profile(
        *(b"mntr", b"RGB ", b"XYZ "),
        {
            **{name: xyz(one) for name, one in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)},
            **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(light)),
        },
    )


def grey_profile(light: Callable[[float], float]) -> bytes:
    return profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve(light)})


def cmyk_profile(cyan: tuple[int, int, int]) -> bytes:
    """Of a press whose paper is white, whose cyan ink has this colour (CIE L*a*b*), and whose other inks are black."""
    corners = bytearray()
    for ink in np.ndindex(2, 2, 2, 2):
        lightness, a, b = {(0, 0, 0, 0): (100, 0, 0), (1, 0, 0, 0): cyan}.get(ink, (0, 0, 0))
        corners += bytes([round(lightness * 2.55), a + 128, b + 128])
    straight = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(np.eye(3, dtype=int).ravel() << 16))
    return profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table + straight * 4 + bytes(corners) + straight * 3})


RED_AND_GREEN_SWAPPED = rgb_profile((SRGB_PRIMARIES[1], SRGB_PRIMARIES[0], SRGB_PRIMARIES[2]))
# sRGB's own red.
RED_INK = cmyk_profile((54, 81, 70))


# --- which profiles are honoured


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_an_embedded_profile_is_honoured(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (20, 20), (200, 60, 20))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "photo.png", icc_profile=RED_AND_GREEN_SWAPPED)
    picture = read_picture(tmp_path / "photo.png")
    assert one_color(picture) == pytest.approx((60, 200, 20), abs=2)
    assert picture.converted


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif", "tif"])
def test_a_profile_is_honoured_in_every_format_that_can_have_one(tmp_path: Path, ending: str) -> None:
    Image.new("RGB", (32, 32), (200, 60, 20)).save(
        tmp_path / f"photo.{ending}", quality=95, icc_profile=RED_AND_GREEN_SWAPPED
    )
    picture = read_picture(tmp_path / f"photo.{ending}")
    assert one_color(picture) == pytest.approx((60, 200, 20), abs=5)
    assert picture.converted


@pytest.mark.parametrize("method", [2, 3])
def test_a_profile_is_honoured_in_jpeg_2000(tmp_path: Path, method: int) -> None:
    path = tmp_path / "photo.jp2"
    Image.new("RGB", (32, 32), (200, 60, 20)).save(path)
    content = path.read_bytes()
    start, end = content.index(b"jp2h") - 4, content.index(b"jp2c") - 4
    place = content.index(b"colr") - 4
    box = bytes([method, 0, 0]) + RED_AND_GREEN_SWAPPED
    box = struct.pack(">I4s", len(box) + 8, b"colr") + box
    after = place + int.from_bytes(content[place : place + 4], "big")
    header = content[start + 4 : place] + box + content[after:end]
    path.write_bytes(content[:start] + struct.pack(">I", len(header) + 4) + header + content[end:])
    picture = read_picture(path)
    assert one_color(picture) == pytest.approx((60, 200, 20), abs=3)
    assert picture.converted


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


def test_a_linear_profile_is_honoured(tmp_path: Path) -> None:
    # 55 of 255 in linear light is 128 of 255 in sRGB.
    linear = rgb_profile(light=lambda level: level)
    Image.new("RGB", (8, 8), (55, 55, 55)).save(tmp_path / "photo.png", icc_profile=linear)
    assert one_color(read_picture(tmp_path / "photo.png")) == pytest.approx((128, 128, 128), abs=2)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_a_profile_of_grey_is_honoured(tmp_path: Path, mode: str) -> None:
    grey = Image.new("L", (8, 8), 255 if mode == "1" else 55).convert(mode)
    grey.save(tmp_path / "grey.png", icc_profile=grey_profile(lambda level: level))
    picture = read_picture(tmp_path / "grey.png")
    assert one_color(picture) == pytest.approx([255 if mode == "1" else 128] * 3, abs=2)
    assert picture.converted


def test_a_profile_of_grey_is_honoured_where_the_decoder_gives_grey_as_rgb() -> None:
    linear = grey_profile(lambda level: level)
    grey, converted = to_srgb(Image.new("RGB", (2, 2), (55, 55, 55)), linear)
    assert grey.getpixel((0, 0)) == pytest.approx((128, 128, 128), abs=2)
    assert converted
    colored = Image.new("RGB", (2, 2), (55, 55, 56))
    assert to_srgb(colored, linear) == (colored, False)


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_a_profile_of_a_press_is_honoured(tmp_path: Path, ending: str) -> None:
    # Pillow saves CMYK JPEGs as Adobe does, all levels inverted.
    Image.new("CMYK", (32, 32), (255, 0, 0, 0)).save(tmp_path / f"ink.{ending}", icc_profile=RED_INK)
    Image.new("CMYK", (32, 32), (0, 0, 0, 0)).save(tmp_path / f"paper.{ending}", icc_profile=RED_INK)
    ink, paper = read_picture(tmp_path / f"ink.{ending}"), read_picture(tmp_path / f"paper.{ending}")
    assert one_color(ink) == pytest.approx((255, 0, 0), abs=12)
    assert one_color(paper) == pytest.approx((255, 255, 255), abs=3)
    assert ink.converted
    assert paper.converted


def test_cmyk_without_a_profile_is_what_an_ideal_printer_makes_of_it(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    picture = read_picture(tmp_path / "red.jpg")
    assert one_color(picture) == pytest.approx((255, 0, 0), abs=3)
    assert not picture.converted


@pytest.mark.parametrize(
    ("lab", "rgb"),
    [
        ((100, 0, 0), (255, 255, 255)),
        ((0, 0, 0), (0, 0, 0)),
        ((54, 81, 70), (255, 0, 0)),
        ((54, 0, 0), (129, 129, 129)),
    ],
)
def test_lab_is_read_as_under_d50(tmp_path: Path, lab: tuple[int, int, int], rgb: tuple[int, int, int]) -> None:
    lightness, a, b = lab
    Image.new("LAB", (8, 8), (round(lightness * 2.55), a + 128, b + 128)).save(tmp_path / "lab.tif")
    picture = read_picture(tmp_path / "lab.tif")
    assert one_color(picture) == pytest.approx(rgb, abs=6)
    assert not picture.converted


def test_display_p3_red_is_beyond_srgb(shared: Path) -> None:
    path = shared / "torture" / "sharp" / "p3.png"
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB")).reshape(-1, 3)
    picture = read_picture(path)
    read = picture.pixels.reshape(-1, 3)
    colorful = np.ptp(stored.astype(int), axis=1) > 60
    assert colorful.any()
    # What both can show looks more vivid in numbers of the smaller space.
    assert (np.ptp(read.astype(int), axis=1)[colorful] >= np.ptp(stored.astype(int), axis=1)[colorful]).all()
    assert not np.array_equal(read, stored)
    assert picture.converted


# --- which change nothing


def unchanged(path: Path, pixels: NDArray[np.uint8]) -> bool:
    picture = read_picture(path)
    return np.array_equal(picture.pixels, pixels) and not picture.converted


@pytest.mark.parametrize(
    "srgb",
    [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), rgb_profile()],
    ids=["Little CMS", "by hand"],
)
def test_the_profile_of_srgb_changes_nothing(tmp_path: Path, srgb: bytes) -> None:
    pixels = photo_pixels(5)
    Image.fromarray(pixels).save(tmp_path / "photo.png", icc_profile=srgb)
    assert unchanged(tmp_path / "photo.png", pixels)


def test_the_profile_of_srgb_grey_changes_nothing(tmp_path: Path) -> None:
    grey = photo_pixels(5)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png", icc_profile=grey_profile(srgb_curve))
    assert unchanged(tmp_path / "grey.png", np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(
    "broken",
    [
        b"no profile at all",
        RED_AND_GREEN_SWAPPED[:150],
        RED_AND_GREEN_SWAPPED[:-300],
        b"\0" * 500,
        RED_AND_GREEN_SWAPPED[:16] + b"????" + RED_AND_GREEN_SWAPPED[20:],
    ],
    ids=["text", "no tags", "cut short", "zeros", "of unknown colours"],
)
def test_a_broken_profile_is_ignored(tmp_path: Path, broken: bytes) -> None:
    pixels = photo_pixels(5)
    Image.fromarray(pixels).save(tmp_path / "photo.png", icc_profile=broken)
    assert unchanged(tmp_path / "photo.png", pixels)


@pytest.mark.parametrize("other", [RED_AND_GREEN_SWAPPED, RED_INK])
def test_a_profile_of_another_kind_of_colours_is_ignored(tmp_path: Path, other: bytes) -> None:
    grey = photo_pixels(5)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png", icc_profile=other)
    assert unchanged(tmp_path / "grey.png", np.stack([grey] * 3, axis=-1))


def test_a_profile_larger_than_any_press_has_is_ignored() -> None:
    image = Image.new("RGB", (2, 2), (200, 60, 20))
    huge = RED_AND_GREEN_SWAPPED.ljust(icc.MAX_PROFILE_BYTES + 1, b"\0")
    assert to_srgb(image, huge) == (image, False)


def test_a_profile_is_read_once_for_all_photos_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    build = ImageCms.buildTransform
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *args, **named: read.append(1) or build(*args, **named))
    for brightness in (1.5, 1.6):
        for _ in range(3):
            # A copy each time, as each file has one.
            own = bytes(bytearray(rgb_profile(light=lambda level, power=brightness: level**power)))
            to_srgb(Image.new("RGB", (2, 2)), own)
    assert len(read) == 2
