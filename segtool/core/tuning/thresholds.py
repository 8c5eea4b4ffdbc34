"""Thresholds and minimum areas fitted to a score, and what they are worth on images they were not fitted on.

Nested cross-validation: the images are in K folds; for each fold a decision is fitted on the others, and the fold is
scored by it. One more is fitted on all images. These K + 1 fits run side by side, so that every pass over the images
serves them all; a fit sees nothing but the images outside its fold, in any of its steps.

1. Thresholds, each the best of its class against the rest.
2. Classes that lose by that in the decision between all of them get no threshold, so that they take what is left.
3. Minimum areas, each the best of its class against the rest.

Each step is taken where it raises the score of the actual decision on the images it is fitted on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segtool.core.images import Array
from segtool.core.predictions.decision import Decision, read_masks, shortest
from segtool.core.predictions.probability_maps import SCALE, ProbReader
from segtool.core.reporting.progress import Track, silent
from segtool.core.scoring.bootstrap import Difference, paired_difference
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.scores import class_counts
from segtool.core.tuning.objective import Counts, Floats, Metric
from segtool.core.tuning.threshold_curves import LEVELS, ThresholdCurves, add_levels, area_histograms, best_levels

# The level from which of two classes the more probable one is at least as probable.
HALF = SCALE // 2 + 1


@dataclass(frozen=True)
class Images:
    """What is fitted on.

    Attributes:
        read: the number of an image → its stored probabilities, and its truth, uint8 (H, W) with 255 = ignore.
        folds: the fold of each image, int64 (N,) from 0.
        groups: the group of each image, likewise, for the interval.
    """

    read: Callable[[int], tuple[ProbReader, Array]]
    folds: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    track: Track = silent

    @property
    def count(self) -> int:
        """The number of folds."""
        return int(self.folds.max()) + 1

    @property
    def left_out(self) -> list[int | None]:
        """The fold that each fit leaves out; None: it sees all images."""
        return [*range(self.count), None]

    def used(self, fold: int | None) -> npt.NDArray[np.bool_]:
        """Return which images the fit without this fold sees, bool (N,)."""
        return np.ones(len(self.folds), np.bool_) if fold is None else self.folds != fold

    def each(self, label: str) -> Iterator[tuple[int, ProbReader, Array]]:
        """Every image's number, probabilities and truth."""
        for number in self.track(range(len(self.folds)), total=len(self.folds), label=label):
            yield number, *self.read(number)


@dataclass(frozen=True)
class Fitted:
    """What came of it.

    Attributes:
        decision: fitted on all images.
        curves: of one class against the rest on all images, float64 (fitted classes, 65536).
        plain, fitted, nested: int64 (N, 3, C), every image's hits, truth and predicted pixels by the arg-max, by
            `decision`, and by the decision fitted without the image's fold.
        gain: of nested over plain.
    """

    decision: Decision
    curves: Floats
    plain: Counts
    fitted: Counts
    nested: Counts
    gain: Difference


def fit_decision(images: Images, metric: Metric, *, areas: bool) -> Fitted:
    """Fit on all images, and on all but each fold."""
    by_fold = level_curves(images, metric)
    curves = [by_fold.curves([other for other in range(images.count) if other != fold]) for fold in images.left_out]
    plain = Decision.argmax(metric.classes)
    thresholds = [_with_thresholds(plain, curve, metric) for curve in curves]
    base, *proposed = measure(images, [plain, *thresholds], metric.classes)
    ascent = _CoordinateAscent(images, metric, plain, base)
    ascent.step(thresholds, proposed)
    if metric.classes > 2:
        ascent.measured_step(
            [
                _without_losers(metric, decision, base[used], counts[used]) or current
                for decision, counts, current, used in zip(
                    thresholds, proposed, ascent.decisions, ascent.used, strict=True
                )
            ]
        )
    if areas:
        by_fit = area_curves(images, metric, ascent.decisions)
        ascent.measured_step(
            [
                replace(current, min_areas=_areas(by_fit.curves([fit]), metric))
                for fit, current in enumerate(ascent.decisions)
            ]
        )
    # The fit number K leaves out the fold K, and the last one none.
    nested = ascent.counts[images.folds, np.arange(len(images.folds))]
    gain = paired_difference(metric.additive(base), metric.additive(nested), images.groups, score=metric.of_sums)
    return Fitted(ascent.decisions[-1], curves[-1][:, 0], base, ascent.counts[-1], nested, gain)


