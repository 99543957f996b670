"""An index made on other machines is that of one machine, byte for byte, and what is wrong with them is said at once.

The machines are processes of Dask's own on the loopback address.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from joblib import register_parallel_backend
from joblib._parallel_backends import ThreadingBackend
from pictures import make_photo
from PIL import Image

from cbir import __version__, build_index, dask_cluster, learn, tasks, writer
from cbir.check import check_index
from cbir.cluster import Cluster, ClusterError, versions_here
from cbir.decode import DEFAULT_LIMITS
from cbir.index import Index
from cbir.indexing import IndexingInterruptedError, Report
from cbir.lock import LOCK_NAME
from cbir.palette import Palette
from cbir.segment import TASKS
from cbir.writer import remove_unlisted

pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")

CLUSTERED = 64


@dataclass
class Machines:
    """A scheduler and workers, each a process with one thread; `address` is the scheduler's."""

    folder: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
        place = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(self.file))
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, *place],
            env=os.environ | environment,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def start_worker(self, name: str, **environment: str) -> "subprocess.Popen[bytes]":
        options = (
            "--nthreads",
            "1",
            "--no-nanny",
            "--death-timeout",
            "30",
            "--name",
            name,
            "--local-directory",
            str(self.folder),
        )
        return self.start("worker", *options, **environment)

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait()
        self.processes.remove(process)

    def worker(self, name: str) -> str:
        """Wait for a worker to have joined; its address."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            until = time.monotonic() + 30
            while True:
                for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
                    if worker["name"] == name:
                        return str(address)
                assert time.monotonic() < until, f"{name} does not join"
                time.sleep(0.05)


def start_machines(folder: Path, workers: int) -> Machines:
    machines = Machines(folder)
    machines.start("scheduler", "--port", "0")
    for number in range(workers):
        machines.start_worker(f"worker-{number}")
    until = time.monotonic() + 30
    while not machines.file.exists():
        assert time.monotonic() < until, "there is no scheduler"
        time.sleep(0.05)
    return machines


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    machines = start_machines(tmp_path_factory.mktemp("machines"), 2)
    try:
        machines.worker("worker-0"), machines.worker("worker-1")
        yield machines
    finally:
        for process in list(machines.processes):
            machines.stop(process)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos in folders, with files among them that cannot be read, or are no pictures."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    for number in range(CLUSTERED):
        make_photo(folder / f"{number % 3}" / f"{number}.png", number, (24, 16))
    for number in range(3):
        (folder / "1" / f"cut{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
        (folder / f"notes{number}.txt").write_text("not a picture")
    Image.new("RGBA", (8, 8), (1, 2, 3, 0)).save(folder / "clear.png")
    (folder / "0" / "locked.jpg").symlink_to("/proc/self/mem")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Palettes from few photos, so that the rest is described by several tasks; commits between them."""
    monkeypatch.setattr(learn, "LEARNING_PHOTOS", 8)
    monkeypatch.setattr(tasks, "FEWEST_FILES", 5)
    monkeypatch.setattr(tasks, "_TASKS_EACH", 12)
    monkeypatch.setattr(tasks, "_SAMPLES", 3)
    monkeypatch.setattr(writer, "_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(writer, "_COMMIT_SHARE", 0)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != LOCK_NAME}


def skipped(report: Report) -> list[tuple[str, str]]:
    return sorted((one.path, one.reason) for one in report.skipped)


def change(photos: Path) -> None:
    """Photos come, go, change, move, and get damaged."""
    for number in range(20, 40):
        make_photo(photos / f"{number % 3}" / f"{number}.png", 1000 + number, (20, 20))
    for number in range(3):
        (photos / "0" / f"{number * 3}.png").unlink()
        make_photo(photos / "new" / f"{number}.jpg", 2000 + number, (30, 20))
    (photos / "1" / "1.png").rename(photos / "moved.png")
    (photos / "1" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (photos / "1" / "cut0.jpg").unlink()


# --- the result


@pytest.mark.parametrize("descriptor", ["spatial", "global"])
def test_an_index_made_by_dask_and_brought_up_to_date_is_that_of_one_machine(
    machines: Machines, many: Path, tmp_path: Path, descriptor: str
) -> None:
    photos = Path(shutil.copytree(many, tmp_path / "photos", symlinks=True))
    local, far, mixed = (tmp_path / name for name in ("local", "far", "mixed"))
    with dask_cluster.dask_cluster(machines.address) as cluster:
        assert cluster.size == 2
        one = build_index(local, [photos], descriptor=descriptor)
        seen: list[tuple[int, int]] = []
        other = build_index(
            far, [photos], descriptor=descriptor, cluster=cluster, progress=lambda *now: seen.append(now)
        )
        assert files_of(far) == files_of(local)
        assert (other.photos, other.added, other.others, other.converted) == (CLUSTERED, CLUSTERED, 3, one.converted)
        assert skipped(other) == skipped(one) and len(one.skipped) >= 4
        # The palette's eight photos, and then more than one task.
        assert seen[-1] == (CLUSTERED + 8, CLUSTERED + 8) and len(seen) > 8 + 4
        shutil.copytree(local, mixed)
        change(photos)
        one = build_index(local, [photos])
        other = build_index(far, [photos], cluster=cluster)
        build_index(mixed, [photos], cluster=cluster)
    assert files_of(far) == files_of(local) == files_of(mixed)
    assert (one.added, one.changed, one.moved, one.dropped) == (other.added, other.changed, other.moved, other.dropped)
    assert one.changed == 20 and one.moved == 1 and skipped(one) == skipped(other)


class Killer:
    """Progress that ends a process once `after` files are done; if told, while `worker` has a task."""

    def __init__(
        self, machines: Machines, process: "subprocess.Popen[bytes]", worker: str | None = None, after: int = 9
    ) -> None:
        from distributed import Client

        self.client = Client(machines.address, set_as_default=False)
        self.worker, self.process, self.after = worker, process, after

    def __call__(self, done: int, total: int) -> None:
        if done >= self.after and self.process.poll() is None:
            until = time.monotonic() + 10
            while self.worker and not self.client.processing([self.worker]).get(self.worker):
                assert time.monotonic() < until, "it has no task"
            self.process.kill()
            self.process.wait()

    def has_killed(self) -> bool:
        self.client.close(timeout=1)
        return self.process.poll() == -signal.SIGKILL


def test_a_worker_that_is_killed_amid_its_task_changes_nothing(machines: Machines, many: Path, tmp_path: Path) -> None:
    build_index(tmp_path / "local", [many])
    victim = machines.start_worker("victim")
    killer = Killer(machines, victim, machines.worker("victim"))
    with dask_cluster.dask_cluster(machines.address) as cluster:
        assert cluster.size == 3
        report = build_index(tmp_path / "far", [many], cluster=cluster, progress=killer)
    assert killer.has_killed() and report.photos == CLUSTERED
    assert files_of(tmp_path / "far") == files_of(tmp_path / "local")


class Rounds(ThreadingBackend):
    """As joblib's back end of Spark, it gives results by the round only."""

    supports_retrieve_callback = False
    supports_return_generator = False


@pytest.mark.parametrize("backend", ["threading", "rounds", pytest.param("loky", marks=pytest.mark.slow)])
def test_any_back_end_of_joblib_will_do(many: Path, tmp_path: Path, backend: str) -> None:
    register_parallel_backend("rounds", Rounds)
    build_index(tmp_path / "local", [many])
    build_index(tmp_path / "far", [many], cluster=Cluster(backend))
    assert files_of(tmp_path / "far") == files_of(tmp_path / "local")


# --- what runs that end early leave


class Stop:
    """Progress that ends a run by an exception once so many files are done."""

    def __init__(self, number: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.number, self.error = number, error

    def __call__(self, done: int, total: int) -> None:
        if done >= self.number:
            raise self.error


def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(machines: Machines, many: Path, tmp_path: Path) -> None:
    build_index(tmp_path / "local", [many])
    with dask_cluster.dask_cluster(machines.address) as cluster:
        with pytest.raises(IndexingInterruptedError) as caught:
            build_index(tmp_path / "far", [many], cluster=cluster, progress=Stop(30))
        index = Index.open(tmp_path / "far")
        assert 8 < len(index) == caught.value.photos < CLUSTERED and index.is_unfinished
        assert not [name for name in os.listdir(tmp_path / "far") if name.startswith(TASKS)]
        assert build_index(tmp_path / "far", [many], cluster=cluster).added == CLUSTERED - len(index)
    assert files_of(tmp_path / "far") == files_of(tmp_path / "local")


def test_ctrl_c_where_old_photos_are_too_many_to_write_anew_leaves_none_twice(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = Path(shutil.copytree(many, tmp_path / "photos", symlinks=True))
    build_index(tmp_path / "index", [photos])
    change(photos)
    shutil.copytree(tmp_path / "index", tmp_path / "local")
    build_index(tmp_path / "local", [photos])
    monkeypatch.setattr(writer, "_COMMIT_SECONDS", 1000.0)
    monkeypatch.setattr(writer, "_FEW_PHOTOS", 0)
    with pytest.raises(IndexingInterruptedError):
        build_index(tmp_path / "index", [photos], cluster=Cluster("threading"), progress=Stop(12))
    assert Index.open(tmp_path / "index").is_unfinished and not check_index(tmp_path / "index").problems
    build_index(tmp_path / "index", [photos], cluster=Cluster("threading"))
    assert files_of(tmp_path / "index") == files_of(tmp_path / "local")


def test_what_a_crashed_run_has_left_goes_with_the_next_and_what_tasks_are_writing_stays(
    many: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    left = folder / f"{TASKS}of-a-run-before"
    left.mkdir(parents=True)
    (left / "token").write_text("its token")
    build_index(folder, [many])
    assert not left.exists()
    with tasks.task_folder(Cluster("threading"), folder, [str(many)]) as place:
        Path(place.folder, "segment").write_text("a task writes it")
        left.mkdir()
        remove_unlisted(folder, Path(place.folder))
        assert Path(place.folder, "segment").exists() and not left.exists()
    assert not Path(place.folder).exists()
    left.mkdir()
    assert check_index(folder).leftovers == [left.name]
    check_index(folder, repair=True)
    assert not left.exists()


# --- a task


def part_of(place: tasks.Place, photos: Path) -> tasks._Part:
    palette = Palette(np.array([[20, 0, 0], [50, 20, -20], [60, -20, 20], [90, 0, 0]], np.float32))
    paths = sorted(str(path) for path in photos.rglob("*") if path.is_file() and not path.is_symlink())
    looks = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths]
    return tasks._Part(place, str(photos), looks, palette.lab.tobytes(), "global", DEFAULT_LIMITS)


def test_a_task_that_runs_twice_writes_one_file(many: Path, tmp_path: Path) -> None:
    with tasks.task_folder(Cluster("threading"), tmp_path, [str(many)]) as place:
        part = part_of(place, many)
        first, again = tasks._describe(part), tasks._describe(part)
        assert first == again and first.entry is not None and first.entry.photos == CLUSTERED
        assert sorted(os.listdir(place.folder)) == [first.entry.file, "token"]


def test_a_machine_that_joins_later_looks_for_itself(many: Path, tmp_path: Path) -> None:
    with tasks.task_folder(Cluster("threading"), tmp_path, [str(many)]) as place:
        part = part_of(place, many)
        odd = {
            "has Pillow .*, not Pillow 1.0": place._replace(versions={**versions_here(), "Pillow": "1.0"}),
            "does not see the index's folder": place._replace(folder=str(tmp_path / "elsewhere" / "tasks")),
            "it has another": place._replace(token="another"),
        }
        for reason, other in odd.items():
            with pytest.raises(ClusterError, match=f"^{os.uname().nodename}: .*{reason}"):
                tasks._describe(part._replace(place=other))
        with pytest.raises(ClusterError, match="does not see /nowhere; photos must have the same path"):
            tasks._describe(part._replace(root="/nowhere"))


# --- machines that are not fit


def refused(run: Run, address: str) -> str:
    """The one line in which the command refuses a cluster, having made nothing."""
    done = run("index", "photos", "--scheduler", address)
    assert done.exit_code == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done.output
    assert not Path("indexes").exists()
    return str(done.stderr)


def test_an_address_where_nobody_answers_is_told_in_one_line(
    photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "ANSWER_SECONDS", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert f"127.0.0.1:{port}: no scheduler answers there within 1 s" in refused(run, f"tcp://127.0.0.1:{port}")
        # Somebody listens, and says nothing.
        free.listen()
        assert f"127.0.0.1:{port}: no scheduler answers there within 1 s" in refused(run, f"tcp://127.0.0.1:{port}")


def test_a_worker_that_is_not_fit_is_named_with_what_is_wrong(
    machines: Machines, photos: Path, tmp_path: Path, run: Run
) -> None:
    contents = {"absent": "raise ImportError('no colours here')", "older": "__version__ = '0.0.9'"}
    for name, content in contents.items():
        shim = tmp_path / name / "cbir" / "__init__.py"
        shim.parent.mkdir(parents=True)
        shim.write_text(content)
    odd = {name: machines.start_worker(name, PYTHONPATH=str(tmp_path / name)) for name in contents}
    addresses = {name: machines.worker(name) for name in contents}
    try:
        expected = {
            f"worker {addresses['absent']} cannot import cbir (ImportError: no colours here); install": "absent",
            f"worker {addresses['older']} has cbir 0.0.9, not cbir {__version__} as this machine": "older",
        }
        while expected:
            # One at a time, in any order.
            line = refused(run, machines.address)
            (told,) = (part for part in expected if part in line)
            machines.stop(odd.pop(expected.pop(told)))
    finally:
        for process in odd.values():
            machines.stop(process)


def test_a_worker_that_hangs_is_named(
    machines: Machines, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "ANSWER_SECONDS", 3.0)
    frozen = machines.start_worker("frozen")
    address = machines.worker("frozen")
    frozen.send_signal(signal.SIGSTOP)
    try:
        assert f"worker {address} does not answer within 3 s" in refused(run, machines.address)
    finally:
        machines.stop(frozen)


def test_folders_that_a_worker_does_not_see_are_named(machines: Machines, tmp_path: Path) -> None:
    with (
        dask_cluster.dask_cluster(machines.address) as cluster,
        tasks.task_folder(cluster, tmp_path, [str(tmp_path)]) as place,
    ):
        with pytest.raises(ClusterError, match=r"^worker tcp://.* does not see /nowhere; photos must have the same"):
            cluster.check(tasks.unfit, place, ["/nowhere"])
        with pytest.raises(ClusterError, match=r"^worker tcp://.* does not see the index's folder /elsewhere \(no su"):
            cluster.check(tasks.unfit, place._replace(folder="/elsewhere/tasks"), [])


@pytest.mark.parametrize("address", ["host", "host:8786", "tcp://host", "tcp://host:0", "tcp://me:secret@host:8786"])
def test_what_is_no_address_is_bad_usage(photos: Path, run: Run, address: str) -> None:
    done = run("index", photos, "--scheduler", address)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "tcp://host:8786" in done.stderr
    with pytest.raises(ClusterError, match="no address"), dask_cluster.dask_cluster(address):
        pass


def test_without_dask_the_command_says_what_to_install(photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = run("index", photos, "--scheduler", "tcp://127.0.0.1:8786")
    assert (
        done.exit_code == 1
        and done.stderr == "cbir: Dask is not installed; to work on many machines: pip install 'cbir[dask]'\n"
    )


# --- clusters that fail amid the work


def test_a_task_that_ends_its_worker_again_and_again_is_told(machines: Machines, many: Path, tmp_path: Path) -> None:
    from distributed import Client

    build_index(tmp_path / "local", [many])

    def set_allowed_failures(number: int, dask_scheduler: Any = None) -> int:
        before = int(dask_scheduler.allowed_failures)
        dask_scheduler.allowed_failures = number
        return before

    victim = machines.start_worker("doomed")
    address = machines.worker("doomed")
    killer = Killer(machines, victim, address)
    with Client(machines.address, set_as_default=False) as client:
        # As if three had been lost before.
        before = client.run_on_scheduler(set_allowed_failures, 0)
        try:
            reason = f"1 workers ended .* the last of them {address}"
            with dask_cluster.dask_cluster(machines.address) as cluster, pytest.raises(ClusterError, match=reason):
                build_index(tmp_path / "far", [many], cluster=cluster, progress=killer)
        finally:
            client.run_on_scheduler(set_allowed_failures, before)
    assert killer.has_killed() and Index.open(tmp_path / "far").is_unfinished
    assert not check_index(tmp_path / "far").problems
    build_index(tmp_path / "far", [many])
    assert files_of(tmp_path / "far") == files_of(tmp_path / "local")


@pytest.mark.parametrize(
    ("victim", "reason"),
    [
        (1, "no worker is left; start some with: dask worker"),
        # Dask's own patience comes first.
        pytest.param(0, "the scheduler has gone", marks=pytest.mark.slow),
    ],
)
def test_without_workers_or_scheduler_nothing_waits_for_ever(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: int, reason: str
) -> None:
    monkeypatch.setattr(dask_cluster, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(dask_cluster, "_WATCH_SECONDS", 0.1)
    machines = start_machines(tmp_path, 1)
    try:
        machines.worker("worker-0")
        address = machines.address
        killer = Killer(machines, machines.processes[victim], after=8)
        told = pytest.raises(ClusterError, match=f"^{address}: {reason}")
        with dask_cluster.dask_cluster(address) as cluster, told:
            build_index(tmp_path / "index", [many], cluster=cluster, progress=killer)
        assert killer.has_killed() and len(Index.open(tmp_path / "index")) >= 8
    finally:
        for process in list(machines.processes):
            machines.stop(process)
