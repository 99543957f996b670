"""The store in Milvus, on the embedded Lite, alone and behind its server: what it keeps, finds and refuses.

Lite stands for the interface; nothing here tells how well or fast a cluster finds.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

import grpc
from made_indexes import placed, put, told
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus import DataType, MilvusException
from pymilvus.grpc_gen import milvus_pb2_grpc
from store_checks import (
    DIMENSIONS,
    check_found,
    made,
    marks_of,
    numbered,
    refused,
)

from cbir import stores
from cbir.errors import MissingExtraError
from cbir.push import push_index
from cbir.store import Where, open_store
from cbir.stored import StoredIndex
from cbir.stores import milvus as module
from cbir.stores.milvus import MilvusStore
from cbir.stores.milvus_client import _LITE

PASSWORD, SPELT = "correct horse/42%", "correct%20horse%2F42%25"


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a file of Lite, which each test uses by a name of its own."""
    return f"milvus:{tmp_path_factory.mktemp('lite') / 'lite.db'}"


@pytest.fixture(scope="module", autouse=True)
def kept_open(lite: str) -> Iterator[None]:
    """Lite's server is not started anew for each test."""
    held = opened_at(lite)
    held.create(2)
    yield
    held.close()


@pytest.fixture
def address(lite: str, request: pytest.FixtureRequest) -> str:
    return f"{lite}#t{abs(hash(request.node.name)) % 10**12}"


@pytest.fixture
def store(address: str) -> Iterator[MilvusStore]:
    """An empty store."""
    opened = opened_at(address)
    opened.create(DIMENSIONS)
    yield opened
    opened.close()


def opened_at(address: str) -> MilvusStore:
    opened = open_store(address)
    assert isinstance(opened, MilvusStore)
    return opened


def test_a_header_leaves_nothing_of_the_one_before(store: MilvusStore) -> None:
    store.write_header(os.urandom(10 * module._CHUNK))
    store.write_header(b"short")
    rows = store._client.query(store._about, filter='id != ""', output_fields=["id"])
    assert len(rows) == 2
    store._client.upsert(store._about, [module._about("current", f"1 {'0' * 32} 1")])
    assert "is damaged; push to another #NAME" in refused(store.header)
    store._client.upsert(store._about, [module._about("current", "9 x 1")])
    assert "of another version of cbir (9, not 1)" in refused(store.header)


