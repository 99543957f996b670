"""Axes are made once, found again, and made anew where photos have come or gone; they never change what is found."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_indexes import Placed, compared_with_each, in_small, photos, placed, put, segment_of, told

from cbir import axes, prepare
from cbir.check import check_index
from cbir.errors import IndexFolderError
from cbir.index import Index
from cbir.manifest import Manifest, SegmentEntry
from cbir.metric import DEFAULT, QBIC, Metric
from cbir.plain import load
from cbir.prepare import Prepared, key_of
from cbir.segment import Segment

FEWEST = 40


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with in_small(fewest=FEWEST):
        yield


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many photos axes are made from here on, each time."""
    numbers: list[int] = []
    real = prepare.make_axes

    def spy(*arguments: object) -> object:
        numbers.append(arguments[2])
        return real(*arguments)

    monkeypatch.setattr(prepare, "make_axes", spy)
    return numbers


def axes_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("axes-*")}


def check_finds_what_comparing_with_each_does(index: Index, metric: Metric = DEFAULT) -> None:
    if not len(index):
        return
    for row in {0, len(index) - 1}:
        hits = index.search(index.path(row), 7, metric)
        assert index.verify(index.path(row), hits, 7, metric) == (len(hits), min(7, len(index)))
        wanted = compared_with_each(index, index.codes(row), metric)
        first, *others = told(hits)
        assert first == (index.path(row), 0.0)
        assert others == [one for one in wanted if one[0] != index.path(row)][:6]


def test_axes_are_made_at_the_first_search_kept_and_found_by_the_next_open(tmp_path: Path, made: list[int]) -> None:
    index = put(tmp_path / "index", [placed(100, 1), placed(50, 2)])
    assert not axes_in(index.folder)
    hits = index.search("1/0007.jpg")
    index.search("1/0008.jpg")
    assert made == [150] and len(axes_in(index.folder)) == 1
    again = Index.open(index.folder)
    assert told(again.search("1/0007.jpg")) == told(hits)
    check_finds_what_comparing_with_each_does(again)
    assert made == [150]


def test_every_kind_of_search_makes_them(tmp_path: Path, made: list[int]) -> None:
    folder = put(tmp_path / "index", [placed(100, 1)]).folder
    for ask in (
        lambda index: index.nearest(index.codes(0)),
        lambda index: index.nearest_many(index.codes(0)[None]),
        lambda index: index.search_many(["1/0007.jpg", "1/0008.jpg"]),
        lambda index: index.prepare(),
    ):
        ask(Index.open(folder))
        assert made == [100]
        made.clear()
        for name in axes_in(folder):
            (folder / name).unlink()


def test_so_few_photos_that_axes_do_not_help_have_none(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(FEWEST - 1, 1)])
    check_finds_what_comparing_with_each_does(index)
    index.prepare(leading=4)
    assert not axes_in(index.folder)
    check_finds_what_comparing_with_each_does(put(tmp_path / "index", [placed(FEWEST, 1)]))
    assert axes_in(index.folder)


