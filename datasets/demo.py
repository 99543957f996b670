"""The main job on real photos, and one page with the pictures: `python -m datasets.demo [FOLDER]`."""

from __future__ import annotations

import base64
import html
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from datasets.sample import gather

# Photos that are worth asking with: a red roof under a pale sky, an orange flower on green, a cup in warm browns.
QUERIES = ("scikit-learn/china.jpg", "scikit-learn/flower.jpg", "scikit-image/coffee.png")
REDRAWN = "scikit-learn/flower.jpg"
_THUMBNAIL = (240, 180)
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; background: Canvas; color: CanvasText; }
pre { padding: .75rem 1rem; overflow-x: auto; background: color-mix(in srgb, CanvasText 8%, Canvas); }
.row { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 240px; } figure.wide { width: auto; max-width: 100%; }
figure img { max-width: 100%; border-radius: 4px; } figcaption { font-size: .8rem; overflow-wrap: anywhere; }
figure.query img { outline: 3px solid Highlight; }
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo in a folder (./demo unless told), and name the page that it leaves."""
    words = sys.argv[1:] if arguments is None else arguments
    folder = Path(words[0] if words else "demo").resolve()
    photos = folder / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    gather(photos)

    parts = ["<h1>cbir: photos by their colours</h1>"]
    parts += _shown(folder, "index", "photos", "--rebuild")
    for query in QUERIES:
        if (photos / query).exists():
            parts += _search(folder, f"photos/{query}")
    parts.append("<h2>Redrawn in six flat colours</h2>")
    parts += _shown(
        folder, "quantize", f"photos/{REDRAWN}", "-k", "6", "--side-by-side", "-o", "redrawn.png", "--force"
    )
    parts.append(f'<figure class="wide"><img src="{_data_url(folder / "redrawn.png", "PNG")}" alt=""></figure>')
    parts.append("<h2>The colours of all photos together</h2>")
    parts += _shown(folder, "palette", "photos", "-o", "palette.png", "--force")
    parts.append(f'<figure class="wide"><img src="{_data_url(folder / "palette.png", "PNG")}" alt=""></figure>')
    parts += _shown(folder, "info")

    page = folder / "index.html"
    page.write_text(_page(parts), encoding="utf-8")
    print(f"\nThe pictures are in {page}")
    return 0


def _run(folder: Path, *words: str) -> str:
    """Run a command as a user would, in a folder, and print it with what it says; its standard output is returned."""
    print(f"$ cbir {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "cbir", *words], cwd=folder, capture_output=True, text=True)
    print(done.stdout + done.stderr, flush=True)
    if done.returncode:
        raise SystemExit(f"the demo failed: cbir {shlex.join(words)} exited with {done.returncode}")
    return done.stdout


def _shown(folder: Path, *words: str) -> list[str]:
    output = _run(folder, *words)
    return [f"<pre>$ cbir {html.escape(shlex.join(words))}\n{html.escape(output)}</pre>"]


def _search(folder: Path, query: str) -> list[str]:
    parts = [f"<h2>Like {html.escape(query)}</h2>", *_shown(folder, "search", query, "-n", "6")]
    answer: dict[str, Any] = json.loads(_run(folder, "search", query, "-n", "6", "--format", "json"))
    parts.append('<div class="row">')
    for hit in answer["hits"]:
        kind = ' class="query"' if hit["distance"] == 0 else ""
        caption = f"{hit['rank']}. {hit['distance']:.3f} {html.escape(hit['path'])}"
        picture = _data_url(folder / hit["path"], "JPEG", _THUMBNAIL)
        parts.append(f'<figure{kind}><img src="{picture}" alt=""><figcaption>{caption}</figcaption></figure>')
    return [*parts, "</div>"]


def _data_url(path: Path, kind: str, fit: tuple[int, int] | None = None) -> str:
    with Image.open(path) as image:
        shown = image.convert("RGB")
    if fit:
        shown.thumbnail(fit)
    content = io.BytesIO()
    shown.save(content, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def _page(parts: list[str]) -> str:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>cbir demo</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>'
        + "\n".join(parts)
        + "</body></html>\n"
    )


if __name__ == "__main__":
    sys.exit(main())
