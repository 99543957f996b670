"""A store in PostgreSQL, by pgvector 0.8 or later: a schema with a table of the photos, found by path, date and vector.

Address: `postgresql://user@host:port/database?options#name`, as libpq takes it, so that a password may be in ~/.pgpass
or in PGPASSWORD; the name is that of the schema. docs/postgres.md tells of the tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from cbir.color import F32
from cbir.errors import MissingExtraError
from cbir.store import I64, TIMEOUT, Address, Rows, Seen, Stored, Where, path_of_text, without_secrets

try:
    import psycopg
    from pgvector.psycopg import register_vector
    from psycopg import errors, sql
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from cbir.stores import postgres_sql as statements
except ImportError as error:
    raise MissingExtraError(f"{error.name or 'psycopg'} is not installed; run: pip install 'cbir[postgres]'") from error

# The tables as they are here; others are of another cbir.
_LAYOUT = 1
_OLDEST = (0, 8)
_MAX_HEADER = 64 * 2**20
# What a column of vectors takes, and what HNSW and IVFFlat do.
_MAX_DIMENSIONS, _MAX_INDEXED = 16_000, 2000
# Up to here a row with its vector fits into one of PostgreSQL's pages of 8 kB.
_MAX_INLINE = 1900
_MARKS_AT_ONCE = 10_000
# pgvector's own bounds and defaults.
_LEAST_EFFORT, _MOST_EFFORT = 40, 1000
_MAX_LISTS = 32768
_SCANNED = 20_000
# An index is built much faster where its graph fits into memory: a vector, and so many bytes for its links.
_LINKS = 1000
_LEAST_MEMORY, _MOST_MEMORY = 64 * 2**20, 2**30
# Found out about a server that is gone after half a minute or so.
_CONNECTION: dict[str, str | int] = {
    "connect_timeout": TIMEOUT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "fallback_application_name": "cbir",
}


class _VectorIndex(NamedTuple):
    name: str
    kind: str
    lists: int


class PostgresStore:
    """See `cbir.store.Store`. One thread at a time may use it; threads that search at once open one each."""

    most = 100_000

    def __init__(self, address: Address) -> None:
        self.shown = address.shown
        self._address = address
        self._schema = address.name
        self._tables = {name: sql.Identifier(self._schema, name) for name in ("photos", "collection")}
        with self._in_one_line():
            self._connection = _connect(address)
        try:
            with self._in_one_line():
                self._find_vectors()
        except BaseException:
            self.close()
            raise

    def header(self) -> bytes | None:
        """See `Store.header`."""
        with self._in_one_line():
            if self._dimensions() is None:
                return None
            found = self._all("SELECT layout, octet_length(header) FROM {collection}")
            if not found:
                return None
            layout, size = found[0]
            if layout != _LAYOUT:
                raise self._address.error(
                    f"its tables are of another version of cbir ({layout}, not {_LAYOUT}); use that one"
                )
            if size > _MAX_HEADER:
                raise self._address.error(
                    f"what it keeps of the collection is too large ({size} bytes); push to another #NAME"
                )
            return bytes(self._all("SELECT header FROM {collection}")[0][0])

    def create(self, dimensions: int, kind: str = "flat") -> None:
        """See `Store.create`. The tables come into being together or not at all."""
        self._check(dimensions, kind)
        with self._in_one_line(), self._connection.transaction():
            # Two that begin at once: the second waits, and finds what the first has made.
            self._all("SELECT pg_advisory_xact_lock(%s)", [_number_of(f"create {self._schema}")])
            here = self._dimensions()
            if here is None:
                self._add_extension()
            # It may have come into being since this was opened.
            self._find_vectors()
            if here is None:
                if not self._all("SELECT FROM pg_namespace WHERE nspname = %s", [self._schema]):
                    self._run(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self._schema)))
                for statement in statements.tables(self._schema, dimensions, inline=dimensions <= _MAX_INLINE):
                    self._run(statement)
            elif here != dimensions:
                raise self._address.error(
                    f"it holds vectors of {here} dimensions, not {dimensions}; push to another #NAME"
                )

    def write_header(self, header: bytes) -> None:
        """See `Store.write_header`."""
        if len(header) > _MAX_HEADER:
            raise self._address.error(f"what tells of the collection is too large ({len(header)} bytes)")
        with self._in_one_line():
            self._run(
                "INSERT INTO {collection} (layout, header) VALUES (%s, %s) ON CONFLICT (single)"
                " DO UPDATE SET layout = excluded.layout, header = excluded.header, written = now()",
                [_LAYOUT, header],
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See `Store.writing`: an advisory lock, which ends with the connection at the latest."""
        lock = [_number_of(f"push {self._schema}")]
        with self._in_one_line():
            if not self._all("SELECT pg_try_advisory_lock(%s)", lock)[0][0]:
                raise self._address.error("another push is writing there; wait until it is done")
        try:
            yield
        finally:
            # Where the connection is gone, so is the lock.
            with suppress(psycopg.Error):
                self._all("SELECT pg_advisory_unlock(%s)", lock)

    def marks(self, below: tuple[str, ...] = ()) -> Iterator[tuple[list[UUID], I64]]:
        """See `Store.marks`: as they were when asked for, whatever is written meanwhile."""
        with self._in_one_line():
            cursor = self._connection.cursor("marks", withhold=True)
            cursor.execute(*statements.marks(self._schema, Where(below)), binary=True)
        try:
            while True:
                with self._in_one_line():
                    found = cursor.fetchmany(_MARKS_AT_ONCE)
                if not found:
                    return
                yield [key for key, _ in found], np.array([mark for _, mark in found], np.int64)
        finally:
            # Where the connection is gone, so is the cursor.
            with suppress(psycopg.Error):
                cursor.close()

    def upsert(self, rows: Rows) -> None:
        """See `Store.upsert`."""
        with self._in_one_line(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(statements.incoming(self._schema))
            with cursor.copy(statements.COPY) as copy:
                copy.set_types(statements.TYPES)
                for row in statements.values(rows):
                    copy.write_row(row)
            cursor.execute(statements.merge(self._schema))

    def delete(self, keys: Sequence[UUID]) -> None:
        """See `Store.delete`."""
        with self._in_one_line():
            self._run("DELETE FROM {photos} WHERE id = ANY(%s)", [list(keys)])

    def settle(self, kind: str) -> None:
        """See `Store.settle`. The index that is there serves searches until its successor is complete."""
        method = {"hnsw": "hnsw", "ivf": "ivfflat", "flat": ""}[kind]
        with self._in_one_line():
            count, dimensions = self.count(), self._dimensions() or 0
            self._check(dimensions, kind)
            lists = _lists_for(count)
            here = self._vector_indexes()
            if method and not any(_serves(index, method, lists) for index in here):
                self._build(method, lists, count * (4 * dimensions + _LINKS))
            for index in here:
                if not _serves(index, method, lists):
                    self._run(sql.SQL("DROP INDEX {}").format(sql.Identifier(self._schema, index.name)))
            self._run("ANALYZE {photos}")

    def fetch(self, key: UUID) -> Stored | None:
        """See `Store.fetch`."""
        with self._in_one_line():
            found = self._all("SELECT path, bytes, modified_ns, codes FROM {photos} WHERE id = %s", [key])
            return self._stored(*found[0]) if found else None

    def search(self, vector: F32, limit: int, where: Where, effort: int | None, scan: bool) -> Seen:
        """See `Store.search`. What pgvector's indexes find too few of, is looked for again in all photos."""
        with self._in_one_line(), self._connection.transaction():
            index = next(iter(self._vector_indexes()), None)
            self._set(transaction_read_only="on", jit="off")
            found: list[Any] = []
            if index is not None and not scan:
                self._set(**_settings(index, limit, effort))
                found = self._run(*statements.nearest(self._schema, vector, limit, where, False)).fetchall()
            if is_scan := len(found) < limit:
                found = self._run(*statements.nearest(self._schema, vector, limit, where, True)).fetchall()
        distances = np.array([row[-1] for row in found], np.float64)
        if not np.isfinite(distances).all():
            raise self._address.error("it holds vectors that are none; push to another #NAME")
        # The index tells them only almost in order.
        order = np.argsort(distances, kind="stable")
        return Seen([self._stored(*found[place][:-1]) for place in order], distances[order], is_scan)

    def count(self) -> int:
        """See `Store.count`."""
        with self._in_one_line():
            return int(self._all("SELECT count(*) FROM {photos}")[0][0])

    def close(self) -> None:
        """See `Store.close`."""
        self._connection.close()

    def _check(self, dimensions: int, kind: str) -> None:
        """Raise StoreError for more dimensions than pgvector takes."""
        fewer = "make the index of fewer colours, with cbir index --rebuild -k"
        if dimensions > _MAX_DIMENSIONS:
            raise self._address.error(
                f"pgvector takes vectors of up to {_MAX_DIMENSIONS:,} dimensions, and these are {dimensions:,}; {fewer}"
            )
        if kind != "flat" and dimensions > _MAX_INDEXED:
            raise self._address.error(
                f"pgvector finds by {kind} up to {_MAX_INDEXED:,} dimensions, and these are {dimensions:,}; push with "
                f"--kind flat, which compares with all, or {fewer}"
            )

    def _run(self, statement: str | sql.Composed, values: Any = None) -> psycopg.Cursor[Any]:
        query = sql.SQL(statement).format(**self._tables) if isinstance(statement, str) else statement
        return self._connection.execute(query, values, binary=True)

    def _all(self, statement: str, values: Any = None) -> list[Any]:
        return self._run(statement, values).fetchall()

    def _set(self, **settings: object) -> None:
        """Settings of the transaction; names are given with _ and __ for a point."""
        named = [word for name, value in settings.items() for word in (name.replace("__", "."), str(value))]
        self._all("SELECT " + ", ".join(["set_config(%s, %s, true)"] * len(settings)), named)

    def _find_vectors(self) -> None:
        """Have pgvector's type and operators known, wherever the administrator has put them, if they are there."""
        if self._connection.info.parameter_status("server_encoding") != "UTF8":
            raise self._address.error(
                "that database does not keep text as UTF-8; use another, made with ENCODING 'UTF8'"
            )
        found = self._all(
            "SELECT extversion, nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
            " WHERE extname = 'vector'"
        )
        if not found:
            return
        version, schema = found[0]
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
            raise self._address.error(
                f"pgvector {version} is too old; have its administrator install 0.8 or later, then run there: "
                "ALTER EXTENSION vector UPDATE"
            )
        self._run(sql.SQL("SET search_path = pg_catalog, {}").format(sql.Identifier(schema)))
        register_vector(self._connection)

    def _add_extension(self) -> None:
        try:
            # A point to go back to, for the transaction is to end as that one line.
            with self._connection.transaction():
                self._run("CREATE EXTENSION IF NOT EXISTS vector")
        except errors.InsufficientPrivilege:
            raise self._address.error(
                "pgvector is not in that database; have its administrator run there: CREATE EXTENSION vector"
            ) from None
        except (errors.FeatureNotSupported, errors.UndefinedFile):
            raise self._address.error(
                "that server has no pgvector; have its administrator install it (postgresql-NN-pgvector, or see "
                "github.com/pgvector/pgvector)"
            ) from None

    def _dimensions(self) -> int | None:
        """How many dimensions the vectors have; None if there are no tables at all. Raises StoreError for others."""
        names = {name for (name,) in self._all(statements.RELATIONS, [self._schema])}
        if not names:
            return None
        columns = {(table, name): kind for table, name, kind in self._all(statements.COLUMNS, [self._schema])}
        if any(columns.get(place) != kind for place, kind in statements.EXPECTED.items()):
            some = ", ".join(sorted(names)[:3])
            raise self._address.error(
                f"the schema {self._schema} was not made by cbir (it has {some}); use another #NAME"
            )
        return int(columns["photos", "dimensions"])

    def _vector_indexes(self) -> list[_VectorIndex]:
        """The indexes that find by L2 distance among all photos, whoever has made them."""
        found = self._all(statements.VECTOR_INDEXES, [self._schema])
        return [_VectorIndex(name, method, int(lists or 0)) for name, method, lists in found]

    def _build(self, method: str, lists: int, memory: int) -> None:
        try:
            self._build_with(method, lists, memory)
        except errors.DiskFull:
            # Workers share memory, of which a container has 64 MB unless told; one process needs none of it.
            self._build_with(method, lists, memory, max_parallel_maintenance_workers=0)

    def _build_with(self, method: str, lists: int, memory: int, **settings: object) -> None:
        with self._connection.transaction():
            wanted = min(max(memory, _LEAST_MEMORY), _MOST_MEMORY) // 1024
            here = self._all("SELECT setting::bigint FROM pg_settings WHERE name = 'maintenance_work_mem'")[0][0]
            self._set(maintenance_work_mem=f"{max(wanted, here)}kB", **settings)
            self._run(statements.build(self._schema, method, lists))

    def _stored(self, path: str, size: int, mtime: int, codes: bytes) -> Stored:
        return Stored(path_of_text(path), size, mtime, np.frombuffer(codes, np.uint8))

    def _in_one_line(self) -> AbstractContextManager[None]:
        return self._address.in_one_line((psycopg.Error,), self._told)

    def _told(self, error: psycopg.Error) -> str:
        return without_secrets(error.diag.message_primary or str(error), self._address) + _advice(error)


def _connect(address: Address) -> psycopg.Connection[Any]:
    given = {name: value for name, value in conninfo_to_dict(address.url).items() if value is not None}
    return psycopg.connect(
        make_conninfo("", **(_CONNECTION | given | {"client_encoding": "UTF8"})),
        autocommit=True,
        # A plan is made for what is asked; one for all would not know how few a folder has.
        prepare_threshold=None,
    )


def _advice(error: psycopg.Error) -> str:
    """What to do next, where that can be told."""
    said = str(error)
    if "password" in said:
        return "; put the right one into ~/.pgpass or PGPASSWORD"
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError):
        return "; is the server running, and the address right?"
    return ""


