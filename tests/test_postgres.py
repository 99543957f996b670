"""The store in PostgreSQL, on a real server: what it keeps, what it finds and by which plan, and what it refuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("psycopg")
pytest.importorskip("pgvector")

import made_indexes
import psycopg
from psycopg import sql
from servers_postgres import ELSEWHERE, PASSWORD, SPELT, changed, free_port
from store_checks import DIMENSIONS, made, numbered

from cbir.errors import MissingExtraError
from cbir.push import push_index
from cbir.store import Rows, Store, StoreError, Where, key_of, open_store, parse_address
from cbir.stored import StoredIndex
from cbir.stores import postgres_sql
from cbir.stores.postgres import PostgresStore

NOWHERE = Where()
needs_own_server = pytest.mark.skipif(
    ELSEWHERE in os.environ, reason=f"it changes what all of a server shares, so not that of {ELSEWHERE}"
)


def order_of(rows: Rows, vector: np.ndarray, chosen: Callable[[str], bool] = bool) -> tuple[list[str], np.ndarray]:
    """All photos that are chosen by their paths, nearest first, with their distances: the plain reference."""
    distances = np.linalg.norm(rows.vectors.astype(float) - vector.astype(float), axis=1)
    order = [place for place in np.argsort(distances, kind="stable") if chosen(rows.paths[place])]
    return [rows.paths[place] for place in order], distances[order]


def marks_of(store: Store) -> dict[Any, int]:
    return {key: mark for keys, marks in store.marks() for key, mark in zip(keys, marks.tolist(), strict=True)}


@pytest.fixture
def store(postgres_address: str) -> Iterator[PostgresStore]:
    """An empty store."""
    opened = open_store(postgres_address)
    assert isinstance(opened, PostgresStore)
    opened.create(DIMENSIONS)
    yield opened
    opened.close()


@pytest.fixture
def admin(postgres: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


def schema_of(address: str) -> str:
    return address.partition("#")[2]


def query(admin: psycopg.Connection[Any], statement: str, address: str, *values: object) -> list[Any]:
    """Ask as the administrator; {} is the schema."""
    return admin.execute(sql.SQL(statement).format(sql.Identifier(schema_of(address))), values).fetchall()


def refused(action: Callable[[], object]) -> str:
    """What is said in one line; never a word of the password."""
    with pytest.raises(StoreError) as caught:
        action()
    said = str(caught.value)
    assert "\n" not in said and PASSWORD not in said and SPELT not in said and "horse" not in said
    assert caught.value.__suppress_context__ or "horse" not in str(caught.value.__context__)
    return said


def test_the_longest_paths_are_kept_and_found_by_their_folders(store: PostgresStore) -> None:
    noise = np.random.default_rng(4).integers(0x80, 0x100, 4000, dtype=np.uint8).tobytes().replace(b"/", b"")
    long = ["/a/" + noise.hex("/", 100)[:4000], os.fsdecode(b"/a/" + noise), "/b/" + "é" * 2000]
    rows = made(long)
    store.upsert(rows)
    store.settle("hnsw")
    found = store.search(rows.vectors[0], 9, Where(below=("/a",)), None, False).photos
    assert {photo.path for photo in found} == set(long[:2])


def test_marks_are_those_of_the_beginning_whatever_is_written_meanwhile(store: PostgresStore) -> None:
    rows = made(numbered(10_500))
    store.upsert(rows)
    expected = marks_of(store)
    assert expected == dict(zip(rows.keys, rows.marks.tolist(), strict=True))
    told: dict[Any, int] = {}
    for keys, marks in store.marks():
        told |= dict(zip(keys, marks.tolist(), strict=True))
        store.delete(keys)
    assert told == expected and store.count() == 0


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_the_nearest_are_told_in_order_with_their_distances(store: PostgresStore, kind: str) -> None:
    rows = made(numbered(3000))
    store.upsert(rows)
    store.settle(kind)
    for vector in made(numbered(5), seed=9).vectors:
        paths, distances = order_of(rows, vector)
        seen = store.search(vector, 50, NOWHERE, None, True)
        assert seen.is_scan and [photo.path for photo in seen.photos] == paths[:50]
        assert np.allclose(seen.distances, distances[:50], rtol=1e-5)
        near = store.search(vector, 50, NOWHERE, 1000 if kind == "hnsw" else 3, False)
        assert near.is_scan == (kind == "flat") and np.all(np.diff(near.distances) >= 0)
        # All cells, and more of the graph than is found in practice: what is left out is an accident.
        assert len({photo.path for photo in near.photos} & set(paths[:50])) >= 49
    everything = store.search(rows.vectors[0], 5000, NOWHERE, None, False)
    assert everything.is_scan and len(everything.photos) == 3000


def plan_of(store: PostgresStore, where: Where, scan: bool, limit: int = 10) -> str:
    """How PostgreSQL would search, as it tells itself."""
    statement, values = postgres_sql.nearest(store._schema, np.zeros(DIMENSIONS, np.float32), limit, where, scan)
    found = store._connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) ") + statement, values).fetchall()
    return json.dumps(found[0][0])


def test_plans_are_as_meant(store: PostgresStore) -> None:
    store.upsert(made(numbered(5000)))
    store.settle("hnsw")
    assert "photos_embedding_idx" in plan_of(store, NOWHERE, False)
    assert "Seq Scan" in plan_of(store, NOWHERE, True)
    few = Where(below=("/photos/3/103.jpg", "/photos/3/113.jpg"))
    assert "photos_path_idx" in plan_of(store, few, True)
    assert "photos_modified_ns_idx" in plan_of(store, Where(since=10**18 + 4990 * 10**9), True)
    # Not even where it costs as much as it can to read the table.
    store._connection.execute("SET enable_seqscan = off; SET enable_sort = off")
    assert "photos_embedding_idx" in plan_of(store, few, False)
    for where in (NOWHERE, few, Where(excluded=("/photos/3",)), Where(until=10**19)):
        assert "photos_embedding_idx" not in plan_of(store, where, True)


@pytest.mark.parametrize(("kind", "photos", "effort"), [("hnsw", 4000, None), ("ivf", 10_000, 1)])
def test_a_filter_that_leaves_few_of_many_gets_all_that_were_asked_for(
    store: PostgresStore, kind: str, photos: int, effort: int | None
) -> None:
    every = photos // 40
    rows = made([f"/photos/{'common' if number % every else 'rare'}/{number}" for number in range(photos)])
    store.upsert(rows)
    store.settle(kind)
    vector = made(["/q"], seed=5).vectors[0]
    rare = Where(below=("/photos/rare",))
    # Have the index asked, though PostgreSQL knows better with so few.
    store._connection.execute("SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off")
    assert "photos_embedding_idx" in plan_of(store, rare, False)
    nearest = postgres_sql.nearest(store._schema, vector, 10, rare, False)
    assert len(store._connection.execute(*nearest).fetchall()) < 10, "pgvector alone is not what it was"
    seen = store.search(vector, 10, rare, effort, False)
    paths, _ = order_of(rows, vector, lambda path: "/rare/" in path)
    assert len(seen.photos) == 10 and not seen.is_scan
    assert all("/rare/" in photo.path for photo in seen.photos)
    if kind == "hnsw":
        assert len({photo.path for photo in seen.photos} & set(paths[:10])) >= 8
    # There are 40 of them: whoever asks for more gets these, and is told that they are all.
    seen = store.search(vector, 50, rare, effort, False)
    assert seen.is_scan and [photo.path for photo in seen.photos] == paths


def test_folders_and_dates_are_told_apart_by_bytes(store: PostgresStore) -> None:
    paths = ["/a/b", "/a/b/1", "/a/b/c/2", "/a/bc/3", "/a/b.jpg", "/a/b-/4", "/a/B/5", "/a%/6", "/a_/7", "/é/8"]
    paths += [os.fsdecode(b"/a/b/\xff.jpg"), os.fsdecode(b"/\xff/9"), os.fsdecode(b"/\xff/\xc3\xa9"), "/a/b/c0"]
    rows = made(paths)
    store.upsert(rows)
    vector = rows.vectors[0]
    for place in ("/", "/a", "/a/", "/a/b", "/a/b/c", "/a%", "/a_", "/é", os.fsdecode(b"/\xff"), "/a/b.jpg", "/none"):
        folder = place.rstrip("/")

        def inside(path: str, folder: str = folder) -> bool:
            return path == folder or path.startswith(folder + "/")

        for where, chosen in [
            (Where(below=(place,)), inside),
            (Where(below=(place, "/a_")), lambda path: inside(path) or path == "/a_/7"),
            (Where(excluded=(place,)), lambda path: not inside(path)),
            (Where(below=("/a",), excluded=(place,)), lambda path: path.startswith("/a/") and not inside(path)),
        ]:
            found = [photo.path for photo in store.search(vector, 99, where, None, False).photos]
            assert found == order_of(rows, vector, chosen)[0], (place, where)
    third = int(rows.mtimes[3])
    for where, first, last in [
        (Where(since=third), 3, None),
        (Where(since=third + 1), 4, None),
        (Where(until=third), 0, 3),
        (Where(since=int(rows.mtimes[1]), until=third + 1), 1, 4),
    ]:
        found = {photo.path for photo in store.search(vector, 99, where, None, False).photos}
        assert found == set(paths[first:last])


def test_an_index_is_made_once_and_gives_way_to_another_kind(
    store: PostgresStore, postgres_address: str, admin: psycopg.Connection[Any]
) -> None:
    def indexes() -> dict[int, str]:
        found = query(
            admin,
            "SELECT indexrelid::int, amname FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
            " JOIN pg_am m ON m.oid = relam WHERE indrelid = '{}.photos'::regclass AND amname IN ('hnsw', 'ivfflat')",
            postgres_address,
        )
        return dict(found)

    store.upsert(made(numbered(200)))
    store.settle("flat")
    assert not indexes()
    store.settle("hnsw")
    first = indexes()
    assert list(first.values()) == ["hnsw"]
    store.upsert(made(numbered(300), seed=2))
    store.settle("hnsw")
    assert indexes() == first
    # One that an administrator has made stays, too.
    schema = sql.Identifier(schema_of(postgres_address))
    admin.execute(sql.SQL("CREATE INDEX ON {}.photos USING hnsw (embedding vector_l2_ops) WITH (m = 8)").format(schema))
    store.settle("hnsw")
    assert len(indexes()) == 2 and indexes().items() > first.items()
    store.settle("ivf")
    assert list(indexes().values()) == ["ivfflat"]
    cells = indexes()
    store.upsert(made(numbered(9000), seed=3))
    store.settle("ivf")
    assert list(indexes().values()) == ["ivfflat"] and indexes() != cells
    store.settle("flat")
    assert not indexes()
    assert store.count() == 9000


def test_photos_that_an_administrator_has_partitioned_are_written_and_found(
    store: PostgresStore, postgres_address: str, admin: psycopg.Connection[Any]
) -> None:
    parts = [
        f"CREATE TABLE {{0}}.part{part} PARTITION OF {{0}}.photos FOR VALUES WITH (MODULUS 2, REMAINDER {part})"
        for part in range(2)
    ]
    for statement in [
        "ALTER TABLE {0}.photos RENAME TO whole",
        "CREATE TABLE {0}.photos (LIKE {0}.whole INCLUDING ALL) PARTITION BY HASH (id)",
        *parts,
        "DROP TABLE {0}.whole",
    ]:
        admin.execute(sql.SQL(statement).format(sql.Identifier(schema_of(postgres_address))))
    rows = made(numbered(4000))
    store.upsert(rows)
    store.upsert(rows)
    store.settle("hnsw")
    plan = plan_of(store, NOWHERE, False)
    assert "part0_embedding_idx" in plan and "part1_embedding_idx" in plan
    vector = rows.vectors[17]
    expected = order_of(rows, vector)[0][:10]
    assert len(marks_of(store)) == 4000
    assert [photo.path for photo in store.search(vector, 10, NOWHERE, None, True).photos] == expected
    near = store.search(vector, 10, NOWHERE, 400, False)
    assert not near.is_scan and len({photo.path for photo in near.photos} & set(expected)) >= 9


def test_more_dimensions_than_an_index_takes_are_found_by_comparing_all(postgres_address: str) -> None:
    store = open_store(postgres_address)
    told = "up to 2,000 dimensions, and these are 2,500; push with --kind flat"
    for kind in ("hnsw", "ivf"):
        assert told in refused(lambda kind=kind: store.create(2500, kind))  # type: ignore[misc]
    assert "up to 16,000 dimensions, and these are 16,001; make the index of fewer colours" in refused(
        lambda: store.create(16_001, "flat")
    )
    assert store.header() is None
    store.create(2500, "flat")
    rows = made(numbered(20), dimensions=2500)
    store.upsert(rows)
    assert told in refused(lambda: store.settle("hnsw"))
    store.settle("flat")
    seen = store.search(rows.vectors[7], 3, NOWHERE, None, False)
    assert seen.is_scan and seen.photos[0].path == rows.paths[7]
    store.close()


def test_a_palette_of_too_many_colours_is_refused_before_anything_is_written(
    postgres_address: str, admin: psycopg.Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_indexes, "K", 300)
    monkeypatch.setattr(made_indexes, "WIDTH", 300 * 7)
    index = made_indexes.put(tmp_path / "index", [made_indexes.placed(5, 1)])
    dimensions = index.space().dimensions
    assert 2000 < dimensions <= 2100
    said = refused(lambda: push_index(index, postgres_address))
    assert f"finds by hnsw up to 2,000 dimensions, and these are {dimensions:,}; push with --kind flat" in said
    assert query(admin, "SELECT FROM pg_namespace WHERE nspname = %s OR '{}' = ''", postgres_address,
                 schema_of(postgres_address)) == []  # fmt: skip
    assert push_index(index, postgres_address, kind="flat").sent == 5
    # What is there stays as it is, and stays of its kind.
    assert said == refused(lambda: push_index(index, postgres_address, kind="hnsw"))
    with StoredIndex.open(postgres_address) as stored:
        assert (stored.header.kind, stored.header.is_complete) == ("flat", True)
        assert stored.search(index.path(3), 2).hits[0].path == index.path(3)


@needs_own_server
def test_where_workers_lack_shared_memory_an_index_is_built_without_them(
    store: PostgresStore, admin: psycopg.Connection[Any]
) -> None:
    store.upsert(made(numbered(50)))
    admin.execute(
        "CREATE FUNCTION public.no_workers() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_setting('max_parallel_maintenance_workers')::int > 0 THEN RAISE 'could not resize shared memory'"
        " USING ERRCODE = '53100'; END IF; END $$;"
        "CREATE EVENT TRIGGER no_workers ON ddl_command_start WHEN TAG IN ('CREATE INDEX')"
        " EXECUTE FUNCTION public.no_workers()"
    )
    try:
        store.settle("hnsw")
    finally:
        admin.execute("DROP EVENT TRIGGER no_workers; DROP FUNCTION public.no_workers()")
    assert not store.search(np.zeros(DIMENSIONS, np.float32), 5, NOWHERE, None, False).is_scan


def test_what_is_not_ours_is_refused_and_left_alone(postgres_address: str, admin: psycopg.Connection[Any]) -> None:
    query_all = "SELECT relname::text FROM pg_class WHERE relnamespace = '{}'::regnamespace ORDER BY 1"
    for tables in ("CREATE TABLE {0}.photos (id int)", "CREATE TABLE {0}.collection (layout int, header bytea)"):
        admin.execute(sql.SQL("DROP SCHEMA IF EXISTS {0} CASCADE").format(sql.Identifier(schema_of(postgres_address))))
        admin.execute(
            sql.SQL("CREATE SCHEMA {0}; " + tables).format(sql.Identifier(schema_of(postgres_address)))  # type: ignore
        )
        before = query(admin, query_all, postgres_address)
        store = open_store(postgres_address)
        for action in (store.header, lambda: store.create(DIMENSIONS)):  # noqa: B023
            assert f"the schema {schema_of(postgres_address)} was not made by cbir" in refused(action)
        store.close()
        assert query(admin, query_all, postgres_address) == before


def test_an_empty_schema_that_somebody_made_for_us_is_used(
    postgres_address: str, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema_of(postgres_address))))
    store = open_store(postgres_address)
    assert store.header() is None
    store.create(DIMENSIONS)
    store.upsert(made(["/a"]))
    assert store.count() == 1
    store.close()


def test_a_wrong_password_is_told_in_one_line_without_it(postgres: str) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(postgres)
    if not parts.get("password"):
        pytest.skip("that server asks for no password")
    wrong = changed(postgres, netloc=f"{parts['user']}:wrong%20horse@{parts['host']}:{parts['port']}")
    said = refused(lambda: open_store(wrong))
    assert "password authentication failed" in said and "PGPASSWORD" in said
    assert said.startswith(f"postgresql://{parts['user']}@{parts['host']}:")


def test_nobody_answers(never_hangs: None) -> None:
    said = refused(lambda: open_store(f"postgresql://cbir:{SPELT}@127.0.0.1:{free_port()}/cbir"))
    assert "is the server running" in said
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        said = refused(lambda: open_store(f"postgresql://cbir:{SPELT}@127.0.0.1:{port}/cbir?connect_timeout=2"))
    assert "timeout" in said


@pytest.mark.parametrize(
    "url", ["postgresql://h/db?no_such=1", f"postgresql://u:{SPELT}%zz@h/db", "postgresql://h:port/db"]
)
def test_an_address_that_is_none_is_told_in_one_line(url: str) -> None:
    refused(lambda: PostgresStore(parse_address(url)))


@needs_own_server
def test_a_server_without_pgvector_says_what_to_ask_for(postgres: str, admin: psycopg.Connection[Any]) -> None:
    admin.execute("CREATE DATABASE bare")
    admin.execute("CREATE ROLE guest LOGIN PASSWORD 'correct horse/42%'")
    admin.execute("GRANT CREATE ON DATABASE bare TO guest")
    try:
        bare = changed(postgres, path="/bare")
        store = open_store(changed(bare, query="options=-c%20extension_control_path%3D/none"))
        assert store.header() is None
        assert "that server has no pgvector; have its administrator install it" in refused(lambda: store.create(3))
        store.close()
        # Who may make schemas may not add this extension.
        store = open_store(changed(bare, netloc=urlsplit(bare).netloc.replace("cbir", "guest", 1)))
        said = refused(lambda: store.create(3))
        assert said.endswith("have its administrator run there: CREATE EXTENSION vector")
        store.close()
    finally:
        admin.execute("DROP DATABASE bare WITH (FORCE)")
        admin.execute("DROP ROLE guest")


@needs_own_server
def test_a_database_of_another_encoding_is_refused(postgres: str, admin: psycopg.Connection[Any]) -> None:
    admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    try:
        said = refused(lambda: open_store(changed(postgres, path="/latin")))
        assert "does not keep text as UTF-8" in said
    finally:
        admin.execute("DROP DATABASE latin WITH (FORCE)")


def test_of_two_pushes_the_second_is_told_and_the_lock_ends_with_the_first(
    store: PostgresStore, postgres_address: str
) -> None:
    other = open_store(postgres_address)
    with store.writing():
        with pytest.raises(StoreError, match="another push is writing there; wait until it is done"), other.writing():
            pytest.fail("it is locked")
        assert other.count() == 0
    with other.writing():
        other.upsert(made(["/a"]))
    # One that dies while it holds the lock.
    assert other.count() == 1
    with pytest.raises(ZeroDivisionError), other.writing():
        other.close()
        raise ZeroDivisionError
    until = time.monotonic() + 10
    while True:
        # The server takes a moment to see that somebody has gone.
        try:
            with store.writing():
                store.delete([key_of("/a")])
            break
        except StoreError:
            assert time.monotonic() < until
            time.sleep(0.02)
    assert store.count() == 0


@needs_own_server
def test_two_that_begin_at_once_make_one_store(postgres: str, admin: psycopg.Connection[Any]) -> None:
    """In a database where not even pgvector is."""
    address = f"{changed(postgres, path='/fresh')}#cbir"
    admin.execute("CREATE DATABASE fresh")
    try:
        make_one_store(address)
    finally:
        admin.execute("DROP DATABASE fresh WITH (FORCE)")


def make_one_store(address: str) -> None:
    program = (
        "import sys; from cbir.store import open_store; from test_postgres import made, numbered;"
        "s = open_store(sys.argv[1]); print(flush=True); input(); s.create(8); s.write_header(b'x');"
        "s.upsert(made(numbered(10))); print(s.count())"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, address],
            cwd=Path(__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=30)[0].strip() for process in both] == ["10", "10"]


def test_a_push_that_is_cut_off_goes_on_later_with_nothing_twice(
    store: PostgresStore, postgres_address: str, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = made(numbered(500)), made(numbered(1000)[500:], seed=1)
    store.upsert(first)
    process = store._connection.info.backend_pid
    real = postgres_sql.values

    def cut_off(rows: Rows) -> Iterator[tuple[Any, ...]]:
        for number, row in enumerate(real(rows)):
            if number == 250:
                assert query(admin, "SELECT pg_terminate_backend(%s, 5000)", postgres_address, process) == [(True,)]
            yield row

    with monkeypatch.context() as patch, store.writing():
        patch.setattr(postgres_sql, "values", cut_off)
        said = refused(lambda: store.upsert(second))
    assert said.startswith(store.shown)
    refused(store.count)
    refused(lambda: store.search(first.vectors[0], 3, NOWHERE, None, True))
    refused(lambda: marks_of(store))
    again = open_store(postgres_address)
    assert set(marks_of(again)) == set(first.keys)
    with again.writing():
        again.upsert(first)
        again.upsert(second)
    assert again.count() == 1000
    found = query(admin, "SELECT count(DISTINCT path) FROM {}.photos", postgres_address)
    assert found == [(1000,)]
    again.close()


def test_half_an_upsert_is_none(store: PostgresStore) -> None:
    rows = made(numbered(100))
    rows.vectors[60, 3] = np.nan
    assert "NaN" in refused(lambda: store.upsert(rows))
    assert store.count() == 0
    store.upsert(made(numbered(100)))
    assert store.count() == 100


def test_whoever_may_only_read_can_search(
    store: PostgresStore, postgres: str, postgres_address: str, admin: psycopg.Connection[Any]
) -> None:
    rows = made(numbered(100))
    store.upsert(rows)
    store.write_header(b"header")
    store.settle("hnsw")
    query_of = "options=-c%20default_transaction_read_only%3Don"
    reader = open_store(changed(postgres_address, query=query_of))
    assert reader.header() == b"header" and reader.count() == 100 and len(marks_of(reader)) == 100
    assert reader.search(rows.vectors[5], 1, NOWHERE, None, False).photos[0].path == rows.paths[5]
    assert "read-only" in refused(lambda: reader.upsert(rows))
    reader.close()


def test_the_tables_tell_a_database_person_what_they_are(
    store: PostgresStore, postgres_address: str, admin: psycopg.Connection[Any]
) -> None:
    rows = made(["/a/ü.jpg"], age=234_567_000)
    store.upsert(rows)
    row = query(
        admin, "SELECT path, modified AT TIME ZONE 'UTC', modified_ns, embedding::text FROM {}.photos", postgres_address
    )[0]
    assert row[0] == "/a/ü.jpg" and row[1].isoformat() == "2001-09-09T01:46:40.234567"
    assert np.allclose(json.loads(row[3]), rows.vectors[0])
    bare = query(
        admin,
        "SELECT attname::text FROM pg_attribute WHERE attrelid = '{}.photos'::regclass AND attnum > 0"
        " AND col_description(attrelid, attnum) IS NULL",
        postgres_address,
    )
    assert bare == []


def test_the_extra_that_is_not_installed_is_told_in_one_line() -> None:
    program = (
        "import sys; sys.modules[sys.argv[1]] = None\n"
        "from cbir.errors import CbirError; from cbir.store import open_store\n"
        "try: open_store('postgresql://localhost/db')\n"
        f"except CbirError as error: assert type(error).__name__ == {MissingExtraError.__name__!r}; print(error)"
    )
    for module in ("psycopg", "pgvector"):
        done = subprocess.run([sys.executable, "-c", program, module], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(module) and done.stdout.endswith("run: pip install 'cbir[postgres]'\n")
        assert done.stdout.count("\n") == 1
