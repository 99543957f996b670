"""`cbir search` asked by colours, places and several pictures, as its users run it: what is found, told and shown."""

import csv
import io
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from pictures import make_photo
from PIL import Image
from test_cli import CONTROL, failed, listing, succeeded
from test_page import Element, tree_of
from typer.main import get_command
from typer.testing import CliRunner, Result

from cbir import thumbnail as thumbnail_module
from cbir.cli import app, seeing
from cbir.histogram import Swatch
from cbir.index import Index
from cbir.palette_file import to_ase

COMMAND = get_command(app)
BLACK, RED, TEAL, GREY, ORANGE, WHITE = "#101010", "#c00000", "#008080", "#808080", "#ffa500", "#ffffff"
# Photos of 100 x 60 pixels: columns of flat colours, so many pixels wide, which is their share in per cent.
COLUMNS = {
    "photos/a/teal.png": {TEAL: 100},
    "photos/a/most.png": {TEAL: 60, GREY: 40},
    "photos/a/half.png": {TEAL: 50, ORANGE: 50},
    "photos/a/little.png": {TEAL: 10, GREY: 90},
    "photos/b/orange.png": {ORANGE: 100},
    "photos/b/spot.png": {GREY: 98, ORANGE: 2},
    "photos/b/grey.png": {GREY: 100},
    "photos/b/dark.png": {BLACK: 95, RED: 5},
    "photos/b/white.png": {WHITE: 100},
    "photos/b/red.png": {RED: 60, WHITE: 40},
}
# And rows: the same amounts in other places.
ROWS = {"photos/c/above.png": {RED: 30, BLACK: 70}, "photos/c/below.png": {BLACK: 70, RED: 30}}
AMOUNTS = COLUMNS | ROWS
TEAL_PHOTO, MOST, HALF, LITTLE, ORANGE_PHOTO, SPOT, GREY_PHOTO, DARK, WHITE_PHOTO, RED_PHOTO, ABOVE, BELOW = AMOUNTS


def columns(shares: dict[str, int]) -> Image.Image:
    image, left = Image.new("RGB", (100, 60)), 0
    for color, width in shares.items():
        image.paste(color, (left, 0, left + width, 60))
        left += width
    return image


def rows(shares: dict[str, int]) -> Image.Image:
    return columns(shares).transpose(Image.Transpose.TRANSPOSE).resize((100, 60), Image.Resampling.NEAREST)


