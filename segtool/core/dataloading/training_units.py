"""The units that an epoch draws, training images or windows of them, and the pixels of each class in each unit."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.geometry import Rectangle, starts
from segtool.core.images import Array, resize_mask
from segtool.core.planes import class_pixels
from segtool.core.reporting.progress import Track
from segtool.core.tables import read_csv, to_whole_number, write_csv
from segtool.errors import SegtoolError
from segtool.settings.data import SizeSettings
from segtool.values import Size

log = logging.getLogger(__name__)

COLUMNS = ("source", "image_id", "top", "left", "height", "width")
# A prefix, as a class may have the name of another column.
PIXELS = "pixels of "


@dataclass(frozen=True)
class TrainingUnits:
    """The images or windows that an epoch draws.

    records: the record of each unit; the same for all windows of an image.
    boxes: the window of each unit; None if units are whole images.
    counts: pixels of each class in each unit, int64 (N, C); None if no option needs them.
    """

    records: tuple[Record, ...]
    boxes: tuple[Rectangle, ...] | None = None
    counts: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def shares(self) -> tuple[float, ...]:
        """Each class's share of all counted pixels; empty if nothing was counted."""
        if self.counts is None:
            return ()
        pixels = self.counts.sum(axis=0)
        return tuple((pixels / max(1, pixels.sum())).tolist())


def count_units(path: Path, dataset: Dataset, records: Sequence[Record], size: SizeSettings, track: Track) -> None:
    """Go through the masks once, one in memory, and write the place of each unit and its pixels per class.

    Windows with less than `size.min_foreground` are left out.

    Raises:
        SegtoolError: a mask is wrong, or no window is left.
    """
    columns = (*COLUMNS, *(PIXELS + name for name in dataset.classes))
    total = kept = 0

    def rows() -> Iterator[tuple[object, ...]]:
        nonlocal total, kept
        for record in track(records, total=len(records), label="reading masks"):
            for box, counts, foreground in _units_of(dataset.read_mask(record), size, len(dataset.classes)):
                total += 1
                if not size.min_foreground or foreground >= size.min_foreground * box.height * box.width:
                    kept += 1
                    yield (dataset.source(record), record.image_id, *box, *counts.tolist())

    write_csv(path, columns, rows())
    if not kept:
        path.unlink()
        raise SegtoolError(
            f"--min-foreground {size.min_foreground:g}: none of {total} windows of {len(records)} images has that much"
        )
    if size.window:
        log.info("%d of %d windows of %d images", kept, total, len(records))


def read_units(path: Path, dataset: Dataset, records: Sequence[Record], *, windows: bool) -> TrainingUnits:
    """Read what `count_units` wrote for these records."""
    by_name = {(dataset.source(record), record.image_id): record for record in records}
    names = [PIXELS + name for name in dataset.classes]
    rows = read_csv(path, (*COLUMNS, *names))
    try:
        unit_records = tuple(by_name[row["source"], row["image_id"]] for row in rows)
        boxes = tuple(Rectangle(*(to_whole_number(row[column], path) for column in COLUMNS[2:])) for row in rows)
        counts = np.array([[to_whole_number(row[name], path) for name in names] for row in rows], np.int64)
    except (KeyError, SegtoolError) as error:
        raise SegtoolError(f"{path} does not belong to this run ({error}); remove it to have it made again") from error
    return TrainingUnits(unit_records, boxes if windows else None, counts)


def _units_of(mask: Array, size: SizeSettings, classes: int) -> Iterator[tuple[Rectangle, npt.NDArray[np.int64], int]]:
    """Yield the windows of a mask (H, W) or planes (C, H, W), their pixels of each class, and those with an object."""
    resized = size.resized(Size(*mask.shape[-2:]))
    mask = resize_mask(mask, resized) if mask.ndim == 2 else np.stack([resize_mask(plane, resized) for plane in mask])
    height, width = size.window or mask.shape[-2:]
    down, right = size.stride or (height, width)
    for top in starts(mask.shape[-2], height, down):
        for left in starts(mask.shape[-1], width, right):
            part = mask[..., top : top + height, left : left + width]
            box = Rectangle(top, left, *part.shape[-2:])
            counts = class_pixels(part, classes)
            yield box, counts, int((part == 1).any(0).sum() if part.ndim == 3 else counts[1:].sum())
