"""Decisions that are fitted side by side, on all images and on all but each fold, one kind of parameter after another.

Nested cross-validation: the images are in K folds; for each fold a decision is fitted on the others, and the fold is
scored by it. One more is fitted on all images. Every pass over the images serves these K + 1 fits; a fit sees nothing
but the images outside its fold, in any of its steps. A step is taken where it raises the score of the actual decision
on the images it is fitted on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from segtool.core.images import Array
from segtool.core.predictions.decision import Decision, read_masks
from segtool.core.predictions.probability_maps import ProbReader
from segtool.core.reporting.progress import Track, silent
from segtool.core.scoring.bootstrap import Difference, paired_difference
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.scores import class_counts
from segtool.core.tuning.objective import Counts, Floats, Metric

# What a fit makes decisions by.
D = TypeVar("D")
A = TypeVar("A", bound="Ascent[Any]")


class Folds:
    """The fits of images in folds, int64 (N,) from 0: one without each fold, and one of all images; groups likewise."""

    folds: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]

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


@dataclass(frozen=True)
class Images(Folds):
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

    def each(self, label: str) -> Iterator[tuple[int, ProbReader, Array]]:
        """Every image's number, probabilities and truth."""
        for number in self.track(range(len(self.folds)), total=len(self.folds), label=label):
            yield number, *self.read(number)


class State(NamedTuple, Generic[D]):
    """What the fits have come to: the decision of each, and its counts, int64 (fits, N, 3, C)."""

    decisions: tuple[D, ...]
    counts: Counts


class Score(Protocol):
    """A score that is fitted to."""

    def additive(self, counts: Counts) -> npt.NDArray[Any]:
        """Return what adds up over images to give the score, (N, ...)."""

    def of_sums(self, sums: npt.NDArray[Any]) -> Floats:
        """Return the score of sums of what `additive` gives, for every leading index."""

    def score(self, counts: Counts) -> float:
        """Return the score of images' counts."""


class Ascent(Generic[D]):
    """Better decisions, one kind of parameter after the other, for all fits.

    Attributes:
        used: bool (N,) for each fit, the images that it sees.
        decisions: of each fit so far.
        counts: what these make of every image, int64 (fits, N, 3, C); (fits, N, 4, C) where classes may overlap.
    """

    def __init__(self, images: Folds, metric: Score, first: D, counts: Counts) -> None:
        """`counts`: what the decision that all fits begin with makes of every image, int64 (N, 3, C)."""
        self.images, self.metric = images, metric
        self.used = [images.used(fold) for fold in images.left_out]
        self.decisions = [first] * len(self.used)
        self.counts = np.stack([counts] * len(self.used))

    @property
    def nested(self) -> Counts:
        """What is made of each image by the fit that does not see it, int64 (N, 3, C)."""
        # The fit number K leaves out the fold K, and the last one none.
        return self.counts[self.images.folds, np.arange(len(self.images.folds))]

    @property
    def state(self) -> State[D]:
        """The decisions and their counts."""
        return State(tuple(self.decisions), self.counts.copy())

    def go_back(self, state: State[D]) -> None:
        """Take an earlier state for the present one."""
        self.decisions, self.counts = list(state.decisions), state.counts.copy()

    def gain(self, before: Counts) -> Difference:
        """Return what nested scores gain over counts of every image, int64 (N, 3, C), with an interval."""
        first, second = (self.metric.additive(counts) for counts in (before, self.nested))
        return paired_difference(first, second, self.images.groups, score=self.metric.of_sums)


class CoordinateAscent(Ascent[Decision]):
    """The ascent of decisions between classes of which each pixel has one."""

    images: Images
    metric: Metric

    def restarted(self, decisions: Sequence[Decision], counts: Counts) -> "CoordinateAscent":
        """Return another ascent of the same fits, from these decisions and what they make of every image."""
        other = copy(self)
        other.decisions, other.counts = list(decisions), counts.copy()
        return other

    def step(self, proposed: Sequence[Decision], counts: Sequence[Counts]) -> None:
        """Take what is better on the images each fit sees."""
        for fit, used in enumerate(self.used):
            if self.metric.score(counts[fit][used]) > self.metric.score(self.counts[fit, used]):
                self.decisions[fit], self.counts[fit] = proposed[fit], counts[fit]

    def measured_step(self, proposed: Sequence[Decision]) -> None:
        """`step` by decisions that are still to be measured, if any is new."""
        if list(proposed) != self.decisions:
            self.step(proposed, list(measure(self.images, proposed, self.metric.classes)))


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


class Step(NamedTuple):
    """What a step brings.

    Attributes:
        fitted, nested: the score after it on the images it was fitted on, and by nested cross-validation.
        gain: of the nested score over the one before it.
        kept: whether the fit has it.
    """

    name: str
    fitted: float
    nested: float
    gain: Difference
    kept: bool


def told(ascent: Ascent[Any], name: str, before: Counts) -> Step:
    """Return what the last step has brought over `before`, the nested counts, int64 (N, 3, C)."""
    score, gain = ascent.metric.score, ascent.gain(before)
    return Step(name, score(ascent.counts[-1]), score(ascent.nested), gain, gain.value > 0)


def fit_rest(
    ascent: A, first: State[Any], areas: Callable[[A], None] | None, rules: Mapping[str, Callable[[A], None]]
) -> list[Step]:
    """Fit what follows the thresholds, and return what each step brings, the thresholds first.

    Thresholds and areas are kept or taken back together where a rule follows, each rule by itself: what gains nothing
    on images that it was not fitted on is taken back.

    Args:
        ascent: after the step of the thresholds.
        first: before it.
        areas: fits minimum areas.
        rules: fit the other rules, by their names.
    """
    base = first.counts[-1]
    steps = [told(ascent, "thresholds", base)]
    if areas:
        before = ascent.nested
        areas(ascent)
        steps.append(told(ascent, "minimum areas", before))
    gains = ascent.gain(base).value > 0
    steps = [step._replace(kept=gains) for step in steps]
    if rules and not gains:
        ascent.go_back(first)
    for name, fit in rules.items():
        state, nested = ascent.state, ascent.nested
        fit(ascent)
        steps.append(told(ascent, name, nested))
        if not steps[-1].kept:
            ascent.go_back(state)
    return steps
