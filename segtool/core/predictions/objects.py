"""Boxes around the objects of a mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.geometry import Box
from segtool.core.images import Array
from segtool.core.predictions.probability_maps import SCALE, ProbReader

# Rows and columns.
Place = tuple[slice, slice]


def component_boxes(
    mask: Array, classes: Sequence[str], wanted: Sequence[int], min_area: int, probs: ProbReader | None = None
) -> list[Box]:
    """The 8-connected components of the `wanted` classes together, from the top left.

    Args:
        mask: uint8 (H, W), class ids (and 255, which is no object); or planes of classes that may overlap, (C, H, W), 1
            in the class.
        classes: class names.
        min_area: components of fewer pixels are left out.
        probs: the probabilities that the mask was decided by.

    Returns:
        A box around each: its class is the one most of its pixels have, its score the mean probability that they have
        their class, the most probable of theirs (NaN without `probs`).
    """
    objects: _Objects = _Planes(mask, wanted) if mask.ndim == 3 else _Ids(mask, wanted)
    region = objects.region()
    found, labels, stats, _ = cv2.connectedComponentsWithStats(region, connectivity=8, ltype=cv2.CV_32S)
    scores = _mean_probabilities(labels, objects, found, probs) if probs else np.full(found, np.nan)
    boxes = []
    for index in range(1, found):
        left, top, width, height, area = map(int, stats[index])
        if area < min_area:
            continue
        place = slice(top, top + height), slice(left, left + width)
        most = objects.most_frequent(place, labels[place] == index)
        boxes.append(Box(left, top, width, height, classes[most], float(scores[index])))
    return boxes


class _Objects(Protocol):
    """The classes of a mask whose pixels are objects."""

    def region(self) -> Array:
        """Return their pixels, uint8 (H, W) of zeros and ones."""

    def most_frequent(self, place: Place, inside: npt.NDArray[np.bool_]) -> int:
        """Return the class with most pixels `inside` a part of the image."""

    def own_levels(self, rows: slice, levels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        """Return the level of each pixel's class in some rows, uint16 (rows, W), of (C, rows, W)."""


@dataclass(frozen=True)
class _Ids:
    """A mask of class ids, uint8 (H, W)."""

    mask: Array
    wanted: Sequence[int]

    def region(self) -> Array:
        table = np.zeros(256, np.uint8)
        table[list(self.wanted)] = 1
        return np.asarray(cv2.LUT(self.mask, table), np.uint8)

    def most_frequent(self, place: Place, inside: npt.NDArray[np.bool_]) -> int:
        return int(np.bincount(self.mask[place][inside]).argmax())

    def own_levels(self, rows: slice, levels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        return np.take_along_axis(levels, self.mask[None, rows].astype(np.intp), 0)[0]


@dataclass(frozen=True)
class _Planes:
    """Planes of classes that may overlap, uint8 (C, H, W)."""

    planes: Array
    wanted: Sequence[int]

    def region(self) -> Array:
        region = np.zeros(self.planes.shape[1:], np.bool_)
        for index in self.wanted:
            region |= self.planes[index] == 1
        return region.view(np.uint8)

    def most_frequent(self, place: Place, inside: npt.NDArray[np.bool_]) -> int:
        return max(self.wanted, key=lambda index: int((self.planes[index][place][inside] == 1).sum()))

    def own_levels(self, rows: slice, levels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        own = np.zeros(levels.shape[1:], np.uint16)
        for index in self.wanted:
            np.maximum(own, levels[index] * (self.planes[index, rows] == 1), out=own)
        return own


def _mean_probabilities(
    labels: npt.NDArray[np.int32], objects: _Objects, count: int, probs: ProbReader
) -> npt.NDArray[np.float64]:
    """For each of `count` labels the mean probability of the class its pixels have; band by band."""
    sums, pixels = np.zeros(count), np.zeros(count)
    for rows, levels in probs.bands():
        own = objects.own_levels(rows, levels)
        sums += np.bincount(labels[rows].ravel(), weights=own.ravel(), minlength=count)
        pixels += np.bincount(labels[rows].ravel(), minlength=count)
    return sums / np.maximum(1, pixels) / SCALE
