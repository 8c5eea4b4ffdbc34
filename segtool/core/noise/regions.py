"""Where a confident prediction and the label disagree: connected regions, and whether they are whole objects."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array

Flags = npt.NDArray[np.bool_]

# Of an image's regions, those with the most weight are looked at closely.
LOOKED_AT = 8


@dataclass(frozen=True)
class Region:
    """A connected region where a confident prediction contradicts the label.

    Attributes:
        weight: the sum over its pixels of (top probability - the label's), times `whole`, in pixels.
        whole: in [0, 1]: 1 where the label marks nothing of the predicted object, or where nothing of the labelled
            object is predicted as it is labelled; near 0 where both only end elsewhere.
        area: in pixels.
        box: left, top, width, height in pixels.
        label, pred: the class most of it is labelled as, and the class predicted.
    """

    weight: float
    whole: float
    area: int
    box: tuple[int, int, int, int]
    label: int
    pred: int


def near_boundary(label: Array, pixels: int) -> Flags:
    """Where a pixel of another label, or an ignored one, is at most `pixels` away in either direction; bool (H, W)."""
    if pixels == 0:
        return np.zeros(label.shape, bool)
    edge = np.zeros(label.shape, np.uint8)
    across, down = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    if pixels > 1:
        side = 2 * pixels - 1
        edge = cv2.dilate(edge, np.ones((side, side), np.uint8))
    return edge.astype(bool)


def suspicious_region(label: Array, pred: Array, margin: Array) -> Region | None:
    """The region with the most weight; None where nothing contradicts the label.

    Networks err by parts of objects: a class spills over into its neighbour. Annotators forget or confuse whole ones.
    So what is counted is not a region's weight alone but how whole an object it is.

    Args:
        label: uint8 (H, W), class ids and 255 = ignore.
        pred: uint8 (H, W), class ids.
        margin: uint8 (H, W), 255 * (top probability - the label's) where a confident prediction contradicts the label
            away from its boundaries, 0 elsewhere.
    """
    found = [
        region for c in np.flatnonzero(np.bincount(pred[margin > 0])) for region in _of_class(margin, pred, int(c))
    ]
    found = sorted(found, key=lambda region: -region[0])[:LOOKED_AT]
    regions = [_examine(label, pred, *region) for region in found]
    return max(regions, key=lambda region: region.weight, default=None)


def _of_class(margin: Array, pred: Array, c: int) -> list[tuple[float, int, tuple[int, int, int, int], Flags]]:
    """Weight, class, box and pixels (within the box) of the heaviest regions predicted as a class."""
    against = ((margin > 0) & (pred == c)).view(np.uint8)
    count, ids, stats, _ = cv2.connectedComponentsWithStats(against, connectivity=8, ltype=cv2.CV_32S)
    weights = np.bincount(ids.ravel(), margin.ravel(), count) / 255
    regions = []
    for n in sorted(range(1, count), key=lambda n: -weights[n])[:LOOKED_AT]:
        left, top, width, height, _ = map(int, stats[n])
        inside = ids[top : top + height, left : left + width] == n
        regions.append((float(weights[n]), c, (left, top, width, height), inside))
    return regions


def _examine(label: Array, pred: Array, weight: float, c: int, box: tuple[int, int, int, int], inside: Flags) -> Region:
    left, top, width, height = box
    window = slice(top, top + height), slice(left, left + width)
    labelled = int(np.bincount(label[window][inside]).argmax())
    row, column = map(int, np.argwhere(inside & (label[window] == labelled))[0])
    seed = top + row, left + column
    counted = label != IGNORE
    whole = max(
        1 - _share(_component(pred == c, seed) & counted, label == c),
        1 - _share(_component(label == labelled, seed), pred == labelled),
    )
    return Region(weight * whole, whole, int(inside.sum()), box, labelled, c)


def _component(where: Flags, seed: tuple[int, int]) -> Flags:
    """The 8-connected component of `where` that holds the pixel `seed`."""
    filled = where.astype(np.uint8)
    cv2.floodFill(filled, None, seed[::-1], 2, flags=8)
    return filled == 2


def _share(of: Flags, where: Flags) -> float:
    return float(np.count_nonzero(of & where) / max(1, int(np.count_nonzero(of))))
