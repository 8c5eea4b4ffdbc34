"""Thresholds and minimum areas fitted to a score, and what they are worth on images they were not fitted on.

Nested cross-validation: the images are in K parts; for each part a decision is fitted on the others, and the part is
scored by it. One more is fitted on all. All K + 1 are fitted side by side, so that every pass over the images serves
them all; a decision sees nothing but the images it is fitted on, in any of its steps.

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
from segtool.core.tuning.threshold_curves import LEVELS, Sweep, add_levels, area_histograms, best_levels

# The level from which of two classes the more probable one is at least as probable.
HALF = SCALE // 2 + 1


@dataclass(frozen=True)
class Images:
    """What is fitted on.

    Attributes:
        read: the number of an image → its stored probabilities, and its truth, uint8 (H, W) with 255 = ignore.
        parts: the part of each image, int64 (N,) from 0.
        groups: the group of each image, likewise, for the interval.
    """

    read: Callable[[int], tuple[ProbReader, Array]]
    parts: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    track: Track = silent

    @property
    def folds(self) -> int:
        """The number of parts."""
        return int(self.parts.max()) + 1

    def used(self, fit: int) -> npt.NDArray[np.bool_]:
        """Which images the fit sees: all but its part; the last fit sees all."""
        return self.parts != fit

    def each(self, label: str) -> Iterator[tuple[int, ProbReader, Array]]:
        """Every image's number, probabilities and truth."""
        for number in self.track(range(len(self.parts)), total=len(self.parts), label=label):
            yield number, *self.read(number)


@dataclass(frozen=True)
class Fitted:
    """What came of it.

    Attributes:
        decision: fitted on all images.
        curves: of one class against the rest on all images, float64 (fitted classes, 65536).
        plain, fitted, nested: int64 (N, 3, C), every image's hits, truth and predicted pixels by the arg-max, by
            `decision`, and by the decision fitted without the image's part.
        gain: of nested over plain.
    """

    decision: Decision
    curves: Floats
    plain: Counts
    fitted: Counts
    nested: Counts
    gain: Difference


def fit_decision(images: Images, metric: Metric, *, areas: bool) -> Fitted:
    """Fit on all images, and on all but each part."""
    fits = range(images.folds + 1)
    sweep = sweep_levels(images, metric)
    curves = [sweep.curves([part for part in range(images.folds) if part != fit]) for fit in fits]
    plain = Decision.argmax(metric.classes)
    thresholds = [_with_thresholds(plain, curve, metric) for curve in curves]
    measured = measure(images, [plain, *thresholds], metric.classes)
    base, proposed = measured[0], measured[1:]
    state = _Climb(images, metric, [plain] * len(fits), np.stack([base] * len(fits)))
    state.step(thresholds, proposed)
    if metric.classes > 2:
        state.measured_step([_without_losers(state, fit, thresholds[fit], base, proposed[fit]) for fit in fits])
    if areas:
        swept = sweep_areas(images, metric, state.decisions)
        found = [_areas(swept.curves([fit]), metric) for fit in fits]
        state.measured_step([replace(one, min_areas=its) for one, its in zip(state.decisions, found, strict=True)])
    nested = state.counts[images.parts, np.arange(len(images.parts))]
    gain = paired_difference(metric.additive(base), metric.additive(nested), images.groups, score=metric.of_sums)
    return Fitted(state.decisions[-1], curves[-1][:, 0], base, state.counts[-1], nested, gain)


