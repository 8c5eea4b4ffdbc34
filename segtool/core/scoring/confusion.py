"""The confusion matrix of a pair of masks."""

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.errors import SegtoolError

Matrix = npt.NDArray[np.int64]

# calcHist counts in float32, which holds every whole number up to 2^24: no cell of a band can pass it.
BAND_PIXELS = 1 << 24


def confusion(truth: Array, pred: Array, classes: int) -> Matrix:
    """Count the pixels of every pair (true class, predicted class).

    Args:
        truth: uint8 (H, W), class ids and 255 = ignore.
        pred: uint8 (H, W), class ids; under ignored pixels any value.
        classes: number of classes C.

    Returns:
        int64 (C, C): rows are the truth, columns the prediction; ignored pixels count nowhere.

    Raises:
        SegtoolError: the shapes differ, or a scored pixel holds a value outside the classes.
    """
    if truth.shape != pred.shape:
        raise SegtoolError(f"the prediction is {_size(pred)} (HxW), its mask {_size(truth)}")
    truth, pred = truth.reshape(-1), pred.reshape(-1)
    matrix = np.zeros((classes, classes), np.int64)
    for start in range(0, truth.size, BAND_PIXELS):
        pair = [truth[start : start + BAND_PIXELS], pred[start : start + BAND_PIXELS]]
        matrix += cv2.calcHist(pair, [0, 1], None, [classes, classes], [0, classes, 0, classes]).astype(np.int64)
    # calcHist drops values outside the classes without a word; the totals show it. (255 is the only byte whose
    # complement is 0, and OpenCV counts four times faster than a comparison in NumPy.)
    if matrix.sum() != cv2.countNonZero(~truth):
        scored = truth != IGNORE
        worst = max(truth[scored].max(), pred[scored].max())
        raise SegtoolError(f"a mask holds the value {worst}, but there are {classes} classes (0 to {classes - 1})")
    return matrix


def _size(mask: Array) -> str:
    return "x".join(map(str, mask.shape))
