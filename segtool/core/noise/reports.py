"""A report on each image's label: what will be one row of the table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segtool.core.images import IGNORE, Array
from segtool.core.noise.alignment import NO_OUTLINE, NO_SHIFT, Outline, Shift, best_shift, coarse_label, outlines
from segtool.core.noise.evidence import Counts, ImageEvidence
from segtool.core.noise.regions import Region, near_boundary, suspicious_region
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.scores import Scores

# Pixels within this share of the diagonal of a boundary do not count for the tolerant scores.
TOLERANCE = 0.005


@dataclass(frozen=True)
class ImageReport:
    """The report on one image; scores are NaN if no pixel counts.

    Attributes:
        pixels: number of pixels that count, that is, are not ignored.
        miou: over the classes in label or prediction.
        worst: the class with the lowest IoU (-1: none), and `worst_iou` its IoU.
        tolerant_iou: mIoU over the pixels that are not near a boundary of the label.
        softmin, unlikely: see `ImageEvidence`.
        contradicted: number of pixels for which a confident prediction contradicts the label.
        region: the suspicious region, if there is one.
        shift: in pixels of the image.
        outline: in pixels of the image, for the class with the largest gain.
        disagreement: share of the pixels on which members disagree; NaN with one member.
    """

    image_id: str
    pixels: int
    miou: float = math.nan
    worst: int = -1
    worst_iou: float = math.nan
    tolerant_iou: float = math.nan
    softmin: float = math.nan
    unlikely: Counts | None = None
    contradicted: int = 0
    region: Region | None = None
    shift: Shift = NO_SHIFT
    outline: Outline = NO_OUTLINE
    disagreement: float = math.nan

    @property
    def region_share(self) -> float:
        """The area of the region as a share of the pixels that count; 0 without a region."""
        if not self.pixels:
            return math.nan
        return self.region.area / self.pixels if self.region else 0.0


def examine(
    image_id: str, evidence: ImageEvidence, members: Sequence[Array] = (), tolerance: int | None = None
) -> ImageReport:
    """Report on everything that may be wrong with a label.

    Args:
        members: further predictions of the image, uint8 (H, W).
        tolerance: distance to a boundary, in pixels, within which pixels do not count for the tolerant scores; None: a
            share of the diagonal, see TOLERANCE.
    """
    label, pred = evidence.label, evidence.pred
    counted = label != IGNORE
    pixels = int(np.count_nonzero(counted))
    if not pixels:
        return ImageReport(image_id, 0)
    scores = Scores.of(confusion(label, pred, len(evidence.coarse)))
    worst = int(np.nanargmin(scores.iou))
    if tolerance is None:
        tolerance = max(1, round(TOLERANCE * math.hypot(*label.shape)))
    near = near_boundary(label, tolerance)
    inner = np.where(near, np.uint8(IGNORE), label)
    small, factor = coarse_label(label, evidence.factor), evidence.factor
    shift = best_shift(small, evidence.coarse)
    outline = max(outlines(small, evidence.coarse), key=lambda outline: outline.gain, default=NO_OUTLINE)
    split = np.zeros(label.shape, bool)
    for member in members:
        split |= member != pred
    return ImageReport(
        image_id,
        pixels,
        miou=scores.miou,
        worst=worst,
        worst_iou=float(scores.iou[worst]),
        tolerant_iou=Scores.of(confusion(inner, pred, len(evidence.coarse))).miou,
        softmin=evidence.softmin,
        unlikely=evidence.unlikely,
        contradicted=int(np.count_nonzero(evidence.margin)),
        region=suspicious_region(label, pred, np.where(near, np.uint8(0), evidence.margin)),
        shift=Shift(shift.gain, factor * shift.x, factor * shift.y),
        outline=Outline(outline.gain, outline.label, factor * outline.pixels),
        disagreement=float(np.count_nonzero(split & counted)) / pixels if members else math.nan,
    )
