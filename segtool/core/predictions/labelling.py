"""How `segtool pseudo` makes, writes and counts masks: of class ids, or planes of classes that may overlap."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from segtool.core import images
from segtool.core.dataset.dataset import Record
from segtool.core.planes import Planes, write_planes
from segtool.core.predictions import pseudo_labels, pseudo_planes
from segtool.core.predictions.probability_maps import ProbReader
from segtool.core.predictions.pseudo_labels import Ints, Task
from segtool.core.reporting.tables import Table
from segtool.errors import SegtoolError, UsageError
from segtool.values import Size


class Labelling(Protocol):
    """What differs between the two; counts are those of an image, as its own functions return them."""

    def histograms(self, readers: Iterable[ProbReader]) -> Ints:
        """Return how many pixels are predicted as each class with each level, int64 (C, 65536)."""

    def finished(self, path: Path, size: Size) -> Ints | None:
        """Return what was counted for a mask that an earlier call has written whole."""

    def label(self, record: Record, levels: Ints, path: Path) -> Ints:
        """Write the mask of an image if it counts, and return its counts."""

    def share(self, counts: Ints) -> float:
        """Return the share of an image that is confident."""

    def changed(self, counts: Ints) -> int:
        """Return how many labels of an image were changed."""

    def total(self, counts: Iterable[Ints]) -> Ints:
        """Return what all images make together: of those that do not count, only what was predicted."""

    def table(self, levels: Ints, total: Ints) -> Table:
        """Return how much of each class is labelled."""

    def lost(self, table: Table) -> list[str]:
        """Return the classes that were predicted but never labelled."""


class IdLabelling:
    """A pixel has one class, or is ignored."""

    def __init__(self, task: Task) -> None:
        self.task, self.classes = task, task.dataset.classes

    def histograms(self, readers: Iterable[ProbReader]) -> Ints:
        """Count the levels of the most probable class."""
        return pseudo_labels.top_histograms(readers, len(self.classes))

    def finished(self, path: Path, size: Size) -> Ints | None:
        """Read the counts in a PNG."""
        return pseudo_labels.finished_counts(path, size, len(self.classes))

    def label(self, record: Record, levels: Ints, path: Path) -> Ints:
        """Write an index PNG."""
        given = None
        if self.task.settings.replace:
            given = self.task.dataset.read_mask(record)
            _check_size(Size(*given.shape), record, self.task)
        mask, counts = pseudo_labels.label_image(self.task.probs(record.image_id), levels, given)
        if self.task.counts_at(self.share(counts)):
            images.write_mask(path, mask, self.task.dataset.palette, pseudo_labels.noted(counts))
        return counts

    def share(self, counts: Ints) -> float:
        """Return the share of the pixels."""
        return pseudo_labels.confident_share(counts)

    def changed(self, counts: Ints) -> int:
        """Return how many pixels got another class."""
        return int(counts[2].sum())

    def total(self, counts: Iterable[Ints]) -> Ints:
        """Return int64 (3, C)."""
        kept = ((one, self.task.counts_at(self.share(one))) for one in counts)
        return np.sum([one * np.array([[1], [keep], [keep]], np.int64) for one, keep in kept], axis=0)

    def table(self, levels: Ints, total: Ints) -> Table:
        """Return the table of accepted pixels, which ends with all classes."""
        corrected = self.task.settings.replace is not None
        return pseudo_labels.accepted_table(self.classes, levels, total, corrected=corrected)

    def lost(self, table: Table) -> list[str]:
        """Return the classes without an accepted pixel."""
        return list(table.frame.query("predicted > 0 and accepted == 0")["class"])


class PlaneLabelling:
    """In each class a pixel is positive, negative, or uncertain."""

    def __init__(self, task: Task) -> None:
        """Raise UsageError for a threshold below one half, from which on a pixel would be both."""
        if task.settings.threshold < 0.5:
            raise UsageError(
                f"--threshold {task.settings.threshold:g}: with labels: multi it is at least 0.5, as a pixel is in a"
                " class from it on, and outside up to one minus it"
            )
        self.task, self.classes = task, task.dataset.classes

    def histograms(self, readers: Iterable[ProbReader]) -> Ints:
        """Count the levels from one half on."""
        return pseudo_planes.positive_histograms(readers, len(self.classes))

    def finished(self, path: Path, size: Size) -> Ints | None:
        """Read the counts in a JSON."""
        return pseudo_planes.finished_counts(path, size, self.classes, pseudo_labels.COUNTS)

    def label(self, record: Record, levels: Ints, path: Path) -> Ints:
        """Write run lengths of planes."""
        given: Planes | None = None
        if self.task.settings.replace:
            given = self.task.dataset.read_planes(record)
            _check_size(given.size, record, self.task)
        planes, counts = pseudo_planes.label_planes(self.task.probs(record.image_id), levels, given)
        if self.task.counts_at(self.share(counts)):
            write_planes(path, planes, self.classes, pseudo_labels.noted(counts))
        return counts

    def share(self, counts: Ints) -> float:
        """Return the share of the pixels and classes."""
        return pseudo_planes.labelled_share(counts)

    def changed(self, counts: Ints) -> int:
        """Return how many labels got another value, of all classes."""
        return int(counts[4].sum())

    def total(self, counts: Iterable[Ints]) -> Ints:
        """Return int64 (5, C); `pixels` are those of the images that count."""
        kept = ((one, self.task.counts_at(self.share(one))) for one in counts)
        return np.sum([one * np.array([[keep], [1], [keep], [keep], [keep]], np.int64) for one, keep in kept], axis=0)

    def table(self, levels: Ints, total: Ints) -> Table:
        """Return the table of positive and negative pixels."""
        corrected = self.task.settings.replace is not None
        return pseudo_planes.labelled_table(self.classes, levels, total, corrected=corrected)

    def lost(self, table: Table) -> list[str]:
        """Return the classes without a positive pixel."""
        return list(table.frame.query("predicted > 0 and positive == 0")["class"])


def _check_size(size: Size, record: Record, task: Task) -> None:
    if size != (expected := task.preds.sizes[record.image_id]):
        raise SegtoolError(f"mask {record.mask} is {size} (HxW), but its image is {expected}")


def make_labelling(task: Task) -> Labelling:
    """Return how the masks of a data set are made."""
    return PlaneLabelling(task) if task.dataset.multi else IdLabelling(task)
