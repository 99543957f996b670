"""Copying an index into a store: what is sent, what is refused, and that it goes on after it broke off."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_indexes import photos, placed, put, segment_of
from memory_store import MemoryStore, memory  # noqa: F401

from cbir import push as push_module
from cbir import store
from cbir.index import Index
from cbir.metric import DEFAULT, QBIC
from cbir.push import header_of, push_index
from cbir.store import Address, StoreError, key_of, mark_of, parse_address, path_of_text, text_of_path
from cbir.store_header import Header

HERE = Address("memory:here", "cbir")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "_BLOCK", 16)


def held() -> dict[str, bytes]:
    """The paths in the store, and their descriptors."""
    return {stored.path: stored.codes.tobytes() for stored, _, _ in MemoryStore.held[HERE].values()}


def wanted(index: Index) -> dict[str, bytes]:
    return {index.path(row): index.codes(row).tobytes() for row in range(len(index))}


def test_all_photos_are_sent_once_and_a_second_push_sends_nothing(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(50, 1), placed(7, 2)])
    report = push_index(index, "memory:here")
    assert (report.photos, report.sent, report.deleted, report.store) == (57, 57, 0, "memory:here")
    assert held() == wanted(index)
    again = push_index(index, "memory:here")
    assert (again.photos, again.sent, again.deleted) == (57, 0, 0)
    assert sum(MemoryStore.upserted) == 57


def test_a_push_that_changes_nothing_writes_no_header_and_one_that_does_says_first_that_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[bool, int]] = []
    real = MemoryStore.write_header

    def spy(self: MemoryStore, header: bytes) -> None:
        told.append((Header.of_bytes(header, "").is_complete, len(MemoryStore.held.get(HERE, {}))))
        real(self, header)

    monkeypatch.setattr(MemoryStore, "write_header", spy)
    index = put(tmp_path / "index", [placed(50, 1)])
    push_index(index, "memory:here")
    assert (told[0], told[-1]) == ((False, 0), (True, 50))
    told.clear()
    push_index(index, "memory:here")
    push_index(index, "memory:here", kind="hnsw")
    assert told == []
    push_index(index, "memory:here", kind="ivf")
    assert told == [(False, 50), (True, 50)]
    told.clear()
    push_index(put(tmp_path / "index", [placed(40, 1)]), "memory:here")
    assert told == [(False, 50), (True, 40)]


def test_vectors_are_those_of_the_metric_in_single_precision(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(20, 1)])
    push_index(index, "memory:here", QBIC)
    for row in range(20):
        _, _, vector = MemoryStore.held[HERE][key_of(index.path(row))]
        np.testing.assert_array_equal(vector, index.space(QBIC).embed(index.codes(row)).astype(np.float32))


def test_only_what_has_changed_is_sent_and_what_is_gone_is_deleted(tmp_path: Path) -> None:
    codes = photos(40, 1)
    push_index(put(tmp_path / "index", [("/photos", segment_of(codes))]), "memory:here")
    MemoryStore.upserted.clear()
    changed = codes.copy()
    changed[3] = photos(1, 99)[0]
    # The first 30 stay where they are, one of them changed; ten are gone; five are new.
    later = np.concatenate([changed[:30], photos(5, 77)])
    names = [b"%04d.jpg" % i for i in range(30)] + [b"new%d.jpg" % i for i in range(5)]
    segment = segment_of(later, names)
    # Files are told apart by their times too, and these are told by the row.
    index = put(tmp_path / "index", [("/photos", segment)])
    report = push_index(index, "memory:here")
    assert (report.photos, report.sent, report.deleted) == (35, 6, 10)
    assert held() == wanted(index)


def test_a_store_that_vanishes_in_the_middle_is_gone_on_with_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(100, 1)])
    MemoryStore.fails_after = 3
    with pytest.raises(StoreError, match="vanished"):
        push_index(index, "memory:here")
    assert not Header.of_bytes(MemoryStore.headers[HERE], "").is_complete
    assert len(held()) == 48
    MemoryStore.fails_after = None
    assert push_index(index, "memory:here").sent == 52
    assert held() == wanted(index)
    assert sum(MemoryStore.upserted) == 100
    assert Header.of_bytes(MemoryStore.headers[HERE], "").is_complete


def test_of_an_index_that_is_unfinished_nothing_is_taken_out_and_the_store_is_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_index(put(tmp_path / "index", [placed(40, 1), placed(20, 2)]), "memory:here")
    index = put(tmp_path / "index", [placed(10, 1), placed(20, 2)])
    with monkeypatch.context() as patch:
        patch.setattr(Index, "is_unfinished", True)
        report = push_index(index, "memory:here")
        assert (report.photos, report.deleted) == (60, 0)
        assert not header_there().is_complete
    assert push_index(index, "memory:here").deleted == 30
    assert header_there().is_complete


def header_there() -> Header:
    return Header.of_bytes(MemoryStore.headers[HERE], "memory:here")


def test_parts_stay_beside_one_another_and_each_is_brought_up_to_date_by_itself(tmp_path: Path) -> None:
    first = put(tmp_path / "first", [placed(40, 1, "/archive/a"), placed(5, 3, "/archive/a/within")])
    # A folder whose name begins as that of the other does.
    second = put(tmp_path / "second", [placed(20, 2, "/archive/a-z")])
    push_index(first, "memory:here")
    report = push_index(second, "memory:here", below=["/archive/a-z"])
    assert (report.photos, report.sent, report.deleted) == (65, 20, 0)
    assert held() == wanted(first) | wanted(second)
    less = put(tmp_path / "first", [placed(30, 1, "/archive/a")])
    report = push_index(less, "memory:here", below=["/archive/a"])
    assert (report.photos, report.deleted) == (50, 15)
    assert held() == wanted(less) | wanted(second)
    # A folder that has become empty, within what the index was made of.
    push_index(
        put(tmp_path / "first", [placed(30, 1, "/archive/a"), placed(5, 3, "/archive/a/within")]),
        "memory:here",
        below=["/archive/a"],
    )
    report = push_index(less, "memory:here", below=["/archive/a/within/"])
    assert (report.photos, report.sent, report.deleted) == (50, 0, 5)
    assert held() == wanted(less) | wanted(second)


def test_of_folders_that_an_index_was_not_made_of_it_takes_nothing_out_unless_told(tmp_path: Path) -> None:
    first, second = (put(tmp_path / name, [placed(20, i, f"/{name}")]) for i, name in ((1, "first"), (2, "second")))
    push_index(first, "memory:here")
    push_index(second, "memory:here", below=["/second"])
    with pytest.raises(StoreError, match=r"second: was made of /second, so it tells nothing of /first$"):
        push_index(second, "memory:here", below=["/first"])
    # Of everything it tells its own.
    assert push_index(second, "memory:here", below=["/"]).deleted == 0
    assert held() == wanted(first) | wanted(second)
    report = push_index(second, "memory:here", below=["/first"], replace_all=True)
    assert (report.photos, report.sent, report.deleted) == (20, 0, 20)
    assert held() == wanted(second)


def test_of_a_part_only_what_lies_below_its_folder_is_sent(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(20, 1, "/a"), placed(10, 2, "/b"), placed(5, 3, "/c")])
    report = push_index(index, "memory:here", below=["/a", "/c/"])
    assert (report.photos, report.sent) == (25, 25)
    assert held() == {path: codes for path, codes in wanted(index).items() if not path.startswith("/b")}
    one = index.path(22)
    assert push_index(index, "memory:here", below=[one]).photos == 26 and one in held()


def test_a_whole_index_is_not_pushed_over_what_came_from_others_unless_it_is_to_replace_all(tmp_path: Path) -> None:
    first, second = (put(tmp_path / name, [placed(20, i, f"/{name}")]) for i, name in ((1, "first"), (2, "second")))
    # Of another archive, on another machine, called the same.
    (tmp_path / "other").mkdir()
    namesake = put(tmp_path / "other" / "first", [placed(20, 3, "/other")])
    push_index(first, "memory:here")
    with pytest.raises(StoreError, match=r"memory:here: is of the index first, not second; with --below FOLDER"):
        push_index(second, "memory:here")
    with pytest.raises(StoreError, match=r"memory:here: has 20 photos of folders that first was not made of; with"):
        push_index(namesake, "memory:here")
    push_index(second, "memory:here", below=["/second"])
    with pytest.raises(StoreError, match=r"memory:here: has 20 photos of folders that first was not made of; with"):
        push_index(first, "memory:here")
    assert held() == wanted(first) | wanted(second) and header_there().is_complete
    report = push_index(second, "memory:here", replace_all=True)
    assert (report.photos, report.sent, report.deleted) == (20, 0, 20)
    assert held() == wanted(second) and header_there().index == "second"
    # A part of an index that is there as a whole leaves it so.
    push_index(put(tmp_path / "second", [placed(15, 2, "/second")]), "memory:here", below=["/second"])
    assert push_index(put(tmp_path / "second", [placed(10, 2, "/second")]), "memory:here").photos == 10


def test_an_index_that_was_interrupted_goes_on_though_a_part_of_another_came_between(tmp_path: Path) -> None:
    first, second = (put(tmp_path / name, [placed(40, i, f"/{name}")]) for i, name in ((1, "first"), (2, "second")))
    MemoryStore.fails_after = 1
    with pytest.raises(StoreError, match="vanished"):
        push_index(first, "memory:here")
    MemoryStore.fails_after = None
    push_index(second, "memory:here", below=["/second"])
    assert header_there().pending == ("/first",)
    push_index(first, "memory:here", below=["/first"])
    assert header_there().is_complete and held() == wanted(first) | wanted(second)


def test_a_folder_without_photos_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(20, 1, "/a")])
    with pytest.raises(StoreError, match="has no photos below /a/b"):
        push_index(index, "memory:here", below=["/a/b"])
    with pytest.raises(StoreError, match="was made of /a, so it tells nothing of /b"):
        push_index(index, "memory:here", below=["/b"])
    assert HERE not in MemoryStore.headers
    push_index(index, "memory:here")
    assert push_index(index, "memory:here", below=["/a/b"]).photos == 20


def test_a_store_is_incomplete_until_each_part_that_was_begun_is_done(tmp_path: Path) -> None:
    first, second = (put(tmp_path / name, [placed(40, i, f"/{name}")]) for i, name in ((1, "first"), (2, "second")))
    MemoryStore.fails_after = 1
    with pytest.raises(StoreError, match="vanished"):
        push_index(first, "memory:here", below=["/first"])
    MemoryStore.fails_after = None
    assert header_there().pending == ("/first",)
    push_index(second, "memory:here", below=["/second"])
    assert header_there().pending == ("/first",), "the other part says nothing of this one"
    push_index(first, "memory:here", below=["/first"])
    assert header_there().pending == ()
    assert held() == wanted(first) | wanted(second)


def test_pushes_of_two_parts_at_once_leave_a_store_that_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an engine knows no locks: the second begins and ends amid the first, or ends after it."""
    first, second = (put(tmp_path / name, [placed(40, i, f"/{name}")]) for i, name in ((1, "first"), (2, "second")))
    real = MemoryStore.settle

    def settle(self: MemoryStore, kind: str) -> None:
        real(self, kind)
        monkeypatch.setattr(MemoryStore, "settle", real)
        push_index(second, "memory:here", below=["/second"])

    monkeypatch.setattr(MemoryStore, "settle", settle)
    push_index(first, "memory:here", below=["/first"])
    assert header_there().pending == () and header_there().photos == 80


