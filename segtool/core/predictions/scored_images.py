"""The predicted masks that are to be scored: those of a prediction folder, or of any folder of masks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segtool.core.dataset.dataset import Dataset, Record, with_masks
from segtool.core.files import digest_stats
from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.predictions.decision_file import decision_digest
from segtool.core.predictions.folder import (
    find_predictions,
    open_mask_folder,
    open_predictions,
    read_class_ids,
    read_predicted_planes,
)
from segtool.core.predictions.ground_truth import refuse_seen, scorable, seen_images, with_truth
from segtool.core.predictions.rule_file import read_rule
from segtool.core.reporting.progress import Track
from segtool.core.scoring.evaluation import Evaluation
from segtool.core.scoring.fits import Fit, fits_on, told_fits
from segtool.errors import UsageError
from segtool.values import Size


@dataclass(frozen=True)
class ScoredImages:
    """The images to score and their predicted masks.

    Attributes:
        title: says which images these are, and what to keep in mind about their score.
        read: reads the predicted mask of a record, uint8 of the given size; planes where classes may overlap.
        inputs: digests of what `read` reads.
        fits: what was fitted on these images, so that their score is in-sample.
    """

    title: str
    subset: str | None
    records: Sequence[Record]
    read: Callable[[Record, Size], Array | Planes]
    inputs: Mapping[str, str]
    fits: Sequence[Fit] = ()


def find_scored(dataset: Dataset, preds: Path, subset: str | None, thresholds: Path | None) -> ScoredImages:
    """Return the images of a data set that are predicted in a folder, and how their predictions are read.

    Args:
        preds: a prediction folder, or any folder of masks named after the images.
        subset: what must have been predicted; `train` allows images that a model has seen.
        thresholds: a file of `segtool threshold` that decides the masks.

    Raises:
        UsageError: the score would mean something else than it claims: another subset, or images a model has seen.
        SegtoolError: an image is unknown or has no mask, or the folder is broken.
    """
    return _from_predictions(dataset, preds, subset, thresholds) or _from_folder(dataset, preds, subset, thresholds)


def score_images(dataset: Dataset, scored: ScoredImages, evaluation: Evaluation, track: Track) -> None:
    """Score the images one by one."""
    for record in track(scored.records, total=len(scored.records), label="evaluate"):
        truth = dataset.scored_planes(record) if dataset.multi else dataset.read_mask(record)
        size = truth.size if isinstance(truth, Planes) else Size(*truth.shape)
        evaluation.add(record.image_id, truth, scored.read(record, size))


def _from_predictions(dataset: Dataset, path: Path, subset: str | None, thresholds: Path | None) -> ScoredImages | None:
    """Return the images of a prediction folder, None for another folder."""
    if (folder := find_predictions(path)) is None:
        return None
    preds = open_predictions(folder)
    if subset and subset != preds.subset:
        raise UsageError(f"--subset {subset}: {preds.path} holds predictions of the subset {preds.subset}")
    records = scorable(preds, dataset)
    decision = read_rule(thresholds, dataset.classes, dataset.labels)
    title = "; ".join([f"{len(preds.ids)} images of the subset {preds.subset}", *preds.claims])
    if subset != "train":
        refuse_seen(preds, "--subset train scores them anyway" if preds.subset == "train" else "")
    elif seen := seen_images(preds):
        title = f"TRAINING images, not a validation score: the model saw {len(seen)} of these {title}"
    fits = fits_on([*preds.fitted(probs=True), decision.fit], preds.ids) if decision else preds.fits
    trust = ": trust the nested one" if any(fit.nested is not None for fit in fits) else ""
    if in_sample := told_fits(fits, f"the score is in-sample{trust}"):
        title += f"; {in_sample}"

    def read(record: Record, size: Size) -> Array | Planes:
        if decision:
            return decision.read(preds.probs_path(record.image_id), size, record.mask)
        return _read_mask(preds.mask_path(record.image_id), size, record, dataset)

    inputs = {**preds.digests(probs=decision is not None), **decision_digest(thresholds)}
    return ScoredImages(title, preds.subset, records, read, inputs, fits)


def _from_folder(dataset: Dataset, folder: Path, subset: str | None, thresholds: Path | None) -> ScoredImages:
    """Return the images of the data set that have a mask in a plain folder of index PNGs (labels: multi: JSON)."""
    if subset in ("valid", "oof"):
        raise UsageError(
            f"--subset {subset}: {folder} is not a prediction folder, so it does not say which images"
            " its models have seen; leave out --subset, or use train or test"
        )
    if thresholds:
        raise UsageError(f"--thresholds: {folder} is not a prediction folder, so it has no probabilities to threshold")
    parts = {"train": dataset.train, "test": dataset.test, None: (*dataset.train, *dataset.test)}
    part = parts[subset]
    suffixes = (".json",) if dataset.multi else (".png",)
    masks = open_mask_folder(folder, [record.image_id for record in part], suffixes)
    title = f"{len(masks)} of {len(with_masks(part))} images with a mask in {folder}"
    inputs = {"predictions": digest_stats(masks.values(), folder)}

    def read(record: Record, size: Size) -> Array | Planes:
        return _read_mask(masks[record.image_id], size, record, dataset)

    return ScoredImages(title, subset, with_truth(list(masks), part, dataset), read, inputs)


def _read_mask(path: Path, size: Size, record: Record, dataset: Dataset) -> Array | Planes:
    """Read a predicted mask of the size that the mask of the record has."""
    if dataset.multi:
        return read_predicted_planes(path, dataset.classes, size, record.mask)
    return read_class_ids(path, len(dataset.classes), size, record.mask)
