"""The descriptor: each histogram is what counting pixel by pixel gives, and one byte for each share tells it."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbir.color import lab_of_bytes
from cbir.descriptor import DESCRIPTORS, GLOBAL, SPATIAL, Descriptor
from cbir.histogram import count_labels, main_colors

deterministic = settings(derandomize=True, deadline=None, max_examples=60)
each_descriptor = pytest.mark.parametrize("descriptor", DESCRIPTORS.values(), ids=DESCRIPTORS)
with_and_without_alpha = pytest.mark.parametrize("with_alpha", [False, True], ids=["opaque", "alpha"])
SIZES = [(1, 1), (1, 7), (7, 1), (2, 2), (3, 4), (5, 30), (13, 17), (24, 31)]
K = 6

# --- counting pixel by pixel, by the definitions


def reflected(place: int, side: int) -> int:
    """Where a place beyond the edge lies in the picture: cba|abcdef|fed."""
    while not 0 <= place < side:
        place = -1 - place if place < 0 else 2 * side - 1 - place
    return place


def is_border(seen: list[list[object]], row: int, column: int) -> bool:
    """Whether one of the 4 neighbours that there are has another label."""
    neighbours = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    inside = [(y, x) for y, x in neighbours if 0 <= y < len(seen) and 0 <= x < len(seen[0])]
    return any(seen[y][x] != seen[row][column] for y, x in inside)


def border_pixels_around(labels, alpha) -> np.ndarray:
    """How many border pixels are in the square of 9 x 9 pixels around each; what is hidden has one label of its own."""
    height, width = labels.shape
    seen = [[labels[y, x] if alpha[y, x] else "hidden" for x in range(width)] for y in range(height)]
    borders = [[is_border(seen, y, x) for x in range(width)] for y in range(height)]
    around = range(-4, 5)
    return np.array(
        [
            [
                sum(borders[reflected(y + dy, height)][reflected(x + dx, width)] for dy, dx in product(around, around))
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


def blocks_of(row: int, column: int, height: int, width: int, borders: int) -> list[str]:
    """The histograms that a pixel counts in."""
    blocks = ["smooth" if borders < 21 else "mixed" if borders < 49 else "busy"]
    blocks.append("top" if 3 * (row + 0.5) < height else "middle" if 3 * (row + 0.5) < 2 * height else "bottom")
    if height // 4 <= row < height - height // 4 and width // 4 <= column < width - width // 4:
        blocks.append("centre")
    return blocks


def counted(labels, k: int, alpha) -> dict[str, list[int]]:
    """The alphas of each histogram's pixels, summed up by label."""
    height, width = labels.shape
    borders = border_pixels_around(labels, alpha)
    amounts = {name: [0] * k for name in SPATIAL.blocks}
    for y, x in product(range(height), range(width)):
        for block in blocks_of(y, x, height, width, borders[y, x]):
            amounts[block][labels[y, x]] += int(alpha[y, x])
    return amounts


def coded(amounts: dict[str, list[int]], areas) -> list[int]:
    """A byte for the share that each amount has of its area."""
    codes = []
    for area in areas:
        total = sum(sum(amounts[name]) for name in area)
        codes += [round(255 * math.sqrt(one / total)) if total else 0 for name in area for one in amounts[name]]
    return codes


