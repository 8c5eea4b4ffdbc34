"""Pseudo-labels: confident predictions as masks (Lee 2013); a threshold per class where asked (Zou et al. 2018)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.files import digest_file
from segtool.core.images import IGNORE, Array, read_indices, read_notes
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.ground_truth import check_classes, predicted_records
from segtool.core.predictions.probability_maps import SCALE, ProbReader, most_probable
from segtool.core.reporting.tables import Table
from segtool.core.scoring.scores import divide
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.pseudo import PseudoSettings
from segtool.values import Amount, Size

Ints = npt.NDArray[np.int64]

# The text of a mask's PNG that holds its counts, so that a resumed command need not look at its probabilities again.
COUNTS = "counts"


@dataclass(frozen=True)
class Task:
    """What becomes masks: predictions, and the records of their images."""

    settings: PseudoSettings
    preds: Predictions
    dataset: Dataset
    records: Sequence[Record]

    def inputs(self) -> dict[str, str]:
        """Digests of everything that is read."""
        data = {f"data {key}": value for key, value in self.dataset.digests(self.records).items()}
        noise = {"replace": digest_file(self.settings.replace)} if self.settings.replace else {}
        return {**self.preds.digests(probs=True), **data, **noise}

    def counts_at(self, share: float) -> bool:
        """Whether an image with this share of confident pixels counts; one without any tells nothing."""
        return share > 0 and share >= self.settings.min_share

    def probs(self, image_id: str) -> ProbReader:
        """The probabilities of an image, of the size and classes of the predictions."""
        return self.preds.open_probs(image_id)


def read_task(settings: PseudoSettings) -> Task:
    """Open the predictions and their data set, and choose the images.

    Raises:
        SegtoolError, UsageError: they do not belong together, or masks are to be corrected and the predictions are not
            out-of-fold.
    """
    preds = open_predictions(settings.preds)
    dataset = _dataset(settings, preds)
    records = _suspicious(settings, preds, dataset) if settings.replace else predicted_records(preds, dataset)
    return Task(settings, preds, dataset, records)


def _dataset(settings: PseudoSettings, preds: Predictions) -> Dataset:
    """The data set that was predicted."""
    path = settings.data or preds.data
    if path is None:
        raise UsageError(f"{preds.path} does not say which data set its images are of: give --data DATA")
    if not path.exists():
        noted_by = "" if settings.data else f" ({preds.path / 'meta.json'} names it); --data DATA says where it is"
        raise SegtoolError(f"data set {path} is not there{noted_by}")
    dataset = load_dataset(path)
    check_classes(preds, dataset)
    return dataset


def _suspicious(settings: PseudoSettings, preds: Predictions, dataset: Dataset) -> list[Record]:
    """The records of the images whose masks are to be corrected; their predictions must be out-of-fold."""
    assert settings.replace and settings.worst
    if preds.subset == "test":
        raise UsageError(f"--replace corrects training masks; {preds.path} holds predictions of the subset test")
    ids = read_worst(settings.replace, settings.worst)
    for image_id in ids:
        if image_id not in preds.sizes:
            raise SegtoolError(f"image {image_id!r} of {settings.replace} was not predicted in {preds.path}")
        if image_id not in preds.oof:
            raise UsageError(
                f"--replace: {preds.path} is not out-of-fold for {image_id!r}: a model repeats the wrong labels it has"
                " learnt. `segtool predict --subset oof` predicts each image by the runs that did not see it"
            )
        if image_id not in dataset.by_id or dataset.by_id[image_id].mask is None:
            raise SegtoolError(f"image {image_id!r} of {settings.replace} has no mask in {dataset.path}")
    return [dataset.by_id[image_id] for image_id in ids]


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
    predicted, accepted, changed = np.column_stack([counts, counts.sum(axis=1)])
    columns = {
        "class": [*classes, "(all)"],
        "threshold": [*(levels / SCALE).round(4), np.nan],
        "predicted": predicted,
        "accepted": accepted,
        "share": divide(accepted, predicted),
        "changed": changed,
    }
    table = pd.DataFrame(columns)
    title = "Pixels of each class; accepted: labelled, in images that are kept"
    return Table(title, table if corrected else table.drop(columns="changed"))
