"""Measure how much better a label would agree with its prediction if it were moved, or a class grown or shrunk.

A network's own mistakes are on all sides of an object and cancel out here; a mask that was moved, or an outline drawn
too wide, is wrong in the same way everywhere.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.core.predictions.probability_maps import Probs

# Largest move of a label, and of an outline, as a share of the shorter side.
SHIFT_REACH = 0.15
OUTLINE_REACH = 0.06


@dataclass(frozen=True)
class Shift:
    """The gain from moving a label by (x, y) pixels.

    Attributes:
        gain: the mean over the label's pixels of the probability of their class after the move, less that before.
    """

    gain: float
    x: int
    y: int


@dataclass(frozen=True)
class Outline:
    """The gain (as in `Shift`) from growing a class in the label by `pixels`, or shrinking it if negative."""

    gain: float
    label: int
    pixels: int


NO_SHIFT = Shift(0.0, 0, 0)
NO_OUTLINE = Outline(0.0, -1, 0)


def coarse_label(label: Array, factor: int) -> Array:
    """Return the label at the centre of each block of factor x factor pixels, uint8 (H // factor, W // factor)."""
    rows, columns = (side // factor for side in label.shape)
    return label[factor // 2 :: factor, factor // 2 :: factor][:rows, :columns]


def best_shift(label: Array, probs: Probs) -> Shift:
    """Return the shift of a label with the largest gain, NO_SHIFT if none gains.

    Args:
        label: uint8 (h, w), class ids and 255 = ignore.
        probs: float32 (C, h, w).
    """
    height, width = label.shape
    reach = max(1, round(SHIFT_REACH * min(height, width)))
    total = np.count_nonzero(label != IGNORE)
    if not total:
        return NO_SHIFT
    size = [cv2.getOptimalDFTSize(side + reach) for side in label.shape]
    product = np.zeros((size[0], size[1] // 2 + 1), np.complex64)
    agreement = np.zeros(label.shape, np.float32)
    for c in range(len(probs)):
        marked = (label == c).astype(np.float32)
        if marked.any():
            product += np.conj(np.fft.rfft2(marked, size)) * np.fft.rfft2(probs[c], size)
            agreement += marked * probs[c]
    moved = np.fft.irfft2(product, size)
    moves = np.arange(-reach, reach + 1)
    gains = (moved[np.ix_(moves, moves)] - _sums_inside(agreement, moves)) / total
    row, column = np.unravel_index(int(gains.argmax()), gains.shape)
    x, y = int(moves[column]), int(moves[row])
    # If the label is best unmoved, the gain is zero but for rounding.
    return Shift(float(gains[row, column]), x, y) if x or y else NO_SHIFT


def _sums_inside(agreement: npt.NDArray[np.float32], moves: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Sum `agreement` over the pixels that stay inside the image when moved, for every (y, x) of `moves`."""
    height, width = agreement.shape
    sums = cv2.integral(agreement, sdepth=cv2.CV_64F)
    tops, bottoms = np.maximum(0, -moves), height - np.maximum(0, moves)
    lefts, rights = np.maximum(0, -moves), width - np.maximum(0, moves)
    high, low = sums[bottoms], sums[tops]
    return high[:, rights] - high[:, lefts] - low[:, rights] + low[:, lefts]


def outlines(label: Array, probs: Probs) -> list[Outline]:
    """Return the gain from growing or shrinking each class in a label, whichever is larger.

    Args: as for `best_shift`.
    """
    reach = max(2, round(OUTLINE_REACH * min(label.shape)))
    counted = label != IGNORE
    total = np.count_nonzero(counted)
    own = np.take_along_axis(probs, np.where(counted, label, 0).astype(np.intp)[None], axis=0)[0]
    best = []
    for c in np.flatnonzero(np.bincount(label[counted], minlength=1)):
        inside = (label == c).view(np.uint8)
        if inside.all():
            continue
        outer = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
        grown = _best(outer, probs[c] - own, counted & (outer > 0), reach)
        inner, neighbour = _neighbour(inside, label)
        ids = np.where(neighbour == IGNORE, c, neighbour).astype(np.intp)
        other = np.take_along_axis(probs, ids[None], axis=0)[0]
        shrunk = _best(inner, other - own, (inner > 0) & (neighbour != IGNORE), reach)
        (gain, pixels), sign = max((grown, 1), (shrunk, -1))
        best.append(Outline(gain / total, int(c), sign * pixels))
    return best


def _neighbour(inside: Array, label: Array) -> tuple[npt.NDArray[np.float32], Array]:
    """Return, for pixels inside, the distance to the nearest pixel outside, and its label."""
    distance, nearest = cv2.distanceTransformWithLabels(inside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    outside = inside == 0
    labels = np.zeros(int(nearest.max()) + 1, np.uint8)
    labels[nearest[outside]] = label[outside]
    return distance, labels[nearest]


def _best(
    distance: npt.NDArray[np.float32], gains: Probs, where: npt.NDArray[np.bool_], reach: int
) -> tuple[float, int]:
    """Return the largest sum of gains over the pixels up to a distance from 1 to `reach`, and that distance."""
    where = where & (distance < reach + 0.5)
    steps = np.rint(distance[where]).astype(np.intp)
    sums = np.cumsum(np.bincount(steps, gains[where], reach + 1))[1:]
    best = int(sums.argmax())
    return (float(sums[best]), best + 1) if sums[best] > 0 else (0.0, 0)
