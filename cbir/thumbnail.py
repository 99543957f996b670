"""Thumbnails: photos small enough to look at many side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import numpy as np

from cbir.color import U8
from cbir.decode import read_small_picture
from cbir.errors import PictureError
from cbir.parallel import cores, in_order
from cbir.pixels import Picture, on_white

# Thumbnails that wait for an earlier one, whose file may take minutes, keep to so many bytes.
_TOGETHER_BYTES = 64 << 20
# Averaging whole blocks, which is fast, may leave so many times the thumbnail's size to the filter, which is good.
_GAP = 3.0


def thumbnail(path: str, side: int) -> U8 | None:
    """A photo as large as it fits into a square of `side` pixels: (height, width, 3) uint8 upright sRGB, on white.

    A smaller photo stays as it is. None if the file is gone or cannot be read.
    """
    if side < 1:
        raise ValueError(f"a thumbnail has at least a pixel, not {side} to a side")
    try:
        # Much sooner decoded than all of it: twice as many pixels each way as are needed, for the filter to work with.
        return _fitted(read_small_picture(path, 4 * side * side), side)
    except (PictureError, MemoryError):
        return None


def thumbnails(
    paths: Sequence[str], side: int, jobs: int | None = None, progress: Callable[[int, int], object] | None = None
) -> Generator[U8 | None]:
    """The thumbnails of photos, in their order, on `jobs` worker processes, as many as there are cores unless told.

    A photo that kills its decoder is None as well. `progress` is told how many are done, of how many. Raises
    WorkerStartError.
    """
    together = max(1, _TOGETHER_BYTES // (3 * side * side))
    done = 0
    for start in range(0, len(paths), together):
        some = paths[start : start + together]
        with closing(in_order(thumbnail, some, jobs or cores(), side, lost=_lost)) as made:
            for one in made:
                done += 1
                if progress:
                    progress(done, len(paths))
                yield one


def _fitted(picture: Picture, side: int) -> U8:
    from PIL import Image

    pixels = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=_GAP)
    small = np.asarray(image)
    return on_white(Picture(small) if picture.alpha is None else Picture(small[..., :3], small[..., 3]))


def _lost(path: str, reason: str, lasting: bool) -> None:
    """What stands for a photo whose worker died: as little as for one that cannot be read."""
