"""Which predicted images have masks to be compared with, and whether comparing them says anything."""

from collections.abc import Sequence

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.predictions.folder import Predictions
from segtool.errors import SegtoolError, UsageError, did_you_mean


def scorable(preds: Predictions, dataset: Dataset) -> list[Record]:
    """The records of the images of a prediction folder; raises SegtoolError where it is not of this data set."""
    if preds.classes != dataset.classes:
        raise SegtoolError(
            f"{preds.path} was predicted with the classes {', '.join(preds.classes)};"
            f" {dataset.path} has {', '.join(dataset.classes)}"
        )
    # A file of answers may list the test images as its only part.
    part = dataset.test if preds.subset == "test" and dataset.test else dataset.train
    return with_truth(preds.ids, part, dataset)


def with_truth(ids: Sequence[str], part: Sequence[Record], dataset: Dataset) -> list[Record]:
    """The records of `ids`; raises SegtoolError where one is unknown or has no mask."""
    by_id = {record.image_id: record for record in part}
    for image_id in ids:
        if image_id not in by_id:
            raise SegtoolError(
                f"image {image_id!r} was predicted, but {dataset.path} has it not; is it another data set?"
            )
        if by_id[image_id].mask is None:
            raise SegtoolError(
                f"image {image_id!r} has no mask in {dataset.path}, so there is nothing to score it against"
                " (a competition keeps the masks of its test images; give a dataset.yaml whose CSV names them)"
            )
    return [by_id[image_id] for image_id in ids]


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