def _number_of(text: str) -> int:
    """The number by which PostgreSQL knows a lock."""
    return int.from_bytes(blake2b(f"cbir {text}".encode(), digest_size=8).digest(), "big", signed=True)


def _lists_for(count: int) -> int:
    """How many cells for so many photos, as pgvector advises."""
    return max(1, min(_MAX_LISTS, round(count / 1000 if count <= 1_000_000 else math.sqrt(count))))


def _serves(index: _VectorIndex, method: str, lists: int) -> bool:
    """Whether an index is of this kind, and its cells, if it has any, have not grown out of measure."""
    return index.kind == method and (method == "hnsw" or index.lists / 4 <= lists <= index.lists * 4)


def _settings(index: _VectorIndex, limit: int, effort: int | None) -> dict[str, object]:
    """How an index is searched. Iterative: it goes on where a filter has left too few, which is off by default."""
    if index.kind == "hnsw":
        return {
            "hnsw__iterative_scan": "relaxed_order",
            "hnsw__ef_search": effort or min(max(limit, _LEAST_EFFORT), _MOST_EFFORT),
            "hnsw__max_scan_tuples": max(_SCANNED, 4 * limit),
        }
    return {"ivfflat__iterative_scan": "relaxed_order", "ivfflat__probes": effort or math.ceil(math.sqrt(index.lists))}
