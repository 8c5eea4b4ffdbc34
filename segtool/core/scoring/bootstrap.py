"""How sure a difference between two predictions of the same images is: the paired bootstrap over images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core.scoring.scores import miou_of_counts

Counts = npt.NDArray[np.int64 | np.float64]
Floats = npt.NDArray[np.float64]

REPEATS = 2000
# The share of the interval's resamples.
SURE = 0.95


class Difference(NamedTuple):
    """A difference in score (second less first) and the ends of its interval."""

    value: float
    low: float
    high: float


def paired_difference(
    first: Counts,
    second: Counts,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    score: Callable[[npt.NDArray[Any]], Floats] = miou_of_counts,
) -> Difference:
    """The difference in score with its 95 % percentile interval (Efron & Tibshirani 1993).

    Images are drawn with replacement, the same for both sides, and the score of all that was drawn is computed for
    each; what the images have in common (some are harder) thus cancels out.

    Args:
        first, second: (images, ...), what adds up over images, of the same images in the same order. For the mIoU
            int64 (images, 3, C): hits, truth and predicted pixels per class.
        score: of such sums (repeats, ...), the score of each.
    """
    if first.shape != second.shape:
        raise ValueError(f"counts of shape {first.shape} and {second.shape} are not of the same images and classes")
    images = len(first)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(images, np.full(images, 1 / images), size=repeats)
    differences = score(_sums(drawn, second)) - score(_sums(drawn, first))
    whole = np.ones((1, images), np.int64)
    value = float((score(_sums(whole, second)) - score(_sums(whole, first)))[0])
    low, high = np.nanquantile(differences, [(1 - SURE) / 2, (1 + SURE) / 2])
    return Difference(value, float(low), float(high))


def _sums(drawn: npt.NDArray[np.int64], counts: Counts) -> Floats:
    """The sums of each row of `drawn`, which says how often each image counts."""
    # In float64, where sums of pixels are exact up to 2^53 and the product runs in BLAS.
    summed = drawn.astype(np.float64) @ counts.reshape(len(counts), -1).astype(np.float64)
    return summed.reshape(len(drawn), *counts.shape[1:])
