"""What is done with hits beside printing them, as it was asked for on the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cbir.cli.asking import Asked
from cbir.cli.hits import Answer
from cbir.cli.shell import quoted_path, tell
from cbir.cli.show import stage_bar
from cbir.color import bytes_of_lab
from cbir.find import Skipped
from cbir.histogram import Swatch
from cbir.index import Index
from cbir.metric import Metric
from cbir.ranking import Hit

if TYPE_CHECKING:
    from cbir.page import Card, Section
    from cbir.stored import StoredIndex

# Pairs of colours that a picture of an explanation shows: all that there are of eight main colours each.
_PAIRS = 64


@dataclass(frozen=True)
class Seeing:
    """Whether distances are explained, and where and how hits are shown."""

    explain: bool
    html: Path | None
    montage: Path | None
    preview: bool
    open: bool
    copy_to: Path | None
    link_to: Path | None
    force: bool

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to show."""
        return any((self.html, self.montage, self.preview, self.open, self.copy_to, self.link_to))

    def check(self, many: bool, limit: int) -> None:
        """Refuse, before any search, what cannot be. Raises BadParameter or OutputError."""
        if not self.is_asked:
            return
        from cbir.cli.seeing import check_page_output, check_preview, check_sheet_output

        singles = {"--montage": self.montage, "--open": self.open, "--copy-to": self.copy_to, "--link-to": self.link_to}
        for option, given in singles.items():
            if given and many:
                raise typer.BadParameter("is of one query", param_hint=option)
        if self.copy_to and self.link_to:
            raise typer.BadParameter("goes without --copy-to", param_hint="--link-to")
        if self.preview:
            check_preview(sys.stdout)
        if self.html:
            check_page_output(self.html, self.force)
        if self.montage:
            check_sheet_output(self.montage, limit, self.force)

    def show(
        self, index: Index | StoredIndex, metric: Metric, colors: Sequence[str], answers: Sequence[tuple[Asked, Answer]]
    ) -> None:
        """Show hits in all the ways that were asked for, and tell what was written."""
        if not self.is_asked:
            return
        hits = [hit for _, answer in answers for hit in answer.hits]
        # First what may yet be refused, for a name that exists, so that nothing is written then.
        if self.copy_to or self.link_to:
            self._gather(hits)
        if self.html:
            self._write_page(self.html, index, metric, colors, answers)
        if self.montage and hits:
            self._write_sheet(self.montage, hits)
        elif self.montage:
            tell(f"{self.montage}: not written, for there are no hits")
        if self.preview:
            self._preview(hits)
        if self.open:
            from cbir.cli.seeing import open_hits

            open_hits([hit.path for hit in hits])

    def _write_page(
        self,
        target: Path,
        index: Index | StoredIndex,
        metric: Metric,
        colors: Sequence[str],
        answers: Sequence[tuple[Asked, Answer]],
    ) -> None:
        from cbir.cli.seeing import save_page
        from cbir.page import thumbnail_side

        side = thumbnail_side(sum(len(answer.hits) for _, answer in answers))
        with stage_bar() as bar:

            def sections() -> Iterator[Section]:
                for asked, answer in answers:
                    progress = partial(bar, "thumbnails") if bar else None
                    yield self._section(index, metric, colors, asked, answer, side, progress)

            save_page(target, "cbir search", sections(), self.force)
        tell(f"wrote {target}")

    def _section(
        self,
        index: Index | StoredIndex,
        metric: Metric,
        colors: Sequence[str],
        asked: Asked,
        answer: Answer,
        side: int,
        progress: Callable[[int, int], object] | None,
    ) -> Section:
        from cbir.cli.seeing import hit_cards
        from cbir.flow import flow_svg
        from cbir.page import Section
        from cbir.thumbnail import thumbnail

        def why(hit: Hit) -> str:
            (explanation,) = index.explain(asked.query, [hit.path], metric, most=_PAIRS)
            return flow_svg(explanation)

        cards = hit_cards(answer.hits, index.palette.lab, why if self.explain else None, side=side, progress=progress)
        picture = None if asked.picture is None else thumbnail(_file_of(index, asked.picture), side)
        swatches: tuple[Swatch, ...] = ()
        if not isinstance(asked.query, str):
            swatches = tuple(Swatch(bytes_of_lab(one.lab), one.share) for one in asked.query.asked)
        lead = (f"{len(answer.hits):,} hits among {len(index):,} photos, by the metric {metric}",)
        return Section(asked.name, lead, swatches, picture, _with_shares(cards, answer.hits, colors))

    def _write_sheet(self, target: Path, hits: Sequence[Hit]) -> None:
        from cbir.cli.seeing import save_sheet

        with stage_bar() as bar:
            save_sheet(target, hits, self.force, progress=partial(bar, "thumbnails") if bar else None)
        tell(f"wrote {target}")

    def _gather(self, hits: Sequence[Hit]) -> None:
        from cbir.gather import copy_to

        folder = self.copy_to or self.link_to
        assert folder is not None
        skipped: list[Skipped] = []
        with stage_bar() as bar:
            made = copy_to(
                [hit.path for hit in hits],
                folder,
                self.link_to is not None,
                skipped,
                partial(bar, "files") if bar else None,
            )
        for one in skipped:
            tell(f"skipped {quoted_path(one.path)}: {one.reason}")
        tell(f"{len(made):,} {'links' if self.link_to else 'copies'} in {folder}")

    def _preview(self, hits: Sequence[Hit]) -> None:
        from cbir.cli.seeing import PREVIEW_SIDE, hit_caption, preview
        from cbir.thumbnail import thumbnails

        pictures = list(thumbnails([hit.path for hit in hits], PREVIEW_SIDE))
        preview([(hit_caption(hit), one) for hit, one in zip(hits, pictures, strict=True)], sys.stdout)


def _file_of(index: Index | StoredIndex, picture: str) -> str:
    """Where a picture is that is a file, or is told by its name in the index; a store knows whole paths alone."""
    return index.path(index.find(picture)) if isinstance(index, Index) and not os.path.exists(picture) else picture


def _with_shares(cards: Iterable[Card], hits: Sequence[Hit], colors: Sequence[str]) -> Iterator[Card]:
    """Cards that also tell how much of each asked colour the photo has."""
    for card, hit in zip(cards, hits, strict=True):
        told = tuple(f"{name} {share:.1%}" for name, share in zip(colors, hit.asked, strict=True))
        yield replace(card, lines=(*card.lines, ", ".join(told))) if told else card
