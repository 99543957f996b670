"""Items made by a thread of their own, a few before they are asked for."""

from __future__ import annotations

from collections.abc import Generator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
# Items that wait between two threads.
_AHEAD = 4
# Seconds after which a thread that waits looks whether it is still needed.
_LOOK = 0.1


def ahead(items: Generator[T], depth: int = _AHEAD) -> Generator[T]:
    """The same items, made by a thread of its own, `depth` at most before they are asked for.

    What fails there is raised here; closing this iterator ends the thread.
    """
    # Ctrl-C may come to who waits here at any moment, which the locks of queue.Queue, as Python code, do not survive.
    made: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
    places: SimpleQueue[None] = SimpleQueue()
    for _ in range(depth):
        places.put(None)
    is_needed = True

    def has_place() -> bool:
        while is_needed:
            try:
                places.get(timeout=_LOOK)
                return True
            except Empty:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not has_place():
                    break
                made.put((True, item))
            made.put((False, None))
        except BaseException as error:
            made.put((False, error))
        finally:
            items.close()

    thread = Thread(target=make, daemon=True)
    try:
        thread.start()
        while True:
            is_item, value = made.get()
            if not is_item:
                if value is not None:
                    raise value
                return
            places.put(None)
            yield value
    finally:
        is_needed = False
        if thread.is_alive():
            thread.join()
