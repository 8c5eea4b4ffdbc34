"""When an image has nothing of a class: bounds for the pixels that are left to it, and for its highest probability.

Both are numbers of an image. A class that is dropped from the images in which its number is below some bound has there
neither hits nor predicted pixels. So every image's counts hold the score of the class against the rest for every bound.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core.predictions.decision import Decision, highest_levels, read_masks, shortest
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.scores import class_counts
from segtool.core.tuning.coordinate_ascent import CoordinateAscent, Images
from segtool.core.tuning.objective import Counts, Floats, Metric
from segtool.core.tuning.seeds import LOWER, lowered

Ints = npt.NDArray[np.int64]

# Scores of so little difference are equal: sums of images' scores are rounded.
ROUNDING = 1e-12


class Gap(NamedTuple):
    """Two neighbouring values of a statistic with the best bound above `low`, up to `high`, and the score there."""

    score: float
    low: int
    high: int


def fit_empty(ascent: CoordinateAscent) -> None:
    """Take bounds where they are better, at the present thresholds and areas or at lowered ones without areas.

    High thresholds and areas may have done, at the cost of faint and small objects, what bounds for whole images do
    better: where many images are empty, the best threshold alone may be one that nothing reaches.
    """
    present = list(ascent.decisions)
    bare = [replace(decision, min_areas=(0,) * ascent.metric.classes) for decision in present]
    starts = [present, *([lowered(decision, share, ascent.metric) for decision in bare] for share in LOWER)]
    for decisions in starts if bare != present else starts[:1] + starts[2:]:
        other = _with_bounds(ascent, decisions)
        ascent.step(other.decisions, list(other.counts))


def _with_bounds(ascent: CoordinateAscent, decisions: Sequence[Decision]) -> CoordinateAscent:
    """Return another ascent, from these decisions: the better of the two bounds of each class, then the other one."""
    counts, pixels, peaks = image_statistics(ascent.images, decisions, ascent.metric.classes)
    other = ascent.restarted(decisions, counts)
    for _ in range(2):
        other.measured_step(
            [
                _bounded(decision, other.metric, other.counts[fit, used], pixels[fit, used], peaks[used])
                for fit, (decision, used) in enumerate(zip(other.decisions, other.used, strict=True))
            ]
        )
    return other


def image_statistics(images: Images, decisions: Sequence[Decision], classes: int) -> tuple[Counts, Ints, Ints]:
    """Look at every image by each decision.

    Returns:
        counts: int64 (decisions, N, 3, C), hits, truth and predicted pixels, of those that are scored.
        pixels: int64 (decisions, N, C), predicted pixels, of all.
        peaks: int64 (N, C), the highest stored probability of each class.
    """
    counts = np.zeros((len(decisions), len(images.folds), 3, classes), np.int64)
    pixels, peaks = np.zeros_like(counts[:, :, 0]), np.zeros_like(counts[0, :, 0])
    for number, reader, truth in images.each("images"):
        masks = read_masks(reader, list(dict.fromkeys(decisions)))
        found = {decision: class_counts(confusion(truth, mask, classes)) for decision, mask in masks.items()}
        all_pixels = {decision: np.bincount(mask.reshape(-1), minlength=classes) for decision, mask in masks.items()}
        counts[:, number] = [found[decision] for decision in decisions]
        pixels[:, number] = [all_pixels[decision] for decision in decisions]
        peaks[number] = highest_levels(reader)
    return counts, pixels, peaks


def _bounded(decision: Decision, metric: Metric, counts: Counts, pixels: Ints, peaks: Ints) -> Decision:
    """Return it with one bound more of each fitted class, or none where the class is best kept.

    Args:
        counts: int64 (n, 3, C), hits, truth and predicted pixels of the images.
        pixels, peaks: int64 (n, C).
    """
    min_pixels, min_peaks, scored = list(decision.min_pixels), list(decision.min_peaks), counts[:, 1].sum(1)
    for index in metric.fitted:
        few, low = (
            best_gap(*image_curve(metric, counts[:, :, index], scored, statistic[:, index]))
            for statistic in (pixels, peaks)
        )
        if few and (not low or few.score >= low.score - ROUNDING):
            # Sizes differ by factors: the geometric middle is as far from what is dropped as from what is kept.
            min_pixels[index] = math.isqrt((few.low + 1) * few.high)
        elif low:
            min_peaks[index] = shortest((low.low + 1 + low.high) // 2)
    return replace(decision, min_pixels=tuple(min_pixels), min_peaks=tuple(min_peaks))


def best_gap(values: Ints, scores: Floats) -> Gap | None:
    """Return the gap of the lowest of the best bounds among ascending values; None where the first is best."""
    # Without a true pixel nothing is higher than NaN.
    if not (scores > scores[0] + ROUNDING).any():
        return None
    best = int(np.flatnonzero(scores >= scores.max() - ROUNDING)[0])
    return Gap(float(scores[best]), int(values[best - 1]), int(values[best]))


def image_curve(metric: Metric, counts: Counts, scored: Ints, statistic: Ints) -> tuple[Ints, Floats]:
    """Return the values that a statistic has, ascending, and the score of the class against the rest at these bounds.

    Args:
        counts: int64 (n, 3), hits, truth and predicted pixels of the class in each image.
        scored: int64 (n,), all scored pixels of each image.
        statistic: int64 (n,); where it is below a bound the class is dropped.
    """
    order = np.argsort(statistic, kind="stable")
    values, first = np.unique(statistic[order], return_index=True)
    hits, truth, predicted = counts[order].T.astype(np.float64)
    if not truth.any():
        return values, np.full(len(values), np.nan)
    if metric.name != "image_dice":
        left_hits, left = (np.cumsum(some[::-1])[::-1][first] for some in (hits, predicted))
        return values, metric.curve(left_hits, left, truth.sum(), float(scored.sum()))
    there, none = scored[order] > 0, np.zeros_like(hits)
    kept = np.where(there, metric.curve(hits, predicted, truth, 0), 0)
    dropped = np.where(there, metric.curve(none, none, truth, 0), 0)
    sums = np.cumsum(kept[::-1])[::-1] + np.cumsum(dropped) - dropped
    return values, sums[first] / there.sum()
