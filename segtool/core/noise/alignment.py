"""Whether a label would agree better with its prediction if it were moved, or one of its classes grown or shrunk.

A network's own mistakes lie on all sides of an object and cancel out here; a mask that was moved, or an outline drawn
too wide, is wrong everywhere in the same way.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.core.predictions.probability_maps import Probs

# How far labels are moved, and outlines, as shares of the shorter side.
SHIFT_REACH = 0.15
OUTLINE_REACH = 0.06


@dataclass(frozen=True)
class Shift:
    """Moving the label by (x, y) pixels gains this much.

    gain: the sum over the label's pixels of the probability of their class there, less here, as a share of all.
    """

    gain: float
    x: int
    y: int


@dataclass(frozen=True)
class Outline:
    """Growing a class in the label by so many pixels (negative: shrinking it) gains this much, as `Shift.gain`."""

    gain: float
    label: int
    pixels: int


NO_SHIFT = Shift(0.0, 0, 0)
NO_OUTLINE = Outline(0.0, -1, 0)


def coarse_label(label: Array, factor: int) -> Array:
    """The label at the centre of each block of factor x factor pixels, uint8 (H // factor, W // factor)."""
    rows, columns = (side // factor for side in label.shape)
    return label[factor // 2 :: factor, factor // 2 :: factor][:rows, :columns]


def best_shift(label: Array, probs: Probs) -> Shift:
    """The shift of a label that gains most; (0, 0) where none gains.

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
    here = np.zeros(label.shape, np.float32)
    for c in range(len(probs)):
        marked = (label == c).astype(np.float32)
        if marked.any():
            product += np.conj(np.fft.rfft2(marked, size)) * np.fft.rfft2(probs[c], size)
            here += marked * probs[c]
    there = np.fft.irfft2(product, size)
    moves = np.arange(-reach, reach + 1)
    gains = (there[np.ix_(moves, moves)] - _kept(here, moves)) / total
    row, column = np.unravel_index(int(gains.argmax()), gains.shape)
    x, y = int(moves[column]), int(moves[row])
    # Where the label is best as it is, the gain is zero but for rounding.
    return Shift(float(gains[row, column]), x, y) if x or y else NO_SHIFT


def _kept(agreement: npt.NDArray[np.float32], moves: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The sum of `agreement` over the pixels that stay inside when moved, for every (y, x) of `moves`."""
    height, width = agreement.shape
    sums = cv2.integral(agreement, sdepth=cv2.CV_64F)
    tops, bottoms = np.maximum(0, -moves), height - np.maximum(0, moves)
    lefts, rights = np.maximum(0, -moves), width - np.maximum(0, moves)
    high, low = sums[bottoms], sums[tops]
    return high[:, rights] - high[:, lefts] - low[:, rights] + low[:, lefts]


def outlines(label: Array, probs: Probs) -> list[Outline]:
    """For each class in a label, what moving its whole outline outwards or inwards would gain, the better of both.

    Args: as for `best_shift`.
    """
    reach = max(2, round(OUTLINE_REACH * min(label.shape)))
    counted = label != IGNORE
    total = np.count_nonzero(counted)
    own = np.take_along_axis(probs, np.where(counted, label, 0).astype(np.intp)[None], axis=0)[0]
    found = []
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
        found.append(Outline(gain / total, int(c), sign * pixels))
    return found


def _neighbour(inside: Array, label: Array) -> tuple[npt.NDArray[np.float32], Array]:
    """For pixels inside: how far the nearest pixel outside is, and its label."""
    distance, nearest = cv2.distanceTransformWithLabels(inside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    outside = inside == 0
    labels = np.zeros(int(nearest.max()) + 1, np.uint8)
    labels[nearest[outside]] = label[outside]
    return distance, labels[nearest]


def _best(
    distance: npt.NDArray[np.float32], gains: Probs, where: npt.NDArray[np.bool_], reach: int
) -> tuple[float, int]:
    """The largest sum of gains over the pixels up to a distance, from 1 to `reach`, and that distance."""
    where = where & (distance < reach + 0.5)
    steps = np.rint(distance[where]).astype(np.intp)
    sums = np.cumsum(np.bincount(steps, gains[where], reach + 1))[1:]
    best = int(sums.argmax())
    return (float(sums[best]), best + 1) if sums[best] > 0 else (0.0, 0)
