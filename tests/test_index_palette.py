"""An index with the palette of another: the distances of both are those of one index of all photos, to the last bit."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from joblib import register_parallel_backend
from joblib._parallel_backends import ThreadingBackend
from memory_store import MemoryStore
from pictures import make_photo

from cbir import borrow, learn, store, tasks, writer
from cbir.check import check_index
from cbir.cluster import Cluster, ClusterError
from cbir.errors import CbirError, IndexFolderError, NoPicturesError
from cbir.index import Hit, Index
from cbir.indexing import IndexingInterruptedError, build_index
from cbir.lock import LOCK_NAME
from cbir.manifest import Manifest, _checksum
from cbir.metric import Metric
from cbir.push import push_index
from cbir.segment import save_palette
from cbir.stored import StoredIndex

GOLDEN = Path(__file__).parent / "golden"
METRICS = [Metric.parse(name) for name in ("cbir", "qbic", "cbir:5,centred=1,centre=2", "sqrt-laplacian:10")]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != LOCK_NAME}


def told(hits: list[Hit]) -> list[tuple[float, bytes]]:
    return [(hit.distance, os.fsencode(hit.path)) for hit in hits]


def codes_of(index: Index) -> dict[str, bytes]:
    return {index.path(row): index.codes(row).tobytes() for row in range(len(index))}


def all_distances(parts: list[Index], query: str, metric: Metric) -> list[tuple[float, bytes]]:
    """The hits of several indexes in one order."""
    return sorted(hit for part in parts for hit in told(part.search(query, 99, metric)))


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders of photos; a palette is learnt from a few of them, and the rest described by it."""
    monkeypatch.setattr(learn, "LEARNING_PHOTOS", 8)
    for number in range(24):
        make_photo(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", number, (32, 24))
    return tmp_path / "photos" / "a", tmp_path / "photos" / "b"


@pytest.fixture
def part(halves: tuple[Path, Path], tmp_path: Path) -> Path:
    """An index of the first folder, with 16 colours."""
    build_index(tmp_path / "part", [halves[0]], colors=16)
    return tmp_path / "part"


@pytest.mark.parametrize("descriptor", ["spatial", "global"])
def test_parts_that_have_the_palette_of_the_whole_have_its_bytes_and_its_distances(
    halves: tuple[Path, Path], tmp_path: Path, descriptor: str
) -> None:
    whole = Index.create(tmp_path / "whole", halves, colors=24, descriptor=descriptor)
    parts = [Index.create(tmp_path / half.name, [half], palette_of=tmp_path / "whole") for half in halves]
    assert [len(one) for one in parts] == [12, 12]
    assert codes_of(parts[0]) | codes_of(parts[1]) == codes_of(whole)
    for number, one in enumerate(parts):
        # Whole files: the photos' own, and what they are measured by.
        assert files_of(tmp_path / "ab"[number]).keys() - {"manifest.json"} <= files_of(tmp_path / "whole").keys()
        assert one.descriptor is whole.descriptor and not check_index(one.folder).problems
    for metric in METRICS if descriptor == "spatial" else METRICS[1:2]:
        for row in range(0, len(whole), 5):
            hits = told(whole.search(whole.path(row), 99, metric))
            assert len(hits) == 24 and all_distances(parts, whole.path(row), metric) == hits
    alone = Index.create(tmp_path / "alone", [halves[1]], colors=24, descriptor=descriptor)
    assert codes_of(alone) != codes_of(parts[1]), "its own palette is another"


def test_a_part_that_comes_later_has_the_distances_that_it_would_have_in_the_first_ones_index(
    halves: tuple[Path, Path], part: Path, tmp_path: Path
) -> None:
    later = Index.create(tmp_path / "later", [halves[1]], palette_of=part)
    grown = shutil.copytree(part, tmp_path / "grown")
    build_index(grown, [halves[1]])
    all_photos = Index.open(grown)
    assert codes_of(later) == {path: codes for path, codes in codes_of(all_photos).items() if str(halves[1]) in path}
    for metric in METRICS:
        hits = told(all_photos.search(halves[1] / "1.png", 99, metric))
        assert all_distances([Index.open(part), later], str(halves[1] / "1.png"), metric) == hits


def test_photos_are_decoded_once_and_not_by_way_of_learning(
    halves: tuple[Path, Path], part: Path, tmp_path: Path, decoded: list[str]
) -> None:
    report = build_index(tmp_path / "later", [halves[1]], palette_of=part)
    assert sorted(decoded) == sorted(path.name for path in halves[1].iterdir())
    assert (report.photos, report.added, report.colors, report.learnt_photos) == (12, 12, 16, 8)
    assert report.palette_of == str(part)


def test_a_cluster_makes_the_same_bytes(
    halves: tuple[Path, Path], part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "FEWEST_FILES", 3)
    register_parallel_backend("threads for palettes", ThreadingBackend)
    report = build_index(tmp_path / "far", [halves[1]], palette_of=part, cluster=Cluster("threads for palettes"))
    build_index(tmp_path / "near", [halves[1]], palette_of=part)
    assert report.photos == 12 and files_of(tmp_path / "far") == files_of(tmp_path / "near")


@pytest.mark.parametrize("name", ["v1", "v2", "v2-global", "v3"])
def test_the_palette_of_an_older_format_can_be_taken(photos: Path, tmp_path: Path, name: str) -> None:
    old, new = Index.open(GOLDEN / name), Index.create(tmp_path / "new", [photos / "things"], palette_of=GOLDEN / name)
    assert new.info().format_version == 3 and new.descriptor is old.descriptor
    np.testing.assert_array_equal(new.palette.lab, old.palette.lab)
    np.testing.assert_array_equal(new.reference, old.reference)
    for metric in METRICS[:2]:
        assert new.space(metric).distance(new.codes(0), new.codes(1)) == old.space(metric).distance(
            new.codes(0), new.codes(1)
        )
    assert not check_index(tmp_path / "new").problems


# --- an index that is there


def test_it_is_kept_told_and_never_outgrown(halves: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    build_index(first, [halves[0] / "0.png"], colors=16)
    report = build_index(second, [halves[1] / "1.png"], palette_of=first)
    assert report.palette_of == str(first)
    shutil.rmtree(first)
    report = build_index(second, [halves[1]])
    assert (report.photos, report.palette_of, report.palette_is_outgrown) == (12, str(first), False)
    info = Index.open(second).info()
    assert (info.palette_of, info.learnt_photos, info.colors) == (str(first), 1, 16)
    third = Index.create(tmp_path / "third", [halves[0]], palette_of=second)
    assert third.info().palette_of == str(first), "where it was learnt"
    rebuilt = build_index(second, [halves[1]], rebuild=True)
    assert rebuilt.palette_of is None and rebuilt.learnt_photos == 8
    assert Index.open(second).info().palette_of is None


def test_a_manifest_that_tells_of_no_other_index_is_as_it_was(tmp_path: Path) -> None:
    Manifest.load(GOLDEN / "v3").commit(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (GOLDEN / "v3" / "manifest.json").read_bytes()


def test_the_very_same_palette_may_be_named_again(
    halves: tuple[Path, Path], part: Path, tmp_path: Path, decoded: list[str]
) -> None:
    build_index(tmp_path / "later", [halves[1]], palette_of=part)
    before = files_of(tmp_path / "later"), files_of(part)
    decoded.clear()
    for target, photos, other in ((tmp_path / "later", halves[1], part), (part, halves[0], tmp_path / "later")):
        assert build_index(target, [photos], palette_of=other).added == 0
    assert decoded == [] and (files_of(tmp_path / "later"), files_of(part)) == before
    make_photo(halves[0] / "new.png", 99)
    assert build_index(part, [halves[0]], palette_of=tmp_path / "later").palette_of is None, "it was learnt there"


def test_an_index_of_another_palette_takes_it_only_when_rebuilt(
    halves: tuple[Path, Path], part: Path, tmp_path: Path
) -> None:
    for name, descriptor, message in (
        ("own", "spatial", "another palette than"),
        ("plain", "global", "not spatial as"),
    ):
        build_index(tmp_path / name, [halves[1]], colors=16, descriptor=descriptor)
        before = files_of(tmp_path / name)
        with pytest.raises(IndexFolderError, match=f"{name}: has .*{message} .*part; .*--rebuild"):
            build_index(tmp_path / name, [halves[1]], palette_of=part)
        assert files_of(tmp_path / name) == before
        assert build_index(tmp_path / name, [halves[1]], palette_of=part, rebuild=True).palette_of == str(part)
        assert codes_of(Index.open(tmp_path / name)) == codes_of(
            Index.create(tmp_path / f"new {name}", [halves[1]], palette_of=part)
        )


def test_one_reference_photo_that_differs_is_another_palette(
    halves: tuple[Path, Path], part: Path, tmp_path: Path
) -> None:
    # Of the same colours: distances are measured from the mean of these photos.
    build_index(tmp_path / "other", [halves[1]], palette_of=part)
    manifest = Manifest.load(tmp_path / "other")
    palette, reference = manifest.load_palette(tmp_path / "other")
    file = save_palette(palette, reference[1:], tmp_path / "other")
    replace(manifest, palette=file).commit(tmp_path / "other")
    with pytest.raises(IndexFolderError, match="another palette"):
        build_index(tmp_path / "other", [halves[1]], palette_of=part)


# --- parts in stores


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(store, "_OPENERS", dict(store._OPENERS))
    store.register("memory", MemoryStore)
    MemoryStore.clear()
    yield
    MemoryStore.clear()


def test_hits_of_a_store_for_each_part_in_one_order_are_those_of_an_index_of_all(
    halves: tuple[Path, Path], part: Path, tmp_path: Path, memory: None
) -> None:
    push_index(Index.open(part), "memory:here#first")
    push_index(Index.create(tmp_path / "later", [halves[1]], palette_of=part), "memory:here#second")
    whole = Index.create(tmp_path / "whole", halves, palette_of=part)
    for query in (halves[0] / "2.png", halves[1] / "3.png", make_photo(tmp_path / "elsewhere.png", 77)):
        hits: list[Hit] = []
        for name in ("first", "second"):
            with StoredIndex.open(f"memory:here#{name}") as stored:
                hits += stored.search(query, 10, exact=True).hits
        assert sorted(told(hits))[:10] == told(whole.search(query, 10))


def test_an_index_that_grows_is_pushed_as_one_and_a_part_beside_it_or_in_its_place(
    halves: tuple[Path, Path], part: Path, tmp_path: Path, memory: None
) -> None:
    push_index(Index.open(part), "memory:here")
    later = Index.create(tmp_path / "later", [halves[1]], palette_of=part)
    build_index(part, [halves[1]])
    report = push_index(Index.open(part), "memory:here")
    assert (report.photos, report.sent, report.deleted) == (24, 12, 0)
    with pytest.raises(store.StoreError, match="is of the index part, not later"):
        push_index(later, "memory:here")
    report = push_index(later, "memory:here", below=[halves[1]])
    assert (report.photos, report.sent, report.deleted) == (24, 0, 0)
    report = push_index(later, "memory:here", replace_all=True)
    assert (report.photos, report.sent, report.deleted) == (12, 0, 12)
    build_index(tmp_path / "later", [halves[1]], rebuild=True)
    with pytest.raises(store.StoreError, match="palette of another index"):
        push_index(Index.open(tmp_path / "later"), "memory:here")


# --- what ends early


def test_until_a_photo_is_described_ctrl_c_leaves_nothing_and_then_what_was_done(
    halves: tuple[Path, Path], part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None
) -> None:
    monkeypatch.setattr(writer, "_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(writer, "_COMMIT_SHARE", 0)

    def press(at: int) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            if done == at:
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt) as caught:
        build_index(tmp_path / "later", [halves[1]], palette_of=part, progress=press(1))
    assert not isinstance(caught.value, IndexingInterruptedError) and not (tmp_path / "later").exists()
    with pytest.raises(IndexingInterruptedError) as kept:
        build_index(tmp_path / "later", [halves[1]], palette_of=part, progress=press(6))
    assert kept.value.photos == len(Index.open(tmp_path / "later")) == 5
    assert build_index(tmp_path / "later", [halves[1]], palette_of=part).added == 7
    build_index(tmp_path / "undisturbed", [halves[1]], palette_of=part)
    assert files_of(tmp_path / "later") == files_of(tmp_path / "undisturbed")


class Lost(Cluster):
    """Machines that are gone before the first task is done."""

    size = 2

    def run(self, *_: object) -> Generator[Any]:
        raise ClusterError("the scheduler is gone")
        yield


def test_machines_that_are_lost_before_a_photo_is_described_leave_nothing(
    halves: tuple[Path, Path], part: Path, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match="is gone"):
        build_index(tmp_path / "later", [halves[1]], palette_of=part, cluster=Lost("loky"))
    assert not (tmp_path / "later").exists()


def test_where_no_picture_can_be_read_no_index_is_left(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None
) -> None:
    monkeypatch.setattr(writer, "_COMMIT_SECONDS", 0.0)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(NoPicturesError, match=r"no picture there can be read .*cut\.jpg"):
        build_index(tmp_path / "later", [tmp_path / "broken"], palette_of=part)
    assert not (tmp_path / "later").exists()


def test_an_index_that_is_rebuilt_meanwhile_gives_its_new_palette(
    halves: tuple[Path, Path], part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = borrow.check_content

    def first_rebuilt(folder: Path, name: str) -> None:
        monkeypatch.setattr(borrow, "check_content", real)
        build_index(part, [halves[0]], colors=9, rebuild=True)
        real(folder, name)

    monkeypatch.setattr(borrow, "check_content", first_rebuilt)
    assert build_index(tmp_path / "later", [halves[1]], palette_of=part).colors == 9


# --- what is refused


def damaged(part: Path, file: str, content: bytes | None) -> Path:
    folder = Path(shutil.copytree(part, part.parent / "damaged"))
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "how", ["cut manifest", "newer", "odd origin", "lost palette", "cut palette", "changed palette", "no manifest"]
)
def test_an_index_that_is_damaged_gives_no_palette(
    halves: tuple[Path, Path], part: Path, tmp_path: Path, how: str
) -> None:
    text = (part / "manifest.json").read_text()
    palette = Manifest.load(part).palette
    lab = Index.open(part).palette.lab.tobytes()
    kept = (part / palette).read_bytes()
    # One colour a little lighter: nothing but the file's name tells.
    assert kept.count(lab) == 1
    changed = kept.replace(lab, (np.frombuffer(lab, np.float32) + np.float32(0.125)).tobytes())
    value = json.loads(text) | {"palette_of": 3}
    value.pop("checksum")
    odd = json.dumps(value | {"checksum": _checksum(value)})
    file, content, message = {
        "cut manifest": ("manifest.json", text[:99].encode(), "damaged"),
        "newer": ("manifest.json", text.replace('"version": 3', '"version": 4').encode(), "newer cbir"),
        "odd origin": ("manifest.json", odd.encode(), "3 is not a name"),
        "lost palette": (palette, None, "missing"),
        "cut palette": (palette, kept[:99], "damaged"),
        "changed palette": (palette, changed, "not what was written"),
        "no manifest": ("manifest.json", None, "not an index"),
    }[how]
    folder = damaged(part, file, content)
    with pytest.raises(IndexFolderError, match=message) as caught:
        build_index(tmp_path / "later", [halves[1]], palette_of=folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "later").exists()


def test_photos_of_the_other_index_need_not_be_whole(halves: tuple[Path, Path], part: Path, tmp_path: Path) -> None:
    folder = damaged(part, Manifest.load(part).segments[0].file, None)
    assert build_index(tmp_path / "later", [halves[1]], palette_of=folder).photos == 12


def test_itself_a_file_and_nothing_are_no_other_index(halves: tuple[Path, Path], part: Path, tmp_path: Path) -> None:
    (tmp_path / "colors.gpl").write_text("GIMP Palette\n200 30 30\n")
    (tmp_path / "link").symlink_to(part)
    before = files_of(part)
    for other, message in {
        part: "is the index that is to be made",
        tmp_path / "link": "is the index that is to be made",
        tmp_path / "colors.gpl": "is a file; .*name an index",
        tmp_path / "nothing": "not an index",
        halves[0]: "not an index",
    }.items():
        for rebuild in (False, True):
            with pytest.raises(IndexFolderError, match=message) as caught:
                build_index(part, [halves[0]], palette_of=other, rebuild=rebuild)
            assert str(caught.value).startswith(f"{other}: ")
    assert files_of(part) == before


@pytest.mark.parametrize("asked", [{"colors": 17}, {"algorithm": "kmeans"}, {"descriptor": "global"}], ids=list)
def test_what_the_other_index_has_otherwise_cannot_be_asked_for(
    halves: tuple[Path, Path], part: Path, tmp_path: Path, asked: dict[str, object]
) -> None:
    with pytest.raises(CbirError, match=r"part: has a palette of 16 colours by minibatch and spatial descriptors; ask"):
        build_index(tmp_path / "later", [halves[1]], palette_of=part, **asked)  # type: ignore[arg-type]
    assert not (tmp_path / "later").exists()
    same = build_index(
        tmp_path / "later", [halves[1]], palette_of=part, colors=16, algorithm="minibatch", descriptor="spatial"
    )
    assert same.photos == 12


# --- the command


def succeeded(run: Run, *arguments: object) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_the_option_is_told_with_an_example_that_works(photos: Path, run: Run) -> None:
    succeeded(run, "index", "photos", "-k", 16)
    shutil.copytree(photos / "things", photos.parent / "more")
    shown = " ".join(succeeded(run, "index", "--help").split())
    example = shown.partition("--palette INDEX ")[2].partition("Example: ")[2].partition(" --max-pixels")[0]
    words = shlex.split(example)
    assert words[:2] == ["cbir", "index"] and "--palette" in words
    told = succeeded(run, *words[1:])
    assert "indexes/more: 5 photos" in told
    error = Index.open("indexes/photos").palette.mean_error
    assert f"palette of indexes/photos: 16 colours, colour error of its photos {error:.1f} on average" in told
    assert "16, learnt from 10 photos by minibatch in indexes/photos\n" in succeeded(run, "info", "more")
    facts = json.loads(succeeded(run, "info", "more", "--format", "json"))
    assert facts["palette_of"] == str(photos.parent / "indexes" / "photos")
    # Of the photos that are in both.
    for query in ("plum.png", "brick.jpg"):
        hits = [
            json.loads(succeeded(run, "search", query, "--index", index, "-n", 99, "--format", "json"))["hits"]
            for index in ("photos", "more")
        ]
        one, other = ({Path(hit["path"]).name: hit["distance"] for hit in some} for some in hits)
        assert len(other) == 5 and other == {name: one[name] for name in other}


def test_what_is_refused_is_one_line(photos: Path, run: Run) -> None:
    succeeded(run, "index", "photos", "-k", 16)
    succeeded(run, "index", "photos/things", "--index", "own", "-k", 16)
    Path("colors.gpl").write_text("GIMP Palette\n200 30 30\n")
    for words, message in {
        ("--palette", "nothing"): "nothing: no such index (there are: own, photos)",
        ("--palette", "colors.gpl"): "colors.gpl: is a file",
        ("--palette", "own", "--index", "own"): "indexes/own: is the index that is to be made",
        (
            "--palette",
            "photos",
            "--index",
            "own",
        ): "indexes/own: has another palette than indexes/photos; add --rebuild",
        ("--palette", "photos", "-k", "8"): "indexes/photos: has a palette of 16 colours",
    }.items():
        result = run("index", "photos/things", *words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"cbir: {message}") and result.stderr.count("\n") == 1
    assert sorted(path.name for path in Path("indexes").iterdir()) == ["own", "photos"]
