"""Scores by the size of objects.

A true object is an 8-connected component of one class in the truth; class 0 is the background, which is no object. The
bins are divided at the areas that are given, COCO's 32^2 and 96^2 pixels where nothing else is said.

Recall is the share of objects of which at least half of the pixels are predicted as their class. IoU is pooled over the
pixels of a bin: hits and misses belong to their object's bin; the false pixels of a predicted component go to the bin
of the true object it shares most pixels with, or to that of its own area where it touches none. So the bins of a class
sum to its row and column of the confusion matrix. Ignored pixels count nowhere.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from segtool.core.images import IGNORE, Array, count_values
from segtool.core.scoring.scores import divide

BORDERS = (32 * 32, 96 * 96)

# What is counted per class and bin.
OBJECTS, FOUND, HITS, MISSED, FALSE = range(5)

# int64 (classes, bins, 5 counts); nothing is counted for class 0.
Counts = npt.NDArray[np.int64]


def size_names(borders: Sequence[int]) -> list[str]:
    """What the bins are called: small, medium and large where there are three, else by their areas.

    >>> size_names([100])
    ['under 100', '100 and more']
    """
    if len(borders) == 2:
        return ["small", "medium", "large"]
    between = [f"{low} to {high - 1}" for low, high in pairwise(borders)]
    return [f"under {borders[0]}", *between, f"{borders[-1]} and more"]


def no_objects(classes: int, borders: Sequence[int] = BORDERS) -> Counts:
    """What `object_counts` are added to."""
    return np.zeros((classes, len(borders) + 1, 5), np.int64)


def object_counts(truth: Array, pred: Array, classes: int, borders: Sequence[int] = BORDERS) -> Counts:
    """Count objects and pixels of one image by class and size bin.

    Args:
        truth: uint8 (H, W), class ids and 255 = ignore.
        pred: uint8 (H, W), class ids (anything under ignored pixels).
        classes: number of classes C.
        borders: the areas in pixels from which the next bin begins, rising.

    Returns:
        int64 (C, bins, 5): per bin the objects, those found, and the pixels hit (TP), missed (FN) and false (FP).
        Counts of several images add up.
    """
    pred = np.where(truth == IGNORE, np.uint8(IGNORE), pred)
    counts = no_objects(classes, borders)
    histogram = count_values(truth) + count_values(pred)
    for index in 1 + np.flatnonzero(histogram[1:classes]):
        box = bounds((truth == index) | (pred == index))
        counts[index] = _class_counts(truth[box] == index, pred[box] == index, borders)
    return counts


def plane_object_counts(truth: Array, pred: Array, borders: Sequence[int] = BORDERS) -> Counts:
    """Count objects and pixels of one of the classes that may overlap, int64 (bins, 5), as `object_counts` does.

    Args:
        truth: uint8 (H, W), 1 in the class, 0 outside, 255 where that is not known or ignored.
        pred: uint8 (H, W), 1 in the class.
    """
    true, found = truth == 1, (pred == 1) & (truth != IGNORE)
    either = true | found
    if not either.any():
        return no_objects(1, borders)[0]
    box = bounds(either)
    return _class_counts(true[box], found[box], borders)


def size_table(counts: Counts, classes: Sequence[str], borders: Sequence[int] = BORDERS) -> pd.DataFrame:
    """The table by_size.csv, without the background; NaN where a bin holds no object, or no pixel."""
    bins = pd.MultiIndex.from_product([classes[1:], size_names(borders)], names=["class", "size"])
    counts = counts[1:].reshape(len(bins), 5)
    columns = {
        "objects": counts[:, OBJECTS],
        "recall": divide(counts[:, FOUND], counts[:, OBJECTS]),
        "iou": divide(counts[:, HITS], counts[:, HITS:].sum(1)),
    }
    return pd.DataFrame(columns, bins).reset_index()


def bounds(where: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The bounding box of what is True; most objects are small, and the work goes with the pixels looked at."""
    left, top, width, height = cv2.boundingRect(where.view(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def _class_counts(truth: npt.NDArray[np.bool_], pred: npt.NDArray[np.bool_], borders: Sequence[int]) -> Counts:
    """int64 (bins, 5) of one class."""
    objects, areas = components(truth)
    guesses, guessed = components(pred)
    both = truth & pred
    shared_object, shared_guess = objects[both], guesses[both]
    hits = np.bincount(shared_object, minlength=len(areas))
    bins, false_bins = (np.searchsorted(borders, its, side="right") for its in (areas, guessed))
    false = guessed - np.bincount(shared_guess, minlength=len(guessed))
    guess, partner = _partners(shared_guess, shared_object, len(areas))
    false_bins[guess] = bins[partner]
    found = 2 * hits >= areas
    counts = np.zeros((len(borders) + 1, 5), np.int64)
    for column, values in ((OBJECTS, np.ones_like(areas)), (FOUND, found), (HITS, hits), (MISSED, areas - hits)):
        np.add.at(counts[:, column], bins[1:], values[1:])
    np.add.at(counts[:, FALSE], false_bins[1:], false[1:])
    return counts


def components(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Labels (H, W) of the 8-connected components from 1, 0 elsewhere, and the area of every label."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return labels, stats[:, cv2.CC_STAT_AREA].astype(np.int64)


def _partners(
    guesses: npt.NDArray[np.int32], objects: npt.NDArray[np.int32], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Every predicted component that touches true objects, and the one it shares most pixels with (first of equals).

    Args:
        guesses, objects: the labels of both at every shared pixel.
        count: number of labels of objects.
    """
    pairs, pixels = np.unique(guesses * np.int64(count) + objects, return_counts=True)
    guess, partner = np.divmod(pairs, count)
    order = np.lexsort((partner, -pixels, guess))
    guess, first = np.unique(guess[order], return_index=True)
    return guess, partner[order][first]
