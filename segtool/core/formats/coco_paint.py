"""Paint COCO polygons and run-lengths as index masks, with the same pixels as pycocotools, whose C code this uses."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from segtool.core import images
from segtool.core.formats.coco import Annotation
from segtool.errors import SegtoolError
from segtool.values import Size

# pycocotools scales coordinates by 5 into C ints and allocates memory along every edge; no image is this large.
FARTHEST = 1e6

Paint = Literal["area", "file", "category"]
Rle = dict[str, Any]


def paint(
    annotations: Sequence[Annotation], class_ids: Sequence[int], size: Size, order: Paint, where: object
) -> images.Array:
    """Paint the index mask of one image.

    Args:
        annotations: the image's annotations, in the order of the file.
        class_ids: class id of each category, by position.
        size: size of the image.
        order: what is painted first, and so is below in an overlap: the largest (in pixels), the first in the file, or
            the smallest category id; ties are painted in the order of the file.
        where: name of the annotation file in errors.

    Returns:
        uint8 (H, W): 0 where there is nothing, 255 where there is only a crowd.

    Raises:
        SegtoolError: a segmentation is malformed, or has another size.
    """
    regions = [(a, to_rle(a.segmentation, size, f"annotation {a.id!r} in {where}")) for a in annotations]
    if order == "area":
        # int: pycocotools returns uint32, whose negative wraps around.
        regions.sort(key=lambda region: -int(coco_mask.area(region[1])))
    elif order == "category":
        regions.sort(key=lambda region: region[0].category)
    # Crowds are painted first, so that objects among them count.
    regions.sort(key=lambda region: not region[0].crowd)
    # Fortran order, like pycocotools' own arrays.
    mask = np.zeros(size, np.uint8, order="F")
    for annotation, rle in regions:
        value = images.IGNORE if annotation.crowd else class_ids[annotation.category]
        np.copyto(mask, value, where=coco_mask.decode(rle).view(bool))
    return np.ascontiguousarray(mask)


def to_rle(segmentation: Any, size: Size, name: str) -> Rle:
    """Convert a segmentation (polygons, run-lengths, or compressed run-lengths) to pycocotools' run-length object.

    Several polygons are one region, their union. A polygon of fewer than three points covers no pixel.

    Raises:
        SegtoolError: the segmentation is malformed or has another size than the image; `name` begins the message.
    """
    if isinstance(segmentation, list):
        return _polygons_to_rle(segmentation, size, name)
    if not isinstance(segmentation, dict) or not isinstance(counts := segmentation.get("counts"), list | str):
        raise SegtoolError(f"{name}: its segmentation is neither a list of polygons nor a run-length object")
    if segmentation.get("size") != list(size):
        raise SegtoolError(f"{name}: its run-lengths have size {segmentation.get('size')}, its image is {list(size)}")
    runs = run_lengths(counts) if isinstance(counts, str) else counts
    # pycocotools does not check: too few runs would leave pixels with whatever is in memory.
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != size.height * size.width:
        raise SegtoolError(f"{name}: its run-lengths are not whole numbers that add up to {size.height} x {size.width}")
    rle: Rle = coco_mask.frPyObjects({"size": list(size), "counts": runs}, *size)
    return rle


def run_lengths(counts: str) -> list[int]:
    """Decode a compressed run-length string to its runs: zeros, ones, zeros, ... down the columns.

    Each run is written in 5-bit groups, lowest first, with a continuation and a sign bit, and from the fourth on as the
    difference from the last but one (`rleToString` in pycocotools' maskApi.c).
    """
    runs: list[int] = []
    run = shift = 0
    for code in counts.encode(errors="replace"):
        group = code - 48
        run |= (group & 31) << shift
        shift += 5
        if not group & 32:
            run -= (1 << shift) if group & 16 else 0
            runs.append(run + (runs[-2] if len(runs) > 2 else 0))
            run = shift = 0
    return runs


def _polygons_to_rle(polygons: list[Any], size: Size, name: str) -> Rle:
    usable = []
    for polygon in polygons:
        try:
            points = np.asarray(polygon, np.float64)
        except (TypeError, ValueError):
            points = np.full(1, np.nan)
        if points.ndim != 1 or points.size % 2 or not (np.abs(points) < FARTHEST).all():
            raise SegtoolError(f"{name}: a polygon is not a list x1, y1, x2, y2, ... of pixel coordinates")
        if points.size >= 6:
            usable.append(points.tolist())
    if not usable:
        raise SegtoolError(f"{name}: it has no polygon of three points or more")
    rle: Rle = coco_mask.merge(coco_mask.frPyObjects(usable, *size))
    return rle
