"""mIoU, Dice and pixel accuracy from confusion matrices, pooled and per image.

A class that is in neither truth nor prediction has no score (NaN) and is left out of every mean. Published libraries
differ here (1, 0 or left out); the tests hold tables computed by hand.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segtool.core.images import Array
from segtool.core.scoring.confusion import Matrix, confusion

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

# Scores that can be fitted, as options spell them and as tables show them.
METRIC_NAMES = {"miou": "mIoU", "dice": "Dice", "image_dice": "image Dice"}


@dataclass(frozen=True)
class Scores:
    """The scores of one confusion matrix; NaN where there is nothing to score.

    Attributes:
        miou: mean of `iou` over the classes that are not excluded.
        dice: the foreground's Dice for two classes, else the mean of `class_dice` as for `miou`.
        pixel_accuracy: share of all scored pixels that are right, excluded classes included.
        iou: per class, float64 (C,): TP / (TP + FP + FN).
        class_dice: per class, float64 (C,): 2 TP / (2 TP + FP + FN).
        precision: per class, float64 (C,): TP / (TP + FP).
        recall: per class, float64 (C,): TP / (TP + FN).
    """

    miou: float
    dice: float
    pixel_accuracy: float
    iou: Floats
    class_dice: Floats
    precision: Floats
    recall: Floats

    @classmethod
    def of(cls, matrix: Matrix, exclude: Iterable[int] = ()) -> "Scores":
        """Scores of an int64 (C, C) confusion matrix (rows truth); `exclude` holds class ids left out of the means."""
        counts = class_counts(matrix)
        hits, truth, pred = counts
        iou, dice = iou_of_counts(counts), dice_of_counts(counts)
        in_miou, in_dice = kept_classes(len(matrix), exclude)
        return cls(
            miou=mean(iou[in_miou]),
            dice=mean(dice[in_dice]),
            pixel_accuracy=float(divide(hits.sum(), truth.sum())),
            iou=iou,
            class_dice=dice,
            precision=divide(hits, pred),
            recall=divide(hits, truth),
        )


class ScoreBoard:
    """Collects images' confusion matrices, cheaply.

    Attributes:
        classes: class names in the order of their ids.
        total: int64 (C, C), the sum of all matrices.
        per_image: image_id → int64 (3, C): hits (TP), truth and predicted pixels per class.
    """

    def __init__(self, classes: Sequence[str], exclude: Iterable[str] = ()) -> None:
        """`exclude` names classes that are left out of the means. Raises ValueError for a name that is no class."""
        self.classes = tuple(classes)
        self.exclude = tuple(self.classes.index(name) for name in exclude)
        self.total: Matrix = np.zeros((len(self.classes),) * 2, np.int64)
        self.per_image: dict[str, Matrix] = {}

    def add(self, image_id: str, matrix: Matrix) -> None:
        """Add one image's confusion matrix. Raises ValueError for an image that is there already."""
        if image_id in self.per_image:
            raise ValueError(f"image {image_id!r} would be counted twice")
        self.total += matrix
        self.per_image[image_id] = class_counts(matrix)

    def add_pair(self, image_id: str, truth: Array, pred: Array) -> None:
        """Add one image by its masks; arguments and errors as for `confusion`."""
        self.add(image_id, confusion(truth, pred, len(self.classes)))

    def scores(self) -> Scores:
        """The pooled scores, from the sum of all matrices."""
        return Scores.of(self.total, self.exclude)

    def summary(self) -> dict[str, Any]:
        """All scores as plain JSON values; None where there is nothing to score. Independent of the images' order.

        `image_miou` and `image_dice` are means over the images that have such a score.
        """
        pooled, images = self.scores(), self.table()
        return {
            "miou": plain(pooled.miou),
            "image_miou": plain(mean(images["miou"].to_numpy())),
            "dice": plain(pooled.dice),
            "image_dice": plain(mean(images["dice"].to_numpy())),
            "pixel_accuracy": plain(pooled.pixel_accuracy),
            "iou": dict(zip(self.classes, map(plain, pooled.iou), strict=True)),
            "excluded": [self.classes[index] for index in self.exclude],
            "images": len(self.per_image),
            "pixels": int(self.total.sum()),
        }

    def table(self) -> "pd.DataFrame":
        """One row per image in the order they were added, as in per_image.csv; NaN where there is nothing to score.

        In two classes an image with neither true nor predicted foreground has Dice 1: nothing was there, none found.
        """
        # Here, as most of what needs scores needs no tables, and the import takes a quarter of a second.
        import pandas as pd

        count = len(self.classes)
        counts = np.array(list(self.per_image.values()), np.int64).reshape(-1, 3, count)
        in_miou, in_dice = kept_classes(count, self.exclude)
        iou, scored = iou_of_counts(counts), counts[:, 1].sum(1)
        dice = row_means(dice_of_counts(counts)[:, in_dice])
        if count == 2:
            dice[np.isnan(dice) & (scored > 0)] = 1.0
        accuracy = divide(counts[:, 0].sum(1), scored)
        means = {"miou": row_means(iou[:, in_miou]), "pixel_accuracy": accuracy, "dice": dice}
        classes = {f"iou_{name}": iou[:, index] for index, name in enumerate(self.classes)}
        return pd.DataFrame({"image_id": list(self.per_image), **means, **classes})


def divide(part: Any, whole: Any) -> Any:
    """part / whole as float64, NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)


def miou_of_counts(counts: npt.NDArray[Any]) -> Floats:
    """The mIoU of (..., 3, C) hits, truth and predicted pixels per class, for every leading index."""
    return row_means(iou_of_counts(counts))


def class_counts(matrix: Matrix) -> Matrix:
    """int64 (3, C): hits (TP), truth pixels (TP + FN), predicted pixels (TP + FP)."""
    counts = np.empty((3, len(matrix)), np.int64)
    counts[0] = matrix.diagonal()
    matrix.sum(1, out=counts[1])
    matrix.sum(0, out=counts[2])
    return counts


def iou_of_counts(counts: npt.NDArray[Any]) -> Floats:
    """The IoU of every class, (..., C), of (..., 3, C) hits, truth and predicted pixels."""
    hits, truth, pred = np.moveaxis(counts, -2, 0)
    return divide(hits, truth + pred - hits)


def dice_of_counts(counts: npt.NDArray[Any]) -> Floats:
    """The Dice of every class, (..., C), of (..., 3, C) hits, truth and predicted pixels."""
    hits, truth, pred = np.moveaxis(counts, -2, 0)
    return divide(2 * hits, truth + pred)


def kept_classes(classes: int, exclude: Iterable[int]) -> tuple[list[int], list[int]]:
    """The classes in the mean of IoU and in that of Dice (in two classes the foreground, unless it is excluded)."""
    excluded = set(exclude)
    kept = [c for c in range(classes) if c not in excluded]
    return kept, [1] if classes == 2 and 1 in kept else kept


def mean(values: Floats) -> float:
    """Mean of what is not NaN, NaN where nothing is left; fsum is exact, so the order does not matter."""
    kept = values[~np.isnan(values)]
    return math.fsum(kept) / len(kept) if len(kept) else math.nan


def row_means(values: Floats) -> Floats:
    """The mean of what is not NaN along the last axis; NaN where nothing is left."""
    present = ~np.isnan(values)
    return divide(np.where(present, values, 0).sum(-1), present.sum(-1))


def plain(value: float) -> float | None:
    """Return a value as JSON holds it, with None for NaN."""
    return None if math.isnan(value) else float(value)
