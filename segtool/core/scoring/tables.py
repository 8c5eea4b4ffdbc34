"""The tables of `segtool evaluate`: what its CSV files hold and what it shows."""

from collections.abc import Sequence

import numpy as np

from segtool.core.reporting.tables import Table
from segtool.core.scoring import objects
from segtool.core.scoring.fits import Fit
from segtool.core.scoring.scores import ScoreBoard, divide


def files(board: ScoreBoard, sizes: objects.Counts, borders: Sequence[int]) -> dict[str, Table]:
    """File name → its columns and rows: per_image.csv, per_class.csv, by_size.csv, confusion.csv."""
    return {
        "per_image.csv": Table("", board.columns, board.rows()),
        "per_class.csv": per_class(board),
        "by_size.csv": Table("", objects.COLUMNS, objects.object_rows(sizes, board.classes, borders)),
        "confusion.csv": confusion_table(board),
    }


def shown(
    title: str, board: ScoreBoard, sizes: objects.Counts, borders: Sequence[int], fits: Sequence[Fit]
) -> list[Table]:
    """What a reader wants first: classes, recall of objects by size, and the means last, with the nested scores of what
    was fitted on these images."""
    means = {name: value for name, value in board.summary().items() if name in MEANS}
    rows: list[list[object]] = [
        [label, np.nan if means[name] is None else means[name]] for name, label in MEANS.items()
    ]
    rows += [[f"{fit.score} ({fit.source})", np.nan if fit.nested is None else fit.nested] for fit in fits]
    if board.exclude:
        title += f"; means without {', '.join(board.classes[index] for index in board.exclude)}"
    return [
        per_class(board),
        _recall_by_size(board, sizes, borders),
        Table(f"Scores: {title}", ("score", "value"), rows),
    ]


MEANS = {
    "miou": "mIoU",
    "image_miou": "image mIoU",
    "dice": "Dice",
    "image_dice": "image Dice",
    "pixel_accuracy": "pixel accuracy",
}


def per_class(board: ScoreBoard) -> Table:
    """One row per class: pooled scores, its share of the scored pixels, true and predicted pixels."""
    scores, truth, pred = board.scores(), board.total.sum(1), board.total.sum(0)
    share = divide(truth, np.full_like(truth, truth.sum()))
    columns = [scores.iou, scores.class_dice, scores.precision, scores.recall, share, truth, pred]
    return Table(
        "Classes",
        ("class", "iou", "dice", "precision", "recall", "share", "pixels", "predicted"),
        [list(row) for row in zip(board.classes, *(column.tolist() for column in columns), strict=True)],
    )


def confusion_table(board: ScoreBoard) -> Table:
    """Pixels by true class (rows) and predicted class (columns)."""
    rows = [[name, *counts] for name, counts in zip(board.classes, board.total.tolist(), strict=True)]
    return Table("Confusion", ["truth", *board.classes], rows)


def _recall_by_size(board: ScoreBoard, sizes: objects.Counts, borders: Sequence[int]) -> Table:
    """One row per class but the background: for every size the objects and the share of them that was found."""
    recall = divide(sizes[..., objects.FOUND], sizes[..., objects.OBJECTS])
    rows: list[list[object]] = [
        [name, *(cell for s in range(len(borders) + 1) for cell in (int(sizes[c, s, objects.OBJECTS]), recall[c, s]))]
        for c, name in enumerate(board.classes[1:], 1)
    ]
    columns = [text for size in objects.size_names(borders) for text in (size, "recall")]
    under = ", ".join(f"under {border}" for border in borders)
    return Table(f"Objects by size ({under}, more pixels), and the share found", ["class", *columns], rows)
