"""Tables of the page: what a cell shows and what it sorts by, and shares drawn as bars."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from segtool.core.comparison.seeded_difference import seeded_difference
from segtool.core.scoring.evaluation import Evaluation
from segtool.core.scoring.objects import size_table
from segtool.core.scoring.pixel_counts import PixelCounts
from segtool.core.scoring.scores import dice_of_counts, divide, iou_of_counts


class Cell(NamedTuple):
    """One cell: its text, what it sorts by, and a share from 0 to 1 that is drawn as a bar behind it."""

    text: str
    key: float | str
    bar: float | None = None


class PageTable(NamedTuple):
    """A table that a click on a heading sorts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


def cell(value: Any, *, bar: bool = False, signed: bool = False) -> Cell:
    """Return the cell of a value: numbers with up to four digits behind the point, NaN and None as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell("–", -math.inf)
    if isinstance(value, bool | str) or not isinstance(value, int | float | np.number):
        return Cell(str(value), str(value))
    number = float(value)
    text = _count(int(value)) if isinstance(value, int | np.integer) else f"{number:.4f}"
    text = f"{number:+.4f}" if signed else text
    return Cell(text, number, min(1.0, max(0.0, number)) if bar else None)


def from_frame(title: str, frame: pd.DataFrame, *, bars: Iterable[str] = (), note: str = "") -> PageTable:
    """Return a DataFrame as a table of the page."""
    drawn = set(bars)
    rows = [
        [cell(value, bar=name in drawn) for name, value in zip(frame.columns, row, strict=True)]
        for row in frame.itertuples(index=False, name=None)
    ]
    return PageTable(title, [str(name) for name in frame.columns], rows, note)


def class_table(first: PixelCounts, second: PixelCounts | None) -> PageTable:
    """Return the scores of each class over all pixels; of a second, too, with the paired interval of the difference."""
    total = first.counts.sum(0)
    hits, truth, pred = total[:3]
    columns = ["class", "IoU", "Dice", "precision", "recall", "share of truth"]
    whole = total[3] if first.multi else truth.sum()
    values: list[Any] = [iou_of_counts(total[:3]), dice_of_counts(total[:3]), divide(hits, pred), divide(hits, truth)]
    share = divide(truth, np.broadcast_to(whole, truth.shape))
    rows = [
        [cell(name), *(cell(float(part[index]), bar=part is values[0]) for part in values), cell(float(share[index]))]
        for index, name in enumerate(first.classes)
    ]
    note = ""
    if second is not None:
        columns[2:2] = ["second", "second − first", "95 % interval"]
        shared = [image_id for image_id in first.image_ids if image_id in set(second.image_ids)]
        note = (
            f"Differences of IoU on the {len(shared)} images that both have, by a paired bootstrap over their groups."
        )
        for index, row in enumerate(rows):
            row[2:2] = _difference(first, second, shared, index)
    return PageTable("", columns, rows, note)


def _difference(first: PixelCounts, second: PixelCounts, shared: Sequence[str], index: int) -> list[Cell]:
    sides = []
    for side in (first, second):
        at = {image_id: number for number, image_id in enumerate(side.image_ids)}
        sides.append(side.counts[[at[image_id] for image_id in shared]][:, :3, index])
    at = {image_id: number for number, image_id in enumerate(first.image_ids)}
    groups = np.unique([first.groups[at[i]] or i for i in shared], return_inverse=True)[1].astype(np.int64)

    def iou(total: np.ndarray) -> np.ndarray:
        return np.asarray(divide(total[..., 0], total[..., 1] + total[..., 2] - total[..., 0]))

    value, low, high = seeded_difference([sides[0]], [sides[1]], groups, iou)
    interval = Cell(f"{low:+.4f} to {high:+.4f}", low) if not math.isnan(low) else cell(None)
    return [cell(float(iou(sides[1].sum(0)))), cell(value, signed=True), interval]


def sizes(evaluation: Evaluation) -> PageTable:
    """Return recall and IoU of objects by class and size."""
    multi = len(evaluation.sizes) > len(evaluation.board.classes)
    classes = ["", *evaluation.board.classes] if multi else list(evaluation.board.classes)
    frame = size_table(evaluation.sizes, classes, evaluation.size_bins)
    borders = ", ".join(f"under {border}" for border in evaluation.size_bins)
    note = f"Sizes in pixels of the full image: {borders}, and more. Found: at least half of an object's pixels."
    return from_frame(
        "",
        frame[frame["objects"] > 0].rename(columns={"recall": "found", "iou": "IoU"}),
        bars=("found",),
        note=note,
    )


def confusion_cells(matrix: np.ndarray) -> list[list[tuple[str, str, float]]]:
    """Return for each true and predicted class the per cent of the true class's pixels, their count, and the share."""
    shares = divide(matrix, np.broadcast_to(matrix.sum(1, keepdims=True), matrix.shape))
    return [
        [
            ("", _count(count), 0.0) if math.isnan(share) else (f"{100 * share:.1f}", _count(count), share)
            for share, count in zip(share_row, row, strict=True)
        ]
        for share_row, row in zip(shares.tolist(), matrix.tolist(), strict=True)
    ]


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")
