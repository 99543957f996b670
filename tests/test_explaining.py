"""Explanations on the terminal and for programs: numbers that sum to the distance."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbir.cli.explaining import explanation_lines, explanation_record
from cbir.explain import Explanation, Pair

BROWN, RED, BLACK = ([183, 104, 58], [207, 83, 60], [0, 0, 0])
deterministic = settings(derandomize=True, deadline=None, max_examples=100)


def pair(query, photo, share, delta_e, added):
    return Pair(np.array(query, np.uint8), np.array(photo, np.uint8), share, delta_e, added)


SOME = Explanation(
    0.3,
    (pair(BROWN, RED, 0.41, 12.3, 0.2103), pair(BLACK, BLACK, 0.002, 0, -0.01), pair(RED, BROWN, 0.2, 100, 0)),
    0.0997,
)


def test_a_line_a_pair_then_the_rest_and_the_distance():
    assert explanation_lines(SOME, color=False) == [
        "  #b7683a -> #cf533c   41%  dE  12.3   +0.2103",
        "  #000000 -> #000000   <1%  dE   0.0   -0.0100",
        "  #cf533c -> #b7683a   20%  dE 100.0   +0.0000",
        "  the rest                             +0.0997",
        "  distance                              0.3000",
    ]


def test_in_colour_the_lines_are_the_same_with_samples_between():
    lines = explanation_lines(SOME, color=True)
    assert lines[0].count("\x1b[48;2;183;104;58m   \x1b[0m #b7683a") == 1
    assert lines[0].count("\x1b[48;2;207;83;60m   \x1b[0m #cf533c") == 1
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert len({len(line) for line in bare}) == 1
    plain = [line.split() for line in explanation_lines(SOME, color=False)]
    assert [line.split() for line in bare] == plain


def test_without_a_rest_there_is_no_line_of_it():
    whole = Explanation(0.2, (pair(BROWN, RED, 1.0, 12.3, 0.2),), 1e-17)
    assert explanation_lines(whole, color=False) == [
        "  #b7683a -> #cf533c  100%  dE  12.3   +0.2000",
        "  distance                              0.2000",
    ]


@deterministic
@given(st.lists(st.floats(-0.1, 0.5), max_size=12), st.floats(-0.1, 0.5))
def test_the_numbers_that_are_shown_sum_to_the_distance_that_is_shown_and_none_is_off_by_more_than_a_step(added, rest):
    pairs = tuple(pair(BROWN, RED, 0.05, 12.3, one) for one in added)
    distance = sum(added) + rest
    lines = explanation_lines(Explanation(distance, pairs, rest), color=False)
    shown = [float(line.split()[-1]) for line in lines]
    assert sum(shown[:-1]) == pytest.approx(shown[-1], abs=1e-9)
    assert shown[-1] == pytest.approx(distance, abs=0.5001e-4)
    assert all(abs(a - b) <= 1.001e-4 for a, b in zip(shown, added, strict=False))


def test_the_record_is_json_of_numbers_that_sum_to_the_distance():
    record = json.loads(json.dumps(explanation_record(SOME)))
    assert record["pairs"][0] == {
        **{"query": "#b7683a", "photo": "#cf533c"},
        **{"share": 0.41, "delta_e": 12.3, "added": 0.2103},
    }
    assert record.keys() == {"distance", "pairs", "parts", "rest"}
    assert sum(one["added"] for one in record["pairs"]) + record["rest"] == pytest.approx(record["distance"], rel=1e-9)
