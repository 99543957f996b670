"""A store in Milvus, 2.4 or later, by one client for a cluster and for the embedded Lite.

Address: `milvus://user:password@host:port/database#name`, with `?tls=1` for an encrypted connection and `?timeout=5` to
give up what is not answered within so many seconds, or for Lite `milvus:FILE.db#name`; a token, or user:password, may
be in MILVUS_TOKEN. The name is that of the photos' collection; what tells of them as a whole is in another,
`name_about`. docs/milvus.md tells of both.
"""

from __future__ import annotations

import math
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from typing import Any
from uuid import UUID

import numpy as np

from cbir.color import F32, F64
from cbir.store import I64, Address, Rows, Seen, Stored, Where, path_of_text, text_of_path
from cbir.stores.milvus_client import Connection
from cbir.stores.milvus_expression import ABOUT, LENGTHS, PHOTOS, VECTORS, condition

# Builds take as long as they take, so they are not timed; a server that is busy is asked so often again, some 20
# seconds: a cluster flushes a collection once in ten.
_RETRIES = 12
# A message may have 64 MB.
_MESSAGE = 16 * 2**20
_MAX_PAGE = 16_384
_MAX_HEADER = 64 * 2**20
# So many bytes are a full VARCHAR as base64.
_CHUNK = 49_149
_CURRENT = "current"
_LAYOUT = "1"
_INDEX = {"flat": "FLAT", "hnsw": "HNSW", "ivf": "IVF_FLAT"}
_LEAST_EFFORT, _MOST_EFFORT = 64, 32_768
# Cells are made for each of Milvus's segments, which have up to about so many photos; k-means wants so many a cell.
_SEGMENT, _TRAINING = 1_000_000, 39
_TOLD = ["path", "bytes", "modified_ns", "codes"]
_POLL = 0.2


