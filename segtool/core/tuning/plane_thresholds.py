"""The rules of classes that may overlap, fitted to a score, and what they are worth on images they were not fitted on.

No class takes a pixel from another, so each has the best threshold by itself, exactly, from histograms of levels, and
then the best minimum area, seed, and bound below which it is dropped from an image: the same curves as in
`thresholds`, of one class alone. Fits are side by side as there, on all images and on all but each fold, and a step is
taken for a class where it raises the class's own term of the score on the images that the fit sees. Seeds and bounds
are taken back, of all classes, where they gain nothing in nested cross-validation.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.predictions.bit_planes import HALF, Levels
from segtool.core.predictions.decision import shortest
from segtool.core.predictions.plane_decision import ClassRule, PlaneDecision
from segtool.core.predictions.probability_maps import ProbReader, class_levels, lowest_level
from segtool.core.reporting.progress import Track, silent
from segtool.core.scoring.planes import SCORED, PlaneCounts, class_plane_counts
from segtool.core.tuning.coordinate_ascent import Ascent, Folds, fit_rest
from segtool.core.tuning.empty_images import ROUNDING, best_gap, image_curve
from segtool.core.tuning.objective import Floats
from segtool.core.tuning.plane_objective import PlaneMetric
from segtool.core.tuning.seeds import LOWER
from segtool.core.tuning.threshold_curves import LEVELS, ThresholdCurves, area_histograms, best_levels, peak_histograms
from segtool.core.tuning.thresholds import Fitted

Ints = npt.NDArray[np.int64]
# The rule of each class; and that for each fit.
Rule = tuple[ClassRule, ...]
Rules = Sequence[Rule]


@dataclass(frozen=True)
class PlaneImages(Folds):
    """What is fitted on.

    Attributes:
        read: the number of an image → its stored probabilities, and its true planes.
        folds, groups, track: as of `Images`.
    """

    read: Callable[[int], tuple[ProbReader, Planes]]
    folds: Ints
    groups: Ints
    track: Track = silent

    def each(self, label: str) -> Iterator[tuple[int, int, Levels, Array]]:
        """Every image's number, and of each class the id, the levels and the true plane, (H, W)."""
        for number in self.track(range(len(self.folds)), total=len(self.folds), label=label):
            reader, truth = self.read(number)
            for index, levels in class_levels(reader):
                yield number, index, levels, truth.plane(index)


class PlaneAscent(Ascent[Rule]):
    """The ascent of the rules of all classes, each class on its own; counts are int64 (fits, N, 4, C)."""

    images: PlaneImages
    metric: PlaneMetric

    def step(self, proposed: Rules, counts: PlaneCounts) -> None:
        """Take the rule of each class that is better on the images each fit sees."""
        for fit, used in enumerate(self.used):
            better = self.metric.own(counts[fit, used]) > self.metric.own(self.counts[fit, used]) + ROUNDING
            pairs = zip(self.decisions[fit], proposed[fit], better, strict=True)
            self.decisions[fit] = tuple(new if better else old for old, new, better in pairs)
            self.counts[fit][:, :, better] = counts[fit][:, :, better]

    def measured_step(self, proposed: Rules) -> None:
        """`step` by rules that are still to be measured, if any is new."""
        if list(proposed) != self.decisions:
            self.step(proposed, measure(self.images, proposed)[0])

    def tried(self, change: Callable[[ClassRule], ClassRule]) -> Rules:
        """Return the present rules of the fitted classes, changed."""
        fitted = set(self.metric.fitted)

        def changed(rules: Rule) -> Rule:
            return tuple(change(rule) if index in fitted else rule for index, rule in enumerate(rules))

        return list(map(changed, self.decisions))


def fit_planes(
    images: PlaneImages, metric: PlaneMetric, *, areas: bool, seeds: bool = False, empty: bool = False
) -> Fitted:
    """Fit on all images, and on all but each fold."""
    by_fold = level_curves(images, metric)
    plain = (ClassRule(),) * metric.classes
    base = measure(images, [plain])[0][0]
    ascent = PlaneAscent(images, metric, plain, base)
    first = ascent.state
    everyone = range(images.count)
    curves = [
        {index: one.curves([other for other in everyone if other != fold])[0, 0] for index, one in by_fold.items()}
        for fold in images.left_out
    ]
    ascent.measured_step(
        [
            tuple(_with_threshold(rule, curve.get(index)) for index, rule in enumerate(rules))
            for rules, curve in zip(ascent.decisions, curves, strict=True)
        ]
    )
    rules = {"seeds": _fit_objects if areas else fit_seeds} if seeds else {}
    rules |= {"empty images": fit_empty} if empty else {}
    steps = fit_rest(ascent, first, _fit_areas if areas else None, rules)
    decision, shown = PlaneDecision(ascent.decisions[-1]), np.stack([curves[-1][index] for index in metric.fitted])
    return Fitted(decision, shown, base, ascent.counts[-1], ascent.nested, ascent.gain(base), steps)


