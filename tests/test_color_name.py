"""Colours as words: each notation gives the colour that CSS says, and whatever is typed ends in one or in one line."""

import itertools
import math
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import ImageColor

from cbir.color import hex_of_bytes, lab_of_bytes
from cbir.color_name import ColorError, css_color, parse_color, parse_wanted
from cbir.errors import CbirError

levels = st.integers(0, 255)
numbers = st.floats(allow_nan=True, allow_infinity=True).map(str) | st.integers(-400, 400).map(str)
# What looks like a colour, more often than any text would.
colorish = st.one_of(
    st.text(max_size=120),
    st.builds(
        "{}({}{sep}{}{sep}{}{})".format,
        st.sampled_from(["rgb", "rgba", "hsl", "lab", "lch", "oklab", "oklch", "hwb"]),
        *[numbers] * 3,
        st.sampled_from(["", "%", "deg", " / 1"]),
        sep=st.sampled_from([" ", ",", ", ", "% "]),
    ),
    st.text("#0123456789abcdefx", max_size=10),
    st.builds("{}{}".format, st.sampled_from(["teal", "dark", "burnt_orange", ""]), st.text(max_size=8)),
)


def hex_of(text: str) -> str:
    return hex_of_bytes(parse_color(text).srgb)


def refusal(text: str) -> str:
    """Why a text is no colour: in one line for a person."""
    with pytest.raises(ColorError) as caught:
        parse_wanted(text)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    return message


# --- notations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#1b3a5c", "#1b3a5c"),
        ("#1B3A5C", "#1b3a5c"),
        ("#abc", "#aabbcc"),
        ("1b3a5c", "#1b3a5c"),
        ("  1B3A5C ", "#1b3a5c"),
        ("123456", "#123456"),
        ("rgb(27,58,92)", "#1b3a5c"),
        ("rgb( 27 , 58 , 92 )", "#1b3a5c"),
        ("RGB(27 58 92)", "#1b3a5c"),
        ("rgba(27 58 92)", "#1b3a5c"),
        ("rgb(26.5 58.4 92)", "#1b3a5c"),
        ("rgb(100%, 50%, 0%)", "#ff8000"),
        # Computed with coloraide 8.13.1.
        ("hsl(210, 50%, 40%)", "#336699"),
        ("hsl(210 50 40)", "#336699"),
        ("hsl(-30deg 100% 50%)", "#ff0080"),
        ("hsl(750 20% 77%)", "#d0c4b9"),
        ("hsl(none 0% 100%)", "#ffffff"),
    ],
)
def test_a_colour_of_srgb_is_read(text: str, expected: str) -> None:
    assert hex_of(text) == expected


# What coloraide 8.13.1 gives for Color(text).convert("lab-d65").
REFERENCE = {
    "lab(52 40 -20)": (51.9476, 41.6458, -20.3719),
    "lab(52% 40 -20)": (51.9476, 41.6458, -20.3719),
    "lab(29.69% 44.888% -29.04%)": (29.7824, 58.9287, -36.4965),
    "lab(80, -60, 60)": (79.9166, -65.2397, 61.2262),
    "lab(3 2 -1)": (2.9974, 2.0874, -1.0212),
    "lab(100 0 0)": (100, 0, 0),
    "lab(0 0 0)": (0, 0, 0),
    "lch(52.2345% 72.2 56.2)": (51.5887, 38.1135, 59.1939),
    "oklab(0.5 0.1 -0.1)": (40.0542, 39.9416, -35.8417),
    "oklch(0.7 0.1 200)": (66.4939, -29.3967, -12.3375),
    "oklch(62.8% 0.2577 29.23deg)": (53.2420, 80.0966, 67.1910),
    "oklch(40% 50% 264)": (28.7011, 37.4422, -68.5428),
    "oklch(.05 2e-2 90)": (0.1094, 0.0857, 0.2438),
    "oklch(1 0 none)": (100, 0, 0),
}


@pytest.mark.parametrize("text", REFERENCE)
def test_lab_and_oklab_are_adapted_to_d65_as_css_prescribes(text: str) -> None:
    assert parse_color(text).lab == pytest.approx(REFERENCE[text], abs=2e-4)