def test_what_an_older_cbir_left_incomplete_is_so_until_the_whole_index_is_pushed(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(20, 1, "/a")])
    push_index(index, "memory:here")
    value = json.loads(MemoryStore.headers[HERE])
    del value["pending"]
    for complete in (True, False):
        MemoryStore.headers[HERE] = json.dumps({**value, "version": 1, "complete": complete}).encode()
        assert header_there().is_complete == complete
    push_index(index, "memory:here", below=["/a"])
    assert not header_there().is_complete
    push_index(index, "memory:here")
    assert header_there().is_complete and json.loads(MemoryStore.headers[HERE])["version"] == 2


def test_a_store_of_another_palette_or_metric_is_refused_by_name_and_stays_as_it_was(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(20, 1)])
    push_index(index, "memory:here")
    before, header = held(), MemoryStore.headers[HERE]
    other = put(tmp_path / "other", [placed(20, 1)], palette_seed=5)
    with pytest.raises(StoreError, match=r"^memory:here: is of the palette of another index, index; .*memory:here#"):
        push_index(other, "memory:here")
    with pytest.raises(StoreError, match=r"^memory:here: is of the metric cbir, not qbic; "):
        push_index(index, "memory:here", QBIC)
    assert (held(), MemoryStore.headers[HERE]) == (before, header)


