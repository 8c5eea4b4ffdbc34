"""Seeds fitted to a score: the probability that an object must reach somewhere (hysteresis thresholding, Canny 1986).

Where only sure pixels begin an object, a lower threshold may outline it. So every class's threshold is tried as it is
and lowered, each time with the best seed of the class against the rest.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from segtool.core.predictions.decision import Decision, own_levels, read_masks, shortest
from segtool.core.predictions.probability_maps import lowest_level
from segtool.core.tuning.coordinate_ascent import CoordinateAscent
from segtool.core.tuning.objective import Floats, Metric
from segtool.core.tuning.threshold_curves import HALF, ThresholdCurves, best_levels, peak_histograms

# What thresholds are multiplied by.
LOWER = (1.0, 0.75, 0.5, 0.25)


class Candidate(NamedTuple):
    """A threshold of a class with its best seed (0: none), and the score of the class against the rest."""

    score: float
    threshold: float | None
    seed: float


def fit_seeds(ascent: CoordinateAscent) -> None:
    """Take seeds at the present thresholds, then with the best of the lowered ones, where they are better."""
    present, metric = list(ascent.decisions), ascent.metric
    found = [_candidates(ascent, [_lowered(decision, share, metric) for decision in present]) for share in LOWER]
    for tried in (found[:1], found):
        best = [
            [max(candidates, key=lambda candidate: candidate.score) for candidates in zip(*by_share, strict=True)]
            for by_share in zip(*tried, strict=True)
        ]
        ascent.measured_step(
            [_with_seeds(decision, chosen, metric) for decision, chosen in zip(present, best, strict=True)]
        )


def _lowered(decision: Decision, share: float, metric: Metric) -> Decision:
    """Return it with a share of its thresholds; of two classes the arg-max has one, too: a half."""
    if share == 1:
        return decision
    levels = [None if threshold is None else lowest_level(threshold) for threshold in decision.thresholds]
    if metric.classes == 2 and levels[1] is None:
        levels[1] = HALF
    return replace(
        decision, thresholds=tuple(None if level is None else shortest(int(level * share)) for level in levels)
    )


def _candidates(ascent: CoordinateAscent, decisions: Sequence[Decision]) -> list[list[Candidate]]:
    """Return for each fit the candidate of each fitted class at the thresholds of a decision."""
    curves = peak_curves(ascent, decisions)
    return [
        [
            _candidate(curve, decision.thresholds[index])
            for index, curve in zip(ascent.metric.fitted, curves.curves([fit])[:, 0], strict=True)
        ]
        for fit, decision in enumerate(decisions)
    ]


def _candidate(curve: Floats, threshold: float | None) -> Candidate:
    """The middle of the best seeds; none where all objects are best kept, which the level 1 does."""
    if not (best := best_levels(curve[1:], 0)):
        return Candidate(-np.inf, threshold, 0)
    seed = shortest(sum(best) // 2 + 1) if best[0] else 0
    return Candidate(float(np.nanmax(curve[1:])), threshold, seed)


def peak_curves(ascent: CoordinateAscent, decisions: Sequence[Decision]) -> ThresholdCurves:
    """Return the curves over seeds, by one pass over the objects of every fit; a slot for each fit."""
    curves = ThresholdCurves(ascent.metric, len(decisions))
    # Objects are those of the choice, of which those below the minimum areas count as none.
    bare = [replace(decision, min_areas=(0,) * ascent.metric.classes) for decision in decisions]
    for number, reader, truth in ascent.images.each("seeds"):
        masks = read_masks(reader, bare)
        own = {decision: np.empty(mask.shape, np.uint16) for decision, mask in masks.items()}
        for rows, levels in reader.bands():
            for decision, mask in masks.items():
                own[decision][rows] = own_levels(levels, mask[rows])
        slots: dict[Decision, list[int]] = {}
        for fit, decision in enumerate(decisions):
            if ascent.used[fit][number]:
                slots.setdefault(decision, []).append(fit)
        for decision, fits in slots.items():
            first = bare[fits[0]]
            curves.add(fits, peak_histograms(masks[first], own[first], truth, ascent.metric.fitted, decision.min_areas))
    return curves


def _with_seeds(decision: Decision, chosen: Sequence[Candidate], metric: Metric) -> Decision:
    """Return it with the thresholds and seeds that were chosen for the fitted classes."""
    thresholds, seeds = list(decision.thresholds), list(decision.seeds)
    for index, candidate in zip(metric.fitted, chosen, strict=True):
        thresholds[index], seeds[index] = candidate.threshold, candidate.seed
    return replace(decision, thresholds=tuple(thresholds), seeds=tuple(seeds))
