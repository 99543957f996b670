"""Evaluating: every photo asks for the others of its class, altered copies ask for their originals, and what comes out
can be worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from pictures import make_photo, photo_pixels
from PIL import Image

from cbir.errors import CbirError
from cbir.evaluation import summary
from cbir.evaluation.altered import CASES, LONGEST_SIDE, altered, evaluate_altered, seed_of
from cbir.evaluation.figures import measure
from cbir.evaluation.labelled import Evaluation, evaluate_labelled
from cbir.evaluation.layouts import LayoutError
from cbir.evaluation.rankings import (
    Described,
    Ranking,
    by_metric,
    others_on_our_histogram,
    our_rankings,
    with_second_pass,
)
from cbir.index import Index
from cbir.indexing import build_index
from cbir.metric import DEFAULT, Metric
from cbir.rerank import second_pass
from cbir.space import squared_distances

HUES = {"red": "#c03020", "green": "#308040", "blue": "#2050b0"}
# Six points on a line, in two classes; worked out by hand below.
LINE = np.array([0.0, 1.0, 2.5, 4.5, 7.0, 7.5])[:, None]
CLASSES = np.array([0, 0, 1, 0, 1, 1])
on_a_line = Ranking("line", lambda photos: LINE, lambda a, b: np.abs(a - b.T))


def nothing(_: int) -> None:
    pass


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    """Four photos of each of three hues, a folder for each."""
    for name, color in HUES.items():
        for i in range(4):
            shade = np.clip(photo_pixels(color, (72, 64)).astype(int) + 6 * i, 0, 255).astype(np.uint8)
            path = tmp_path / "set" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shade).save(path)
    return tmp_path / "set"


def indexed(folder: Path) -> tuple[Index, list]:
    report = build_index(folder.parent / "index", [folder], colors=16, jobs=1)
    return Index.open(report.folder), report.skipped


# A ranking, query by query.


def test_a_photo_is_left_out_of_its_own_ranking_and_the_others_come_nearest_first():
    orders = on_a_line.orders(LINE, np.array([0, 3]))
    assert orders.tolist() == [[1, 2, 3, 4, 5], [2, 4, 5, 1, 0]]


def test_photos_that_tie_stand_in_the_order_of_their_rows():
    same = np.zeros((4, 1))
    assert on_a_line.orders(same, np.array([2])).tolist() == [[0, 1, 3]]


def test_the_rank_of_a_target_counts_what_is_nearer_and_what_ties_before_it():
    vectors = np.array([[0.0], [2.0], [2.0], [5.0]])
    assert on_a_line.ranks(np.array([[2.0], [0.1], [9.0]]), vectors, 2).tolist() == [2, 3, 3]
    assert on_a_line.ranks(np.array([[2.0]]), vectors, 1).tolist() == [1]


def test_squared_distances_are_those_of_the_differences_and_zero_between_copies():
    random = np.random.default_rng(1)
    a, b = random.normal(size=(5, 30)), random.normal(size=(7, 30))
    plain = ((a[:, None] - b[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(squared_distances(a, b), plain, rtol=1e-9)
    assert (np.diag(squared_distances(b, b)) == 0).all()


def test_the_second_pass_over_a_shared_pool_is_that_of_each_query_alone(monkeypatch):
    random = np.random.default_rng(2)
    points = random.normal(size=(40, 5))
    ranking = with_second_pass(Ranking("points", lambda photos: points, squared_distances))
    rows = np.arange(40)
    shared = ranking.orders(points, rows)
    plainly = Ranking("points", lambda photos: points, squared_distances).orders(points, rows)
    for row, order, nearest in zip(rows, shared, plainly, strict=True):
        assert order.tolist() == nearest[second_pass(points[row], points[nearest])].tolist()
    monkeypatch.setattr("cbir.evaluation.rankings.POOL", 10)
    for row, order, nearest in zip(rows, ranking.orders(points, rows), plainly, strict=True):
        assert order[:10].tolist() == nearest[second_pass(points[row], points[nearest[:10]])].tolist()
        assert order[10:].tolist() == nearest[10:].tolist()


def test_our_rankings_are_those_that_a_search_gives(colors):
    index, _ = indexed(colors)
    codes = np.stack([index.codes(row) for row in range(len(index))])
    for ranking, metric in (
        (by_metric("cbir", index, DEFAULT), DEFAULT),
        (next(others_on_our_histogram(index)), Metric.parse("qbic")),
    ):
        orders = ranking.orders(ranking.vectors(Described(codes)), np.arange(len(index)))
        for row, order in enumerate(orders):
            hits = index.search(index.path(row), limit=len(index), metric=metric)
            assert [hit.path for hit in hits[1:]] == [index.path(int(other)) for other in order]


def test_the_second_pass_of_an_evaluation_is_that_of_a_search(colors):
    index, _ = indexed(colors)
    codes = np.stack([index.codes(row) for row in range(len(index))])
    ranking = with_second_pass(by_metric("cbir", index, DEFAULT))
    orders = ranking.orders(ranking.vectors(Described(codes)), np.arange(len(index)))
    for row, order in enumerate(orders):
        hits = index.search(index.path(row), limit=len(index), rerank=True)
        assert [hit.path for hit in hits[1:]] == [index.path(int(other)) for other in order]


# Figures of a labelled set.


def test_figures_are_as_worked_out_by_hand():
    figures = measure(on_a_line, Described(np.zeros((6, 1), np.uint8)), CLASSES, np.array([0, 4]), nothing)
    # Photo 0 (class 0) meets 1, 2, 3, 4, 5, of which 1 and 3 are right: AP = (1 + 2/3) / 2.
    # Photo 4 (class 1) meets 5, 3, 2, 1, 0, of which 5 and 2 are right: AP = (1 + 2/3) / 2.
    np.testing.assert_allclose(figures.average_precision, [5 / 6, 5 / 6])
    np.testing.assert_allclose(figures.precision[1], [1, 1])
    np.testing.assert_allclose(figures.precision[10], [0.2, 0.2])
    np.testing.assert_allclose(figures.recall, [0.5, 0.5, 1, 1, 1])
    assert figures.ns is None
    assert figures.first_hits.tolist() == [[1, 2, 3, 4, 5], [5, 3, 2, 1, 0]]


def test_ns_is_told_only_where_every_class_has_four_members(colors):
    index, skipped = indexed(colors)
    evaluation = evaluate_labelled(index, colors, skipped, against_rivals=False)
    assert evaluation.figures[0].ns is not None
    (colors / "red" / "0.png").unlink()
    index, skipped = indexed(colors)
    assert evaluate_labelled(index, colors, skipped, against_rivals=False).figures[0].ns is None


def test_photos_of_one_hue_find_one_another_by_every_ranking(colors):
    index, skipped = indexed(colors)
    evaluation = evaluate_labelled(index, colors, skipped, again=True, jobs=1)
    assert (evaluation.layout, len(evaluation.photos), evaluation.classes) == ("folders", 12, ["blue", "green", "red"])
    names = [figures.name for figures in evaluation.figures]
    assert names[:2] == ["cbir", "cbir, second pass"] and len(names) == len(set(names)) == 10
    for figures in evaluation.figures:
        assert figures.average_precision.mean() > 0.9, figures.name
        assert figures.precision[1].min() == 1, figures.name


def test_what_cannot_be_measured_is_left_out_and_told(colors):
    (colors / "yellow").mkdir()
    make_photo(colors / "plum" / "only.png", "#6b2f6e")
    (colors / "red" / "broken.jpg").write_bytes(b"no picture")
    make_photo(colors / "at-the-top.png", "#888888")
    index, skipped = indexed(colors)
    evaluation = evaluate_labelled(index, colors, skipped, jobs=1)
    assert evaluation.singletons == ["plum"]
    assert evaluation.empty == ["yellow"]
    assert {Path(one.path).name for one in evaluation.left_out} == {"broken.jpg", "at-the-top.png"}
    assert len(evaluation.photos) == len(evaluation.queries) == 12
    assert all(len(figures.average_precision) == 12 for figures in evaluation.figures)


def test_a_photo_that_is_gone_since_it_was_indexed_is_left_out_beside_rivals_and_stays_without_them(colors):
    index, skipped = indexed(colors)
    (colors / "red" / "0.png").unlink()
    beside = evaluate_labelled(index, colors, skipped, jobs=1)
    assert [Path(one.path).name for one in beside.left_out] == ["0.png"] and len(beside.photos) == 11
    alone = evaluate_labelled(index, colors, skipped, against_rivals=False)
    assert not alone.left_out and len(alone.photos) == 12


def test_a_set_in_which_no_class_has_two_photos_is_refused_in_one_line(tmp_path):
    for name, color in HUES.items():
        make_photo(tmp_path / "set" / name / "one.png", color)
    index, skipped = indexed(tmp_path / "set")
    with pytest.raises(LayoutError, match="nothing to find") as error:
        evaluate_labelled(index, tmp_path / "set", skipped, against_rivals=False)
    assert isinstance(error.value, CbirError) and "\n" not in str(error.value)


def test_photos_of_another_folder_in_the_same_index_have_no_part_in_it(colors):
    make_photo(colors.parent / "other" / "x.png", "#c03020")
    build_index(colors.parent / "index", [colors, colors.parent / "other"], colors=16, jobs=1)
    evaluation = evaluate_labelled(Index.open(colors.parent / "index"), colors, against_rivals=False)
    assert len(evaluation.photos) == 12


def test_of_holidays_only_the_first_of_each_group_asks_and_groups_without_it_are_told(tmp_path):
    for name in ("100100", "100101", "100102", "100200", "100201", "100301", "100302"):
        make_photo(tmp_path / "set" / f"{name}.jpg", int(name))
    index, skipped = indexed(tmp_path / "set")
    evaluation = evaluate_labelled(index, tmp_path / "set", skipped, against_rivals=False)
    assert evaluation.layout == "holidays"
    assert [Path(evaluation.photos[row]).name for row in evaluation.queries] == ["100100.jpg", "100200.jpg"]
    assert evaluation.unasked == ["1003"]


def test_unreadable_photos_do_not_hide_the_layout(tmp_path):
    for i in range(3):
        make_photo(tmp_path / "set" / "a" / f"{i}.png", "#c03020")
        make_photo(tmp_path / "set" / "b" / f"{i}.png", "#2050b0")
        (tmp_path / "set" / "b" / f"broken-{i}.jpg").write_bytes(b"broken")
        (tmp_path / "set" / "a" / f"broken-{i}.jpg").write_bytes(b"broken")
    index, skipped = indexed(tmp_path / "set")
    assert evaluate_labelled(index, tmp_path / "set", skipped, against_rivals=False).layout == "folders"


# Means and intervals.


def test_means_and_differences_are_taken_query_by_query_and_the_same_seed_gives_the_same(colors):
    index, skipped = indexed(colors)
    evaluation = evaluate_labelled(index, colors, skipped, jobs=1)
    rows = summary.rankings(evaluation, seed=4)
    assert rows == summary.rankings(evaluation, seed=4)
    assert rows[0].above_first is None
    for row, figures in zip(rows, evaluation.figures, strict=True):
        mean = row.measures["mAP"]
        assert mean.mean == pytest.approx(figures.average_precision.mean())
        assert mean.low <= mean.mean <= mean.high
    difference = evaluation.figures[-1].average_precision - evaluation.figures[0].average_precision
    assert rows[-1].above_first is not None and rows[-1].above_first.mean == pytest.approx(difference.mean())


def test_the_worst_searches_come_first_with_their_hits_told_right_or_wrong():
    figures = measure(on_a_line, Described(np.zeros((6, 1), np.uint8)), CLASSES, np.arange(6), nothing)
    evaluation = Evaluation(
        layout="folders",
        photos=list("abcdef"),
        classes=["even", "odd"],
        labels=CLASSES,
        queries=np.arange(6),
        left_out=[],
        singletons=[],
        empty=[],
        unasked=[],
        figures=[figures],
        seconds=0.0,
    )
    worst = summary.worst(evaluation, 2)
    # Photo 2 meets 1, 3, 0, 4, 5 and photo 3 meets 2, 4, 5, 1, 0: both have their own kind at ranks 4 and 5.
    assert [(one.path, one.label) for one in worst] == [("c", "odd"), ("d", "even")]
    assert [one.average_precision for one in worst] == pytest.approx([(1 / 4 + 2 / 5) / 2] * 2)
    assert worst[0].hits == [("b", False), ("d", False), ("a", False), ("e", True), ("f", True)]


def test_one_query_alone_has_no_interval():
    assert summary.mean_of(np.array([0.7]), 0) == (0.7, None, None)


def test_another_seed_draws_other_intervals_of_the_same_means():
    values = np.random.default_rng(0).uniform(0, 1, 50)
    one, other = summary.mean_of(values, 1), summary.mean_of(values, 2)
    assert one.mean == other.mean and (one.low, one.high) != (other.low, other.high)


# Altered copies.


def test_every_photo_finds_its_original_again_after_mild_alteration(colors):
    index, skipped = indexed(colors)
    evaluation = evaluate_altered(index, colors, skipped, jobs=1)
    assert next(iter(evaluation.ranks)) == "cbir"
    assert all(ranks.shape == (12, len(CASES)) for ranks in evaluation.ranks.values())
    assert all(ranks.min() >= 1 and ranks.max() <= 12 for ranks in evaluation.ranks.values())
    mirrored = [transform.name for transform, _ in CASES].index("mirror")
    assert (evaluation.ranks["cbir"][:, mirrored] == 1).all()


def test_the_ranks_are_those_that_searching_with_the_copies_gives(colors, tmp_path):
    from cbir.output import save_pixels

    index, skipped = indexed(colors)
    evaluation = evaluate_altered(index, colors, skipped, against_rivals=False, seed=9, jobs=1)
    photo = evaluation.photos[5]
    for i, pixels in enumerate(altered(photo, seed_of(str(Path(photo).relative_to(colors)), 9))):
        if i % 7 == 0:
            save_pixels(tmp_path / f"{i}.png", pixels)
            hits = index.search(tmp_path / f"{i}.png", limit=12)
            assert [hit.path for hit in hits].index(photo) + 1 == evaluation.ranks["cbir"][5, i]


def test_copies_depend_on_the_photos_name_and_the_seed_only(colors):
    index, skipped = indexed(colors)
    one = evaluate_altered(index, colors, skipped, against_rivals=False, jobs=1)
    same = evaluate_altered(index, colors, skipped, against_rivals=False, jobs=2)
    for name in one.ranks:
        np.testing.assert_array_equal(one.ranks[name], same.ranks[name])
    assert seed_of("a/b.jpg", 0) == seed_of("a/b.jpg", 0) != seed_of("a/b.jpg", 1)
    assert seed_of("a/b.jpg", 0) != seed_of("a/c.jpg", 0)


def test_large_photos_are_altered_at_a_common_size_and_transparency_lies_on_white(tmp_path):
    Image.new("RGBA", (1200, 600), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    mirror = [transform.name for transform, _ in CASES].index("mirror")
    copy = list(altered(tmp_path / "clear.png", 0))[mirror]
    assert max(copy.shape) == LONGEST_SIDE and (copy == 255).all()


def test_one_photo_alone_cannot_be_told_apart(tmp_path):
    make_photo(tmp_path / "set" / "one.png", "#c03020")
    index, skipped = indexed(tmp_path / "set")
    with pytest.raises(LayoutError, match="fewer than two photos"):
        evaluate_altered(index, tmp_path / "set", skipped)


def test_the_figures_of_altered_copies_count_first_places_and_ranks(colors):
    index, skipped = indexed(colors)
    evaluation = evaluate_altered(index, colors, skipped, against_rivals=False, jobs=1)
    ranks = evaluation.ranks["cbir"]
    cases = summary.cases(evaluation)
    assert [one.first for one in cases] == [(ranks[:, i] == 1).mean() for i in range(len(CASES))]
    assert [one.worst_rank for one in cases] == ranks.max(axis=0).tolist()
    overall, by_transform = summary.first_places(evaluation, 0)["cbir"]
    assert overall.mean == pytest.approx((ranks == 1).mean())
    crops = [i for i, (transform, _) in enumerate(CASES) if transform.name == "crop"]
    assert by_transform["crop"] == pytest.approx((ranks[:, crops] == 1).mean())


def test_without_parts_our_rankings_leave_the_parts_out(colors):
    index, _ = indexed(colors)
    assert [one.name for one in our_rankings(index, DEFAULT)] == [
        "cbir",
        "cbir, photos as a whole",
        "square roots, exp(-d/10)",
    ]
    assert next(our_rankings(index, Metric.parse("gaussian:15"))).name == "cbir: gaussian:15"