@pytest.mark.parametrize("name", ImageColor.colormap)
def test_every_name_of_css_is_known(name: str) -> None:
    expected = np.array(ImageColor.getrgb(name), np.uint8)
    assert np.array_equal(parse_color(name).srgb, expected)
    assert np.allclose(css_color(name.upper()).lab, lab_of_bytes(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("burnt orange", "#c04e01"),
        ("burnt-orange", "#c04e01"),
        ("Burnt_Orange", "#c04e01"),
        ("  burnt \t orange\n", "#c04e01"),
        ("robin's egg blue", "#98eff9"),
        ("blue/green", "#0f9b8e"),
        # The survey has them both.
        ("greyblue", "#77a1b5"),
        ("grey blue", "#6b8ba4"),
    ],
)
def test_names_of_the_xkcd_survey_are_known_however_their_words_are_joined(text: str, expected: str) -> None:
    assert hex_of(text) == expected


@pytest.mark.parametrize("text", ["dark green", "dark-green", "Dark_Green", "darkgreen"])
def test_a_name_that_both_know_is_the_colour_of_css(text: str) -> None:
    assert hex_of(text) == "#006400"


@pytest.mark.parametrize("text", ["1b3a5c", "burnt orange", "dark green", ""])
def test_css_itself_knows_less(text: str) -> None:
    with pytest.raises(ColorError, match="no colour of CSS"):
        css_color(text)


def test_a_colour_keeps_the_name_that_it_was_given() -> None:
    assert parse_color(" Burnt   Orange ").name == "Burnt Orange"
    assert parse_wanted(" rgb(1, 2,  3) : 20").color.name == "rgb(1, 2, 3)"


def test_a_colour_outside_srgb_is_kept_and_clipped_only_to_be_shown() -> None:
    color = parse_color("lab(80 -100 100)")
    assert color.lab[1] < -100
    assert color.srgb.dtype == np.uint8
    assert color.srgb.tolist()[0] == 0


@given(st.tuples(levels, levels, levels))
def test_every_hex_colour_comes_back(rgb: tuple[int, int, int]) -> None:
    text = "#{:02x}{:02x}{:02x}".format(*rgb)
    assert hex_of(text) == hex_of(text[1:]) == hex_of("rgb({}, {}, {})".format(*rgb)) == text


# --- refusals


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rgb(300,0,0)", "'300' is not within 0 to 255"),
        ("rgb(0 101% 0)", "'101%' is not within 0% to 100%"),
        ("rgb(-1 0 0)", "'-1' is not within"),
        ("lab(101 0 0)", "not within 0 to 100"),
        ("lab(50 0 -161)", "not within -160 to 160"),
        ("lab(50 129% 0)", "not within -128% to 128%"),
        ("oklch(70 0.1 200)", "'70' is not within 0 to 1"),
        ("oklch(1 0 1e999)", "not within -3600 to 3600"),
        ("hsl(0 0 1e999)", "not within"),
        ("lab(nan 0 0)", "'nan' is not a number"),
        ("rgb(inf, 0, 0)", "'inf' is not a number"),
        ("rgb(٣ 0 0)", "not a number"),
        ("rgb(1_0 0 0)", "not a number"),
        ("hsl(10% 0 0)", "'10%' is not a number"),
        ("rgb(1deg 0 0)", "'1deg' is not a number"),
        ("rgb(1 2)", "three numbers"),
        ("rgb()", "three numbers"),
        ("rgb(1,,2,3)", "alpha"),
        ("rgb(1 2 3 / 50%)", "alpha"),
        ("rgba(1, 2, 3, 0.5)", "alpha"),
        ("#12345678", "alpha"),
        ("#1234", "alpha"),
        ("#12", "3 or 6 digits"),
        ("#12345g", "3 or 6 digits"),
        ("hwb(1 2 3)", "there is no hwb(); there are: rgb()"),
        ("123", "there is no colour '123'"),
        ("transparent", "there is no colour"),
        ("-teal", "there is no colour"),
        ("", "there is no colour ''"),
        ("\x1b[2J", r"there is no colour '\x1b[2J'"),
        ("caf\udce9", "there is no colour"),
        ("teal\0", "there is no colour"),
        ("teal" * 100_000, "at most 100 characters"),
        ("lab(" + "1" * 400 + " 0 0)", "at most 100 characters"),
    ],
)
def test_what_is_no_colour_is_refused_in_one_line_that_says_why(text: str, reason: str) -> None:
    assert reason in refusal(text)


