"""The confusion matrix of a pair of masks."""

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.errors import SegtoolError

Matrix = npt.NDArray[np.int64]

# Pixels counted at once: what is held for them fits into the cache.
BAND_PIXELS = 1 << 18


def confusion(truth: Array, pred: Array, classes: int) -> Matrix:
    """Count the pixels of every pair (true class, predicted class).

    Masks are made of regions, so runs of equal pairs are counted, not pixels. Real masks change at 1 to 5 % of their
    pixels; there this is faster than any histogram over the pixels, and on noise as fast as the usual bincount.

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
    # One row and column more, for ignored pixels and for what is no class.
    side = classes + 1
    for start in range(0, truth.size, BAND_PIXELS):
        values, lengths = _runs(truth[start : start + BAND_PIXELS], pred[start : start + BAND_PIXELS])
        rows, columns = values >> 8, values & 255
        index = np.minimum(rows, classes) * side + np.minimum(columns, classes)
        # Lengths become float64: exact up to 2^53.
        counts = np.bincount(index, lengths, side * side).reshape(side, side)
        if counts[:classes, classes].any() or ((rows + 1) & 255).max() > classes:
            raise SegtoolError(_outside(rows, columns, classes))
        matrix += counts[:classes, :classes].astype(np.int64)
    return matrix


def _runs(truth: Array, pred: Array) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64] | None]:
    """Two flat masks as runs of equal pairs: 256 * truth + pred of every run and its length (None: all are 1)."""
    pairs = cv2.merge([pred, truth]).reshape(-1).view("<u2")
    changes = pairs[1:] != pairs[:-1]
    if 10 * np.count_nonzero(changes) > pairs.size:  # noise: to find the runs would cost more than it saves
        return pairs, None
    ends = np.append(np.flatnonzero(changes), pairs.size - 1)
    return pairs[ends], np.diff(ends, prepend=-1)


def _outside(rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer], classes: int) -> str:
    scored = rows != IGNORE
    value = max(rows[scored].max(), columns[scored].max())
    return f"a mask holds the value {value}, but there are {classes} classes (0 to {classes - 1})"


def _size(mask: Array) -> str:
    return "x".join(map(str, mask.shape))
