"""A connection to Milvus, to a server or to the embedded Lite, of which every failure is one line."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from cbir.errors import MissingExtraError
from cbir.store import TIMEOUT, Address, without_secrets

# gRPC's C core talks to the terminal of its own accord, about connections that fail.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

try:
    import grpc
    from pymilvus import MilvusClient, MilvusException
except ImportError as error:
    raise MissingExtraError(f"{error.name or 'pymilvus'} is not installed; run: pip install 'cbir[milvus]'") from error

# They log what they raise, with tracebacks, to the terminal.
for _name in ("pymilvus", "pymilvus.milvus_client", "pymilvus.bulk_writer", "milvus_lite"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

_TOKEN = "MILVUS_TOKEN"
_PORT = 19530
# Seconds after which a search, or the sending of some megabytes, is given up, unless the address tells.
_WORK, _LONGEST = 30, 86_400
_MAX_CAUSES = 10
# What is said by a server that does not know who asks, and about one that does not answer.
_REFUSED = ("unauthenticated", "auth check failure", "missing authorization", "permission_denied", "permission deny")
_SILENT = ("statuscode.unavailable", "fail connecting", "timeout", "deadline_exceeded", "deadline exceeded")


class Connection:
    """A client of the engine at an address; `client` is None where a file of Lite has not been made yet.

    `quick` and `work` are how many seconds to wait for answers that take the engine no work, and for others.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lite = _lite_folder(address)
        self._is_encrypted, self.work = _options(address)
        self.quick = min(TIMEOUT, self.work)
        self.client: MilvusClient | None = None
        self._token = "" if self._lite else _token(address)
        if self._lite is None or _is_there(self._lite, address):
            self.open()

    def open(self) -> MilvusClient:
        """The client; a file of Lite is made if it is missing."""
        if self.client is None:
            with self.in_one_line():
                self.client = self._connect()
        return self.client

    def _connect(self) -> MilvusClient:
        if self._lite is not None:
            url = _LITE.hold(self._lite, self._address)
            try:
                return MilvusClient(url, timeout=self.quick, dedicated=True)
            except BaseException:
                _LITE.release(self._lite)
                raise
        parts = self._address.parts
        try:
            port = parts.port or _PORT
        except ValueError:
            raise self._address.error("its port is no number up to 65535") from None
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return MilvusClient(
            f"{'https' if self._is_encrypted else 'http'}://{host}:{port}",
            token=self._token,
            db_name=unquote(parts.path.strip("/")),
            timeout=self.quick,
            dedicated=True,
        )

    def close(self) -> None:
        """Give back the connection; Lite's file is free for others as soon as the last one is closed."""
        client, self.client = self.client, None
        if client is not None:
            # A server that is gone is no concern of a client that goes.
            with suppress(Exception):
                client.close()
            if self._lite is not None:
                _LITE.release(self._lite)

    def in_one_line(self) -> AbstractContextManager[None]:
        """Have what the client raises told in one line, without password or token."""
        return self._address.in_one_line((MilvusException, grpc.RpcError, grpc.FutureTimeoutError), self._told)

    def _told(self, error: Exception) -> str:
        said = str(getattr(error, "message", "")) or str(error) or type(error).__name__
        for secret in (self._token, self._token.partition(":")[2]):
            said = said.replace(secret, "***") if secret else said
        return _advice(error) or without_secrets(said, self._address)


def _advice(error: BaseException) -> str:
    """What to do next, where that can be told by what an error is, and by what has led to it."""
    whole, cause = "", error
    for _ in range(_MAX_CAUSES):
        whole += f"{cause} ".lower()
        if (cause := cause.__cause__ or cause.__context__) is None:  # type: ignore[assignment]
            break
    if any(word in whole for word in _REFUSED):
        return f"the server refuses this user, password or token; put the right one into {_TOKEN} (or user:password)"
    if any(word in whole for word in _SILENT):
        return "no answer; is the server running, and the address right? Afterwards run the same command again"
    return ""


