"""`segtool evaluate`: score predictions against masks."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.files import digest_stats, write_json
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
from segtool.core.predictions.ground_truth import check_excluded, refuse_seen, scorable, seen_images, with_truth
from segtool.core.predictions.rule_file import read_rule
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.core.scoring import objects, tables
from segtool.core.scoring.boundary import BoundaryBoard, plane_scores
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.fits import Fit, fits_on, told_fits
from segtool.core.scoring.pixel_counts import NAME as PIXEL_COUNTS
from segtool.core.scoring.pixel_counts import counts_table
from segtool.core.scoring.planes import MultiScoreBoard, class_plane_counts
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.tables import write_table
from segtool.errors import UsageError
from segtool.settings.evaluate import EvaluateSettings
from segtool.values import Size

FILES = ("per_image.csv", "per_class.csv", "by_size.csv", "confusion.csv", PIXEL_COUNTS, "summary.json")


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


def run(settings: EvaluateSettings) -> Result:
    """Score PREDS against the masks of DATA and write the tables."""
    dataset = load_dataset(settings.data)
    check_excluded(settings.exclude, dataset)
    scored = _from_predictions(settings, dataset) or _from_folder(settings, dataset)
    folder = settings.output.out
    inputs = {**dataset.digests(scored.records), **scored.inputs}
    with Output(settings.output, "evaluate", owns=FILES).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        board, sizes, outlines = (_score_planes if dataset.multi else _score)(dataset, scored, settings)
        about = {"size_bins": list(settings.size_bins), "fitted": [fit.summary() for fit in scored.fits]}
        behind = Path(os.path.relpath(settings.preds, folder)).as_posix()
        summary = {
            "subset": scored.subset,
            "predictions": behind,
            **board.summary(),
            **(outlines.summary() if outlines else {}),
            **about,
        }
        files = tables.files(board, sizes, settings.size_bins, outlines)
        files[PIXEL_COUNTS] = counts_table(board, {record.image_id: record.group for record in scored.records})
        for name, table in files.items():
            write_table(folder / name, table)
        write_json(folder / "summary.json", summary)
        output.finish([folder / name for name in (*files, "summary.json")])
    shown = tables.shown(scored.title, board, sizes, settings.size_bins, scored.fits, outlines)
    return Result(f"tables written to {folder}", shown)


def _score(
    dataset: Dataset, scored: ScoredImages, settings: EvaluateSettings
) -> tuple[ScoreBoard, objects.Counts, BoundaryBoard | None]:
    """Score image by image, and keep only counts. Threads do not help: OpenCV uses all cores for objects."""
    classes = len(dataset.classes)
    board, borders = ScoreBoard(dataset.classes, settings.exclude), settings.size_bins
    sizes = objects.no_objects(classes, borders)
    outlines = BoundaryBoard(classes, board.exclude, settings.tolerance) if settings.boundary else None
    track = tracker(settings.output.quiet)
    for record in track(scored.records, total=len(scored.records), label="evaluate"):
        truth = dataset.read_mask(record)
        pred = scored.read(record, Size(*truth.shape))
        assert not isinstance(pred, Planes)
        board.add(record.image_id, confusion(truth, pred, classes))
        sizes += objects.object_counts(truth, pred, classes, borders)
        if outlines:
            outlines.add(truth, pred)
    return board, sizes, outlines


def _score_planes(
    dataset: Dataset, scored: ScoredImages, settings: EvaluateSettings
) -> tuple[MultiScoreBoard, objects.Counts, BoundaryBoard | None]:
    """Score classes that may overlap plane by plane, as `_score` does masks; the counts of objects begin with those of
    no class."""
    classes, borders = len(dataset.classes), settings.size_bins
    board, sizes = MultiScoreBoard(dataset.classes, settings.exclude), objects.no_objects(classes + 1, borders)
    outlines = BoundaryBoard(classes, board.exclude, settings.tolerance, multi=True) if settings.boundary else None
    track = tracker(settings.output.quiet)
    for record in track(scored.records, total=len(scored.records), label="evaluate"):
        truth = dataset.scored_planes(record)
        pred = scored.read(record, truth.size)
        assert isinstance(pred, Planes)
        counts, distances = np.zeros((4, classes), np.int64), []
        for index in range(classes):
            true, found = truth.plane(index), pred.plane(index)
            counts[:, index] = class_plane_counts(true, found)
            sizes[index + 1] += objects.plane_object_counts(true, found, borders)
            if outlines:
                distances.append(plane_scores(true, found, settings.tolerance))
        board.add(record.image_id, counts)
        if outlines:
            outlines.add_planes(distances)
    return board, sizes, outlines


def _from_predictions(settings: EvaluateSettings, dataset: Dataset) -> ScoredImages | None:
    """Return the images of a prediction folder, None for another folder.

    Raises:
        UsageError: the score would mean something else than it claims: another subset, or images a model has seen.
    """
    if (folder := find_predictions(settings.preds)) is None:
        return None
    preds = open_predictions(folder)
    if settings.subset and settings.subset != preds.subset:
        raise UsageError(f"--subset {settings.subset}: {preds.path} holds predictions of the subset {preds.subset}")
    records = scorable(preds, dataset)
    decision = read_rule(settings.decision.thresholds, dataset.classes, dataset.labels)
    title = "; ".join([f"{len(preds.ids)} images of the subset {preds.subset}", *preds.claims])
    if settings.subset != "train":
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

    inputs = {**preds.digests(probs=decision is not None), **decision_digest(settings.decision.thresholds)}
    return ScoredImages(title, preds.subset, records, read, inputs, fits)


def _from_folder(settings: EvaluateSettings, dataset: Dataset) -> ScoredImages:
    """Return the images of the data set that have a mask in a plain folder of index PNGs (labels: multi: JSON)."""
    if settings.subset in ("valid", "oof"):
        raise UsageError(
            f"--subset {settings.subset}: {settings.preds} is not a prediction folder, so it does not say which images"
            " its models have seen; leave out --subset, or use train or test"
        )
    if settings.decision.thresholds:
        raise UsageError(
            f"--thresholds: {settings.preds} is not a prediction folder, so it has no probabilities to threshold"
        )
    parts = {"train": dataset.train, "test": dataset.test, None: (*dataset.train, *dataset.test)}
    part = parts[settings.subset]
    suffixes = (".json",) if dataset.multi else (".png",)
    masks = open_mask_folder(settings.preds, [record.image_id for record in part], suffixes)
    title = f"{len(masks)} of {len(with_masks(part))} images with a mask in {settings.preds}"
    inputs = {"predictions": digest_stats(masks.values(), settings.preds)}

    def read(record: Record, size: Size) -> Array | Planes:
        return _read_mask(masks[record.image_id], size, record, dataset)

    return ScoredImages(title, settings.subset, with_truth(list(masks), part, dataset), read, inputs)


def _read_mask(path: Path, size: Size, record: Record, dataset: Dataset) -> Array | Planes:
    """Read a predicted mask of the size that the mask of the record has."""
    if dataset.multi:
        return read_predicted_planes(path, dataset.classes, size, record.mask)
    return read_class_ids(path, len(dataset.classes), size, record.mask)
