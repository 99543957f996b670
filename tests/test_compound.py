"""Compound questions: by whatever parts, what is found is what comparing with every photo finds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_indexes import in_small, photos, placed, put, segment_of
from numpy.typing import NDArray
from random_codes import random_codes, random_palette
from threadpoolctl import threadpool_limits

from cbir.compound import Compound
from cbir.descriptor import GLOBAL
from cbir.feedback import Aim, aim, aim_at
from cbir.index import Index
from cbir.metric import Metric
from cbir.search import Collection, Descriptors, Found, Mask, Stage
from cbir.space import Point, Space

F64 = NDArray[np.float64]
METRICS = ["cbir", "qbic", "sqrt-laplacian:10", "cbir:5,whole=3,centre=2,power=0.05"]
deterministic = settings(derandomize=True, deadline=None, max_examples=80)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with in_small(), threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """350 photos that have axes and 20 that have none, many of them copies of others."""
    folder = tmp_path_factory.mktemp("made") / "index"
    first = put(folder, [placed(220, 1), placed(130, 2)])
    for text in METRICS:
        first.prepare(Metric.parse(text))
    return put(folder, [placed(220, 1), ("/photos/2", segment_of(photos(130, 2))), ("/more", placed(20, 1)[1])])


def searched(index: Index, text: str) -> tuple[Space, Collection]:
    prepared = index._prepared_for(Metric.parse(text))
    assert len(prepared.collection.parts) == 1 and len(prepared.collection.loose) == 20
    return prepared.space, prepared.collection


def points(space: Space, index: Index, rng: np.random.Generator, number: int) -> list[tuple[Point, float]]:
    rows = rng.integers(0, len(index), number).tolist()
    return [(space.point(index.codes(row)), float(rng.choice([1.0, 2.0, 0.1]))) for row in rows]


def near_copies(space: Space, index: Index, rng: np.random.Generator) -> list[tuple[Point, float]]:
    """Photos that differ in one byte by one."""
    codes = index.codes(int(rng.integers(len(index))))
    changed = []
    for cell in rng.integers(0, len(codes), 3).tolist():
        one = codes.copy()
        one[cell] = one[cell] + 1 if one[cell] < 255 else 254
        changed.append((space.point(one), 1.0))
    return changed


AIMS = {
    "none": lambda space, index, rng: None,
    "one": lambda space, index, rng: aim_at(points(space, index, rng, 1)[0][0]),
    "one twice": lambda space, index, rng: aim(space, points(space, index, rng, 1) * 2),
    "several": lambda space, index, rng: aim(space, points(space, index, rng, int(rng.integers(2, 6)))),
    "nearly the same": lambda space, index, rng: aim(space, near_copies(space, index, rng)),
    "with unliked": lambda space, index, rng: aim(
        space, points(space, index, rng, int(rng.integers(1, 4))), points(space, index, rng, int(rng.integers(1, 4)))
    ),
}
COSTS = {
    "none": lambda n, rng: None,
    "zero": lambda n, rng: np.zeros(n),
    "equal": lambda n, rng: np.full(n, 0.37),
    "random": lambda n, rng: rng.random(n) ** 2,
    "mostly large": lambda n, rng: np.where(rng.random(n) < 0.1, rng.random(n), 1e6),
    "next to nothing": lambda n, rng: 1e-12 * rng.random(n),
    "of few values": lambda n, rng: rng.choice([0.0, 0.25, 1.0], n),
}
ALLOWED = {
    "all": lambda n, rng: None,
    "most": lambda n, rng: rng.random(n) < 0.9,
    "few": lambda n, rng: rng.random(n) < 0.02,
    "nothing": lambda n, rng: np.zeros(n, bool),
}


def as_dict(found: Found) -> dict[int, float]:
    """The rows, of which none may be there twice, with their distances, which may not fall."""
    assert len(np.unique(found.rows)) == len(found.rows) == len(found.distances)
    assert (np.diff(found.distances) >= 0).all()
    return dict(zip(found.rows.tolist(), found.distances.tolist(), strict=True))


def told_one_by_one(
    space: Space, index: Index, question: Compound, limit: int, within: float, allowed: Mask | None
) -> dict[int, float]:
    """What is to be found, a photo at a time."""
    told: dict[int, float] = {}
    for row in range(len(index)):
        if any(mask is not None and not mask[row] for mask in (allowed, question.allowed)):
            continue
        square = 0.0
        if question.aim is not None:
            prepared = space.prepare(index.codes(row))[None]
            distance = space.prepared_distances(prepared, question.aim.point.prepared)
            square = float(question.aim.squares(prepared, distance)[0])
        if question.costs is not None:
            square = (question.weight * square + float(question.costs[row])) / question.total
        told[row] = math.sqrt(square)
    last = min([within, *sorted(told.values())[limit - 1 : limit]])
    return {row: distance for row, distance in told.items() if distance <= last}


@pytest.mark.parametrize("text", METRICS)
@deterministic
@given(
    seed=st.integers(0, 1 << 32),
    target=st.sampled_from(list(AIMS)),
    costs=st.sampled_from(list(COSTS)),
    own=st.sampled_from(list(ALLOWED)),
    given_mask=st.sampled_from(list(ALLOWED)),
    weight=st.sampled_from([1.0, 0.001, 1000.0]),
    limit=st.integers(1, 30) | st.just(1000),
    bound=st.sampled_from(["none", "a photo's", "just below a photo's", "zero"]),
)
def test_what_is_found_is_what_comparing_with_every_photo_finds(
    made, text, seed, target, costs, own, given_mask, weight, limit, bound
):
    space, collection = searched(made, text)
    rng = np.random.default_rng(seed)
    n = len(made)
    wanted: Aim | None = AIMS[target](space, made, rng)
    beside: F64 | None = COSTS[costs](n, rng)
    if wanted is None and beside is None:
        beside = np.zeros(n)
    total = weight if beside is None else weight + 1.5
    question = Compound(wanted, weight, beside, total, ALLOWED[own](n, rng))
    allowed = ALLOWED[given_mask](n, rng)
    everything = question.find_plainly(space, collection, n, within=math.inf, allowed=allowed)
    within = math.inf
    if bound == "zero":
        within = 0.0
    elif bound != "none" and len(everything.rows):
        within = float(rng.choice(everything.distances))
        within = within if bound == "a photo's" else max(float(np.nextafter(within, -1)), 0.0)
    found = question.find(space, collection, limit, within=within, allowed=allowed)
    plainly = question.find_plainly(space, collection, limit, within=within, allowed=allowed)
    assert as_dict(found) == as_dict(plainly)
    assert found.distances.tolist() == plainly.distances.tolist()


@pytest.mark.parametrize("text", METRICS)
@pytest.mark.parametrize("target", ["one", "several", "with unliked"])
@pytest.mark.parametrize("costs", ["none", "random", "of few values"])
def test_comparing_with_every_photo_is_comparing_with_one_after_the_other(made, text, target, costs):
    # Equal to the last bit, in whatever company a photo is compared.
    space, collection = searched(made, text)
    rng = np.random.default_rng(4)
    question = Compound(
        AIMS[target](space, made, rng), 2.0, COSTS[costs](len(made), rng), 2.0 if costs == "none" else 3.0
    )
    for limit, within in ((7, math.inf), (1000, math.inf), (1000, 0.8)):
        told = told_one_by_one(space, made, question, limit, within, None)
        assert as_dict(question.find_plainly(space, collection, limit, within=within, allowed=None)) == told
        assert as_dict(question.find(space, collection, limit, within=within, allowed=None)) == told


@pytest.mark.parametrize("text", ["gaussian", "gaussian:200,centred=1"])
def test_over_a_palette_whose_colours_are_next_to_the_same_nothing_is_dismissed_by_rounding(text):
    # Seed 23 makes three colours within a thousandth of one another, so that distances are mostly rounding.
    for seed in range(20, 26):
        rng = np.random.default_rng(seed)
        k = int(rng.integers(2, 40))
        space = Space(Metric.parse(text), random_palette(k, rng), GLOBAL, random_codes(16, k, GLOBAL, rng))
        codes = random_codes(60, k, GLOBAL, rng)
        collection = Collection(Descriptors([codes]), [], np.arange(60))
        for _ in range(10):
            liked = [(space.point(codes[row]), 1.0) for row in rng.integers(0, 60, 3).tolist()]
            question = Compound(aim(space, liked), 1.0, None, 1.0)
            found = question.find(space, collection, 2, within=math.inf, allowed=None)
            assert as_dict(found) == as_dict(question.find_plainly(space, collection, 2, within=math.inf, allowed=None))


@pytest.mark.parametrize("target", ["none", "one", "several"])
def test_what_either_mask_leaves_out_is_not_found(made, target):
    space, collection = searched(made, "cbir")
    rng = np.random.default_rng(6)
    own, other = rng.random((2, len(made))) < 0.7
    aimed = AIMS[target](space, made, rng)
    for costs in (COSTS["random"](len(made), rng), None if aimed else COSTS["zero"](len(made), rng)):
        question = Compound(aimed, 1.0, costs, 1.0, own)
        for allowed in (None, other):
            told = told_one_by_one(space, made, question, 1000, math.inf, allowed)
            found = question.find(space, collection, 1000, within=math.inf, allowed=allowed)
            assert as_dict(found) == told and set(told) <= set(np.flatnonzero(own))
            assert as_dict(question.find_plainly(space, collection, 1000, within=math.inf, allowed=allowed)) == told


def test_one_picture_alone_is_found_as_by_a_search_for_it(made):
    space, collection = searched(made, "cbir")
    question = Compound(aim_at(space.point(made.codes(3))), 5.0, None, 5.0)
    found = question.find(space, collection, 400, within=math.inf, allowed=None)
    expected = made.nearest(made.codes(3), 400)
    assert as_dict(found) == as_dict(expected) and found.distances[0] == 0


def test_costs_alone_rank_by_the_root_of_their_mean(made):
    space, collection = searched(made, "cbir")
    costs = np.full(len(made), 8.0)
    costs[[9, 4, 250]] = 2.0, 0.0, 2.0
    found = Compound(None, 0.0, costs, 2.0).find(space, collection, 2, within=math.inf, allowed=None)
    assert found.rows.tolist() == [4, 9, 250] and found.distances.tolist() == [0, 1, 1]


def test_likeness_and_costs_are_the_root_of_their_weighted_mean(made):
    space, collection = searched(made, "cbir")
    costs = np.full(len(made), 3.0)
    point = space.point(made.codes(3))
    found = Compound(aim_at(point), 1.0, costs, 4.0).find(space, collection, 1000, within=math.inf, allowed=None)
    far = {row: space.distance(made.codes(row), made.codes(3)) for row in range(len(made))}
    assert as_dict(found) == pytest.approx({row: math.sqrt((distance**2 + 3) / 4) for row, distance in far.items()})


def test_where_costs_tell_most_photos_apart_few_are_compared(made):
    space, collection = searched(made, "cbir")
    costs = np.full(len(made), 100.0)
    costs[:100] = 0.0
    stages: list[Stage] = []
    question = Compound(aim_at(space.point(made.codes(300))), 1.0, costs, 2.0)
    found = question.find(space, collection, 5, within=math.inf, allowed=None, stages=stages)
    assert set(found.rows.tolist()) <= set(range(100))
    assert sum(one.looked_at for one in stages if one.name == "compared in full") <= 100


def test_in_an_empty_collection_nothing_is_found(tmp_path):
    empty = put(tmp_path / "index", [])
    prepared = empty._prepared_for(Metric())
    point = prepared.space.point(np.full(42, 100, np.uint8))
    for target, costs in ((aim_at(point), None), (aim_at(point), np.zeros(0)), (None, np.zeros(0))):
        question = Compound(target, 1.0, costs, 2.0)
        for find in (question.find, question.find_plainly):
            assert as_dict(find(prepared.space, prepared.collection, 3, within=math.inf, allowed=None)) == {}