def painting(boxes: dict[tuple[int, int, int, int], str], clear: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """100 x 60 pixels, of which only some boxes (left, top, right, bottom) are opaque."""
    image = Image.new("RGBA", (100, 60), (*clear, 0))
    for box, color in boxes.items():
        image.paste(color, box)
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with these photos, their index, and pictures and files to ask with; tests do not change it."""
    folder = tmp_path_factory.mktemp("asking")
    for name, shares in AMOUNTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (rows if name in ROWS else columns)(shares).save(folder / name)
    Index.create(folder / "indexes" / "photos", [folder / "photos"], colors=7, jobs=1)
    shoe = Image.new("RGB", (100, 60), WHITE)
    shoe.paste(TEAL, (30, 15, 70, 45))
    shoe.save(folder / "shoe.png")
    painting({(0, 0, 100, 18): RED}).save(folder / "painted-above.png")
    painting({(0, 42, 100, 60): RED}).save(folder / "painted-below.png")
    painting({}).save(folder / "clear.png")
    painting({(0, 0, 1, 1): RED}).save(folder / "speck.png")
    (folder / "notes.jpg").write_text("Buy milk.")
    (folder / "notes.gpl").write_text("Buy milk.")
    (folder / "notes.txt").write_text("Buy milk.")
    (folder / "empty.gpl").touch()
    (folder / "none.gpl").write_text("GIMP Palette\n")
    return folder


@pytest.fixture
def place(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, which `run` runs in."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def thumbnails_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def serial(work: Callable[..., object], items: Sequence[str], jobs: int, *arguments: object, lost: object) -> Any:
        yield from (work(item, *arguments) for item in items)

    monkeypatch.setattr(thumbnail_module, "in_order", serial)


Hits = list[dict[str, Any]]


def hits_of(run: Run, *words: object) -> Hits:
    hits = json.loads(succeeded(run("search", *words, "-n", 100, "--format", "json")).stdout)["hits"]
    assert isinstance(hits, list)
    return hits


def distances(run: Run, *words: object) -> dict[str, float]:
    return {hit["path"]: hit["distance"] for hit in hits_of(run, *words)}


def paths_of(run: Run, *words: object) -> list[str]:
    return [hit["path"] for hit in hits_of(run, *words)]


def shares(run: Run, *words: object) -> dict[str, list[float]]:
    """Of each photo how much it has of each colour that is asked for."""
    return {hit["path"]: [one["share"] for one in hit["asked"]] for hit in hits_of(run, *words)}


def piped(content: bytes, *words: object) -> Result:
    return CliRunner().invoke(app, ["search", *map(str, words)], input=content)


# Every kind of question, and several of them at once.
QUESTIONS = {
    "a colour": ["--color", "teal:60"],
    "colours that share out what is left": ["--color", "teal:30", "--color", "orange", "--color", "grey~20"],
    "a whole picture's colours": ["--color", "teal:50", "--color", "#ffa500:50"],
    "an accent": ["--accent", "orange"],
    "without a colour": ["--without", "orange:3"],
    "a tone": ["--tone", "monochrome"],
    "a picture without a colour": [RED_PHOTO, "--without", "orange"],
    "several pictures": ["--like", TEAL_PHOTO, "--like", f"{ORANGE_PHOTO}*2"],
    "and unlike others": ["--like", TEAL_PHOTO, "--like", HALF, "--unlike", MOST, "--unlike", f"{RED_PHOTO}*3"],
    "a painting": ["--paint", "painted-above.png"],
    "a region": [SPOT, "--region", "98,0,2,60"],
    "a picture without its background": ["shoe.png", "--ignore-background"],
    "a whole picture's colours and a picture": [GREY_PHOTO, "--color", "teal:100"],
    "all at once": [
        *(RED_PHOTO, "--like", f"{TEAL_PHOTO}*2", "--unlike", WHITE_PHOTO, "--color", "teal:30", "--accent", "orange"),
        *("--without", "white:50", "--paint", "painted-above.png", "--weight", "color=2", "--weight", "paint=0.5"),
    ],
}
every_question = pytest.mark.parametrize("words", QUESTIONS.values(), ids=QUESTIONS)


# --- colours


def test_photos_with_enough_of_a_colour_lack_nothing_and_others_the_part_that_is_missing(place: Path, run: Run) -> None:
    found = distances(run, "--color", "teal:60")
    assert found.pop(TEAL_PHOTO) == found.pop(MOST) == 0
    assert found.pop(HALF) == pytest.approx(10 / 60, abs=0.005)
    assert found.pop(LITTLE) == pytest.approx(50 / 60, abs=0.005)
    assert list(found.values()) == pytest.approx([1] * len(found))


def test_colours_without_amounts_share_out_what_is_left(place: Path, run: Run) -> None:
    shared = hits_of(run, "--color", "teal", "--color", "orange", "--color", "grey:20")
    assert shared == hits_of(run, "--color", "teal:40~12", "--color", "grey:20", "--color", "orange:40")
    assert paths_of(run, "--color", "teal", "--color", "orange")[0] == HALF


@pytest.mark.parametrize(
    "color", ["Teal", "#008080", "008080", "rgb(0,128,128)", "rgb(0 50.2% 50.2%)", "hsl(180 100% 25.1%)", " teal "]
)
def test_a_colour_is_asked_for_in_any_notation(place: Path, run: Run, color: str) -> None:
    assert distances(run, "--color", f"{color}:60") == distances(run, "--color", "teal:60")


def test_a_colour_of_another_shade_is_found_within_its_tolerance_only(place: Path, run: Run) -> None:
    # Its Delta E (1994) from that of the photo is 2.3.
    assert shares(run, "--color", "#008c8c~2")[TEAL_PHOTO] == [0]
    assert shares(run, "--color", "#008c8c~3")[TEAL_PHOTO] == [1]
    near, far = (distances(run, "--color", f"#008c8c~{tolerance}")[TEAL_PHOTO] for tolerance in (30, 3))
    # What a shade lacks is (d / tolerance)^2.
    assert far == pytest.approx(100 * near)
    assert distances(run, "--color", "#008c8c~2")[TEAL_PHOTO] == 1


def test_amounts_that_make_100_ask_for_a_photo_painted_so(place: Path, run: Run) -> None:
    found = distances(run, "--color", "teal:50", "--color", "orange:50")
    assert next(iter(found)) == HALF
    assert found[HALF] == pytest.approx(0, abs=1e-6)
    # More of a colour than is asked for is not free, as it is where something is left over.
    assert found[TEAL_PHOTO] > 0.5
    assert distances(run, "--color", "teal:50")[TEAL_PHOTO] == 0


def test_an_accent_is_seen_in_a_photo_of_other_colours_however_small(place: Path, run: Run) -> None:
    found = distances(run, "--accent", "orange")
    assert list(found)[:2] == [HALF, SPOT]
    assert found[SPOT] < 0.7
    # Of a photo that is all orange nothing stands out, and in the others there is none.
    assert {distance for path, distance in found.items() if path not in (HALF, SPOT)} == {1}


def test_photos_with_more_of_an_unwanted_colour_than_is_allowed_are_not_shown(place: Path, run: Run) -> None:
    orange = {HALF, ORANGE_PHOTO, SPOT}
    assert set(paths_of(run, "--without", "orange")) == set(AMOUNTS) - orange
    assert set(paths_of(run, "--without", "orange:3")) == set(AMOUNTS) - orange | {SPOT}
    assert set(paths_of(run, "--without", "orange", "--without", "grey:50")) == (
        set(AMOUNTS) - orange - {LITTLE, GREY_PHOTO}
    )
    by_likeness = distances(run, RED_PHOTO)
    assert distances(run, RED_PHOTO, "--without", "orange") == {
        path: distance for path, distance in by_likeness.items() if path not in orange
    }


TONES = {
    "dark": {DARK, ABOVE, BELOW},
    "light": {ORANGE_PHOTO, WHITE_PHOTO},
    "muted": {LITTLE, SPOT, GREY_PHOTO, DARK, WHITE_PHOTO},
    # Colours with a chroma above 50 on a fifth or more: red and orange, but not this teal.
    "vivid": {HALF, ORANGE_PHOTO, RED_PHOTO, ABOVE, BELOW},
    "monochrome": set(AMOUNTS) - {HALF},
    "warm": {ORANGE_PHOTO, RED_PHOTO, ABOVE, BELOW},
    "cool": {TEAL_PHOTO, MOST},
}


@pytest.mark.parametrize("tone", TONES)
def test_only_photos_of_a_tone_are_shown(place: Path, run: Run, tone: str) -> None:
    assert set(paths_of(run, "--tone", tone)) == TONES[tone]
    left = distances(run, TEAL_PHOTO)
    assert distances(run, TEAL_PHOTO, "--tone", tone) == {path: left[path] for path in left if path in TONES[tone]}


def test_photos_are_shown_that_are_of_all_tones(place: Path, run: Run) -> None:
    assert set(paths_of(run, "--tone", "muted", "--tone", "light")) == {WHITE_PHOTO}


def test_a_palette_file_of_any_kind_asks_for_its_colours_in_equal_amounts(
    place: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "inks.gpl").write_text("GIMP Palette\n0 128 128 sea\n255 165 0\n")
    (tmp_path / "inks.txt").write_text("#008080\nffa500\n")
    inks = [Swatch(np.array(color, np.uint8), 0.5) for color in ((0, 128, 128), (255, 165, 0))]
    (tmp_path / "inks.ase").write_bytes(to_ase(inks, "inks"))
    as_colors = hits_of(run, "--color", "#008080:50", "--color", "#ffa500:50")
    assert as_colors[0]["path"] == HALF
    for ending in ("gpl", "txt", "ase"):
        assert hits_of(run, "--palette", tmp_path / f"inks.{ending}") == as_colors


# --- pictures


def test_a_query_is_one_of_the_pictures_that_are_liked(place: Path, run: Run) -> None:
    assert hits_of(run, TEAL_PHOTO, "--like", ORANGE_PHOTO) == hits_of(
        run, "--like", ORANGE_PHOTO, "--like", f"{TEAL_PHOTO}*1"
    )
    assert hits_of(run, "--like", TEAL_PHOTO) == hits_of(run, TEAL_PHOTO)


def test_the_picture_with_more_weight_is_nearer(place: Path, run: Run) -> None:
    for teal, orange in ((5, 1), (1, 5), (1.5, 0.5), (0.1, 0.3)):
        found = distances(run, "--like", f"{TEAL_PHOTO}*{teal}", "--like", f"{ORANGE_PHOTO}*{orange}")
        assert (found[TEAL_PHOTO] < found[ORANGE_PHOTO]) == (teal > orange)


def test_a_file_may_be_called_as_if_it_had_a_weight(place: Path, tmp_path: Path, run: Run) -> None:
    columns({RED: 100}).save(tmp_path / "photo*2", "PNG")
    assert hits_of(run, "--like", tmp_path / "photo*2") == hits_of(run, "--like", f"{tmp_path / 'photo*2'}*7")


def test_what_is_unliked_moves_away(place: Path, run: Run) -> None:
    before, after = distances(run, "--like", TEAL_PHOTO), distances(run, "--like", TEAL_PHOTO, "--unlike", MOST)
    assert after[MOST] > before[MOST]
    assert next(iter(after)) == TEAL_PHOTO
    assert list(after).index(MOST) >= list(before).index(MOST)


def test_a_painting_asks_for_its_colours_where_it_has_them(place: Path, run: Run) -> None:
    above, below = (distances(run, "--paint", f"painted-{where}.png") for where in ("above", "below"))
    assert (next(iter(above)), next(iter(below))) == (ABOVE, BELOW)
    assert above[ABOVE] == pytest.approx(0, abs=0.01)
    # Teal is nowhere painted.
    assert above[TEAL_PHOTO] == below[TEAL_PHOTO] == pytest.approx(1)


def test_what_is_transparent_of_a_painting_does_not_matter(place: Path, tmp_path: Path, run: Run) -> None:
    painting({(0, 0, 100, 18): RED}, clear=(0, 128, 128)).save(tmp_path / "painted.png")
    assert hits_of(run, "--paint", tmp_path / "painted.png") == hits_of(run, "--paint", "painted-above.png")


def test_a_region_asks_as_a_picture_of_this_part_alone(place: Path, tmp_path: Path, run: Run) -> None:
    columns(COLUMNS[SPOT]).crop((90, 10, 100, 60)).save(tmp_path / "part.png")
    assert hits_of(run, SPOT, "--region", "90,10,10,50") == hits_of(run, tmp_path / "part.png")
    whole = distances(run, SPOT, "--region", "98,0,2,60")
    assert next(iter(whole)) == ORANGE_PHOTO
    assert distances(run, SPOT, "--region", "0,0,100,60") == distances(run, SPOT)


def test_the_background_of_a_picture_can_be_ignored(place: Path, run: Run) -> None:
    assert paths_of(run, "shoe.png")[0] == WHITE_PHOTO
    assert paths_of(run, "shoe.png", "--ignore-background")[0] == TEAL_PHOTO
    # Its border is of two colours, so that there is no background.
    assert distances(run, HALF, "--ignore-background") == distances(run, HALF)


def test_the_distance_is_the_root_of_the_weighted_mean_of_the_squares_of_its_parts(place: Path, run: Run) -> None:
    like, color, accent = (
        distances(run, *words) for words in ([GREY_PHOTO], ["--color", "teal:60"], ["--accent", "red"])
    )
    words = [GREY_PHOTO, "--color", "teal:60", "--accent", "red"]
    for weights in ({}, {"color": 3.0}, {"like": 0.25, "accent": 2.0}):
        options = [word for kind, weight in weights.items() for word in ("--weight", f"{kind}={weight}")]
        found = distances(run, *words, *options)
        w = {"like": 1.0, "color": 1.0, "accent": 1.0} | weights
        for path in AMOUNTS:
            squares = w["like"] * like[path] ** 2 + w["color"] * color[path] ** 2 + w["accent"] * accent[path] ** 2
            assert found[path] == pytest.approx(math.sqrt(squares / sum(w.values())), abs=1e-9)


def test_the_order_in_which_things_are_asked_for_does_not_matter(place: Path, run: Run) -> None:
    options = [["--color", "teal:30"], ["--color", "orange"], ["--like", MOST], ["--like", HALF], ["--accent", "red"]]
    one, other = ([word for option in given for word in option] for given in (options, options[::-1]))
    assert hits_of(run, *one) == hits_of(run, *other)


# --- from a pipe


def test_a_picture_from_a_pipe_is_asked_with_as_its_file_is(place: Path, run: Run) -> None:
    content = Path("shoe.png").read_bytes()
    for words in ([], ["--color", "teal:30"], ["--ignore-background"], ["--region", "30,15,40,30"], ["--explain"]):
        from_file = json.loads(succeeded(run("search", "shoe.png", *words, "--format", "json")).stdout)
        from_pipe = json.loads(succeeded(piped(content, "-", *words, "--format", "json")).stdout)
        assert from_pipe["hits"] == from_file["hits"]
        assert from_pipe["query"] == from_file["query"].replace("shoe.png", "-")


def test_a_picture_from_a_pipe_is_one_of_many_queries(place: Path, run: Run) -> None:
    both = json.loads(piped(Path("shoe.png").read_bytes(), HALF, "-", "--format", "json").stdout)
    assert [one["query"] for one in both] == [HALF, "-"]
    assert [one["hits"][0]["path"] for one in both] == [HALF, WHITE_PHOTO]


@pytest.mark.parametrize("options", [[], ["--color", "teal"]])
def test_a_pipe_that_is_no_picture_is_skipped_among_many_queries(place: Path, options: list[str]) -> None:
    result = piped(b"Buy milk.", "-", HALF, *options, "--strict", "--format", "paths", "-n", 1)
    assert result.stderr == "cbir: skipped -: not a picture, or of a format that cannot be read\n"
    assert (result.exit_code, result.stdout) == (3, f"{HALF}\n")


@pytest.mark.parametrize("options", [[], ["--color", "teal"], ["--region", "0,0,5,5"]])
def test_a_pipe_without_a_picture_is_an_error_of_one_line(place: Path, options: list[str]) -> None:
    before = listing(place)
    assert failed(piped(b"", "-", *options), 1) == "cbir: standard input: is empty; pipe a picture into it"
    assert failed(piped(b"Buy milk.", "-", *options), 1) == (
        "cbir: standard input: not a picture, or of a format that cannot be read"
    )
    assert listing(place) == before


def test_standard_input_that_is_closed_is_an_error_of_one_line(place: Path) -> None:
    command = f"exec {shlex.quote(sys.executable)} -m cbir search - <&-"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "cbir: standard input: is closed; pipe a picture into it\n"


@pytest.mark.parametrize("words", ["- -", "- --like -", "--like -", f"{HALF} --unlike -", "--paint -", "- --paint -"])
def test_standard_input_is_one_query(place: Path, words: str) -> None:
    assert "standard input is one picture" in failed(piped(Path("shoe.png").read_bytes(), *words.split()), 2)


# --- how hits are told


def test_a_table_has_a_column_of_shares_for_each_colour_before_the_path(place: Path, run: Run) -> None:
    words = ["--color", "teal:60", "--without", "rgb(255,165,0):60", "--without", "#c00000:1", "-n", 3]
    assert succeeded(run("search", *words)).stdout.splitlines() == [
        "rank  distance    teal  #c00000  rgb(255,165,0)  colours and path",
        f"   1    0.0000   60.2%     0.0%            0.0%  #008080 60% #808080 40%  {MOST}",
        f"   2    0.0000  100.0%     0.0%            0.0%  #008080 100%             {TEAL_PHOTO}",
        f"   3    0.1667   50.0%     0.0%           50.0%  #008080 50% #ffa500 50%  {HALF}",
    ]


def test_a_long_name_is_cut_in_the_table_only(place: Path, run: Run) -> None:
    name = "oklch(0.5432 0.0923 194.7)"
    assert succeeded(run("search", "--color", name)).stdout.startswith("rank  distance  oklch(0.5432 0.0  colours")
    assert hits_of(run, "--color", name)[0]["asked"][0]["color"] == name


def test_json_tells_how_much_of_each_colour_a_photo_has(place: Path, run: Run) -> None:
    for path, told in shares(run, "--color", "teal:60", "--accent", "orange~5", "--without", "red:99").items():
        own = [AMOUNTS[path].get(color, 0) / 100 for color in (TEAL, ORANGE)]
        assert told[:2] == pytest.approx(own, abs=0.005)
    value = json.loads(succeeded(run("search", "--color", "teal:60", "--tone", "cool", "--format", "json")).stdout)
    assert value["query"] == "color teal:60, tone cool"
    assert list(value["hits"][0]) == ["rank", "path", "distance", "asked"]
    assert [one["color"] for one in value["hits"][0]["asked"]] == ["teal"]


@every_question
def test_all_formats_tell_the_same_hits(place: Path, run: Run, words: list[str]) -> None:
    def told(format: str) -> str:
        return succeeded(run("search", *words, "--format", format)).stdout

    hits = json.loads(told("json"))["hits"]
    assert hits
    assert [json.loads(line) for line in told("jsonl").splitlines()] == hits
    assert told("paths").splitlines() == told("paths0").split("\0")[:-1] == [hit["path"] for hit in hits]
    header, *rows = csv.reader(io.StringIO(told("csv"), newline=""))
    assert header == ["rank", "path", "distance", *(one["color"] for one in hits[0].get("asked", []))]
    assert [[int(rank), path, *map(float, numbers)] for rank, path, *numbers in rows] == [
        [hit["rank"], hit["path"], hit["distance"], *(one["share"] for one in hit.get("asked", []))] for hit in hits
    ]
    _, *lines = told("table").splitlines()
    assert [line.split()[-1] for line in lines] == [hit["path"] for hit in hits]


@every_question
def test_what_the_explanation_tells_sums_to_the_distance(place: Path, run: Run, words: list[str]) -> None:
    hits = hits_of(run, *words, "--explain")
    assert [hit | {"explanation": 0} for hit in hits] == [hit | {"explanation": 0} for hit in hits_of(run, *words)]
    for hit in hits:
        why = hit["explanation"]
        added = [one["added"] for one in (*why["pairs"], *why["parts"])]
        assert sum(added) + why["rest"] == pytest.approx(hit["distance"], abs=1e-9)
        assert why["distance"] == pytest.approx(hit["distance"], abs=1e-9)


@every_question
def test_below_each_row_the_table_tells_what_sums_to_its_distance(place: Path, run: Run, words: list[str]) -> None:
    plain = succeeded(run("search", *words)).stdout.splitlines()
    _, *lines = succeeded(run("search", *words, "--explain")).stdout.splitlines()
    rows = [line for line in lines if not line.startswith("      ")]
    assert rows == plain[1:]
    blocks = re.split(r"^ {0,3}\d.*\n", "\n".join(lines) + "\n", flags=re.MULTILINE)[1:]
    for row, block in zip(rows, blocks, strict=True):
        *added, (name, distance) = [line.rsplit(maxsplit=1) for line in block.splitlines()]
        assert (name.strip(), distance) == ("distance", row.split()[1])
        assert all(number[0] in "+-" for _, number in added)
        assert sum(float(number) for _, number in added) == pytest.approx(float(distance), abs=1e-9)


def test_an_explanation_names_what_is_missing_and_what_went_to_which(place: Path, run: Run) -> None:
    (hit,) = [hit for hit in hits_of(run, "--color", "teal:60", "--explain") if hit["path"] == HALF]
    found, missing = sorted(hit["explanation"]["pairs"], key=lambda pair: pair["added"])
    assert (found["query"], found["photo"], found["added"]) == (TEAL, TEAL, 0)
    assert found["share"] == pytest.approx(0.5, abs=0.005)
    assert (missing["query"], missing["photo"]) == (TEAL, None)
    assert missing["share"] == pytest.approx(0.1, abs=0.005)
    assert missing["added"] == pytest.approx(10 / 60, abs=0.005)


def test_with_many_queries_each_is_asked_together_with_the_colours(place: Path, run: Run) -> None:
    queries, words = [RED_PHOTO, "shoe.png", SPOT], ["--color", "orange:20", "--without", "white", "--format", "json"]
    alone = [json.loads(succeeded(run("search", query, *words)).stdout) for query in queries]
    together = json.loads(succeeded(run("search", *queries, *words)).stdout)
    assert together == alone
    assert [one["query"] for one in together] == [f"{query}, color orange:20, without white" for query in queries]


def test_a_picture_that_all_of_many_ask_with_fails_them_all(place: Path, run: Run) -> None:
    for option in ("--like", "--paint", "--unlike"):
        # Also where one of the queries cannot be read either, or is that very picture.
        for queries in (
            [RED_PHOTO, HALF],
            ["empty.gpl", HALF],
            *([["notes.jpg", HALF]] if option != "--unlike" else []),
        ):
            line = failed(run("search", *queries, option, "notes.jpg"), 1)
            assert line == "cbir: notes.jpg: not a picture, or of a format that cannot be read"


# --- whether it is right, what bounds it, and what it took


@every_question
@pytest.mark.parametrize("options", ["", "-n 3 --offset 1 --not-itself", "--distinct 0.6 --within 0.99 --below photos"])
def test_hits_are_those_of_comparing_with_every_photo(place: Path, run: Run, words: list[str], options: str) -> None:
    plain = succeeded(run("search", *words, *options.split(), "--format", "json"))
    result = run("search", *words, *options.split(), "--format", "json", "--verify")
    hits = json.loads(result.stdout)["hits"]
    assert (result.exit_code, result.stderr) == (0, f"cbir: exact: {len(hits)} of {len(hits)}\n")
    assert result.stdout == plain.stdout


def test_each_of_many_questions_is_verified_by_its_own_name(place: Path, run: Run) -> None:
    result = run("search", RED_PHOTO, HALF, "--accent", "orange", "--verify", "-n", 3)
    assert result.stderr.splitlines() == [f"cbir: {query}, accent orange: exact: 3 of 3" for query in (RED_PHOTO, HALF)]


def test_bounds_go_together_with_colours(place: Path, run: Run) -> None:
    whole = [(hit["path"], hit["distance"]) for hit in hits_of(run, "--color", "teal:60")]

    def some(*options: object) -> list[tuple[str, float]]:
        return [(hit["path"], hit["distance"]) for hit in hits_of(run, "--color", "teal:60", *options)]

    assert some("--below", "photos/a", "--exclude", MOST) == [
        one for one in whole if one[0].startswith("photos/a") and one[0] != MOST
    ]
    assert some("--within", 0.9) == whole[:4]
    assert some("--offset", 2) == whole[2:]


def test_all_pictures_that_are_liked_can_be_left_out(place: Path, run: Run) -> None:
    words = [TEAL_PHOTO, "--like", "orange.png", "--color", "grey"]
    both = {TEAL_PHOTO, ORANGE_PHOTO}
    assert paths_of(run, *words, "--not-itself") == [path for path in paths_of(run, *words) if path not in both]
    assert len(json.loads(run("search", *words, "--not-itself", "-n", 3, "--format", "json").stdout)["hits"]) == 3


def test_photos_that_are_alike_are_put_together_whatever_was_asked_for(place: Path, run: Run) -> None:
    assert distances(run, GREY_PHOTO)[SPOT] < 0.6
    hits = {hit["path"]: hit["alike"] for hit in hits_of(run, "--color", "grey", "--distinct", 0.6)}
    assert SPOT in hits[GREY_PHOTO]
    assert set(hits) | {path for alike in hits.values() for path in alike} == set(AMOUNTS)
    table = succeeded(run("search", "--color", "grey", "--distinct", 0.6, "-n", 1)).stdout
    assert table.endswith(f"  {GREY_PHOTO} (+{len(hits[GREY_PHOTO])} alike)\n")


def test_pictures_that_are_liked_are_ranked_anew(place: Path, run: Run) -> None:
    words = ["--like", TEAL_PHOTO, "--like", f"{HALF}*2", "--unlike", RED_PHOTO]
    again = hits_of(run, *words, "--rerank")
    assert {hit["path"]: hit["distance"] for hit in again} == distances(run, *words)
    assert set(paths_of(run, TEAL_PHOTO, "--rerank", "--without", "orange")) == set(
        paths_of(run, "--without", "orange")
    )


@every_question
def test_stats_tell_of_all_photos_and_do_not_change_the_hits(place: Path, run: Run, words: list[str]) -> None:
    result = run("search", *words, "-n", 2, "--stats")
    assert (result.exit_code, result.stdout) == (0, succeeded(run("search", *words, "-n", 2)).stdout)
    heading, *_, total = result.stderr.splitlines()
    assert heading.split() == ["stage", "looked", "at", "left", "ms"]
    assert total.split()[:3] == ["total", str(len(AMOUNTS)), "2"]


def test_asking_changes_nothing(place: Path, run: Run) -> None:
    before = listing(place)
    for words in QUESTIONS.values():
        run("search", *words, "--explain", "--verify")
    assert listing(place) == before


# --- how hits are shown


def page_of(path: Path) -> Element:
    page = tree_of(path.read_bytes())
    names = {element.name for element in everything(page)}
    assert not names & {"script", "iframe", "object", "embed", "form", "base", "link", "foreignobject"}
    attributes = [one for element in everything(page) for one in element.attributes.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    addresses = [value for name, value in attributes if name in ("href", "src", "xlink:href")]
    assert all(value.startswith(("file:///", "data:image/jpeg;base64,", "#")) for value in addresses)
    return page


def everything(element: Element) -> Iterator[Element]:
    for child in element.children:
        yield child
        yield from everything(child)


@every_question
def test_a_page_shows_every_hit_and_explains_it_when_asked(
    place: Path, tmp_path: Path, run: Run, words: list[str]
) -> None:
    target = tmp_path / "hits.html"
    words = [*words, "-n", "4", "--format", "json"]
    plain = succeeded(run("search", *words)).stdout
    for options, drawings in (([], 0), (["--explain"], 1)):
        result = run("search", *words, *options, "--html", target, "--force")
        assert (result.exit_code, result.stderr) == (0, f"cbir: wrote {target}\n")
        hits = json.loads(result.stdout)["hits"]
        page = page_of(target)
        assert [heading.all_text() for heading in page.all("h2")] == [json.loads(plain)["query"]]
        cards = list(page.all("li"))
        assert [next(card.all("a")).attributes["href"] for card in cards] == [
            (place / hit["path"]).as_uri() for hit in hits
        ]
        for card, hit in zip(cards, hits, strict=True):
            assert f"distance {hit['distance']:.4f}" in card.all_text()
            assert len(list(card.all("svg"))) == drawings
            for one in hit.get("asked", []):
                assert f"{one['color']} {one['share']:.1%}" in card.all_text()
    assert len(json.loads(plain)["hits"]) == len(cards)


def test_a_page_shows_the_photo_that_was_asked_with_and_the_colours(place: Path, tmp_path: Path, run: Run) -> None:
    for query in (HALF, "half.png", "shoe.png"):
        assert run("search", query, "--html", tmp_path / "hits.html", "--force", "-n", 1).exit_code == 0
        page = page_of(tmp_path / "hits.html")
        assert next(page.all("img")).attributes["alt"] == "The photo that was asked with"
    assert run("search", "--color", "teal:30", "--html", tmp_path / "hits.html", "--force").exit_code == 0
    labels = [one.attributes.get("aria-label") for one in page_of(tmp_path / "hits.html").all("div")]
    assert f"Colours: {TEAL} 30%" in labels


def test_a_page_of_many_queries_has_a_section_for_each(place: Path, tmp_path: Path, run: Run) -> None:
    words = [RED_PHOTO, "notes.jpg", HALF, "--accent", "orange", "-n", 2]
    assert run("search", *words, "--html", tmp_path / "hits.html").exit_code == 0
    page = page_of(tmp_path / "hits.html")
    assert [one.all_text() for one in page.all("h2")] == [f"{name}, accent orange" for name in (RED_PHOTO, HALF)]
    assert [len(list(section.all("li"))) for section in page.all("section")] == [2, 2]


def test_a_sheet_shows_the_hits_in_their_colours(place: Path, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "hits.png"
    result = run("search", "--color", "teal:60", "-n", 3, "--montage", target)
    assert (result.exit_code, result.stderr) == (0, f"cbir: wrote {target}\n")
    with Image.open(target) as image:
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 24)}
    assert {(0, 128, 128), (255, 165, 0), (128, 128, 128)} <= colors
    assert (192, 0, 0) not in colors


def test_without_hits_the_page_says_so_and_there_is_no_sheet(place: Path, tmp_path: Path, run: Run) -> None:
    page, sheet = tmp_path / "hits.html", tmp_path / "hits.png"
    result = run("search", "--color", "teal", "--tone", "dark", "--within", 0.1, "--html", page, "--montage", sheet)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [f"cbir: wrote {page}", f"cbir: {sheet}: not written, for there are no hits"]
    assert "Nothing was found." in page_of(page).all_text()
    assert not sheet.exists()


def test_hits_are_copied_by_rank(place: Path, tmp_path: Path, run: Run) -> None:
    result = run("search", "--color", "teal:60", "-n", 3, "--copy-to", tmp_path / "teal", "--format", "paths")
    assert (result.exit_code, result.stderr) == (0, f"cbir: 3 copies in {tmp_path / 'teal'}\n")
    copies = sorted((tmp_path / "teal").iterdir())
    assert [copy.name for copy in copies] == ["001-most.png", "002-teal.png", "003-half.png"]
    originals = [Path(path) for path in result.stdout.splitlines()]
    assert [copy.read_bytes() for copy in copies] == [original.read_bytes() for original in originals]
    assert not any(copy.is_symlink() for copy in copies)


def test_hits_are_linked_to_by_rank(place: Path, tmp_path: Path, run: Run) -> None:
    result = run("search", "--color", "teal:60", "-n", 2, "--link-to", tmp_path / "teal", "--offset", 1)
    assert (result.exit_code, result.stderr) == (0, f"cbir: 2 links in {tmp_path / 'teal'}\n")
    links = {link.name: os.readlink(link) for link in (tmp_path / "teal").iterdir()}
    assert links == {"001-teal.png": str(place / TEAL_PHOTO), "002-half.png": str(place / HALF)}


def test_hits_are_opened_in_the_viewer(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Sequence[str]] = []
    monkeypatch.setattr(shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr(seeing, "_start", opened.append)
    succeeded(run("search", "--color", "teal:60", "-n", 2, "--open"))
    assert [path for command in opened for path in command[1:]] == [str(place / MOST), str(place / TEAL_PHOTO)]


def test_without_a_viewer_the_hits_are_printed_and_an_error_of_one_line(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    result = run("search", "--color", "teal:60", "-n", 1, "--open", "--format", "paths")
    assert (result.exit_code, result.stdout) == (1, f"{MOST}\n")
    assert result.stderr.startswith("cbir: there is no viewer")
    assert len(result.stderr.splitlines()) == 1


# --- what cannot be

# Words, the exit code, and what the line says.
REFUSED: dict[str, tuple[int, str]] = {
    "--color teal:60 --color orange:50": (2, "110 %"),
    "--color teal:100 --color orange": (2, "nothing is left"),
    "--color teal:-3": (2, "--color: teal:-3: an amount is above 0"),
    "--color teal:0": (2, "an amount is above 0"),
    "--color teal:101": (2, "an amount is at most 100"),
    "--color teal:1e999": (2, "an amount is at most 100"),
    "--color teal:nan": (2, "an amount is a number"),
    "--color teal:": (2, "an amount is a number"),
    "--color teal:20:30": (2, "given twice"),
    "--color teal~0": (2, "a tolerance is above 0"),
    "--color teel:60": (2, "did you mean steel, teal, steelblue?"),
    "--color ''": (2, "there is no colour ''"),
    "--color '#12345'": (2, "3 or 6 digits"),
    "--color 'rgb(0,0,300)'": (2, "not within 0 to 255"),
    "--color 'rgba(0,0,0,0.5)'": (2, "alpha"),
    "--accent orange:5": (2, "--accent: orange:5: an accent has no amount"),
    "--accent oranje": (2, "did you mean"),
    "--without oranje": (2, "--without: there is no colour 'oranje'"),
    "--tone gloomy": (2, "there is no tone 'gloomy'; there are dark, light,"),
    "--tone ''": (2, "there is no tone ''"),
    "--weight color --color teal": (2, "--weight: 'color' is no weight"),
    "--weight color= --color teal": (2, "is no weight"),
    "--weight color=0 --color teal": (2, "the weight of color is a number above 0"),
    "--weight color=-1 --color teal": (2, "above 0"),
    "--weight color=nan --color teal": (2, "above 0"),
    "--weight color=1001 --color teal": (2, "up to 1000"),
    "--weight colour=2 --color teal": (2, "no kind 'colour'"),
    "--weight color=2": (2, "nothing is asked for"),
    "--like teal.png*0": (2, "a weight is a number above 0"),
    "--like teal.png*1001": (2, "up to 1000"),
    "--like teal.png*-1": (1, "teal.png*-1: no such file"),
    f"--like {TEAL_PHOTO} --unlike {TEAL_PHOTO}": (2, "liked and unliked at once"),
    f"--like teal.png --unlike {TEAL_PHOTO}": (1, "liked and unliked at once"),
    f"--like ./{TEAL_PHOTO} --unlike {TEAL_PHOTO}": (1, "liked and unliked at once"),
    f"{TEAL_PHOTO} --unlike a/teal.png": (1, "liked and unliked at once"),
    f"--unlike {TEAL_PHOTO}": (2, "nothing is asked for"),
    f"--color teal --unlike {TEAL_PHOTO}": (2, "go with a picture that is liked"),
    "--like missing.png": (1, "missing.png: no such file, nor a photo in indexes/photos"),
    f"{TEAL_PHOTO} --unlike missing.png": (1, "missing.png: no such file"),
    "--like notes.jpg": (1, "notes.jpg: not a picture"),
    f"{TEAL_PHOTO} --region 90,0,20,20": (1, "is not within its 100 x 60 pixels"),
    f"{TEAL_PHOTO} --region 0,0,0,5": (2, "is no region"),
    f"{TEAL_PHOTO} --region 1,2,3": (2, "is no region"),
    f"{TEAL_PHOTO} --region=-1,0,5,5": (2, "is no region"),
    f"{TEAL_PHOTO} --region ''": (2, "is no region"),
    f"{TEAL_PHOTO} --region {'9' * 30},0,1,1": (1, "is not within"),
    "--color teal --region 0,0,5,5": (2, "go with a picture that is liked"),
    "--ignore-background": (2, "nothing is asked for"),
    "": (2, "nothing is asked for"),
    "--paint clear.png": (1, "clear.png: nothing is painted"),
    "--paint speck.png": (1, "speck.png: next to nothing is painted"),
    "--paint notes.jpg": (1, "notes.jpg: not a picture"),
    "--paint missing.png": (1, "missing.png: no such file"),
    "--paint photos": (1, "photos: a folder, not a file"),
    "--palette notes.gpl": (1, "notes.gpl: not a palette file"),
    "--palette notes.txt": (1, "notes.txt: not a palette file"),
    "--palette notes.jpg": (1, "notes.jpg: not a palette file"),
    "--palette empty.gpl": (1, "empty.gpl: not a palette file"),
    "--palette none.gpl": (1, "none.gpl: "),
    "--palette missing.gpl": (1, "missing.gpl: no such file"),
    "--palette none.gpl --color teal": (2, "goes without --color"),
    "--rerank --color teal": (2, "--rerank: goes by likeness"),
    f"{TEAL_PHOTO} --rerank --accent orange": (2, "--rerank: goes by likeness"),
    f"{TEAL_PHOTO} --rerank --paint painted-above.png": (2, "--rerank: goes by likeness"),
    "--rerank --tone dark": (2, "--rerank: goes by likeness"),
    "--color teal --preview": (2, "--preview: shows pictures in a terminal only"),
    "--color teal --link-to links": (2, "--link-to: goes without --copy-to"),
    f"{TEAL_PHOTO} {HALF} --color teal": (2, "is of one query"),
    "--color teal --montage hits.txt": (1, "hits.txt: pictures are written as"),
    "--color teal --montage hits.png -n 1000000": (1, "take fewer pictures"),
    "--color teal --below nowhere": (1, "nowhere: no photo of indexes/photos"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_asked_is_said_in_one_line_and_no_file_is_written(
    place: Path, tmp_path: Path, run: Run, words: str
) -> None:
    code, said = REFUSED[words]
    before = listing(place)
    outputs = ["--html", tmp_path / "hits.html", "--copy-to", tmp_path / "hits"]
    line = failed(run("search", *shlex.split(words), *outputs), code)
    assert said in line
    assert ("(see cbir search --help)" in line) == (code == 2)
    assert listing(place) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--montage hits.png", "--copy-to hits", "--link-to hits", "--open", "--stats"])
def test_what_is_of_one_query_is_refused_for_many(place: Path, run: Run, option: str) -> None:
    line = failed(run("search", TEAL_PHOTO, HALF, "--color", "teal", *option.split()), 2)
    assert f"{option.split()[0]}: is of one query" in line


@pytest.mark.parametrize(("option", "name"), [("--html", "hits.html"), ("--montage", "hits.png")])
def test_an_output_that_exists_is_overwritten_when_forced_only(
    place: Path, tmp_path: Path, run: Run, option: str, name: str
) -> None:
    target = tmp_path / name
    target.write_bytes(b"precious")
    other = ["--copy-to", tmp_path / "hits"]
    assert "--force" in failed(run("search", "--color", "teal", option, target, *other), 1)
    assert listing(tmp_path) == {name: b"precious"}
    assert run("search", "--color", "teal", option, target, "--force").exit_code == 0
    assert target.read_bytes() != b"precious"


@pytest.mark.parametrize("option", ["--copy-to", "--link-to"])
def test_nothing_is_copied_or_written_where_a_name_exists_forced_or_not(
    place: Path, tmp_path: Path, run: Run, option: str
) -> None:
    (tmp_path / "hits").mkdir()
    (tmp_path / "hits" / "002-teal.png").write_bytes(b"precious")
    before = listing(tmp_path)
    for force in ([], ["--force"]):
        words = ["--color", "teal:60", option, tmp_path / "hits", "--html", tmp_path / "hits.html", *force]
        result = run("search", *words, "--montage", tmp_path / "hits.png")
        assert result.exit_code == 1
        assert result.stderr.splitlines() == [
            f"cbir: {tmp_path}/hits/002-teal.png: exists; name another folder, or empty this one"
        ]
        assert listing(tmp_path) == before


# --- hostile texts

HOSTILE = [
    "\x1b]0;pwned\x07teal",
    "te\nal\r\x1b[2J",
    "<script>alert(1)</script>",
    "\u202elaet",
    "te\u2028al\u202e",
    "'\"><b>",
    "%s%n",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "option", ["--color", "--accent", "--without", "--tone", "--like", "--paint", "--palette", "--region", "--weight"]
)
def test_whatever_a_text_holds_it_does_nothing_to_the_terminal(place: Path, run: Run, option: str, text: str) -> None:
    result = run("search", HALF, option, text)
    assert not CONTROL & set(result.stdout + result.stderr)
    assert result.exit_code in (1, 2)
    failed(result, result.exit_code)


def test_a_colour_in_several_lines_is_told_in_one(place: Path, tmp_path: Path, run: Run) -> None:
    words = ["--color", "dark\norange\t:\n60", "--html", tmp_path / "hits.html", "--explain"]
    result = run("search", *words)
    assert result.exit_code == 0
    assert result.stdout.startswith("rank  distance  dark orange  colours and path\n")
    assert not CONTROL & set(result.stdout + result.stderr)
    assert not CONTROL & set(next(page_of(tmp_path / "hits.html").all("h2")).all_text())


def test_names_of_files_are_neither_run_by_the_terminal_nor_by_the_page(tmp_path: Path, run: Run) -> None:
    names = ["<script>alert(1)<", "two\nlines\x1b[31m.png", '"onerror="alert(1).png', "\u202egnp.png", "a*2.png"]
    for seed, name in enumerate(names):
        make_photo(tmp_path / "photos" / name, seed, format="PNG")
    painting({(0, 0, 100, 30): TEAL}).save(tmp_path / "<img src=x onerror=alert(1)>\x1b[31m\n.png", "PNG")
    Index.create(tmp_path / "indexes" / "photos", [tmp_path / "photos"], colors=8, jobs=1)
    (paint,) = tmp_path.glob("<img*")
    for name in names:
        target = tmp_path / "hits.html"
        words = ["--like", f"photos/{name}", "--color", "teal:20", "--paint", paint, "--explain", "-n", 5]
        result = run("search", *words, "--html", target, "--force")
        assert result.exit_code == 0
        assert not CONTROL & set(result.stdout + result.stderr)
        assert len(list(page_of(target).all("li"))) == len(names)
        many = run(
            "search", f"photos/{name}", f"photos/{names[0]}", "--tone", "monochrome", "--html", target, "--force"
        )
        assert not CONTROL & set(many.stdout + many.stderr)
        page_of(target)
        value = json.loads(run("search", *words, "--format", "json").stdout)
        assert f"like photos/{name}" in value["query"] and paint.name in value["query"]
    copies = run("search", "--color", "teal:20", "--copy-to", tmp_path / "two\nlines\x1b[31m")
    assert copies.exit_code == 0 and not CONTROL & set(copies.stdout + copies.stderr)
    assert len(list((tmp_path / "two\nlines\x1b[31m").iterdir())) == len(names)


# --- odd indexes


@pytest.fixture
def emptied(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    """An index all of whose photos were dropped."""
    shutil.copytree(place / "indexes", tmp_path / "indexes")
    for segment in (tmp_path / "indexes" / "photos").glob("segment-*"):
        segment.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert run("check", "photos", "--repair").exit_code == 0
    monkeypatch.chdir(place)
    return tmp_path / "indexes" / "photos"


@every_question
def test_in_an_index_without_photos_nothing_is_found(
    place: Path, tmp_path: Path, emptied: Path, run: Run, words: list[str]
) -> None:
    result = run(
        "search", *words, "--index", emptied, "--format", "json", "--explain", "--html", tmp_path / "none.html"
    )
    assert (result.exit_code, json.loads(result.stdout)["hits"]) == (0, [])
    assert "Nothing was found." in page_of(tmp_path / "none.html").all_text()


@every_question
def test_an_index_that_knows_no_places_is_asked_for_everything_all_the_same(
    place: Path, tmp_path: Path, run: Run, words: list[str], whole: Path
) -> None:
    result = run("search", *words, "--index", whole, "--format", "json", "--explain", "--verify")
    hits = json.loads(result.stdout)["hits"]
    assert (result.exit_code, result.stderr) == (0, f"cbir: exact: {len(hits)} of {len(hits)}\n")
    assert hits


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the global descriptor, which knows how much there is of each colour, but not where."""
    target = tmp_path_factory.mktemp("whole") / "index"
    Index.create(target, [folder / "photos"], colors=7, descriptor="global", jobs=1)
    return target


def test_a_painting_is_asked_for_by_its_amounts_where_no_places_are_known(place: Path, run: Run, whole: Path) -> None:
    above, below = (distances(run, "--index", whole, "--paint", f"painted-{where}.png") for where in ("above", "below"))
    assert above == below
    assert [above[path] for path in (ABOVE, BELOW, RED_PHOTO)] == pytest.approx([0, 0, 0], abs=0.01)


# --- help


def helps() -> dict[str, str]:
    """The help of each option of `cbir search`, by its longest name."""
    options = [one for one in COMMAND.commands["search"].params if one.param_type_name == "option"]
    return {max(one.opts, key=len): one.help for one in options}


# Those that neither ask nor show: which index or store, and how the search is done.
OTHERS = {"--index", "--metric", "--force", "--rerank", "--verify", "--stats", "--axes", "--jobs", "--strict", "--help"}
OTHERS |= {"--store", "--effort", "--exact"}
ASKING_OR_SHOWING = sorted(helps().keys() - OTHERS - {"--not-itself"})


def test_every_option_is_in_the_help(run: Run) -> None:
    shown = succeeded(run("search", "--help")).stdout
    assert len(ASKING_OR_SHOWING) >= 20
    assert all(re.search(rf"\s{option}\b", shown) for option in helps())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that examples speak of."""
    home = tmp_path_factory.mktemp("home")
    for name in ("a.jpg", "b.jpg", "c.jpg", "shoe.jpg", "photos/scans/y.png", "photos/2024/x.png"):
        make_photo(home / name, sum(map(ord, name)), (640, 480))
    painting({(0, 0, 100, 30): ORANGE}).save(home / "sunset.png")
    (home / "brand.ase").write_bytes(to_ase([Swatch(np.array((0, 128, 128), np.uint8), 1.0)], "brand"))
    Index.create(home / "indexes" / "photos", [home / "photos"], colors=16, jobs=1)
    return home


@pytest.fixture
def at_home(home: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run there, with a viewer; what is written is removed."""
    monkeypatch.setattr(shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr(seeing, "_start", lambda command: None)
    monkeypatch.chdir(home)
    before = set(home.iterdir())
    yield
    for path in set(home.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("option", ASKING_OR_SHOWING)
@pytest.mark.usefixtures("at_home")
def test_an_option_that_asks_or_shows_has_an_example_that_works(run: Run, option: str) -> None:
    _, found, example = helps()[option].partition("Example: ")
    assert found
    words = shlex.split(example)
    assert {option, "-n" if option == "--limit" else option} & set(words)
    words = words[2:] if words[:2] == ["cbir", "search"] else words
    asks = any(
        word in words for word in ("--like", "--color", "--accent", "--tone", "--palette", "--paint", "--without")
    )
    result = run("search", *(words if asks or words[0].endswith(".jpg") else ["a.jpg", "--color", "teal", *words]))
    # There is no terminal here to show pictures in.
    assert result.exit_code == (2 if option == "--preview" else 0), result.stderr
