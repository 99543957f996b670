"""Running an evaluation, and printing what came out as a table, as Markdown, or as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import typer

from cbir.cli.places import find_index, is_index, place_for_index
from cbir.cli.shell import printable, shown_path, tell
from cbir.cli.show import columns, stage_bar
from cbir.errors import IndexFolderError, OutputError
from cbir.evaluation import summary
from cbir.evaluation.altered import AlteredEvaluation, evaluate_altered
from cbir.evaluation.labelled import Evaluation, Progress, evaluate_labelled
from cbir.evaluation.pictures import Curve, SheetRow, check_curves_output, save_contact_sheet, save_curves
from cbir.evaluation.summary import Mean
from cbir.find import Skipped
from cbir.index import Index
from cbir.indexing import build_index
from cbir.metric import Metric
from cbir.output import check_picture_output

# Searches on the contact sheet of the worst, and in the list of them.
_WORST_SHOWN, _WORST_LISTED = 10, 5


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of an evaluation go, if anywhere, and whether they may overwrite what is there."""

    curves: Path | None
    worst: Path | None
    force: bool

    def check(self) -> None:
        """Refuse, before any work, what cannot be written. Raises OutputError or MissingExtraError."""
        if self.curves:
            check_curves_output(self.curves, self.force)
        if self.worst:
            check_picture_output(self.worst, self.force)
        if self.curves and self.worst and self.curves.resolve() == self.worst.resolve():
            raise OutputError(f"{self.worst}: named for both pictures; name two files")

    def save(self, evaluation: Evaluation, name: str) -> None:
        """Write them."""
        if self.curves:
            curves = [Curve(one.name, one.precision_at_recall, one.recall) for one in evaluation.figures]
            save_curves(self.curves, curves, _title(evaluation, name), force=self.force)
            tell(f"wrote {self.curves}")
        if self.worst:
            rows = [
                SheetRow(f"{one.label}, average precision {one.average_precision:.3f}", one.path, one.hits)
                for one in summary.worst(evaluation, _WORST_SHOWN)
            ]
            save_contact_sheet(self.worst, rows, self.force)
            tell(f"wrote {self.worst}")


@dataclass(frozen=True)
class Opened:
    """An index, the folder that it is of, and what could not be read there."""

    index: Index
    folder: str
    skipped: Sequence[Skipped]


class Table(NamedTuple):
    """What is printed as a table: its title, the heads of the columns, and the rows; the first column is text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def run_labelled(
    path: str,
    index: str | None,
    layout: str | None,
    metric: Metric,
    rerank: bool,
    rivals: bool,
    format: str,
    pictures: Pictures,
    seed: int,
    jobs: int | None,
) -> None:
    """Evaluate on a labelled set, and print the figures."""
    pictures.check()
    with stage_bar() as progress:
        opened = _open(path, index, jobs, progress)
        evaluation = evaluate_labelled(
            opened.index,
            opened.folder,
            opened.skipped,
            layout=layout,
            metric=metric,
            again=rerank,
            against_rivals=rivals,
            jobs=jobs,
            progress=progress,
        )
    name = Path(os.path.abspath(opened.folder)).name
    for line in _not_in_the_figures(evaluation):
        tell(line)
    if format == "json":
        typer.echo(json.dumps(_labelled_json(evaluation, name, seed), indent=1))
    else:
        typer.echo(f"{printable(_title(evaluation, name))}; {_counted_out(evaluation)}; {evaluation.seconds:.1f} s")
        _print([_rankings_table(evaluation, seed), _classes_table(evaluation), _worst_table(evaluation)], format)
    # Last, so that the figures are there even if a picture cannot be written.
    pictures.save(evaluation, name)


def run_altered(
    path: str,
    index: str | None,
    metric: Metric,
    rivals: bool,
    format: str,
    seed: int,
    jobs: int | None,
) -> None:
    """Evaluate with altered copies, and print the figures."""
    with stage_bar() as progress:
        opened = _open(path, index, jobs, progress)
        evaluation = evaluate_altered(
            opened.index,
            opened.folder,
            opened.skipped,
            metric=metric,
            against_rivals=rivals,
            seed=seed,
            jobs=jobs,
            progress=progress,
        )
    for one in evaluation.left_out:
        tell(f"left out {shown_path(one.path)}: {one.reason}")
    if format == "json":
        typer.echo(json.dumps(_altered_json(evaluation, opened.folder, seed), indent=1))
        return
    copies = next(iter(evaluation.ranks.values())).size
    name = printable(Path(os.path.abspath(opened.folder)).name)
    typer.echo(
        f"{name}: {len(evaluation.photos):,} photos, each asked for by altered copies, "
        f"{copies:,} searches; {_count(len(evaluation.left_out), 'file')} left out; {evaluation.seconds:.1f} s"
    )
    _print([_first_table(evaluation, seed), _cases_table(evaluation)], format)


def _open(path: str, name: str | None, jobs: int | None, progress: Progress | None) -> Opened:
    """The index that a path is or is of; a folder's is made, or brought up to date."""
    if is_index(Path(path)) or (name is None and not Path(path).exists()):
        index = Index.open(find_index(path))
        roots = index.info().roots
        if len(roots) != 1:
            raise IndexFolderError(
                f"{index.folder}: is of {len(roots)} folders; name the one to evaluate, and this with --index"
            )
        return Opened(index, roots[0], index.unread())
    place = place_for_index(name, [path])
    count = None if progress is None else lambda done, total: progress("photos", done, total)
    report = build_index(place, [path], jobs=jobs, progress=count)
    return Opened(Index.open(place), path, report.skipped)


