"""The scores that thresholds may be fitted to, of counts and as curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from segtool.core.scoring.scores import dice_of_counts, divide, iou_of_counts, kept_classes, row_means

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """One of three scores; in two classes each is what `segtool evaluate` calls so.

    miou: the mean over classes of the IoU of all pixels.
    dice: of two classes the foreground's Dice of all pixels; of more the mean over them.
    image_dice: the mean over images of Dice per image, in which nothing there and nothing found is 1. Of more than two
        classes that holds for each of them, as in competitions; `evaluate` leaves such a class out of its image's mean.

    Attributes:
        classes: how many there are.
        exclude: ids left out of the means.
    """

    name: str
    classes: int
    exclude: tuple[int, ...] = ()

    @cached_property
    def kept(self) -> list[int]:
        """Ids of the classes in the mean."""
        in_miou, in_dice = kept_classes(self.classes, self.exclude)
        return in_miou if self.name == "miou" else in_dice

    @property
    def fitted(self) -> list[int]:
        """Ids of the classes that may get a threshold: of two the foreground alone."""
        return [1] if self.classes == 2 else self.kept

    def per_class(self, counts: npt.NDArray[Any]) -> Floats:
        """The score of each class of (..., 3, C) summed hits, truth and predicted pixels; NaN where it is nowhere."""
        return iou_of_counts(counts) if self.name == "miou" else dice_of_counts(counts)

    def additive(self, counts: Counts) -> npt.NDArray[Any]:
        """What adds up over images to give the score, (N, ...), of int64 (N, 3, C) hits, truth and predicted pixels."""
        if self.name != "image_dice":
            return counts
        dice = dice_of_counts(counts)[:, self.kept]
        scored = counts[:, 1].sum(1) > 0
        values = row_means(np.where(np.isnan(dice), 1.0, dice))
        return np.stack([np.where(scored, values, 0), scored], axis=1)

    def of_sums(self, sums: npt.NDArray[Any]) -> Floats:
        """The score of sums of what `additive` gives, for every leading index."""
        if self.name == "image_dice":
            return np.asarray(divide(sums[..., 0], sums[..., 1]))
        return row_means(self.per_class(sums)[..., self.kept])

    def score(self, counts: Counts) -> float:
        """The score of images' counts, int64 (N, 3, C)."""
        return float(self.of_sums(self.additive(counts).sum(0)))

    def curve(self, hits: Floats, predicted: Floats, truth: Floats | float, pixels: float) -> Floats:
        """One class against the rest at every level, float64 (L,).

        Args:
            hits, predicted: (L,), pixels rightly and in all predicted as the class.
            truth, pixels: true pixels of the class, and all that are scored.
        """
        one = np.stack([hits, np.full_like(hits, truth), predicted], axis=-1)
        if self.name == "miou" and self.classes == 2:
            rest = np.stack([pixels - truth - predicted + hits, pixels - one[:, 1], pixels - predicted], axis=-1)
            return row_means(self.per_class(np.stack([rest, one], axis=-1))[:, self.kept])
        values = self.per_class(one[..., None])[:, 0]
        return np.where(np.isnan(values), 1.0, values) if self.name == "image_dice" else values

    def marginal_gain(self, hits: Floats, predicted: Floats, truth: float) -> Floats:
        """Return what one more pixel adds to a class's score, up to a common factor: 1 / the score's denominator."""
        return 1 / np.maximum(truth + predicted - (hits if self.name == "miou" else 0), 1)


def metric(name: str, classes: Sequence[str], exclude: Sequence[str]) -> Metric:
    """The metric of this name, of classes and those of them that are excluded."""
    return Metric(name, len(classes), tuple(classes.index(one) for one in exclude))
