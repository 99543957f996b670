"""`cbir push`, and `cbir search --store`, as a user runs them; the store is in this process's memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
from conftest import PHOTOS, Run, one_command
from memory_store import MemoryStore, memory  # noqa: F401
from pictures import make_photo, photo_pixels
from PIL import Image

from cbir import stored_asking
from cbir.cli import seeing
from cbir.index import Index
from cbir.parallel import cores
from cbir.push import push_index


@pytest.fixture
def pushed(run: Run, photos: Path, in_process: None) -> None:
    assert run("index", photos).exit_code == 0
    assert run("push", "photos", "memory:here").exit_code == 0


def test_a_push_tells_what_it_did(run: Run, pushed: None) -> None:
    again = run("push", "photos", "memory:here")
    assert again.stdout.startswith("memory:here: 10 photos, 0 sent, 0 deleted (")


def test_a_search_of_a_store_prints_what_a_search_of_the_folder_does(run: Run, pushed: None) -> None:
    for options in (["-n", "4"], ["--offset", "2", "--format", "jsonl"], ["--within", "1", "--format", "csv"]):
        stored = run("search", "photos/things/brick.jpg", *options, "--store", "memory:here", "--exact")
        assert stored.exit_code == 0
        assert stored.stdout == run("search", "photos/things/brick.jpg", *options).stdout
        assert stored.stderr.startswith("cbir: exact, proven: ")


def test_json_tells_the_store_and_its_metric(run: Run, pushed: None) -> None:
    value = json.loads(run("search", "photos/things/plum.png", "--store", "memory:here", "--format", "json").stdout)
    assert (value["index"], value["metric"], len(value["hits"])) == ("memory:here", "cbir", 10)


def test_it_is_said_when_hits_are_not_proven_and_what_to_do(run: Run, pushed: None) -> None:
    MemoryStore.misses = 1
    guess = run("search", "photos/things/plum.png", "--store", "memory:here", "-n", "2")
    assert guess.stderr == (
        "cbir: not proven exact: 9 of 10 photos compared, as hnsw told them; --exact has the store compare all\n"
    )


def test_many_queries_are_each_told_and_what_cannot_be_read_is_listed(run: Run, pushed: None, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    words = ["search", "photos/things/plum.png", "broken.jpg", "photos/nature/sea.jpg", "--store", "memory:here"]
    found = run(*words, "--exact")
    assert found.exit_code == 0
    assert "photos/things/plum.png: exact, proven" in found.stderr
    assert "skipped broken.jpg: not a picture" in found.stderr
    assert run(*words, "--strict").exit_code == 3
    assert run("search", "broken.jpg", "--store", "memory:here").exit_code == 1


def test_a_query_that_is_nowhere_is_said_before_any_work(run: Run, pushed: None) -> None:
    missing = run("search", "photos/things/plum.png", "none.jpg", "--store", "memory:here")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr == "cbir: none.jpg: no such file, nor a photo in memory:here\n"


def test_hits_of_a_store_are_shown_and_copied_too(
    run: Run, pushed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["search", "photos/things/plum.png", "--store", "memory:here", "-n", "3"]
    shown = run(*words, "--html", "hits.html", "--montage", "hits.png", "--copy-to", "copies")
    assert shown.exit_code == 0, shown.stderr
    assert "plum.png" in (tmp_path / "hits.html").read_text()
    assert len(os.listdir(tmp_path / "copies")) == 3
    assert (tmp_path / "hits.png").stat().st_size > 0
    assert run(*words, "--link-to", "links").exit_code == 0
    assert all(link.is_symlink() for link in (tmp_path / "links").iterdir()) and len(os.listdir("links")) == 3
    # What is there is overwritten only if that is asked for.
    assert run(*words, "--html", "hits.html").exit_code == 1
    assert run(*words, "--html", "hits.html", "--force").exit_code == 0
    opened: list[str] = []
    captions: list[str] = []
    monkeypatch.setattr(seeing, "open_hits", opened.extend)
    monkeypatch.setattr(seeing, "check_preview", lambda _: None)
    monkeypatch.setattr(seeing, "preview", lambda pictures, _: captions.extend(caption for caption, _ in pictures))
    assert run(*words, "--open", "--preview").exit_code == 0
    assert len(opened) == len(captions) == 3 and "plum.png" in opened[0]


def test_a_page_of_explained_hits_is_that_of_the_folder(run: Run, pushed: None, tmp_path: Path) -> None:
    words = ["search", "photos/things/plum.png", "-n", "3", "--explain", "--html"]
    assert run(*words, "stored.html", "--store", "memory:here").exit_code == 0
    assert run(*words, "folder.html").exit_code == 0
    assert "<svg" in (tmp_path / "stored.html").read_text()
    assert (tmp_path / "stored.html").read_text() == (tmp_path / "folder.html").read_text()


@pytest.mark.parametrize(("words", "most"), [(["-j", "1"], 1), (["--jobs", "2"], 2), ([], None)])
def test_many_pictures_are_described_by_as_many_threads_as_are_asked_for(
    run: Run, pushed: None, photos: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], most: int | None
) -> None:
    queries = [make_photo(photos.parent / f"asked{number}.png", number) for number in range(4)]
    real, lock, at_once = stored_asking.describe_file, Lock(), [0, 0]
    # With two threads two pictures are on their way at once, or this would end as a failure.
    both = Barrier(2, timeout=20)

    def describe(*arguments: Any) -> Any:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        if most == 2:
            both.wait()
        described = real(*arguments)
        with lock:
            at_once[0] -= 1
        return described

    monkeypatch.setattr(stored_asking, "describe_file", describe)
    found = run("search", *queries, "--store", "memory:here", "--exact", "--format", "csv", *words)
    assert found.exit_code == 0, found.stderr
    assert at_once[0] == 0 and 1 <= at_once[1] <= (most or cores())
    assert found.stdout == run("search", *queries, "--format", "csv").stdout


@pytest.mark.parametrize("option", ["--exact", "--effort"])
def test_the_examples_of_options_for_stores_work(run: Run, photos: Path, in_process: None, option: str) -> None:
    pytest.importorskip("faiss")
    run("index", photos)
    assert run("push", "photos", "faiss:stores/photos").exit_code == 0
    (help,) = (one.help for one in one_command().commands["search"].params if option in one.opts)
    words = help.partition("Example: ")[2].split()
    assert option in words
    found = run("search", "photos/things/plum.png", *words)
    assert (found.exit_code, len(found.stdout.splitlines())) == (0, 11), found.stderr


@pytest.mark.parametrize("option", ["--below", "--replace"])
def test_the_examples_of_pushing_parts_work(run: Run, photos: Path, in_process: None, option: str) -> None:
    pytest.importorskip("faiss")
    (help,) = (one.help for one in one_command().commands["push"].params if option in one.opts)
    words = help.partition("Example: cbir ")[2].split()
    (photos / "nature").rename(photos / "2024")
    number = len(list((photos / "2024").iterdir()))
    run("index", photos / "things", "--index", "things")
    run("index", photos / "2024", "--index", "photos", "--palette", "things")
    assert run("push", "things", words[2]).exit_code == 0
    refused = run("push", "photos", words[2])
    assert refused.exit_code == 1 and "is of the index things, not photos; with --below FOLDER" in refused.stderr
    pushed = run(*words)
    assert f"{number} sent, {0 if option == '--below' else 5} deleted" in pushed.stdout
    nothing = run("push", "photos", words[2], "--below", "")
    assert nothing.exit_code == 2 and "names no folder" in nothing.stderr


@pytest.mark.parametrize("options", [["--exact"], ["--effort", "5"]])
def test_what_only_a_store_can_be_asked_is_bad_usage_without(run: Run, pushed: None, options: list[str]) -> None:
    refused = run("search", "photos/things/plum.png", *options)
    assert refused.exit_code == 2
    assert "goes with --store" in refused.stderr


def test_a_metric_is_refused_by_name_if_it_is_not_the_stores(run: Run, pushed: None) -> None:
    words = ["search", "photos/things/plum.png", "--store", "memory:here", "--metric"]
    assert run(*words, "cbir").exit_code == 0
    refused = run(*words, "qbic")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("cbir: memory:here: is of the metric cbir, not qbic; ")


# With a store every option does what it does with a folder and has an effect, as these words do, ...
WORKS: dict[str, list[str]] = {
    "query": ["photos/things/lemon.jpg", "photos/nature/sea.jpg"],
    "like": ["--like", "photos/things/lemon.jpg*2", "--like", "photos/nature/sky.png"],
    "unlike": ["--unlike", "photos/nature/sky.png"],
    "region": ["--region", "0,0,20,20"],
    "ignore_background": ["--ignore-background"],
    "weight": ["--weight", "like=2"],
    "limit": ["-n", "3"],
    "offset": ["--offset", "2"],
    "within": ["--within", "1.2"],
    "below": ["--below", "photos/nature"],
    "exclude": ["--exclude", "photos/nature"],
    "since": ["--since", "2010-01-01"],
    "until": ["--until", "2010-01-01"],
    "not_itself": ["--not-itself"],
    "format": ["--format", "csv"],
    "explain": ["--explain"],
    "rerank": ["--rerank"],
}
# ... or is refused, ...
REFUSED: dict[str, list[str]] = {
    "color": ["--color", "teal:60"],
    "colors_of": ["--palette", "colors.txt"],
    "accent": ["--accent", "red"],
    "without": ["--without", "red"],
    "tone": ["--tone", "dark"],
    "paint": ["--paint", "photos/things/brick.jpg"],
    "verify": ["--verify"],
    "stats": ["--stats"],
    "axes": ["--axes", "4"],
    "distinct": ["--distinct", "0.3"],
    "index": ["--index", "photos"],
}
# ... or has tests of its own.
TOLD_ELSEWHERE: dict[str, Callable[..., None]] = {
    "metric": test_a_metric_is_refused_by_name_if_it_is_not_the_stores,
    "store": test_a_search_of_a_store_prints_what_a_search_of_the_folder_does,
    "exact": test_a_search_of_a_store_prints_what_a_search_of_the_folder_does,
    "effort": test_the_examples_of_options_for_stores_work,
    "strict": test_many_queries_are_each_told_and_what_cannot_be_read_is_listed,
    "jobs": test_many_pictures_are_described_by_as_many_threads_as_are_asked_for,
    **dict.fromkeys(
        ("html", "montage", "preview", "open_", "copy_to", "link_to", "force"),
        test_hits_of_a_store_are_shown_and_copied_too,
    ),
}
OPTIONS = {one.name: one for one in one_command().commands["search"].params}
QUERY = "photos/things/plum.png"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index of ten photos, one of which is old, and one of which has a plain background."""
    folder = tmp_path_factory.mktemp("indexed")
    for name, color in PHOTOS.items():
        make_photo(folder / "photos" / name, color)
    pixels = np.full((48, 64, 3), 255, np.uint8)
    pixels[12:36, 16:48] = photo_pixels("#6b2f6e", (32, 24))
    Image.fromarray(pixels).save(folder / QUERY)
    os.utime(folder / "photos" / "nature" / "sea.jpg", (946_684_800,) * 2)
    Index.create(folder / "indexes" / "photos", [folder / "photos"], jobs=1)
    return folder