def test_what_was_not_made_by_cbir_is_refused(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(20, 1)])
    MemoryStore.headers[HERE] = b'{"format": "another"}'
    with pytest.raises(StoreError, match="memory:here: was not made by cbir push"):
        push_index(index, "memory:here")
    assert HERE not in MemoryStore.held


def test_a_store_keeps_its_kind_unless_told(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(20, 1)])

    def kind() -> str:
        return Header.of_bytes(MemoryStore.headers[HERE], "").kind

    push_index(index, "memory:here", kind="flat")
    push_index(index, "memory:here")
    assert kind() == "flat"
    push_index(index, "memory:here", kind="ivf")
    assert kind() == "ivf"
    with pytest.raises(StoreError, match="there is no kind 'tree'; use one of flat, hnsw, ivf"):
        push_index(index, "memory:here", kind="tree")


def test_a_header_tells_the_largest_doubt_before_the_photo_is_there(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(60, 1)])
    push_index(index, "memory:here")
    space = index.space()
    largest = max(float(space.doubt(index.codes(row))) for row in range(60))
    assert Header.of_bytes(MemoryStore.headers[HERE], "").doubt == largest > 0


def test_progress_is_told_of_each_stage(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(40, 1)])
    seen: list[tuple[str, int, int]] = []
    push_index(index, "memory:here", progress=lambda *one: seen.append(one))
    assert [one for one in seen if one[0] == "sent"] == [("sent", 16, 40), ("sent", 32, 40), ("sent", 40, 40)]
    assert seen[-1][0] == "settling"


