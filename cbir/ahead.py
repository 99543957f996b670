"""Items made by a thread of their own, a few before they are asked for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")
# Items that wait between two threads.
_AHEAD = 4


def ahead(items: Generator[T], depth: int = _AHEAD) -> Generator[T]:
    """The same items, made by a thread of its own, `depth` at most before they are asked for.

    What fails there is raised here; closing this iterator ends the thread.
    """
    queue: Queue[tuple[bool, Any]] = Queue(depth)
    stop = Event()

    def put(entry: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                queue.put(entry, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    break
            put((False, None))
        except BaseException as error:
            put((False, error))
        finally:
            items.close()

    thread = Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = queue.get()
            if not is_item:
                if value is not None:
                    raise value
                return
            yield value
    finally:
        stop.set()
        with suppress(Empty):
            while True:
                queue.get_nowait()
        thread.join()
