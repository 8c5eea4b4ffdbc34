"""How sure a difference between two settings is: a bootstrap over images and seeds.

Each draw takes groups of images with replacement, the same for all runs of both sides, so that what makes an image
hard cancels out (Efron & Tibshirani 1993; groups whole, Field & Welsh 2007). On top of it each side's mean over seeds
moves by what seeds do: deviations of runs from the mean of their side, of both sides together, drawn with replacement.
They are stretched by sqrt(n / (n - 1)), as the mean was estimated from them, and by the ratio of Student's to the
normal quantile, as with few seeds the spread itself is uncertain (Student 1908). So a side with one seed is taken to
vary as the other does; where both have one, the interval knows nothing of seeds.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segtool.core.scoring.bootstrap import REPEATS, SURE, Counts, Difference, Floats, Ints, drawn_units

Score = Callable[[npt.NDArray[Any]], Floats]


def seeded_difference(
    first: Sequence[Counts],
    second: Sequence[Counts],
    groups: Ints,
    score: Score,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Difference:
    """Return the difference of the mean scores over seeds with its 95 % percentile interval.

    Args:
        first, second: for each seed, what adds up over images (images, ...), of the same images in the same order.
        groups: the group of each image, int64 (images,) from 0 without gaps.
        score: of such sums (repeats, ...), the score of each.
    """
    units = drawn_units(groups)
    count = int(units.max()) + 1
    random = np.random.default_rng(seed)
    drawn = random.multinomial(count, np.full(count, 1 / count), size=repeats).astype(np.float64)
    whole = np.ones((1, count))
    sides = [
        np.stack([_scores(run, units, np.concatenate([whole, drawn]), score) for run in side])
        for side in (first, second)
    ]
    value = float(sides[1][:, 0].mean() - sides[0][:, 0].mean())
    differences = sides[1][:, 1:].mean(0) - sides[0][:, 1:].mean(0)
    spread = _deviations([side[:, 1:] for side in sides])
    if spread is not None:
        for side in sides:
            chosen = random.integers(len(spread), size=(len(side), repeats))
            differences = differences + np.take_along_axis(spread, chosen, axis=0).mean(0)
    low, high = np.nanquantile(differences, [(1 - SURE) / 2, (1 + SURE) / 2])
    return Difference(value, float(low), float(high))


def _deviations(sides: Sequence[Floats]) -> Floats | None:
    """Return how far runs lie from the mean of their side in each draw, (runs, repeats); None for lone runs."""
    from scipy.special import ndtri, stdtrit

    several = [side for side in sides if len(side) > 1]
    if not several:
        return None
    free = sum(len(side) - 1 for side in several)
    wider = stdtrit(free, (1 + SURE) / 2) / ndtri((1 + SURE) / 2)
    runs = [(side - side.mean(0)) * np.sqrt(len(side) / (len(side) - 1)) for side in several]
    return np.asarray(np.concatenate(runs) * wider)


def _scores(counts: Counts, units: Ints, drawn: Floats, score: Score) -> Floats:
    """Return the score of each row of `drawn`, which says how often each unit of images counts."""
    summed = np.zeros((int(units.max()) + 1, *counts.shape[1:]))
    np.add.at(summed, units, counts)
    # In float64, where sums of pixels are exact up to 2^53 and the product runs in BLAS.
    return score((drawn @ summed.reshape(len(summed), -1)).reshape(len(drawn), *counts.shape[1:]))
