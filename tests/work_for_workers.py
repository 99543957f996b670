"""What the tests have worker processes do. Workers import it by its name, so it imports little itself."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cbir.describe import _describe as describe_photo

SLEEPY = 1000


def square(item: int, offset: int = 0) -> int:
    return item * item + offset


def process_of(item: int) -> int:
    return os.getpid()


def fail_at(item: int, bad: int) -> int:
    if item == bad:
        raise ValueError(f"item {item} is bad")
    return item


def die_by_sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_by_signal_without_a_name() -> None:
    os.kill(os.getpid(), 40)


def die_by_fault() -> None:
    ctypes.string_at(0)


def die_by_exit() -> None:
    os._exit(3)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def hang_in_c() -> None:
    ctypes.CDLL(None).sleep(SLEEPY)


def hang_in_c_with_the_interpreter_locked() -> None:
    ctypes.PyDLL(None).sleep(SLEEPY)


def hang_in_python() -> None:
    while True:
        pass


DEATHS = {"kills": die_by_sigkill, "crashes": die_by_fault, "hangs": hang_in_c}


def do_at(item: int, bad: int, what: Callable[[], None]) -> int:
    if item == bad:
        what()
    return item


def describe_or_die(path: str, *arguments: Any) -> Any:
    """Describe a photo, but for those whose names tell what becomes of their decoder."""
    name = Path(path).stem
    if name in DEATHS:
        DEATHS[name]()
    return describe_photo(path, *arguments)


def die_at_some(item: int) -> int:
    if item in (3, 4, 20, 39):
        die_by_sigkill()
    return item


def take_a_while(item: int, seconds: float) -> int:
    time.sleep(seconds)
    return item


def note_process_and_hang(item: int, folder: Path, first: int) -> int:
    """Hang on items from `first` on; the numbers of the processes that do are the names of files in `folder`."""
    if item >= first:
        (folder / str(os.getpid())).touch()
        hang_in_c()
    return item


def note_process(item: int, folder: Path, seconds: float) -> int:
    """Take a while; the number of the process is the name of a file in `folder`."""
    (folder / str(os.getpid())).touch()
    return take_a_while(item, seconds)


def hang_until_killed_once(item: int, folder: Path, bad: int) -> int:
    """Hang on an item unless there is a file "killed"; before that, write the number of this process to "process"."""
    if item == bad and not (folder / "killed").exists():
        (folder / "writing").write_text(str(os.getpid()))
        (folder / "writing").rename(folder / "process")
        hang_in_c()
    return item


def wait_for_last(item: int, folder: Path, last: int) -> int:
    """Make the first item wait until the last one has been seen."""
    if item == last:
        (folder / "last").touch()
    while item == 0 and not (folder / "last").exists():
        time.sleep(0.01)
    return item


def make_noise(item: int) -> str:
    """Print in all ways, and read from standard input."""
    print("noise")
    print("noise", file=sys.stderr)
    sys.stdout.flush()
    for descriptor in (1, 2):
        os.write(descriptor, b"\x80noise\n" * 1000)
    library = ctypes.CDLL(None)
    library.puts(b"noise")
    library.fflush(None)
    return f"{item}{sys.stdin.read()}{os.read(0, 100).decode()}"


def allocate_at(item: int, bad: int, is_caught: bool) -> int:
    """Ask for memory without end, none of which is used; what was got of it."""
    import numpy as np

    blocks = []
    try:
        while item == bad:
            blocks.append(np.empty(1 << 28, np.uint8))
    except MemoryError:
        if not is_caught:
            raise
        return sum(block.nbytes for block in blocks)
    return item
