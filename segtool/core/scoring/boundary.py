"""Boundary scores: how far the outlines of truth and prediction lie apart, in pixels.

Normalised surface distance (NSD): the share of both outlines that lies within a tolerance of the other (Nikolov et al.
2018, Deep learning to achieve clinically applicable segmentation of head and neck anatomy). Hausdorff distance at 95 %
(HD95): the larger of the two 95th percentiles of the distances from one outline to the other (as MONAI computes it).

The outline of a region is its pixels with a 4-neighbour outside it; what lies outside the image, and pixels to ignore,
belong to no region. A region in neither mask has no score. Of one that is in one mask only, NSD is 0 and HD95 the
diagonal of the image, which no distance exceeds.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.core.scoring.scores import Floats, kept_classes, row_means

Region = npt.NDArray[np.bool_]

NEIGHBOURS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
PERCENTILE = 95
# The scores, as columns of tables.
NAMES = ("nsd", "hd95")


class BoundaryScores(NamedTuple):
    """NSD in [0, 1] and HD95 in pixels; NaN where the region is in neither mask."""

    nsd: float
    hd95: float


def boundary_scores(truth: Array, pred: Array, classes: int, tolerance: float) -> Floats:
    """Return NSD and HD95 of each class, float64 (2, C).

    Args:
        truth, pred: class ids, uint8 (H, W); where the truth is 255 both count as outside of every class.
        tolerance: distance in pixels up to which an outline counts as right.
    """
    pred = np.where(truth == IGNORE, IGNORE, pred)
    scores = [region_scores(truth == index, pred == index, tolerance) for index in range(classes)]
    return np.array(scores, np.float64).reshape(classes, 2).T


def plane_scores(truth: Array, pred: Array, tolerance: float) -> BoundaryScores:
    """Return the scores of one of the classes that may overlap; NaN where it is not annotated.

    Args:
        truth, pred: uint8 (H, W), 1 in the class; where the truth is 255 both count as outside.
    """
    return region_scores(truth == 1, (pred == 1) & (truth != IGNORE), tolerance)


def region_scores(truth: Region, pred: Region, tolerance: float) -> BoundaryScores:
    """Return the scores of one region, given as bool (H, W)."""
    if not truth.any() and not pred.any():
        return BoundaryScores(np.nan, np.nan)
    if not truth.any() or not pred.any():
        return BoundaryScores(0.0, float(np.hypot(*truth.shape)))
    box = _bounds(truth | pred)
    one, other = outline(truth[box]), outline(pred[box])
    to_other, to_one = _distances(other)[one], _distances(one)[other]
    within = np.count_nonzero(to_other <= tolerance) + np.count_nonzero(to_one <= tolerance)
    farthest = max(np.percentile(to_other, PERCENTILE), np.percentile(to_one, PERCENTILE))
    return BoundaryScores(within / (len(to_other) + len(to_one)), float(farthest))


def outline(region: Region) -> Region:
    """Return the pixels of a region, bool (H, W), with a 4-neighbour outside it or outside the image."""
    inner = cv2.erode(region.view(np.uint8), NEIGHBOURS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(region & (inner == 0))


def _distances(to: Region) -> npt.NDArray[np.float32]:
    """Return the Euclidean distance from each pixel to the nearest one of `to`, float32 (H, W)."""
    return np.asarray(cv2.distanceTransform((~to).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def _bounds(region: Region) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


class BoundaryBoard:
    """Collects the boundary scores of images: means over classes per image, and over images per class.

    Classes that are excluded are left out of the means over classes, and of two classes the background is, as for Dice.
    """

    def __init__(self, classes: int, exclude: Iterable[int], tolerance: float, *, multi: bool = False) -> None:
        """`exclude` holds class ids; `multi`: classes may overlap, and none is the background."""
        self.classes, self.tolerance = classes, tolerance
        exclude = tuple(exclude)
        kept, in_dice = kept_classes(classes, exclude)
        self.kept = kept if multi else in_dice
        self.images: list[Floats] = []

    def add(self, truth: Array, pred: Array) -> None:
        """Add one image; arguments as for `boundary_scores`."""
        self.images.append(boundary_scores(truth, pred, self.classes, self.tolerance))

    def per_class(self) -> dict[str, Floats]:
        """Return the mean over the images with a score of each class, float64 (C,), by score."""
        return dict(zip(NAMES, row_means(self._all.transpose(1, 2, 0)), strict=True))

    def per_image(self) -> dict[str, Floats]:
        """Return the mean over the classes with a score of each image, float64 (N,), by score."""
        return dict(zip(NAMES, row_means(self._all[:, :, self.kept].transpose(1, 0, 2)), strict=True))

    def summary(self) -> dict[str, float | None]:
        """Return the means over images as plain JSON values, and the tolerance."""
        means = {name: float(row_means(values)) for name, values in self.per_image().items()}
        return {
            "tolerance": self.tolerance,
            **{name: None if math.isnan(value) else value for name, value in means.items()},
        }

    def add_planes(self, scores: Sequence[BoundaryScores]) -> None:
        """Add one image by the scores of its classes, of `plane_scores`."""
        self.images.append(np.array(scores, np.float64).T)

    @property
    def _all(self) -> Floats:
        return np.array(self.images, np.float64).reshape(-1, len(NAMES), self.classes)
