"""IoU and Dice of classes that may overlap, each scored on its own plane, pooled and per image.

Pooled scores are of all pixels; a class that is in neither truth nor prediction of any image has none (NaN). Scores per
image are means over pairs (image, class), of all classes that are annotated in the image. There are two of each,
because published ones differ: where a class is in neither truth nor prediction of an image the pair counts as 1, as in
competitions (UW-Madison GI Tract, Severstal), or it is left out (`present`).
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.core.scoring.scores import Floats, Scores, dice_of_counts, divide, iou_of_counts, mean, plain, row_means
from segtool.errors import SegtoolError

if TYPE_CHECKING:
    import pandas as pd

# int64 (4, C): hits, truth and predicted pixels of each class, and its scored pixels; 0 of these: not annotated.
PlaneCounts = npt.NDArray[np.int64]
SCORED = 3


def plane_counts(truth: Array, pred: npt.NDArray[Any]) -> PlaneCounts:
    """Count the pixels of one image.

    Args:
        truth: uint8 (C, H, W): 1 in the class, 0 outside, 255 where that is not known or ignored.
        pred: uint8 or bool (C, H, W): 1 in the class, 0 outside; anything where the truth is 255.

    Returns:
        int64 (4, C): hits, truth and predicted pixels over the scored ones of the class, and the number of these. A
        class without any is not annotated. Counts of several images add up.

    Raises:
        SegtoolError: the shapes differ.
    """
    if truth.shape != pred.shape:
        raise SegtoolError(f"the prediction is {_size(pred)} (CxHxW), its mask {_size(truth)}")
    counts = np.zeros((4, len(truth)), np.int64)
    for index, (true, found) in enumerate(zip(truth, pred, strict=True)):
        counts[:, index] = class_plane_counts(true, found)
    return counts


def class_plane_counts(truth: Array, pred: npt.NDArray[Any]) -> PlaneCounts:
    """Count the pixels of one class in one image, (H, W) as for `plane_counts`; int64 (4,)."""
    scored, true = truth != IGNORE, truth == 1
    found = (pred == 1) & scored
    return np.array([np.count_nonzero(one) for one in (true & found, true, found, scored)], np.int64)


class MultiScoreBoard:
    """Collects images' counts, as `ScoreBoard` does for masks of one class per pixel.

    Attributes:
        classes: class names in the order of their ids.
        exclude: ids of the classes that are left out of the means.
        total: int64 (4, C), the sum of all counts.
        per_image: image_id → int64 (4, C), see `plane_counts`.
    """

    def __init__(self, classes: Sequence[str], exclude: Iterable[str] = ()) -> None:
        """`exclude` names classes that are left out of the means. Raises ValueError for a name that is no class."""
        self.classes = tuple(classes)
        self.exclude = tuple(self.classes.index(name) for name in exclude)
        self.total: PlaneCounts = np.zeros((4, len(self.classes)), np.int64)
        self.per_image: dict[str, PlaneCounts] = {}

    @property
    def kept(self) -> list[int]:
        """Ids of the classes in the means."""
        return [index for index in range(len(self.classes)) if index not in self.exclude]

    def add(self, image_id: str, counts: PlaneCounts) -> None:
        """Add one image's counts. Raises ValueError for an image that is there already."""
        if image_id in self.per_image:
            raise ValueError(f"image {image_id!r} would be counted twice")
        self.total += counts
        self.per_image[image_id] = counts

    def add_pair(self, image_id: str, truth: Array, pred: npt.NDArray[Any]) -> None:
        """Add one image by its planes; arguments and errors as for `plane_counts`."""
        self.add(image_id, plane_counts(truth, pred))

    def scores(self) -> Scores:
        """Return the scores of all pixels; pixel accuracy is over all scored pairs (pixel, class)."""
        hits, truth, pred = self.total[:SCORED]
        iou, dice = iou_of_counts(self.total[:SCORED]), dice_of_counts(self.total[:SCORED])
        return Scores(
            miou=mean(iou[self.kept]),
            dice=mean(dice[self.kept]),
            pixel_accuracy=float(accuracy(self.total)),
            iou=iou,
            class_dice=dice,
            precision=divide(hits, pred),
            recall=divide(hits, truth),
        )

    def summary(self) -> dict[str, Any]:
        """All scores as plain JSON values; None where there is nothing to score. Independent of the images' order."""
        pooled, counts = self.scores(), self._counts
        by_image = {
            f"image_{name}{suffix}": plain(mean(values(counts, empty)[:, self.kept].reshape(-1)))
            for suffix, empty in (("", 1.0), ("_present", np.nan))
            for name, values in (("miou", image_iou), ("dice", image_dice))
        }
        return {
            "miou": plain(pooled.miou),
            "dice": plain(pooled.dice),
            **by_image,
            "pixel_accuracy": plain(pooled.pixel_accuracy),
            "iou": dict(zip(self.classes, map(plain, pooled.iou), strict=True)),
            "class_dice": dict(zip(self.classes, map(plain, pooled.class_dice), strict=True)),
            "excluded": [self.classes[index] for index in self.exclude],
            "images": len(self.per_image),
            "pixels": int(self.total[SCORED].sum()),
        }

    def table(self) -> "pd.DataFrame":
        """One row per image in the order they were added, as in per_image.csv; NaN where there is nothing to score.

        `miou` and `dice` are means of the image's `iou_*` and `dice_*`, which are 1 for a class that is neither there
        nor predicted, and NaN for one that is not annotated. `miou_present` and `dice_present` leave such ones out.
        """
        # Here, as most of what needs scores needs no tables, and the import takes a quarter of a second.
        import pandas as pd

        counts = self._counts
        iou, dice = image_iou(counts), image_dice(counts)
        there = {"miou_present": image_iou(counts, np.nan), "dice_present": image_dice(counts, np.nan)}
        means = {"miou": row_means(iou[:, self.kept]), "pixel_accuracy": accuracy(counts)}
        means |= {"dice": row_means(dice[:, self.kept])}
        means |= {name: row_means(values[:, self.kept]) for name, values in there.items()}
        classes = {f"iou_{name}": iou[:, index] for index, name in enumerate(self.classes)}
        classes |= {f"dice_{name}": dice[:, index] for index, name in enumerate(self.classes)}
        return pd.DataFrame({"image_id": list(self.per_image), **means, **classes})

    @property
    def _counts(self) -> PlaneCounts:
        return np.array(list(self.per_image.values()), np.int64).reshape(-1, 4, len(self.classes))


def image_iou(counts: PlaneCounts, empty: float = 1.0) -> Floats:
    """Return the IoU of each image and class, float64 (..., C) of (..., 4, C); NaN for a class without annotation.

    `empty` is the score of an annotated class in neither truth nor prediction.
    """
    return _filled(iou_of_counts(counts[..., :SCORED, :]), counts, empty)


def image_dice(counts: PlaneCounts, empty: float = 1.0) -> Floats:
    """Return the Dice of each image and class, as `image_iou` returns the IoU."""
    return _filled(dice_of_counts(counts[..., :SCORED, :]), counts, empty)


def _filled(values: Floats, counts: PlaneCounts, empty: float) -> Floats:
    return np.where(np.isnan(values) & (counts[..., SCORED, :] > 0), empty, values)


def accuracy(counts: PlaneCounts) -> Floats:
    """Return the share of scored pairs (pixel, class) that are right, float64 (...) of (..., 4, C)."""
    hits, truth, pred, scored = np.moveaxis(counts, -2, 0)
    return np.asarray(divide((scored - truth - pred + 2 * hits).sum(-1), scored.sum(-1)))


def _size(planes: npt.NDArray[Any]) -> str:
    return "x".join(map(str, planes.shape))