def _options(address: Address) -> tuple[bool, float]:
    """What the address of a server asks for: whether to encrypt, and how many seconds to wait."""
    told = dict(parse_qsl(address.parts.query, keep_blank_values=True))
    tls, timeout = told.pop("tls", None), told.pop("timeout", str(_WORK))
    if tls not in (None, "1") or told:
        shown = without_secrets(address.parts.query, address)
        raise address.error(f"after ? it knows tls=1 and timeout=SECONDS, joined by &, not {shown}")
    try:
        seconds = float(timeout)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= _LONGEST:
        raise address.error(f"timeout is a number of seconds from 1 to {_LONGEST:,}")
    return tls is not None, seconds


def _token(address: Address) -> str:
    parts = address.parts
    if parts.password is not None:
        return f"{unquote(parts.username or '')}:{unquote(parts.password)}"
    return os.environ.get(_TOKEN, "")


def _lite_folder(address: Address) -> Path | None:
    """Where Lite keeps an address's data; None if it is that of a server."""
    place = address.url.partition(":")[2]
    if place.startswith("//") and not place.startswith("///"):
        if not address.parts.hostname:
            raise address.error("has no host; a file of Milvus Lite is milvus:FILE.db")
        return None
    place = place.removeprefix("//")
    if not place.endswith(".db"):
        raise address.error("is neither milvus://HOST:PORT nor a file of Milvus Lite, milvus:FILE.db")
    return Path(place).absolute()


def _is_there(folder: Path, address: Address) -> bool:
    """Whether Lite has data there. Raises StoreError for other files, which stay as they are."""
    try:
        names = set(os.listdir(folder))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise address.error(
            f"cannot be read as Milvus Lite keeps its data, in a folder: {error.strerror}; use another"
        ) from None
    if names and not {"LOCK", "collections"} <= names:
        raise address.error("is a folder with other files, not Milvus Lite's; use another name")
    return bool(names)


class _LiteServers:
    """Lite's servers in this process, one for each folder: on a free port of 127.0.0.1, ended with its last user."""

    def __init__(self) -> None:
        self._running: dict[Path, list[Any]] = {}
        self._lock = threading.Lock()
        atexit.register(self._end_all)

    def hold(self, folder: Path, address: Address) -> str:
        """The address of the folder's server, which runs until `release` has been called as often."""
        with self._lock:
            if folder not in self._running:
                self._running[folder] = [*_start(folder, address), 0]
            held = self._running[folder]
            held[-1] += 1
            return f"http://127.0.0.1:{held[2]}"

    def release(self, folder: Path) -> None:
        with self._lock:
            held = self._running.get(folder)
            if held is None:
                return
            held[-1] -= 1
            if held[-1] <= 0:
                del self._running[folder]
                held[0].stop(grace=2).wait()
                held[1].close()

    def _end_all(self) -> None:
        for folder in list(self._running):
            self._running[folder][-1] = 1
            self.release(folder)


_LITE = _LiteServers()


def _start(folder: Path, address: Address) -> tuple[Any, Any, int]:
    try:
        from milvus_lite.adapter.grpc.server import start_server_in_thread
        from milvus_lite.exceptions import DataDirLockedError, MilvusLiteError
    except ImportError as error:
        raise MissingExtraError(
            f"{error.name or 'milvus_lite'} is not installed, or too old; run: pip install 'cbir[milvus]'"
        ) from error
    if not folder.parent.is_dir():
        raise address.error(f"the folder {folder.parent} does not exist; make it first")
    try:
        server, data, port = start_server_in_thread(str(folder), host="127.0.0.1", port=0)
    except DataDirLockedError:
        raise address.error(
            "another process has it open, and Milvus Lite serves one at a time; wait until it is done"
        ) from None
    except (MilvusLiteError, OSError, ValueError) as error:
        raise address.error(f"cannot be opened by Milvus Lite: {' '.join(str(error).split())}") from None
    return server, data, port
