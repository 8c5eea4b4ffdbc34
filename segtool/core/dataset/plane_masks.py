"""Write the masks of a data set whose classes may overlap: every import paints into the planes of its classes."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segtool.core import coco_rle, images
from segtool.core.dataset.dataset import Record
from segtool.core.planes import Planes, read_planes, write_planes
from segtool.core.reporting.progress import Track
from segtool.core.reporting.tables import Table
from segtool.core.workers import map_in_processes
from segtool.errors import SegtoolError
from segtool.values import Size

log = logging.getLogger(__name__)

# The class that index masks have for what is in no other; planes do without.
BACKGROUND = "Background"
# Pycocotools' run lengths of a region: its size, and counts as bytes.
Rle = dict[str, Any]


class PlaneTally:
    """The pixels of each class and the images with it; `pixels_of_all` counts those of the images."""

    def __init__(self, classes: int) -> None:
        self.pixels, self.images = np.zeros((2, classes), np.int64)
        self.pixels_of_all = 0

    def add(self, counts: npt.NDArray[np.int64], size: Size) -> None:
        """Add an image, by its pixels of each class, int64 (C,)."""
        self.pixels += counts
        self.images += counts > 0
        self.pixels_of_all += size.height * size.width

    def table(self, classes: Sequence[str]) -> Table:
        """Return each class's share of all pixels; as classes overlap, these need not add up to one."""
        shares = self.pixels / max(1, self.pixels_of_all)
        columns = {"id": range(len(classes)), "class": classes, "pixel share": shares, "images": self.images}
        return Table("Classes, each on its own", columns)


def join_regions(regions: Iterable[tuple[int, Rle]], classes: int, size: Size) -> Planes:
    """Return the planes of regions.

    Args:
        regions: the value that the region would have in an index mask, and its run lengths. Value v is class v - 1; 0,
            the background, is no class; 255 is ignored by the classes that have no region there.
        classes: their number.
    """
    of_value: dict[int, list[Rle]] = {}
    for value, rle in regions:
        of_value.setdefault(value, []).append(rle)
    joined = {value: str(coco_mask.merge(rles)["counts"].decode()) for value, rles in of_value.items()}
    joined = {value: counts for value, counts in joined.items() if coco_rle.area(counts, size)}
    planes = Planes(size, tuple(joined.get(index + 1, "") for index in range(classes)))
    if images.IGNORE not in joined:
        return planes
    expanded, ignored = planes.expand(), coco_rle.decode(joined[images.IGNORE], size).view(np.bool_)
    expanded[(expanded == 0) & ignored] = images.IGNORE
    return Planes.of(expanded)


def encode_region(region: npt.NDArray[np.bool_]) -> Rle:
    """Return the run lengths of a region, bool (H, W)."""
    return {"size": list(region.shape), "counts": coco_rle.encode(region).encode()}


def write_plane_masks(
    records: Sequence[Record], classes: Sequence[str], make: Callable[[Record, Size], Planes], track: Track
) -> PlaneTally:
    """Write the planes of every record, on all cores, except where finished ones exist already.

    Args:
        records: images, and the paths to write their masks to.
        make: returns the planes, from the record and the size of its image; called in other processes.

    Raises:
        SegtoolError: an image cannot be read, or `make` raises it.
    """

    def write(record: Record) -> tuple[npt.NDArray[np.int64], Size, bool]:
        assert record.mask is not None
        size = images.image_size(record.image)
        finished = _finished(record.mask, size, classes)
        planes = finished or make(record, size)
        if finished is None:
            write_planes(record.mask, planes, classes)
        areas = [coco_rle.area(counts, size) for counts in planes.counts]
        return np.array(areas, np.int64), size, finished is not None

    tally, kept = PlaneTally(len(classes)), 0
    for counts, size, was_finished in track(map_in_processes(write, records, None), total=len(records), label="masks"):
        tally.add(counts, size)
        kept += was_finished
    if kept:
        log.info("%d masks of an earlier, interrupted call are reused", kept)
    return tally


def _finished(path: Path, size: Size, classes: Sequence[str]) -> Planes | None:
    if not path.is_file():
        return None
    try:
        planes = read_planes(path, classes)
    except SegtoolError:
        return None
    return planes if planes.size == size else None