def test_opening_writes_nothing(tmp_path: Path) -> None:
    store = opened_at(f"milvus:{tmp_path / 'new.db'}")
    assert store.header() is None
    store.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_only_flat_claims_to_compare_with_all(store: MilvusStore, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Some pages, each with some photos.
    monkeypatch.setattr(module, "_MESSAGE", 20_000)
    rows = made(numbered(300))
    store.upsert(rows)
    store.settle(kind)
    check_found(store, rows, 30)
    vector = rows.vectors[7] + np.float32(0.2)
    seen = store.search(vector, 10, Where(), None, False)
    assert seen.is_scan == (kind == "flat") and len(seen.photos) == 10
    assert (np.diff(seen.distances) >= 0).all()
    # What an index may find too few of is found all the same.
    few = store.search(vector, 10, Where(below=("/photos/3/13.jpg", "/photos/3/23.jpg")), None, False)
    assert len(few.photos) == 2 and few.is_scan
    assert len(store.search(vector, 10**6, Where(), None, False).photos) == 300
    index = store._index(store._photos)
    assert index is not None and index["index_type"] == module._INDEX[kind] and index["metric_type"] == "L2"
    assert kind != "ivf" or int(index["nlist"]) == 300 // 39


def test_another_kind_takes_the_place_of_the_one_there_and_the_same_stays(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.upsert(made(numbered(100)))
    built: list[str] = []
    real = MilvusStore._build
    monkeypatch.setattr(MilvusStore, "_build", lambda self, *args: (built.append(args[1]), real(self, *args)))
    for kind in ("hnsw", "hnsw", "ivf", "ivf", "flat"):
        store.settle(kind)
        assert store.count() == 100
    assert built == ["hnsw", "ivf", "flat"]


def test_a_few_photos_need_no_cells(store: MilvusStore, capfd: pytest.CaptureFixture[str]) -> None:
    rows = made(numbered(5))
    store.upsert(rows)
    store.settle("ivf")
    assert store.search(rows.vectors[2], 5, Where(), None, False).is_scan
    assert capfd.readouterr() == ("", "")


def test_cells_follow_the_number_of_photos() -> None:
    assert [module._settings("ivf", n)["nlist"] for n in (0, 10, 1000, 10**5, 10**6, 10**9)] == [
        1,
        1,
        25,
        1264,
        4000,
        4000,
    ]
    assert module._serves({"index_type": "IVF_FLAT", "metric_type": "L2", "nlist": "100"}, "IVF_FLAT", {"nlist": 400})
    assert not module._serves(
        {"index_type": "IVF_FLAT", "metric_type": "L2", "nlist": "99"}, "IVF_FLAT", {"nlist": 400}
    )
    assert not module._serves({"index_type": "HNSW", "metric_type": "IP"}, "HNSW", {})


def test_what_an_interruption_left_half_made_is_completed(address: str, lite: str) -> None:
    store = opened_at(address)
    store._make(store._about, module.ABOUT, 2)
    assert store.header() is None
    store._make(store._photos, module.PHOTOS, DIMENSIONS)
    assert store.header() is None
    store.create(DIMENSIONS)
    store.upsert(made(numbered(3)))
    # Between the index that went and the one that was to come.
    store._client.release_collection(store._photos)
    store._client.drop_index(store._photos, "embedding")
    store.close()
    again = opened_at(address)
    again.create(DIMENSIONS)
    again.settle("hnsw")
    assert again.count() == 3 and len(marks_of(again)) == 3
    again.close()


def test_collections_of_others_stay_as_they_are(store: MilvusStore, lite: str) -> None:
    client = store._client
    for name in ("theirs", "half_about"):
        schema = client.create_schema(enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=3)
        client.create_collection(name, schema=schema)
        client.insert(name, [{"id": "1", "embedding": [1.0, 2.0, 3.0]}])
    for name in ("theirs", "half", store._about):
        opened = opened_at(f"{lite}#{name}")
        assert "was not made by cbir (it has " in refused(opened.header)
        assert "use another #NAME" in refused(lambda opened=opened: opened.create(3))  # type: ignore[misc]
        opened.close()
    assert client.get_collection_stats("theirs")["row_count"] == 1
    assert not client.has_collection("half") and not client.has_collection("theirs_about")


def test_pages_and_batches_stay_small(store: MilvusStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MESSAGE", 3000)
    sent: list[int] = []
    real = MilvusStore._upsert
    monkeypatch.setattr(
        MilvusStore, "_upsert", lambda self, name, rows: (sent.append(len(rows)), real(self, name, rows))
    )
    rows = made(numbered(100))
    store.upsert(rows)
    assert sum(sent) == 100 and max(sent) < 15
    assert [len(keys) for keys, _ in store.marks()] == [11] * 9 + [1]
    assert marks_of(store) == dict(zip(rows.keys, rows.marks.tolist(), strict=True))


def test_nothing_is_logged(store: MilvusStore, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="nowhere"):
        store._client.describe_collection("nowhere")
    list(store.marks())
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("pymilvus").isEnabledFor(logging.CRITICAL)


def test_what_is_no_address_of_milvus_is_told(tmp_path: Path) -> None:
    (tmp_path / "file.db").write_text("SQLite format 3")
    (tmp_path / "full.db").mkdir()
    (tmp_path / "full.db" / "letter").write_text("mine")
    for target, said in {
        f"milvus:{tmp_path}/x": "neither milvus://HOST:PORT nor a file of Milvus Lite",
        "milvus:localhost:19530": "neither milvus://HOST:PORT nor a file",
        f"milvus:{tmp_path}/file.db": "Not a directory",
        f"milvus:{tmp_path}/full.db": "is a folder with other files, not Milvus Lite's",
        "milvus://host:99999": "its port is no number up to 65535",
        f"milvus://host?password={SPELT}": "after ? it knows tls=1 and timeout=SECONDS, joined by &, not password=***",
        "milvus://host?tls=yes": "after ? it knows tls=1 and timeout=SECONDS",
        "milvus://host?timeout=0": "timeout is a number of seconds from 1 to 86,400",
        "milvus://host?timeout=nan": "timeout is a number of seconds from 1 to 86,400",
        "milvus://host?tls=1&timeout=soon": "timeout is a number of seconds from 1 to 86,400",
        "milvus://joe@": "has no host",
        "milvus://": "has no host",
    }.items():
        assert said in refused(lambda target=target: open_store(target), PASSWORD, SPELT)  # type: ignore[misc]
    missing = opened_at(f"milvus:{tmp_path}/not/there.db")
    assert "does not exist; make it first" in refused(lambda: missing.create(3))
    assert sorted(os.listdir(tmp_path)) == ["file.db", "full.db"] and os.listdir(tmp_path / "full.db") == ["letter"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.alone
def test_nobody_answers() -> None:
    for login in ("", f"joe:{SPELT}@"):
        said = refused(lambda login=login: open_store(f"milvus://{login}127.0.0.1:{free_port()}"), PASSWORD, SPELT)  # type: ignore[misc]
        assert "no answer; is the server running, and the address right?" in said
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        said = refused(lambda: open_store(f"milvus://127.0.0.1:{silent.getsockname()[1]}?timeout=1"))
        assert "no answer" in said and time.monotonic() - started < 8


class Wire:
    """Leads from a port of its own to another, until it is to be silent: then nobody says anything any more, and
    nobody hangs up."""

    def __init__(self, port: int) -> None:
        self._port, self._server, self.is_silent = port, socket.create_server(("127.0.0.1", 0)), False
        self._ends: list[socket.socket] = []
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                pair = self._server.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                self._ends += pair
                for one, other in (pair, pair[::-1]):
                    threading.Thread(target=self._lead, args=(one, other), daemon=True).start()

    def _lead(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while said := one.recv(65_536):
                if not self.is_silent:
                    other.sendall(said)

    def close(self) -> None:
        for end in (self._server, *self._ends):
            end.close()


@pytest.mark.alone
def test_a_server_that_falls_silent_is_given_up_after_the_time_that_the_address_tells(lite: str) -> None:
    wire = Wire(_LITE._running[Path(lite.partition(":")[2])][2])
    store = opened_at(f"milvus://127.0.0.1:{wire.port}?timeout=1#silent")
    try:
        store.create(DIMENSIONS)
        rows = made(numbered(20))
        store.upsert(rows)
        store.settle("flat")
        assert len(store.search(rows.vectors[0], 3, Where(), None, False).photos) == 3
        wire.is_silent = True
        for action in (
            lambda: store.search(rows.vectors[0], 3, Where(), None, False),
            lambda: store.upsert(rows),
            lambda: store.delete(rows.keys),
            store.header,
        ):
            started = time.monotonic()
            said = refused(action)
            assert "no answer; is the server running" in said
            assert 0.5 < time.monotonic() - started < 5
    finally:
        wire.close()
        store.close()


def test_without_a_time_in_the_address_work_may_take_half_a_minute(store: MilvusStore) -> None:
    assert (store._quick, store._work) == (10, 30)


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets in who knows the password, as a cluster does; Lite itself asks nobody."""

    def intercept_service(self, go_on: Callable[[Any], Any], details: Any) -> Any:
        from base64 import b64encode

        right = b64encode(f"joe:{PASSWORD}".encode()).decode()
        if dict(details.invocation_metadata).get("authorization") == right:
            return go_on(details)

        def refuse(_: object, context: Any) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure, please check api key is correct")

        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[int]:
    """The port of a server with a password."""
    data = MilvusLite(str(tmp_path / "guarded.db"))
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[Guard()])
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(data), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()
    data.close()


def test_passwords_are_asked_for_and_never_told(
    guarded: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = f"127.0.0.1:{guarded}"
    store = opened_at(f"milvus://joe:{SPELT}@{place}")
    store.create(3)
    assert PASSWORD not in store.shown and SPELT not in store.shown and store.count() == 0
    store.close()
    wrong = "wrong horse"
    said = refused(lambda: open_store(f"milvus://joe:wrong%20horse@{place}"), wrong, "wrong%20horse")
    assert "refuses this user, password or token; put the right one into MILVUS_TOKEN" in said and "joe@" in said
    assert "refuses" in refused(lambda: open_store(f"milvus://{place}"))
    monkeypatch.setenv("MILVUS_TOKEN", wrong)
    assert "refuses" in refused(lambda: open_store(f"milvus://{place}"), wrong)
    monkeypatch.setenv("MILVUS_TOKEN", f"joe:{PASSWORD}")
    store = opened_at(f"milvus://{place}")
    assert store.count() == 0
    store.close()
    assert capfd.readouterr() == ("", "")


def test_a_token_is_left_out_of_what_a_server_says(monkeypatch: pytest.MonkeyPatch, store: MilvusStore) -> None:
    connection = store._connection
    monkeypatch.setattr(connection, "_token", "joe:secret")

    def fails() -> None:
        with connection.in_one_line():
            raise MilvusException(message="bad\n secret joe:secret")

    assert refused(fails, "secret").endswith("bad *** ***")


class Server:
    """Lite's server in a process of its own, on loopback; by itself it would listen on all addresses."""

    def __init__(self, folder: Path, port: int) -> None:
        words = ["server", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "milvus_lite", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(300):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError("Lite's server does not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def test_a_push_whose_server_vanishes_goes_on_later_with_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbir.push._BLOCK", 40)
    index = put(tmp_path / "index", [placed(150, 1)])
    folder, port = tmp_path / "served.db", free_port()
    address = f"milvus://127.0.0.1:{port}#pushed"
    server = Server(folder, port)
    try:
        # Nobody from elsewhere gets at it, and nobody else at its file.
        with socket.socket() as other:
            assert other.connect_ex(("127.0.0.2", port)) != 0
        assert "another process has it open" in refused(lambda: open_store(f"milvus:{folder}"))

        def kill(stage: str, done: int, _: int) -> None:
            if stage == "sent" and done == 80:
                server.kill()

        assert "no answer" in refused(lambda: push_index(index, address, kind="flat", progress=kill))
        assert "no answer" in refused(lambda: push_index(index, address))
        server = Server(folder, port)
        with StoredIndex.open(address) as stored:
            assert len(stored) == 80 and not stored.header.is_complete
        assert push_index(index, address).sent == 70
        assert push_index(index, address).sent == 0
        # Two pushes at once.
        later = put(tmp_path / "later", [placed(120, 1), placed(30, 3)])
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda _: push_index(later, address, replace_all=True), range(2)))
        with StoredIndex.open(address) as stored:
            assert len(stored) == 150 and stored.header.is_complete
            assert sum(len(keys) for keys, _ in stored.store.marks()) == 150
            answer = stored.search(later.path(130), 10, exact=True)
            assert told(answer.hits) == told(later.search(later.path(130), 10))
    finally:
        server.kill()


def test_a_store_that_is_dropped_during_a_push_is_told(store: MilvusStore) -> None:
    store._client.drop_collection(store._photos)
    said = refused(lambda: store.upsert(made(numbered(3))))
    assert store._photos in said


def test_a_file_is_free_as_soon_as_the_last_one_is_closed(tmp_path: Path) -> None:
    address = f"milvus:{tmp_path / 'free.db'}"
    one, other = opened_at(address), opened_at(address)
    one.create(3)
    other.create(3)
    one.close()
    one.close()
    assert other.count() == 0
    other.close()
    MilvusLite(str(tmp_path / "free.db")).close()


def test_without_pymilvus_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "milvus_lite.adapter.grpc.server", None)
        with pytest.raises(MissingExtraError, match=r"run: pip install 'cbir\[milvus\]'"):
            opened_at(f"milvus:{tmp_path}/x.db").create(3)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    for name in ("cbir.stores.milvus", "cbir.stores.milvus_client"):
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(stores, name.rpartition(".")[2])
    with pytest.raises(MissingExtraError, match=r"pymilvus is not installed; run: pip install 'cbir\[milvus\]'"):
        open_store("milvus://127.0.0.1")