def test_headers_survive_being_written_and_read(tmp_path: Path) -> None:
    index = put(tmp_path / "index", [placed(20, 1)])
    header = header_of(index, DEFAULT, "ivf")
    read = Header.of_bytes(header.to_bytes(), "memory:here")
    read.check_same(header, "memory:here")
    assert read.to_bytes() == header.to_bytes()
    assert (read.index, read.kind, read.decoder, read.pending) == ("index", "ivf", "nothing: made up", ())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("version", 3, "written by a newer cbir"),
        ("version", "1", "damaged"),
        ("descriptor", "nonsense", "damaged"),
        ("lab", "AAAA", "damaged"),
        ("lab", "", "damaged"),
        ("reference", "!!", "damaged"),
        ("metric", "nonsense", "damaged"),
        ("kind", "tree", "damaged"),
        ("doubt", float("nan"), "damaged"),
        ("doubt", -1, "damaged"),
        ("doubt", "0", None),
        ("photos", -1, "damaged"),
        ("photos", 1.5, "damaged"),
        ("pending", "no list", "damaged"),
        ("pending", [1], "damaged"),
        ("format", None, "not made by cbir"),
    ],
)
def test_damaged_headers_are_refused_in_a_line(tmp_path: Path, name: str, value: object, told: str | None) -> None:
    index = put(tmp_path / "index", [placed(20, 1)])
    good = json.loads(header_of(index, DEFAULT, "flat").to_bytes())
    data = json.dumps({**good, name: value}).encode()
    if told is None:
        Header.of_bytes(data, "memory:here")
        return
    with pytest.raises(StoreError, match=told) as refused:
        Header.of_bytes(data, "memory:here")
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("memory:here: ")


@given(st.binary(max_size=200))
def test_headers_of_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StoreError):
        Header.of_bytes(data, "memory:here")


@given(st.binary(min_size=1, max_size=50).filter(lambda name: b"\0" not in name))
def test_any_path_survives_as_text_that_all_engines_take(name: bytes) -> None:
    path = os.fsdecode(b"/" + name)
    text = text_of_path(path)
    assert path_of_text(text.encode().decode()) == path


def test_marks_tell_apart_what_differs_in_anything() -> None:
    codes = np.arange(8, dtype=np.uint8)
    marks = [mark_of(1, 2, codes), mark_of(12, 0, codes), mark_of(1, 20, codes), mark_of(1, 2, codes[::-1].copy())]
    assert len(set(marks)) == 4
    assert mark_of(1, 2, codes.copy()) == marks[0]
    assert all(-(2**63) <= mark < 2**63 for mark in marks)


@pytest.mark.parametrize("target", ["photos", "http://db/photos", "", "#", "indexes/photos", "user:secret@host"])
def test_what_is_no_address_is_refused_without_repeating_it(target: str) -> None:
    with pytest.raises(StoreError, match="no address of a store") as refused:
        parse_address(target)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "target",
    [
        "postgresql://me:pa#ss@db/photos",
        "postgresql://[::1/db",
        "milvus://me:a#b@h#x",
        "postgresql://me:pa/ss@db/x",
        "milvus://me:pa?ss@db",
    ],
)
def test_addresses_that_would_show_a_part_of_a_password_are_refused_without_it(target: str) -> None:
    with pytest.raises(StoreError) as refused:
        parse_address(target)
    assert not {"pa", "ss@db", "b@h", "pa/ss@db/x", "pa?ss@db"} & set(str(refused.value).replace(":", " ").split())


@pytest.mark.parametrize("name", ["A", "a-b", "1", "x" * 42, 'a"; drop table', "ä"])
def test_names_that_engines_would_have_to_quote_are_refused(name: str) -> None:
    with pytest.raises(StoreError, match="a collection's name"):
        parse_address(f"postgresql://me:secret@db/photos#{name}")


def test_an_address_is_shown_without_its_password() -> None:
    address = parse_address("postgresql://me:s%20ecret@db:1/photos?password=other&x=1&oauth_client_secret=third#mine")
    assert address.shown == "postgresql://me@db:1/photos?password=***&x=1&oauth_client_secret=***#mine"
    assert set(address.secrets) == {"s%20ecret", "s ecret", "other", "third"}
    said = store.without_secrets("no\nlogin with s ecret, other", address)
    assert said == "no login with ***, ***"
