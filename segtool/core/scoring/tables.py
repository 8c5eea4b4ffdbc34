"""The tables of `segtool evaluate`: what its CSV files hold and what it shows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from segtool.core.reporting.tables import Table
from segtool.core.scoring import objects
from segtool.core.scoring.boundary import BoundaryBoard
from segtool.core.scoring.fits import Fit
from segtool.core.scoring.planes import SCORED, MultiScoreBoard
from segtool.core.scoring.scores import ScoreBoard, divide

MEANS = {
    "miou": "mIoU",
    "image_miou": "image mIoU",
    "dice": "Dice",
    "image_dice": "image Dice",
    "pixel_accuracy": "pixel accuracy",
}
# Of classes that may overlap.
MULTI_MEANS = {
    "miou": "mIoU",
    "image_miou": "image mIoU, empty = 1",
    "image_miou_present": "image mIoU without empty",
    "dice": "Dice",
    "image_dice": "image Dice, empty = 1",
    "image_dice_present": "image Dice without empty",
    "pixel_accuracy": "pixel accuracy of classes",
}
Board = ScoreBoard | MultiScoreBoard


def files(
    board: Board, sizes: objects.Counts, borders: Sequence[int], outlines: BoundaryBoard | None = None
) -> dict[str, pd.DataFrame]:
    """File name → its table: per_image.csv, per_class.csv, by_size.csv and, where each pixel has one class,
    confusion.csv."""
    tables = {
        "per_image.csv": board.table().assign(**(outlines.per_image() if outlines else {})),
        "per_class.csv": per_class(board, outlines),
        "by_size.csv": by_size(board, sizes, borders),
    }
    return tables | ({"confusion.csv": confusion_table(board)} if isinstance(board, ScoreBoard) else {})


def shown(
    title: str,
    board: Board,
    sizes: objects.Counts,
    borders: Sequence[int],
    fits: Sequence[Fit],
    outlines: BoundaryBoard | None = None,
) -> list[Table]:
    """What a reader wants first: classes, recall of objects by size, and the means last, with the nested scores of what
    was fitted on these images."""
    summary, labels = board.summary(), MEANS if isinstance(board, ScoreBoard) else MULTI_MEANS
    scores = {label: summary[name] for name, label in labels.items()}
    if outlines:
        means = outlines.summary()
        scores |= {f"NSD at {outlines.tolerance:g} pixels": means["nsd"], "HD95 in pixels": means["hd95"]}
    rows = [*scores.items(), *((f"{fit.score} ({fit.source})", fit.nested) for fit in fits)]
    if board.exclude:
        title += f"; means without {', '.join(board.classes[index] for index in board.exclude)}"
    return [
        Table("Classes", per_class(board, outlines)),
        _recall_by_size(board, sizes, borders),
        Table(f"Scores: {title}", pd.DataFrame(rows, columns=["score", "value"]).astype({"value": float})),
    ]


def per_class(board: Board, outlines: BoundaryBoard | None = None) -> pd.DataFrame:
    """One row per class: pooled scores, its share of the scored pixels, true and predicted pixels, boundary scores."""
    scores = board.scores()
    if isinstance(board, ScoreBoard):
        truth, pred = board.total.sum(1), board.total.sum(0)
        scored = np.full_like(truth, truth.sum())
    else:
        truth, pred, scored = board.total[1], board.total[2], board.total[SCORED]
    columns = {
        "class": board.classes,
        "iou": scores.iou,
        "dice": scores.class_dice,
        "precision": scores.precision,
        "recall": scores.recall,
        "share": divide(truth, scored),
        "pixels": truth,
        "predicted": pred,
        **(outlines.per_class() if outlines else {}),
    }
    return pd.DataFrame(columns)


def confusion_table(board: ScoreBoard) -> pd.DataFrame:
    """Pixels by true class (rows) and predicted class (columns)."""
    table = pd.DataFrame(board.total, columns=board.classes)
    # A class may be called `truth`.
    table.insert(0, "truth", board.classes, allow_duplicates=True)
    return table


def by_size(board: Board, sizes: objects.Counts, borders: Sequence[int]) -> pd.DataFrame:
    """One row per class but the background, and bin of object sizes."""
    return objects.size_table(sizes, _with_background(board), borders)


def _with_background(board: Board) -> Sequence[str]:
    """Return the classes as counts of objects have them: the first is the background."""
    return board.classes if isinstance(board, ScoreBoard) else ("", *board.classes)


def _recall_by_size(board: Board, sizes: objects.Counts, borders: Sequence[int]) -> Table:
    """One row per class but the background: for every size the objects and the share of them that was found."""
    grouped = by_size(board, sizes, borders).set_index("class").groupby("size", sort=False)
    parts = [part[["objects", "recall"]].set_axis([size, "recall"], axis="columns") for size, part in grouped]
    under = ", ".join(f"under {border}" for border in borders)
    title = f"Objects by size ({under}, more pixels), and the share found"
    return Table(title, pd.concat(parts, axis="columns").reset_index())
