"""What a store keeps of a collection as a whole, so that who searches it needs only its address."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from cbir.color import F32, U8
from cbir.descriptor import DESCRIPTORS, Descriptor
from cbir.find import is_below
from cbir.metric import Metric
from cbir.palette import MAX_COLORS, Palette
from cbir.segment import MAX_REFERENCE
from cbir.space import Space
from cbir.store import KINDS, StoreError

# Version 1 knew no parts: who writes it takes out the photos of others.
FORMAT, VERSION = "cbir store", 2
# What is pending in a store of version 1 that is incomplete.
_EVERYTHING = "/"
_MAX_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class Header:
    """Of which index a store is, and how its vectors were made.

    `index` is what the index is called, `metric` the one that the vectors are of, `lab` (k, 3) float32 the palette,
    `reference` (r, blocks * k) uint8 the photos that a centred metric measures from, `decoder` what decoded the photos.
    `doubt` is how far off any photo's distances may be by rounding in double precision. `photos` is how many there were
    after the last push that came to its end, and `pending` are the folders, absolute, below which photos may be missing
    or gone, since they are being pushed, or that was interrupted.
    """

    index: str
    metric: Metric
    descriptor: Descriptor
    lab: F32
    reference: U8
    decoder: str
    kind: str
    doubt: float = 0.0
    photos: int = 0
    pending: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all pushes came to their end."""
        return not self.pending

    def begun(self, folders: Sequence[str]) -> Header:
        """The same while what is below some folders is pushed."""
        return replace(self, pending=tuple(sorted({*self.pending, *folders})))

    def ended(self, folders: Sequence[str]) -> Header:
        """The same when that is done."""
        left = (one for one in self.pending if not any(is_below(one, folder) for folder in folders))
        return replace(self, pending=tuple(left))

    @cached_property
    def space(self) -> Space:
        """What the metric makes of the descriptors."""
        return Space(self.metric, self.lab, self.descriptor, self.reference)

    @cached_property
    def palette(self) -> Palette:
        """The palette, which tells no errors: these belong to the photos that it was learnt from."""
        return Palette(self.lab)

    @property
    def width(self) -> int:
        """How many bytes a descriptor has."""
        return int(self.reference.shape[1])

    def check_same(self, other: Header, shown: str) -> None:
        """Raise StoreError unless photos of another header may be put beside those of this, which is the store's."""
        advice = f"push to another name, such as {shown.partition('#')[0]}#another"
        mine, theirs = self.descriptor.name, other.descriptor.name
        if mine != theirs:
            raise StoreError(f"{shown}: is of the {mine} descriptor, not {theirs}; {advice}")
        if (self.lab.tobytes(), self.reference.tobytes()) != (other.lab.tobytes(), other.reference.tobytes()):
            raise StoreError(f"{shown}: is of the palette of another index, {self.index}; {advice}")
        if self.metric != other.metric:
            raise StoreError(f"{shown}: is of the metric {self.metric}, not {other.metric}; {advice}")

    def to_bytes(self) -> bytes:
        """As a store keeps it: JSON."""
        value = {
            "format": FORMAT,
            "version": VERSION,
            "index": self.index,
            "metric": str(self.metric),
            "descriptor": self.descriptor.name,
            "lab": _packed(self.lab),
            "reference": _packed(self.reference),
            "decoder": self.decoder,
            "kind": self.kind,
            "doubt": self.doubt,
            "photos": self.photos,
            "pending": self.pending,
        }
        return json.dumps(value).encode("ascii")

    @classmethod
    def of_bytes(cls, data: bytes, shown: str) -> Header:
        """Undo `to_bytes`; what comes from outside is not trusted. Raises StoreError."""
        try:
            value = json.loads(data) if len(data) <= _MAX_BYTES else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise StoreError(f"{shown}: was not made by cbir push; name another collection, as URL#NAME")
        version = value.get("version")
        if type(version) is int and version > VERSION:
            raise StoreError(f"{shown}: written by a newer cbir (store format {version}); upgrade cbir")
        try:
            return cls._of_value(value)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"{shown}: damaged ({error}); push the index to another name") from error

    @classmethod
    def _of_value(cls, value: dict[str, Any]) -> Header:
        if type(value["version"]) is not int or value["version"] < 1:
            raise ValueError("unknown version")
        descriptor = DESCRIPTORS[value["descriptor"]]
        lab = _unpacked(value["lab"], "<f4").reshape(-1, 3)
        if not 1 <= len(lab) <= MAX_COLORS or not (np.abs(lab) < 1000).all():
            raise ValueError("not a palette")
        reference = _unpacked(value["reference"], "u1").reshape(-1, len(descriptor.blocks) * len(lab))
        if len(reference) > MAX_REFERENCE:
            raise ValueError("too many reference photos")
        kind, doubt, photos = value["kind"], float(value["doubt"]), value["photos"]
        if kind not in KINDS or not 0 <= doubt < math.inf or type(photos) is not int or photos < 0:
            raise ValueError("unknown settings")
        index, metric, decoder = (str(value[name]) for name in ("index", "metric", "decoder"))
        if value["version"] > 1:
            pending = _folders(value["pending"])
        else:
            pending = () if value["complete"] is True else (_EVERYTHING,)
        measured = Metric.parse(metric), descriptor, lab, reference
        return cls(index, *measured, decoder, kind, doubt, photos, pending)


def _folders(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("unknown folders")
    return tuple(value)


def _packed(array: F32 | U8) -> str:
    return base64.b64encode(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes()).decode()


def _unpacked(text: str, dtype: str) -> Any:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype).astype(np.dtype(dtype).newbyteorder("="))
