"""Seeds fitted to a score: the probability that an object must reach somewhere (hysteresis thresholding, Canny 1986).

Where only sure pixels begin an object, a lower threshold may outline it. So every class's threshold is tried as it is
and lowered, each time with the best seed of the class against the rest.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
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
    """A threshold and a minimum area of a class with the best seed (0: none), and how the class scores with them."""

    score: float
    threshold: float | None
    min_area: int
    seed: float


def fit_seeds(ascent: CoordinateAscent) -> None:
    """Take seeds at the present thresholds, then with the best of the lowered ones, where they are better.

    With a seed, small objects may be right, so each is tried without the minimum area, too.
    """
    present, metric = list(ascent.decisions), ascent.metric
    found = [_candidates(ascent, [lowered(decision, share, metric) for decision in present]) for share in LOWER]
    for shares in (found[:1], found):
        by_fit = zip(present, zip(*shares, strict=True), strict=True)
        ascent.measured_step([_with_best(decision, candidates, metric) for decision, candidates in by_fit])


def lowered(decision: Decision, share: float, metric: Metric) -> Decision:
    """Return it with a share of its thresholds; of two classes the arg-max has one, too: a half."""
    if share == 1:
        return decision
    levels = [None if threshold is None else lowest_level(threshold) for threshold in decision.thresholds]
    if metric.classes == 2 and levels[1] is None:
        levels[1] = HALF
    return replace(
        decision, thresholds=tuple(None if level is None else shortest(int(level * share)) for level in levels)
    )


def _candidates(ascent: CoordinateAscent, decisions: Sequence[Decision]) -> list[list[list[Candidate]]]:
    """Return for each fit those of each fitted class at the thresholds of a decision, with and without its areas."""
    tried = [*decisions, *map(_keeping_small, decisions)]
    curves = peak_curves(ascent, tried)
    by_try = [
        [
            _candidate(curve, decision.thresholds[index], decision.min_areas[index])
            for index, curve in zip(ascent.metric.fitted, curves.curves([slot])[:, 0], strict=True)
        ]
        for slot, decision in enumerate(tried)
    ]
    fits = len(decisions)
    return [[list(pair) for pair in zip(*by_try[fit::fits], strict=True)] for fit in range(fits)]


def _keeping_small(decision: Decision) -> Decision:
    return replace(decision, min_areas=(0,) * len(decision.min_areas))


def _candidate(curve: Floats, threshold: float | None, area: int) -> Candidate:
    """The middle of the best seeds; none where all objects are best kept, which the level 1 does."""
    if not (best := best_levels(curve[1:], 0)):
        return Candidate(-np.inf, threshold, area, 0)
    seed = shortest(sum(best) // 2 + 1) if best[0] else 0
    return Candidate(float(np.nanmax(curve[1:])), threshold, area, seed)


def peak_curves(ascent: CoordinateAscent, decisions: Sequence[Decision]) -> ThresholdCurves:
    """Return the curves over seeds, by one pass over the objects of some decisions for each fit; a slot for each."""
    curves = ThresholdCurves(ascent.metric, len(decisions))
    # Objects are those of the choice, of which those below the minimum areas count as none.
    alike: dict[Decision, dict[Decision, list[int]]] = {}
    for slot, decision in enumerate(decisions):
        alike.setdefault(_keeping_small(decision), {}).setdefault(decision, []).append(slot)
    for number, reader, truth in ascent.images.each("seeds"):
        masks = read_masks(reader, alike)
        own = {decision: np.empty(mask.shape, np.uint16) for decision, mask in masks.items()}
        for rows, levels in reader.bands():
            for decision, mask in masks.items():
                own[decision][rows] = own_levels(levels, mask[rows])
        for bare, mask in masks.items():
            areas = [decision.min_areas for decision in alike[bare]]
            histograms = peak_histograms(mask, own[bare], truth, ascent.metric.fitted, areas)
            for slots, histogram in zip(alike[bare].values(), histograms, strict=True):
                curves.add([slot for slot in slots if ascent.used[slot % len(ascent.used)][number]], histogram)
    return curves


def _with_best(decision: Decision, by_share: Sequence[Sequence[Sequence[Candidate]]], metric: Metric) -> Decision:
    """Return it with the best candidate of each fitted class, which are listed by share and class."""
    thresholds, areas, seeds = list(decision.thresholds), list(decision.min_areas), list(decision.seeds)
    for index, candidates in zip(metric.fitted, zip(*by_share, strict=True), strict=True):
        best = max(chain.from_iterable(candidates), key=lambda candidate: candidate.score)
        _, thresholds[index], areas[index], seeds[index] = best
    return replace(decision, thresholds=tuple(thresholds), min_areas=tuple(areas), seeds=tuple(seeds))
