"""What is asked for on the command line, as queries."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import typer

from cbir.errors import CbirError, PictureError

if TYPE_CHECKING:
    from cbir.color_name import Wanted
    from cbir.query import Like, Query

STANDARD_INPUT = "-"
_WEIGHED = re.compile(r"(?P<picture>.+)\*(?P<weight>[0-9]+\.?[0-9]*|\.[0-9]+)", re.DOTALL)
_T = TypeVar("_T")


class Asked(NamedTuple):
    """One search: what it is called, the file or photo of the index that it begins with, if any, and the query.

    `given` is that picture as it was written, such as `-` for the file that holds what came by standard input.
    """

    name: str
    picture: str | None
    query: str | Query
    given: str | None = None


@dataclass(frozen=True)
class Asking:
    """All options of `cbir search` that say what is asked for, as they were written."""

    pictures: tuple[str, ...]
    colors: tuple[str, ...]
    accents: tuple[str, ...]
    without: tuple[str, ...]
    tones: tuple[str, ...]
    palette: Path | None
    like: tuple[str, ...]
    unlike: tuple[str, ...]
    paint: Path | None
    region: str | None
    ignore_background: bool
    weights: tuple[str, ...]

    @property
    def _is_plain(self) -> bool:
        """Whether there are pictures alone."""
        others = (self.colors, self.accents, self.without, self.tones, self.palette, self.like, self.unlike, self.paint)
        return self.region is None and not any((*others, self.ignore_background, self.weights))

    @property
    def is_of_pictures(self) -> bool:
        """Whether photos are ranked by their likeness to pictures alone."""
        return bool(self.pictures or self.like) and not any((self.colors, self.accents, self.palette, self.paint))

    @contextmanager
    def questions(self) -> Iterator[list[Asked]]:
        """The searches: one for each picture, or a single one. A picture from standard input is a file within.

        Raises BadParameter for what cannot be asked, CbirError for a file that cannot be read.
        """
        # Whether all can be asked is said before standard input is read.
        asked = [self._asked(picture, picture) for picture in self.pictures] or [self._asked(None, None)]
        elsewhere = STANDARD_INPUT in (*self.like, *self.unlike, str(self.paint))
        if not elsewhere and STANDARD_INPUT not in self.pictures:
            yield asked
            return
        if elsewhere or self.pictures.count(STANDARD_INPUT) != 1:
            raise typer.BadParameter("standard input is one picture, given once as QUERY", param_hint="-")
        with _standard_input() as file:
            try:
                yield [
                    self._asked(picture, file) if picture == STANDARD_INPUT else one
                    for picture, one in zip(self.pictures, asked, strict=True)
                ]
            except PictureError as error:
                raise PictureError("standard input" if error.path == file else error.path, error.reason) from error

    def _asked(self, name: str | None, picture: str | None) -> Asked:
        if picture is not None and self._is_plain:
            return Asked(str(name), picture, picture, name)
        query = self._query(picture)
        return Asked(self._described(name), picture, query, name)

    def _described(self, name: str | None) -> str:
        """The question in words, as it was written."""
        words = [] if name is None else [name]
        told = {"like": self.like, "unlike": self.unlike, "color": self.colors, "accent": self.accents}
        told |= {"without": self.without, "tone": self.tones}
        words += [f"{kind} {value}" for kind, values in told.items() for value in values]
        words += [f"palette {self.palette}"] if self.palette else []
        words += [f"paint {self.paint}"] if self.paint else []
        words += [f"region {self.region}"] if self.region else []
        words += ["ignore-background"] if self.ignore_background else []
        return ", ".join([*words, *(f"weight {one}" for one in self.weights)])

    def _query(self, picture: str | None) -> Query:
        from cbir.query import Like, Query, Region

        likes = [_like(text) for text in self.like] + ([Like(picture)] if picture is not None else [])
        colors = [*_checked("--color", lambda: _parsed(self.colors)), *self._palette()]
        return _checked(
            "QUERY",
            lambda: Query(
                like=likes,
                unlike=[_like(text) for text in self.unlike],
                colors=colors,
                accents=_checked("--accent", lambda: _parsed(self.accents, amounts=False)),
                without=_checked("--without", lambda: _parsed(self.without)),
                tones=self.tones,
                paint=None if self.paint is None else str(self.paint),
                region=None if self.region is None else Region.parse(self.region),
                ignore_background=self.ignore_background,
                weights=dict(map(_weight, self.weights)),
            ),
        )

    def _palette(self) -> list[Wanted]:
        if self.palette is None:
            return []
        from cbir.color import hex_of_bytes, lab_of_bytes
        from cbir.color_name import NamedColor
        from cbir.palette_file import read_palette_file
        from cbir.query import painted

        if self.colors:
            raise typer.BadParameter("is a whole picture's colours, so it goes without --color", param_hint="--palette")
        srgb = read_palette_file(self.palette)
        named = [NamedColor(hex_of_bytes(one), tuple(lab_of_bytes(one).astype(float).tolist())) for one in srgb]
        return list(painted(named))


def _parsed(texts: tuple[str, ...], amounts: bool = True) -> list[Wanted]:
    from cbir.color_name import ColorError, parse_wanted

    wanted = [parse_wanted(text) for text in texts]
    for text, one in zip(texts, wanted, strict=True):
        if one.amount is not None and not amounts:
            raise ColorError(f"{text}: an accent has no amount; it stands out, however small")
    return wanted


def _checked(option: str, make: Callable[[], _T]) -> _T:
    from cbir.color_name import ColorError
    from cbir.query import QueryError

    try:
        return make()
    except (QueryError, ColorError) as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _like(text: str) -> Like:
    """A picture, with its weight after a `*`, unless a file is called so."""
    from cbir.query import Like

    found = _WEIGHED.fullmatch(text)
    if found is None or os.path.exists(text):
        return Like(text)
    return Like(found["picture"], float(found["weight"][:20]))


def _weight(text: str) -> tuple[str, float]:
    kind, _, value = text.partition("=")
    try:
        return kind.strip(), float(value)
    except ValueError:
        raise typer.BadParameter(
            f"{text[:40]!r} is no weight; write for instance color=2", param_hint="--weight"
        ) from None


@contextmanager
def _standard_input() -> Iterator[str]:
    """A file that holds what comes by standard input. Raises CbirError if nothing does, or too much."""
    from cbir.decode import DEFAULT_LIMITS

    most = DEFAULT_LIMITS.file_bytes
    if sys.stdin is None:
        raise CbirError("standard input: is closed; pipe a picture into it")
    with tempfile.TemporaryDirectory(prefix="cbir-") as folder:
        path = os.path.join(folder, "standard-input")
        with open(path, "wb") as file:
            while chunk := sys.stdin.buffer.read(1 << 20):
                file.write(chunk)
                if file.tell() > most:
                    raise CbirError(f"standard input: larger than {most >> 20:,} MiB, which no photo is")
            if not file.tell():
                raise CbirError("standard input: is empty; pipe a picture into it")
        yield path
