"""Paint COCO polygons and run-lengths as index masks, with the same pixels as pycocotools, whose C code this uses."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segtool.core import images
from segtool.core.coco_rle import run_lengths
from segtool.core.formats.coco import Annotation
from segtool.errors import SegtoolError
from segtool.values import Size

# pycocotools scales coordinates by 5 into C ints and allocates memory along every edge; no image is this large.
FARTHEST = 1e6
# In images of no more pixels, coordinates from 0 to 1 may be pixels.
SMALL = 4

Rle = dict[str, Any]
Crowd = Literal["ignore", "object", "drop"]


class Painting(NamedTuple):
    """How annotations become a mask.

    Attributes:
        order: what is painted first, and so is below in an overlap: the largest `area` (in pixels), the first in the
            `file`, or the smallest `category` id; ties are painted in the order of the file.
        crowd: whether the pixels of a crowd alone are ignored, count as an `object`, or are not painted (`drop`).
        relative: whether coordinates are shares of width and height instead of pixels.
        unmarked: value of pixels in no annotation.
    """

    order: Literal["area", "file", "category"] = "area"
    crowd: Crowd = "ignore"
    relative: bool = False
    unmarked: int = 0


def paint(
    annotations: Sequence[Annotation], class_ids: Sequence[int | None], size: Size, rules: Painting
) -> images.Array:
    """Paint the index mask of one image.

    Args:
        annotations: the image's annotations, in the order of the file.
        class_ids: class id of each category, by position: 255 is ignored, None is not painted.
        size: size of the image.

    Returns:
        uint8 (H, W): `unmarked` where there is nothing, 255 where only ignored annotations are.

    Raises:
        SegtoolError: a segmentation is malformed, or has another size.
    """
    # Down the columns, as the runs are: work grows with the regions, not with the image times their number.
    flat = np.full(size.height * size.width, rules.unmarked, np.uint8)
    for value, rle in regions(annotations, class_ids, size, rules):
        ends = np.cumsum(run_lengths(rle["counts"].decode()))
        for start, end in ends[: ends.size // 2 * 2].reshape(-1, 2).tolist():
            flat[start:end] = value
    return np.ascontiguousarray(flat.reshape(size.width, size.height).T)


def regions(
    annotations: Sequence[Annotation], class_ids: Sequence[int | None], size: Size, rules: Painting
) -> list[tuple[int, Rle]]:
    """Return the class id and the run-lengths of what is painted, in the order of painting; arguments as `paint`'s."""
    valued = [(annotation, _value(annotation, class_ids, rules.crowd)) for annotation in annotations]
    kept = [
        (annotation, value, to_rle(annotation.segmentation, size, str(annotation), relative=rules.relative))
        for annotation, value in valued
        if value is not None
    ]
    if rules.order == "area":
        # int: pycocotools returns uint32, whose negative wraps around.
        kept.sort(key=lambda region: -int(coco_mask.area(region[2])))
    elif rules.order == "category":
        kept.sort(key=lambda region: region[0].category or 0)
    # What is ignored is painted first, so that objects among it count.
    kept.sort(key=lambda region: region[1] != images.IGNORE)
    return [(value, rle) for _, value, rle in kept]


def _value(annotation: Annotation, class_ids: Sequence[int | None], crowd: Crowd) -> int | None:
    """Return the mask value of an annotation; None if it is not painted."""
    if annotation.category is None:
        return images.IGNORE
    class_id = class_ids[annotation.category]
    if class_id is None or not annotation.crowd:
        return class_id
    return {"ignore": images.IGNORE, "object": class_id, "drop": None}[crowd]


def to_rle(segmentation: Any, size: Size, name: str, *, relative: bool = False) -> Rle:
    """Convert a segmentation to pycocotools' run-length object.

    It is a polygon (x1, y1, x2, y2, ..., or points [x, y] or {x, y}), run-lengths, compressed run-lengths, or a list of
    these. Several are one region, their union. A polygon of fewer than three points covers no pixel. What lies outside
    the image is cut off.

    Args:
        relative: coordinates are shares of width and height.

    Raises:
        SegtoolError: the segmentation is malformed or has another size than the image; `name` begins the message.
    """
    if isinstance(segmentation, dict):
        return _runs_to_rle(segmentation, size, name)
    if not isinstance(segmentation, list):
        raise SegtoolError(f"{name}: its segmentation is neither a list of polygons nor a run-length object")
    if segmentation and all(isinstance(part, dict) and "counts" in part for part in segmentation):
        return _union([_runs_to_rle(part, size, name) for part in segmentation])
    if segmentation and not isinstance(segmentation[0], list | dict):
        segmentation = [segmentation]
    return _polygons_to_rle(segmentation, size, name, relative)


def _union(rles: list[Rle]) -> Rle:
    merged: Rle = coco_mask.merge(rles)
    return merged


def _runs_to_rle(runs_of: Mapping[str, Any], size: Size, name: str) -> Rle:
    counts = runs_of.get("counts")
    if not isinstance(counts, list | str):
        raise SegtoolError(f"{name}: its segmentation is neither a list of polygons nor a run-length object")
    stated = runs_of.get("size", list(size))
    if stated != list(size):
        swapped = " (width and height are swapped)" if stated == list(size)[::-1] else ""
        raise SegtoolError(f"{name}: its run-lengths have size {stated}, its image is {list(size)}{swapped}")
    runs = run_lengths(counts) if isinstance(counts, str) else [_whole(run) for run in counts]
    # pycocotools does not check: too few runs would leave pixels with whatever is in memory.
    if min(runs, default=0) < 0 or sum(runs) != size.height * size.width:
        raise SegtoolError(
            f"{name}: its run-lengths are not whole numbers that add up to {size.height} x {size.width}, but to"
            f" {sum(runs)}"
        )
    rle: Rle = coco_mask.frPyObjects({"size": list(size), "counts": runs}, *size)
    return rle


def _whole(run: Any) -> int:
    """Return a run that may be a float, such as 5.0; -1 for what is no length."""
    if isinstance(run, bool) or not isinstance(run, int | float) or not 0 <= run < 1e12 or run != int(run):
        return -1
    return int(run)


def _polygons_to_rle(polygons: list[Any], size: Size, name: str, relative: bool) -> Rle:
    usable = [points for polygon in polygons if (points := _points(polygon, name)).size >= 6]
    if not usable:
        raise SegtoolError(f"{name}: it has no polygon of three points or more")
    if relative:
        usable = [points * np.resize([size.width, size.height], points.size) for points in usable]
    elif min(size) > SMALL and max(points.max() for points in usable) <= 1 and min(p.min() for p in usable) >= 0:
        raise SegtoolError(
            f"{name}: its coordinates are from 0 to 1, as shares of width and height are: use --relative"
        )
    return _union(coco_mask.frPyObjects([points.tolist() for points in usable], *size))


def _points(polygon: Any, name: str) -> npt.NDArray[np.float64]:
    """Return x1, y1, x2, y2, ... of a polygon in any of its forms. Raises SegtoolError if it is none."""
    try:
        if polygon and isinstance(polygon, list) and isinstance(polygon[0], dict):
            polygon = [[point["x"], point["y"]] for point in polygon]
        points = np.asarray(polygon, np.float64)
    except (TypeError, ValueError, KeyError):
        points = np.full(1, np.nan)
    if points.ndim == 2 and points.shape[1] == 2:
        points = points.ravel()
    if points.ndim != 1 or points.size % 2 or not (np.abs(points) < FARTHEST).all():
        raise SegtoolError(f"{name}: a polygon is not a list x1, y1, x2, y2, ... of pixel coordinates")
    return points