def measure(images: PlaneImages, rules: Rules) -> tuple[PlaneCounts, Ints, Ints]:
    """Look at every image by the rules of each fit.

    Returns:
        counts: int64 (fits, N, 4, C), see `plane_counts`.
        pixels: int64 (fits, N, C), predicted pixels, ignored ones included.
        peaks: int64 (N, C), the highest level.
    """
    shape = (len(images.folds), len(rules[0]))
    counts = np.zeros((len(rules), shape[0], 4, shape[1]), np.int64)
    pixels, peaks = np.zeros((len(rules), *shape), np.int64), np.zeros(shape, np.int64)
    for number, index, levels, truth in images.each("rules"):
        peaks[number, index] = levels.max()
        for rule, fits in _alike(rules, index).items():
            plane = rule.decide(levels)
            counts[fits, number, :, index] = class_plane_counts(truth, plane)
            pixels[fits, number, index] = np.count_nonzero(plane)
    return counts, pixels, peaks


def level_curves(images: PlaneImages, metric: PlaneMetric) -> dict[int, ThresholdCurves]:
    """Return the curves over thresholds of each fitted class, by one pass over the probabilities; a slot for each
    fold."""
    curves = {index: ThresholdCurves(metric.alone, images.count) for index in metric.fitted}
    for number, index, levels, truth in images.each("thresholds"):
        if index in curves:
            scored = np.bincount(levels[truth <= 1], minlength=LEVELS)
            own = np.bincount(levels[truth == 1], minlength=LEVELS)
            curves[index].add([int(images.folds[number])], [np.stack([own, scored])])
    return curves


def area_curves(ascent: PlaneAscent, rules: Rules) -> dict[int, ThresholdCurves]:
    """Return the curves over minimum areas of each fitted class; a slot for each fit."""
    curves = {index: ThresholdCurves(ascent.metric.alone, len(rules)) for index in ascent.metric.fitted}
    for number, index, levels, truth in ascent.images.each("areas"):
        for rule, fits in _alike(rules, index).items() if index in curves else ():
            if slots := [fit for fit in fits if ascent.used[fit][number]]:
                curves[index].add(slots, area_histograms(rule.decide(levels), truth, [1]))
    return curves


def peak_curves(ascent: PlaneAscent, rules: Rules) -> dict[int, ThresholdCurves]:
    """Return the curves over seeds of each fitted class; for each fit a slot with its minimum area, and then for each
    one without."""
    fits = len(rules)
    curves = {index: ThresholdCurves(ascent.metric.alone, 2 * fits) for index in ascent.metric.fitted}
    for number, index, levels, truth in ascent.images.each("seeds"):
        for rule, alike in _alike(rules, index).items() if index in curves else ():
            slots = [fit for fit in alike if ascent.used[fit][number]]
            if not slots:
                continue
            plane = ClassRule(rule.threshold).decide(levels)
            histograms = peak_histograms(plane, levels, truth, [1], [(0, rule.min_area), (0, 0)])
            for extra, histogram in zip((0, fits), histograms, strict=True):
                curves[index].add([slot + extra for slot in slots], histogram)
    return curves


def fit_seeds(ascent: PlaneAscent) -> None:
    """Take the best seed at the present threshold or at a lowered one, where it is better.

    With a seed, small objects may be right, so each is tried without the minimum area, too.
    """
    best: list[dict[int, tuple[float, ClassRule]]] = [{} for _ in ascent.decisions]
    for share in LOWER:
        rules = ascent.tried(_lowered(share))
        for index, curves in peak_curves(ascent, rules).items():
            for fit, own in enumerate(rules):
                for slot, rule in ((fit, own[index]), (fit + len(rules), replace(own[index], min_area=0))):
                    found = _seeded(rule, curves.curves([slot])[0, 0])
                    if found and found[0] > best[fit].get(index, (-math.inf,))[0]:
                        best[fit][index] = found
    ascent.measured_step(
        [
            tuple(found[index][1] if index in found else rule for index, rule in enumerate(own))
            for own, found in zip(ascent.decisions, best, strict=True)
        ]
    )


