"""Other machines, as the commands name them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cbir.cluster import Cluster


def cluster_at(scheduler: str | None) -> AbstractContextManager[Cluster | None]:
    """The cluster of a scheduler, or None where none is named. Raises BadParameter if that is no address of one."""
    from cbir.dask_cluster import dask_cluster, is_address

    if scheduler is None:
        return nullcontext()
    if not is_address(scheduler):
        raise typer.BadParameter("is no address such as tcp://host:8786", param_hint="--scheduler")
    return dask_cluster(scheduler)
