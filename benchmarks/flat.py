"""FAISS's flat index, which searches are compared with: all vectors in single precision, each looked at every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np

from benchmarks.exact import Nearest
from benchmarks.measure import cores
from cbir.color import F32, U8
from cbir.space import Space

# Photos that are mapped at a time.
_BLOCK = 8192


def has_faiss() -> bool:
    """Whether FAISS is installed."""
    return find_spec("faiss") is not None


class Flat:
    """An IndexFlatL2 of the vectors that a space makes of descriptors, (n, width) uint8."""

    def __init__(self, space: Space, codes: U8) -> None:
        import faiss

        self.space = space
        self.index = faiss.IndexFlatL2(space.embed_fast(codes[:1]).vectors.shape[1])
        for start in range(0, len(codes), _BLOCK):
            self.index.add(self.vectors(codes[start : start + _BLOCK]))

    def vectors(self, codes: U8) -> F32:
        """What descriptors are searched by, (n, width) uint8 to (n, m) float32."""
        return np.ascontiguousarray(self.space.embed_fast(codes).vectors)

    def search(self, vectors: F32, limit: int) -> Nearest:
        """The nearest rows to each vector, (q, m); distances are the roots of FAISS's squared ones."""
        squares, rows = self.index.search(vectors, limit)
        return Nearest(rows, np.sqrt(squares.astype(np.float64)))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let FAISS, and the linear algebra that it calls, run on so many threads within."""
    import faiss
    from threadpoolctl import threadpool_limits

    faiss.omp_set_num_threads(number)
    with threadpool_limits(number):
        yield
    faiss.omp_set_num_threads(cores())
