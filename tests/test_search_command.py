"""`cbir search` as its users run it: which photos are told, of one query or many, and whether that can be relied on."""

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PHOTOS, Command, Run
from pictures import make_photo
from PIL import Image
from test_cli import CONTROL, failed, listing, succeeded
from typer.testing import Result

import cbir
from cbir.axes_file import load_axes, save_axes
from cbir.cli import searching
from cbir.cli.show import size
from cbir.index import Index
from cbir.search import Stage

TOMATO, SEA, LEMON = "photos/things/tomato.png", "photos/nature/sea.jpg", "photos/things/lemon.jpg"
# Of the tomato, byte for byte, and twice as large, which is at a distance of 0.13 from it. All others are beyond 0.3.
COPIES = ["photos/copies/tomato.png", "photos/copies/larger.png"]
ALL = {f"photos/{name}" for name in PHOTOS} | set(COPIES)


@pytest.fixture(scope="module", params=["without axes", "with axes"])
def folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder with photos and their index, both with axes and without; tests do not change it."""
    folder = tmp_path_factory.mktemp("search")
    for name, color in PHOTOS.items():
        make_photo(folder / "photos" / name, color)
    make_copies(folder)
    index = Index.create(folder / "indexes" / "photos", [folder / "photos"], colors=16, jobs=1)
    if request.param == "with axes":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cbir.prepare.FEWEST", 1)
            index.prepare()
    make_photo(folder / "elsewhere.png", "#2060a8", (200, 150))
    shutil.copy(folder / TOMATO, folder / "tomato.png")
    (folder / "notes.jpg").write_text("Buy milk.")
    (folder / "empty.jpg").touch()
    return folder


@pytest.fixture
def place(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, which `run` runs in."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def axes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of however few photos axes are made."""
    monkeypatch.setattr("cbir.prepare.FEWEST", 1)


def make_copies(folder: Path) -> None:
    identical, larger = (folder / name for name in COPIES)
    identical.parent.mkdir()
    shutil.copy(folder / TOMATO, identical)
    with Image.open(folder / TOMATO) as image:
        image.resize((128, 96)).save(larger)


def hits_of(run: Run, *words: object) -> list[dict[str, Any]]:
    hits = json.loads(succeeded(run("search", *words, "--format", "json")).stdout)["hits"]
    assert isinstance(hits, list)
    return hits


def paths_of(run: Run, *words: object) -> list[str]:
    return [hit["path"] for hit in hits_of(run, *words)]


def axes_files(folder: Path) -> list[Path]:
    return sorted((folder / "indexes" / "photos").glob("axes-*"))


# --- which photos are told


def test_pages_put_together_are_the_whole(place: Path, run: Run) -> None:
    whole = hits_of(run, TOMATO, "-n", 100)
    assert len(whole) == len(ALL)
    pages = [hits_of(run, TOMATO, "-n", 5, "--offset", offset) for offset in (0, 5, 10, 15)]
    assert list(map(len, pages)) == [5, 5, 2, 0]
    assert [hit for page in pages for hit in page] == whole
    assert [hit["rank"] for hit in whole] == list(range(1, len(ALL) + 1))


def test_however_many_are_asked_for_all_are_told_once(place: Path, run: Run) -> None:
    for number in (len(ALL), 10**30):
        assert sorted(paths_of(run, "elsewhere.png", "-n", number)) == sorted(ALL)


def test_within_a_distance_are_exactly_those_that_are_no_further(place: Path, run: Run) -> None:
    whole = hits_of(run, TOMATO, "-n", 100)
    for bound in [0, 0.3, whole[4]["distance"], whole[-1]["distance"], 1e300]:
        near = [hit for hit in whole if hit["distance"] <= bound]
        assert hits_of(run, TOMATO, "-n", 100, "--within", repr(bound)) == near
    assert paths_of(run, TOMATO, "--within", 0) == [TOMATO, COPIES[0]]


