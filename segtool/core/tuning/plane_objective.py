"""The scores that the rules of classes that may overlap are fitted to."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from segtool.core.scoring.planes import SCORED, PlaneCounts, image_dice
from segtool.core.scoring.scores import dice_of_counts, divide, iou_of_counts, row_means
from segtool.core.tuning.objective import Floats, Metric


@dataclass(frozen=True)
class PlaneMetric:
    """One of three scores, each what `segtool evaluate` calls so.

    miou, dice: the mean over classes of the IoU or Dice of all pixels; a class that is nowhere is left out.
    image_dice: the mean of the Dice of all pairs (image, annotated class), in which nothing there and nothing found is
        1.

    Attributes:
        classes: how many there are.
        exclude: ids left out of the means, which get no rule either.
    """

    name: str
    classes: int
    exclude: tuple[int, ...] = ()

    @property
    def fitted(self) -> list[int]:
        """Ids of the classes in the mean."""
        return [index for index in range(self.classes) if index not in self.exclude]

    @cached_property
    def alone(self) -> Metric:
        """The metric of one class, as curves take it."""
        return Metric(self.name, 1)

    def per_class(self, counts: npt.NDArray[Any]) -> Floats:
        """The score of all pixels of each class, (..., C) of summed counts (..., 4, C); NaN where it is nowhere."""
        counts = counts[..., :SCORED, :]
        return iou_of_counts(counts) if self.name == "miou" else dice_of_counts(counts)

    def own(self, counts: PlaneCounts) -> Floats:
        """What each class adds to the score by the counts of images, float64 (C,) of (N, 4, C); NaN for nothing.

        A rule of one class changes no other term, so each can be made as good as possible on its own.
        """
        if self.name == "image_dice":
            return row_means(image_dice(counts).T)
        return self.per_class(counts.sum(0))

    def additive(self, counts: PlaneCounts) -> npt.NDArray[Any]:
        """What adds up over images to give the score, (N, ...), of int64 (N, 4, C)."""
        if self.name != "image_dice":
            return counts
        dice = image_dice(counts)[:, self.fitted]
        annotated = ~np.isnan(dice)
        return np.stack([np.where(annotated, dice, 0).sum(1), annotated.sum(1)], axis=1)

    def of_sums(self, sums: npt.NDArray[Any]) -> Floats:
        """The score of sums of what `additive` gives, for every leading index."""
        if self.name == "image_dice":
            return np.asarray(divide(sums[..., 0], sums[..., 1]))
        return row_means(self.per_class(sums)[..., self.fitted])

    def score(self, counts: PlaneCounts) -> float:
        """The score of images' counts, int64 (N, 4, C)."""
        return float(self.of_sums(self.additive(counts).sum(0)))
