"""What is found about each image's label, as one row of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segtool.core.images import IGNORE, Array
from segtool.core.noise.alignment import NO_OUTLINE, NO_SHIFT, Outline, Shift, best_shift, coarse_label, outlines
from segtool.core.noise.evidence import Counts, Evidence
from segtool.core.noise.regions import Region, near_boundary, suspicious_region
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.scores import Scores

# Pixels this near to a boundary do not count where small differences are to be tolerated, as a share of the diagonal.
TOLERANCE = 0.005


@dataclass(frozen=True)
class Finding:
    """One image; a score is NaN where no pixel counts.

    Attributes:
        pixels: that count, which are those not ignored.
        miou: over the classes in label or prediction.
        worst: the class with the lowest IoU (-1: none), `worst_iou` its IoU.
        tolerant_iou: mIoU over the pixels that are not near a boundary of the label.
        softmin: see `Evidence`.
        unlikely: see `Evidence`.
        contradicted: how many pixels a confident prediction says are of another class than the label.
        region: the suspicious region, if there is one.
        shift: in pixels of the image.
        outline: likewise, of the class for which it gains most.
        disagreement: share of the pixels that not all members predict alike; NaN with one member.
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
        """The region's area as a share of the pixels that count; 0 without a region."""
        if not self.pixels:
            return math.nan
        return self.region.area / self.pixels if self.region else 0.0


def tolerance_of(label: Array, wanted: int | None) -> int:
    """How near to a boundary pixels do not count, in pixels."""
    return max(1, round(TOLERANCE * math.hypot(*label.shape))) if wanted is None else wanted


def examine(image_id: str, evidence: Evidence, members: Sequence[Array] = (), tolerance: int | None = None) -> Finding:
    """Look for all that may be wrong with a label.

    Args:
        members: predictions of others, uint8 (H, W).
        tolerance: in pixels, or None for the image's own.
    """
    label, pred = evidence.label, evidence.pred
    counted = label != IGNORE
    pixels = int(np.count_nonzero(counted))
    if not pixels:
        return Finding(image_id, 0)
    scores = Scores.of(confusion(label, pred, len(evidence.coarse)))
    worst = int(np.nanargmin(scores.iou))
    near = near_boundary(label, tolerance_of(label, tolerance))
    inner = np.where(near, np.uint8(IGNORE), label)
    small, factor = coarse_label(label, evidence.factor), evidence.factor
    shift = best_shift(small, evidence.coarse)
    outline = max(outlines(small, evidence.coarse), key=lambda one: one.gain, default=NO_OUTLINE)
    split = np.zeros(label.shape, bool)
    for other in members:
        split |= other != pred
    return Finding(
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