def random_picture(size, seed: int, with_alpha: bool):
    """Labels in patches and in noise, and alpha in patches and in noise, some of it 0; not all of it."""
    rng = np.random.default_rng(seed)

    def patches_and_noise(values):
        patch = rng.integers(1, 9)
        coarse = rng.choice(values, (-(-size[0] // patch), -(-size[1] // patch)))
        patches = np.kron(coarse, np.ones((patch, patch), int))[: size[0], : size[1]]
        return np.where(rng.random(size) < rng.choice([0, 0.05, 0.5]), rng.choice(values, size), patches)

    labels = patches_and_noise(np.arange(K)).astype(np.uint16)
    alpha = patches_and_noise([0, 0, 1, 100, 255]).astype(np.uint8)
    alpha[rng.integers(size[0]), rng.integers(size[1])] = 40
    return labels, alpha if with_alpha else None


@pytest.mark.parametrize("size", SIZES, ids=str)
@with_and_without_alpha
@pytest.mark.parametrize("seed", range(4))
def test_each_histogram_is_what_counting_pixel_by_pixel_gives(size, with_alpha, seed):
    labels, alpha = random_picture(size, seed, with_alpha)
    amounts = counted(labels, K, np.full(size, 255) if alpha is None else alpha)
    codes = SPATIAL.describe(labels, K, alpha)
    assert codes.dtype == np.uint8
    assert codes.tolist() == coded(amounts, SPATIAL.areas)
    whole = {"whole": np.sum([amounts[name] for name in ("smooth", "mixed", "busy")], axis=0).tolist()}
    assert GLOBAL.describe(labels, K, alpha).tolist() == coded(whole, GLOBAL.areas)


def test_among_these_pictures_are_all_bounds_of_busyness():
    pictures = [random_picture((24, 31), seed, with_alpha) for seed in range(4) for with_alpha in (False, True)]
    numbers = {
        number
        for labels, alpha in pictures
        for number in border_pixels_around(labels, np.full((24, 31), 255) if alpha is None else alpha).ravel().tolist()
    }
    assert {0, 20, 21, 48, 49, 81} <= numbers


def test_the_histograms_are_called_so_and_come_in_this_order():
    assert SPATIAL.blocks == ("smooth", "mixed", "busy", "top", "middle", "bottom", "centre")
    assert GLOBAL.blocks == ("whole",)
    assert SPATIAL.areas[0] == ("smooth", "mixed", "busy")


# --- by hand


def shares_by_name(labels, k: int, alpha=None) -> dict[str, list[float]]:
    shares = SPATIAL.shares(SPATIAL.describe(np.array(labels, np.uint16), k, alpha))
    return dict(zip(SPATIAL.blocks, shares.tolist(), strict=True))


def about(shares: list[float]):
    """A share of a half is off by up to 0.3 % of the area by rounding, and as much again by setting the sum right."""
    return pytest.approx(shares, abs=0.006)


def test_a_border_is_smooth_a_thin_line_mixed_and_a_chequerboard_busy():
    # In the square around a pixel at a border between two areas are 2 columns of border pixels, 18 of 21.
    halves = np.repeat([[0] * 20 + [1] * 20], 20, axis=0)
    assert shares_by_name(halves, 2)["smooth"] == [0.5, 0.5]
    # A line of one pixel has 3 columns of border pixels, 27; they are all in the squares of 7 columns of pixels.
    line = shares_by_name(np.repeat([[0] * 20 + [1] + [0] * 19], 20, axis=0), 2)
    assert (line["smooth"], line["mixed"]) == (about([33 / 40, 0]), about([6 / 40, 1 / 40]))
    chequers = np.indices((20, 40)).sum(axis=0) % 2
    assert shares_by_name(chequers, 2)["busy"] == [0.5, 0.5]


def test_a_flag_of_three_stripes_has_one_in_each_third_and_all_in_its_centre():
    flag = shares_by_name(np.repeat([0, 1, 2], 8)[:, None].repeat(24, axis=1), 3)
    assert (flag["top"], flag["middle"], flag["bottom"]) == ([1, 0, 0], [0, 1, 0], [0, 0, 1])
    # Of the middle 12 rows, 2 are of the first stripe, 8 of the second and 2 of the third.
    assert flag["centre"] == about([2 / 12, 8 / 12, 2 / 12])


def test_a_frame_is_not_in_the_centre():
    framed = np.zeros((16, 32), int)
    framed[4:12, 8:24] = 1
    assert shares_by_name(framed, 2)["centre"] == [0, 1]


def test_one_pixel_is_the_smooth_middle_and_the_centre():
    assert [name for name, shares in shares_by_name([[1]], 2).items() if shares == [0, 1]] == [
        *("smooth", "middle", "centre")
    ]


def test_two_rows_have_no_middle_and_one_has_nothing_else():
    assert [shares_by_name([[0], [1]], 2)[name] for name in ("top", "middle", "bottom")] == [[1, 0], [0, 0], [0, 1]]
    assert [shares_by_name([[0, 1]], 2)[name] for name in ("top", "middle", "bottom")] == [[0, 0], [0.5, 0.5], [0, 0]]


def test_a_code_is_255_roots_of_the_share_rounded():
    # sqrt(1/16), sqrt(4/16) and sqrt(11/16) of 255 are 63.75, 127.5 (a half goes to the even) and 211.45.
    assert GLOBAL.describe(np.repeat(np.arange(3, dtype=np.uint16), [1, 4, 11])[None], 3).tolist() == [64, 128, 211]


def test_no_pixel_of_the_largest_working_picture_is_lost():
    labels = np.zeros((255, 257), np.uint16)
    labels[100, 200] = 1
    assert GLOBAL.describe(labels, 2)[1] == 1


# --- transparency


@each_descriptor
@pytest.mark.parametrize("seed", range(10))
def test_colours_hidden_under_alpha_0_never_leak(descriptor: Descriptor, seed):
    labels, alpha = random_picture((13, 17), seed, with_alpha=True)
    others = np.random.default_rng(seed).integers(0, K, labels.shape).astype(np.uint16)
    assert (labels != others)[alpha == 0].any()
    changed = np.where(alpha == 0, others, labels)
    np.testing.assert_array_equal(descriptor.describe(changed, K, alpha), descriptor.describe(labels, K, alpha))


@each_descriptor
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (9, 12)], ids=str)
def test_a_wholly_transparent_picture_is_refused(descriptor: Descriptor, size):
    with pytest.raises(ValueError, match="wholly transparent"):
        descriptor.describe(np.zeros(size, np.uint16), 3, np.zeros(size, np.uint8))


@pytest.mark.parametrize("third", ["top", "middle", "bottom"])
def test_a_wholly_transparent_third_has_nothing_and_the_others_keep_their_own(third):
    labels, _ = random_picture((12, 10), 1, with_alpha=False)
    alpha = np.full((12, 10), 255, np.uint8)
    start = 4 * ["top", "middle", "bottom"].index(third)
    alpha[start : start + 4] = 0
    codes = SPATIAL.describe(labels, K, alpha).reshape(-1, K)
    opaque = SPATIAL.describe(labels, K).reshape(-1, K)
    for name in ("top", "middle", "bottom"):
        row = SPATIAL.blocks.index(name)
        assert codes[row].tolist() == ([0] * K if name == third else opaque[row].tolist())
    shares = SPATIAL.shares(codes.reshape(-1))
    assert np.isfinite(shares).all()
    assert shares[SPATIAL.blocks.index(third)].tolist() == [0] * K
    assert SPATIAL.whole(codes.reshape(-1)).sum() == pytest.approx(1, abs=1e-12)


@each_descriptor
@pytest.mark.parametrize("alpha", [1, 128, 255])
def test_one_transparency_all_over_changes_nothing(descriptor: Descriptor, alpha):
    labels, _ = random_picture((13, 17), 3, with_alpha=False)
    veiled = descriptor.describe(labels, K, np.full(labels.shape, alpha, np.uint8))
    np.testing.assert_array_equal(veiled, descriptor.describe(labels, K))


# --- what changes nothing


@each_descriptor
@with_and_without_alpha
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_picture_mirrored_left_to_right_has_the_same_descriptor(descriptor: Descriptor, with_alpha, size):
    labels, alpha = random_picture(size, 5, with_alpha)
    mirrored = descriptor.describe(labels[:, ::-1], K, None if alpha is None else alpha[:, ::-1])
    np.testing.assert_array_equal(mirrored, descriptor.describe(labels, K, alpha))


@pytest.mark.parametrize("seed", range(20))
def test_so_it_has_where_shares_lie_half_way_between_two_codes(seed):
    # Four colours of a quarter each, 127.5 of 255, in the same transparencies in another order.
    rng = np.random.default_rng(seed)
    labels = rng.permuted(np.repeat(np.arange(4, dtype=np.uint16), 25)).reshape(10, 10)
    transparencies, alpha = rng.integers(1, 256, 25), np.zeros((10, 10), np.uint8)
    for label in range(4):
        alpha[labels == label] = rng.permuted(transparencies)
    assert GLOBAL.describe(labels, 4, alpha).tolist() == GLOBAL.describe(labels[:, ::-1], 4, alpha[:, ::-1]).tolist()


@with_and_without_alpha
def test_a_picture_upside_down_has_top_and_bottom_changed_and_nothing_else(with_alpha):
    labels, alpha = random_picture((13, 17), 6, with_alpha)
    turned = SPATIAL.describe(labels[::-1], K, None if alpha is None else alpha[::-1]).reshape(-1, K)
    upright = SPATIAL.describe(labels, K, alpha).reshape(-1, K)
    assert turned[[0, 1, 2, 5, 4, 3, 6]].tolist() == upright.tolist()


@each_descriptor
def test_a_view_is_described_as_its_copy(descriptor: Descriptor):
    labels, alpha = random_picture((24, 31), 7, with_alpha=True)
    labels, alpha = labels[::2, ::-1], alpha[1::2]
    np.testing.assert_array_equal(
        descriptor.describe(labels, K, alpha), descriptor.describe(labels.copy(), K, alpha.copy())
    )


# --- what the bytes tell

amounts = st.one_of(
    st.lists(st.integers(0, 5), min_size=1, max_size=300).filter(any),
    st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40).filter(lambda x: sum(x) > 1e-3),
    st.builds(
        lambda k, seed, power: (np.random.default_rng(seed).uniform(1e-3, 1, k) ** power).tolist(),
        *(st.integers(1, 300), st.integers(0, 1000), st.sampled_from([0, 1, 5, 40])),
    ),
)


