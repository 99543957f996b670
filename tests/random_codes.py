"""Random descriptors over random palettes, with what is hardest to tell apart among them."""

import numpy as np
from numpy.typing import NDArray

from cbir.color import lab_of_bytes
from cbir.descriptor import Descriptor

Codes = NDArray[np.uint8]


def random_palette(k: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The L*a*b* (k, 3) of random colours, of which one is there twice and one nearly so."""
    lab = lab_of_bytes(rng.integers(0, 256, (k, 3)).astype(np.uint8))
    if k > 2:
        lab[rng.integers(k)] = lab[rng.integers(k)]
        lab[rng.integers(k)] = lab[rng.integers(k)] + np.float32(1e-3)
    return lab


def random_photo(k: int, descriptor: Descriptor, rng: np.random.Generator) -> Codes:
    """The descriptor of a photo of many colours or few, in each area anew; all but the whole may be transparent."""
    areas = []
    for number, area in enumerate(descriptor.areas):
        shares = rng.dirichlet(np.full(len(area) * k, rng.choice([0.02, 0.2, 1.0])))
        areas.append(shares * (number == 0 or rng.random() < 0.9))
    return np.rint(255 * np.sqrt(np.concatenate(areas))).astype(np.uint8)


def one_color(color: int, k: int, descriptor: Descriptor) -> Codes:
    """The descriptor of a photo that is all of one colour."""
    return descriptor.describe(np.full((8, 8), color, np.uint16), k)


def random_codes(n: int, k: int, descriptor: Descriptor, rng: np.random.Generator) -> Codes:
    """Descriptors (n, blocks * k) of random photos: a sixth of one colour, a third copies of others, and a sixth such
    that differ from another by one step of one code."""
    rows = [random_photo(k, descriptor, rng) for _ in range(n)]
    for i in range(n):
        kind = rng.integers(6)
        if kind == 0:
            rows[i] = one_color(int(rng.integers(k)), k, descriptor)
        elif kind in (1, 2):
            rows[i] = rows[rng.integers(n)].copy()
        elif kind == 3:
            rows[i] = rows[rng.integers(n)].copy()
            cell = rng.integers(len(rows[i]))
            rows[i][cell] = rows[i][cell] + 1 if rows[i][cell] < 255 else 254
    return np.array(rows, np.uint8).reshape(n, len(descriptor.blocks) * k)
