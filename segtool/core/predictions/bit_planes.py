"""Planes of classes that may overlap, filled band by band with one bit per pixel and class."""

import numpy as np
import numpy.typing as npt

from segtool.core import coco_rle
from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.predictions.probability_maps import lowest_level
from segtool.values import Size

Levels = npt.NDArray[np.uint16]

# A class takes the pixels whose probability reaches this.
HALF = 0.5


def decide_planes(levels: Levels) -> npt.NDArray[np.bool_]:
    """Return the pixels whose stored levels, uint16 (C, ...), reach 0.5, whatever other classes do; bool (C, ...)."""
    return levels >= np.uint16(lowest_level(HALF))


class BitPlanes:
    """Planes of zeros and ones."""

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