def most_off(shares) -> np.ndarray:
    """How far shares (n,) of one area can be from what their codes tell.

    A root is off by half a step of 1/255 at most, so its square, the share, by `2 sqrt(s) / 510 + 1 / 510^2`; setting
    the sum right then moves each by as much of itself as the sum was off.
    """
    step = 2 * np.sqrt(shares) / 510 + 510.0**-2
    return (step + shares * step.sum()) / (1 - step.sum()) + 1e-12


@deterministic
@given(amounts)
def test_shares_come_back_within_the_step_of_the_code(amounts):
    shares = np.array(amounts, np.float64) / np.sum(amounts)
    told = GLOBAL.shares(GLOBAL.of_whole(shares))[0]
    assert (np.abs(told - shares) <= most_off(shares)).all()
    assert told.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_so_do_those_of_all_areas_of_a_picture(seed):
    labels, alpha = random_picture((24, 31), seed, with_alpha=True)
    amounts, told = counted(labels, K, alpha), SPATIAL.shares(SPATIAL.describe(labels, K, alpha))
    by_name = dict(zip(SPATIAL.blocks, told, strict=True))
    for area in SPATIAL.areas:
        exact = np.concatenate([amounts[name] for name in area])
        exact = exact / max(exact.sum(), 1)
        assert (np.abs(np.concatenate([by_name[name] for name in area]) - exact) <= most_off(exact)).all()


