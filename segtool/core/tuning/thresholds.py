"""The rule that makes masks, fitted to a score, and what it is worth on images it was not fitted on.

1. Thresholds, each the best of its class against the rest.
2. Classes that lose by that in the decision between all of them get no threshold, so that they take what is left.
3. Minimum areas, each the best of its class against the rest.
4. Seeds, and then bounds below which a class is dropped from an image, if they are wanted. Each of the two builds on
   what has gained so far in nested cross-validation, and is taken back where it gains nothing there itself.

How each step is taken, and what nested means, says `coordinate_ascent`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segtool.core.predictions.decision import Decision, read_masks, shortest
from segtool.core.predictions.plane_decision import PlaneDecision
from segtool.core.scoring.bootstrap import Difference
from segtool.core.tuning.coordinate_ascent import CoordinateAscent, Images, Step, fit_rest, measure
from segtool.core.tuning.empty_images import fit_empty
from segtool.core.tuning.objective import Counts, Floats, Metric
from segtool.core.tuning.seeds import fit_seeds
from segtool.core.tuning.threshold_curves import HALF, LEVELS, ThresholdCurves, add_levels, area_histograms, best_levels


@dataclass(frozen=True)
class Fitted:
    """What came of it.

    Attributes:
        decision: fitted on all images.
        curves: of one class against the rest on all images, float64 (fitted classes, 65536).
        plain, fitted, nested: int64 (N, 3, C), every image's hits, truth and predicted pixels by the arg-max, by
            `decision`, and by the decision fitted without the image's fold.
            Where classes may overlap, int64 (N, 4, C), see `scoring.planes`, and 0.5 is in place of the arg-max.
        gain: of nested over plain.
        steps: what the parts of the decision bring, one after the other.
    """

    decision: Decision | PlaneDecision
    curves: Floats
    plain: Counts
    fitted: Counts
    nested: Counts
    gain: Difference
    steps: Sequence[Step]


def fit_decision(images: Images, metric: Metric, *, areas: bool, seeds: bool = False, empty: bool = False) -> Fitted:
    """Fit on all images, and on all but each fold."""
    by_fold = level_curves(images, metric)
    curves = [by_fold.curves([other for other in range(images.count) if other != fold]) for fold in images.left_out]
    plain = Decision.argmax(metric.classes)
    thresholds = [_with_thresholds(plain, curve, metric) for curve in curves]
    base, *proposed = measure(images, [plain, *thresholds], metric.classes)
    ascent = CoordinateAscent(images, metric, plain, base)
    first = ascent.state
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
    rules = {"seeds": _fit_objects if areas else fit_seeds} if seeds else {}
    rules |= {"empty images": fit_empty} if empty else {}
    steps = fit_rest(ascent, first, _fit_areas if areas else None, rules)
    return Fitted(
        ascent.decisions[-1], curves[-1][:, 0], base, ascent.counts[-1], ascent.nested, ascent.gain(base), steps
    )


def _fit_objects(ascent: CoordinateAscent) -> None:
    """Take seeds, and then other minimum areas, where they are better."""
    fit_seeds(ascent)
    if any(decision.grows for decision in ascent.decisions):
        _fit_areas(ascent)


def _fit_areas(ascent: CoordinateAscent) -> None:
    """Take minimum areas where they are better."""
    bare = [replace(decision, min_areas=(0,) * ascent.metric.classes) for decision in ascent.decisions]
    by_fit = area_curves(ascent.images, ascent.metric, bare)
    ascent.measured_step(
        [
            replace(current, min_areas=_areas(by_fit.curves([fit]), ascent.metric))
            for fit, current in enumerate(ascent.decisions)
        ]
    )


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
