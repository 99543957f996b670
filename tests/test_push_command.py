"""`cbir push`, and `cbir search --store`, as a user runs them; the store is in this process's memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, one_command
from memory_store import MemoryStore

from cbir import store


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(store, "_OPENERS", dict(store._OPENERS))
    store.register("memory", MemoryStore)
    monkeypatch.delenv("CBIR_STORE", raising=False)
    MemoryStore.clear()
    yield
    MemoryStore.clear()


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


def test_hits_of_a_store_are_shown_and_copied_too(run: Run, pushed: None, tmp_path: Path) -> None:
    words = ["search", "photos/things/plum.png", "--store", "memory:here", "-n", "3"]
    shown = run(*words, "--html", "hits.html", "--montage", "hits.png", "--copy-to", "copies")
    assert shown.exit_code == 0, shown.stderr
    assert "plum.png" in (tmp_path / "hits.html").read_text()
    assert len(os.listdir(tmp_path / "copies")) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--color", "red"], "is asked with pictures alone"),
        (["--rerank"], "goes with an index in a folder, not with --store"),
        (["--verify"], "goes with an index in a folder, not with --store"),
        (["--stats"], "goes with an index in a folder, not with --store"),
        (["--axes", "4"], "goes with an index in a folder, not with --store"),
        (["--distinct", "0.3"], "goes with an index in a folder, not with --store"),
        (["--explain"], "goes with an index in a folder, not with --store"),
        (["--index", "photos"], "goes without --index"),
        (["--since", "yesterday"], "does not match the formats"),
    ],
)
def test_what_a_store_cannot_be_asked_is_bad_usage(run: Run, pushed: None, options: list[str], said: str) -> None:
    refused = run("search", "photos/things/plum.png", "--store", "memory:here", *options)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


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


@pytest.mark.parametrize("options", [["--exact"], ["--effort", "5"]])
def test_what_only_a_store_can_be_asked_is_bad_usage_without(run: Run, pushed: None, options: list[str]) -> None:
    refused = run("search", "photos/things/plum.png", *options)
    assert refused.exit_code == 2
    assert "goes with --store" in refused.stderr


def test_the_store_of_the_environment_is_searched_unless_an_index_is_named(run: Run, pushed: None) -> None:
    words = ["search", "photos/things/plum.png", "--format", "json"]
    assert json.loads(run(*words, CBIR_STORE="memory:here").stdout)["index"] == "memory:here"
    assert json.loads(run(*words, "--index", "photos", CBIR_STORE="memory:here").stdout)["index"] == "indexes/photos"


def test_it_is_said_that_the_store_comes_from_the_environment(run: Run, pushed: None) -> None:
    refused = run("search", "photos/things/plum.png", "--rerank", CBIR_STORE="memory:here")
    assert refused.exit_code == 2
    assert "(CBIR_STORE is set; name an index with --index)" in refused.stderr


def test_a_metric_is_refused_by_name_if_it_is_not_the_stores(run: Run, pushed: None) -> None:
    refused = run("search", "photos/things/plum.png", "--store", "memory:here", "--metric", "qbic")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("cbir: memory:here: is of the metric cbir, not qbic; ")


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
