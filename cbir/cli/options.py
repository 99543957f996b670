"""Options that several commands have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cbir.metric import Metric

IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        envvar="CBIR_INDEX",
        metavar="NAME|DIR",
        help="The index: a name below indexes/, or a folder. Example: --index photos",
    ),
]
IndexArgument = Annotated[
    str | None,
    typer.Argument(metavar="[INDEX]", envvar="CBIR_INDEX", help="A name below indexes/, or a folder."),
]
MetricOption = Annotated[
    str,
    typer.Option(
        metavar="NAME[:RANGE][,SETTING=VALUE]...",
        help="The distance. NAME: cbir, the default; qbic, as QBIC published it; or [sqrt-]laplacian, gaussian or "
        "linear, the form over whole photos' amounts or their roots. RANGE: of similar colours, in Delta E. "
        "SETTING: similarity, power, spread, centred, or a weight: of whole, smooth, mixed, busy, top, middle, bottom, "
        "centre. Example: --metric cbir:5,centre=2",
    ),
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes; one per core by default. Example: -j 1")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist. Example: -o out.png --force")]


def parse_distance(value: float | None) -> float | None:
    """A distance of 0 or more, if there is one. Raises BadParameter."""
    if value is not None and not 0 <= value < math.inf:
        raise typer.BadParameter(f"{value} is no distance of 0 or more")
    return value


def parse_metric(text: str) -> Metric:
    """A metric by its name and settings. Raises BadParameter."""
    from cbir.errors import MetricError
    from cbir.metric import Metric

    try:
        return Metric.parse(text)
    except MetricError as error:
        raise typer.BadParameter(str(error), param_hint="--metric") from error
