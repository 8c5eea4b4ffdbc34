"""When an image has nothing of a class: bounds for the pixels that are left to it, and for its highest probability.

Both are numbers of an image. A class that is dropped from the images in which its number is below some bound has there
neither hits nor predicted pixels. So every image's counts hold the score of the class against the rest for every bound.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from segtool.core.predictions.decision import Decision, highest_levels, read_masks, shortest
from segtool.core.tuning.coordinate_ascent import CoordinateAscent, Images
from segtool.core.tuning.objective import Counts, Floats, Metric

Ints = npt.NDArray[np.int64]


def fit_empty(ascent: CoordinateAscent) -> None:
    """Take the fewest pixels of each class in an image, then its lowest peak, where they are better."""
    pixels, peaks = image_statistics(ascent.images, ascent.decisions, ascent.metric.classes)
    ascent.measured_step(
        [
            replace(decision, min_pixels=_min_pixels(ascent.metric, ascent.counts[fit, used], pixels[fit, used]))
            for fit, (decision, used) in enumerate(zip(ascent.decisions, ascent.used, strict=True))
        ]
    )
    ascent.measured_step(
        [
            replace(decision, min_peaks=_min_peaks(ascent.metric, ascent.counts[fit, used], peaks[used]))
            for fit, (decision, used) in enumerate(zip(ascent.decisions, ascent.used, strict=True))
        ]
    )


def image_statistics(images: Images, decisions: Sequence[Decision], classes: int) -> tuple[Ints, Ints]:
    """Return the pixels of each class in each image by each decision, int64 (decisions, N, C), and its peak, (N, C)."""
    pixels = np.zeros((len(decisions), len(images.folds), classes), np.int64)
    peaks = np.zeros(pixels.shape[1:], np.int64)
    for number, reader, _ in images.each("images"):
        masks = read_masks(reader, decisions)
        counts = {decision: np.bincount(mask.reshape(-1), minlength=classes) for decision, mask in masks.items()}
        pixels[:, number] = [counts[decision] for decision in decisions]
        peaks[number] = highest_levels(reader)
    return pixels, peaks


def _min_pixels(metric: Metric, counts: Counts, pixels: Ints) -> tuple[int, ...]:
    """Return the lowest of the best bounds of each class, 0 where it is best kept."""
    return tuple(gap[0] + 1 if gap else 0 for gap in _gaps(metric, counts, pixels))


def _min_peaks(metric: Metric, counts: Counts, peaks: Ints) -> tuple[float, ...]:
    """Return the middle of the best bounds of each class, 0 where it is best kept."""
    return tuple(shortest((gap[0] + 1 + gap[1]) // 2) if gap else 0 for gap in _gaps(metric, counts, peaks))


def _gaps(metric: Metric, counts: Counts, statistic: Ints) -> list[tuple[int, int] | None]:
    """Return for each class two neighbours of its statistic with the best bound above the first, up to the second.

    None for a class that is best kept everywhere, and for one that is not fitted.

    Args:
        counts: int64 (n, 3, C), hits, truth and predicted pixels of the images.
        statistic: int64 (n, C).
    """
    gaps: list[tuple[int, int] | None] = [None] * metric.classes
    scored = counts[:, 1].sum(1)
    for index in metric.fitted:
        values, scores = image_curve(metric, counts[:, :, index], scored, statistic[:, index])
        # Sums of images' scores are rounded. Without a true pixel nothing is higher than NaN.
        better = np.flatnonzero(scores > scores[0] + 1e-12)
        if better.size:
            best = int(np.flatnonzero(scores >= scores.max() - 1e-12)[0])
            gaps[index] = int(values[best - 1]), int(values[best])
    return gaps


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
        kept = (np.cumsum(some[::-1])[::-1][first] for some in (hits, predicted))
        return values, metric.curve(*kept, truth.sum(), float(scored.sum()))
    there = scored[order] > 0
    with_it, without = (
        np.where(there, metric.curve(*some, truth, 0), 0) for some in ((hits, predicted), (hits * 0, hits * 0))
    )
    return values, (np.cumsum(with_it[::-1])[::-1] + np.cumsum(without) - without)[first] / there.sum()