@deterministic
@given(st.integers(0, 1 << 32), st.integers(1, 40), st.sampled_from([np.float32, np.float64]))
def test_the_shares_of_each_area_sum_to_one(seed, k, dtype):
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, (10, 12), p=rng.dirichlet(np.full(k, 0.3))).astype(np.uint16)
    shares = SPATIAL.shares(SPATIAL.describe(labels, k), dtype)
    assert shares.dtype == dtype and shares.shape == (7, k) and shares.min() >= 0
    for rows in ([0, 1, 2], [3], [4], [5], [6]):
        assert shares[rows].sum(dtype=np.float64) == pytest.approx(1, abs=4 * k * float(np.finfo(dtype).eps))


@each_descriptor
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_many_descriptors_tell_the_same_as_each_alone(descriptor: Descriptor, shape):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (*shape, len(descriptor.blocks) * K)).astype(np.uint8)
    before = codes.copy()
    shares, whole = descriptor.shares(codes), descriptor.whole(codes)
    assert shares.shape == (*shape, len(descriptor.blocks), K) and whole.shape == (*shape, K)
    for place in np.ndindex(*shape):
        np.testing.assert_allclose(shares[place], descriptor.shares(codes[place]), rtol=1e-15)
        np.testing.assert_allclose(whole[place], descriptor.whole(codes[place]), rtol=1e-15)
    np.testing.assert_array_equal(codes, before)


# --- the whole


@each_descriptor
@with_and_without_alpha
@pytest.mark.parametrize("seed", range(4))
def test_the_whole_is_the_histogram_of_the_picture(descriptor: Descriptor, with_alpha, seed):
    labels, alpha = random_picture((24, 31), seed, with_alpha)
    whole, exact = descriptor.whole(descriptor.describe(labels, K, alpha)), count_labels(labels, K, alpha)
    assert whole.dtype == np.float64 and whole.sum() == pytest.approx(1, abs=1e-12)
    # In three parts of equal size, the roots of which are longest together, a share is farthest off.
    assert (np.abs(whole - exact) <= 3 * most_off(np.repeat(exact / 3, 3))[::3]).all()


@each_descriptor
@deterministic
@given(amounts=amounts)
def test_a_whole_made_a_descriptor_is_that_whole_again(descriptor: Descriptor, amounts):
    shares = np.array(amounts, np.float64) / np.sum(amounts)
    codes = descriptor.of_whole(np.array(amounts, np.float64))
    assert codes.dtype == np.uint8 and codes.shape == (len(descriptor.blocks) * len(amounts),)
    assert (np.abs(descriptor.whole(codes) - shares) <= most_off(shares)).all()
    assert not codes[len(amounts) :].any(), "of the parts nothing is known"


def test_the_main_colours_of_a_whole_are_those_of_the_shares():
    shares = np.array([0.5, 0.3, 0.2])
    lab = lab_of_bytes(np.array([[200, 30, 30], [20, 40, 200], [30, 200, 30]], np.uint8))
    told = GLOBAL.whole(GLOBAL.of_whole(shares))
    for of_codes, of_shares in zip(main_colors(told, lab), main_colors(shares, lab), strict=True):
        assert of_codes.srgb.tolist() == of_shares.srgb.tolist()
        assert of_codes.share == pytest.approx(of_shares.share, abs=float(most_off(shares).max()))