@pytest.fixture
def old_and_new(run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, and a store of it."""
    monkeypatch.chdir(indexed)
    push_index(Index.open("indexes/photos"), "memory:here")


def test_of_every_option_it_is_decided_what_it_does_with_a_store() -> None:
    decided = [*WORKS, *REFUSED, *TOLD_ELSEWHERE]
    assert sorted(decided) == sorted(OPTIONS)


@pytest.mark.parametrize("option", WORKS)
def test_an_option_does_with_a_store_what_it_does_with_a_folder(run: Run, old_and_new: None, option: str) -> None:
    format = [] if option == "format" else ["--format", "json"]
    plain = run("search", QUERY, *format)
    folder = run("search", QUERY, *format, *WORKS[option])
    stored = run("search", QUERY, *format, *WORKS[option], "--store", "memory:here", "--exact")
    assert stored.exit_code == 0, stored.stderr
    assert stored.stdout.replace("memory:here", "indexes/photos") == folder.stdout
    assert folder.stdout != plain.stdout and "exact, proven" in stored.stderr


@pytest.mark.parametrize("option", REFUSED)
def test_what_a_store_cannot_be_asked_is_bad_usage(run: Run, option: str, tmp_path: Path) -> None:
    (tmp_path / "colors.txt").write_text("#a83a2c\n#f0d83a\n")
    refused = run("search", QUERY, "--store", "memory:here", *REFUSED[option])
    assert (refused.exit_code, refused.stdout) == (2, "")
    said = "goes without --index" if option == "index" else "goes with an index in a folder, not with --store"
    assert said in refused.stderr and refused.stderr.count("\n") == 1
    assert OPTIONS[option].opts[0] in refused.stderr


def test_colours_of_a_whole_picture_are_asked_of_a_store_of_whole_photos(run: Run, old_and_new: None) -> None:
    words = ["search", "--color", "#6b2f6e:70", "--color", "white:30", "--format", "json"]
    refused = run(*words, "--store", "memory:here")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "memory:here: is of the metric cbir, not laplacian" in refused.stderr
    assert run("push", "photos", "memory:here#whole", "--metric", "qbic").exit_code == 0
    stored = run(*words, "--store", "memory:here#whole", "--exact")
    assert stored.exit_code == 0, stored.stderr
    wanted = run(*words, "--metric", "qbic").stdout
    assert stored.stdout.replace("memory:here#whole", "indexes/photos") == wanted
    assert [one["share"] > 0 for one in json.loads(wanted)["hits"][0]["asked"]] == [True, True]


def test_a_picture_that_all_queries_ask_with_and_cannot_be_read_ends_the_search(
    run: Run, pushed: None, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    for queries in (["photos/things/plum.png"], ["photos/things/plum.png", "photos/nature/sea.jpg"]):
        failed = run("search", *queries, "--like", "broken.jpg", "--store", "memory:here")
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert failed.stderr.startswith("cbir: broken.jpg: not a picture") and failed.stderr.count("\n") == 1


def test_the_store_of_the_environment_is_searched_unless_an_index_is_named(run: Run, pushed: None) -> None:
    words = ["search", "photos/things/plum.png", "--format", "json"]
    assert json.loads(run(*words, CBIR_STORE="memory:here").stdout)["index"] == "memory:here"
    assert json.loads(run(*words, "--index", "photos", CBIR_STORE="memory:here").stdout)["index"] == "indexes/photos"


def test_it_is_said_that_the_store_comes_from_the_environment(run: Run, pushed: None) -> None:
    refused = run("search", "photos/things/plum.png", "--verify", CBIR_STORE="memory:here")
    assert refused.exit_code == 2
    assert "(CBIR_STORE is set; name an index with --index)" in refused.stderr


def test_an_interrupted_push_is_told_when_it_is_searched(run: Run, pushed: None, photos: Path) -> None:
    MemoryStore.fails_after = 0
    for path in (photos / "things").iterdir():
        os.utime(path, ns=(0, 0))
    run("index", photos, "--rebuild")
    assert run("push", "photos", "memory:here").exit_code == 1
    found = run("search", "photos/things/plum.png", "--store", "memory:here")
    assert (
        "a push is under way or was interrupted, so photos may be missing; cbir push goes on from there" in found.stderr
    )


def test_ctrl_c_says_that_what_was_sent_is_there(run: Run, pushed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MemoryStore, "settle", interrupt)
    stopped = run("push", "photos", "memory:here")
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert (
        stopped.stderr == "cbir: interrupted; what was sent is in the store, and the same command goes on from there\n"
    )


def test_photos_are_found_by_when_they_were_changed_in_a_folder_and_in_a_store(
    run: Run, photos: Path, in_process: None
) -> None:
    for number, path in enumerate(sorted((photos / "nature").iterdir())):
        os.utime(path, (1_700_000_000 + 86_400 * number,) * 2)
    run("index", photos)
    run("push", "photos", "memory:here")
    words = ["search", "photos/things/plum.png", "--format", "paths", "--since", "2023-11-16T00:00:00", "--until",
             "2024-01-01"]  # fmt: skip
    found = run(*words)
    assert 2 <= len(found.stdout.splitlines()) <= 4
    assert all("nature" in line for line in found.stdout.splitlines())
    assert run(*words, "--store", "memory:here", "--exact").stdout == found.stdout
