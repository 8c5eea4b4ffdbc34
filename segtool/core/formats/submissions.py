"""Submissions in CSV: the class ids of all pixels, or run lengths."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.files import atomic
from segtool.core.formats.run_lengths import Numbering, Region, encode, encode_runs, find_runs
from segtool.core.formats.submission_rows import Layout, Row
from segtool.core.images import Array

PIXELS_HEADER = ("image_id", "PredictionString")

# An image's regions by class id: bool (H, W), which may overlap.
Regions = Callable[[int], Region]

# The text of every value, padded with NUL to one width: indexing it converts all pixels at once.
_TEXTS = np.array([f"{value} ".encode() for value in range(256)])


def pixels_string(mask: Array) -> str:
    """Return the class ids of a mask, uint8 (H, W), row by row, separated by single spaces.

    >>> pixels_string(np.array([[0, 12], [3, 0]], np.uint8))
    '0 12 3 0'
    """
    return _TEXTS[mask].tobytes().translate(None, b"\0").decode("ascii").rstrip()


def write_pixels(path: Path, masks: Iterable[tuple[str, Array]], layout: Layout | None = None) -> None:
    """Write all class ids of every mask atomically, one mask in memory at a time.

    Args:
        masks: (image_id, uint8 (H, W)) in the order of the file.
        layout: the rows; without it `image_id,PredictionString`.
    """
    header = layout.header if layout else PIXELS_HEADER
    rows = (rows for _, rows in layout.by_image()) if layout else None
    _write_rows(
        path,
        header,
        (
            (row, pixels_string(mask))
            for image_id, mask in masks
            for row in (next(rows) if rows else [Row(image_id, (image_id,))])
        ),
    )


def write_rle(
    path: Path,
    images: Iterable[tuple[str, Regions]],
    layout: Layout,
    numbering: Numbering,
    *,
    objects: bool = False,
    empty: str = "",
) -> None:
    """Write run lengths atomically, one image in memory at a time.

    Args:
        images: image_id and regions, in the order of `layout.by_image()`.
        layout: the rows.
        objects: each 8-connected object of a class gets a row of its own, and an empty mask one.
        empty: what stands for an empty mask.
    """
    # An empty mask may be any text; run lengths need no quotes.
    nothing = _line([empty]) if empty else ""

    def rows() -> Iterable[tuple[Row, str]]:
        for (_, regions), (_, own) in zip(images, layout.by_image(), strict=True):
            for row in own:
                texts = _objects(regions, row.classes, numbering) if objects else [_union(regions, row, numbering)]
                yield from ((row, text or nothing) for text in texts or [""])

    _write_rows(path, layout.header, rows())


def label_objects(region: Region) -> npt.NDArray[np.int32]:
    """Number the 8-connected objects of a region, bool (H, W), from 1: int32 (H, W)."""
    return np.asarray(cv2.connectedComponents(region.view(np.uint8), connectivity=8)[1], np.int32)


def _union(regions: Regions, row: Row, numbering: Numbering) -> str:
    return encode(reduce(np.logical_or, map(regions, row.classes)), numbering)


def _objects(regions: Regions, classes: Sequence[int], numbering: Numbering) -> list[str]:
    return [
        encode_runs(runs, numbering.base)
        for index in classes
        for runs in find_runs(label_objects(regions(index)), numbering.order).values()
    ]


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[tuple[Row, str]]) -> None:
    with atomic(path) as file:
        file.write(_line(header) + "\n")
        for row, text in rows:
            # The csv module would check every character of the prediction, too.
            file.write(f"{_line(row.before)},{text}" if row.before else text)
            file.write(f",{_line(row.after)}\n" if row.after else "\n")


def _line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
