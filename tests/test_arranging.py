"""`cbir sort`, `map`, `compare` and `duplicates` as their users run them."""

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from conftest import PHOTOS
from made_indexes import put
from pictures import make_photo
from PIL import Image
from typer.testing import CliRunner, Result

from cbir.cli import chosen, comparing, duplicates, mapping, sorting
from cbir.cli.shell import OneLineErrors
from cbir.errors import OutputError
from cbir.index import Index

Run = Callable[..., Result]
ALL = sorted(f"photos/{name}" for name in PHOTOS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photos around different hues and their index; a copy of one is beside it, not in it. Tests change nothing."""
    folder = tmp_path_factory.mktemp("arranging")
    for name, color in PHOTOS.items():
        make_photo(folder / "photos" / name, color)
    Index.create(folder / "indexes" / "photos", [folder / "photos"], colors=16, jobs=1)
    make_photo(folder / "elsewhere.png", "#2060a8")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which commands run in."""
    for name in ("photos", "empty"):
        (tmp_path / name).symlink_to(folder / name)
    shutil.copy(folder / "elsewhere.png", tmp_path)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one of the four commands in this process."""
    monkeypatch.delenv("CBIR_INDEX", raising=False)
    app = typer.Typer(cls=OneLineErrors, rich_markup_mode=None, pretty_exceptions_enable=False)
    for name, command in {
        "sort": sorting.sort,
        "map": mapping.map_,
        "compare": comparing.compare,
        "duplicates": duplicates.duplicates,
    }.items():
        app.command(name)(command)

    def invoke(*arguments: object, given: bytes = b"") -> Result:
        return CliRunner().invoke(app, list(map(str, arguments)), input=given)

    return invoke


def listed(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def refused(result: Result, *words: str, code: int = 1) -> None:
    """It ended in one line on standard error, with this code, and nothing on standard output."""
    assert result.exit_code == code and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("cbir: ")
    for word in words:
        assert word in result.stderr


# --- sort


def test_a_rainbow_has_every_photo_once_from_the_darkest_on(place: Path, run: Run) -> None:
    paths = listed(run("sort", "--format", "paths"))
    assert paths[0] == "photos/things/plum.png" and sorted(paths) == ALL


def test_in_a_rainbow_the_two_reds_are_beside_one_another(place: Path, run: Run) -> None:
    paths = listed(run("sort", "--format", "paths"))
    assert abs(paths.index("photos/things/brick.jpg") - paths.index("photos/things/tomato.png")) == 1


def test_by_lightness_photos_go_from_light_to_dark(place: Path, run: Run) -> None:
    told = json.loads(run("sort", "--by", "lightness", "--format", "json").stdout)
    assert (told["index"], told["by"]) == ("indexes/photos", "lightness")
    values = [one["lightness"] for one in told["photos"]]
    assert values == sorted(values, reverse=True)
    assert told["photos"][0]["path"] == "photos/things/lemon.jpg" and told["photos"][-1]["rank"] == 10


@pytest.mark.parametrize("option", ["--by", "--color"])
@pytest.mark.parametrize(
    ("color", "first"), [("yellow", "lemon.jpg"), ("#1f5fa8", "sea.jpg"), ("forestgreen", "forest.jpg")]
)
def test_by_a_colour_the_photo_with_most_of_it_comes_first(
    place: Path, run: Run, option: str, color: str, first: str
) -> None:
    told = json.loads(run("sort", option, color, "--format", "json").stdout)
    shares = [one["share"] for one in told["photos"]]
    assert told["photos"][0]["path"].endswith(first) and told["by"] == color
    assert shares == sorted(shares, reverse=True) and all(0 <= share <= 1.001 for share in shares)


def test_without_a_format_a_table_is_printed(place: Path, run: Run) -> None:
    head, first, *rest = listed(run("sort", "--by", "lightness"))
    assert head.split() == ["rank", "L*", "colours", "and", "path"]
    assert first.split()[0] == "1" and first.endswith("photos/things/lemon.jpg") and len(rest) == 9


def test_only_the_named_photos_and_folders_are_sorted_each_once(place: Path, run: Run) -> None:
    paths = listed(run("sort", "photos/things", "sea.jpg", "photos/things/plum.png", "--format", "paths"))
    assert sorted(paths) == [path for path in ALL if "things" in path or "sea" in path]


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_paths_are_read_from_standard_input(place: Path, run: Run, end: bytes) -> None:
    given = b"".join(os.fsencode(path) + end for path in ALL[:3])
    assert sorted(listed(run("sort", "-", "--format", "paths", given=given))) == ALL[:3]


def test_names_with_line_breaks_go_through_a_pipe_with_zero_bytes(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    make_photo(tmp_path / "photos" / "plain.png", 1)
    make_photo(tmp_path / "photos" / "a\nb.png", 2)
    Index.create(tmp_path / "indexes" / "photos", [tmp_path / "photos"], colors=4, jobs=1)
    first = run("sort", "--format", "paths0").stdout
    assert sorted(first.split("\0")) == ["", "photos/a\nb.png", "photos/plain.png"]
    assert run("sort", "-", "--format", "paths0", given=first.encode()).stdout == first


def test_one_photo_is_in_order_already(place: Path, run: Run) -> None:
    for by in ("rainbow", "lightness", "red"):
        assert listed(run("sort", "sea.jpg", "--by", by, "--format", "paths")) == ["photos/nature/sea.jpg"]


def test_photos_in_order_are_shown_on_a_sheet_and_a_page_instead_of_listed(
    place: Path, tmp_path: Path, run: Run
) -> None:
    sheet, page = tmp_path / "sheet.png", tmp_path / "page.html"
    result = run("sort", "--by", "lightness", "--montage", sheet, "--html", page, "-j", 1)
    assert listed(result) == []
    with Image.open(sheet) as image:
        assert image.width > image.height > 240
    text = page.read_text()
    assert text.index("lemon.jpg") < text.index("plum.png") and text.count("<li>") == 10


def test_a_sheet_of_many_photos_has_smaller_pictures_and_one_of_too_many_is_refused() -> None:
    assert sorting._sheet_side(10) == 240
    assert sorting._sheet_side(3_000) < sorting._sheet_side(1_000) < 240
    with pytest.raises(OutputError, match="20,000 pictures"):
        sorting._sheet_side(20_000)


def test_photos_are_linked_and_copied_in_order(place: Path, tmp_path: Path, run: Run) -> None:
    assert listed(run("sort", "photos/things", "--by", "lightness", "--link-to", tmp_path / "links")) == []
    assert listed(run("sort", "photos/things", "--by", "lightness", "--copy-to", tmp_path / "copies")) == []
    for made in ("links", "copies"):
        assert sorted(os.listdir(tmp_path / made))[0] == "001-lemon.jpg"
        assert len(os.listdir(tmp_path / made)) == 5
    assert (tmp_path / "links" / "001-lemon.jpg").is_symlink()
    assert not (tmp_path / "copies" / "001-lemon.jpg").is_symlink()


@pytest.mark.parametrize(("option", "name"), [("--montage", "there.png"), ("--html", "there.html")])
def test_an_output_that_exists_is_refused_before_any_work(
    place: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, option: str, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(sorting, "_sorted", lambda *_: pytest.fail("sorted"))
        refused(run("sort", option, tmp_path / name), "exists", "--force")
    assert (tmp_path / name).read_text() == "mine"
    assert run("sort", option, tmp_path / name, "--force", "-j", 1).exit_code == 0
    assert (tmp_path / name).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["elsewhere.png"], 1, ["elsewhere.png", "nor a photo in"]),
        (["nowhere"], 1, ["nowhere", "nor a photo in"]),
        (["-"], 1, ["no path on standard input"]),
        (["--index", "none"], 1, ["none: no such index"]),
        (["--by", "nosuchcolour!"], 2, ["--by", "rainbow, lightness or a colour"]),
        (["--color", "nosuchcolour!"], 2, ["--color"]),
        (["--by", "red", "--color", "red"], 2, ["--color", "choose one"]),
        (["--copy-to", "a", "--link-to", "b"], 2, ["--link-to", "choose one"]),
        (["--montage", "sheet.txt"], 1, ["pictures are written as"]),
        (["--html", "page.png"], 1, ["pages are written as"]),
        (["--copy-to", "elsewhere.png"], 1, ["is not a folder"]),
    ],
)
def test_what_cannot_be_sorted_is_refused_in_one_line(
    place: Path, run: Run, arguments: list[str], code: int, words: list[str]
) -> None:
    refused(run("sort", *arguments), *words, code=code)


@pytest.mark.parametrize("command", ["sort", "map", "duplicates"])
def test_an_index_without_photos_is_refused(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "indexes").mkdir()
    put(tmp_path / "indexes" / "none", [])
    refused(run(command), "has no photos")


def test_more_photos_than_a_rainbow_or_a_map_has_are_refused_with_what_to_do(
    place: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbir.arrange.MOST", 5)
    refused(run("sort"), "10 photos are more than the 5", "--by lightness")
    refused(run("map", "-o", tmp_path / "map.png"), "10 photos are more than the 5", "--limit 5")
    assert not (tmp_path / "map.png").exists()


def test_too_much_on_standard_input_is_refused(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "_MOST_INPUT", 10)
    refused(run("sort", "-", given=b"a" * 11), "on standard input")


def test_an_index_with_a_large_palette_is_compared_by_whole_photos(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.open("indexes/photos")
    every_part = chosen.vectors_of(index, range(10))
    monkeypatch.setattr(chosen, "_MOST_DIMENSIONS", 20)
    assert chosen.vectors_of(index, range(10)).shape[1] == every_part.shape[1] // 7


# --- map


def test_a_map_has_every_photo_in_a_cell_of_its_own(place: Path, tmp_path: Path, run: Run) -> None:
    assert listed(run("map", "-o", tmp_path / "map.png", "-o", tmp_path / "map.html", "-j", 1)) == []
    with Image.open(tmp_path / "map.png") as image:
        # Ten photos in a sheet of four columns and three rows.
        assert image.size == (4 * 160, 3 * 160)
    text = (tmp_path / "map.html").read_text()
    assert {Path(name).name for name in re.findall('href="file://([^"]*)"', text)} == {Path(one).name for one in ALL}
    assert "script" not in text.replace("default-src", "")


def test_the_same_photos_give_the_same_map(place: Path, tmp_path: Path, run: Run) -> None:
    for name in ("a.png", "b.png"):
        assert run("map", "-o", tmp_path / name, "-j", 1).exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_limit_draws_photos_evenly(place: Path, tmp_path: Path, run: Run) -> None:
    assert run("map", "--limit", 2, "-o", tmp_path / "map.html", "-j", 1).exit_code == 0
    drawn = re.findall('title="([^"]*)"', (tmp_path / "map.html").read_text())
    assert sorted(drawn) == sorted(Path(ALL[i]).name for i in (0, 5))


def test_names_do_nothing_to_a_map_page(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "photos" / '"><script>a\n\x1b[1m.png', 1, format="PNG")
    make_photo(tmp_path / "photos" / "b.png", 2)
    Index.create(tmp_path / "indexes" / "photos", [tmp_path / "photos"], colors=4, jobs=1)
    assert run("map", "-o", "map.html", "-j", 1).exit_code == 0
    text = (tmp_path / "map.html").read_text()
    assert "<script" not in text and "\x1b" not in text and "&lt;script&gt;a\\n\\x1b[1m.png" in text


def test_photos_that_are_gone_leave_their_cells_empty_and_are_told(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        make_photo(tmp_path / "photos" / f"{number}.png", number)
    Index.create(tmp_path / "indexes" / "photos", [tmp_path / "photos"], colors=4, jobs=1)
    (tmp_path / "photos" / "1.png").unlink()
    result = run("map", "-j", 1)
    assert "1 of 3 photos cannot be read now" in result.stderr and (tmp_path / "map.png").exists()


def test_a_map_of_one_photo_is_that_photo(place: Path, tmp_path: Path, run: Run) -> None:
    assert run("map", "sea.jpg", "-o", tmp_path / "map.png", "-j", 1).exit_code == 0
    with Image.open(tmp_path / "map.png") as image:
        assert image.getpixel((80, 80))[2] > 120


def test_a_map_that_exists_is_refused_before_any_work(
    place: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "map.png").write_text("mine")
    monkeypatch.setattr(mapping, "_layout", lambda *_: pytest.fail("laid out"))
    refused(run("map", "-o", tmp_path / "map.png"), "exists")
    refused(run("map", "-o", tmp_path / "map.txt"), "pictures are written as")


# --- compare


def test_two_photos_are_compared_by_the_only_index(place: Path, run: Run) -> None:
    told = json.loads(run("compare", "sea.jpg", "lemon.jpg", "--format", "json").stdout)
    (hit,) = (
        one for one in Index.open("indexes/photos").search("sea.jpg", 10) if one.path.endswith("things/lemon.jpg")
    )
    assert told["distance"] == hit.distance
    assert (told["metric"], told["palette"], told["index"]) == ("cbir", "index", "indexes/photos")
    assert told["a"]["name"] == "sea.jpg" and told["a"]["photos"] == 1
    assert told["only_a"] and told["only_b"] and sum(one["a"] for one in told["colors"]) <= 1.001


def test_two_folders_are_compared_in_a_table(place: Path, run: Run) -> None:
    lines = listed(run("compare", "photos/nature", "photos/things"))
    assert lines[:2] == ["A  photos/nature (5 photos)", "B  photos/things (5 photos)"]
    assert lines[2].startswith("distance ") and "over the palette of indexes/photos" in lines[2]
    assert lines[-2].startswith("only A: #") and lines[-1].startswith("only B: #")


def test_a_terminal_is_shown_swatches(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[48;2;" in run("compare", "photos/nature", "photos/things").stdout


def test_without_an_index_it_is_told_that_the_palette_was_learnt(
    place: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = listed(run("compare", "photos/nature/sea.jpg", "photos/things", "-j", 1))
    assert "learnt from the two" in lines[2]
    told = json.loads(
        run("compare", "photos/nature/sea.jpg", "photos/things/plum.png", "-j", 1, "--format", "json").stdout
    )
    assert (told["palette"], told["index"], told["metric"]) == ("learnt", None, "cbir,centred=0")


def test_an_index_is_compared_with_a_photo(place: Path, run: Run) -> None:
    told = json.loads(run("compare", "indexes/photos", "sea.jpg", "--format", "json").stdout)
    assert (told["a"]["photos"], told["b"]["photos"], told["palette"]) == (10, 1, "index")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sea.jpg", "sea.jpg"], 2, ["the same"]),
        (["photos/nature", "./photos/nature/"], 2, ["the same"]),
        (["nowhere.jpg", "sea.jpg"], 1, ["nowhere.jpg"]),
        (["empty", "sea.jpg"], 1, ["empty", "no pictures"]),
        (["sea.jpg", "lemon.jpg", "--index", "none"], 1, ["none: no such index"]),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    place: Path, run: Run, arguments: list[str], code: int, words: list[str]
) -> None:
    refused(run("compare", *arguments), *words, code=code)


def test_without_an_index_a_name_that_is_nowhere_is_refused(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "a.png", 1)
    refused(run("compare", "a.png", "b.png"), "b.png: no such file or folder, nor an index of that name")


# --- duplicates


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos, of which one is there in half the size as well, and their index."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        make_photo(tmp_path / "photos" / f"{name}.png", seed, (120, 80))
    with Image.open(tmp_path / "photos" / "a.png") as image:
        image.resize((60, 40)).save(tmp_path / "photos" / "small.png")
    Index.create(tmp_path / "indexes" / "photos", [tmp_path / "photos"], colors=8, jobs=1)
    return tmp_path


def test_copies_are_told_in_a_table_and_the_work_on_standard_error(copies: Path, run: Run) -> None:
    result = run("duplicates", "-j", 1)
    head, first, second = listed(result)
    assert head.split() == ["pixels", "size", "distance", "Delta", "E", "path"]
    assert first.split()[0] == "120x80" and first.endswith("photos/a.png")
    assert second.split()[0] == "60x40" and second.endswith("photos/small.png")
    assert re.search(r"4 photos: \d+ pairs within 0.5, .* 1 copies in 1 groups", result.stderr)


def test_copies_are_told_in_json(copies: Path, run: Run) -> None:
    told = json.loads(run("duplicates", "-j", 1, "--format", "json").stdout)
    ((first, second),) = told["groups"]
    assert (first["path"], first["width"], first["height"]) == ("photos/a.png", 120, 80)
    assert second["path"] == "photos/small.png" and 0 < second["distance"] <= 0.5 and second["way"] == ""
    assert (told["index"], told["within"], told["photos"]) == ("indexes/photos", 0.5, 4)
    assert told["compared"] - told["rejected"] == 1


@pytest.mark.parametrize(("format", "end"), [("paths", "\n"), ("paths0", "\0")])
def test_groups_of_paths_end_with_an_empty_one(copies: Path, run: Run, format: str, end: str) -> None:
    assert run("duplicates", "-j", 1, "--format", format).stdout == end.join(
        ["photos/a.png", "photos/small.png", "", ""]
    )


def test_no_copies_are_no_output(place: Path, run: Run) -> None:
    result = run("duplicates", "-j", 1)
    assert listed(result) == [] and "0 copies in 0 groups" in result.stderr


def test_looking_for_duplicates_deletes_and_changes_nothing(copies: Path, run: Run) -> None:
    before = {path: path.read_bytes() for path in (copies / "photos").iterdir()}
    run("duplicates", "-j", 1)
    assert {path: path.read_bytes() for path in (copies / "photos").iterdir()} == before


@pytest.mark.parametrize("within", ["-1", "nan", "far"])
def test_what_is_no_distance_is_refused(place: Path, run: Run, within: str) -> None:
    refused(run("duplicates", "--within", within), "--within", code=2)


def test_standard_input_that_is_closed_has_no_paths(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert chosen._names_from_input() == []


def test_standard_input_is_split_at_zero_bytes_if_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\0c\0")))
    assert chosen._names_from_input() == ["a\nb", "c"]