def test_opening_verifying_and_telling_of_an_index_make_none(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    index.info(), index.mean_amounts(), index.unread(), index.photos.mask(["/photos"], [])
    index.verify("1/0007.jpg", [])
    assert not axes_in(index.folder)


def test_another_metric_makes_its_own_beside(tmp_path: Path, made: list[int]) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    check_finds_what_comparing_with_each_does(index)
    first = axes_in(index.folder)
    check_finds_what_comparing_with_each_does(index, QBIC)
    both = axes_in(index.folder)
    assert first < both and len(both) == 2
    check_finds_what_comparing_with_each_does(Index.open(index.folder), Metric.parse(str(QBIC)))
    check_finds_what_comparing_with_each_does(Index.open(index.folder))
    # Amounts are compared by the metric of the whole.
    index.search(np.ones(6))
    assert made == [100, 100, 100] and both < axes_in(index.folder)


def test_a_key_tells_all_that_makes_the_space(tmp_path: Path) -> None:
    keys = {
        key_of(metric, lab, descriptor, reference)
        for metric in ("cbir", "cbirs")
        for lab in (b"", b"lab")
        for descriptor in ("spatial", "global")
        for reference in (b"", b"labreference")
    }
    # What ends one part may not begin the next.
    keys |= {key_of("cbir", b"a", "bspatial", b""), key_of("cbir", b"ab", "spatial", b"")}
    assert len(keys) == 18


def test_with_another_palette_the_old_ones_go_and_others_are_made(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    for metric in (DEFAULT, QBIC):
        index.prepare(metric)
    old = axes_in(index.folder)
    rebuilt = put(tmp_path / "index", [placed(100, 2)], palette_seed=1)
    assert not axes_in(index.folder), "they tell of nothing that there is"
    check_finds_what_comparing_with_each_does(rebuilt)
    new = axes_in(index.folder)
    assert len(new) == 1 and not new & old


def test_the_same_photos_make_the_same_files_whatever_the_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(axes, "ThreadPoolExecutor", partial(ThreadPoolExecutor, threads))
        folder = put(tmp_path / f"index-{threads}", [placed(150, 1), placed(90, 2)]).folder
        Index.open(folder).search("1/0007.jpg")
        content.append({name: (folder / name).read_bytes() for name in axes_in(folder)})
    assert len(content[0]) == 1 and content[0] == content[1] == content[2]


def test_so_many_axes_lead_as_are_asked_for(tmp_path: Path, made: list[int]) -> None:
    # A segment of files none of which could be read has no axes.
    index = put(tmp_path / "index", [placed(0, 2), placed(200, 1), placed(0, 3)])

    def leading() -> int:
        (name,) = axes_in(index.folder)
        return len(load(index.folder / name)["leading"]) // 25 - 2

    index.prepare()
    chosen = leading()
    for number in (4, 8, 16):
        index.prepare(leading=number)
        assert leading() == number
        check_finds_what_comparing_with_each_does(index)
    Index.open(index.folder).prepare(leading=16)
    assert len(made) == 4 - (chosen == 4)
    index.prepare()
    assert leading() == 16, "what there is will do"


def test_where_the_space_has_fewer_axes_than_shall_lead_all_lead_and_are_made_once(
    tmp_path: Path, made: list[int]
) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    for _ in range(2):
        index.prepare(QBIC, leading=32)
        check_finds_what_comparing_with_each_does(index, QBIC)
    assert made == [100]


def test_progress_rises_to_all_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "MOST", 60)
    index = put(tmp_path / "index", [placed(30, seed) for seed in range(6)])
    seen: list[tuple[str, int, int]] = []
    index.prepare(progress=lambda *what: seen.append(what))
    done = [number for _, number, _ in seen]
    assert done == sorted(set(done)) and done[-1] == 180 and {60, 120} < set(done)
    assert {(what, total) for what, _, total in seen} == {("axes", 180)}
    seen.clear()
    index.prepare(progress=lambda *what: seen.append(what))
    assert seen == [], "nothing is left to be done"


def changes(rng: np.random.Generator) -> Iterator[list[Placed]]:
    """The states of a collection to which photos come, of which some change, and some go."""
    there = [placed(25, seed) for seed in range(8)]
    for step in range(10):
        yield there
        number = int(rng.integers(len(there)))
        root, segment = there[number]
        kind = rng.choice(["come", "gone", "some gone", "copied"])
        if kind == "come":
            there = [*there, placed(int(rng.integers(5, 60)), 10 + step)]
        elif kind == "copied":
            there = [*there, (f"/copy/{step}", segment)]
        elif kind == "some gone":
            kept = np.flatnonzero(rng.random(len(segment.photos)) < 0.8)
            there = [*there[:number], (root, segment.take(kept, np.array([], np.intp))), *there[number + 1 :]]
        elif len(there) > 3:
            there = [*there[:number], *there[number + 1 :]]
        there = [there[i] for i in rng.permutation(len(there))]


@pytest.mark.parametrize(("seed", "most"), [(0, 80), (1, 1 << 20), (2, 150)])
def test_after_photos_have_come_changed_and_gone_the_same_is_found_by_old_axes_and_by_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, most: int
) -> None:
    monkeypatch.setattr(prepare, "MOST", most)
    gaps = loose = 0
    for state in changes(np.random.default_rng(seed)):
        index = put(tmp_path / "index", state)
        with monkeypatch.context() as patch:
            patch.setattr(Prepared, "is_due", lambda *_: False)
            check_finds_what_comparing_with_each_does(index)
        collection = index._prepared_for(DEFAULT).collection
        gaps += any(part.has_gaps for part in collection.parts)
        loose += bool(collection.parts) and len(collection.loose) > 0
        fresh = Index.open(tmp_path / "index")
        check_finds_what_comparing_with_each_does(fresh)
        assert fresh._prepared_for(DEFAULT).loose_photos < FEWEST
        check_finds_what_comparing_with_each_does(Index.open(tmp_path / "index"))
    assert gaps and loose, "there were old axes to search with"
    assert check_index(tmp_path / "index").problems == []


