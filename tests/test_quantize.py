"""Redrawing a picture in a few flat colours: how many, which, and what is written."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pictures import make_photo, photo_pixels
from PIL import Image
from sklearn.datasets import load_sample_images

from cbir.color import hex_of_bytes, lab_of_bytes
from cbir.errors import OutputError, PaletteError, PictureError
from cbir.eye import Space, learn_palette
from cbir.palette import Palette
from cbir.pixels import Picture
from cbir.quantize import Quantized, quantize, quantize_file, reduce_palette
from cbir.styles import StyleName

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
PHOTO = Picture(photo_pixels(1, (120, 90)))


def colors_of(pixels: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return {tuple(color) for color in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


def assert_same(a: Quantized, b: Quantized) -> None:
    assert np.array_equal(a.pixels, b.pixels)
    assert (a.visible is None) == (b.visible is None)
    assert a.visible is None or np.array_equal(a.visible, b.visible)


def read(path: Path, mode: str = "RGB") -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert(mode))


@pytest.fixture(scope="module")
def china(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real photo of 640 x 427 pixels, as PNG."""
    path = tmp_path_factory.mktemp("sample") / "china.png"
    Image.fromarray(load_sample_images().images[0]).save(path)
    return path


# --- how many colours, and which


@pytest.mark.parametrize("space", ["eye", "rgb"])
@pytest.mark.parametrize("k", [1, 2, 3, 8, 32])
def test_a_photo_gets_exactly_k_colours(k: int, space: Space) -> None:
    drawn = quantize(PHOTO, k, space=space)
    assert drawn.pixels.shape == PHOTO.pixels.shape
    assert len(colors_of(drawn.pixels)) == len(drawn.colors) == k


def test_a_real_photo_gets_exactly_256_colours(china: Path) -> None:
    assert len(colors_of(quantize(Picture(read(china)), 256).pixels)) == 256


@pytest.mark.parametrize("k", [8, 64, 256])
def test_no_colour_of_a_dull_photo_is_there_twice(k: int) -> None:
    pixels = 100 + np.random.default_rng(0).normal(0, 1.5, (80, 80, 3))
    drawn = quantize(Picture(np.rint(pixels).astype(np.uint8)), k)
    assert len(colors_of(drawn.colors)) == len(drawn.colors)


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3))),
    st.integers(1, 20),
)
@settings(max_examples=40)
def test_no_picture_gets_more_than_k_colours(pixels: NDArray[np.uint8], k: int) -> None:
    drawn = quantize(Picture(pixels), k)
    assert drawn.pixels.shape == pixels.shape
    assert len(colors_of(drawn.pixels)) == len(drawn.colors) <= min(k, len(colors_of(pixels)))


