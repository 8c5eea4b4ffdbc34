"""Merging stored predictions of an image, band by band: what is held does not grow with images or their size."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.predictions.bit_planes import HALF, BitPlanes, decide_planes
from segtool.core.predictions.folder import Predictions
from segtool.core.predictions.probability_maps import SCALE, Probs, decide, lowest_level

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
        """What a stored level contributes, float32 (65536,); None where that is the level itself, or a vote."""
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
        return levels.astype(np.float32) if self._terms is None else self._terms[levels]

    def __call__(self, members: Sequence[Levels]) -> Probs:
        """Merge the stored probabilities of the members `used`, uint16 (C, rows, W) each, into float32 in [0, 1]."""
        if self.mode in ("max", "min"):
            reduce = np.maximum if self.mode == "max" else np.minimum
            return _renormalised(reduce.reduce(members).astype(np.float32))
        weights = [weight for weight in self.weights if weight]
        merged = self._sum(members, weights)
        if self.mode == "tsharpen":
            return _renormalised(merged)
        # Only now: sums of stored levels are whole numbers, in which classes that are equal stay so.
        merged /= np.float32(sum(weights) * (SCALE if self.mode == "mean" else 1))
        if self.mode == "gmean":
            return _renormalised(np.exp(merged - merged.max(0)))
        return np.minimum(merged, 1, out=merged)

    def _sum(self, members: Sequence[Levels], weights: Sequence[float]) -> Floats:
        merged = self.term(members[0]) * np.float32(weights[0])
        for levels, weight in zip(members[1:], weights[1:], strict=True):
            merged += self.term(levels) * np.float32(weight)
        return merged


@dataclass(frozen=True)
class PlanesBlend(Blend):
    """How members are merged where classes may overlap: each class on its own, without dividing by any sum.

    mean, max, min: of the class's probability. vote: the weighted share of the members that give it at least 0.5.
    gmean and tsharpen: as of two classes, p and q = 1 - p, so that the result is a probability, and that of the
    complement is the complement of it:

        gmean:     Π p^w / (Π p^w + Π q^w), which is the sigmoid of the mean logit
        tsharpen:  Σ w p^exponent / (Σ w p^exponent + Σ w q^exponent)
    """

    @cached_property
    def _terms(self) -> Floats | None:
        """As above; of gmean the logit."""
        if self.mode != "gmean":
            return super()._terms
        probs = np.maximum(np.arange(SCALE + 1, dtype=np.float64) / SCALE, 0.5 / SCALE)
        return np.log(probs / probs[::-1]).astype(np.float32)

    @cached_property
    def margins(self) -> Floats:
        """How far each level is above what a blend needs to be stored as `lowest_level(0.5)`, float32 (65536,).

        A class takes a pixel where the weighted sum of its members' margins is not negative, in every mode that has
        weights.
        """
        levels = np.arange(SCALE + 1, dtype=np.float64)
        # The store rounds.
        least = lowest_level(HALF) - 0.5
        if self.mode == "vote":
            return np.where(levels > least, 1, -1).astype(np.float32)
        if self.mode == "mean":
            return (levels - least).astype(np.float32)
        share = least / SCALE
        if self.mode == "gmean":
            assert self._terms is not None
            return (self._terms - math.log(share / (1 - share))).astype(np.float32)
        powers = (levels / SCALE) ** self.exponent
        return ((1 - share) * powers - share * powers[::-1]).astype(np.float32)

    def term(self, levels: Levels) -> Floats:
        """A member's contribution to the weighted sum, float32 (C, rows, W)."""
        return decide_planes(levels).astype(np.float32) if self.mode == "vote" else super().term(levels)

    def __call__(self, members: Sequence[Levels]) -> Probs:
        """Merge the stored probabilities of the members `used`, uint16 (C, rows, W) each, into float32 in [0, 1]."""
        if self.mode in ("max", "min"):
            reduce = np.maximum if self.mode == "max" else np.minimum
            return reduce.reduce(members).astype(np.float32) / np.float32(SCALE)
        weights = [weight for weight in self.weights if weight]
        merged = self._sum(members, weights)
        if self.mode == "tsharpen":
            return merged / (merged + self._sum([SCALE - levels for levels in members], weights))
        merged /= np.float32(sum(weights) * (SCALE if self.mode == "mean" else 1))
        if self.mode == "gmean":
            return np.asarray(1 / (1 + np.exp(-merged)), np.float32)
        return np.minimum(merged, 1, out=merged)


