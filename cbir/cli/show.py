"""Colours and tables on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

from cbir.cli.shell import is_terminal, printable
from cbir.color import hex_of_bytes
from cbir.histogram import Swatch

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from cbir.indexing import Progress

# Width of a bar of swatches, in characters.
_BAR = 12
_SHOWN_SHARE = 0.01


def in_color() -> bool:
    """Whether standard output shows colours: a terminal does, unless NO_COLOR is set; FORCE_COLOR makes a pipe do."""
    if os.environ.get("NO_COLOR"):
        return False
    return is_terminal(sys.stdout) or bool(os.environ.get("FORCE_COLOR"))


def block(swatch: Swatch, width: int) -> str:
    """A block of one colour, as wide as told, for a terminal that shows 24-bit colours."""
    return "\x1b[48;2;{};{};{}m".format(*swatch.srgb.tolist()) + " " * width + "\x1b[0m"


def bars(rows: Sequence[Sequence[Swatch]]) -> list[str]:
    """Main colours as a column of a table: bars on a terminal that shows colours, else hex values with per cent."""
    rows = [[s for s in row if s.share >= _SHOWN_SHARE] for row in rows]
    if in_color():
        return [_bar(row) for row in rows]
    cells = [" ".join(f"{hex_of_bytes(s.srgb)} {s.share:3.0%}" for s in row) for row in rows]
    width = max(map(len, cells), default=0)
    return [cell.ljust(width) for cell in cells]


def _bar(swatches: Sequence[Swatch]) -> str:
    """Blocks side by side, each as wide as its share, together always of the same width."""
    ends = [0.0, *accumulate(s.share for s in swatches)]
    cuts = [round(_BAR * end / ends[-1]) for end in ends]
    return "".join(block(s, b - a) for s, a, b in zip(swatches, cuts, cuts[1:], strict=False))


def size(count: float) -> str:
    """Bytes in a unit that suits."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: the first column to the left, the others to the right."""
    shown = [_column(cells, i > 0) for i, cells in enumerate(zip(*rows, strict=True))]
    return ["  ".join(row).rstrip() for row in zip(*shown, strict=True)]


def _column(cells: Sequence[str], to_the_right: bool) -> list[str]:
    shown = [printable(cell) for cell in cells]
    width = max(map(len, shown))
    return [cell.rjust(width) if to_the_right else cell.ljust(width) for cell in shown]


@contextmanager
def progress_bar(what: str) -> Iterator[Progress | None]:
    """A bar with rate and time left on standard error while it is a terminal; else None."""
    with stage_bar() as tell:
        if tell is None:
            yield None
            return
        # How much there is to do has to be found out first.
        tell(what, 0, None)
        yield lambda done, total: tell(what, done, total)


@contextmanager
def stage_bar() -> Iterator[Callable[[str, int, int | None], None] | None]:
    """The same for work in stages, each with a bar of its own: it is told what is done, how much, and of how much.

    There is none before it is told something: what is done already needs no bar.
    """
    if not is_terminal(sys.stderr):
        yield None
        return
    with ExitStack() as opened:
        bars: Bars | None = None
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int | None) -> None:
            nonlocal bars
            if bars is None:
                bars = opened.enter_context(_bars())
            if what not in tasks:
                while tasks:
                    bars.remove_task(tasks.popitem()[1])
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as Bars
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} a second" if task.speed else "")

    # What is printed meanwhile goes where it is to go, not to the console of the bar.
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeLeft())
    return Bars(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
