"""What the tests share: small synthetic photos, the shared real ones, and two ways to run the command."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from hypothesis import settings
from pictures import make_photo
from servers_postgres import postgres, postgres_address  # noqa: F401
from typer.main import get_command
from typer.testing import CliRunner, Result

from cbir import describe
from cbir.cli import app

# What one example takes depends on the machine, and on what it is the first to import.
settings.register_profile("cbir", deadline=None)
settings.load_profile("cbir")

ROOT = Path(__file__).parents[1]
# Ten photos around different hues, in two folders; the two reds are each other's nearest.
PHOTOS = {
    "nature/forest.jpg": "#2f7a35",
    "nature/meadow.png": "#8cc152",
    "nature/sea.jpg": "#1f5fa8",
    "nature/sky.png": "#8ec5ee",
    "nature/sand.jpg": "#d9c08a",
    "things/brick.jpg": "#a83a2c",
    "things/tomato.png": "#b8402f",
    "things/lemon.jpg": "#f0d83a",
    "things/plum.png": "#6b2f6e",
    "things/slate.jpg": "#5a6068",
}

Run = Callable[..., Result]
Command = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder, `photos` in the folder of the test, with ten photos of 64 x 48 pixels; see `PHOTOS`."""
    for name, color in PHOTOS.items():
        make_photo(tmp_path / "photos" / name, color)
    return tmp_path / "photos"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe photos in this process, one after the other, so that a test sees, and can replace, what does it."""

    def serial(
        work: Callable[..., Any], items: Sequence[Any], jobs: int, *arguments: object, lost: object
    ) -> Generator[tuple[int, Any]]:
        for number, item in enumerate(items):
            yield number, work(item, *arguments)

    def serial_in_order(*arguments: Any, **named: Any) -> Generator[Any]:
        for _, result in serial(*arguments, **named):
            yield result

    monkeypatch.setattr(describe, "in_any_order", serial)
    monkeypatch.setattr(describe, "in_order", serial_in_order)


@pytest.fixture
def decoded(in_process: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from here on."""
    names: list[str] = []
    real = describe.read_working_picture

    def spy(path: str, **limits: Any) -> object:
        names.append(os.path.basename(path))
        return real(path, **limits)

    monkeypatch.setattr(describe, "read_working_picture", spy)
    return names


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the real pictures, which are not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"there are no real pictures in {folder}")
    return folder


@cache
def one_command() -> Any:
    """The command, with all of its options."""
    return get_command(app)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, in the folder of the test: `run("search", path).stdout`, `.exit_code`, ..."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CBIR_INDEX", raising=False)
    # Made of its options once: that takes longer than most runs.
    monkeypatch.setattr(typer.testing, "_get_command", lambda _: one_command())

    def invoke(*arguments: object, **environment: str) -> Result:
        return CliRunner().invoke(
            app, [os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments], env=environment
        )

    return invoke


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run the installed command in a process of its own, in the folder of the test; its output is bytes."""
    surroundings = {name: value for name, value in os.environ.items() if name != "CBIR_INDEX"}

    def start(*arguments: str | bytes | Path, **environment: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [sys.executable, "-m", "cbir", *arguments],
            cwd=tmp_path,
            env=surroundings | environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )

    return start


@pytest.fixture
def never_hangs() -> Iterator[None]:
    """Fail a test that would otherwise wait for ever; what it does takes a small part of this time."""

    def stop(*_: object) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
