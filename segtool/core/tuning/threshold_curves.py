"""Scores of one class against the rest at every level at once, from histograms of levels.

A pixel is predicted as the class when its level, 0 to 65535, is at least some bound. Two histograms of levels, of all
scored pixels and of the class's own, therefore hold the score for each of the 65,536 bounds, exactly. Levels are stored
probabilities, or of the objects that pixels belong to the areas or the highest probabilities: to keep objects from
some size on is the same.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.core.predictions.probability_maps import SCALE
from segtool.core.scoring.components import Runs, component_runs
from segtool.core.tuning.objective import Floats, Metric

LEVELS = 65536
# The level from which of two classes the more probable one is at least as probable.
HALF = SCALE // 2 + 1

# int64 (2, LEVELS): the class's own pixels, and all that are scored, by level.
Histogram = npt.NDArray[np.int64]


def add_levels(histograms: Histogram, levels: npt.NDArray[np.uint16], truth: Array, indices: Sequence[int]) -> None:
    """Add some rows' pixels, by the stored probabilities of each of some classes, to int64 (classes, 2, LEVELS).

    Args:
        levels: uint16 (C, rows, W).
        truth: uint8 (rows, W).
        indices: the ids of the classes.
    """
    scored = levels[:, truth != IGNORE]
    for histogram, index in zip(histograms, indices, strict=True):
        histogram[1] += np.bincount(scored[index], minlength=LEVELS)
        own = levels[index][truth == index]
        if own.size:
            histogram[0] += np.bincount(own, minlength=LEVELS)


def area_histograms(mask: Array, truth: Array, indices: Sequence[int]) -> list[Histogram]:
    """The pixels of each of some classes by the area of the object they are predicted in, at most 65535; 0: in none.

    An object's area is that of its 8-connected component in the mask, ignored pixels included: where nobody looks,
    nobody knows what to ignore.
    """
    runs = component_runs(mask, truth)
    return _object_histograms(runs, np.minimum(runs.areas, LEVELS - 1), mask, truth, indices)


def peak_histograms(
    mask: Array, own: npt.NDArray[np.uint16], truth: Array, indices: Sequence[int], min_areas: Iterable[Sequence[int]]
) -> Iterator[list[Histogram]]:
    """The pixels of each of some classes by the highest probability in the object they are predicted in; 0: in none.

    Args:
        own: the stored probability of each pixel's class in the mask, uint16 (H, W).
        min_areas: of each class; smaller objects are none. Several, for histograms of each.
    """
    runs = component_runs(mask, truth)
    # An object of probability 0 is still one.
    peaks = np.maximum(runs.highest(own), 1).astype(np.int64)
    for areas in min_areas:
        small = runs.areas < np.array(areas)[mask.reshape(-1)[runs.starts]]
        yield _object_histograms(runs, np.where(small, 0, peaks), mask, truth, indices)


def _object_histograms(
    runs: Runs, levels: npt.NDArray[np.int64], mask: Array, truth: Array, indices: Sequence[int]
) -> list[Histogram]:
    """The pixels of each of some classes by the level of the run they are predicted in, (R,); 0: in none."""
    predicted, true = mask.reshape(-1)[runs.starts], truth.reshape(-1)[runs.starts]
    histograms = []
    for index in indices:
        histogram = np.zeros((2, LEVELS), np.int64)
        for row, counted in zip(histogram, (true == index, true != IGNORE), strict=True):
            inside = counted & (predicted == index)
            # Pixels are summed up as float64: exact up to 2^53.
            row[:] = np.bincount(levels[inside], runs.lengths[inside], LEVELS)
            row[0] = runs.lengths[counted].sum() - row[1:].sum()
        histograms.append(histogram)
    return histograms


class ThresholdCurves:
    """Adds images' histograms up, in slots: parts of the data, say. What it holds does not grow with the images."""

    def __init__(self, metric: Metric, slots: int) -> None:
        self.metric, self.classes = metric, len(metric.fitted)
        self.per_image = metric.name == "image_dice"
        # The histograms, or for a mean over images their curves, of score and marginal gain; and how many these are.
        kind = np.float64 if self.per_image else np.int64
        self.sums = np.zeros((slots, self.classes, 2, LEVELS), kind)
        self.images = np.zeros(slots, np.int64)
        self.own = np.zeros((slots, self.classes), np.int64)

    def add(self, slots: Collection[int], histograms: Sequence[Histogram]) -> None:
        """Add one image, with a histogram for each fitted class, to some slots."""
        scored = histograms[0][1].sum() > 0
        for row, histogram in enumerate(histograms if scored else ()):
            added = self._curves(histogram) if self.per_image else histogram
            for slot in slots:
                self.sums[slot, row] += added
                self.own[slot, row] += histogram[0].sum()
        for slot in slots:
            self.images[slot] += scored

    def curves(self, slots: Sequence[int]) -> Floats:
        """Every fitted class at every level, over the images of some slots; float64 (classes, 2, LEVELS).

        The score, and what one more pixel is worth to it. NaN where there is nothing to score, and throughout for a
        class without a true pixel.
        """
        own, images = self.own[slots].sum(0), self.images[slots].sum()
        curves = np.full((self.classes, 2, LEVELS), np.nan)
        for row in np.flatnonzero(own):
            added = self.sums[slots, row].sum(0)
            curves[row] = added / images if self.per_image else self._curves(added)
        return curves

    def _curves(self, histogram: Histogram) -> Floats:
        """Return score and marginal gain of one image, or of all; without a true pixel of the class the gain is 0."""
        hits, predicted = np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1].astype(np.float64)
        truth = hits[0]
        gain = self.metric.marginal_gain(hits, predicted, truth) if truth else np.zeros(LEVELS)
        return np.stack([self.metric.curve(hits, predicted, truth, predicted[0]), gain])


def best_levels(curve: Floats, preferred: int) -> tuple[int, int] | None:
    """The first and last of the neighbouring levels with the highest score, None where no level has one.

    Of several such ranges the one nearest to `preferred`; where that is in it, it alone.
    """
    if np.isnan(curve).all():
        return None
    # Sums of images' scores are rounded.
    best = np.flatnonzero(curve >= np.nanmax(curve) - 1e-12)
    if preferred in best:
        return preferred, preferred
    ranges = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    nearest = min(ranges, key=lambda levels: np.abs(levels - preferred).min())
    return int(nearest[0]), int(nearest[-1])
