"""Orders and grids: paths that no small change makes shorter, and sheets on which neighbours stay neighbours."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cbir import arrange
from cbir.arrange import Grid, evenly, grid, path_length, plane, shades, short_path

Points = NDArray[np.float64]


def points(number: int, axes: int = 3, seed: int = 0) -> Points:
    return np.random.default_rng(seed).normal(size=(number, axes))


def shortest_change(vectors: Points, order: NDArray[np.intp]) -> float:
    """The shortest path that turning one part round, or moving one of up to three points, makes of a path: each is
    made and measured."""
    n = len(order)
    changed = [order]
    for first, last in itertools.combinations_with_replacement(range(1, n), 2):
        part = order[first : last + 1]
        changed.append(np.concatenate([order[:first], part[::-1], order[last + 1 :]]))
        if len(part) <= 3:
            rest = np.concatenate([order[:first], order[last + 1 :]])
            for place in range(1, len(rest) + 1):
                changed += [np.concatenate([rest[:place], one, rest[place:]]) for one in (part, part[::-1])]
    return min(path_length(vectors, one) for one in changed)


@st.composite
def clouds(draw: st.DrawFn) -> Points:
    """Up to 14 points, some of them at one place."""
    some = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=14)
    return np.array(draw(some), np.float64)


# --- one row


@given(clouds(), st.data())
@settings(max_examples=60)
def test_a_short_path_goes_to_every_point_once_from_the_start_and_no_small_change_makes_it_shorter(
    cloud: Points, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(cloud) - 1))
    order = short_path(cloud, start)
    assert order[0] == start and sorted(order) == list(range(len(cloud)))
    assert path_length(cloud, order) <= shortest_change(cloud, order) + 1e-6


def test_a_change_that_became_possible_where_a_part_was_turned_round_is_made_too() -> None:
    # Without another look at all points, the path stayed half a step longer than it has to be.
    cloud = np.array([[0, -2], [1, 0], [-1, -2], [1, -1], [2, -1], [0, 1], [0, -1], [-1, 1], [-1, 2]], np.float64)
    order = short_path(cloud, 3)
    assert path_length(cloud, order) <= shortest_change(cloud, order) + 1e-6


def test_points_on_a_line_are_walked_from_the_end_one_starts_at() -> None:
    line = np.array([[3.0], [0.0], [7.0], [1.0], [12.0]])
    assert short_path(line, 1).tolist() == [1, 3, 0, 2, 4]


def test_from_the_middle_of_a_line_the_nearer_end_is_walked_to_first() -> None:
    # By way of 0: 2 + 10; by way of 10: 8 + 10.
    line = np.array([[0.0], [2.0], [10.0]])
    assert short_path(line, 1).tolist() == [1, 0, 2]


def test_a_path_is_as_long_as_its_steps() -> None:
    assert path_length(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]]), np.array([0, 1, 2])) == 9


def test_a_path_by_lists_of_neighbours_is_about_as_short_as_one_that_tries_every_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = points(300)
    every_place = path_length(cloud, short_path(cloud, 0))
    monkeypatch.setattr(arrange, "ALL_PAIRS", 100)
    order = short_path(cloud, 0)
    assert order[0] == 0 and sorted(order) == list(range(300))
    assert path_length(cloud, order) < 1.05 * every_place


@pytest.mark.parametrize("all_pairs", [1_000, 10])
def test_the_work_is_bounded_however_long_a_path_could_be_improved(
    monkeypatch: pytest.MonkeyPatch, all_pairs: int
) -> None:
    monkeypatch.setattr(arrange, "ALL_PAIRS", all_pairs)
    monkeypatch.setattr(arrange, "_LOOKS", 0)
    cloud = points(60)
    order = short_path(cloud, 5).tolist()
    # What is left is the path from each to the nearest.
    for i in range(59):
        left = sorted(order[i + 1 :])
        assert order[i + 1] == min(left, key=lambda j, i=i: float(np.linalg.norm(cloud[j] - cloud[order[i]])))


@pytest.mark.parametrize("all_pairs", [1_000, 10])
def test_points_at_one_place_are_put_in_a_row_too(monkeypatch: pytest.MonkeyPatch, all_pairs: int) -> None:
    monkeypatch.setattr(arrange, "ALL_PAIRS", all_pairs)
    assert sorted(short_path(np.ones((20, 4)), 7)) == list(range(20))


def test_progress_of_a_path_stays_within_its_bounds() -> None:
    told: list[tuple[int, int]] = []
    short_path(points(120), 0, lambda done, total: told.append((done, total)))
    assert told and all(0 <= done <= total == 120 for done, total in told)


@pytest.mark.parametrize("start", [-1, 3])
def test_a_start_that_is_no_point_is_refused(start: int) -> None:
    with pytest.raises(ValueError, match="the start is one of 3 points"):
        short_path(points(3), start)


def test_more_points_than_can_be_put_in_a_row_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "MOST", 5)
    with pytest.raises(ValueError, match="at most 5 points"):
        short_path(points(6), 0)


# --- shades


def test_a_colour_is_wholly_a_shade_of_itself_and_of_one_ten_delta_e_off() -> None:
    lab = np.array([[50, 60, 40], [50, 60, 50]], float)
    assert shades(lab, (50, 60, 40)).tolist() == [1, 1]


def test_a_shade_counts_less_the_further_off_it_is() -> None:
    # Of a grey shades end at 30, so at 25 a half is left.
    assert shades(np.array([[75.0, 0, 0], [80.0, 0, 0]]), (50, 0, 0)).tolist() == [0.5, 0]


def test_strong_colours_have_wider_shades_than_greys() -> None:
    red, dark_red, grey = (53.0, 80, 67), (30.0, 50, 40), (53.0, 0, 0)
    assert shades(np.array([dark_red]), red)[0] > 0
    assert shades(np.array([grey]), red)[0] == 0
    assert shades(np.array([(10.0, 0, 0)]), grey)[0] == 0


# --- a sheet


def plain_cost(places: Points, cells: NDArray[np.intp]) -> float:
    """The sum of the squared ways from places, made as wide and high as the grid, to cells."""
    rows, columns = cells.shape
    scaled = (places - places.min(axis=0)) / np.ptp(places, axis=0) * [columns - 1, rows - 1]
    return sum(
        float((scaled[cells[row, column], 0] - column) ** 2 + (scaled[cells[row, column], 1] - row) ** 2)
        for row, column in np.argwhere(cells >= 0)
    )


@given(st.integers(1, 60), st.integers(2, 20))
@settings(max_examples=40)
def test_every_point_gets_a_cell_of_its_own_also_where_they_are_halved(number: int, tile: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrange, "_TILE", tile)
        made = grid(points(number, 2))
    assert sorted(made.cells[made.cells >= 0]) == list(range(number))
    assert made.rows * made.columns - number < made.columns


def test_few_points_get_the_cells_to_which_their_ways_are_shortest_of_all() -> None:
    places = points(5, 2, seed=3)
    cells = grid(places).cells
    spots = [divmod(i, cells.shape[1]) for i in range(cells.size)]
    costs = []
    for chosen in itertools.permutations(spots, 5):
        other = np.full(cells.shape, -1)
        for number, spot in enumerate(chosen):
            other[spot] = number
        costs.append(plain_cost(places, other))
    assert plain_cost(places, cells) == pytest.approx(min(costs))


def test_points_that_are_a_grid_already_stay_as_they_are() -> None:
    down, across = np.divmod(np.arange(12), 4)
    assert grid(np.stack([across, down], axis=1).astype(float)).cells.tolist() == np.arange(12).reshape(3, 4).tolist()


def test_halving_keeps_left_on_the_left_and_top_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "_TILE", 16)
    places = np.random.default_rng(1).random((300, 2))
    made = grid(places)
    down, across = np.nonzero(made.cells >= 0)
    own = places[made.cells[down, across]]
    assert np.corrcoef(across, own[:, 0])[0, 1] > 0.97 and np.corrcoef(down, own[:, 1])[0, 1] > 0.97


def test_a_grid_tells_how_much_of_it_is_done() -> None:
    told: list[tuple[int, int]] = []
    grid(points(10, 2), lambda done, total: told.append((done, total)))
    assert told == [(10, 10)]


def test_the_size_of_a_grid_is_that_of_its_cells() -> None:
    made = Grid(np.zeros((3, 4), np.intp))
    assert (made.rows, made.columns) == (3, 4)


def separation(places: Points, groups: NDArray[np.intp]) -> float:
    """How much further apart the middles of two groups are than photos of one are from theirs."""
    middles = np.array([places[groups == one].mean(axis=0) for one in (0, 1)])
    own = np.linalg.norm(places - middles[groups], axis=1).mean()
    return float(np.linalg.norm(middles[0] - middles[1]) / own)


@pytest.mark.parametrize("landmarks", [200, 40])
def test_two_clusters_stay_apart_in_the_plane_also_where_most_lie_between_landmarks(
    monkeypatch: pytest.MonkeyPatch, landmarks: int
) -> None:
    monkeypatch.setattr(arrange, "_LANDMARKS", landmarks)
    groups = np.arange(80) % 2
    vectors = points(80, 20) + 8 * groups[:, None]
    places = plane(vectors)
    assert places.shape == (80, 2) and np.isfinite(places).all()
    # By chance it is next to 0.
    assert separation(places, groups) > 1


def test_the_same_points_give_the_same_places() -> None:
    assert (plane(points(60, 10)) == plane(points(60, 10))).all()


@pytest.mark.parametrize("number", [1, 2, 3, 7, 8, 9])
def test_any_few_points_have_places(number: int) -> None:
    places = plane(points(number, 5))
    assert places.shape == (number, 2) and np.isfinite(places).all()


@pytest.mark.parametrize("axes", [1, 2])
def test_points_of_few_axes_have_places(axes: int) -> None:
    assert plane(points(5, axes)).shape == (5, 2)


def test_photos_that_are_all_alike_have_places_and_cells() -> None:
    same = np.ones((30, 4))
    assert np.isfinite(plane(same)).all()
    assert sorted(grid(plane(same)).cells[grid(plane(same)).cells >= 0]) == list(range(30))


@pytest.mark.parametrize(
    ("number", "most", "drawn"), [(3, 5, [0, 1, 2]), (10, 5, [0, 2, 4, 6, 8]), (7, 3, [0, 2, 4]), (0, 3, [])]
)
def test_things_are_drawn_evenly(number: int, most: int, drawn: list[int]) -> None:
    assert evenly(number, most).tolist() == drawn
