"""Seeing what was found: in a terminal, in the system's viewer, on sheets and pages; or one line that says why not."""

import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import typer
from pictures import make_photo
from PIL import Image

from cbir import thumbnail as thumbnail_module
from cbir.cli import seeing
from cbir.cli.seeing import (
    PREVIEW_SIDE,
    check_page_output,
    check_preview,
    check_sheet_output,
    hit_caption,
    hit_cards,
    open_hits,
    preview,
    save_page,
    save_sheet,
)
from cbir.errors import CbirError
from cbir.page import Card, Section
from cbir.ranking import Hit

RED, BLUE = (200, 30, 40), (30, 60, 200)
# Black, red and white.
LAB = np.array([[0, 0, 0], [43, 65, 45], [100, 0, 0]], np.float32)
PICTURE = np.full((PREVIEW_SIDE * 2 // 3, PREVIEW_SIDE, 3), RED, np.uint8)


@pytest.fixture(autouse=True)
def thumbnails_without_workers(monkeypatch):
    def serial(work: Callable[..., object], items: Sequence[str], jobs: int, *arguments: object, lost: object):
        yield from (work(item, *arguments) for item in items)

    monkeypatch.setattr(thumbnail_module, "in_order", serial)


def hit(rank: int, path: object, distance: float = 0.5, alike: tuple[str, ...] = ()) -> Hit:
    return Hit(rank, str(path), distance, np.array([0.2, 0.7, 0.1]), alike)


# --- in the terminal


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return 1


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    """A terminal of 64 characters, in which two pictures have room side by side; without chafa.py."""

    def not_installed(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((64, 24)))
    monkeypatch.setattr(seeing, "import_module", not_installed)
    return Terminal()


Colors = tuple[tuple[int, ...], tuple[int, ...]]


def cells_of(line: str) -> list[tuple[str, Colors]]:
    """The characters of a line with their foreground and background."""
    found = re.findall(r"(?:\x1b\[([\d;]*)m)?([^\x1b])(?:\x1b\[0m)?", line)
    cells = []
    for codes, character in found:
        numbers = [int(n) for n in codes.split(";")] if codes else []
        ground = {numbers[i]: tuple(numbers[i + 2 : i + 5]) for i in range(0, len(numbers), 5)}
        cells.append((character, (ground.get(38, ()), ground.get(48, ()))))
    return cells


def test_pictures_are_half_blocks_side_by_side_with_captions_below(terminal):
    preview([("one", PICTURE), ("two", PICTURE), ("three", PICTURE)], terminal)
    lines = terminal.getvalue().split("\n")
    captions = [i for i, line in enumerate(lines) if line and "\x1b" not in line]
    assert [lines[i].split() for i in captions] == [["one", "two"], ["three"]]
    assert lines[captions[0]].index("two") == 32
    above = cells_of(lines[captions[0] - 1])
    assert above[:30] == above[32:] == [("▀", (RED, RED))] * 30
    assert above[30:32] == [(" ", ((), ()))] * 2
    assert len(cells_of(lines[captions[1] - 1])) == 30
    assert captions[0] == 10


def test_the_upper_pixel_is_the_foreground_and_the_lower_the_background(terminal):
    # Stripes of ten pixels: one to each half of a character.
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[(np.arange(200) // 10) % 2 == 0] = RED
    picture[(np.arange(200) // 10) % 2 == 1] = BLUE
    preview([("a", picture)], terminal)
    assert set(cells_of(terminal.getvalue().split("\n")[4])) == {("▀", (RED, BLUE))}


def test_a_small_picture_stays_small_and_stands_on_its_caption(terminal):
    preview([("a", np.full((30, 50, 3), RED, np.uint8))], terminal)
    lines = terminal.getvalue().split("\n")
    assert [len(cells_of(line.rstrip())) for line in lines[:10]] == [0] * 8 + [5, 5]
    assert cells_of(lines[8].rstrip()) == [("▄", (RED, ()))] * 5


def test_what_cannot_be_read_keeps_its_place(terminal):
    preview([("gone", None), ("there", PICTURE)], terminal)
    lines = terminal.getvalue().split("\n")
    assert lines[10].split() == ["gone", "there"]
    marks = cells_of(lines[9])
    assert {cell for cell, _ in marks[:30]} == {"▄"} and marks[32] == ("▀", (RED, RED))
    assert cells_of(lines[5])[:32] == [(" ", ((), ()))] * 32


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        ("a\x1b]0;title\x07\n.jpg", "a\\x1b]0;title\\x07\\n.jpg"),
        ("1  0.0000  " + "x" * 50 + "0071.jpg", "1  0.0000  xxx…xxxxxxx0071.jpg"),
        ("写" * 30, "写" * 7 + "…" + "写" * 7),
        ("写真写真写真.jpg", "写真写真写真.jpg"),
    ],
    ids=["control characters", "long", "wide", "short"],
)
def test_captions_are_one_line_that_fits_and_does_nothing(terminal, caption, shown):
    preview([(caption, PICTURE)], terminal)
    assert terminal.getvalue().split("\n")[10] == shown


def test_a_narrow_terminal_shows_one_below_the_other(terminal, monkeypatch):
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((20, 24)))
    preview([("one", PICTURE), ("two", PICTURE)], terminal)
    assert [line for line in terminal.getvalue().split("\n") if line and "\x1b" not in line] == ["one", "two"]


def test_pictures_are_for_terminals_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    file = io.StringIO()
    with pytest.raises(typer.BadParameter, match="in a terminal only"):
        preview([("a", PICTURE)], file)
    assert not file.getvalue()
    check_preview(Terminal())
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(typer.BadParameter):
        check_preview(Terminal())


@pytest.mark.parametrize(
    ("surroundings", "beginning"),
    [
        ({"TERM": "xterm-kitty"}, "\x1b_G"),
        ({"TERM": "foot"}, "\x1bP"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "\x1b]1337;File="),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "\x1b["),
    ],
    ids=["kitty", "sixel", "iTerm2", "symbols"],
)
def test_with_chafa_a_terminal_gets_pictures_as_it_shows_them(monkeypatch, surroundings, beginning):
    pytest.importorskip("chafa")
    for name in ("TERM", "TERM_PROGRAM", "COLORTERM", "LC_TERMINAL", "KITTY_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((64, 24)))
    stream = Terminal()
    preview([("one", PICTURE), ("gone", None)], stream)
    assert beginning in stream.getvalue()[:80]
    assert "one" in stream.getvalue() and "gone" in stream.getvalue()


# --- in the system's viewer

SCRIPT = "#!/bin/sh\nprintf '%s\\0' \"$@\" >> {log}\n{end}\n"
UNIX = pytest.mark.skipif(os.name != "posix", reason="viewers of Unix")


@pytest.fixture
def viewer(tmp_path, monkeypatch) -> Callable[..., Callable[[], list[str]]]:
    """Make a viewer that notes what it is to open: `viewer()() == [path, ...]`; `end` is what it does then."""

    def make(name: str = "xdg-open", end: str = "exit 0") -> Callable[[], list[str]]:
        log, folder = tmp_path / "opened", tmp_path / "bin"
        folder.mkdir()
        (folder / name).write_text(SCRIPT.format(log=log, end=end))
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        monkeypatch.setattr(sys, "platform", "darwin" if name == "open" else "linux")
        return lambda: log.read_text(errors="surrogateescape").split("\0")[:-1] if log.exists() else []

    return make


NAMES = ["-n.jpg", "$(touch pwned).jpg", "a; touch pwned.jpg", "a\nb.png", 'it\'s "a".jpeg', "%41 #?.jpg", "\udcff.tif"]


@UNIX
def test_photos_of_any_name_are_opened_as_they_are_and_by_no_shell(tmp_path, viewer, monkeypatch):
    opened = viewer()
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        make_photo(tmp_path / name, RED, format="PNG")
    open_hits(NAMES)
    assert opened() == [str(tmp_path / name) for name in NAMES]
    assert not (tmp_path / "pwned").exists()


@UNIX
def test_macos_shows_all_in_one_window(tmp_path, viewer):
    opened = viewer("open")
    paths = [str(make_photo(tmp_path / f"{i}.png", i)) for i in range(3)]
    open_hits(paths)
    assert opened() == paths


@UNIX
@pytest.mark.parametrize("name", ["a.desktop", "a.bat", "a.html", "a", "a.jpg.exe"])
def test_a_file_that_the_system_may_run_is_told_and_not_opened(tmp_path, viewer, capsys, name):
    opened = viewer()
    path = make_photo(tmp_path / name, RED, format="PNG")
    good = make_photo(tmp_path / "good.png", RED)
    open_hits([str(path), str(good)])
    assert opened() == [str(good)]
    assert re.fullmatch(
        r"cbir: skipped .*: not opened, for its name is not that of a picture\n", capsys.readouterr().err
    )


@UNIX
def test_a_photo_that_is_gone_is_told(tmp_path, viewer, capsys):
    opened = viewer()
    open_hits([str(tmp_path / "gone.jpg")])
    assert opened() == []
    assert "gone.jpg: no such file" in capsys.readouterr().err


@UNIX
def test_a_viewer_that_fails_is_an_error_in_one_line(tmp_path, viewer):
    viewer(end="exit 3")
    with pytest.raises(CbirError, match=r"^no viewer could open .*a\.png \(xdg-open failed\)$"):
        open_hits([str(make_photo(tmp_path / "a.png", RED))])


@UNIX
def test_a_viewer_that_stays_open_is_not_waited_for(tmp_path, viewer, monkeypatch):
    opened = viewer(end="exec sleep 5")
    monkeypatch.setattr(seeing, "_SECONDS_TO_FAIL", 0.5)
    path = str(make_photo(tmp_path / "a.png", RED))
    open_hits([path])
    assert opened() == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has a viewer of its own")
def test_no_viewer_is_an_error_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CbirError, match=r"^there is no viewer to open photos with \(.*open is not installed\)$"):
        open_hits([str(make_photo(tmp_path / "a.png", RED))])


@UNIX
def test_too_many_are_refused_before_any_is_opened(tmp_path, viewer):
    opened = viewer()
    path = str(make_photo(tmp_path / "a.png", RED))
    with pytest.raises(CbirError, match="ask for 20 at most"):
        open_hits([path] * 21)
    assert opened() == []


# --- on a sheet


def test_a_sheet_shows_all_hits_with_those_that_are_gone(tmp_path):
    make_photo(tmp_path / "a.png", RED, (80, 60))
    told = []
    hits = [hit(1, tmp_path / "a.png"), hit(2, tmp_path / "gone.jpg")]
    save_sheet(tmp_path / "sheet.png", hits, columns=2, side=80, progress=lambda *done: told.append(done))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 80
        assert (np.asarray(sheet.crop((28, 28, 108, 88))) == np.asarray(Image.open(tmp_path / "a.png"))).all()
    assert told == [(1, 2), (2, 2)]


def test_a_caption_has_rank_distance_and_name():
    assert hit_caption(hit(12, "/photos/holiday/a.jpg", 0.84361)) == "12  0.8436  a.jpg"


@pytest.fixture
def no_thumbnails(monkeypatch) -> None:
    def fail(*_: object) -> Iterator[None]:
        raise AssertionError("a thumbnail is made")

    monkeypatch.setattr(seeing, "thumbnails", fail)


@pytest.mark.parametrize(
    ("name", "number", "line"),
    [
        ("there.png", 1, "exists; add --force"),
        ("sheet.txt", 1, "pictures are written as"),
        ("nowhere/sheet.png", 1, "no such folder"),
        ("sheet.png", 5000, "take fewer"),
        ("sheet.png", 0, "no picture"),
    ],
)
def test_a_sheet_that_cannot_be_written_is_refused_before_any_work(tmp_path, no_thumbnails, name, number, line):
    (tmp_path / "there.png").write_bytes(b"mine")
    for refused in (
        lambda: check_sheet_output(tmp_path / name, number, False),
        lambda: save_sheet(tmp_path / name, [hit(1, "a.jpg")] * number),
    ):
        with pytest.raises(CbirError, match=line):
            refused()
    assert os.listdir(tmp_path) == ["there.png"] and (tmp_path / "there.png").read_bytes() == b"mine"


def test_a_sheet_is_overwritten_if_that_is_asked_for(tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"mine")
    save_sheet(tmp_path / "sheet.png", [hit(1, make_photo(tmp_path / "a.png", RED))], force=True)
    assert Image.open(tmp_path / "sheet.png").width > 240


# --- on a page


def test_a_page_is_written_whole_with_a_card_for_each_hit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = make_photo(tmp_path / "holiday" / "a.png", RED)
    hits = [hit(1, path, 0), hit(2, tmp_path / "gone.jpg", 0.84361, alike=("/b.jpg", "/c.jpg"))]
    first, second = hit_cards(hits, LAB, why=lambda hit: f"<b>{hit.rank}</b>")
    assert (first.path, first.title) == (str(path), "a.png")
    assert first.lines == ("1.  distance 0.0000", "holiday")
    assert first.thumbnail is not None and first.extra_html == "<b>1</b>"
    assert second.lines == ("2.  distance 0.8436", ".", "+2 alike") and second.thumbnail is None
    assert [round(swatch.share, 3) for swatch in first.swatches] == [0.7, 0.2, 0.1]
    save_page(tmp_path / "page.html", "Hits", [Section("Like", (), (), None, [first, second])])
    content = (tmp_path / "page.html").read_bytes()
    assert content.startswith(b"<!doctype html>") and content.endswith(b"</html>\n")
    assert content.count(b"<li>") == 2


def test_a_page_of_too_many_hits_is_refused_before_the_search(tmp_path):
    with pytest.raises(CbirError, match="at most"):
        check_page_output(tmp_path / "page.html", False, 10_001)
    check_page_output(tmp_path / "page.html", False, 10_000)


def test_cards_without_an_explanation_have_no_markup(tmp_path):
    (card,) = hit_cards([hit(1, make_photo(tmp_path / "a.png", RED))], LAB)
    assert card.extra_html == ""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("there.html", "exists; add --force"),
        ("page.png", "pages are written as .html"),
        ("no/page.html", "no such folder"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_any_work(tmp_path, name, line):
    (tmp_path / "there.html").write_bytes(b"mine")

    def cards() -> Iterator[Card]:
        raise AssertionError("a card is made")
        yield

    for refused in (
        lambda: check_page_output(tmp_path / name, False),
        lambda: save_page(tmp_path / name, "Hits", [Section("Like", (), (), None, cards())]),
    ):
        with pytest.raises(CbirError, match=line):
            refused()
    assert (tmp_path / "there.html").read_bytes() == b"mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=repr)
def test_a_page_that_is_interrupted_leaves_what_was_there(tmp_path, error):
    (tmp_path / "page.html").write_bytes(b"mine")

    def cards() -> Iterator[Card]:
        yield Card("/a.jpg", "a", (), (), None)
        raise error

    with pytest.raises((KeyboardInterrupt, CbirError)) as caught:
        save_page(tmp_path / "page.html", "Hits", [Section("Like", (), (), None, cards())], force=True)
    assert caught.type is KeyboardInterrupt or "cannot be written (no space left on device)" in str(caught.value)
    assert os.listdir(tmp_path) == ["page.html"] and (tmp_path / "page.html").read_bytes() == b"mine"


@UNIX
def test_a_page_may_be_read_by_whom_the_user_lets_read_new_files(tmp_path):
    save_page(tmp_path / "page.html", "Hits", [])
    assert stat.S_IMODE(os.stat(tmp_path / "page.html").st_mode) & 0o400
