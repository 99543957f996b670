"""The command line: the two-command story, output that other programs can read, and errors of one line."""

import csv
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PHOTOS, Command, Run
from pictures import make_photo, photo_pixels
from PIL import Image
from typer.main import get_command
from typer.testing import Result

import cbir
from cbir.cli import app
from cbir.lock import LOCK_NAME
from cbir.palette_file import read_palette_file

COMMANDS = [
    *("index", "search", "push", "sort", "map", "compare", "duplicates"),
    *("evaluate", "quantize", "palette", "info", "check"),
]
# All that is not printed as it is: what moves the cursor, and what turns the direction of writing.
CONTROL = {chr(code) for code in [*range(32), 0x7F, *range(0x80, 0xA0), 0x202E, 0x2028]} - {"\n"}


def listing(folder: Path) -> dict[str, bytes | None]:
    """All files below a folder with their contents, and all folders; but not an index's lock, which nobody holds."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
        if path.name != LOCK_NAME or path.stat().st_size
    }


def succeeded(result: Result) -> Result:
    assert (result.exit_code, result.stderr) == (0, "")
    return result


def failed(result: Result, code: int) -> str:
    """The one line that a failed command says, without its newline."""
    assert result.stdout == ""
    assert result.exit_code == code, result.stderr
    assert result.stderr.startswith("cbir: ")
    assert result.stderr.endswith("\n")
    line = result.stderr[:-1]
    assert line.isprintable()
    assert "Traceback" not in line
    return line


@pytest.fixture
def indexed(photos: Path, run: Run) -> Path:
    """The folder `photos`, indexed with 16 colours."""
    succeeded(run("index", "photos", "-k", 16))
    return photos


# --- the story


def test_two_commands_find_the_photo_of_the_same_colour(photos: Path, run: Run) -> None:
    indexed = succeeded(run("index", "photos"))
    assert "indexes/photos: 10 photos" in indexed.stdout
    assert "10 added, 0 changed, 0 moved, 0 dropped" in indexed.stdout
    header, first, second, *rest = succeeded(run("search", "photos/things/tomato.png")).stdout.splitlines()
    assert header.split() == ["rank", "distance", "colours", "and", "path"]
    assert first.split()[:2] == ["1", "0.0000"]
    assert first.endswith("  photos/things/tomato.png")
    assert second.endswith("  photos/things/brick.jpg")
    assert len(rest) == 8


def test_a_picture_from_elsewhere_finds_photos_of_its_colours(tmp_path: Path, indexed: Path, run: Run) -> None:
    make_photo(tmp_path / "query.png", "#2060a8", (200, 150))
    paths = succeeded(run("search", "query.png", "-n", 1, "--format", "paths")).stdout
    assert paths == "photos/nature/sea.jpg\n"


def test_a_second_run_takes_up_what_is_new_and_drops_what_is_gone(indexed: Path, run: Run) -> None:
    make_photo(indexed / "new.png", "#ff8800")
    make_photo(indexed / "things/lemon.jpg", "#ff00ff", (50, 50))
    (indexed / "things/plum.png").unlink()
    assert "1 added, 1 changed, 0 moved, 1 dropped" in succeeded(run("index", "photos")).stdout
    assert "0 added, 0 changed, 0 moved, 0 dropped" in succeeded(run("index", "photos")).stdout
    (indexed / "things").rename(indexed / "stuff")
    assert "0 added, 0 changed, 4 moved, 0 dropped" in succeeded(run("index", "photos")).stdout
    (indexed / "stuff").rename(indexed / "things")
    succeeded(run("index", "photos"))
    paths = succeeded(run("search", "photos/new.png", "--format", "paths")).stdout.splitlines()
    assert paths[0] == "photos/new.png"
    assert sorted(paths) == sorted({f"photos/{name}" for name in PHOTOS} - {"photos/things/plum.png"} | {paths[0]})


def test_a_query_does_not_change_the_index(tmp_path: Path, indexed: Path, run: Run) -> None:
    before = listing(tmp_path)
    succeeded(run("search", "photos/things/tomato.png"))
    succeeded(run("info"))
    succeeded(run("palette", "photos"))
    assert listing(tmp_path) == before


def test_the_installed_command_does_what_the_library_does(tmp_path: Path, photos: Path, command: Command) -> None:
    assert command("index", "photos", "-k", "16").returncode == 0
    found = command("search", "photos/nature/sky.png", "-n", "3", "--format", "json")
    assert found.returncode == 0
    index = cbir.Index.open(tmp_path / "indexes" / "photos")
    hits = index.search(photos / "nature" / "sky.png", limit=3)
    assert [(hit["path"], hit["distance"]) for hit in json.loads(found.stdout)["hits"]] == [
        (os.path.relpath(hit.path, tmp_path), hit.distance) for hit in hits
    ]


def test_a_photo_of_the_index_is_a_query_by_the_end_of_its_path_even_when_it_is_gone(indexed: Path, run: Run) -> None:
    by_file = succeeded(run("search", "photos/things/tomato.png", "--format", "csv")).stdout
    assert succeeded(run("search", "things/tomato.png", "--format", "csv")).stdout == by_file
    shutil.rmtree(indexed)
    for query in ("tomato.png", "things/tomato.png", "photos/things/tomato.png", indexed / "things" / "tomato.png"):
        assert succeeded(run("search", query, "--format", "csv")).stdout == by_file


def test_a_name_that_several_photos_have_asks_for_more_of_the_path(tmp_path: Path, run: Run) -> None:
    for folder in ("a", "b"):
        make_photo(tmp_path / "photos" / folder / "same.jpg", "#336699")
    succeeded(run("index", "photos", "-k", 4))
    assert "photos/a/same.jpg" in failed(run("search", "same.jpg"), 1)
    assert "photos/b/same.jpg" in succeeded(run("search", "b/same.jpg", "-n", 1)).stdout


# --- output that other programs read


def test_json_is_an_object_of_the_query_and_its_hits(indexed: Path, run: Run) -> None:
    value = json.loads(succeeded(run("search", "photos/things/tomato.png", "-n", 4, "--format", "json")).stdout)
    assert list(value) == ["query", "index", "metric", "hits"]
    assert (value["query"], value["index"]) == ("photos/things/tomato.png", "indexes/photos")
    assert value["metric"] == "cbir"
    assert [list(hit) for hit in value["hits"]] == [["rank", "path", "distance"]] * 4
    assert [hit["rank"] for hit in value["hits"]] == [1, 2, 3, 4]
    assert value["hits"][0] == {"rank": 1, "path": "photos/things/tomato.png", "distance": 0}
    distances = [hit["distance"] for hit in value["hits"]]
    assert distances == sorted(distances)


def test_all_formats_tell_the_same_hits(indexed: Path, run: Run) -> None:
    def search(format: str) -> str:
        return succeeded(run("search", "photos/nature/sea.jpg", "--format", format)).stdout

    hits = json.loads(search("json"))["hits"]
    assert len(hits) == 10
    assert [json.loads(line) for line in search("jsonl").splitlines()] == hits
    assert search("paths").splitlines() == [hit["path"] for hit in hits]
    header, *rows = csv.reader(io.StringIO(search("csv"), newline=""))
    assert header == ["rank", "path", "distance"]
    assert [(int(rank), path, float(distance)) for rank, path, distance in rows] == [
        (hit["rank"], hit["path"], hit["distance"]) for hit in hits
    ]
    _, *lines = search("table").splitlines()
    assert [(int(line.split()[0]), line.split()[-1]) for line in lines] == [(hit["rank"], hit["path"]) for hit in hits]


def test_photos_below_another_folder_are_told_by_their_absolute_paths(
    tmp_path: Path, indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = run("search", "../photos/nature/sea.jpg", "--index", "../indexes/photos", "-n", 1, "--format", "paths")
    assert succeeded(found).stdout == f"{indexed / 'nature' / 'sea.jpg'}\n"


def test_a_pipe_that_is_closed_early_is_no_error(tmp_path: Path, indexed: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cbir", "search", "photos/nature/sea.jpg"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.wait()


@pytest.mark.parametrize("metric", ["cbir", "laplacian:15", "qbic", "SQRT-Gaussian:12", "cbir:5,power=0.5,centre=2"])
def test_a_photo_is_nearest_to_itself_by_every_metric(indexed: Path, run: Run, metric: str) -> None:
    found = succeeded(run("search", "photos/nature/sand.jpg", "--metric", metric, "--format", "json")).stdout
    first, second, *_ = json.loads(found)["hits"]
    assert (first["path"], first["distance"]) == ("photos/nature/sand.jpg", 0)
    assert second["distance"] > 0


def test_info_tells_what_is_in_the_index(indexed: Path, run: Run) -> None:
    facts = json.loads(succeeded(run("info", "--format", "json")).stdout)
    assert (facts["photos"], facts["unread"], facts["colors"], facts["learnt_photos"]) == (10, 0, 16, 10)
    assert facts["roots"] == [str(indexed)]
    assert facts["bytes"] == sum(path.stat().st_size for path in Path("indexes/photos").iterdir())
    table = succeeded(run("info")).stdout
    assert "10, and 0 files that could not be read as a picture" in table
    assert all(line[:12].strip() for line in table.splitlines())


# --- which index


def test_the_index_is_named_by_name_by_folder_and_by_the_environment(tmp_path: Path, indexed: Path, run: Run) -> None:
    make_photo(tmp_path / "holidays" / "a.jpg", "#123456")
    succeeded(run("index", "holidays", "-k", 4))
    for how in ({"--index": "photos"}, {"--index": "indexes/photos"}, {"--index": "./indexes/photos/"}):
        found = run("search", "photos/nature/sea.jpg", *next(iter(how.items())), "-n", 1, "--format", "paths")
        assert succeeded(found).stdout == "photos/nature/sea.jpg\n"
    for name in ("photos", "indexes/photos"):
        found = run("search", "photos/nature/sea.jpg", "-n", 1, "--format", "paths", CBIR_INDEX=name)
        assert succeeded(found).stdout == "photos/nature/sea.jpg\n"
        assert json.loads(succeeded(run("info", "--format", "json", CBIR_INDEX=name)).stdout)["photos"] == 10
    found = run("search", "holidays/a.jpg", "--index", "holidays", CBIR_INDEX="photos")
    assert "holidays/a.jpg" in succeeded(found).stdout


def test_the_environment_says_where_an_index_goes(tmp_path: Path, photos: Path, run: Run) -> None:
    succeeded(run("index", "photos", "-k", 4, CBIR_INDEX="./mine"))
    assert (tmp_path / "mine" / "manifest.json").is_file()
    assert not (tmp_path / "indexes").exists()


def test_of_several_indexes_one_has_to_be_named(tmp_path: Path, indexed: Path, run: Run) -> None:
    make_photo(tmp_path / "holidays" / "a.jpg", "#123456")
    succeeded(run("index", "holidays", "-k", 4))
    for arguments in (["search", "photos/nature/sea.jpg"], ["info"]):
        assert "holidays, photos" in failed(run(*arguments), 1)


def test_without_an_index_it_is_said_how_to_make_one(photos: Path, run: Run) -> None:
    for arguments in (["search", "photos/nature/sea.jpg"], ["info"]):
        assert "cbir index" in failed(run(*arguments), 1)


def test_two_folders_of_one_name_do_not_meet_in_one_index(tmp_path: Path, indexed: Path, run: Run) -> None:
    make_photo(tmp_path / "other" / "photos" / "a.jpg", "#123456")
    before = listing(tmp_path)
    assert "--index" in failed(run("index", "other/photos"), 1)
    assert listing(tmp_path) == before
    succeeded(run("index", "other/photos", "--index", "others", "-k", 4))
    assert "1 photos" in succeeded(run("index", "other/photos", "--index", "others")).stdout


# --- quantize and palette


def test_quantize_writes_a_picture_of_few_colours_beside_nothing(tmp_path: Path, photos: Path, run: Run) -> None:
    before = set(listing(tmp_path))
    said = succeeded(run("quantize", "photos/nature/sea.jpg", "-k", 5)).stdout
    assert said.startswith("sea-quantized.png: 5 colours, ")
    assert set(listing(tmp_path)) - before == {"sea-quantized.png"}
    with Image.open("sea-quantized.png") as image:
        assert (image.mode, image.size) == ("P", (64, 48))
        assert len(image.convert("RGB").getcolors()) == 5


def test_quantize_takes_the_colours_of_a_file_a_picture_or_an_index(tmp_path: Path, indexed: Path, run: Run) -> None:
    (tmp_path / "two.json").write_text('["#000080", "#ffff00"]')
    assert run("palette", "photos", "-k", 6, "-o", "six.ase").exit_code == 0
    six = {tuple(color) for color in read_palette_file(tmp_path / "six.ase").tolist()}
    for palette, allowed in (("two.json", {(0, 0, 128), (255, 255, 0)}), ("six.ase", six)):
        succeeded(run("quantize", "photos/things/brick.jpg", "--palette", palette, "-o", "out.png", "--force"))
        with Image.open("out.png") as image:
            assert {color for _, color in image.convert("RGB").getcolors()} <= allowed
    for palette, options, most in (("photos", [], 16), ("photos", ["-k", 3], 3), ("photos/nature/sea.jpg", [], 8)):
        succeeded(
            run("quantize", "photos/things/brick.jpg", "--palette", palette, *options, "-o", "out.png", "--force")
        )
        with Image.open("out.png") as image:
            assert 1 <= len(image.convert("RGB").getcolors()) <= most


def test_quantize_puts_the_original_beside_it(photos: Path, run: Run) -> None:
    succeeded(run("quantize", "photos/nature/sky.png", "--side-by-side", "-o", "both.png"))
    with Image.open("both.png") as image:
        assert image.size == (128, 48)
        assert np.array_equal(np.asarray(image)[:, :64], photo_pixels(PHOTOS["nature/sky.png"]))


@pytest.mark.parametrize("source", ["photos", "photos/things/lemon.jpg", "inks.gpl"])
def test_palette_formats_agree(tmp_path: Path, indexed: Path, run: Run, source: str) -> None:
    (tmp_path / "inks.gpl").write_text("GIMP Palette\n200 30 30\n30 200 30\n30 30 200\n")
    colors = []
    for format in ("json", "css", "gpl"):
        (tmp_path / f"out.{format}").write_text(succeeded(run("palette", source, "-k", 3, "--format", format)).stdout)
        colors.append(read_palette_file(tmp_path / f"out.{format}").tolist())
    assert colors[0] == colors[1] == colors[2]
    rows = [line.split() for line in succeeded(run("palette", source, "-k", 3)).stdout.splitlines()]
    assert [hex_value for hex_value, _ in rows] == ["#{:02x}{:02x}{:02x}".format(*color) for color in colors[0]]
    assert sum(float(share.rstrip("%")) for _, share in rows) == pytest.approx(100, abs=0.3)


def test_palette_writes_a_strip_and_palette_files(tmp_path: Path, photos: Path, run: Run) -> None:
    outputs = [f"out.{ending}" for ending in ("png", "json", "css", "gpl", "ase")]
    options = [word for output in outputs for word in ("-o", output)]
    result = run("palette", "photos/things/plum.png", "-k", 4, "--format", "json", *options)
    assert result.exit_code == 0
    shown = [one["rgb"] for one in json.loads(result.stdout)["colors"]]
    assert [line.split()[-1] for line in result.stderr.splitlines()] == outputs
    for output in outputs[1:]:
        assert read_palette_file(tmp_path / output).tolist() == shown
    with Image.open("out.png") as image:
        assert {color for _, color in image.convert("RGB").getcolors()} == {tuple(color) for color in shown}


@pytest.mark.parametrize("command", [["quantize", "-o"], ["palette", "-o"]], ids=lambda words: words[0])
def test_an_output_that_exists_is_overwritten_when_forced_only(photos: Path, run: Run, command: list[str]) -> None:
    name, option = command
    Path("old.png").write_bytes(b"precious")
    assert "--force" in failed(run(name, "photos/nature/sea.jpg", option, "old.png"), 1)
    assert Path("old.png").read_bytes() == b"precious"
    assert run(name, "photos/nature/sea.jpg", option, "old.png", "--force").exit_code == 0
    with Image.open("old.png") as image:
        image.load()


# --- help


def test_the_commands_are_these() -> None:
    assert list(get_command(app).commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help_with_an_example(run: Run, command: str, option: str) -> None:
    help = succeeded(run(command, option)).stdout
    assert f"Usage: cbir {command}" in help
    assert f"Example: cbir {command} " in help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_in_the_help_works(tmp_path: Path, indexed: Path, run: Run, name: str) -> None:
    make_photo(tmp_path / "query.jpg", 1)
    make_photo(tmp_path / "photo.jpg", 2)
    shutil.copytree(indexed, tmp_path / "flowers")
    shown = succeeded(run(name, "--help")).stdout
    example = " ".join(shown[shown.rindex("Example: ") :].split())
    _, _, *arguments = shlex.split(example)
    if name == "index":
        arguments.append("--rebuild")
    assert run(*arguments).exit_code == 0


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_without_a_command_lists_all(run: Run, option: str) -> None:
    help = succeeded(run(option)).stdout
    assert all(f"\n  {command} " in help for command in COMMANDS)


def test_nothing_at_all_shows_the_help_as_help(run: Run) -> None:
    result = run()
    shown = result.stdout + result.stderr
    assert all(f"\n  {command} " in shown for command in COMMANDS)


def test_the_version_is_the_packages(run: Run) -> None:
    assert succeeded(run("--version")).stdout == f"cbir {cbir.__version__}\n"


# --- pictures that cannot be read


def test_one_bad_file_among_good_ones_is_skipped_and_named(photos: Path, run: Run) -> None:
    (photos / "notes.jpg").write_text("Buy milk.")
    (photos / "things" / "empty.png").touch()
    for _ in range(2):
        result = run("index", "photos", "-k", 16)
        assert result.exit_code == 0
        assert "10 photos" in result.stdout
        assert "2 skipped" in result.stdout
        assert result.stderr.splitlines() == [
            "cbir: skipped photos/notes.jpg: not a picture, or of a format that cannot be read",
            "cbir: skipped photos/things/empty.png: the file is empty",
        ]
    facts = json.loads(succeeded(run("info", "--format", "json")).stdout)
    assert (facts["photos"], facts["unread"]) == (10, 2)


def test_strict_ends_with_3_if_a_picture_was_skipped_and_indexes_the_others(photos: Path, run: Run) -> None:
    assert run("index", "photos", "-k", 16, "--strict").exit_code == 0
    (photos / "notes.jpg").write_text("Buy milk.")
    result = run("index", "photos", "--strict")
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1
    assert json.loads(succeeded(run("info", "--format", "json")).stdout)["photos"] == 10


def test_a_picture_that_was_mended_is_taken_up(photos: Path, run: Run) -> None:
    (photos / "new.jpg").write_bytes((photos / "nature" / "sea.jpg").read_bytes()[:-200])
    assert "truncated" in run("index", "photos", "-k", 16).stderr
    make_photo(photos / "new.jpg", "#102030")
    assert "11 photos" in succeeded(run("index", "photos")).stdout


def test_more_colours_than_the_photos_have_is_said_and_no_error(tmp_path: Path, run: Run) -> None:
    (tmp_path / "flat").mkdir()
    for name, color in (("a", "#102030"), ("b", "#a0b0c0")):
        Image.new("RGB", (20, 20), color).save(tmp_path / "flat" / f"{name}.png")
    result = run("index", "flat", "-k", 64)
    assert result.exit_code == 0
    assert len(result.stderr.splitlines()) == 1
    assert "the palette has 2" in result.stderr
    assert "palette of 2 colours, colour error 0.0" in result.stdout
    assert "flat/a.png" in succeeded(run("search", "flat/a.png", "-n", 1)).stdout


# --- names that trip programs up

NAMES = [
    b"two\nlines.png",
    b"re\rturn.png",
    b"\x1b[31mred\x1b[0m \x07.png",
    b'quo"ted, with comma.png',
    "über \U0001f305 \u202egnp.png".encode(),
    b"caf\xe9 \xff.png",
    b"-n.png",
]


FOLDER = b"al\nbum \x1b[2J\xe9"


@pytest.fixture
def awkward(tmp_path: Path) -> list[str]:
    """Photos with awkward names in a folder of such a name, indexed as `odd`; their paths as the user writes them."""
    here = os.fsencode(tmp_path)
    os.mkdir(os.path.join(here, FOLDER))
    for seed, name in enumerate(NAMES):
        os.rename(make_photo(tmp_path / "photo.png", seed), os.path.join(here, FOLDER, name))
    cbir.build_index(tmp_path / "indexes" / "odd", [os.fsdecode(os.path.join(here, FOLDER))], colors=8, jobs=1)
    make_photo(tmp_path / "query.png", 0)
    return [os.fsdecode(os.path.join(FOLDER, name)) for name in NAMES]


def search_all(run: Run, format: str) -> str:
    result = succeeded(run("search", "query.png", "--format", format))
    return result.stdout_bytes.decode("utf-8", "surrogateescape")


def test_any_name_comes_back_exactly_from_json(run: Run, awkward: list[str]) -> None:
    assert sorted(hit["path"] for hit in json.loads(search_all(run, "json"))["hits"]) == sorted(awkward)
    lines = search_all(run, "jsonl").removesuffix("\n").split("\n")
    assert sorted(json.loads(line)["path"] for line in lines) == sorted(awkward)


def test_any_name_comes_back_exactly_from_csv(run: Run, awkward: list[str]) -> None:
    _, *rows = csv.reader(io.StringIO(search_all(run, "csv"), newline=""))
    assert sorted(path for _, path, _ in rows) == sorted(awkward)


def test_any_name_comes_back_exactly_from_paths(run: Run, awkward: list[str]) -> None:
    paths = search_all(run, "paths")
    assert len(paths) == sum(len(name) + 1 for name in awkward)
    assert all(f"{name}\n" in paths for name in awkward)


@pytest.mark.parametrize("format", ["paths", "csv", "json"])
def test_a_pipe_gets_names_that_are_not_text_unchanged(tmp_path: Path, command: Command, format: str) -> None:
    name = b"caf\xe9 \xc3\xa9.png"
    os.mkdir(tmp_path / "photos")
    os.rename(make_photo(tmp_path / "photo.png", 1), os.path.join(os.fsencode(tmp_path), b"photos", name))
    cbir.build_index(tmp_path / "indexes" / "photos", [tmp_path / "photos"], colors=8, jobs=1)
    for locale in ({}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        result = command("search", b"photos/" + name, "--format", format, **locale)
        assert (result.returncode, result.stderr) == (0, b"")
        if format == "json":
            assert os.fsencode(json.loads(result.stdout)["hits"][0]["path"]) == b"photos/" + name, locale
        else:
            assert b"photos/" + name in result.stdout, locale


def test_no_name_does_anything_to_the_terminal(run: Run, awkward: list[str]) -> None:
    for line, count in (("search query.png", len(NAMES) + 1), ("info", 11), ("palette odd", 8)):
        text = succeeded(run(*line.split())).stdout
        assert not CONTROL & set(text)
        assert len(text.splitlines()) == count


def test_a_folder_of_any_name_gives_an_index_its_name(run: Run, awkward: list[str]) -> None:
    text = succeeded(run("index", os.fsdecode(FOLDER), "-k", 8)).stdout
    assert not CONTROL & set(text)
    assert len(text.splitlines()) == 4
    assert os.path.isfile(os.path.join(b"indexes", FOLDER, b"manifest.json"))


def test_a_file_of_any_name_is_skipped_in_one_line(tmp_path: Path, run: Run, awkward: list[str]) -> None:
    for name in NAMES:
        with open(os.path.join(os.fsencode(tmp_path), FOLDER, b"bad " + name), "wb"):
            pass
    result = run("index", os.fsdecode(FOLDER), "--index", "odd")
    assert result.exit_code == 0
    assert len(result.stderr.split("\n")) == len(NAMES) + 1
    assert not CONTROL & set(result.stderr)


def test_any_name_can_be_a_query(run: Run, awkward: list[str]) -> None:
    for name in awkward:
        for query in (name, f"./{name}", os.path.basename(name)):
            found = succeeded(run("search", "-n", "1", "--format", "json", "--", query))
            assert json.loads(found.stdout)["hits"] == [{"rank": 1, "path": name, "distance": 0}]


def test_a_picture_of_any_name_can_be_quantized(tmp_path: Path, run: Run, awkward: list[str]) -> None:
    for name in awkward:
        said = succeeded(run("quantize", name)).stdout
        assert said[:-1].isprintable()
        assert os.path.isfile(os.path.basename(name).removesuffix(".png") + "-quantized.png")


def test_any_name_can_be_in_an_error(run: Run, awkward: list[str]) -> None:
    for name in awkward:
        for command in ("index", "search", "quantize", "palette", "info"):
            failed(run(command, f"missing {name}"), 1)


# --- bad input: one line, the right exit code, and nothing changed


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, their index, and everything that can be wrong."""
    folder = tmp_path_factory.mktemp("place")
    for name, color in PHOTOS.items():
        make_photo(folder / "photos" / name, color)
    cbir.build_index(folder / "indexes" / "photos", [folder / "photos"], colors=16, jobs=1)
    for name in ("nothing", "texts", "plain", "damaged", "folder.png"):
        (folder / name).mkdir()
    (folder / "notes.jpg").write_text("Buy milk.")
    (folder / "texts" / "notes.jpg").write_text("Buy milk.")
    (folder / "plain" / "letter.txt").write_text("Dear cbir,")
    (folder / "empty.jpg").touch()
    (folder / "cut.jpg").write_bytes((folder / "photos" / "nature" / "sea.jpg").read_bytes()[:-200])
    (folder / "file").write_bytes(b"precious")
    (folder / "old.png").write_bytes(b"precious")
    (folder / "old.json").write_bytes(b"precious")
    (folder / "bad.gpl").write_text("GIMP Palette\n1 2 999\n")
    (folder / "damaged" / "manifest.json").write_text('{"format": "cbir index", "version"')
    shutil.copytree(folder / "indexes" / "photos", folder / "newer")
    manifest = json.loads((folder / "newer" / "manifest.json").read_text())
    assert manifest["version"] == 3
    (folder / "newer" / "manifest.json").write_text(json.dumps(manifest | {"version": 4}))
    shutil.copytree(folder / "newer", folder / "edited")
    (folder / "edited" / "manifest.json").write_text(json.dumps(manifest | {"colors": 9}))
    Image.new("RGBA", (8, 8), (1, 2, 3, 0)).save(folder / "glass.png")
    return folder