def differences(pixels: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIEDE2000 between pixels, (n, 3), and colours, (k, 3), by scikit-image."""
    color = pytest.importorskip("skimage.color", reason="scikit-image, which tells CIEDE2000, is not installed")
    lab, other = (lab_of_bytes(one).astype(float) for one in (pixels.reshape(-1, 3), colors))
    return np.asarray(color.deltaE_ciede2000(lab[:, None], other[None]))


@pytest.mark.parametrize("k", [2, 8, 24])
def test_each_pixel_gets_the_colour_that_looks_nearest(k: int) -> None:
    drawn = quantize(PHOTO, k)
    apart = differences(PHOTO.pixels, drawn.colors)
    chosen = np.take_along_axis(apart, drawn.labels.reshape(-1, 1).astype(int), axis=1)[:, 0]
    assert (chosen - apart.min(axis=1)).max() < 1e-2


@pytest.mark.parametrize("k", [2, 8, 24])
def test_each_pixel_gets_the_nearest_colour_of_a_given_palette(k: int) -> None:
    palette = Palette.of_bytes(np.random.default_rng(0).integers(0, 256, (k, 3)).astype(np.uint8))
    drawn = quantize(PHOTO, palette=palette)
    assert colors_of(drawn.colors) <= colors_of(palette.srgb)
    apart = differences(PHOTO.pixels, palette.srgb).min(axis=1)
    own = differences(PHOTO.pixels, drawn.colors)
    assert np.abs(np.take_along_axis(own, drawn.labels.reshape(-1, 1).astype(int), 1)[:, 0] - apart).max() < 1e-2


def test_by_rgb_each_pixel_gets_the_colour_nearest_in_its_levels() -> None:
    drawn = quantize(PHOTO, 8, space="rgb")
    levels, colors = PHOTO.pixels.reshape(-1, 3).astype(float), drawn.colors.astype(float)
    apart = np.linalg.norm(levels[:, None] - colors, axis=2)
    chosen = np.take_along_axis(apart, drawn.labels.reshape(-1, 1).astype(int), axis=1)[:, 0]
    assert np.allclose(chosen, apart.min(axis=1))


@given(
    arrays(np.uint8, (4, 3), unique=False),
    arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3)),
    st.integers(4, 256),
)
@settings(max_examples=50)
def test_a_picture_of_no_more_than_k_colours_is_returned_to_the_bit(
    colors: NDArray[np.uint8], labels: NDArray[np.int64], k: int
) -> None:
    pixels = colors[labels]
    assert np.array_equal(quantize(Picture(pixels), k).pixels, pixels)


@pytest.mark.parametrize("k", [1, 2, 8, 100])
def test_quantizing_twice_changes_nothing(k: int) -> None:
    once = quantize(PHOTO, k)
    assert_same(quantize(Picture(once.pixels), k), once)


def test_quantizing_twice_with_a_given_palette_changes_nothing() -> None:
    palette = Palette.of_bytes(np.random.default_rng(0).integers(0, 256, (40, 3)).astype(np.uint8))
    once = quantize(PHOTO, palette=palette)
    assert_same(quantize(Picture(once.pixels), palette=palette), once)


def test_the_same_photo_is_always_drawn_alike() -> None:
    assert_same(quantize(PHOTO, 12), quantize(PHOTO, 12))


def test_a_given_palette_has_all_the_colours_that_are_used() -> None:
    drawn = quantize(PHOTO, palette=Palette.of_bytes(np.array([RED, GREEN, BLUE], np.uint8)))
    assert colors_of(drawn.pixels) <= {RED, GREEN, BLUE}


@pytest.mark.parametrize("k", [2, 40, 300])
def test_each_pixel_is_drawn_in_its_colour_and_no_colour_is_left_over(k: int) -> None:
    palette = Palette.of_bytes(np.random.default_rng(0).integers(0, 256, (k, 3)).astype(np.uint8))
    alpha = np.full(PHOTO.pixels.shape[:2], 255, np.uint8)
    alpha[:60] = 0
    for picture in (PHOTO, Picture(PHOTO.pixels, alpha)):
        drawn = quantize(picture, palette=palette)
        shown = drawn.labels if drawn.visible is None else drawn.labels[drawn.visible]
        assert np.array_equal(drawn.pixels, drawn.colors[drawn.labels])
        assert np.array_equal(np.unique(shown), np.arange(len(drawn.colors)))
        assert drawn.labels.dtype == np.uint16


# --- odd pictures


def test_one_pixel_stays_what_it_is() -> None:
    drawn = quantize(Picture(np.array([[[12, 34, 56]]], np.uint8)), 8)
    assert drawn.pixels.tolist() == [[[12, 34, 56]]]


def test_one_colour_stays_what_it_is() -> None:
    drawn = quantize(Picture(np.full((30, 20, 3), 77, np.uint8)), 8)
    assert colors_of(drawn.pixels) == {(77, 77, 77)}
    assert [(s.srgb.tolist(), s.share) for s in drawn.swatches] == [([77, 77, 77], 1.0)]


def test_grey_stays_grey() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    colors = quantize(Picture(ramp), 6).colors
    assert len(colors) == 6
    assert np.ptp(colors, axis=1).max() <= 1


def test_by_rgb_one_colour_of_a_photo_is_the_mean_of_its_levels() -> None:
    (color,) = quantize(PHOTO, 1, space="rgb").colors
    assert color == pytest.approx(PHOTO.pixels.reshape(-1, 3).mean(axis=0), abs=1)


def test_dithering_goes_with_flat_colours_alone() -> None:
    assert len(quantize(PHOTO, 4, dither="ordered").colors) <= 4
    with pytest.raises(PaletteError, match="dithering"):
        quantize(PHOTO, 4, style="darkly", dither="ordered")


@pytest.mark.parametrize("style", ["flat", "darkly", "poster", "ink"])
@pytest.mark.parametrize("k", [2, 5, 16])
def test_every_style_has_at_most_k_colours_and_transparency_stays(style: StyleName, k: int) -> None:
    alpha = np.full(PHOTO.pixels.shape[:2], 255, np.uint8)
    alpha[:20] = 0
    drawn = quantize(Picture(PHOTO.pixels, alpha), k, style=style)
    assert drawn.visible is not None and not drawn.visible[:20].any() and drawn.visible[20:].all()
    assert len(colors_of(drawn.pixels[20:])) == len(drawn.colors) <= k


def test_what_is_less_than_half_opaque_becomes_transparent() -> None:
    alpha = np.array([[0, 1, 127, 128, 255]], np.uint8)
    drawn = quantize(Picture(np.full((1, 5, 3), 9, np.uint8), alpha), 2)
    assert drawn.visible is not None
    assert drawn.visible.tolist() == [[False, False, False, True, True]]


def test_hidden_colours_take_no_place_in_the_palette() -> None:
    pixels = np.array([[RED, GREEN, BLUE, (9, 9, 9)]], np.uint8)
    drawn = quantize(Picture(pixels, np.array([[255, 255, 0, 100]], np.uint8)), 2)
    assert colors_of(drawn.colors) == {RED, GREEN}
    assert drawn.pixels[0, :2].tolist() == [[*RED], [*GREEN]]
    assert [s.share for s in drawn.swatches] == [0.5, 0.5]


def test_a_photo_with_transparent_parts_gets_exactly_k_colours_that_show() -> None:
    alpha = np.zeros(PHOTO.pixels.shape[:2], np.uint8)
    alpha[:, 30:] = 255
    drawn = quantize(Picture(PHOTO.pixels, alpha), 5)
    assert len(drawn.colors) == len(colors_of(drawn.pixels[:, 30:])) == 5


def test_a_wholly_transparent_picture_is_refused() -> None:
    with pytest.raises(PaletteError, match="transparent"):
        quantize(Picture(PHOTO.pixels, np.zeros(PHOTO.pixels.shape[:2], np.uint8)), 4)


@pytest.mark.parametrize("k", [-1, 0, 257])
def test_other_numbers_of_colours_than_1_to_256_are_refused(k: int) -> None:
    with pytest.raises(PaletteError, match=f"1 to 256 colours, not {k}"):
        quantize(PHOTO, k)
    with pytest.raises(PaletteError, match=f"1 to 256 colours, not {k}"):
        learn_palette(PHOTO, k)


# --- shares


@pytest.mark.parametrize("k", [1, 8, 50])
def test_the_shares_of_a_pictures_colours_sum_to_one_and_fall(k: int) -> None:
    shares = [s.share for s in quantize(PHOTO, k).swatches]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("k", [1, 3, 10, 60, 256])
def test_a_summed_up_palette_has_at_most_k_colours_whose_shares_sum_to_one(k: int) -> None:
    random = np.random.default_rng(3)
    palette = Palette.of_bytes(random.integers(0, 256, (60, 3)).astype(np.uint8))
    swatches = reduce_palette(palette, random.random(60) * 7, k)
    assert len(swatches) == min(k, 60)
    assert sum(s.share for s in swatches) == pytest.approx(1)
    assert [s.share for s in swatches] == sorted((s.share for s in swatches), reverse=True)


def test_colours_of_no_amount_do_not_count_in_a_summed_up_palette() -> None:
    palette = Palette.of_bytes(np.array([RED, GREEN, BLUE], np.uint8))
    amounts = np.where((palette.srgb == GREEN).all(axis=1), 0.0, [1.0, 1.0, 1.0])
    swatches = reduce_palette(palette, amounts, 8)
    assert {tuple(s.srgb.tolist()): s.share for s in swatches} == {RED: 0.5, BLUE: 0.5}


# --- files


@pytest.mark.parametrize("k", [2, 8, 64])
def test_a_photo_becomes_a_palette_image_that_is_smaller(china: Path, tmp_path: Path, k: int) -> None:
    drawn = quantize_file(china, tmp_path / "out.png", k)
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "P"
    assert np.array_equal(read(tmp_path / "out.png"), drawn.pixels)
    assert (tmp_path / "out.png").stat().st_size < china.stat().st_size / 2


def test_fewer_colours_make_a_smaller_file_and_a_larger_error(china: Path, tmp_path: Path) -> None:
    sizes, errors = [], []
    original = lab_of_bytes(read(china))
    for k in (2, 8, 32, 128):
        drawn = quantize_file(china, tmp_path / "out.png", k, force=True)
        sizes.append((tmp_path / "out.png").stat().st_size)
        errors.append(float(np.linalg.norm(lab_of_bytes(drawn.pixels) - original, axis=2).mean()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_quantizing_a_written_file_again_changes_nothing(tmp_path: Path) -> None:
    make_photo(tmp_path / "photo.png", 1)
    once = quantize_file(tmp_path / "photo.png", tmp_path / "once.png", 8)
    twice = quantize_file(tmp_path / "once.png", tmp_path / "twice.png", 8)
    assert_same(once, twice)
    assert (tmp_path / "once.png").read_bytes() == (tmp_path / "twice.png").read_bytes()


def test_side_by_side_the_original_is_on_the_left(tmp_path: Path) -> None:
    make_photo(tmp_path / "photo.png", 1)
    drawn = quantize_file(tmp_path / "photo.png", tmp_path / "both.png", 4, side_by_side=True)
    both = read(tmp_path / "both.png")
    assert both.shape == (48, 128, 3)
    assert np.array_equal(both[:, :64], photo_pixels(1))
    assert np.array_equal(both[:, 64:], drawn.pixels)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_side_by_side_both_keep_their_transparency(tmp_path: Path, suffix: str) -> None:
    pixels = np.dstack([photo_pixels(1), np.full((48, 64), 255, np.uint8)])
    pixels[:24, :, 3] = 60
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    quantize_file(tmp_path / "photo.png", tmp_path / f"both{suffix}", 4, side_by_side=True)
    alpha = read(tmp_path / f"both{suffix}", "RGBA")[..., 3]
    assert np.array_equal(alpha[:, :64], pixels[..., 3])
    assert np.unique(alpha[:24, 64:]).tolist() == [0]
    assert np.unique(alpha[24:, 64:]).tolist() == [255]


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp"])
def test_transparent_parts_stay_transparent(tmp_path: Path, suffix: str) -> None:
    pixels = np.dstack([photo_pixels(1), np.full((48, 64), 255, np.uint8)])
    pixels[:24, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    drawn = quantize_file(tmp_path / "photo.png", tmp_path / f"out{suffix}", 4)
    out = read(tmp_path / f"out{suffix}", "RGBA")
    assert np.unique(out[:24, :, 3]).tolist() == [0]
    assert np.unique(out[24:, :, 3]).tolist() == [255]
    assert np.array_equal(out[24:, :, :3], drawn.pixels[24:])


def test_an_output_is_refused_before_the_picture_is_read(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        quantize_file(tmp_path / "missing.jpg", tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"precious"


def test_a_picture_that_cannot_be_read_leaves_no_output(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("Buy milk.")
    with pytest.raises(PictureError):
        quantize_file(tmp_path / "notes.jpg", tmp_path / "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.jpg"]


def test_a_number_of_colours_that_is_refused_leaves_no_output(tmp_path: Path) -> None:
    make_photo(tmp_path / "photo.png", 1)
    with pytest.raises(PaletteError):
        quantize_file(tmp_path / "photo.png", tmp_path / "out.png", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


# --- what is kept of a file


def test_exif_is_kept_but_for_which_way_is_up(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Cambo"
    Image.fromarray(PHOTO.pixels).save(tmp_path / "photo.jpg", exif=exif)
    for name in ("out.png", "out.jpg", "out.webp", "out.tif"):
        quantize_file(tmp_path / "photo.jpg", tmp_path / name, 4)
        with Image.open(tmp_path / name) as image:
            assert image.size == PHOTO.pixels.shape[:2], name
            assert image.getexif().get(0x010F) == "Cambo", name
            assert image.getexif().get(0x0112, 1) == 1, name


def test_exif_that_is_damaged_is_left_out(tmp_path: Path) -> None:
    Image.fromarray(PHOTO.pixels).save(tmp_path / "photo.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    quantize_file(tmp_path / "photo.jpg", tmp_path / "out.png", 4)
    assert len(colors_of(read(tmp_path / "out.png"))) == 4


def test_svg_has_exactly_the_colours_of_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("vtracer", reason="vtracer, which traces shapes, is not installed")
    Image.fromarray(PHOTO.pixels).save(tmp_path / "photo.png")
    drawn = quantize_file(tmp_path / "photo.png", tmp_path / "out.svg", 4, style="poster")
    svg = (tmp_path / "out.svg").read_text()
    assert set(re.findall('fill="(#[0-9a-f]{6})"', svg)) <= {hex_of_bytes(color) for color in drawn.colors}
    with pytest.raises(OutputError, match="beside"):
        quantize_file(tmp_path / "photo.png", tmp_path / "both.svg", side_by_side=True)
