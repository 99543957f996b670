"""Searching: the rows that comparing the query with each of them by the plain form would find, no other, none less."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_codes import Codes, one_color, random_codes, random_palette
from threadpoolctl import threadpool_limits

from cbir import axes as axes_module
from cbir import search as search_module
from cbir import view as view_module
from cbir.axes import LEAF, Axes, make_axes
from cbir.descriptor import GLOBAL, SPATIAL, Descriptor, codes_of_shares
from cbir.metric import DEFAULT, Metric
from cbir.search import (
    Collection,
    Descriptors,
    Found,
    Part,
    Stage,
    nearest_rows,
    nearest_rows_of_many,
    plain_nearest_rows,
)
from cbir.space import Space

# No search may make numpy warn. But BLAS may call values invalid that it read and made no use of; where one is used,
# results differ.
pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in (dot|matmul):RuntimeWarning"),
]
deterministic = settings(derandomize=True, deadline=None, max_examples=20)
CASES = [
    pytest.param(descriptor, Metric.parse(text), id=f"{descriptor.name}-{text}")
    for descriptor, texts in {
        SPATIAL: ["cbir", "qbic", "sqrt-laplacian:10", "gaussian:3", "cbir:5,whole=3,centre=2,power=0.05"],
        # With the range 200 nearly all colours are alike: hardest to tell apart in float32.
        GLOBAL: ["cbir", "linear:900", "laplacian:40", "sqrt-gaussian:200", "gaussian:200,centred=1"],
    }.items()
    for text in texts
]
each_case = pytest.mark.parametrize(("descriptor", "metric"), CASES)
# A photo has no axes, or is among those that one of two axes tell of, or was, and is no photo of the collection now.
PLACES = ["loose", "first", "second", "gone from first", "gone from second"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine, two threads wait for each other a hundred times longer than these small products take."""
    with threadpool_limits(1):
        yield


