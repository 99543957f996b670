"""cbir: the colour search engine for one's own photos.

    import cbir
    index = cbir.Index.open("indexes/photos")
    for hit in index.search("query.jpg", limit=10):
        print(hit.path, hit.distance)

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cbir.decode import read_picture as read_picture
    from cbir.errors import CbirError as CbirError
    from cbir.evaluation.altered import evaluate_altered as evaluate_altered
    from cbir.evaluation.labelled import evaluate_labelled as evaluate_labelled
    from cbir.index import Hit as Hit
    from cbir.index import Index as Index
    from cbir.indexing import build_index as build_index
    from cbir.metric import Metric as Metric
    from cbir.palette import Palette as Palette
    from cbir.push import push_index as push_index
    from cbir.quadratic import QuadraticForm as QuadraticForm
    from cbir.quantize import Quantized as Quantized
    from cbir.quantize import quantize_file as quantize_file
    from cbir.query import Like as Like
    from cbir.query import Query as Query
    from cbir.query import Region as Region
    from cbir.scope import Scope as Scope
    from cbir.stored import StoredIndex as StoredIndex

_HOMES = {
    "CbirError": "errors",
    "Hit": "index",
    "Index": "index",
    "Like": "query",
    "build_index": "indexing",
    "evaluate_altered": "evaluation.altered",
    "evaluate_labelled": "evaluation.labelled",
    "Metric": "metric",
    "Palette": "palette",
    "QuadraticForm": "quadratic",
    "Query": "query",
    "Region": "query",
    "Scope": "scope",
    "StoredIndex": "stored",
    "push_index": "push",
    "Quantized": "quantize",
    "quantize_file": "quantize",
    "read_picture": "decode",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'cbir' has no attribute {name!r}")
    return getattr(import_module(f"cbir.{_HOMES[name]}"), name)