def _title(evaluation: Evaluation, name: str) -> str:
    return (
        f"{name}: {len(evaluation.photos):,} photos in {_count(len(evaluation.classes), 'class', 'classes')} "
        f"({evaluation.layout}), {_count(len(evaluation.queries), 'search', 'searches')}"
    )


def _not_in_the_figures(evaluation: Evaluation) -> Iterator[str]:
    for one in evaluation.left_out:
        yield f"left out {shown_path(one.path)}: {one.reason}"
    for label in evaluation.singletons:
        yield f"left out class {label}: one photo only, which has nothing to find"
    for label in evaluation.empty:
        yield f"left out class {label}: no photo that can be read"
    for label in evaluation.unasked:
        yield f"class {label} is only there to be found: its photo to search with is missing"


def _counted_out(evaluation: Evaluation) -> str:
    parts = [
        _count(len(evaluation.left_out), "file"),
        _count(len(evaluation.singletons), "class of one photo", "classes of one photo"),
        _count(len(evaluation.empty), "class without photos", "classes without photos"),
    ]
    return f"left out: {', '.join(part for part in parts if not part.startswith('0 ')) or 'nothing'}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _rankings_table(evaluation: Evaluation, seed: int) -> Table:
    rows, measures = [], list(evaluation.figures[0].values())
    for one in summary.rankings(evaluation, seed, intervals_of=("mAP",)):
        cells = [one.name]
        for measure in measures:
            cells.append(f"{one.measures[measure].mean:.3f}")
            if measure == "mAP":
                cells.append(_interval(one.measures[measure]))
        rows.append([*cells, "" if one.above_first is None else _signed(one.above_first)])
    heads = [head for measure in measures for head in ((measure, "95 %") if measure == "mAP" else (measure,))]
    return Table("Rankings", ["ranking", *heads, "mAP above the first's"], rows)


def _classes_table(evaluation: Evaluation) -> Table:
    shown = ("P@1", "P@10", "mAP")
    rows = [
        [one.name, f"{one.photos:,}", *(f"{one.measures[measure]:.3f}" for measure in shown)]
        for one in summary.classes(evaluation)
    ]
    return Table(f"Classes, by {evaluation.figures[0].name}", ["class", "photos", *shown], rows)


def _worst_table(evaluation: Evaluation) -> Table:
    rows = [
        [shown_path(one.path), one.label, f"{one.average_precision:.3f}", f"{sum(right for _, right in one.hits)}"]
        for one in summary.worst(evaluation, _WORST_LISTED)
    ]
    head = ["photo", "class", "average precision", "right among the first 10"]
    return Table(f"Worst searches, by {evaluation.figures[0].name}", head, rows)