# The command line, and what its one line must tell.
FAILS = {
    "index missing": "missing",
    "index photos missing": "missing",
    "index nothing": "no pictures",
    "index texts": "notes.jpg: not a picture",
    "index notes.jpg --index new": "notes.jpg: not a picture",
    "index empty.jpg --index new": "empty.jpg: the file is empty",
    "index cut.jpg --index new": "cut.jpg: truncated",
    "index glass.png --index new": "glass.png: the picture is wholly transparent",
    "index photos --index ./plain": "not an index",
    "index photos --index ./damaged": "damaged",
    "index photos --index ./newer": "newer cbir",
    "index photos --index ./edited": "--rebuild",
    "index photos --index ./file": "file: ",
    "index photos --index ./file/index": "not a directory",
    "index photos -k 32": "16 colours",
    "index photos --algorithm kmeans": "--rebuild",
    "index photos --descriptor global": "spatial descriptors",
    "index nothing --rebuild --index photos": "no pictures",
    "index texts --rebuild --index photos": "notes.jpg: not a picture",
    "search missing.jpg": "missing.jpg: no such file",
    "search photos/nature/sea.jpg missing.jpg": "missing.jpg: no such file",
    "search notes.jpg": "notes.jpg: not a picture",
    "search empty.jpg": "empty.jpg: the file is empty",
    "search cut.jpg": "cut.jpg: truncated",
    "search glass.png": "glass.png: the picture is wholly transparent",
    "search photos": "photos: a folder",
    "search photos/nature/sea.jpg --metric cbir,skyline=2": "'skyline'",
    "search old.png --index missing": "missing: no such index",
    "search old.png --index ./missing": "missing: no such index",
    "search old.png --index ./plain": "plain: no",
    "search old.png --index ./damaged": "damaged",
    "search old.png --index ./newer": "newer cbir",
    "search old.png --index ./edited": "its checksum is wrong",
    "search old.png --index file": "file: no",
    "quantize missing.jpg": "missing.jpg: no such file",
    "quantize notes.jpg": "notes.jpg: not a picture",
    "quantize empty.jpg": "empty.jpg: the file is empty",
    "quantize cut.jpg": "cut.jpg: truncated",
    "quantize glass.png": "transparent",
    "quantize photos/nature/sea.jpg -o old.png": "--force",
    "quantize photos/nature/sea.jpg -o missing/out.png": "missing: no such folder",
    "quantize photos/nature/sea.jpg -o file/out.png": "file: no such folder",
    "quantize photos/nature/sea.jpg -o out.xyz": ".png",
    "quantize notes.jpg -o old.png --force": "notes.jpg: not a picture",
    "quantize photos/nature/sea.jpg --palette missing": "missing: no such file",
    "quantize photos/nature/sea.jpg --palette notes.jpg": "notes.jpg: not a picture",
    "quantize photos/nature/sea.jpg --palette bad.gpl": "bad.gpl: ",
    "quantize photos/nature/sea.jpg --palette ./plain": "plain: ",
    "quantize photos/nature/sea.jpg --palette ./newer": "newer cbir",
    "quantize photos/nature/sea.jpg --palette glass.png": "transparent",
    "palette missing": "missing: no such file",
    "palette notes.jpg": "notes.jpg: not a picture",
    "palette empty.jpg": "empty.jpg: the file is empty",
    "palette cut.jpg": "cut.jpg: truncated",
    "palette glass.png": "transparent",
    "palette bad.gpl": "bad.gpl: ",
    "palette plain": "plain: ",
    "palette ./damaged": "damaged",
    "palette ./newer": "newer cbir",
    "palette photos -o old.json": "--force",
    "palette photos -o out.json -o old.json": "--force",
    "palette photos -o missing/out.json": "missing: no such folder",
    "palette photos -o file/out.json": "file: no such folder",
    "palette photos -o out.svg": ".gpl",
    "palette photos -o out.json -o out.svg": ".gpl",
    "palette photos -o folder.png --force": "folder.png: is a folder",
    "info missing": "missing: no such index",
    "info ./plain": "plain: no",
    "info ./damaged": "damaged",
    "info ./newer": "newer cbir",
}
BAD_USAGE = {
    "serch photos": "serch",
    "search": "query",
    "index": "path",
    "quantize": "input",
    "palette": "input",
    "index photos --colour 3": "--colour",
    "index photos -k 0": "-k",
    "index photos -k 1025": "-k",
    "index photos -k many": "-k",
    "index photos -j 0": "-j",
    "index photos --algorithm magic": "magic",
    "index photos --descriptor magic": "magic",
    "search photos/nature/sea.jpg -n 0": "-n",
    "search photos/nature/sea.jpg -n -3": "-n",
    "search photos/nature/sea.jpg -n ten": "-n",
    "search photos/nature/sea.jpg --format xml": "xml",
    "search photos/nature/sea.jpg --metric euclid": "euclid",
    "search photos/nature/sea.jpg --metric sqrt-linear": "use qbic",
    "search photos/nature/sea.jpg --metric cbir,power": "'power' is not setting=value",
    "search photos/nature/sea.jpg --metric cbir,centre=-1": "'centre'",
    "search photos/nature/sea.jpg --metric laplacian:0": "above 0",
    "search photos/nature/sea.jpg --metric laplacian:nan": "nan",
    "search photos/nature/sea.jpg --metric gaussian:wide": "wide",
    "quantize photos/nature/sea.jpg -k 0": "-k",
    "quantize photos/nature/sea.jpg -k 257": "-k",
    "quantize photos/nature/sea.jpg --style magic": "magic",
    "quantize photos/nature/sea.jpg --style darkly --dither error": "--dither",
    "quantize photos/nature/sea.jpg --strength 2": "--strength",
    "quantize photos": "--output",
    "quantize photos -o old.png": "old.png: is a file",
    "quantize photos/nature/sea.jpg photos/things/lemon.jpg": "--output",
    "quantize photos/nature/sea.jpg -x": "-x",
    "palette photos -k 0": "-k",
    "palette photos -k 257": "-k",
    "palette photos --format ase": "ase",
    "info photos --format csv": "csv",
    "info photos more": "more",
    "--colour": "--colour",
}