class _Climb:
    """The fits' decisions so far, and what they make of every image: int64 (fits, N, 3, C)."""

    def __init__(self, images: Images, metric: Metric, decisions: list[Decision], counts: Counts) -> None:
        self.images, self.metric, self.decisions, self.counts = images, metric, decisions, counts

    def step(self, proposed: Sequence[Decision], counts: Counts) -> None:
        """Take what is better on the images each fit sees."""
        for fit, decision in enumerate(proposed):
            used = self.images.used(fit)
            if self.metric.score(counts[fit, used]) > self.metric.score(self.counts[fit, used]):
                self.decisions[fit], self.counts[fit] = decision, counts[fit]

    def measured_step(self, proposed: Sequence[Decision]) -> None:
        """`step` by decisions that are still to be measured, if any is new."""
        if list(proposed) != self.decisions:
            self.step(proposed, measure(self.images, proposed, self.metric.classes))


def sweep_levels(images: Images, metric: Metric) -> Sweep:
    """One pass over the probabilities; a slot for each part."""
    sweep = Sweep(metric, images.folds)
    for number, reader, truth in images.each("thresholds"):
        found = np.zeros((len(metric.fitted), 2, LEVELS), np.int64)
        for rows, levels in reader.bands():
            add_levels(found, levels, truth[rows], metric.fitted)
        sweep.add([int(images.parts[number])], list(found))
    return sweep


def sweep_areas(images: Images, metric: Metric, decisions: Sequence[Decision]) -> Sweep:
    """One pass over the objects of each fit's decision; a slot for each fit."""
    sweep = Sweep(metric, len(decisions))
    for number, reader, truth in images.each("areas"):
        for decision, mask in read_masks(reader, decisions).items():
            slots = [fit for fit, one in enumerate(decisions) if one == decision and images.used(fit)[number]]
            if slots:
                sweep.add(slots, area_histograms(mask, truth, metric.fitted))
    return sweep


def measure(images: Images, decisions: Sequence[Decision], classes: int) -> Counts:
    """What each decision makes of each image: int64 (decisions, N, 3, C) hits, truth and predicted pixels."""
    counts = np.zeros((len(decisions), len(images.parts), 3, classes), np.int64)
    for number, reader, truth in images.each("decisions"):
        found = {
            decision: class_counts(confusion(truth, mask, classes))
            for decision, mask in read_masks(reader, decisions).items()
        }
        counts[:, number] = [found[decision] for decision in decisions]
    return counts


def _with_thresholds(plain: Decision, curves: Floats, metric: Metric) -> Decision:
    """With the best threshold of each class, the middle of its range, and weights by what a pixel there is worth.

    Classes that are not fitted, or nowhere, have no threshold.
    """
    thresholds, worths = list(plain.thresholds), np.zeros(metric.classes)
    for index, (scores, worth) in zip(metric.fitted, curves, strict=True):
        if best := best_levels(scores, HALF):
            level = sum(best) // 2
            thresholds[index], worths[index] = shortest(level), worth[level]
    # Four digits, as they stand in the file; the highest is 1.
    weights = [float(f"{worth / worths.max():.4g}") if worth else 1.0 for worth in worths.tolist()]
    return replace(plain, thresholds=tuple(thresholds), weights=tuple(weights))


def _areas(curves: Floats, metric: Metric) -> tuple[int, ...]:
    """The best minimum area of each class, the lowest of its range; 0 where all objects are best kept."""
    areas = [0] * metric.classes
    for index, curve in zip(metric.fitted, curves[:, 0], strict=True):
        # The level 0 would take all pixels.
        if (best := best_levels(curve[1:], 0)) and best[0]:
            areas[index] = best[0] + 1
    return tuple(areas)


def _without_losers(state: _Climb, fit: int, decision: Decision, plain: Counts, proposed: Counts) -> Decision:
    """Without the thresholds of the classes that score lower by the proposed decision than by the arg-max."""
    used = state.images.used(fit)
    before, after = (state.metric.per_class(counts[used].sum(0)) for counts in (plain, proposed))
    thresholds = tuple(
        None if lost else threshold for threshold, lost in zip(decision.thresholds, after < before, strict=True)
    )
    # Without any change there is nothing to measure.
    return replace(decision, thresholds=thresholds) if thresholds != decision.thresholds else state.decisions[fit]