def test_where_nothing_is_near_enough_there_are_no_hits_and_that_is_no_error(place: Path, run: Run) -> None:
    assert succeeded(run("search", "elsewhere.png", "--within", 0)).stdout == "rank  distance  colours and path\n"
    assert hits_of(run, "elsewhere.png", "--within", 0) == []
    assert succeeded(run("search", "elsewhere.png", "--within", 0, "--format", "paths")).stdout == ""


NATURE, THINGS = "photos/nature/", "photos/things/"
# Options, with how the paths begin of photos that are left, and of those that are not.
FOLDERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "--below photos/nature": ((NATURE,), ()),
    "--below photos/nature/": ((NATURE,), ()),
    "--below photos/nature --below photos/copies": (("",), (THINGS,)),
    "--below ./photos/nature/../copies": ((*COPIES,), ()),
    f"--below {SEA}": ((SEA,), ()),
    "--exclude photos/things": (("",), (THINGS,)),
    f"--exclude {SEA} --exclude {LEMON}": (("",), (SEA, LEMON)),
    f"--below photos/nature --exclude {SEA}": ((NATURE,), (SEA,)),
    "--exclude photos": ((), ()),
}


@pytest.mark.parametrize("options", FOLDERS)
def test_only_some_folders_are_searched(place: Path, run: Run, options: str) -> None:
    left, out = FOLDERS[options]
    whole = [(hit["path"], hit["distance"]) for hit in hits_of(run, TOMATO, "-n", 100)]
    some = [(hit["path"], hit["distance"]) for hit in hits_of(run, TOMATO, "-n", 100, *options.split())]
    assert some == [one for one in whole if one[0].startswith(left) and not one[0].startswith(out)]


@pytest.mark.parametrize("option", ["--below", "--exclude"])
@pytest.mark.parametrize("where", ["missing", "indexes", "photos/natur"])
def test_a_folder_without_photos_of_the_index_is_named(place: Path, run: Run, option: str, where: str) -> None:
    assert failed(run("search", TOMATO, option, where), 1).startswith(f"cbir: {where}: no photo of indexes/photos")


@pytest.mark.parametrize("query", [TOMATO, f"./{TOMATO}", "things/tomato.png"])
def test_the_query_can_be_left_out_and_its_copies_stay(place: Path, run: Run, query: str) -> None:
    first, *others = paths_of(run, query, "-n", 100)
    assert first == TOMATO
    assert paths_of(run, query, "-n", 100, "--not-itself") == others
    assert paths_of(run, query, "-n", 2, "--not-itself") == others[:2]
    assert others[0] == COPIES[0]


def test_a_file_that_is_no_photo_of_the_index_leaves_none_out(place: Path, run: Run) -> None:
    for query in ("elsewhere.png", "./tomato.png"):
        assert hits_of(run, query, "-n", 100, "--not-itself") == hits_of(run, query, "-n", 100)


def test_copies_are_put_together_under_the_nearest(place: Path, run: Run) -> None:
    whole = paths_of(run, TOMATO, "-n", 100)
    first, *others = hits_of(run, TOMATO, "-n", 100, "--distinct", 0.3)
    assert (first["path"], first["alike"]) == (TOMATO, COPIES)
    assert all(hit["alike"] == [] for hit in others)
    assert [hit["path"] for hit in (first, *others)] == [path for path in whole if path not in COPIES]
    assert [hit["rank"] for hit in (first, *others)] == list(range(1, len(PHOTOS) + 1))
    assert hits_of(run, TOMATO, "-n", 1, "--distinct", 0)[0]["alike"] == COPIES[:1]


def test_putting_together_fills_the_page_up(place: Path, run: Run) -> None:
    assert len(hits_of(run, TOMATO, "-n", 4, "--distinct", 0.3)) == 4
    pages = [hits_of(run, TOMATO, "-n", 4, "--distinct", 0.3, "--offset", offset) for offset in (0, 4, 8)]
    assert [hit for page in pages for hit in page] == hits_of(run, TOMATO, "-n", 100, "--distinct", 0.3)