@pytest.mark.parametrize("line", FAILS)
def test_what_cannot_be_done_is_said_in_one_line(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(place)
    before = listing(place)
    assert FAILS[line] in failed(run(*line.split()), 1)
    assert listing(place) == before


@pytest.mark.parametrize("line", BAD_USAGE)
def test_a_command_line_that_is_wrong_is_said_in_one_line(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(place)
    before = listing(place)
    message = failed(run(*line.split()), 2)
    assert BAD_USAGE[line] in message.lower()
    assert "--help" in message
    assert listing(place) == before


@pytest.mark.parametrize("line", ["index texts", "index nothing", "index notes.jpg", "search notes.jpg", "info"])
def test_where_there_is_no_index_a_failure_leaves_none(tmp_path: Path, run: Run, line: str) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "texts").mkdir()
    for name in ("notes.jpg", "texts/notes.jpg"):
        (tmp_path / name).write_text("Buy milk.")
    before = listing(tmp_path)
    failed(run(*line.split()), 1)
    assert listing(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize(
    "line",
    [
        "index photos --index ./locked/index",
        "quantize photos/nature/sea.jpg -o locked/out.png",
        "palette photos/nature/sea.jpg -o locked/out.json",
    ],
)
def test_without_permission_it_is_said_in_one_line(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(place)
    (place / "locked").mkdir(exist_ok=True)
    (place / "locked").chmod(0o555)
    before = listing(place)
    try:
        assert "permission denied" in failed(run(*line.split()), 1)
    finally:
        (place / "locked").chmod(0o755)
    assert listing(place) == before


def test_the_installed_command_fails_in_one_line_too(place: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "cbir", "search", "notes.jpg"], cwd=place, capture_output=True, check=False
    )
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr == b"cbir: notes.jpg: not a picture, or of a format that cannot be read\n"


def test_an_interrupted_run_says_what_it_keeps_and_the_same_command_goes_on(
    indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        make_photo(indexed / f"{number}.jpg", number)
    real = cbir.indexing.describe_files

    def interrupted(*arguments: Any) -> Iterator[object]:
        with closing(real(*arguments)) as described:
            yield next(described)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("cbir.indexing.describe_files", interrupted)
        line = failed(run("index", "photos", "-k", 16), 130)
    assert line == "cbir: indexes/photos: interrupted; 11 photos are in it, and the same command goes on from there"
    assert json.loads(run("info", "--format", "json").stdout)["unfinished"] is True
    assert "cbir index goes on from there" in run("search", "photos/nature/sea.jpg").stderr
    assert "2 added, 0 changed, 0 moved, 0 dropped" in succeeded(run("index", "photos")).stdout
    assert json.loads(succeeded(run("info", "--format", "json")).stdout)["unfinished"] is False


def test_an_interrupted_run_of_which_nothing_can_be_kept_leaves_nothing(
    tmp_path: Path, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    before = listing(tmp_path)
    monkeypatch.setattr("cbir.indexing.sample_files", interrupt)
    assert "interrupted" in failed(run("index", "photos"), 130)
    assert listing(tmp_path) == before


def test_a_damaged_index_in_its_default_place_is_made_anew_by_rebuild(photos: Path, run: Run) -> None:
    assert run("index", photos).exit_code == 0
    manifest = photos.parent / "indexes" / "photos" / "manifest.json"
    manifest.write_bytes(b"{")
    refused = run("index", photos)
    assert refused.exit_code == 1 and "--rebuild" in refused.stderr
    assert run("index", photos, "--rebuild").exit_code == 0
    assert run("info").exit_code == 0


def test_another_folder_of_the_same_name_does_not_get_into_the_index_unasked(
    photos: Path, run: Run, tmp_path: Path
) -> None:
    assert run("index", photos).exit_code == 0
    shutil.copytree(photos, tmp_path / "elsewhere" / "photos")
    for options in ([], ["--rebuild"]):
        refused = run("index", tmp_path / "elsewhere" / "photos", *options)
        assert refused.exit_code == 1 and "--index" in refused.stderr and refused.stderr.count("\n") == 1
    assert run("index", tmp_path / "elsewhere" / "photos", "--index", "photos").exit_code == 0
    assert '"photos": 20' in run("info", "--format", "json").stdout
