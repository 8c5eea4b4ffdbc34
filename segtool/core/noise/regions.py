"""Connected regions where a confident prediction contradicts the label, and whether they are whole objects."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array

Flags = npt.NDArray[np.bool_]

# Number of an image's regions, those with the most weight, that are examined.
EXAMINED = 8


@dataclass(frozen=True)
class Region:
    """A connected region where a confident prediction contradicts the label.

    Attributes:
        weight: the sum over its pixels of (top probability - the label's), times `whole`, in pixels.
        whole: in [0, 1]: 1 if the label marks nothing of the predicted object, or if nothing of the labelled object is
            predicted as it is labelled; near 0 if only their boundaries differ.
        area: in pixels.
        box: left, top, width, height in pixels.
        label, pred: the label of most of its pixels, and the predicted class.
    """

    weight: float
    whole: float
    area: int
    box: tuple[int, int, int, int]
    label: int
    pred: int


def near_boundary(label: Array, pixels: int) -> Flags:
    """Mark pixels with another label, or an ignored one, at most `pixels` away in either direction; bool (H, W)."""
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
    """Return the region with the most weight, None if nothing contradicts the label.

    Networks get parts of objects wrong, where a class spills over into its neighbour; annotators forget or confuse
    whole ones. So the weight of a region depends on how whole an object it is.

    Args:
        label: uint8 (H, W), class ids and 255 = ignore.
        pred: uint8 (H, W), class ids.
        margin: uint8 (H, W), 255 * (top probability - the label's) where a confident prediction contradicts the label
            away from its boundaries, 0 elsewhere.
    """
    candidates = [
        region for c in np.flatnonzero(np.bincount(pred[margin > 0])) for region in _of_class(margin, pred, int(c))
    ]
    heaviest = sorted(candidates, key=lambda region: -region[0])[:EXAMINED]
    regions = [_examine(label, pred, *region) for region in heaviest]
    return max(regions, key=lambda region: region.weight, default=None)


def _of_class(margin: Array, pred: Array, c: int) -> list[tuple[float, int, tuple[int, int, int, int], Flags]]:
    """Return weight, class, box and pixels (within the box) of the heaviest regions predicted as a class."""
    against = ((margin > 0) & (pred == c)).view(np.uint8)
    count, ids, stats, _ = cv2.connectedComponentsWithStats(against, connectivity=8, ltype=cv2.CV_32S)
    weights = np.bincount(ids.ravel(), margin.ravel(), count) / 255
    regions = []
    for n in sorted(range(1, count), key=lambda n: -weights[n])[:EXAMINED]:
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
    """Return the 8-connected component of `where` that contains the pixel `seed`."""
    filled = where.astype(np.uint8)
    cv2.floodFill(filled, None, seed[::-1], 2, flags=8)
    return filled == 2


def _share(of: Flags, where: Flags) -> float:
    return float(np.count_nonzero(of & where) / max(1, int(np.count_nonzero(of))))
