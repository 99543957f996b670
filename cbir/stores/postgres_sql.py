"""What is said to PostgreSQL: the tables, and the statements that write and search them. Nothing here is run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from psycopg import sql

from cbir.color import F32
from cbir.store import Rows, Where, text_of_path

_URI = "file://"
# The columns that a push writes.
_WRITTEN = ("id", "path", "modified_ns", "bytes", "mark", "codes", "embedding")
TYPES = ("uuid", "text", "int8", "int8", "int8", "bytea", "vector")
# By what a schema is known to be ours; more columns do no harm.
EXPECTED = {
    ("collection", "layout"): "integer",
    ("collection", "header"): "bytea",
    ("collection", "written"): "timestamp with time zone",
    ("photos", "id"): "uuid",
    ("photos", "path"): "text",
    ("photos", "modified_ns"): "bigint",
    ("photos", "bytes"): "bigint",
    ("photos", "mark"): "bigint",
    ("photos", "codes"): "bytea",
    ("photos", "embedding"): "vector",
}

RELATIONS = """
SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE nspname = %s AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') ORDER BY relname LIMIT 100
"""

# And, as if it were one more column, how many dimensions the vectors have.
COLUMNS = """
WITH columns AS (
    SELECT relname, attname, format_type(atttypid, NULL) AS kind, typname, atttypmod
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE nspname = %s AND relname IN ('photos', 'collection') AND relkind IN ('r', 'p')
    AND attnum > 0 AND NOT attisdropped
)
SELECT relname, attname, CASE typname WHEN 'vector' THEN typname ELSE kind END FROM columns
UNION ALL
SELECT relname, 'dimensions', atttypmod::text FROM columns WHERE (relname, attname) = ('photos', 'embedding')
"""

VECTOR_INDEXES = """
SELECT c.relname, amname, (SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'lists')
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am m ON m.oid = c.relam
JOIN pg_opclass o ON o.oid = i.indclass[0]
JOIN pg_class p ON p.oid = i.indrelid
JOIN pg_namespace n ON n.oid = p.relnamespace
WHERE nspname = %s AND p.relname = 'photos' AND amname IN ('hnsw', 'ivfflat') AND opcname = 'vector_l2_ops'
AND indisvalid AND indpred IS NULL
ORDER BY c.relname
"""

COPY = sql.SQL("COPY pg_temp.incoming FROM STDIN (FORMAT BINARY)")

# Order by bytes: paths are compared as they are, and all below a folder lie side by side. A B-tree takes paths of 2,700
# bytes at the most; SP-GiST takes any, in three quarters of its space.
_TABLES = """
CREATE TABLE {collection} (
    single  boolean     PRIMARY KEY DEFAULT true CHECK (single),
    layout  integer     NOT NULL,
    header  bytea       NOT NULL,
    written timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE {collection} IS 'Written by cbir push: one row, which tells of the collection as a whole';
COMMENT ON COLUMN {collection}.layout IS 'The version of these tables';
COMMENT ON COLUMN {collection}.header IS 'The palette, the metric and the axes of the vectors, as cbir keeps them';

CREATE TABLE {photos} (
    id          uuid   PRIMARY KEY,
    path        text   COLLATE "C" NOT NULL,
    modified_ns bigint NOT NULL,
    modified    timestamptz GENERATED ALWAYS AS (to_timestamp(modified_ns / 1e9)) STORED,
    bytes       bigint NOT NULL,
    mark        bigint NOT NULL,
    codes       bytea  NOT NULL,
    embedding   vector({dimensions}) NOT NULL
);
CREATE INDEX ON {photos} USING spgist (path);
CREATE INDEX ON {photos} (modified_ns);
COMMENT ON TABLE {photos} IS 'Written by cbir push: one row for each photo';
COMMENT ON COLUMN {photos}.id IS 'A hash of the bytes of the path';
COMMENT ON COLUMN {photos}.path IS 'Absolute; a file: URI where its bytes are no UTF-8';
COMMENT ON COLUMN {photos}.modified_ns IS 'When the file was changed last, in nanoseconds since 1970';
COMMENT ON COLUMN {photos}.modified IS 'The same for people, in whole microseconds';
COMMENT ON COLUMN {photos}.bytes IS 'The size of the file';
COMMENT ON COLUMN {photos}.mark IS 'Differs where the file or its description does; tells a push what to write';
COMMENT ON COLUMN {photos}.codes IS 'The descriptor: how much of the photo has each colour, and where';
COMMENT ON COLUMN {photos}.embedding IS 'The descriptor in the metric of the collection: compare by L2 distance, <->';
"""


def _named(schema: str) -> dict[str, sql.Identifier]:
    return {name: sql.Identifier(schema, name) for name in ("photos", "collection")}


def tables(schema: str, dimensions: int, inline: bool) -> Iterator[sql.Composed]:
    """Make the two tables. If `inline`, vectors are kept in the rows, never beside them: a scan is faster so."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            yield sql.SQL(statement).format(dimensions=sql.Literal(dimensions), **_named(schema))
    if inline:
        yield sql.SQL("ALTER TABLE {photos} ALTER embedding SET STORAGE PLAIN").format(**_named(schema))


def _columns() -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, _WRITTEN))


