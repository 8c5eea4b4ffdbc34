"""The table of `segtool noise-rank`: its sorted rows, and the images to keep."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from segtool.core.noise.reports import ImageReport
from segtool.core.noise.suspicion import Suspicion
from segtool.core.tables import read_csv, read_table, to_number, to_whole_number
from segtool.values import Amount

COLUMNS = (
    "image_id",
    "score",
    "suspicion",
    "miou",
    "worst_class",
    "worst_iou",
    "tolerant_iou",
    "softmin",
    "pixel_issues",
    "region_area",
    "region_share",
    "region_left",
    "region_top",
    "region_width",
    "region_height",
    "region_label",
    "region_pred",
    "shift_gain",
    "shift_x",
    "shift_y",
    "outline_gain",
    "outline_class",
    "outline_pixels",
    "disagreement",
    "note",
)
# Where classes may overlap there is a row for each image and class.
PLANE_COLUMNS = ("image_id", "class", *COLUMNS[1:])
# Columns in which low values are suspicious; in the others, high values are.
QUALITY = ("miou", "worst_iou", "tolerant_iou", "softmin")
NOTHING_COUNTS = "all pixels ignored"

Row = dict[str, object]


class Marked(NamedTuple):
    """A row for the sheet: the image, its caption, the box of the suspicious region if there is one, and the class of
    the row, where classes may overlap."""

    image_id: str
    caption: str
    box: tuple[int, int, int, int] | None
    label: str = ""


def make_row(report: ImageReport, suspicion: Suspicion, classes: Sequence[str]) -> Row:
    """Return a row by column, with NaN, "" or no cell where there is no value."""
    row: Row = {
        "image_id": report.image_id,
        "score": suspicion.score,
        "suspicion": suspicion.kind,
        "miou": report.miou,
        "worst_class": classes[report.worst] if report.worst >= 0 else "",
        "worst_iou": report.worst_iou,
        "tolerant_iou": report.tolerant_iou,
        "softmin": report.softmin,
        "pixel_issues": suspicion.pixel_issues,
        "region_share": report.region_share,
        "shift_gain": report.shift.gain if report.pixels else math.nan,
        "shift_x": report.shift.x,
        "shift_y": report.shift.y,
        "outline_gain": report.outline.gain if report.pixels else math.nan,
        "outline_class": classes[report.outline.label] if report.outline.gain else "",
        "outline_pixels": report.outline.pixels,
        "disagreement": report.disagreement,
        "note": "" if report.pixels else NOTHING_COUNTS,
    }
    if region := report.region:
        names = ("region_left", "region_top", "region_width", "region_height")
        row |= dict(zip(names, region.box, strict=True))
        row |= {
            "region_area": region.area,
            "region_label": classes[region.label],
            "region_pred": classes[region.pred],
        }
    return row


def sort_rows(rows: Sequence[Row], column: str, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Sort rows by a column, the most suspicious first, NaN last, equal ones in their original order."""
    # As objects, so that a whole number above an empty cell stays one.
    table = pd.DataFrame(rows, columns=list(columns), dtype=object)
    return table.sort_values(column, ascending=column in QUALITY, kind="stable", ignore_index=True)


def drop_worst(path: Path, ids: Sequence[str], worst: Amount) -> tuple[list[str], int]:
    """Return the ids that are not among the worst of a table, in their original order, and the number dropped.

    A percentage refers to the images of the table; where one has several rows, its first one counts. Ids that the table
    lacks, or in which no pixel counts, are kept.
    """
    table = read_table(path, ("image_id", "note"))
    judged = table["image_id"][table["note"] != NOTHING_COUNTS].drop_duplicates()
    dropped = set(judged[: worst.of(table["image_id"].nunique())])
    return [image_id for image_id in ids if image_id not in dropped], len(dropped)


def read_marked(path: Path, count: int, column: str) -> list[Marked]:
    """Read the first rows of a table for the sheet."""
    return [_mark(row, column, f"{path}: in the row of {row['image_id']!r}") for row in read_csv(path, COLUMNS)[:count]]


def _mark(row: Mapping[str, str], column: str, where: str) -> Marked:
    label = row.get("class", "")
    caption = f"{row['image_id']}{label and ' '}{label}: {column} {_short(row[column], f'{where} {column}')}"
    if row["suspicion"]:
        caption += f", {row['suspicion']}"
    if not row["region_area"]:
        return Marked(row["image_id"], caption, None, label)
    caption += f"; box: labelled {row['region_label']}, predicted {row['region_pred']}"
    sides = [f"region_{side}" for side in ("left", "top", "width", "height")]
    left, top, width, height = (to_whole_number(row[side], f"{where} {side}") for side in sides)
    return Marked(row["image_id"], caption, (left, top, width, height), label)


def _short(cell: str, where: str) -> str:
    return f"{to_number(cell, where):.4f}" if cell else "-"
