"""How probabilities become a mask: thresholds, and what is taken out after them. Its file: `decision_file`.

A class with a threshold T takes a pixel where its stored probability q reaches it, q >= floor(T * 65535). Where several
classes reach theirs, the one takes it whose weight * (q - floor(T * 65535)) is highest, the lowest id of equals. The
weight says what one more pixel is worth to the score: much for a rare class, little for a large one. (The best decision
for a mean of such ratios has this form: Narasimhan et al. 2015, Consistent Multiclass Algorithms for Complex
Performance Measures.) Where none reaches its own, the pixel goes to the most probable class without a threshold, or,
if all classes have one, to the most probable class.

So in two classes, with a threshold for the foreground alone, the background takes what does not reach it. Thresholds
and weights that are equal for all classes, or no thresholds at all, are the arg-max.

Then objects are taken out, the 8-connected components of a class: those with fewer pixels than its minimum area, and
those in which no pixel reaches its seed, a probability above the threshold (hysteresis: only sure pixels begin an
object, and less sure ones let it grow). Each of their pixels goes to the class that would have taken it if theirs had
not been there. In two classes that is the other one.

Last, a class is taken out of an image where fewer pixels than its min_pixels are left to it, or where its probability
nowhere reaches its min_peak. These pixels go to the class that would have taken them if none of the classes that the
image has lost had been there; class 0 takes what no class is left for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segtool.core.images import Array
from segtool.core.predictions.probability_maps import (
    SCALE,
    ProbReader,
    Probs,
    decide,
    lowest_level,
    most_probable,
    open_probs,
    quantise,
)
from segtool.core.scoring.components import component_runs
from segtool.core.scoring.fits import Fit
from segtool.values import Size

Levels = npt.NDArray[np.uint16]

# More than any level; as float32 exact, like all levels less twice this.
OFFSET = np.float32(SCALE + 1)
# Pixels times classes that are decided at once.
CONTESTED_VALUES = 1 << 19


@dataclass(frozen=True)
class Decision:
    """The rule of this module's docstring.

    Attributes:
        thresholds: of each class in [0, 1], or None.
        weights: of each class, above 0; only their ratios count.
        min_areas: pixels of each class's smallest object; 0 and 1 keep all.
        fit: how the rule was fitted, where it was; the arg-max is not.
        seeds: the probability that each class's objects must reach somewhere; 0 keeps all. Of all classes or, like
            the next two, empty: that keeps all, too.
        min_pixels: pixels that each class must have in an image to stay there; 0 and 1 keep all.
        min_peaks: the probability that each class must reach somewhere in an image to stay there; 0 keeps all.
    """

    thresholds: tuple[float | None, ...]
    weights: tuple[float, ...]
    min_areas: tuple[int, ...]
    fit: Fit | None = None
    seeds: tuple[float, ...] = ()
    min_pixels: tuple[int, ...] = ()
    min_peaks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("seeds", "min_pixels", "min_peaks"):
            if not getattr(self, name):
                object.__setattr__(self, name, (0,) * len(self.thresholds))

    @classmethod
    def argmax(cls, classes: int) -> "Decision":
        """The most probable class, and nothing taken out."""
        return cls((None,) * classes, (1.0,) * classes, (0,) * classes)

    @cached_property
    def cleans(self) -> bool:
        """Whether objects may be taken out."""
        return max(self.min_areas) > 1 or self.grows

    @cached_property
    def grows(self) -> bool:
        """Whether some class has a seed."""
        return max(self.seeds) > 0

    @cached_property
    def drops(self) -> bool:
        """Whether classes may be taken out of an image."""
        return max(self.min_pixels) > 1 or max(self.min_peaks) > 0

    def choose(self, levels: Levels, without: Array | None = None, absent: Collection[int] = ()) -> Array:
        """Return the class that takes each pixel, uint8 (...).

        Args:
            levels: stored probabilities, uint16 (C, ...).
            without: a class for each pixel, uint8 (...), that must not take it.
            absent: classes that must take none.
        """
        best = np.full(levels.shape[1:], -np.inf, np.float32)
        chosen = np.zeros(best.shape, np.uint8)
        for index in range(len(levels)):
            if index in absent:
                continue
            scores = self._scores(levels[index], index)
            if without is not None:
                scores[without == index] = -np.inf
            # Ids rise, so the last class that is higher has the highest one; faster than to index by it.
            np.maximum(chosen, (scores > best) * np.uint8(index), out=chosen)
            np.maximum(best, scores, out=best)
        return chosen

    def _scores(self, levels: Levels, index: int) -> npt.NDArray[np.float32]:
        """Return a class's score at each pixel, float32; the highest takes it.

        From 0 where it reaches its threshold; else below 0, and above all that do not reach theirs when it has none.
        """
        scores = levels.astype(np.float32)
        threshold = self.thresholds[index]
        if threshold is None:
            scores -= OFFSET
            return scores
        lowest = lowest_level(threshold)
        excess = scores - np.float32(lowest)
        excess *= np.float32(self.weights[index])
        scores -= 2 * OFFSET
        np.copyto(scores, excess, where=levels >= lowest)
        return scores

    def reach_seeds(self, levels: Levels, chosen: Array) -> npt.NDArray[np.bool_]:
        """Return which pixels reach the seed of the class that took them; bool, like `chosen`, uint8 (rows, W)."""
        seeds = np.array([lowest_level(seed) for seed in self.seeds], np.uint16)
        return own_levels(levels, chosen) >= seeds[chosen]

    def lost_objects(self, mask: Array, seeds: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
        """Return the pixels of the objects that are taken out of a whole image's choice, bool (H, W).

        Args:
            mask: uint8 (H, W).
            seeds: what `reach_seeds` gives for it, bool (H, W); None: no class has a seed.
        """
        runs = component_runs(mask)
        lost = runs.areas < np.array(self.min_areas)[mask.reshape(-1)[runs.starts]]
        if seeds is not None:
            lost |= ~runs.highest(seeds)
        return np.repeat(lost, runs.lengths).reshape(mask.shape)

    def absent(self, mask: Array, peaks: Levels) -> list[int]:
        """Return the classes that are taken out of an image, if any of its pixels has one of them.

        Args:
            mask: the whole image, without lost objects, uint8 (H, W).
            peaks: the highest stored probability of each class in it, uint16 (C,).
        """
        pixels = np.bincount(mask.reshape(-1), minlength=len(self.thresholds))
        low = peaks < np.array([lowest_level(peak) for peak in self.min_peaks])
        absent = np.flatnonzero(low | (pixels < np.array(self.min_pixels)))
        return absent.tolist() if pixels[absent].any() else []

    def read(self, path: Path, size: Size, whose: object) -> Array:
        """The mask of stored probabilities, uint8 (H, W).

        Raises:
            SegtoolError: they are missing, broken, or of other classes or another size than `size`, which `whose` says.
        """
        return read_masks(open_probs(path, (len(self.thresholds), *size), whose), [self])[self]


def read_masks(reader: ProbReader, decisions: Collection[Decision]) -> dict[Decision, Array]:
    """Return the mask of one image by each decision, uint8 (H, W); equal decisions are made once.

    Decisions differ in few pixels, and only those are looked at by each of them.
    """
    masks = {decision: np.empty(reader.shape[1:], np.uint8) for decision in decisions}
    places: list[npt.NDArray[np.intp]] = []
    waiting: list[Levels] = []
    for rows, levels in reader.bands():
        likely, contested = _contested(levels, list(masks))
        for mask in masks.values():
            mask[rows] = likely
        places.append(contested + rows.start * likely.shape[1])
        waiting.append(_at(levels, contested))
        # A band has so few that the calls would take longer than their work.
        if sum(some.size for some in waiting) >= CONTESTED_VALUES or rows.stop == reader.shape[1]:
            all_places, contested_levels = np.concatenate(places), np.concatenate(waiting, axis=1)
            for decision, mask in masks.items():
                mask.reshape(-1)[all_places] = decision.choose(contested_levels)
            places, waiting = [], []
    _take_out(reader, masks)
    return masks


def _take_out(reader: ProbReader, masks: Mapping[Decision, Array]) -> None:
    """Take objects out of the choices of decisions, and then classes out of the image."""
    lost = _lost_objects(reader, masks)
    # What lost its class twice must get neither; elsewhere the second class is the only one that a pixel lost.
    first = {decision: masks[decision].copy() for decision in lost if decision.drops}
    for rows, levels in reader.bands() if lost else ():
        for decision, where in lost.items():
            pixels, mask = np.flatnonzero(where[rows]), masks[decision][rows].reshape(-1)
            mask[pixels] = decision.choose(_at(levels, pixels), without=mask[pixels])
    absent = _absent_classes(reader, masks)
    for rows, levels in reader.bands() if absent else ():
        for decision, classes in absent.items():
            mask = masks[decision][rows].reshape(-1)
            pixels = np.flatnonzero(np.isin(mask, classes))
            before = first.get(decision, masks[decision])[rows].reshape(-1)[pixels]
            mask[pixels] = decision.choose(_at(levels, pixels), without=before, absent=classes)


def _lost_objects(reader: ProbReader, masks: Mapping[Decision, Array]) -> dict[Decision, npt.NDArray[np.bool_]]:
    """Return the pixels of the objects that decisions take out, bool (H, W), of those that may take some out."""
    seeds = {decision: np.empty(mask.shape, np.bool_) for decision, mask in masks.items() if decision.grows}
    for rows, levels in reader.bands() if seeds else ():
        for decision, reached in seeds.items():
            reached[rows] = decision.reach_seeds(levels, masks[decision][rows])
    return {
        decision: decision.lost_objects(mask, seeds.get(decision))
        for decision, mask in masks.items()
        if decision.cleans
    }


def _absent_classes(reader: ProbReader, masks: Mapping[Decision, Array]) -> dict[Decision, list[int]]:
    """Return the classes that decisions take out of the image, of those that take some out."""
    dropping = [decision for decision in masks if decision.drops]
    if not dropping:
        return {}
    peaks = highest_levels(reader)
    absent = {decision: decision.absent(masks[decision], peaks) for decision in dropping}
    return {decision: classes for decision, classes in absent.items() if classes}


def highest_levels(reader: ProbReader) -> Levels:
    """Return the highest stored probability of each class in an image, uint16 (C,)."""
    return np.max([levels.max((1, 2)) for _, levels in reader.bands()], axis=0)


def own_levels(levels: Levels, chosen: Array) -> Levels:
    """Return the stored probability of the class that took each pixel, uint16 (rows, W), of (C, rows, W)."""
    places = chosen.reshape(-1).astype(np.intp) * chosen.size
    places += np.arange(chosen.size)
    return levels.reshape(-1).take(places).reshape(chosen.shape)


def _contested(levels: Levels, decisions: Sequence[Decision]) -> tuple[Array, npt.NDArray[np.intp]]:
    """Return the most probable class of each pixel, uint8 (rows, W), and the pixels where a decision may take another.

    None does where that class reaches its highest threshold and no other class reaches its lowest one.
    """
    likely, best = most_probable(levels)
    lowest = [
        [lowest_level(threshold) for threshold in thresholds if threshold is not None]
        for thresholds in zip(*(decision.thresholds for decision in decisions), strict=True)
    ]
    reaching = np.zeros(best.shape, np.uint8)
    for plane, bounds in zip(levels, lowest, strict=True):
        if bounds:
            reaching += plane >= min(bounds)
    least = np.array([max(bounds, default=0) for bounds in lowest], np.uint16)
    itself = np.array([len(bounds) > 0 for bounds in lowest], np.uint8)
    return likely, np.flatnonzero((best < least[likely]) | (reaching != itself[likely]))


def _at(levels: Levels, pixels: npt.NDArray[np.intp]) -> Levels:
    """Return the levels at some pixels, uint16 (C, n), of those of some rows."""
    return levels.reshape(len(levels), -1)[:, pixels]


class GrowingMask:
    """One image's mask, decided band by band (without a decision by the arg-max); objects are whole only at its end.

    Not for a decision that drops classes: where one is gone, all probabilities are needed once more. `Decision.read`
    takes them from their file.
    """

    def __init__(self, decision: Decision | None, size: Size) -> None:
        assert decision is None or not decision.drops
        self.decision = decision
        self.first = np.empty(size, np.uint8)
        self.second = np.empty(size, np.uint8) if decision and decision.cleans else None
        self.seeds = np.empty(size, np.bool_) if decision and decision.grows else None

    def add_probs(self, top: int, probs: Probs) -> None:
        """Decide the rows from `top` on, float32 (C, rows, W); by a decision as if they had been stored."""
        if self.decision is None:
            self.first[top : top + probs.shape[1]] = decide(probs)
        else:
            self.add(top, quantise(probs))

    def add(self, top: int, levels: Levels) -> None:
        """Decide the rows from `top` on, uint16 (C, rows, W)."""
        assert self.decision is not None
        rows = slice(top, top + levels.shape[1])
        self.first[rows] = chosen = self.decision.choose(levels)
        if self.second is not None:
            self.second[rows] = self.decision.choose(levels, without=chosen)
        if self.seeds is not None:
            self.seeds[rows] = self.decision.reach_seeds(levels, chosen)

    def finish(self) -> Array:
        """The mask, uint8 (H, W)."""
        if self.decision is None or self.second is None:
            return self.first
        return np.where(self.decision.lost_objects(self.first, self.seeds), self.second, self.first)


def shortest(level: int) -> float:
    """A threshold of five decimals that `level` is the lowest stored level to reach.

    >>> lowest_level(shortest(32768))
    32768
    """
    return -(-level * 10**5 // SCALE) / 10**5
