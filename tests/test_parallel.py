"""Worker processes do each item once, whatever becomes of them, and none outlives what it was started for."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import work_for_workers as work

from cbir import parallel
from cbir.parallel import WorkerStartError, in_any_order, in_order

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals and process groups are those of POSIX"),
    pytest.mark.usefixtures("never_hangs"),
]

Run = Callable[..., Generator[Any]]
both = pytest.mark.parametrize("run", [in_any_order, in_order], ids=["any order", "in order"])
# What is said to be at once takes some hundredths of it; a batch or an item to be waited for would take far more.
AT_ONCE = 1.0


def never(item: object, reason: str, lasting: bool) -> Any:
    raise AssertionError(f"{item} is lost: {reason}")


def told(item: object, reason: str, lasting: bool) -> Any:
    return item, reason, lasting


def is_running(process: int) -> bool:
    """Whether there is such a process; one that has ended and waits for its parent to be told is none."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], object]) -> Any:
    """Wait for something that takes a few hundredths of a second."""
    until = time.monotonic() + 8
    while not (value := condition()):
        assert time.monotonic() < until, "it never happens"
        time.sleep(0.01)
    return value


def processes_in(folder: Path, number: int) -> list[int]:
    """Wait until so many worker processes have noted themselves."""
    wait_until(lambda: len(list(folder.iterdir())) >= number)
    return [int(path.name) for path in folder.iterdir()]


# --- all items, once


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_each_item_is_done_once_as_by_a_plain_loop(jobs: int) -> None:
    for number in (0, 1, 15, 16, 17, 1000):
        items = range(7, 7 + number)
        plain = [work.square(item, 5) for item in items]
        assert list(in_order(work.square, items, jobs, 5, lost=never)) == plain
        assert sorted(in_any_order(work.square, items, jobs, 5, lost=never)) == list(enumerate(plain))


def test_a_slow_item_keeps_nobody_waiting_but_those_that_want_the_order(tmp_path: Path) -> None:
    numbers = [number for number, _ in in_any_order(work.wait_for_last, range(32), 2, tmp_path, 31, lost=never)]
    assert numbers == [*range(16, 32), *range(16)]
    (tmp_path / "last").unlink()
    assert list(in_order(work.wait_for_last, range(32), 2, tmp_path, 31, lost=never)) == list(range(32))


class Asked(Sequence[int]):
    """The numbers below a thousand; `asked` of them were taken."""

    def __init__(self) -> None:
        self.asked = 0

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, place: Any) -> Any:
        self.asked += 1
        return place


@pytest.mark.parametrize("jobs", [1, 2])
def test_two_batches_for_each_worker_are_taken_ahead_however_slow_the_results_are_fetched(jobs: int) -> None:
    items = Asked()
    with closing(in_any_order(work.square, items, jobs, lost=never)) as results:
        for received, _ in enumerate(results):
            assert items.asked - received <= 2 * 16 * jobs
            if received % 100 == 0:
                time.sleep(0.05)
    assert items.asked == 1000


def test_workers_are_kept_for_the_next_run() -> None:
    first = set(in_order(work.process_of, range(5), 1, lost=never))
    assert len(first) == 1 and os.getpid() not in first
    assert set(in_order(work.process_of, range(5), 1, lost=never)) == first


def half(item: int) -> float:
    return item / 2


def test_workers_find_what_this_process_can_import() -> None:
    assert list(in_order(half, range(3), 1, lost=never)) == [0, 0.5, 1]


def test_nothing_that_an_item_prints_or_reads_gets_between(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(in_order(work.make_noise, range(20), 2, lost=never)) == [str(item) for item in range(20)]
    assert capfd.readouterr() == ("", "")


# --- workers that die


@pytest.mark.parametrize(
    ("death", "reason", "lasting"),
    [
        # A system that is short of memory kills so, too.
        (work.die_by_sigkill, "its decoder died (SIGKILL)", False),
        (os.abort, "its decoder died (SIGABRT)", False),
        (work.die_by_fault, "its decoder died (SIGSEGV)", True),
        (work.die_by_exit, "its decoder died (exit code 3)", False),
        (work.die_by_signal_without_a_name, "its decoder died (signal 40)", False),
    ],
)
def test_an_item_that_kills_its_worker_is_lost_alone_and_it_is_said_how(
    death: Callable[[], None], reason: str, lasting: bool
) -> None:
    results = dict(in_any_order(work.do_at, range(40), 2, 17, death, lost=told))
    assert results == {item: item for item in range(40)} | {17: (17, reason, lasting)}
    assert list(in_order(work.do_at, [4], 1, 4, death, lost=told)) == [(4, reason, lasting)]


def test_items_that_kill_their_workers_side_by_side_are_lost_alone() -> None:
    results = list(in_order(work.die_at_some, range(40), 2, lost=told))
    assert [item for item, result in enumerate(results) if result != item] == [3, 4, 20, 39]


@pytest.mark.parametrize(
    "hang", [work.hang_in_c, work.hang_in_c_with_the_interpreter_locked, work.hang_in_python], ids=lambda f: f.__name__
)
def test_an_item_that_never_ends_is_lost_alone_after_its_time(
    monkeypatch: pytest.MonkeyPatch, hang: Callable[[], None]
) -> None:
    monkeypatch.setattr(parallel, "ITEM_SECONDS", 0.3)
    results = dict(in_any_order(work.do_at, range(20), 2, 3, hang, lost=told))
    assert results == {item: item for item in range(20)} | {3: (3, "not done within 0.3 s", False)}


def test_the_time_is_that_of_an_item_not_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ITEM_SECONDS", 0.5)
    assert list(in_order(work.take_a_while, range(16), 1, 0.04, lost=never)) == list(range(16))


@pytest.mark.parametrize("number", [1, 40])
def test_a_worker_that_is_killed_from_outside_loses_nothing(tmp_path: Path, number: int) -> None:
    def kill() -> None:
        process = int(wait_until(lambda: (tmp_path / "process").exists() and (tmp_path / "process").read_text()))
        (tmp_path / "killed").touch()
        os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    results = list(in_order(work.hang_until_killed_once, range(number), 2, tmp_path, number // 2, lost=never))
    killer.join()
    assert results == list(range(number))


def test_kept_workers_that_are_killed_meanwhile_lose_nothing(tmp_path: Path) -> None:
    parallel._Team.dismiss()
    list(in_any_order(work.note_process, range(32), 2, tmp_path, 0.05, lost=never))
    processes = processes_in(tmp_path, 2)
    for process in processes:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, processes)))
    (other,) = in_order(work.process_of, [0], 1, lost=never)
    assert other not in processes