@contextmanager
def in_small(leaf: int, few: int) -> Iterator[None]:
    """Leaves so small, and bounds so low, that a small collection is searched by all the ways of a large one."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (axes_module, search_module, view_module):
            patch.setattr(module, "LEAF", leaf)
        patch.setattr(axes_module, "_FEWEST_HALVED", 2 * leaf)
        patch.setattr(axes_module, "_SAMPLE", 40)
        patch.setattr(axes_module, "_BLOCK", 16)
        patch.setattr(view_module, "_LEAF_BITS", leaf.bit_length() - 1)
        patch.setattr(search_module, "_PROBED", 1)
        patch.setattr(search_module, "_FEW", few)
        patch.setattr(search_module, "_GROUP", 2)
        patch.setattr(view_module, "_LEAVES", 3)
        for module, name in ((search_module, "_MAPPED"), (search_module, "_FULL"), (view_module, "_CLOSER")):
            patch.setattr(module, name, 16)
        yield


def space_over(k: int, descriptor: Descriptor, metric: Metric, rng: np.random.Generator) -> Space:
    return Space(metric, random_palette(k, rng), descriptor, random_codes(16, k, descriptor, rng))


def in_parts(codes: Codes, cuts: Sequence[int]) -> list[Codes]:
    return np.split(codes, sorted(min(cut, len(codes)) for cut in cuts))


def without_axes(parts: Sequence[Codes]) -> Collection:
    return Collection(Descriptors(parts), [], np.arange(sum(map(len, parts))))


def axes_of(space: Space, codes: Codes, leading: int | None = None) -> Axes:
    return make_axes(space, lambda rows: codes[rows], len(codes), leading)


def laid_out(space: Space, segments: Sequence[tuple[str, Codes]], leading: int | None = None) -> Collection:
    """Segments, each in one of PLACES."""
    there = [codes for place, codes in segments if not place.startswith("gone")]
    ends = np.cumsum([0 if place.startswith("gone") else len(codes) for place, codes in segments])
    first_rows = [
        -1 if place.startswith("gone") else end - len(codes) for (place, codes), end in zip(segments, ends, strict=True)
    ]
    parts = []
    for name in ("first", "second"):
        own = [i for i, (place, _) in enumerate(segments) if place.endswith(name)]
        starts = np.cumsum([0, *(len(segments[i][1]) for i in own)])
        if starts[-1]:
            axes = axes_of(space, np.concatenate([segments[i][1] for i in own]), leading)
            parts.append(Part(axes, starts, np.array([first_rows[i] for i in own])))
    loose = [
        np.arange(end - len(codes), end) for (place, codes), end in zip(segments, ends, strict=True) if place == "loose"
    ]
    return Collection(Descriptors(there), parts, np.concatenate([np.empty(0, np.intp), *loose]))


def with_axes(space: Space, codes: Codes) -> Collection:
    """Most have axes, in two segments; one of those that the axes tell of is gone, and a few come after them."""
    a, b, c = len(codes) // 10, len(codes) // 2, len(codes) - len(codes) // 20
    gone = codes[: len(codes) // 30]
    return laid_out(
        space, [("second", codes[:a]), ("first", codes[a:b]), ("gone from first", gone), ("first", codes[b:c]),
                ("loose", codes[c:])]
    )  # fmt: skip


def collections(space: Space, codes: Codes) -> list[Collection]:
    return [without_axes([codes]), with_axes(space, codes)]


def compared_with_each(space: Space, codes: Codes, query: Codes) -> list[float]:
    return [space.distance(row, query) for row in codes]


def expected_rows(
    distances: Sequence[float], limit: int, within: float = math.inf, allowed: np.ndarray | None = None
) -> dict[int, float]:
    """Every allowed row that is no farther than the limit-th nearest of these, nor than `within`."""
    rows = {row: distance for row, distance in enumerate(distances) if allowed is None or allowed[row]}
    last = min([within, *sorted(rows.values())[limit - 1 : limit]])
    return {row: distance for row, distance in rows.items() if distance <= last}


def as_dict(found: Found) -> dict[int, float]:
    """The rows, of which none may be there twice, with their distances, which may not fall."""
    assert len(np.unique(found.rows)) == len(found.rows) == len(found.distances)
    assert (np.diff(found.distances) >= 0).all()
    return dict(zip(found.rows.tolist(), found.distances.tolist(), strict=True))


@pytest.mark.parametrize("n", [0, 5, 700])
@pytest.mark.parametrize("parts", [1, 3])
def test_descriptors_are_taken_from_where_they_lie(parts, n):
    rng = np.random.default_rng(1)
    codes = random_codes(50, 4, SPATIAL, rng)
    rows = rng.integers(0, 50, n)
    descriptors = Descriptors(in_parts(codes, [7, 7][: parts - 1]))
    assert len(descriptors) == 50
    np.testing.assert_array_equal(descriptors.take(rows), codes[rows])


@each_case
@deterministic
@given(
    seed=st.integers(0, 1 << 32),
    k=st.integers(1, 12),
    n=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 45), max_size=5),
    limit=st.integers(1, 60),
    own=st.booleans(),
)
def test_the_rows_found_are_those_of_comparing_with_each(descriptor, metric, seed, k, n, cuts, limit, own):
    rng = np.random.default_rng(seed)
    codes = random_codes(n, k, descriptor, rng)
    query = codes[rng.integers(n)] if own else random_codes(1, k, descriptor, rng)[0]
    space = space_over(k, descriptor, metric, rng)
    found = as_dict(nearest_rows(space, without_axes(in_parts(codes, cuts)), query, limit))
    assert len(found) >= min(limit, n)
    # Equal to the last bit, not nearly: the distance is the plain form's.
    assert found == expected_rows(compared_with_each(space, codes, query), limit)


BOUNDS = {
    "none": lambda distances, rng: math.inf,
    "a row's": lambda distances, rng: rng.choice(distances),
    "just below a row's": lambda distances, rng: np.nextafter(rng.choice(distances), 0),
    "zero": lambda distances, rng: 0.0,
    "below the nearest": lambda distances, rng: np.nextafter(min(distances), 0),
    "huge": lambda distances, rng: 10.0 ** rng.integers(308),
}


@each_case
@settings(deterministic, max_examples=25)
@given(
    seed=st.integers(0, 1 << 32),
    k=st.integers(1, 12),
    segments=st.lists(st.tuples(st.sampled_from(PLACES), st.integers(0, 50)), min_size=1, max_size=5),
    leading=st.none() | st.integers(1, 32),
    limit=st.integers(1, 20) | st.integers(100, 400),
    bound=st.sampled_from(list(BOUNDS)),
    share=st.none() | st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    own=st.booleans(),
    leaf=st.sampled_from([4, 8, 128]),
    few=st.sampled_from([-1, 0, 10]),
)
def test_so_they_are_with_axes_within_a_distance_and_among_those_allowed(
    descriptor, metric, seed, k, segments, leading, limit, bound, share, own, leaf, few
):
    rng = np.random.default_rng(seed)
    everything = random_codes(sum(n for _, n in segments), k, descriptor, rng)
    cut = np.split(everything, np.cumsum([n for _, n in segments])[:-1])
    placed = [(place, codes) for (place, _), codes in zip(segments, cut, strict=True)]
    codes = np.concatenate([everything[:0], *(codes for place, codes in placed if not place.startswith("gone"))])
    queries = np.concatenate([everything[: 3 if own else 0], random_codes(3, k, descriptor, rng)])[:3]
    query = queries[0]
    space = space_over(k, descriptor, metric, rng)
    distances = compared_with_each(space, codes, query)
    within = float(BOUNDS[bound](distances or [0.5], rng))
    allowed = None if share is None else rng.random(len(codes)) < share
    with in_small(leaf, few):
        collection = laid_out(space, placed, leading)
        found = [nearest_rows(space, collection, one, limit, within=within, allowed=allowed) for one in queries]
        together = nearest_rows_of_many(space, collection, queries, limit, within=within, allowed=allowed, jobs=1)
        plain = plain_nearest_rows(space, collection.descriptors, query, limit, within=within, allowed=allowed)
    expected = expected_rows(distances, limit, within, allowed)
    assert as_dict(found[0]) == expected
    assert as_dict(plain) == expected
    assert [as_dict(one) for one in together] == [as_dict(one) for one in found]


@each_case
def test_so_they_are_over_thousands_of_rows_each_there_many_times(descriptor, metric):
    rng = np.random.default_rng(64)
    pool = random_codes(300, 32, descriptor, rng)
    rows = rng.integers(0, 300, 7000)
    space, query = space_over(32, descriptor, metric, rng), pool[0]
    distances = np.array(compared_with_each(space, pool, query))[rows].tolist()
    for collection in (without_axes(in_parts(pool[rows], [10, 10, 6500])), with_axes(space, pool[rows])):
        for limit in (1, 10, 500):
            assert as_dict(nearest_rows(space, collection, query, limit)) == expected_rows(distances, limit)


def fast_distances(space: Space, codes: Codes, query: Codes) -> np.ndarray:
    return np.linalg.norm(space.embed_fast(codes).vectors - space.embed_fast(query[None]).vectors, axis=1)


@each_case
def test_rows_that_float32_cannot_put_in_order_are_not_dismissed(descriptor, metric):
    rng, limit, n = np.random.default_rng(300), 300, 800
    # Eight colours in four shades each that are all but the same. The photos have the same amounts of the colours, and
    # only the shades change places, so all lie at one distance from the query but for some 1e-6 of it.
    shades = np.repeat(random_palette(8, rng), 4, axis=0) + rng.normal(0, 1e-4, (32, 3)).astype(np.float32)
    query, photo = rng.integers(10, 90, (2, len(descriptor.blocks) * 32)).astype(np.uint8)
    places = rng.permuted(np.tile(np.arange(4), (n, 1, 8, 1)), axis=3)
    codes = np.take_along_axis(np.tile(photo.reshape(1, -1, 8, 4), (n, 1, 1, 1)), places, axis=3).reshape(n, -1)
    space = Space(metric, shades, descriptor, random_codes(8, 32, descriptor, rng))
    exact = compared_with_each(space, codes, query)
    fast = fast_distances(space, codes, query)
    assert set(np.argsort(fast, kind="stable")[:limit]) != set(np.argsort(exact, kind="stable")[:limit])
    for collection in collections(space, codes):
        assert as_dict(nearest_rows(space, collection, query, limit)) == expected_rows(exact, limit)


@each_case
@pytest.mark.parametrize("differing", [1, 16], ids=["not centred", "centred"])
def test_rows_around_the_mean_are_not_dismissed(descriptor, metric, differing):
    # Where a centred metric divides by next to nothing.
    rng = np.random.default_rng(11)
    lab, photo = random_palette(12, rng), random_codes(1, 12, descriptor, rng)
    reference, codes = np.tile(photo, (16, 1)), np.tile(photo, (120, 1))
    reference[np.arange(1, differing), rng.integers(0, photo.shape[1], differing - 1)] ^= 1
    codes[np.arange(100), rng.integers(0, photo.shape[1], 100)] ^= 1
    space = Space(metric, lab, descriptor, reference)
    for query in (photo[0], codes[0], random_codes(1, 12, descriptor, rng)[0]):
        exact = compared_with_each(space, codes, query)
        for collection in collections(space, codes):
            for limit in (1, 30, 110):
                assert as_dict(nearest_rows(space, collection, query, limit)) == expected_rows(exact, limit)


@each_case
@pytest.mark.parametrize("threads", [1, 2])
def test_equal_descriptors_are_at_equal_distances_wherever_they_lie(descriptor, metric, threads):
    rng = np.random.default_rng(7)
    codes = random_codes(6, 33, descriptor, rng)
    space = space_over(33, descriptor, metric, rng)
    parts = [np.concatenate([codes[: i + 1], codes])[::-1] for i in range(6)]
    parts += [np.asfortranarray(codes), np.dstack([codes, codes])[..., 1]]
    everything, query = np.concatenate(parts), random_codes(1, 33, descriptor, rng)[0]
    places = ["loose", "first", "second", "first"] * 2
    for collection in (without_axes(parts), laid_out(space, list(zip(places, parts, strict=True)))):
        with threadpool_limits(threads):
            found = as_dict(nearest_rows(space, collection, query, len(everything)))
        assert len(found) == len(everything)
        distances_of: dict[bytes, set[float]] = {}
        for row, distance in found.items():
            distances_of.setdefault(everything[row].tobytes(), set()).add(distance)
        assert all(len(distances) == 1 for distances in distances_of.values())


@each_case
@pytest.mark.parametrize("k", [1, 2, 64])
def test_the_querys_own_descriptor_is_at_exactly_zero(descriptor, metric, k):
    rng = np.random.default_rng(k)
    codes = random_codes(50, k, descriptor, rng)
    space = space_over(k, descriptor, metric, rng)
    for collection in collections(space, codes):
        for row in (0, 17, 49):
            found = as_dict(nearest_rows(space, collection, codes[row], 1))
            assert found[row] == 0.0
            assert set(found.values()) == {0.0}


def mixtures(n: int, k: int, descriptor: Descriptor, rng: np.random.Generator) -> Codes:
    """Photos of which some are more alike than others, as real ones are: each a mixture of four of thirty."""
    shares = descriptor.shares(random_codes(30, k, descriptor, rng))
    parts = rng.dirichlet([2, 1, 0.5, 0.25], n)
    mixed = sum(parts[:, i, None, None] * shares[rng.integers(0, 30, n)] for i in range(4))
    return codes_of_shares(mixed).reshape(n, -1)


@each_case
def test_most_rows_are_dismissed_without_the_plain_form(descriptor, metric, monkeypatch):
    rng = np.random.default_rng(12)
    codes = mixtures(3000, 32, descriptor, rng)
    space, compared = space_over(32, descriptor, metric, rng), []
    plain = space.prepared_distances
    monkeypatch.setattr(space, "prepared_distances", lambda x, y: compared.append(len(x)) or plain(x, y))
    for collection in collections(space, codes):
        compared.clear()
        nearest_rows(space, collection, codes[0], 10)
        assert 10 <= sum(compared) < 150


@pytest.mark.parametrize("within", [math.inf, 0.05])
@pytest.mark.parametrize("leading", [1, 4, None])
def test_each_stage_looks_at_what_the_one_before_left_and_the_first_leave_most_out(leading, within):
    rng = np.random.default_rng(13)
    codes = mixtures(6000, 32, SPATIAL, rng)
    space, stages = space_over(32, SPATIAL, DEFAULT, rng), []
    collection = laid_out(space, [("loose", codes[:300]), ("first", codes[300:])], leading)
    found = nearest_rows(space, collection, codes[4000], 10, within=within, stages=stages)
    assert all(type(stage) is Stage and stage.seconds >= 0 for stage in stages)
    compared = [one for one in stages if one.name == "compared in full"]
    mapped, turned, _, leaves, lead, *bytewise = [one for one in stages if one.name != "compared in full"]
    (part,) = collection.parts
    assert (mapped.name, mapped.looked_at, turned.name) == ("mapped, without axes", 300, "turned to the axes")
    assert compared[0].looked_at == mapped.left < 30
    assert (leaves.name, leaves.looked_at) == ("leaves", math.ceil(5700 / LEAF))
    assert lead.name == f"{part.axes.axes} axes"
    assert LEAF * (leaves.left - 1) < lead.looked_at <= min(LEAF * leaves.left, 5700)
    assert [one.looked_at for one in bytewise] == [one.left for one in [lead, *bytewise][:-1]]
    told = [int(one.name.removesuffix(" more axes in bytes")) for one in bytewise]
    assert part.axes.axes + sum(told) == part.axes.basis.shape[1]
    # Those that are likeliest to be hits come first, which may spare the others.
    assert len(found.rows) - compared[0].left <= sum(one.looked_at for one in compared[1:]) <= bytewise[-1].left
    assert sum(one.looked_at for one in compared) < 60
    assert compared[-1].left == len(found.rows)


def test_what_a_search_looks_at_in_a_leaf_that_is_not_full_are_its_photos():
    space, stages = space_over(8, SPATIAL, DEFAULT, np.random.default_rng(14)), []
    far, near = one_color(0, 8, SPATIAL), one_color(1, 8, SPATIAL)
    collection = laid_out(space, [("first", np.array([far] * LEAF + [near] * 2))])
    assert nearest_rows(space, collection, near, 2, stages=stages).rows.tolist() == [LEAF, LEAF + 1]
    _, _, leaves, lead, *_ = stages
    assert (leaves.looked_at, leaves.left) == (2, 1)
    assert (lead.looked_at, lead.left) == (2, 2)


@pytest.mark.parametrize("limit", [1, 10])
@pytest.mark.parametrize("parts", [[], [0], [0, 0]], ids=["no parts", "an empty part", "empty parts"])
def test_an_empty_collection_has_no_rows(parts, limit):
    space = space_over(4, SPATIAL, DEFAULT, np.random.default_rng(0))
    empty = without_axes([np.zeros((n, 28), np.uint8) for n in parts])
    query = one_color(0, 4, SPATIAL)
    for allowed in (None, np.zeros(0, bool)):
        assert as_dict(nearest_rows(space, empty, query, limit, allowed=allowed)) == {}
        assert as_dict(plain_nearest_rows(space, empty.descriptors, query, limit, allowed=allowed)) == {}


def test_a_collection_whose_photos_are_all_gone_has_no_rows():
    rng = np.random.default_rng(0)
    space, codes = space_over(4, SPATIAL, DEFAULT, rng), random_codes(300, 4, SPATIAL, rng)
    gone = laid_out(space, [("gone from first", codes[:200]), ("gone from first", codes[200:])])
    assert as_dict(nearest_rows(space, gone, codes[0], 5)) == {}


def test_all_that_tie_with_the_last_are_found():
    space = space_over(3, SPATIAL, DEFAULT, np.random.default_rng(0))
    red, green = one_color(0, 3, SPATIAL), one_color(1, 3, SPATIAL)
    parts = [np.array([green, red, green]), np.array([green, green])]
    for collection in (without_axes(parts), laid_out(space, [("first", parts[0]), ("loose", parts[1])])):
        assert nearest_rows(space, collection, red, 1).rows.tolist() == [1]
        assert set(nearest_rows(space, collection, red, 2).rows) == {0, 1, 2, 3, 4}


@each_case
def test_where_all_photos_are_alike_all_tie(descriptor, metric):
    # In a mean of three or seven equal numbers there may be rounding, and nothing else between the photos.
    rng = np.random.default_rng(15)
    space = space_over(12, descriptor, metric, rng)
    for photo, n in zip(random_codes(4, 12, descriptor, rng), (1, 3, 7, 300), strict=True):
        collection = laid_out(space, [("first", np.tile(photo, (n, 1)))])
        for query in (photo, random_codes(1, 12, descriptor, rng)[0]):
            exact = space.distance(photo, query)
            assert as_dict(nearest_rows(space, collection, query, 2)) == dict.fromkeys(range(n), exact)


@each_case
def test_a_query_that_has_no_colour_in_common_with_any_photo_finds_the_nearest(descriptor, metric):
    rng = np.random.default_rng(16)
    blocks = len(descriptor.blocks)
    narrow = random_codes(500, 6, descriptor, rng).reshape(500, blocks, 6)
    codes = np.concatenate([narrow, np.zeros_like(narrow)], axis=2).reshape(500, -1)
    space, query = space_over(12, descriptor, metric, rng), one_color(11, 12, descriptor)
    exact = compared_with_each(space, codes, query)
    with in_small(leaf=8, few=0):
        assert as_dict(nearest_rows(space, with_axes(space, codes), query, 7)) == expected_rows(exact, 7)


def test_a_limit_beyond_the_collection_finds_all_of_it():
    rng = np.random.default_rng(8)
    codes = random_codes(200, 5, SPATIAL, rng)
    space = space_over(5, SPATIAL, DEFAULT, rng)
    for collection in collections(space, codes):
        assert sorted(nearest_rows(space, collection, codes[0], 1000).rows) == list(range(200))


@pytest.mark.parametrize("allowed", [0, 1, 2047, 2048, 2049, 4000])
def test_only_allowed_rows_are_found_however_many(allowed):
    # Up to 2,048 are compared without the axes.
    rng = np.random.default_rng(17)
    codes = mixtures(4000, 8, GLOBAL, rng)
    space, mask = space_over(8, GLOBAL, DEFAULT, rng), np.zeros(4000, bool)
    mask[rng.permutation(4000)[:allowed]] = True
    exact = compared_with_each(space, codes, codes[0])
    found = nearest_rows(space, with_axes(space, codes), codes[0], 20, allowed=mask)
    assert as_dict(found) == expected_rows(exact, 20, allowed=mask)


def mapped(folder: Path, name: str, array: np.ndarray) -> np.ndarray:
    np.save(folder / f"{name}.npy", array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def all_mapped(folder: Path, axes: Axes) -> Axes:
    names = ("mean", "basis", "order", "leading", "lowest", "highest")
    coarse = tuple(
        replace(
            stage, codes=mapped(folder, f"codes{i}", stage.codes), numbers=mapped(folder, f"numbers{i}", stage.numbers)
        )
        for i, stage in enumerate(axes.coarse)
    )
    return replace(axes, coarse=coarse, **{name: mapped(folder, name, getattr(axes, name)) for name in names})


def test_descriptors_and_axes_that_must_not_be_written_to_are_searched_and_stay(tmp_path):
    rng = np.random.default_rng(9)
    codes = random_codes(300, 8, SPATIAL, rng)
    space = space_over(8, SPATIAL, DEFAULT, rng)
    whole = laid_out(space, [("first", codes)])
    files = mapped(tmp_path, "codes", codes)
    parts = [replace(whole.parts[0], axes=all_mapped(tmp_path, whole.parts[0].axes))]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for ours, theirs in (
        (without_axes([files]), without_axes([codes])),
        (Collection(Descriptors([files]), parts, whole.loose), whole),
    ):
        assert as_dict(nearest_rows(space, ours, codes[3], 5)) == as_dict(nearest_rows(space, theirs, codes[3], 5))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
