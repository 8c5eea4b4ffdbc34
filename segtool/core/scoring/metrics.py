"""A score as sums over images: what the bootstrap needs to score any draw of images at once."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core.scoring.planes import SCORED, image_dice, image_iou
from segtool.core.scoring.scores import Floats, dice_of_counts, divide, iou_of_counts, kept_classes, row_means

LABELS = {"miou": "mIoU", "image_miou": "image mIoU", "dice": "Dice", "image_dice": "image Dice"}


class Sums(NamedTuple):
    """What adds up over images, (images, ...), and the score of any such sum, (..., ...) → (...)."""

    values: npt.NDArray[Any]
    score: Callable[[npt.NDArray[Any]], Floats]


def sums(metric: str, counts: npt.NDArray[np.int64], exclude: Iterable[int] = ()) -> Sums:
    """Return what adds up to a score, which is that of `evaluate`.

    Args:
        metric: one of `LABELS`.
        counts: int64 (images, 3, C), or (images, 4, C) of classes that may overlap; see `PixelCounts`.
        exclude: ids of classes that are left out of the means.
    """
    multi, classes = counts.shape[1] == SCORED + 1, counts.shape[2]
    excluded = set(exclude)
    in_miou, in_dice = kept_classes(classes, excluded)
    if multi:
        in_dice = in_miou
    if metric == "miou":
        return Sums(counts[:, :3], lambda total: row_means(iou_of_counts(total)[..., in_miou]))
    if metric == "dice":
        return Sums(counts[:, :3], lambda total: row_means(dice_of_counts(total)[..., in_dice]))
    if multi:
        each = (image_iou if metric == "image_miou" else image_dice)(counts)[:, in_miou]
    elif metric == "image_miou":
        each = row_means(iou_of_counts(counts)[:, in_miou])[:, None]
    else:
        each = row_means(dice_of_counts(counts)[:, in_dice])[:, None]
        if classes == 2:
            # Nothing was there, and none was found.
            each[np.isnan(each[:, 0]) & (counts[:, 1].sum(1) > 0)] = 1.0
    known = ~np.isnan(each)
    pairs = np.stack([np.where(known, each, 0).sum(1), known.sum(1)], axis=1)
    return Sums(pairs, lambda total: np.asarray(divide(total[..., 0], total[..., 1])))
