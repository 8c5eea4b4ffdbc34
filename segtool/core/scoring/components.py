"""The 8-connected components of all classes of a mask at once.

Masks are made of regions, so runs of equal pixels along rows are joined, not pixels. At 1024x1024 and eleven classes
that takes 3 ms where OpenCV, class by class, takes 90 ms; on pure noise both take as long.
"""

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from segtool.core.images import Array

Ints = npt.NDArray[np.int64]
Value = TypeVar("Value", bound=np.generic)


class Runs(NamedTuple):
    """Runs of equal pixels of a mask along its rows, in the order of its pixels.

    Attributes:
        starts: the first pixel of each run, counted through the whole mask, (R,).
        lengths: pixels of each run, (R,).
        areas: pixels of the component that each run belongs to, (R,).
        components: the first run of that component, which names it, (R,).
    """

    starts: Ints
    lengths: Ints
    areas: Ints
    components: Ints

    def highest(self, values: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """Return the highest of the mask's pixels' values (H, W) in the component of each run, (R,)."""
        by_run = np.maximum.reduceat(values.reshape(-1), self.starts)
        highest = by_run.copy()
        np.maximum.at(highest, self.components, by_run)
        return highest[self.components]


def component_runs(mask: Array, truth: Array | None = None) -> Runs:
    """Return the runs of a mask, uint8 (H, W), and how large their components are; runs also end where `truth` changes.

    A component's pixels have one value in `mask`, whatever they have in `truth`.
    """
    first = np.ones(mask.shape, np.bool_)
    np.not_equal(mask[:, 1:], mask[:, :-1], out=first[:, 1:])
    if truth is not None:
        first[:, 1:] |= truth[:, 1:] != truth[:, :-1]
    starts = np.flatnonzero(first)
    lengths = np.diff(starts, append=mask.size)
    values = mask.reshape(-1)[starts]
    below, above = _touching(starts, lengths, mask.shape[1])
    beside = np.flatnonzero(starts[1:] % mask.shape[1] > 0)
    one, other = np.concatenate([above, beside]), np.concatenate([below, beside + 1])
    same = values[one] == values[other]
    labels = _joined(len(starts), one[same], other[same])
    # Pixels are summed up as float64: exact up to 2^53.
    return Runs(starts, lengths, np.bincount(labels, lengths).astype(np.int64)[labels], labels)


def _touching(starts: Ints, lengths: Ints, width: int) -> tuple[Ints, Ints]:
    """Return all pairs of a run and one in the row above that it touches, be it by a corner."""
    top = int(np.searchsorted(starts, width))
    rows = starts[top:] // width * width
    left = np.maximum(starts[top:] - 1, rows) - width
    right = np.minimum(starts[top:] + lengths[top:], rows + width - 1) - width
    leftmost, rightmost = (np.searchsorted(starts, pixels, side="right") - 1 for pixels in (left, right))
    counts = rightmost - leftmost + 1
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(np.arange(top, len(starts)), counts), np.repeat(leftmost, counts) + nth


def _joined(count: int, one: Ints, other: Ints) -> Ints:
    """Return for each of `count` runs the lowest one it is joined to through pairs of neighbours."""
    labels = np.arange(count)
    while len(one):
        first, second = labels[one], labels[other]
        np.minimum.at(labels, np.maximum(first, second), np.minimum(first, second))
        while np.any(labels != (shorter := labels[labels])):
            labels = shorter
        apart = labels[one] != labels[other]
        one, other = one[apart], other[apart]
    return labels
