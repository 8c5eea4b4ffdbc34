"""Corrected masks that replace the data set's own for some training images."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from segtool.core.dataset.dataset import Dataset, Origin, Record, load_dataset
from segtool.core.dataset.image_identity import same_picture
from segtool.core.images import IGNORE, check_size
from segtool.errors import SegtoolError, UsageError
from segtool.settings.data import ExtraSettings

log = logging.getLogger(__name__)

# Name of the source of corrected masks in `samples.csv` and the stamps.
RELABELLED = "relabel"


def relabel(settings: ExtraSettings, dataset: Dataset, train: Sequence[Record]) -> list[Record]:
    """Return the training records, with the masks of `settings.relabel` for the images that it lists.

    Args:
        train: records of `dataset`; listed images that are not among them (held out, say) keep their masks.

    Raises:
        UsageError: `settings.relabel` is the data set itself.
        SegtoolError: it has other classes, or lists an image that is not in the data set, or that has no mask or other
            content there, or a mask of another size.
    """
    if settings.relabel is None:
        return list(train)
    other = load_dataset(settings.relabel)
    if other.path.resolve() == dataset.path.resolve():
        raise UsageError(f"--relabel {other.path} is the data set itself")
    if other.labels != dataset.labels:
        raise SegtoolError(f"--relabel {other.path} has labels: {other.labels}, {dataset.path} has {dataset.labels}")
    if other.classes != dataset.classes:
        raise SegtoolError(
            f"--relabel {other.path} has the classes {', '.join(other.classes)};"
            f" {dataset.path} has {', '.join(dataset.classes)}"
        )
    for record in other.train:
        _check(record, other, dataset)
    ids = tuple(value if value < len(dataset.classes) else IGNORE for value in range(IGNORE + 1))
    origin = Origin(RELABELLED, replace(other, train=(), test=()), ids)
    masks = {record.image_id: record.mask for record in other.train}
    changed = [
        replace(r, mask=masks[r.image_id], soft=None, origin=origin) if r.image_id in masks else r for r in train
    ]
    count = sum(record.origin is not None for record in changed)
    log.info("%d of %d masks of %s replace training masks", count, len(masks), other.path)
    return changed


def _check(record: Record, other: Dataset, dataset: Dataset) -> None:
    """Raise SegtoolError unless the mask fits the image that it is for."""
    where = f"--relabel {other.path}: image {record.image_id!r}"
    own = dataset.by_id.get(record.image_id)
    if own is None:
        raise SegtoolError(f"{where} is not in the training part of {dataset.path}")
    if own.mask is None:
        raise SegtoolError(f"{where} has no mask in {dataset.path} to replace; use --extra to add images")
    if record.mask is None:
        raise SegtoolError(f"{where} has no mask there")
    if record.soft:
        raise SegtoolError(f"{where} has soft targets, which --extra takes and --relabel does not")
    if not same_picture(record.files, own.files):
        raise SegtoolError(f"{where} ({record.image}) has different pixels in {dataset.path} ({own.image})")
    check_size(own.image, other.mask_size(record), f"--relabel mask {record.mask}")
