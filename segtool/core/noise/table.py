"""The table of `segtool noise-rank`: its rows in their order, and which images to keep."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segtool.core.noise.findings import Finding
from segtool.core.noise.suspicion import Suspicion
from segtool.core.tables import read_csv, to_number, to_whole_number
from segtool.settings.options import Amount

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
# Columns in which low values are suspicious; in the others it is high ones.
QUALITY = ("miou", "worst_iou", "tolerant_iou", "softmin")
NOTHING_COUNTS = "all pixels ignored"

Row = dict[str, object]


class Marked(NamedTuple):
    """A row as a sheet shows it: the image, words on it, and the box of its suspicious region if there is one."""

    image_id: str
    caption: str
    box: tuple[int, int, int, int] | None


def make_row(finding: Finding, suspicion: Suspicion, classes: Sequence[str]) -> Row:
    """A row by column; NaN and "" where there is nothing to say."""
    row: Row = {
        "image_id": finding.image_id,
        "score": suspicion.score,
        "suspicion": suspicion.kind,
        "miou": finding.miou,
        "worst_class": classes[finding.worst] if finding.worst >= 0 else "",
        "worst_iou": finding.worst_iou,
        "tolerant_iou": finding.tolerant_iou,
        "softmin": finding.softmin,
        "pixel_issues": suspicion.pixel_issues,
        "region_share": finding.region_share,
        "shift_gain": finding.shift.gain if finding.pixels else math.nan,
        "shift_x": finding.shift.x,
        "shift_y": finding.shift.y,
        "outline_gain": finding.outline.gain if finding.pixels else math.nan,
        "outline_class": classes[finding.outline.label] if finding.outline.gain else "",
        "outline_pixels": finding.outline.pixels,
        "disagreement": finding.disagreement,
        "note": "" if finding.pixels else NOTHING_COUNTS,
    }
    if region := finding.region:
        names = ("region_left", "region_top", "region_width", "region_height")
        row |= dict(zip(names, region.box, strict=True))
        row |= {
            "region_area": region.area,
            "region_label": classes[region.label],
            "region_pred": classes[region.pred],
        }
    return {column: row.get(column, "") for column in COLUMNS}


def in_order(rows: Sequence[Row], column: str) -> list[Row]:
    """The rows with the most suspicious value of a column first, NaN last, equal ones as they come."""
    sign = 1 if column in QUALITY else -1

    def key(row: Row) -> tuple[bool, float]:
        value = row[column]
        assert isinstance(value, float)
        return math.isnan(value), sign * value

    return sorted(rows, key=key)


def kept(path: Path, ids: Sequence[str], worst: Amount) -> tuple[list[str], int]:
    """The ids that are not among the worst of a table, in their own order, and how many are left out.

    A percentage is one of the table's rows. What the table does not know stays, as do images where nothing counts.
    """
    rows = read_csv(path, ("image_id", "note"))
    judged = [row["image_id"] for row in rows if row["note"] != NOTHING_COUNTS]
    dropped = set(judged[: worst.of(len(rows))])
    return [image_id for image_id in ids if image_id not in dropped], len(dropped)


def marked(path: Path, count: int, column: str) -> list[Marked]:
    """The first rows of a table as a sheet shows them."""
    return [_mark(row, column, f"{path}: in the row of {row['image_id']!r}") for row in read_csv(path, COLUMNS)[:count]]


def _mark(row: Mapping[str, str], column: str, where: str) -> Marked:
    caption = f"{row['image_id']}: {column} {_short(row[column], f'{where} {column}')}"
    if row["suspicion"]:
        caption += f", {row['suspicion']}"
    if not row["region_area"]:
        return Marked(row["image_id"], caption, None)
    caption += f"; box: labelled {row['region_label']}, predicted {row['region_pred']}"
    sides = [f"region_{side}" for side in ("left", "top", "width", "height")]
    left, top, width, height = (to_whole_number(row[side], f"{where} {side}") for side in sides)
    return Marked(row["image_id"], caption, (left, top, width, height))


def _short(cell: str, where: str) -> str:
    return f"{to_number(cell, where):.4f}" if cell else "-"