@pytest.mark.parametrize(
    ("text", "suggestion"), [("tael", "teal"), ("burnt ornage", "burnt orange"), ("navi", "navy"), ("Tael:30", "teal")]
)
def test_names_like_a_misspelt_one_are_suggested(text: str, suggestion: str) -> None:
    suggestions = refusal(text).partition("did you mean ")[2].rstrip("?").split(", ")
    assert suggestion in suggestions
    assert len(set(suggestions)) == len(suggestions) <= 3


def test_without_matplotlib_css_is_known_and_the_rest_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.colors", None)
    assert hex_of("dark-slate-gray") == "#2f4f4f"
    assert "pip install 'cbir[plots]'" in refusal("burnt orange")
    assert "did you mean teal" in refusal("tael")


def test_the_errors_are_the_users_to_mend() -> None:
    assert issubclass(ColorError, CbirError)


@given(colorish)
@example("lab(nan 0 0)")
@example("oklch(0 0.5 0)")
@example("oklab(0% -125% 125%)")
@example("(")
@example("#")
@example("\n#fff\n")
def test_any_text_is_a_finite_colour_or_refused_in_one_line(text: str) -> None:
    try:
        color = parse_color(text)
    except ColorError as error:
        assert str(error).isprintable()
    else:
        assert all(map(math.isfinite, color.lab))
        assert color.name.isprintable()
        assert color.srgb.shape == (3,)


# --- amounts and tolerances


@pytest.mark.parametrize(
    ("text", "expected", "amount", "tolerance"),
    [
        ("teal", "#008080", None, None),
        ("teal:30", "#008080", 0.3, None),
        ("teal~15", "#008080", None, 15),
        ("teal:30~15", "#008080", 0.3, 15),
        ("teal~15:30", "#008080", 0.3, 15),
        ("teal: 30 % ~ 2.5", "#008080", 0.3, 2.5),
        ("#1b3a5c:60", "#1b3a5c", 0.6, None),
        ("1b3a5c:100~100", "#1b3a5c", 1, 100),
        ("rgb(1,2,3):20", "#010203", 0.2, None),
        ("burnt orange:0.5~1e1", "#c04e01", 0.005, 10),
    ],
)
def test_an_amount_and_a_tolerance_follow_a_colour(
    text: str, expected: str, amount: float | None, tolerance: float | None
) -> None:
    wanted = parse_wanted(text)
    assert hex_of_bytes(wanted.color.srgb) == expected
    assert (wanted.amount, wanted.tolerance) == (pytest.approx(amount), tolerance)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teal:130", "teal:130: an amount is at most 100 per cent"),
        ("teal:0", "teal:0: an amount is above 0 per cent"),
        ("teal~0", "teal~0: a tolerance is above 0"),
        ("teal~101", "teal~101: a tolerance is at most 100"),
        ("teal:1:2", "teal:1:2: an amount is given twice"),
        ("teal~1:2~3", "teal~1:2~3: a tolerance is given twice"),
        ("teal:-5", "teal:-5: an amount is above 0 per cent"),
        ("teal:", "teal:: an amount is a number, such as :30, not ''"),
        ("teal~15%", "teal~15%: a tolerance is a number, such as ~30, not '15%'"),
        ("teal:nan", "teal:nan: an amount is a number, such as :30, not 'nan'"),
        ("teal:1e-323", "teal:1e-323: an amount is above 0 per cent"),
        ("teal:\x1b", r"'teal:\x1b': an amount is a number, such as :30, not '\x1b'"),
    ],
)
def test_an_amount_that_cannot_be_is_refused_with_the_whole_text(text: str, message: str) -> None:
    assert refusal(text) == message


@given(colorish, *[st.sampled_from([":", "~", ""]), numbers] * 2)
def test_whatever_is_wanted_is_within_bounds_or_refused_in_one_line(
    color: str, mark: str, value: str, second_mark: str, second: str
) -> None:
    try:
        wanted = parse_wanted(f"{color}{mark}{value}{second_mark}{second}")
    except ColorError as error:
        assert str(error).isprintable()
    else:
        assert wanted.amount is None or 0 < wanted.amount <= 1
        assert wanted.tolerance is None or 0 < wanted.tolerance <= 100


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_amount_and_tolerance_stand_in_either_order(amount: float, tolerance: float) -> None:
    parts = f":{amount}", f"~{tolerance}"
    both = {parse_wanted("".join(("teal", *order))) for order in itertools.permutations(parts)}
    assert both == {(parse_color("teal"), amount / 100, tolerance)}