@pytest.mark.parametrize("most", [2 * FEWEST, 16 * FEWEST, 1 << 20])
def test_however_often_photos_are_added_there_are_few_files_and_axes_of_few_photos_are_made_anew(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(prepare, "MOST", most)
    folder = tmp_path / "index"
    space, listed = put(folder, []).space(), Manifest.load(folder)
    segments: list[Segment] = []
    for number in range(1, 41):
        segments.append(placed(FEWEST, number)[1])
        entries = [SegmentEntry(f"segment-{i:016x}.joblib", "/photos", FEWEST, 0) for i in range(number)]
        replace(listed, segments=tuple(entries)).commit(folder)
        prepared = Prepared(folder, "0123456789abcdef", space, entries, segments)
        assert prepared.is_due()
        prepared.make()
        there = number * FEWEST
        # Each file is more than twice as large as the next smaller one, up to half of MOST.
        levels = 1 + math.log2(min(there, most) / FEWEST)
        assert len(axes_in(folder)) == len(prepared.files) <= levels + 2 * there / most
        # A photo's axes are made anew only for a file half as large again as the one before.
        assert sum(made) <= there * (1 + math.log(min(there, most) / FEWEST, 1.5))


def test_no_file_tells_of_many_more_photos_than_are_made_together(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "MOST", 100)
    put(tmp_path / "index", [placed(25, seed) for seed in range(21)]).prepare()
    assert sum(made) == 525 and max(made) <= 125


def without(number: int, one: Placed) -> Placed:
    root, segment = one
    return root, segment.take(np.arange(number, len(segment.photos)), np.array([], np.intp))


@pytest.mark.parametrize(("gone", "again"), [(25, []), (26, [74])])
def test_axes_of_which_a_quarter_of_the_photos_are_gone_are_made_anew(
    tmp_path: Path, made: list[int], gone: int, again: list[int]
) -> None:
    parts = [placed(100 - gone, 1), placed(gone, 2)]
    put(tmp_path / "index", parts).prepare()
    made.clear()
    before = axes_in(tmp_path / "index")
    index = put(tmp_path / "index", parts[:1])
    check_finds_what_comparing_with_each_does(index)
    assert made == again
    assert (axes_in(tmp_path / "index") == before) == (not again) and len(axes_in(tmp_path / "index")) == 1


def test_axes_of_which_most_photos_are_gone_are_not_used(tmp_path: Path) -> None:
    parts = [placed(20, 1), placed(80, 2)]
    put(tmp_path / "index", parts).prepare()
    index = put(tmp_path / "index", parts[:1])
    assert index._prepared_for(DEFAULT).files == []
    check_finds_what_comparing_with_each_does(index)


def test_of_files_that_tell_of_the_same_photos_the_largest_is_used(tmp_path: Path) -> None:
    parts = [placed(50, 1), placed(60, 2)]
    put(tmp_path / "index", parts[:1]).prepare()
    (small,) = axes_in(tmp_path / "index")
    content = (tmp_path / "index" / small).read_bytes()
    put(tmp_path / "index", parts).prepare()
    (large,) = axes_in(tmp_path / "index")
    (tmp_path / "index" / small).write_bytes(content)
    index = Index.open(tmp_path / "index")
    assert [one.file.name for one in index._prepared_for(DEFAULT).files] == [large] != [small]
    check_finds_what_comparing_with_each_does(index)


def test_copies_of_a_folder_are_each_found_once(tmp_path: Path, made: list[int]) -> None:
    segment = segment_of(photos(60, 1))
    for roots in (["/a", "/b"], ["/b"], ["/a", "/b", "/c"]):
        index = put(tmp_path / "index", [(root, segment) for root in roots])
        hits = index.search(f"{roots[0]}/0007.jpg", 500)
        assert sorted(hit.path for hit in hits) == sorted(index.path(row) for row in range(len(index)))
        check_finds_what_comparing_with_each_does(index)
    assert made[0] == 120


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_folder_that_must_not_be_written_is_searched_without_axes(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    before = files_of(index.folder)
    monkeypatch.setattr(os, "access", lambda *_: False)
    check_finds_what_comparing_with_each_does(index)
    assert made == [] and files_of(index.folder) == before


def test_where_axes_cannot_be_kept_they_are_made_once_in_memory(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    before = files_of(index.folder)
    monkeypatch.setattr(prepare, "save_axes", full)
    check_finds_what_comparing_with_each_does(index)
    check_finds_what_comparing_with_each_does(index)
    assert made == [100] and files_of(index.folder) == before


def test_a_disk_that_fills_up_in_the_middle_of_a_file_keeps_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    before = files_of(index.folder)

    def half(value: object, file: object) -> None:
        file.write(bytes(1000))  # type: ignore[attr-defined]
        full()

    with monkeypatch.context() as patch:
        patch.setattr("cbir.segment.plain.dump", half)
        check_finds_what_comparing_with_each_does(index)
    assert files_of(index.folder) == before
    check_finds_what_comparing_with_each_does(Index.open(index.folder))
    assert len(axes_in(index.folder)) == 1


def test_an_interrupted_making_leaves_nothing_and_the_next_search_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    index.prepare()
    index = put(tmp_path / "index", [placed(100, 1), placed(90, 2)])
    before = files_of(index.folder)

    def press(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("make_axes", "save_axes"):
        with monkeypatch.context() as patch:
            patch.setattr(prepare, step, press)
            with pytest.raises(KeyboardInterrupt):
                index.search("1/0007.jpg")
        assert files_of(index.folder) == before
    check_finds_what_comparing_with_each_does(index)
    assert len(axes_in(index.folder)) == 1


@pytest.mark.parametrize("error", [FileNotFoundError(), IndexFolderError("damaged")])
def test_axes_that_somebody_else_removes_at_once_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def removed(*_: object) -> None:
        raise error

    index = put(tmp_path / "index", [placed(100, 1)])
    monkeypatch.setattr(prepare, "load_axes", removed)
    check_finds_what_comparing_with_each_does(index)


def test_two_that_make_axes_at_once_make_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = put(tmp_path / "index", [placed(100, 1)])
    second, real = Index.open(first.folder), prepare.make_axes

    def meanwhile(*arguments: object) -> object:
        monkeypatch.setattr(prepare, "make_axes", real)
        check_finds_what_comparing_with_each_does(second)
        return real(*arguments)

    monkeypatch.setattr(prepare, "make_axes", meanwhile)
    check_finds_what_comparing_with_each_does(first)
    check_finds_what_comparing_with_each_does(second)
    assert len(axes_in(first.folder)) == 1


def test_threads_that_search_while_axes_are_made_wait_and_find_the_same(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = prepare.make_axes

    def slowly(*arguments: object) -> object:
        time.sleep(0.05)
        return real(*arguments)

    monkeypatch.setattr(prepare, "make_axes", slowly)
    monkeypatch.setattr(prepare, "MOST", 200)
    there = [placed(50, seed) for seed in range(3)]
    put(tmp_path / "index", there[:1]).prepare()
    for number, again in ((2, [50, 100]), (3, [50, 100, 150])):
        index = put(tmp_path / "index", there[:number])
        index._prepared_for(DEFAULT)
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _, index=index: told(index.search("0/0007.jpg", 500)), range(12)))
        assert all(one == found[0] for one in found) and len(found[0]) == 50 * number
        assert made == again
        check_finds_what_comparing_with_each_does(index)


def test_when_axes_are_made_what_a_crash_left_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    kept = [".writing-new", "notes.txt", "axes.txt", "axes-mine-0123456789abcdef.joblib", "axes-0123.joblib"]
    left = [".writing-old", "axes-0123456789abcdef-0123456789abcdef.joblib"]
    for name in (*kept, *left):
        (index.folder / name).write_bytes(b"half")
    an_hour_ago = time.time() - 3601
    for name in (".writing-old", "notes.txt", "axes.txt"):
        os.utime(index.folder / name, (an_hour_ago, an_hour_ago))
    just_not = time.time() - 3500
    os.utime(index.folder / ".writing-new", (just_not, just_not))
    index.search("1/0007.jpg")
    names = {path.name for path in index.folder.iterdir()}
    assert names >= set(kept) and not names & set(left)


def test_other_metrics_files_stay_while_they_tell_of_a_segment_that_there_is(tmp_path: Path) -> None:
    one, two, three = (placed(100, seed) for seed in (1, 2, 3))
    put(tmp_path / "index", [one, two]).prepare(QBIC)
    qbic = axes_in(tmp_path / "index")
    put(tmp_path / "index", [two, three]).prepare()
    assert axes_in(tmp_path / "index") > qbic
    put(tmp_path / "index", [three]).prepare()
    assert axes_in(tmp_path / "index").isdisjoint(qbic)


def test_axes_that_a_newer_state_of_the_index_has_are_not_removed_by_who_opened_an_older(tmp_path: Path) -> None:
    old = put(tmp_path / "index", [placed(100, 1)])
    new = put(tmp_path / "index", [placed(100, 1), placed(100, 2)])
    new.prepare()
    (file,) = axes_in(tmp_path / "index")
    check_finds_what_comparing_with_each_does(old)
    assert file in axes_in(tmp_path / "index")
    check_finds_what_comparing_with_each_does(new)


Change = Callable[[Path, Sequence[Placed]], object]
CHANGES: dict[str, Change] = {
    "brought up to date": lambda folder, there: put(folder, [*there[:1], placed(70, 9)]).prepare(),
    "rebuilt": lambda folder, there: put(folder, [placed(70, 9)], palette_seed=1).prepare(),
    "deleted": lambda folder, there: shutil.rmtree(folder),
    "another file in its place": lambda folder, there: (shutil.rmtree(folder), folder.write_text("mine")),
}


@pytest.mark.parametrize("searched", [False, True], ids=["not searched before", "searched before"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_open_index_goes_on_answering_for_what_it_opened(tmp_path: Path, change: str, searched: bool) -> None:
    there = [placed(100, 1), placed(60, 2)]
    index = put(tmp_path / "index", there)
    paths = [index.path(row) for row in range(len(index))]
    if searched:
        check_finds_what_comparing_with_each_does(index)
    CHANGES[change](index.folder, there)
    for metric in (DEFAULT, QBIC):
        check_finds_what_comparing_with_each_does(index, metric)
    assert [index.path(row) for row in range(len(index))] == paths
    if change in ("brought up to date", "rebuilt"):
        check_finds_what_comparing_with_each_does(Index.open(index.folder))
        assert check_index(index.folder).problems == []


def test_an_index_that_changes_in_the_middle_of_making_axes_is_searched_as_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, real = [placed(100, 1), placed(60, 2)], prepare.make_axes
    for change in CHANGES.values():
        shutil.rmtree(tmp_path / "index", ignore_errors=True)
        (tmp_path / "index").unlink(missing_ok=True)
        index = put(tmp_path / "index", there)

        def meanwhile(*arguments: object, change: Change = change) -> object:
            monkeypatch.setattr(prepare, "make_axes", real)
            change(tmp_path / "index", there)
            return real(*arguments)

        monkeypatch.setattr(prepare, "make_axes", meanwhile)
        check_finds_what_comparing_with_each_does(index)