class _CoordinateAscent:
    """Better decisions, one kind of parameter after the other, for all fits.

    Attributes:
        used: bool (N,) for each fit, the images that it sees.
        decisions: of each fit so far.
        counts: what these make of every image, int64 (fits, N, 3, C).
    """

    def __init__(self, images: Images, metric: Metric, first: Decision, counts: Counts) -> None:
        """`counts`: what the decision that all fits begin with makes of every image, int64 (N, 3, C)."""
        self.images, self.metric = images, metric
        self.used = [images.used(fold) for fold in images.left_out]
        self.decisions = [first] * len(self.used)
        self.counts = np.stack([counts] * len(self.used))

    def step(self, proposed: Sequence[Decision], counts: Sequence[Counts]) -> None:
        """Take what is better on the images each fit sees."""
        for fit, used in enumerate(self.used):
            if self.metric.score(counts[fit][used]) > self.metric.score(self.counts[fit, used]):
                self.decisions[fit], self.counts[fit] = proposed[fit], counts[fit]

    def measured_step(self, proposed: Sequence[Decision]) -> None:
        """`step` by decisions that are still to be measured, if any is new."""
        if list(proposed) != self.decisions:
            self.step(proposed, list(measure(self.images, proposed, self.metric.classes)))


def level_curves(images: Images, metric: Metric) -> ThresholdCurves:
    """Return the curves over thresholds, by one pass over the probabilities; a slot for each fold."""
    curves = ThresholdCurves(metric, images.count)
    for number, reader, truth in images.each("thresholds"):
        histograms = np.zeros((len(metric.fitted), 2, LEVELS), np.int64)
        for rows, levels in reader.bands():
            add_levels(histograms, levels, truth[rows], metric.fitted)
        curves.add([int(images.folds[number])], list(histograms))
    return curves


def area_curves(images: Images, metric: Metric, decisions: Sequence[Decision]) -> ThresholdCurves:
    """Return the curves over minimum areas, by one pass over the objects of every fit; a slot for each fit."""
    curves = ThresholdCurves(metric, len(decisions))
    used = [images.used(fold) for fold in images.left_out]
    for number, reader, truth in images.each("areas"):
        for decision, mask in read_masks(reader, decisions).items():
            slots = [fit for fit, own in enumerate(decisions) if own == decision and used[fit][number]]
            if slots:
                curves.add(slots, area_histograms(mask, truth, metric.fitted))
    return curves


def measure(images: Images, decisions: Sequence[Decision], classes: int) -> Counts:
    """What each decision makes of each image: int64 (decisions, N, 3, C) hits, truth and predicted pixels."""
    counts = np.zeros((len(decisions), len(images.folds), 3, classes), np.int64)
    for number, reader, truth in images.each("decisions"):
        found = {
            decision: class_counts(confusion(truth, mask, classes))
            for decision, mask in read_masks(reader, decisions).items()
        }
        counts[:, number] = [found[decision] for decision in decisions]
    return counts


def _with_thresholds(plain: Decision, curves: Floats, metric: Metric) -> Decision:
    """Return it with the best threshold of each class, the middle of its range, weighted by the marginal gain there.

    Classes that are not fitted, or nowhere, have no threshold.
    """
    thresholds, gains = list(plain.thresholds), np.zeros(metric.classes)
    for index, (scores, gain) in zip(metric.fitted, curves, strict=True):
        if best := best_levels(scores, HALF):
            level = sum(best) // 2
            thresholds[index], gains[index] = shortest(level), gain[level]
    # Four digits, as they stand in the file; the highest is 1.
    weights = [float(f"{gain / gains.max():.4g}") if gain else 1.0 for gain in gains.tolist()]
    return replace(plain, thresholds=tuple(thresholds), weights=tuple(weights))


def _areas(curves: Floats, metric: Metric) -> tuple[int, ...]:
    """The best minimum area of each class, the lowest of its range; 0 where all objects are best kept."""
    areas = [0] * metric.classes
    for index, curve in zip(metric.fitted, curves[:, 0], strict=True):
        # The level 0 would take all pixels.
        if (best := best_levels(curve[1:], 0)) and best[0]:
            areas[index] = best[0] + 1
    return tuple(areas)


def _without_losers(metric: Metric, decision: Decision, plain: Counts, proposed: Counts) -> Decision | None:
    """Return it without the thresholds of the classes that score lower by it than by the arg-max; None: there is none.

    Args:
        plain, proposed: what the arg-max and the decision make of the images that are fitted on, int64 (n, 3, C).
    """
    before, after = (metric.per_class(counts.sum(0)) for counts in (plain, proposed))
    thresholds = tuple(
        None if lost else threshold for threshold, lost in zip(decision.thresholds, after < before, strict=True)
    )
    return replace(decision, thresholds=thresholds) if thresholds != decision.thresholds else None
