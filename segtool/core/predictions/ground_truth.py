"""Which predicted images have masks to be compared with, and whether comparing them says anything."""

from collections.abc import Sequence

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.predictions.folder import Predictions
from segtool.errors import SegtoolError, UsageError, did_you_mean


def check_classes(preds: Predictions, dataset: Dataset) -> None:
    """Raise SegtoolError where the labels or classes of a prediction folder are not those of a data set."""
    if preds.labels != dataset.labels:
        raise SegtoolError(
            f"{preds.path} was predicted with labels: {preds.labels}; {dataset.path} has labels: {dataset.labels}"
        )
    if preds.classes != dataset.classes:
        raise SegtoolError(
            f"{preds.path} was predicted with the classes {', '.join(preds.classes)};"
            f" {dataset.path} has {', '.join(dataset.classes)}"
        )


def predicted_records(preds: Predictions, dataset: Dataset) -> list[Record]:
    """Return the records of the predicted images; raise SegtoolError where they are not of this data set."""
    check_classes(preds, dataset)
    # A file of answers may list the test images as its only part.
    return find_records(preds.ids, dataset.test if preds.subset == "test" and dataset.test else dataset.train, dataset)


def find_records(ids: Sequence[str], part: Sequence[Record], dataset: Dataset) -> list[Record]:
    """Return the records of `ids`, in their order; raise SegtoolError where one is not in this part of the data set."""
    by_id = {record.image_id: record for record in part}
    if unknown := [image_id for image_id in ids if image_id not in by_id]:
        raise SegtoolError(
            f"image {unknown[0]!r} was predicted but is not in {dataset.path}; is this the right data set?"
        )
    return [by_id[image_id] for image_id in ids]


def scorable(preds: Predictions, dataset: Dataset) -> list[Record]:
    """Return the records of the predicted images; raise SegtoolError where one is not of this data set, or unmasked."""
    return check_masks(predicted_records(preds, dataset), dataset)


def with_truth(ids: Sequence[str], part: Sequence[Record], dataset: Dataset) -> list[Record]:
    """Return the records of `ids`; raise SegtoolError where one is unknown or has no mask."""
    return check_masks(find_records(ids, part, dataset), dataset)


def check_masks(records: list[Record], dataset: Dataset) -> list[Record]:
    """Return the records; raise SegtoolError where one has no mask."""
    for record in records:
        if record.mask is None:
            raise SegtoolError(
                f"image {record.image_id!r} has no mask in {dataset.path}, so there is nothing to score it against"
                " (a competition keeps the masks of its test images; give a dataset.yaml whose CSV names them)"
            )
    return records


def seen_images(preds: Predictions) -> list[str]:
    """Ids of the predicted images that a model which predicted them was trained on."""
    return [image_id for image_id in preds.ids if image_id not in preds.oof]


def refuse_seen(preds: Predictions, remedy: str = "") -> None:
    """Raise UsageError where a model was trained on one of the images; `remedy` ends the line."""
    if seen := seen_images(preds):
        which = f"{len(seen)} of its {len(preds.ids)} images ({seen[0]}, ...)"
        if preds.unproven:
            fact = "nothing says that no model was trained on"
            remedy = remedy or "where that is so, say it by --oof or --folds of `segtool import preds`"
        else:
            fact = "a model was trained on"
            remedy = remedy or "`segtool predict --subset oof` predicts each image by the runs that did not see it"
        raise UsageError(f"{preds.path}: {fact} {which}; {remedy}")


def check_excluded(exclude: Sequence[str], dataset: Dataset) -> None:
    """Raise UsageError for an `--exclude` that names no class, or leaves none."""
    for name in exclude:
        if name not in dataset.classes:
            raise UsageError(f"--exclude {name}: {dataset.path} has no such class{did_you_mean(name, dataset.classes)}")
    if set(exclude) == set(dataset.classes):
        raise UsageError("--exclude leaves no class to score")
