"""The main job on real photos, through the installed command."""

from __future__ import annotations

import filecmp
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Command

from cbir.color import lab_of_bytes
from cbir.decode import read_picture, read_working_picture
from cbir.describe import describe_file
from cbir.descriptor import GLOBAL
from cbir.grid import CellCounts
from cbir.histogram import count_labels
from cbir.index import Index
from cbir.learn import LEARNING_PHOTOS
from cbir.metric import Metric
from cbir.palette import Palette, nearest


@pytest.fixture
def ferrari(shared: Path) -> Path:
    return shared / "ferrari"


def same_files(one: Path, two: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    _, different, odd = filecmp.cmpfiles(one, two, names, shallow=False)
    return names == sorted(path.name for path in two.iterdir()) and not different and not odd


@pytest.mark.slow
def test_every_photo_of_a_real_collection_finds_itself_first(ferrari: Path, tmp_path: Path, command: Command) -> None:
    done = command("index", ferrari)
    assert done.returncode == 0 and b"100 photos" in done.stdout and b"0 skipped" in done.stdout
    assert done.stderr == b""
    own_color = []
    for photo in sorted(ferrari.rglob("*.jpg")):
        answer = json.loads(command("search", photo, "--format", "json").stdout)
        assert answer["hits"][0] == {"rank": 1, "path": str(photo), "distance": 0.0}
        assert len(answer["hits"]) == 10
        own_color += [os.path.dirname(hit["path"]) == str(photo.parent) for hit in answer["hits"][1:]]
    # By chance about 0.28 would be of the same colour; backgrounds keep this far from 1.
    assert np.mean(own_color) > 0.4


def test_two_runs_and_two_worker_counts_give_the_same_bytes(shared: Path, tmp_path: Path, command: Command) -> None:
    photos = shared / "tf_flowers"
    for name, jobs, threads in (("one", "1", "2"), ("again", "1", "1"), ("two", "2", "2")):
        done = command("index", photos, "--index", tmp_path / name, "--jobs", jobs, OMP_NUM_THREADS=threads)
        assert done.returncode == 0
    assert same_files(tmp_path / "one", tmp_path / "again")
    assert same_files(tmp_path / "one", tmp_path / "two")
    assert len(Index.open(tmp_path / "one")) == 200


def test_the_stored_histogram_is_near_that_of_the_photo_in_full(ferrari: Path, tmp_path: Path) -> None:
    """Scaling down averages neighbours, which moves colours at edges and in texture to others of the palette: the
    price of decoding at a fraction of the cost. Against the labels of the same small picture nothing is lost but
    rounding (tests/test_descriptor.py). How busy a place is depends on the scale, so only the whole can be compared."""
    photos = sorted(ferrari.rglob("*.jpg"))[::10]
    index = Index.create(tmp_path / "index", photos, colors=64, descriptor="global")
    metric = Metric.parse("sqrt-laplacian:10")
    moved = []
    for photo in photos:
        small = describe_file(str(photo), index.palette, GLOBAL)
        full = count_labels(index.palette.labels(read_picture(photo).pixels), 64)
        moved.append(np.abs(GLOBAL.whole(small) - full).sum() / 2)
        far = index.search(photo, limit=2, metric=metric)[1].distance
        assert index.space(metric).distance(small, GLOBAL.of_whole(full)) < far / 2
    assert np.mean(moved) < 0.15


@pytest.mark.slow
def test_a_palette_learnt_from_some_of_the_photos_is_as_good_as_k_means_over_all(shared: Path, tmp_path: Path) -> None:
    photos = sorted((shared / "tf_flowers_256").rglob("*.jpg"))
    if len(photos) <= LEARNING_PHOTOS:
        pytest.skip("there are too few real photos")
    index = Index.create(tmp_path / "index", photos)
    pictures = [(read_working_picture(path).pixels, None) for path in photos]
    everything = Palette.learn(*CellCounts.of_pictures(pictures).colors(), len(index.palette), "kmeans")
    probes = lab_of_bytes(np.concatenate([pixels.reshape(-1, 3)[::16] for pixels, _ in pictures]))
    ours, best = (nearest(probes, palette.lab)[0].mean() for palette in (index.palette, everything))
    assert index.info().learnt_photos == LEARNING_PHOTOS
    assert ours < 1.02 * best
