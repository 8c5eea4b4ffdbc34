"""Masks of classes that may overlap, decided while bands of probabilities arrive; a bit per pixel and class is held."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from segtool.core import coco_rle
from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.predictions.probability_maps import Probs, lowest_level, quantise
from segtool.core.scoring.fits import Fit
from segtool.values import Size

Levels = npt.NDArray[np.uint16]

# A class takes the pixels whose probability reaches this.
HALF = 0.5


def decide_planes(levels: Levels) -> npt.NDArray[np.bool_]:
    """Return the pixels whose stored levels, uint16 (C, ...), reach 0.5, whatever other classes do; bool (C, ...)."""
    return levels >= np.uint16(lowest_level(HALF))


class BitPlanes:
    """Planes of zeros and ones with one bit per pixel, filled band by band."""

    def __init__(self, classes: int, size: Size) -> None:
        self.size = size
        self.bits = np.empty((classes, size.height, -(-size.width // 8)), np.uint8)

    @classmethod
    def of(cls, planes: Planes) -> "BitPlanes":
        """Expand run lengths one plane at a time; ignored pixels and unknown classes count as 0."""
        filled = cls(len(planes.counts), planes.size)
        for index in range(len(planes.counts)):
            filled.bits[index] = np.packbits(planes.plane(index) == 1, axis=1)
        return filled

    def add(self, top: int, planes: npt.NDArray[np.bool_]) -> None:
        """Set the rows from `top` on, bool (C, rows, W)."""
        self.bits[:, top : top + planes.shape[1]] = np.packbits(planes, axis=2)

    def rows(self, top: int, bottom: int | None = None) -> npt.NDArray[np.bool_]:
        """Return the rows [top, bottom), bool (C, rows, W)."""
        return np.unpackbits(self.bits[:, top:bottom], axis=2, count=self.size.width).view(np.bool_)

    def plane(self, index: int) -> Array:
        """Return one plane, uint8 (H, W) of zeros and ones."""
        return np.unpackbits(self.bits[index], axis=1, count=self.size.width)

    def encode(self) -> Planes:
        """Return the run lengths of all planes, expanding one at a time."""
        counts = [coco_rle.encode(self.plane(index)) if bits.any() else "" for index, bits in enumerate(self.bits)]
        return Planes(self.size, tuple(counts))


class PlaneRule(Protocol):
    """A rule that decides planes, each class on its own.

    Attributes:
        fit: how it was fitted, where it was.
        cleans: whether pixels may be taken out of a whole plane.
        grows: whether that depends on seeds.
    """

    @property
    def fit(self) -> Fit | None: ...

    @property
    def cleans(self) -> bool: ...

    @property
    def grows(self) -> bool: ...

    def choose(self, levels: Levels) -> npt.NDArray[np.bool_]:
        """Return the pixels whose levels, uint16 (C, ...), reach the thresholds, bool (C, ...)."""

    def reach_seeds(self, levels: Levels) -> npt.NDArray[np.bool_]:
        """Return the pixels whose levels, uint16 (C, ...), reach the seeds, bool (C, ...)."""

    def clean(self, index: int, plane: Array, seeds: Array | None, peak: int) -> Array:
        """Take out what a whole plane must not keep.

        Args:
            index: the class.
            plane: its pixels that `choose` gives, uint8 (H, W) of zeros and ones.
            seeds: those that `reach_seeds` gives, likewise; None if the rule does not grow.
            peak: the highest stored level of the class in the image.
        """


class GrowingPlanes:
    """One image's planes, decided band by band, each class on its own (without a rule from 0.5 on)."""

    def __init__(self, rule: PlaneRule | None, classes: int, size: Size) -> None:
        self.rule, self.planes = rule, BitPlanes(classes, size)
        self.seeds = BitPlanes(classes, size) if rule and rule.grows else None
        self.peaks = np.zeros(classes, np.uint16)

    def add_probs(self, top: int, probs: Probs) -> None:
        """Decide the rows from `top` on, float32 (C, rows, W), as if they had been stored."""
        self.add(top, quantise(probs))

    def add(self, top: int, levels: Levels) -> None:
        """Decide the rows from `top` on, uint16 (C, rows, W)."""
        self.planes.add(top, self.rule.choose(levels) if self.rule else decide_planes(levels))
        if self.rule and self.rule.cleans:
            np.maximum(self.peaks, levels.max((1, 2)), out=self.peaks)
        if self.rule and self.seeds:
            self.seeds.add(top, self.rule.reach_seeds(levels))

    def finish(self) -> Planes:
        """Return the planes."""
        if not self.rule or not self.rule.cleans:
            return self.planes.encode()
        counts = []
        for index, peak in enumerate(self.peaks.tolist()):
            seeds = self.seeds.plane(index) if self.seeds else None
            plane = self.rule.clean(index, self.planes.plane(index), seeds, peak)
            counts.append(coco_rle.encode(plane) if plane.any() else "")
        return Planes(self.planes.size, tuple(counts))
