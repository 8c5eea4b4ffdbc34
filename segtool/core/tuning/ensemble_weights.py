"""Weights of an ensemble's members, and what they are worth on images they were not chosen by.

Greedy selection with replacement (Caruana et al. 2004): starting from the best member, the one whose addition gives the
best score is added, again and again; the weights are how often each was drawn, up to the step with the best score.

Nested cross-validation: the images are in K parts; for each part a selection is made on the others, and the part is
scored by it, and by the member that is best on these others. One more is made on all images. All K + 1 go side by side,
so that every pass serves them all; only the first one reads whole predictions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.core.predictions.blending import Blend, Levels
from segtool.core.reporting.progress import Track, silent
from segtool.core.scoring.bootstrap import Difference, paired_difference
from segtool.core.scoring.scores import miou_of_counts
from segtool.core.tuning.contested_pixels import Contested, Draws, Ints
from segtool.core.tuning.contested_planes import ContestedPlanes

# An image's bands: the first row and every member's stored probabilities, uint16 (C, rows, W).
Bands = Iterator[tuple[int, list[Levels]]]

Score = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]

# Steps without a better score after which a selection ends.
PATIENCE = 3


@dataclass(frozen=True)
class Images:
    """What is fitted on.

    Attributes:
        read: the number of an image → its bands, and its truth, uint8 (H, W) with 255 = ignore.
        parts: the part of each image, int64 (N,) from 0.
        groups: the group of each image, likewise, for the interval.
        members, classes: how many there are.
        scratch: the folder of a temporary file, which takes 6 + 4 M bytes for most of the pixels that members see
            differently; None: the system's.
        score: of (..., 3, C) hits, truth and predicted pixels, what is to become high, for every leading index.
        multi: whether classes may overlap. Then truths are planes, uint8 (C, H, W), and `blend` is one for planes.
    """

    read: Callable[[int], tuple[Bands, Array]]
    parts: Ints
    groups: Ints
    members: int
    classes: int
    blend: Blend
    track: Track = silent
    scratch: Path | None = None
    score: Score = miou_of_counts
    multi: bool = False

    @property
    def folds(self) -> int:
        """The number of parts."""
        return int(self.parts.max()) + 1


@dataclass(frozen=True)
class Fitted:
    """What came of it.

    Attributes:
        weights: how often each member was drawn, on all images.
        alone: each member's score.
        score: that of `weights` on all images, by which they were chosen.
        best_score: that of the members best on the other parts, each on its part.
        nested_score: that of the weights chosen on the other parts, each on its part.
        gain: of the latter over the former.
        disagreement: float64 (M, M), share of the scored pixels in which two members' arg-max differs.
    """

    weights: Draws
    alone: tuple[float, ...]
    score: float
    best_score: float
    nested_score: float
    gain: Difference
    disagreement: npt.NDArray[np.float64]


def fit_weights(images: Images, steps: int) -> Fitted:
    """Select on all images, and on all but each part."""
    alone, disagreement, contested = _compare(images)
    selections = [_Selection(fit, alone, images.folds, images.score) for fit in range(images.folds + 1)]
    for step in range(2, steps + 1):
        wanted = dict.fromkeys(draws for one in selections for draws in one.proposals())
        if not wanted:
            break
        counts = _measure_parts(images, contested, list(wanted), f"step {step} of at most {steps}")
        for selection in selections:
            selection.take(counts)
    nested, best = _nested_counts(images, contested, selections)
    whole = selections[-1]
    return Fitted(
        whole.best,
        tuple(images.score(alone.sum(1)).tolist()),
        whole.best_score,
        float(images.score(best.sum(0))),
        float(images.score(nested.sum(0))),
        paired_difference(best, nested, images.groups, score=images.score),
        disagreement,
    )


class _Selection:
    """One of the K + 1 selections: it sees the images of all parts but its own."""

    def __init__(self, fit: int, alone: Ints, folds: int, score: Score = miou_of_counts) -> None:
        """`alone`: the members' counts, int64 (M, parts, 3, C)."""
        self.score = score
        self.seen = [part for part in range(folds) if part != fit]
        scores = self._scores(alone)
        self.first = int(scores.argmax())
        self.members = len(alone)
        self.now = self.best = tuple(int(member == self.first) for member in range(self.members))
        self.best_score, self.waited = float(scores[self.first]), 0

    def _scores(self, counts: Ints) -> npt.NDArray[np.float64]:
        """The score of (..., parts, 3, C) counts on what is seen."""
        return np.nan_to_num(self.score(counts[..., self.seen, :, :].sum(-3)))

    def proposals(self) -> list[Draws]:
        """The next draws, one for each member; none when it is over."""
        if self.waited >= PATIENCE:
            return []
        return [tuple(n + (m == added) for m, n in enumerate(self.now)) for added in range(self.members)]

    def take(self, counts: dict[Draws, Ints]) -> None:
        """Add the member whose addition scores best."""
        if not (proposals := self.proposals()):
            return
        scores = self._scores(np.stack([counts[draws] for draws in proposals]))
        self.now = proposals[int(scores.argmax())]
        self.waited += 1
        if scores.max() > self.best_score:
            self.best, self.best_score, self.waited = self.now, float(scores.max()), 0

    @property
    def best_member(self) -> Draws:
        """The best member alone."""
        return tuple(int(member == self.first) for member in range(self.members))


def _compare(images: Images) -> tuple[Ints, npt.NDArray[np.float64], Contested]:
    """Every member alone: its counts in each part, int64 (M, parts, 3, C); the disagreement of each two; and what is
    left to weights."""
    count = images.members
    kind = ContestedPlanes if images.multi else Contested
    contested = kind(count, images.classes, images.blend, images.scratch)
    alone = np.zeros((count, images.folds, 3, images.classes), np.int64)
    differing, scored = np.zeros((count, count), np.int64), 0
    for number in images.track(range(len(images.parts)), total=len(images.parts), label="members"):
        read, truth = images.read(number)
        for top, members in read:
            rows = truth[..., top : top + members[0].shape[1], :]
            masks = np.stack([contested.decide(levels) for levels in members])
            for member, mask in enumerate(masks):
                alone[member, images.parts[number]] += contested.count(rows, mask)
            contested.add(rows, members, masks)
            valid = rows != IGNORE
            masks, scored = masks[:, valid], scored + int(valid.sum())
            for member in range(count - 1):
                differing[member, member + 1 :] += (masks[member] != masks[member + 1 :]).sum(1)
        contested.end_image()
    return alone, (differing + differing.T) / max(1, scored), contested


def _measure_parts(images: Images, contested: Contested, wanted: Sequence[Draws], label: str) -> dict[Draws, Ints]:
    """The counts of weighted blends in each part, int64 (parts, 3, C), of all in one pass."""
    counts = np.zeros((len(wanted), images.folds, 3, images.classes), np.int64)
    for number in images.track(range(len(images.parts)), total=len(images.parts), label=label):
        counts[:, images.parts[number]] += contested.counts(number, wanted)
    return dict(zip(wanted, counts, strict=True))


def _nested_counts(images: Images, contested: Contested, selections: Sequence[_Selection]) -> tuple[Ints, Ints]:
    """Every image's counts by the weights, and by the best member, chosen without its part; int64 (N, 3, C) each."""
    chosen = [selections[part] for part in images.parts]
    both = np.stack([contested.counts(number, [one.best, one.best_member]) for number, one in enumerate(chosen)])
    return both[:, 0], both[:, 1]
