"""Tables of the page: what a cell shows and what it sorts by, and shares drawn as bars."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from segtool.core.scoring.scores import divide

# What the page calls columns of tables.
HEADINGS = {
    "image_id": "image",
    "miou": "mIoU",
    "dice": "Dice",
    "pixel_accuracy": "pixel accuracy",
    "recall": "found",
    "iou": "IoU",
    "worst_class": "worst class",
    "worst_iou": "its IoU",
    "region_label": "region: label",
    "region_pred": "region: predicted",
    "region_share": "region: share",
}


class Cell(NamedTuple):
    """One cell: its text, what it sorts by, a share from 0 to 1 that is drawn as a bar behind it, and bold or not."""

    text: str
    key: float | str
    bar: float | None = None
    strong: bool = False


class PageTable(NamedTuple):
    """A table that a click on a heading sorts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers, which are aligned on the right and sorted by value."""
        return all(not isinstance(row[column].key, str) for row in self.rows)


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
    return PageTable(title, [HEADINGS.get(str(name), str(name)) for name in frame.columns], rows, note)


def size_table(frame: pd.DataFrame, borders: Sequence[int]) -> PageTable:
    """Return recall and IoU of objects by class and size, as in by_size.csv."""
    limits = ", ".join(f"under {border:,}".replace(",", " ") for border in borders)
    note = (
        f"Area in pixels of the full image: {limits}, and more. Found: at least half of an object's pixels are"
        " predicted as its class."
    )
    return from_frame("", frame[frame["objects"] > 0], bars=("recall", "iou"), note=note)


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
