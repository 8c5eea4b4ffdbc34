"""The scores of each class, and how two sets of predictions of the same images differ."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segtool.core.report.page_tables import Cell, PageTable, cell
from segtool.core.scoring.bootstrap import few_drawn, paired_difference
from segtool.core.scoring.pixel_counts import PixelCounts
from segtool.core.scoring.scores import dice_of_counts, divide, iou_of_counts, kept_classes, row_means

Score = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]


def class_table(counts: PixelCounts) -> PageTable:
    """Return the scores of each class over all pixels."""
    total = counts.counts.sum(0)
    hits, truth, pred = total[:3]
    # Where classes overlap, a class is scored on the pixels where it is annotated.
    whole = total[3] if counts.multi else truth.sum()
    iou, dice = iou_of_counts(total[:3]), dice_of_counts(total[:3])
    plain = [divide(hits, pred), divide(hits, truth), divide(truth, np.broadcast_to(whole, truth.shape))]
    rows = [
        [
            cell(name),
            cell(float(iou[index]), bar=True),
            cell(float(dice[index]), bar=True),
            *(cell(float(part[index])) for part in plain),
        ]
        for index, name in enumerate(counts.classes)
    ]
    return PageTable("", ["class", "IoU", "Dice", "precision", "recall", "share of truth"], rows)


def comparison(first: PixelCounts, second: PixelCounts, exclude: Sequence[str]) -> PageTable | str:
    """Return the differences between two sets on the images that both have, or why there are none.

    Args:
        exclude: classes left out of the means.
    """
    if first.classes != second.classes or first.multi != second.multi:
        return "They are not compared: their classes differ."
    known = set(second.image_ids)
    shared = [image_id for image_id in first.image_ids if image_id in known]
    if not shared:
        return "They are not compared: they have no image in common."
    sides = [_counts(side, shared) for side in (first, second)]
    at = {image_id: number for number, image_id in enumerate(first.image_ids)}
    names = [first.groups[at[image_id]] or image_id for image_id in shared]
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    kept, kept_dice = kept_classes(len(first.classes), [first.classes.index(name) for name in exclude])
    means = kept, kept if first.multi else kept_dice
    scores: tuple[Score, Score] = iou_of_counts, dice_of_counts
    rows = [[cell("mean"), *_means(sides, groups, scores, means)]]
    for index, name in enumerate(first.classes):
        one = [side[:, :, index : index + 1] for side in sides]
        row = [cell(name)]
        for score in scores:
            row += _difference(one, groups, _mean_of(score, [0]))
        rows.append(row)
    columns = ["class"]
    columns += [f"{name} {part}" for name in ("IoU", "Dice") for part in ("first", "second", "difference", "interval")]
    drawn = f"{len(set(groups.tolist()))} groups" if any(first.groups) and groups.max() else f"{len(shared)} images"
    note = (
        f"On the {len(shared)} images that both have. Differences are second less first, with a 95 % interval by a"
        f" paired bootstrap over {drawn}; bold where it leaves out 0."
    )
    if few := few_drawn(groups):
        note += f" Note: {few}."
    return PageTable("Second against first", columns, rows, note)


def _counts(side: PixelCounts, image_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return hits, truth and predicted pixels of some of the images, int64 (images, 3, C)."""
    at = {image_id: number for number, image_id in enumerate(side.image_ids)}
    return side.counts[[at[image_id] for image_id in image_ids], :3]


def _means(
    sides: Sequence[npt.NDArray[np.int64]],
    groups: npt.NDArray[np.int64],
    scores: tuple[Score, Score],
    kept: tuple[Sequence[int], Sequence[int]],
) -> list[Cell]:
    row: list[Cell] = []
    for score, classes in zip(scores, kept, strict=True):
        row += _difference(sides, groups, _mean_of(score, classes))
    return row


def _mean_of(score: Score, classes: Sequence[int]) -> Score:
    """Return a score's mean over some classes, NaN where none of them occurs."""
    return lambda total: row_means(score(total)[..., classes])


def _difference(sides: Sequence[npt.NDArray[np.int64]], groups: npt.NDArray[np.int64], score: Score) -> list[Cell]:
    """Return the cells of both scores, their difference and its interval."""
    one, other = (float(score(side.sum(0))) for side in sides)
    if math.isnan(one) or math.isnan(other):
        return [cell(one), cell(other), cell(None), cell(None)]
    found = paired_difference(sides[0], sides[1], groups, score=score)
    sure = found.low > 0 or found.high < 0
    difference = cell(found.value, signed=True)._replace(strong=sure)
    return [cell(one), cell(other), difference, Cell(f"{found.low:+.4f} to {found.high:+.4f}", found.low)]