def _first_table(evaluation: AlteredEvaluation, seed: int) -> Table:
    places = summary.first_places(evaluation, seed)
    transforms = list(next(iter(places.values()))[1])
    rows = [
        [name, f"{overall.mean:.3f}", _interval(overall), *(f"{by_transform[one]:.3f}" for one in transforms)]
        for name, (overall, by_transform) in places.items()
    ]
    return Table("How often the original is first", ["ranking", "all", "95 %", *transforms], rows)


def _cases_table(evaluation: AlteredEvaluation) -> Table:
    rows = [
        [
            f"{one.transform} {one.strength}".strip(),
            *(f"{share:.3f}" for share in (one.first, one.within)),
            f"{one.median_rank:g}",
            f"{one.mean_rank:.2f}",
            f"{one.worst_rank:,}",
        ]
        for one in summary.cases(evaluation)
    ]
    head = ["transform", "first", f"first {summary.FOUND_WITHIN}", "median rank", "mean rank", "worst rank"]
    return Table(f"At what rank the original is, by {next(iter(evaluation.ranks))}", head, rows)


def _interval(mean: Mean) -> str:
    return "" if mean.low is None else f"{mean.low:.3f}-{mean.high:.3f}"


def _signed(mean: Mean) -> str:
    return f"{mean.mean:+.3f}" + ("" if mean.low is None else f" ({mean.low:+.3f} to {mean.high:+.3f})")


def _print(tables: Sequence[Table], format: str) -> None:
    for table in tables:
        rows = [table.head, *table.rows]
        if format == "markdown":
            typer.echo(f"\n### {_cell(table.title)}\n")
            for i, row in enumerate(rows):
                typer.echo(f"| {' | '.join(map(_cell, row))} |")
                if i == 0:
                    typer.echo(f"|{'---|' * len(row)}")
            continue
        typer.echo(f"\n{printable(table.title)}")
        for line in columns(rows):
            typer.echo(line)


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")


def _labelled_json(evaluation: Evaluation, name: str, seed: int) -> dict[str, Any]:
    return {
        "set": name,
        "layout": evaluation.layout,
        "photos": len(evaluation.photos),
        "classes": len(evaluation.classes),
        "searches": len(evaluation.queries),
        "seed": seed,
        "level": summary.LEVEL,
        "left_out": [{"path": shown_path(one.path), "reason": one.reason} for one in evaluation.left_out],
        "classes_of_one_photo": evaluation.singletons,
        "classes_without_photos": evaluation.empty,
        "classes_without_searches": evaluation.unasked,
        "rankings": [
            {
                "name": one.name,
                "measures": {measure: mean._asdict() for measure, mean in one.measures.items()},
                "mAP_above_first": None if one.above_first is None else one.above_first._asdict(),
            }
            for one in summary.rankings(evaluation, seed)
        ],
        "by_class": [one._asdict() for one in summary.classes(evaluation)],
        "worst": [
            {
                "path": shown_path(one.path),
                "class": one.label,
                "average_precision": one.average_precision,
                "hits": [{"path": shown_path(path), "right": right} for path, right in one.hits],
            }
            for one in summary.worst(evaluation, _WORST_SHOWN)
        ],
    }


def _altered_json(evaluation: AlteredEvaluation, folder: str, seed: int) -> dict[str, Any]:
    return {
        "set": Path(os.path.abspath(folder)).name,
        "photos": len(evaluation.photos),
        "seed": seed,
        "level": summary.LEVEL,
        "left_out": [{"path": shown_path(one.path), "reason": one.reason} for one in evaluation.left_out],
        "rankings": [
            {"name": name, "first": overall._asdict(), "first_by_transform": by_transform}
            for name, (overall, by_transform) in summary.first_places(evaluation, seed).items()
        ],
        "transforms": [one._asdict() for one in summary.cases(evaluation)],
    }