def test_how_many_are_put_together_a_table_tells_after_the_path(place: Path, run: Run) -> None:
    _, first, second = succeeded(run("search", TOMATO, "-n", 2, "--distinct", 0.3)).stdout.splitlines()
    assert first.endswith(f"  {TOMATO} (+2 alike)")
    assert second.endswith("  photos/things/brick.jpg")


def test_of_photos_put_together_paths_and_csv_tell_the_first_as_they_tell_any_hit(place: Path, run: Run) -> None:
    words = ["search", TOMATO, "-n", 2, "--distinct", 0.3, "--format"]
    assert succeeded(run(*words, "paths")).stdout == f"{TOMATO}\nphotos/things/brick.jpg\n"
    assert succeeded(run(*words, "csv")).stdout.splitlines()[:2] == ["rank,path,distance", f"1,{TOMATO},0.0"]


def test_bounds_go_together(place: Path, run: Run) -> None:
    whole = hits_of(run, TOMATO, "-n", 100)
    words = ["--below", "photos/things", "--below", "photos/copies", "--not-itself", "--within", 1, "--offset", 1]
    found = hits_of(run, TOMATO, *words)
    assert [(hit["rank"], hit["path"]) for hit in found] == [(2, COPIES[1]), (3, "photos/things/brick.jpg")]
    assert {hit["distance"] for hit in found} < {hit["distance"] for hit in whole}


@pytest.mark.parametrize(
    "words",
    [
        "--within -1",
        "--within nan",
        "--within inf",
        "--within near",
        "--distinct -0.1",
        "--distinct nan",
        "--distinct inf",
        "--offset -1",
        "--offset 1.5",
        "--axes 0",
        "--axes 33",
        "-j 0",
        "--verify --rerank",
        f"--stats {SEA}",
    ],
)
def test_a_value_out_of_range_is_said_in_one_line_with_its_option(place: Path, run: Run, words: str) -> None:
    line = failed(run("search", TOMATO, *words.split()), 2)
    assert words.split()[0] in line
    assert "--help" in line


# --- many queries

QUERIES = [TOMATO, "elsewhere.png", "nature/sea.jpg", TOMATO]


