"""Predictions scored for the page: all totals, and each image's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.predictions.decision_file import decision_digest
from segtool.core.predictions.folder import find_predictions, open_predictions
from segtool.core.predictions.ground_truth import check_excluded, predicted_records
from segtool.core.predictions.rule_file import read_rule
from segtool.core.predictions.scored_images import ScoredImages, find_scored
from segtool.core.report.gallery import ImageScore, object_pairs
from segtool.core.report.inputs import Predicted, data_of
from segtool.core.reporting.progress import Track
from segtool.core.scoring.evaluation import Evaluation
from segtool.core.scoring.objects import no_objects
from segtool.core.scoring.planes import SCORED, image_iou
from segtool.core.scoring.scores import iou_of_counts
from segtool.values import Size


@dataclass(frozen=True)
class FoundImages:
    """The images of predictions, not yet looked at."""

    predicted: Predicted
    dataset: Dataset
    images: ScoredImages
    with_truth: bool


@dataclass(frozen=True)
class ScoredPredictions:
    """Predictions with their data set; `evaluation` is None where the data set has no masks of their images."""

    predicted: Predicted
    dataset: Dataset
    images: ScoredImages
    evaluation: Evaluation | None
    scores: Sequence[ImageScore]


def find_images(predicted: Predicted, data: Path | None, thresholds: Path | None) -> FoundImages:
    """Return the data set of predictions and their images.

    Args:
        thresholds: a file that decides the masks from probabilities.

    Raises:
        SegtoolError, UsageError: the data set is unknown or another one.
    """
    preds = predicted.path
    if find_predictions(preds) is None and data is not None:
        dataset = load_dataset(data)
        return FoundImages(predicted, dataset, find_scored(dataset, preds, None, thresholds), True)
    dataset, opened = load_dataset(data_of(preds, data)), open_predictions(preds)
    records = predicted_records(opened, dataset)
    if all(record.mask for record in records):
        # Any subset may be looked at; its title says what a score is worth.
        return FoundImages(predicted, dataset, find_scored(dataset, preds, opened.subset, thresholds), True)
    rule = read_rule(thresholds, dataset.classes, dataset.labels)

    def read(record: Record, size: Size) -> Array | Planes:
        if rule:
            return rule.read(opened.probs_path(record.image_id), size, record.image_id)
        return opened.read_planes(record.image_id) if opened.multi else opened.read_mask(record.image_id)

    title = f"{len(records)} images of the subset {opened.subset}, without masks"
    inputs = {**opened.digests(probs=rule is not None), **decision_digest(thresholds)}
    return FoundImages(predicted, dataset, ScoredImages(title, opened.subset, records, read, inputs), False)


def score(found: FoundImages, exclude: Sequence[str], track: Track) -> ScoredPredictions:
    """Score the images one by one, and keep only counts.

    Args:
        exclude: classes left out of the means, unless an evaluation says so itself.
    """
    dataset, images, bins = found.dataset, found.images, found.predicted.size_bins
    exclude = exclude or found.predicted.exclude
    check_excluded(exclude, dataset)
    classes = len(dataset.classes)
    if not found.with_truth:
        unknown, none = np.full(classes, np.nan), object_pairs(no_objects(classes, bins))
        scores = [ImageScore(record, np.nan, np.nan, np.nan, unknown, none) for record in images.records]
        return ScoredPredictions(found.predicted, dataset, images, None, scores)
    evaluation = Evaluation(dataset.classes, multi=dataset.multi, exclude=exclude, size_bins=bins)
    objects, iou = [], []
    for record in track(images.records, total=len(images.records), label="scores"):
        before = evaluation.sizes.copy()
        truth = dataset.scored_planes(record) if dataset.multi else dataset.read_mask(record)
        size = truth.size if isinstance(truth, Planes) else Size(*truth.shape)
        evaluation.add(record.image_id, truth, images.read(record, size))
        # Where classes overlap, the counts of objects begin with those of no class.
        objects.append(object_pairs((evaluation.sizes - before)[int(dataset.multi) :]))
        counts = evaluation.board.per_image[record.image_id]
        iou.append(image_iou(counts, np.nan) if dataset.multi else iou_of_counts(counts[:SCORED]))
    table = evaluation.board.table()
    rows = table[["miou", "dice", "pixel_accuracy"]].to_numpy(np.float64)
    scores = [
        ImageScore(record, row[0], row[1], row[2], its_iou, its_objects)
        for record, row, its_iou, its_objects in zip(images.records, rows.tolist(), iou, objects, strict=True)
    ]
    return ScoredPredictions(found.predicted, dataset, images, evaluation, scores)
