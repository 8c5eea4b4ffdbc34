"""Pseudo-labels: confident predictions as masks (Lee 2013); a threshold per class where asked (Zou et al. 2018)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array, read_indices, read_notes
from segtool.core.predictions.probability_maps import SCALE, ProbReader, most_probable
from segtool.core.reporting.tables import Table
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError, UsageError
from segtool.values import Amount, Size

Ints = npt.NDArray[np.int64]

# The text of a mask's PNG that holds its counts, so that a resumed command need not look at its probabilities again.
COUNTS = "counts"


def label_image(reader: ProbReader, levels: Ints, given: Array | None = None) -> tuple[Array, Ints]:
    """Turn one image's probabilities into a mask, band by band.

    A pixel is confident where the level of its most probable class reaches that class's.

    Args:
        reader: the stored probabilities.
        levels: (C,), the lowest level that counts, of each class.
        given: the mask that is corrected, uint8 (H, W). Confident pixels take the prediction, but where the given mask
            ignores them: they have no label that could be wrong. All others keep what they have. Without it they are
            ignored.

    Returns:
        The mask, uint8 (H, W), 255 = ignored; and counts, int64 (3, C): the pixels predicted as each class, how many of
        these are confident, and how many of these got it in place of another label.
    """
    classes, height, width = reader.shape
    mask, counts = np.empty((height, width), np.uint8), np.zeros((3, classes), np.int64)
    for rows, best, level in _bands(reader):
        confident = level >= levels[best]
        before = np.full(best.shape, IGNORE, np.uint8) if given is None else given[rows]
        taken = confident if given is None else confident & (before != IGNORE)
        mask[rows] = np.where(taken, best, before)
        counts[0] += np.bincount(best.ravel(), minlength=classes)
        counts[1] += np.bincount(best[confident], minlength=classes)
        if given is not None:
            counts[2] += np.bincount(best[taken & (best != before)], minlength=classes)
    return mask, counts


def top_histograms(readers: Iterable[ProbReader], classes: int) -> Ints:
    """How many pixels are predicted as each class with each level, int64 (C, 65536); exact, one band in memory."""
    found = np.zeros(classes * (SCALE + 1), np.int64)
    for reader in readers:
        for _, best, level in _bands(reader):
            np.add.at(found, (best.astype(np.intp) * (SCALE + 1) + level).ravel(), 1)
    return found.reshape(classes, SCALE + 1)


def balanced_levels(histograms: Ints, share: float, ceiling: int) -> Ints:
    """For each class the highest level that at least `share` of the pixels predicted as it reach, at most `ceiling`.

    Class-balanced self-training (Zou et al. 2018) takes that share of every class. With the ceiling a class that is
    sure of more keeps all of that, so that a common one loses nothing to the rare ones (as Li et al. 2019 have it).

    Args:
        histograms: int64 (C, 65536), as `top_histograms` counts.
    """
    reach = histograms[:, ::-1].cumsum(axis=1)[:, ::-1]
    # Less than a pixel below: 0.07 * 100 is above 7 in floating point.
    enough = reach >= share * reach[:, :1] - 1e-6
    return np.minimum(enough.sum(axis=1) - 1, ceiling)


def _bands(reader: ProbReader) -> Iterator[tuple[slice, Array, npt.NDArray[np.uint16]]]:
    """Rows that are stored together, the most probable class there, and its level."""
    for rows, levels in reader.bands():
        yield rows, *most_probable(levels)


def read_worst(path: Path, worst: Amount) -> list[str]:
    """The image_ids of the first rows of a table that ranks images, the worst first.

    Raises:
        SegtoolError: no such table, an empty one, or an image that stands twice.
        UsageError: it has not so many rows.
    """
    ids = [row["image_id"] for row in read_csv(path, ("image_id",))]
    if not ids:
        raise SegtoolError(f"{path} lists no image")
    if twice := [image_id for image_id, rows in Counter(ids).items() if rows > 1]:
        raise SegtoolError(f"{path}: image_id {twice[0]!r} stands twice")
    if worst.of(len(ids)) > len(ids):
        raise UsageError(f"--worst {worst}: {path} lists {len(ids)} images")
    return ids[: worst.of(len(ids))]


def confident_share(counts: Ints) -> float:
    """The share of an image's pixels that are confident, from what `label_image` counts."""
    return float(counts[1].sum() / counts[0].sum())


def noted(counts: Ints) -> dict[str, str]:
    """Counts as a text of a mask's PNG."""
    return {COUNTS: " ".join(map(str, counts.ravel().tolist()))}


def finished_counts(path: Path, size: Size, classes: int) -> Ints | None:
    """What was counted for a mask that an earlier call has written, where it decodes to the end and says so."""
    try:
        mask = read_indices(path)
        counts = np.array(read_notes(path).get(COUNTS, "").split(), np.int64)
    except (SegtoolError, ValueError):
        return None
    return counts.reshape(3, classes) if mask.shape == size and counts.size == 3 * classes else None


def accepted_table(classes: Sequence[str], levels: Ints, counts: Ints, *, corrected: bool) -> Table:
    """How much of each class was accepted, and of all of them.

    Args:
        levels: (C,), the lowest level that counts.
        counts: int64 (3, C), as `label_image` counts: pixels predicted, accepted, and with `corrected` changed.
    """
    columns = ["class", "threshold", "predicted", "accepted", "share", "changed"]
    thresholds = [*(levels / SCALE).round(4).tolist(), float("nan")]
    predicted, accepted, changed = np.column_stack([counts, counts.sum(axis=1)]).tolist()
    shares = [part / whole if whole else float("nan") for part, whole in zip(accepted, predicted, strict=True)]
    rows = list(zip([*classes, "(all)"], thresholds, predicted, accepted, shares, changed, strict=True))
    shown = len(columns) if corrected else -1
    return Table(
        "Pixels of each class; accepted: labelled, in images that are kept",
        columns[:shown],
        [row[:shown] for row in rows],
    )