def test_ctrl_c_is_none_of_a_workers_business() -> None:
    """All processes of a terminal get it."""
    assert list(in_order(work.do_at, range(20), 2, 4, work.press_ctrl_c, lost=never)) == list(range(20))


def test_an_item_that_takes_memory_without_end_gets_no_more_than_its_worker_may_have() -> None:
    results = list(in_order(work.allocate_at, range(20), 2, 3, True, lost=never))
    assert 0 < results[3] <= parallel._WORKER_BYTES
    assert results[:3] + results[4:] == [*range(3), *range(4, 20)]
    with pytest.raises(MemoryError):
        list(in_order(work.allocate_at, range(20), 2, 3, False, lost=never))


@pytest.mark.parametrize("program", ["false", "true", "no such program"])
def test_workers_that_cannot_start_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    parallel._Team.dismiss()
    monkeypatch.setattr(sys, "executable", shutil.which(program) or f"/{program}")
    with pytest.raises(WorkerStartError, match=r"^/.*: a worker process cannot start \(.+\)$"):
        list(in_order(work.square, range(100), 2, lost=never))


# --- the end


@both
def test_what_an_item_raises_ends_it_and_those_who_are_at_work(run: Run, tmp_path: Path) -> None:
    stream = run(work.note_process_and_hang, range(32), 2, tmp_path, 16, lost=never)
    for _ in range(16):
        next(stream)
    (process,) = processes_in(tmp_path, 1)
    with pytest.raises(ValueError, match="item 3 is bad"):
        list(run(work.fail_at, range(40), 2, 3, lost=never))
    assert is_running(process), "it is another run's"
    stream.close()
    assert not is_running(process)


def test_what_cannot_be_sent_is_raised_here_and_does_no_harm() -> None:
    with pytest.raises(Exception, match="pickle"):
        list(in_order(lambda item: item, range(3), 1, lost=never))
    assert list(in_order(work.square, range(3), 1, lost=never)) == [0, 1, 4]


@pytest.mark.alone
@both
def test_closing_it_early_ends_those_who_are_at_work_at_once(run: Run, tmp_path: Path) -> None:
    with closing(run(work.note_process_and_hang, range(1000), 2, tmp_path, 16, lost=never)) as stream:
        next(stream)
        processes = processes_in(tmp_path, 2)
        assert all(map(is_running, processes))
        started = time.monotonic()
    assert time.monotonic() - started < AT_ONCE
    assert not any(map(is_running, processes))


@pytest.mark.alone
@both
def test_ctrl_c_ends_those_who_are_at_work_at_once(run: Run, tmp_path: Path) -> None:
    processes: list[int] = []
    pressed: list[float] = []

    def press() -> None:
        processes.extend(processes_in(tmp_path, 2))
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Thread(target=press)
    finger.start()
    with pytest.raises(KeyboardInterrupt):
        list(run(work.note_process_and_hang, range(1000), 2, tmp_path, 0, lost=never))
    assert time.monotonic() - pressed[0] < AT_ONCE
    finger.join()
    assert len(processes) == 2 and not any(map(is_running, processes))
    assert list(in_order(work.square, range(3), 1, lost=never)) == [0, 1, 4], "and the next run is as any"


@pytest.mark.alone
@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(signal.SIGINT, work.SLEEPY), (signal.SIGKILL, 0.5), (None, 0.05)],
    ids=["Ctrl-C in a terminal", "killed", "done"],
)
def test_no_worker_outlives_the_program(tmp_path: Path, sent: signal.Signals | None, seconds: float) -> None:
    """A program that is killed can do nothing for its workers: those that are at work end with their item."""
    program = """if True:
        import sys
        from pathlib import Path
        from cbir.parallel import in_any_order
        from work_for_workers import note_process
        list(in_any_order(note_process, range(32), 2, Path(sys.argv[1]), float(sys.argv[2]), lost=print))
    """
    started = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path, str(seconds)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    processes = processes_in(tmp_path, 2)
    if sent == signal.SIGINT:
        os.killpg(started.pid, sent)
    elif sent:
        started.send_signal(sent)
    ended = time.monotonic()
    assert started.wait(20) == (-sent if sent else 0)
    wait_until(lambda: not any(map(is_running, processes)))
    assert not sent or time.monotonic() - ended < AT_ONCE + (0.5 if sent == signal.SIGKILL else 0)