@pytest.fixture(params=[1000, 3, 1], ids=lambda number: f"{number} together")
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are answered at a time."""
    monkeypatch.setattr(searching, "_TOGETHER", request.param)


def each_alone(run: Run, *words: object) -> list[str]:
    return [succeeded(run("search", query, *words)).stdout for query in QUERIES]


@pytest.mark.usefixtures("together")
def test_tables_of_many_stand_below_their_queries(place: Path, run: Run) -> None:
    tables = [f"{query}\n{table}" for query, table in zip(QUERIES, each_alone(run), strict=True)]
    assert succeeded(run("search", *QUERIES)).stdout == "\n".join(tables)


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("options", [[], ["--distinct", 0.3, "--not-itself"], ["--rerank"], ["-j", 1]])
def test_json_of_many_is_the_list_of_what_there_is_of_each(place: Path, run: Run, options: list[object]) -> None:
    alone = [json.loads(text) for text in each_alone(run, "--format", "json", *options)]
    assert json.loads(succeeded(run("search", *QUERIES, "--format", "json", *options)).stdout) == alone


def test_jsonl_of_many_tells_the_query_in_each_line(place: Path, run: Run) -> None:
    alone = [
        {"query": query} | json.loads(line)
        for query, text in zip(QUERIES, each_alone(run, "--format", "jsonl"), strict=True)
        for line in text.splitlines()
    ]
    lines = succeeded(run("search", *QUERIES, "--format", "jsonl")).stdout.splitlines()
    assert [json.loads(line) for line in lines] == alone


@pytest.mark.usefixtures("together")
def test_csv_of_many_has_one_heading_and_the_query_first(place: Path, run: Run) -> None:
    heading, *rows = csv.reader(io.StringIO(succeeded(run("search", *QUERIES, "--format", "csv")).stdout, newline=""))
    assert heading == ["query", "rank", "path", "distance"]
    alone = each_alone(run, "--format", "csv")
    assert rows == [
        [query, *row] for query, text in zip(QUERIES, alone, strict=True) for row in csv.reader(text.splitlines()[1:])
    ]


@pytest.mark.parametrize("format", ["paths", "paths0"])
def test_paths_of_many_are_all_hits_one_after_the_other(place: Path, run: Run, format: str) -> None:
    alone = each_alone(run, "-n", 2, "--format", format)
    assert succeeded(run("search", *QUERIES, "-n", 2, "--format", format)).stdout == "".join(alone)


SKIPPED = [
    "cbir: skipped notes.jpg: not a picture, or of a format that cannot be read",
    "cbir: skipped empty.jpg: the file is empty",
    "cbir: skipped notes.jpg: not a picture, or of a format that cannot be read",
]
PARTLY_READ = ["notes.jpg", TOMATO, "empty.jpg", "elsewhere.png", "notes.jpg"]


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 3)])
def test_queries_that_cannot_be_read_are_listed_and_the_others_answered(
    place: Path, run: Run, options: list[str], code: int
) -> None:
    result = run("search", *PARTLY_READ, "--format", "json", *options)
    assert (result.exit_code, result.stderr.splitlines()) == (code, SKIPPED)
    assert json.loads(result.stdout) == json.loads(
        succeeded(run("search", TOMATO, "elsewhere.png", "--format", "json")).stdout
    )


def test_strict_is_no_error_where_all_queries_were_read(place: Path, run: Run) -> None:
    assert succeeded(run("search", *QUERIES, "--strict")).stdout == succeeded(run("search", *QUERIES)).stdout


@pytest.mark.parametrize("format", ["table", "json", "jsonl", "csv", "paths"])
def test_without_a_query_that_can_be_read_the_search_fails_and_prints_nothing(
    place: Path, run: Run, format: str
) -> None:
    for options in ([], ["--strict"]):
        result = run("search", "notes.jpg", "empty.jpg", "--format", format, *options)
        assert (result.exit_code, result.stdout) == (1, "")
        *skipped, last = result.stderr.splitlines()
        assert skipped == SKIPPED[:2]
        assert last == "cbir: none of these 2 queries can be read"


def test_a_single_query_that_cannot_be_read_is_an_error_of_one_line(place: Path, run: Run) -> None:
    assert failed(run("search", "notes.jpg", "--strict"), 1) == SKIPPED[0].replace("skipped ", "")


def test_a_query_that_is_nowhere_is_an_error_before_any_work(
    tmp_path: Path, photos: Path, run: Run, axes_at_once: None
) -> None:
    cbir.build_index("indexes/photos", ["photos"], colors=16, jobs=1)
    before = listing(tmp_path)
    for queries in (["missing.jpg"], [SEA, "missing.jpg"], ["photos/nature", "missing.jpg", SEA]):
        line = failed(run("search", *queries), 1)
        assert line == "cbir: missing.jpg: no such file, nor a photo in indexes/photos"
    assert listing(tmp_path) == before


def test_names_of_any_kind_are_told_of_many_queries_as_of_one(tmp_path: Path, run: Run) -> None:
    names = ["photos/two\nlines.png", 'photos/quo"ted, \x1b[31m.png', "photos/-n.png"]
    for seed, name in enumerate(names):
        make_photo(tmp_path / name, seed)
    cbir.build_index("indexes/photos", ["photos"], colors=8, jobs=1)
    table = succeeded(run("search", *names)).stdout
    assert not CONTROL & set(table)
    assert len(table.splitlines()) == 3 * 5 + 2
    for one, name in zip(json.loads(run("search", *names, "--format", "json").stdout), names, strict=True):
        assert (one["query"], one["hits"][0]["path"]) == (name, name)
    _, *rows = csv.reader(io.StringIO(run("search", *names, "--format", "csv").stdout, newline=""))
    assert [row[0] for row in rows] == [name for name in names for _ in names]
    for name in names:
        assert name not in paths_of(run, names[0], "--exclude", name)
        assert paths_of(run, names[0], "--below", name) == [name]
    verified = run("search", *names, "--verify").stderr
    assert not CONTROL & set(verified) and len(verified.splitlines()) == 3


# --- whether it is right, and what it took


@pytest.mark.parametrize(
    "options",
    [
        "",
        "-n 1",
        "-n 100",
        "--offset 4 -n 3",
        "--within 1",
        "--within 0",
        "--below photos/nature",
        "--exclude photos",
        "--not-itself",
        "--distinct 0.3",
        "--distinct 0.3 --offset 1 --not-itself --within 1.72",
        "--metric qbic",
    ],
)
@pytest.mark.parametrize("query", [TOMATO, "tomato.png", "elsewhere.png"])
def test_hits_are_those_of_the_plain_form_over_everything(place: Path, run: Run, query: str, options: str) -> None:
    plain = run("search", query, *options.split(), "--format", "json")
    result = run("search", query, *options.split(), "--format", "json", "--verify")
    hits = json.loads(result.stdout)["hits"]
    assert (result.exit_code, result.stderr) == (0, f"cbir: exact: {len(hits)} of {len(hits)}\n")
    assert result.stdout == plain.stdout


def test_each_of_many_queries_is_verified(place: Path, run: Run) -> None:
    result = run("search", TOMATO, "notes.jpg", "elsewhere.png", "-n", 3, "--verify")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"cbir: {TOMATO}: exact: 3 of 3",
        "cbir: elsewhere.png: exact: 3 of 3",
        SKIPPED[0],
    ]


@pytest.fixture
def lying(tmp_path: Path, photos: Path, run: Run, axes_at_once: None) -> None:
    """An index of ten photos with axes by which no photo is anywhere near a query."""
    cbir.build_index("indexes/photos", ["photos"], colors=16, jobs=1)
    index = Index.open("indexes/photos")
    index.prepare()
    (path,) = axes_files(tmp_path)
    file = load_axes(path.parent, path.name, index.space().dimensions)
    away = replace(file.axes, lowest=file.axes.lowest + 100, highest=file.axes.highest + 100)
    save_axes(path.parent, path.name.split("-")[1], file.segments, away)
    path.unlink()


@pytest.mark.usefixtures("lying")
def test_hits_that_are_not_exact_are_an_error_of_one_line(run: Run) -> None:
    assert run("search", SEA).exit_code == 0
    result = run("search", SEA, "-n", 5, "--verify")
    assert (result.exit_code, result.stderr) == (1, "cbir: not exact: 0 of 5; run: cbir check --repair\n")
    result = run("search", SEA, LEMON, "-n", 5, "--verify", "--strict")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"cbir: {SEA}: not exact: 0 of 5",
        f"cbir: {LEMON}: not exact: 0 of 5; run: cbir check --repair",
    ]


@pytest.mark.parametrize("wrong", ["order", "distance", "missing", "another"])
def test_whatever_is_wrong_with_a_hit_is_seen(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    real = Index.search

    def search(*arguments: Any, **named: Any) -> list[cbir.Hit]:
        first, second, third, fourth = real(*arguments, **named)
        return {
            "order": [first, second, fourth, third],
            "distance": [first, second, third, replace(fourth, distance=fourth.distance * (1 + 2**-52))],
            "missing": [first, second, third],
            "another": [first, second, third, replace(fourth, path=str(place / LEMON))],
        }[wrong]

    monkeypatch.setattr(Index, "search", search)
    result = run("search", TOMATO, "-n", 4, "--verify")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"cbir: not exact: {2 if wrong == 'order' else 3} of 4; ")


def test_an_index_is_as_large_as_it_says_with_its_axes(
    tmp_path: Path, photos: Path, run: Run, axes_at_once: None
) -> None:
    first = succeeded(run("index", "photos", "-k", 16)).stdout.splitlines()[0]
    assert axes_files(tmp_path)
    files = (tmp_path / "indexes" / "photos").iterdir()
    assert first == f"indexes/photos: 10 photos, {size(sum(file.stat().st_size for file in files))}"


def test_axes_that_cannot_be_read_are_made_anew_and_the_hits_are_exact(
    tmp_path: Path, photos: Path, run: Run, axes_at_once: None
) -> None:
    succeeded(run("index", "photos", "-k", 16))
    before = succeeded(run("search", SEA)).stdout
    (path,) = axes_files(tmp_path)
    for content in (b"", path.read_bytes()[:-1000], b"Buy milk."):
        path.write_bytes(content)
        result = run("search", SEA, "--verify")
        assert (result.exit_code, result.stderr, result.stdout) == (0, "cbir: exact: 10 of 10\n", before)


def stages_of(result: Result) -> list[list[str]]:
    """The rows of the table on standard error, as lists of name, looked at, left, and ms."""
    heading, *lines = result.stderr.splitlines()
    assert heading.split() == ["stage", "looked", "at", "left", "ms"]
    return [line.rsplit(maxsplit=3) for line in lines]


def test_stats_tell_what_each_stage_did_and_do_not_change_the_hits(place: Path, run: Run) -> None:
    result = run("search", TOMATO, "-n", 3, "--stats")
    assert (result.exit_code, result.stdout) == (0, succeeded(run("search", TOMATO, "-n", 3)).stdout)
    *stages, total = stages_of(result)
    assert total[:3] == ["total", str(len(ALL)), "3"]
    assert float(total[3]) == pytest.approx(sum(float(row[3]) for row in stages), abs=0.005 * (len(stages) + 1))
    assert any(row[0] == "compared in full" for row in stages)
    assert any(row[0] == "leaves" for row in stages) == bool(axes_files(place))


def test_the_numbers_of_the_stats_are_those_of_the_stages(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(*_: Any, stages: list[Stage], **named: Any) -> list[cbir.Hit]:
        stages += [Stage("leaves", 1_234_567, 89, 0.001), Stage("24 axes", 11_392, 10, 1.5)]
        return []

    monkeypatch.setattr(Index, "search", search)
    assert run("search", TOMATO, "--stats").stderr.splitlines() == [
        "stage    looked at  left       ms",
        "leaves   1,234,567    89     1.00",
        "24 axes     11,392    10  1500.00",
        "total           12     0  1501.00",
    ]


# --- axes


def test_indexing_makes_the_axes_so_that_a_search_changes_nothing(
    tmp_path: Path, photos: Path, run: Run, axes_at_once: None
) -> None:
    succeeded(run("index", "photos", "-k", 16))
    before = listing(tmp_path)
    assert len(axes_files(tmp_path)) == 1
    succeeded(run("search", SEA))
    assert listing(tmp_path) == before


def test_a_search_by_another_metric_makes_its_axes_and_says_nothing_of_it(
    tmp_path: Path, photos: Path, run: Run, axes_at_once: None
) -> None:
    succeeded(run("index", "photos", "-k", 16))
    succeeded(run("search", SEA, "--metric", "qbic"))
    assert len(axes_files(tmp_path)) == 2
    succeeded(run("search", SEA, LEMON, "--metric", "qbic"))
    assert len(axes_files(tmp_path)) == 2


def test_as_many_axes_lead_as_are_asked_for_until_others_are(
    tmp_path: Path, photos: Path, run: Run, axes_at_once: None
) -> None:
    succeeded(run("index", "photos", "-k", 16))
    hits = succeeded(run("search", SEA)).stdout
    for options, axes in ((["--axes", 5], "5 axes"), ([], "5 axes"), (["--axes", 12], "12 axes")):
        result = run("search", SEA, "--stats", *options)
        assert (result.exit_code, result.stdout) == (0, hits)
        assert axes in [row[0] for row in stages_of(result)]
        assert len(axes_files(tmp_path)) == 1


# --- odd collections and odd times


def test_an_index_without_photos_has_no_hits(tmp_path: Path, photos: Path, run: Run) -> None:
    succeeded(run("index", "photos", "-k", 16))
    for segment in (tmp_path / "indexes" / "photos").glob("segment-*"):
        segment.write_bytes(b"")
    assert run("check", "photos", "--repair").exit_code == 0
    for options in ([], ["--distinct", 0.3], ["--rerank"], ["--offset", 3], ["--not-itself"], ["--axes", 4]):
        result = run("search", SEA, *options, "--format", "json")
        assert (result.exit_code, json.loads(result.stdout)["hits"]) == (0, [])
    assert [one["hits"] for one in json.loads(run("search", SEA, LEMON, "--format", "json").stdout)] == [[], []]
    assert run("search", SEA, "--verify").stderr.endswith("cbir: exact: 0 of 0\n")


def test_a_query_that_has_no_colour_in_common_with_any_photo_finds_them_all(tmp_path: Path, run: Run) -> None:
    for name, color in {"a": (200, 20, 20), "b": (190, 30, 10), "c": (210, 10, 30)}.items():
        make_photo(tmp_path / "reds" / f"{name}.png", color)
    Image.new("RGB", (40, 30), (0, 0, 255)).save(tmp_path / "blue.png")
    succeeded(run("index", "reds", "-k", 8))
    result = run("search", "blue.png", "--format", "json", "--verify")
    assert result.stderr == "cbir: exact: 3 of 3\n"
    hits = json.loads(result.stdout)["hits"]
    assert sorted(hit["path"] for hit in hits) == ["reds/a.png", "reds/b.png", "reds/c.png"]
    assert all(0 < hit["distance"] < 10 for hit in hits)


def told(index: Index, query: Path) -> list[tuple[str, float]]:
    return [(hit.path, hit.distance) for hit in index.search(query)]


def test_an_index_that_is_made_anew_while_it_is_open_is_searched_as_it_was(
    tmp_path: Path, photos: Path, command: Command, axes_at_once: None
) -> None:
    place = tmp_path / "indexes" / "photos"
    before = Index.create(place, [photos], colors=16, jobs=1)
    wanted = told(Index.open(place), photos / "nature" / "sea.jpg")
    for path in axes_files(tmp_path):
        path.unlink()
    make_photo(photos / "new.jpg", "#2060a8")
    assert command("index", "photos", "-k", "8", "--rebuild").returncode == 0
    assert told(before, photos / "nature" / "sea.jpg") == wanted
    after = Index.open(place)
    assert len(told(after, photos / "new.jpg")) == 10
    assert after.verify(photos / "new.jpg", after.search(photos / "new.jpg")) == (10, 10)


# --- pipes and terminals


@pytest.mark.parametrize("format", ["table", "json", "csv", "paths"])
def test_a_pipe_that_is_closed_early_is_no_error_of_many_queries_either(place: Path, format: str) -> None:
    words = [*QUERIES * 20, "--format", format]
    process = subprocess.Popen(
        [sys.executable, "-m", "cbir", "search", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal: where to read what it shows, and where a program writes to it."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_a_bar_on_the_terminal_does_not_get_into_what_goes_to_a_file(place: Path, terminal: tuple[int, int]) -> None:
    words = [sys.executable, "-m", "cbir", "search", *QUERIES, "--verify", "--format", "json"]
    surroundings = os.environ | {"TERM": "xterm"}
    to_file = subprocess.run(words, stdout=subprocess.PIPE, stderr=terminal[1], env=surroundings, check=True).stdout
    assert to_file == subprocess.run(words, capture_output=True, check=True).stdout
    assert len(json.loads(to_file)) == len(QUERIES)
    shown = os.read(terminal[0], 1 << 16).decode()
    assert "queries" in shown and "verified" in shown
    assert shown.count("exact: 10 of 10") == len(QUERIES)


def test_on_a_terminal_the_tables_of_many_have_no_bar_among_them(place: Path, terminal: tuple[int, int]) -> None:
    words = [sys.executable, "-m", "cbir", "search", *QUERIES, "-n", "1"]
    surroundings = os.environ | {"TERM": "xterm", "NO_COLOR": "1"}
    subprocess.run(words, stdout=terminal[1], stderr=terminal[1], env=surroundings, check=True)
    plain = subprocess.run(words, capture_output=True, check=True).stdout.decode()
    assert os.read(terminal[0], 1 << 16).decode().replace("\r\n", "\n") == plain