class MilvusStore:
    """See `cbir.store.Store`. One thread at a time may use it; threads that search at once open one each."""

    most = 16_384

    def __init__(self, address: Address) -> None:
        self.shown, self._address = address.shown, address
        self._photos, self._about = address.name, f"{address.name}_about"
        self._loaded: set[str] = set()
        self._connection = Connection(address)
        self._quick, self._work = self._connection.quick, self._connection.work

    def header(self) -> bytes | None:
        """See `Store.header`."""
        if self._connection.client is None:
            return None
        with self._in_one_line():
            if not all([self._is_ours(self._about, ABOUT), self._is_ours(self._photos, PHOTOS)]):
                return None
            # Another push may put the next one in its place between the two questions.
            for _ in range(3):
                current = self._rows(self._about, [_CURRENT], ["chunk"])
                if not current:
                    return None
                layout, digest, count = str(current[0]["chunk"]).split(" ")
                if layout != _LAYOUT:
                    raise self._address.error(
                        f"its collections are of another version of cbir ({layout}, not {_LAYOUT}); use that one"
                    )
                found = self._rows(self._about, [f"{digest}-{i}" for i in range(int(count))], ["id", "chunk"])
                chunks = {str(row["id"]).rpartition("-")[2]: row["chunk"] for row in found}
                header = b"".join(b64decode(chunks.get(str(i), "")) for i in range(int(count)))
                if _digest(header) == digest:
                    return header
        raise self._address.error("what it keeps of the collection is damaged; push to another #NAME")

    def create(self, dimensions: int, kind: str = "flat") -> None:
        """See `Store.create`. What an interruption has left half made is completed."""
        self._connection.open()
        with self._in_one_line():
            wanted = ((self._about, ABOUT, 2), (self._photos, PHOTOS, dimensions))
            # Before anything is made.
            there = [self._is_ours(name, fields) for name, fields, _ in wanted]
            if there[-1] and (here := self._dimensions(self._photos)) != dimensions:
                raise self._address.error(
                    f"it holds vectors of {here} dimensions, not {dimensions}; push to another #NAME"
                )
            for (name, fields, dim), is_there in zip(wanted, there, strict=True):
                if not is_there:
                    self._make(name, fields, dim)
                if self._index(name) is None:
                    self._build(name, "flat", {})
                self._load(name)

    def write_header(self, header: bytes) -> None:
        """See `Store.write_header`. The new one is there in full before the old one goes."""
        if len(header) > _MAX_HEADER:
            raise self._address.error(f"what tells of the collection is too large ({len(header)} bytes)")
        digest = _digest(header)
        chunks = [b64encode(header[start : start + _CHUNK]).decode() for start in range(0, len(header), _CHUNK)]
        rows = [_about(f"{digest}-{i}", chunk) for i, chunk in enumerate(chunks)]
        with self._in_one_line():
            self._load(self._about)
            for start in range(0, len(rows), step := _MESSAGE // LENGTHS["chunk"]):
                self._upsert(self._about, rows[start : start + step])
            self._upsert(self._about, [_about(_CURRENT, f"{_LAYOUT} {digest} {len(rows)}")])
            kept = {_CURRENT, *(row["id"] for row in rows)}
            old = [row["id"] for page in self._pages(self._about, "", ["id"], 100) for row in page]
            self._delete(self._about, [id for id in old if id not in kept])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See `Store.writing`. Milvus has no locks: two pushes at once put in the same photos by the same keys, which
        does no harm where they are of the same index. Lite is open in one process at a time."""
        yield

    def marks(self, below: tuple[str, ...] = ()) -> Iterator[tuple[list[UUID], I64]]:
        """See `Store.marks`."""
        with self._in_one_line():
            for page in self._pages(self._photos, condition(Where(below)), ["id", "mark"], 256):
                yield [UUID(row["id"]) for row in page], np.array([row["mark"] for row in page], np.int64)

    def upsert(self, rows: Rows) -> None:
        """See `Store.upsert`. Written to Milvus's log when it returns; Lite leaves it to the system to save that."""
        batch: list[dict[str, Any]] = []
        size = 0
        with self._in_one_line():
            for row in _values(rows):
                batch.append(row)
                size += len(row["codes"]) + 4 * len(row["path"]) + row["embedding"].nbytes + 128
                if size >= _MESSAGE:
                    self._upsert(self._photos, batch)
                    batch, size = [], 0
            if batch:
                self._upsert(self._photos, batch)

    def delete(self, keys: Sequence[UUID]) -> None:
        """See `Store.delete`."""
        with self._in_one_line():
            self._delete(self._photos, [key.hex for key in keys])

    def settle(self, kind: str) -> None:
        """See `Store.settle`. While another kind of index is made in place of the one there, nothing can be found."""
        with self._in_one_line():
            self._client.flush(self._photos, timeout=None, retry_times=_RETRIES)
            count = self.count()
            if kind == "ivf" and count < _TRAINING:
                # Too few for k-means to make cells of, which says so on the terminal where it is Lite's.
                kind = "flat"
            settings = _settings(kind, count)
            here = self._index(self._photos)
            if here is None or not _serves(here, _INDEX[kind], settings):
                self._loaded.discard(self._photos)
                self._client.release_collection(self._photos, timeout=self._work)
                if here is not None:
                    self._client.drop_index(self._photos, here["index_name"], timeout=self._work)
                self._build(self._photos, kind, settings)
            self._load(self._photos)
            self._wait_for_index()

    def fetch(self, key: UUID) -> Stored | None:
        """See `Store.fetch`."""
        with self._in_one_line():
            found = self._rows(self._photos, [key.hex], _TOLD)
            return _stored(found[0]) if found else None

    def search(self, vector: F32, limit: int, where: Where, effort: int | None, scan: bool) -> Seen:
        """See `Store.search`. Only a flat index compares with all, since Milvus searches what its other kinds have not
        indexed yet by an index of its own; so a scan beside them reads all vectors, as does one for photos that an
        index finds too few of."""
        with self._in_one_line():
            self._load(self._photos)
            limit, expression = min(limit, self.most), condition(where)
            index = self._index(self._photos) or {}
            is_flat = index.get("index_type") == "FLAT"
            if scan and not is_flat:
                return self._read_all(vector, limit, expression)
            hits = self._client.search(
                self._photos,
                data=[vector],
                anns_field="embedding",
                limit=limit,
                filter=expression,
                output_fields=_TOLD,
                search_params={"metric_type": "L2", "params": _looking(index, limit, effort)},
                consistency_level="Strong",
                timeout=self._work,
            )[0]
            if len(hits) < limit and not is_flat:
                return self._read_all(vector, limit, expression)
            photos = [_stored(hit["entity"]) for hit in hits]
            # Milvus tells the squares.
            return self._seen(photos, np.sqrt(np.array([hit["distance"] for hit in hits], np.float64)), is_flat)

    def count(self) -> int:
        """See `Store.count`."""
        with self._in_one_line():
            self._load(self._photos)
            found = self._client.query(
                self._photos, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=self._work
            )
            return int(found[0]["count(*)"])

    def close(self) -> None:
        """See `Store.close`."""
        self._connection.close()

    @property
    def _client(self) -> Any:
        return self._connection.open()

    def _in_one_line(self) -> AbstractContextManager[None]:
        return self._connection.in_one_line()

    def _is_ours(self, name: str, fields: dict[str, str]) -> bool:
        """Whether a collection is there. Raises StoreError for one that was not made by cbir."""
        if not self._client.has_collection(name, timeout=self._quick):
            return False
        here = {field["name"]: field["type"].name for field in self._describe(name)["fields"]}
        if any(here.get(field) != kind for field, kind in fields.items()):
            some = ", ".join(sorted(here)[:3])
            raise self._address.error(f"the collection {name} was not made by cbir (it has {some}); use another #NAME")
        return True

    def _describe(self, name: str) -> Any:
        return self._client.describe_collection(name, timeout=self._quick)

    def _dimensions(self, name: str) -> int:
        return next(int(field["params"]["dim"]) for field in self._describe(name)["fields"] if field["name"] in VECTORS)

    def _make(self, name: str, fields: dict[str, str], dimensions: int) -> None:
        from pymilvus import DataType, MilvusException

        schema = self._client.create_schema(description="made by cbir push", enable_dynamic_field=False)
        for field, kind in fields.items():
            sizes = {"dim": dimensions} if field in VECTORS else {}
            sizes |= {"max_length": LENGTHS[field]} if field in LENGTHS else {}
            schema.add_field(field, DataType[kind], is_primary=field == "id", **sizes)
        try:
            self._client.create_collection(name, schema=schema, consistency_level="Strong", timeout=self._quick)
        except MilvusException:
            # Another push may have been first.
            if not self._is_ours(name, fields):
                raise

    def _index(self, name: str) -> dict[str, Any] | None:
        """The index of a collection's vectors, if there is one, with its settings."""
        for index in self._client.list_indexes(name, timeout=self._quick):
            told = self._client.describe_index(name, index, timeout=self._quick)
            if told and told.get("field_name") in VECTORS:
                inner = told.get("params")
                return dict(told) | (inner if isinstance(inner, dict) else {})
        return None

    def _build(self, name: str, kind: str, settings: dict[str, int]) -> None:
        field = "nothing" if name == self._about else "embedding"
        index = self._client.prepare_index_params()
        # Lite reads the settings in this place alone, a cluster here, too.
        index.add_index(field, index_type=_INDEX[kind], metric_type="L2", params={"params": settings})
        self._client.create_index(name, index, sync=False, timeout=self._work)

    def _wait_for_index(self) -> None:
        """Wait until photos that are found by the index need no longer be found without it."""
        while (index := self._index(self._photos)) is not None:
            if index.get("state") == "Failed":
                raise self._address.error("its server could not build the index; run the same command again")
            if index.get("state") in (None, "Finished") and not int(index.get("pending_index_rows") or 0):
                return
            time.sleep(_POLL)

    def _load(self, name: str) -> None:
        """Have a collection in the server's memory, which it must be to be read."""
        if name not in self._loaded:
            self._client.load_collection(name, timeout=None, retry_times=_RETRIES)
            self._loaded.add(name)

    def _upsert(self, name: str, rows: list[dict[str, Any]]) -> None:
        self._client.upsert(name, rows, timeout=self._work)

    def _delete(self, name: str, ids: list[str]) -> None:
        for start in range(0, len(ids), _MAX_PAGE):
            self._client.delete(name, ids=ids[start : start + _MAX_PAGE], timeout=self._work)

    def _rows(self, name: str, ids: list[str], fields: list[str]) -> list[Any]:
        """Rows by their ids, in any order; those that are not there are left out."""
        self._load(name)
        found: list[Any] = []
        for start in range(0, len(ids), 128):
            some = ids[start : start + 128]
            found += self._client.get(name, some, output_fields=fields, consistency_level="Strong", timeout=self._work)
        return found

    def _pages(self, name: str, expression: str, fields: list[str], size: int) -> Iterator[list[Any]]:
        """All rows that an expression chooses, of `size` bytes each, in ascending order of their ids."""
        self._load(name)
        pages = self._client.query_iterator(
            name,
            batch_size=max(1, min(_MAX_PAGE, _MESSAGE // size)),
            filter=expression,
            output_fields=fields,
            consistency_level="Strong",
            timeout=self._work,
        )
        try:
            while page := pages.next():
                yield page
        finally:
            pages.close()

    def _read_all(self, vector: F32, limit: int, expression: str) -> Seen:
        """The nearest photos, by comparing with all here; memory holds a page, and the nearest so far."""
        best, ids = np.empty(0), np.empty(0, "U32")
        for page in self._pages(self._photos, expression, ["id", "embedding"], 4 * len(vector) + 128):
            vectors = np.array([row["embedding"] for row in page], np.float64)
            best = np.concatenate([best, np.linalg.norm(vectors - vector, axis=1)])
            ids = np.concatenate([ids, np.array([row["id"] for row in page], "U32")])
            order = np.argsort(best, kind="stable")[:limit]
            best, ids = best[order], ids[order]
        told = {str(row["id"]): _stored(row) for row in self._rows(self._photos, ids.tolist(), ["id", *_TOLD])}
        # Where one has been taken out meanwhile, those that it had kept from the list were not looked at.
        here = [place for place, id in enumerate(ids.tolist()) if id in told]
        return self._seen([told[ids[place]] for place in here], best[here], len(here) == len(ids))

    def _seen(self, photos: list[Stored], distances: F64, is_scan: bool) -> Seen:
        if not np.isfinite(distances).all():
            raise self._address.error("it holds vectors that are none; push to another #NAME")
        order = np.argsort(distances, kind="stable")
        return Seen([photos[place] for place in order], distances[order], is_scan)


def _digest(header: bytes) -> str:
    return blake2b(header, digest_size=16).hexdigest()


def _about(id: str, chunk: str) -> dict[str, Any]:
    return {"id": id, "chunk": chunk, "nothing": [0.0, 0.0]}


def _values(rows: Rows) -> Iterator[dict[str, Any]]:
    for place, (key, path) in enumerate(zip(rows.keys, rows.paths, strict=True)):
        yield {
            "id": key.hex,
            "path": text_of_path(path),
            "modified_ns": int(rows.mtimes[place]),
            "bytes": int(rows.sizes[place]),
            "mark": int(rows.marks[place]),
            "codes": b64encode(rows.codes[place].tobytes()).decode(),
            "embedding": rows.vectors[place],
        }


def _stored(row: Any) -> Stored:
    codes = np.frombuffer(b64decode(row["codes"]), np.uint8)
    return Stored(path_of_text(row["path"]), int(row["bytes"]), int(row["modified_ns"]), codes)


def _settings(kind: str, count: int) -> dict[str, int]:
    """How an index of a kind is made for so many photos."""
    if kind == "hnsw":
        return {"M": 16, "efConstruction": 200}
    if kind == "ivf":
        count = min(count, _SEGMENT)
        return {"nlist": max(1, min(4 * math.isqrt(count), count // _TRAINING))}
    return {}


def _serves(index: dict[str, Any], kind: str, settings: dict[str, int]) -> bool:
    """Whether an index is of this kind, and its cells, if it has any, have not grown out of measure."""
    if index.get("index_type") != kind or index.get("metric_type") != "L2":
        return False
    lists = int(index.get("nlist") or 1)
    return "nlist" not in settings or lists / 4 <= settings["nlist"] <= 4 * lists


def _looking(index: dict[str, Any], limit: int, effort: int | None) -> dict[str, int]:
    """How an index is searched."""
    kind = index.get("index_type")
    if kind == "HNSW":
        return {"ef": min(max(limit, effort or _LEAST_EFFORT), _MOST_EFFORT)}
    if kind == "IVF_FLAT":
        lists = int(index.get("nlist") or 1)
        return {"nprobe": max(1, min(lists, effort or math.ceil(math.sqrt(lists))))}
    return {}
