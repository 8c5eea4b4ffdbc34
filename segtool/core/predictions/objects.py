"""Boxes around the objects of a mask."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.geometry import Box
from segtool.core.images import Array
from segtool.core.predictions.probability_maps import SCALE, ProbReader


def component_boxes(
    mask: Array, classes: Sequence[str], wanted: Sequence[int], min_area: int, probs: ProbReader | None = None
) -> list[Box]:
    """The 8-connected components of the `wanted` classes together, from the top left.

    Args:
        mask: uint8 (H, W), class ids (and 255, which is no object).
        classes: class names.
        min_area: components of fewer pixels are left out.
        probs: the probabilities that the mask was decided by.

    Returns:
        A box around each: its class is the one most of its pixels have, its score the mean probability that they have
        their class (NaN without `probs`).
    """
    table = np.zeros(256, np.uint8)
    table[list(wanted)] = 1
    found, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.LUT(mask, table), connectivity=8, ltype=cv2.CV_32S)
    scores = _mean_probabilities(labels, mask, found, probs) if probs else np.full(found, np.nan)
    boxes = []
    for index in range(1, found):
        left, top, width, height, area = map(int, stats[index])
        if area < min_area:
            continue
        place = slice(top, top + height), slice(left, left + width)
        most = int(np.bincount(mask[place][labels[place] == index]).argmax())
        boxes.append(Box(left, top, width, height, classes[most], float(scores[index])))
    return boxes


def _mean_probabilities(
    labels: npt.NDArray[np.int32], mask: Array, count: int, probs: ProbReader
) -> npt.NDArray[np.float64]:
    """For each of `count` labels the mean probability of the class its pixels have in `mask`; band by band."""
    sums, pixels = np.zeros(count), np.zeros(count)
    for rows, levels in probs.bands():
        own = np.take_along_axis(levels, mask[None, rows].astype(np.intp), 0)[0]
        sums += np.bincount(labels[rows].ravel(), weights=own.ravel(), minlength=count)
        pixels += np.bincount(labels[rows].ravel(), minlength=count)
    return sums / np.maximum(1, pixels) / SCALE
