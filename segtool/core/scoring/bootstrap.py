"""How sure a difference between two predictions of the same images is: the paired bootstrap over groups of images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core.scoring.scores import miou_of_counts

Counts = npt.NDArray[np.int64 | np.float64]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

REPEATS = 2000
# The share of the interval's resamples.
SURE = 0.95
# Below this, what is drawn differs too little from what there is, and the interval is too short.
FEW = 10


class Difference(NamedTuple):
    """A difference in score (second less first) and the ends of its interval."""

    value: float
    low: float
    high: float


def paired_difference(
    first: Counts,
    second: Counts,
    groups: Ints,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    score: Callable[[npt.NDArray[Any]], Floats] = miou_of_counts,
) -> Difference:
    """The difference in score with its 95 % percentile interval (Efron & Tibshirani 1993).

    Groups are drawn with replacement, the same for both sides, and the score of all that was drawn is computed for
    each; what the images have in common (some are harder) thus cancels out. A group is drawn whole because its images
    are alike: as if they were independent, the interval would be far too short (Field & Welsh 2007).

    Args:
        first, second: (images, ...), what adds up over images, of the same images in the same order. For the mIoU
            int64 (images, 3, C): hits, truth and predicted pixels per class.
        groups: the group of each image, int64 (images,) from 0 without gaps. Images of one group alone are drawn one
            by one, because there is nothing else to draw.
        score: of such sums (repeats, ...), the score of each.
    """
    if first.shape != second.shape:
        raise ValueError(f"counts of shape {first.shape} and {second.shape} are not of the same images and classes")
    units = drawn_units(groups)
    count = int(units.max()) + 1
    first, second = _sums_by(units, first), _sums_by(units, second)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=repeats)
    differences = score(_sums(drawn, second)) - score(_sums(drawn, first))
    whole = np.ones((1, count), np.int64)
    value = float((score(_sums(whole, second)) - score(_sums(whole, first)))[0])
    low, high = np.nanquantile(differences, [(1 - SURE) / 2, (1 + SURE) / 2])
    return Difference(value, float(low), float(high))


def drawn_units(groups: Ints) -> Ints:
    """What the bootstrap draws: the groups, or the images where all are of one group; int64 (images,) from 0."""
    return groups if groups.max() else np.arange(len(groups))


def few_drawn(groups: Ints) -> str:
    """One clause where there is too little to draw from for an interval to be trusted, else nothing."""
    if groups.max() == 0 and len(groups) > 1:
        return "all images are of one group, so the interval is too short: it takes them as independent"
    if (count := int(groups.max()) + 1) >= FEW:
        return ""
    what = "images" if count == len(groups) else "groups of images"
    return f"with {count} {what} (fewer than {FEW}) the interval is too short"


def _sums_by(units: Ints, counts: Counts) -> Counts:
    """The sums over the images of each unit, (units, ...)."""
    sums = np.zeros((int(units.max()) + 1, *counts.shape[1:]), counts.dtype)
    np.add.at(sums, units, counts)
    return sums


def _sums(drawn: Ints, counts: Counts) -> Floats:
    """The sums of each row of `drawn`, which says how often each unit counts."""
    # In float64, where sums of pixels are exact up to 2^53 and the product runs in BLAS.
    summed = drawn.astype(np.float64) @ counts.reshape(len(counts), -1).astype(np.float64)
    return summed.reshape(len(drawn), *counts.shape[1:])
