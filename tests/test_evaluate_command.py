"""`cbir evaluate` as its users run it: figures on standard output, what was left out on standard error."""

import json
from pathlib import Path

import pytest
from conftest import Command, Run
from pictures import make_photo
from PIL import Image

from cbir.evaluation.altered import CASES
from cbir.evaluation.transforms import TRANSFORMS

RIVALS = ["QBIC as published", "our histogram, L1", "HSV 8x12x3, chi-squared, 5 regions", "HSV 1000 bins", "RGB 8x8x8"]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three photos of each of three kinds, and what does not belong: see `LEFT_OUT`."""
    for kind, hues in {"sea": ["#1f5fa8", "#2a6fb5", "#164f90"], "sand": ["#d9c08a", "#cfb67c", "#e3cc99"]}.items():
        for i, hue in enumerate(hues):
            make_photo(tmp_path / "set" / kind / f"{i}.jpg", hue)
    make_photo(tmp_path / "set" / "moss" / "alone.png", "#2f7a35")
    (tmp_path / "set" / "nothing").mkdir()
    (tmp_path / "set" / "sea" / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    return tmp_path / "set"


LEFT_OUT = {
    "cbir: left out set/sea/broken.jpg: ",
    "cbir: left out class moss: one photo only, which has nothing to find",
    "cbir: left out class nothing: no photo that can be read",
}


def test_a_folder_of_classes_is_indexed_and_measured_beside_the_rivals(labelled: Path, run: Run) -> None:
    done = run("evaluate", "set")
    assert done.exit_code == 0, done.stderr
    assert "set: 6 photos in 2 classes (folders), 6 searches" in done.stdout
    assert "left out: 1 file, 1 class of one photo, 1 class without photos" in done.stdout
    for name in ("cbir", "cbir, photos as a whole", *RIVALS):
        assert any(line.startswith(name) for line in done.stdout.splitlines()), name
    assert (labelled.parent / "indexes" / "set" / "manifest.json").is_file()


def test_what_is_left_out_is_said_in_a_line_each_and_is_not_in_the_figures(labelled: Path, run: Run) -> None:
    done = run("evaluate", "set", "--no-rivals", "--format", "json")
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and all(any(line.startswith(start) for line in lines) for start in LEFT_OUT)
    value = json.loads(done.stdout)
    assert (value["photos"], value["classes"], value["searches"]) == (6, 2, 6)
    assert value["classes_of_one_photo"] == ["moss"] and value["classes_without_photos"] == ["nothing"]
    assert [one["path"] for one in value["left_out"]] == ["set/sea/broken.jpg"]


def test_json_tells_every_measure_with_its_interval_and_the_difference_from_the_first(labelled: Path, run: Run) -> None:
    value = json.loads(run("evaluate", "set", "--format", "json", "--rerank").stdout)
    first, second, *_ = value["rankings"]
    assert (first["name"], second["name"]) == ("cbir", "cbir, second pass")
    assert first["mAP_above_first"] is None
    for ranking in value["rankings"]:
        assert set(ranking["measures"]) == {"P@1", "P@10", "P@20", "P@100", "mAP", "ANMRR"}
        for mean in ranking["measures"].values():
            assert mean["low"] <= mean["mean"] <= mean["high"]
    assert {one["name"] for one in value["by_class"]} == {"sea", "sand"}
    assert len(value["worst"][0]["hits"]) == 5


def test_two_kinds_apart_are_told_apart(labelled: Path, run: Run) -> None:
    value = json.loads(run("evaluate", "set", "--format", "json").stdout)
    assert value["rankings"][0]["measures"]["mAP"]["mean"] == 1
    assert value["rankings"][0]["measures"]["P@1"]["mean"] == 1


def test_the_same_seed_gives_the_same_figures(labelled: Path, run: Run) -> None:
    once = run("evaluate", "set", "--format", "json", "--seed", "5").stdout
    assert once == run("evaluate", "set", "--format", "json", "--seed", "5").stdout


def test_the_folder_that_one_stands_in_has_its_name_and_the_index_made_there_is_no_class(
    labelled: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(labelled)
    done = run("evaluate", ".", "--no-rivals", "--format", "json")
    value = json.loads(done.stdout)
    assert value["set"] == "set" and value["classes_without_photos"] == ["nothing"]


def test_markdown_has_the_tables(labelled: Path, run: Run) -> None:
    text = run("evaluate", "set", "--format", "markdown").stdout
    assert "| ranking | P@1 | P@10 | P@20 | P@100 | mAP | 95 % | ANMRR | mAP above the first's |" in text
    assert text.count("|---|") >= 3


def test_an_index_can_be_named_in_place_of_its_folder(labelled: Path, run: Run) -> None:
    whole = json.loads(run("evaluate", "set", "--format", "json").stdout)
    for name in ("indexes/set", "set-index"):
        run("index", "set", "--index", "set-index")
        opened = json.loads(run("evaluate", name, "--format", "json").stdout)
        assert opened["rankings"] == whole["rankings"] and opened["classes_of_one_photo"] == ["moss"]


def test_an_index_of_several_folders_asks_for_one(labelled: Path, photos: Path, run: Run) -> None:
    run("index", "set", "photos", "--index", "both")
    done = run("evaluate", "both")
    assert done.exit_code == 1 and "is of 2 folders; name the one to evaluate" in done.stderr
    assert run("evaluate", "set", "--index", "both", "--no-rivals").exit_code == 0


def test_the_pictures_are_written_and_never_over_another_unasked(labelled: Path, run: Run) -> None:
    line = ["evaluate", "set", "--no-rivals", "--curves", "curves.png", "--worst", "worst.png"]
    assert run(*line).exit_code == 0
    folder = labelled.parent
    assert Image.open(folder / "curves.png").width > 500 and Image.open(folder / "worst.png").width > 500
    again = run(*line)
    assert again.exit_code == 1 and "curves.png: exists; add --force" in again.stderr
    assert run(*line, "--force").exit_code == 0


def test_a_metric_and_a_layout_can_be_named(tmp_path: Path, run: Run) -> None:
    for i in range(8):
        make_photo(tmp_path / "set" / f"ukbench{i:05}.jpg", "#1f5fa8" if i < 4 else "#d9c08a")
    line = ["evaluate", "set", "--no-rivals", "--format", "json", "--metric", "sqrt-gaussian:20"]
    value = json.loads(run(*line, "--layout", "ukbench").stdout)
    assert value["layout"] == "ukbench" and value["rankings"][0]["name"] == "cbir: sqrt-gaussian:20"
    assert value["rankings"][0]["measures"]["N-S"]["mean"] == 4
    assert json.loads(run(*line).stdout) == value


def test_altered_copies_ask_for_their_originals_and_need_no_labels(photos: Path, run: Run) -> None:
    done = run("evaluate", "photos", "--transforms")
    assert done.exit_code == 0, done.stderr
    assert f"photos: 10 photos, each asked for by altered copies, {10 * len(CASES)} searches" in done.stdout
    for transform in TRANSFORMS:
        assert transform.name in done.stdout
    for name in ("cbir", *RIVALS):
        assert any(line.startswith(name) for line in done.stdout.splitlines()), name


def test_altered_copies_as_json(photos: Path, run: Run) -> None:
    value = json.loads(run("evaluate", "photos", "--transforms", "--no-rivals", "--format", "json").stdout)
    assert value["photos"] == 10 and len(value["transforms"]) == len(CASES)
    for case in value["transforms"]:
        assert 0 <= case["first"] <= case["within"] <= 1 <= case["mean_rank"] <= case["worst_rank"] <= 10
    assert value["rankings"][0]["first"]["low"] <= value["rankings"][0]["first"]["high"]


BAD_USAGE = [
    ("evaluate", "set", "--transforms", "--layout", "folders"),
    ("evaluate", "set", "--transforms", "--worst", "worst.png"),
    ("evaluate", "set", "--layout", "pyramids"),
    ("evaluate", "set", "--metric", "cbir,nose=3x"),
    ("evaluate",),
]
FAILED = [
    (("evaluate", "nowhere"), "nowhere"),
    (("evaluate", "set", "--layout", "ukbench"), "nothing to find"),
    (("evaluate", "set", "--metric", "cbir,nose=3"), "does not tell 'nose'"),
    (("evaluate", "set", "--curves", "curves.gif"), "curves.gif"),
    (("evaluate", "set/moss", "--index", "moss"), "layout"),
    (("evaluate", "set/nothing"), "no pictures there"),
]


@pytest.mark.parametrize("line", BAD_USAGE)
def test_a_wrong_command_line_is_one_line_and_2(labelled: Path, run: Run, line: tuple[str, ...]) -> None:
    done = run(*line)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(("line", "said"), FAILED)
def test_what_cannot_be_evaluated_is_one_line_and_1(labelled: Path, run: Run, line: tuple[str, ...], said: str) -> None:
    done = run(*line)
    assert done.exit_code == 1 and said in done.stderr.splitlines()[-1], done.stderr
    assert not done.stdout and "Traceback" not in done.stderr


def test_the_installed_command_evaluates(labelled: Path, command: Command) -> None:
    done = command("evaluate", "set", "--no-rivals", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["photos"] == 6


def test_a_second_pass_ranks_the_same_photos_anew_at_the_same_distances(photos: Path, run: Run) -> None:
    run("index", "photos")
    plain = json.loads(run("search", "sea.jpg", "--format", "json").stdout)["hits"]
    again = json.loads(run("search", "sea.jpg", "--format", "json", "--rerank").stdout)["hits"]
    assert {(hit["path"], hit["distance"]) for hit in plain} == {(hit["path"], hit["distance"]) for hit in again}
    assert again[0]["path"] == plain[0]["path"] and again[0]["distance"] == 0
