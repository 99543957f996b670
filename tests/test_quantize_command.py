"""`cbir quantize` as its users run it: many pictures at once, styles, pages, shapes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from pictures import make_photo
from PIL import Image
from typer.testing import Result

from cbir.signature import PICTURE_SUFFIXES


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.stderr
    return result


def colors_in(path: Path) -> int:
    with Image.open(path) as image:
        return len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, seed in {"photos/a.png": 1, "photos/below/b.jpg": 2, "photos/below/c.png": 3}.items():
        make_photo(tmp_path / name, seed, (60, 40))
    (tmp_path / "photos" / "notes.jpg").write_text("Buy milk.")
    (tmp_path / "photos" / "readme.txt").write_text("Nothing.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_folder_is_redrawn_below_another_and_what_cannot_be_read_costs_a_line(
    place: Path, run: Run, jobs: int
) -> None:
    result = done(run("quantize", "photos", "-o", "flat", "-k", 3, "-j", jobs))
    assert result.stdout.splitlines() == [f"flat/{name}: 3 colours" for name in ("a.png", "below/b.png", "below/c.png")]
    assert "skipped photos/notes.jpg: not a picture" in result.stderr
    assert "3 pictures redrawn, 1 skipped" in result.stderr
    assert [colors_in(place / "flat" / name) for name in ("a.png", "below/b.png", "below/c.png")] == [3, 3, 3]
    again = run("quantize", "photos", "-o", "flat")
    assert again.exit_code == 1 and "exists; add --force" in again.stderr
    assert run("quantize", "photos", "-o", "flat", "--force", "--strict").exit_code == 3


def test_a_folder_s_pictures_can_be_of_another_format(place: Path, run: Run) -> None:
    done(run("quantize", "photos/below", "-o", "flat", "--ending", "webp", "--style", "poster"))
    assert sorted(path.name for path in (place / "flat").iterdir()) == ["b.webp", "c.webp"]


def test_two_pictures_that_would_go_to_one_place_are_refused(place: Path, run: Run) -> None:
    make_photo(place / "photos" / "a.jpg", 4)
    result = run("quantize", "photos", "-o", "flat")
    assert result.exit_code == 1 and "would go there" in result.stderr
    assert not (place / "flat").exists()


def test_a_folder_without_pictures_is_refused(place: Path, run: Run) -> None:
    (place / "empty").mkdir()
    result = run("quantize", "empty", "-o", "flat")
    assert result.exit_code == 1 and "no pictures below" in result.stderr


def test_where_no_picture_can_be_read_the_run_fails(place: Path, run: Run) -> None:
    (place / "photos" / "only").mkdir()
    (place / "photos" / "only" / "x.jpg").write_text("no")
    assert run("quantize", "photos/only", "-o", "flat").exit_code == 1


def test_a_page_shows_pictures_before_and_after(place: Path, run: Run) -> None:
    done(run("quantize", "photos/a.png", "-o", "flat.png", "--html", "both.html"))
    page = (place / "both.html").read_text()
    assert page.count("<img") == 2 and "before" in page and "after" in page
    assert run("quantize", "photos/a.png", "-o", "other.png", "--html", "both.html").exit_code == 1
    assert not (place / "other.png").exists()


@pytest.mark.parametrize("style", ["flat", "darkly", "poster", "ink"])
def test_each_style_has_its_number_of_colours_or_the_one_that_is_told(place: Path, run: Run, style: str) -> None:
    done(run("quantize", "photos/a.png", "--style", style, "-o", "own.png"))
    assert colors_in(place / "own.png") <= {"flat": 8, "darkly": 16, "poster": 8, "ink": 2}[style]
    done(run("quantize", "photos/a.png", "--style", style, "-o", "four.png", "-k", 4))
    assert colors_in(place / "four.png") <= 4


@pytest.mark.parametrize(
    "options", [["--codec", "vp9"], ["--one-palette"], ["--from", "1"], ["--every", "2"], ["--preview"]]
)
def test_options_of_films_are_refused_for_pictures(place: Path, run: Run, options: list[str]) -> None:
    result = run("quantize", "photos/a.png", *options)
    assert result.exit_code == 2 and options[0] in result.stderr and "is of a film" in result.stderr


def test_shapes_are_traced_as_svg(place: Path, run: Run) -> None:
    pytest.importorskip("vtracer", reason="vtracer, which traces shapes, is not installed")
    done(run("quantize", "photos/a.png", "-o", "a.svg"))
    assert (place / "a.svg").read_bytes().startswith(b"<?xml")
    assert ".svg" not in PICTURE_SUFFIXES
    assert run("quantize", "photos/a.png", "-o", "b.svg", "--side-by-side").exit_code == 1
