"""Pseudo-labels of classes that may overlap: in each class a pixel is positive, negative, or uncertain.

With a threshold T of at least 0.5, a pixel is positive where p >= T and negative where p <= 1 - T. Between them nobody
learns from it: it is uncertain in this class, whatever it is in others.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from segtool.core.images import IGNORE
from segtool.core.planes import Planes, read_notes, read_planes
from segtool.core.predictions.bit_planes import HALF, BitPlanes
from segtool.core.predictions.probability_maps import SCALE, ProbReader, lowest_level
from segtool.core.reporting.tables import Table
from segtool.core.scoring.scores import divide
from segtool.core.tables import to_whole_number
from segtool.errors import SegtoolError
from segtool.values import Size

Ints = npt.NDArray[np.int64]

# Rows of an image's counts.
COUNTED = ("pixels", "predicted", "positive", "negative", "changed")


def label_planes(reader: ProbReader, levels: Ints, given: Planes | None = None) -> tuple[Planes, Ints]:
    """Turn one image's probabilities into planes, band by band.

    Args:
        reader: the stored probabilities.
        levels: (C,), the lowest level that counts as positive, of each class; as far from the other end it is negative.
        given: the planes that are corrected. Confident pixels take the prediction, but where the given ones are
            unknown: they have no label that could be wrong. All others keep what they have. Without it they are
            uncertain.

    Returns:
        The planes; and counts, int64 (5, C), in the order of `COUNTED`: the pixels of the image, those predicted as the
        class (from 0.5), the positive and the negative ones, and those that got another label than they had.
    """
    classes, height, width = reader.shape
    size, counts = Size(height, width), np.zeros((len(COUNTED), classes), np.int64)
    counts[0] = height * width
    positive, negative = BitPlanes(classes, size), BitPlanes(classes, size)
    least = levels.astype(np.uint16)[:, None, None]
    for rows, band in reader.bands():
        counts[1] += (band >= lowest_level(HALF)).sum((1, 2))
        positive.add(rows.start, band >= least)
        negative.add(rows.start, band <= SCALE - least)
    planes = []
    for index in range(classes):
        above, below = (bits.plane(index).view(np.bool_) for bits in (positive, negative))
        # Of T = 0.5 the level in the middle is both.
        below &= ~above
        before = np.full(size, IGNORE, np.uint8) if given is None else given.plane(index)
        plane = np.where(above, np.uint8(1), np.where(below, np.uint8(0), before))
        if given is not None:
            plane[before == IGNORE] = IGNORE
            counts[4, index] = (plane != before).sum()
        counts[2:4, index] = above.sum(), below.sum()
        planes.append(plane)
    return Planes.of(planes), counts


def positive_histograms(readers: Iterable[ProbReader], classes: int) -> Ints:
    """How many pixels have each level from 0.5 on, of each class, int64 (C, 65536); exact, one band in memory."""
    found = np.zeros((classes, SCALE + 1), np.int64)
    for reader in readers:
        for _, levels in reader.bands():
            for index, plane in enumerate(levels):
                found[index] += np.bincount(plane.reshape(-1), minlength=SCALE + 1)
    found[:, : lowest_level(HALF)] = 0
    return found


def labelled_share(counts: Ints) -> float:
    """The share of an image's pixels and classes that are positive or negative, of what `label_planes` counts."""
    return float(counts[2:4].sum() / counts[0].sum())


def finished_counts(path: Path, size: Size, classes: Sequence[str], note: str) -> Ints | None:
    """What was counted for planes that an earlier call has written, where they are whole and say so."""
    try:
        planes = read_planes(path, classes)
        counts = [to_whole_number(value, str(path)) for value in read_notes(path).get(note, "").split()]
    except SegtoolError:
        return None
    whole = planes.size == size and len(counts) == len(COUNTED) * len(classes)
    return np.array(counts, np.int64).reshape(len(COUNTED), -1) if whole else None


def labelled_table(classes: Sequence[str], levels: Ints, counts: Ints, *, corrected: bool) -> Table:
    """How much of each class was labelled.

    Args:
        levels: (C,), the lowest level that is positive.
        counts: int64 (5, C), as `label_planes` counts.
    """
    pixels, predicted, positive, negative, changed = counts
    table = pd.DataFrame(
        {
            "class": list(classes),
            "threshold": (levels / SCALE).round(4),
            "predicted": predicted,
            "positive": positive,
            "negative": negative,
            "share": divide(positive + negative, pixels),
            "changed": changed,
        }
    )
    title = "Pixels of each class; positive and negative: labelled, in images that are kept"
    return Table(title, table if corrected else table.drop(columns="changed"))