def fit_empty(ascent: PlaneAscent) -> None:
    """Take bounds where they are better, at the present rules or at lowered thresholds without areas."""
    starts: list[Rules] = [list(ascent.decisions)]
    for share in LOWER:
        lower = _lowered(share, keep_small=True)
        starts.append(ascent.tried(lower))
    for rules in starts:
        counts, pixels, peaks = measure(ascent.images, rules)
        proposed = list(map(list, rules))
        for fit, used in enumerate(ascent.used):
            for index in ascent.metric.fitted:
                statistics = pixels[fit, :, index], peaks[:, index]
                rule, dropped = _bounded(proposed[fit][index], ascent.metric, counts[fit, ..., index], statistics, used)
                proposed[fit][index] = rule
                counts[fit, dropped, ::2, index] = 0
        ascent.step([tuple(own) for own in proposed], counts)


def _bounded(
    rule: ClassRule, metric: PlaneMetric, counts: Ints, statistics: tuple[Ints, Ints], used: npt.NDArray[np.bool_]
) -> tuple[ClassRule, npt.NDArray[np.bool_]]:
    """Return a rule with the better of two bounds, and then the other one where it still gains, and which images lose
    the class by it, bool (N,).

    Args:
        counts: int64 (N, 4), of the class.
        statistics: int64 (N,) each, its predicted pixels and its highest level.
        used: bool (N,), the images that are fitted on.
    """
    counts, dropped = counts.copy(), np.zeros(len(counts), np.bool_)
    for _ in range(2):
        few, low = (
            best_gap(*image_curve(metric.alone, counts[used, :SCORED], counts[used, SCORED], statistic[used]))
            for statistic in statistics
        )
        if few and (not low or few.score >= low.score - ROUNDING):
            # Sizes differ by factors: the geometric middle is as far from what is dropped as from what is kept.
            rule = replace(rule, min_pixels=math.isqrt((few.low + 1) * few.high))
        elif low:
            rule = replace(rule, min_peak=shortest((low.low + 1 + low.high) // 2))
        dropped = (statistics[0] < rule.min_pixels) | (statistics[1] < lowest_level(rule.min_peak))
        # Hits and predicted pixels.
        counts[dropped, 0] = counts[dropped, 2] = 0
    return rule, dropped


def _fit_objects(ascent: PlaneAscent) -> None:
    """Take seeds, and then other minimum areas, where they are better."""
    fit_seeds(ascent)
    if any(rule.seed for rules in ascent.decisions for rule in rules):
        _fit_areas(ascent)


def _fit_areas(ascent: PlaneAscent) -> None:
    """Take minimum areas where they are better."""
    curves = area_curves(ascent, ascent.tried(lambda rule: replace(rule, min_area=0)))
    ascent.measured_step(
        [
            tuple(
                replace(rule, min_area=_best_area(curves[index].curves([fit])[0, 0])) if index in curves else rule
                for index, rule in enumerate(rules)
            )
            for fit, rules in enumerate(ascent.decisions)
        ]
    )


def _alike(rules: Rules, index: int) -> dict[ClassRule, list[int]]:
    """Return the different rules of a class, and the fits that have each."""
    fits = defaultdict(list)
    for fit, own in enumerate(rules):
        fits[own[index]].append(fit)
    return fits


def _lowered(share: float, *, keep_small: bool = False) -> Callable[[ClassRule], ClassRule]:
    """Return what gives a rule a share of its threshold and, to keep small objects, no minimum area."""

    def lower(rule: ClassRule) -> ClassRule:
        threshold = rule.threshold if share == 1 else shortest(int(lowest_level(rule.threshold) * share))
        return replace(rule, threshold=threshold, min_area=0 if keep_small else rule.min_area)

    return lower


def _with_threshold(rule: ClassRule, curve: Floats | None) -> ClassRule:
    """Return it with the best threshold, the middle of its range; as it is where there is nothing to fit."""
    best = None if curve is None else best_levels(curve, lowest_level(HALF))
    return replace(rule, threshold=shortest(sum(best) // 2)) if best else rule


def _seeded(rule: ClassRule, curve: Floats) -> tuple[float, ClassRule] | None:
    """Return the rule with the middle of the best seeds and its score; none where all objects are best kept."""
    # The level 0 would take all pixels, the level 1 keeps all objects.
    if not (best := best_levels(curve[1:], 0)):
        return None
    return float(np.nanmax(curve[1:])), replace(rule, seed=shortest(sum(best) // 2 + 1) if best[0] else 0.0)


def _best_area(curve: Floats) -> int:
    """The lowest of the best minimum areas; 0 where all objects are best kept."""
    best = best_levels(curve[1:], 0)
    return best[0] + 1 if best and best[0] else 0
