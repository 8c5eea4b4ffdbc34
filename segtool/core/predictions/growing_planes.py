"""Masks of classes that may overlap, decided while bands of probabilities arrive; a bit per pixel and class is held."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segtool.core import coco_rle
from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.predictions.probability_maps import Probs, lowest_level, quantise
from segtool.values import Size

Levels = npt.NDArray[np.uint16]

# A class takes the pixels whose probability reaches this.
HALF = 0.5


def decide_planes(levels: Levels, thresholds: Sequence[float] | None = None) -> npt.NDArray[np.bool_]:
    """Return the pixels of each class, bool (C, ...), of stored levels, uint16 (C, ...).

    A class takes a pixel where the level reaches its own threshold (0.5 if none is given), whatever the others do.
    """
    lowest = [lowest_level(threshold) for threshold in thresholds or (HALF,) * len(levels)]
    return levels >= np.array(lowest, np.uint16).reshape(-1, *(1,) * (levels.ndim - 1))


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


class GrowingPlanes:
    """One image's planes, decided band by band, each class by its own threshold."""

    def __init__(self, thresholds: Sequence[float] | None, classes: int, size: Size) -> None:
        self.thresholds, self.planes = thresholds, BitPlanes(classes, size)

    def add_probs(self, top: int, probs: Probs) -> None:
        """Decide the rows from `top` on, float32 (C, rows, W), as if they had been stored."""
        self.planes.add(top, decide_planes(quantise(probs), self.thresholds))

    def finish(self) -> Planes:
        """Return the planes."""
        return self.planes.encode()