def incoming(schema: str) -> sql.Composed:
    """Make a table for `COPY` that is gone at the end of the transaction."""
    return sql.SQL(
        "CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS SELECT {columns} FROM {photos} WITH NO DATA"
    ).format(columns=_columns(), **_named(schema))


def values(rows: Rows) -> Iterator[tuple[Any, ...]]:
    """The rows as `COPY` takes them."""
    numbers = zip(rows.mtimes.tolist(), rows.sizes.tolist(), rows.marks.tolist(), strict=True)
    for key, path, (mtime, size, mark), codes, vector in zip(
        rows.keys, rows.paths, numbers, rows.codes, rows.vectors, strict=True
    ):
        yield key, text_of_path(path), mtime, size, mark, codes.tobytes(), vector


def merge(schema: str) -> sql.Composed:
    """Put what came in into the photos."""
    changed = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in _WRITTEN[1:]]
    return sql.SQL(
        "INSERT INTO {photos} ({columns}) SELECT {columns} FROM pg_temp.incoming"
        " ON CONFLICT (id) DO UPDATE SET {changed}"
    ).format(columns=_columns(), changed=sql.SQL(", ").join(changed), **_named(schema))


def build(schema: str, method: str, lists: int) -> sql.Composed:
    """Make a vector index, named by PostgreSQL."""
    options = sql.SQL(" WITH (lists = {})").format(sql.Literal(lists)) if method == "ivfflat" else sql.SQL("")
    return sql.SQL("CREATE INDEX ON {photos} USING {method} (embedding vector_l2_ops){options}").format(
        method=sql.Identifier(method), options=options, **_named(schema)
    )


def marks(schema: str, where: Where) -> tuple[sql.Composed, dict[str, Any]]:
    """The statement that tells the keys and marks of photos, with its values."""
    values: dict[str, Any] = {}
    statement = sql.SQL("SELECT id, mark FROM {photos} WHERE {where}")
    return statement.format(where=_condition(where, values), **_named(schema)), values


def nearest(schema: str, vector: F32, limit: int, where: Where, scan: bool) -> tuple[sql.Composed, dict[str, Any]]:
    """The statement that finds the nearest photos, with its values; no vector index can serve it if `scan`."""
    values: dict[str, Any] = {"vector": vector, "limit": limit}
    # A vector index orders by the distance itself, not by a sum; that holds on the servers of foreign tables, too.
    distance = sql.SQL("(embedding <-> %(vector)s) + 0" if scan else "embedding <-> %(vector)s")
    statement = sql.SQL(
        "SELECT path, bytes, modified_ns, codes, {distance} AS distance FROM {photos} WHERE {where}"
        " ORDER BY {distance} LIMIT %(limit)s"
    ).format(distance=distance, where=_condition(where, values), **_named(schema))
    return statement, values


def _condition(where: Where, values: dict[str, Any]) -> sql.Composable:
    """A condition on a photo; what it compares with is added to the values."""
    conditions: list[sql.Composable] = [sql.SQL("true")]

    def value(what: object) -> sql.Placeholder:
        values[name := f"value{len(values)}"] = what
        return sql.Placeholder(name)

    def lies_in(places: tuple[str, ...]) -> sql.Composable:
        ways = []
        for place in places:
            ways.append(sql.SQL("path = {}").format(value(text_of_path(place))))
            for first, last in _ranges(place):
                ways.append(sql.SQL("(path >= {} AND path < {})").format(value(first), value(last)))
        return sql.SQL(" OR ").join(ways)

    if where.below:
        conditions.append(sql.SQL("({})").format(lies_in(where.below)))
    if where.excluded:
        conditions.append(sql.SQL("NOT ({})").format(lies_in(where.excluded)))
    if where.since is not None:
        conditions.append(sql.SQL("modified_ns >= {}").format(value(where.since)))
    if where.until is not None:
        conditions.append(sql.SQL("modified_ns < {}").format(value(where.until)))
    return sql.SQL(" AND ").join(conditions)


def _ranges(folder: str) -> Iterator[tuple[str, str]]:
    """Between which texts all below a folder lies: from `folder/` to before `folder0`, 0 being what follows on /."""
    folder = folder.rstrip("/")
    # Below any folder there may be names that are no UTF-8, which are kept as URIs.
    uri = _URI + quote(os.fsencode(folder))
    for spelt in {uri, text_of_path(folder) if folder else ""}:
        yield f"{spelt}/", f"{spelt}0"
