"""Merging stored predictions of an image, band by band: what is held does not grow with images or their size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segtool.core.images import Array
from segtool.core.predictions import Predictions
from segtool.core.probmaps import SCALE, Probs, decide, open_probs
from segtool.settings.options import Size

Levels = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float32]

# Of a mask, which is decoded as a whole.
MASK_ROWS = 64


@dataclass(frozen=True)
class Blend:
    """How members are merged; with weights w that add up to one:

    mean: Σ w p. gmean: Π p^w, a stored 0 standing for half of the smallest step. vote: Σ w [the member's arg-max].
    tsharpen: Σ w p^exponent. max, min: over the members. All but mean and vote are then divided by their sum over the
    classes. `predict` merges views and runs in the same way.
    """

    mode: str
    weights: tuple[float, ...]
    exponent: float

    @property
    def used(self) -> list[int]:
        """The members that have a weight."""
        return [member for member, weight in enumerate(self.weights) if weight]

    @cached_property
    def _terms(self) -> Floats | None:
        """What a member's stored level contributes, float32 (65536,); None where it is the level itself."""
        probs = np.arange(SCALE + 1, dtype=np.float64) / SCALE
        if self.mode == "gmean":
            return np.log(np.maximum(probs, 0.5 / SCALE)).astype(np.float32)
        if self.mode == "tsharpen":
            return (probs**self.exponent).astype(np.float32)
        return None

    def term(self, levels: Levels) -> Floats:
        """A member's contribution to the (weighted) sum, float32 (C, rows, W); the sum's arg-max is the blend's."""
        if self.mode == "vote":
            return votes(decide(levels), len(levels)).astype(np.float32)
        if self._terms is None:
            return np.multiply(levels, np.float32(1 / SCALE), dtype=np.float32)
        return self._terms[levels]

    def __call__(self, members: Sequence[Levels]) -> Probs:
        """Merge the stored probabilities of the members `used`, uint16 (C, rows, W) each, into float32 in [0, 1]."""
        merged = self._combine(members)
        if self.mode in ("mean", "vote"):
            # Weights add up to one but for rounding.
            return np.minimum(merged, 1, out=merged)
        if self.mode == "gmean":
            merged = np.exp(merged - merged.max(0))
        # Where every class is impossible in some member, all are equally so.
        merged = np.maximum(merged, np.finfo(np.float32).tiny)
        return merged / merged.sum(0)

    def _combine(self, members: Sequence[Levels]) -> Floats:
        if self.mode in ("max", "min"):
            reduce = np.maximum if self.mode == "max" else np.minimum
            return np.multiply(reduce.reduce(members), np.float32(1 / SCALE), dtype=np.float32)
        total = np.float32(sum(self.weights))
        weights = [np.float32(weight) / total for weight in self.weights if weight]
        merged = self.term(members[0])
        merged *= weights[0]
        for levels, weight in zip(members[1:], weights[1:], strict=True):
            if self.mode == "mean":
                merged += np.multiply(levels, weight / np.float32(SCALE), dtype=np.float32)
            else:
                merged += self.term(levels) * weight
        return merged


def votes(mask: Array, classes: int) -> npt.NDArray[np.bool_]:
    """One-hot (C, rows, W) of class ids (rows, W)."""
    return mask == np.arange(classes, dtype=np.uint8)[:, None, None]


class Reader(Protocol):
    """What gives a member's rows."""

    @property
    def band_rows(self) -> int:
        """Rows that are best read together."""

    def levels(self, top: int = 0, bottom: int | None = None) -> Levels:
        """Rows [top, bottom), uint16 (C, rows, W)."""


class MaskReader:
    """A member of which only masks are stored: all of a pixel's probability is its class's."""

    band_rows = MASK_ROWS

    def __init__(self, mask: Array, classes: int) -> None:
        self.mask, self.classes = mask, classes

    def levels(self, top: int = 0, bottom: int | None = None) -> Levels:
        """Rows [top, bottom), uint16 (C, rows, W): 0 or 65535."""
        return np.where(votes(self.mask[top:bottom], self.classes), np.uint16(SCALE), np.uint16(0))


def bands(members: Sequence[Predictions], image_id: str) -> Iterator[tuple[int, list[Levels]]]:
    """An image's rows from the top: the first row of each band, and every member's stored probabilities of it.

    Raises:
        SegtoolError: a member's file is missing, broken, or of another size than its index says.
    """
    readers = [_reader(preds, image_id) for preds in members]
    rows, height = readers[0].band_rows, members[0].sizes[image_id].height
    for top in range(0, height, rows):
        yield top, [reader.levels(top, min(top + rows, height)) for reader in readers]


def _reader(preds: Predictions, image_id: str) -> Reader:
    size: Size = preds.sizes[image_id]
    if not preds.has_probs:
        return MaskReader(preds.read_mask(image_id), len(preds.classes))
    return open_probs(preds.probs_path(image_id), (len(preds.classes), *size), preds.path / "index.csv")