def for_planes(blend: Blend) -> PlanesBlend:
    """Return the blend of this mode and these weights for classes that may overlap."""
    return PlanesBlend(blend.mode, blend.weights, blend.exponent)


def _renormalised(values: Floats) -> Probs:
    """Divided by their sum over the classes; where all are 0, all are equal."""
    values = np.maximum(values, np.finfo(np.float32).tiny)
    return values / values.sum(0)


def votes(mask: Array, classes: int) -> npt.NDArray[np.bool_]:
    """One-hot (C, rows, W) of class ids (rows, W)."""
    return mask == np.arange(classes, dtype=np.uint8)[:, None, None]


class Reader(Protocol):
    """What gives a member's rows."""

    def bands(self) -> Iterator[tuple[slice, Levels]]:
        """Yield all rows in bands that are best read together, as `levels` gives them."""

    def levels(self, top: int = 0, bottom: int | None = None) -> Levels:
        """Rows [top, bottom), uint16 (C, rows, W)."""


class MaskReader:
    """A member of which only masks are stored: all of a pixel's probability is its class's."""

    def __init__(self, mask: Array, classes: int) -> None:
        self.mask, self.classes = mask, classes

    def bands(self) -> Iterator[tuple[slice, Levels]]:
        """Yield all rows band by band."""
        for top in range(0, len(self.mask), MASK_ROWS):
            yield slice(top, top + MASK_ROWS), self.levels(top, top + MASK_ROWS)

    def levels(self, top: int = 0, bottom: int | None = None) -> Levels:
        """Rows [top, bottom), uint16 (C, rows, W): 0 or 65535."""
        return np.where(votes(self.mask[top:bottom], self.classes), np.uint16(SCALE), np.uint16(0))


class PlanesReader:
    """A member of which only planes are stored: a pixel is in a class with probability 1 or 0."""

    def __init__(self, planes: Planes) -> None:
        self.planes = BitPlanes.of(planes)

    def bands(self) -> Iterator[tuple[slice, Levels]]:
        """Yield all rows band by band."""
        for top in range(0, self.planes.size.height, MASK_ROWS):
            yield slice(top, top + MASK_ROWS), self.levels(top, top + MASK_ROWS)

    def levels(self, top: int = 0, bottom: int | None = None) -> Levels:
        """Rows [top, bottom), uint16 (C, rows, W): 0 or 65535."""
        return np.where(self.planes.rows(top, bottom), np.uint16(SCALE), np.uint16(0))


def bands(members: Sequence[Predictions], image_id: str) -> Iterator[tuple[int, list[Levels]]]:
    """An image's rows from the top: the first row of each band, and every member's stored probabilities of it.

    Raises:
        SegtoolError: a member's file is missing, broken, or of another size than its index says.
    """
    first, *others = (_reader(preds, image_id) for preds in members)
    for rows, levels in first.bands():
        yield rows.start, [levels, *(reader.levels(rows.start, rows.stop) for reader in others)]


def _reader(preds: Predictions, image_id: str) -> Reader:
    if not preds.has_probs and preds.multi:
        return PlanesReader(preds.read_planes(image_id))
    if not preds.has_probs:
        return MaskReader(preds.read_mask(image_id), len(preds.classes))
    return preds.open_probs(image_id)
