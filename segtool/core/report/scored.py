"""Predictions scored for the page: all totals, and each image's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.planes import Planes
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.ground_truth import check_excluded, predicted_records
from segtool.core.predictions.scored_images import ScoredImages, find_scored
from segtool.core.report.gallery import ImageScore, object_pairs
from segtool.core.report.inputs import data_of
from segtool.core.reporting.progress import Track
from segtool.core.scoring.evaluation import Evaluation
from segtool.core.scoring.planes import SCORED, image_iou
from segtool.core.scoring.scores import iou_of_counts
from segtool.values import Size


@dataclass(frozen=True)
class ScoredPredictions:
    """A prediction folder with its data set; `evaluation` is None where the data set has no masks of its images."""

    path: Path
    dataset: Dataset
    images: ScoredImages
    evaluation: Evaluation | None
    scores: Sequence[ImageScore]


def find_images(preds: Path, data: Path | None, thresholds: Path | None) -> tuple[Dataset, ScoredImages, bool]:
    """Return the data set of a prediction folder, its images, and whether they have masks.

    Raises:
        SegtoolError, UsageError: the data set is unknown or another one.
    """
    dataset = load_dataset(data_of(preds, data))
    opened = open_predictions(preds)
    records = predicted_records(opened, dataset)
    if all(record.mask for record in records):
        # Any subset may be looked at; its title says what a score is worth.
        return dataset, find_scored(dataset, preds, opened.subset, thresholds), True

    def read(record: Record, size: Size) -> "np.ndarray | Planes":
        return opened.read_planes(record.image_id) if opened.multi else opened.read_mask(record.image_id)

    title = f"{len(records)} images of the subset {opened.subset}, without masks"
    return dataset, ScoredImages(title, opened.subset, records, read, opened.digests(probs=False)), False


def score(
    preds: Path, dataset: Dataset, images: ScoredImages, exclude: Sequence[str], track: Track, *, with_truth: bool
) -> ScoredPredictions:
    """Score the images one by one, and keep only counts."""
    check_excluded(exclude, dataset)
    classes = len(dataset.classes)
    if not with_truth:
        unknown, none = np.full(classes, np.nan), np.zeros((classes, 1, 2), np.int64)
        scores = [ImageScore(record, np.nan, np.nan, np.nan, unknown, none) for record in images.records]
        return ScoredPredictions(preds, dataset, images, None, scores)
    evaluation = Evaluation(dataset.classes, multi=dataset.multi, exclude=exclude)
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
    return ScoredPredictions(preds, dataset, images, evaluation, scores)
