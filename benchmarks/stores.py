"""Made-up photos in the engines that `cbir push` knows: how fast they go in, how fast and how well they are found.

PostgreSQL is the server that CBIR_TEST_POSTGRES names, or one of our own; what is not installed is left out. What takes
hours is left out, too, unless it is asked for: `python -m benchmarks.stores --photos 1000000 --store faiss --kind ivf`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import settings, table
from benchmarks.mixtures import made_index, real
from cbir.color import U8
from cbir.index import Index
from cbir.push import push_index
from cbir.store import parse_address
from cbir.stored import Answer, StoredIndex

# Of a million only what compares with all is measured: graphs of so many take hours to build on two cores.
_SIZES = {1_000: ("flat", "hnsw", "ivf"), 10_000: ("flat", "hnsw", "ivf"), 100_000: ("flat", "hnsw", "ivf"),
          1_000_000: ("flat",)}  # fmt: skip
# Milvus Lite keeps all in memory, 14 KB a photo.
_MOST = {"milvus": 100_000}
_LIMIT, _QUERIES = 10, 100
# What each kind looks at: photos of a graph, cells.
_EFFORTS: dict[str, tuple[int | None, ...]] = {
    "flat": (None,),
    "hnsw": (20, 40, 80, 160, 320, 640),
    "ivf": (1, 4, 16, 64),
}
# Its Lite silently compares with all, whatever the kind, so only one is of use.
_KINDS = {"postgresql": ("flat", "hnsw", "ivf"), "milvus": ("flat",), "faiss": ("flat", "hnsw", "ivf")}
_PACKAGES = {"postgresql": ("psycopg", "pgvector"), "milvus": ("pymilvus", "milvus_lite"), "faiss": ("faiss",)}


class _Pushed(NamedTuple):
    """What one push of a store did: `seconds` in all, of these until all is found by its kind after all is sent, and
    for a second push that sends nothing; `bytes` on disk."""

    photos: int
    seconds: float
    settling: float
    again: float
    bytes: int


class _Found(NamedTuple):
    """What queries found: median and worst milliseconds of one, seconds of all together, the mean share of the true
    hits, and how many had all hits, at the distances to the last bit, and proven."""

    median: float
    worst: float
    together: float
    recall: float
    exact: int
    proven: int


def run(work: Path) -> None:
    """Print the tables."""
    measure(work, _SIZES, _PACKAGES)


def measure(work: Path, sizes: Mapping[int, Sequence[str]], schemes: Collection[str]) -> None:
    """Print the tables of so many photos each, with the kinds of these, in some stores."""
    made = real(work)
    for photos, kinds in sizes.items():
        index = Index.open(made_index(work / f"made-{photos}", made, photos))
        _measure(work / f"stores-{photos}", index, made.queries[:_QUERIES], kinds, schemes)


def _measure(work: Path, index: Index, queries: U8, kinds: Sequence[str], schemes: Collection[str]) -> None:
    photos = len(index)
    work.mkdir()
    truth, folder = _in_folder(index, queries)
    pushed: list[Sequence[str]] = []
    asked: list[Sequence[str]] = [("index in a folder", "", "", *_cells(folder, len(queries)))]
    with ExitStack() as opened:
        for scheme, url in _targets(work, opened, schemes):
            if photos > _MOST.get(scheme, photos):
                continue
            for kind in sorted({*_KINDS[scheme]} & {*kinds}):
                target = f"{url}#{kind}"
                told = _push(index, target, kind)
                rates = (
                    f"{photos / told.seconds:,.0f}",
                    f"{told.seconds:.0f}",
                    f"{told.settling:.1f}",
                    f"{told.again:.1f}",
                )
                pushed.append((scheme, kind, *rates, f"{told.bytes / photos:,.0f}"))
                for effort in _EFFORTS[kind]:
                    found = _ask(target, queries, truth, effort, exact=False)
                    asked.append((scheme, kind, "" if effort is None else str(effort), *_cells(found, len(queries))))
                found = _ask(target, queries, truth, None, exact=True)
                asked.append((scheme, kind, "--exact", *_cells(found, len(queries))))
    table(
        f"{photos:,} photos pushed, {index.space().dimensions} dimensions",
        ("store", "kind", "photos a second", "seconds", "settling, s", "again, nothing new, s", "bytes a photo"),
        pushed,
    )
    table(
        f"{len(queries)} held-out photos, the {_LIMIT} nearest of {photos:,}",
        ("store", "kind", "effort", "one, ms", "slowest, ms", "all, s", "recall", "all hits exact", "proven"),
        asked,
    )


def _cells(found: _Found, queries: int) -> tuple[str, ...]:
    return (
        f"{found.median:.1f}",
        f"{found.worst:.1f}",
        f"{found.together:.2f}",
        f"{found.recall:.1%}",
        f"{found.exact} of {queries}",
        f"{found.proven} of {queries}",
    )


_Truth = list[list[tuple[str, float]]]


def _in_folder(index: Index, queries: U8) -> tuple[_Truth, _Found]:
    """The true hits of the queries, and what the folder takes to find them."""
    index.prepare()
    index.nearest(queries[0], _LIMIT)
    times, truth = [], []
    for query in queries:
        started = time.perf_counter()
        found = index.nearest(query, _LIMIT)
        times.append(1000 * (time.perf_counter() - started))
        truth.append(list(zip(map(index.path, found.rows.tolist()), found.distances.tolist(), strict=True)))
    whole = _Found(statistics.median(times), max(times), sum(times) / 1000, 1.0, len(queries), len(queries))
    return truth, whole


def _push(index: Index, target: str, kind: str) -> _Pushed:
    sent = time.perf_counter()

    def tell(stage: str, *_: int) -> None:
        nonlocal sent
        sent = time.perf_counter() if stage == "settling" else sent

    report = push_index(index, target, kind=kind, progress=tell)
    settling = time.perf_counter() - sent
    again = push_index(index, target)
    assert (report.sent, again.sent) == (len(index), 0)
    return _Pushed(len(index), report.seconds, settling, again.seconds, _bytes(target))


def _ask(target: str, queries: U8, truth: _Truth, effort: int | None, exact: bool) -> _Found:
    with StoredIndex.open(target) as stored:
        stored.search(queries[0], _LIMIT, effort=effort, exact=exact)
        times, answers = [], []
        for query in queries:
            started = time.perf_counter()
            answers.append(stored.search(query, _LIMIT, effort=effort, exact=exact))
            times.append(1000 * (time.perf_counter() - started))
    told = [[(hit.path, hit.distance) for hit in answer.hits] for answer in answers]
    recall = statistics.mean(
        len({path for path, _ in one} & {path for path, _ in true}) / _LIMIT
        for one, true in zip(told, truth, strict=True)
    )
    same = sum(one == true for one, true in zip(told, truth, strict=True))
    return _Found(statistics.median(times), max(times), sum(times) / 1000, recall, same, _proven(answers))


def _proven(answers: Sequence[Answer]) -> int:
    return sum(answer.is_proven for answer in answers)


def _bytes(target: str) -> int:
    """What a store takes on disk."""
    address = parse_address(target)
    if address.parts.scheme == "postgresql":
        import psycopg

        with psycopg.connect(address.url) as connection:
            row = connection.execute(
                "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE nspname = %s AND relkind = 'r'",
                [address.name],
            ).fetchone()
        assert row is not None
        return int(row[0])
    place = Path(address.url.partition(":")[2])
    files = (
        [place] if place.is_file() else (place / address.name if address.parts.scheme == "faiss" else place).rglob("*")
    )
    return sum(path.stat().st_size for path in files if path.is_file())


def _targets(work: Path, opened: ExitStack, schemes: Collection[str]) -> Iterator[tuple[str, str]]:
    """The stores of some schemes that can be measured here, by scheme and address."""
    for scheme, packages in _PACKAGES.items():
        if scheme not in schemes:
            continue
        if missing := [package for package in packages if find_spec(package) is None]:
            print(f"\n{', '.join(missing)} is not installed, so the tables leave {scheme} out")
        elif scheme == "postgresql":
            yield scheme, os.environ.get("CBIR_TEST_POSTGRES") or opened.enter_context(_server())
        elif scheme == "milvus":
            yield scheme, f"milvus:{work / 'lite.db'}"
        else:
            yield scheme, f"faiss:{work / 'faiss'}"


def _server() -> AbstractContextManager[str]:
    """A server of our own, as the tests have one."""
    from tests.servers_postgres import postgres_server

    return postgres_server()


def main(words: Sequence[str]) -> int:
    """Print the tables of what is asked for by options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores")
    parser.add_argument("--photos", type=int, required=True, help="how many are made up")
    parser.add_argument("--store", action="append", choices=_PACKAGES, help="all unless told")
    parser.add_argument("--kind", action="append", choices=_EFFORTS, help="all unless told")
    asked = parser.parse_args(words)
    print(settings())
    with tempfile.TemporaryDirectory() as work:
        measure(Path(work), {asked.photos: asked.kind or tuple(_EFFORTS)}, asked.store or tuple(_PACKAGES))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
